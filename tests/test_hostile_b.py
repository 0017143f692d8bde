"""HOSTILE B, 118-126: messages that a book cannot believe, through the whole pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pydpdk._core")
from pydpdk._core import lib
from testbed.hostile import Vector
from tests.hostile_run import cases, run


@cases("b118")
def test_b118_change_of_an_unknown_order(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)


@cases("b119")
def test_b119_impossible_orders(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)


@cases("b120")
def test_b120_crossed_book(vector: Vector, tmp_path: Path) -> None:
    """The records say so while it lasts; the venue's word is not doubted."""
    events = run(vector, tmp_path).events
    quotes = events[events["kind"] == lib.EVENT_QUOTE]
    assert (quotes["flags"] & lib.FLAG_CROSSED != 0).sum() == 1


@cases("b121")
def test_b121_unknown_types_and_wrong_lengths(vector: Vector, tmp_path: Path) -> None:
    """Skipped by length and counted; what may have changed a book puts that book in doubt."""
    run(vector, tmp_path)


@cases("b122")
def test_b122_locate_codes(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)


@cases("b123")
def test_b123_directory_absent(vector: Vector, tmp_path: Path) -> None:
    """Without a gap nothing is missing but the name."""
    run(vector, tmp_path)


@cases("b124")
def test_b124_halts_auctions_and_hours(vector: Vector, tmp_path: Path) -> None:
    events = run(vector, tmp_path).events
    if vector.id == "b124_halts":
        flags = events["flags"][-4:] & lib.FLAG_HALTED
        assert (flags != 0).tolist() == [True, True, False, True]


@cases("b125")
def test_b125_limits_of_memory_and_hash(vector: Vector, tmp_path: Path) -> None:
    """Beyond its limits a book is flagged; chosen ids and prices cost no more than others."""
    run(vector, tmp_path)


@cases("b126")
def test_b126_times_of_the_venue(vector: Vector, tmp_path: Path) -> None:
    """Passed on as they are, in nanoseconds since the feed's midnight (here 0)."""
    event = run(vector, tmp_path).events[-1]
    assert int(event["ts_event"]) == int.from_bytes(vector.truth[-1][5:11], "big")
