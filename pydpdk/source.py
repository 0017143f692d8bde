"""A source is a string: ``pcap:day.pcap``, ``af_packet:eth0``, ``pci:0000:3b:00.0``...

:data:`ROWS` is all that is known about each kind. A new driver is a row, not code; a raw EAL
vdev string (``net_null0,size=64``) finds the row of its driver.
"""

from __future__ import annotations

import itertools
import os
import re
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pydpdk import eal
from pydpdk._core import ffi, lib
from pydpdk.errors import DataError, HostError, UsageError
from pydpdk.errors import check as check_code
from pydpdk.host import (
    capability,
    device_arguments,
    interface,
    packet_ring,
    pci,
    plain_file,
    tap,
    xdp_interface,
)

HEADROOM = 128  # RTE_PKTMBUF_HEADROOM
POOL_BYTES = 16 << 20  # of one port's mbufs
DESCRIPTORS = 1024
UNKNOWN = 2**64 - 1
LINK_ETHERNET = 1


@dataclass(frozen=True)
class Row:
    """One kind of source and what can be known about it."""

    prefix: str
    driver: str  # DPDK's name of it; "" is not a vdev
    argument: str  # what stands behind the prefix
    key: str  # of the device argument that carries it; "" when it is the device arguments
    check: Callable[[str], None]  # refuses an argument before DPDK runs
    losses: str  # "counted" or "unknown"
    stamps: str  # where ts_recv comes from, and its precision
    truncation: str  # what happens to frames that do not fit
    ends: bool = False
    stamped: bool = False  # the driver stamps frames in UTC
    capability: str = ""  # CAP_* needed
    hint: str = ""  # what mends it when DPDK does not open the device
    options: Callable[[str], tuple[str, int]] = field(default=lambda _: ("", 2048))

    @property
    def dpdk(self) -> bool:
        return self.prefix != "pcap"


@dataclass(frozen=True)
class Description:
    """A parsed source string: `argument` is checked only when the source is opened."""

    spec: str
    row: Row
    argument: str
    vdev: str = ""  # the raw string, when it was one

    @property
    def ends(self) -> bool:
        """Whether frames come to an end by themselves."""
        endless = "rx_pcap=" not in self.vdev or "infinite_rx=1" in self.vdev
        return self.row.ends and not (self.vdev and endless)

    @property
    def eal_options(self) -> eal.Options:
        """What EAL must be started with for this source."""
        if self.row.prefix == "pci":
            return eal.Options(hugepages=True, pci=(self.argument,))
        return eal.Options()


@dataclass(frozen=True)
class PortStats:
    """A port's own figures; None where its driver cannot know."""

    received: int | None  # frames handed to the core
    missed: int | None  # dropped by the device for want of descriptors
    no_mbuf: int | None  # dropped for want of mbufs
    errors: int | None
    oversize: int | None  # frames delivered cut


@dataclass(frozen=True)
class CaptureInfo:
    """How far a capture was read. Times are ns since the Unix epoch, offsets uncompressed."""

    frames: int
    offset: int
    ts_first: int
    ts_last: int
    ts_regress: int
    skipped: int
    link: int
    precision_ns: int
    error: int
    truncated: int  # 1 when the file ends inside a record
    format: str
    reason: str


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
    if hasattr(lib, "capture_open") and (link := _link_type(name)) not in (LINK_ETHERNET, -1):
        raise DataError(f"link type {link} would be read as Ethernet: use pcap:{name}")


# What starts a compressed file, and the command that unpacks it.
_COMPRESSED = {b"\x1f\x8b": "gunzip -k", b"\x28\xb5\x2f\xfd": "unzstd"}


def _link_type(name: str) -> int:
    """Of the first interface, by our own reader; a pcapng may name it only before a frame."""
    with _open_capture(Description(name, ROWS[0], name)) as capture:
        capture.pointer.burst(capture.pointer, ffi.new("struct packet[]", 1), 1)
        return int(lib.capture_info(capture.pointer).link)


