"""One run: the data, the cases in order, the host around them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydpdk.bench import clocks, data, host, meters, report, warn
from pydpdk.bench.cases import (
    books,
    floors,
    frames,
    histogram,
    latency,
    load,
    readers,
    receive,
    replays,
    rings,
    stages,
    trade,
)
from pydpdk.bench.measure import Case
from pydpdk.errors import HostError

CASES: dict[str, Callable[[data.Market], AbstractContextManager[Case]]] = {
    "floors": floors.floors,
    "capture": frames.capture,
    "frame": frames.frame,
    "arbiter": frames.arbiter,
    "decode": books.decode,
    "book": books.book,
    "ring": rings.ring,
    "hop": rings.hop,
    "readers": readers.readers,
    "path": books.path,
    "replay": replays.replay,
    "stage": stages.stage,
    "memory": books.memory,
    "histogram": histogram.histogram,
    "sampling": histogram.sampling,
    **receive.cases(),
    **latency.cases(),
    **load.cases(),
    **trade.cases(),
}
Notify = Callable[[str], None]


def run(
    names: list[str],
    *,
    size: data.Size,
    rounds: int,
    folder: Path,
    generating: Callable[[int], None] = lambda done: None,
    notify: Notify = lambda what: None,
    tick: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Measure the named cases of CASES; the result is plain values (pydpdk/bench/report.py).

    ``generating`` is told the messages made so far when the session must be made first,
    ``notify`` what is being done; ``tick`` comes after each series' turn and may raise
    KeyboardInterrupt: the result then holds what there is. UsageError when ``folder`` cannot be
    written.
    """
    watch = clocks.Watch()
    result = opening(size, rounds, "run")
    both, alone = data.session_files(folder, size, generating)
    with _pinned() as cores:
        result["stalls"] = {"before": meters.stalls(meters.used(cores))}
        market = data.Market(size, both, alone, cores)
        cases = []
        for name in names:
            notify(f"measuring {name}")
            cases.append(_measure(name, market, rounds, tick))
            if cases[-1].get("interrupted"):
                break
    return closing(result, cases, cores, watch)


def opening(size: data.Size, rounds: int, kind: str) -> dict[str, Any]:
    """A result before anything is measured."""
    return {
        "schema": report.SCHEMA,
        "kind": kind,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": host.describe(),
        "session": {
            "messages": size.messages,
            "instruments": size.instruments,
            "live_orders": size.live_orders,
        },
        "rounds": rounds,
    }


def closing(
    result: dict[str, Any], cases: list[Any], cores: list[int], watch: clocks.Watch
) -> dict[str, Any]:
    """The same when all is measured: what the host is like now, and what to hold against it."""
    load = round(os.getloadavg()[0], 2)
    result["host"] |= {"load_after": load, "core": cores[-1]}
    result["stalls"]["after"] = meters.stalls(meters.used(cores))
    result["interrupted"] = any(case.get("interrupted", False) for case in cases)
    result["clock"] = watch.result(meters.used(cores))
    result["warnings"] = host.warnings(result["host"], load) + clocks.warnings(result["clock"])
    for case in cases:
        case["warnings"] = warn.case(case)
    result["cases"] = cases
    return result


def skipped(name: str, why: str) -> dict[str, Any]:
    """A case that was not measured."""
    return {"name": name, "skipped": why, "series": [], "facts": {}, "missing": {}}


def _measure(
    name: str, market: data.Market, rounds: int, tick: Callable[[], None]
) -> dict[str, Any]:
    meter = meters.Meter(meters.used(market.cores))
    own_s, preempted = meters.own()
    interrupted = False
    try:
        with CASES[name](market) as case:
            try:
                case.measure(rounds, tick)
            except KeyboardInterrupt:
                interrupted = True
    except HostError as error:
        return skipped(name, str(error))
    used_s, switches = meters.own()
    if not any(series.rounds for series in case.series):
        return skipped(name, "interrupted in its first round") | {"interrupted": True}
    return case.result() | {
        "interrupted": interrupted,
        "meanwhile": meter.stop(used_s - own_s, switches - preempted),
    }


@contextmanager
def _pinned() -> Iterator[list[int]]:
    """This process on the last of its cores (the first serves most interrupts); yields them."""
    before = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {before[-1]})
    try:
        yield before
    finally:
        os.sched_setaffinity(0, set(before))
