"""What is known of each kind of source: a row, and the string that names it.

:data:`KINDS` is all there is to a driver. A new one is a row, not code; a raw EAL vdev string
(``net_null0,size=64``) finds the row of its driver.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from pydpdk.errors import DataError, HostError, UsageError
from pydpdk.source import eal, opening
from pydpdk.source.description import Description, Kind
from pydpdk.source.requirements import (
    capability,
    device_arguments,
    interface,
    packet_ring,
    pci,
    plain_file,
    tap,
    tpacket_shape,
    xdp_interface,
    xdp_shape,
)

LINK_ETHERNET = 1


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
    if (link := opening.link_type(name)) not in (LINK_ETHERNET, -1):
        raise DataError(f"link type {link} would be read as Ethernet: use pcap:{name}")


# What starts a compressed file, and the command that unpacks it.
_COMPRESSED = {b"\x1f\x8b": "gunzip -k", b"\x28\xb5\x2f\xfd": "unzstd"}


KINDS = (
    Kind(
        "pcap", "", "FILE", "", plain_file, opening.capture,
        losses="counted", stamps="the file's, ns",
        truncation="captured and wire length as in the file",
        bypass=False, copies=0, joins="none", file=True, ends=True, waits=True, eal=None,
    ),
    Kind(
        "net_pcap", "net_pcap", "FILE", "rx_pcap", _replay_file, opening.port,
        losses="counted", stamps="the file's, cut to us",
        truncation="wire length unknown: a frame cut by the capture looks whole",
        bypass=False, copies=1, joins="none", file=True, ends=True, stamped=True,
    ),
    Kind(
        "tpacket", "", "INTERFACE", "iface", interface, opening.packet_socket,
        losses="counted", stamps="the kernel's, ns; with a clock one per burst",
        truncation="captured and wire length as the kernel tells them",
        bypass=False, copies=1, joins="kernel", waits=True, ring=True,
        capabilities=("CAP_NET_RAW",), shape=tpacket_shape, eal=None,
    ),
    Kind(
        "af_packet", "net_af_packet", "INTERFACE", "iface", interface, opening.port,
        losses="by the socket", stamps="host clock, one per burst",
        truncation="frames above the MTU (offloads) are cut, shown one byte longer, and counted;"
        " IP fragments come reassembled, or uncounted not at all: tpacket: shows them",
        bypass=False, copies=2, joins="kernel", interface_mtu=True, ring=True, locks="ring",
        capabilities=("CAP_NET_RAW", "CAP_NET_ADMIN"),  # it sets the MAC that it has
        shape=packet_ring,
        hint="a PACKET_FANOUT group that is taken (the driver numbers it by process id and"
        " interface) is another at the next start",
    ),
    Kind(
        "af_xdp", "net_af_xdp", "INTERFACE", "iface", xdp_interface, opening.port,
        losses="by the socket", stamps="host clock, one per burst",
        truncation="frames above one XDP buffer are dropped: the MTU is limited",
        bypass=True, copies=1, joins="kernel", interface_mtu=True, xdp=True, locks="pools",
        # libxdp asks for its program by id
        capabilities=("CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_ADMIN"), shape=xdp_shape,
        hint="needs root outside a user namespace; DPDK 22.11 keeps the socket of an interface"
        " that was opened before: use a new process",
    ),
    Kind(
        "tap", "net_tap", "NAME", "iface", tap, opening.port,
        losses="unknown", stamps="host clock, one per burst", truncation="none",
        bypass=False, copies=2, joins="own", makes=True, capabilities=("CAP_NET_ADMIN",),
    ),
    Kind(
        "memif", "net_memif", "key=value,...", "", device_arguments, opening.port,
        losses="unknown", stamps="host clock, one per burst", truncation="none",
        bypass=True, copies=2, joins="own", linger_s=1.0,
    ),
    Kind(
        "null", "net_null", "key=value,...", "", device_arguments, opening.port,
        losses="counted", stamps="host clock, one per burst", truncation="none",
        bypass=True, copies=0, joins="none",
    ),
    Kind(
        "ring", "net_ring", "key=value,...", "", device_arguments, opening.port,
        losses="unknown", stamps="host clock, one per burst", truncation="none",
        bypass=True, copies=0, joins="own",
    ),
    Kind(
        "pci", "", "ADDRESS", "", pci, opening.port,
        losses="counted", stamps="the device's if it offers them, else host clock, one per burst",
        truncation="frames above the device's MTU are dropped and counted",
        bypass=True, copies=0, joins="own", locks="memory",
        eal=lambda address: eal.Options(hugepages=True, pci=(address,)),
    ),
)  # fmt: skip
OTHER = Kind(
    "vdev", "", "DRIVER,key=value,...", "", device_arguments, opening.port,
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
        for name in kind.capabilities[:1]:
            capability(name)
    except (UsageError, HostError, DataError) as error:
        raise type(error)(f"{description.spec}: {error}") from error
