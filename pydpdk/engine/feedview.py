"""One feed of an engine: its books, accounts and counters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from pydpdk._core import ffi, lib
from pydpdk.core import counters
from pydpdk.core.books import Books
from pydpdk.core.instruments import Instruments, text
from pydpdk.engine.feed import Feed, session_name
from pydpdk.errors import PydpdkError, UsageError

RUNS = "the engine runs in a thread of its own: stop() and join() that first"


class FeedView:
    """One running feed: its books, accounts and counters.

    Closed with its engine; ``running`` tells whether the engine's loop runs in a thread now.
    """

    def __init__(
        self,
        feed: Any,
        index: int,
        spec: Feed,
        running: Callable[[], bool],
        table: Instruments,
    ) -> None:
        self._feed = feed
        self._table = table
        self._running = running
        self._books = Books(lib.feed_books(feed))
        self.index = index
        self.spec = spec
        self.base = index << 16  # of its instrument ids

    def close(self) -> None:
        """The engine, which owns the feed, goes: nothing of it may be looked at any more."""
        self._feed = None
        self._books.close()

    @property
    def pointer(self) -> Any:
        """The ``struct feed *``. PydpdkError once the engine is closed."""
        if self._feed is None:
            raise PydpdkError("this Engine is closed: make another one")
        return self._feed

    @property
    def books(self) -> Books:
        """Its books, of the running session."""
        self.pointer  # noqa: B018  # closed?
        return self._books

    def symbols(self) -> dict[int, str]:
        """Whole symbols by ``instrument_id``, of the instruments that this session named."""
        named = self.books.instruments["symbol"] != b""
        symbols = self._table.rows(self.index)["symbol"]
        return {
            self.base + i: text(symbols[i]) for i in np.flatnonzero(named[: len(symbols)]).tolist()
        }

    def instrument(self, symbol: str) -> int:
        """The number (within this feed) of a whole symbol. UsageError for an unknown one."""
        symbols = self.symbols()
        for number, known in symbols.items():
            if known == symbol.rstrip():
                return number - self.base
        raise UsageError(f"no instrument {symbol!r}: {len(symbols)} symbols are known")

    def refused(self) -> list[str]:
        """Symbols that found no room among 65,535 instruments, the first 8 of them."""
        return self._table.refused(self.index)

    def counters(self) -> dict[str, int]:
        """Every counter of the registry, as this feed moved it (while it runs: a step ago)."""
        if not self._running():  # each step ends with a sync of its own
            lib.feed_sync(self.pointer)
        return counters.read(lib.feed_counters(self.pointer))

    def messages(self) -> dict[str, int]:
        """Decoded messages by the venue's type letter."""
        by_type = ffi.unpack(lib.feed_decoder(self.pointer).by_type, 256)
        return {chr(i): n for i, n in enumerate(by_type) if n}

    def lines(self) -> list[dict[str, Any]]:
        """Statistics of line A, then B."""
        lines = lib.feed_lines(self.pointer)
        names = ("packets", "messages", "wins", "losses", "healed", "leads", "lead_ns_max", "stale")
        return [
            {
                "line": str(endpoint),
                **{name: getattr(lines[i], name) for name in names},
                "lead_ns_mean": lines[i].lead_ns_sum // max(lines[i].leads, 1),
            }
            for i, endpoint in enumerate(self.spec.lines)
        ]

    def sessions(self) -> Iterator[dict[str, Any]]:
        """The account of each session, oldest first (the last 64), the running one last.

        ``first..last`` were expected = ``delivered`` + ``lost``; ``received`` over all lines =
        delivered + duplicate + late + cut + untrusted. UsageError while start() runs.
        """
        if self._running():
            raise UsageError(RUNS)
        for i in range(lib.feed_sessions(self.pointer)):
            ledger = lib.feed_ledger(self.pointer, i)
            if ledger != ffi.NULL:
                yield _account(ledger, lib.feed_protocol(self.pointer).framing)

    @property
    def gaps_pointer(self) -> Any:
        """``const uint32_t *`` on the gap count, for risk."""
        return ffi.addressof(lib.feed_decoder(self.pointer), "gaps")

    def is_suspect(self, instrument: int) -> bool:
        """Whether the book of that number (within this feed) may be wrong."""
        return bool(self._wrong(self.books.instruments[instrument]))

    @property
    def gaps(self) -> int:
        """Gap count of this session: books whose epoch is older are suspect."""
        return int(lib.feed_decoder(self.pointer).gaps)

    def _wrong(self, books: Any) -> Any:
        """Of one row of the books, or all of them: book_suspect() of csrc/book/state.h."""
        return (books["epoch"] != self.gaps) | (books["state"] & lib.BOOK_BROKEN != 0)

    @property
    def suspect_instruments(self) -> int:
        """How many of this session's books may be wrong: broken, or older than a gap."""
        books = self.books.instruments
        touched = books["state"] & (lib.BOOK_SEEN | lib.BOOK_BROKEN) != 0
        return int(np.count_nonzero(touched & self._wrong(books)))

    @property
    def suspect(self) -> bool:
        """Whether any book of this session may be wrong."""
        return self.suspect_instruments > 0


def _account(ledger: Any, framing: Any) -> dict[str, Any]:
    recovered = (
        "received",
        "delivered",
        "duplicate",
        "late",
        "cut",
        "untrusted",
        "lost",
        "mismatched",
    )
    return {
        "session": session_name(framing, ledger.session),
        "first": ledger.first,
        "last": ledger.next - 1,
        **{name: getattr(ledger, name) for name in recovered},
        "gaps": ledger.gaps_detected,
        "recovered": ledger.gaps_healed,
        "declared": ledger.gaps_declared,
        "ended": bool(ledger.ended),
        "ts_first": ledger.ts_first,
        "ts_last": ledger.ts_last,
        "books": {
            "instruments": ledger.instruments,
            "orders": ledger.orders,
            "levels": ledger.levels,
            "hash": f"{ledger.books_hash:016x}",
        },
    }
