"""A source is a string: ``pcap:day.pcap``, ``af_packet:eth0``, ``pci:0000:3b:00.0``...

What is known of each kind stands in :mod:`pydpdk.source.kinds`.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from pydpdk._core import ffi, lib
from pydpdk.core.closes import Closes
from pydpdk.core.utc import Utc
from pydpdk.errors import UsageError
from pydpdk.errors import check as check_code
from pydpdk.source import eal
from pydpdk.source.description import Description, Kind
from pydpdk.source.kinds import KINDS, check, parse
from pydpdk.source.opening import new_reason, text
from pydpdk.source.requirements import RING_MB, Wish, interface_counters
from pydpdk.source.told import CaptureInfo, SourceStats, known, values

__all__ = [
    "KINDS",
    "CaptureInfo",
    "Description",
    "Kind",
    "Source",
    "SourceStats",
    "check",
    "open_port",
    "open_source",
    "parse",
]  # fmt: skip

UNKNOWN = 2**64 - 1
GROUPS = {
    lib.SOURCE_GROUPS_LIST: "list",
    lib.SOURCE_GROUPS_ALL: "all-multicast",
    lib.SOURCE_GROUPS_PROMISCUOUS: "promiscuous",
}
LINK_STATES = ("unknown", "up", "down", "gone")  # enum link_state


class Source(Closes):
    """An open source; close it, or use it in ``with``.

    `pointer` is the ``struct source *`` for the core, NULL after close; views of its last burst
    are valid until the next burst or close.
    """

    def __init__(self, description: Description, pointer: Any, clock: Utc | None = None) -> None:
        self.description = description
        self.spec = description.spec
        self.pointer = pointer
        self._clock = clock  # that the core reads

    def close(self) -> None:
        pointer, self.pointer = self.pointer, ffi.NULL
        lib.source_close(pointer)

    def send(self, frames: Sequence[bytes]) -> int:
        """Send whole Ethernet frames without FCS, from the thread that takes bursts.

        Returns how many were taken: fewer than given when there is no room right now, or up to
        the first that cannot be sent. UsageError: that one comes first (longer than MTU and
        headers, shorter than a header), or the source cannot send.
        """
        if not self.pointer.send:
            raise UsageError(f"{self.spec}: this kind of source cannot send")
        keep = [ffi.from_buffer(frame) for frame in frames]
        batch = ffi.new("struct outgoing[]", [(data, len(data)) for data in keep])
        rc = int(self.pointer.send(self.pointer, batch, len(keep)))
        if rc in (-errno.EMSGSIZE, -errno.EINVAL):
            raise UsageError(f"{self.spec}: cannot send a frame of {len(frames[0])} bytes")
        return check_code(rc, f"{self.spec}: send")

    def stats(self) -> SourceStats:
        """What it counted itself."""
        stats = ffi.new("struct source_stats *")
        check_code(lib.source_stats(self.pointer, stats), f"{self.spec}: statistics")
        return SourceStats(*(None if v == UNKNOWN else v for v in values(stats)))

    def mbufs(self) -> int | None:
        """Mbufs of this queue that are in use now; None where there are none."""
        count = int(lib.source_mbufs(self.pointer))
        return count if count >= 0 else None

    def known(self) -> dict[str, Any]:
        """What this path can and cannot know, and what was asked of it and granted.

        The keys are the same for every kind of source, see :func:`pydpdk.source.told.known`.
        """
        return known(self.description, self.pointer)

    def kernel(self) -> dict[str, int] | None:
        """The kernel's own counters of the interface in this thread's network namespace.

        ``rx_packets``, ``rx_dropped``... as in ``/proc/net/dev``; None: there is no interface.
        """
        return interface_counters(self.description.interface)

    def link(self) -> str:
        """ "up", "down", "gone" or "unknown". For a control thread."""
        return LINK_STATES[lib.source_link(self.pointer)]

    def tick(self) -> None:
        """Sample the device's clock; for a control thread, ten times a second."""
        check_code(lib.source_tick(self.pointer), f"{self.spec}: device clock")

    def steer(self, address: str, port: int) -> str:
        """Have the device put frames to this group and port on this queue.

        "accepted", or "refused: " and the driver's reason. For a control thread.
        """
        packed, reason = ip_address(address).packed, new_reason()
        wish = ffi.new("struct address *", {"port": port, "len": len(packed)})
        ffi.memmove(wish.bytes, packed, len(packed))
        return _answer(lib.source_steer(self.pointer, wish, reason), reason, "accepted")

    def groups(self, macs: Sequence[bytes]) -> str:
        """Let frames to these multicast MACs in, with as few others as the device can.

        "list", "all-multicast", "promiscuous", or "refused: " and the driver's reason. For a
        control thread.
        """
        reason = new_reason()
        rc = lib.source_groups(self.pointer, b"".join(macs), len(macs), reason)
        return _answer(rc, reason, GROUPS.get(rc, ""))

    def capture_info(self) -> CaptureInfo | None:
        """How far the capture was read; None for a source that is none."""
        info = lib.capture_info(self.pointer)
        return CaptureInfo(*values(info)) if info else None

    def problem(self) -> str:
        """What broke it, with the place where it did; "" while nothing did."""
        return text(lib.source_problem(self.pointer))


