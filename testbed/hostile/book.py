"""B: messages that a book cannot believe (118-126)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import pack
from typing import Any

from testbed.frames import (
    itch,
    itch_action,
    itch_add,
    itch_cancel,
    itch_delete,
    itch_directory,
    itch_execute,
    itch_replace,
    itch_system,
    itch_trade,
)
from testbed.hostile.vector import BID, FIRST, LAST, TRUTH, Frame, Vector, line_a, stream

PRICE_LIMIT = 2_147_483_647
NOON_NS = 12 * 3600 * 10**9


def told(
    id: str,
    *messages: bytes,
    events: int,
    decoded: int | None = None,
    wrong: bool = True,
    **rest: Any,
) -> Vector:
    """Messages in one packet behind the good ones; `events` are the records they make.

    `wrong`: they leave book 1 in doubt.
    """
    decoded = len(messages) if decoded is None else decoded
    return stream(
        id, FIRST, LAST, line_a(4, *messages), truth=rest.pop("truth", (*TRUTH, *messages)),
        suspect=rest.pop("suspect", [1] if wrong else []), sessions=((1, 4 + len(messages)),),
        messages_decoded=3 + decoded, events_written=6 + events, **rest,
    )  # fmt: skip


def unknown() -> Iterator[Vector]:
    for name, message, events in (
        ("execute", itch_execute(9), 1), ("execute_at_a_price", itch_execute(9, price=5), 1),
        ("cancel", itch_cancel(9), 1), ("delete", itch_delete(9), 1),
        ("replace", itch_replace(9, 10), 2),
    ):  # fmt: skip
        yield told(f"b118_{name}_of_unknown", message, events=events, book_unknown_order=1)
    delete = itch_delete(3)
    yield stream(
        "b118_unknown_by_a_gap", FIRST, LAST, line_a(5, delete),
        truth=(*TRUTH, itch_add(3), delete),
        gaps=[(4, 1)], suspect=[1], sessions=((1, 6),), messages_decoded=4, book_unknown_order=1,
        events_written=8,
    )  # fmt: skip


def impossible() -> Iterator[Vector]:
    add = itch_add
    for name, message, counter, events in (
        ("duplicate_id", add(1, b"B", 50, 990_000), "duplicate_order", 1),
        ("duplicate_id_of_an_ask", add(2, b"B", 50, 990_000), "duplicate_order", 1),
        ("add_of_0", add(3, b"B", 0, 990_000), "bad_size", 1),
        ("cancel_of_0", itch_cancel(1, 0), "bad_size", 1),
        ("execute_too_much", itch_execute(1, 101), "over_reduce", 2),
        ("cancel_too_much", itch_cancel(1, 2**32 - 1), "over_reduce", 2),
        ("price_0", add(3, b"B", 5, 0), "bad_price", 1),
        ("price_max", add(3, b"S", 5, 2**32 - 1), "bad_price", 1),
        ("price_above_limit", add(3, b"S", 5, PRICE_LIMIT + 1), "bad_price", 1),
        ("no_side", add(3, b"X", 5, 990_000), "bad_side", 1),
        ("replace_by_itself_live", itch_replace(1, 2, 5, 990_000), "duplicate_order", 3),
        ("replace_by_size_0", itch_replace(1, 3, 0, 990_000), "bad_size", 3),
        ("replace_by_price_0", itch_replace(1, 3, 5, 0), "bad_price", 3),
    ):
        yield told(f"b119_{name}", message, events=events, **{f"book_{counter}": 1})
    limit = itch_add(3, b"S", 5, PRICE_LIMIT)
    yield told("b119_price_at_limit", limit, events=1, wrong=False)
    again = itch_replace(1, 1, 50, 1_000_000)
    yield told("b119_replace_keeps_its_id", again, events=3, wrong=False)
    for name, message, events in (
        ("execute", itch_execute(1, 10, locate=2), 2), ("delete", itch_delete(1, locate=2), 2),
        ("replace", itch_replace(1, 3, 5, 990_000, locate=2), 3),
    ):  # fmt: skip
        yield told(
            f"b119_{name}_under_another_locate",
            message,
            events=events,
            suspect=[1, 2],
            book_instrument=1,
        )


def crossed() -> Iterator[Vector]:
    cross, lock = itch_add(3, b"B", 5, 1_020_000), itch_add(3, b"S", 5, 1_000_000)
    yield told("b120_crossed", cross, events=2, wrong=False, book_crossed=1)
    yield told("b120_locked", lock, events=2, wrong=False, book_crossed=1)
    most, more = itch_add(4, b"B", 2**32 - 2, 1_001_000), itch_add(5, b"B", 7, 1_001_000)
    above = "b119_level_above_32_bits"
    yield told(above, most, more, events=4, wrong=False, quote_size_cut=1)
    back = itch_delete(3)
    yield told("b120_crossed_and_back", cross, back, events=4, wrong=False, book_crossed=1)


def types() -> Iterator[Vector]:
    for kind in b"\0", b"Z", b"a", b"\xff":
        yield told(
            f"b121_unknown_type_{kind.hex()}", itch(kind, bytes(20)), events=0, decoded=0,
            wrong=False, truth=TRUTH, message_unknown=1,
        )  # fmt: skip
    for name, message in (
        ("add_short", BID[:-1]),
        ("add_long", BID + b"\0"),
        ("add_of_1_byte", BID[:1]),
        ("add_of_2_bytes", BID[:2]),
        ("delete_short", itch_delete(1)[:-1]),
        ("replace_long", itch_replace() + b"\0"),
        ("directory_short", itch_directory()[:-1]),
    ):
        yield told(
            f"b121_{name}", message, events=0, decoded=0, truth=TRUTH, message_length=1,
        )  # fmt: skip
    trade = itch_trade()[:-1]
    yield told(
        "b121_trade_short", trade, events=0, decoded=0, wrong=False, truth=TRUTH, message_length=1
    )


def locates() -> Iterator[Vector]:
    nowhere = itch_add(3, b"B", 5, 990_000, locate=0)
    yield told("b122_locate_0", nowhere, events=1, wrong=False, truth=TRUTH, book_instrument=1)
    unseen = itch_add(3, b"B", 5, 990_000, locate=65_535)
    yield told("b122_locate_unseen", unseen, events=2, wrong=False)
    remap = itch_directory(b"OTHER", ts=5)
    yield told("b122_remapped", remap, events=3, book_instrument=1, truth=(*TRUTH, remap))
    other = itch_add(3, b"B", 5, 990_000, stock=b"OTHER")
    yield told("b122_other_symbol_under_the_locate", other, events=1, wrong=False)
    orders = (itch_add(1, locate=7), itch_add(2, b"S", 5, 2_000_000, locate=7))
    yield stream(
        "b123_no_directory", line_a(1, *orders), truth=orders, sessions=((1, 3),),
        messages_decoded=2, events_written=5,
    )  # fmt: skip
    yield stream(
        "b123_directory_behind_its_orders", line_a(1, *orders, itch_directory(locate=7)),
        truth=orders, messages_decoded=3, events_written=6,
    )  # fmt: skip


def states() -> Iterator[Vector]:
    halts = [itch_action(state=state) for state in (b"H", b"Q", b"T", b"P")]
    yield told("b124_halts", *halts, events=4, wrong=False)
    odd = [itch_action(state=state) for state in (b"\0", b"?")]
    yield told("b124_unknown_states", *odd, events=2, wrong=False)
    auction = itch(
        b"I", pack(">QQc8sIIIcc", 10, 20, b"B", b"TEST    ", 0, 0, 1_000_000, b"O", b"L")
    )
    cross = itch(b"Q", pack(">Q8sIQc", 2**40, b"TEST    ", 1_005_000, 77, b"O"))
    busted = itch(b"B", pack(">Q", 77))
    yield told("b124_auction", auction, cross, busted, events=3, wrong=False)
    hours = [itch_system(code) for code in (b"Q", b"M", b"E", b"C", b"?")]
    yield told("b124_system_events", *hours, events=5, wrong=False)
    in_halt = (halts[0], itch_add(3, b"B", 5, 990_000), itch_execute(1, 100))
    yield told("b124_orders_in_a_halt", *in_halt, events=4, wrong=False)


def limits() -> Iterator[Vector]:
    adds = [itch_add(10 + i, b"B", 1, 900_000) for i in range(40)]
    yield told("b125_orders_full", *adds, events=40, options={"orders_max": 32}, book_full=10)
    deep = [itch_add(10 + i, b"B", 1, 900_000 - i) for i in range(70)]
    frames = packets(4, deep)
    yield stream(
        "b125_levels_full", FIRST, LAST, *frames, truth=(*TRUTH, *deep), suspect=[1],
        options={"levels_max": 64}, sessions=((1, 74),), messages_decoded=73, book_full=39,
        events_written=76,
    )  # fmt: skip
    for name, ids in (
        ("low_bits_equal", [i << 32 for i in range(1, 2001)]),
        ("high_bits_equal", [(1 << 63) + i for i in range(2000)]),
        ("multiples_of_2_56", [i << 56 | 7 for i in range(1, 256)]),
    ):
        orders = [itch_add(order_id, b"B", 1, 900_000) for order_id in ids]
        gone = [itch_delete(order_id) for order_id in ids[::2]]
        frames = packets(4, orders + gone)
        n = len(orders) + len(gone)
        yield stream(
            f"b125_ids_with_{name}", FIRST, LAST, *frames, truth=(*TRUTH, *orders, *gone),
            sessions=((1, 4 + n),), messages_decoded=3 + n, events_written=6 + n,
        )  # fmt: skip
    spread = [itch_add(10 + i, b"S", 1, 1_020_000 + 7919 * i % 100_003) for i in range(5000)]
    yield stream(
        "b125_many_levels", FIRST, LAST, *packets(4, spread), truth=(*TRUTH, *spread),
        sessions=((1, 5004),), messages_decoded=5003, events_written=5006,
    )  # fmt: skip


def packets(first: int, messages: Sequence[bytes], size: int = 30) -> list[Frame]:
    return [line_a(first + at, *messages[at : at + size]) for at in range(0, len(messages), size)]


def times() -> Iterator[Vector]:
    day = 24 * 3600 * 10**9
    for name, ts in ("past_midnight", day + 1), ("max", 2**48 - 1), ("regress", 0):
        order = itch_add(3, b"B", 5, 990_000, ts=ts)
        yield told(f"b126_time_{name}", order, events=1, wrong=False)


def vectors() -> Iterator[Vector]:
    for part in unknown, impossible, crossed, types, locates, states, limits, times:
        yield from part()
