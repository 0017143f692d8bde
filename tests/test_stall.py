"""The stall meter finds what takes a core away: stalls that the test plants, to the millisecond."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pydpdk._core import ffi, lib
from pydpdk.errors import HostError, UsageError
from pydpdk.host import stall
from tests.command import ROOT

MS = 1_000_000
CHILD = f"""
import sys, json; sys.path.insert(0, {str(ROOT)!r})
from pydpdk.host.stall import measure
print("ready", flush=True)
(found,) = measure([int(sys.argv[1])], float(sys.argv[2]), int(sys.argv[3]))
print(json.dumps(found.to_dict()))
"""


def core() -> int:
    return min(os.sched_getaffinity(0))


@contextmanager
def metering(seconds: float, threshold_ns: int) -> Iterator[subprocess.Popen[str]]:
    """A child that measures; it is well into it when this yields."""
    args = [sys.executable, "-c", CHILD, str(core()), str(seconds), str(threshold_ns)]
    with subprocess.Popen(args, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            time.sleep(0.3)
            yield child
        finally:
            child.kill()


@pytest.mark.slow
def test_planted_stalls_are_found_with_length_and_place():
    planted = []
    with metering(3, MS) as child:
        for _ in range(5):
            before = time.time_ns()
            child.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, child.pid, os.WSTOPPED)  # it stands still from here on
            begin = time.time_ns()
            time.sleep(0.05)
            end = time.time_ns()
            child.send_signal(signal.SIGCONT)
            planted.append((before, begin, end, time.time_ns()))
            time.sleep(0.1)
        found = json.loads(child.communicate(timeout=60)[0])
    gaps = [(found["started_ns"] + gap["at_ns"], gap["ns"]) for gap in found["largest"]]
    used = set()
    for before, begin, end, _ in planted:
        over = [gap for gap in gaps if gap[0] <= begin + MS and sum(gap) >= end - MS]
        assert len(over) == 1, "one gap over all of each stop"
        used.add(over[0])
        assert over[0][1] >= end - begin - MS
        assert over[0][0] >= before - 200 * MS  # of this stop, not of the last
    assert len(used) == len(planted)
    long = sum(b["count"] for b in found["buckets"] if b["from_ns"] >= 1 << 25)  # 33 ms
    assert long >= len(planted)
    assert found["count"] == sum(b["count"] for b in found["buckets"])
    assert found["max_ns"] == max(gap[1] for gap in gaps)
    assert found["sum_ns"] >= sum(end - begin for _, begin, end, _ in planted)
    assert found["sum_ns"] <= found["elapsed_ns"]
    assert 3e9 <= found["elapsed_ns"] < 3.5e9


def quota_group() -> Path:
    """A fresh cpu cgroup, version 2 or 1; skips where none can be made."""
    for top in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/cpu"):
        group = Path(top, f"pydpdk-test-{os.getpid()}")
        try:
            group.mkdir()
        except OSError:
            continue
        if (group / "cpu.max").exists() or (group / "cpu.cfs_quota_us").exists():
            return group
        group.rmdir()
    pytest.skip("needs a cpu cgroup that can be written: root on a host, not in a container")


def set_quota(group: Path) -> None:
    """20 ms of every 100."""
    if (group / "cpu.max").exists():
        (group / "cpu.max").write_text("20000 100000")
    else:
        (group / "cpu.cfs_period_us").write_text("100000")
        (group / "cpu.cfs_quota_us").write_text("20000")


@pytest.mark.slow
def test_a_throttled_core_is_found():
    group = quota_group()
    try:
        with metering(3, 10 * MS) as child:
            set_quota(group)
            (group / "cgroup.procs").write_text(str(child.pid))
            found = json.loads(child.communicate(timeout=60)[0])
    finally:
        group.rmdir()
    # Of about 2.7 s in periods of 100 ms each has 80 ms without the core.
    assert found["count"] >= 15
    assert found["max_ns"] >= 60 * MS
    assert found["lost_share"] > 0.5


def test_the_threshold_counts_and_nothing_below_it():
    (found,) = stall.measure([core()], 0.1, 20_000)
    assert all(low + low > 20_000 for low, _ in found.buckets)
    assert all(ns >= 20_000 for _, ns in found.largest)
    (none,) = stall.measure([core()], 0.02, 3 * 10**9)
    assert (none.count, none.sum_ns, none.max_ns, none.largest) == (0, 0, 0, ())
    assert none.percentile(99) == 0


def test_every_gap_lies_in_its_octave():
    (found,) = stall.measure([core()], 0.02, 1)  # every look is a gap of some nanoseconds
    assert found.count > 1000
    low = sum(low * count for low, count in found.buckets)
    assert low <= found.sum_ns <= 2 * low
    assert sum(count for _, count in found.buckets) == found.count
    assert len(found.largest) == 16


def test_every_core_is_measured_and_the_callers_mask_stays():
    mine = os.sched_getaffinity(0)
    found = stall.measure(mine, 0.05)
    assert [s.core for s in found] == sorted(mine)
    assert all(s.looks > 1000 and s.elapsed_ns >= 50 * MS for s in found)
    assert os.sched_getaffinity(0) == mine


def test_percentiles_are_upper_bounds_of_octaves():
    made = stall.Stall(0, 0, 10**9, 1, 100, 0, 5000, ((1024, 90), (2048, 9), (4096, 1)), ())
    assert [made.percentile(p) for p in (50, 90, 91, 99, 100)] == [2047, 2047, 4095, 4095, 5000]


@pytest.mark.parametrize(("ns", "threshold"), [(0, 1), (10**13, 1), (10**6, 0)])
def test_nonsense_is_refused_by_the_core(ns, threshold):
    assert lib.stall_measure(ns, threshold, ffi.new("struct stall_result *")) == -22


@pytest.mark.parametrize("seconds", [0, -1, 3601])
def test_durations_are_checked(seconds):
    with pytest.raises(UsageError, match="seconds"):
        stall.measure([core()], seconds)


def test_a_core_that_is_not_there_is_named():
    with pytest.raises(HostError, match=r"core 4000: .*choose one of"):
        stall.measure([4000], 0.01)
