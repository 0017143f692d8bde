"""Frames by name: the number of the case among the hostile ones, and what is odd about it."""

from __future__ import annotations

from typing import Any

from scapy.contrib.erspan import ERSPAN_II
from scapy.contrib.lldp import LLDPDUChassisID, LLDPDUEndOfLLDPDU, LLDPDUPortID
from scapy.contrib.lldp import LLDPDUTimeToLive as LLDPDUTtl
from scapy.contrib.mpls import MPLS
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_Router_Alert, fragment
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6MLQuery,
    ICMPv6MLReport2,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    Jumbo,
    PadN,
    RouterAlert,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import ARP, GRE, LLC, SNAP, STP, Dot1AD, Dot1Q, Dot3, Ether
from scapy.layers.ppp import PPP, PPPoE
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

PAYLOAD = bytes(range(100))


def v4(*, udp: dict[str, Any] | None = None, load: bytes = PAYLOAD, **ip: Any) -> Packet:
    return IP(src="10.1.2.3", dst="239.1.1.1", **ip) / UDP(sport=7, dport=26400, **udp or {}) / load


def v6(*extensions: Packet, udp: dict[str, Any] | None = None, **ip: Any) -> Packet:
    packet = IPv6(src="fd00::1", dst="ff15::42", **ip)
    for extension in extensions:
        packet /= extension
    return packet / UDP(sport=7, dport=26400, **udp or {}) / PAYLOAD


def eth(*upper: Packet, **fields: Any) -> Packet:
    frame = Ether(src="02:00:00:00:00:01", dst="01:00:5e:01:01:01", **fields)
    for layer in upper:
        frame /= layer
    return frame


def patched(frame: Packet, at: int, value: bytes) -> bytes:
    data = bytearray(bytes(frame))
    data[at : at + len(value)] = value
    return bytes(data)


V4 = bytes(eth(v4()))
V6 = bytes(eth(v6()))
LLDP = LLDPDUChassisID(subtype=7, id=b"x") / LLDPDUPortID(subtype=7, id=b"y") / LLDPDUTtl(ttl=9)
FRAGMENTS = [eth(p) for p in fragment(v4(load=bytes(4000), id=9), fragsize=1400)]
OPTIONS = [IPOption_NOP(), IPOption_Router_Alert()]

ACCEPTED: dict[str, Packet | bytes] = {
    "14 vlan": eth(Dot1Q(vlan=905), v4()),
    "14 vlan and ipv6": eth(Dot1Q(vlan=905), v6()),
    "14 QinQ 88a8": eth(Dot1AD(vlan=905), Dot1Q(vlan=6), v4()),
    "14 QinQ 9100": eth(Dot1Q(vlan=905), Dot1Q(vlan=6), v4(), type=0x9100),
    "12 padded to 60": bytes(eth(v4(load=b"abc"))).ljust(60, b"\xee"),
    "13 jumbo of 9018": eth(v4(load=bytes(8976))),
    "17 wrong multicast MAC": Ether(dst="01:00:5e:7f:7f:7f", src="01:00:5e:01:01:01") / v4(),
    "19 bad FCS as trailer": V4 + b"\xde\xad\xbe\xef",
    "22 total length below the frame": V4 + bytes(33),
    "24 options": eth(v4(options=OPTIONS)),
    "24 option up to the header's end": eth(v4(options=b"\x01\x44\x03\x00")),
    "24 options end early": eth(v4(options=b"\x01\x00\x44\x01")),
    "25 TTL 0": eth(v4(ttl=0)),
    "25 hop limit 0": eth(v6(hlim=0)),
    "31 hop-by-hop": eth(v6(IPv6ExtHdrHopByHop(options=[RouterAlert(), PadN(optdata=b"..")]))),
    "31 routing, no segments left": eth(v6(IPv6ExtHdrRouting(addresses=["::1"], segleft=0))),
    "31 destination options": eth(v6(IPv6ExtHdrDestOpt())),
    "31 AH": eth(v6(AH(nh=17, payloadlen=4, icv=bytes(12)))),
    "31 atomic fragment": eth(v6(IPv6ExtHdrFragment(id=5))),
    "31 eight extensions": eth(v6(*[IPv6ExtHdrDestOpt() for _ in range(8)])),
    "33 UDP length below IP's": eth(v4(udp={"len": 20})),
    "33 empty UDP payload": eth(v4(load=b"")),
    "33 UDP over IPv6": V6,
}

OTHER_PAYLOAD = {
    "12 padded to 60": b"abc",
    "13 jumbo of 9018": bytes(8976),
    "33 UDP length below IP's": PAYLOAD[:12],
    "33 empty UDP payload": b"",
}

