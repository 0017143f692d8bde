"""U: what is wrong with MoldUDP64, on one line (36-52)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from testbed.frames import (
    datagram,
    itch,
    itch_add,
    itch_directory,
    mold,
)
from testbed.hostile.vector import (
    ASK,
    BID,
    DIRECTORY,
    FIRST,
    LAST,
    TRUTH,
    Frame,
    Vector,
    line_a,
    line_b,
    stray,
    stream,
)

OTHER = b"SYNTH00002"
SECOND_US = 1_000_000


def message(sequence: int) -> bytes:
    """The venue's message of that sequence: from 4 on, bids below the best."""
    return (
        TRUTH[sequence - 1]
        if sequence < 4
        else itch_add(sequence, b"B", 10, 900_000 + sequence % 1000)
    )


def said(count: int) -> list[bytes]:
    return [message(n) for n in range(1, count + 1)]


def part(first: int, count: int = 1, line: Any = line_a, **rest: Any) -> Frame:
    """The right packet of messages `first` on."""
    return line(first, *(message(n) for n in range(first, first + count)), **rest)


def end(sequence: int, line: Any = line_a, **rest: Any) -> Frame:
    return line(sequence, count=0xFFFF, **rest)


# Events of the good messages: six up to the third, one of each later; FIRST alone makes four.


def blocks() -> Iterator[Vector]:
    lie = line_a(3, ASK, count=3)
    yield stream(
        "u36_count_above_blocks", FIRST, lie, part(6), truth=said(6), gaps=[(4, 2)], suspect=[1],
        sessions=((1, 7),), messages_decoded=4, messages_cut=2, block_cut=1, events_written=8,
    )  # fmt: skip
    yield stream(
        "u36_and_line_b_is_whole", FIRST, lie, part(3, 3, line_b), part(6), truth=said(6),
        sessions=((1, 7),), messages_decoded=6, messages_cut=2, block_cut=1, messages_duplicate=1,
        gaps_healed=1, events_written=9,
    )  # fmt: skip
    yield stream(
        "u36_no_block_at_all", FIRST, line_a(3, count=5), LAST, truth=said(7), gaps=[(4, 4)],
        suspect=[1], sessions=((1, 8),), messages_decoded=3, messages_cut=5, block_cut=1,
        events_written=7,
    )  # fmt: skip
    good = {"messages_decoded": 3, "events_written": 6, "session_trailing": 1}
    yield stream("u37_one_block_more", FIRST, line_a(3, ASK, message(4), count=1), **good)
    yield stream("u37_bytes_more", FIRST, line_a(3, ASK, tail=b"x"), **good)
    yield stream(
        "u37_heartbeat_with_bytes", FIRST, line_a(3, tail=b"x"), LAST, packets_heartbeat=1, **good
    )
    yield stream(
        "u38_length_0", FIRST, LAST, line_a(4, b""), part(5), truth=[*said(3), message(5)],
        sessions=((1, 6),), suspect=[1], messages_decoded=4, message_length=1, events_written=7,
    )  # fmt: skip
    for name, length in ("beyond", len(ASK) + 1), ("65535", 65535):
        cut = line_a(3, ASK, lengths=[length])
        moved = {"messages_cut": 1, "block_cut": 1, "gaps_healed": 1}
        yield stray(f"u38_length_{name}", cut, moved=moved)
    half = line_a(3, ASK, tail=b"\0", count=2)
    yield stream(
        "u38_half_a_length", FIRST, half, LAST, truth=said(4), gaps=[(4, 1)], suspect=[1],
        sessions=((1, 5),), messages_decoded=3, messages_cut=1, block_cut=1, messages_duplicate=1,
        events_written=7,
    )  # fmt: skip


