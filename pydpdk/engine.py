"""The engine: sources in, records out, one C loop; Python makes it and asks it questions."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import numpy as np

from pydpdk import counters
from pydpdk._core import ffi, lib
from pydpdk.book import Books
from pydpdk.errors import UsageError, check
from pydpdk.feed import Endpoint, Feed
from pydpdk.ring import Ring
from pydpdk.source import Source

CHECKSUMS = {
    "ignore": lib.CHECKSUM_IGNORE,
    "auto": lib.CHECKSUM_AUTO,
    "verify": lib.CHECKSUM_VERIFY,
}
END = -errno.ENODATA
AGAIN = -errno.EAGAIN
STAGES = ("receive", "arbitrate", "decode")


class FeedView:
    """One running feed: its books, accounts and counters."""

    def __init__(self, feed: Any, index: int, spec: Feed) -> None:
        self.pointer = feed
        self.index = index
        self.spec = spec
        self.books = Books(lib.feed_books(feed))
        self.base = index << 16  # of its instrument ids

    def symbols(self) -> dict[int, str]:
        """Symbols by ``instrument_id``, of the instruments that this session named."""
        symbols = self.books.instruments["symbol"]
        return {
            self.base + i: symbols[i].decode("latin-1").rstrip()
            for i in np.flatnonzero(symbols != b"").tolist()
        }

    def counters(self) -> dict[str, int]:
        """Every counter of the registry, as this feed moved it."""
        lib.feed_sync(self.pointer)
        return counters.read(lib.feed_counters(self.pointer))

    def messages(self) -> dict[str, int]:
        """Decoded messages by the venue's type letter."""
        by_type = ffi.unpack(lib.feed_decoder(self.pointer).by_type, 256)
        return {chr(i): n for i, n in enumerate(by_type) if n}

    def lines(self) -> list[dict[str, Any]]:
        """Statistics of line A, then B."""
        lines = lib.feed_lines(self.pointer)
        names = ("packets", "messages", "wins", "losses", "healed", "leads", "lead_ns_max", "stale")
        return [
            {
                "line": str(endpoint),
                **{name: getattr(lines[i], name) for name in names},
                "lead_ns_mean": lines[i].lead_ns_sum // max(lines[i].leads, 1),
            }
            for i, endpoint in enumerate(self.spec.lines)
        ]

    def sessions(self) -> Iterator[dict[str, Any]]:
        """The account of each session, oldest first (the last 64), the running one last.

        ``first..last`` were expected = ``delivered`` + ``lost``; ``received`` over all lines =
        delivered + duplicate + late + cut + untrusted.
        """
        for i in range(lib.feed_sessions(self.pointer)):
            ledger = lib.feed_ledger(self.pointer, i)
            if ledger != ffi.NULL:
                yield _account(ledger, self.spec.protocol)

    @property
    def gaps_pointer(self) -> Any:
        """``const uint32_t *`` on the gap count, for risk."""
        return ffi.addressof(lib.feed_decoder(self.pointer), "gaps")

    def is_suspect(self, instrument: int) -> bool:
        """Whether the book of that number (within this feed) may be wrong."""
        book = self.books.instruments[instrument]
        return bool(book["epoch"] != self.gaps or book["state"] & lib.BOOK_BROKEN)

    @property
    def gaps(self) -> int:
        """Gap count of this session: books whose epoch is older are suspect."""
        return int(lib.feed_decoder(self.pointer).gaps)

    @property
    def suspect(self) -> bool:
        """Whether a gap of this session was given up, or its begin was missed."""
        return self.gaps > 0


def _account(ledger: Any, protocol: str) -> dict[str, Any]:
    raw = bytes(ffi.buffer(ledger.session, lib.SESSION_ID))
    text = raw.rstrip(b" \0").decode("latin-1") if protocol == "itch50" else raw[:8].hex()
    recovered = (
        "received",
        "delivered",
        "duplicate",
        "late",
        "cut",
        "untrusted",
        "lost",
        "mismatched",
    )
    return {
        "session": text,
        "first": ledger.first,
        "last": ledger.next - 1,
        **{name: getattr(ledger, name) for name in recovered},
        "gaps": ledger.gaps_detected,
        "recovered": ledger.gaps_healed,
        "declared": ledger.gaps_declared,
        "ended": bool(ledger.ended),
        "ts_first": ledger.ts_first,
        "ts_last": ledger.ts_last,
        "books": {
            "instruments": ledger.instruments,
            "orders": ledger.orders,
            "levels": ledger.levels,
            "hash": f"{ledger.books_hash:016x}",
        },
    }


