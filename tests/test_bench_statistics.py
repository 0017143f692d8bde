"""Verdicts on made-up rounds: found where planted, nothing where not, and honest about noise."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_ind

from pydpdk.bench import statistics
from pydpdk.bench.statistics import paired, unpaired
from pydpdk.errors import HostError

ROUNDS = 10
seeds = st.integers(0, 2**32 - 1)
levels = st.floats(0.5, 1e6)
Rounds = tuple[list[float], list[float]]


def wild(rng: np.random.Generator, noise: float) -> np.ndarray:
    """Normal noise, and in one side's worst two rounds of ten something 1.3 to 5 times as long."""
    made = rng.normal(0, noise, ROUNDS)
    made[rng.choice(ROUNDS, 2, replace=False)] += rng.uniform(math.log(1.3), math.log(5), 2)
    return made


def rounds(seed: int, level: float, change: float, noise: float, tails: bool) -> Rounds:
    """Two builds on a host whose pace drifts by a third and wanders; ``change`` is new over old."""
    rng = np.random.default_rng(seed)
    pace = np.linspace(0, rng.uniform(-0.3, 0.3), ROUNDS) + np.cumsum(rng.normal(0, 0.02, ROUNDS))
    plain = rng.normal(0, noise, (2, ROUNDS))
    if tails:
        plain[rng.integers(2)] = wild(rng, noise)
    old, new = pace + plain
    return (level * np.exp(old)).tolist(), (level * change * np.exp(new)).tolist()


@given(seeds, levels, st.booleans(), st.sampled_from([1.2, 1 / 1.2]))
@settings(max_examples=400)
def test_a_fifth_is_found_whatever_the_host_does(
    seed: int, level: float, tails: bool, change: float
) -> None:
    found = paired(*rounds(seed, level, change, 0.005, tails))
    assert found.verdict == ("slower" if change > 1 else "faster")
    assert found.ratio == pytest.approx(change, rel=0.02)
    assert found.low < found.ratio < found.high


@given(seeds, levels, st.booleans())
@settings(max_examples=400)
def test_nothing_is_called_no_change(seed: int, level: float, tails: bool) -> None:
    found = paired(*rounds(seed, level, 1.0, 0.005, tails))
    assert found.verdict not in ("slower", "faster")


@pytest.mark.parametrize("noise", [0.003, 0.03, 0.1, 0.3])
@pytest.mark.parametrize("tails", [False, True])
def test_false_alarms_are_rare_at_any_noise(noise: float, tails: bool) -> None:
    """1,000 runs in which nothing changed: at 99 % and with the noise floor, under 1 in 100."""
    found = [paired(*rounds(seed, 20.0, 1.0, noise, tails)).verdict for seed in range(1000)]
    assert sum(verdict in ("slower", "faster") for verdict in found) < 10


@pytest.mark.parametrize("judge", [paired, unpaired])
def test_interval_holds_the_truth_as_often_as_it_says(
    judge: Callable[[list[float], list[float]], statistics.Change],
) -> None:
    rng, held = np.random.default_rng(7), 0
    for _ in range(2000):
        old, new = np.exp(rng.normal(0, 0.05, (2, ROUNDS))) * [[10.0], [11.0]]
        found = judge(old.tolist(), new.tolist())
        held += found.low <= 1.1 <= found.high
    assert 0.975 <= held / 2000 <= 0.998


@pytest.mark.parametrize(("noise", "least"), [(0.005, 950), (0.03, 700), (0.1, 700)])
@pytest.mark.parametrize("count", [ROUNDS, 21])
def test_detectable_is_found_as_often_as_the_page_says(
    noise: float, least: int, count: int
) -> None:
    """What one run says that it would have seen, another of the same kind looks for."""
    rng = np.random.default_rng(3)
    found = 0
    for _ in range(1000):
        said = paired(*np.exp(rng.normal(0, noise, (2, count))).tolist()).detectable
        assert said is not None
        old, new = np.exp(rng.normal(0, noise, (2, count)))
        found += paired(old.tolist(), (new * (1 + said)).tolist()).verdict == "slower"
    assert found > least


