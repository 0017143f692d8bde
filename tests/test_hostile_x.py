"""HOSTILE X, 91-96: IEX-TP, through the whole pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pydpdk._core")
from testbed.hostile import Vector
from tests.hostile_run import cases, run


@cases("x00")
def test_x00_levels_that_cannot_be(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)


@cases("x91")
def test_x91_version_protocol_channel_session(vector: Vector, tmp_path: Path) -> None:
    """Channel and session number together name the session."""
    run(vector, tmp_path)


@cases("x92")
def test_x92_length_and_count(vector: Vector, tmp_path: Path) -> None:
    """Whole messages count, as many as both fields allow."""
    run(vector, tmp_path)


@cases("x93")
def test_x93_stream_offset(vector: Vector, tmp_path: Path) -> None:
    """Bytes are missing that no sequence number tells of: counted, and the books are in doubt."""
    run(vector, tmp_path)


@cases("x94")
def test_x94_overlap(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)


@cases("x95")
def test_x95_gap_fill_replies(vector: Vector, tmp_path: Path) -> None:
    """Nothing is requested: a unicast reply has no feed, one on the group is a line's packet."""
    run(vector, tmp_path)


@cases("x96")
def test_x96_other_versions_in_the_file(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)
