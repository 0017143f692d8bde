"""A simulated venue that fills orders against the real book, by the rules in csrc/trade/venue.c."""

from __future__ import annotations

from typing import Any

from pydpdk._core import ffi, lib
from pydpdk.core.closes import Closes
from pydpdk.core.event import Events, records
from pydpdk.core.ring import Ring
from pydpdk.errors import PydpdkError, check


class SimVenue(Closes):
    """Writes its execution reports (EVENT_ACK .. EVENT_CANCEL_REJECT) into a ring of its own."""

    def __init__(self, reports: Ring, *, orders_max: int = 65536) -> None:
        """``reports`` stays open as long as the venue. ``orders_max``: resting at once.

        CoreError: EINVAL, ENOMEM.
        """
        out = ffi.new("struct venue **")
        check(lib.venue_create(orders_max, reports._open(), out), f"venue of {orders_max} orders")
        self._venue = ffi.gc(out[0], lib.venue_destroy)
        self._reports = reports
        self._books: list[Any] = []

    def close(self) -> None:
        """Forget all orders, unreported. Harmless when repeated."""
        self._venue = None
        self._books.clear()

    def _open(self) -> Any:
        if self._venue is None:
            raise PydpdkError("this SimVenue is closed: make another one")
        self._reports._open()
        return self._venue

    def books(self, feed: int, books: Any, gaps: Any = ffi.NULL) -> None:
        """Fill the orders of ``feed`` against ``books`` (``struct books *``, the caller's).

        ``gaps``: ``uint32_t *``, the feed's gap count; without it no book is stale by a gap.
        """
        self._books.append((books, gaps))  # alive as long as the core looks at them
        lib.venue_books(self._open(), feed, books, gaps)

    def market(self, events: Events) -> None:
        """Market records (dtype EVENT), in order: resting orders that were traded through fill."""
        lib.venue_market(self._open(), records(events), len(events))

    def orders(self, orders: Events, now: int) -> None:
        """Approved orders and cancels (dtype EVENT), in order, at record time ``now`` (ns)."""
        lib.venue_orders(self._open(), records(orders), len(orders), now)

    def stats(self) -> dict[str, int]:
        """The counts of ``struct venue_stats``; "open" is how many orders rest now."""
        stats = lib.venue_stats(self._open())
        return {name: int(getattr(stats, name)) for name, _ in ffi.typeof(stats).item.fields}
