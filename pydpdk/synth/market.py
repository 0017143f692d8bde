"""A synthetic Nasdaq ITCH 5.0 session: seeded, valid message by message, and fast to make.

The day is compressed: system events O, S, Q, M, E, C in their order with seconds between them,
the directory before S, a pre-open that fills the books, crosses at open and close, and in
between a stream with the message mix of a real day. Instruments are active by Zipf's law, gaps
between messages are hyperexponential (bursts), and a burst tends to stay with one instrument.

All randomness is the raw stream of PCG64, which numpy guarantees, taken through integer tables:
the same arguments give the same bytes on every run and host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from random import Random
from typing import Any, cast
from zoneinfo import ZoneInfo

import numpy as np

from pydpdk.errors import UsageError
from pydpdk.synth.adminflow import AdminFlow
from pydpdk.synth.orderflow import TICK, Book, OrderFlow, exponential

Chunk = tuple[list[int], list[bytes]]
Handler = Callable[[Book, int, int], bytes]
Raw = np.ndarray[Any, np.dtype[np.uint64]]
Index = np.ndarray[Any, np.dtype[np.int64]]
Weights = np.ndarray[Any, np.dtype[np.float64]]

CHUNK = 8192  # messages made at a time
PAUSE_NS = 1_500_000_000  # around a system event: the line is idle
NEW_YORK = ZoneInfo("America/New_York")

# Of 10,000 messages in continuous trading; the types missing here are sent once a day.
MIX = {
    "A": 4200, "D": 3800, "U": 800, "E": 500, "X": 200, "P": 150, "F": 100, "I": 170, "C": 30,
    "N": 20, "L": 10, "Q": 6, "Y": 5, "H": 4, "B": 3, "h": 1, "J": 1,
}  # fmt: skip
ONCE = "VWKOIQBLYhJNHHFCXP"  # at the start of continuous trading, so every session has each type

# Of 100 gaps 62 follow at once, 30 come after a pause, 8 after a long one.
BURST = ((62, 0.02), (30, 0.6), (8, 10.0))


def midnight_ns(ts_ns: int) -> int:
    """The epoch time of the New York midnight before ``ts_ns``, where ITCH time starts."""
    day = datetime.fromtimestamp(ts_ns // 10**9, NEW_YORK).replace(hour=0, minute=0, second=0)
    return int(day.timestamp()) * 10**9


def epoch_ns(start: str) -> int:
    """Nanoseconds since the epoch of ``2026-01-05T09:30:00 America/New_York`` or an ISO time.

    Raises UsageError for another form; a time without a zone is New York's.
    """
    stamp, _, zone = start.partition(" ")
    try:
        when = datetime.fromisoformat(stamp)
        if zone or when.tzinfo is None:
            when = when.replace(tzinfo=ZoneInfo(zone or "America/New_York"))
    except (ValueError, KeyError) as error:
        raise UsageError(f"start {start!r} is not like 2026-01-05T09:30:00: {error}") from error
    return int(when.timestamp()) * 10**9 + when.microsecond * 1000


class Market:
    """An ITCH 5.0 session as ``(ts_ns, message)`` pairs, ``messages`` of them in all.

    ``ts_ns`` is nanoseconds since the Unix epoch and never falls; the message carries the same
    instant since New York midnight. Iterating again gives the same session from its start.

    ``live_orders`` is the number of orders resting in all books once they are filled, shared by
    the square root of activity; the pre-open takes nearly as many of the messages.
    ``rate`` is the mean of messages per second within a phase. Raises UsageError when
    ``messages`` cannot hold the directory and the pre-open.
    """

    def __init__(
        self,
        seed: int = 1,
        instruments: int = 100,
        messages: int = 100_000,
        start_ns: int | None = None,
        *,
        live_orders: int | None = None,
        rate: float = 50_000.0,
    ) -> None:
        self.seed = seed
        self.instruments = instruments
        self.messages = messages
        self.rate = rate
        self.start_ns = epoch_ns("2026-01-05T09:30:00") if start_ns is None else start_ns
        if not 0 < instruments < 1 << 16 or rate <= 0:
            raise UsageError(f"instruments {instruments} (1 to 65535) or rate {rate} (above 0)")
        self.live_orders = live_orders or min(20 * instruments, messages // 10)
        self.featured = max(1, min(instruments, messages // 200))  # instruments with crosses
        around = 2 * instruments + 6 * self.featured + 6  # what run() sends beside its two flows
        self.trading = messages - around - self.live_orders
        if self.trading < len(ONCE):
            raise UsageError(
                f"{messages} messages cannot hold {around} around the day of {instruments} "
                f"instruments, {self.live_orders} live orders and trading: ask for more messages"
            )

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        for times, messages in self.chunks():
            yield from zip(times, messages, strict=True)

    def chunks(self) -> Iterator[Chunk]:
        """The session as pairs of equally long lists, times and messages."""
        return _Session(self).run()


class _Session:
    """The state of one pass over a Market: random stream, clock, books, handlers."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.stream = np.random.PCG64(market.seed)
        self.midnight = midnight_ns(market.start_ns)
        self.now = market.start_ns - self.midnight - PAUSE_NS  # ns since midnight
        self.gaps = _gap_table(1e9 / market.rate)
        self.activity = 1.0 / np.arange(1, market.instruments + 1)
        choose = Random(market.seed)
        self.flow = OrderFlow([_letters(choose, 4) for _ in range(24)])
        self.admin = AdminFlow(self.flow)
        self.books = self._books(choose)
        self.handlers = _handlers(self.flow, self.admin)

    def _books(self, choose: Random) -> list[Book]:
        """Make the books, most active first; locate codes follow the symbols, as in a directory."""
        share = np.sqrt(self.activity) / np.sqrt(self.activity).sum() * self.market.live_orders
        symbols = _symbols(len(share), choose)
        locates = sorted(range(1, len(share) + 1), key=lambda _: choose.random())
        books = []
        for locate, live in zip(locates, share.tolist(), strict=True):
            mid = int(500 * 100 ** choose.random()) * TICK
            wide = (1 + int(mid / TICK * choose.random() ** 3 / 1000)) * TICK
            books.append(Book(locate, symbols[locate - 1], mid, wide, max(int(live), 4)))
        return books

    def run(self) -> Iterator[Chunk]:
        market, admin = self.market, self.admin
        featured = self.books[: market.featured]
        yield self._system(b"O")
        yield self._each(
            sorted(self.books, key=lambda b: b.locate), admin.directory, admin.tradable
        )
        yield self._each(featured, admin.short_sale, admin.participant)
        yield self._system(b"S")
        yield from self._flow("A", [1], np.sqrt(self.activity), market.live_orders)
        yield self._each(featured, partial(admin.imbalance, kind=b"O"))
        yield self._system(b"Q")
        yield self._each(featured, partial(admin.cross, kind=b"O"))
        yield from self._flow("".join(MIX), [*MIX.values()], self.activity, market.trading, ONCE)
        yield self._each(featured, partial(admin.imbalance, kind=b"C"))
        yield self._system(b"M")
        yield self._each(featured, partial(admin.cross, kind=b"C"))
        yield self._system(b"E")
        yield self._system(b"C")

    def _system(self, code: bytes) -> Chunk:
        self.now += PAUSE_NS
        return [self.midnight + self.now], [self.admin.event(code, self.now)]

    def _each(self, books: list[Book], *handlers: Handler) -> Chunk:
        """Each book's messages one after the other, in a burst."""
        work = [(handler, book) for book in books for handler in handlers]
        raw = self.stream.random_raw(len(work))
        times = self._times(raw)
        bits = (raw >> 34).tolist()
        made = [do(book, ts, r) for (do, book), ts, r in zip(work, times, bits, strict=True)]
        return [self.midnight + ts for ts in times], made

    def _times(self, raw: Raw) -> list[int]:
        """Times after the last message: a gap for each random number, by its low 12 bits."""
        times = np.cumsum(self.gaps[raw & 4095]) + self.now
        self.now = int(times[-1])
        return cast("list[int]", times.tolist())

    def _flow(
        self, kinds: str, mix: list[int], activity: Weights, count: int, first: str = ""
    ) -> Iterator[Chunk]:
        """``count`` messages of the kinds in their mix; the first ones of given kinds."""
        do = np.array([self.handlers[kind] for kind in kinds])
        kind_steps, book_steps = _steps(np.array(mix, float)), _steps(activity)
        forced = [self.handlers[kind] for kind in first]
        while count:
            size = min(CHUNK, count)
            count -= size
            raw, more = self.stream.random_raw(2 * size).reshape(2, size)
            handlers = do[np.searchsorted(kind_steps, more >> 32, "right")].tolist()
            ranks = _clustered(np.searchsorted(book_steps, more & 0xFFFFFFFF, "right"), raw)
            handlers[: len(forced)] = forced
            ranks[: len(forced)] = 0
            forced = []
            yield self._make(handlers, ranks.tolist(), raw)

    def _make(self, handlers: list[Handler], ranks: list[int], raw: Raw) -> Chunk:
        """The loop that all the tables above are for."""
        books, times = self.books, self._times(raw)
        bits = (raw >> 34).tolist()
        made = [
            do(books[rank], ts, r)
            for do, rank, ts, r in zip(handlers, ranks, times, bits, strict=True)
        ]
        midnight = self.midnight
        return [midnight + ts for ts in times], made


