"""What would have to change on a host: a plan is a list of steps, made by only looking."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydpdk.errors import HostError, UsageError
from pydpdk.host.corechecks import recommended
from pydpdk.host.finding import Question
from pydpdk.host.info import CPUS, HUGEPAGES, NODES, Host, format_cores
from pydpdk.host.nics import BIFURCATED_DRIVERS, PCI, Nic, is_network, pci_nic, same_group
from pydpdk.host.routes import above, needed
from pydpdk.host.step import NO_OVERRIDE, Step, loaded

DRIVERS = ("vfio-pci", "uio_pci_generic")
UNSAFE = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
SHARE = 50


@dataclass(frozen=True)
class Wish:
    """What a host should have.

    ``hugepages``: free pages of ``size_kb``, on ``node`` or wherever the kernel likes, for at most
    ``share`` percent of the free memory. ``bind``: PCI addresses for ``driver``. ``cores``: of the
    engine, which interrupts leave (``irqs``) and which run at full clock (``governor``).
    """

    hugepages: int = 0
    size_kb: int = 2048
    node: int | None = None
    share: int = SHARE
    bind: tuple[str, ...] = ()
    driver: str = "vfio-pci"
    unsafe_noiommu: bool = False
    cores: tuple[int, ...] = ()
    irqs: bool = False
    governor: bool = False


@dataclass(frozen=True)
class Plan:
    """Steps in order; ``command_line``: kernel parameters to add by hand; ``notes``: to know."""

    steps: tuple[Step, ...]
    command_line: tuple[str, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "steps": [step.to_dict() for step in self.steps],
            "command_line": list(self.command_line),
            "notes": list(self.notes),
        }


def plan(host: Host, wish: Wish, environment: Mapping[str, str] = os.environ) -> Plan:
    """What is missing of ``wish``. HostError for what must not or cannot be done on this host,
    UsageError for what no host has."""
    if (wish.irqs or wish.governor) and not wish.cores:
        raise UsageError("interrupts and governor are about cores: --cores 2,3")
    if missing := set(wish.cores) - set(host.online):
        raise UsageError(f"no core {format_cores(missing)}: there are {format_cores(host.online)}")
    steps = (
        *_hugepages(host, wish),
        *_binding(host, wish, environment),
        *(_interrupts(host, wish) if wish.irqs else ()),
        *(_governor(host, wish) if wish.governor else ()),
    )
    return Plan(steps, _command_line(host, wish), tuple(_notes(host, wish)))


# --- hugepages ---


def _hugepages(host: Host, wish: Wish) -> Iterator[Step]:
    if not wish.hugepages:
        return
    top = HUGEPAGES if wish.node is None else f"{NODES}/node{wish.node}/hugepages"
    folder = f"{top}/hugepages-{wish.size_kb}kB"
    if not host.path(folder).exists():
        there = ", ".join(host.names(top)) or "none"
        raise HostError(f"no hugepages of {wish.size_kb} kB here: there are {there}")
    total, free = (host.number(f"{folder}/{name}_hugepages") for name in ("nr", "free"))
    more = wish.hugepages - free
    if more > 0:
        _check_share(host, wish, more)
        yield Step(
            "hugepages", f"{folder}/nr_hugepages", f"{total}\n", f"{total + more}\n",
            f"{wish.hugepages} free hugepages of {wish.size_kb >> 10} MiB"
            + ("" if wish.node is None else f" on node {wish.node}"),
        )  # fmt: skip
    if wish.size_kb not in host.hugetlbfs():
        large = wish.size_kb >= 1 << 20
        target = "/dev/hugepages-1G" if large else "/dev/hugepages"
        option = f"pagesize={wish.size_kb >> 20}G" if large else f"pagesize={wish.size_kb >> 10}M"
        made = "" if host.path(target).is_dir() else "made"
        yield Step("mount", target, made, option, f"mount hugetlbfs at {target}")


def _check_share(host: Host, wish: Wish, more: int) -> None:
    free = host.memory.get("MemAvailable", 0) >> 10
    if wish.node is not None:
        match = re.search(r"MemFree:\s+(\d+) kB", host.read(f"{NODES}/node{wish.node}/meminfo"))
        free = int(match[1]) if match else 0
    most = free * wish.share // 100 // wish.size_kb
    if more > most:
        raise HostError(
            f"{more} more hugepages are {more * wish.size_kb >> 10} MiB, and {wish.share} % of the"
            f" {free >> 10} MiB free is enough for {most}: ask for {most}, free memory, or --share"
        )


# --- drivers ---


def _binding(host: Host, wish: Wish, environment: Mapping[str, str]) -> Iterator[Step]:
    if wish.driver not in DRIVERS:
        raise UsageError(f"driver {wish.driver}: one of {', '.join(DRIVERS)}")
    devices = {nic.pci: nic for nic in (_device(host, address) for address in wish.bind)}
    todo = [nic for nic in devices.values() if nic.driver != wish.driver]
    for nic in todo:
        _check_free(host, nic, environment)
        _check_override(host, nic, wish.driver)
        if wish.driver == "vfio-pci":
            _check_iommu(host, nic, devices, wish.unsafe_noiommu)
    if not todo:
        return
    if not loaded(host, wish.driver):
        yield Step("module", wish.driver, "", "loaded", f"load kernel module {wish.driver}")
    if wish.unsafe_noiommu and host.read(UNSAFE) not in ("Y", "1"):
        yield Step("write", UNSAFE, "N\n", "1\n", "let vfio work without an IOMMU (unsafe)")
    for nic in todo:
        was = f", from {nic.driver}" if nic.driver else ""
        yield Step(
            "driver", f"{PCI}/{nic.pci}", nic.driver, wish.driver,
            f"give {nic.label} to {wish.driver}{was}",
        )  # fmt: skip


def _device(host: Host, address: str) -> Nic:
    match = re.fullmatch(r"([0-9a-f]{4}:)?([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])", address.lower())
    if not match:
        raise UsageError(f"{address!r} is no PCI address: 0000:3b:00.0")
    pci = (match[1] or "0000:") + match[2]
    if not host.path(f"{PCI}/{pci}").exists():
        known = [name for name in host.names(PCI) if is_network(host, name)]
        raise HostError(f"no PCI device {pci}: network devices are {', '.join(known) or 'none'}")
    if not is_network(host, pci):
        raise HostError(f"{pci} is no network device (class {host.read(f'{PCI}/{pci}/class')})")
    return pci_nic(host, pci)


def _check_free(host: Host, nic: Nic, environment: Mapping[str, str]) -> None:
    if nic.driver in BIFURCATED_DRIVERS:
        raise HostError(
            f"{nic.label} stays with {nic.driver}: DPDK works beside it, use pci:{nic.pci} as it is"
        )
    why = needed(host, environment)
    for name in nic.names:
        for user in sorted(above(host, name)):
            if user in why:
                raise HostError(
                    f"{nic.label} carries {why[user]} (through {user}): this host would be cut"
                    " off: choose another device"
                )


def _check_override(host: Host, nic: Nic, driver: str) -> None:
    now = host.read(f"{PCI}/{nic.pci}/driver_override")
    if now not in ("", NO_OVERRIDE, driver):
        raise HostError(f"{nic.pci} is reserved for {now}: echo > {PCI}/{nic.pci}/driver_override")


def _check_iommu(host: Host, nic: Nic, wished: Collection[str], unsafe: bool) -> None:
    if not nic.group and not unsafe:
        raise HostError(
            f"{nic.pci} has no IOMMU: boot with intel_iommu=on iommu=pt, or accept that the device"
            " may write all memory: --unsafe-noiommu"
        )
    others = [other for other in same_group(host, nic) if other.pci not in wished]
    if others:
        there = ", ".join(f"{other.label} ({other.driver})" for other in others)
        raise HostError(
            f"{nic.pci} shares IOMMU group {nic.group} with {there}: bind those too, or use a slot"
            " of its own"
        )


# --- cores ---


def _interrupts(host: Host, wish: Wish) -> Iterator[Step]:
    rest = set(host.online) - set(wish.cores)
    if not rest:
        raise UsageError(f"cores {format_cores(wish.cores)} are all: none is left for interrupts")
    for name in sorted(filter(str.isdigit, host.names("/proc/irq")), key=int):
        path = f"/proc/irq/{name}/smp_affinity_list"
        now = set(host.cores(path))
        if now & set(wish.cores):
            then = format_cores((now & rest) or rest)
            yield Step(
                "write",
                path,
                f"{host.read(path)}\n",
                f"{then}\n",
                f"interrupt {name} to {then}",
                True,
            )
    path = "/proc/irq/default_smp_affinity"
    text = host.read(path)
    now = {core for core in range(4096) if _mask(text) >> core & 1}
    if now & set(wish.cores):
        new = sum(1 << core for core in (now & rest) or rest)
        yield Step(
            "write",
            path,
            f"{text}\n",
            f"{_hex(new)}\n",
            f"new interrupts to {format_cores(rest)}",
            True,
        )


def _mask(text: str) -> int:
    """``ff,ffffffff``: 32 bits a group."""
    return int(text.replace(",", "") or "0", 16)


def _hex(mask: int) -> str:
    groups: list[str] = []
    while mask or not groups:
        groups.append(f"{mask & 0xFFFFFFFF:x}" if mask >> 32 == 0 else f"{mask & 0xFFFFFFFF:08x}")
        mask >>= 32
    return ",".join(reversed(groups))


def _governor(host: Host, wish: Wish) -> Iterator[Step]:
    for core in wish.cores:
        folder = f"{CPUS}/cpu{core}/cpufreq"
        now = host.read(f"{folder}/scaling_governor")
        if now in ("", "performance"):
            continue
        if "performance" not in host.read(f"{folder}/scaling_available_governors").split():
            raise HostError(
                f"core {core} has no governor 'performance': modprobe cpufreq_performance"
            )
        yield Step(
            "write", f"{folder}/scaling_governor", f"{now}\n", "performance\n",
            f"core {core} at full clock, from {now}",
        )  # fmt: skip


# --- what only a person can do ---


def _command_line(host: Host, wish: Wish) -> tuple[str, ...]:
    """Parameters this host's kernel was not booted with."""
    have = host.command_line
    wanted = recommended(Question(host, "run", wish.cores, chosen=True)) if wish.cores else {}
    if wish.hugepages and wish.size_kb >= 1 << 20:
        wanted |= {"hugepagesz": f"{wish.size_kb >> 20}G", "hugepages": str(wish.hugepages)}
    if wish.bind and not host.names("/sys/kernel/iommu_groups"):
        if "GenuineIntel" in host.read("/proc/cpuinfo"):
            wanted["intel_iommu"] = "on"
        wanted["iommu"] = "pt"
    return tuple(f"{name}={value}" for name, value in wanted.items() if have.get(name) != value)


def _notes(host: Host, wish: Wish) -> Iterator[str]:
    if wish.irqs and host.running(["irqbalance"]):
        yield "irqbalance runs and would move interrupts back: systemctl stop irqbalance"
    if wish.governor and not any(host.path(f"{CPUS}/cpu{c}/cpufreq").exists() for c in wish.cores):
        yield "this kernel does not control the clock of its cores (a virtual machine?)"
    if wish.hugepages and wish.node is None and len(host.nodes()) > 1:
        yield "the kernel spreads hugepages over all nodes; --node says which"
    for address in wish.bind:
        nic = _device(host, address)
        for name in nic.names:
            yield f"interface {name} goes away, with its addresses; undo brings back the interface"
