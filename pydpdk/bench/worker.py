"""A process that measures one build in turn with another: ``-m pydpdk.bench.worker CORES PLANTED``.

A line of JSON in names a method and its arguments, a line of JSON out is the answer; the end of
stdin is its end. Two of them take turns on one core (pydpdk/bench/versus.py): who has no turn is
blocked in a read. PLANTED is how many times what it does every timed loop shall cost, 1 but in a
self-test (pydpdk/bench/selftest.py). PROTOCOL is what a build of another age must agree on.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pydpdk
from pydpdk import _core
from pydpdk.bench import data, host, measure, meters
from pydpdk.bench.run import CASES
from pydpdk.errors import PydpdkError

PROTOCOL = 2
Answer = dict[str, Any]


class Bench:
    """A method for each thing that can be told; arguments and answers are plain values."""

    def __init__(self, cores: list[int]) -> None:
        self.cores = cores
        self._market: data.Market | None = None
        self._stack = ExitStack()
        self._case: measure.Case | None = None
        self._own_s, self._preempted = 0.0, 0

    def hello(self) -> Answer:
        """Which build this is, by files and content."""
        package = Path(str(pydpdk.__file__)).resolve().parent
        core = Path(str(_core.__file__)).resolve()
        sources = b"".join(path.read_bytes() for path in sorted(package.rglob("*.py")))
        return {
            "protocol": PROTOCOL,
            "package": str(package),
            "core": str(core),
            "core_sha256": hashlib.sha256(core.read_bytes()).hexdigest(),
            "sources_sha256": hashlib.sha256(sources).hexdigest(),
            "executable": sys.executable,
            **host.build(),
        }

    def session(self, both: str, alone: str, size: list[int]) -> Answer:
        """The session that all cases run on."""
        self._market = data.Market(data.Size(*size), Path(both), Path(alone), self.cores)
        return {}

    def open(self, name: str) -> Answer:
        """A case is made ready: its series in order."""
        assert self._market is not None
        if name not in CASES:
            return {"error": f"this build has no case {name}"}
        self._own_s, self._preempted = meters.own()
        self._case = self._stack.enter_context(CASES[name](self._market))
        gc.collect()
        gc.disable()
        case = self._case
        return {
            "per": case.per,
            "unit": case.unit,
            "better": case.better,
            "series": [[series.name, series.role, series.against] for series in case.series],
        }

    def turn(self, series: int) -> Answer:
        """One series' part of a round; ``again``: may it have more than one in a round?"""
        assert self._case is not None
        self._case.series[series].turn()
        return {"again": self._case.series[series].repeats}

    def settle(self, series: int) -> Answer:
        """The round of a series is over: its figure, its single figures."""
        assert self._case is not None
        figure, hists = self._case.series[series].settle(self._case.best)
        return {"figure": figure, "hists": {of: hist.encode() for of, hist in hists.items()}}

    def close(self) -> Answer:
        """The case is over: what it ran on, and what it took of the host."""
        gc.enable()
        self._stack.close()
        case, self._case = self._case, None
        own_s, preempted = meters.own()
        return {
            "facts": case.facts if case else {},
            "missing": case.missing if case else {},
            "own_s": own_s - self._own_s,
            "preempted": preempted - self._preempted,
        }


def main(cores: list[int], planted: float) -> None:
    measure.planted = planted
    os.sched_setaffinity(0, {cores[-1]})
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its round, then this process
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what DPDK prints
    bench = Bench(cores)
    with bench._stack:
        for line in sys.stdin:
            told = json.loads(line)
            method: Callable[..., Answer] = getattr(bench, told.pop("do"))
            try:
                answer = method(**told)
            except PydpdkError as error:
                bench.close()
                answer = {"error": str(error)}
            print(json.dumps(answer), file=out)


if __name__ == "__main__":
    main([int(core) for core in sys.argv[1].split(",")], float(sys.argv[2]))
