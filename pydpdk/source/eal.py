"""DPDK's environment layer (EAL): arguments built and checked before it may see them.

EAL starts once per process, for good. It prints a hundred lines to stdout when it dislikes an
argument, and from DPDK 25.11 it calls exit(); so nothing reaches it that was not checked here,
and what it prints is kept in :func:`output`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pydpdk._core import ffi, lib
from pydpdk.errors import HostError, UsageError

PCI_ADDRESS = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")
INSTALL_DPDK = "apt install libdpdk-dev dpdk, then build pydpdk again"

_LEVELS = "emergency|alert|critical|error|warning|notice|info|debug|[1-8]"
_SIZES = r"\d+(,\d+)*"
# Options that DPDK 22.11 and 25.11 both know: None is a flag, otherwise the form of the value.
_EXTRA: dict[str, str | None] = {
    "--base-virtaddr": r"0x[0-9a-fA-F]+",
    "--create-uio-dev": None,
    "--force-max-simd-bitwidth": r"64|128|256|512",
    "--huge-dir": r"/.+",
    "--huge-unlink": "existing|always|never",
    "--iova-mode": "pa|va",
    "--legacy-mem": None,
    "--log-level": rf"([\w.*]+[:,])?({_LEVELS})",
    "--match-allocations": None,
    "--mbuf-pool-ops-name": r"\w+",
    "--no-hpet": None,
    "--single-file-segments": None,
    "--socket-limit": _SIZES,
    "--socket-mem": _SIZES,
    "--trace": r".+",
    "--trace-bufsz": r"\d+[BKM]?",
    "--trace-dir": r"/.+",
    "--trace-mode": "o|overwrite|d|discard",
    "--vfio-intr": "legacy|msi|msix",
    "--vfio-vf-token": r"[0-9a-fA-F-]{36}",
    "--vmware-tsc-map": None,
}
# Options that this module sets itself, with the way to say it here.
_OWN = {
    "--allow": "Options.pci",
    "--block": "Options.pci",
    "--file-prefix": "Options.file_prefix",
    "--in-memory": "Options.hugepages",
    "--lcores": "the CPU mask of the process (taskset)",
    "--main-lcore": "the CPU mask of the process (taskset)",
    "--no-huge": "Options.hugepages",
    "--no-pci": "Options.pci",
    "--no-shconf": "Options.hugepages",
    "--no-telemetry": "nothing: it is always off",
    "--telemetry": "nothing: it is always off",
    "--vdev": "a source",
}


@dataclass(frozen=True)
class Options:
    """What EAL is started with; the default needs no privileges, no hugepages and no NIC."""

    hugepages: bool = False
    memory_mb: int = 512
    pci: tuple[str, ...] = ()  # allow-list; empty means --no-pci
    log_level: str = "notice"
    file_prefix: str = ""  # empty: one that no other process uses
    extra: tuple[str, ...] = ()  # further EAL options, "--name" or "--name=value"


_started: Options | None = None
_output = ""


def version() -> str:
    """Version of the DPDK library loaded, "" when pydpdk was built without."""
    return str(ffi.string(lib.eal_version()).decode()) if hasattr(lib, "eal_version") else ""


def started() -> Options | None:
    """Options that EAL runs with, or None."""
    return _started


def output() -> str:
    """What EAL printed on stdout and stderr while it started."""
    return _output


def arguments(options: Options) -> list[str]:
    """EAL's argv for these options, program name first. UsageError for what EAL would refuse."""
    if not 64 <= options.memory_mb <= 1 << 20:
        raise UsageError(f"memory_mb={options.memory_mb}: EAL memory is 64 MB to 1 TB")
    _match("log_level", options.log_level, _LEVELS)
    prefix = options.file_prefix or _prefix(os.getpid())
    _match("file_prefix", prefix, r"[\w.-]{1,64}")
    memory = ["--in-memory"] if options.hugepages else ["--no-huge", "--no-shconf"]
    return [
        "pydpdk",
        *memory,
        "-m",
        str(options.memory_mb),
        *_devices(options.pci),
        f"--lcores=0@({','.join(map(str, sorted(os.sched_getaffinity(0))))})",
        "--no-telemetry",
        f"--file-prefix={prefix}",
        f"--log-level={options.log_level}",
        *map(_checked, options.extra),
    ]


def _match(what: str, value: str, pattern: str) -> None:
    if not re.fullmatch(pattern, value):
        raise UsageError(f"{what}: {value!r} is not of the form {pattern}")


def _devices(pci: tuple[str, ...]) -> list[str]:
    for address in pci:
        if not PCI_ADDRESS.fullmatch(address):
            raise UsageError(
                f"{address!r} is no PCI address: it looks like 0000:3b:00.0 (lspci -D)"
            )
    return [part for address in pci for part in ("-a", address)] or ["--no-pci"]


