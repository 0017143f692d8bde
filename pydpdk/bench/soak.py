"""A steady rate for a while, in slices of time, so that drift and hiccups show.

The rate is half of the highest without loss, which a short search finds first. A slice counts what
was seen within it; what is lost counts where the next frame was seen. For longer than a benchmark
takes, a line of JSON a slice:

    python -m pydpdk.bench.soak KIND [SECONDS [RATE]]
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pydpdk.bench.cases import load
from pydpdk.bench.cases.latency import Hists
from pydpdk.bench.cases.load import KINDS, Line, Lines, Trial
from pydpdk.bench.data import FULL, QUICK, Market
from pydpdk.bench.measure import Case, Series
from pydpdk.bench.wires import schedule, search
from pydpdk.bench.wires.schedule import RESPONSE, SERVICE
from pydpdk.core.hist import Hist
from pydpdk.errors import HostError, PydpdkError

SECONDS, SECONDS_QUICK = 10.0, 0.5  # a round
SLICES = 10
COLUMNS = ("begins_s", "received", "lost", "p50", "p99", "max")


def cases() -> dict[str, Callable[[Market], AbstractContextManager[Case]]]:
    """By name, one of each kind of wire."""
    return {f"soak-{kind}": partial(soak, kind=kind) for kind in KINDS}


@contextmanager
def soak(market: Market, kind: str, seconds: float = 0.0, rate: int = 0) -> Iterator[Case]:
    """Loss and latency at a steady rate, in slices of time.

    ``seconds`` of a round, 0: what SECONDS says; ``rate``, 0: half of the highest without loss.
    """
    seconds = seconds or (SECONDS_QUICK if market.size == QUICK else SECONDS)
    with ExitStack() as stack:
        lines = Lines(stack, market, kind)
        rate = rate or half_of_zero_loss(lines.ours)
        facts = lines.facts | {"rate": rate, "seconds_a_round": seconds, "lost": 0,
                               "slice_is": COLUMNS}  # fmt: skip
        hists: Hists = {}

        def run() -> float:
            slice_ms = max(1, int(seconds * 1000 / SLICES))
            trial = lines.ours.trial(rate, int(rate * seconds), slice_ms)
            hists.setdefault(SERVICE, Hist()).merge(trial.service)
            hists.setdefault(RESPONSE, Hist()).merge(trial.response)
            facts["lost"] += trial.lost
            facts["slices_of_the_last_round"] = slices(trial, slice_ms)
            return float(trial.response.percentile(99))

        series = [Series(f"p99 of the response over {kind}", "ours", run, hists=hists)]
        yield Case(f"soak-{kind}", "packet", series, facts)
        facts |= schedule.facts(lines.behind(), series)


def half_of_zero_loss(line: Line) -> int:
    """By short trials."""

    def passes(rate: int) -> bool:
        return not line.trial(rate, int(rate * load.TRIAL_QUICK_S)).failed

    found = search.find(passes, load.RATES_QUICK).highest // 2
    if not found:
        raise HostError("soak: no rate passes without loss")
    return found


def slices(trial: Trial, slice_ms: int) -> list[list[float]]:
    """Rows of COLUMNS, ns of the response."""
    rows = []
    for number, part in enumerate(trial.slices):
        hist = part["response"]
        points = [hist.percentile(50), hist.percentile(99), hist.max]
        rows.append([number * slice_ms / 1000, part["received"], part["lost"], *points])
    return rows


def main(kind: str, seconds: str = "60", rate: str = "0") -> int:
    cores = sorted(os.sched_getaffinity(0))
    market = Market(FULL, Path(), Path(), cores)  # which a soak does not read
    try:
        with soak(market, kind, float(seconds), int(rate)) as case:
            case.series[0].run()
    except PydpdkError as error:
        print(error, file=sys.stderr)
        return int(error.exit)
    told: dict[str, Any] = case.facts
    for row in told.pop("slices_of_the_last_round"):
        print(json.dumps(dict(zip(COLUMNS, row, strict=True))))
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
