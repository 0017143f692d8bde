"""What a generator's schedule adds to the figures: coordinated omission, told instead of hidden.

A generator with a schedule that falls behind sends what is overdue at once (csrc/bench/paced.c), so
service times look as if nothing had been. Response times count from when each frame was due and
show it. Both are always kept; a result says where they part and how far the generator was behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydpdk.bench.measure import Series
from pydpdk.core.hist import Hist

SERVICE, RESPONSE = "service: sent to seen", "response: due to seen"
AGREE = "they agree"
APART = 1.10  # of p99: from there on they differ


class Behind:
    """How far generators were behind their schedules, rounds that warm up included."""

    def __init__(self) -> None:
        self.ns = self.times = self.max_ns = 0

    def add(self, told: Mapping[str, int]) -> None:
        """The answer to a ``pace`` of the agent."""
        self.ns += told["behind_ns"]
        self.times += told["behind"]
        self.max_ns = max(self.max_ns, told["behind_max_ns"])

    @classmethod
    def of(cls, parts: Iterable[Behind]) -> Behind:
        """Several in one."""
        whole = cls()
        for part in parts:
            whole.add({"behind_ns": part.ns, "behind": part.times, "behind_max_ns": part.max_ns})
        return whole

    def facts(self) -> dict[str, Any]:
        """``generator_behind_ms`` in all, ``_times``, ``_max_ms``: by more than 1 ms each."""
        return {
            "generator_behind_ms": round(self.ns / 1e6, 3),
            "generator_behind_times": self.times,
            "generator_behind_max_ms": round(self.max_ns / 1e6, 3),
        }


def differ(hists: Mapping[str, Hist], service: str = SERVICE, response: str = RESPONSE) -> str:
    """Whether the generator's lateness shows, "" where a distribution is missing."""
    if service not in hists or response not in hists:
        return ""
    sent, due = hists[service].percentile(99), hists[response].percentile(99)
    if due <= sent * APART:
        return AGREE
    return f"they differ: p99 of response {due} ns, of service {sent} ns"


def facts(behind: Behind, series: Iterable[Series]) -> dict[str, Any]:
    """Of a whole case; ``response_and_service`` by series."""
    told = {one.name: differ(one.totals) for one in series}
    return {**behind.facts(), "response_and_service": {k: v for k, v in told.items() if v}}
