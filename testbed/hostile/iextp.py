"""X: what is wrong with IEX-TP (91-96), around three messages of DEEP."""

from __future__ import annotations

from collections.abc import Iterator
from struct import pack
from typing import Any

from testbed.frames import datagram, iextp
from testbed.hostile.vector import START_NS, Frame, Vector, iex, stream

TOPS_1_5, TOPS_1_6 = 0x8002, 0x8003
SYMBOL = b"ZIEXT   "


def level(side: bytes, price: int, size: int, *, symbol: bytes = SYMBOL, flags: int = 1) -> bytes:
    """A price level update: ``side`` 8 buy, 5 sell; ``price`` in units of 1e-4."""
    return pack("<cBq8sIq", side, flags, START_NS, symbol, size, price)


def directory(symbol: bytes = SYMBOL) -> bytes:
    return pack("<cBq8sIqB", b"D", 0x80, START_NS, symbol, 100, 990_000, 1)


def quote(bid: int, bid_size: int, ask: int, ask_size: int, *, symbol: bytes = SYMBOL) -> bytes:
    return pack("<cBq8sIqqI", b"Q", 0, START_NS, symbol, bid_size, bid, ask, ask_size)


DIRECTORY, BID, ASK = directory(), level(b"8", 1_000_000, 100), level(b"5", 1_010_000, 200)
TRUTH = (DIRECTORY, BID, ASK)
AT_ASK = 2 + len(DIRECTORY) + 2 + len(BID)  # offset in the stream
GOOD = {"messages_decoded": 3, "events_written": 6}


def sent(sequence: int, *messages: bytes, at: int = 0, ms: int = 0, **lie: Any) -> Frame:
    """A packet sent `ms` milliseconds after the first, from stream offset `at` on."""
    return iex(sequence, *messages, offset=at, send_time_ns=START_NS + ms * 10**6, **lie)


FIRST, LAST = sent(1, DIRECTORY, BID), sent(3, ASK, at=AT_ASK, ms=2)


def deep(id: str, *packets: Frame, truth: tuple[bytes, ...] = TRUTH, **rest: Any) -> Vector:
    return stream(id, *packets, truth=truth, protocol=rest.pop("protocol", "deep10"), **rest)


def between(id: str, hostile: Frame, **moved: int) -> Vector:
    """A hostile packet between the good ones."""
    return deep(id, FIRST, hostile, LAST, **GOOD, **moved)


def headers() -> Iterator[Vector]:
    for name, lie in (
        ("version_0", {"version": 0}), ("version_2", {"version": 2}),
        ("tops_1_5", {"protocol": TOPS_1_5}), ("tops_1_6", {"protocol": TOPS_1_6}),
        ("protocol_0", {"protocol": 0}),
    ):  # fmt: skip
        yield between(f"x91_{name}", sent(3, ASK, at=AT_ASK, ms=1, **lie), drop_session_header=1)
    cut = sent(3, ms=1).data
    short = Frame(cut[:16] + pack(">H", 20 + 8 + 39) + cut[18:24] + b"\0\0" + cut[26:38]
                  + pack(">HH", 8 + 39, 0) + cut[42:-1])  # fmt: skip
    yield between(
        "x91_header_cut", short, drop_session_header=1, note_ip_checksum=1, note_udp_no_checksum=1
    )
    two = {"truth": (DIRECTORY, BID), "sessions": ((1, 4), (1, 3)), "session_resets": 1}
    both = {"messages_decoded": 5, "events_written": 10}
    for name, lie in ("session", {"session": 2}), ("channel", {"channel": 2}):
        other = sent(1, DIRECTORY, BID, ms=3, **lie)
        yield deep(f"x91_{name}_changes", FIRST, LAST, other, **two, **both)
    again = sent(1, DIRECTORY, level(b"8", 990_000, 7), ms=5000)
    yield deep(
        "x91_restart_under_the_same_id", FIRST, LAST, again,
        truth=(DIRECTORY, level(b"8", 990_000, 7)), sessions=((1, 4), (1, 3)),
        session_resets=1, **both,
    )  # fmt: skip
    old = sent(3, ASK, at=AT_ASK, ms=2)
    yield deep(
        "x91_old_packet_behind_a_restart", FIRST, again, old,
        truth=(DIRECTORY, level(b"8", 990_000, 7)), sessions=((1, 3), (1, 3)), session_resets=1,
        drop_session_other=1, messages_decoded=4, events_written=8,
    )  # fmt: skip


def lengths() -> Iterator[Vector]:
    yield between("x92_both_0", sent(3, at=AT_ASK, ms=1), packets_heartbeat=1)
    size = 2 + len(ASK)
    more = sent(3, ASK, at=AT_ASK, ms=1, payload_length=size + 1)
    yield deep("x92_length_above_bytes", FIRST, more, **GOOD)
    less = sent(3, ASK, at=AT_ASK, ms=1, payload_length=size - 1)
    yield between("x92_length_below_blocks", less, messages_cut=1, block_cut=1, gaps_healed=1)
    tail = sent(3, ASK, at=AT_ASK, ms=1, payload_length=size, tail=b"xyz")
    yield deep("x92_bytes_behind_the_length", FIRST, tail, session_trailing=1, **GOOD)
    count = sent(3, ASK, at=AT_ASK, ms=1, count=2)
    yield deep(
        "x92_count_above_blocks", FIRST, count, gaps=[(4, 1)], suspect=[1], sessions=((1, 5),),
        messages_decoded=3, messages_cut=1, block_cut=1, events_written=7,
    )  # fmt: skip
    fewer = sent(3, ASK, level(b"8", 980_000, 1), at=AT_ASK, ms=1, count=1)
    yield deep("x92_count_below_blocks", FIRST, fewer, session_trailing=1, **GOOD)
    none = sent(3, ASK, at=AT_ASK, ms=1, count=0)
    yield between("x92_count_0_with_blocks", none, packets_heartbeat=1, session_trailing=1)


