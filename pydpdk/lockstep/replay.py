"""A replay: sources, engine and desk in one thread, in lockstep on the record clock.

A cycle is one engine step, whose records are one batch for the desk. Nothing in it reads a clock
but to measure, so the outcome is a function of the input.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pydpdk.core import counters
from pydpdk.core.closes import Closes
from pydpdk.core.event import Events, join
from pydpdk.core.hist import Hist
from pydpdk.core.ring import Reader
from pydpdk.engine.engine import AGAIN, Engine
from pydpdk.engine.feed import Feed
from pydpdk.engine.survey import find_feeds
from pydpdk.errors import DataError, UsageError
from pydpdk.gateway.sim import SimVenue
from pydpdk.lockstep.account import broken_sources, loop_result, unexplained
from pydpdk.lockstep.result import PROFIT, Result, exact, levels, positions
from pydpdk.source.source import open_sources
from pydpdk.stage.stage import Stage, arguments, load_strategy
from pydpdk.trade.desk import NO_ORDERS, Desk, Trading
from pydpdk.trade.fills import Fills
from pydpdk.trade.limits import RiskConfig
from pydpdk.trade.risk import Risk

PATIENCE = 0.05  # seconds that a paced replay sleeps before it looks whether to stop
STALL_S = 10.0  # that another reader of the ring may hold the replay up without reading
NAP_S = 1e-3
FOREVER = 2**64 - 1
Progress = Callable[[int, int], None]
Sources = str | Path | Sequence[str | Path]
Feeds = str | Feed | Sequence[str | Feed] | None
Strategy = Stage | type[Stage] | str | None
Params = Mapping[str, Any] | Iterable[str]
Limited = RiskConfig | str | Path | None
Watch = Callable[[Events], None]


class BrokenSourceError(DataError):
    """A source broke; ``result`` is that of the replay of all that was whole before."""

    def __init__(self, result: Result) -> None:
        super().__init__("\n".join(result.problems))
        self.result = result


def replay(
    sources: Sources,
    feeds: Feeds = None,
    strategy: Strategy = None,
    params: Params = (),
    *,
    limits: Limited = None,
    on_events: Watch | None = None,
    keep_events: bool = False,
    speed: float = 0.0,
    checksum: str = "auto",
    burst: int = 64,
    batch_us: int = 100,
    until_ns: int = FOREVER,
) -> Result:
    """Run captures through the whole pipeline to their end, and return all that came of it.

    The same input gives the same result, but for what a clock measured (``times``).

    ``sources``: a path or source string, or several, which are merged by time stamp.

    ``feeds``: ``"itch50"``, ``"itch50@A_ADDRESS:PORT,B_ADDRESS:PORT"`` or a Feed, or several.
    What they leave open is found in the captures, with None every feed that is spoken there. A
    Feed that names its lines is taken as it is: its ``midnight_ns`` too.

    ``strategy``: a Stage, a class of them, or ``"file.py:Class"``; it trades against a simulated
    venue. ``params``: arguments of the class, by name or as ``"name=value"``.

    ``limits`` of risk: a RiskConfig or the path of a TOML file; None: mild defaults.

    ``on_events`` sees every batch of records: read-only, valid during the call. ``keep_events``:
    they stay in the result, 64 bytes each.

    ``speed``: 0 as fast as it can, 1 at the capture's own pace, 10 at ten times that.

    ``checksum``: of wrong ones, "auto" counts and accepts, "verify" drops, "ignore" does not look.
    ``burst``: packets taken at once. ``batch_us``: record-clock interval that a stage sees as one
    batch. ``until_ns``: packets stamped later end the replay.

    Errors: UsageError for a wrong argument or strategy file; DataError for input that is missing,
    of another format or without the feed; BrokenSourceError, which has the result of what was
    whole; StageError when the strategy raised; HostError when DPDK is needed and lacks something.
    Nothing stays open.
    """
    with Replay(
        sources, feeds, strategy, params, limits=limits, on_events=on_events, keep=True,
        keep_events=keep_events, speed=speed, checksum=checksum, burst=burst, batch_us=batch_us,
        until_ns=until_ns,
    ) as run:  # fmt: skip
        run.run()
        result = run.result()
    if result.problems:
        raise BrokenSourceError(result)
    return result


class Replay(Closes):
    """A replay that is open, for those who want to watch it, to stop it or to look into it.

        with pydpdk.Replay("day.pcap") as replay:
            while replay.cycle():
                print(replay.engine.now, replay.engine.feeds[0].books.top(1))

    Arguments and errors are those of replay(). ``keep``: orders sent, execution reports and the
    profit over time stay, else they are only counted. ``options`` are the Engine's, which is
    ``engine``; ``desk`` has the strategy with its ``risk`` and ``fills``, None without one.
    """

    def __init__(
        self,
        sources: Sources,
        feeds: Feeds = None,
        strategy: Strategy = None,
        params: Params = (),
        *,
        limits: Limited = None,
        on_events: Watch | None = None,
        keep: bool = False,
        keep_events: bool = False,
        speed: float = 0.0,
        **options: Any,
    ) -> None:
        stage = _stage(strategy, params)
        config = _limits(limits) if isinstance(limits, str | Path) else limits
        specs = [str(spec) for spec in _several(sources)]
        if not specs:
            raise UsageError("no source: name a capture")
        self.speed = speed
        self.interrupted = False
        self.events_read = 0
        self.read_times = Hist()
        self._watchers = [on_events] if on_events else []
        self._events: list[Events] = []
        if keep_events:
            self._watchers.append(lambda events: self._events.append(join([events])))
        self._pace: tuple[int, int] | None = None
        with ExitStack() as stack:
            found = _feeds(feeds, specs)
            self.engine = stack.enter_context(Engine(open_sources(specs), found, **options))
            assert self.engine.ring is not None
            self._reader = stack.enter_context(Reader(fd=self.engine.ring.fd, from_start=True))
            self.desk: Desk | None = None
            if stage:
                risk = stack.enter_context(Risk(config, feeds=len(found)))
                venue = stack.enter_context(SimVenue())
                self.desk = Desk(Trading(stage, risk, venue), keep=keep)
                for feed in self.engine.feeds:
                    self.desk.attach(feed.index, feed.books, feed.gaps_pointer)
            self._stack = stack.pop_all()

    def run(self, progress: Progress | None = None, stop: Callable[[], bool] | None = None) -> None:
        """Run to the end of every source, or until ``stop()``.

        ``progress(frames, now)`` is called about ten times a second.
        """
        due = 0.0
        while self.cycle(stop):
            if stop and stop():
                self.engine.stop()
            if progress and time.monotonic() >= due:
                progress(self.engine.counters()["frames_received"], self.engine.now)
                due = time.monotonic() + 0.1
        if self.desk:
            self.desk.finish(self.engine.now)
        self.interrupted = bool(stop and stop())
        if progress:
            progress(self.engine.counters()["frames_received"], self.engine.now)

    def cycle(self, stop: Callable[[], bool] | None = None) -> bool:
        """One engine step and all that follows from it; False after the last.

        ``stop()`` ends a wait for the capture's pace, or for another reader of the ring.
        DataError when such a reader reads nothing for STALL_S.
        """
        begun = time.perf_counter_ns()
        rc = self.engine.step()
        if rc == AGAIN:
            return self._wait_for_room(stop)
        stepped = time.perf_counter_ns() - begun
        self._keep_pace(stop)
        begun = time.perf_counter_ns() - stepped
        while self._reader.ready():
            read = time.perf_counter_ns()
            events = self._reader.batch(self._reader.slots)
            self.read_times.add(time.perf_counter_ns() - read)
            self.events_read += len(events)
            for watch in self._watchers:
                watch(events)
            if self.desk:
                self.desk.on_batch(events, self.engine.now, begun)
            self._reader.release()
        return rc >= 0

    def _wait_for_room(self, stop: Callable[[], bool] | None) -> bool:
        """Until the slowest other reader moves; False when it was stopped."""
        ring = self.engine.ring
        assert ring is not None
        first, begun = self._slowest(), time.monotonic()
        while (slowest := self._slowest()) == first and slowest[1] < ring.stats().written:
            if stop and stop():
                return False
            if time.monotonic() - begun > STALL_S:
                pid, read = slowest
                raise DataError(
                    f"the block reader of process {pid} has read nothing for {STALL_S:g} s after "
                    f"{read:,} records, and a lockstep replay cannot go on without it"
                )
            time.sleep(NAP_S)
            ring.reap()
        return True

    def _slowest(self) -> tuple[int, int]:
        """Process and position of the block reader that is furthest behind."""
        assert self.engine.ring is not None
        readers = [r for r in self.engine.ring.stats().readers if r.policy == "block"]
        last = min(readers, key=lambda reader: reader.read)
        return last.pid, last.read

    def _keep_pace(self, stop: Callable[[], bool] | None) -> None:
        if not self.speed or not self.engine.now:
            return
        if self._pace is None:
            self._pace = (time.monotonic_ns(), self.engine.now)
        began, first = self._pace
        due = began + (self.engine.now - first) / self.speed
        while (ahead := due - time.monotonic_ns()) > 0 and not (stop and stop()):
            time.sleep(min(ahead / 1e9, PATIENCE))

    def close(self) -> None:
        """Close sources, engine and all else, as the end of a ``with`` does."""
        self._stack.close()

    def accounts(self) -> dict[str, Any]:
        """Say what came in, was built, traded and lost, as ``pydpdk replay --json`` prints it.

        ``unexplained`` is 0 when every account closes.
        """
        totals = self.engine.counters()
        loop = loop_result(self.engine)
        orders = self.desk.result() if self.desk else None
        left = unexplained(totals, loop["sequence"], self.events_read, orders)
        return {
            **loop,
            "lines": [{"feed": str(feed.spec), **line} for feed in self.engine.feeds
                      for line in feed.lines()],
            "orders": orders or NO_ORDERS,
            "latency_ns": self._latency(),
            "events": {"written": totals["events_written"], "lost": totals["events_lost"]},
            "counters": counters.nonzero(totals),
            "unexplained": left,
            "interrupted": self.interrupted,
            "problems": broken_sources(self.engine),
        }  # fmt: skip

    def result(self) -> Result:
        """Give back all that came of it so far, in copies that outlive it."""
        symbols, desk = self.engine.instruments(), self.desk
        return Result(
            accounts=self.accounts(),
            symbols=symbols,
            books=levels(self.engine),
            orders=join(desk.records["sent"] if desk else []),
            reports=join(desk.records["reports"] if desk else []),
            positions=positions(desk.fills if desk else Fills(), symbols),
            profit=exact(desk.profits if desk else [], PROFIT),
            times={name: hist.copy() for name, hist in self.times().items()},
            events=self.events(),
        )

    def events(self) -> Events:
        """Give the records so far; none but with ``keep_events``."""
        return join(self._events)

    def _latency(self) -> dict[str, dict[str, int]]:
        return {name: hist.percentiles() for name, hist in self.times().items()}

    def times(self) -> dict[str, Hist]:
        """Times of each part that has counted any, by its name (``pydpdk times --explain``)."""
        hists = self.engine.times() | {"read": self.read_times}
        if self.desk:
            hists |= self.desk.times
        return {name: hist for name, hist in hists.items() if hist.count}


def _several(given: Any) -> list[Any]:
    """What may be given as one or as several, as a list."""
    return [given] if isinstance(given, str | Path | Feed) else list(given)


def _limits(path: str | Path) -> RiskConfig:
    from pydpdk.trade.limits_file import load_config  # imports msgspec, spared without a file

    return load_config(path)


def _stage(strategy: Strategy, params: Params) -> Stage | None:
    if isinstance(strategy, str):
        return load_strategy(strategy, params)
    if isinstance(strategy, type):
        made: Stage = strategy(**arguments(strategy.__name__, strategy, params))
        return made
    if params:
        raise UsageError("params are for a strategy's class: this one is made already, or None")
    return strategy


def _feeds(given: Feeds, specs: Sequence[str]) -> list[Feed]:
    if given is None:
        return find_feeds(None, specs)
    wanted = _several(given)
    feeds = [Feed.parse(feed) if isinstance(feed, str) else feed for feed in wanted]
    whole = all(isinstance(feed, Feed) and feed.lines for feed in wanted)
    return feeds if whole else find_feeds(feeds, specs)