ROWS = (
    Row(
        "pcap", "", "FILE", "", plain_file,
        losses="counted", stamps="the file's, ns",
        truncation="captured and wire length as in the file", ends=True,
    ),
    Row(
        "net_pcap", "net_pcap", "FILE", "rx_pcap", _replay_file,
        losses="counted", stamps="the file's, cut to us",
        truncation="wire length unknown: a frame cut by the capture looks whole", ends=True,
        stamped=True,
    ),
    Row(
        "af_packet", "net_af_packet", "INTERFACE", "iface", interface,
        losses="unknown", stamps="host clock, one per burst",
        truncation="frames above the interface's MTU (offloads) are cut unflagged",
        capability="CAP_NET_RAW", options=packet_ring,
    ),
    Row(
        "af_xdp", "net_af_xdp", "INTERFACE", "iface", xdp_interface,
        losses="unknown", stamps="host clock, one per burst",
        truncation="frames above one XDP buffer are dropped uncounted",
        capability="CAP_NET_ADMIN",
        hint="needs root outside a user namespace; DPDK 22.11 keeps the socket of an interface"
        " that was opened before: use a new process",
    ),
    Row(
        "tap", "net_tap", "NAME", "iface", tap,
        losses="unknown", stamps="host clock, one per burst",
        truncation="none", capability="CAP_NET_ADMIN",
    ),
    Row(
        "memif", "net_memif", "key=value,...", "", device_arguments,
        losses="unknown", stamps="host clock, one per burst", truncation="none",
    ),
    Row(
        "null", "net_null", "key=value,...", "", device_arguments,
        losses="counted", stamps="host clock, one per burst", truncation="none",
    ),
    Row(
        "ring", "net_ring", "key=value,...", "", device_arguments,
        losses="unknown", stamps="host clock, one per burst", truncation="none",
    ),
    Row(
        "pci", "", "ADDRESS", "", pci,
        losses="counted", stamps="host clock, one per burst",
        truncation="frames above the device's MTU are dropped and counted",
    ),
)  # fmt: skip
OTHER = Row(
    "vdev", "", "DRIVER,key=value,...", "", device_arguments,
    losses="unknown", stamps="host clock, one per burst", truncation="unknown",
)  # fmt: skip


# --- from string to open source ---


def parse(spec: str) -> Description:
    """The source that a string names. UsageError when it names none; nothing is opened."""
    prefix, colon, argument = spec.partition(":")
    row = next((row for row in ROWS if colon and row.prefix == prefix), None)
    if row is not None:
        return Description(spec, row, argument)
    if os.path.exists(spec):
        return Description(spec, ROWS[0], spec)
    name, _, arguments = spec.partition(",")
    if re.fullmatch(r"net_[a-z0-9_]+", name):
        return _raw(spec, name.rstrip("0123456789"), arguments)
    known = ", ".join(f"{row.prefix}:{row.argument}" for row in ROWS)
    raise UsageError(f"{spec!r} is no source: neither a file nor one of {known}, net_DRIVER,...")


def _raw(spec: str, driver: str, arguments: str) -> Description:
    row = next((row for row in ROWS if row.driver == driver), OTHER)
    given = dict(part.partition("=")[::2] for part in arguments.split(","))
    return Description(spec, row, given.get(row.key, ""), vdev=spec)


def check(description: Description) -> None:
    """Refuse, before DPDK runs, what cannot work on this host."""
    row = description.row
    try:
        if description.vdev:
            device_arguments(description.vdev.partition(",")[2])
        if not description.vdev or description.argument:
            row.check(description.argument)
        if row.dpdk and not eal.version():
            raise HostError(f"pydpdk was built without DPDK: {eal.INSTALL_DPDK}")
        if row.capability:
            capability(row.capability)
    except (UsageError, HostError, DataError) as error:
        raise type(error)(f"{description.spec}: {error}") from error


