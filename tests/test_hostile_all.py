"""The hostile vectors as a whole: none missing, none moving, every counter reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pydpdk._core")
from pydpdk._core import lib
from pydpdk.core import counters
from pydpdk.core.ring import Reader
from pydpdk.engine.engine import END, Engine
from pydpdk.lockstep.account import unexplained
from pydpdk.source.source import open_source
from testbed.hostile import vectors, write_corpus
from tests.hostile_run import EVENT, all_vectors, feed_of, levels, naive_books, write

NUMBERS = {
    "l": {*range(1, 20)} - {11},  # 11 changes the file while it is read: a test, not a vector
    "i": {*range(20, 33)},
    "u": {*range(33, 53)},
    "a": {*range(53, 65)},
    "x": {*range(91, 97)},
    "b": {*range(118, 127)},
}
# Reached below, because these need a reader that does not read.
OUTPUT = {"events_lost"}
FULL = {"instruments_full"}  # needs 65,536 symbols: tests/test_instruments.py
LIVE = {"link_changes", "answers_sent", "answers_lost", "stalls", "stall_us"}


def test_every_numbered_case_has_a_vector() -> None:
    found = {
        group: {v.number for v in all_vectors() if v.group == group} - {0} for group in NUMBERS
    }
    assert found == NUMBERS
    assert len({v.id for v in all_vectors()}) == len(all_vectors())


def test_vectors_are_the_same_every_time() -> None:
    assert tuple(vectors()) == all_vectors()


def test_every_counter_is_moved_by_a_vector() -> None:
    moved = {name for vector in all_vectors() for name in vector.counters}
    assert set(counters.NAMES) - moved == OUTPUT | FULL | LIVE
    assert moved <= set(counters.NAMES)


def test_records_that_a_stalled_reader_leaves_no_room_for(tmp_path: Path) -> None:
    """They are counted and told by an EVENT_LOST once there is room; the books lose nothing."""
    vector = next(v for v in all_vectors() if v.id == "b125_many_levels")
    source, filler = open_source(f"pcap:{write(vector, tmp_path)}"), np.zeros(64, EVENT)
    with (
        Engine([source], [feed_of(vector)], lockstep=False, packets_max=20) as engine,
        Reader(fd=engine.ring.fd, from_start=True) as reader,
    ):
        while engine.ring.room() >= len(filler):
            engine.ring.put(filler)
        for _ in range(5):
            assert engine.step() > 0
        read = drain(reader)
        while engine.step() != END:
            pass
        read = np.concatenate([read, drain(reader)])
        read = read[read["kind"] != lib.EVENT_NONE]
        totals, ledgers = engine.counters(), list(engine.feeds[0].sessions())
        book = levels(engine.feeds[0], 1)
    told = read[read["kind"] == lib.EVENT_LOST]
    assert totals["events_lost"] == told["order_id"].sum() > 0
    assert len(read) - len(told) + totals["events_lost"] == vector.counters["events_written"]
    assert unexplained(totals, ledgers, len(read)) == 0
    assert book == naive_books(vector)[1]


def drain(reader: Reader) -> np.ndarray[Any, Any]:
    batches = []
    while len(batch := reader.batch()):
        batches.append(batch.copy())
        reader.release()
    return np.concatenate(batches)


def test_corpus_of_the_fuzzers(tmp_path: Path) -> None:
    paths, frames = tmp_path / "paths", tmp_path / "frames"
    paths.mkdir()
    frames.mkdir()
    write_corpus(paths, frames)
    assert len(list(paths.iterdir())) == len(all_vectors())
    assert len(list(frames.iterdir())) > len(all_vectors())
