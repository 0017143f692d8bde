"""Two builds in turn: each in a process of its own, round by round on the same core.

In each round every series is measured on both, one right after the other, a short one several
times over; who begins changes each time (ABBA). Both work on the same session files. Peers are left
out: they are the same on both sides. Floors stay, for they are the control: a floor that changed
tells of the measurement, not of the build.

Where memory comes to lie is decided once in the life of a process, and can make a loop half as slow
again: seen here for a copy within 256 KiB, the very same code in two processes. All rounds of one
pair of processes would then agree on a change that is none. So each round has a pair of its own,
which warms up, and what placement does is noise like all other; ``keep`` gives that up for speed.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pydpdk
from pydpdk.bench import clocks, compare, data, meters, run, statistics, trees
from pydpdk.bench.measure import Case, Series
from pydpdk.bench.trees import Build
from pydpdk.bench.wires.agents import Refused, Told
from pydpdk.core.hist import Hist
from pydpdk.errors import HostError, UsageError

PROTOCOL = 2
ANSWER_S = 600.0
TURNS, ROUND_S = 16, 0.2  # of a series in a round: whichever comes first
ROLES = ("ours", "floor")
Tick = Callable[[], None]


class Side(Told):
    """A ``pydpdk.bench.worker`` of a build, as a context manager."""

    def __init__(self, build: Build, cores: list[int]) -> None:
        self.build = build
        command = [build.python, "-m", "pydpdk.bench.worker", ",".join(map(str, cores)),
                   str(build.planted)]  # fmt: skip
        super().__init__(subprocess.Popen, command, ANSWER_S, env=build.env)

    def hello(self) -> dict[str, Any]:
        """Which build it really is. UsageError for one that cannot be measured in turn, and for
        this one where its processes are of another."""
        try:
            told = self.ask("hello")
        except HostError as error:
            if "No module named" in str(error):
                raise UsageError(f"{self.build.label} {trees.TOO_OLD}") from error
            raise
        if told.get("protocol") != PROTOCOL:
            raise UsageError(
                f"{self.build.label}: its worker speaks protocol {told.get('protocol')}, "
                f"this one {PROTOCOL}"
            )
        mine = str(Path(str(pydpdk.__file__)).resolve().parent)
        if self.build.own and told["package"] != mine:
            raise UsageError(
                f"{self.build.label} is {mine}, but processes that it starts import "
                f"{told['package']}: pip install this one, or let PYTHONPATH lead to it"
            )
        return told


class Pair:
    """Old and new. ``told``: what each says it is; ``keep``: one process each for all rounds."""

    def __init__(self, old: Build, new: Build, market: data.Market, keep: bool) -> None:
        self.builds = old, new
        self.market = market
        self.keep = keep
        with self._sides() as sides:
            self.told = [side.hello() for side in sides]

    def must_differ(self) -> None:
        """UsageError when both are the same files."""
        old, new = self.told
        if all(old[name] == new[name] for name in ("package", "core")):
            raise UsageError(
                f"{self.builds[0].label} is this build ({new['package']}): for the noise of "
                "the measurement itself say --against self"
            )

    def measure(
        self, name: str, rounds: int, tick: Tick = lambda: None, only: str = ""
    ) -> dict[str, Any]:
        """A case, or one series of it, compared pair by pair; ``tick`` after each pair may raise
        KeyboardInterrupt, then it holds the whole rounds until there."""
        duel = Duel(name, only)
        meter = meters.Meter(meters.used(self.market.cores))
        interrupted = False
        try:
            done = 0
            while done < rounds:
                at_once = rounds if self.keep else 1
                with self._sides() as sides:
                    duel.run(sides, at_once, done, tick)
                done += at_once
        except KeyboardInterrupt:
            interrupted = True
        except HostError as error:
            return run.skipped(name, str(error)) | {"ungated": [str(error)] * (not duel.neither)}
        if not duel.cases:
            return run.skipped(name, "interrupted in its first round") | {"interrupted": True}
        old, new = duel.results()
        least = statistics.PLACED_MIN if self.keep else statistics.EFFECT_MIN
        judge = partial(statistics.paired, effect_min=least)
        return (
            compare.compared(old, new, judge)
            | duel.one_sided
            | {
                "facts": new["facts"],
                "interrupted": interrupted,
                "meanwhile": meter.stop(duel.own_s, duel.preempted),
            }
        )

    @contextmanager
    def _sides(self) -> Iterator[list[Side]]:
        market = self.market
        size = [market.size.messages, market.size.instruments, market.size.live_orders]
        both, alone = str(market.both.absolute()), str(market.alone.absolute())
        with ExitStack() as stack:
            # Both start at once, each on the core that is theirs.
            sides = [stack.enter_context(Side(build, market.cores)) for build in self.builds]
            for side in sides:
                side.hello()
                side.ask("session", both=both, alone=alone, size=size)
            yield sides


class Duel:
    """A case on two sides, over as many processes as it takes: the rounds that each side had.

    ``one_sided``: series of one side only, see compare; ``neither`` can run it.
    """

    def __init__(self, name: str, only: str) -> None:
        self.name, self.only = name, only
        self.cases: list[Case] = []
        self.one_sided: dict[str, Any] = {}
        self.neither = False
        self.own_s, self.preempted = 0.0, 0

    def run(self, sides: list[Side], rounds: int, first: int, tick: Tick) -> None:
        """A round to warm up and ``rounds`` that count, of which ``first`` went before."""
        opened, refused = [], []
        for side in sides:
            try:
                opened.append(side.ask("open", name=self.name))
            except Refused as error:
                refused.append(f"{side.build.label}: {error}")
        if refused:
            self.neither = not opened
            raise Refused("; ".join(refused))
        places = self._places(opened)
        try:
            for number in range(rounds + 1):
                self._round(sides, places, counts=number > 0, swapped=(first + number) % 2 > 0)
                tick()
        except KeyboardInterrupt:
            self._close(sides)
            raise
        self._close(sides)

    def _close(self, sides: list[Side]) -> None:
        """The case is over on both; a side that failed is not asked, it may be gone."""
        for side, case in zip(sides, self.cases, strict=True):
            told = side.ask("close")
            case.facts, case.missing = told["facts"], told["missing"]
            self.own_s += told["own_s"]
            self.preempted += told["preempted"]

    def results(self) -> tuple[dict[str, Any], dict[str, Any]]:
        for case in self.cases:
            case.keep_whole()
        old, new = (case.result() for case in self.cases)
        return old, new

    def _places(self, opened: list[dict[str, Any]]) -> list[list[int]]:
        """Where on each side the series stand that both have and that count."""
        where = [{series[0]: i for i, series in enumerate(one["series"])} for one in opened]
        count = [
            {
                name: role
                for name, role, _ in one["series"]
                if role in ROLES and self.only in ("", name)
            }
            for one in opened
        ]
        self.one_sided = compare.one_sided(*count)
        chosen = [one for one in opened[1]["series"] if all(one[0] in side for side in count)]
        if not self.cases:
            self.cases = [
                Case(self.name, one["per"], [Series(name, role, _elsewhere, against)
                     for name, role, against in chosen], unit=one["unit"], better=one["better"])
                for one in opened
            ]  # fmt: skip
        names = [name for name, _, _ in chosen]
        for case in self.cases:
            if names != [series.name for series in case.series]:
                raise HostError(
                    f"{self.name}: its series differ from one process to the next "
                    f"({', '.join(series.name for series in case.series)}, then "
                    f"{', '.join(names)}): their rounds do not belong together"
                )
        return [[one[name] for one in where] for name in names]

    def _round(
        self, sides: list[Side], places: list[list[int]], counts: bool, swapped: bool
    ) -> None:
        for number, place in enumerate(places):
            order = [1, 0] if swapped else [0, 1]
            until = time.monotonic() + ROUND_S
            for _ in range(TURNS):
                told = [sides[i].ask("turn", series=place[i]) for i in order]
                order.reverse()
                if not all(one["again"] for one in told) or time.monotonic() > until:
                    break
            for i, side in enumerate(sides):
                settled = side.ask("settle", series=place[i])
                if counts:
                    hists = {of: Hist.decode(text) for of, text in settled["hists"].items()}
                    self.cases[i].series[number].add(settled["figure"], hists)


def _elsewhere() -> float:
    raise AssertionError("it runs in a worker")


def against(
    names: list[str],
    other: str,
    *,
    size: data.Size,
    rounds: int,
    folder: Path,
    keep: bool = False,
    generating: Callable[[int], None] = lambda done: None,
    notify: run.Notify = lambda what: None,
    tick: Tick = lambda: None,
) -> dict[str, Any]:
    """The named cases of this build and of ``other`` (see trees.resolve) in turn, as a result of
    kind ``against``; ``keep``: in the same two processes for all rounds of a case."""
    statistics.student(statistics.CONFIDENCE, 1)  # without scipy: say so before all the work
    with ExitStack() as stack:
        old = stack.enter_context(trees.resolve(other, notify))
        watch = clocks.Watch()
        before = run.opening(size, rounds, "against")
        market = market_of(folder, size, generating)
        before["stalls"] = {"before": meters.stalls(meters.used(market.cores))}
        pair = Pair(old, trees.here(), market, keep)
        if other != "self":
            pair.must_differ()
        cases = []
        for name in names:
            notify(f"measuring {name}")
            cases.append(pair.measure(name, rounds, tick))
            if cases[-1].get("interrupted"):
                break
        before |= {"old": {"label": other, **pair.told[0]}, "new": pair.told[1]}
        return run.closing(before, cases, market.cores, watch)


def market_of(folder: Path, size: data.Size, progress: Callable[[int], None]) -> data.Market:
    """The session that both sides share."""
    both, alone = data.session_files(folder, size, progress)
    return data.Market(size, both, alone, sorted(os.sched_getaffinity(0)))
