"""UDP over IPv4 multicast in Ethernet frames, with right checksums (RFC 768, 791, 1112)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from struct import Struct

HEADERS = Struct(">BBHHHBBH4s4sHHHH")  # IPv4 without options, then UDP
ETHERTYPE_IPV4, ETHERTYPE_VLAN = b"\x08\x00", b"\x81\x00"
DONT_FRAGMENT = 0x4000
UDP = 17


def ones_complement_sum(data: bytes) -> int:
    """The 16-bit big-endian words of ``data`` summed as RFC 1071 does, modulo 65,535.

    2**16 is 1 modulo 65,535, so the whole buffer as one number has the residue of its words' sum.
    """
    return int.from_bytes(data if len(data) % 2 == 0 else data + b"\0", "big") % 0xFFFF


def group_mac(group: str) -> bytes:
    """The MAC of an IPv4 group: 01:00:5e and its low 23 bits (RFC 1112, 6.4)."""
    return (0x01005E000000 | int(IPv4Address(group)) & 0x7FFFFF).to_bytes(6, "big")


@dataclass(frozen=True)
class Channel:
    """Where one line of a feed comes from and goes to; ``vlan`` 1..4094 adds an 802.1Q tag."""

    group: str
    port: int
    source: str
    source_port: int = 49_000
    source_mac: bytes = b"\x02\x00\x00\x00\x00\x01"
    vlan: int | None = None
    ttl: int = 16


class Framer:
    """Builds the frames of one channel; the IP identification counts them."""

    def __init__(self, channel: Channel) -> None:
        tag = b"" if channel.vlan is None else ETHERTYPE_VLAN + channel.vlan.to_bytes(2, "big")
        self.channel = channel
        self.link = group_mac(channel.group) + channel.source_mac + tag + ETHERTYPE_IPV4
        self.source = IPv4Address(channel.source).packed
        self.group = IPv4Address(channel.group).packed
        addresses = ones_complement_sum(self.source + self.group)
        self.ip_sum = 0x4500 + DONT_FRAGMENT + (channel.ttl << 8 | UDP) + addresses
        self.udp_sum = addresses + UDP + channel.source_port + channel.port
        self.identification = 0

    def frame(self, payload: bytes) -> bytes:
        channel = self.channel
        self.identification = identification = (self.identification + 1) & 0xFFFF
        udp_length = 8 + len(payload)
        ip_length = 20 + udp_length
        ip_sum = (self.ip_sum + ip_length + identification) % 0xFFFF
        # The length counts twice: in the header and in the pseudo header. A UDP checksum of 0
        # would mean "none", and the other zero of ones' complement, 0xFFFF, is sent instead.
        udp_sum = (self.udp_sum + 2 * udp_length + ones_complement_sum(payload)) % 0xFFFF
        headers = HEADERS.pack(
            0x45, 0, ip_length, identification, DONT_FRAGMENT, channel.ttl, UDP,
            0xFFFF - (ip_sum or 0xFFFF), self.source, self.group,
            channel.source_port, channel.port, udp_length, 0xFFFF - udp_sum,
        )  # fmt: skip
        return self.link + headers + payload
