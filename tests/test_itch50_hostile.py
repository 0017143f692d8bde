"""ITCH 5.0 that is broken or does not fit the books: counted, skipped or flagged, never fatal."""

from __future__ import annotations

import ctypes
import mmap

import pytest

from pydpdk._core import ffi, lib
from tests.decoding import MIDNIGHT, Decoding
from tests.itch50_model import UNDEF
from tests.itch50_spec import MESSAGES, add, pack

LAST, SUSPECT = lib.FLAG_LAST, lib.FLAG_SUSPECT


@pytest.mark.parametrize("letter", MESSAGES)
@pytest.mark.parametrize("change", [-1, 1])
def test_a_wrong_length_is_counted_and_skipped(letter: str, change: int) -> None:
    """HOSTILE 121; what follows is still decoded."""
    whole = pack(letter, locate=1)
    wrong = whole[:change] if change < 0 else whole + b"\0"
    with Decoding("itch50") as itch:
        events = itch.decode(wrong, add(5))
        assert events["kind"].tolist() == [lib.EVENT_ADD, lib.EVENT_QUOTE]
        assert itch.counted() == {"message_length": 1, "messages_decoded": 1}


def test_unknown_types_and_empty_messages_are_counted() -> None:
    """HOSTILE 121."""
    unknown = [bytes([n]) + b"\0" * 40 for n in range(256) if chr(n) not in MESSAGES]
    with Decoding("itch50") as itch:
        assert len(itch.decode(*unknown, b"")) == 0
        assert itch.counted() == {"message_unknown": len(unknown), "message_length": 1}


def test_nothing_behind_a_message_is_read() -> None:
    """Each message, whole and cut anywhere, ends where readable memory ends."""
    page = mmap.PAGESIZE
    with mmap.mmap(-1, 2 * page) as area, Decoding("itch50") as itch:
        start = ctypes.addressof(ctypes.c_char.from_buffer(area))
        libc = ctypes.CDLL(None)
        assert libc.mprotect(ctypes.c_void_p(start + page), page, 0) == 0
        for letter in MESSAGES:
            whole = pack(letter, locate=1, **({"shares": 1} if letter in "AFECX" else {}))
            for n in range(len(whole) + 1):
                area[page - n : page] = whole[:n]
                itch.batch([ffi.cast(f"uint8_t(*)[{n}]", start + page - n)[0]])
                itch.drain()
        assert libc.mprotect(ctypes.c_void_p(start + page), page, 3) == 0
        assert itch.counted()["messages_decoded"] == len(MESSAGES)


def test_an_unknown_order_flags_the_book_unless_a_gap_explains_it() -> None:
    """HOSTILE 118."""
    with Decoding("itch50") as itch:
        itch.decode(pack("R", locate=1, stock="A"), pack("R", locate=2, stock="B"))
        gone = itch.decode(pack("D", locate=1, order_reference=99))
        assert gone["flags"].tolist() == [LAST | SUSPECT]
        assert itch.book(1).state & lib.BOOK_BROKEN
        itch.decoder.gaps = 1
        gone = itch.decode(pack("D", locate=2, order_reference=99))
        assert gone["flags"].tolist() == [LAST | SUSPECT]
        assert not itch.book(2).state & lib.BOOK_BROKEN
        assert itch.counted()["book_unknown_order"] == 2


def test_a_book_first_seen_after_a_gap_is_suspect_unless_its_directory_comes_first() -> None:
    """HOSTILE 122, 123."""
    with Decoding("itch50") as itch:
        assert not itch.decode(add(1, locate=1))[0]["flags"] & SUSPECT
        itch.decoder.gaps = 3
        assert itch.decode(add(2, locate=2))[0]["flags"] & SUSPECT
        assert not itch.decode(pack("R", locate=3, stock="C"))[0]["flags"] & SUSPECT
        assert not itch.decode(add(3, locate=3))[0]["flags"] & SUSPECT
        assert itch.decode(pack("R", locate=2, stock="B"))[0]["flags"] & SUSPECT
        assert itch.decode(add(4, locate=1))[0]["flags"] & SUSPECT


def late_join(itch: Decoding) -> None:
    """As the feed begins a session in the middle."""
    itch.protocol.reset(itch.decoder)
    itch.decoder.gaps = 1


def directory_is_trusted(itch: Decoding, locate: int) -> bool:
    events = itch.decode(pack("R", locate=locate, stock="A"), add(locate, locate=locate))
    suspect = {bool(flags & SUSPECT) for flags in events["flags"]}
    assert len(suspect) == 1
    return suspect == {False}


OPENINGS = {code: pack("S", event_code=code) for code in "QMEC"} | {"cross": pack("Q", locate=1)}


@pytest.mark.parametrize("opening", OPENINGS)
def test_a_directory_message_after_a_gap_counts_until_the_market_opens(opening: str) -> None:
    """HOSTILE 123: one that is sent again looks like the first; a cross tells of the opening."""
    with Decoding("itch50") as itch:
        itch.decode(pack("S", event_code="O"))
        itch.decoder.gaps = 1
        assert directory_is_trusted(itch, 2)
        itch.decode(pack("S", event_code="S"))
        assert directory_is_trusted(itch, 3)
        itch.decode(OPENINGS[opening])
        assert not directory_is_trusted(itch, 4)
        assert not itch.decode(add(99, locate=3))[0]["flags"] & SUSPECT


