"""The engine: sources in, records out, one C loop; Python makes it and asks it questions."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Thread
from typing import Any

from pydpdk._core import ffi, lib
from pydpdk.core import counters
from pydpdk.core.closes import Closes
from pydpdk.core.hist import Hist
from pydpdk.core.instruments import Instruments
from pydpdk.core.ring import Ring
from pydpdk.core.utc import Utc
from pydpdk.engine.feed import Endpoint, Feed
from pydpdk.engine.feedview import RUNS, FeedView
from pydpdk.engine.flight import Flight
from pydpdk.errors import CoreError, HostError, PydpdkError, UsageError, check
from pydpdk.source import eal
from pydpdk.source.source import Source

CHECKSUMS = {
    "ignore": lib.CHECKSUM_IGNORE,
    "auto": lib.CHECKSUM_AUTO,
    "verify": lib.CHECKSUM_VERIFY,
}
END = -errno.ENODATA
AGAIN = -errno.EAGAIN
TIMES = tuple(name for name, _ in ffi.typeof("struct engine_times").fields)
SAMPLE_EVERY = 64


@dataclass(frozen=True)
class Live:
    """What makes an engine a live one, or a replay that decides as a live one did.

    ``clock`` is what the sources stamp with; None: a replay. ``by_stamp``: a batch is the frames
    of one stamp, as one burst has it. ``marks``: an EVENT_MARK ends each batch.
    ``idle_us``: how long after its time a time-out waits for a packet. ``ring_fd``: write the
    ring of that descriptor. ``incarnation``: told first, in an EVENT_ENGINE; 0: not told.
    """

    clock: Utc | None = None
    by_stamp: bool = False
    marks: bool = False
    idle_us: int = 0
    ring_fd: int = -1
    incarnation: int = 0


def ring_slots(feeds: Sequence[Feed]) -> int:
    """Slots that a lockstep ring needs: twice what one step may write (see engine_reserve)."""
    reserve = lib.engine_reserve(sum(feed.window for feed in feeds))
    return 1 << int(2 * reserve - 1).bit_length()


class Engine(Closes):
    """Sources and feeds joined by one C loop that writes ``ring``.

    ``batch_us``: a step ends where the record clock enters another interval of that length
    (0: never) or after ``packets_max`` packets: a function of the input alone, so the same
    input gives the same batches at any ``burst``. ``lockstep``: a step waits for room in the
    ring instead of losing records. ``until_ns``: packets stamped later end the
    run. ``live``: what makes it a live one. ``times``: a ``struct engine_times *`` to count in,
    which outlives it; ``sample_every``: one step in so many is timed closely, 0: none.
    ``instruments``: the table to name instruments in, which outlives it; None: one of its own;
    ``table`` is that one. The engine closes the sources it was given.
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
        live: Live | None = None,
        times: Any = None,
        sample_every: int = SAMPLE_EVERY,
        instruments: Instruments | None = None,
    ) -> None:
        self._stack = ExitStack()
        self._pointer: Any = None
        self._running: Running | None = None
        self.ring: Ring | None = None
        self.feeds: list[FeedView] = []
        self._answers: list[Any] = []
        self.sources = list(sources)
        for source in self.sources:
            self._stack.callback(source.close)
        try:
            _check_options(feeds, sources, burst, checksum, batch_us, packets_max)
            self._live = live or Live()
            self.ring = self._make_ring(feeds, ring_name) if ring else None
            self.table = instruments or self._stack.enter_context(
                Instruments.create(max(len(feeds), 1))
            )
            config = ffi.new(
                "struct engine_config *",
                {
                    "checksum_policy": CHECKSUMS[checksum],
                    "burst": burst,
                    "batch_ns": batch_us * 1000 if not self._live.by_stamp else 1,
                    "packets_max": packets_max,
                    "lockstep": int(lockstep),
                    "until_ns": until_ns,
                    "clock": self._live.clock.pointer if self._live.clock else ffi.NULL,
                    "idle_ns": self._live.idle_us * 1000,
                    "trust": int(self._live.by_stamp),
                    "marks": int(self._live.marks),
                    "incarnation": self._live.incarnation,
                    "instruments": self.table.pointer,
                    "times": times or ffi.NULL,
                    "sample_every": sample_every,
                },
            )
            self._create(config)
            self.feeds = [self._add_feed(feed) for feed in feeds]
        except BaseException:
            self.close()
            raise

    def _make_ring(self, feeds: Sequence[Feed], name: str | None) -> Ring:
        if self._live.ring_fd >= 0:
            return self._stack.enter_context(Ring.adopt(fd=self._live.ring_fd))
        return self._stack.enter_context(Ring(ring_slots(feeds), name, clock=self._clock()))

    def _create(self, config: Any) -> None:
        out = ffi.new("struct engine **")
        ring = self.ring.pointer if self.ring else ffi.NULL
        check(lib.engine_create(config, ring, out), "engine")
        self._pointer = out[0]
        self._stack.callback(lib.engine_destroy, self._pointer)
        for source in self.sources:
            check(lib.engine_add_source(self._pointer, source.pointer), f"source {source.spec}")

    def _open(self) -> Any:
        if self._pointer is None:
            raise PydpdkError("this Engine is closed: make another one")
        return self._pointer

    @property
    def pointer(self) -> Any:
        """The ``struct engine *``. PydpdkError once it is closed."""
        return self._open()

    @property
    def running(self) -> bool:
        """Whether the thread of start() runs."""
        return self._running is not None and self._running.alive

    def _still(self) -> Any:
        """The pointer, for what only the engine's own thread may do."""
        if self.running:
            raise UsageError(RUNS)
        return self._open()

    def _clock(self) -> str:
        return "tsc" if self._live.clock else "capture"

    def _add_feed(self, feed: Feed) -> FeedView:
        out = ffi.new("struct feed **")
        index = check(lib.engine_add_feed(self.pointer, feed.config(), out), f"feed {feed}")
        self.table.name_feed(index, feed.name, populate=self._live.clock is not None)
        return FeedView(out[0], index, feed, lambda: self.running, self.table)

    def step(self) -> int:
        """One batch: > 0 packets handled, 0 nothing came, AGAIN no room in the ring (lockstep).

        END: all is over, and what was open is declared. Any other negative errno: a source broke
        (see source_error), said once all others ended; what was whole before it was handled.
        """
        return int(lib.engine_step(self._still()))

    def run(self) -> int:
        """Steps until stop(), which gives 0, or the end. Runs in C with the GIL released."""
        return int(lib.engine_run(self._still()))

    def start(self, core: int | None = None) -> Running:
        """Run in a thread of its own, pinned to CPU ``core``, until stop() or the end.

        Meanwhile step(), run() and accounts of sessions are refused; counters, books and the
        ring may be read. close() stops and joins it first.
        """
        self._still()
        self._running = Running(self, core)
        return self._running

    def stop(self) -> None:
        """Makes run() return after its current batch; safe from any thread or signal handler.

        Later steps handle what was taken from the sources, then end the run: what is open is
        declared, and every account closes.
        """
        lib.engine_stop(self._open())

    def keep(self, flight: Flight) -> None:
        """Keep the raw frames of all sources in ``flight``, in the order they are handled."""
        for source in self.sources:
            flight.source(source.spec)
        self._kept = flight  # alive as long as the core writes it
        lib.engine_keep(self._still(), flight.pointer)

    def answer(self, index: int, answer: Any) -> None:
        """Send what source ``index`` must say by itself through it: a ``struct answer *``."""
        self._answers.append(answer)
        check(lib.engine_answer(self._still(), index, answer), f"{self.sources[index].spec}")

    def farewell(self) -> None:
        """Once it ran: send what is still to be said."""
        lib.engine_farewell(self._still())

    def link(self, index: int, state: int) -> None:
        """Tell stages the link state (enum link_state) of source ``index``; from any thread."""
        lib.engine_link(self._open(), index, state)

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

    def times(self) -> dict[str, Hist]:
        """Of each field of ``struct engine_times`` (csrc/engine/engine.h), as it is counted."""
        times = lib.engine_times(self.pointer)
        return {name: Hist(ffi.addressof(times, name)) for name in TIMES}

    def source_error(self, index: int) -> int:
        """0 while source ``index`` runs, END when it ended clean, else what broke it."""
        return int(lib.engine_source_error(self.pointer, index))

    def instruments(self) -> dict[int, str]:
        """Whole symbols by ``instrument_id``, of every feed."""
        names: dict[int, str] = {}
        for feed in self.feeds:
            names.update(feed.symbols())
        return names

    def close(self) -> None:
        """Frees the engine, its ring and its sources. Views into books and ring die with it."""
        if self._running is not None and self._pointer is not None:
            self._running.end()
        self._pointer = None
        for feed in self.feeds:
            feed.close()
        self._stack.close()


