"""IEX TOPS and DEEP: every message's record, level and quote semantics, recorded sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydpdk._core import ffi, lib
from tests.decoding import Decoding
from tests.dissect import iextp_packets
from tests.iex_spec import DEEP, TOPS, UNDEF, pack, unpack

LAST, SUSPECT, HALTED = lib.FLAG_LAST, lib.FLAG_SUSPECT, lib.FLAG_HALTED
INCOMPLETE, CROSSED = lib.FLAG_INCOMPLETE, lib.FLAG_CROSSED
NOTHING = 2**32 - 1
TIME = 1_493_127_000_000_000_001
SYMBOL = int.from_bytes(b"ZIEXT   ", "little")
STOCK: dict[str, Any] = {"timestamp": TIME, "symbol": "ZIEXT"}
PX = 123_450_000_000  # 123.45


def rows(events: Any) -> list[tuple[int, ...]]:
    names = ("kind", "side", "flags", "instrument_id", "price", "order_id", "size", "aux")
    return [tuple(int(event[name]) for name in names) for event in events]


def level(letter: str, price: int, size: int, flags: int = 1, symbol: str = "ZIEXT") -> bytes:
    return pack(letter, event_flags=flags, size=size, price=price, symbol=symbol)


TRADE = {**STOCK, "sale_condition_flags": 0x28, "size": 7, "price": 1_234_500, "trade_id": 2**40}
# Letter: fields, then (kind, side, flags, instrument, price, order_id, size, aux).
RECORDS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "S": (
        {"event": "R", "timestamp": TIME},
        (lib.EVENT_SYSTEM, 0, LAST, 0, UNDEF, 0, NOTHING, ord("R")),
    ),
    "D": (
        {**STOCK, "round_lot_size": 100},
        (lib.EVENT_INSTRUMENT, 0, LAST, 1, UNDEF, SYMBOL, 100, 0),
    ),
    "H": (
        {**STOCK, "status": "P"},
        (lib.EVENT_STATUS, 0, LAST | HALTED, 1, UNDEF, ord("H"), NOTHING, ord("P")),
    ),
    "O": (
        {**STOCK, "status": "O"},
        (lib.EVENT_STATUS, 0, LAST | HALTED, 1, UNDEF, ord("O"), NOTHING, ord("O")),
    ),
    "P": ({**STOCK, "status": 1}, (lib.EVENT_STATUS, 0, LAST, 1, UNDEF, ord("P"), NOTHING, 1)),
    "I": (
        {**STOCK, "indicator": "A"},
        (lib.EVENT_INFO, 0, LAST, 1, UNDEF, ord("A"), NOTHING, ord("I")),
    ),
    "E": (
        {**STOCK, "event": "O"},
        (lib.EVENT_INFO, 0, LAST, 1, UNDEF, ord("O"), NOTHING, ord("E")),
    ),
    "X": (
        {**STOCK, "price_type": "M", "price": 1_234_500},
        (lib.EVENT_INFO, 0, LAST, 1, PX, ord("M"), NOTHING, ord("X")),
    ),
    "8": (
        {**STOCK, "event_flags": 1, "size": 5, "price": 1_234_500},
        (lib.EVENT_LEVEL, 1, 0, 1, PX, 0, 5, 0),
    ),
    "5": (
        {**STOCK, "event_flags": 0, "size": 5, "price": 1_234_500},
        (lib.EVENT_LEVEL, 2, LAST | INCOMPLETE, 1, PX, 0, 5, 0),
    ),
    "T": (TRADE, (lib.EVENT_TRADE, 0, LAST | lib.FLAG_CROSS, 1, PX, 2**40, 7, 0x28)),
    "B": (TRADE, (lib.EVENT_BREAK, 0, LAST | lib.FLAG_CROSS, 1, PX, 2**40, 7, 0x28)),
    "A": (
        {
            **STOCK,
            "auction_type": "C",
            "paired_shares": 300,
            "reference_price": 1_234_500,
            "indicative_clearing_price": 1,
            "imbalance_shares": 40,
            "imbalance_side": "S",
        },
        (lib.EVENT_AUCTION, 2, LAST, 1, PX, 300, 40, ord("C")),
    ),
}


@pytest.mark.parametrize(
    ("protocol", "letter"),
    [("tops16", x) for x in TOPS if x != "Q"] + [("deep10", x) for x in DEEP],
)
def test_each_message_makes_its_record(protocol: str, letter: str) -> None:
    fields, record = RECORDS[letter]
    with Decoding(protocol) as iex:
        events = iex.decode(pack(letter, **fields))
        if letter not in "SD":  # the symbol's first appearance is told before its record
            first = (lib.EVENT_INSTRUMENT, 0, 0, 1, UNDEF, SYMBOL, NOTHING, 0)
            assert rows(events)[0] == first
            events = events[1:]
        assert rows(events)[0] == record
        assert events["ts_event"].tolist() == [TIME] * len(events)
        assert events["sequence"].tolist() == [1] * len(events)
        assert [bool(f & LAST) for f in events["flags"]] == [False] * (len(events) - 1) + [True]
        assert iex.decoder.by_type[ord(letter)] == 1
        assert iex.counted() == {"messages_decoded": 1}


def test_a_quote_update_is_the_whole_book() -> None:
    bid = {"bid_size": 100, "bid_price": 1_234_500}
    ask = {"ask_size": 200, "ask_price": 1_234_600}
    none = {**bid, "bid_size": 0}
    quotes = [{**bid, **ask}, {**bid, **ask}, bid, none, ask, {}, {**bid, "bid_price": 1}]
    with Decoding("tops16") as tops:
        events = tops.decode(*(pack("Q", **STOCK, **q) for q in quotes))[1:]
        assert events["kind"].tolist() == [lib.EVENT_QUOTE] * len(quotes)
        assert events["flags"].tolist() == [LAST] * len(quotes)
        told = [tuple(int(e[n]) for n in ("bid", "bid_size", "ask", "ask_size")) for e in events]
        assert told == [
            ((q.get("bid_size", 0) and q["bid_price"] * 10**5) or UNDEF, q.get("bid_size", 0),
             q.get("ask_price", 0) * 10**5 or UNDEF, q.get("ask_size", 0)) for q in quotes
        ]  # fmt: skip
        assert [tops.book(1).side[n].count for n in (0, 1)] == [1, 0]
        assert tops.counted() == {"messages_decoded": len(quotes)}


def test_a_quote_update_ends_all_doubt_about_its_book_alone() -> None:
    """HOSTILE 123: after a gap, a short message or a bad price, the next quote is the book."""

    def quote(symbol: str, price: int = 1_234_500) -> bytes:
        return pack("Q", symbol=symbol, bid_size=1, bid_price=price)

    with Decoding("tops16") as tops:
        tops.decode(quote("AAA"), quote("BBB"))
        tops.decoder.gaps = 2
        assert tops.decode(pack("H", symbol="AAA", status="T"))[-1]["flags"] & SUSPECT
        assert tops.decode(quote("AAA"))["flags"].tolist() == [LAST]
        assert tops.decode(pack("H", symbol="BBB", status="T"))[-1]["flags"] & SUSPECT
        tops.decode(quote("AAA")[:-1])
        assert tops.decode(pack("H", symbol="AAA", status="T"))[-1]["flags"] & SUSPECT
        assert tops.decode(quote("AAA"))["flags"].tolist() == [LAST]
        assert tops.decode(quote("AAA", -1))["flags"].tolist() == [LAST | SUSPECT]
        assert tops.decode(quote("AAA"))["flags"].tolist() == [LAST]


updates = st.lists(
    st.tuples(
        st.sampled_from("85"),
        st.integers(-1, 6),
        st.sampled_from([0, 0, 1, 2, 2**32 - 1]),
        st.sampled_from([0, 1, 1, 0xFE]),
        st.sampled_from(["AAA", "BBB"]),
    ),
    min_size=20,
    max_size=60,
)


@given(updates)
def test_levels_do_what_a_dictionary_says(steps: list[tuple[str, int, int, int, str]]) -> None:
    """A quote follows the update that completes an event, when the best prices moved by then."""
    books: dict[tuple[str, str], dict[int, int]] = {}
    tops: dict[str, tuple[int, ...]] = {}
    unknown = bad = 0
    with Decoding("deep10") as deep:
        for letter, price, size, complete, symbol in steps:
            side = books.setdefault((symbol, letter), {})
            if price <= 0:
                bad += 1
            elif size:
                side[price] = size
            elif side.pop(price, None) is None:
                unknown += 1
            events = deep.decode(level(letter, price, size, complete, symbol))
            events = events[events["kind"] != lib.EVENT_INSTRUMENT]
            assert (events[0]["price"], events[0]["size"]) == (price * 10**5, size)
            bids, asks = books.get((symbol, "8"), {}), books.get((symbol, "5"), {})
            bid, ask = max(bids, default=0), min(asks, default=0)
            top = (bid * 10**5 or UNDEF, ask * 10**5 or UNDEF, bids.get(bid, 0), asks.get(ask, 0))
            moved = complete & 1 and top != tops.get(symbol, (UNDEF, UNDEF, 0, 0))
            assert events["kind"].tolist() == [lib.EVENT_LEVEL] + [lib.EVENT_QUOTE] * bool(moved)
            assert bool(events[0]["flags"] & INCOMPLETE) == (not complete & 1)
            if moved:
                tops[symbol] = top
                names = ("bid", "ask", "bid_size", "ask_size")
                assert tuple(int(events[1][n]) for n in names) == top
                crossed = UNDEF not in top[:2] and top[0] >= top[1]
                assert bool(events[1]["flags"] & CROSSED) == crossed
        counted = deep.counted()
        assert counted.get("book_unknown_level", 0) == unknown
        assert counted.get("book_bad_price", 0) == bad


def test_a_level_deleted_that_never_was_is_counted_and_no_alarm() -> None:
    with Decoding("deep10") as deep:
        events = deep.decode(level("8", 100, 0), level("8", 101, 5))
        assert deep.counted() == {"messages_decoded": 2, "book_unknown_level": 1}
        assert not any(f & SUSPECT for f in events["flags"])


def test_halts_of_market_and_venue_end_apart() -> None:
    steps = [("H", "H", 1), ("O", "O", 1), ("O", "N", 1), ("H", "O", 1), ("H", "T", 0),
             ("O", "O", 1), ("H", "T", 1), ("O", "N", 0)]  # fmt: skip
    with Decoding("deep10") as deep:
        for letter, status, halted in steps:
            event = deep.decode(pack(letter, **STOCK, status=status))[-1]
            assert bool(event["flags"] & HALTED) == bool(halted), (letter, status)


def test_symbols_are_numbered_by_appearance_and_keep_their_numbers_in_a_new_session() -> None:
    symbols = ["BBB", "AAA", "CCC", "AAA"]
    with Decoding("deep10") as deep:
        events = deep.decode(*(pack("H", symbol=s, status="T") for s in symbols))
        status = events[events["kind"] == lib.EVENT_STATUS]
        assert status["instrument_id"].tolist() == [1, 2, 3, 2]
        lib.books_clear(deep.books)
        deep.protocol.reset(deep.decoder)
        events = deep.decode(*(pack("H", symbol=s, status="T") for s in ["CCC", "DDD", "CCC"]))
        told = events["kind"] == lib.EVENT_INSTRUMENT
        assert told.tolist() == [True, False, True, False, False]
        assert events["instrument_id"].tolist() == [3, 3, 4, 4, 3]
        assert [e["order_id"].tobytes() for e in events[told]] == [b"CCC     ", b"DDD     "]
        names = [bytes(ffi.buffer(deep.book(n).symbol)) for n in (2, 3, 4)]
        assert names == [bytes(8), b"CCC     ", b"DDD     "]


def test_more_symbols_than_indices_are_counted_and_change_no_book() -> None:
    """HOSTILE 125: bounded memory."""
    last = lib.BOOK_INSTRUMENTS_MAX - 1
    with Decoding("deep10", listen=False) as deep:
        for at in range(0, last, 256):
            batch = [level("8", 100, 1, 1, f"S{n}") for n in range(at, min(at + 256, last))]
            deep.batch(batch)
        assert deep.counted() == {"messages_decoded": last}
        before = lib.books_hash(deep.books)
        deep.decode(level("8", 100, 1, 1, "ONEMORE"))
        deep.decode(level("8", 101, 1, 1, "S7"))
        assert deep.counted()["instruments_full"] == 1
        assert deep.book(8).side[0].count == 2
        assert deep.book(0).side[0].count == 0
        assert lib.books_hash(deep.books) != before


@pytest.mark.parametrize(("protocol", "letters"), [("tops16", TOPS), ("deep10", DEEP)])
def test_short_and_unknown_messages_are_counted_and_skipped(protocol: str, letters: str) -> None:
    """HOSTILE 121."""
    short = [pack(letter, **RECORDS.get(letter, (STOCK,))[0])[:-1] for letter in letters]
    unknown = [bytes([n]) + b"\0" * 90 for n in range(256) if chr(n) not in letters]
    with Decoding(protocol) as iex:
        assert len(iex.decode(*short, *unknown, b"")) == 0
        counted = {"message_length": len(short) + 1, "message_unknown": len(unknown)}
        assert iex.counted() == counted


@pytest.mark.parametrize(
    ("protocol", "letter", "harmless"), [("tops16", "Q", "85E"), ("deep10", "8", "Q")]
)
def test_a_short_update_puts_its_book_in_doubt_and_takes_no_index(
    protocol: str, letter: str, harmless: str
) -> None:
    """HOSTILE 121: what it did is not known; types of the other protocol change nothing."""
    with Decoding(protocol) as iex:
        iex.decode(*(pack("H", symbol=s, status="T") for s in ("AAA", "BBB")))
        iex.decode(*(pack(x, symbol="AAA")[:20] for x in harmless))
        assert not any(iex.book(n).state & lib.BOOK_BROKEN for n in (1, 2))
        iex.decode(pack(letter, symbol="AAA")[:20])
        assert [bool(iex.book(n).state & lib.BOOK_BROKEN) for n in (1, 2)] == [True, False]
        assert iex.decoder.gaps == 0
        iex.decode(pack(letter, symbol="GARBAGE")[:20])
        assert iex.decoder.gaps == 1, "whose book it changed is not known"
        assert iex.decode(pack("H", symbol="CCC", status="T"))["instrument_id"].tolist() == [3, 3]
        iex.decode(pack(letter, symbol="AAA")[:17], b"")
        assert iex.decoder.gaps == 3


@pytest.mark.parametrize("letter", RECORDS)
def test_messages_may_grow_at_their_end(letter: str) -> None:
    """The specifications reserve the right to."""
    fields, _ = RECORDS[letter]
    with Decoding("deep10") as one, Decoding("deep10") as other:
        plain = rows(one.decode(pack(letter, **fields)))
        assert rows(other.decode(pack(letter, **fields) + b"\xff" * 9)) == plain


def test_a_book_seen_first_after_a_gap_is_suspect_with_a_directory_too() -> None:
    """HOSTILE 123: IEX sends directory messages during the day."""
    with Decoding("deep10") as deep:
        deep.decoder.gaps = 1
        events = deep.decode(pack("D", symbol="AAA"), level("8", 100, 1, 1, "AAA"))
        assert all(f & SUSPECT for f in events["flags"])


# ---- recorded sessions ----


def sessions(path: Path) -> list[list[bytes]]:
    """Messages of each session of a capture: the sequence falls back where one begins."""
    found: list[list[bytes]] = []
    expected = 0
    for sequence, messages in iextp_packets(path):
        if sequence < expected or not found:
            found.append([])
        expected = sequence + len(messages)
        found[-1] += messages
    return found


@pytest.mark.parametrize(
    ("capture", "count"),
    [
        ("iex_deep10_20170425_s12a.pcap.gz", 1),
        pytest.param("iex_deep10_20170425_s01-07.pcap.gz", 7, marks=pytest.mark.slow),
    ],
)
def test_recorded_levels_end_as_a_dictionary_has_them(data: Path, capture: str, count: int) -> None:
    recorded = sessions(data / "iex" / capture)
    assert len(recorded) == count
    for messages in recorded:
        books: dict[bytes, dict[int, int]] = {}
        unknown = 0
        for row in (unpack(m) for m in messages if chr(m[0]) in "85"):
            key = bytes([int(row["type"])]) + bytes(row["symbol"])  # type: ignore[arg-type]
            side, price = books.setdefault(key, {}), int(row["price"])
            if row["size"]:
                side[price] = int(row["size"])
            else:
                unknown += side.pop(price, None) is None
        with Decoding("deep10") as deep:
            events = deep.decode(*messages)
            counted = deep.counted()
            assert counted["messages_decoded"] == len(messages)
            assert counted.get("book_unknown_level", 0) == unknown
            assert counted.keys() <= {"messages_decoded", "book_unknown_level", "book_crossed"}
            assert int((events["flags"] & LAST).astype(bool).sum()) == len(messages)
            assert final(deep) == {key: side for key, side in books.items() if side}


def final(deep: Decoding) -> dict[bytes, dict[int, int]]:
    """Price: size, by type letter and symbol, as the core has them."""
    levels, found, n = lib.books_levels(deep.books), {}, 0
    while deep.book(n + 1).state & lib.BOOK_SEEN:
        n += 1
        book = deep.book(n)
        for side, letter in enumerate((b"8", b"5")):
            at, count = book.side[side].at, book.side[side].count
            if count:
                rows = [levels[i] for i in range(at, at + count)]
                key = letter + bytes(ffi.buffer(book.symbol))
                found[key] = {row.price: row.size for row in rows}
    return found


def test_recorded_quotes_are_told_as_they_came(data: Path) -> None:
    (messages,) = sessions(data / "iex" / "iex_tops16_20170710_a.pcapng.gz")
    with Decoding("tops16") as tops:
        events = tops.decode(*messages)
        assert tops.counted().keys() <= {"messages_decoded", "book_crossed"}
    quotes = events[events["kind"] == lib.EVENT_QUOTE]
    sent = [unpack(m) for m in messages if m[:1] == b"Q"]
    assert len(quotes) == len(sent) == 17_789
    for side in ("bid", "ask"):
        prices = [int(q[f"{side}_price"]) or UNDEF for q in sent]
        assert quotes[side].tolist() == prices
        assert quotes[f"{side}_size"].tolist() == [q[f"{side}_size"] for q in sent]
    assert quotes["ts_event"].tolist() == [q["timestamp"] for q in sent]
    directory = {bytes(e["order_id"].tobytes()): e["instrument_id"] for e in events
                 if e["kind"] == lib.EVENT_INSTRUMENT}  # fmt: skip
    told = [directory[bytes(q["symbol"])] for q in sent]  # type: ignore[arg-type]
    assert quotes["instrument_id"].tolist() == told