def heartbeats() -> Iterator[Vector]:
    for name, sequence in ("next", 3), ("old", 1):
        yield stray(f"u39_heartbeat_{name}", line_a(sequence), moved={"packets_heartbeat": 1})
    healed = {"packets_heartbeat": 1, "gaps_healed": 1}
    yield stray("u39_heartbeat_tells_a_gap_that_heals", line_a(4), moved=healed)
    yield stream(
        "u39_heartbeat_tells_a_gap", FIRST, line_a(6), LAST, truth=said(5), gaps=[(4, 2)],
        suspect=[1], sessions=((1, 6),), packets_heartbeat=1, messages_decoded=3, events_written=7,
    )  # fmt: skip
    over = {"messages_decoded": 3, "events_written": 7}
    yield stream("u40_end", FIRST, LAST, end(4), packets_end_of_session=1, **over)
    ends = [end(4, after_us=SECOND_US) for _ in range(3)]
    yield stream("u40_three_ends", FIRST, LAST, *ends, packets_end_of_session=3, **over)
    yield stream(
        "u40_end_with_a_gap", FIRST, end(4), gaps=[(3, 1)], suspect=[1], packets_end_of_session=1,
        messages_decoded=2, events_written=6,
    )  # fmt: skip
    yield stream(
        "u40_gap_healed_behind_the_end", FIRST, end(4), LAST, packets_end_of_session=1,
        gaps_healed=1, **over,
    )  # fmt: skip
    yield stream(
        "u40_end_in_the_middle", FIRST, end(3), LAST, packets_end_of_session=1,
        session_after_end=1, **over,
    )  # fmt: skip
    yield stream(
        "u40_data_behind_the_end", FIRST, LAST, end(4), part(4), truth=said(4), sessions=((1, 5),),
        packets_end_of_session=1, session_after_end=1, messages_decoded=4, events_written=8,
    )  # fmt: skip
    yield stream(
        "u40_line_b_behind_the_end", FIRST, LAST, end(4), part(1, 3, line_b), end(4, line_b),
        packets_end_of_session=2, messages_duplicate=3, **over,
    )  # fmt: skip


def sessions() -> Iterator[Vector]:
    other = line_a(1, DIRECTORY, BID, session=OTHER)
    rest = {"truth": (DIRECTORY, BID), "session_resets": 1}
    two = ((1, 4), (1, 3))
    yield stream(
        "u41_session_changes", FIRST, LAST, other, sessions=two, messages_decoded=5,
        events_written=10, **rest,
    )  # fmt: skip
    yield stream(
        "u41_sessions_interleaved", FIRST, LAST, other, FIRST, LAST,
        line_a(3, ASK, session=OTHER), sessions=((1, 4), (1, 4)), session_resets=1,
        drop_session_other=2, messages_decoded=6, events_written=12,
    )  # fmt: skip
    yield stream(
        "u41_changes_over_a_gap", FIRST, part(5), other, sessions=((1, 6), (1, 3)), gaps=[(3, 2)],
        messages_decoded=5, events_written=10, **rest,
    )  # fmt: skip
    middle = {"truth": (DIRECTORY, BID), "suspect": [1], "session_resets": 1, "messages_decoded": 4}
    there = line_a(50, BID, session=OTHER)
    yield stray("u41_middle_of_another_session", there, moved={"drop_untrusted_jump": 1})
    yield stream(
        "u41_confirmed_by_line_b", FIRST, LAST, there, line_b(50, BID, session=OTHER), **middle,
        sessions=((1, 4), (50, 51)), drop_untrusted_jump=1, events_written=9,
    )  # fmt: skip
    yield stream(
        "u41_confirmed_by_time", FIRST, LAST, there, replace(there, after_us=20_000), **middle,
        sessions=((1, 4), (50, 51)), drop_untrusted_jump=1, events_written=9,
    )  # fmt: skip
    yield stream(
        "u41_behind_the_end", FIRST, LAST, end(4), there, **middle, sessions=((1, 4), (50, 51)),
        packets_end_of_session=1, events_written=10,
    )  # fmt: skip
    flood = [line_a(1, DIRECTORY, BID, session=b"%010d" % i) for i in range(100)]
    yield stream(
        "u41_flood_of_sessions", *flood, truth=(DIRECTORY, BID), sessions=((1, 3),) * 64,
        session_resets=99, messages_decoded=200, events_written=400,
    )  # fmt: skip
    for name, session in ("spaces", b" " * 10), ("nul", bytes(10)), ("lower_case", b"synth00001"):
        odd = line_a(1, DIRECTORY, BID, session=session)
        yield stream(
            f"u42_{name}", FIRST, LAST, odd, sessions=two, messages_decoded=5, events_written=10,
            **rest,
        )  # fmt: skip


