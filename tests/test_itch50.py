"""ITCH 5.0: every message's record, order semantics against a model, a recorded start of day."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydpdk._core import ffi, lib
from tests.decoding import MIDNIGHT, Decoding
from tests.dissect import length_prefixed
from tests.itch50_model import UNDEF, Model
from tests.itch50_spec import MESSAGES, PRICE, add, pack, unpack

LAST = lib.FLAG_LAST
NOTHING = 2**32 - 1


def rows(events: Any) -> list[tuple[int, ...]]:
    names = ("kind", "side", "flags", "instrument_id", "price", "order_id", "size", "aux")
    return [tuple(int(event[name]) for name in names) for event in events]


BIG = 2**63 + 12345
STOCK = {"locate": 7, "tracking": 3, "timestamp": 34_200_000_000_001, "stock": "ZVZZT"}
ORDER = {"locate": 7, "timestamp": 34_200_000_000_001, "order_reference": 11}
SYMBOL = int.from_bytes(b"ZVZZT   ", "little")
# Letter: fields, then (kind, side, flags, instrument, price, order_id, size, aux) of its record.
# Order 11 is live: 100 shares bid at 123.45.
RECORDS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "S": ({"event_code": "Q"}, (lib.EVENT_SYSTEM, 0, LAST, 0, UNDEF, 0, NOTHING, ord("Q"))),
    "R": (
        {**STOCK, "round_lot_size": 100},
        (lib.EVENT_INSTRUMENT, 0, LAST, 7, UNDEF, SYMBOL, 100, 0),
    ),
    "H": (
        {**STOCK, "trading_state": "H"},
        (lib.EVENT_STATUS, 0, LAST | lib.FLAG_HALTED, 7, UNDEF, ord("H"), NOTHING, ord("H")),
    ),
    "h": (
        {**STOCK, "market_code": "Q", "action": "H"},
        (lib.EVENT_STATUS, 0, LAST | lib.FLAG_HALTED, 7, UNDEF, ord("h"), NOTHING, ord("H")),
    ),
    "A": (
        {**STOCK, "order_reference": BIG, "side": "S", "shares": 5, "price": 2_000_000_000},
        (lib.EVENT_ADD, 2, 0, 7, 200_000 * 10**9, BIG, 5, 0),
    ),
    "F": (
        {**STOCK, "order_reference": 12, "side": "B", "shares": 5, "price": 1, "attribution": "X"},
        (lib.EVENT_ADD, 1, LAST, 7, 100_000, 12, 5, 0),
    ),
    "E": (
        {**ORDER, "shares": 40, "match_number": 2**32 + 9},
        (lib.EVENT_EXECUTE, 1, 0, 7, 123_450_000_000, 11, 40, 9),
    ),
    "C": (
        {**ORDER, "shares": 40, "match_number": 9, "printable": "N", "price": 1_234_600},
        (lib.EVENT_EXECUTE, 1, lib.FLAG_HIDDEN, 7, 123_460_000_000, 11, 40, 9),
    ),
    "X": ({**ORDER, "shares": 40}, (lib.EVENT_CANCEL, 1, 0, 7, 123_450_000_000, 11, 40, 0)),
    "D": (ORDER, (lib.EVENT_DELETE, 1, 0, 7, 123_450_000_000, 11, 100, 0)),
    "U": (
        {**ORDER, "new_order_reference": 12, "shares": 9, "price": 1_234_600},
        (lib.EVENT_DELETE, 1, lib.FLAG_REPLACE, 7, 123_450_000_000, 11, 100, 0),
    ),
    "P": (
        {**STOCK, "side": "B", "shares": 5, "price": PRICE, "match_number": BIG},
        (lib.EVENT_TRADE, 1, LAST | lib.FLAG_HIDDEN, 7, 123_450_000_000, BIG, 5, 0),
    ),
    "Q": (
        {**STOCK, "shares": 2**40, "cross_price": PRICE, "match_number": BIG, "cross_type": "O"},
        (lib.EVENT_TRADE, 0, LAST | lib.FLAG_CROSS, 7, 123_450_000_000, BIG, NOTHING, ord("O")),
    ),
    "B": (
        {"locate": 7, "match_number": BIG},
        (lib.EVENT_BREAK, 0, LAST, 7, UNDEF, BIG, NOTHING, 0),
    ),
    "I": (
        {
            **STOCK,
            "paired_shares": BIG,
            "imbalance_shares": 300,
            "imbalance_direction": "S",
            "far_price": 1,
            "near_price": 2,
            "current_reference_price": 3,
            "cross_type": "C",
        },
        (lib.EVENT_AUCTION, 2, LAST, 7, 300_000, BIG, 300, ord("C")),
    ),
}
PLAIN = set(MESSAGES) - set(RECORDS)
VENUE_WIDE = set("SVW")


@pytest.mark.parametrize("letter", MESSAGES)
def test_each_message_makes_its_record(letter: str) -> None:
    locate = {} if letter in VENUE_WIDE else {"locate": 7}
    plain = (lib.EVENT_INFO, 0, LAST, locate.get("locate", 0), UNDEF, 0, NOTHING, ord(letter))
    fields, record = RECORDS.get(letter, (locate, plain))
    with Decoding("itch50") as itch:
        itch.decode(add(11, locate=7))
        events = itch.decode(pack(letter, **fields))
        assert rows(events)[0] == record
        assert events[0]["ts_event"] == MIDNIGHT + fields.get("timestamp", 0)
        assert (events[0]["sequence"], events[0]["ts_recv"]) == (2, 20)
        assert [bool(e["flags"] & LAST) for e in events] == [False] * (len(events) - 1) + [True]
        assert itch.decoder.by_type[ord(letter)] == 1 + (letter == "A")
        assert itch.counted() == {"messages_decoded": 2}


def test_the_plain_messages_are_the_administrative_ones() -> None:
    assert {"Y", "L", "V", "W", "K", "J", "N", "O"} == PLAIN


@pytest.mark.parametrize("first", "HPQ")
@pytest.mark.parametrize(("state", "halted"), [("H", 1), ("P", 1), ("Q", 1), ("T", 0), ("?", 1)])
def test_a_halt_flags_the_instrument_until_it_trades(first: str, state: str, halted: int) -> None:
    """Nothing trades in a quotation only period."""
    with Decoding("itch50") as itch:
        itch.decode(pack("H", locate=1, trading_state=first))
        itch.decode(pack("H", locate=1, trading_state=state))
        events = itch.decode(add(1))
        assert [bool(e["flags"] & lib.FLAG_HALTED) for e in events] == [bool(halted)] * 2


def test_trading_and_operational_halts_end_apart() -> None:
    steps = [("h", "H", 1), ("H", "T", 1), ("H", "H", 1), ("h", "T", 1), ("h", "?", 1),
             ("h", "H", 1), ("H", "T", 1), ("h", "?", 1), ("h", "T", 0)]  # fmt: skip
    with Decoding("itch50") as itch:
        for letter, code, halted in steps:
            field = {"action": code} if letter == "h" else {"trading_state": code}
            (event,) = itch.decode(pack(letter, locate=1, **field))
            assert bool(event["flags"] & lib.FLAG_HALTED) == bool(halted), (letter, code)
        assert not itch.decode(add(1, locate=2))[0]["flags"] & lib.FLAG_HALTED


@pytest.mark.parametrize("market", ["Q", "B", "X"])
def test_an_operational_halt_of_any_market_counts(market: str) -> None:
    """The feed does not know which of the markets it is of."""
    with Decoding("itch50") as itch:
        itch.decode(pack("h", locate=1, market_code=market, action="H"))
        assert itch.decode(add(1))[0]["flags"] & lib.FLAG_HALTED
        itch.decode(pack("h", locate=1, market_code="Q", action="T"))
        assert not itch.decode(add(2))[0]["flags"] & lib.FLAG_HALTED


# ---- order semantics against the model ----

small = st.sampled_from([1, 1, 1, 1, 1, 2, 3])
ids = st.integers(1, 10)
prices = st.sampled_from([99, 100, 101, 102] * 3 + [0, 1, 2**31 - 1, 2**31, 2**32 - 1])
shares = st.sampled_from([1, 2, 3, 5, 8] * 3 + [0, 100, 2**32 - 1])
adds = st.builds(
    lambda f, **g: pack("F" if f else "A", **g),
    st.booleans(),
    locate=st.sampled_from([0, *[1] * 15, 2, 3]),
    order_reference=ids,
    side=st.sampled_from("BS" * 10 + " "),
    shares=shares,
    price=prices,
)
orders = st.one_of(
    *[adds] * 4,
    st.builds(pack, st.just("E"), locate=small, order_reference=ids, shares=shares),
    st.builds(pack, st.just("X"), locate=small, order_reference=ids, shares=shares),
    st.builds(pack, st.just("D"), locate=small, order_reference=ids),
    st.builds(
        pack,
        st.just("C"),
        locate=small,
        order_reference=ids,
        shares=shares,
        price=prices,
        printable=st.sampled_from("YN "),
        match_number=st.integers(0, 2**64 - 1),
    ),
    st.builds(
        pack,
        st.just("U"),
        locate=small,
        order_reference=ids,
        new_order_reference=ids,
        shares=shares,
        price=prices,
    ),
)


@given(st.lists(orders, min_size=30, max_size=60), st.integers(0, 1))
def test_orders_do_what_the_model_says(messages: list[bytes], gaps: int) -> None:
    """HOSTILE 118, 119: whatever the order messages say, records, flags and counts agree."""
    model = Model(gaps)
    with Decoding("itch50") as itch:
        itch.decoder.gaps = gaps
        events = itch.decode(*messages)
        assert rows(events) == [row for m in messages for row in model.apply(m)]
        assert itch.counted() == {k: v for k, v in model.counted.items() if v}
        live = {n: tuple(row) for n, row in model.orders.items()}
        assert lib.books_orders(itch.books) == len(live)
        for order, (instrument, side, price, left) in live.items():
            found = lib.book_find(itch.books, order)
            where = instrument << 1 | (side == lib.SIDE_ASK)
            assert (found.where, found.price, found.size) == (where, price, left)


def test_batches_do_not_change_the_records() -> None:
    messages = [add(n % 50, price=PRICE + n % 7, locate=1 + n % 3) for n in range(200)]
    with Decoding("itch50") as whole, Decoding("itch50") as single:
        together = rows(whole.decode(*messages))
        assert together == [row for m in messages for row in rows(single.decode(m))]


def test_replace_keeps_side_and_instrument_and_quotes_once() -> None:
    with Decoding("itch50") as itch:
        itch.decode(add(1, locate=4, side="S"))
        events = itch.decode(
            pack("U", locate=4, order_reference=1, new_order_reference=2, shares=7, price=PRICE + 1)
        )
        kinds = [lib.EVENT_DELETE, lib.EVENT_ADD, lib.EVENT_QUOTE]
        assert events["kind"].tolist() == kinds
        assert events["side"].tolist() == [2, 2, 0]
        replace = lib.FLAG_REPLACE
        assert events["flags"].tolist() == [replace, replace, LAST]
        assert (events[2]["ask"], events[2]["ask_size"]) == (123_450_100_000, 7)
        assert events[2]["bid"] == UNDEF


def test_a_level_beyond_32_bits_is_quoted_as_undefined() -> None:
    most = 2**32 - 1
    with Decoding("itch50") as itch:
        events = itch.decode(add(1, shares=most - 1), add(2, shares=1), add(3, shares=1))
        quotes = events[events["kind"] == lib.EVENT_QUOTE]
        assert quotes["bid_size"].tolist() == [most - 1, most]
        assert (quotes["flags"] & lib.FLAG_WIDE).astype(bool).tolist() == [False, True]
        assert itch.counted()["quote_size_cut"] == 1
        level = ffi.new("struct level *")
        assert lib.book_depth(itch.books, events["instrument_id"][-1], lib.SIDE_BID, 1, level) == 1
        assert level.size == most + 1


def test_any_message_makes_its_instrument_seen() -> None:
    with Decoding("itch50") as itch:
        itch.decode(pack("Y", locate=5), pack("H", locate=6), pack("D", locate=7))
        seen = [n for n in range(10) if itch.book(n).state & lib.BOOK_SEEN]
        assert seen == [5, 6, 7]


# ---- a recorded start of day ----


def test_a_recorded_start_of_day_names_every_instrument(data: Path) -> None:
    raw = (data / "nasdaq" / "itch50_start_of_day_1000.itch").read_bytes()
    messages = length_prefixed(raw)
    directory = {m["locate"]: m["stock"] for m in map(unpack, messages) if m["type"] == ord("R")}
    with Decoding("itch50") as itch:
        events = itch.decode(*messages)
        kinds = {int(k): int(n) for k, n in zip(*np.unique(events["kind"], return_counts=True),
                                                strict=True)}  # fmt: skip
        assert kinds == {lib.EVENT_INSTRUMENT: 993, lib.EVENT_STATUS: 3, lib.EVENT_INFO: 3,
                         lib.EVENT_SYSTEM: 1}  # fmt: skip
        assert itch.counted() == {"messages_decoded": 1000}
        assert all(bytes(ffi.buffer(itch.book(int(n)).symbol)) == s for n, s in directory.items())
    named = events[events["kind"] == lib.EVENT_INSTRUMENT]
    assert {int(e["instrument_id"]): e["order_id"].tobytes() for e in named} == directory


# ---- the ring ----


def test_records_that_find_no_room_are_announced_and_counted() -> None:
    with Decoding("itch50") as itch:
        assert itch.ring is not None
        room = itch.ring.slots
        for _ in range(room // 250 + 1):
            itch.batch([pack("S")] * 250)
        first = itch.drain()
        lost = itch.counted()["events_lost"]
        assert len(first) + lost == itch.sequence - 1
        assert itch.ring.stats().lost == lost
        after = itch.decode(pack("S", event_code="C"))
        assert rows(after)[0] == (lib.EVENT_LOST, 0, 0, 0, UNDEF, lost, NOTHING, 0)
        assert after["aux"][1] == ord("C")
        assert len(itch.decode(pack("S"))) == 1


def test_nobody_has_to_listen() -> None:
    with Decoding("itch50", listen=False) as itch:
        itch.decode(add(1), pack("D", locate=1, order_reference=2))
        assert lib.books_orders(itch.books) == 1
        assert itch.counted() == {"messages_decoded": 2, "book_unknown_order": 1}


def test_the_feed_is_the_upper_half_of_the_instrument() -> None:
    with Decoding("itch50") as itch:
        itch.decoder.out.feed = 3
        assert set(itch.decode(add(1, locate=9))["instrument_id"].tolist()) == {3 << 16 | 9}
