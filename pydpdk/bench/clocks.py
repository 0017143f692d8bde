"""What the figures' clocks are worth: the TSC against the kernel's clock, and from core to core.

Stage times and costs are TSC intervals, turned into ns by a rate measured for 5 ms when it is first
needed; times between processes are CLOCK_MONOTONIC, which the kernel makes of the same counter.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Sequence
from typing import Any

from pydpdk.bench.loops import ffi, lib
from pydpdk.errors import PydpdkError, check

TRIPS = 20_000
UNIT_TICKS = 1 << 40
PPM_MAX = 200.0  # beyond it the rate that made the figures is wrong, or a clock is
OFFSET_MAX_NS = 100.0


class Watch:
    """From its making to :meth:`result`: the TSC's rate over all that time, beside the worse of
    those that the core and the benchmark's loops measured for themselves."""

    def __init__(self) -> None:
        self._first = _pair()

    def result(self, cores: Sequence[int]) -> dict[str, Any]:
        """Plain values; ``cores``: those used, whose counters are compared pair by pair."""
        last = _pair()
        ticks = last.ticks - self._first.ticks
        ns = last.raw_ns - self._first.raw_ns
        true = ns / ticks
        rates = [told(UNIT_TICKS) / UNIT_TICKS for told in (lib.ticks_ns, lib.clock_ns)]
        used = max(rates, key=lambda rate: abs(rate / true - 1))
        error = (last.bracket + self._first.bracket) / 2 / max(ticks, 1)
        return {
            "stages": "TSC",
            "between_processes": "CLOCK_MONOTONIC",
            "tsc_hz": round(1e9 / true),
            "watched_s": round(ns / 1e9, 3),
            "rate_error_ppm": round((used / true - 1) * 1e6, 2),
            "rate_error_within_ppm": round(error * 1e6, 2),
            "look_ns": round(lib.ticks_cost() * used, 2),
            "offsets": [offset(a, b) for a, b in itertools.combinations(sorted(set(cores)), 2)],
        }


def _pair() -> Any:
    pair = ffi.new("struct clock_pair *")
    lib.clock_pair(pair)
    return pair


def offset(asks: int, answers: int) -> dict[str, Any]:
    """How far core ``answers`` is ahead of core ``asks``, ns, and the bound of the error."""
    bounce, best = ffi.new("struct clock_bounce *"), ffi.new("struct clock_offset *")
    failed: list[Exception] = []

    def answer() -> None:
        try:
            os.sched_setaffinity(0, {answers})  # of this thread alone
            check(lib.clock_answer(bounce, TRIPS), f"clock of core {answers}")
        except (OSError, PydpdkError) as error:
            failed.append(error)

    thread = threading.Thread(target=answer)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {asks})
    try:
        thread.start()
        check(lib.clock_ask(bounce, TRIPS, best), f"clock of core {asks}")
    finally:
        os.sched_setaffinity(0, before)
        thread.join()
    if failed:
        raise failed[0]
    ns = lib.ticks_ns(UNIT_TICKS) / UNIT_TICKS
    return {
        "cores": [asks, answers],
        "ahead_ns": round(best.offset * ns, 1),
        "within_ns": round(best.error * ns, 1),
    }


def warnings(clock: dict[str, Any]) -> list[str]:
    """What a careful reader would object to in :meth:`Watch.result`."""
    found = []
    if abs(clock["rate_error_ppm"]) > PPM_MAX + clock["rate_error_within_ppm"]:
        found.append(
            f"clock: the TSC's rate that made these figures was off by {clock['rate_error_ppm']} "
            "ppm over the run: another clock than the kernel's, or one that was stepped"
        )
    found += [
        f"clock: core {two['cores'][1]} is {two['ahead_ns']} ns ahead of core {two['cores'][0]}, "
        f"within {two['within_ns']} ns: TSC intervals across these cores are off by that"
        for two in clock["offsets"]
        if abs(two["ahead_ns"]) > two["within_ns"] + OFFSET_MAX_NS
    ]
    return found
