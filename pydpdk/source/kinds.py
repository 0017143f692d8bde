"""What is known of each kind of source: a row, and the string that names it.

:data:`KINDS` is all there is to a driver. A new one is a row, not code; a raw EAL vdev string
(``net_null0,size=64``) finds the row of its driver.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydpdk._core import ffi, lib
from pydpdk.errors import DataError, HostError, UsageError
from pydpdk.source import eal
from pydpdk.source.requirements import (
    Shape,
    Wish,
    capability,
    device_arguments,
    interface,
    packet_ring,
    pci,
    plain_file,
    plain_shape,
    tap,
    tpacket_shape,
    xdp_interface,
    xdp_shape,
)

LINK_ETHERNET = 1


@dataclass(frozen=True)
class Kind:
    """One kind of source and what can be known about it."""

    prefix: str
    driver: str  # DPDK's name of it; "" is not a vdev
    argument: str  # what stands behind the prefix
    key: str  # of the device argument that carries it; "" when it is the device arguments
    check: Callable[[str], None]  # refuses an argument before DPDK runs
    losses: str  # "counted", "by the socket" (see :meth:`Source.known`) or "unknown"
    stamps: str  # where ts_recv comes from, and its precision
    truncation: str  # what happens to frames that do not fit
    bypass: bool  # frames never pass the kernel's network stack
    copies: int  # of a frame before its view, the kernel's included
    joins: str  # who holds multicast memberships: "kernel", "own" (IGMP of ours) or "none"
    ends: bool = False
    stamped: bool = False  # the driver stamps frames in UTC
    capability: str = ""  # CAP_* needed
    hint: str = ""  # what mends it when DPDK does not open the device
    shape: Callable[[str, Wish], Shape] = plain_shape

    @property
    def dpdk(self) -> bool:
        """Whether a DPDK driver is behind it."""
        return self.prefix not in ("pcap", "tpacket")


@dataclass(frozen=True)
class Description:
    """A parsed source string: `argument` is checked only when the source is opened."""

    spec: str
    kind: Kind
    argument: str
    vdev: str = ""  # the raw string, when it was one

    @property
    def ends(self) -> bool:
        """Whether frames come to an end by themselves."""
        endless = "rx_pcap=" not in self.vdev or "infinite_rx=1" in self.vdev
        return self.kind.ends and not (self.vdev and endless)

    @property
    def interface(self) -> str:
        """The kernel interface that frames come from, "" when there is none."""
        return self.argument if self.kind.key == "iface" else ""

    @property
    def eal_options(self) -> eal.Options:
        """What EAL must be started with for this source."""
        if self.kind.prefix == "pci":
            return eal.Options(hugepages=True, pci=(self.argument,))
        return eal.Options()


def _replay_file(name: str) -> None:
    """libpcap reads no compressed files, and net_pcap takes any link type for Ethernet."""
    plain_file(name)
    with Path(name).open("rb") as file:
        magic = file.read(4)
    for start, command in _COMPRESSED.items():
        if magic.startswith(start):
            raise DataError(
                f"compressed, which net_pcap cannot read: {command} {name}, or use pcap:{name}"
            )
    if (link := _link_type(name)) not in (LINK_ETHERNET, -1):
        raise DataError(f"link type {link} would be read as Ethernet: use pcap:{name}")


# What starts a compressed file, and the command that unpacks it.
_COMPRESSED = {b"\x1f\x8b": "gunzip -k", b"\x28\xb5\x2f\xfd": "unzstd"}


def _link_type(name: str) -> int:
    """Of the first interface, by our own reader; a pcapng may name it only before a frame."""
    out, reason = ffi.new("struct source **"), ffi.new("char[]", 256)
    if lib.capture_open(os.fsencode(name), out, reason) < 0:
        raise DataError(f"{name}: {ffi.string(reason).decode(errors='replace')}")
    try:
        out[0].burst(out[0], ffi.new("struct packet[]", 1), 1)
        return int(lib.capture_info(out[0]).link)
    finally:
        lib.source_close(out[0])


KINDS = (
    Kind(
        "pcap", "", "FILE", "", plain_file,
        losses="counted", stamps="the file's, ns",
        truncation="captured and wire length as in the file",
        bypass=False, copies=0, joins="none", ends=True,
    ),
    Kind(
        "net_pcap", "net_pcap", "FILE", "rx_pcap", _replay_file,
        losses="counted", stamps="the file's, cut to us",
        truncation="wire length unknown: a frame cut by the capture looks whole",
        bypass=False, copies=1, joins="none", ends=True, stamped=True,
    ),
    Kind(
        "tpacket", "", "INTERFACE", "iface", interface,
        losses="counted", stamps="the kernel's, ns; with a clock one per burst",
        truncation="captured and wire length as the kernel tells them",
        bypass=False, copies=1, joins="kernel", capability="CAP_NET_RAW", shape=tpacket_shape,
    ),
    Kind(
        "af_packet", "net_af_packet", "INTERFACE", "iface", interface,
        losses="by the socket", stamps="host clock, one per burst",
        truncation="frames above the MTU (offloads) are cut, shown one byte longer, and counted;"
        " IP fragments come reassembled, or uncounted not at all: tpacket: shows them",
        bypass=False, copies=2, joins="kernel", capability="CAP_NET_RAW", shape=packet_ring,
        hint="a PACKET_FANOUT group that is taken (the driver numbers it by process id and"
        " interface) is another at the next start",
    ),
    Kind(
        "af_xdp", "net_af_xdp", "INTERFACE", "iface", xdp_interface,
        losses="by the socket", stamps="host clock, one per burst",
        truncation="frames above one XDP buffer are dropped: the MTU is limited",
        bypass=True, copies=1, joins="kernel", capability="CAP_NET_ADMIN", shape=xdp_shape,
        hint="needs root outside a user namespace; DPDK 22.11 keeps the socket of an interface"
        " that was opened before: use a new process",
    ),
    Kind(
        "tap", "net_tap", "NAME", "iface", tap,
        losses="unknown", stamps="host clock, one per burst", truncation="none",
        bypass=False, copies=2, joins="own", capability="CAP_NET_ADMIN",
    ),
    Kind(
        "memif", "net_memif", "key=value,...", "", device_arguments,
        losses="unknown", stamps="host clock, one per burst", truncation="none",
        bypass=True, copies=2, joins="own",
    ),
    Kind(
        "null", "net_null", "key=value,...", "", device_arguments,
        losses="counted", stamps="host clock, one per burst", truncation="none",
        bypass=True, copies=0, joins="none",
    ),
    Kind(
        "ring", "net_ring", "key=value,...", "", device_arguments,
        losses="unknown", stamps="host clock, one per burst", truncation="none",
        bypass=True, copies=0, joins="own",
    ),
    Kind(
        "pci", "", "ADDRESS", "", pci,
        losses="counted", stamps="the device's if it offers them, else host clock, one per burst",
        truncation="frames above the device's MTU are dropped and counted",
        bypass=True, copies=0, joins="own",
    ),
)  # fmt: skip
OTHER = Kind(
    "vdev", "", "DRIVER,key=value,...", "", device_arguments,
    losses="unknown", stamps="host clock, one per burst", truncation="unknown",
    bypass=False, copies=1, joins="own",
)  # fmt: skip


# --- from string to open source ---


def parse(spec: str) -> Description:
    """The source that a string names. UsageError when it names none; nothing is opened."""
    prefix, colon, argument = spec.partition(":")
    kind = next((kind for kind in KINDS if colon and kind.prefix == prefix), None)
    if kind is not None:
        return Description(spec, kind, argument)
    if os.path.exists(spec):
        return Description(spec, KINDS[0], spec)
    name, _, arguments = spec.partition(",")
    if re.fullmatch(r"net_[a-z0-9_]+", name):
        return _raw(spec, name.rstrip("0123456789"), arguments)
    known = ", ".join(f"{kind.prefix}:{kind.argument}" for kind in KINDS)
    raise UsageError(f"{spec!r} is no source: neither a file nor one of {known}, net_DRIVER,...")


def _raw(spec: str, driver: str, arguments: str) -> Description:
    kind = next((kind for kind in KINDS if kind.driver == driver), OTHER)
    given = dict(part.partition("=")[::2] for part in arguments.split(","))
    return Description(spec, kind, given.get(kind.key, ""), vdev=spec)


def check(description: Description) -> None:
    """Refuse, before DPDK runs, what cannot work on this host."""
    kind = description.kind
    try:
        if description.vdev:
            device_arguments(description.vdev.partition(",")[2])
        if not description.vdev or description.argument:
            kind.check(description.argument)
        if kind.dpdk and not eal.version():
            raise HostError(f"pydpdk was built without DPDK: {eal.INSTALL_DPDK}")
        if kind.capability:
            capability(kind.capability)
    except (UsageError, HostError, DataError) as error:
        raise type(error)(f"{description.spec}: {error}") from error
