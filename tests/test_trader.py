"""Batches out of a ring: what a slow reader missed is told where it is missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pydpdk._core import lib
from pydpdk.core.event import EVENT, Events
from pydpdk.core.ring import Reader, Ring
from pydpdk.engine.feed import Feed
from pydpdk.engine.mirror import Mirror
from pydpdk.process.stage_process import Batches

FEED = Feed("itch50", orders_max=1024, levels_max=1024)


def records(kind: int, n: int = 1, instrument: int = 0) -> Events:
    made = np.zeros(n, EVENT)
    made["kind"], made["instrument_id"], made["flags"] = kind, instrument, lib.FLAG_LAST
    made["order_id"] = made["price"] = 1 + np.arange(n)
    made["size"], made["side"] = 10, lib.SIDE_BID
    return made


def is_suspect(mirror: Any, instrument: int) -> bool:
    book = mirror.books.instruments[instrument]
    return bool(book["epoch"] != mirror.gaps[0] or book["state"] & lib.BOOK_BROKEN)


@pytest.mark.parametrize("cut", [False, True], ids=["between batches", "within a batch"])
def test_a_book_is_suspect_where_records_are_missing(cut: bool) -> None:
    """The session that makes books whole came before the loss, by one batch or the same."""
    with (
        Ring(64) as ring,
        Reader(fd=ring.fd, policy="skip", from_start=True) as reader,
        Mirror(FEED) as mirror,
    ):
        batches = Batches(reader, 2)
        ring.put(records(lib.EVENT_SESSION))
        ring.put(records(lib.EVENT_INSTRUMENT, instrument=1))
        if not cut:
            ring.put(records(lib.EVENT_MARK))
        for batch, _ in batches.poll():
            mirror.apply(batch)
        ring.put(records(lib.EVENT_ADD, 200, instrument=1))
        ring.put(records(lib.EVENT_MARK))
        ((batch, _),) = batches.poll()
        told = batch[batch["kind"] == lib.EVENT_LOST]
        assert told["instrument_id"].tolist() == [0, 1 << 16]
        assert set(told["order_id"].tolist()) == {reader.lost}
        mirror.apply(batch)
        assert is_suspect(mirror, 1)
        assert batches.read + reader.lost == ring.stats().written


def test_what_was_written_before_it_joined_is_missing() -> None:
    with Ring(64) as ring:
        ring.put(records(lib.EVENT_ADD, 100))
        ring.put(records(lib.EVENT_MARK))
        with Reader(fd=ring.fd, policy="skip", from_start=True) as reader:
            first = reader.position
            ((batch, _),) = Batches(reader, 1).poll()
        assert (batch["kind"][0], batch["order_id"][0]) == (lib.EVENT_LOST, first)
        assert first > 0
