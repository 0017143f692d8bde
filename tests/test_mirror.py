"""Books rebuilt from records in the core equal the engine's own, and say when they cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pydpdk._core import lib
from pydpdk.core.event import EVENT, Event, sizes
from pydpdk.engine.feed import Feed
from pydpdk.engine.mirror import Mirror
from pydpdk.errors import DataError
from pydpdk.lockstep.replay import Replay
from pydpdk.source.source import open_source
from pydpdk.synth.gen import generate
from pydpdk.synth.two_lines import LINE_A, LINE_B
from tests.hostile_run import all_vectors, feed_of, write
from tests.pipeline import SMALL, found_feed, replay

FEED = Feed.parse(
    "itch50@" + ",".join(f"{line.group}:{line.port}" for line in (LINE_A, LINE_B)), **SMALL
)
LEVEL = ["price", "size", "orders"]
TOP = ["symbol", "bid", "ask", "bid_size", "ask_size", "orders"]


def equal(mirror: Mirror, feed: Any) -> None:
    """Levels, tops and symbols of every book that is not in doubt; no doubt that is not true."""
    mine, true = mirror.books.instruments, feed.books.instruments
    suspect = (true["epoch"] != feed.gaps) | (true["state"] & lib.BOOK_BROKEN != 0)
    assert ((mine[TOP] == true[TOP]) | suspect).all()
    mistrusted = (mine["epoch"] != mirror.gaps[0]) | (mine["state"] & lib.BOOK_BROKEN != 0)
    seen = true["state"] & lib.BOOK_SEEN != 0
    assert not (mistrusted & ~suspect & seen).any()
    if not (suspect & seen).any():
        assert mirror.books.hash() == feed.books.hash()
    for i in np.flatnonzero(seen & ~suspect)[:5].tolist():
        for one, other in zip(mirror.books.depth(i), feed.books.depth(i), strict=True):
            assert one[LEVEL].tolist() == other[LEVEL].tolist()


@pytest.mark.parametrize("faults", [{}, {"loss": 0.1, "dup": 0.05, "reorder": 0.05}])
def test_it_follows_a_session_batch_by_batch(tmp_path: Path, faults: dict[str, float]) -> None:
    path = tmp_path / "day.pcap"
    generate(path, messages=20_000, instruments=30, seed=4, **faults)
    with (
        Mirror(FEED) as mirror,
        Replay(path, FEED, on_events=mirror.apply, batch_us=20_000) as pipeline,
    ):
        (feed,), batches = pipeline.engine.feeds, 0
        while pipeline.cycle():
            equal(mirror, feed)
            assert mirror.gaps[0] == feed.gaps
            batches += 1
        assert batches > 10
        assert feed.suspect is bool(faults)
        assert mirror.stats["refused"] == 0


def test_it_follows_every_hostile_vector(tmp_path: Path) -> None:
    """But of frames that never come to a session (ethernet, IP)."""
    for vector in (vector for vector in all_vectors() if vector.group not in "li"):
        feed = feed_of(vector)
        try:
            open_source(f"pcap:{write(vector, tmp_path)}").close()
        except DataError:
            continue  # not a capture at all
        path = write(vector, tmp_path)
        with Mirror(feed) as mirror, Replay(path, feed, on_events=mirror.apply) as pipeline:
            pipeline.run()
            equal(mirror, pipeline.engine.feeds[0])


@pytest.mark.parametrize(
    ("name", "protocol"),
    [("iex/iex_tops16_20170710_a.pcapng.gz", "tops16"),
     ("iex/iex_deep10_20170425_s01-07.pcap.gz", "deep10")],
)  # fmt: skip
def test_it_follows_recorded_sessions(data: Path, name: str, protocol: str) -> None:
    path = data / name
    feed = found_feed(path, protocol)
    with Mirror(feed) as mirror, Replay(path, feed, on_events=mirror.apply) as pipeline:
        pipeline.run()
        equal(mirror, pipeline.engine.feeds[0])
        assert mirror.stats["refused"] == 0


def test_missing_records_make_every_book_suspect_until_a_session(tmp_path: Path) -> None:
    path = tmp_path / "day.pcap"
    generate(path, messages=4_000, instruments=5, seed=4)
    events = replay(path, [FEED]).events
    with Mirror(FEED) as mirror:
        mirror.apply(events[:3000])
        assert not (mirror.books.instruments["state"] & lib.BOOK_BROKEN).any()
        mirror.apply(events[3100:], lost=100)
        states = mirror.books.instruments["state"]
        assert (states[1:6] & lib.BOOK_BROKEN).all()
        assert mirror.stats["breaks"] == 1
        mirror.apply(events)
        assert not (mirror.books.instruments["state"] & lib.BOOK_BROKEN).any()
        assert mirror.stats["refused"] == 0


def test_a_session_ends_the_doubt_that_missing_records_left() -> None:
    """In the new session the flags alone say what is right, as if nothing had been missed."""
    session, doubt, right = np.zeros((3, 1), EVENT)
    session["kind"] = lib.EVENT_SESSION
    for event, flags in (doubt, lib.FLAG_SUSPECT), (right, 0):
        event["kind"], event["instrument_id"], event["flags"] = lib.EVENT_STATUS, 7, flags
    with Mirror(FEED) as mirror:
        broken = lambda: bool(mirror.books.instruments["state"][7] & lib.BOOK_BROKEN)  # noqa: E731
        mirror.apply(right, lost=1)
        assert broken(), "of what is missing no record says that it is right"
        mirror.apply(session)
        mirror.apply(doubt)
        assert broken()
        mirror.apply(right)
        assert not broken()


def test_a_restarted_engine_begins_with_empty_suspect_books(tmp_path: Path) -> None:
    path = tmp_path / "day.pcap"
    generate(path, messages=4_000, instruments=5, seed=4)
    events = replay(path, [FEED]).events
    restart = np.zeros(1, EVENT)
    restart["kind"], restart["order_id"] = lib.EVENT_ENGINE, 2
    restart["aux"] = lib.ENGINE_DIED
    with Mirror(FEED) as mirror:
        mirror.apply(events[:2000])
        mirror.apply(restart)
        assert mirror.books.orders == 0
        assert mirror.gaps[0] == 1
        assert mirror.stats["breaks"] == 1


def test_a_level_above_32_bits_is_whole() -> None:
    """As of a token of which 5,000,000,000 are wanted at one price; ``sizes`` reads it so too."""
    most = 5_000_000_000
    events = np.zeros(2, EVENT)
    events["kind"] = lib.EVENT_SESSION, lib.EVENT_LEVEL
    events[1]["side"], events[1]["price"] = lib.SIDE_BID, 10**9
    events[1]["size"], events[1]["aux"] = most % 2**32, most >> 32
    events[1]["flags"] = lib.FLAG_WIDE
    with Mirror(Feed("deep10", FEED.lines, **SMALL)) as mirror:
        mirror.apply(events)
        bids, _ = mirror.books.depth(0)
        assert bids["size"].tolist() == [most]
    assert sizes(events).tolist() == [0, most]
    record = Event._make(int(events[1][name]) for name in Event._fields)
    assert record.quantity == most
