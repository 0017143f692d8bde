"""I: what is wrong with IP headers, fragments and addresses (20-32)."""

from __future__ import annotations

from collections.abc import Iterator
from struct import pack
from typing import Any

from testbed.frames import (
    GROUP6,
    IPV4,
    IPV6,
    SOURCE6,
    datagram,
    eth,
    extension,
    ipv4,
    ipv6,
    mold,
    udp,
)
from testbed.hostile.vector import (
    ASK,
    BID,
    DIRECTORY,
    FIRST,
    GROUP_A,
    LINES,
    PORT,
    TRUTH,
    Frame,
    Vector,
    counts,
    line_b,
    stray,
)

WHOLE = {"messages_decoded": 3, "events_written": 6}
COPY = mold(sequence=1, messages=[DIRECTORY, BID])
UDP = udp(mold(sequence=3, messages=[ASK]))
HOPOPTS, TCP, ROUTING, FRAGMENT, ESP, AH, ICMPV6, NONE, DSTOPTS = 0, 6, 43, 44, 50, 51, 58, 59, 60


def accepted(id: str, ip: bytes, *, moved: dict[str, int] | None = None, **rest: Any) -> Vector:
    """The last good packet, odd but right."""
    frames = (FIRST, Frame(eth(ip)))
    return Vector(id, frames, counts(2, **WHOLE, **moved or {}), TRUTH, **rest)


def dropped(id: str, reason: str, *packets: bytes, ethertype: int = IPV4, **rest: Any) -> Vector:
    frames = [eth(packet, ethertype=ethertype) for packet in packets]
    return stray(id, *frames, moved={f"drop_{reason}": len(frames)}, **rest)


def headers() -> Iterator[Vector]:
    for version in 0, 5, 15:
        yield dropped(f"i20_version_{version}", "ip_version", ipv4(UDP, version=version))
    yield dropped("i20_ipv6_as_ipv4", "ip_version", ipv6(UDP))
    yield dropped("i20_ipv4_as_ipv6", "ip_version", ipv4(UDP), ethertype=IPV6)
    for ihl in 0, 4:
        yield dropped(f"i21_ihl_{ihl}", "ip_header", ipv4(UDP, ihl=ihl))
    yield dropped("i21_ihl_beyond_the_data", "ip_header", ipv4(udp(b""), ihl=15))
    size = 20 + len(UDP)
    for name, total in ("0", 0), ("below_header", 19), ("beyond_frame", size + 1), ("65535", 65535):
        yield dropped(f"i22_total_{name}", "ip_length", ipv4(UDP, total_length=total))
    longer = ipv4(UDP) + bytes(33)
    yield accepted("i22_total_below_frame", longer)
    shorter = ipv4(UDP, total_length=20 + 8 + 19)
    yield dropped("i22_total_below_udp", "udp_length", shorter)


def checksums() -> Iterator[Vector]:
    wrong = ipv4(UDP, checksum=0xBAD)
    yield accepted("i23_checksum_auto", wrong, moved={"note_ip_checksum": 1})
    yield accepted("i23_checksum_ignore", wrong, checksum="ignore")
    yield dropped("i23_checksum_verify", "ip_checksum", wrong, checksum="verify")
    zero = ipv4(UDP, checksum=0)
    yield accepted("i23_checksum_zero", zero, moved={"note_ip_checksum": 1})


def options() -> Iterator[Vector]:
    for name, text in (
        ("nop", b"\1\1\1\1"),
        ("router_alert", b"\x94\4\0\0"),
        ("end_early", b"\1\0\x44\1"),
    ):
        yield accepted(f"i24_{name}", ipv4(UDP, options=text))
    for name, text in (
        ("length_0", b"\x44\0\0\0"), ("length_1", b"\x44\1\0\0"), ("beyond_header", b"\1\1\x44\3"),
        ("no_length", b"\1\1\1\x44"),
    ):  # fmt: skip
        yield dropped(f"i24_option_{name}", "ip_header", ipv4(UDP, options=text))
    yield accepted("i25_ttl_0", ipv4(UDP, ttl=0))


def piece(offset: int, size: int, more: bool, **rest: Any) -> bytes:
    """A fragment: `size` bytes of a datagram of 4,000 from 8 * `offset` on."""
    whole = udp(mold(sequence=3, messages=[ASK, bytes(3900)])).ljust(4000, b"\0")
    data = whole[8 * offset : 8 * offset + size]
    return ipv4(data, flags=int(more), offset=offset, **{"identification": 9, **rest})


def fragments() -> Iterator[Vector]:
    """None are put together: venues send none, and a table of halves is a target."""
    first, middle, last = piece(0, 1400, True), piece(175, 1400, True), piece(350, 1200, False)
    yield dropped("i26_first_middle_last", "ip_fragment", first, middle, last)
    yield dropped("i26_last_only", "ip_fragment", last)
    yield dropped("i26_out_of_order", "ip_fragment", last, first, middle)
    yield dropped("i27_overlap_same", "ip_fragment", first, piece(100, 1400, True), last)
    other = bytearray(piece(100, 1400, True))
    other[-1] ^= 0xFF
    yield dropped("i27_overlap_different", "ip_fragment", first, bytes(other), last)
    yield dropped("i28_teardrop", "ip_fragment", piece(0, 36, True), piece(3, 4, False))
    death = ipv4(bytes(64), protocol=1, flags=0, offset=8189)
    yield dropped("i28_ping_of_death", "ip_fragment", death)
    yield dropped("i28_tiny", "ip_fragment", piece(0, 8, True), piece(1, 8, False))
    yield dropped(
        "i29_same_id_other_protocol", "ip_fragment", first, piece(175, 1400, False, protocol=TCP),
        piece(175, 1400, False, src="198.51.100.2"),
    )  # fmt: skip
    flood = [piece(0, 24, True, identification=i) for i in range(1000)]
    yield dropped("i30_flood", "ip_fragment", *flood)


