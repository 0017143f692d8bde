"""IEX TOPS 1.6 and DEEP 1.0 typed in from their specifications, for tests: nothing here knows csrc.

``a``: String, ``b``: Byte, ``n``: unsigned, ``t``: Timestamp, ``p``: Price, then the length.
"""

from __future__ import annotations

HEAD = "timestamp:t8 symbol:a8"
TRADE = f"sale_condition_flags:n1 {HEAD} size:n4 price:p8 trade_id:n8"
LEVEL = f"event_flags:n1 {HEAD} size:n4 price:p8"
MESSAGES = {
    "S": ("system_event", "event:a1 timestamp:t8"),
    "D": (
        "security_directory",
        f"flags:n1 {HEAD} round_lot_size:n4 adjusted_poc_price:p8 luld_tier:n1",
    ),
    "H": ("trading_status", f"status:a1 {HEAD} reason:a4"),
    "I": ("retail_liquidity_indicator", f"indicator:a1 {HEAD}"),
    "O": ("operational_halt", f"status:a1 {HEAD}"),
    "P": ("short_sale_price_test", f"status:n1 {HEAD} detail:a1"),
    "E": ("security_event", f"event:a1 {HEAD}"),
    "Q": ("quote_update", f"flags:n1 {HEAD} bid_size:n4 bid_price:p8 ask_price:p8 ask_size:n4"),
    "8": ("buy_level_update", LEVEL),
    "5": ("sell_level_update", LEVEL),
    "T": ("trade_report", TRADE),
    "X": ("official_price", f"price_type:a1 {HEAD} price:p8"),
    "B": ("trade_break", TRADE),
    "A": (
        "auction_information",
        f"auction_type:a1 {HEAD} paired_shares:n4 reference_price:p8 indicative_clearing_price:p8 "
        "imbalance_shares:n4 imbalance_side:a1 extension_number:n1 scheduled_auction_time:n4 "
        "auction_book_clearing_price:p8 collar_reference_price:p8 lower_auction_collar:p8 "
        "upper_auction_collar:p8",
    ),
}
TOPS = "SDHIOPQTXBA"
DEEP = "SDHIOPE85TXBA"
UNDEF = 2**63 - 1


def spec(letter: str) -> list[tuple[str, str, int]]:
    """(field, kind, bytes) after the type byte."""
    parts = [field.split(":") for field in MESSAGES[letter][1].split()]
    return [(name, kind[0], int(kind[1:])) for name, kind in parts]


def pack(letter: str, **given: int | str) -> bytes:
    """One message; numbers not given are 0, text is space padded."""
    out = letter.encode()
    for name, kind, size in spec(letter):
        value = given.pop(name, "" if kind == "a" else 0)
        if isinstance(value, str):
            out += value.encode().ljust(size)
        else:
            out += value.to_bytes(size, "little", signed=kind in "pt")
    assert not given, given
    return out


def unpack(message: bytes) -> dict[str, int | bytes]:
    """Its fields: numbers, prices in 1e-9 or UNDEF, text as it stands."""
    fields: dict[str, int | bytes] = {"type": message[0]}
    at = 1
    for name, kind, size in spec(chr(message[0])):
        raw = message[at : at + size]
        at += size
        number = int.from_bytes(raw, "little", signed=kind == "p")
        if kind == "p":
            number = number * 10**5 if abs(number * 10**5) <= UNDEF else UNDEF
        fields[name] = raw if kind == "a" else number
    assert at == len(message)
    return fields
