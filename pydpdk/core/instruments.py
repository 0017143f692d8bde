"""The table of a ring's instruments in shared memory: whole symbols (csrc/ring/instruments.h).

A record has an ``instrument_id`` and, where it names one, the first 8 bytes of a symbol; the table
has the rest. One engine writes it, any process may read it, while it runs and after it died.
"""

from __future__ import annotations

import os
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pydpdk._core import ffi, lib
from pydpdk.core.closes import Closes
from pydpdk.core.layout import dtype
from pydpdk.errors import PydpdkError, check

INSTRUMENT = dtype("instrument")
"""A row as a numpy dtype: symbol, venue, currency, round_lot, size_unit, price_unit, version."""
SYMBOL = INSTRUMENT["symbol"]
"""The numpy dtype of a whole symbol."""
FEED_BYTES = int(lib.INSTRUMENTS_EACH) * INSTRUMENT.itemsize
"""Memory of one feed's rows, where all of them are taken."""


def text(symbol: bytes) -> str:
    """A symbol as text: every byte is a character, padding is left out."""
    return symbol.rstrip(b" \0").decode("latin-1")


class Instruments(Closes):
    """A table of instruments; close it, or use it in ``with``.

    Sizes of an instrument are integers in 10^-size_unit shares, coins or contracts, prices in
    10^-price_unit of ``currency``, ``round_lot`` is in units of size (0: the venue has not told).
    Closing leaves a named table where it is, so that it outlives its writer: see unlink().
    """

    def __init__(self, pointer: Any, name: str | None) -> None:
        self.name = name
        self._pointer = pointer
        self.feeds = int(lib.instruments_header(pointer).feeds)
        """How many feeds it has rows for."""

    @classmethod
    def create(cls, feeds: int, name: str | None = None) -> Self:
        """A new table for ``feeds`` feeds, whose writer this is.

        ``name``: a file in /dev/shm, None for anonymous memory. CoreError: EEXIST, EINVAL, ENOSPC,
        ENOMEM.
        """
        out = ffi.new("struct instruments **")
        rc = lib.instruments_create(_name(name), max(feeds, 0), out)
        check(rc, f"cannot make table of instruments {name or '(anonymous)'} for {feeds} feeds")
        return cls(out[0], name)

    @classmethod
    def attach(cls, name: str | None = None, *, fd: int = -1, writer: bool = False) -> Self:
        """By name or by descriptor (which stays the caller's); read-only unless ``writer``.

        That of a run's receive loop N is ``pydpdk-NAME.instrumentsN``. CoreError: ENOENT, EPROTO
        (no table of instruments, or of another version), EBUSY (it has a living writer), EBADF,
        EINVAL.
        """
        if (name is None) == (fd < 0):
            raise ValueError("attach by name or by fd: exactly one of them")
        out = ffi.new("struct instruments **")
        rc = lib.instruments_attach(_name(name), fd, writer, out)
        told = name if name is not None else f"of fd {fd}"
        check(rc, f"cannot attach to table of instruments {told}")
        return cls(out[0], name)

    def close(self) -> None:
        """Unmap it. Harmless when repeated; any other use afterwards is an error."""
        pointer, self._pointer = self._pointer, None
        lib.instruments_close(pointer or ffi.NULL)

    @property
    def pointer(self) -> Any:
        """The ``struct instruments *``, for the engine that writes it."""
        if self._pointer is None:
            raise PydpdkError(f"table of instruments {self.name or '(anonymous)'} is closed here")
        return self._pointer

    @property
    def fd(self) -> int:
        """The descriptor; give it to another process to attach to an anonymous table."""
        return int(lib.instruments_fd(self.pointer))

    def unlink(self) -> None:
        """Remove the name; the memory goes when nobody has it open."""
        lib.instruments_unlink(self.pointer)

    # --- to read ---

    def symbol(self, instrument_id: int) -> str:
        """The whole symbol of an instrument; "" when nothing has named it."""
        row = self._read(instrument_id, 1)
        return text(row["symbol"][0]) if len(row) else ""

    def rows(self, feed: int) -> NDArray[np.void]:
        """Copies of a feed's rows, dtype INSTRUMENT, by index within the feed.

        Each is as it was at one moment; a symbol is b"" where an index names nothing. What lies
        beyond the last row names nothing either.
        """
        return self._read(feed * lib.INSTRUMENTS_EACH, self._feed(feed).named)

    def symbols(self, feed: int) -> dict[int, str]:
        """Whole symbols of a feed by ``instrument_id``."""
        symbols, base = self.rows(feed)["symbol"], feed * int(lib.INSTRUMENTS_EACH)
        return {base + i: text(symbols[i]) for i in np.flatnonzero(symbols != b"").tolist()}

    def refused(self, feed: int) -> list[str]:
        """Symbols of a feed that found no index, the first 8 of them."""
        of = self._feed(feed)
        return [text(bytes(ffi.buffer(of.refused[i]))) for i in range(of.refusals)]

    def feed_name(self, feed: int) -> str:
        """Name of a feed by its run's configuration; "" without one."""
        name: bytes = ffi.string(self._feed(feed).name)
        return name.decode(errors="replace")

    def _feed(self, feed: int) -> Any:
        found = lib.instruments_feed(self.pointer, feed)
        if found == ffi.NULL:
            raise PydpdkError(f"no feed {feed}: the table has rows for {self.feeds}")
        return found

    def _read(self, instrument_id: int, count: int) -> NDArray[np.void]:
        rows = np.zeros(count, INSTRUMENT)
        out = ffi.from_buffer("struct instrument[]", rows, require_writable=True)
        read = lib.instruments_read(self.pointer, instrument_id, count, out)
        return rows[: check(read, f"instrument {instrument_id}: {self.feeds} feeds in the table")]

    # --- to write ---

    def name_feed(self, feed: int, name: str, populate: bool = False) -> None:
        """Name a feed; rows that another name left are emptied.

        ``populate``: take the memory of all its rows now. CoreError: EINVAL for a feed that the
        table has no rows for, ENOSPC or ENOMEM without memory.
        """
        rc = lib.instruments_name(self.pointer, feed, name.encode(), populate)
        check(rc, f"table of instruments for feed {name or feed}")

    def put(
        self,
        instrument_id: int,
        symbol: str,
        *,
        venue: str = "",
        currency: str = "",
        round_lot: int = 0,
        size_unit: int = 0,
        price_unit: int = 9,
    ) -> None:
        """Name an instrument, as an engine's decoder does; readers see the old row or the new.

        OverflowError for text that is too long. CoreError: EINVAL beyond the table's feeds.
        """
        row = ffi.new("struct instrument *", {"round_lot": round_lot, "size_unit": size_unit})
        row.price_unit = price_unit
        for field, value in (("symbol", symbol), ("venue", venue), ("currency", currency)):
            raw = value.encode("latin-1")
            if len(raw) > (room := INSTRUMENT[field].itemsize):
                raise OverflowError(f"{value!r} is longer than {field}'s {room} bytes")
            setattr(row, field, raw)
        check(lib.instruments_set(self.pointer, instrument_id, row), f"instrument {instrument_id}")


def _name(name: str | None) -> Any:
    return ffi.NULL if name is None else os.fsencode(name)
