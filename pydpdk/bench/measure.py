"""Rounds and ratios.

The series of a case (ours, floors, peers) run in turn, once a round, so that a change of the
host's pace meets all of them. The first round warms up and is thrown away. A ratio is the
median of the rounds' ratios, pair by pair, never a ratio of figures from different moments.

Where builds are compared, a short run is repeated within its round, in turn with that of the other
build, and the round counts with the best: what disturbs such a loop only ever slows it, and it does
so for tens of milliseconds at a time, so both see it when they alternate faster than that.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

from pydpdk.core.hist import Hist

Role = Literal["ours", "floor", "peer"]
Best = Callable[[list[float]], float]


@dataclass
class Series:
    """One thing that is measured: ``run()`` gives a figure of a round in the case's unit.

    ``against`` names the series of the same case that ratios are taken to. ``hists``: where
    single figures count too, all of them (ns) by the two events they lie between, as
    "service: sent to seen"; ``run`` adds those of its turn, ``totals`` are those of all rounds
    and ``points`` the distribution points of each round. ``once``: a run uses something up.
    """

    name: str
    role: Role
    run: Callable[[], float]
    against: str = ""
    rounds: list[float] = field(default_factory=list)
    hists: dict[str, Hist] = field(default_factory=dict)
    once: bool = False
    totals: dict[str, Hist] = field(default_factory=dict)
    points: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    _taken: list[float] = field(default_factory=list)

    def turn(self) -> None:
        """Its part of a round, or one of several."""
        self._taken.append(self.run())

    @property
    def repeats(self) -> bool:
        """May it have several turns a round? Not where the figures of one are a sample already."""
        return not (self.once or self.hists)

    def settle(self, best: Best) -> tuple[float, dict[str, Hist]]:
        """Its round is over: the figure of its best turn, and its single figures."""
        told = best(self._taken), dict(self.hists)
        self._taken.clear()
        self.hists.clear()
        return told

    def add(self, figure: float, hists: dict[str, Hist]) -> None:
        """A round that counts."""
        self.rounds.append(figure)
        for of, hist in hists.items():
            self.totals.setdefault(of, Hist()).merge(hist)
            points = self.points.setdefault(of, {})
            for name, value in hist.percentiles().items():
                points.setdefault(name, []).append(value)

    def keep(self, rounds: int) -> None:
        """Only the first rounds: those that every series of the case has."""
        del self.rounds[rounds:]
        for points in self.points.values():
            for values in points.values():
                del values[rounds:]


@dataclass
class Case:
    """Series measured together. ``per``: what one figure is of; ``facts``: what was run on.

    ``missing``: series that cannot be measured here, and why. ``better``: of its figures, as rates
    are better the higher; single figures are times, the lower the better.
    """

    name: str
    per: str
    series: list[Series]
    facts: dict[str, Any] = field(default_factory=dict)
    unit: str = "ns"
    missing: dict[str, str] = field(default_factory=dict)
    better: Literal["lower", "higher"] = "lower"

    def measure(self, rounds: int, tick: Callable[[], None] = lambda: None) -> None:
        """One round to warm up, then ``rounds`` that count; ``tick`` after each series' turn.

        Whole rounds stay when it is interrupted.
        """
        gc.collect()
        gc.disable()
        try:
            for number in range(rounds + 1):
                for series in self.series:
                    series.turn()
                    told = series.settle(self.best)
                    if number:
                        series.add(*told)
                    tick()
        finally:
            gc.enable()
            self.keep_whole()

    @property
    def best(self) -> Best:
        """Of several figures: the highest rate, the least of anything else."""
        return max if self.better == "higher" else min

    def keep_whole(self) -> None:
        """Only rounds that every series took part in; one that never did has no say."""
        whole = min((len(series.rounds) for series in self.series if series.rounds), default=0)
        for series in self.series:
            series.keep(whole)

    def result(self) -> dict[str, Any]:
        """The case as plain values."""
        ran = [series for series in self.series if series.rounds]
        by_name = {series.name: series for series in ran}
        return {
            "name": self.name,
            "unit": f"{self.unit}/{self.per}",
            "better": self.better,
            "facts": self.facts,
            "series": [_row(series, by_name.get(series.against)) for series in ran],
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
        "figures": series.rounds,
    }
    if base is not None:
        pairs = zip(series.rounds, base.rounds, strict=True)
        row["against"] = base.name
        row["against_role"] = base.role
        row["ratio"] = median(mine / theirs for mine, theirs in pairs)
    if series.totals:
        row["percentiles"] = {of: hist.percentiles() for of, hist in series.totals.items()}
        row["hists"] = {of: hist.encode() for of, hist in series.totals.items()}
        row["points"] = series.points
    return row


planted = 1.0  # what a timed loop costs more than it does, to prove that it would be seen


def timed(work: Callable[[], int]) -> float:
    """ns of this thread's processor time per unit; ``work`` returns how many units it did.

    Processor time, because what another process did meanwhile is no cost of ours.
    """
    begun = time.thread_time_ns()
    units = work()
    spent = time.thread_time_ns() - begun
    until = spent * planted
    while spent < until:
        spent = time.thread_time_ns() - begun
    if units <= 0:
        raise RuntimeError("a measured loop did nothing")
    return spent / units
