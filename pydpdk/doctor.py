"""What a host must have: each check reads the system and says what mends it."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from pydpdk._core import ffi, lib

PURPOSES = ("replay", "bench", "run")


@dataclass(frozen=True)
class Row:
    """One finding: ``status`` is ok, warn or fail; ``mend`` the command that mends it."""

    name: str
    status: str
    found: str
    mend: str = ""

    def to_dict(self) -> dict[str, str]:
        """Plain values, for JSON."""
        return asdict(self)


def read(path: str) -> str:
    """Text of a kernel file, empty when it is not there."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def cpu() -> Row:
    flags = set(read("/proc/cpuinfo").partition("flags")[2].partition("\n")[0].split())
    model = read("/proc/cpuinfo").partition("model name")[2].partition("\n")[0].strip(" \t:")
    if "sse4_2" not in flags:
        return Row("cpu", "fail", f"{model}: no SSE4.2", "use an x86-64-v2 processor")
    return Row("cpu", "ok", f"{model}, {os.cpu_count()} cores")


def tsc() -> Row:
    flags = set(read("/proc/cpuinfo").partition("flags")[2].partition("\n")[0].split())
    source = read("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    if not {"constant_tsc", "nonstop_tsc"} <= flags:
        return Row(
            "cycle counter",
            "warn",
            "not invariant: intervals are not to be trusted",
            "measure on another host",
        )
    return Row("cycle counter", "ok", f"invariant; kernel clock source {source or 'unknown'}")


def dpdk() -> Row:
    version = ffi.string(lib.port_dpdk_version()).decode()
    if not version:
        return Row(
            "dpdk",
            "warn",
            "built without: captures work, ports do not",
            "apt-get install libdpdk-dev dpdk, then build again (make clean build)",
        )
    return Row("dpdk", "ok", version)


def memory() -> Row:
    info = dict(line.split(":", 1) for line in read("/proc/meminfo").splitlines())
    free = int(info.get("MemAvailable", "0").split()[0]) // 1024
    if free < 1024:
        return Row(
            "memory",
            "warn",
            f"{free} MiB available, a full market's books want 1024",
            "free memory, or lower orders_max of the feed",
        )
    return Row("memory", "ok", f"{free} MiB available")


def shared_memory() -> Row:
    if not os.access("/dev/shm", os.W_OK):
        return Row(
            "shared memory", "fail", "/dev/shm is not writable", "mount -t tmpfs tmpfs /dev/shm"
        )
    free = shutil.disk_usage("/dev/shm").free >> 20
    status = "ok" if free >= 64 else "fail"
    return Row(
        "shared memory",
        status,
        f"{free} MiB free in /dev/shm",
        "" if status == "ok" else "mount -o remount,size=256M /dev/shm",
    )


def cores() -> Row:
    mine = len(os.sched_getaffinity(0))
    if mine < 2:
        return Row(
            "cores",
            "warn",
            "one core: engine and stage share it",
            "give the process a second core (taskset, cpuset)",
        )
    return Row("cores", "ok", f"{mine} usable")


def isolation() -> Row:
    isolated = read("/sys/devices/system/cpu/isolated")
    if isolated:
        return Row("isolated cores", "ok", isolated)
    return Row(
        "isolated cores",
        "warn",
        "none",
        "boot with isolcpus=N nohz_full=N rcu_nocbs=N for the cores of the engine",
    )


def governor() -> Row:
    name = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if name in ("", "performance"):
        return Row("cpu governor", "ok", name or "not controlled by this kernel")
    return Row("cpu governor", "warn", name, "cpupower frequency-set -g performance")


def load() -> Row:
    one = os.getloadavg()[0]
    if one > 0.5:
        return Row("load", "warn", f"{one:.2f} over the last minute", "stop what else is running")
    return Row("load", "ok", f"{one:.2f}")


def hugepages() -> Row:
    free = read("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages") or "0"
    if int(free) == 0:
        return Row(
            "hugepages",
            "warn",
            "none free: DPDK runs with --no-huge",
            "echo 512 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
        )
    return Row("hugepages", "ok", f"{free} of 2 MiB free")


def rights() -> Row:
    if os.geteuid() == 0:
        return Row("rights", "ok", "root")
    return Row(
        "rights",
        "warn",
        "not root: pcap:, net_pcap: and null: work, af_packet:, af_xdp:, tap: and pci: need more",
        "sudo, or unshare -Urn for tests on a veth",
    )


def kernel() -> Row:
    return Row("kernel", "ok", f"{platform.release()} {platform.machine()}")


BASE = (kernel, cpu, tsc, cores, memory, shared_memory, dpdk)
TABLE: dict[str, tuple[Callable[[], Row], ...]] = {
    "replay": BASE,
    "bench": (*BASE, isolation, governor, load),
    "run": (*BASE, isolation, governor, hugepages, rights),
}


def checks(purpose: str) -> list[Row]:
    """Findings for one of PURPOSES."""
    return [check() for check in TABLE[purpose]]
