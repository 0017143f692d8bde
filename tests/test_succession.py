"""One wrong packet must not cost a session: not its id, its place, its end or its clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pydpdk._core import lib
from pydpdk.engine.feed import Feed
from testbed.hostile.session import OTHER, end, part
from testbed.hostile.vector import FIRST, LAST, LINES, Frame, Vector, line_a, line_b, pcap
from tests.hostile_run import Outcome, outcome
from tests.pipeline import replay

YEAR_US = 365 * 24 * 3600 * 10**6


def play(folder: Path, *frames: Frame, **options: Any) -> Outcome:
    """What `frames` leave; every account closes."""
    got = outcome(Vector("succession", frames, {}, (), options=options), folder)
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
    got = play(tmp_path, FIRST, *later)
    assert got.counters["gaps_declared"] == 1


def test_a_hole_that_is_being_filled_is_not_given_up(tmp_path: Path) -> None:
    frames = [part(n, after_us=5_000) for n in range(3, 9)]
    got = play(tmp_path, FIRST, line_a(9), *frames, gap_timeout_us=10_000)
    assert spans(got) == [(1, 9)]
    assert got.counters["gaps_healed"] == 1


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
