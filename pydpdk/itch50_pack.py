"""Packers of ITCH 5.0 messages."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

HEADER = ["char", "be16", "be16", "ns48be"]
FIELDS: dict[str, list[str]] = {
    "system_event": ["char"],
    "stock_directory": ["char8", "char", "char", "be32", "char", "char", "char2", "char", "char",
        "char", "char", "char", "be32", "char"],
    "stock_trading_action": ["char8", "char", "char", "char4"],
    "reg_sho_restriction": ["char8", "char"],
    "market_participant_position": ["char4", "char8", "char", "char", "char"],
    "mwcb_decline_level": ["px8be", "px8be", "px8be"],
    "mwcb_status": ["char"],
    "ipo_quoting_period_update": ["char8", "be32", "char", "px4be"],
    "luld_auction_collar": ["char8", "px4be", "px4be", "px4be", "be32"],
    "operational_halt": ["char8", "char", "char"],
    "add_order": ["be64", "char", "be32", "char8", "px4be"],
    "add_order_mpid": ["be64", "char", "be32", "char8", "px4be", "char4"],
    "order_executed": ["be64", "be32", "be64"],
    "order_executed_with_price": ["be64", "be32", "be64", "char", "px4be"],
    "order_cancel": ["be64", "be32"],
    "order_delete": ["be64"],
    "order_replace": ["be64", "be64", "be32", "px4be"],
    "trade": ["be64", "char", "be32", "char8", "px4be", "be64"],
    "cross_trade": ["be64", "char8", "px4be", "be64", "char"],
    "broken_trade": ["be64"],
    "noii": ["be64", "be64", "char", "char8", "px4be", "px4be", "px4be", "char", "char"],
    "rpii": ["char8", "char"],
    "direct_listing_with_capital_raise": ["char8", "char", "px4be", "px4be", "px4be", "be64",
        "px4be", "px4be"],
}  # fmt: skip
CODES = {"char": "c", "be16": "H", "be32": "I", "be64": "Q", "px4be": "I", "px8be": "Q",
    "char2": "2s", "char4": "4s", "char8": "8s"}  # fmt: skip


def pack(name: str) -> Callable[..., bytes]:
    """``pack`` of a Struct of message ``name``.

    Tracking number (16 bits) and timestamp (48) go in as one number, since the former is 0 here.
    """
    scalars = [*HEADER, *FIELDS[name]]
    fused = ",".join(scalars).replace("be16,ns48be", "be64").split(",")
    return Struct(">" + "".join(CODES[scalar] for scalar in fused)).pack
