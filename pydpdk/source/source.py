"""A source is a string: ``pcap:day.pcap``, ``af_packet:eth0``, ``pci:0000:3b:00.0``...

What is known of each kind stands in :mod:`pydpdk.source.kinds`.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from pydpdk._core import ffi, lib
from pydpdk.core.closes import Closes
from pydpdk.core.utc import Utc
from pydpdk.errors import DataError, HostError, UsageError
from pydpdk.errors import check as check_code
from pydpdk.source import eal
from pydpdk.source.kinds import ROWS, Description, Row, check, parse
from pydpdk.source.requirements import RING_MB, Shape, Wish, interface_counters
from pydpdk.source.told import CaptureInfo, PortStats, known, values

__all__ = ["ROWS", "CaptureInfo", "Description", "PortStats", "Row", "Source", "check",
           "open_port", "open_source", "parse"]  # fmt: skip

HEADROOM = 128  # RTE_PKTMBUF_HEADROOM
POOL_BYTES = 16 << 20  # of one queue's mbufs
DESCRIPTORS = 1024  # of a queue, for receiving; for sending half as many
UNKNOWN = 2**64 - 1
GROUPS = {
    lib.PORT_GROUPS_LIST: "list",
    lib.PORT_GROUPS_ALL: "all-multicast",
    lib.PORT_GROUPS_PROMISCUOUS: "promiscuous",
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
        self._kind = description.row.prefix
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

    def stats(self) -> PortStats | None:
        """The port's figures; None for a capture file."""
        if self._kind == "pcap":
            return None
        stats = ffi.new("struct port_stats *")
        ask = lib.tpacket_stats if self._kind == "tpacket" else lib.port_stats
        check_code(ask(self.pointer, stats), f"{self.spec}: statistics")
        return PortStats(*(None if v == UNKNOWN else v for v in values(stats)))

    def mbufs(self) -> int | None:
        """Mbufs of this queue that are in use now; None where there are none."""
        return int(lib.port_mbufs(self.pointer)) if self.description.row.dpdk else None

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
        """ "up", "down", "gone" or "unknown": see port_link(). For a control thread."""
        if self._kind == "pcap":
            return LINK_STATES[lib.LINK_STATE_UNKNOWN]
        ask = lib.tpacket_link if self._kind == "tpacket" else lib.port_link
        return LINK_STATES[ask(self.pointer)]

    def tick(self) -> None:
        """Sample the device's clock; for a control thread, ten times a second."""
        if self.description.row.dpdk:
            check_code(lib.port_tick(self.pointer), f"{self.spec}: device clock")

    def steer(self, address: str, port: int) -> str:
        """Have the device put frames to this group and port on this queue.

        "accepted", or "refused: " and the driver's reason. For a control thread.
        """
        if not self.description.row.dpdk:
            return "refused: this kind of source has one queue"
        packed, reason = ip_address(address).packed, ffi.new("char[]", 256)
        wish = ffi.new("struct address *", {"port": port, "len": len(packed)})
        ffi.memmove(wish.bytes, packed, len(packed))
        return _answer(lib.port_steer(self.pointer, wish, reason), reason, "accepted")

    def groups(self, macs: Sequence[bytes]) -> str:
        """Let frames to these multicast MACs in, with as few others as the device can.

        "list", "all-multicast", "promiscuous", or "refused: " and the driver's reason. For a
        control thread.
        """
        if self._kind == "pcap":
            return "refused: a file has all its frames"
        reason = ffi.new("char[]", 256)
        ask = lib.tpacket_groups if self._kind == "tpacket" else lib.port_groups
        rc = ask(self.pointer, b"".join(macs), len(macs), reason)
        return _answer(rc, reason, GROUPS.get(rc, ""))

    def capture_info(self) -> CaptureInfo | None:
        """How far the capture was read; None for a port."""
        if self._kind != "pcap":
            return None
        return CaptureInfo(*values(lib.capture_info(self.pointer)))

    def problem(self) -> str:
        """What broke it, with the place where it did; "" while nothing did."""
        info = self.capture_info()
        return info.reason if info else ""


def _answer(rc: int, reason: Any, accepted: str) -> str:
    return accepted if rc >= 0 else f"refused: {ffi.string(reason).decode(errors='replace')}"


_numbers = itertools.count()  # vdev names must differ within a process


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
    description = parse(spec)
    if description.row.prefix == "pcap":
        check(description)
        return _open_capture(description)
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
    """Open a port, of DPDK or ``tpacket:``: a source for each queue that it grants.

    It may grant fewer than asked for.

    `mtu`: bytes of the longest IP packet; None is the kernel interface's, or the device's
    largest up to 9000. `rx_ring_mb`: of each queue's socket ring, where there is one. `clock`
    stamps bursts, and must outlive the sources; None is CLOCK_REALTIME. `promiscuous`: frames
    for whomever. Errors: UsageError, HostError, DataError.
    """
    description = parse(spec)
    if description.row.prefix == "pcap" or not 1 <= queues <= lib.PORT_QUEUES_MAX:
        raise UsageError(f"{spec}: queues={queues}: a port has 1 to {lib.PORT_QUEUES_MAX}")
    check(description)
    if description.row.prefix == "tpacket":
        wish = Wish(1, mtu, rx_ring_mb)
        return [_open_tpacket(description, wish, clock, promiscuous)]
    if options is None:
        eal.ensure(description.eal_options)
    else:
        eal.start(options)
    wish = Wish(queues, mtu, rx_ring_mb)
    return _open_port(description, wish, clock, promiscuous)