def offsets() -> Iterator[Vector]:
    for name, at in ("gap", AT_ASK + 1), ("back", 0), ("2_64", (1 << 64) - 1):
        odd = sent(3, ASK, at=at, ms=2)
        yield deep(
            f"x93_offset_{name}", FIRST, odd, gaps=[(3, 0)], suspect=[1],
            session_offset_mismatch=1, messages_decoded=3, events_written=7,
        )  # fmt: skip
    overlap = sent(2, BID, ASK, at=2 + len(DIRECTORY), ms=2)
    yield deep("x94_overlap", FIRST, overlap, messages_duplicate=1, **GOOD)
    lost = level(b"8", 980_000, 1)
    behind = sent(4, lost, at=AT_ASK + 2 + len(ASK), ms=3)
    yield deep(
        "x93_gap", FIRST, behind, truth=(*TRUTH, lost), gaps=[(3, 1)], suspect=[1],
        sessions=((1, 5),), messages_decoded=3, events_written=6,
    )  # fmt: skip


def fills() -> Iterator[Vector]:
    reply = iextp(sequence=3, send_time_ns=START_NS)
    unicast = Frame(datagram(reply, dst="198.51.100.77", dst_port=40_000))
    yield between("x95_test_reply", unicast, drop_no_feed=1)
    yield deep(
        "x95_heartbeat_of_sequence_1_is_a_restart", FIRST, sent(1, ms=1), LAST, gaps=[(1, 2)],
        suspect=[1], sessions=((1, 3), (1, 4)), session_resets=1, packets_heartbeat=1,
        messages_decoded=3, events_written=4 + 1 + 4,
    )  # fmt: skip
    more = [level(b"8", 980_000 + n, n) for n in range(4, 9)]
    at = [AT_ASK + (2 + len(ASK)) * i for i in range(7)]
    ranges = (
        sent(8, more[4], at=at[5], ms=3), sent(6, *more[2:4], at=at[3], ms=4),
        sent(5, *more[1:3], at=at[2], ms=5), sent(3, ASK, more[0], at=at[0], ms=6),
    )  # fmt: skip
    yield deep(
        "x95_replies_unsorted_and_overlapping", FIRST, *ranges, truth=(*TRUTH, *more),
        sessions=((1, 9),), messages_decoded=8, messages_duplicate=1, gaps_healed=1,
        events_written=11,
    )  # fmt: skip
    day = [sent(3, quote(1, 1, 2, 2), ms=1, protocol=p, session=9) for p in (TOPS_1_5, TOPS_1_6)]
    yield deep("x96_other_versions_in_the_file", FIRST, *day, LAST, drop_session_header=2, **GOOD)
    grown = sent(3, ASK + b"new field", at=AT_ASK, ms=1)
    yield deep("x96_message_grown_at_its_end", FIRST, grown, **GOOD)
    tops = (quote(1_000_000, 100, 1_010_000, 200), quote(0, 0, 1_020_000, 5))
    yield deep(
        "x00_tops", sent(1, tops[0], protocol=TOPS_1_6), sent(2, tops[1], at=44, protocol=TOPS_1_6),
        truth=tops, protocol="tops16", sessions=((1, 3),), messages_decoded=2, events_written=4,
    )  # fmt: skip


def levels() -> Iterator[Vector]:
    """Price levels that cannot be: the same accounts as for orders."""
    absent = level(b"8", 970_000, 0)
    yield deep(
        "x00_level_absent", FIRST, sent(3, absent, ASK, at=AT_ASK, ms=2),
        truth=(*TRUTH[:2], absent, ASK), sessions=((1, 5),), messages_decoded=4,
        book_unknown_level=1, events_written=7,
    )  # fmt: skip
    for name, price in ("0", 0), ("negative", -1), ("2_63", 2**63 - 1):
        bad = level(b"8", price, 5)
        yield deep(
            f"x00_price_{name}", FIRST, sent(3, bad, ASK, at=AT_ASK, ms=2),
            truth=(*TRUTH[:2], bad, ASK), sessions=((1, 5),), suspect=[1],
            messages_decoded=4, book_bad_price=1, events_written=7,
        )  # fmt: skip
    short = BID[:29]
    yield deep(
        "x00_level_cut", FIRST, sent(3, short, ASK, at=AT_ASK, ms=2),
        sessions=((1, 5),), suspect=[1], messages_decoded=3, message_length=1, events_written=6,
    )  # fmt: skip
    symbols = [level(b"8", 1_000_000, 1, symbol=b"%08d" % i) for i in range(20)]
    full = [sent(1, *symbols)]
    yield deep(
        "x00_levels_full", *full, truth=tuple(symbols), options={"levels_max": 64},
        suspect=range(17, 21), sessions=((1, 21),), messages_decoded=20, book_full=4,
        events_written=1 + 20 * 2 + 16,
    )  # fmt: skip


def vectors() -> Iterator[Vector]:
    for part in headers, lengths, offsets, fills, levels:
        yield from part()
