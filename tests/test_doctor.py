"""pydpdk doctor: each finding from a host that is made up, and the command's exit codes."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from pydpdk import doctor
from pydpdk._core import ffi
from tests.command import call, well

CPU = "model name\t: Some CPU\nflags\t\t: sse4_2 constant_tsc nonstop_tsc\n"
MEMORY = "MemTotal: 8000000 kB\nMemAvailable: {} kB\n"
CLOCK = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
GOVERNOR = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
ISOLATED = "/sys/devices/system/cpu/isolated"
HUGE = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages"
READY = {
    "/proc/cpuinfo": CPU, "/proc/meminfo": MEMORY.format(4 << 20), CLOCK: "tsc",
    GOVERNOR: "performance", ISOLATED: "1", HUGE: "512",
}  # fmt: skip


@pytest.fixture
def host(monkeypatch):
    """A host that has everything; ``host.files[path]`` is what the kernel says."""
    files = dict(READY)
    monkeypatch.setattr(doctor, "read", lambda path: files.get(path, ""))
    monkeypatch.setattr(os, "getloadavg", lambda: (0.1, 0.1, 0.1))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=1 << 30))
    dpdk = SimpleNamespace(port_dpdk_version=lambda: ffi.new("char[]", b"22.11"))
    monkeypatch.setattr(doctor, "lib", dpdk)
    return SimpleNamespace(files=files, dpdk=dpdk, patch=monkeypatch.setattr)


def found(purpose="run"):
    return {row.name: row for row in doctor.checks(purpose)}


@pytest.mark.parametrize("purpose", doctor.PURPOSES)
def test_a_host_that_has_everything_is_ready(host, purpose):
    assert {row.status for row in doctor.checks(purpose)} == {"ok"}
    assert all(row.mend == "" for row in doctor.checks(purpose))
    assert well("doctor", "--for", purpose, "--strict").out.count("ok ") == len(found(purpose))


@pytest.mark.parametrize(
    ("purpose", "name", "status", "spoil"),
    [
        ("replay", "cpu", "fail", lambda h: h.files.update({"/proc/cpuinfo": "flags : sse2\n"})),
        ("replay", "cycle counter", "warn",
         lambda h: h.files.update({"/proc/cpuinfo": "flags : sse4_2 tsc\n"})),
        ("replay", "memory", "warn",
         lambda h: h.files.update({"/proc/meminfo": MEMORY.format(500_000)})),
        ("replay", "shared memory", "fail", lambda h: h.patch(os, "access", lambda *_: False)),
        ("replay", "shared memory", "fail",
         lambda h: h.patch(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 20))),
        ("replay", "dpdk", "warn",
         lambda h: setattr(h.dpdk, "port_dpdk_version", lambda: ffi.new("char[]", b""))),
        ("replay", "cores", "warn", lambda h: h.patch(os, "sched_getaffinity", lambda _: {0})),
        ("bench", "isolated cores", "warn", lambda h: h.files.pop(ISOLATED)),
        ("bench", "cpu governor", "warn", lambda h: h.files.update({GOVERNOR: "powersave"})),
        ("bench", "load", "warn", lambda h: h.patch(os, "getloadavg", lambda: (3.0, 1.0, 1.0))),
        ("run", "hugepages", "warn", lambda h: h.files.update({HUGE: "0"})),
        ("run", "rights", "warn", lambda h: h.patch(os, "geteuid", lambda: 1000)),
    ],
)  # fmt: skip
def test_what_lacks_is_named_with_what_mends_it(host, purpose, name, status, spoil):
    spoil(host)
    row = found(purpose)[name]
    assert (row.status, bool(row.mend)) == (status, True)
    others = {other.status for key, other in found(purpose).items() if key != name}
    assert others <= ({"ok", "warn"} if name == "cpu" else {"ok"})
    done = call("doctor", "--for", purpose)
    assert done.code == (3 if status == "fail" else 0)
    assert f"-> {row.mend}" in done.out
    assert call("doctor", "--for", purpose, "--strict").code == 3


def test_a_kernel_that_says_nothing_is_no_crash(host):
    host.files.clear()
    assert found("run")["cpu"].status == "fail"
    assert found("run")["memory"].status == "warn"


def test_json_has_every_row(host):
    result = well("doctor", "--for", "run", "--json").json
    assert result == {"for": "run", "checks": [row.to_dict() for row in doctor.checks("run")]}


@pytest.mark.parametrize("purpose", doctor.PURPOSES)
def test_this_host(purpose):
    done = call("doctor", "--for", purpose, "--json")
    rows = done.json["checks"]
    assert done.code == (3 if any(row["status"] == "fail" for row in rows) else 0)
    assert {row["status"] for row in rows} <= {"ok", "warn", "fail"}


def test_usage():
    assert call("doctor", "--for", "fun").code == 2
