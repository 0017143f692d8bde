"""Checks of what one configuration needs: memory, rights, the devices and groups it names."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Sequence

from pydpdk._core import lib
from pydpdk.errors import DataError, HostError, UsageError
from pydpdk.host.finding import SUDO_SELF, Finding, Question
from pydpdk.host.info import NODES
from pydpdk.host.nics import BIFURCATED_DRIVERS, NET, PCI, Nic, nics, pci_nic
from pydpdk.host.traps import mend, traps
from pydpdk.host.wirechecks import NEEDED, grant
from pydpdk.process import footprint
from pydpdk.process.config import Config, FeedPlan, SourcePlan

MB = 1 << 20


def _config(q: Question) -> Config:
    assert q.config is not None
    return q.config


def _mb(size: int) -> int:
    return -(-size // MB)


def loops(q: Question) -> Finding:
    config = _config(q)
    free = [plan.feed.name for plan in config.feeds if plan.core is None]
    if free:
        return Finding(
            "receive loops", "warn", f"{', '.join(free)} has no core: the scheduler moves its loop",
            f"core = N for it in {config.path}",
        )  # fmt: skip
    told = (f"core {loop.core}: {_names(loop.feeds)}" for loop in config.loops())
    return Finding("receive loops", "ok", "; ".join(told))


def _names(feeds: Sequence[FeedPlan]) -> str:
    return ", ".join(plan.feed.name for plan in feeds)


def memory(q: Question) -> Finding:
    """What is taken at start must be there; what stages may grow into should be."""
    config, free = _config(q), q.host.memory.get("MemAvailable", 0)
    parts = {
        "books": footprint.books(config),
        "rings, instruments and flight recorders": footprint.shared(config),
        "sockets": footprint.sockets(config),
        "EAL": footprint.eal_memory(config),
    }
    sure, may = sum(parts.values()), footprint.mirrors(config)
    told = ", ".join(f"{name} {_mb(size)}" for name, size in parts.items() if size)
    found = f"{free >> 20} MiB available; taken at start {_mb(sure)}: {told}"
    if may:
        found += f"; books of stages up to {_mb(may)}"
    lower = f"lower orders_max and levels_max of its feeds in {config.path}, or free memory"
    if sure + may > free:
        return Finding("memory", "fail" if sure > free else "warn", found, lower)
    return Finding("memory", "ok", found)


def shared_memory(q: Question) -> Finding:
    config, free = _config(q), q.host.free_bytes("/dev/shm")
    if free < 0:
        return Finding(
            "shared memory", "fail", "/dev/shm is not writable", "mount -t tmpfs tmpfs /dev/shm"
        )
    wanted = footprint.shared(config)
    users = "rings, instruments and flight recorders"
    found = f"{free >> 20} MiB free in /dev/shm, {_mb(wanted)} needed by {users}"
    if free < wanted:
        size = _mb(q.host.used_bytes("/dev/shm") + wanted)
        return Finding(
            "shared memory", "fail", found,
            f"mount -o remount,size={size}M /dev/shm, or lower flight_mb in {config.path}",
        )  # fmt: skip
    return Finding("shared memory", "ok", found)


def eal_memory(q: Question) -> Finding:
    config = _config(q)
    wanted, have = _mb(footprint.pools(config)), config.eal.memory_mb
    if not wanted:
        return Finding("eal memory", "ok", "not needed: no source has a DPDK driver")
    kind = "hugepages" if config.eal.hugepages else "ordinary memory"
    found = f"{wanted} MiB of mbufs, memory_mb = {have} of {kind}"
    if wanted > have:
        return Finding(
            "eal memory", "fail", found, f"memory_mb = {wanted} under [eal] in {config.path}"
        )
    return Finding("eal memory", "ok", found)


def locked(q: Question) -> Finding:
    limit, wanted = q.host.limit("Max locked memory"), footprint.locked(_config(q))
    found = f"{_mb(wanted)} MiB needed, limit {'none' if limit < 0 else f'{limit >> 20} MiB'}"
    if not _short(q):
        return Finding("locked memory", "ok", found)
    if "CAP_IPC_LOCK" in q.host.capabilities():
        return Finding("locked memory", "ok", f"{found}, not for CAP_IPC_LOCK")
    return Finding(
        "locked memory", "fail", found,
        f"ulimit -l unlimited (limits.conf: memlock), or: {grant(_wanted(q))}",
    )  # fmt: skip


def _short(q: Question) -> bool:
    return 0 <= q.host.limit("Max locked memory") < footprint.locked(_config(q))


def _wanted(q: Question) -> dict[str, str]:
    """The capabilities that are needed, each with a source that needs it."""
    sources = _config(q).sources
    return {
        name: by[0]
        for name in NEEDED
        if (by := [source.name for source in sources if name in source.device.kind.needs])
        and (name != "CAP_IPC_LOCK" or _short(q))
    }


def rights(q: Question) -> Finding:
    wanted = _wanted(q)
    lacking = [name for name in wanted if name not in q.host.capabilities()]
    lacking = [name for name in lacking if name != "CAP_IPC_LOCK"]  # of which locked() tells
    if lacking:
        told = "; ".join(f"no {name}, which source {wanted[name]} needs" for name in lacking)
        return Finding("rights", "fail", told, grant(wanted))
    return Finding("rights", "ok", ", ".join(wanted) or "its sources need none")


# --- sources ---


def sources(q: Question) -> list[Finding]:
    """For each source: is its device there, whose is it, is it near its core?"""
    return [_source(q, source) for source in _config(q).sources]


def _source(q: Question, source: SourcePlan) -> Finding:
    device = source.device
    name = f"source {source.name}"
    if device.eal_options.pci:
        return _pci(q, name, source)
    if device.interface and not device.kind.makes:
        return _interface(q, name, source)
    try:
        device.kind.check(device.argument)
    except (HostError, UsageError, DataError) as error:
        return _refused(q, name, source, error)
    return Finding(name, "ok", device.spec)


def _refused(q: Question, name: str, source: SourcePlan, error: Exception) -> Finding:
    found, _, remedy = str(error).rpartition(": ")
    other = f"another device for source {source.name} in {_config(q).path}"
    return Finding(
        name, "fail", f"{source.device.spec}: {found or remedy}", remedy if found else other
    )


def _interface(q: Question, name: str, source: SourcePlan) -> Finding:
    device, interface = source.device, source.device.interface
    real = q.host.running_kernel  # sysfs shows the namespace that it was mounted in
    there = [found for _, found in socket.if_nameindex()] if real else q.host.names(NET)
    if interface not in there:
        found = f"{device.spec}: no such interface: there are {', '.join(there)}"
        return Finding(name, "fail", found, "ip link")
    if real:
        try:
            device.kind.check(interface)
        except (HostError, UsageError) as error:
            return _refused(q, name, source, error)
    nic = next((nic for nic in nics(q.host) if interface in nic.names), None)
    if nic is None:
        return Finding(name, "ok", device.spec)
    if not device.kind.interface_mtu and nic.mtu > source.mtu:
        return Finding(
            name, "warn", f"{device.spec}: MTU {nic.mtu}, longer frames than {source.mtu} are cut",
            f"mtu = {nic.mtu} for source {source.name} in {_config(q).path}",
        )  # fmt: skip
    return _nic(q, name, source, nic)


def _pci(q: Question, name: str, source: SourcePlan) -> Finding:
    address = source.device.argument
    if not q.host.names(f"{PCI}/{address}"):
        known = ", ".join(nic.pci for nic in nics(q.host) if nic.pci) or "none"
        found = f"no PCI device {address}: network devices are {known}"
        return Finding(name, "fail", found, "dpdk-devbind.py --status-dev net")
    nic = pci_nic(q.host, address)
    if not nic.bound and nic.driver not in BIFURCATED_DRIVERS:
        return Finding(
            name, "fail", f"{nic.label} is held by {nic.driver or 'no driver'}",
            f"{SUDO_SELF} host apply --bind {address}",
        )  # fmt: skip
    group = q.host.path(f"/dev/vfio/{nic.group}")
    if nic.driver == "vfio-pci" and nic.group and not os.access(group, os.R_OK | os.W_OK):
        return Finding(
            name, "fail", f"{nic.label}: /dev/vfio/{nic.group} is not ours",
            f"sudo chown $USER /dev/vfio/{nic.group}",
        )  # fmt: skip
    return _nic(q, name, source, nic)


def _nic(q: Question, name: str, source: SourcePlan, nic: Nic) -> Finding:
    told = [nic.driver or "no driver", nic.version, nic.firmware and f"firmware {nic.firmware}"]
    found = f"{source.device.spec}: {' '.join(filter(None, told))}, MTU {nic.mtu or source.mtu}"
    there = [trap for trap in traps(nic) if trap.drivers or trap.ids or source.device.kind.xdp]
    if there:
        what = "; ".join(f"{trap.what} ({trap.source})" for trap in there)
        return Finding(name, "warn", f"{found}: {what}", mend(there[0], nic))
    far = [core for core in _cores(q, source) if nic.node not in (-1, q.host.node_of_core(core))]
    if far:
        return Finding(
            name, "warn", f"{found}: on node {nic.node}, core {far[0]} is not",
            f"choose a core of that node: cat {NODES}/node{nic.node}/cpulist",
        )  # fmt: skip
    return Finding(name, "ok", found + (f", node {nic.node}" if nic.node >= 0 else ""))


def _cores(q: Question, source: SourcePlan) -> list[int]:
    loops = _config(q).loops()
    return [loop.core for loop in loops if source in loop.sources and loop.core is not None]


def groups(q: Question) -> Finding:
    """Each group has a socket of its own where the kernel joins; a place in a list where we do."""
    config, own, kernel = _config(q), 0, 0
    for source in config.sources:
        hosts = {
            line.host
            for plan in config.feeds
            if source.name in plan.sources
            for line in plan.feed.lines
            if ipaddress.ip_address(line.host).is_multicast
        }
        if source.device.kind.joins == "kernel":
            kernel += len(hosts)
        elif source.device.kind.joins == "own":
            own = max(own, len(hosts))
    limit = q.host.number("/proc/sys/net/ipv4/igmp_max_memberships", 20)
    if kernel and limit < 1:
        return Finding(
            "groups", "fail", f"net.ipv4.igmp_max_memberships = {limit}: no socket may join",
            "sysctl net.ipv4.igmp_max_memberships=20",
        )  # fmt: skip
    if own > lib.IGMP_GROUPS_MAX:
        return Finding(
            "groups", "fail", f"{own} on one source, our IGMP holds {lib.IGMP_GROUPS_MAX}",
            f"share its feeds out over more sources in {config.path}",
        )  # fmt: skip
    files = q.host.limit("Max open files")
    if 0 <= files < kernel + 256:
        return Finding(
            "groups", "fail", f"{kernel} sockets, {files} files", f"ulimit -n {kernel + 256}"
        )
    told = f"{kernel} by kernel sockets, of which each may hold {limit}; at most {own} by our IGMP"
    return Finding("groups", "ok", told)
