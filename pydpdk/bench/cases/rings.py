"""The ring: on one core, and from a C writer to a Python reader in another process."""

from __future__ import annotations

import mmap
import os
import queue
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import median

import numpy as np

from pydpdk.bench.cases import echo
from pydpdk.bench.data import Market, pointer
from pydpdk.bench.loops import ffi, lib
from pydpdk.bench.measure import Case, Series, timed
from pydpdk.core.event import EVENT
from pydpdk.core.ring import Reader, Ring
from pydpdk.errors import HostError

SLOTS = 1 << 12  # 256 KiB: within the second-level cache
RECORDS = 1 << 20
OBJECTS = 1 << 14
START_S = 20.0


def needs(name: str) -> tuple[str, ...]:
    """Of the host, see pydpdk.bench.listing."""
    return ("two cores",) if name == "hop" else ()


@contextmanager
def ring(market: Market) -> Iterator[Case]:
    """Records in and out on one thread."""
    with Ring(SLOTS) as writer, Reader(fd=writer.fd) as reader:
        slots = np.zeros(SLOTS, EVENT)
        floor_at = pointer("struct event[]", slots)
        plain: queue.SimpleQueue[int] = queue.SimpleQueue()

        def ours(batch: int) -> int:
            return int(lib.bench_ring(writer.pointer, reader.pointer, RECORDS, batch))

        def floor() -> int:
            lib.bench_copy(floor_at, SLOTS - 1, RECORDS)
            return RECORDS

        def objects() -> int:
            for i in range(OBJECTS):
                plain.put(i)
                plain.get()
            return OBJECTS

        series = [
            Series("64 bytes in and out", "floor", lambda: timed(floor)),
            Series("1 at a time", "ours", lambda: timed(lambda: ours(1)), "64 bytes in and out"),
            Series("32 at a time", "ours", lambda: timed(lambda: ours(32)), "64 bytes in and out"),
            Series("queue.SimpleQueue", "peer", lambda: timed(objects), "1 at a time"),
        ]
        yield Case("ring", "record", series, {"slots": SLOTS})


@contextmanager
def hop(market: Market) -> Iterator[Case]:
    """A record from C to a Python reader in another process, beside the bare cache line."""
    *others, mine = market.cores
    if not others:
        raise HostError("hop needs two cores: give the process a second one (taskset, cpuset)")
    with Partner(others[-1]) as partner:
        series = [
            Series("cache line", "floor", partner.line),
            Series("record seen: Reader.ready", "ours", lambda: partner.hop(echo.SEEN),
                   "cache line"),
            Series("record read: Reader.batch", "ours", lambda: partner.hop(echo.READ),
                   "cache line"),
            Series("pipe: os.read", "peer", partner.pipe, "record read: Reader.batch"),
        ]  # fmt: skip
        yield Case("hop", "way", series, {"trips": echo.TRIPS, "cores": [mine, others[-1]]})


class Partner:
    """A Python process on another core that answers; all figures are ns, one way."""

    def __init__(self, core: int) -> None:
        self._stack = ExitStack()
        self.ring = self._stack.enter_context(Ring(SLOTS))
        shared = os.memfd_create("pydpdk-bench")
        self._stack.callback(os.close, shared)
        os.truncate(shared, mmap.PAGESIZE)
        self.map = mmap.mmap(shared, mmap.PAGESIZE)
        self.words = memoryview(self.map).cast("Q")
        self.at = ffi.from_buffer("uint64_t[]", self.map, require_writable=True)
        self.taken = ffi.new("uint64_t[]", echo.TRIPS)
        read, self.write = os.pipe()
        self._stack.callback(os.close, self.write)
        arguments = map(str, (self.ring.fd, shared, read, core))
        self.child = subprocess.Popen(
            [sys.executable, "-P", "-m", "pydpdk.bench.cases.echo", *arguments],
            pass_fds=(self.ring.fd, shared, read),
        )
        os.close(read)
        self._stack.callback(self._end)
        self._await_answer(echo.IDLE)

    def __enter__(self) -> Partner:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _end(self) -> None:
        self.words[echo.COMMAND] = echo.QUIT
        try:
            self.child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()

    def _await_answer(self, value: int) -> None:
        deadline = time.monotonic() + START_S
        while self.words[echo.STATE] != value:
            if time.monotonic() > deadline or self.child.poll() is not None:
                raise HostError("the partner process of the hop benchmark did not answer")
            time.sleep(0)

    @contextmanager
    def _doing(self, mode: int) -> Iterator[None]:
        """Within: the partner does `mode` for echo.TRIPS trips."""
        self.words[echo.PING] = self.words[echo.ANSWER] = 0
        self.words[echo.COMMAND] = mode
        self._await_answer(mode)
        self.words[echo.COMMAND] = echo.IDLE
        yield
        self._await_answer(echo.IDLE)

    def line(self) -> float:
        """A word bounced in C: half of a round trip."""
        with self._doing(echo.LINE):
            made = lib.bench_ping(self.at + echo.PING, echo.TRIPS, self.taken)
        return self._median(made) / 2

    def hop(self, mode: int) -> float:
        """A round trip of which the way back is a bare line, so that is taken off."""
        before = self.line()
        with self._doing(mode):
            made = lib.bench_hop(self.ring.pointer, self.at + echo.ANSWER, echo.TRIPS, self.taken)
        return self._median(made) - (before + self.line()) / 2

    def pipe(self) -> float:
        """64 bytes through a pipe to a blocking reader; timed in Python."""
        record, words = bytes(64), self.words
        taken = []
        before = self.line()
        with self._doing(echo.PIPE):
            for trip in range(1, echo.TRIPS + 1):
                begun = time.perf_counter_ns()
                os.write(self.write, record)
                for _ in range(echo.LOOKS):
                    if words[echo.ANSWER] == trip:
                        break
                taken.append(time.perf_counter_ns() - begun)
        return median(taken) - (before + self.line()) / 2

    def _median(self, made: int) -> float:
        if made < echo.TRIPS:
            raise HostError(f"the partner process stopped answering after {made} trips")
        return float(np.median(np.frombuffer(ffi.buffer(self.taken), np.uint64)))