def test_noise_says_what_it_would_have_missed() -> None:
    rng = np.random.default_rng(1)
    old, new = np.exp(rng.normal(0, 0.3, (2, ROUNDS)))
    found = paired(old.tolist(), new.tolist())
    assert found.verdict == "too noisy to say"
    assert found.detectable > 0.1
    assert f"{found.detectable:.0%}" in found.why


def test_noise_without_bound_stays_a_number() -> None:
    found = paired([1e-300, 1e300] * 5, [1e300, 1e-300] * 5)
    assert found.verdict == "too noisy to say"
    assert all(map(math.isfinite, (found.low, found.high, found.noise, found.detectable)))


@pytest.mark.parametrize("judge", [paired, unpaired])
def test_too_few_rounds_or_no_figures_are_no_verdict(
    judge: Callable[[list[float], list[float]], statistics.Change],
) -> None:
    few = judge([1.0] * 4, [2.0] * 4)
    assert (few.verdict, few.ratio) == ("too noisy to say", None)
    assert "at least 5" in few.why
    below = judge([1.0] * 9 + [-0.1], [2.0] * 10)
    assert below.verdict == "too noisy to say"
    assert "not above 0" in below.why


def test_what_never_varies_has_the_same_least_change() -> None:
    """Figures without noise: counts, sizes, points on a coarse scale."""
    assert paired([200.0] * 10, [201.0] * 10).verdict == "no change seen"
    assert paired([200.0] * 10, [208.0] * 10).verdict == "slower"
    step = [30.0, 30.0, 31.0] + [30.0] * 7, [31.0] * 10
    assert unpaired(*step).verdict == "no change seen"
    assert paired(*step, effect_min=statistics.PLACED_MIN).verdict == "no change seen"
    assert paired([200.0] * 10, [201.0] * 10, effect_min=0).verdict == "slower"


def test_a_sure_but_small_change_is_none() -> None:
    rng = np.random.default_rng(2)
    old, new = np.exp(rng.normal(0, 0.001, (2, ROUNDS)))
    found = paired(old.tolist(), (new * 1.02).tolist())
    assert found.low > 1
    assert found.verdict == "no change seen"


def test_one_process_each_takes_more_to_be_a_change() -> None:
    """What placement of memory alone does is in every round of a process: see --keep."""
    rng = np.random.default_rng(2)
    old, new = np.exp(rng.normal(0, 0.001, (2, ROUNDS)))
    small, large = (new * 1.06).tolist(), (new * 1.15).tolist()
    assert paired(old.tolist(), small).verdict == "slower"
    one = statistics.PLACED_MIN
    assert paired(old.tolist(), small, effect_min=one).verdict == "no change seen"
    assert unpaired(old.tolist(), small).verdict == "no change seen"
    assert paired(old.tolist(), large, effect_min=one).verdict == "slower"
    assert unpaired(old.tolist(), large).verdict == "slower"


def test_pairs_need_a_partner() -> None:
    with pytest.raises(ValueError, match="pairs"):
        paired([1.0] * 6, [1.0] * 7)


@given(seeds, st.floats(0.001, 0.3))
def test_the_interval_of_two_runs_is_that_of_yuen(seed: int, noise: float) -> None:
    """Of the trimmed t test of scipy, on the logarithms."""
    old, new = np.random.default_rng(seed).normal(0, noise, (2, ROUNDS))
    found = unpaired(np.exp(old).tolist(), np.exp(new).tolist())
    theirs = ttest_ind(new, old, trim=0.2, equal_var=False).confidence_interval(0.99)
    assert math.log(found.low) == pytest.approx(theirs.low, rel=1e-6)
    assert math.log(found.high) == pytest.approx(theirs.high, rel=1e-6)


def test_a_host_without_scipy_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    with pytest.raises(HostError, match=r"pip install 'pydpdk\[bench\]'"):
        paired([1.0] * 6, [1.0] * 6)


def test_spread_and_drift() -> None:
    assert statistics.spread([10.0, 10.0, 10.0, 99.0]) == 0
    assert statistics.spread([9.0, 10.0, 11.0]) == pytest.approx(0.14826)
    assert statistics.spread([5.0]) == statistics.spread([]) == 0
    assert statistics.drift([1.0, 1.0, 1.5, 1.5, 2.0, 2.0]) == 2
    assert statistics.drift([1.0] * 5) == 1
