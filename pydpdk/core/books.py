"""Order books of one feed: zero-copy views of their levels, consistent reads, queue positions."""

from __future__ import annotations

import errno
import secrets
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from pydpdk._core import ffi, lib
from pydpdk.core.closes import Closes
from pydpdk.core.event import ASK, BID
from pydpdk.core.layout import UNDEF_PRICE, dtype
from pydpdk.errors import CoreError, PydpdkError, UsageError, check

READ_TRIES = 10_000
T = TypeVar("T")


class Top(NamedTuple):
    """Best prices in 1e-9 (UNDEF_PRICE when a side is empty) and what is there in shares."""

    bid: int
    bid_size: int
    ask: int
    ask_size: int


class Order(NamedTuple):
    """A live order: price in 1e-9, size in shares left, side BID or ASK."""

    id: int
    instrument: int
    side: int
    price: int
    size: int


class Queue(NamedTuple):
    """What is ahead of an order at its price."""

    shares: int
    orders: int


class Books(Closes):
    """All books of one feed, written by the engine (or by a test, through ``pointer``).

    Built from a ``struct books *`` it owns nothing: the engine that gave it closes it when it
    ends. ``Books.create`` makes books of its own, to be used in ``with``. Closed books raise
    PydpdkError.
    """

    def __init__(self, pointer: Any) -> None:
        self._pointer = pointer
        self._owned = False
        self._indices: dict[bytes, int] = {}
        self.levels = self._view(lib.books_levels(pointer), "level", lib.books_levels_room(pointer))
        self.instruments = self._view(lib.books_all(pointer), "book", lib.BOOK_INSTRUMENTS_MAX)

    @classmethod
    def create(cls, orders_max: int, levels_max: int, seed: int | None = None) -> Books:
        """Books with room for so many live orders and levels (array slack included).

        `seed` keys the order map, at random by default. Raises CoreError (EINVAL, ENOMEM).
        """
        config = ffi.new("struct books_config *")
        config.orders_max, config.levels_max = orders_max, levels_max
        config.seed = secrets.randbits(64) if seed is None else seed
        out = ffi.new("struct books **")
        check(lib.books_create(config, out), f"books for {orders_max} orders, {levels_max} levels")
        books = cls(out[0])
        books._owned = True
        return books

    def close(self) -> None:
        """Let go of the memory, and free own books: views of it must not be used any more."""
        pointer, self._pointer = self._pointer, None
        self.levels = self.levels[:0]
        self.instruments = self.instruments[:0]
        if self._owned and pointer is not None:
            lib.books_destroy(pointer)

    @property
    def pointer(self) -> Any:
        """The ``struct books *``."""
        if self._pointer is None:
            raise PydpdkError("these books are closed, or the engine that had them is")
        return self._pointer

    @staticmethod
    def _view(pointer: Any, struct: str, count: int) -> NDArray[np.void]:
        kind = dtype(struct)
        view = np.frombuffer(ffi.buffer(pointer, count * kind.itemsize), kind)
        view.flags.writeable = False
        return view

    def instrument(self, symbol: str | bytes) -> int:
        """The instrument number of a symbol (space padding is not needed)."""
        raw = symbol.encode("ascii", "replace") if isinstance(symbol, str) else symbol
        key = raw.ljust(8)
        index = self._indices.get(key)
        if index is None or self.instruments["symbol"][index] != key:
            symbols = self.instruments["symbol"]
            known = np.flatnonzero(symbols != b"")
            self._indices = {symbols[i].ljust(8): int(i) for i in known}
            index = self._indices.get(key)
        if index is None:
            raise UsageError(f"no instrument {symbol!r}: {len(self._indices)} symbols are known")
        return index

    def depth(
        self, instrument: int, n: int | None = None
    ) -> tuple[NDArray[np.void], NDArray[np.void]]:
        """Bids and asks, best first: read-only views of dtype ``level`` into the live arrays.

        At most `n` levels a side. They change while the engine runs: use `read` or `snapshot`.
        """
        book = self._book(instrument)
        return self._side(book.side[0], n), self._side(book.side[1], n)

    def _book(self, instrument: int) -> Any:
        books = lib.books_all(self.pointer)
        if not 0 <= instrument < len(self.instruments):
            raise UsageError(f"instrument {instrument} is not in 0..{len(self.instruments) - 1}")
        return books[instrument]

    def _side(self, side: Any, n: int | None) -> NDArray[np.void]:
        at, count = int(side.at), int(side.count)
        if at + count > len(self.levels):  # torn: `read` will ask again
            count = 0
        return self.levels[at : at + count][::-1][:n]

    def _stable(self, instrument: int, look: Callable[[], T]) -> T:
        """What `look` returns, once the book did not change meanwhile."""
        self._book(instrument)
        for _ in range(READ_TRIES):
            begun = lib.book_read_begin(self.pointer, instrument)
            try:
                seen = look()
            except Exception:
                if lib.book_read_end(self.pointer, instrument, begun):
                    raise  # of whole levels: an error of its own
                continue
            if lib.book_read_end(self.pointer, instrument, begun):
                return seen
        raise CoreError(errno.EAGAIN, f"book {instrument} changed during all {READ_TRIES} reads")

    def read(self, instrument: int, fn: Callable[[NDArray[np.void], NDArray[np.void]], T]) -> T:
        """``fn(bids, asks)`` on live views, again until nothing changed meanwhile: never torn.

        `fn` may see torn levels in tries that do not count, so it must return values, not views,
        and have no effects. Raises CoreError (EAGAIN) when the book never rests.
        """
        return self._stable(instrument, lambda: fn(*self.depth(instrument)))

    def snapshot(self, instrument: int, n: int = 10) -> tuple[NDArray[np.void], NDArray[np.void]]:
        """Copies of the best `n` bids and asks, best first, both of the same moment."""
        return self._stable(
            instrument, lambda: (self._best(instrument, BID, n), self._best(instrument, ASK, n))
        )

    def _best(self, instrument: int, side: int, n: int) -> NDArray[np.void]:
        out = np.zeros(n, dtype("level"))
        at = ffi.from_buffer("struct level *", out, require_writable=True)
        rc = lib.book_depth(self.pointer, instrument, side, n, at)
        return out[: check(rc, f"depth of book {instrument}")]

    def top(self, instrument: int) -> Top:
        """The best prices and their sizes, of one moment."""
        bids, asks = self.snapshot(instrument, 1)
        bid = (int(bids["price"][0]), int(bids["size"][0])) if len(bids) else (UNDEF_PRICE, 0)
        ask = (int(asks["price"][0]), int(asks["size"][0])) if len(asks) else (UNDEF_PRICE, 0)
        return Top(*bid, *ask)

    def order(self, order_id: int) -> Order | None:
        """The live order of this id, or None. While the engine runs, None may be too early."""
        return self._of_order(order_id, lambda order: order)

    def queue(self, order_id: int) -> Queue | None:
        """Shares and orders ahead of a live order at its price, or None when it is not live."""
        shares, orders = ffi.new("uint64_t *"), ffi.new("uint32_t *")

        def look(_: Order) -> Queue | None:
            rc = lib.book_queue(self.pointer, order_id, shares, orders)
            return Queue(shares[0], orders[0]) if rc == 0 else None

        return self._of_order(order_id, look)

    def _find(self, order_id: int) -> Order | None:
        found = lib.book_find(self.pointer, order_id)
        if found == ffi.NULL:
            return None
        side = ASK if found.where & 1 else BID
        return Order(found.id, found.where >> 1, side, found.price, found.size)

    def _of_order(self, order_id: int, look: Callable[[Order], T | None]) -> T | None:
        """`look` at an order while its book rests."""
        first = self._find(order_id)
        if first is None:
            return None
        instrument = first.instrument

        def again() -> T | None:
            order = self._find(order_id)
            return look(order) if order is not None else None

        return self._stable(instrument, again)

    def hash(self) -> int:
        """The sum of FNV-1a 64 over each level: equal books give equal hashes on every host."""
        return int(lib.books_hash(self.pointer))

    @property
    def orders(self) -> int:
        """Live orders."""
        return int(lib.books_orders(self.pointer))

    @property
    def memory(self) -> int:
        """Bytes reserved at start."""
        return int(lib.books_memory(self.pointer))
