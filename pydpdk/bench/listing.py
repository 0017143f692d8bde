"""The cases, without running them: what each measures and what this host lacks for it.

What a case needs beyond one core, its module says: ``needs(name)`` gives names of NEEDS. Without
it a case that is named after a kind of wire needs what that wire does.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from pydpdk.bench.run import CASES
from pydpdk.bench.wires.agents import SENDS
from pydpdk.source import eal


def _two_cores() -> str:
    return "" if len(os.sched_getaffinity(0)) > 1 else "two cores: taskset, cpuset"


def _dpdk() -> str:
    return "" if eal.version() else f"DPDK: {eal.INSTALL_DPDK}"


def _namespaces() -> str:
    try:
        from testbed.net import missing
    except ImportError:
        return "pip install 'pydpdk[testbed]'"
    return missing()


NEEDS: dict[str, Callable[[], str]] = {  # "" where the host has it, else what it lacks
    "two cores": _two_cores,
    "DPDK": _dpdk,
    "network namespaces": _namespaces,
}


def of_wire(name: str) -> tuple[str, ...]:
    """Sender and receiver have a core each; kernel wires are in namespaces of their own."""
    kind = name.partition("-")[2]
    if kind not in SENDS:
        return ()
    dpdk = () if kind == "tpacket" else ("DPDK",)
    return ("two cores", *dpdk, *(("network namespaces",) if SENDS[kind] == "tpacket" else ()))


def describe() -> list[dict[str, Any]]:
    """A row a case, in the order they run."""
    lacks = {name: lacking() for name, lacking in NEEDS.items()}
    rows = []
    for name, case in CASES.items():
        function = case.func if isinstance(case, partial) else case
        module = sys.modules[inspect.unwrap(function).__module__]
        needs: Callable[[str], tuple[str, ...]] = getattr(module, "needs", of_wire)
        rows.append(
            {
                "name": name,
                "measures": (inspect.getdoc(function) or "").partition("\n")[0],
                "needs": list(needs(name)),
                "lacks": [lacks[need] for need in needs(name) if lacks[need]],
            }
        )
    return rows
