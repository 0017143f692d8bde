"""What a host must have for each purpose: one row a finding, with the command that mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pydpdk.host import corechecks as core
from pydpdk.host import memorychecks as memory
from pydpdk.host import runchecks as run
from pydpdk.host import wirechecks as wire
from pydpdk.host.finding import PURPOSES, Finding, Question
from pydpdk.host.info import Host
from pydpdk.process import footprint
from pydpdk.process.config import Config

__all__ = ["PURPOSES", "Finding", "checks"]

Check = Callable[[Question], Finding | list[Finding]]

BASE: tuple[Check, ...] = (
    wire.kernel, core.cpu, core.tsc, core.cores, memory.memory, memory.shared_memory, memory.files,
    wire.dpdk,
)  # fmt: skip
QUIET: tuple[Check, ...] = (
    core.isolation, wire.command_line, core.cpu_quota, core.governor, core.idle_states,
    core.siblings, core.interrupts, core.irqbalance, core.busy, memory.transparent, memory.numa,
)  # fmt: skip
LIVE: tuple[Check, ...] = (
    memory.hugepages, memory.locked, wire.rights, wire.iommu, wire.vfio, wire.devices,
    wire.time_sync,
)  # fmt: skip
TABLE: dict[str, tuple[Check, ...]] = {
    "replay": BASE,
    "bench": (*BASE, *QUIET, core.load),
    "run": (*BASE, *QUIET, *LIVE),
}


def table(purpose: str, config: Config | None) -> tuple[Check, ...]:
    """Checks in order; a configuration says more exactly what is needed."""
    if config is None:
        return TABLE[purpose]
    huge = (memory.hugepages,) if config.eal.hugepages else ()
    pci = (wire.iommu, wire.vfio) if config.eal.pci else ()
    return (
        wire.kernel, core.cpu, core.tsc, core.cores, run.loops, memory.files, wire.dpdk, *QUIET,
        run.memory, run.shared_memory, run.eal_memory, *huge, run.locked, run.rights,
        *pci, run.sources, run.groups, wire.time_sync,
    )  # fmt: skip


def checks(
    purpose: str,
    cores: Iterable[int] = (),
    hugepages_mb: int = 0,
    host: Host | None = None,
    config: Config | None = None,
) -> list[Finding]:
    """Findings for one of PURPOSES.

    ``cores``: which the engine would use, else those of ``config``, else the isolated ones, else
    all it may use; ``hugepages_mb``: how much it asks for; ``host``: this machine unless a test
    made one up; ``config``: what is to be run.
    """
    host = host or Host()
    chosen = tuple(sorted(set(cores))) or (footprint.cores(config) if config else ())
    if config and config.eal.hugepages:
        hugepages_mb = hugepages_mb or config.eal.memory_mb
    question = Question(
        host, purpose, chosen or host.isolated or host.allowed(), hugepages_mb, bool(chosen), config
    )
    rows: list[Finding] = []
    for check in table(purpose, config):
        found = check(question)
        rows += found if isinstance(found, list) else [found]
    return rows