def _checked(argument: str) -> str:
    name, given, value = argument.partition("=")
    if name in _OWN:
        raise UsageError(f"EAL option {name} is not for extra arguments: use {_OWN[name]}")
    if name not in _EXTRA:
        raise UsageError(f"unknown EAL option {name!r}; known: {', '.join(_EXTRA)}")
    pattern = _EXTRA[name]
    if pattern is None and given:
        raise UsageError(f"EAL option {name} takes no value")
    if pattern is not None:
        _match(f"EAL option {name}=VALUE", value, pattern)
    return argument


def start(options: Options | None = None) -> None:
    """Start EAL; the same options again do nothing. The caller's CPU affinity is kept.

    UsageError: options that EAL would refuse, or others than it already runs with.
    HostError: no DPDK in this build, no hugepages, or EAL's own reason.
    """
    global _started, _output
    options = options or Options()
    argv = arguments(options)
    if not version():
        raise HostError(f"pydpdk was built without DPDK: {INSTALL_DPDK}")
    if _started is not None:
        _refuse_other(_started, options)
        return
    _require_memory(options)
    with _captured() as text:
        rc = _init(argv)
    _output = "".join(text)
    atexit.register(_remove_runtime_dir, os.getpid(), argv)
    if rc < 0:
        raise HostError(f"EAL did not start: {_reason(-rc)} (arguments: {' '.join(argv[1:])})")
    _started = options


@contextlib.contextmanager
def thread() -> Iterator[None]:
    """The calling thread has a cache of its own on every mbuf pool: see eal_thread_begin()."""
    with_dpdk = bool(version())
    if with_dpdk:
        lib.eal_thread_begin()
    try:
        yield
    finally:
        if with_dpdk:
            lib.eal_thread_end()


def ensure(needed: Options) -> None:
    """Start EAL, or accept the running one when it serves the devices needed."""
    if _started is None or not set(needed.pci) <= set(_started.pci):
        start(needed)


def _refuse_other(running: Options, options: Options) -> None:
    if options != running:
        raise UsageError(
            f"EAL starts once per process and already runs with {running}; asked for {options}:"
            " give all sources' needs at the first start, or use another process"
        )


def _init(argv: list[str]) -> int:
    keep = [ffi.new("char[]", argument.encode()) for argument in argv]
    return int(lib.eal_init(len(keep), ffi.new("char *[]", keep)))


def _reason(code: int) -> str:
    told = [line for line in _output.splitlines() if re.match(r"EAL: .*", line)]
    return "; ".join(line.removeprefix("EAL: ") for line in told[-3:]) or os.strerror(code)


def _require_memory(options: Options) -> None:
    """EAL ends in a SIGSEGV when it is not there, or in a line without a remedy."""
    wanted = options.memory_mb
    if not options.hugepages:
        told = Path("/proc/meminfo").read_text()
        there = int(re.findall(r"MemAvailable:\s+(\d+) kB", told)[0]) >> 10
        if there < wanted:
            raise HostError(f"memory_mb = {wanted}: {there} MB are available: set memory_mb lower")
        return
    pools = Path("/sys/kernel/mm/hugepages").glob("hugepages-*")
    there = sum(
        int((pool / "free_hugepages").read_text()) * int(pool.name[10:-2]) for pool in pools
    )
    if there >> 10 < wanted:
        raise HostError(
            f"{'no free hugepages' if not there else f'{there >> 10} MB of free hugepages'}, and"
            f" memory_mb = {wanted}: set memory_mb lower, or: echo {-(-wanted // 2)} | sudo tee"
            " /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
        )


@contextlib.contextmanager
def _captured() -> Iterator[list[str]]:
    """File descriptors 1 and 2 go to a temporary file; its text is in the list afterwards."""
    text: list[str] = []
    with tempfile.TemporaryFile() as sink:
        saved = [os.dup(fd) for fd in (1, 2)]
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        try:
            os.dup2(sink.fileno(), 1)
            os.dup2(sink.fileno(), 2)
            yield text
        finally:
            for fd, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, fd)
                os.close(copy)
            sink.seek(0)
            text.append(sink.read().decode(errors="replace"))


def _remove_runtime_dir(pid: int, argv: list[str]) -> None:
    """EAL leaves an empty directory named after its file prefix."""
    if os.getpid() != pid:
        return
    _remove_dir_of(next(a.partition("=")[2] for a in argv if a.startswith("--file-prefix=")))


def clear_after(pid: int) -> None:
    """Removes what EAL left of a process that was killed; it must be gone."""
    _remove_dir_of(_prefix(pid))


def _prefix(pid: int) -> str:
    return f"pydpdk-{pid}"


def _remove_dir_of(prefix: str) -> None:
    base = "/var/run" if os.getuid() == 0 else os.environ.get("XDG_RUNTIME_DIR", "/tmp")
    with contextlib.suppress(OSError):
        Path(base, "dpdk", prefix).rmdir()


def union(needs: list[Options]) -> Options:
    """One start that serves several sources."""
    pci = dict.fromkeys(address for need in needs for address in need.pci)
    return replace(Options(), hugepages=any(n.hugepages for n in needs), pci=tuple(pci))
