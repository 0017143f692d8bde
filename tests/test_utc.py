"""The map from a counter to UTC: its error bound holds, and its time never goes back."""

from __future__ import annotations

import os
import random
import subprocess
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pydpdk._core import lib
from pydpdk.core.utc import (
    HOST_UTC,
    UNKNOWN,
    ClockDomainError,
    State,
    Utc,
    same_domain,
)
from pydpdk.errors import PydpdkError
from tests.test_ring_model import TSAN, WARNINGS, need, run

ROOT = Path(__file__).parent.parent
EPOCH = 1_700_000_000_000_000_000
MS, SECOND = 10**6, 10**9


class Clock:
    """A counter of ``hz`` that is ``ppb`` off, and a clock that can be stepped; exact."""

    def __init__(self, hz: int, ppb: int, seed: int) -> None:
        self.hz, self.random = hz, random.Random(seed)
        self.true_hz = Fraction(hz * (SECOND + ppb), SECOND)
        self.start = self.random.randrange(2**60)
        self.elapsed, self.stepped = 0, 0

    def counter(self, elapsed_ns: int) -> int:
        return self.start + round(elapsed_ns * self.true_hz / SECOND)

    def utc(self, counter: int) -> Fraction:
        return EPOCH + self.stepped + (counter - self.start) * SECOND / self.true_hz

    def feed(self, utc: Utc, bracket_ns: int) -> None:
        """A sample now, anywhere within its bracket."""
        counter = self.counter(self.elapsed)
        noise = self.random.uniform(-bracket_ns / 2, bracket_ns / 2)
        utc.sample(counter, round(self.utc(counter) + Fraction(noise)), bracket_ns)

    def check(self, utc: Utc, ahead_ns: int) -> None:
        """The bound holds from here to that far ahead."""
        for _ in range(4):
            counter = self.counter(self.elapsed + self.random.randrange(ahead_ns))
            error = abs(utc.at(counter) - self.utc(counter))
            assert error <= utc.state(counter).error_ns


