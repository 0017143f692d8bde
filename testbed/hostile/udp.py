"""U: what is wrong with UDP (33-35)."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.frames import GROUP6, IPV6, SOURCE6, datagram, eth, ipv4, ipv6, mold, udp
from testbed.hostile.vector import BID, DIRECTORY, LINES, PORT, Vector, stray

COPY = mold(sequence=1, messages=[DIRECTORY, BID])


def vectors() -> Iterator[Vector]:
    for name, length in ("0", 0), ("7", 7), ("beyond_ip", 9 + len(COPY)):
        frame = eth(ipv4(udp(COPY, length=length)))
        yield stray(f"u33_length_{name}", frame, moved={"drop_udp_length": 1})
    below = eth(ipv4(udp(COPY + b"junk", length=8 + len(COPY), checksum=0)))
    moved = {"messages_duplicate": 2, "note_udp_no_checksum": 1}
    yield stray("u33_length_below_ip", below, moved=moved)
    yield stray("u34_checksum_0", eth(ipv4(udp(COPY, checksum=0))), moved=moved)
    wrong = eth(ipv4(udp(COPY, checksum=0xBAD)))
    noted = {"messages_duplicate": 2, "note_udp_checksum": 1}
    refused = {"drop_udp_checksum": 1}
    yield stray("u34_checksum_auto", wrong, moved=noted)
    yield stray("u34_checksum_verify", wrong, moved=refused, checksum="verify")
    yield stray("u34_checksum_ignore", wrong, moved={"messages_duplicate": 2}, checksum="ignore")
    pseudo = eth(ipv4(udp(COPY, src="198.51.100.9")))
    yield stray("u34_pseudo_header", pseudo, moved=refused, checksum="verify")
    zero = udp(COPY, src=SOURCE6, dst=GROUP6, checksum=0)
    six = eth(ipv6(zero), ethertype=IPV6)
    lines = (LINES["itch50"][0], f"[{GROUP6}]:{PORT}")
    yield stray("u34_checksum_0_over_ipv6", six, moved=noted, lines=lines)
    yield stray("u34_0_over_ipv6_verify", six, moved=refused, lines=lines, checksum="verify")
    for size in 0, 1, 19:
        short = datagram(COPY[:size])
        yield stray(f"u35_payload_of_{size}", short, moved={"drop_session_header": 1})