class Engine:
    """Sources and feeds joined by one C loop that writes ``ring``.

    ``batch_us``: a step ends where the record clock enters another interval of that length
    (0: never) or after ``packets_max`` packets: a function of the input alone, so the same
    input gives the same batches at any ``burst``. ``lockstep``: a step waits for room in the
    ring instead of losing records. ``until_ns``: packets stamped later end the
    run. The engine closes the sources it was given.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        feeds: Sequence[Feed],
        *,
        checksum: str = "auto",
        burst: int = 64,
        batch_us: int = 100,
        packets_max: int = 4096,
        lockstep: bool = True,
        ring_name: str | None = None,
        ring: bool = True,
        until_ns: int = 2**64 - 1,
    ) -> None:
        if not 1 <= burst <= lib.BURST_MAX:
            raise UsageError(f"burst {burst}: must be 1..{lib.BURST_MAX}")
        if checksum not in CHECKSUMS:
            raise UsageError(f"checksum policy {checksum!r}: one of {', '.join(CHECKSUMS)}")
        if batch_us < 0 or packets_max < 1:
            raise UsageError("batch_us must be >= 0 and packets_max >= 1")
        _check_feeds(feeds)
        if len(sources) > lib.SOURCES_MAX:
            raise UsageError(f"{len(sources)} sources: at most {lib.SOURCES_MAX}")
        self._stack = ExitStack()
        self.sources = [self._stack.enter_context(source) for source in sources]
        reserve = (
            lib.EVENTS_PER_STEP
            + lib.EVENTS_PER_PACKET
            + sum(lib.EVENTS_PER_MESSAGE * feed.window for feed in feeds)
        )
        slots = 1 << (2 * reserve - 1).bit_length()
        self.ring: Ring | None = None
        if ring:
            self.ring = self._stack.enter_context(Ring(slots, ring_name, clock=self._clock()))
        config = ffi.new(
            "struct engine_config *",
            {
                "checksum_policy": CHECKSUMS[checksum],
                "burst": burst,
                "batch_ns": batch_us * 1000,
                "packets_max": packets_max,
                "lockstep": int(lockstep),
                "until_ns": until_ns,
            },
        )
        out = ffi.new("struct engine **")
        pointer = self.ring.pointer if self.ring else ffi.NULL
        check(lib.engine_create(config, pointer, out), "engine")
        self.pointer = out[0]
        self._stack.callback(lib.engine_destroy, self.pointer)
        for source in self.sources:
            check(lib.engine_add_source(self.pointer, source.pointer), f"source {source.spec}")
        self.feeds = [self._add_feed(feed) for feed in feeds]

    def _clock(self) -> str:
        return "capture"

    def _add_feed(self, feed: Feed) -> FeedView:
        out = ffi.new("struct feed **")
        index = check(lib.engine_add_feed(self.pointer, feed.config(), out), f"feed {feed}")
        return FeedView(out[0], index, feed)

    def step(self) -> int:
        """One batch: > 0 packets handled, 0 nothing came, AGAIN no room, END all is over.

        Raises CoreError when a source broke; everything whole before the break was handled.
        """
        return int(lib.engine_step(self.pointer))

    def run(self) -> int:
        """Steps until stop() or the end. Runs in C with the GIL released."""
        return int(lib.engine_run(self.pointer))

    def stop(self) -> None:
        """Makes run() return after its current batch; safe from any thread or signal handler.

        The next step() ends the run: what is open is declared, and every account closes.
        """
        lib.engine_stop(self.pointer)

    @property
    def now(self) -> int:
        """Record clock: ``ts_recv`` of the newest packet, ns since the Unix epoch."""
        return int(lib.engine_now(self.pointer))

    def counters(self) -> dict[str, int]:
        """Every counter of the registry, engine and feeds added up."""
        total = counters.read(lib.engine_counters(self.pointer))
        for feed in self.feeds:
            for name, value in feed.counters().items():
                total[name] += value
        return total

    def times(self) -> dict[str, Any]:
        """The ``struct hist *`` of each C stage: ns per packet, per message for decode."""
        times = lib.engine_times(self.pointer)
        return {name: ffi.addressof(times, name) for name in STAGES}

    def source_error(self, index: int) -> int:
        """0 while source ``index`` runs, END when it ended clean, else what broke it."""
        return int(lib.engine_source_error(self.pointer, index))

    def instruments(self) -> dict[int, str]:
        """Symbols by ``instrument_id``, of every feed."""
        names: dict[int, str] = {}
        for feed in self.feeds:
            names.update(feed.symbols())
        return names

    def close(self) -> None:
        """Frees the engine, its ring and its sources. Views into books and ring die with it."""
        self._stack.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _check_feeds(feeds: Sequence[Feed]) -> None:
    """Every feed has lines, and every line belongs to one feed."""
    if len(feeds) > lib.FEEDS_MAX:
        raise UsageError(f"{len(feeds)} feeds: at most {lib.FEEDS_MAX}")
    taken: set[Endpoint] = set()
    for feed in feeds:
        if not feed.lines:
            raise UsageError(f"feed {feed.protocol}: no lines; give {feed.protocol}@ADDRESS:PORT")
        for line in feed.lines:
            if line in taken:
                raise UsageError(f"feed {feed}: {line} is a line already; each is named once")
            taken.add(line)


def percentiles(hist: Any) -> dict[str, int]:
    """Count and percentiles (ns) of a ``struct hist *``."""
    wanted = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9}
    return {
        "count": hist.count,
        **{name: int(lib.hist_percentile(hist, p)) for name, p in wanted.items()},
        "max": hist.max,
    }


def new_hist() -> Any:
    """An empty ``struct hist``."""
    return ffi.new("struct hist *")
