"""What this host can do at best, whatever the code: the floors under every other case.

No series is ours. A figure of pydpdk cannot be below the sum of the floors on its way: a record
that moves to another core costs a line between cores, a level outside the cache a line of memory,
a batch handed to Python a view.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import repeat

import numpy as np

from pydpdk.bench import host
from pydpdk.bench.cases.books import Lines
from pydpdk.bench.cases.frames import NEAR, NEAR_TURNS
from pydpdk.bench.cases.rings import Partner
from pydpdk.bench.data import Market, packets_of
from pydpdk.bench.loops import ffi, lib
from pydpdk.bench.measure import Case, Series, timed
from pydpdk.bench.wires.agents import Wires, Worker
from pydpdk.core.event import EVENT
from pydpdk.errors import HostError
from pydpdk.source import eal

LINE = 64
CACHES = 4  # memory is read in a buffer of that many last-level caches
MEMORY_MIN, MEMORY_MAX = 256 << 20, 2 << 30
READS = 1 << 20  # of the cycle counter
POLLS = 1 << 20
CALLS = 1 << 16  # of Python, in eights so that the loop itself counts little


@contextmanager
def floors(market: Market) -> Iterator[Case]:
    """Memory, lines between cores, headers, polls, calls, views and clock reads."""
    size = memory_size()
    facts: dict[str, float] = {"buffer_bytes": size}
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        series = [*_memory(size), stack.enter_context(_headers(market))]
        optional = {
            "line between cores, one way": _line,
            "empty rx_burst (DPDK ring port)": _poll,
        }
        for name, make in optional.items():
            try:
                series.append(_floor(name, stack.enter_context(make(market))))
            except HostError as error:
                missing[name] = str(error)
        series += [*_python(), _floor("read of the cycle counter", lambda: timed(_ticks))]
        case = Case("floors", "operation", series, facts, missing=missing)
        yield case
        stream = case.series[0].rounds
        if stream:
            facts["read_GB_per_s"] = round(LINE / min(stream), 1)


def memory_size() -> int:
    """Bytes that the last-level cache cannot hold, nor most of them."""
    kept = host.read(f"{host.CPU}/cpu0/cache/index3/size") or "0K"
    cache = int(kept[:-1]) * {"K": 1 << 10, "M": 1 << 20}[kept[-1]]
    return min(max(CACHES * cache, MEMORY_MIN), MEMORY_MAX) // mmap.PAGESIZE * mmap.PAGESIZE


def _floor(name: str, run: Callable[[], float]) -> Series:
    return Series(name, "floor", run)


def _memory(size: int) -> list[Series]:
    """Lines that name each other, read through, then some followed: the first read evicts these."""
    lines = Lines(size)
    start = ffi.from_buffer("uint8_t[]", lines.lines)

    def stream() -> int:
        lib.bench_sum(start, size)
        return size // LINE

    return [
        _floor("line of memory, streamed", lambda: timed(stream)),
        _floor("line of memory, one after another", lines.chase),
    ]


@contextmanager
def _headers(market: Market) -> Iterator[Series]:
    with packets_of(market.both) as (packets, count):
        near = min(count, NEAR)

        def touch() -> int:
            for _ in range(NEAR_TURNS):
                lib.bench_touch(packets, near)
            return near * NEAR_TURNS

        yield _floor("headers of a packet in cache", lambda: timed(touch))


@contextmanager
def _line(market: Market) -> Iterator[Callable[[], float]]:
    if len(market.cores) < 2:
        raise HostError("needs two cores: give the process a second one (taskset, cpuset)")
    with Partner(market.cores[-2]) as partner:
        yield partner.line


@contextmanager
def _poll(market: Market) -> Iterator[Callable[[], float]]:
    if not eal.version():
        raise HostError(f"pydpdk was built without DPDK: {eal.INSTALL_DPDK}")
    with Wires("ring", 1) as wires, Worker(wires, 1, market.cores[-1]) as worker:
        worker.ask("open", spec=wires.receiver(0))

        def poll() -> float:
            told = worker.ask("idle", polls=POLLS)
            if told["empty"] != POLLS:
                raise HostError(f"{wires.receiver(0)}: {POLLS - told['empty']} polls found packets")
            return float(told["ns"]) / POLLS

        yield poll


def _python() -> list[Series]:
    """A call into C and back, and what a batch looks like to a strategy."""
    events = np.zeros(1 << 10, EVENT)
    works: dict[str, Callable[[], object]] = {
        "call of C from Python (cffi)": lib.protocol_count,
        "view of a batch (numpy slice)": partial(events.__getitem__, slice(64, 128)),
        "column of a batch (numpy field)": partial(events.__getitem__, "price"),
    }
    return [_floor(name, partial(timed, partial(_calls, work))) for name, work in works.items()]


def _calls(work: Callable[[], object]) -> int:
    for _ in repeat(None, CALLS // 8):
        work(), work(), work(), work(), work(), work(), work(), work()
    return CALLS


def _ticks() -> int:
    lib.bench_ticks(READS)
    return READS
