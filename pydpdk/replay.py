"""The pipeline in lockstep: engine, venue, stage, risk in one thread on the record clock.

A cycle is one engine step. Its records go to the venue (resting orders may fill), then the
stage gets the reports of the cycle before and these records, its orders pass risk, and what
passed reaches the venue, whose reports wait for the next cycle. Nothing in it reads a clock
but to measure, so the outcome is a function of the input.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from pydpdk import counters
from pydpdk._core import lib
from pydpdk.account import added, books_result, feed_result, unexplained
from pydpdk.engine import AGAIN, STAGES, Engine, new_hist, percentiles
from pydpdk.errors import DataError
from pydpdk.gateway import NO_EVENTS, Fills, Gateway
from pydpdk.gateway import join as join
from pydpdk.record import Events
from pydpdk.ring import Reader
from pydpdk.risk import REJECTS, Risk
from pydpdk.stage import Runner, Stage

PATIENCE = 0.05  # seconds that a paced replay sleeps before it looks whether to stop
STALL_S = 10.0  # that another reader of the ring may hold the replay up without reading
NAP_S = 1e-3
KINDS_MAX = 256
Progress = Callable[[int, int], None]


@dataclass
class Trading:
    """A strategy and what stands between it and the venue."""

    stage: Stage
    risk: Risk
    orders_max: int = 1 << 16


class Lockstep:
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
        self.trading = trading
        self.speed = speed
        self.on_events = on_events
        self.fills = Fills()
        self.events_read = 0
        self.records: dict[str, list[Events]] = {"sent": [], "reports": []}
        self._keep = keep
        self._kinds = np.zeros(KINDS_MAX, np.int64)  # of orders and reports: no kind is both
        self._rejected = np.zeros(lib.REJECT_END, np.int64)
        self.hists = {name: new_hist() for name in ("ring", "stage", "risk", "tick_to_order")}
        self._pace: tuple[int, int] | None = None
        self._stack = ExitStack()
        self._reader = self._stack.enter_context(Reader(fd=engine.ring.fd, from_start=True))
        if trading:
            self._open_trading(trading)

    def _open_trading(self, trading: Trading) -> None:
        self._gateway = self._stack.enter_context(Gateway(trading.orders_max))
        for feed in self.engine.feeds:
            books, gaps = feed.books.pointer, feed.gaps_pointer
            self._gateway.venue.books(feed.index, books, gaps)
            trading.risk.books(feed.index, lib.books_all(books), gaps)
        self._runner = Runner(trading.stage)
        self._rejects = NO_EVENTS

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
        while True:
            read = time.perf_counter_ns()
            events = self._reader.batch(self._reader.slots)
            if not len(events):
                break
            lib.hist_add(self.hists["ring"], time.perf_counter_ns() - read, 1)
            self.events_read += len(events)
            if self.on_events:
                self.on_events(events)
            if self.trading:
                self._trade(self.trading, events, begun)
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

    def _trade(self, trading: Trading, events: Events, begun: int) -> None:
        self._gateway.market(events)
        trading.risk.on_market(events)
        now = self.engine.now
        reports = self._take_reports(trading)
        self.fills.quotes(events)
        clock = time.perf_counter_ns()
        answers = self._runner.run(reports, now).copy() if len(reports) else NO_EVENTS
        orders = join([answers, self._runner.run(events, now)])
        done = time.perf_counter_ns()
        lib.hist_add(self.hists["stage"], done - clock, 1)
        if not len(orders):
            return
        # Whole microseconds: a source that cuts its stamps must not move the rate's window.
        approved, self._rejects = trading.risk.pass_orders(orders, now - now % 1000)
        passed = time.perf_counter_ns()
        lib.hist_add(self.hists["risk"], (passed - done) // len(orders), len(orders))
        lib.hist_add(self.hists["tick_to_order"], passed - begun, 1)
        self._note("sent", orders)
        self._gateway.orders(approved, now)

    def _take_reports(self, trading: Trading) -> Events:
        """Reports since the last cycle: risk's rejects, then the venue's."""
        from_venue, rejects = self._gateway.take(), self._rejects
        self._rejects = NO_EVENTS
        if not len(from_venue) and not len(rejects):
            return NO_EVENTS
        reports = join([rejects, from_venue])
        trading.risk.on_reports(from_venue)
        self._book_fills(from_venue[from_venue["kind"] == lib.EVENT_FILL])
        self._note("reports", reports)
        codes = reports["aux"][reports["kind"] == lib.EVENT_REJECT]
        self._rejected += np.bincount(codes, minlength=lib.REJECT_END)
        return reports

    def _book_fills(self, fills: Events) -> None:
        self.fills.add(fills)
        for instrument in set(fills["instrument_id"].tolist()):
            books = self.engine.feeds[instrument >> 16].books
            book = books.instruments[instrument & 0xFFFF]
            self.fills.mark(instrument, int(book["bid"]), int(book["ask"]))

    def _note(self, name: str, records: Events) -> None:
        self._kinds += np.bincount(records["kind"], minlength=KINDS_MAX)
        if self._keep:
            self.records[name].append(records)

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
        if self.trading:
            self._take_reports(self.trading)

    def close(self) -> None:
        """Detach from the rings."""
        self._stack.close()

    def __enter__(self) -> Lockstep:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
            "orders": self._orders_result(),
            "latency_ns": self._latency(),
            "events": {"written": totals["events_written"], "lost": totals["events_lost"]},
            "counters": counters.nonzero(totals),
        }
        out["unexplained"] = unexplained(
            totals, out["sequence"], self.events_read, out["orders"] if self.trading else None
        )
        return out

    def _latency(self) -> dict[str, dict[str, int]]:
        hists = self.engine.times() | self.hists
        wanted = [*STAGES, "ring", "stage", "risk", "tick_to_order"]
        return {name: percentiles(hists[name]) for name in wanted if hists[name].count}

    def _orders_result(self) -> dict[str, Any]:
        if not self.trading:
            return {"sent": 0, "rejected": {}, "filled": 0}
        names = {
            "sent": lib.EVENT_ORDER_NEW,
            "cancels": lib.EVENT_ORDER_CANCEL,
            "acked": lib.EVENT_ACK,
            "filled": lib.EVENT_FILL,
            "canceled": lib.EVENT_CANCELED,
            "cancel_rejected": lib.EVENT_CANCEL_REJECT,
        }
        return {
            **{name: int(self._kinds[kind]) for name, kind in names.items()},
            "rejected": {REJECTS[i]: n for i, n in enumerate(self._rejected.tolist()) if n},
            "reports_lost": self._gateway.lost,
            "shares": self.fills.shares,
            "profit_1e9": self.fills.profit(),
            "unmarked": self.fills.unmarked,
        }