def gaps() -> Iterator[Vector]:
    for missing in 1, 10:
        last = 3 + missing
        yield stream(
            f"u43_gap_of_{missing}", FIRST, part(last), truth=said(last), gaps=[(3, missing)],
            suspect=[1], sessions=((1, last + 1),), messages_decoded=3, events_written=6,
        )  # fmt: skip
    yield stream(
        "u43_gap_times_out_and_its_message_is_late", FIRST, part(4), part(5, after_us=20_000), LAST,
        truth=said(5), gaps=[(3, 1)], suspect=[1], sessions=((1, 6),), messages_decoded=4,
        messages_late=1, events_written=7,
    )  # fmt: skip
    for name, sequence in ("1e6", 1_000_003), ("2_63", 1 << 63), ("2_64", (1 << 64) - 2):
        poison = {"drop_untrusted_jump": 1, "messages_untrusted": 1}
        yield stray(f"u43_jump_{name}", line_a(sequence, message(4)), moved=poison)
        poison = {"drop_untrusted_jump": 1}
        yield stray(f"u43_heartbeat_jump_{name}", line_a(sequence), moved=poison)
    far = 1_000_003
    yield stream(
        "u43_jump_confirmed_by_time", FIRST, part(far), part(far + 1, after_us=20_000),
        truth=(*TRUTH, message(far + 1)), gaps=[(3, far - 2)], suspect=[1],
        sessions=((1, far + 2),), messages_decoded=3, messages_untrusted=1, drop_untrusted_jump=1,
        events_written=6,
    )  # fmt: skip
    healed = {"gaps_healed": 1}
    yield stream(
        "u44_reordered_by_1", FIRST, part(4), LAST, truth=said(4), sessions=((1, 5),),
        messages_decoded=4, events_written=7, **healed,
    )  # fmt: skip
    eight = [part(n) for n in range(11, 3, -1)]
    yield stream(
        "u44_reordered_by_8", FIRST, *eight, LAST, truth=said(11), sessions=((1, 12),),
        messages_decoded=11, events_written=14, **healed,
    )  # fmt: skip
    beyond = [part(n) for n in range(4, 20)]
    yield stream(
        "u44_reordered_beyond_the_window", FIRST, *beyond, LAST, truth=said(19),
        options={"window": 16}, gaps=[(3, 1)], suspect=[1], sessions=((1, 20),),
        messages_decoded=18, messages_late=1, events_written=21,
    )  # fmt: skip
    yield stray("u45_copy", FIRST, FIRST, moved={"messages_duplicate": 4})
    yield stream(
        "u46_overlap", FIRST, part(2, 3), truth=said(4), sessions=((1, 5),), messages_decoded=4,
        messages_duplicate=1, events_written=7,
    )  # fmt: skip
    yield stream(
        "u46_overlap_of_held", FIRST, part(5), part(3, 4), truth=said(6), sessions=((1, 7),),
        messages_decoded=6, messages_duplicate=1, events_written=9, **healed,
    )  # fmt: skip


def wraps() -> Iterator[Vector]:
    for name, sequence, count in ("zero", 0, 1), ("wraps_to_0", -1, 1), ("wraps", -2, 5):
        frame = line_a(sequence, *[message(4)] * count)
        yield stray(f"u47_{name}", frame, moved={"drop_sequence": 1})
    late = (part(50), part(10), part(51))
    yield stream(
        "u48_late_join", *late, truth=said(51), suspect=[1], sessions=((50, 52),),
        messages_decoded=2, messages_late=1, events_written=5,
    )  # fmt: skip
    far = 1_000_000
    yield stream(
        "u48_first_packet_far_ahead", part(far), FIRST, LAST, sessions=((far, far + 1), (1, 4)),
        session_resets=1, messages_decoded=4, events_written=9,
    )  # fmt: skip
    new = itch_directory(b"NEW", locate=2)
    order = itch_add(1 << 40, b"S", 5, 20_000, locate=2, stock=b"NEW")
    yield stream(
        "u48_directory_after_the_join", part(50), line_a(51, new, order),
        truth=[*said(50), new, order], suspect=[1, 2], sessions=((50, 53),),
        messages_decoded=3, events_written=6,
    )  # fmt: skip


