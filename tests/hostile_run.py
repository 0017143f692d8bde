"""Runs hostile vectors through the pipeline, and the naive second opinion on their books."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from struct import unpack_from
from typing import Any

import numpy as np
import pytest

from pydpdk._core import lib
from pydpdk.core.counters import nonzero
from pydpdk.core.layout import dtype
from pydpdk.engine.engine import END, Engine
from pydpdk.engine.feed import Endpoint, Feed
from pydpdk.lockstep.replay import Replay
from testbed.hostile import Vector, vectors
from testbed.hostile.vector import LINES
from tests.naive_book import ASK, BID, NaiveBooks

EVENT = dtype("event")
Events = np.ndarray[Any, Any]
Levels = list[tuple[int, int, int]]  # (price, size, orders), best first
Sides = dict[int, tuple[Levels, Levels]]


@dataclass
class Outcome:
    """All that a run leaves: `counters` are those that moved, `books` the ones with levels."""

    counters: dict[str, int]
    events: Events
    sessions: list[dict[str, Any]]
    books: Sides
    suspect: set[int]
    symbols: dict[int, bytes]
    lines: list[dict[str, Any]]
    unexplained: int
    error: int  # of the source: END when it ended clean
    problem: str
    truncated: int


def feed_of(vector: Vector) -> Feed:
    texts = vector.lines or LINES.get(vector.protocol, LINES["deep10"])
    lines = tuple(Endpoint.parse(text) for text in texts)
    small = {"orders_max": 1 << 14, "levels_max": 1 << 16}
    return Feed(vector.protocol, lines, **{**small, **vector.options})


@cache
def all_vectors() -> tuple[Vector, ...]:
    return tuple(vectors())


def cases(number: str) -> pytest.MarkDecorator:
    """The parameter `vector`: every one of the case that is numbered so, as in "l05"."""
    found = [vector for vector in all_vectors() if vector.id.startswith(f"{number}_")]
    assert found, f"no vector of case {number}"
    ids = [vector.id.removeprefix(f"{number}_") for vector in found]
    return pytest.mark.parametrize("vector", found, ids=ids)


def run(vector: Vector, folder: Path, **options: Any) -> Outcome:
    """The outcome, checked."""
    got = outcome(vector, folder, **options)
    check(vector, got)
    return got


def write(vector: Vector, folder: Path) -> Path:
    path = folder / f"{vector.id}.pcap"
    path.write_bytes(vector.capture())
    return path


def outcome(
    vector: Vector,
    folder: Path,
    source: str = "pcap",
    opened: Callable[[Path], object] = lambda path: None,
    **options: Any,
) -> Outcome:
    """The vector's capture through engine, arbiter, books and ring.

    `options` are the engine's; `opened` is called once the source is open.
    """
    path = write(vector, folder)
    feed, spec = feed_of(vector), f"{source}:{path}"
    with Replay(spec, feed, checksum=vector.checksum, keep_events=True, **options) as pipeline:
        opened(path)
        pipeline.run()
        return _outcome(pipeline.engine, pipeline.events(), pipeline.accounts())


def _outcome(engine: Engine, events: Events, result: dict[str, Any]) -> Outcome:
    feed, source = engine.feeds[0], engine.sources[0]
    seen = np.flatnonzero(feed.books.instruments["state"] & lib.BOOK_SEEN).tolist()
    info = source.capture_info()
    return Outcome(
        counters=nonzero(engine.counters()),
        events=events,
        sessions=list(feed.sessions()),
        books={i: book for i in seen if any(book := levels(feed, i))},
        suspect={i for i in seen if feed.is_suspect(i)},
        symbols={i: bytes(feed.books.instruments["symbol"][i]) for i in seen},
        lines=feed.lines(),
        unexplained=result["unexplained"],
        error=engine.source_error(0),
        problem=source.problem(),
        truncated=info.truncated if info else 0,
    )


def levels(feed: Any, instrument: int) -> tuple[Levels, Levels]:
    bids, asks = (
        [(int(row["price"]), int(row["size"]), int(row["orders"])) for row in side]
        for side in feed.books.depth(instrument)
    )
    return bids, asks


# --- what must hold ---


def check(vector: Vector, got: Outcome) -> None:
    """All that a vector says, and what must hold after any input."""
    assert got.counters == vector.counters
    assert got.unexplained == 0
    assert [(s["first"], s["last"] + 1) for s in got.sessions] == list(vector.sessions)
    assert got.suspect == vector.suspect
    assert _gaps(got.events) == list(vector.gaps)
    assert vector.error in got.problem
    assert (got.error == END) == (not vector.error), got.problem
    true, rebuilt = naive_books(vector), rebuild(got.events)
    for instrument in {*true, *got.books, *rebuilt} - got.suspect:
        nothing: tuple[Levels, Levels] = ([], [])
        book = got.books.get(instrument, nothing)
        assert book == true.get(instrument, nothing), (
            f"book {instrument} is neither right nor flagged"
        )
        assert book == rebuilt.get(instrument, nothing), (
            f"records of {instrument} tell another book"
        )


def _gaps(events: Events) -> list[tuple[int, int]]:
    rows = events[events["kind"] == lib.EVENT_GAP]
    return list(zip(rows["sequence"].tolist(), rows["order_id"].tolist(), strict=True))


def _sides(books: NaiveBooks, instruments: set[int]) -> Sides:
    sides = {i: (books.levels(i, BID), books.levels(i, ASK)) for i in instruments}
    return {i: book for i, book in sides.items() if any(book)}


def rebuild(events: Events) -> Sides:
    """Books from the records alone, as a consumer of the ring would make them."""
    books, used = NaiveBooks(), set()
    quotes: dict[int, tuple[int, int, int, int]] = {}
    by_order = False
    for row in events.tolist():
        event = dict(zip(events.dtype.names, row, strict=True))
        kind, instrument = event["kind"], event["instrument_id"]
        used.add(instrument)
        price, order_id, size, side = (event[n] for n in ("price", "order_id", "size", "side"))
        by_order |= kind in (lib.EVENT_ADD, lib.EVENT_LEVEL)
        match kind:
            case lib.EVENT_SESSION:
                books, quotes = NaiveBooks(), {}
            case lib.EVENT_CLEAR:
                books.clear(instrument)
            case lib.EVENT_ADD:
                books.add(instrument, side, order_id, price, size)
            case lib.EVENT_CANCEL | lib.EVENT_EXECUTE:
                books.reduce(order_id, size)
            case lib.EVENT_DELETE:
                books.delete(order_id)
            case lib.EVENT_LEVEL:
                books.level(instrument, side, price, size)
            case lib.EVENT_QUOTE:
                quotes[instrument] = tuple(event[n] for n in ("bid", "bid_size", "ask", "ask_size"))
    return _sides(books, used) if by_order else _of_quotes(quotes)


def _of_quotes(quotes: dict[int, tuple[int, int, int, int]]) -> Sides:
    return {
        i: ([(bid, bid_size, 0)] * bool(bid_size), [(ask, ask_size, 0)] * bool(ask_size))
        for i, (bid, bid_size, ask, ask_size) in quotes.items()
    }


def naive_books(vector: Vector) -> Sides:
    """What the venue said, applied without a doubt."""
    return _itch(vector.truth) if vector.protocol == "itch50" else _iex(vector.truth)


SIDES = {b"B": BID, b"S": ASK, b"8": BID, b"5": ASK}


def _itch(messages: tuple[bytes, ...]) -> Sides:
    books, used = NaiveBooks(), set()
    for message in messages:
        kind, locate = unpack_from(">cH", message)
        used.add(locate)
        order_id = unpack_from(">Q", message.ljust(19, b"\0"), 11)[0]
        match kind:
            case b"A" | b"F":
                side, size, price = unpack_from(">cI8xI", message, 19)
                books.add(locate, SIDES.get(side, 0), order_id, price * 100_000, size)
            case b"E" | b"C" | b"X":
                books.reduce(order_id, unpack_from(">I", message, 19)[0])
            case b"D":
                books.delete(order_id)
            case b"U":
                new, size, price = unpack_from(">QII", message, 19)
                books.replace(order_id, new, price * 100_000, size)
    return _sides(books, used)


def _iex(messages: tuple[bytes, ...]) -> Sides:
    books, number = NaiveBooks(), defaultdict[bytes, int](lambda: len(number) + 1)
    for message in messages:
        kind, symbol = unpack_from("<c9x8s", message)
        instrument = number[symbol]
        if kind in b"85":
            size, price = unpack_from("<Iq", message, 18)
            books.level(instrument, SIDES[kind], price * 100_000, size)
        elif kind == b"Q":
            bid_size, bid, ask, ask_size = unpack_from("<IqqI", message, 18)
            books.clear(instrument)
            for side, price, size in (BID, bid, bid_size), (ASK, ask, ask_size):
                books.level(instrument, side, price * 100_000, size)
    return _sides(books, set(number.values()))