def _open_capture(description: Description) -> Source:
    out, reason = ffi.new("struct source **"), ffi.new("char[]", 256)
    if lib.capture_open(os.fsencode(description.argument), out, reason) < 0:
        raise DataError(f"{description.spec}: {ffi.string(reason).decode(errors='replace')}")
    return Source(description, out[0])


def _open_tpacket(
    description: Description, wish: Wish, clock: Utc | None, promiscuous: bool
) -> Source:
    out, reason = ffi.new("struct source **"), ffi.new("char[]", 256)
    shape = description.row.shape(description.argument, wish)
    name = ffi.new("char[]", os.fsencode(shape.interface))
    config = ffi.new(
        "struct tpacket_config *",
        {
            "interface": name,
            "clock": clock.pointer if clock else ffi.NULL,
            "ring_mb": wish.rx_ring_mb,
            "mtu": shape.mtu,
            "flags": promiscuous * lib.PORT_PROMISCUOUS,
        },
    )
    if lib.tpacket_open(config, out, reason) < 0:
        raise HostError(f"{description.spec}: {ffi.string(reason).decode(errors='replace')}")
    return Source(description, out[0], clock)


def _open_port(
    description: Description, wish: Wish, clock: Utc | None, promiscuous: bool
) -> list[Source]:
    out, reason = ffi.new("struct source *[]", wish.queues), ffi.new("char[]", 256)
    with ExitStack() as until_open:
        devargs, shape = _devargs(description, wish, until_open)
        names = devargs, devargs.partition(",")[0], shape.interface
        keep = [ffi.new("char[]", os.fsencode(name)) for name in names]
        config = ffi.new(
            "struct port_config *",
            {
                "devargs": keep[0],
                "name": keep[1],
                "interface": keep[2],
                "clock": clock.pointer if clock else ffi.NULL,
                "queues": wish.queues,
                "mbufs": POOL_BYTES // shape.mbuf,
                "mbuf_size": shape.mbuf + HEADROOM,
                "rx_descriptors": DESCRIPTORS,
                "tx_descriptors": DESCRIPTORS // 2,
                "mtu": shape.mtu,
                "cut_at": shape.cut_at,
                "flags": _flags(description) | promiscuous * lib.PORT_PROMISCUOUS,
            },
        )
        rc = lib.port_open(config, out, reason)
    if rc < 0:
        text = ffi.string(reason).decode(errors="replace")
        hint = description.row.hint and f" ({description.row.hint})"
        raise HostError(f"{description.spec}: DPDK did not open {devargs}: {text}{hint}")
    return [Source(description, pointer, clock) for pointer in out[0:rc]]


def _flags(description: Description) -> int:
    row = description.row
    return int(
        description.ends * lib.PORT_ENDS
        | (row.losses != "counted") * lib.PORT_BLIND
        | row.stamped * lib.PORT_STAMPS
    )


def _devargs(description: Description, wish: Wish, until_open: ExitStack) -> tuple[str, Shape]:
    row, argument = description.row, description.argument
    if row.prefix == "pci":
        return argument, Shape(mtu=wish.mtu or 0)
    shape = row.shape(argument, wish)
    if description.vdev:  # has arguments of its own
        return description.vdev, replace(shape, more="", cut_at=0)
    if row.key == "rx_pcap":
        argument = _plain_path(argument, until_open)
    own = f"{row.key}={argument}" if row.key else argument
    return f"{row.driver}{next(_numbers)},{own}{shape.more}".rstrip(","), shape


def _plain_path(name: str, until_open: ExitStack) -> str:
    """The file under a name that device arguments can carry: no comma, space, bracket...

    From DPDK 24.11 on they have 127 bytes in all.
    """
    path = Path(name).absolute()
    if re.fullmatch(r"[\w./+-]{1,80}", str(path), flags=re.A):
        return str(path)
    link = Path(until_open.enter_context(tempfile.TemporaryDirectory(prefix="pydpdk-")), "capture")
    link.symlink_to(path)
    return str(link)


def open_sources(specs: Sequence[str]) -> list[Source]:
    """Open every source string; those opened are closed when a later one fails."""
    with ExitStack() as stack:
        opened = [stack.enter_context(open_source(spec)) for spec in specs]
        stack.pop_all()
    return opened


def capture_path(spec: str) -> str | None:
    """The file behind ``pcap:F``, ``net_pcap:F`` or plain ``F``; None for a live source."""
    prefix, colon, rest = spec.partition(":")
    if colon and prefix in ("pcap", "net_pcap"):
        return rest
    return spec if not colon or Path(spec).exists() else None