def requests() -> Iterator[Vector]:
    """What a re-request server sends: unicast is not asked for, a copy on the group is a line's."""
    reply = mold(sequence=3, messages=[ASK])
    unicast = datagram(reply, dst="198.51.100.77", dst_port=40_000)
    yield stray("u49_reply_by_unicast", unicast, unicast, moved={"drop_no_feed": 2})
    wrong = datagram(reply, src="203.0.113.9")
    allowed = {"allowed": ("198.51.100.1",)}
    yield stray(
        "u49_reply_of_a_wrong_host", wrong, moved={"drop_unexpected_src": 1}, options=allowed
    )
    late = [part(3, after_us=20_000), part(3)]
    yield stream(
        "u49_reply_late_and_twice", FIRST, part(4), *late, truth=said(4), gaps=[(3, 1)],
        suspect=[1], sessions=((1, 5),), messages_decoded=3, messages_late=2, events_written=6,
    )  # fmt: skip
    cut = line_a(3, ASK, message(4), count=3)
    yield stream(
        "u49_reply_cut", FIRST, part(6), cut, truth=said(6), gaps=[(5, 1)], suspect=[1],
        sessions=((1, 7),), messages_decoded=5, messages_cut=1, block_cut=1, events_written=9,
    )  # fmt: skip
    many = line_a(3, ASK, count=65_534)
    yield stream(
        "u49_count_65534", FIRST, many, messages_decoded=3, messages_cut=65_533, block_cut=1,
        events_written=6,
    )  # fmt: skip
    yield stream(
        "u49_count_65534_and_a_pause", FIRST, many, part(4, after_us=20_000), truth=said(4),
        sessions=((1, 5),), messages_decoded=4, messages_cut=65_533, block_cut=1, events_written=7,
    )  # fmt: skip
    yield stream(
        "u50_gap_at_the_end", FIRST, LAST, end(6), truth=said(5), gaps=[(4, 2)], suspect=[1],
        sessions=((1, 6),), packets_end_of_session=1, messages_decoded=3, events_written=8,
    )  # fmt: skip
    yield stream(
        "u50_gap_behind_a_gap", FIRST, part(5), part(8), truth=said(8), gaps=[(3, 2), (6, 2)],
        suspect=[1], sessions=((1, 9),), messages_decoded=4, events_written=8,
    )  # fmt: skip
    live = [part(n, 16) for n in range(4, 644, 16)]
    yield stream(
        "u50_live_goes_on_over_a_gap", FIRST, *live, truth=said(643), options={"window": 64},
        gaps=[(3, 1)], suspect=[1], sessions=((1, 644),), messages_decoded=642, events_written=645,
    )  # fmt: skip


def silences() -> Iterator[Vector]:
    beats = [line_b(3, after_us=SECOND_US) for _ in range(3)]
    yield stray(
        "u51_one_line_silent", line_b(1, DIRECTORY, BID), *beats,
        moved={"messages_duplicate": 2, "packets_heartbeat": 3, "line_stale": 1,
               "events_written": 2},
    )  # fmt: skip
    yield stray(
        "u51_all_silent", line_a(3, after_us=16 * SECOND_US),
        moved={"packets_heartbeat": 1, "line_stale": 1, "feed_stale": 1, "events_written": 4},
    )  # fmt: skip
    yield stray(
        "u51_silent_for_a_second", line_a(3, after_us=SECOND_US), moved={"packets_heartbeat": 1}
    )
    huge = itch(b"~", bytes(65_535 - 14 - 20 - 8 - 20 - 2 - 11))
    big = line_a(3, huge)
    assert len(big.data) == 65_535
    after = line_a(4, ASK)
    yield stream(
        "u52_one_message_of_64_KiB", FIRST, big, after, sessions=((1, 5),), messages_decoded=3,
        message_unknown=1, events_written=6,
    )  # fmt: skip
    yield stream(
        "u52_held_for_its_turn", FIRST, line_a(4, huge), LAST, sessions=((1, 5),),
        messages_decoded=3, message_unknown=1, gaps_healed=1, events_written=6,
    )  # fmt: skip


def vectors() -> Iterator[Vector]:
    for part in blocks, heartbeats, sessions, gaps, wraps, requests, silences:
        yield from part()
