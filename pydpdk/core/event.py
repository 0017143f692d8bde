"""The 64-byte record of csrc/event.h in Python: its kinds, and immutable copies of one."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pydpdk._core import ffi, lib
from pydpdk.core.layout import dtype

Events = npt.NDArray[Any]
"""A one-dimensional array of records, dtype EVENT."""
EVENT = dtype("event")
"""The record as a numpy dtype: the fields of Event and of Quote, which overlap, and ``stamp``."""
KINDS: dict[str, int] = {
    name.removeprefix("EVENT_"): value
    for value, name in sorted(ffi.typeof("enum event_kind").elements.items())
    if value
}
"""The ``kind`` of a record by its name: KINDS["QUOTE"]."""
BID: int = lib.SIDE_BID
"""The ``side`` that buys."""
ASK: int = lib.SIDE_ASK
"""The ``side`` that sells."""
NO_EVENTS: Events = np.zeros(0, EVENT)


def join(arrays: Iterable[Events]) -> Events:
    """Events of all, in one read-only copy. Through bytes: numpy takes records field by field."""
    data = b"".join([events.tobytes() for events in arrays if len(events)])
    return np.frombuffer(data, EVENT) if data else NO_EVENTS


def sizes(events: Events) -> npt.NDArray[np.uint64]:
    """The whole sizes of a batch, uint64: with the upper half where FLAG_WIDE says there is one."""
    wide = (events["flags"] & lib.FLAG_WIDE).astype(bool)
    whole: npt.NDArray[np.uint64] = events["size"].astype(np.uint64)
    whole |= np.where(wide, events["aux"], 0).astype(np.uint64) << np.uint64(32)
    return whole


def records(events: Events) -> Any:
    """``struct event[]`` over a 1-d array of dtype EVENT; a copy only when not contiguous."""
    if events.dtype != EVENT or events.ndim != 1:
        raise TypeError(f"need a 1-d array of {EVENT}, not {events.ndim}-d of {events.dtype}")
    return ffi.from_buffer("struct event[]", np.ascontiguousarray(events).view(np.uint8))


class Event(NamedTuple):
    """A record of any kind but QUOTE, in a copy that stays.

    ``ts_recv``: when it was received, ns since the Unix epoch; ``ts_event``: when it happened, by
    the venue. ``sequence``: the venue's number of its message. ``instrument_id``: the feed's
    number times 65,536 and the instrument's within it. ``price`` in 1e-9 of the currency,
    UNDEF_PRICE when there is none; ``size`` in the instrument's unit, of which ``quantity``
    has what is above 32 bits too. What ``flags`` and ``aux`` mean for each kind stands in
    csrc/event.h.
    """

    ts_recv: int
    ts_event: int
    sequence: int
    instrument_id: int
    kind: int
    side: int
    flags: int
    price: int
    order_id: int
    size: int
    aux: int

    @property
    def quantity(self) -> int:
        """The whole size: with its upper half where FLAG_WIDE says there is one."""
        return self.size | self.aux << 32 if self.flags & lib.FLAG_WIDE else self.size


class Quote(NamedTuple):
    """A QUOTE record: the best prices (1e-9, UNDEF_PRICE for an empty side) after a change.

    The other fields are those of an Event.
    """

    ts_recv: int
    ts_event: int
    sequence: int
    instrument_id: int
    kind: int
    side: int
    flags: int
    bid: int
    ask: int
    bid_size: int
    ask_size: int


_CODES = {"u1": "B", "u2": "H", "u4": "I", "u8": "Q", "i8": "q"}


def layout_struct(names: tuple[str, ...]) -> struct.Struct:
    """Packs and unpacks the named fields of ``struct event``, in order of offset, gaps skipped."""
    form, at = "=", 0
    for name in names:
        kind, offset = EVENT.fields[name][:2]  # type: ignore[index]
        form += f"{offset - at}x{_CODES[kind.str[1:]]}"
        at = offset + kind.itemsize
    return struct.Struct(form)
