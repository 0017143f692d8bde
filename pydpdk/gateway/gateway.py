"""Where approved orders go and where execution reports come from (csrc/trade/gateway.h)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pydpdk._core import ffi
from pydpdk.core.closes import Closes
from pydpdk.core.event import EVENT, Events, join, records
from pydpdk.errors import PydpdkError

STATES: dict[int, str] = {
    value: name.removeprefix("GATEWAY_").lower()
    for value, name in ffi.typeof("enum gateway_state").elements.items()
}
REPORTS_MAX = 1024  # taken at once


class Gateway(Closes):
    """Any ``struct gateway`` of the core, which it owns."""

    def __init__(self, pointer: Any) -> None:
        """``pointer``: a ``struct gateway *``, closed by close() or when nobody has this left."""
        self._ops = pointer.ops
        self._pointer = ffi.gc(pointer, self._ops.close)
        self._space = np.empty(REPORTS_MAX, EVENT)
        self._out = records(self._space)
        self._reports: list[Events] = []

    @property
    def pointer(self) -> Any:
        """The ``struct gateway *``."""
        if self._pointer is None:
            raise PydpdkError(f"this {type(self).__name__} is closed: make another one")
        return self._pointer

    def books(self, feed: int, books: Any, gaps: Any = ffi.NULL) -> None:
        """Show it the ``struct books *`` of a feed, the caller's; most gateways look at none.

        ``gaps``: ``uint32_t *``, the feed's gap count; without it no book is stale by a gap.
        """

    def market(self, events: Events, now: int) -> None:
        """Show it market records (dtype EVENT), in order, at record time ``now`` (ns)."""
        if look := self._ops.market:
            self._give(look, events, now)

    def orders(self, orders: Events, now: int) -> None:
        """Give it approved orders and cancels (dtype EVENT), in order, at record time ``now``."""
        self._give(self._ops.orders, orders, now)

    def _give(self, give: Callable[..., int], events: Events, now: int) -> None:
        """All of them, with reports taken in between where it lacks the room for more."""
        pointer, held, at = self.pointer, records(events), 0
        while (taken := give(pointer, held + at, len(events) - at, now)) < len(events) - at:
            if not self._collect() and not taken:
                raise PydpdkError("the gateway takes no record, though no report waits in it")
            at += taken

    def _collect(self) -> int:
        """Reports that waited, into Python's hands; how many."""
        before = len(self._reports)
        count = REPORTS_MAX
        while count == REPORTS_MAX:
            count = self._ops.reports(self.pointer, self._out, REPORTS_MAX)
            if count:
                self._reports.append(join([self._space[:count]]))
        return len(self._reports) - before

    def take(self) -> Events:
        """Execution reports since the last call, in order."""
        self._collect()
        reports, self._reports = self._reports, []
        return reports[0] if len(reports) == 1 else join(reports)

    @property
    def state(self) -> str:
        """Say "up", "down" or "closing"; gateway.h has what becomes of orders then."""
        return STATES[self._ops.state(self.pointer)]

    @property
    def lost(self) -> int:
        """Reports that found no room, in all."""
        return int(self._ops.lost(self.pointer))

    def close(self) -> None:
        """Forget all orders and reports. Harmless when repeated."""
        self._pointer = None
