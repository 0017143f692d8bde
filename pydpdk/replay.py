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
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pydpdk import counters
from pydpdk._core import lib
from pydpdk.engine import AGAIN, STAGES, Engine, new_hist, percentiles
from pydpdk.errors import DataError
from pydpdk.layout import UNDEF_PRICE
from pydpdk.record import EVENT, Events
from pydpdk.ring import Reader, Ring
from pydpdk.risk import REJECTS, Risk
from pydpdk.stage import Runner, Stage
from pydpdk.venue import SimVenue

REPORT_SLOTS = 1 << 16
PATIENCE = 0.05  # seconds that a paced replay sleeps before it looks whether to stop
RAW = np.dtype((np.void, EVENT.itemsize))
NO_EVENTS: Events = np.zeros(0, EVENT)
Progress = Callable[[int, int], None]


@dataclass
class Trading:
    """A strategy and what stands between it and the venue."""

    stage: Stage
    risk: Risk
    orders_max: int = 1 << 16


@dataclass
class Fills:
    """Cash and position by instrument, in exact integers (cash in 1e-9 of the currency)."""

    cash: dict[int, int] = field(default_factory=dict)
    position: dict[int, int] = field(default_factory=dict)
    count: int = 0
    shares: int = 0

    def add(self, fills: Events) -> None:
        """Book EVENT_FILL records."""
        rows = zip(
            *(fills[name].tolist() for name in ("instrument_id", "side", "price", "size")),
            strict=True,
        )
        for instrument, side, price, size in rows:
            sign = 1 if side == lib.SIDE_BID else -1
            self.cash[instrument] = self.cash.get(instrument, 0) - sign * price * size
            self.position[instrument] = self.position.get(instrument, 0) + sign * size
            self.count += 1
            self.shares += size

    def profit(self, mark: Callable[[int], int | None]) -> int:
        """Profit in 1e-9 of the currency, open positions valued at ``mark(instrument)``."""
        total = sum(self.cash.values())
        for instrument, position in self.position.items():
            total += position * (mark(instrument) or 0)
        return total


