"""Checks of memory: what books, rings, hugepages and DMA want."""

from __future__ import annotations

from pydpdk.host.finding import SUDO_SELF, Finding, Question
from pydpdk.host.info import NODES
from pydpdk.host.nics import nics

FILES_MIN = 1024
RING_MB = 64


def memory(q: Question) -> Finding:
    free = q.host.memory.get("MemAvailable", 0) >> 20
    if free < 1024:
        return Finding(
            "memory", "warn", f"{free} MiB available, a full market's books want 1024",
            "free memory, or lower orders_max of the feed",
        )  # fmt: skip
    return Finding("memory", "ok", f"{free} MiB available")


def shared_memory(q: Question) -> Finding:
    free = q.host.free_bytes("/dev/shm")
    if free < 0:
        return Finding(
            "shared memory", "fail", "/dev/shm is not writable", "mount -t tmpfs tmpfs /dev/shm"
        )
    if free >> 20 < RING_MB:
        return Finding(
            "shared memory", "fail", f"{free >> 20} MiB free in /dev/shm",
            "mount -o remount,size=256M /dev/shm",
        )  # fmt: skip
    return Finding("shared memory", "ok", f"{free >> 20} MiB free in /dev/shm")


def hugepages(q: Question) -> Finding:
    """Free pages on the nodes of the engine's cores, against what it asks for."""
    nodes = {q.host.node_of_core(core) for core in q.cores}
    pools = q.host.hugepages()
    near = [pool for pool in pools if pool.node in nodes or -1 in (pool.node, *nodes)]
    free = {pool: pool.free * pool.size_kb >> 10 for pool in near}
    most = max(free.values(), default=0)  # of one size on one node
    told = [
        f"{pool.free} of {pool.size_kb >> 10} MiB free"
        + (f" on node {pool.node}" if len(q.host.nodes()) > 1 else "")
        for pool in pools
        if pool.total
    ]
    there = ", ".join(told) or "none"
    need = q.hugepages_mb
    where = "" if len(nodes) != 1 or -1 in nodes else f" --node {min(nodes)}"
    if most < need:
        return Finding(
            "hugepages", q.worst("run"), f"{need} MiB needed near {q.core_list}; {there}",
            f"{SUDO_SELF} host apply --hugepages {-(-need // 2)}{where}",
        )  # fmt: skip
    if most == 0:
        return Finding(
            "hugepages", "warn", "none free: DPDK runs with --no-huge",
            f"{SUDO_SELF} host apply --hugepages 512",
        )  # fmt: skip
    mounts = ", ".join(sorted(q.host.hugetlbfs().values())) or "not mounted, nor need it be"
    return Finding("hugepages", "ok", f"{there}; {mounts}")


def transparent(q: Question) -> Finding:
    text = q.host.read("/sys/kernel/mm/transparent_hugepage/enabled")
    chosen = text.partition("[")[2].partition("]")[0]
    if chosen == "always":
        return Finding(
            "transparent hugepages", "warn", "always: the kernel may stop a process to compact",
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        )  # fmt: skip
    return Finding("transparent hugepages", "ok", chosen or "not in this kernel")


def numa(q: Question) -> Finding:
    """Cores, NICs and hugepages of one engine belong on one node."""
    if len(q.host.nodes()) < 2:
        return Finding("numa", "ok", "one node")
    cores = {q.host.node_of_core(core) for core in q.cores}
    if len(cores) > 1:
        return Finding(
            "numa", "warn", f"cores {q.core_list} are on nodes {sorted(cores)}",
            "choose cores of one node: --cores N",
        )  # fmt: skip
    far = [nic for nic in nics(q.host) if nic.bound and nic.node >= 0 and nic.node not in cores]
    if far:
        return Finding(
            "numa", "warn",
            f"{far[0].label} is on node {far[0].node}, cores {q.core_list} on {min(cores)}",
            f"choose cores of that node: cat {NODES}/node{far[0].node}/cpulist",
        )  # fmt: skip
    return Finding("numa", "ok", f"node {min(cores)} of {len(q.host.nodes())}")


def locked(q: Question) -> Finding:
    limit = q.host.limit("Max locked memory")
    need = max(q.hugepages_mb, RING_MB) << 20
    if limit < 0 or limit >= need or "CAP_IPC_LOCK" in q.host.capabilities():
        return Finding("locked memory", "ok", "unlimited" if limit < 0 else f"{limit >> 20} MiB")
    return Finding(
        "locked memory", "warn",
        f"{limit >> 20} MiB: vfio locks all DMA memory, {need >> 20} MiB; af_xdp its buffers",
        "ulimit -l unlimited (limits.conf: memlock), or CAP_IPC_LOCK",
    )  # fmt: skip


def files(q: Question) -> Finding:
    limit = q.host.limit("Max open files")
    if 0 <= limit < FILES_MIN:
        return Finding("file descriptors", "warn", str(limit), f"ulimit -n {FILES_MIN}")
    return Finding("file descriptors", "ok", "unlimited" if limit < 0 else str(limit))
