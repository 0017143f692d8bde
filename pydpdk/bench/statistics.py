"""Did it change? From the rounds of two builds to one of four verdicts.

Figures of a host are skewed, and now and then one is far off: an interrupt, a page moved, another
guest. What is compared are logarithms, because a change is a factor: then twice and half are
equally far from none. In a paired run both builds take a turn in each round, so that the host's
pace is the same for both and drops out of ``log(new) - log(old)``; the order alternates (ABBA), so
that a steady drift drops out too.

The estimate is the 20 % trimmed mean of these differences: the fifth at each end is left out of
it, so one wild round in five does no harm on either side, which neither a mean nor a signed-rank
interval of ten rounds survives (an exact 99 % interval of the median of ten is their whole range).
Its interval is Yuen's (Yuen and Dixon 1973; Wilcox, "Introduction to Robust Estimation", 4.3):
with ``g`` values left out at each end and ``h = n - 2 g`` kept, ``s`` the standard deviation once
the values left out are replaced by the nearest that is kept (winsorised),

    error = s sqrt((n - 1) / (h (h - 1))),   Student's t with h - 1 degrees of freedom

For two samples that are not paired the errors add in squares and Welch's degrees of freedom go
with them (Yuen 1974).

A verdict of a change needs both: an interval without "no change", and a size that means something.
Two copies of one build, each in a process of its own, differ by where their memory came to lie;
below EFFECT_MIN, or below NOISES times what one round differs from the next anyway, a change is
called none, however sure. Where each build had one process for all rounds, its placement is in all
of them and no interval shows it: there PLACED_MIN stands for EFFECT_MIN. A run that would have
missed a change of COARSE (or of twice the least) says so instead of "no change seen".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median, stdev
from typing import Any

from pydpdk.bench.report import Verdict
from pydpdk.errors import HostError

CONFIDENCE = 0.99
POWER = 0.99  # if a round's noise were known; it is estimated: found seven times in ten
TRIM = 0.2
ROUNDS_MIN = 5  # fewer leave no interval after trimming
EFFECT_MIN = math.log(1.03)
PLACED_MIN = math.log(1.10)  # one build in two processes: 4 and 5 % apart in 2 of 20 tries
# Noise alone, normal, ten rounds: called a change in 1 run of 80 with 1, in 1 of 300 with 2.
NOISES = 2.0
COARSE = math.log(1.10)
FACTOR_MAX = 1e6


@dataclass(frozen=True)
class Change:
    """New over old: 1.2 is 20 % more. Where there are no figures for it, the ratios are None.

    ``low`` and ``high`` bound ``ratio`` at CONFIDENCE. ``noise``: the standard deviation of one
    round, as a share; ``detectable``: the smallest change this run would have found (0.1: 10 %).
    """

    verdict: Verdict
    rounds: int
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    noise: float | None = None
    detectable: float | None = None
    why: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Centre:
    """A trimmed mean, its error, degrees of freedom, and the winsorised standard deviation."""

    mean: float
    error: float
    freedom: float
    spread: float


def paired(old: Sequence[float], new: Sequence[float], effect_min: float = EFFECT_MIN) -> Change:
    """Rounds that were taken in turn, in order; ValueError when they are not as many.

    ``effect_min``: PLACED_MIN where each build had one process for all of them.
    """
    if len(old) != len(new):
        raise ValueError(f"{len(old)} rounds and {len(new)}: pairs are needed")
    if refused := _unusable(old, new):
        return refused
    differences = [math.log(b) - math.log(a) for a, b in zip(old, new, strict=True)]
    found = centre(differences)
    return _judge(found.mean, found.error, found.freedom, found.spread, len(old), effect_min)


def unpaired(old: Sequence[float], new: Sequence[float]) -> Change:
    """Rounds of two runs: what the host did between them counts as a change."""
    if refused := _unusable(old, new):
        return refused
    a, b = (centre([math.log(value) for value in side]) for side in (old, new))
    squares = a.error**2, b.error**2
    error = math.sqrt(sum(squares))
    freedom = min(a.freedom, b.freedom)
    if error:
        welch = sum(squares) ** 2 / sum(
            square**2 / side.freedom for square, side in zip(squares, (a, b), strict=True)
        )
        freedom = max(freedom, welch)
    spread = math.hypot(a.spread, b.spread)
    rounds = min(len(old), len(new))
    return _judge(b.mean - a.mean, error, freedom, spread, rounds, PLACED_MIN)


def centre(values: Sequence[float]) -> Centre:
    """Of at least ROUNDS_MIN values."""
    n, ordered = len(values), sorted(values)
    cut = int(TRIM * n)
    kept = ordered[cut : n - cut]
    h = len(kept)
    deviation = stdev([kept[0]] * cut + kept + [kept[-1]] * cut)
    # Winsorising takes spread away; of normal values this gives it back (0.64 for a fifth).
    return Centre(
        fmean(kept), deviation * math.sqrt((n - 1) / (h * (h - 1))), h - 1, deviation / 0.64
    )


def spread(rounds: Sequence[float]) -> float:
    """How far rounds lie about their median, as a share of it: the median distance, scaled so
    that of normal values it is the standard deviation. 0 of fewer than two."""
    middle = median(rounds) if rounds else 0.0
    if len(rounds) < 2 or middle == 0:
        return 0.0
    return 1.4826 * median(abs(value - middle) for value in rounds) / abs(middle)


def drift(rounds: Sequence[float]) -> float:
    """The last third over the first third of the rounds, as medians; 1 of fewer than six."""
    third = len(rounds) // 3
    if third < 2 or median(rounds[:third]) == 0:
        return 1.0
    return median(rounds[-third:]) / median(rounds[:third])


def _unusable(old: Sequence[float], new: Sequence[float]) -> Change | None:
    rounds = min(len(old), len(new))
    if rounds < ROUNDS_MIN:
        why = f"{rounds} rounds, at least {ROUNDS_MIN} are needed"
    elif any(not value > 0 or math.isinf(value) for value in (*old, *new)):
        why = "a round has a figure that is not above 0"
    else:
        return None
    return Change("too noisy to say", rounds, why=why)


def _judge(
    shift: float, error: float, freedom: float, spread: float, rounds: int, effect_min: float
) -> Change:
    t = student(1 - (1 - CONFIDENCE) / 2, freedom)
    floor = max(effect_min, NOISES * spread)
    detectable = max(t * error, floor) + student(POWER, freedom) * error
    low, high = shift - t * error, shift + t * error
    why = ""
    verdict: Verdict = "no change seen"
    if (low > 0 or high < 0) and abs(shift) > floor:
        verdict = "slower" if shift > 0 else "faster"
    elif detectable > max(COARSE, 2 * effect_min):
        verdict = "too noisy to say"
        why = f"a change below {factor(detectable) - 1:.0%} could not be seen"
    return Change(
        verdict, rounds, factor(shift), factor(low), factor(high),
        factor(spread) - 1, factor(detectable) - 1, why,
    )  # fmt: skip


def factor(log: float) -> float:
    """From a logarithm; what is beyond FACTOR_MAX, of noise without bound, is that."""
    return math.exp(max(-math.log(FACTOR_MAX), min(math.log(FACTOR_MAX), log)))


def student(probability: float, freedom: float) -> float:
    """The value that Student's t does not exceed with this probability. HostError without scipy."""
    try:
        from scipy.special import stdtrit
    except ImportError as error:
        raise HostError(f"verdicts need scipy ({error}): pip install 'pydpdk[bench]'") from error
    return float(stdtrit(freedom, probability))
