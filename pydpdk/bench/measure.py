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

from pydpdk.hist import Hist

Role = Literal["ours", "floor", "peer"]


@dataclass
class Series:
    """One thing that is measured: ``run()`` gives a figure of a round in the case's unit.

    ``against`` names the series of the same case that ratios are taken to. ``hists``: where
    single figures count too, all of them (ns) by the two events they lie between, as
    "service: sent to seen"; ``run`` adds them.
    """

    name: str
    role: Role
    run: Callable[[], float]
    against: str = ""
    rounds: list[float] = field(default_factory=list)
    hists: dict[str, Hist] = field(default_factory=dict)


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
                        series.hists.clear()
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
    if series.hists:
        row["percentiles"] = {of: hist.percentiles() for of, hist in series.hists.items()}
        row["hists"] = {of: hist.encode() for of, hist in series.hists.items()}
    return row


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
