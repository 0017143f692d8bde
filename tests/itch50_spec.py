"""Nasdaq TotalView-ITCH 5.0 typed in from its specification, for tests: nothing here knows csrc.

``a``: Alpha, ``n``: Integer, ``p``: Price(4) or (8), then the length in bytes.
"""

from __future__ import annotations

PRICE = 1_234_500  # 123.45
HEADER = "locate:n2 tracking:n2 timestamp:n6"
MESSAGES = {
    "S": ("system_event", "event_code:a1"),
    "R": (
        "stock_directory",
        "stock:a8 market_category:a1 financial_status:a1 round_lot_size:n4 round_lots_only:a1 "
        "issue_classification:a1 issue_subtype:a2 authenticity:a1 short_sale_threshold:a1 "
        "ipo_flag:a1 luld_reference_price_tier:a1 etp_flag:a1 etp_leverage_factor:n4 "
        "inverse_indicator:a1",
    ),
    "H": ("stock_trading_action", "stock:a8 trading_state:a1 reserved:a1 reason:a4"),
    "Y": ("reg_sho_restriction", "stock:a8 reg_sho_action:a1"),
    "L": (
        "market_participant_position",
        "mpid:a4 stock:a8 primary_market_maker:a1 market_maker_mode:a1 market_participant_state:a1",
    ),
    "V": ("mwcb_decline_level", "level_1:p8 level_2:p8 level_3:p8"),
    "W": ("mwcb_status", "breached_level:a1"),
    "K": ("ipo_quoting_period_update", "stock:a8 release_time:n4 release_qualifier:a1 price:p4"),
    "J": (
        "luld_auction_collar",
        "stock:a8 reference_price:p4 upper_price:p4 lower_price:p4 extension:n4",
    ),
    "h": ("operational_halt", "stock:a8 market_code:a1 action:a1"),
    "A": ("add_order", "order_reference:n8 side:a1 shares:n4 stock:a8 price:p4"),
    "F": (
        "add_order_mpid",
        "order_reference:n8 side:a1 shares:n4 stock:a8 price:p4 attribution:a4",
    ),
    "E": ("order_executed", "order_reference:n8 shares:n4 match_number:n8"),
    "C": (
        "order_executed_with_price",
        "order_reference:n8 shares:n4 match_number:n8 printable:a1 price:p4",
    ),
    "X": ("order_cancel", "order_reference:n8 shares:n4"),
    "D": ("order_delete", "order_reference:n8"),
    "U": ("order_replace", "order_reference:n8 new_order_reference:n8 shares:n4 price:p4"),
    "P": ("trade", "order_reference:n8 side:a1 shares:n4 stock:a8 price:p4 match_number:n8"),
    "Q": ("cross_trade", "shares:n8 stock:a8 cross_price:p4 match_number:n8 cross_type:a1"),
    "B": ("broken_trade", "match_number:n8"),
    "I": (
        "noii",
        "paired_shares:n8 imbalance_shares:n8 imbalance_direction:a1 stock:a8 far_price:p4 "
        "near_price:p4 current_reference_price:p4 cross_type:a1 price_variation_indicator:a1",
    ),
    "N": ("rpii", "stock:a8 interest_flag:a1"),
    "O": (
        "direct_listing_with_capital_raise",
        "stock:a8 open_eligibility_status:a1 minimum_allowable_price:p4 maximum_allowable_price:p4 "
        "near_execution_price:p4 near_execution_time:n8 lower_price_range_collar:p4 "
        "upper_price_range_collar:p4",
    ),
}


def spec(letter: str) -> list[tuple[str, str, int]]:
    """(field, a|n|p, bytes) after the type byte."""
    found = []
    for field in f"{HEADER} {MESSAGES[letter][1]}".split():
        name, kind = field.split(":")
        found.append((name, kind[0], int(kind[1:])))
    return found


def pack(letter: str, **given: int | str) -> bytes:
    """One message; numbers not given are 0, text is space padded."""
    out = letter.encode()
    for name, kind, size in spec(letter):
        value = given.pop(name, "" if kind == "a" else 0)
        if isinstance(value, str):
            out += value.encode().ljust(size)
        else:
            out += value.to_bytes(size, "big")
    assert not given, given
    return out


def add(order: int, price: int = PRICE, **given: int | str) -> bytes:
    """An order of AAPL at locate 1: 100 shares bid at 123.45 unless told otherwise."""
    fields = {"locate": 1, "side": "B", "shares": 100, "price": price, "stock": "AAPL"}
    return pack("A", order_reference=order, **fields | given)


def unpack(message: bytes) -> dict[str, int | bytes]:
    """Its fields: numbers, prices in 1e-9, text as it stands."""
    fields: dict[str, int | bytes] = {"type": message[0]}
    at = 1
    for name, kind, size in spec(chr(message[0])):
        raw = message[at : at + size]
        at += size
        scale = 10**5 if size == 4 else 10
        number = int.from_bytes(raw, "big")
        if kind == "p":
            number = min(number * scale, 2**63 - 1)
        fields[name] = raw if kind == "a" else number
    assert at == len(message)
    return fields
