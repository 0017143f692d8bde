"""frame_parse: scapy builds what comes in; a second parser says what must come out."""

from __future__ import annotations

import ctypes
import mmap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import (
    IPv6,
)
from scapy.layers.l2 import (
    ARP,
    CookedLinux,
    CookedLinuxV2,
    Dot1AD,
    Dot1Q,
    Ether,
)
from scapy.packet import Packet, Raw

from pydpdk._core import ffi, lib
from tests.frame_cases import (
    ACCEPTED,
    DROPPED,
    FRAGMENTS,
    OPTIONS,
    OTHER_PAYLOAD,
    PAYLOAD,
    V4,
    V6,
    eth,
    patched,
    v4,
    v6,
)
from tests.frame_model import model
from tests.frame_parse import Datagram, call, parse

IGNORE, AUTO, VERIFY = lib.CHECKSUM_IGNORE, lib.CHECKSUM_AUTO, lib.CHECKSUM_VERIFY


def outcome(frame: Packet | bytes, **how: int) -> str:
    return parse(frame, **how)[0]


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted(case: str) -> None:
    frame = ACCEPTED[case]
    verdict, got, noted = parse(frame)
    assert (verdict, noted) == ("ok", 0)
    assert got is not None
    assert got.payload == OTHER_PAYLOAD.get(case, PAYLOAD)
    assert (got.sport, got.dport) == (7, 26400)
    assert got.src in (bytes([10, 1, 2, 3]), b"\xfd" + bytes(14) + b"\1")
    assert got.dst in (bytes([239, 1, 1, 1]), b"\xff\x15" + bytes(13) + b"\x42")
    assert got.vlan == (905 if case.startswith("14 ") else 0)


@pytest.mark.parametrize("case", DROPPED)
def test_dropped(case: str) -> None:
    frame, reason = DROPPED[case]
    assert outcome(frame) == reason
    assert {outcome(frame, policy=p, flags=15) for p in (AUTO, VERIFY)} == {reason}


@pytest.mark.parametrize(("vid", "tci"), [(0, 0xE000), (4095, 0x0FFF), (4095, 0xFFFF), (1, 0x1001)])
def test_14_vlan_id_is_without_priority(vid: int, tci: int) -> None:
    got = parse(patched(eth(Dot1Q(), v4()), 14, tci.to_bytes(2, "big")))[1]
    assert got is not None
    assert got.vlan == vid


@pytest.mark.parametrize("snaplen", [13, 14, 33, 34, 41, 42, 60, 96, len(V4) - 1])
@pytest.mark.parametrize("frame", [V4, V6], ids=["IPv4", "IPv6"])
def test_6_cut_by_the_capture_is_not_the_packets_fault(frame: bytes, snaplen: int) -> None:
    assert outcome(frame[:snaplen], wirelen=len(frame)) == "drop_capture_truncated"


def test_6_capture_that_cuts_only_the_trailer_is_whole() -> None:
    assert outcome(V4, wirelen=len(V4) + 4) == "ok"


@pytest.mark.parametrize("wirelen", [0, 14, 41, len(V4) - 1])
def test_6_a_wire_length_below_the_captured_one_is_not_believed(wirelen: int) -> None:
    assert parse(V4, wirelen=wirelen) == parse(V4)


def test_6_cut_headers_of_a_tcp_packet_still_name_tcp() -> None:
    assert outcome(bytes(eth(IP(), TCP(), PAYLOAD))[:60], wirelen=154) == "drop_tcp"


@pytest.mark.parametrize("cut", range(14, 22))
def test_14_tag_cut_by_the_capture(cut: int) -> None:
    frame = bytes(eth(Dot1AD(vlan=1), Dot1Q(vlan=2), v4()))
    assert outcome(frame[:cut], wirelen=len(frame)) == "drop_capture_truncated"


def test_6_a_lying_length_is_reported_even_when_the_capture_is_cut() -> None:
    assert outcome(bytes(eth(v4(len=4000)))[:60], wirelen=142) == "drop_ip_length"
    assert outcome(bytes(eth(v4(udp={"len": 109})))[:60], wirelen=142) == "drop_udp_length"


