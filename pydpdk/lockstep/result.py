"""What a replay gives back: accounts, and tables as numpy arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pydpdk._core import lib
from pydpdk.core.event import Event, Events
from pydpdk.core.hist import Hist
from pydpdk.core.instruments import SYMBOL
from pydpdk.engine.engine import Engine
from pydpdk.errors import HostError, UsageError
from pydpdk.trade.fills import Fills

Array = np.ndarray[Any, Any]
LEVEL = np.dtype(
    [
        ("instrument_id", "u4"),
        ("symbol", SYMBOL),
        ("side", "u1"),
        ("depth", "u4"),
        ("price", "i8"),
        ("size", "u8"),
        ("orders", "u4"),
    ]
)
POSITION = np.dtype(
    [
        ("instrument_id", "u4"),
        ("symbol", SYMBOL),
        ("position", "i8"),
        ("cash_1e9", "i8"),
        ("mark", "i8"),
        ("profit_1e9", "i8"),
    ]
)
PROFIT = np.dtype([("ts_recv", "u8"), ("profit_1e9", "i8")])
TABLES = ("orders", "reports", "fills", "positions", "profit", "books", "events")


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """All that came of a replay. Arrays are copies: they need nothing that was closed.

    Prices are integers in 1e-9 of the currency, times ns since the Unix epoch (``ts_event`` is
    without the day when a Feed named no ``midnight_ns``), sizes shares; ``side`` is BID or ASK,
    ``kind`` one of KINDS.
    """

    accounts: dict[str, Any]
    """What ``pydpdk replay --json`` prints: frames, messages, sequence, books (equal ones have
    the same ``hash``), lines, orders, latency_ns, events, counters, ``unexplained`` (0 when every
    account closes), interrupted, problems."""
    symbols: dict[int, str]
    """By ``instrument_id``, of the instruments that the last session of each feed named."""
    books: Array
    """A row for each level at the end: instrument_id, symbol, side, depth (0 is the best), price,
    size, orders."""
    orders: Events
    """Every order and cancel that the strategy issued, dtype EVENT."""
    reports: Events
    """What became of them, dtype EVENT: ACK, FILL, CANCELED, REJECT, CANCEL_REJECT. ``aux`` of a
    FILL is what is left of the order, of a reject its code (docs/risk.md)."""
    positions: Array
    """A row for each instrument that was traded: instrument_id, symbol, position in shares,
    cash_1e9 paid (negative) and got, mark (the last middle of its best prices, else the price of
    its last fill), profit_1e9 = cash + position * mark."""
    profit: Array
    """Over time: ts_recv on the record clock and the whole account's profit_1e9, a row for each
    batch that changed it. 0 before the first; the last is ``accounts["orders"]["profit_1e9"]``."""
    times: dict[str, Hist]
    """How long each part took (docs/performance.md), in ns: ``times["stage"].percentile(99)``."""
    events: Events
    """Every record, dtype EVENT; none but with ``keep_events``."""

    @property
    def fills(self) -> Events:
        """The FILL records of ``reports``."""
        fills: Events = self.reports[self.reports["kind"] == lib.EVENT_FILL]
        return fills

    @property
    def problems(self) -> list[str]:
        """A line for each source that broke, with the place where it did."""
        return list(self.accounts["problems"])

    def book(self, symbol: str) -> tuple[Array, Array]:
        """Bids and asks of a symbol at the end, best first: rows of ``books``."""
        rows = self.books[self.books["symbol"] == symbol.encode("latin-1")]
        if symbol not in self.symbols.values():
            raise UsageError(f"no instrument {symbol!r}: {len(self.symbols)} symbols are known")
        return rows[rows["side"] == lib.SIDE_BID], rows[rows["side"] == lib.SIDE_ASK]

    def columns(self, table: str) -> dict[str, Any]:
        """One of orders, reports, fills, positions, profit, books, events as plain columns.

        A column ``symbol`` tells of ``instrument_id``. UsageError for another name.
        """
        if table not in TABLES:
            raise UsageError(f"no table {table!r}: one of {', '.join(TABLES)}")
        rows: Array = getattr(self, table)
        found: dict[str, Any] = columns(rows)
        if table in ("orders", "reports", "fills"):
            found = {name: found[name] for name in Event._fields}
        if "instrument_id" in found:
            ids = rows["instrument_id"].tolist()
            found["symbol"] = [self.symbols.get(number, "") for number in ids]
        return found

    def to_pandas(self, table: str = "fills") -> Any:
        """A ``pandas.DataFrame`` of columns(table). HostError without pandas."""
        try:
            import pandas
        except ImportError:
            raise HostError("to_pandas() needs pandas: pip install pandas") from None
        return pandas.DataFrame(self.columns(table))

    def to_polars(self, table: str = "fills") -> Any:
        """A ``polars.DataFrame`` of columns(table). HostError without polars."""
        try:
            import polars
        except ImportError:
            raise HostError("to_polars() needs polars: pip install polars") from None
        return polars.DataFrame(self.columns(table))

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(getattr(self, table)):,} {table}" for table in TABLES)
        frames, left = self.accounts["frames"]["received"], self.accounts["unexplained"]
        return f"<Result of {frames:,} frames: {counts}; unexplained {left}>"


def columns(table: Array) -> dict[str, Array]:
    """Contiguous columns; the same bytes under two names of a union are both given."""
    return {name: np.ascontiguousarray(table[name]) for name in table.dtype.names or ()}


def levels(engine: Engine, depth: int | None = None) -> Array:
    """Every level of every book, down to ``depth`` a side, best first: dtype LEVEL."""
    parts = [np.zeros(0, LEVEL)]
    for feed in engine.feeds:
        for instrument, symbol in feed.symbols().items():
            sides = feed.books.depth(instrument - feed.base, depth)
            for side, rows in zip((lib.SIDE_BID, lib.SIDE_ASK), sides, strict=True):
                part = np.zeros(len(rows), LEVEL)
                part["instrument_id"], part["symbol"] = instrument, symbol.encode("latin-1")
                part["side"], part["depth"] = side, np.arange(len(rows))
                for name in ("price", "size", "orders"):
                    part[name] = rows[name]
                parts.append(part)
    return np.concatenate(parts)


def positions(fills: Fills, symbols: Mapping[int, str]) -> Array:
    """Of each instrument that was traded, dtype POSITION."""
    rows = [
        (number, symbols.get(number, "").encode("latin-1"), position, cash, mark,
         cash + position * mark)
        for number, (position, cash, mark) in fills.rows().items()
    ]  # fmt: skip
    return exact(rows, POSITION)


def exact(rows: Sequence[Iterable[Any]], kind: np.dtype[Any]) -> Array:
    """Rows as an array; signed numbers beyond 64 bits make theirs columns of Python's integers."""
    try:
        return np.array(rows, kind)
    except OverflowError:
        names = kind.names or ()
        wide = [(name, object if kind[name].kind == "i" else kind[name]) for name in names]
        return np.array(rows, wide)