DROPPED: dict[str, tuple[Packet | bytes, str]] = {
    "7 zero-length record": (b"", "drop_frame_short"),
    "12 13 bytes": (V4[:13], "drop_frame_short"),
    "12 runt, header only": (V4[:14], "drop_ip_header"),
    "12 runt in the IP header": (V4[:33], "drop_ip_header"),
    "12 runt in the UDP header": (V4[:40], "drop_ip_length"),
    "14 three tags": (eth(Dot1Q(vlan=1), Dot1Q(vlan=2), Dot1Q(vlan=3), v4()), "drop_vlan"),
    "14 tag cut": (bytes(eth(Dot1Q(vlan=1), v4()))[:17], "drop_vlan"),
    "14 second tag cut": (bytes(eth(Dot1AD(vlan=1), Dot1Q(vlan=1), v4()))[:20], "drop_vlan"),
    "15 ethertype 0x88b5": (eth(Raw(PAYLOAD), type=0x88B5), "drop_ethertype"),
    "15 between length and type": (eth(Raw(PAYLOAD), type=1501), "drop_ethertype"),
    "15 LLC": (Dot3() / LLC(dsap=0x42, ssap=0x42, ctrl=3) / STP(), "drop_llc"),
    "15 SNAP with IP": (Dot3() / LLC() / SNAP(code=0x800) / v4(), "drop_llc"),
    "15 LLC behind a tag": (eth(Dot1Q(vlan=1, type=40), LLC() / STP()), "drop_llc"),
    "15 ARP": (eth(ARP(), type=0x806), "drop_arp"),
    "15 ARP behind a tag": (eth(Dot1Q(vlan=3), ARP()), "drop_arp"),
    "15 LLDP": (eth(LLDP / LLDPDUEndOfLLDPDU()), "drop_lldp"),
    "15 pause": (eth(Raw(b"\x00\x01\xff\xff" + bytes(42)), type=0x8808), "drop_pause"),
    "16 MPLS": (eth(MPLS(label=3), v4()), "drop_encap"),
    "16 MPLS 8848": (eth(MPLS(label=3), v4(), type=0x8848), "drop_encap"),
    "16 PPPoE": (eth(PPPoE(), PPP(proto=0x21), v4()), "drop_encap"),
    "16 PPPoE discovery": (eth(Raw(b"\x11\x09" + bytes(58)), type=0x8863), "drop_encap"),
    "16 GRE": (eth(IP(), GRE(), v4()), "drop_encap"),
    "16 ERSPAN": (eth(IP(), GRE(proto=0x88BE), ERSPAN_II(), Ether(V4)), "drop_encap"),
    "16 VXLAN": (eth(IP(), UDP(dport=4789), VXLAN(vni=4), Ether(V4)), "drop_encap"),
    "16 VXLAN over IPv6": (eth(IPv6(), UDP(dport=4789), VXLAN(vni=4), Ether(V4)), "drop_encap"),
    "16 IP in IP": (eth(IP(), v4()), "drop_encap"),
    "16 IPv6 in IP": (eth(IP(proto=41), v6()), "drop_encap"),
    "16 IP in IPv6": (eth(IPv6(nh=4), v4()), "drop_encap"),
    "20 version 0": (eth(v4(version=0)), "drop_ip_version"),
    "20 version 5": (eth(v4(version=5)), "drop_ip_version"),
    "20 version 15": (eth(v4(version=15)), "drop_ip_version"),
    "20 IPv6 in IPv4's ethertype": (eth(v6(), type=0x800), "drop_ip_version"),
    "20 IPv4 in IPv6's ethertype": (eth(v4(), type=0x86DD), "drop_ip_version"),
    "21 IHL 0": (eth(v4(ihl=0)), "drop_ip_header"),
    "21 IHL 4": (eth(v4(ihl=4)), "drop_ip_header"),
    "21 IHL beyond the data": (eth(v4(ihl=15, load=b"")), "drop_ip_header"),
    "21 IPv6 header cut": (V6[:53], "drop_ip_header"),
    "22 total length 0": (eth(v4(len=0)), "drop_ip_length"),
    "22 total length below the header": (eth(v4(len=19)), "drop_ip_length"),
    "22 total length below its options": (eth(v4(len=23, options=OPTIONS)), "drop_ip_length"),
    "22 total length beyond the frame": (eth(v4(len=129)), "drop_ip_length"),
    "22 total length 65535": (eth(v4(len=65535)), "drop_ip_length"),
    "22 IPv6 length beyond the frame": (eth(v6(plen=109)), "drop_ip_length"),
    "24 option length 0": (eth(v4(options=b"\x44\x00\x00\x00")), "drop_ip_header"),
    "24 option length 1": (eth(v4(options=b"\x44\x01\x00\x00")), "drop_ip_header"),
    "24 option beyond the header": (eth(v4(options=b"\x01\x01\x44\x03")), "drop_ip_header"),
    "24 option without length": (eth(v4(options=b"\x01\x01\x01\x44")), "drop_ip_header"),
    "26 first fragment": (FRAGMENTS[0], "drop_ip_fragment"),
    "26 middle fragment": (FRAGMENTS[1], "drop_ip_fragment"),
    "26 last fragment": (FRAGMENTS[-1], "drop_ip_fragment"),
    "27 overlapping fragment": (eth(v4(flags="MF", frag=1)), "drop_ip_fragment"),
    "28 teardrop": (eth(v4(frag=3, load=bytes(4))), "drop_ip_fragment"),
    "28 ping of death": (eth(IP(frag=8189), ICMP(), Raw(bytes(64))), "drop_ip_fragment"),
    "28 tiny fragment": (eth(IP(proto=17, flags="MF"), Raw(b"\x00\x07")), "drop_ip_fragment"),
    "29 TCP fragment of the same id": (eth(IP(id=9, flags="MF"), TCP()), "drop_ip_fragment"),
    "31 first IPv6 fragment": (eth(v6(IPv6ExtHdrFragment(m=1))), "drop_ip_fragment"),
    "31 last IPv6 fragment": (eth(v6(IPv6ExtHdrFragment(offset=185))), "drop_ip_fragment"),
    "31 nine extensions": (eth(v6(*[IPv6ExtHdrDestOpt()] * 9)), "drop_ipv6_extension"),
    "31 no next header": (eth(IPv6(nh=59), Raw(PAYLOAD)), "drop_ipv6_extension"),
    "31 jumbogram": (
        eth(v6(IPv6ExtHdrHopByHop(options=[Jumbo(jumboplen=116)]), plen=0)),
        "drop_ipv6_extension",
    ),
    "31 jumbo option in a normal packet": (
        eth(v6(IPv6ExtHdrHopByHop(options=[Jumbo(jumboplen=116)]))),
        "drop_ipv6_extension",
    ),
    "31 hop-by-hop not first": (
        eth(v6(IPv6ExtHdrDestOpt(), IPv6ExtHdrHopByHop())),
        "drop_ipv6_extension",
    ),
    "31 extension beyond the packet": (eth(v6(IPv6ExtHdrDestOpt(len=15))), "drop_ipv6_extension"),
    "31 option beyond its header": (
        patched(eth(v6(IPv6ExtHdrDestOpt())), 56, b"\x01\x05"),
        "drop_ipv6_extension",
    ),
    "31 option that must be understood": (
        patched(eth(v6(IPv6ExtHdrDestOpt())), 56, b"\x41\x04"),
        "drop_ipv6_extension",
    ),
    "31 option without length": (
        patched(eth(v6(IPv6ExtHdrDestOpt())), 56, b"\x01\x03\0\0\0\x01"),
        "drop_ipv6_extension",
    ),
    "31 segments left": (
        eth(v6(IPv6ExtHdrRouting(addresses=["::1"], segleft=1))),
        "drop_ipv6_extension",
    ),
    "31 AH of length 0": (eth(v6(AH(nh=17, payloadlen=0))), "drop_ipv6_extension"),
    "TCP": (eth(IP(), TCP()), "drop_tcp"),
    "TCP behind an extension": (eth(IPv6(), IPv6ExtHdrDestOpt(), TCP()), "drop_tcp"),
    "ICMP": (eth(IP(), ICMP()), "drop_icmp"),
    "ICMPv6": (eth(IPv6(), ICMPv6EchoRequest()), "drop_icmp"),
    "ICMPv6 without a type": (eth(IPv6(nh=58)), "drop_icmp"),
    "IGMP": (eth(IP(proto=2, ttl=1), Raw(b"\x16\0\0\0\xef\1\1\1")), "drop_igmp"),
    "MLD query": (
        eth(IPv6(), IPv6ExtHdrHopByHop(options=[RouterAlert()]), ICMPv6MLQuery()),
        "drop_igmp",
    ),
    "MLD 2 report": (eth(IPv6(), ICMPv6MLReport2()), "drop_igmp"),
    "PIM": (eth(IP(proto=103), Raw(PAYLOAD)), "drop_ip_protocol"),
    "ESP over IPv6": (eth(IPv6(nh=50), Raw(PAYLOAD)), "drop_ip_protocol"),
    "33 UDP length 0": (eth(v4(udp={"len": 0})), "drop_udp_length"),
    "33 UDP length 7": (eth(v4(udp={"len": 7})), "drop_udp_length"),
    "33 UDP length beyond IP's": (eth(v4(udp={"len": 109})), "drop_udp_length"),
    "33 UDP length in the padding": (
        bytes(eth(v4(load=b"", udp={"len": 9}))).ljust(60, b"\0"),
        "drop_udp_length",
    ),
    "33 IP payload below 8": (eth(v4(len=27)), "drop_udp_length"),
    "33 UDP length beyond IPv6's": (eth(v6(udp={"len": 109})), "drop_udp_length"),
}
