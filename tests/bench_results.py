"""Made-up reports of pydpdk bench."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from pydpdk.bench import report
from pydpdk.bench.measure import Case, Series
from pydpdk.core.hist import Hist

HOST: dict[str, Any] = {
    "cpu": "made up", "microcode": "0x1", "cores": 2, "usable": [0, 1], "core": 1, "l3": "8192K",
    "virtual": False, "kernel": "6.1", "command_line": "quiet", "governor": "performance",
    "turbo": "off", "cstates": [], "thp": "never", "hugepages": [], "isolated": "1",
    "tickless": "1", "clocksource": "tsc", "tsc": {"constant_tsc": True}, "nics": [], "load": 0.1,
    "load_after": 0.1, "commit": "abc", "compiler": "gcc 12", "flags": "-O3", "dpdk": "none",
    "python": "3.11.7", "numpy": "2.0",
}  # fmt: skip


def case(
    figures: Sequence[float], samples: Sequence[Sequence[int]] = (), name: str = "way"
) -> dict[str, Any]:
    """A floor of 1, our series of these figures, and with ``samples`` (ns, a row a round) a
    distribution of them."""
    ours, floor = (
        Series(what, what, float, "floor" * (what == "ours")) for what in ("ours", "floor")
    )  # type: ignore[arg-type]
    for i, figure in enumerate(figures):
        floor.add(1.0, {})
        ours.add(figure, {"sent": Hist.from_values(samples[i])} if samples else {})
    made = Case(name, "message", [floor, ours])
    return made.result() | {"interrupted": False}


def result(*cases: dict[str, Any], **host: Any) -> dict[str, Any]:
    """A whole run of them."""
    made = {
        "schema": report.SCHEMA, "kind": "run", "created": "2024-01-02T03:04:05+00:00",
        "host": copy.deepcopy(HOST) | host,
        "session": {"messages": 1, "instruments": 1, "live_orders": 1},
        "rounds": 10, "stalls": {"before": [], "after": []},
        "clock": {"tsc_hz": 10**9, "rate_error_ppm": 0.1, "offsets": []},
        "interrupted": False, "warnings": [],
        "cases": list(cases),
    }  # fmt: skip
    check(made)
    return made


def check(made: dict[str, Any]) -> None:
    """DataError where it is not as a report must be."""
    report.check(json.dumps(made))


def noisy(level: float, seed: int, noise: float = 0.005, rounds: int = 10) -> list[float]:
    """Rounds about a level."""
    rng = np.random.default_rng(seed)
    return (level * np.exp(rng.normal(0, noise, rounds))).tolist()  # type: ignore[no-any-return]


def tailed(worst_ns: int, seed: int) -> list[list[int]]:
    """Ten rounds of 2,000 samples near 1 us, of which two per cent take about ``worst_ns``."""
    rng = np.random.default_rng(seed)
    rounds = []
    for _ in range(10):
        values = rng.normal(1000, 20, 2000)
        values[:40] = rng.normal(worst_ns, worst_ns / 50, 40)
        rounds.append(values.astype(int).tolist())
    return rounds