class Source:
    """An open source; close it, or use it in ``with``.

    `pointer` is the ``struct source *`` for the core, NULL after close; views of its last burst
    are valid until the next burst or close.
    """

    def __init__(self, description: Description, pointer: Any) -> None:
        self.description = description
        self.spec = description.spec
        self.pointer = pointer

    def close(self) -> None:
        pointer, self.pointer = self.pointer, ffi.NULL
        lib.source_close(pointer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stats(self) -> PortStats | None:
        """The port's figures; None for a capture file."""
        if not self.description.row.dpdk:
            return None
        stats = ffi.new("struct port_stats *")
        check_code(lib.port_stats(self.pointer, stats), f"{self.spec}: statistics")
        return PortStats(*(None if v == UNKNOWN else v for v in _values(stats)))

    def capture_info(self) -> CaptureInfo | None:
        """How far the capture was read; None for a port."""
        if self.description.row.dpdk:
            return None
        return CaptureInfo(*_values(lib.capture_info(self.pointer)))

    def problem(self) -> str:
        """What broke it, with the place where it did; "" while nothing did."""
        info = self.capture_info()
        return info.reason if info else ""


def _values(struct: Any) -> list[Any]:
    """A C struct's members in order, char arrays as str."""
    fields = (getattr(struct, name) for name, _ in ffi.typeof(struct).item.fields)
    return [ffi.string(f).decode() if isinstance(f, ffi.CData) else f for f in fields]


_numbers = itertools.count()  # vdev names must differ within a process


def open_source(spec: str, options: eal.Options | None = None) -> Source:
    """Open what the string names, starting EAL when that is needed and has not been done.

    `options`: EAL's, when the source needs others than it says itself (see
    :attr:`Description.eal_options`). Errors: UsageError, HostError, DataError.
    """
    description = parse(spec)
    check(description)
    if not description.row.dpdk:
        return _open_capture(description)
    if options is None:
        eal.ensure(description.eal_options)
    else:
        eal.start(options)
    return _open_port(description)


def _open_capture(description: Description) -> Source:
    out, reason = ffi.new("struct source **"), ffi.new("char[]", 256)
    if lib.capture_open(os.fsencode(description.argument), out, reason) < 0:
        raise DataError(f"{description.spec}: {ffi.string(reason).decode(errors='replace')}")
    return Source(description, out[0])


def _open_port(description: Description) -> Source:
    out, reason = ffi.new("struct source **"), ffi.new("char[]", 256)
    with ExitStack() as until_open:
        devargs, room = _devargs(description, until_open)
        name = devargs.partition(",")[0]
        rc = lib.port_open(
            os.fsencode(devargs), name.encode(), POOL_BYTES // room, room + HEADROOM, DESCRIPTORS,
            _flags(description), out, reason,
        )  # fmt: skip
    if rc < 0:
        text = ffi.string(reason).decode(errors="replace")
        hint = description.row.hint and f" ({description.row.hint})"
        raise HostError(f"{description.spec}: DPDK did not open {devargs}: {text}{hint}")
    return Source(description, out[0])


def _flags(description: Description) -> int:
    row = description.row
    return int(
        description.ends * lib.PORT_ENDS
        | (row.losses == "unknown") * lib.PORT_BLIND
        | row.stamped * lib.PORT_STAMPS
    )


def _devargs(description: Description, until_open: ExitStack) -> tuple[str, int]:
    """Device arguments and the bytes that one mbuf must hold."""
    row, argument = description.row, description.argument
    if description.vdev or row.prefix == "pci":
        return description.vdev or argument, 2048
    more, room = row.options(argument)
    if row.key == "rx_pcap":
        argument = _plain_path(argument, until_open)
    own = f"{row.key}={argument}" if row.key else argument
    return f"{row.driver}{next(_numbers)},{own}{more}".rstrip(","), room


def _plain_path(name: str, until_open: ExitStack) -> str:
    """The file under a name that device arguments can carry: no comma, space, bracket..."""
    path = Path(name).absolute()
    if re.fullmatch(r"[\w./+-]+", str(path), flags=re.A):
        return str(path)
    link = Path(until_open.enter_context(tempfile.TemporaryDirectory(prefix="pydpdk-")), "capture")
    link.symlink_to(path)
    return str(link)
