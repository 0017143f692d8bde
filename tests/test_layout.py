"""Layouts come from the C headers; the specifications, typed in apart, and other decoders agree."""

from __future__ import annotations

import importlib
import re
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from struct import Struct
from typing import Any

import iex_parser.messages
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pydpdk._core import ffi
from pydpdk.core import layout
from pydpdk.errors import UsageError
from tests import iex_spec, itch50_spec
from tests.dissect import iextp_packets, length_prefixed, moldudp64, udp_payloads

IEX = [("tops16", letter) for letter in iex_spec.TOPS] + [("deep10", x) for x in iex_spec.DEEP]
ALL = [("itch50", letter) for letter in itch50_spec.MESSAGES] + IEX
SPECS: dict[str, Any] = {"itch50": itch50_spec, "tops16": iex_spec, "deep10": iex_spec}


def columns(struct: str, data: bytes) -> list[dict[str, Any]]:
    """``layout.values`` as one dict per message."""
    found = layout.values(struct, data)
    return [
        dict(zip(found, row, strict=True))
        for row in zip(*(column.tolist() for column in found.values()), strict=True)
    ]


def unstripped(row: dict[str, Any]) -> dict[str, Any]:
    """numpy strips NULs at the end of text."""
    return {k: v.rstrip(b"\0") if isinstance(v, bytes) else v for k, v in row.items()}


def test_every_struct_of_the_core_has_the_size_that_the_compiler_gave_it() -> None:
    """cffi compares its layout with the compiler's on first use only."""
    typedefs, structs, _ = ffi.list_types()
    opaque = set()
    for name in structs:
        try:
            assert ffi.sizeof(f"struct {name}") > 0
        except ffi.error as error:
            opaque.add((name, str(error)))
    for name, why in opaque:
        assert why.startswith("don't know the size")
        with pytest.raises(UsageError, match=name):
            layout.dtype(name)
    assert set(layout.SCALARS) <= set(typedefs)
    for scalar in layout.SCALARS:
        assert ffi.sizeof(scalar) == np.dtype(layout.SCALARS[scalar]).itemsize
        assert ffi.alignof(scalar) == 1


def test_the_tables_hold_the_messages_of_the_specifications() -> None:
    assert layout.protocols() == ["itch50", "tops16", "deep10"]
    assert len(itch50_spec.MESSAGES) == 23
    for protocol, spec in SPECS.items():
        letters = {letter for name, letter in ALL if name == protocol}
        found = layout.messages(protocol)
        assert {letter: row.name for letter, row in found.items()} == {
            letter: spec.MESSAGES[letter][0] for letter in letters
        }


@pytest.mark.parametrize(("protocol", "letter"), ALL)
@given(data=st.data())
@settings(max_examples=20)
def test_any_bytes_of_a_message_mean_what_the_specification_says(
    protocol: str, letter: str, data: st.DataObject
) -> None:
    message = layout.messages(protocol)[letter]
    spec = SPECS[protocol]
    size = len(spec.pack(letter))
    assert message.length == message.dtype.itemsize == size
    body = data.draw(st.lists(st.binary(min_size=size - 1, max_size=size - 1), max_size=3))
    rows = [letter.encode() + b for b in body]
    expected = [unstripped(spec.unpack(row)) for row in rows]
    assert columns(message.struct, b"".join(rows)) == expected


@pytest.mark.parametrize(("protocol", "letter"), ALL)
def test_builders_give_the_bytes_of_the_specification(protocol: str, letter: str) -> None:
    spec, struct = SPECS[protocol], layout.messages(protocol)[letter].struct
    given: dict[str, int | str] = {
        name: "XYZW1234"[:size] if kind == "a" else (0x1122334455667788 >> (64 - 8 * size))
        for name, kind, size in spec.spec(letter)
    }
    assert layout.build(struct, **given) == spec.pack(letter, **given)
    assert layout.build(struct) == spec.pack(letter)
    assert bytes(layout.scapy_layer(struct)(**given)) == spec.pack(letter, **given)
    assert bytes(layout.scapy_layer(struct)(spec.pack(letter, **given))) == spec.pack(
        letter, **given
    )


def test_builders_refuse_what_does_not_fit() -> None:
    with pytest.raises(TypeError, match="no field colour"):
        layout.build("itch50_add_order", colour=1)
    with pytest.raises(OverflowError):
        layout.build("itch50_add_order", shares=2**32)
    with pytest.raises(OverflowError):
        layout.build("itch50_add_order", timestamp=2**48)
    with pytest.raises(OverflowError, match="stock"):
        layout.build("itch50_add_order", stock="NINECHARS")


def test_unknown_names_say_what_there_is() -> None:
    with pytest.raises(UsageError, match="itch50, tops16, deep10"):
        layout.messages("itch41")
    with pytest.raises(UsageError, match="nonsense"):
        layout.dtype("nonsense")


