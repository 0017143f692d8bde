"""Which interfaces a host cannot lose: those of its default route and of its ssh connections."""

from __future__ import annotations

import ipaddress
import os
import struct
from collections.abc import Iterator, Mapping

from pydpdk.host.info import Host
from pydpdk.host.nics import NET

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_REJECT = 0x200  # linux/route.h RTF_REJECT
_SSH, _ESTABLISHED = 22, "01"


def _routes(host: Host) -> Iterator[tuple[str, Network]]:
    """(interface, destination) of /proc/net/route and ipv6_route, the main tables."""
    for line in host.read("/proc/net/route").splitlines()[1:]:
        part = line.split()
        if len(part) >= 8 and not int(part[3], 16) & _REJECT:
            base, mask = (_v4(part[i]) for i in (1, 7))
            yield part[0], ipaddress.IPv4Network((int(base), f"{mask}"), strict=False)
    for line in host.read("/proc/net/ipv6_route").splitlines():
        part = line.split()
        if len(part) >= 10 and not int(part[8], 16) & _REJECT:
            base6 = ipaddress.IPv6Address(int(part[0], 16))
            yield part[9], ipaddress.IPv6Network((base6, int(part[1], 16)), strict=False)


def _v4(text: str) -> ipaddress.IPv4Address:
    """The IPv4 address in eight hex digits, a word in memory order."""
    return ipaddress.IPv4Address(struct.pack("=I", int(text, 16)))


def _v6(text: str) -> Address:
    """The address in four such words; an IPv4-mapped IPv6 address is given as IPv4."""
    words = (int(text[i : i + 8], 16) for i in range(0, 32, 8))
    address = ipaddress.IPv6Address(struct.pack("=4I", *words))
    return address.ipv4_mapped or address


def _ssh(host: Host, environment: Mapping[str, str]) -> Iterator[Address]:
    """Both ends of every ssh connection: sudo forgets SSH_CONNECTION, the kernel does not."""
    client, _, rest = environment.get("SSH_CONNECTION", "").partition(" ")
    for text in (client, *rest.split()[1:2]):
        if text:
            yield ipaddress.ip_address(text.partition("%")[0])
    for file, decode in (("tcp", _v4), ("tcp6", _v6)):
        for line in host.read(f"/proc/net/{file}").splitlines()[1:]:
            part = line.split()
            local, _, port = part[1].partition(":")
            if part[3] == _ESTABLISHED and int(port, 16) == _SSH:
                yield decode(local)
                yield decode(part[2].partition(":")[0])


def _way_to(address: Address, routes: list[tuple[str, Network]]) -> set[str]:
    """The interfaces of the longest prefixes that hold an address."""
    there = [
        (name, net) for name, net in routes if address.version == net.version and address in net
    ]
    longest = max((net.prefixlen for _, net in there), default=0)
    return {name for name, net in there if net.prefixlen == longest}


def needed(host: Host, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Interfaces that the host needs, with the reason."""
    routes = list(_routes(host))
    found = {name: "the default route" for name, net in routes if net.prefixlen == 0}
    for address in _ssh(host, environment):
        if not address.is_loopback:
            # Our own address is a /128 of the loopback interface in ipv6_route: not that one.
            ways = [(name, net) for name, net in routes if name != "lo"]
            for name in _way_to(address, ways):
                found.setdefault(name, f"the ssh connection ({address})")
    return found


def above(host: Host, name: str) -> set[str]:
    """An interface and all that are built on it: bonds, bridges, VLANs."""
    found, todo = set(), [name]
    while todo:
        now = todo.pop()
        if now not in found:
            found.add(now)
            entries = host.names(f"{NET}/{now}")
            todo += [entry[6:] for entry in entries if entry.startswith("upper_")]
            if master := host.link(f"{NET}/{now}/master"):
                todo.append(master)
    return found
