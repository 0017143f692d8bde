"""One wrong packet must not cost a session: not its id, its place, its end or its clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pydpdk._core import lib
from pydpdk.engine.feed import Feed
from testbed.frames import datagram, iextp
from testbed.hostile.iextp import ASK, AT_ASK, BID, DIRECTORY, level, sent
from testbed.hostile.iextp import FIRST as FIRST_IEX
from testbed.hostile.iextp import LAST as LAST_IEX
from testbed.hostile.session import OTHER, end, part
from testbed.hostile.vector import (
    FIRST,
    LAST,
    LINES,
    PORT_IEX,
    START_NS,
    Frame,
    Vector,
    line_a,
    line_b,
    pcap,
)
from tests.hostile_run import Outcome, outcome
from tests.pipeline import replay

YEAR_US = 365 * 24 * 3600 * 10**6
GROUP_IEX_B = "233.215.21.132"
IEX: dict[str, Any] = {
    "protocol": "deep10", "lines": (*LINES["deep10"], f"{GROUP_IEX_B}:{PORT_IEX}")
}  # fmt: skip


def play(
    folder: Path,
    *frames: Frame,
    protocol: str = "itch50",
    lines: tuple[str, ...] = (),
    **options: Any,
) -> Outcome:
    """What `frames` leave; every account closes."""
    vector = Vector("succession", frames, {}, (), protocol=protocol, lines=lines, options=options)
    got = outcome(vector, folder)
    assert got.unexplained == 0
    return got


def spans(got: Outcome) -> list[tuple[int, int]]:
    return [(s["first"], s["last"] + 1) for s in got.sessions]


def kinds(got: Outcome) -> list[int]:
    return [int(kind) for kind in got.events["kind"]]


def test_a_foreign_packet_does_not_take_the_session_over(tmp_path: Path) -> None:
    got = play(tmp_path, FIRST, line_a(77, b"x", session=OTHER), LAST)
    assert spans(got) == [(1, 4)]
    assert got.counters["drop_untrusted_jump"] == 1
    assert not got.suspect


def test_a_session_taken_over_at_sequence_1_comes_back_when_the_other_is_silent(
    tmp_path: Path,
) -> None:
    spoof = line_a(1, b"x", session=OTHER)
    lost = [part(n) for n in range(4, 8)]
    later = [part(8, after_us=2_000_000), part(8, 1, line_b), part(9)]
    got = play(tmp_path, FIRST, LAST, spoof, *lost, *later)
    assert spans(got) == [(1, 4), (1, 2), (8, 10)]
    assert got.counters["drop_session_other"] == 4
    assert got.suspect == {1}


def test_a_first_packet_far_ahead_is_corrected_by_the_second(tmp_path: Path) -> None:
    got = play(tmp_path, part(10**9), FIRST, LAST)
    assert spans(got)[-1] == (1, 4)
    assert not got.suspect
    assert "messages_late" not in got.counters


def test_a_late_join_is_believed_by_its_second_packet(tmp_path: Path) -> None:
    got = play(tmp_path, part(5000), part(5001), part(5002))
    assert spans(got) == [(5000, 5003)]


def test_an_end_far_ahead_ends_nothing(tmp_path: Path) -> None:
    got = play(tmp_path, FIRST, end(1 << 40), LAST)
    assert lib.EVENT_SESSION_END not in kinds(got)
    assert not got.sessions[0]["ended"]
    assert "packets_end_of_session" not in got.counters


def test_the_end_is_told_behind_what_it_ends(tmp_path: Path) -> None:
    got = play(tmp_path, FIRST, end(4), part(3, 1, line_b))
    assert kinds(got)[-1] == lib.EVENT_SESSION_END
    assert got.counters["gaps_healed"] == 1


def test_the_end_is_told_behind_the_gap_that_nothing_heals(tmp_path: Path) -> None:
    got = play(tmp_path, FIRST, end(4))
    assert kinds(got)[-2:] == [lib.EVENT_GAP, lib.EVENT_SESSION_END]


def test_a_clock_that_goes_back_confirms_no_jump(tmp_path: Path) -> None:
    far = line_a(10**6, b"x"), line_a(10**6 + 1, b"x", after_us=-1)
    got = play(tmp_path, FIRST, *far, LAST)
    assert spans(got) == [(1, 4)]
    assert got.counters["drop_untrusted_jump"] == 2


def test_one_stamp_in_the_future_gives_no_gap_up(tmp_path: Path) -> None:
    future = part(3, after_us=YEAR_US)
    gap = part(5, after_us=100 - YEAR_US)
    got = play(tmp_path, FIRST, future, gap, part(4, 1, line_b, after_us=200))
    assert spans(got) == [(1, 6)]
    assert got.counters["gaps_healed"] == 1
    assert "gaps_declared" not in got.counters


def test_two_stamps_in_the_future_are_believed(tmp_path: Path) -> None:
    later = part(4, after_us=YEAR_US), part(5)
    got = play(tmp_path, FIRST, *later, LAST)
    assert got.counters["gaps_declared"] == 1
    assert got.counters["messages_late"] == 1, "given up before the end"


def test_a_hole_that_is_being_filled_is_not_given_up(tmp_path: Path) -> None:
    frames = [part(n, after_us=5_000) for n in range(3, 9)]
    got = play(tmp_path, FIRST, line_a(9), *frames, gap_timeout_us=10_000)
    assert spans(got) == [(1, 9)]
    assert got.counters["gaps_healed"] == 1


@pytest.mark.parametrize(
    ("after_us", "stale"),
    [(1_500_000, (0, 0)), (1_500_001, (1, 0)), (6_000_000, (1, 0)), (6_000_001, (1, 1))],
)
def test_silence_begins_beyond_its_time(
    tmp_path: Path, after_us: int, stale: tuple[int, int]
) -> None:
    got = play(tmp_path, FIRST, line_a(3, after_us=after_us), stale_feed_us=6_000_000)
    assert tuple(got.counters.get(name, 0) for name in ("line_stale", "feed_stale")) == stale


# --- IEX-TP: the stream restarts under the same session id ---


def on_b(sequence: int, *messages: bytes, at: int = 0, ms: int = 0) -> Frame:
    """`sent`, by line B."""
    payload = iextp(
        sequence=sequence, messages=messages, offset=at, send_time_ns=START_NS + ms * 10**6
    )
    return Frame(datagram(payload, dst=GROUP_IEX_B, dst_port=PORT_IEX))


@pytest.mark.parametrize(("ms", "restarts"), [(9_000, True), (11_000, False)])
def test_a_send_time_ahead_of_the_record_clock_restarts_nothing(
    tmp_path: Path, ms: int, restarts: bool
) -> None:
    again = sent(1, DIRECTORY, level(b"8", 990_000, 7), ms=ms)
    got = play(tmp_path, FIRST_IEX, LAST_IEX, again, **IEX)
    assert spans(got) == ([(1, 4), (1, 3)] if restarts else [(1, 4)])


def test_a_line_that_is_behind_restarts_nothing_whatever_its_send_time(tmp_path: Path) -> None:
    copies = on_b(1, DIRECTORY, BID, ms=5_000), on_b(3, ASK, at=AT_ASK, ms=5_001)
    got = play(tmp_path, FIRST_IEX, LAST_IEX, *copies, **IEX)
    assert spans(got) == [(1, 4)]
    assert got.counters["messages_duplicate"] == 3


def test_another_session_may_be_sent_before_the_restart_of_the_last_one(tmp_path: Path) -> None:
    again = sent(1, DIRECTORY, level(b"8", 990_000, 7), ms=5_000)
    other = sent(1, DIRECTORY, BID, ms=3, session=2), sent(3, ASK, at=AT_ASK, ms=4, session=2)
    got = play(tmp_path, FIRST_IEX, again, *other, **IEX)
    assert spans(got) == [(1, 3), (1, 3), (1, 4)]
    assert "drop_session_other" not in got.counters


# --- several feeds ---


@pytest.mark.parametrize("burst", [1, 7, 64])
def test_records_of_two_feeds_keep_the_order_of_their_packets(tmp_path: Path, burst: int) -> None:
    path = tmp_path / "two.pcap"
    path.write_bytes(pcap([frame for n in range(1, 60) for frame in (part(n), part(n, 1, line_b))]))
    feeds = [Feed.parse(f"itch50@{line}", orders_max=1 << 10, levels_max=1 << 12)
             for line in LINES["itch50"]]  # fmt: skip
    events = replay(path, feeds, burst=burst).events
    feed_of = events["instrument_id"] >> 16
    order = list(zip(events["sequence"].tolist(), feed_of.tolist(), strict=True))
    assert order == sorted(order)
    assert set(feed_of.tolist()) == {0, 1}
