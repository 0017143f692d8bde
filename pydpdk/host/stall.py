"""What isolation really gives: the gaps that a spinning thread sees on each core."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydpdk._core import ffi, lib
from pydpdk.errors import HostError, UsageError, check

SECONDS_MAX = 3600
THRESHOLD_NS = 1000


@dataclass(frozen=True)
class Stall:
    """The gaps of one core; nanoseconds of its cycle counter.

    ``buckets``: (lower bound, count) of each octave that has any; ``largest``: (begin, length) of
    the longest, by begin, begin in nanoseconds since ``started_ns`` (UTC, CLOCK_REALTIME).
    """

    core: int
    started_ns: int
    elapsed_ns: int
    looks: int
    count: int
    sum_ns: int
    max_ns: int
    buckets: tuple[tuple[int, int], ...]
    largest: tuple[tuple[int, int], ...]

    def percentile(self, percent: float) -> int:
        """Upper bound of the octave that holds it; 0 without a gap."""
        left = percent / 100 * self.count
        for low, count in self.buckets:
            left -= count
            if left <= 0:
                return min(2 * low - 1, self.max_ns)
        return 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "core": self.core,
            "started_ns": self.started_ns,
            "elapsed_ns": self.elapsed_ns,
            "looks": self.looks,
            "count": self.count,
            "sum_ns": self.sum_ns,
            "lost_share": self.sum_ns / self.elapsed_ns if self.elapsed_ns else 0.0,
            "p50_ns": self.percentile(50),
            "p90_ns": self.percentile(90),
            "p99_ns": self.percentile(99),
            "max_ns": self.max_ns,
            "buckets": [{"from_ns": low, "count": count} for low, count in self.buckets],
            "largest": [{"at_ns": at, "ns": ns} for at, ns in self.largest],
        }


class _Meter(threading.Thread):
    """Measures on one core; ``error`` says why it could not."""

    def __init__(self, core: int, ns: int, threshold_ns: int) -> None:
        super().__init__(name=f"stall-{core}", daemon=True)
        self.core, self.ns, self.threshold_ns = core, ns, threshold_ns
        self.result = ffi.new("struct stall_result *")
        self.started_ns = 0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            os.sched_setaffinity(0, {self.core})  # of this thread alone
        except OSError as error:
            self.error = HostError(
                f"core {self.core}: {error.strerror}: choose one of"
                f" {sorted(os.sched_getaffinity(0))}, or widen the cpuset"
            )
            return
        self.started_ns = time.time_ns()
        try:
            check(lib.stall_measure(self.ns, self.threshold_ns, self.result), "stall meter")
        except Exception as error:
            self.error = error

    def stall(self) -> Stall:
        if self.error:
            raise self.error
        r = self.result
        largest = sorted((r.largest_at_ns[i], r.largest_ns[i]) for i in range(r.largest))
        buckets = ((1 << i, count) for i, count in enumerate(r.bucket) if count)
        return Stall(
            self.core, self.started_ns, r.elapsed_ns, r.looks, r.count, r.sum_ns, r.max_ns,
            tuple(buckets), tuple(largest),
        )  # fmt: skip


def measure(
    cores: Iterable[int], seconds: float, threshold_ns: int = THRESHOLD_NS
) -> tuple[Stall, ...]:
    """Spin on every core at once for ``seconds`` and say what took each of them away.

    Gaps below ``threshold_ns`` are not counted. Raises UsageError for a duration that is not above
    0 and at most an hour, or a threshold below 1; HostError for a core this process may not use.
    """
    ns = round(seconds * 1e9)
    if not 0 < ns <= SECONDS_MAX * 10**9:
        raise UsageError(f"{seconds} seconds: above 0, at most {SECONDS_MAX}")
    if threshold_ns < 1:
        raise UsageError(f"threshold {threshold_ns} ns: at least 1")
    lib.ticks_ns(1)  # measures the counter's rate before anybody spins
    meters = [_Meter(core, ns, threshold_ns) for core in sorted(set(cores))]
    for meter in meters:
        meter.start()
    try:
        for meter in meters:
            meter.join()
    finally:  # Ctrl-C: the threads must not spin on
        for meter in meters:
            meter.result.stop = 1
    return tuple(meter.stall() for meter in meters)
