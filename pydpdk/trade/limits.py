"""Risk limits from a TOML file: checked whole before anything starts, no float in between.

    [account]
    kill = false
    gross_value_max = "25000000.00"     # currency: decimal text or a number, exact to 1e-9
    rate_max = 500                      # orders per window
    rate_window_ms = 1000
    open_max = 2000
    [default]                           # every instrument that has no table of its own
    order_size_max = 10_000             # shares
    order_value_max = 1_000_000         # currency
    price_collar_bps = 200
    position_max = 50_000               # shares
    [instrument.ZVZZT]                  # what it doesn't name is as in [default]
    position_max = 0

``"unlimited"`` lifts a limit. A key that is missing keeps the value of DEFAULT or
DEFAULT_ACCOUNT below.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import Any

from pydpdk.errors import UsageError

UNLIMITED = 2**63 - 1
CURRENCY = 10**9
"""Units of 1e-9 in one unit of currency."""
DECIMALS_MAX = 100
"""Decimals that are read at all: zeros beyond nine of them are harmless."""


@dataclass(frozen=True)
class Limits:
    """Of one instrument; fields and units as ``struct limits`` of csrc/trade/risk.h."""

    order_size_max: int = 10_000
    order_value_max: int = 1_000_000 * CURRENCY
    price_collar_bps: int = 500
    position_max: int = 100_000


@dataclass(frozen=True)
class AccountLimits:
    """Over all instruments; fields and units as ``struct account_limits`` of csrc/trade/risk.h."""

    gross_value_max: int = 10_000_000 * CURRENCY
    rate_max: int = 1_000
    rate_window_ns: int = 1_000_000_000
    open_max: int = 10_000
    kill: int = 0


DEFAULT = Limits()
DEFAULT_ACCOUNT = AccountLimits()


@dataclass(frozen=True)
class RiskConfig:
    """All limits. ``instruments``: those of single symbols, by symbol without padding."""

    account: AccountLimits = DEFAULT_ACCOUNT
    default: Limits = DEFAULT
    instruments: Mapping[str, Limits] = field(default_factory=dict)


def load_config(path: str | Path) -> RiskConfig:
    """Read a limits file. UsageError names the file, the key, and what may stand there."""
    try:
        with open(path, "rb") as file:
            tables = tomllib.load(file, parse_float=Decimal)
    except OSError as error:
        raise UsageError(f"cannot read risk limits {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, InvalidOperation) as error:
        raise UsageError(f"{path}: not TOML: {error}") from error
    return read_config(path, tables)


def read_config(path: str | Path, tables: Any) -> RiskConfig:
    """Limits out of TOML tables that were read already, floats as Decimal; ``path`` names them."""
    _known(f"{path}", tables, ("account", "default", "instrument"))
    account = _table(path, "account", tables.get("account", {}), ACCOUNT_KEYS)
    if "rate_window_ms" in account:
        account["rate_window_ns"] = account.pop("rate_window_ms")
    default = replace(DEFAULT, **_table(path, "default", tables.get("default", {}), LIMIT_KEYS))
    symbols = _known(f"{path}: [instrument]", tables.get("instrument", {}), None)
    instruments = {
        _symbol(path, symbol): replace(
            default, **_table(path, f"instrument.{symbol}", table, LIMIT_KEYS)
        )
        for symbol, table in symbols.items()
    }
    return RiskConfig(replace(DEFAULT_ACCOUNT, **account), default, instruments)


def _known(where: str, table: Any, keys: tuple[str, ...] | None) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise UsageError(f"{where}: must be a table, not {table!r}")
    for key in table:
        if keys is not None and key not in keys:
            raise UsageError(f"{where}: unknown key {key!r}; known: {', '.join(keys)}")
    return table


def _table(
    path: str | Path, name: str, table: Any, keys: Mapping[str, Callable[[Any], int]]
) -> dict[str, int]:
    where = f"{path}: [{name}]"
    values = {}
    for key, value in _known(where, table, tuple(keys)).items():
        try:
            values[key] = keys[key](value)
        except ValueError as error:
            raise UsageError(f"{where}: {key} = {value!r}: {error}") from error
    return values


def _symbol(path: str | Path, symbol: str) -> str:
    if not (symbol.isascii() and 0 < len(symbol) <= 8 and symbol == symbol.strip()):
        raise UsageError(f"{path}: [instrument.{symbol!r}]: a symbol has 1 to 8 ASCII characters")
    return symbol


def _count(value: Any) -> int:
    if value == "unlimited":
        return UNLIMITED
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError('must be an integer or "unlimited"')
    return _in_range(value)


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
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError("must be an integer of at least 1")
    return _in_range(value * 1_000_000)


def _flag(value: Any) -> int:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return int(value)


def _in_range(value: int) -> int:
    if not 0 <= value < UNLIMITED:
        raise ValueError('must not be negative, nor reach 2**63 units: write "unlimited"')
    return value


ACCOUNT_KEYS: Mapping[str, Callable[[Any], int]] = {
    "kill": _flag,
    "gross_value_max": _money,
    "rate_max": _count,
    "rate_window_ms": _window,
    "open_max": _count,
}
LIMIT_KEYS: Mapping[str, Callable[[Any], int]] = {
    "order_size_max": _count,
    "order_value_max": _money,
    "price_collar_bps": _count,
    "position_max": _count,
}
