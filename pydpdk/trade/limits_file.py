"""Risk limits from a TOML file such as docs/risk.md shows; no float in between.

What is missing keeps the value of DEFAULT or DEFAULT_ACCOUNT of :mod:`pydpdk.trade.limits`, an
instrument's that of ``[default]``; ``"unlimited"`` lifts a limit.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import msgspec

from pydpdk.core.toml import File, Key, Table, key
from pydpdk.trade.limits import (
    CURRENCY,
    DEFAULT,
    DEFAULT_ACCOUNT,
    UNLIMITED,
    AccountLimits,
    Limits,
    RiskConfig,
)

DECIMALS_MAX = 100
"""Decimals that are read at all: zeros beyond nine of them are harmless."""


def _integer(value: Any, otherwise: str = "") -> int:
    if type(value) is not int:
        raise ValueError(f"must be an integer{otherwise}")
    return value


def _in_range(value: int) -> int:
    if not 0 <= value < UNLIMITED:
        raise ValueError('must not be negative, nor reach 2**63 units: write "unlimited"')
    return value


def _count(value: Any) -> int:
    return UNLIMITED if value == "unlimited" else _in_range(_integer(value, ' or "unlimited"'))


def _money(value: Any) -> int:
    if value == "unlimited":
        return UNLIMITED
    try:
        if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
            raise InvalidOperation
        amount = Decimal(value)
    except InvalidOperation:
        raise ValueError('must be a number, decimal text or "unlimited"') from None
    if not amount.is_finite() or amount.adjusted() > 18:
        raise ValueError("must be a finite number below 9223372036.854775807")
    if amount.as_tuple().exponent < -DECIMALS_MAX:  # type: ignore[operator]
        raise ValueError("has more than 9 decimals")
    units = Fraction(amount) * CURRENCY  # exact, where Decimal would round to its context
    if units.denominator != 1:
        raise ValueError("has more than 9 decimals")
    return _in_range(int(units))


def _window(value: Any) -> int:
    if _integer(value) < 1:
        raise ValueError("must be an integer of at least 1")
    return _in_range(value * 1_000_000)


Count = Annotated[int, key(read=_count)]
Money = Annotated[int, key(read=_money)]


class _Account(Table, frozen=True):
    kill: bool = bool(DEFAULT_ACCOUNT.kill)
    gross_value_max: Money = DEFAULT_ACCOUNT.gross_value_max
    rate_max: Count = DEFAULT_ACCOUNT.rate_max
    rate_window_ns: Annotated[int, key(read=_window)] = msgspec.field(
        name="rate_window_ms", default=DEFAULT_ACCOUNT.rate_window_ns
    )
    open_max: Count = DEFAULT_ACCOUNT.open_max


class _Instrument(Table, frozen=True):
    order_size_max: Count = DEFAULT.order_size_max
    order_value_max: Money = DEFAULT.order_value_max
    price_collar_bps: Count = DEFAULT.price_collar_bps
    position_max: Count = DEFAULT.position_max


class _All(Table, frozen=True):
    account: _Account = _Account()
    default: dict[str, Any] = msgspec.field(default_factory=dict)
    instrument: dict[str, Any] = msgspec.field(default_factory=dict)


def read_config(file: File, tables: Any, at: Key = ()) -> RiskConfig:
    """Limits out of the tables that stand at a key of a file."""
    top = file.convert(_All, tables, at)
    default = _limits(file, top.default, (*at, "default"), DEFAULT)
    instruments = {}
    for symbol, given in top.instrument.items():
        where = (*at, "instrument", symbol)
        if not (symbol.isascii() and 0 < len(symbol) <= 8 and symbol == symbol.strip()):
            file.refuse(where, f"{symbol!r}: a symbol has 1 to 8 ASCII characters")
        instruments[symbol] = _limits(file, given, where, default)
    account = AccountLimits(**msgspec.structs.asdict(top.account))
    return RiskConfig(account, default, instruments)


def _limits(file: File, given: Any, at: Key, rest: Limits) -> Limits:
    """The limits of a table; what it does not name is as in `rest`."""
    read = file.convert(_Instrument, given, at)
    return replace(rest, **{name: getattr(read, name) for name in given})


def load_config(path: str | Path) -> RiskConfig:
    """Read a limits file (docs/risk.md). UsageError names file, line, key and what is allowed."""
    file = File.read(Path(path))
    return read_config(file, file.tables)
