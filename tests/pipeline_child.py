"""One strategy written twice, and a replay with it in a process of its own.

    python -m tests.pipeline_child SOURCE PROTOCOL@A,B

prints digests of the records, orders and reports, and the hash of the books, as JSON.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

import numpy as np

from pydpdk.engine.feed import Feed
from pydpdk.stage.stage import BID, EVENT, KINDS, UNDEF_PRICE, Event, Events, Orders, Quote, Stage
from tests.pipeline import SMALL, Outcome, replay

TICK = 10_000_000
HEAVY = 4  # so many times the other side's shares


class PerEvent(Stage):
    """Takes from the light side where the other is heavy, and offers back what it got."""

    def on_quote(self, quote: Quote, orders: Orders) -> None:
        if UNDEF_PRICE in (quote.bid, quote.ask):
            return
        if quote.bid_size > HEAVY * quote.ask_size:
            orders.buy(quote.instrument_id, quote.ask, 100, ioc=True)
        elif quote.ask_size > HEAVY * quote.bid_size:
            orders.sell(quote.instrument_id, quote.bid, 100, ioc=True)

    def on_fill(self, fill: Event, orders: Orders) -> None:
        if fill.side == BID:
            orders.sell(fill.instrument_id, fill.price + TICK, fill.size)
        else:
            orders.buy(fill.instrument_id, fill.price - TICK, fill.size)


class PerBatch(Stage):
    """The same, looking at whole batches."""

    def on_batch(self, events: Events, orders: Orders) -> None:
        bid_size, ask_size = (events[side].astype(np.int64) for side in ("bid_size", "ask_size"))
        two_sided = (events["bid"] != UNDEF_PRICE) & (events["ask"] != UNDEF_PRICE)
        quotes = (events["kind"] == KINDS["QUOTE"]) & two_sided
        buy = quotes & (bid_size > HEAVY * ask_size)
        sell = quotes & (ask_size > HEAVY * bid_size)
        for i in np.flatnonzero(buy | sell | (events["kind"] == KINDS["FILL"])):
            event = events[i]
            instrument = event["instrument_id"]
            if buy[i]:
                orders.buy(instrument, event["ask"], 100, ioc=True)
            elif sell[i]:
                orders.sell(instrument, event["bid"], 100, ioc=True)
            elif event["side"] == BID:
                orders.sell(instrument, event["price"] + TICK, event["size"])
            else:
                orders.buy(instrument, event["price"] - TICK, event["size"])


def to_us(records: np.ndarray[Any, Any], *clocks: str) -> bytes:
    """Records with these times cut to microseconds."""
    cut = records.copy()
    for clock in clocks:
        cut[clock] -= cut[clock] % 1000
    return cut.tobytes()


def digests(got: Outcome) -> dict[str, Any]:
    """What must be the same on every source and host."""
    own = ("ts_recv", "ts_event")  # both are the record clock
    parts = {
        "events": to_us(got.events, "ts_recv"),
        "orders": to_us(np.frombuffer(got.orders, EVENT), *own),
        "reports": to_us(np.frombuffer(got.reports, EVENT), *own),
    }
    clock = ("ts_first", "ts_last")
    return {
        **{name: hashlib.sha256(part).hexdigest() for name, part in parts.items()},
        "sizes": [len(part) // EVENT.itemsize for part in parts.values()],
        "books": got.books,
        "ends": got.ends,
        "counters": got.counters,
        "accounts": [{k: v for k, v in account.items() if k not in clock}
                     for account in got.result["sequence"]],
        "trading": got.result["orders"],
    }  # fmt: skip


if __name__ == "__main__":
    source, feed = sys.argv[1:]
    print(json.dumps(digests(replay(source, [Feed.parse(feed, **SMALL)], PerEvent()))))
