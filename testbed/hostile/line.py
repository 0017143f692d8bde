"""A: what lines A and B do to each other (53-64)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from testbed.frames import datagram, itch_add, mold
from testbed.hostile.session import OTHER, SECOND_US, message, part, said
from testbed.hostile.vector import (
    ASK,
    BID,
    DIRECTORY,
    FIRST,
    GROUP_A,
    LAST,
    TRUTH,
    Frame,
    Vector,
    line_a,
    line_b,
    stray,
    stream,
)

FIRST_B, LAST_B = line_b(1, DIRECTORY, BID), line_b(3, ASK)
GOOD = {"messages_decoded": 3, "events_written": 6}


def copies() -> Iterator[Vector]:
    pair = {"messages_duplicate": 3, **GOOD}
    yield stream("a53_a_then_b", FIRST, FIRST_B, LAST, LAST_B, **pair)
    for name, skew_us in ("together", 0), ("5_ms", 5_000):
        b_first = (
            FIRST_B,
            replace(FIRST, after_us=skew_us),
            LAST_B,
            replace(LAST, after_us=skew_us),
        )
        yield stream(f"a54_b_first_{name}", *b_first, **pair)
    beats = [line_a(4, after_us=SECOND_US) for _ in range(5)]
    yield stream(
        "a54_b_later_by_5_s", FIRST, LAST, *beats, FIRST_B, LAST_B, packets_heartbeat=5, **pair
    )


def losses() -> Iterator[Vector]:
    four = {"truth": said(4), "sessions": ((1, 5),), "messages_decoded": 4, "events_written": 7}
    yield stream(
        "a55_a_lost_b_has", FIRST, FIRST_B, LAST_B, part(4), part(4, 1, line_b),
        messages_duplicate=3, **four,
    )  # fmt: skip
    yield stream(
        "a55_b_fills_later", FIRST, part(4), FIRST_B, LAST_B, messages_duplicate=2, gaps_healed=1,
        **four,
    )  # fmt: skip
    turns = [part(n, 1, line_b if n % 2 else line_a) for n in range(1, 41)]
    yield stream(
        "a56_alternate_loss", *turns, truth=said(40), sessions=((1, 41),), messages_decoded=40,
        events_written=43,
    )  # fmt: skip
    yield stream(
        "a57_both_lost_the_same", FIRST, FIRST_B, part(4), part(4, 1, line_b), truth=said(4),
        gaps=[(3, 1)], suspect=[1], sessions=((1, 5),), messages_decoded=3, messages_duplicate=3,
        events_written=6,
    )  # fmt: skip
    cuts = [
        part(1),
        part(1, 4, line_b),
        part(2, 2),
        part(5, 1, line_b),
        part(4, 3),
        part(6, 1, line_b),
    ]
    yield stream(
        "a58_other_packets_on_b", *cuts, truth=said(6), sessions=((1, 7),), messages_decoded=6,
        messages_duplicate=6, events_written=9,
    )  # fmt: skip


def lies() -> Iterator[Vector]:
    other = itch_add(1, b"B", 100, 1_000_100, ts=2)
    liar = line_b(1, DIRECTORY, other)
    feed = {"gaps": [(2, 0)], "suspect": [1], "messages_decoded": 3, "events_written": 7}
    yield stream(
        "a59_other_bytes_on_b", FIRST, liar, LAST, messages_duplicate=2, ab_mismatch=1, **feed
    )
    both = (line_b(1, DIRECTORY, BID), line_a(1, DIRECTORY, other), LAST)
    yield stream("a59_other_bytes_on_a", *both, messages_duplicate=2, ab_mismatch=1, **feed)
    unseen = {"options": {"compare": False}, "moved": {"messages_duplicate": 2}}
    yield stray("a59_not_compared", liar, **unseen)
    false4 = itch_add(4, b"B", 10, 900_005)
    yield stream(
        "a59_other_bytes_while_held", FIRST, part(4), line_b(4, false4), LAST, truth=said(4),
        gaps=[(4, 0)], suspect=[1], sessions=((1, 5),), messages_decoded=4, messages_duplicate=1,
        gaps_healed=1, ab_mismatch=1, events_written=8,
    )  # fmt: skip
    beats = [part(4 + i, 1, line_b, after_us=SECOND_US) for i in range(5)]
    yield stream(
        "a60_a_stops", FIRST, FIRST_B, LAST, LAST_B, *beats, truth=said(8), sessions=((1, 9),),
        messages_decoded=8, messages_duplicate=3, line_stale=1, events_written=12,
    )  # fmt: skip
    past = (FIRST, FIRST_B, LAST, LAST_B, FIRST, LAST, part(4, 1, line_b))
    yield stream(
        "a60_a_replays_the_past", *past, truth=said(4), sessions=((1, 5),), messages_decoded=4,
        messages_duplicate=6, events_written=7,
    )  # fmt: skip
    far = 1_000_003
    jump = {"drop_untrusted_jump": 1, "messages_untrusted": 1}
    yield stray("a60_a_jumps_alone", FIRST_B, part(far), moved={"messages_duplicate": 2, **jump})
    yield stream(
        "a60_b_confirms_the_jump", FIRST, FIRST_B, part(far), part(far, 1, line_b),
        truth=(*TRUTH, message(far)), gaps=[(3, far - 3)], suspect=[1], sessions=((1, far + 1),),
        messages_decoded=3, messages_duplicate=2, events_written=6, **jump,
    )  # fmt: skip
    wild = [part(far + 10**6 * n, 1, line_a) for n in range(50)]
    yield stray(
        "a60_a_jumps_about", *wild, moved={"drop_untrusted_jump": 50, "messages_untrusted": 50}
    )


def apart() -> Iterator[Vector]:
    new = line_a(1, DIRECTORY, BID, session=OTHER)
    restarted = (FIRST, FIRST_B, new, LAST_B, line_b(1, DIRECTORY, BID, session=OTHER))
    yield stream(
        "a61_a_restarted", *restarted, truth=(DIRECTORY, BID), sessions=((1, 3), (1, 3)),
        session_resets=1, drop_session_other=1, messages_decoded=4, messages_duplicate=4,
        events_written=8,
    )  # fmt: skip
    behind: list[Frame] = [part(1, 1, after_us=SECOND_US)]
    for n in range(2, 301):
        behind += [part(n, 1, after_us=SECOND_US), part(n - 1, 1, line_b)]
    yield stream(
        "a62_b_a_second_behind", *behind, truth=said(300), sessions=((1, 301),),
        messages_decoded=300, messages_duplicate=299, events_written=303,
    )  # fmt: skip
    flap = (
        FIRST, FIRST_B, part(4, 1, line_b), part(6), part(5, 1, line_b), part(6, 1, line_b),
        part(7, after_us=20_000), part(7, 1, line_b),
    )  # fmt: skip
    yield stream(
        "a63_a_flaps_while_b_has_a_gap", *flap, truth=said(7), gaps=[(3, 1)], suspect=[1],
        sessions=((1, 8),), messages_decoded=6, messages_duplicate=4, events_written=9,
    )  # fmt: skip
    crossed = Frame(
        datagram(mold(sequence=1, messages=[DIRECTORY, BID]), src="198.51.100.2", dst=GROUP_A)
    )
    yield stray("a64_b_on_the_group_of_a", crossed, moved={"messages_duplicate": 2})


def vectors() -> Iterator[Vector]:
    for part_of in copies, losses, lies, apart:
        yield from part_of()