def test_a_directory_message_counts_all_day_when_nothing_was_lost() -> None:
    with Decoding("itch50") as itch:
        itch.decode(pack("S", event_code="Q"))
        assert directory_is_trusted(itch, 2)


def test_a_late_joiner_trusts_a_directory_message_once_it_knows_the_market_is_not_open() -> None:
    """HOSTILE 122: the opening itself may be what it missed."""
    with Decoding("itch50") as itch:
        itch.decode(pack("S", event_code="O"))
        late_join(itch)
        assert not directory_is_trusted(itch, 2)
        itch.decode(pack("S", event_code="S"))
        assert itch.decode(add(98, locate=2))[0]["flags"] & SUSPECT
        assert directory_is_trusted(itch, 3)
        itch.decode(pack("S", event_code="Q"))
        assert not directory_is_trusted(itch, 4)
        itch.protocol.reset(itch.decoder)
        itch.decoder.gaps = 0
        itch.decode(pack("S", event_code="O"))
        itch.decoder.gaps = 1
        assert directory_is_trusted(itch, 5), "a session from its beginning"


def test_an_order_without_locate_changes_no_book() -> None:
    """HOSTILE 122."""
    letters = "AFECXDU"
    with Decoding("itch50") as itch:
        itch.decode(add(1))
        before = lib.books_hash(itch.books)
        events = itch.decode(*(pack(x, order_reference=1, shares=1, price=5) if x in "AFU" else
                               pack(x, order_reference=1) for x in letters))  # fmt: skip
        assert lib.books_hash(itch.books) == before
        assert events["kind"].tolist() == [lib.EVENT_INFO] * len(letters)
        assert events["aux"].tolist() == [ord(x) for x in letters]
        assert itch.counted()["book_instrument"] == len(letters)


def test_a_locate_given_to_another_symbol_empties_and_flags_its_book() -> None:
    """HOSTILE 122, 124."""
    with Decoding("itch50") as itch:
        itch.decode(pack("R", locate=1, stock="OLD"), add(1), add(2, locate=2))
        assert len(itch.decode(pack("R", locate=1, stock="OLD"))) == 1
        events = itch.decode(pack("R", locate=1, stock="NEW"))
        kinds = [lib.EVENT_CLEAR, lib.EVENT_INSTRUMENT, lib.EVENT_QUOTE]
        assert events["kind"].tolist() == kinds
        assert events["flags"].tolist() == [SUSPECT, SUSPECT, SUSPECT | LAST]
        assert (events[2]["bid"], events[2]["bid_size"]) == (UNDEF, 0)
        assert lib.books_orders(itch.books) == 1
        assert bytes(ffi.buffer(itch.book(1).symbol)) == b"NEW     "
        assert itch.counted()["book_instrument"] == 1


@pytest.mark.parametrize(
    ("price", "counted"), [(0, 1), (1, 0), (2**31 - 1, 0), (2**31, 1), (2**32 - 1, 1)]
)
def test_prices_beyond_the_limits_are_not_added(price: int, counted: int) -> None:
    """HOSTILE 119: 214,748.3647 is the limit, the market order's 200,000 is below it."""
    with Decoding("itch50") as itch:
        event = itch.decode(add(1, price=price))[0]
        assert itch.counted().get("book_bad_price", 0) == counted
        assert lib.books_orders(itch.books) == 1 - counted
        assert bool(event["flags"] & SUSPECT) == bool(counted)
        assert event["price"] == price * 10**5


def test_an_order_of_another_instrument_flags_both_books() -> None:
    """HOSTILE 119."""
    with Decoding("itch50") as itch:
        itch.decode(add(1, locate=1), add(2, locate=2))
        events = itch.decode(pack("D", locate=2, order_reference=1))
        assert events["instrument_id"].tolist() == [1, 1]
        assert all(itch.book(n).state & lib.BOOK_BROKEN for n in (1, 2))
        assert itch.counted()["book_instrument"] == 1


def test_a_full_pool_flags_the_book_and_counts() -> None:
    with Decoding("itch50", orders_max=4) as itch:
        events = itch.decode(*(add(n) for n in range(1, 6)))
        assert itch.counted()["book_full"] == 1
        adds = events[events["kind"] == lib.EVENT_ADD]
        assert [bool(f & SUSPECT) for f in adds["flags"]] == [False] * 4 + [True]


def test_a_crossed_book_is_flagged_and_counted() -> None:
    """HOSTILE 120: locked counts as crossed."""
    with Decoding("itch50") as itch:
        events = itch.decode(add(1), add(2, side="S"))
        assert [bool(f & lib.FLAG_CROSSED) for f in events["flags"]] == [False, False, True, True]
        assert itch.counted()["book_crossed"] == 1


def test_times_past_midnight_and_backwards_pass_as_they_are() -> None:
    """HOSTILE 126."""
    times = [86_400 * 10**9, 2**48 - 1, 5, 0]
    with Decoding("itch50") as itch:
        events = itch.decode(*(pack("S", timestamp=t) for t in times))
        assert events["ts_event"].tolist() == [MIDNIGHT + t for t in times]