@given(
    hz=st.sampled_from([1_000_000, 125_000_000, 10**9, 2_499_998_761, 5 * 10**9]),
    ppb=st.integers(-200_000, 200_000),
    seed=st.integers(0, 2**32),
    samples=st.lists(
        st.tuples(
            st.integers(1, 300),  # ms since the one before
            st.sampled_from([0, 20, 80, 1_000, 50_000]),  # bracket, ns
            st.sampled_from([0, 0, 0, 0, 0, 3 * MS, -3 * MS, 3600 * SECOND, -3600 * SECOND]),
        ),
        min_size=1,
        max_size=120,
    ),
)
@example(hz=10**9, ppb=200_000, seed=1, samples=[(100, 80, 0)] * 100)  # more than a span
@example(
    hz=10**9, ppb=-200_000, seed=2, samples=[(100, 80, -3 * MS * (i == 40)) for i in range(90)]
)
def test_the_bound_holds_and_time_never_goes_back(hz, ppb, seed, samples):
    clock = Clock(hz, ppb, seed)
    seen = []  # as one reader sees it: counters rise, and each is told by the map of its moment
    steps = 0
    with Utc(hz, ppm=200) as utc:
        for gap_ms, bracket, step in samples:
            if utc.state().updates:
                for part in range(4):
                    seen.append(utc.at(clock.counter(clock.elapsed + gap_ms * MS * part // 4)))
            clock.elapsed += gap_ms * MS + 2 * lib.UTC_LEAD_NS
            if utc.state().updates and step:
                clock.stepped += step
                steps += 1
            clock.feed(utc, bracket)
            clock.check(utc, 2 * SECOND)
        state = utc.state(clock.counter(clock.elapsed))
    assert seen == sorted(seen)
    assert (state.steps, state.updates, state.late) == (steps, len(samples), 0)


def steady(ppb: int, seconds: int, bracket: int = 60) -> tuple[Clock, Utc]:
    """Ten samples a second for that long."""
    clock, utc = Clock(10**9, ppb, seed=5), Utc(10**9, ppm=200)
    for _ in range(10 * seconds):
        clock.elapsed += 100 * MS
        clock.feed(utc, bracket)
    return clock, utc


@pytest.mark.parametrize("ppb", [-200_000, -1_000, 0, 1_000, 200_000])
def test_a_steady_clock_is_followed_within_its_brackets(ppb):
    clock, utc = steady(ppb, 20)
    state = utc.state(clock.counter(clock.elapsed))
    assert abs(state.rate_ppb - -ppb) <= abs(ppb) // 1000 + 40  # ticks are shorter when it is fast
    assert abs(state.offset_ns) < 60
    assert state.error_ns < 150
    assert state.age_ns == 0


def test_the_bound_grows_with_age():
    clock, utc = steady(0, 5)
    errors = [utc.state(clock.counter(clock.elapsed + s * SECOND)).error_ns for s in range(5)]
    growth = [b - a for a, b in pairwise(errors)]
    assert all(lib.UTC_WANDER_PPB <= g <= lib.UTC_WANDER_PPB + 200 for g in growth)
    assert utc.state(clock.counter(clock.elapsed + SECOND)).age_ns == pytest.approx(SECOND, abs=9)


def test_a_step_is_counted_and_slewed_at_most_500_ppm():
    for step in (2 * MS, -2 * MS):
        clock, utc = steady(0, 5)
        clock.stepped = step
        told = []
        for _ in range(60):
            clock.elapsed += 100 * MS
            clock.feed(utc, 60)
            told.append(utc.at(clock.counter(clock.elapsed)))
        speeds = [b - a - 100 * MS for a, b in pairwise(told)]
        assert max(map(abs, speeds)) <= 100 * MS * 501 // 10**6
        assert abs(speeds[5]) >= 100 * MS * 499 // 10**6
        state = utc.state(clock.counter(clock.elapsed))
        assert state.steps == 1
        assert abs(state.offset_ns) < 200_000  # 2 ms in 4 s at 500 ppm, the last of it slower
        clock.check(utc, SECOND)


@pytest.mark.parametrize(("ppb", "seconds"), [(-100_000, 5), (-5_000, 20)])
def test_another_rate_is_no_step_and_is_found(ppb, seconds):
    """More than UTC_WANDER_PPB shows in the next sample, less with the next measured span."""
    clock, utc = steady(0, 30)
    at = clock.counter(clock.elapsed)
    clock.true_hz = Fraction(10**9 + ppb)
    clock.start = at - round(clock.elapsed * clock.true_hz / SECOND)
    for _ in range(10 * seconds):
        clock.elapsed += 100 * MS
        clock.feed(utc, 60)
        clock.check(utc, 100 * MS)
    state = utc.state(clock.counter(clock.elapsed))
    assert (state.steps, state.error_ns < 1_000) == (0, True)
    assert state.rate_ppb == pytest.approx(-ppb, abs=100)


def test_an_update_changes_nothing_that_was_told():
    """A reader may have used the old line until the change takes effect."""
    clock, utc = steady(0, 2)
    clock.stepped = -2 * MS
    clock.elapsed += 100 * MS
    counters = [clock.counter(clock.elapsed - MS + us * 1000) for us in range(0, 3000, 100)]
    told = [utc.at(counter) for counter in counters]
    clock.feed(utc, 60)
    again = [utc.at(counter) for counter in counters]
    assert again[:20] == told[:20]
    assert again[21:] != told[21:]


def test_a_jump_is_made_when_it_is_asked_for():
    clock, utc = steady(0, 2)
    clock.stepped = -3600 * SECOND
    utc.jump()
    for _ in range(2):
        clock.elapsed += 100 * MS
        clock.feed(utc, 60)
    state = utc.state(clock.counter(clock.elapsed))
    assert (state.steps, state.error_ns < 1_000) == (1, True)


def test_a_poor_sample_does_not_make_the_map_worse():
    clock, utc = steady(0, 5)
    before = utc.state(clock.counter(clock.elapsed + 100 * MS)).error_ns
    clock.elapsed += 100 * MS
    clock.feed(utc, MS)
    assert utc.state(clock.counter(clock.elapsed)).error_ns <= before + 2


def test_samples_too_close_or_out_of_order_are_left_out():
    clock, utc = steady(0, 1)
    state = utc.state()
    clock.feed(utc, 60)
    utc.sample(clock.counter(clock.elapsed - SECOND), 5, 60)
    assert utc.state().updates == state.updates


def test_before_the_first_sample_nothing_is_known():
    with Utc(10**9) as utc:
        assert utc.state() == State(0, UNKNOWN, 0, 0, 0, UNKNOWN, 0)
    with pytest.raises(PydpdkError, match="closed"):
        utc.now()


def test_live_it_tells_the_host_clock_within_its_bound():
    last, late, checked = 0, 0, 0
    with Utc() as utc:
        end = time.monotonic() + 2
        while time.monotonic() < end:
            utc.update()
            for _ in range(50):
                low, now, high = time.time_ns(), utc.now(), time.time_ns()
                state = utc.state()
                assert low - state.error_ns <= now <= high + state.error_ns
                late = state.late
                assert last <= now or late
                last, checked = now, checked + 1
            time.sleep(0.05)
        state = utc.state()
    assert checked > 500
    assert state.updates > 10
    assert state.error_ns < 100_000


# --- the protocol between the control thread and the readers ---


def stress(where: Path, turns: int, *flags: str, tries: int = 1) -> tuple[int, str]:
    """Build the stress program and run it, again while it finds nothing: exit code, stderr."""
    need("clang")
    program = where / "utc_stress"
    source = ROOT / "tests" / "c" / "utc_stress.c"
    include = f"-I{ROOT / 'csrc'}"
    built = run("clang", *WARNINGS, *flags, include, source, "-pthread", "-o", program)
    assert built.returncode == 0, built.stderr
    plain = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    for _ in range(tries):  # without the address sanitizer that this suite may run under
        ran = subprocess.run(
            [program, str(turns)], env=plain, capture_output=True, text=True, timeout=120
        )
        if ran.returncode:
            break
    return ran.returncode, ran.stderr


@pytest.mark.slow
def test_readers_never_see_half_a_turn(tmp_path):
    assert stress(tmp_path, 2_000_000, "-O2") == (0, "")


def test_thread_sanitizer_finds_nothing(tmp_path):
    assert stress(tmp_path, 100_000, *TSAN) == (0, "")


@pytest.mark.slow
def test_without_the_second_look_they_would(tmp_path):
    code, said = stress(tmp_path, 2_000_000, "-O2", "-DUTC_VALIDATE=0", tries=10)
    assert (code, "violation" in said) == (1, True)


@pytest.mark.parametrize("live", HOST_UTC)
def test_a_capture_s_stamps_have_no_latency_to_a_live_clock(live: str) -> None:
    for earlier, later in [("capture", live), (live, "capture"), ("", live)]:
        with pytest.raises(ClockDomainError, match=f"from a stamp of clock '{earlier}'"):
            same_domain(earlier, later)
    same_domain("capture", "capture")
    for other in HOST_UTC:
        same_domain(live, other)
