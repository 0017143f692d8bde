"""HOSTILE A, 53-64: lines A and B against each other, through the whole pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pydpdk._core")
from testbed.hostile import Vector
from tests.hostile_run import cases, run


@cases("a53")
def test_a53_a_then_b(vector: Vector, tmp_path: Path) -> None:
    a, b = run(vector, tmp_path).lines
    assert (a["wins"], b["wins"], a["leads"], b["leads"]) == (3, 0, 2, 0)


@cases("a54")
def test_a54_skew(vector: Vector, tmp_path: Path) -> None:
    a, b = run(vector, tmp_path).lines
    leader = a if vector.id.endswith("5_s") else b
    assert (leader["wins"], leader["leads"]) == (3, 2)


@cases("a55")
def test_a55_one_line_lost(vector: Vector, tmp_path: Path) -> None:
    a, b = run(vector, tmp_path).lines
    assert (a["losses"], a["healed"], b["losses"]) == (1, 1, 0)


@cases("a56")
def test_a56_alternate_loss(vector: Vector, tmp_path: Path) -> None:
    a, b = run(vector, tmp_path).lines
    assert (a["wins"], b["wins"]) == (20, 20)
    assert (a["losses"], a["healed"]) == (b["losses"] + 0, b["healed"] + 0) == (19, 19)


@cases("a57")
def test_a57_both_lost_the_same(vector: Vector, tmp_path: Path) -> None:
    a, b = run(vector, tmp_path).lines
    assert (a["losses"], a["healed"], b["losses"], b["healed"]) == (1, 0, 1, 0)


@cases("a58")
def test_a58_other_packets_on_b(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)


@cases("a59")
def test_a59_same_sequence_other_bytes(vector: Vector, tmp_path: Path) -> None:
    """The first copy stays, and the feed is flagged; also while the first waits for its turn."""
    run(vector, tmp_path)


@cases("a60")
def test_a60_a_stops_replays_or_jumps(vector: Vector, tmp_path: Path) -> None:
    """A jump is poison until the other line, or the same one in time, confirms it."""
    run(vector, tmp_path)


@cases("a61")
def test_a61_lines_in_different_sessions(vector: Vector, tmp_path: Path) -> None:
    """The newer session counts; the other line's packets are dropped until it follows."""
    run(vector, tmp_path)


@cases("a62")
def test_a62_b_a_second_behind(vector: Vector, tmp_path: Path) -> None:
    """Nothing is kept for line B but 8 bytes of each of the last 32,768 messages."""
    a, b = run(vector, tmp_path).lines
    assert (a["wins"], b["wins"], b["stale"]) == (300, 0, 0)
    assert a["lead_ns_mean"] > 900_000_000


@cases("a63")
def test_a63_flap_during_a_gap(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)


@cases("a64")
def test_a64_crossed_wiring(vector: Vector, tmp_path: Path) -> None:
    """Line B's frames on line A's group are copies on line A."""
    a, b = run(vector, tmp_path).lines
    assert (a["packets"], b["packets"]) == (3, 0)
