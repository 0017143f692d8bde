"""A strategy per batch: numpy sees all quotes of a batch at once, Python only the few that count.

Where the spread is wide it improves the bid by one tick, once per instrument and batch.

    pydpdk replay day.pcap --feed itch50 --strategy apps/spread.py:Spread --param size=50
"""

import numpy as np

from pydpdk import KINDS, UNDEF_PRICE, Events, Orders, Stage

TICK = 10_000_000  # a cent, in units of 1e-9


class Spread(Stage):
    """Immediate-or-cancel bids into spreads of at least ``spread_min`` (1e-9)."""

    def __init__(self, spread_min: int = 5 * TICK, size: int = 100) -> None:
        self.spread_min = spread_min
        self.size = size

    def on_batch(self, events: Events, orders: Orders) -> None:
        quotes = events[events["kind"] == KINDS["QUOTE"]]
        _, last = np.unique(quotes["instrument_id"][::-1], return_index=True)
        quotes = quotes[len(quotes) - 1 - last]  # the newest of each instrument
        two_sided = (quotes["bid"] != UNDEF_PRICE) & (quotes["ask"] != UNDEF_PRICE)
        quotes = quotes[two_sided]
        wide = quotes["ask"] - quotes["bid"] >= self.spread_min
        for quote in quotes[wide]:
            orders.buy(quote["instrument_id"], quote["bid"] + TICK, self.size, ioc=True)
