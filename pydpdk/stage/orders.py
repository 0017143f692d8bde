"""What a strategy issues: order and cancel records, collected batch by batch."""

from __future__ import annotations

import struct

import numpy as np

from pydpdk._core import lib
from pydpdk.core.event import EVENT, Event, Events, layout_struct
from pydpdk.errors import PydpdkError


class OrderLimitError(PydpdkError):
    """One batch issued more order records than the collector may hold."""


class Orders:
    """What a strategy issues within one batch. Order ids count up from ``first_id``."""

    _pack = layout_struct(("stamp", *Event._fields)).pack_into

    def __init__(self, batch_max: int = 65536, first_id: int = 1) -> None:
        self.batch_max = batch_max
        self.next_id = first_id
        self.now = 0
        """Record time of the batch, ns; every order carries it."""
        self._count = 0
        self._room(min(256, batch_max))

    def buy(self, instrument: int, price: int, size: int, ioc: bool = False) -> int:
        """Bid for ``size`` shares at ``price`` (1e-9) or better; returns the order id.

        TypeError for anything but integers (Python's or numpy's), ValueError beyond the record's
        ranges, OrderLimitError.
        """
        return self._new(lib.SIDE_BID, instrument, price, size, ioc)

    def sell(self, instrument: int, price: int, size: int, ioc: bool = False) -> int:
        """Offer ``size`` shares at ``price`` (1e-9) or better; returns the order id."""
        return self._new(lib.SIDE_ASK, instrument, price, size, ioc)

    def cancel(self, order_id: int) -> None:
        """Ask for the cancel of what is left of an order. Risk fills in its instrument."""
        self._put(lib.EVENT_ORDER_CANCEL, 0, lib.SIDE_NONE, 0, order_id, 0, 0)

    def begin(self, now: int) -> None:
        """Forget the last batch; ``now`` is the record time of the next one."""
        self._count, self.now = 0, now

    @property
    def records(self) -> Events:
        """Orders and cancels of this batch, as issued; read-only, valid until begin()."""
        view = self._records[: self._count]
        view.flags.writeable = False
        return view

    def _new(self, side: int, instrument: int, price: int, size: int, ioc: bool) -> int:
        force = lib.TIME_IN_FORCE_IOC if ioc else lib.TIME_IN_FORCE_DAY
        order_id = self.next_id
        self._put(lib.EVENT_ORDER_NEW, instrument, side, price, order_id, size, force)
        self.next_id += 1
        return order_id

    def _put(
        self, kind: int, instrument: int, side: int, price: int, order_id: int, size: int, aux: int
    ) -> None:
        if self._count == len(self._records):
            self._grow()
        now, at = self.now, self._count * EVENT.itemsize
        try:
            self._pack(
                self._bytes, at, 0, now, now, 0, instrument, kind, side, 0, price, order_id, size,
                aux,
            )  # fmt: skip
        except struct.error:
            _complain(instrument=instrument, price=price, order_id=order_id, size=size)
            raise
        self._count += 1

    def _grow(self) -> None:
        if self._count == self.batch_max:
            raise OrderLimitError(f"more than {self.batch_max} orders and cancels in one batch")
        before = self._records
        self._room(min(2 * self._count, self.batch_max))
        self._records[: self._count] = before

    def _room(self, n: int) -> None:
        self._records = np.zeros(n, EVENT)
        self._bytes = memoryview(self._records.view(np.uint8))  # type: ignore[arg-type]


def _complain(**values: object) -> None:
    for name, value in values.items():
        field = "instrument_id" if name == "instrument" else name
        limits = np.iinfo(EVENT.fields[field][0])  # type: ignore[index]
        if not hasattr(value, "__index__"):
            unit = " of units of 1e-9" if name == "price" else ""
            raise TypeError(f"{name} must be an integer{unit}, not {type(value).__name__} {value}")
        if not limits.min <= value.__index__() <= limits.max:
            raise ValueError(f"{name} {value} is outside {limits.min}..{limits.max}")
