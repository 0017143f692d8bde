"""The highest load that passes a trial, by bisection (RFC 2544, sections 26.1 and 26.4).

A trial answers yes or no, and of a device with an edge it answers yes below. First the load grows
by a factor until a trial fails; then the interval between the last that passed and the first that
failed is halved until it is narrower than the resolution. A trial is short and a host has bad
moments, so what was found must pass again; where it does not, it counts as failed and the search
goes on below. So the result never rests on one lucky trial, and never exceeds a failed one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Search:
    """What to try: from ``start`` by ``factor`` up to ``ceiling``, then down to ``resolution``.

    ``resolution``: of the found load, as a part of it. ``confirm``: trials that the result must
    pass beside the one that found it. ``trials_max``: after so many no other search begins.
    ``floor``: where that fails, nothing below is tried.
    """

    start: int
    ceiling: int
    factor: int = 2
    resolution: float = 0.05
    confirm: int = 2
    trials_max: int = 40
    floor: int = 1


@dataclass(frozen=True)
class Edge:
    """``highest`` load that passed every trial, 0: none; ``failed``: the lowest that did not.

    ``failed`` is None where even the ceiling passed. ``confirmed``: it passed again each time.
    """

    highest: int
    failed: int | None
    confirmed: bool = True


def find(passes: Callable[[int], bool], search: Search) -> Edge:
    """Run trials until the edge is known."""
    trials = 0

    def trial(load: int) -> bool:
        nonlocal trials
        trials += 1
        return passes(load)

    low, high = _ramp(trial, search)
    while True:
        low, high = _halve(trial, low, high, search)
        if low == 0 or all(trial(low) for _ in range(search.confirm)):
            return Edge(low, high)
        low, high = 0, low
        if trials >= search.trials_max:
            low, high = _halve(trial, low, high, search)
            return Edge(low, high, confirmed=False)


def _ramp(passes: Callable[[int], bool], search: Search) -> tuple[int, int | None]:
    low, load = 0, search.start
    while passes(load):
        low = load
        if load == search.ceiling:
            return low, None
        load = min(load * search.factor, search.ceiling)
    return low, load


def _halve(
    passes: Callable[[int], bool], low: int, high: int | None, search: Search
) -> tuple[int, int | None]:
    narrow = search.resolution
    while high is not None and high > search.floor and high - low > max(1, high * narrow):
        middle = (low + high) // 2
        if passes(middle):
            low = middle
        else:
            high = middle
    return low, high
