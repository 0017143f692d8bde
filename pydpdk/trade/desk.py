"""The trading desk: a strategy, risk and a gateway, driven by batches of records.

A replay drives it in lockstep with its engine, a live stage from the ring of another process. It
is the same function of the batches: the records go to the gateway (at a simulated venue resting
orders may fill), the
strategy gets the reports of the batch before and these records, its orders pass risk, and what
passed reaches the venue, whose reports wait for the next batch.
"""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from pydpdk._core import lib
from pydpdk.core.books import Books
from pydpdk.core.event import NO_EVENTS, Events, join
from pydpdk.core.hist import Hist
from pydpdk.gateway.gateway import Gateway
from pydpdk.stage.stage import Runner, Stage
from pydpdk.trade.fills import Fills
from pydpdk.trade.risk import REJECTS, Risk

KINDS_MAX = 256
NOTED_MAX = 256  # batches
WORDS, TIMES = 8, 3  # of a record; of its stamp and its two times
DESK_TIMES = ("stage", "risk", "send", "tick_to_trade")
NAMES = {
    "sent": lib.EVENT_ORDER_NEW,
    "cancels": lib.EVENT_ORDER_CANCEL,
    "acked": lib.EVENT_ACK,
    "filled": lib.EVENT_FILL,
    "canceled": lib.EVENT_CANCELED,
    "cancel_rejected": lib.EVENT_CANCEL_REJECT,
}
NO_ORDERS: dict[str, Any] = {"sent": 0, "rejected": {}, "filled": 0}


@dataclass
class Trading:
    """A strategy, what stands between it and the market, and where its orders go."""

    stage: Stage
    risk: Risk
    gateway: Gateway


class Desk:
    """One strategy at work. ``keep``: orders and reports stay in ``records``, else are counted.

    It also keeps ``profits``: (record time, profit in 1e-9) after each batch that changed it.

    ``times``: where to count stage, risk, send and tick_to_trade (process/times.py).
    """

    def __init__(
        self,
        trading: Trading,
        *,
        keep: bool = False,
        times: dict[str, Hist] | None = None,
    ) -> None:
        self.risk = trading.risk
        self.gateway = trading.gateway
        self.fills = Fills()
        self.records: dict[str, list[Events]] = {"sent": [], "reports": []}
        self.profits: list[tuple[int, int]] = []
        self.times = times or {name: Hist() for name in DESK_TIMES}
        self._keep = keep
        self._profit = 0
        self._noted: dict[str, list[Events]] = {"sent": [], "reports": []}
        self._kinds = np.zeros(KINDS_MAX, np.int64)  # of orders and reports: no kind is both
        self._rejected = np.zeros(lib.REJECT_END, np.int64)
        self._digests = {"sent": 0, "reports": 0}
        self._books: dict[int, Books] = {}
        self._runner = Runner(trading.stage)
        self._rejects = NO_EVENTS

    def attach(self, feed: int, books: Books, gaps: Any) -> None:
        """Trade against ``books`` of feed number ``feed``; ``gaps``: ``uint32_t *``, its count."""
        self._books[feed] = books
        self.gateway.books(feed, books.pointer, gaps)
        self.risk.books(feed, lib.books_all(books.pointer), gaps)

    def on_batch(self, events: Events, now: int, begun: int | None) -> None:
        """Let the strategy have one batch, at record time ``now``.

        ``begun``: its tick's time on perf_counter_ns(); None: that cannot be told.
        """
        self.gateway.market(events, now)
        self.risk.on_market(events)
        reports = self.take_reports()
        self.fills.quotes(events)
        self._note_profit(now)
        clock = time.perf_counter_ns()
        answers = join([self._runner.run(reports, now)]) if len(reports) else NO_EVENTS
        orders = join([answers, self._runner.run(events, now)])
        done = time.perf_counter_ns()
        self.times["stage"].add(done - clock)
        if not len(orders):
            return
        # Whole microseconds: a source that cuts its stamps must not move the rate's window.
        approved, self._rejects = self.risk.pass_orders(orders, now - now % 1000)
        passed = time.perf_counter_ns()
        self.gateway.orders(approved, now)
        sent = time.perf_counter_ns()
        self.times["risk"].add((passed - done) // len(orders), len(orders))
        self.times["send"].add(sent - passed)
        if begun is not None:
            self.times["tick_to_trade"].add(sent - begun)
        self._note("sent", orders)

    def finish(self, now: int) -> None:
        """Take what the last batch left behind: its reports are counted, not traded on."""
        self.take_reports()
        self._note_profit(now)

    def take_reports(self) -> Events:
        """Reports since the last batch: risk's rejects, then the venue's."""
        from_venue, rejects = self.gateway.take(), self._rejects
        self._rejects = NO_EVENTS
        if not len(from_venue) and not len(rejects):
            return NO_EVENTS
        reports = join([rejects, from_venue])
        self.risk.on_reports(from_venue)
        if lib.EVENT_FILL in from_venue["kind"].tobytes():
            self._book_fills(from_venue[from_venue["kind"] == lib.EVENT_FILL])
        self._note("reports", reports)
        return reports

    def _book_fills(self, fills: Events) -> None:
        self.fills.add(fills)
        for instrument in set(fills["instrument_id"].tolist()):
            book = self._books[instrument >> 16].instruments[instrument & 0xFFFF]
            self.fills.mark(instrument, int(book["bid"]), int(book["ask"]))

    def _note_profit(self, now: int) -> None:
        profit = self.fills.profit
        if self._keep and profit != self._profit:
            self.profits.append((now, profit))
            self._profit = profit

    def _note(self, name: str, records: Events) -> None:
        """Add records to the accounts, for many at a time."""
        self._noted[name].append(records)
        if self._keep:
            self.records[name].append(records)
        if len(self._noted[name]) == NOTED_MAX:
            self._add_up(name)

    def _add_up(self, name: str) -> None:
        records = join(self._noted[name])
        self._noted[name].clear()
        self._kinds += np.bincount(records["kind"], minlength=KINDS_MAX)
        codes = records["aux"][records["kind"] == lib.EVENT_REJECT]
        self._rejected += np.bincount(codes, minlength=lib.REJECT_END)
        words = records.view(np.uint64).reshape(-1, WORDS)
        told = words[:, TIMES:].tobytes()  # what, not when: sources stamp with other precision
        self._digests[name] = zlib.crc32(told, self._digests[name])

    def result(self) -> dict[str, Any]:
        """What was ordered and what became of it; ``digest``: CRC32 of all orders, and reports."""
        for noted in self._noted:
            self._add_up(noted)
        return {
            **{name: int(self._kinds[kind]) for name, kind in NAMES.items()},
            "rejected": {REJECTS[i]: n for i, n in enumerate(self._rejected.tolist()) if n},
            "reports_lost": self.gateway.lost,
            "shares": self.fills.shares,
            "profit_1e9": self.fills.profit,
            "unmarked": self.fills.unmarked,
            "digest": "-".join(f"{crc:08x}" for crc in self._digests.values()),
        }
