"""The money that fills make or lose."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from pydpdk._core import lib
from pydpdk.core.event import Events
from pydpdk.core.layout import UNDEF_PRICE


class Fills:
    """Cash, position and mark by instrument, in exact integers (1e-9 of the currency).

    A position is valued at its mark: the last mid, or without one the price of the last fill.
    ``profit`` is that of the whole account, kept up with every fill and mark.
    """

    def __init__(self) -> None:
        self.cash: dict[int, int] = {}
        self.position: dict[int, int] = {}
        self.mids: dict[int, int] = {}
        self.count = 0
        self.shares = 0
        self.profit = 0
        self._last: dict[int, int] = {}
        self._held = np.zeros(lib.FEEDS_MAX << 16, np.bool_)

    def add(self, fills: Events) -> None:
        """Book EVENT_FILL records."""
        fields = ("instrument_id", "side", "price", "size")
        for instrument, side, price, size in _rows(fills, slice(None), *fields):
            signed = size if side == lib.SIDE_BID else -size
            if instrument not in self.mids:
                self._revalue(instrument, price)
            self._last[instrument] = price
            self.cash[instrument] = self.cash.get(instrument, 0) - signed * price
            self.position[instrument] = self.position.get(instrument, 0) + signed
            self.profit += signed * (self.mids.get(instrument, price) - price)
            self._held[instrument] = True
            self.count += 1
            self.shares += size

    def quotes(self, events: Events) -> None:
        """Note the mids of the EVENT_QUOTE records of instruments that were traded."""
        if not self.position:
            return
        held = self._held[events["instrument_id"]] & (events["kind"] == lib.EVENT_QUOTE)
        rows = held.nonzero()[0]
        for instrument, bid, ask in _rows(events, rows, "instrument_id", "bid", "ask"):
            self.mark(instrument, bid, ask)

    def mark(self, instrument: int, bid: int, ask: int) -> None:
        """Note a mid, if both sides have a price."""
        if bid > 0 and ask > 0 and UNDEF_PRICE not in (bid, ask):
            mid = (bid + ask) // 2
            self._revalue(instrument, mid)
            self.mids[instrument] = mid

    def _revalue(self, instrument: int, mark: int) -> None:
        """Before the mark of an instrument becomes another."""
        if position := self.position.get(instrument):
            self.profit += position * (mark - self._mark(instrument))

    def _mark(self, instrument: int) -> int:
        mid = self.mids.get(instrument)
        return self._last[instrument] if mid is None else mid

    def open(self) -> dict[int, int]:
        """Positions that are not flat."""
        return {i: position for i, position in self.position.items() if position}

    @property
    def unmarked(self) -> int:
        """Open positions without a mid: they are valued at their last fill."""
        return sum(instrument not in self.mids for instrument in self.open())

    def rows(self) -> dict[int, tuple[int, int, int]]:
        """(position, cash, mark) of every instrument that was traded."""
        return {i: (n, self.cash[i], self._mark(i)) for i, n in sorted(self.position.items())}


def _rows(events: Events, rows: Any, *names: str) -> Iterable[tuple[int, ...]]:
    return zip(*(events[name][rows].tolist() for name in names), strict=True)
