"""What it costs to record a latency."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from pydpdk.bench import peers
from pydpdk.bench.data import LINES, Market, delivered
from pydpdk.bench.loops import ffi, lib
from pydpdk.bench.measure import Case, Series, timed
from pydpdk.core.hist import Hist

VALUES = 1 << 20
PEER_VALUES = 1 << 14
AIM = "count a value in less than 10 ns"


@contextmanager
def histogram(market: Market) -> Iterator[Case]:
    """Count latencies that spread over decades in a histogram, beside a look at the counter."""
    values = np.random.default_rng(1).lognormal(8, 2, VALUES).astype(np.uint64)
    at, hist = ffi.from_buffer("uint64_t[]", values), Hist()

    def ours() -> int:
        lib.hist_add_all(hist.pointer, at, VALUES)
        return VALUES

    def floor() -> int:
        lib.clock_looks(VALUES)
        return VALUES

    series = [
        Series("look at the counter", "floor", lambda: timed(floor)),
        Series("count a value", "ours", lambda: timed(ours), "look at the counter"),
        *(
            Series(name, "peer", lambda work=work: timed(work), "count a value")  # type: ignore[misc]
            for name, work in peers.recorders(values[:PEER_VALUES].tolist()).items()
        ),
    ]
    yield Case("histogram", "value", series, {"values": VALUES, "aim": AIM})


@contextmanager
def sampling(market: Market) -> Iterator[Case]:
    """The whole path, line A, with stage times sampled more or less often."""

    def path(sample_every: int) -> float:
        with market.engine(market.alone, LINES[:1], sample_every=sample_every) as engine:
            while delivered(engine.feeds[0]) < market.opening and engine.step() >= 0:
                pass
            before = delivered(engine.feeds[0])

            def trade() -> int:
                while engine.step() >= 0:
                    pass
                return delivered(engine.feeds[0]) - before

            return timed(trade)

    series = [
        Series("one step in 64", "ours", lambda: path(64), "none"),
        Series("none", "floor", lambda: path(0)),
        Series("every step", "ours", lambda: path(1), "none"),
    ]
    yield Case("sampling", "message", series, {"sampled": "parse, book, ring"})
