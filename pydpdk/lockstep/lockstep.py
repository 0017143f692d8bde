"""The pipeline in lockstep: engine and desk in one thread on the record clock.

A cycle is one engine step, whose records are one batch for the desk. Nothing in it reads a clock
but to measure, so the outcome is a function of the input.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from pydpdk.core import counters
from pydpdk.core.closes import Closes
from pydpdk.core.event import Events
from pydpdk.core.hist import Hist
from pydpdk.core.ring import Reader
from pydpdk.engine.engine import AGAIN, Engine
from pydpdk.errors import DataError
from pydpdk.lockstep.account import added, books_result, feed_result, unexplained
from pydpdk.trade.desk import NO_ORDERS, Desk, Trading

PATIENCE = 0.05  # seconds that a paced replay sleeps before it looks whether to stop
STALL_S = 10.0  # that another reader of the ring may hold the replay up without reading
NAP_S = 1e-3
Progress = Callable[[int, int], None]


class Lockstep(Closes):
    """Drives one engine and, with ``trading``, a stage, risk and a simulated venue.

    ``speed`` 0 runs as fast as it can; 1 keeps the capture's own pace, 10 is ten times that.
    ``on_events`` sees every batch of records (read-only, valid during the call). ``keep``:
    orders sent and execution reports stay in ``records``, else they are only counted.
    """

    def __init__(
        self,
        engine: Engine,
        trading: Trading | None = None,
        *,
        speed: float = 0.0,
        on_events: Callable[[Events], None] | None = None,
        keep: bool = False,
    ) -> None:
        assert engine.ring is not None
        self.engine = engine
        self.speed = speed
        self.on_events = on_events
        self.events_read = 0
        self.read_times = Hist()
        self._pace: tuple[int, int] | None = None
        self._stack = ExitStack()
        self._reader = self._stack.enter_context(Reader(fd=engine.ring.fd, from_start=True))
        self.desk = self._stack.enter_context(Desk(trading, keep=keep)) if trading else None
        if self.desk:
            for feed in engine.feeds:
                self.desk.attach(feed.index, feed.books, feed.gaps_pointer)

    def run(self, progress: Progress | None = None, stop: Callable[[], bool] | None = None) -> None:
        """To the end of every source, or until ``stop()``.

        ``progress(frames, now)`` is called about ten times a second.
        """
        due = 0.0
        while self.cycle(stop):
            if stop and stop():
                self.engine.stop()
            if progress and time.monotonic() >= due:
                progress(self.engine.counters()["frames_received"], self.engine.now)
                due = time.monotonic() + 0.1
        self._finish()
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
            if self.on_events:
                self.on_events(events)
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

    def _finish(self) -> None:
        """Take what the last cycle left behind: its reports are counted, not traded on."""
        if self.desk:
            self.desk.take_reports()

    def close(self) -> None:
        """Detach from the rings."""
        self._stack.close()

    def result(self) -> dict[str, Any]:
        """The run as one JSON object; ``unexplained`` is 0 when every account closes."""
        totals = self.engine.counters()
        feeds = [feed_result(feed) for feed in self.engine.feeds]
        out: dict[str, Any] = {
            "frames": {
                "received": totals["frames_received"],
                "parsed": totals["frames_parsed"],
                "dropped": counters.nonzero(totals, counters.DROPS),
            },
            "messages": added(feed["messages"] for feed in feeds),
            "sequence": [session for feed in feeds for session in feed["sequence"]],
            "books": books_result(self.engine),
            "lines": [line for feed in feeds for line in feed["lines"]],
            "orders": self.desk.result() if self.desk else NO_ORDERS,
            "latency_ns": self._latency(),
            "events": {"written": totals["events_written"], "lost": totals["events_lost"]},
            "counters": counters.nonzero(totals),
        }
        out["unexplained"] = unexplained(
            totals, out["sequence"], self.events_read, out["orders"] if self.desk else None
        )
        return out

    def _latency(self) -> dict[str, dict[str, int]]:
        return {name: hist.percentiles() for name, hist in self.times().items()}

    def times(self) -> dict[str, Hist]:
        """Those of pydpdk/process/times.py that have counted anything."""
        hists = self.engine.times() | {"read": self.read_times}
        if self.desk:
            hists |= self.desk.times
        return {name: hist for name, hist in hists.items() if hist.count}