def _handlers(flow: OrderFlow, admin: AdminFlow) -> dict[str, Handler]:
    return {
        "A": flow.add, "F": flow.add_mpid, "D": flow.delete, "U": flow.replace,
        "E": flow.execute, "C": flow.execute_price, "X": flow.cancel, "P": flow.trade,
        "H": admin.action, "Y": admin.short_sale, "L": admin.participant, "V": admin.decline,
        "W": admin.breach, "K": admin.ipo, "J": admin.collar, "h": admin.halt, "Q": admin.cross,
        "B": admin.broken, "I": admin.imbalance, "N": admin.interest, "O": admin.listing,
    }  # fmt: skip


def _steps(weights: Weights) -> Raw:
    """Upper bounds of the shares in 32 random bits: searchsorted draws by weight."""
    bounds = np.cumsum(weights) / weights.sum() * 2**32
    bounds[-1] = 2**32
    return cast("Raw", np.rint(bounds).astype(np.uint64))


def _clustered(ranks: Index, raw: Raw) -> Index:
    """Three of eight messages stay with the instrument of the one before."""
    own = np.where(raw >> 12 & 7 < 3, 0, np.arange(len(ranks)))
    return ranks[np.maximum.accumulate(own)]


def _gap_table(mean_ns: float) -> Index:
    """4,096 gaps between messages in ns, mean ``mean_ns``, in the proportions of BURST."""
    gaps: list[float] = []
    for percent, scale in BURST:
        gaps += [scale * x for x in exponential(round(4096 * percent / 100))]
    gaps += gaps[: 4096 - len(gaps)]
    factor = mean_ns * len(gaps) / sum(gaps)
    return np.array([1 + round(gap * factor) for gap in gaps], np.int64)


def _letters(choose: Random, length: int) -> bytes:
    return bytes(65 + int(26 * choose.random()) for _ in range(length))


def _symbols(count: int, choose: Random) -> list[bytes]:
    """Different symbols of 2 to 5 letters, padded with spaces to 8 bytes, sorted."""
    symbols: set[bytes] = set()
    while len(symbols) < count:
        symbols.add(_letters(choose, (2, 3, 3, 3, 4, 4, 4, 4, 4, 5)[int(10 * choose.random())]))
    return [symbol.ljust(8) for symbol in sorted(symbols)]
