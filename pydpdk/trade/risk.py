"""Pre-trade risk: the only way from a strategy to a gateway (csrc/trade/risk.h).

Python sets the limits and may look at everything; the checks themselves run in C. All arrays
here are views of the core's memory: writing a limit or the kill switch takes effect at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pydpdk._core import ffi, lib
from pydpdk.core.closes import Closes
from pydpdk.core.event import EVENT, Events, join, records
from pydpdk.core.layout import dtype
from pydpdk.errors import PydpdkError, check
from pydpdk.trade.limits import Limits, RiskConfig

REJECTS: dict[int, str] = {
    code: name.removeprefix("REJECT_")
    for code, name in sorted(ffi.typeof("enum reject").elements.items())
    if code != lib.REJECT_END
}
"""Every value of ``enum reject`` but the end mark, with its name."""


def reject_name(code: int) -> str:
    """The name of a reject code, as in the event's ``aux``; its number when there is none."""
    name = lib.reject_name(code)
    return ffi.string(name).decode() if name else str(code)


def reject_doc(code: int) -> str:
    """What a reject code means, in one line; "" when there is no such code."""
    doc = lib.reject_doc(code)
    return ffi.string(doc).decode() if doc else ""


def reject_table() -> str:
    """All reject codes as a Markdown table, from the core's own rows."""
    rows = [f"| {code} | `{reject_name(code)}` | {reject_doc(code)} |" for code in REJECTS]
    return "\n".join(["| code | name | meaning |", "|---|---|---|", *rows])


class Risk(Closes):
    """Limits, exposure and checks of one account.

    Views stay valid after close(): they keep the core's memory alive.
    """

    def __init__(
        self, config: RiskConfig | None = None, *, feeds: int = 1, orders_max: int = 65536
    ) -> None:
        """``feeds``: instruments are those of feeds 0 to ``feeds`` - 1, 65,536 each.

        ``orders_max``: order ids remembered at once; working orders never exceed it. Without a
        ``config`` the defaults of pydpdk.trade.limits apply. CoreError: EINVAL, ENOMEM.
        """
        out = ffi.new("struct risk **")
        check(
            lib.risk_create(feeds, orders_max, out), f"risk of {feeds} feeds, {orders_max} orders"
        )
        self._risk = ffi.gc(out[0], lib.risk_destroy)
        self._books: list[Any] = []
        self._names: dict[int, str] = {}
        rows = feeds << 16
        self.limits = self._view(lib.risk_limits(self._risk), dtype("limits"), rows)
        """One row of ``struct limits`` per instrument id."""
        self.account = self._view(lib.risk_account(self._risk), dtype("account_limits"), 1)[0]
        """``struct account_limits``, one numpy record."""
        self.positions: npt.NDArray[np.int64] = self._view(
            lib.risk_positions(self._risk), np.dtype(np.int64), rows
        )
        """Shares per instrument id, short is negative. Set opening positions here (cost 0)."""
        self._stats = lib.risk_stats(self._risk)
        self._make_room(64)
        self._apply(config or RiskConfig())

    def close(self) -> None:
        """Let go of the core's side. Harmless when repeated; any later check is an error."""
        self._risk = None

    def _open(self) -> Any:
        if self._risk is None:
            raise PydpdkError("this Risk is closed: make another one")
        return self._risk

    def _view(self, at: Any, kind: np.dtype[Any], rows: int) -> npt.NDArray[Any]:
        """An array over the core's memory; its last view frees that memory, not close()."""
        owner = self._risk
        held = ffi.gc(at, lambda _: owner)
        return np.frombuffer(ffi.buffer(held, rows * kind.itemsize), kind)

    def _apply(self, config: RiskConfig) -> None:
        self.config = config
        self.limits[:] = _row(config.default)
        for name in self.account.dtype.names:
            self.account[name] = getattr(config.account, name)

    def name(self, instrument: int, symbol: str) -> None:
        """Tell which instrument a symbol is: its own limits, if configured, apply from here.

        An id that was another symbol before gets the default limits when this one has none.
        """
        symbol = symbol.strip()
        changed = self._names.get(instrument, symbol) != symbol
        self._names[instrument] = symbol
        limits = self.config.instruments.get(symbol, self.config.default if changed else None)
        if limits is not None:
            self.limits[instrument] = _row(limits)

    def on_market(self, events: Events) -> None:
        """Learn symbols from the directory records (EVENT_INSTRUMENT) among market events."""
        if not self.config.instruments:
            return
        for row in np.flatnonzero(events["kind"] == lib.EVENT_INSTRUMENT).tolist():
            symbol = int(events["order_id"][row]).to_bytes(8, "little")
            self.name(int(events["instrument_id"][row]), symbol.decode("ascii", "replace"))

    def books(self, feed: int, books: Any, gaps: Any = ffi.NULL) -> None:
        """Compare the orders of ``feed`` with ``books`` (``struct book *``, kept by the caller).

        ``gaps``: ``uint32_t *``, the feed's gap count; without it no book is stale by a gap.
        """
        self._books.append((books, gaps))  # alive as long as the core looks at them
        lib.risk_books(self._open(), feed, books, gaps)

    def pass_orders(self, orders: Events, now: int) -> tuple[Events, Events]:
        """Check ``orders`` (dtype EVENT) in order at record time ``now`` (ns).

        Returns copies of those approved, now counted in exposure, and EVENT_REJECT or
        EVENT_CANCEL_REJECT records (``aux`` = reject code) for the others.
        """
        if len(orders) > len(self._approved):
            self._make_room(len(orders))
        approved, rejects, refused = self._out
        given = records(orders)
        passed = lib.risk_pass(self._open(), given, len(orders), now, approved, rejects, refused)
        return join([self._approved[:passed]]), join([self._rejects[: refused[0]]])

    def _make_room(self, n: int) -> None:
        """Make room for what ``n`` orders may become."""
        self._approved, self._rejects = np.empty(n, EVENT), np.empty(n, EVENT)
        self._out = records(self._approved), records(self._rejects), ffi.new("uint64_t *")

    def on_reports(self, reports: Events) -> None:
        """Apply execution reports (dtype EVENT): working orders become positions or go."""
        lib.risk_report(self._open(), records(reports), len(reports))

    def kill(self, on: bool = True) -> None:
        """Let only cancels pass from now on, or lift that."""
        self.account["kill"] = int(on)

    def stats(self) -> dict[str, int | dict[str, int]]:
        """The counts of ``struct risk_stats``; "rejected" has those above 0, by reject name."""
        self._open()
        counts: dict[str, int | dict[str, int]] = {
            name: int(getattr(self._stats, name))
            for name, _ in ffi.typeof("struct risk_stats").fields
            if name != "rejected"
        }
        rejected = {name: int(self._stats.rejected[code]) for code, name in REJECTS.items()}
        counts["rejected"] = {name: count for name, count in rejected.items() if count}
        return counts


def _row(limits: Limits) -> npt.NDArray[Any]:
    row = np.zeros((), dtype("limits"))
    for name in row.dtype.names or ():
        row[name] = getattr(limits, name)
    return row
