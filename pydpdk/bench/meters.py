"""What the host did to the cores in use meanwhile: steal, interrupts, other people's work.

All of it is differences of the kernel's own counters: /proc/stat counts in ticks of 10 ms,
/proc/interrupts counts each interrupt of each core (proc(5)).
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable
from typing import Any

from pydpdk.errors import PydpdkError
from pydpdk.host import stall
from pydpdk.host.info import Host

USER, NICE, SYSTEM, IRQ, SOFTIRQ, STEAL = 0, 1, 2, 5, 6, 7  # columns of /proc/stat
STALL_S = 0.3


def used(cores: list[int]) -> list[int]:
    """Those of the cores it may use that a benchmark puts work on."""
    return sorted({*cores[:2], *cores[-2:]})


def own() -> tuple[float, int]:
    """Processor seconds and involuntary switches of this process and its ended children."""
    told = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in told), sum(one.ru_nivcsw for one in told)


class Meter:
    """From its making to :meth:`stop`, on these cores."""

    def __init__(self, cores: Iterable[int], host: Host | None = None) -> None:
        self._host = host or Host()
        self._cores = sorted(cores)
        self._begun = time.monotonic()
        self._stat, self._interrupts = self._look()

    def stop(self, own_s: float, preempted: int) -> dict[str, Any]:
        """As plain values. ``own_s``: what the benchmark itself used of these cores, ``preempted``
        its involuntary switches; ``others_ms``: the processor time of everybody else."""
        stat, interrupts = self._look()
        tick_ms = 1000 / os.sysconf("SC_CLK_TCK")
        cores, busy_ms = {}, 0.0
        for core in self._cores:
            if core not in stat or core not in self._stat:
                continue
            spent = [b - a for a, b in zip(self._stat[core], stat[core], strict=True)]
            busy_ms += tick_ms * (spent[USER] + spent[NICE] + spent[SYSTEM])
            cores[str(core)] = {
                "steal_ms": tick_ms * spent[STEAL],
                "interrupt_ms": tick_ms * (spent[IRQ] + spent[SOFTIRQ]),
                "interrupts": interrupts.get(core, 0) - self._interrupts.get(core, 0),
            }
        return {
            "seconds": round(time.monotonic() - self._begun, 3),
            "others_ms": max(0.0, round(busy_ms - own_s * 1e3, 1)),
            "preempted": preempted,
            "cores": cores,
        }

    def _look(self) -> tuple[dict[int, list[int]], dict[int, int]]:
        stat: dict[int, list[int]] = {}
        for line in self._host.read("/proc/stat").splitlines():
            name, *columns = line.split()
            if name.startswith("cpu") and name[3:].isdigit():
                stat[int(name[3:])] = [int(column) for column in columns[:8]]
        head, *rows = self._host.read("/proc/interrupts").splitlines() or [""]
        numbers = [int(name[3:]) for name in head.split()]
        counts = dict.fromkeys(numbers, 0)
        for row in rows:
            for core, count in zip(numbers, row.split()[1:], strict=False):
                if not count.isdigit():
                    break
                counts[core] += int(count)
        return stat, counts


def stalls(cores: Iterable[int]) -> list[dict[str, Any]]:
    """What takes these cores away from a spinning thread, as pydpdk.host.stall tells it.

    None where it may not spin on them.
    """
    try:
        return [found.to_dict() for found in stall.measure(cores, STALL_S)]
    except PydpdkError:
        return []