def test_a_price_that_does_not_fit_is_undefined() -> None:
    rows = b"".join(iex_spec.pack("X", price=p) for p in (2**63 // 10**5, 2**63 - 1, -1))
    prices = layout.values("iex_official_price", rows)["price"]
    assert prices.tolist() == [2**63 // 10**5 * 10**5, layout.UNDEF_PRICE, -(10**5)]


def test_rows_keep_columns_that_are_not_the_struct_s() -> None:
    kind = np.dtype([("sequence", "u8"), *((n, layout.dtype("itch50_order_cancel")[n])
                                           for n in ("shares", "timestamp"))])  # fmt: skip
    rows = np.array([(7, 256, (1, 2))], kind)
    found = layout.values("itch50_order_cancel", rows)
    assert {k: v.tolist() for k, v in found.items()} == {
        "sequence": [7], "shares": [256], "timestamp": [2**32 + 2]
    }  # fmt: skip
    assert found["shares"].dtype == np.uint32


@pytest.mark.parametrize("protocol", SPECS)
def test_the_reference_tells_every_byte(protocol: str) -> None:
    text = layout.reference(protocol)
    for part in text.split("### ")[1:]:
        (length,) = re.findall(r"\((\d+) bytes\)", part)
        spans = [(int(o), int(s)) for o, s in re.findall(r"^\| (\d+) \| (\d+) \|", part, re.M)]
        at = 0
        for offset, size in spans:
            assert offset == at
            at += size
        assert at == int(length)


# ---- real captures, other decoders ----


def itch_messages(data: Path, tshark: str) -> list[bytes]:
    captures = sorted((data / "omi").glob("*TotalView*.pcap"))
    payloads = [p for path in captures for p in udp_payloads(tshark, path)]
    found = [m for packet in moldudp64(tshark, payloads) for m in packet.messages]
    raw = (data / "nasdaq" / "itch50_start_of_day_1000.itch").read_bytes()
    return found + length_prefixed(raw)


def by_struct(protocol: str, messages: list[bytes]) -> dict[str, list[bytes]]:
    groups = defaultdict(list)
    for message in messages:
        groups[layout.messages(protocol)[chr(message[0])].struct].append(message)
    return dict(groups)


def test_recorded_itch_reads_as_another_decoder_reads_it(
    data: Path, tshark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every message of the captures, in the order of itchfeed's own format strings."""
    monkeypatch.setenv("ITCH_NO_CPP", "1")  # its C++ stand-in has no format strings
    itchfeed = importlib.import_module("itch.messages")
    messages = itch_messages(data, tshark)
    assert len(messages) == 1119
    groups = by_struct("itch50", messages)
    assert len(groups) == 17
    for struct, rows in groups.items():
        theirs = itchfeed.messages[rows[0][:1]]
        scale = 10**9 // 10**theirs.price_precision
        prices = [f.kind in layout.PRICE_SCALE for f in layout.fields(struct)]
        for row, ours in zip(rows, columns(struct, b"".join(rows)), strict=True):
            locate, tracking, high, low, *rest = Struct(theirs.message_format).unpack(row[1:])
            values = [row[0], locate, tracking, high << 32 | low, *rest]
            scaled = [v * scale if p else v for v, p in zip(values, prices, strict=True)]
            assert list(ours.values()) == scaled
            assert theirs(row).timestamp == ours["timestamp"]


CAPTURES = {
    "iex_deep10_20170425_s01-07.pcap.gz": "deep10",
    "iex_deep10_20170425_s12a.pcap.gz": "deep10",
    "iex_tops16_20170710_a.pcapng.gz": "tops16",
}
VERSIONS = {"deep10": iex_parser.messages.DEEP_1_0, "tops16": iex_parser.messages.TOPS_1_6}
THEIR_NAMES = {
    "operational_halt": {"status": "halt_status"},
    "security_event": {"event": "security_event"},
    "security_directory": {"adjusted_poc_price": "adjusted_poc_close"},
    "trade_report": {"sale_condition_flags": "flags"},
    "trade_break": {"sale_condition_flags": "flags"},
    "buy_level_update": {"event_flags": "flags"},
    "sell_level_update": {"event_flags": "flags"},
    "auction_information": {
        "lower_auction_collar": "lower_auction_collar_price",
        "upper_auction_collar": "upper_auction_collar_price",
    },
}


def as_theirs(name: str, field: str, value: Any) -> Any:
    """A value of ours in the way iex_parser gives it."""
    if field == "timestamp":
        return datetime.fromtimestamp(value / 10**9, tz=UTC)
    if field == "scheduled_auction_time":
        return datetime.fromtimestamp(value, tz=UTC)
    if field == "adjusted_poc_price":
        return value // 10**5
    if ("price" in field and field != "price_type") or field.endswith("collar"):
        return Decimal(value) / 10**9
    if name == "trade_break" and field == "sale_condition_flags":
        return bytes([value]).strip()
    return value.strip() if isinstance(value, bytes) else value


@pytest.mark.parametrize("limit", [3000, pytest.param(None, marks=pytest.mark.slow)])
@pytest.mark.parametrize("capture", CAPTURES)
def test_recorded_iex_reads_as_another_decoder_reads_it(
    data: Path, capture: str, limit: int | None
) -> None:
    protocol = CAPTURES[capture]
    packets = iextp_packets(data / "iex" / capture)
    messages = list(islice((m for _, found in packets for m in found), limit))
    for struct, rows in by_struct(protocol, messages).items():
        name = struct.removeprefix("iex_")
        theirs = THEIR_NAMES.get(name, {})
        for row, ours in zip(rows, columns(struct, b"".join(rows)), strict=True):
            decoded = iex_parser.messages.decode_message(VERSIONS[protocol], row[0], row[1:])
            for field, value in ours.items():
                key = theirs.get(field, field)
                if field != "type":
                    assert as_theirs(name, field, value) == decoded[key], (name, field)
