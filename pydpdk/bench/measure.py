"""Rounds and ratios.

The series of a case (ours, floors, peers) run in turn, once a round, so that a change of the
host's pace meets all of them. The first round warms up and is thrown away. A ratio is the
median of the rounds' ratios, pair by pair, never a ratio of figures from different moments.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

import numpy as np

Role = Literal["ours", "floor", "peer"]


@dataclass
class Series:
    """One thing that is measured: ``run()`` gives a figure of a round in the case's unit.

    ``against`` names the series of the same case that ratios are taken to. ``samples``: where
    single figures count too, all of them by what they are of, added by ``run``.
    """

    name: str
    role: Role
    run: Callable[[], float]
    against: str = ""
    rounds: list[float] = field(default_factory=list)
    samples: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class Case:
    """Series measured together. ``per``: what one figure is of; ``facts``: what was run on.

    ``missing``: series that cannot be measured here, and why.
    """

    name: str
    per: str
    series: list[Series]
    facts: dict[str, Any] = field(default_factory=dict)
    unit: str = "ns"
    missing: dict[str, str] = field(default_factory=dict)

    def measure(self, rounds: int, tick: Callable[[], None] = lambda: None) -> None:
        """One round to warm up, then ``rounds`` that count; ``tick`` after each series' turn."""
        gc.collect()
        gc.disable()
        try:
            for number in range(rounds + 1):
                for series in self.series:
                    figure = series.run()
                    if number:
                        series.rounds.append(figure)
                    else:
                        series.samples.clear()
                    tick()
        finally:
            gc.enable()

    def result(self) -> dict[str, Any]:
        """The case as plain values."""
        by_name = {series.name: series for series in self.series}
        return {
            "name": self.name,
            "unit": f"{self.unit}/{self.per}",
            "facts": self.facts,
            "series": [_row(series, by_name.get(series.against)) for series in self.series],
            "missing": self.missing,
        }


def _row(series: Series, base: Series | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": series.name,
        "role": series.role,
        "rounds": len(series.rounds),
        "min": min(series.rounds),
        "median": median(series.rounds),
        "max": max(series.rounds),
    }
    if base is not None:
        pairs = zip(series.rounds, base.rounds, strict=True)
        row["against"] = base.name
        row["ratio"] = median(mine / theirs for mine, theirs in pairs)
    if series.samples:
        row["percentiles"] = {of: percentiles(all_) for of, all_ in series.samples.items()}
    return row


def percentiles(figures: list[float]) -> dict[str, float]:
    """Count, p50, p90, p99, p99.9 and max."""
    points = np.percentile(figures, [50, 90, 99, 99.9, 100])
    names = ("p50", "p90", "p99", "p99.9", "max")
    return {"count": len(figures), **dict(zip(names, map(float, points), strict=True))}


def timed(work: Callable[[], int]) -> float:
    """ns of this thread's processor time per unit; ``work`` returns how many units it did.

    Processor time, because what another process did meanwhile is no cost of ours.
    """
    begun = time.thread_time_ns()
    units = work()
    spent = time.thread_time_ns() - begun
    if units <= 0:
        raise RuntimeError("a measured loop did nothing")
    return spent / units
