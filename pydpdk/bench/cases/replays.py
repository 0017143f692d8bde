"""Whole replays: what `pydpdk replay` does, from the file to the simulated venue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydpdk.bench.data import LINES, Market, delivered
from pydpdk.bench.loops import lib
from pydpdk.bench.measure import Case, Series, timed
from pydpdk.core.event import Events
from pydpdk.lockstep.replay import Replay
from pydpdk.stage.orders import Orders
from pydpdk.stage.stage import Stage

BATCH_US = 100  # as `pydpdk replay` has it
SIZE = 100


class _Joins(Stage):
    """Once a batch it bids, immediate or cancel, what the newest quote bids."""

    def on_batch(self, events: Events, orders: Orders) -> None:
        quotes = events[events["kind"] == lib.EVENT_QUOTE]
        if len(quotes) and quotes["bid_size"][-1]:
            last = quotes[-1]
            orders.buy(last["instrument_id"], last["bid"], SIZE, ioc=True)


@contextmanager
def replay(market: Market) -> Iterator[Case]:
    """A replay in lockstep, lines A and B: engine and ring, then strategy, risk and venue too."""
    facts: dict[str, Any] = {"batch_us": BATCH_US}

    def engine_alone() -> float:
        with market.engine(market.both, LINES, batch_us=BATCH_US) as engine:

            def run() -> int:
                while engine.step() >= 0:
                    pass
                return delivered(engine.feeds[0])

            return timed(run)

    def whole(trades: bool) -> float:
        strategy, feed = _Joins() if trades else None, market.feed(LINES)
        with Replay(market.both, feed, strategy, batch_us=BATCH_US) as pipeline:

            def run() -> int:
                pipeline.run()
                return delivered(pipeline.engine.feeds[0])

            figure = timed(run)
            if trades:
                accounts = pipeline.accounts()
                facts.update(
                    messages=delivered(pipeline.engine.feeds[0]),
                    orders=accounts["orders"]["sent"],
                    batches=accounts["latency_ns"]["stage"]["count"],
                )
        return figure

    series = [
        Series("engine alone", "floor", engine_alone),
        Series("and batches to Python", "ours", lambda: whole(False), "engine alone"),
        Series("and strategy, risk, venue", "ours", lambda: whole(True), "engine alone"),
    ]
    yield Case("replay", "message", series, facts)
