"""A second frame parser, from the RFCs, to compare the core with: slow, plain, no shared code."""

from __future__ import annotations

from collections.abc import Callable

ETHERTYPES = {
    0x0806: "drop_arp",
    0x88CC: "drop_lldp",
    0x8808: "drop_pause",
    **dict.fromkeys((0x8847, 0x8848, 0x8863, 0x8864), "drop_encap"),
}
PROTOCOLS = {
    6: "drop_tcp",
    2: "drop_igmp",
    **dict.fromkeys((1, 58), "drop_icmp"),
    **dict.fromkeys((4, 41, 47), "drop_encap"),
}


class Drop(Exception):
    """The frame is refused; the argument is the counter's name."""


class Bytes:
    """What remains of a frame: `have` holds the captured part of `wire` bytes."""

    def __init__(self, have: bytes, wire: int) -> None:
        self.have, self.wire = have, wire

    def narrow(self, wire: int) -> None:
        self.have, self.wire = self.have[:wire], wire

    def peek(self, count: int, reason: str) -> bytes:
        return Bytes(self.have, self.wire).take(count, reason)

    def take(self, count: int, reason: str) -> bytes:
        if len(self.have) < count:
            raise Drop("drop_capture_truncated" if count <= self.wire else reason)
        taken, self.have = self.have[:count], self.have[count:]
        self.wire -= count
        return taken


def u16(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")


Fields = tuple[bytes, bytes, bytes, int, int, int]


def model(frame: bytes, wirelen: int, link: int) -> tuple[str, Fields | None]:
    """("ok", (payload, src, dst, sport, dport, vlan)) or (the counter's name, None)."""
    try:
        return "ok", walk(frame, wirelen, link)
    except Drop as drop:
        return str(drop), None


def walk(frame: bytes, wirelen: int, link: int) -> Fields:
    rest = Bytes(frame, max(wirelen, len(frame)))
    ethertype, vlan = link_layer(rest, link)
    if ethertype == 0x0800:
        addresses = ipv4(rest)
    elif ethertype == 0x86DD:
        addresses = ipv6(rest)
    else:
        raise Drop("drop_llc" if ethertype <= 1500 else ETHERTYPES.get(ethertype, "drop_ethertype"))
    header = rest.peek(8, "drop_udp_length")
    if u16(header, 4) < 8:
        raise Drop("drop_udp_length")
    payload = rest.take(u16(header, 4), "drop_udp_length")[8:]
    if u16(header, 2) == 4789:
        raise Drop("drop_encap")
    return payload, *addresses, u16(header, 0), u16(header, 2), vlan


def link_layer(rest: Bytes, link: int) -> tuple[int, int]:
    if link in (101, 228, 229):
        first = rest.peek(1, "drop_frame_short")[0] >> 4
        version = {101: first, 228: 4, 229: 6}[link]
        if version not in (4, 6):
            raise Drop("drop_ip_version")
        return {4: 0x0800, 6: 0x86DD}[version], 0
    if link not in (1, 113, 276):
        raise Drop("drop_link_unknown")
    length, at = {1: (14, 12), 113: (16, 14), 276: (20, 0)}[link]
    ethertype = u16(rest.take(length, "drop_frame_short"), at)
    tags: list[int] = []
    while ethertype in (0x8100, 0x88A8, 0x9100):
        if len(tags) == 2:
            raise Drop("drop_vlan")
        tag = rest.take(4, "drop_vlan")
        tags.append(u16(tag, 0) % 4096)
        ethertype = u16(tag, 2)
    return ethertype, tags[0] if tags else 0


def ipv4(rest: Bytes) -> tuple[bytes, bytes]:
    fixed = rest.peek(20, "drop_ip_header")
    header, total = 4 * (fixed[0] % 16), u16(fixed, 2)
    if fixed[0] // 16 != 4:
        raise Drop("drop_ip_version")
    if header < 20 or header > rest.wire:
        raise Drop("drop_ip_header")
    if not header <= total <= rest.wire:
        raise Drop("drop_ip_length")
    rest.narrow(total)
    options = rest.take(header, "drop_ip_header")[20:]
    while options and options[0] != 0:
        size = 1 if options[0] == 1 else options[1] if len(options) > 1 else 0
        if size == 0 or (options[0] != 1 and size < 2) or size > len(options):
            raise Drop("drop_ip_header")
        options = options[size:]
    if u16(fixed, 6) % 0x4000:
        raise Drop("drop_ip_fragment")
    if fixed[9] != 17:
        raise Drop(PROTOCOLS.get(fixed[9], "drop_ip_protocol"))
    return fixed[12:16], fixed[16:20]


def ipv6(rest: Bytes) -> tuple[bytes, bytes]:
    fixed = rest.take(40, "drop_ip_header")
    if fixed[0] // 16 != 6:
        raise Drop("drop_ip_version")
    if u16(fixed, 4) > rest.wire:
        raise Drop("drop_ip_length")
    rest.narrow(u16(fixed, 4))
    following, seen = fixed[6], 0
    while following in (0, 43, 44, 51, 59, 60):
        if following == 59 or (following == 0 and seen) or seen == 8:
            raise Drop("drop_ipv6_extension")
        following, seen = extension(rest, following), seen + 1
    if following == 58 and rest.have and rest.have[0] in (130, 131, 132, 143):
        raise Drop("drop_igmp")
    if following != 17:
        raise Drop(PROTOCOLS.get(following, "drop_ip_protocol"))
    return fixed[8:24], fixed[24:40]


def extension(rest: Bytes, kind: int) -> int:
    length: Callable[[int], int] = {
        44: lambda _: 8,
        51: lambda words: 4 * (words + 2),
    }.get(kind, lambda units: 8 * (units + 1))
    start = rest.peek(8, "drop_ipv6_extension")
    if kind == 51 and start[1] == 0:
        raise Drop("drop_ipv6_extension")
    header = rest.take(length(start[1]), "drop_ipv6_extension")
    if kind == 44 and u16(header, 2) & 0xFFF9:
        raise Drop("drop_ip_fragment")
    if kind == 43 and header[3]:
        raise Drop("drop_ipv6_extension")
    options = header[2:] if kind in (0, 60) else b""
    while options:
        size = 1 if options[0] == 0 else 2 + options[1] if len(options) > 1 else 999
        if options[0] >= 0x40 or size > len(options):
            raise Drop("drop_ipv6_extension")
        options = options[size:]
    return header[0]
