"""Two builds in turn: each in a process of its own, round by round on the same core.

In each round every series is measured on both, one right after the other, a short one several
times over; who begins changes each time (ABBA). Both work on the same session files. Peers are left
out: they are the same on both sides. Floors stay, for they are the control: a floor that changed
tells of the measurement, not of the build.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pydpdk.bench import compare, data, meters, run, trees
from pydpdk.bench.agents import Refused, Told
from pydpdk.bench.trees import Build
from pydpdk.errors import HostError, UsageError

PROTOCOL = 1
ANSWER_S = 600.0
TURNS, ROUND_S = 16, 0.2  # of a series in a round: whichever comes first
ROLES = ("ours", "floor")
Tick = Callable[[], None]


class Side(Told):
    """A ``pydpdk.bench.worker`` of a build, as a context manager."""

    def __init__(self, build: Build, cores: list[int]) -> None:
        self.build = build
        command = [build.python, "-m", "pydpdk.bench.worker", ",".join(map(str, cores))]
        super().__init__(subprocess.Popen, command, ANSWER_S, env=os.environ | build.env)

    def hello(self) -> dict[str, Any]:
        """Which build it really is. UsageError for one that cannot be measured in turn."""
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
        return told


class Pair:
    """Old and new, ready to measure cases; ``told`` is what each says it is."""

    def __init__(self, old: Side, new: Side, market: data.Market) -> None:
        self.cores = market.cores
        self.sides = [old, new]
        self.told = [side.hello() for side in self.sides]
        size = market.size
        for side in self.sides:
            side.ask(
                "session", both=str(market.both.absolute()), alone=str(market.alone.absolute()),
                size=[size.messages, size.instruments, size.live_orders],
            )  # fmt: skip

    def must_differ(self) -> None:
        """UsageError when both are the same files."""
        old, new = self.told
        if all(old[name] == new[name] for name in ("package", "core")):
            raise UsageError(
                f"{self.sides[0].build.label} is this build ({new['package']}): for the noise of "
                "the measurement itself say --against self"
            )

    def measure(
        self, name: str, rounds: int, tick: Tick = lambda: None, only: str = ""
    ) -> dict[str, Any]:
        """A case, or one series of it, compared pair by pair; ``tick`` after each pair may raise
        KeyboardInterrupt, then it holds the whole rounds until there."""
        meter = meters.Meter(meters.used(self.cores))
        interrupted = False
        try:
            series = self._open(name, only)
            self._rounds(series, rounds, tick)
        except KeyboardInterrupt:
            interrupted = True
        except Refused as error:
            for side in self.sides:
                side.ask("close")
            return run.skipped(name, str(error))
        told = [side.ask("close") for side in self.sides]
        old, new = (one["case"] for one in told)
        own_s, preempted = (sum(one[key] for one in told) for key in ("own_s", "preempted"))
        return compare.compared(old, new, paired=True) | {
            "facts": new["facts"],
            "interrupted": interrupted,
            "meanwhile": meter.stop(own_s, preempted),
        }

    def _open(self, name: str, only: str) -> list[tuple[int, int]]:
        """Places of the series that both have and that count."""
        told = []
        for side in self.sides:
            try:
                told.append(side.ask("open", name=name)["series"])
            except Refused as error:
                raise Refused(f"{side.build.label}: {error}") from error
        first, second = ({series: i for i, (series, _) in enumerate(one)} for one in told)
        return [
            (first[series], second[series])
            for series, role in told[1]
            if role in ROLES and series in first and only in ("", series)
        ]

    def _rounds(self, series: list[tuple[int, int]], rounds: int, tick: Tick) -> None:
        for number in range(rounds + 1):
            for places in series:
                order = [0, 1] if number % 2 else [1, 0]
                until = time.monotonic() + ROUND_S
                for _ in range(TURNS):
                    told = [self.sides[i].ask("turn", series=places[i]) for i in order]
                    order.reverse()
                    if not all(one["again"] for one in told) or time.monotonic() > until:
                        break
                for side, place in zip(self.sides, places, strict=True):
                    side.ask("settle", series=place, counts=number > 0)
                tick()


def against(
    names: list[str],
    other: str,
    *,
    size: data.Size,
    rounds: int,
    folder: Path,
    generating: Callable[[int], None] = lambda done: None,
    notify: run.Notify = lambda what: None,
    tick: Tick = lambda: None,
) -> dict[str, Any]:
    """The named cases of this build and of ``other`` (see trees.resolve) in turn, as a result of
    kind ``against``."""
    with ExitStack() as stack:
        old = stack.enter_context(trees.resolve(other, notify))
        before = run.opening(size, rounds, "against")
        market = market_of(folder, size, generating)
        before["stalls"] = {"before": meters.stalls(meters.used(market.cores))}
        sides = [Side(build, market.cores) for build in (old, trees.here())]
        first, second = map(stack.enter_context, sides)
        pair = Pair(first, second, market)
        if other != "self":
            pair.must_differ()
        cases = []
        for name in names:
            notify(f"measuring {name}")
            cases.append(pair.measure(name, rounds, tick))
            if cases[-1].get("interrupted"):
                break
        before |= {"old": {"label": other, **pair.told[0]}, "new": pair.told[1]}
        return run.closing(before, cases, market.cores)


def market_of(folder: Path, size: data.Size, progress: Callable[[int], None]) -> data.Market:
    """The session that both sides share."""
    both, alone = data.session_files(folder, size, progress)
    return data.Market(size, both, alone, sorted(os.sched_getaffinity(0)))
