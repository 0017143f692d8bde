"""The host that figures were taken on, and what a careful reader would object to."""

from __future__ import annotations

import dataclasses
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from pydpdk.bench.loops import ffi, lib
from pydpdk.host.doctor import checks
from pydpdk.host.info import Host, format_cores
from pydpdk.host.nics import nics
from pydpdk.source import eal

CPU = Path("/sys/devices/system/cpu")
CLOCK = "/sys/devices/system/clocksource/clocksource0"
read = Host().read


def describe() -> dict[str, Any]:
    """Processor, kernel, what keeps them from being steady, build and load, as plain values."""
    here = Host()
    flags = _cpu("flags").split()
    return {
        "cpu": _cpu("model name") or platform.machine(),
        "microcode": _cpu("microcode") or "unknown",
        "cores": os.cpu_count(),
        "usable": sorted(os.sched_getaffinity(0)),
        "l3": read(f"{CPU}/cpu0/cache/index3/size"),
        "virtual": "hypervisor" in flags,
        "kernel": platform.release(),
        "command_line": read("/proc/cmdline"),
        "governor": read(f"{CPU}/cpu0/cpufreq/scaling_governor") or "unknown",
        "turbo": _turbo(),
        "cstates": _cstates(here),
        "thp": _chosen(read("/sys/kernel/mm/transparent_hugepage/enabled")),
        "hugepages": [dataclasses.asdict(pages) for pages in here.hugepages()],
        "isolated": read(f"{CPU}/isolated"),
        "tickless": format_cores(here.tickless),
        "clocksource": read(f"{CLOCK}/current_clocksource") or "unknown",
        "tsc": {name: name in flags for name in ("constant_tsc", "nonstop_tsc", "tsc_known_freq")},
        "nics": [dataclasses.asdict(nic) for nic in nics(here)],
        "load": round(os.getloadavg()[0], 2),
        **build(),
    }


def build() -> dict[str, Any]:
    """What was compiled how, and what it runs on."""
    return {
        "commit": _commit(),
        "compiler": _text(lib.bench_compiler()),
        "flags": _text(lib.bench_flags()),
        "dpdk": eal.version() or "none",
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def warnings(host: dict[str, Any], load_after: float) -> list[str]:
    """Why these figures may not be what the host can do; ``load_after``: when all was run."""
    found = [
        f"{row.name}: {row.found}" + (f" ({row.mend})" if row.mend else "")
        for row in checks("bench")
        if row.status != "ok" and row.name != "load"
    ]
    # Two processes of our own are busy at most: a load average above that is somebody else's.
    if host["load"] > 0.5 or load_after > 2.5:
        found.append(
            f"load: {host['load']} before, {load_after:.2f} after: others share cores and cache"
        )
    if host["virtual"]:
        found.append("virtual machine: cores, cache and memory may be shared with other guests")
    if host["turbo"] == "unknown":
        found.append("turbo: unknown, so the clock may change between rounds")
    return found


def _text(pointer: Any) -> str:
    return ffi.string(pointer).decode()  # type: ignore[no-any-return]


def _cpu(field: str) -> str:
    """A field of the first processor in /proc/cpuinfo."""
    line = read("/proc/cpuinfo").partition(field)[2].partition("\n")[0]
    return line.strip(" \t:")


def _chosen(choices: str) -> str:
    """The one in brackets: ``always [madvise] never``."""
    return choices.partition("[")[2].partition("]")[0] or "unknown"


def _cstates(here: Host) -> list[str]:
    """Idle states that the first core may enter, as NAME:LATENCYus; none where the guest or the
    command line has none."""
    folder = f"{CPU}/cpu0/cpuidle"
    return [
        f"{read(f'{folder}/{state}/name')}:{read(f'{folder}/{state}/latency')}us"
        for state in here.names(folder)
        if read(f"{folder}/{state}/disable") == "0"
    ]


def _turbo() -> str:
    if off := read(f"{CPU}/intel_pstate/no_turbo"):
        return "off" if off == "1" else "on"
    boost = read(f"{CPU}/cpufreq/boost")
    return {"0": "off", "1": "on"}.get(boost, "unknown")


def _commit() -> str:
    """Of the source tree this runs from; "" when it is none."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    asked = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