def _check_options(
    feeds: Sequence[Feed],
    sources: Sequence[Source],
    burst: int,
    checksum: str,
    batch_us: int,
    packets_max: int,
) -> None:
    if not 1 <= burst <= lib.BURST_MAX:
        raise UsageError(f"burst {burst}: must be 1..{lib.BURST_MAX}")
    if checksum not in CHECKSUMS:
        raise UsageError(f"checksum policy {checksum!r}: one of {', '.join(CHECKSUMS)}")
    if batch_us < 0 or packets_max < 1:
        raise UsageError("batch_us must be >= 0 and packets_max >= 1")
    if len(sources) > lib.SOURCES_MAX:
        raise UsageError(f"{len(sources)} sources: at most {lib.SOURCES_MAX}")
    _check_feeds(feeds)


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


class Running:
    """What Engine.start() gives. The engine lives until end() was called: its close() does."""

    def __init__(self, engine: Engine, core: int | None) -> None:
        self._engine = engine
        self._error: Exception | None = None
        self._thread = Thread(target=self._run, args=(core,), name="pydpdk-engine", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it still runs. All its records are in the ring once it does not."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Ask it to end as if its sources had ended; harmless when it did. See join()."""
        if self.alive:
            self._engine.stop()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for its end; False at the timeout.

        CoreError when a source broke, HostError when it cannot run on that core.
        """
        self._thread.join(timeout_s)
        if self.alive:
            return False
        error, self._error = self._error, None
        if error:
            raise error
        return True

    def end(self) -> None:
        """Stop it and wait, whatever it says."""
        self.stop()
        self._thread.join()

    def _run(self, core: int | None) -> None:
        pointer = self._engine.pointer
        try:
            _pin(core)
            with eal.thread():
                code = lib.engine_run(pointer)
                while code >= 0:  # stopped: the last steps declare what is open, if there is room
                    code = lib.engine_step(pointer)
            if code not in (END, AGAIN):
                raise CoreError(-code, self._broken(code))
        except Exception as error:
            self._error = error

    def _broken(self, code: int) -> str:
        engine = self._engine
        specs = (s.spec for i, s in enumerate(engine.sources) if engine.source_error(i) == code)
        return next(specs, "engine")


def _pin(core: int | None) -> None:
    """Bind the calling thread, none else, to one CPU."""
    if core is None:
        return
    try:
        os.sched_setaffinity(0, {core})
    except (OSError, ValueError, OverflowError) as error:
        have = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
        raise HostError(
            f"the engine cannot run on core {core}: {error}; there are {have}"
        ) from error
