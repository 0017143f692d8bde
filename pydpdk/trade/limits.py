"""Risk limits of an account and of its instruments, in the units of csrc/trade/risk.h."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

UNLIMITED = 2**63 - 1
CURRENCY = 10**9
"""Units of 1e-9 in one unit of currency."""


@dataclass(frozen=True)
class Limits:
    """Limits of one instrument; fields and units as ``struct limits`` of csrc/trade/risk.h."""

    order_size_max: int = 10_000
    order_value_max: int = 1_000_000 * CURRENCY
    price_collar_bps: int = 500
    position_max: int = 100_000


@dataclass(frozen=True)
class AccountLimits:
    """Limits over all instruments; fields and units as ``struct account_limits``."""

    gross_value_max: int = 10_000_000 * CURRENCY
    rate_max: int = 1_000
    rate_window_ns: int = 1_000_000_000
    open_max: int = 10_000
    kill: int = 0


DEFAULT = Limits()
DEFAULT_ACCOUNT = AccountLimits()


@dataclass(frozen=True)
class RiskConfig:
    """All limits. ``instruments`` has those of single symbols, by symbol without padding."""

    account: AccountLimits = DEFAULT_ACCOUNT
    default: Limits = DEFAULT
    instruments: Mapping[str, Limits] = field(default_factory=dict)
