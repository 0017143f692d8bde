"""The stage process of a run: one strategy, its risk and a simulated venue, fed by a ring.

The ring is mapped read-only and the process has no capabilities. Batches end where the engine
says (EVENT_MARK), so the strategy decides as it would in a replay of what was recorded, however
late it is. Its books are rebuilt from the records. It ends when the ring is closed and drained.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from pydpdk._core import lib
from pydpdk.core.closes import Closes
from pydpdk.core.event import EVENT, Events, join
from pydpdk.core.hist import Hist
from pydpdk.core.layout import UNDEF_PRICE
from pydpdk.core.ring import Reader
from pydpdk.core.utc import ClockDomainError, Utc, same_domain
from pydpdk.engine.feed import Feed
from pydpdk.engine.mirror import Mirror
from pydpdk.errors import PydpdkError
from pydpdk.gateway.sim import SimVenue
from pydpdk.process import config as configuration
from pydpdk.process import rundir
from pydpdk.process.engine_process import Speaker
from pydpdk.process.times import TRADER, Times
from pydpdk.stage.stage import StageError, load_strategy
from pydpdk.trade.desk import Desk, Trading
from pydpdk.trade.risk import Risk

WAIT_S = 0.2
STATUS_S = 0.5
BATCH_MAX = 4096


class Batches:
    """Whole batches out of a ring, each with its record time.

    Where this reader lost records there is an EVENT_LOST for each feed, as where the writer did:
    in its place, since what stands before it in the batch may be what makes books whole again.
    """

    def __init__(self, reader: Reader, feeds: int) -> None:
        self.reader = reader
        self.read = 0
        self._feeds = feeds
        # what was written before it joined is missing to it
        self._parts: list[Events] = [self._told(reader.position)] if reader.position else []

    def poll(self) -> Iterator[tuple[Events, int]]:
        """Yield records and record time of every whole batch; they are valid until the next."""
        reader, before = self.reader, self.reader.lost
        block = reader.policy == "block"
        events = reader.batch(reader.slots) if block else reader.copy()
        if reader.lost > before:
            self._parts.append(self._told(reader.lost - before))
        self.read += len(events)
        start = 0
        for end in np.flatnonzero(events["kind"] == lib.EVENT_MARK).tolist():
            batch = join([*self._parts, events[start:end]]) if self._parts else events[start:end]
            self._parts = []
            yield batch, int(events["ts_recv"][end])
            if block:  # now, not when all that waited is done: the writer needs the room
                reader.release(end + 1 - start)
            start = end + 1
        if start < len(events):  # the rest of this batch is still to come
            self._parts.append(join([events[start:]]))
        if block:
            reader.release()

    def _told(self, lost: int) -> Events:
        told = np.zeros(self._feeds, EVENT)
        told["kind"], told["flags"] = lib.EVENT_LOST, lib.FLAG_LAST
        told["instrument_id"] = np.arange(self._feeds) << 16
        told["price"], told["order_id"] = UNDEF_PRICE, lost
        return told


class Seat(Closes):
    """A desk at a ring, with books of its own, as it is in a process of its own."""

    def __init__(
        self,
        reader: Reader,
        feeds: Sequence[Feed],
        trading: Trading,
        times: dict[str, Hist] | None = None,
    ) -> None:
        """``feeds``: those of that ring, in the order of their numbers."""
        self._stack = ExitStack()
        self.clock = self._stack.enter_context(Utc())
        self.batches = Batches(reader, len(feeds))
        self.times = times or {name: Hist() for name in TRADER}
        self.desk = Desk(trading, times=self.times)
        self.mirrors = []
        for number, feed in enumerate(feeds):
            mirror = self._stack.enter_context(Mirror(feed, number))
            self.desk.attach(number, mirror.books, mirror.gaps)
            self.mirrors.append(mirror)
        self.refused: dict[str, str] = {}  # latencies that cannot be told, and why
        try:
            same_domain(reader.clock, "tsc")
        except ClockDomainError as error:
            self.refused = dict.fromkeys(("wire_to_stage", "tick_to_trade"), str(error))
        self.begun = 0
        """When the last batch was seen, time.perf_counter_ns()."""
        self.frozen = False
        """Only the books go on."""

    def on_batch(self, batch: Events, now: int) -> None:
        """Take in a batch that ``batches`` gave. StageError."""
        self.begun, tick = time.perf_counter_ns(), None
        if not self.refused:
            late = max(self.clock.now() - now, 0)
            self.times["wire_to_stage"].add(late)
            tick = self.begun - late
        for mirror in self.mirrors:
            mirror.apply(batch)
        if not self.frozen:
            self.desk.on_batch(batch, now, tick)
            self.times["batch"].add(time.perf_counter_ns() - self.begun)

    def close(self) -> None:
        """Let go of the books."""
        self._stack.close()


class Trader(Closes):
    """One stage of a configuration at work on one ring."""

    def __init__(
        self, path: str, index: int, ring: str, feeds: Sequence[str], again: bool = False
    ) -> None:
        """``feeds``: names of the feeds of that ring, in the order of their numbers."""
        config = configuration.load(path)
        self.plan = config.stages[index]
        self._stack = ExitStack()
        reader = Reader(ring, policy=self.plan.policy, from_start=not again, batch_max=BATCH_MAX)
        self.reader = self._stack.enter_context(reader)
        self.first = self.reader.position
        by_name = {plan.feed.name: plan.feed for plan in config.feeds}
        risk = self._stack.enter_context(Risk(self.plan.limits, feeds=len(feeds)))
        venue = self._stack.enter_context(SimVenue())
        trading = Trading(load_strategy(self.plan.strategy, self.plan.params), risk, venue)
        times = Times.attach(rundir.times_path(config.name, f"stage{index}"), writer=True)
        self.times = self._stack.enter_context(times).hists
        seat = Seat(self.reader, [by_name[name] for name in feeds], trading, self.times)
        self.seat = self._stack.enter_context(seat)
        self.error = ""
        self._due = 0.0  # of the next status

    def run(self, say: Any) -> None:
        """Work until the ring is closed and drained."""
        parent = os.getppid()
        while not self.reader.ended:
            if not self.reader.wait(WAIT_S) and os.getppid() != parent:
                break  # nobody is left to close the ring
            for batch, now in self.seat.batches.poll():
                self._on_batch(batch, now, say)
                self._tell(say)  # in a backlog too: that is when it matters
            self._tell(say)
        if not self.error:
            self.seat.desk.take_reports()

    def _tell(self, say: Any) -> None:
        if time.monotonic() >= self._due:
            self.seat.clock.update()
            say("status", **self.status())
            self._due = time.monotonic() + STATUS_S

    def _on_batch(self, batch: Events, now: int, say: Any) -> None:
        try:
            self.seat.on_batch(batch, now)
        except StageError as error:
            self.error, self.seat.frozen = str(error), True
            say("raised", error=str(error), traceback=error.traceback, now=now)
            if self.plan.on_error == "restart":
                raise

    def status(self) -> dict[str, Any]:
        """What the stage has done so far; safe at any time."""
        lag = self.reader.lag
        return {
            "pid": os.getpid(),
            "strategy": self.plan.strategy,
            "params": list(self.plan.params),
            "first": self.first,
            "read": self.seat.batches.read,
            "lost": self.reader.lost,
            "lag": lag,
            "frozen": self.error,
            "gateway": self.seat.desk.gateway.state,
        }

    def result(self) -> dict[str, Any]:
        """The stage's account after its end: what it read, what it ordered, how late it was."""
        return {
            **self.status(),
            "orders": self.seat.desk.result(),
            "mirror": [mirror.stats for mirror in self.seat.mirrors],
            "books": [f"{mirror.books.hash():016x}" for mirror in self.seat.mirrors],
            "clock": self.reader.clock,
            "latency_refused": self.seat.refused,
            "latency_ns": {
                name: hist.percentiles() for name, hist in self.times.items() if hist.count
            },
        }

    def close(self) -> None:
        """Leave the ring."""
        self._stack.close()


def main(argv: Sequence[str]) -> int:
    """``CONFIG STAGE_INDEX RING FEED_NAMES AGAIN``, names separated by commas.

    AGAIN 1: one before it died, so it begins at the newest record and trades on none twice.
    """
    say = Speaker()
    path, index, ring, feeds, again = argv
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the end of the ring is its end
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        trader = Trader(path, int(index), ring, feeds.split(","), again == "1")
    except PydpdkError as error:
        say("refused", error=str(error), exit=int(error.exit))
        return int(error.exit)
    try:
        say("ready", pid=os.getpid())
        trader.run(say)
        say("result", **trader.result())
    except StageError:
        return 1
    finally:
        trader.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
