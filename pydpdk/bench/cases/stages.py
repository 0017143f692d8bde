"""Python strategies: what a record costs them, one by one and in batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from pydpdk.bench.data import LINES, Array, Market, delivered
from pydpdk.bench.loops import lib
from pydpdk.bench.measure import Case, Series, timed
from pydpdk.core.event import EVENT, Quote
from pydpdk.core.ring import Reader
from pydpdk.stage.orders import Orders
from pydpdk.stage.stage import Runner, Stage

BATCH = 1024
BATCHES = 32


class _PerEvent(Stage):
    """Remembers the best bid of every quote."""

    bid = 0

    def on_quote(self, quote: Quote, orders: Orders) -> None:
        self.bid = quote.bid


class _PerBatch(Stage):
    """The same from whole batches."""

    bid = 0

    def on_batch(self, events: Array, orders: Orders) -> None:
        bids = events["bid"][events["kind"] == lib.EVENT_QUOTE]
        if len(bids):
            self.bid = int(bids[-1])


@contextmanager
def stage(market: Market) -> Iterator[Case]:
    """A strategy that looks at quotes, over records of trading in batches of 1,024."""
    records = _records(market)
    batches = [records[at : at + BATCH] for at in range(0, len(records), BATCH)]
    each, whole = Runner(_PerEvent()), Runner(_PerBatch())

    def run(runner: Runner) -> int:
        for batch in batches:
            runner.run(batch)
        return len(records)

    def call(remember: _PerEvent, orders: Orders) -> int:
        quote = Quote(*[0] * len(Quote._fields))
        for _ in range(len(records)):
            remember.on_quote(quote, orders)
        return len(records)

    def column() -> int:
        for batch in batches:
            batch["bid"].max()
        return len(records)

    series = [
        Series("an empty method call", "floor", lambda: timed(lambda: call(_PerEvent(), Orders()))),
        Series("one numpy column", "floor", lambda: timed(column)),
        Series("per event", "ours", lambda: timed(lambda: run(each)), "an empty method call"),
        Series("per batch", "ours", lambda: timed(lambda: run(whole)), "one numpy column"),
    ]
    quotes = float(np.mean(records["kind"] == lib.EVENT_QUOTE))
    yield Case("stage", "record", series, {"batch": BATCH, "quotes_share": round(quotes, 2)})


def _records(market: Market) -> Array:
    """The first records of trading, whole batches of them."""
    parts: list[Array] = []
    wanted = BATCH * BATCHES
    with market.engine(market.alone, LINES[:1]) as engine:
        assert engine.ring is not None
        while delivered(engine.feeds[0]) < market.opening and engine.step() >= 0:
            pass
        with Reader(fd=engine.ring.fd) as reader:
            while sum(map(len, parts)) < wanted and engine.step() >= 0:
                parts.append(reader.batch(wanted).copy())
                reader.release()
    records = np.concatenate(parts) if parts else np.zeros(0, EVENT)
    return records[: len(records) // BATCH * BATCH][:wanted]
