"""One run: the data, the cases in order, the host around them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from pydpdk.bench import (
    books,
    burst,
    data,
    host,
    latency,
    limits,
    load,
    readers,
    receive,
    recording,
    replays,
    rings,
    soak,
    stages,
    trade,
    wire,
)
from pydpdk.bench.measure import Case
from pydpdk.errors import HostError

CASES: dict[str, Callable[[data.Market], AbstractContextManager[Case]]] = {
    "limits": limits.limits,
    "capture": wire.capture,
    "frame": wire.frame,
    "arbiter": wire.arbiter,
    "decode": books.decode,
    "book": books.book,
    "ring": rings.ring,
    "hop": rings.hop,
    "readers": readers.readers,
    "path": books.path,
    "replay": replays.replay,
    "stage": stages.stage,
    "memory": books.memory,
    "record": recording.record,
    "sampling": recording.sampling,
    **receive.cases(),
    **latency.cases(),
    **load.cases(),
    **burst.cases(),
    **soak.cases(),
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
) -> dict[str, Any]:
    """Measure the named cases of CASES; the result is plain values.

    ``generating`` is told the messages made so far when the session must be made first,
    ``notify`` what is being measured. UsageError when ``folder`` cannot be written.
    """
    before = host.describe()
    both, alone = data.session_files(folder, size, generating)
    with _pinned() as cores:
        market = data.Market(size, both, alone, cores)
        results = [_measure(name, market, rounds, notify) for name in names]
    load_after = os.getloadavg()[0]
    return {
        "host": before | {"load_after": round(load_after, 2), "core": cores[-1]},
        "warnings": host.warnings(before, load_after),
        "session": {
            "messages": size.messages,
            "instruments": size.instruments,
            "live_orders": size.live_orders,
        },
        "rounds": rounds,
        "cases": results,
    }


def _measure(name: str, market: data.Market, rounds: int, notify: Notify) -> dict[str, Any]:
    notify(name)
    try:
        with CASES[name](market) as case:
            case.measure(rounds)
    except HostError as error:
        return {"name": name, "skipped": str(error), "series": [], "facts": {}, "missing": {}}
    return case.result()


@contextmanager
def _pinned() -> Iterator[list[int]]:
    """This process on the last of its cores (the first serves most interrupts); yields them."""
    before = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {before[-1]})
    try:
        yield before
    finally:
        os.sched_setaffinity(0, set(before))