class Lockstep:
    """Drives one engine and, with ``trading``, a stage, risk and a simulated venue.

    ``speed`` 0 runs as fast as it can; 1 keeps the capture's own pace, 10 is ten times that.
    ``on_events`` sees every batch of records (read-only, valid during the call).
    """

    def __init__(
        self,
        engine: Engine,
        trading: Trading | None = None,
        *,
        speed: float = 0.0,
        on_events: Callable[[Events], None] | None = None,
    ) -> None:
        assert engine.ring is not None
        self.engine = engine
        self.trading = trading
        self.speed = speed
        self.on_events = on_events
        self.fills = Fills()
        self.events_read = 0
        self.records: dict[str, list[Events]] = {"sent": [], "reports": []}
        self.hists = {name: new_hist() for name in ("ring", "stage", "risk", "tick_to_order")}
        self._pace: tuple[int, int] | None = None
        self._stack = ExitStack()
        self._reader = self._stack.enter_context(Reader(fd=engine.ring.fd, from_start=True))
        if trading:
            self._open_trading(trading)

    def _open_trading(self, trading: Trading) -> None:
        ring = self._stack.enter_context(Ring(REPORT_SLOTS, clock="capture"))
        self._reports = self._stack.enter_context(Reader(fd=ring.fd, from_start=True))
        self._venue = self._stack.enter_context(SimVenue(ring, orders_max=trading.orders_max))
        for feed in self.engine.feeds:
            self._venue.books(feed.index, feed.books.pointer, feed.gaps_pointer)
            trading.risk.books(feed.index, lib.books_all(feed.books.pointer), feed.gaps_pointer)
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

        ``stop()`` ends a wait for the capture's pace.
        """
        begun = time.perf_counter_ns()
        rc = self.engine.step()
        if rc == AGAIN:
            raise DataError("a reader of the ring does not keep up with a lockstep replay")
        self._keep_pace(stop)
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

    def _trade(self, trading: Trading, events: Events, begun: int) -> None:
        self._venue.market(events)
        trading.risk.on_market(events)
        now = self.engine.now
        reports = self._take_reports(trading)
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
        self.records["sent"].append(orders)
        self._venue.orders(approved, now)

    def _take_reports(self, trading: Trading) -> Events:
        """Reports since the last cycle: risk's rejects, then the venue's."""
        from_venue, rejects = self._reports.batch(REPORT_SLOTS), self._rejects
        self._rejects = NO_EVENTS
        if not len(from_venue) and not len(rejects):
            return NO_EVENTS
        reports = join([rejects, from_venue])
        trading.risk.on_reports(from_venue)
        self.fills.add(from_venue[from_venue["kind"] == lib.EVENT_FILL])
        self._reports.release()
        self.records["reports"].append(reports)
        return reports

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
        feeds = [_feed_result(feed) for feed in self.engine.feeds]
        out: dict[str, Any] = {
            "frames": {
                "received": totals["frames_received"],
                "parsed": totals["frames_parsed"],
                "dropped": counters.nonzero(totals, counters.DROPS),
            },
            "messages": _added(feed["messages"] for feed in feeds),
            "sequence": [session for feed in feeds for session in feed["sequence"]],
            "books": _books(self.engine),
            "lines": [line for feed in feeds for line in feed["lines"]],
            "orders": self._orders_result(),
            "latency_ns": self._latency(),
            "events": {"written": totals["events_written"], "lost": totals["events_lost"]},
            "counters": counters.nonzero(totals),
        }
        out["unexplained"] = unexplained(totals, out["sequence"], self.events_read)
        return out

    def _latency(self) -> dict[str, dict[str, int]]:
        hists = self.engine.times() | self.hists
        wanted = [*STAGES, "ring", "stage", "risk", "tick_to_order"]
        return {name: percentiles(hists[name]) for name in wanted if hists[name].count}

    def _orders_result(self) -> dict[str, Any]:
        if not self.trading:
            return {"sent": 0, "rejected": {}, "filled": 0}
        sent, reports = (join(self.records[name]) for name in ("sent", "reports"))
        kinds = {
            name: int(np.count_nonzero(reports["kind"] == kind))
            for name, kind in (
                ("acked", lib.EVENT_ACK),
                ("filled", lib.EVENT_FILL),
                ("canceled", lib.EVENT_CANCELED),
                ("cancel_rejected", lib.EVENT_CANCEL_REJECT),
            )
        }
        rejects = reports["aux"][reports["kind"] == lib.EVENT_REJECT]
        codes, counts = np.unique(rejects, return_counts=True)
        return {
            "sent": int(np.count_nonzero(sent["kind"] == lib.EVENT_ORDER_NEW)),
            "cancels": int(np.count_nonzero(sent["kind"] == lib.EVENT_ORDER_CANCEL)),
            "rejected": {REJECTS[int(c)]: int(n) for c, n in zip(codes, counts, strict=True)},
            **kinds,
            "shares": self.fills.shares,
            "profit_1e9": self.fills.profit(self._mark),
        }

    def _mark(self, instrument: int) -> int | None:
        top = self.engine.feeds[instrument >> 16].books.top(instrument & 0xFFFF)
        sides = [price for price in (top.bid, top.ask) if price != UNDEF_PRICE]
        return sum(sides) // len(sides) if sides else None


def join(arrays: list[Events]) -> Events:
    """Event arrays in one, copied. As bytes: numpy would compare every field's type first."""
    parts = [array.view(RAW) for array in arrays]
    return np.concatenate(parts).view(EVENT) if parts else NO_EVENTS


def _added(counts: Any) -> dict[str, int]:
    total: dict[str, int] = {}
    for count in counts:
        for name, n in count.items():
            total[name] = total.get(name, 0) + n
    return total


def _feed_result(feed: Any) -> dict[str, Any]:
    name = str(feed.spec)
    return {
        "messages": feed.messages(),
        "sequence": [{"feed": name, **session} for session in feed.sessions()],
        "lines": [{"feed": name, **line} for line in feed.lines()],
    }


def _books(engine: Engine) -> dict[str, Any]:
    """Books as they stand; several feeds' hashes are combined in feed order."""
    books = [list(feed.sessions())[-1]["books"] for feed in engine.feeds if list(feed.sessions())]
    return {
        **{name: sum(book[name] for book in books) for name in ("instruments", "orders", "levels")},
        "hash": "-".join(book["hash"] for book in books),
        "suspect": any(feed.suspect for feed in engine.feeds),
    }


def unexplained(totals: dict[str, int], sessions: list[dict[str, Any]], events_read: int) -> int:
    """Frames, messages and records that no counter accounts for; 0 when all sums close."""
    frames = totals["frames_received"] - totals["frames_parsed"]
    frames -= sum(totals[name] for name in counters.DROPS)
    messages = totals["messages_received"] - sum(
        totals[name]
        for name in (
            "messages_delivered",
            "messages_duplicate",
            "messages_late",
            "messages_cut",
            "messages_untrusted",
        )
    )
    decoded = totals["messages_delivered"] - sum(
        totals[name] for name in ("messages_decoded", "message_unknown", "message_length")
    )
    events = totals["events_written"] - events_read
    expected = totals["messages_expected"]
    expected -= totals["messages_delivered"] + totals["messages_lost"]
    ledger: int = sum(
        abs(s["last"] + 1 - s["first"] - s["delivered"] - s["lost"]) for s in sessions
    )
    return abs(frames) + abs(messages) + abs(decoded) + abs(events) + abs(expected) + ledger
