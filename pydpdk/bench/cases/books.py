"""From messages to records: decoder, books, the whole path, and the memory they take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pydpdk.bench import peers
from pydpdk.bench.data import LINES, Array, Market, delivered, pointer
from pydpdk.bench.loops import ffi, lib
from pydpdk.bench.measure import Case, Series, timed
from pydpdk.core.books import Books
from pydpdk.core.event import EVENT
from pydpdk.core.layout import dtype
from pydpdk.core.ring import Ring
from pydpdk.engine.feed import Endpoint
from pydpdk.errors import check

RING_SLOTS = 1 << 16
TRADES = 1 << 17  # messages of the decoder's case
LINES_PER_CHANGE = 6  # map, order, two of the book, level, neighbour in the queue
CHASE_STEPS = 1 << 18
PEER_MESSAGES = 20_000


@contextmanager
def decode(market: Market) -> Iterator[Case]:
    """Trades into events in a ring: the decoder without books."""
    rows = market.messages[np.resize(np.flatnonzero(market.letters == ord("P")), TRADES)]
    messages = pointer("struct message[]", rows)
    out = np.zeros(RING_SLOTS, EVENT)
    events = pointer("struct event[]", out)
    protocol = lib.protocol_find(b"itch50")
    with ExitStack() as stack:
        books = stack.enter_context(Books.create(64, 64))
        ring = stack.enter_context(Ring(RING_SLOTS))
        counters = ffi.new("struct counters *")
        decoder = ffi.new(
            "struct decoder *",
            {"out": {"ring": ring.pointer, "counters": counters}, "books": books.pointer},
        )
        check(protocol.open(decoder), "decoder")
        stack.callback(protocol.close, decoder)

        def ours() -> int:
            protocol.decode(decoder, messages, len(rows))
            return len(rows)

        def floor() -> int:
            lib.bench_overlay(messages, len(rows), events, RING_SLOTS - 1)
            return len(rows)

        series = [
            Series("overlay and store", "floor", lambda: timed(floor)),
            Series("pydpdk", "ours", lambda: timed(ours), "overlay and store"),
            *_peers(peers.decoders(_stream(market, rows[:PEER_MESSAGES])), "pydpdk"),
        ]
        yield Case("decode", "message", series, {"messages": len(rows), "type": "P"})


@contextmanager
def book(market: Market) -> Iterator[Case]:
    """Order messages into full books of a whole market, from memory, without events."""
    rows, opening = market.messages, market.opening
    before, trading = rows[:opening], rows[opening:]
    with ExitStack() as stack:
        books = stack.enter_context(
            Books.create(market.feed(()).orders_max, market.feed(()).levels_max)
        )
        memory = Lines(market.size.live_orders * 48)

        def apply(part: Array, queue: int) -> int:
            if lib.bench_books(books.pointer, pointer("struct message[]", part), len(part), queue):
                raise RuntimeError("the books refused a message of the generated session")
            return len(part)

        def ours(queue: int) -> float:
            lib.books_clear(books.pointer)
            apply(before, 0)
            return timed(lambda: apply(trading, queue))

        series = [
            Series("lines, one after another", "floor", lambda: LINES_PER_CHANGE * memory.chase()),
            Series("lines, overlapped", "floor", lambda: LINES_PER_CHANGE * memory.gather()),
            Series("pydpdk", "ours", lambda: ours(0), "lines, one after another"),
            Series("and queue position of adds", "ours", lambda: ours(1), "pydpdk"),
        ]
        case = Case("book", "message", series, {"messages": len(trading)})
        yield case
        case.facts |= {"live_orders": books.orders, "lines_per_message": LINES_PER_CHANGE}


class Lines:
    """Cache lines as many as the orders and their map, linked at random into one ring."""

    def __init__(self, size: int) -> None:
        self.count = max(size // 64, 64)
        order = np.random.default_rng(1).permutation(self.count).astype(np.uint32)
        lines = np.zeros((self.count, 8), np.uint64)
        lines[order, 0] = np.roll(order, -1)
        self.order = np.resize(order, CHASE_STEPS)
        self.lines = lines
        self._at = ffi.from_buffer("uint64_t[]", lines)
        self._order = ffi.from_buffer("uint32_t[]", self.order)

    def chase(self) -> float:
        """ns a line when each names the next."""

        def work() -> int:
            lib.bench_chase(self._at, CHASE_STEPS)
            return CHASE_STEPS

        return timed(work)

    def gather(self) -> float:
        """ns a line when the processor may ask for many at once."""

        def work() -> int:
            lib.bench_gather(self._at, self._order, CHASE_STEPS)
            return CHASE_STEPS

        return timed(work)


@contextmanager
def path(market: Market) -> Iterator[Case]:
    """A capture to records in a ring, full books, one core; trading only, books already full."""
    facts: dict[str, Any] = {}

    def ours(file: Path, lines: tuple[Endpoint, ...], **options: Any) -> float:
        with market.engine(file, lines, **options) as engine:
            feed = engine.feeds[0]
            while delivered(feed) < market.opening and engine.step() >= 0:
                pass
            before = delivered(feed)

            def trade() -> int:
                while engine.step() >= 0:
                    pass
                return delivered(feed) - before

            figure = timed(trade)
            facts.update(
                messages=delivered(feed) - before,
                records=engine.counters()["events_written"],
                live_orders=feed.books.orders,
            )
        return figure

    both, alone = market.both, market.alone
    series = [
        Series("lines A and B", "ours", lambda: ours(both, LINES)),
        Series("without checksums", "ours", lambda: ours(both, LINES, checksum="ignore"),
               "lines A and B"),
        Series("without comparing copies", "ours", lambda: ours(both, LINES, compare=False),
               "lines A and B"),
        Series("without ring", "ours", lambda: ours(both, LINES, ring=False), "lines A and B"),
        Series("line A alone", "ours", lambda: ours(alone, LINES[:1]), "lines A and B"),
        *_peers(peers.bookkeepers(_stream(market, market.messages), len(market.messages)),
                "lines A and B"),
        *_peers(peers.decoders(_stream(market, market.messages[market.opening :][:PEER_MESSAGES])),
                "lines A and B"),
    ]  # fmt: skip
    case = Case("path", "message", series, facts)
    yield case
    figures = case.series[0].rounds
    if figures:
        facts["messages_per_second"] = round(1e9 / sorted(figures)[len(figures) // 2])


@contextmanager
def memory(market: Market) -> Iterator[Case]:
    """What books of this size reserve, and what a live order takes of it."""
    feed = market.feed(LINES)
    with market.engine(market.alone, LINES[:1], ring=False) as engine:
        while engine.step() >= 0:
            pass
        books = engine.feeds[0].books
        fixed = lib.BOOK_INSTRUMENTS_MAX * dtype("book").itemsize
        level = dtype("level").itemsize + dtype("level")["price"].itemsize  # its price twice
        levels = int(lib.books_levels_room(books.pointer)) * level
        per_order = (books.memory - fixed - levels) / feed.orders_max
        facts = {
            "reserved_bytes": books.memory,
            "orders_max": feed.orders_max,
            "levels_max": feed.levels_max,
            "live_orders": books.orders,
        }
    series = [
        Series("order and its place in the map", "ours", lambda: per_order),
        Series("order alone", "floor", lambda: float(dtype("order").itemsize)),
    ]
    series[0].against = "order alone"
    yield Case("memory", "live order", series, facts, unit="bytes")


def _stream(market: Market, rows: Array) -> bytes:
    """Messages, each behind its length in 2 bytes."""
    base, tapped = market.taps[0].ctypes.data, market.taps[0].tobytes()
    parts: list[bytes] = []
    for at, length in zip(rows["data"].tolist(), rows["len"].tolist(), strict=True):
        parts += length.to_bytes(2, "big"), tapped[at - base : at - base + length]
    return b"".join(parts)


def _peers(works: dict[str, Callable[[], int]], against: str) -> list[Series]:
    return [
        Series(name, "peer", lambda work=work: timed(work), against)  # type: ignore[misc]
        for name, work in works.items()
    ]
