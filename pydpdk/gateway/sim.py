"""A simulated venue that fills orders against the real book, by the rules in csrc/trade/venue.c."""

from __future__ import annotations

from typing import Any

from pydpdk._core import ffi, lib
from pydpdk.errors import check
from pydpdk.gateway.gateway import Gateway


class SimVenue(Gateway):
    """A function of records, books and orders alone; it is always up and loses no report."""

    def __init__(self, orders_max: int = 65536) -> None:
        """``orders_max``: resting at once. CoreError: EINVAL, ENOMEM."""
        out = ffi.new("struct gateway **")
        check(lib.venue_create(orders_max, out), f"venue of {orders_max} orders")
        super().__init__(out[0])
        self._books: list[Any] = []

    def books(self, feed: int, books: Any, gaps: Any = ffi.NULL) -> None:
        """Fill the orders of ``feed`` against ``books``: see Gateway.books."""
        self._books.append((books, gaps))  # alive as long as the core looks at them
        lib.venue_books(self.pointer, feed, books, gaps)

    def stats(self) -> dict[str, int]:
        """The counts of ``struct venue_stats``; "open" is how many orders rest now."""
        stats = lib.venue_stats(self.pointer)
        return {name: int(getattr(stats, name)) for name, _ in ffi.typeof(stats).item.fields}
