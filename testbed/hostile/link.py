"""L: what is wrong with a capture file or below IP (1-19)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from struct import pack
from typing import Any

from testbed.frames import QINQ, VLAN, datagram, eth, ipv4, itch_add, itch_delete, mold, udp
from testbed.hostile.vector import (
    ASK,
    BID,
    DIRECTORY,
    FIRST,
    LAST,
    SNAPLEN,
    START_NS,
    TRUTH,
    Frame,
    Vector,
    counts,
    line_a,
    pcap,
    pcap_record,
    stray,
    stream,
)

GOOD = (FIRST, LAST)
WHOLE = {"messages_decoded": 3, "events_written": 6}
HALF = {"messages_decoded": 2, "events_written": 4}
IP_PACKET = ipv4(udp(mold(sequence=1, messages=[DIRECTORY, BID])))
RAW, SLL, SLL2, IPV4_ONLY = 101, 113, 276, 228


def good(id: str, file: bytes, *, error: str = "", **rest: Any) -> Vector:
    """A file of the good frames, of which all come through."""
    return Vector(id, GOOD, counts(2, **WHOLE), TRUTH, file=file, error=error, **rest)


def broken(id: str, file: bytes, error: str) -> Vector:
    """A file of which only the first good frame comes through."""
    truth = (DIRECTORY, BID)
    return Vector(
        id, (FIRST,), counts(1, **HALF), truth, sessions=((1, 3),), file=file, error=error
    )


def files() -> Iterator[Vector]:
    whole, second = pcap(GOOD), pcap_record(START_NS, LAST)
    yield broken("l01_cut_inside_a_record", whole[:-1], "ends inside the record at offset")
    yield broken("l01_cut_behind_the_header", whole[: -len(LAST.data)], "ends inside the record at")
    yield broken("l02_cut_inside_a_record_header", whole[: -len(second) + 7], "record header at")
    empty = Vector("l03_header_only", (), {}, (), sessions=(), file=pcap(()))
    yield empty
    for name, data, error in (
        ("l03_zero_bytes", b"", "the file is empty"),
        ("l03_cut_file_header", pcap(())[:23], "ends inside the file header"),
        ("l04_wrong_magic", pcap(GOOD, magic=0x0A0D0D0B), "neither pcap nor pcapng"),
    ):
        yield replace(empty, id=name, file=data, error=error, refused=True)
    for order in "<>":
        for unit in 1, 1000:
            name = f"l04_{'little' if order == '<' else 'big'}_endian_{'ns' if unit == 1 else 'us'}"
            yield good(name, pcap(GOOD, order=order, unit_ns=unit))
    for name, length in ("above_snaplen", SNAPLEN + 1), ("2_31", 0x7FFFFFFF):
        lie = pack("<4I", 1, 0, length, length)
        first = pcap(GOOD[:1])
        yield broken(
            f"l05_caplen_{name}", first + lie + bytes(300_000), f"captured length {length}"
        )
    for snaplen in 14, 60, 96:
        cut = Frame(line_a(3, ASK).data[:snaplen], wirelen=len(LAST.data))
        yield stray(
            f"l06_cut_to_{snaplen}", cut, moved={"drop_capture_truncated": 1},
            driver={"drop_capture_truncated": 0, **SHORT[snaplen]},
            driver_why="net_pcap does not tell the wire length",
        )  # fmt: skip
    yield stray("l07_zero_length_record", b"", moved={"drop_frame_short": 1})


SHORT = {14: {"drop_ip_header": 1}, 60: {"drop_ip_length": 1}, 96: {"drop_ip_length": 1}}


def links() -> Iterator[Vector]:
    packets = [Frame(frame.data[14:]) for frame in GOOD]
    cooked = pack(">HHH8sH", 2, 1, 6, bytes(8), 0x800)
    cooked2 = pack(">HHIHBB8s", 0x800, 0, 1, 1, 2, 6, bytes(8))
    for name, link, head in (
        ("raw", RAW, b""), ("ipv4", IPV4_ONLY, b""), ("sll", SLL, cooked), ("sll2", SLL2, cooked2),
    ):  # fmt: skip
        frames = tuple(Frame(head + frame.data) for frame in packets)
        yield Vector(f"l08_{name}", frames, counts(2, **WHOLE), TRUTH, link=link)
    unknown = {"drop_link_unknown": 2}
    yield Vector("l08_unknown", GOOD, counts(2, **unknown), (), sessions=(), link=147)
    raw = (Frame(b"\x55" + packets[0].data[1:]), *packets)
    yield Vector(
        "l08_raw_of_ip_version_5", raw, counts(3, drop_ip_version=1, **WHOLE), TRUTH, link=RAW
    )
    short = (Frame(cooked[:15]), *(Frame(cooked + frame.data) for frame in packets))
    yield Vector("l08_sll_cut", short, counts(3, drop_frame_short=1, **WHOLE), TRUTH, link=SLL)


# --- pcapng, as the draft draft-ietf-opsawg-pcapng has it ---


def block(kind: int, body: bytes, order: str = "<", total: int | None = None) -> bytes:
    size = pack(f"{order}I", 12 + len(body) if total is None else total)
    return pack(f"{order}I", kind) + size + body + size


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(order: str = "<", tsresol: int | None = None, tsoffset: int = 0) -> bytes:
    options = b"" if tsresol is None else pack(f"{order}HHB3x", 9, 1, tsresol)
    options += pack(f"{order}HHq", 14, 8, tsoffset) if tsoffset else b""
    return block(1, pack(f"{order}HHI", 1, 0, SNAPLEN) + options + bytes(4), order)


def packet(frame: Frame, ticks: int, number: int = 0, order: str = "<") -> bytes:
    size = len(frame.data)
    head = pack(f"{order}IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, size, size)
    return block(6, head + frame.data + bytes(-size % 4), order)


def pcapng(order: str = "<", ticks: int = 10**9, **options: int) -> bytes:
    at = START_NS * ticks // 10**9 - options.get("tsoffset", 0) * ticks
    packets = [packet(frame, at, 0, order) for frame in GOOD]
    return section(order) + interface(order, **options) + b"".join(packets)


def pcapngs() -> Iterator[Vector]:
    for digits in 3, 6, 9:
        yield good(f"l09_tsresol_1e-{digits}", pcapng(ticks=10**digits, tsresol=digits))
    yield good("l09_tsresol_2_to_-20", pcapng(ticks=2**20, tsresol=0x80 | 20))
    yield good("l09_tsoffset", pcapng(tsresol=9, tsoffset=1_000_000_000))
    yield good("l09_big_endian", pcapng(">", tsresol=9))
    head = section() + interface(tsresol=9)
    one = packet(FIRST, START_NS)
    yield good("l09_unknown_block", head + one + block(0xBAD, bytes(64)) + packet(LAST, START_NS))
    two = head + interface(tsresol=6) + one + packet(LAST, START_NS // 1000, 1)
    yield good("l09_two_interfaces", two)
    yield good(
        "l09_two_sections",
        head + one + section(">") + interface(">", 9) + packet(LAST, START_NS, 0, ">"),
    )
    wrong = block(6, bytes(40), total=13)
    yield broken("l09_wrong_total_length", head + one + wrong + packet(LAST, START_NS), "at offset")
    nowhere = packet(LAST, START_NS, number=5)
    yield broken("l09_no_such_interface", head + one + nowhere, "interface")
    yield broken("l09_cut", head + one + packet(LAST, START_NS)[:-3], "ends inside")


def times() -> Iterator[Vector]:
    back = replace(LAST, after_us=-1_000_000)
    regress = {"note_ts_regress": 1, **WHOLE}
    yield Vector("l10_time_goes_back", (FIRST, back), counts(2, **regress), TRUTH)
    yield Vector("l10_equal_times", (FIRST, replace(LAST, after_us=0)), counts(2, **WHOLE), TRUTH)
    hour_us = 3_600_000_000
    order = itch_add(4, b"B", 1, 900_000)
    future = (
        FIRST,
        line_a(4, order),
        line_a(3, after_us=hour_us),
        replace(LAST, after_us=-hour_us),
    )
    yield stream(
        "l10_one_stamp_in_the_future", *future, truth=(*TRUTH, order), sessions=((1, 5),),
        packets_heartbeat=1, note_ts_regress=1, gaps_healed=1, messages_decoded=4, events_written=7,
    )  # fmt: skip
    year_2100 = 4_102_444_800 * 10**9
    yield good("l10_year_2100", pcap(GOOD, start_ns=year_2100))


# --- Ethernet ---


def runts() -> Iterator[Vector]:
    yield stray("l12_13_bytes", FIRST.data[:13], moved={"drop_frame_short": 1})
    yield stray("l12_header_only", FIRST.data[:14], moved={"drop_ip_header": 1})
    yield stray("l12_ends_in_ip", FIRST.data[:33], moved={"drop_ip_header": 1})
    yield stray("l12_ends_in_udp", FIRST.data[:40], moved={"drop_ip_length": 1})
    empty = eth(ipv4(udp(b"")), pad_to=60)  # its padding is not a payload
    yield stray("l12_42_bytes_padded_to_60", empty, moved={"drop_session_header": 1})
    heartbeat = eth(ipv4(udp(mold(sequence=3))), pad_to=128)
    yield stray("l12_heartbeat_padded", heartbeat, moved={"packets_heartbeat": 1})
    padded = replace(LAST, data=LAST.data + b"\xff" * 40)
    yield Vector("l12_padding_behind_ip", (FIRST, padded), counts(2, **WHOLE), TRUTH)


def jumbos() -> Iterator[Vector]:
    adds = [itch_add(100 + i, b"B", 1, 500_000 + i) for i in range(235)]
    jumbo = line_a(4, *adds)
    assert 8950 < len(jumbo.data) <= 9018
    yield stream(
        "l13_jumbo", FIRST, LAST, jumbo, truth=[*TRUTH, *adds], sessions=((1, 239),),
        messages_decoded=238, events_written=6 + 235,
    )  # fmt: skip
    deletes = [itch_delete(100 + i) for i in range(235)]
    back = line_a(239, *deletes)
    yield stream(
        "l13_two_jumbos", FIRST, LAST, jumbo, back, sessions=((1, 474),),
        truth=[*TRUTH, *adds, *deletes], messages_decoded=473, events_written=6 + 470,
    )  # fmt: skip


def tagged(payload: bytes, vlans: Sequence[tuple[int, int]]) -> bytes:
    return eth(ipv4(udp(payload)), vlans=vlans)


def tags() -> Iterator[Vector]:
    ask = mold(sequence=3, messages=[ASK])
    for name, vlans in {
        "one": [(VLAN, 905)],
        "id_0": [(VLAN, 0)],
        "id_4095": [(VLAN, 4095)],
        "priority": [(VLAN, 7 << 13)],
        "qinq_88a8": [(QINQ, 905), (VLAN, 6)],
        "qinq_9100": [(0x9100, 905), (VLAN, 6)],
    }.items():
        frames = (FIRST, Frame(tagged(ask, vlans)))
        yield Vector(f"l14_tag_{name}", frames, counts(2, **WHOLE), TRUTH)
    three = tagged(ask, [(QINQ, 1), (VLAN, 2), (VLAN, 3)])
    yield stray("l14_three_tags", three, moved={"drop_vlan": 1})
    yield stray("l14_tag_cut", tagged(ask, [(VLAN, 1)])[:17], moved={"drop_vlan": 1})


def others() -> Iterator[Vector]:
    body = bytes(46)
    for name, ethertype, reason in (
        ("unknown", 0x88B5, "ethertype"), ("between_length_and_type", 1501, "ethertype"),
        ("llc", 46, "llc"), ("snap", 38, "llc"), ("arp", 0x806, "arp"), ("lldp", 0x88CC, "lldp"),
        ("pause", 0x8808, "pause"),
    ):  # fmt: skip
        snap = b"\xaa\xaa\x03\0\0\0\x08\0" + body[:38] if name == "snap" else body
        frame = eth(snap, ethertype=ethertype)
        yield stray(f"l15_{name}", frame, moved={f"drop_{reason}": 1})


def tunnels() -> Iterator[Vector]:
    inner = LAST.data
    vxlan = ipv4(udp(b"\x08\0\0\0\0\0\x04\0" + inner, dst_port=4789))
    for name, frame in {
        "mpls": eth(pack(">I", 3 << 12 | 0x1FF) + IP_PACKET, ethertype=0x8847),
        "mpls_upstream": eth(pack(">I", 3 << 12 | 0x1FF) + IP_PACKET, ethertype=0x8848),
        "pppoe": eth(
            b"\x11\0\0\x01" + pack(">HH", 2 + len(IP_PACKET), 0x21) + IP_PACKET, ethertype=0x8864
        ),
        "pppoe_discovery": eth(b"\x11\x09" + bytes(44), ethertype=0x8863),
        "gre": eth(ipv4(b"\0\0\x08\0" + IP_PACKET, protocol=47)),
        "erspan": eth(ipv4(b"\0\0\x88\xbe" + bytes(8) + inner, protocol=47)),
        "vxlan": eth(vxlan),
        "ip_in_ip": eth(ipv4(IP_PACKET, protocol=4)),
        "ipv6_in_ip": eth(ipv4(bytes(40), protocol=41)),
    }.items():
        yield stray(f"l16_{name}", frame, moved={"drop_encap": 1})


def copies() -> Iterator[Vector]:
    ask = ipv4(udp(mold(sequence=3, messages=[ASK])))
    for name, mac in ("wrong_group", b"\x01\0\x5e\x7f\x7f\x7f"), ("broadcast", b"\xff" * 6):
        frames = (FIRST, Frame(eth(ask, dst=mac)))
        yield Vector(f"l17_{name}_mac", frames, counts(2, **WHOLE), TRUTH)
    echo = datagram(mold(sequence=1, messages=[DIRECTORY, BID]))
    own = echo[6:12] + echo[6:12] + echo[12:]
    yield stray("l17_own_echo", own, moved={"messages_duplicate": 2})
    yield stray("l18_span_copy", FIRST.data, moved={"messages_duplicate": 2})
    twice = (FIRST, FIRST, LAST, LAST)
    yield Vector("l18_all_twice", twice, counts(4, messages_duplicate=3, **WHOLE), TRUTH)
    fcs = replace(LAST, data=LAST.data + b"\xde\xad\xbe\xef")
    yield Vector("l19_bad_fcs", (FIRST, fcs), counts(2, **WHOLE), TRUTH)


def vectors() -> Iterator[Vector]:
    for part in files, links, pcapngs, times, runts, jumbos, tags, others, tunnels, copies:
        yield from part()
