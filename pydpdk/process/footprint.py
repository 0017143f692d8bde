"""What a configuration takes of a host, worked out without opening anything. Sizes in bytes.

Rings, tables of instruments and flight recorders are files in /dev/shm, taken whole at start. The
books of a live engine are too; those of a stage (its mirror) are reserved and grow into what the
market needs. mbufs come out of EAL's memory (``memory_mb``); a packet socket's ring out of the
kernel's.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from pydpdk._core import ffi, lib
from pydpdk.core.instruments import FEED_BYTES
from pydpdk.engine.engine import ring_slots
from pydpdk.engine.feed import Feed
from pydpdk.errors import check
from pydpdk.process.config import Config, LoopPlan, SourcePlan
from pydpdk.source.opening import queue_bytes

RECORD = 64


def slots(config: Config, loop: LoopPlan) -> int:
    """Records that the ring of a loop holds."""
    return max(config.ring_slots, ring_slots([plan.feed for plan in loop.feeds]))


def flight_bytes(loop: LoopPlan) -> int:
    """Size of a loop's flight recorder, a power of two; 0: it has none."""
    size = sum(source.flight_mb for source in loop.sources) << 20
    return 1 << (size - 1).bit_length() if size else 0


def shared(config: Config) -> int:
    """Shared memory of all rings, tables of instruments and flight recorders."""
    loops = config.loops()
    rings = sum(slots(config, loop) * RECORD + flight_bytes(loop) for loop in loops)
    return rings + len(config.feeds) * FEED_BYTES


def ports(config: Config) -> Iterator[tuple[SourcePlan, int]]:
    """Sources behind a DPDK driver, and the queues asked of each."""
    for source in config.sources:
        if source.device.kind.dpdk and (queues := config.queues(source.name)):
            yield source, queues


def pools(config: Config) -> int:
    """Of mbufs: what EAL's memory must hold."""
    return sum(queues * queue_bytes(source.mtu) for source, queues in ports(config))


def sockets(config: Config) -> int:
    """Kernel memory of the packet sockets' receive rings."""
    return sum(
        source.rx_ring_mb * config.queues(source.name) << 20
        for source in config.sources
        if source.device.kind.ring
    )


def locked(config: Config) -> int:
    """What counts against RLIMIT_MEMLOCK: a process without CAP_IPC_LOCK may not have more.

    net_af_packet maps its rings locked, AF_XDP pins its buffers, vfio all of EAL's memory.
    """
    size = 0
    for source, queues in ports(config):
        if source.device.kind.locks == "ring":
            size += source.rx_ring_mb * queues << 20
        elif source.device.kind.locks == "pools":
            size += queues * queue_bytes(source.mtu)
    memory = any(source.device.kind.locks == "memory" for source, _ in ports(config))
    return size + (config.eal.memory_mb << 20 if memory else 0)


def books(config: Config) -> int:
    """Memory of the engine's books."""
    return sum(_feed_books(plan.feed) for plan in config.feeds)


def mirrors(config: Config) -> int:
    """Memory that the books of all stages may grow into."""
    feeds = {loop.core: [plan.feed for plan in loop.feeds] for loop in config.loops()}
    return sum(_feed_books(feed) for stage in config.stages for feed in feeds[stage.core])


def _feed_books(feed: Feed) -> int:
    return _books(feed.orders_max, feed.levels_max)


@cache
def _books(orders_max: int, levels_max: int) -> int:
    out = ffi.new("struct books **")
    config = {"orders_max": orders_max, "levels_max": levels_max, "seed": 0}
    check(lib.books_create(ffi.new("struct books_config *", config), out), "books")
    size = int(lib.books_memory(out[0]))
    lib.books_destroy(out[0])
    return size


def eal_memory(config: Config) -> int:
    """Ordinary memory that EAL takes: none when it has hugepages, or nothing to do."""
    return 0 if config.eal.hugepages else pools(config)


def cores(config: Config) -> tuple[int, ...]:
    """The cores that receive, sorted."""
    return tuple(sorted({plan.core for plan in config.feeds if plan.core is not None}))
