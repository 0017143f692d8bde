"""A protocol's decoder over books and a ring of its own, called with Python bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from pydpdk._core import ffi, lib
from pydpdk.core import counters
from pydpdk.core.event import EVENT, join
from pydpdk.core.instruments import Instruments
from pydpdk.core.ring import Reader, Ring
from pydpdk.errors import check

MIDNIGHT = 1_700_000_000 * 10**9
SLOTS = 4096


class Decoding:
    """``decode`` gives the records that its messages made. Sequences count on from 1."""

    def __init__(
        self,
        protocol: str,
        *,
        orders_max: int = 1 << 16,
        listen: bool = True,
        table: Instruments | None = None,
    ) -> None:
        self.protocol = lib.protocol_find(protocol.encode())
        out = ffi.new("struct books **")
        config = {"orders_max": orders_max, "levels_max": 1 << 18, "seed": 1}
        check(lib.books_create(ffi.new("struct books_config *", config), out), "books")
        self.books = out[0]
        self.ring = Ring(SLOTS) if listen else None
        self.reader = Reader(fd=self.ring.fd, batch_max=SLOTS) if self.ring else None
        self._counters = ffi.new("struct counters *")
        self.decoder = ffi.new(
            "struct decoder *",
            {
                "out": {
                    "ring": self.ring.pointer if self.ring else ffi.NULL,
                    "counters": self._counters,
                },
                "books": self.books,
                "instruments": table.pointer if table else ffi.NULL,
                "protocol": self.protocol,
                "midnight_ns": MIDNIGHT,
            },
        )
        check(self.protocol.open(self.decoder), "decoder")
        self.sequence = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.protocol.close(self.decoder)
        if self.ring and self.reader:
            self.reader.close()
            self.ring.close()
        lib.books_destroy(self.books)

    def begin(self, session: bytes, gaps: int = 0) -> None:
        """A session, as its feed begins one; with ``gaps`` it is joined late."""
        lib.books_clear(self.books)
        ffi.buffer(self.decoder.session)[:] = session.ljust(lib.SESSION_ID, b"\0")
        self.protocol.reset(self.decoder)
        self.decoder.gaps = gaps

    def decode(self, *messages: bytes) -> Any:
        """Records of all messages, decoded in batches of 256 as the arbiter passes them."""
        found = []
        for at in range(0, len(messages), 256):
            self.batch(messages[at : at + 256])
            found.append(self.drain())
        return join(found)

    def batch(self, messages: Sequence[Any]) -> None:
        """One call of decode; ``messages`` are bytes or uint8_t arrays of cffi."""
        keep = [ffi.from_buffer(m) if isinstance(m, bytes) else m for m in messages]
        rows = ffi.new("struct message[]", len(keep))
        for row, data in zip(rows, keep, strict=True):
            row.data, row.len = ffi.cast("uint8_t *", data), len(data)
            row.sequence, row.ts_recv = self.sequence, self.sequence * 10
            self.sequence += 1
        self.protocol.decode(self.decoder, rows, len(keep))

    def drain(self) -> Any:
        if self.ring is None or self.reader is None:
            return np.zeros(0, EVENT)
        lib.ring_publish(self.ring.pointer)
        events = self.reader.batch().copy()
        self.reader.release()
        return events

    def book(self, instrument: int) -> Any:
        return lib.book_of(self.books, instrument)

    def counted(self) -> dict[str, int]:
        """The counters that moved, without the records written."""
        moved = counters.nonzero(counters.read(self._counters))
        moved.pop("events_written", None)
        return moved