# --- IPv6: line B is a group of it, and gets a copy of the first packet ---

SIX = (LINES["itch50"][0], f"[{GROUP6}]:{PORT}")
UDP6 = udp(COPY, src=SOURCE6, dst=GROUP6)
PAD4 = b"\1\4\0\0\0\0"
ATOMIC = pack(">HI", 0, 5)


def six(id: str, reason: str, payload: bytes, next_header: int, **rest: Any) -> Vector:
    frame = eth(ipv6(payload, next_header=next_header, **rest), ethertype=IPV6)
    return stray(id, frame, moved={reason: 1}, lines=SIX)


def copied(id: str, payload: bytes, next_header: int, **rest: Any) -> Vector:
    frame = eth(ipv6(payload, next_header=next_header, **rest), ethertype=IPV6)
    return stray(id, frame, moved={"messages_duplicate": 2}, lines=SIX)


def ipv6s() -> Iterator[Vector]:
    yield copied("i31_plain", UDP6, 17)
    yield copied("i31_hop_by_hop", extension(17, b"\5\2\0\0\1\0") + UDP6, HOPOPTS)
    yield copied("i31_routed", extension(17, b"\0\0" + bytes(4)) + UDP6, ROUTING)
    yield copied("i31_eight_extensions", extension(DSTOPTS) * 7 + extension(17) + UDP6, DSTOPTS)
    yield copied("i31_atomic_fragment", extension(17, ATOMIC, 0) + UDP6, FRAGMENT)
    yield copied("i31_hop_limit_0", UDP6, 17, hops=0)
    bad = "drop_ipv6_extension"
    yield six("i31_nine_extensions", bad, extension(DSTOPTS) * 8 + extension(17) + UDP6, DSTOPTS)
    yield six("i31_no_next_header", bad, UDP6, NONE)
    jumbo = extension(17, b"\xc2\4" + pack(">I", len(UDP6) + 8))
    yield six("i31_jumbogram", bad, jumbo + UDP6, HOPOPTS, payload_length=len(UDP6) + 8)
    yield six("i31_length_0", "drop_udp_length", UDP6, 17, payload_length=0)
    yield six("i31_hop_by_hop_second", bad, extension(HOPOPTS) + extension(17) + UDP6, DSTOPTS)
    yield six("i31_extension_beyond", bad, extension(17, PAD4, 255) + UDP6, DSTOPTS)
    yield six("i31_option_beyond", bad, extension(17, b"\1\5\0\0\0\0") + UDP6, DSTOPTS)
    yield six("i31_segments_left", bad, extension(17, b"\0\1" + bytes(4)) + UDP6, ROUTING)
    yield six("i31_ah_of_length_0", bad, extension(17, PAD4, 0) + UDP6, AH)
    half = extension(17, pack(">HI", 1, 5), 0) + UDP6
    yield six("i31_fragment", "drop_ip_fragment", half, FRAGMENT)
    tail = extension(17, pack(">HI", 185 << 3, 5), 0) + UDP6
    yield six("i31_last_fragment", "drop_ip_fragment", tail, FRAGMENT)
    yield six("i31_length_beyond", "drop_ip_length", UDP6, 17, payload_length=len(UDP6) + 1)
    cut = eth(ipv6(UDP6), ethertype=IPV6)[:53]
    yield stray("i31_header_cut", cut, moved={"drop_ip_header": 1}, lines=SIX)


def addresses() -> Iterator[Vector]:
    ask = mold(sequence=3, messages=[ASK])
    for name, frame in (
        ("group", datagram(ask, dst="233.54.12.112")),
        ("port", datagram(ask, dst=GROUP_A, dst_port=PORT + 1)),
        ("lines_swapped_address", datagram(ask, dst="111.12.54.233")),
    ):
        yield stray(f"i32_other_{name}", frame, moved={"drop_no_feed": 1})
    allowed = {"options": {"allowed": ("198.51.100.1",)}}
    spoof = [datagram(ask, src=f"198.51.100.{host}") for host in (0, 2, 255)]
    yield stray("i32_spoofed_source", *spoof, moved={"drop_unexpected_src": 3}, **allowed)
    copy = line_b(1, DIRECTORY, BID)
    yield stray("i32_allowed_source", copy, moved={"messages_duplicate": 2}, **allowed)


def protocols() -> Iterator[Vector]:
    """No numbered case of their own: what else is on the wire of a market-data group."""
    for name, reason, number, body in (
        ("tcp", "tcp", TCP, bytes(20)), ("icmp", "icmp", 1, b"\x08\0" + bytes(6)),
        ("igmp", "igmp", 2, b"\x16\0\0\0" + bytes(4)), ("pim", "ip_protocol", 103, bytes(8)),
    ):  # fmt: skip
        yield dropped(f"i00_{name}", reason, ipv4(body, protocol=number))
    yield six("i00_icmpv6", "drop_icmp", b"\x80\0" + bytes(6), ICMPV6)
    yield six("i00_mld", "drop_igmp", b"\x8f\0" + bytes(6), ICMPV6)
    yield six("i00_esp_over_ipv6", "drop_ip_protocol", bytes(16), ESP)
    yield six("i00_tcp_over_ipv6", "drop_tcp", extension(TCP) + bytes(20), DSTOPTS)


def vectors() -> Iterator[Vector]:
    for part in headers, checksums, options, fragments, ipv6s, addresses, protocols:
        yield from part()
