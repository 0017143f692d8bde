"""HOSTILE U, 33-52: UDP and MoldUDP64, through the whole pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pydpdk._core")
from pydpdk._core import lib
from testbed.hostile import Vector
from tests.hostile_run import cases, run


@cases("u33")
def test_u33_udp_length(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)


@cases("u34")
def test_u34_udp_checksum(vector: Vector, tmp_path: Path) -> None:
    """Accepted and noted, dropped by policy `verify`; 0 is none over IPv4 and wrong over IPv6."""
    run(vector, tmp_path)


@cases("u35")
def test_u35_payload_below_the_session_header(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)


@cases("u36")
def test_u36_count_above_blocks(vector: Vector, tmp_path: Path) -> None:
    """Whole messages count; those that are not there are a gap until they come."""
    run(vector, tmp_path)


@cases("u37")
def test_u37_bytes_behind_the_last_block(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)


@cases("u38")
def test_u38_block_length(vector: Vector, tmp_path: Path) -> None:
    """A message of no bytes may have been any: all books are in doubt."""
    run(vector, tmp_path)


@cases("u39")
def test_u39_heartbeats(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)


@cases("u40")
def test_u40_end_of_session(vector: Vector, tmp_path: Path) -> None:
    """Told once; a gap is still healed behind it; new data behind it is applied and counted."""
    events = run(vector, tmp_path).events
    assert (events["kind"] == lib.EVENT_SESSION_END).sum() == 1


@cases("u41")
def test_u41_session_changes(vector: Vector, tmp_path: Path) -> None:
    """Another session begins with empty books: at its sequence 1, or once it is confirmed.

    One that was left stays left.
    """
    run(vector, tmp_path)


@cases("u42")
def test_u42_session_names(vector: Vector, tmp_path: Path) -> None:
    """A name is ten bytes: any other bytes are another session."""
    run(vector, tmp_path)


@cases("u43")
def test_u43_gaps(vector: Vector, tmp_path: Path) -> None:
    """What lies beyond the window is not believed until time or line B confirms it."""
    run(vector, tmp_path)


@cases("u44")
def test_u44_reordering(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)


@cases("u45")
def test_u45_packet_twice(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)


@cases("u46")
def test_u46_overlap(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)


@cases("u47")
def test_u47_sequence_0_and_wrap(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)


@cases("u48")
def test_u48_late_join(vector: Vector, tmp_path: Path) -> None:
    """Every book is suspect: a directory message may be a repeat, unless the market is not open.

    A join that the second packet does not confirm begins again there.
    """
    run(vector, tmp_path)


@cases("u49")
def test_u49_replies_to_requests(vector: Vector, tmp_path: Path) -> None:
    """Nothing is requested: unicast replies have no feed, copies on the group count like a line's.

    The time-outs of a request (never answered, backoff, bounded tries) come with recovery.
    """
    run(vector, tmp_path)


@cases("u50")
def test_u50_gaps_in_gaps(vector: Vector, tmp_path: Path) -> None:
    """What waits is bounded by the window; at the end every open gap is declared."""
    run(vector, tmp_path)


@cases("u51")
def test_u51_silence(vector: Vector, tmp_path: Path) -> None:
    """Beyond 1.5 s a line is stale, beyond 15 s the feed; both are noticed with the next packet."""
    run(vector, tmp_path)


@cases("u52")
def test_u52_message_of_64_kib(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)