def _answer(rc: int, reason: Any, accepted: str) -> str:
    return accepted if rc >= 0 else f"refused: {text(reason)}"


def open_source(
    spec: str,
    options: eal.Options | None = None,
    *,
    mtu: int | None = None,
    rx_ring_mb: int = RING_MB,
    clock: Utc | None = None,
) -> Source:
    """Open what the string names, starting EAL when that is needed and has not been done.

    `options`: EAL's, when the source needs others than it says itself (see
    :attr:`Description.eal_options`); the rest as in :func:`open_port`, on one queue and with
    every frame on the wire. Errors: UsageError, HostError, DataError.
    """
    (source,) = open_port(
        spec, 1, options, mtu=mtu, rx_ring_mb=rx_ring_mb, clock=clock, promiscuous=True
    )
    return source


def open_port(
    spec: str,
    queues: int = 1,
    options: eal.Options | None = None,
    *,
    mtu: int | None = None,
    rx_ring_mb: int = RING_MB,
    clock: Utc | None = None,
    promiscuous: bool = False,
) -> list[Source]:
    """Open what the string names: a source for each queue that it grants.

    It may grant fewer than asked for; what is no device has one, and needs none of the rest.

    `mtu`: bytes of the longest IP packet; None is the kernel interface's, or the device's
    largest up to 9000. `rx_ring_mb`: of each queue's socket ring, where there is one. `clock`
    stamps bursts, and must outlive the sources; None is CLOCK_REALTIME. `promiscuous`: frames
    for whomever. Errors: UsageError, HostError, DataError.
    """
    description = parse(spec)
    check(description)
    if description.kind.dpdk and options is None:
        eal.ensure(description.eal_options)
    elif description.kind.dpdk:
        eal.start(options)
    wish = Wish(queues, mtu, rx_ring_mb, clock, promiscuous)
    pointers = description.kind.open(description, wish)
    return [Source(description, pointer, clock) for pointer in pointers]


def open_sources(specs: Sequence[str]) -> list[Source]:
    """Open every source string; those opened are closed when a later one fails."""
    with ExitStack() as stack:
        opened = [stack.enter_context(open_source(spec)) for spec in specs]
        stack.pop_all()
    return opened


def capture_path(spec: str) -> str | None:
    """The file behind ``pcap:F``, ``net_pcap:F`` or plain ``F``; None for a live source."""
    prefix, colon, rest = spec.partition(":")
    if colon and any(kind.file and kind.prefix == prefix for kind in KINDS):
        return rest
    return spec if not colon or Path(spec).exists() else None