@pytest.mark.parametrize(
    ("link", "frame", "expect"),
    [
        (101, bytes(v4()), "ok"),
        (101, bytes(v6()), "ok"),
        (228, bytes(v4()), "ok"),
        (229, bytes(v6()), "ok"),
        (113, bytes(CookedLinux(proto=0x800) / v4()), "ok"),
        (113, bytes(CookedLinux(proto=0x8100) / Dot1Q(vlan=9) / v4()), "ok"),
        (276, bytes(CookedLinuxV2(proto=0x86DD) / v6()), "ok"),
        (101, b"", "drop_frame_short"),
        (101, b"\x55" * 60, "drop_ip_version"),
        (228, bytes(v6()), "drop_ip_version"),
        (229, bytes(v4()), "drop_ip_version"),
        (113, bytes(CookedLinux(proto=4) / Raw(PAYLOAD)), "drop_llc"),
        (113, bytes(CookedLinux(proto=0x806) / ARP())[:15], "drop_frame_short"),
        (276, bytes(CookedLinuxV2(proto=0x806) / ARP()), "drop_arp"),
        (276, bytes(CookedLinuxV2(proto=0x800) / v4())[:19], "drop_frame_short"),
        (0, V4, "drop_link_unknown"),
        (105, V4, "drop_link_unknown"),
        (276 - 256, V4, "drop_link_unknown"),
    ],
)
def test_8_link_types(link: int, frame: bytes, expect: str) -> None:
    verdict, got, _ = parse(frame, link=link)
    assert verdict == expect
    assert (got.payload if got else PAYLOAD) == PAYLOAD


def test_18_the_same_frame_twice_and_30_fragment_floods_leave_no_trace() -> None:
    """The parser keeps no state: duplicates are the arbiter's, fragments are never held."""
    for i in range(2000):
        assert outcome(eth(v4(id=i % 7, flags="MF")) if i % 500 == 0 else FRAGMENTS[i % 3]) != "ok"
    assert parse(V4) == parse(V4)


@pytest.mark.parametrize("kind", [129, 130, 131, 132, 133, 142, 143, 144])
def test_multicast_listener_discovery_is_told_from_other_icmpv6(kind: int) -> None:
    expect = "drop_igmp" if kind in (130, 131, 132, 143) else "drop_icmp"
    assert outcome(eth(IPv6(nh=58), Raw(bytes([kind]) + bytes(23)))) == expect


def test_32_wrong_group_and_source_are_left_to_the_feed() -> None:
    got = parse(eth(IP(src="6.6.6.6", dst="239.9.9.9") / UDP(sport=9, dport=9) / b"x"))[1]
    assert got == Datagram(b"x", bytes([6] * 4), bytes([239, 9, 9, 9]), 9, 9, 0)


IP_BAD, UDP_BAD, UDP_NONE = lib.NOTED_IP_CHECKSUM, lib.NOTED_UDP_CHECKSUM, lib.NOTED_UDP_NO_CHECKSUM
WRONG_IP, WRONG_UDP = eth(v4(chksum=0x1234)), eth(v4(udp={"chksum": 0x1234}))
HW_GOOD = lib.PACKET_IP_GOOD | lib.PACKET_L4_GOOD
HW_BAD = lib.PACKET_IP_BAD | lib.PACKET_L4_BAD


@pytest.mark.parametrize(
    ("frame", "flags", "noted", "verified"),
    [
        pytest.param(V4, 0, 0, "ok", id="right"),
        pytest.param(V6, 0, 0, "ok", id="right IPv6"),
        pytest.param(eth(v4(options=OPTIONS)), 0, 0, "ok", id="right with options"),
        pytest.param(eth(v4(load=b"odd")), 0, 0, "ok", id="right and odd"),
        pytest.param(WRONG_IP, 0, IP_BAD, "drop_ip_checksum", id="23 wrong"),
        pytest.param(WRONG_IP, HW_GOOD, 0, "drop_ip_checksum", id="23 hardware vouches"),
        pytest.param(eth(v4(chksum=0)), 0, IP_BAD, "drop_ip_checksum", id="23 zero"),
        pytest.param(eth(v4(chksum=0)), HW_GOOD, 0, "drop_ip_checksum", id="23 zero, offloaded"),
        pytest.param(eth(v4(chksum=0)), HW_GOOD | HW_BAD, 0, "drop_ip_checksum", id="23 unfilled"),
        pytest.param(V4, lib.PACKET_IP_BAD, IP_BAD, "ok", id="23 hardware objects"),
        pytest.param(WRONG_UDP, 0, UDP_BAD, "drop_udp_checksum", id="34 wrong"),
        pytest.param(WRONG_UDP, HW_GOOD, 0, "drop_udp_checksum", id="34 hardware vouches"),
        pytest.param(V4, lib.PACKET_L4_BAD, UDP_BAD, "ok", id="34 hardware objects"),
        pytest.param(V4, HW_BAD, IP_BAD | UDP_BAD, "ok", id="34 hardware objects to both"),
        pytest.param(V6, HW_BAD, UDP_BAD, "ok", id="34 no IPv6 header checksum"),
        pytest.param(eth(v4(udp={"chksum": 0})), 0, UDP_NONE, "ok", id="34 none"),
        pytest.param(eth(v4(udp={"chksum": 0})), HW_BAD, IP_BAD | UDP_NONE, "ok", id="34 none, hw"),
        pytest.param(eth(v6(udp={"chksum": 0})), 0, UDP_BAD, "drop_udp_checksum", id="34 none, 6"),
        pytest.param(
            eth(v6(udp={"chksum": 0x1234})), 0, UDP_BAD, "drop_udp_checksum", id="34 wrong in 6"
        ),
        pytest.param(
            patched(Ether(V4), 26, b"\x0a\x01\x02\x04"),
            lib.PACKET_IP_GOOD,
            UDP_BAD,
            "drop_ip_checksum",
            id="34 pseudo header",
        ),
        pytest.param(
            eth(v4(chksum=1, udp={"chksum": 2})),
            0,
            IP_BAD | UDP_BAD,
            "drop_ip_checksum",
            id="both wrong",
        ),
    ],
)
def test_checksum_policies(frame: Packet | bytes, flags: int, noted: int, verified: str) -> None:
    assert parse(frame, policy=IGNORE, flags=flags)[::2] == ("ok", 0)
    assert parse(frame, policy=AUTO, flags=flags)[::2] == ("ok", noted)
    assert parse(frame, policy=VERIFY, flags=flags)[0] == verified


