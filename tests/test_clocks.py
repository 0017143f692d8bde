"""The clocks of the figures: against the kernel's, and from core to core."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from pydpdk._core import lib
from pydpdk.bench import clocks
from pydpdk.errors import CoreError

CORES = sorted(os.sched_getaffinity(0))


def test_the_rate_over_a_run_is_the_one_that_makes_ns() -> None:
    begun = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
    watch = clocks.Watch()
    time.sleep(0.2)
    found = watch.result(CORES[:1])
    took = (time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW) - begun) / 1e9
    assert 0.2 <= found["watched_s"] <= took + 0.001
    # 5 ms of calibration may be struck by a preempted look; a wrong unit would be off by far more.
    assert abs(found["rate_error_ppm"]) < 20_000
    assert 0 < found["rate_error_within_ppm"] < 20_000
    assert found["tsc_hz"] == pytest.approx(1e9 / (lib.ticks_ns(10**12) / 10**12), rel=0.02)
    assert 0 < found["look_ns"] < 1000
    assert found["offsets"] == []


@pytest.mark.skipif(len(CORES) < 2, reason="needs two cores")
def test_the_offset_between_cores_is_told_with_its_bound() -> None:
    """One core's counter against the other's must be the other way round, within both bounds."""
    a, b = CORES[0], CORES[-1]
    there, back = clocks.offset(a, b), clocks.offset(b, a)
    assert (there["cores"], back["cores"]) == ([a, b], [b, a])
    assert abs(there["ahead_ns"] + back["ahead_ns"]) <= there["within_ns"] + back["within_ns"]
    assert os.sched_getaffinity(0) == set(CORES)


def test_a_core_that_is_not_ours_is_an_error() -> None:
    with pytest.raises((OSError, CoreError)):
        clocks.offset(CORES[0], 4000)
    assert os.sched_getaffinity(0) == set(CORES)


def test_warnings_are_of_wrong_rates_and_far_counters() -> None:
    right = {"rate_error_ppm": 20.0, "rate_error_within_ppm": 1.0, "offsets": [
        {"cores": [0, 1], "ahead_ns": -120.0, "within_ns": 60.0}]}  # fmt: skip
    assert clocks.warnings(right) == []
    (said,) = clocks.warnings(right | {"rate_error_ppm": -900.0})
    assert "-900.0 ppm" in said
    far = [{"cores": [0, 1], "ahead_ns": -500.0, "within_ns": 60.0}]
    (said,) = clocks.warnings(right | {"offsets": far})
    assert "core 1 is -500.0 ns ahead of core 0, within 60.0 ns" in said


def test_the_first_look_of_a_process_is_not_left_out() -> None:
    """A watch begins before anything else needed the rate."""
    code = "from pydpdk.bench import clocks; print(clocks.Watch().result([])['tsc_hz'] > 1e8)"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout == "True\n"
