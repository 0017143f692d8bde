"""One ring, one to four readers: what each more costs the others, one way from C.

The writer puts a record every few microseconds and each reader polls for it on a core of its own:
as threads of one process in C, and as Python processes that read a field of each batch. Every
reader's figures are in the distribution. More readers than cores are no measurement.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from pydpdk.bench.cases.latency import Hists
from pydpdk.bench.cases.rings import SLOTS
from pydpdk.bench.data import Market
from pydpdk.bench.loops import lib
from pydpdk.bench.measure import Case, Series
from pydpdk.bench.wires.agents import Wires, Worker
from pydpdk.core.hist import Hist
from pydpdk.core.ring import Reader, Ring
from pydpdk.errors import HostError

READERS_MAX = 4
RECORDS = 20_000
EVERY_NS = 5_000
WAY = "one way: put to seen"
TWO = "needs two cores: give the process a second one (taskset, cpuset)"


def needs(name: str) -> tuple[str, ...]:
    """Of the host, see pydpdk.bench.listing."""
    return ("two cores",)


@contextmanager
def readers(market: Market) -> Iterator[Case]:
    """C threads and Python processes, as many as there are cores beside the writer's."""
    *free, mine = market.cores
    if not free:
        raise HostError(TWO)
    missing: dict[str, str] = {}
    series: list[Series] = []
    with ExitStack() as stack:
        ring = stack.enter_context(Ring(SLOTS))
        wires = stack.enter_context(Wires("null", 0))
        workers = [
            stack.enter_context(Worker(wires, 1, core, [ring.fd])) for core in free[:READERS_MAX]
        ]
        for n in range(1, READERS_MAX + 1):
            threads, processes = f"{n} in C, threads", f"{n} in Python, processes"
            if n > len(free):
                why = f"needs {n + 1} cores for readers and writer, has {len(market.cores)}"
                missing |= dict.fromkeys((threads, processes), why)
                continue
            in_c, in_python = _Threads(ring, free[:n]), _Processes(ring, workers[:n])
            series += [_series(threads, "", in_c), _series(processes, threads, in_python)]
        facts = {"cores": [mine, *free[:READERS_MAX]], "records": RECORDS, "every_ns": EVERY_NS}
        yield Case("readers", "way", series, facts, missing=missing)


class _Threads:
    """Readers in C, each on a core."""

    def __init__(self, ring: Ring, cores: list[int]) -> None:
        self.ring = ring
        self.cores = cores

    def run(self) -> Hist:
        hists = [Hist() for _ in self.cores]
        with ExitStack() as stack:
            handles = [stack.enter_context(Reader(fd=self.ring.fd)) for _ in self.cores]
            threads = [
                threading.Thread(target=_seen, args=(core, handle, hist))
                for core, handle, hist in zip(self.cores, handles, hists, strict=True)
            ]
            for thread in threads:
                thread.start()
            put = _put(self.ring)
            for thread in threads:
                thread.join()
        return _whole(hists, put)


class _Processes:
    """Readers in Python, each a process."""

    def __init__(self, ring: Ring, workers: list[Worker]) -> None:
        self.ring = ring
        self.workers = workers

    def run(self) -> Hist:
        for worker in self.workers:
            worker.begin("hops", ring_fd=self.ring.fd, wanted=RECORDS)
        put = _put(self.ring)
        told = [Hist.decode(worker.end()["hist"]) for worker in self.workers]
        return _whole(told, put)


def _series(name: str, against: str, who: _Threads | _Processes) -> Series:
    hists: Hists = {}

    def run() -> float:
        whole = who.run()
        hists.setdefault(WAY, Hist()).merge(whole)
        return float(whole.percentile(50))

    return Series(name, "ours" if against else "floor", run, against, hists=hists)


def _seen(core: int, reader: Reader, hist: Hist) -> None:
    os.sched_setaffinity(0, {core})
    lib.bench_seen(reader.pointer, RECORDS, hist.pointer)


def _put(ring: Ring) -> int:
    return int(lib.bench_put(ring.pointer, RECORDS, EVERY_NS))


def _whole(hists: list[Hist], put: int) -> Hist:
    """All readers' figures. HostError when one missed a record."""
    whole = Hist()
    for hist in hists:
        if hist.count != put:
            raise HostError(f"readers: {put} records were put, a reader saw {hist.count}")
        whole.merge(hist)
    return whole