@given(
    load=st.binary(max_size=300), flip=st.integers(0, 299), bit=st.integers(0, 7), six=st.booleans()
)
def test_34_every_single_bit_error_is_seen(load: bytes, flip: int, bit: int, six: bool) -> None:
    network = IPv6() if six else IP()
    frame = bytearray(bytes(eth(network / UDP(sport=1, dport=2) / load)))
    assert parse(bytes(frame), policy=VERIFY)[::2] == ("ok", 0)
    if load:
        frame[flip % len(load) - len(load)] ^= 1 << bit
        assert parse(bytes(frame), policy=VERIFY)[0] == "drop_udp_checksum"


SEEDS = [(1, bytes(f)) for f in ACCEPTED.values() if len(f) < 2000]
SEEDS += [(1, bytes(f)) for f, _ in DROPPED.values() if 20 < len(f) < 2000]
SEEDS += [
    (101, V4[14:]),
    (228, V4[14:]),
    (229, V6[14:]),
    (113, bytes(CookedLinux(proto=0x800) / v4())),
]
SEEDS += [(276, bytes(CookedLinuxV2(proto=0x8100) / Dot1Q(vlan=5) / v6()))]
EDGES = st.one_of(st.integers(0, 255), st.sampled_from([0, 1, 4, 6, 8, 17, 44, 60, 0x45, 0x60]))
EDITS = st.lists(st.tuples(st.integers(0, 79), EDGES), max_size=4)


def check_against_model(frame: bytes, wirelen: int, link: int) -> None:
    verdict, got, _ = parse(frame, wirelen=wirelen, link=link)
    assert (verdict, got) == model(frame, wirelen, link)


@given(st.sampled_from(SEEDS), EDITS, st.integers(0, 200), st.integers(-30, 30))
@settings(max_examples=1500)
def test_mutated_frames_agree_with_the_model(
    seed: tuple[int, bytes], edits: list[tuple[int, int]], cut: int, missing: int
) -> None:
    link, frame = seed[0], bytearray(seed[1])
    for at, value in edits:
        frame[at % len(frame)] = value
    check_against_model(
        bytes(frame[:cut] if cut < 100 else frame), max(0, len(frame) + missing), link
    )


@given(
    st.sampled_from([1, 101, 113, 228, 229, 276, 0]), st.binary(max_size=120), st.integers(0, 150)
)
def test_random_bytes_agree_with_the_model(link: int, frame: bytes, wirelen: int) -> None:
    check_against_model(frame, wirelen, link)


def guarded_pages() -> tuple[mmap.mmap, int]:
    """Three pages of which only the middle one may be touched, and its address."""
    page = mmap.PAGESIZE
    area = mmap.mmap(-1, 3 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    libc = ctypes.CDLL(None, use_errno=True)
    for at in (start, start + 2 * page):
        assert libc.mprotect(ctypes.c_void_p(at), ctypes.c_size_t(page), 0) == 0
    return area, start + page


def test_nothing_is_read_outside_the_captured_bytes() -> None:
    """Every cut of every seed, flush against a page that cannot be read: before it and behind."""
    area, page = guarded_pages()
    packet = ffi.new("struct packet *")
    for link, frame in SEEDS:
        for cut in range(min(len(frame), 200) + 1):
            for at in (page, page + mmap.PAGESIZE - cut):
                ctypes.memmove(at, frame, cut)
                packet.data = ffi.cast("uint8_t *", at)
                packet.caplen, packet.wirelen, packet.link = cut, len(frame), link
                call(packet, VERIFY)
    assert len(area) == 3 * mmap.PAGESIZE
