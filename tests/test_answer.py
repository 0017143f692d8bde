"""What a port without a kernel answers; scapy asks and reads the answers, tshark reads them too."""

from __future__ import annotations

import ctypes
import mmap
import socket
import struct
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.igmp import IGMP, IGMPv3_MQ, IGMPv3_MR
from scapy.layers.inet import ICMP, IP, UDP, IPOption_Router_Alert, IPOption_RR
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw
from scapy.utils import wrpcap

from pydpdk._core import ffi, lib
from tests.dissect import fields

MAC, IP_OURS = "02:00:00:00:00:07", "10.0.0.5"
PEER_MAC, PEER = "02:00:00:00:00:99", "10.0.0.9"
GROUPS = ["233.54.12.111", "233.49.196.111", "239.255.0.1"]
ALL_HOSTS, ALL_ROUTERS, REPORTS = "224.0.0.1", "224.0.0.2", "224.0.0.22"
MS, SECOND = 10**6, 10**9
NEVER = 2**64 - 1
IS_IN, IS_EX, TO_IN, TO_EX = 1, 2, 3, 4


def wire_order(address: str) -> int:
    return struct.unpack("=I", socket.inet_aton(address))[0]


class Guarded:
    """Memory of any length whose end is the end of what the process may touch."""

    SIZE = 65536

    def __init__(self) -> None:
        self.map = mmap.mmap(-1, self.SIZE + mmap.PAGESIZE)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        assert libc.mprotect(self.base + self.SIZE, mmap.PAGESIZE, 0) == 0

    def hold(self, data: bytes) -> object:
        self.map[self.SIZE - len(data) : self.SIZE] = data
        return ffi.cast("uint8_t *", self.base + self.SIZE - len(data))


IN, OUT = Guarded(), Guarded()


class Host:
    """An answerer with a clock."""

    def __init__(self, ip: str = IP_OURS, vlan: int = 0, seed: int = 1, refresh_s: int = 0) -> None:
        config = ffi.new("struct answer_config *")
        config.mac = bytes.fromhex(MAC.replace(":", ""))
        config.ip_be, config.vlan, config.seed = wire_order(ip), vlan, seed
        config.refresh_ns = refresh_s * SECOND
        out = ffi.new("struct answer **")
        assert lib.answer_create(config, out) == 0
        self.pointer = ffi.gc(out[0], lib.answer_destroy)
        self.now = 10**15
        self.due = 0

    def join(self, *groups: str) -> None:
        for group in groups:
            assert lib.answer_join(self.pointer, wire_order(group)) == 0

    def leave(self, group: str) -> int:
        return int(lib.answer_leave(self.pointer, wire_order(group)))

    def hear(self, frame: Packet | bytes) -> int:
        data = bytes(frame)
        return int(lib.answer_frame(self.pointer, IN.hold(data), len(data), self.now))

    def next(self) -> bytes:
        due, out = ffi.new("uint64_t *"), OUT.hold(bytes(lib.ANSWER_FRAME))
        size = lib.answer_next(self.pointer, self.now, out, due)
        self.due = due[0]
        return bytes(ffi.buffer(out, lib.ANSWER_FRAME)[:size])

    def said_now(self) -> list[Packet]:
        """All that is due at this moment, checked and dissected."""
        return [checked(frame) for frame in iter(self.next, b"")]

    def said(self, seconds: float) -> list[tuple[float, Packet]]:
        """What is sent in that time, with the seconds since its start."""
        found, start = [], self.now
        end = start + round(seconds * SECOND)
        while True:
            while frame := self.next():
                found.append(((self.now - start) / SECOND, checked(frame)))
            if self.due > end:
                self.now = end
                return found
            assert self.due > self.now, "due, but nothing was said"
            self.now = self.due

    def stats(self) -> dict[str, int]:
        stats = ffi.new("struct answer_stats *")
        lib.answer_stats(self.pointer, stats)
        return {name: getattr(stats, name) for name, _ in ffi.typeof("struct answer_stats").fields}


SEEN: list[bytes] = []


def checked(frame: bytes) -> Packet:
    """Dissected by scapy; what scapy builds of the same fields without checksums is the same."""
    assert 60 <= len(frame) <= lib.ANSWER_FRAME
    SEEN.append(frame)
    packet = Ether(frame)
    assert packet.src == MAC
    rebuilt = Ether(frame)
    for layer in (IP, ICMP, IGMP):
        if layer in rebuilt:
            del rebuilt[layer].chksum
    assert bytes(rebuilt) == frame
    return packet


def is_igmp(packet: Packet, dst: str, source: str = IP_OURS) -> None:
    """RFC 3376 section 4: TTL 1, precedence, router alert; RFC 1112 6.4: the MAC of the group."""
    ip = packet[IP]
    assert (ip.src, ip.dst, ip.ttl, ip.tos, ip.proto) == (source, dst, 1, 0xC0, 2)
    assert [type(option) for option in ip.options] == [IPOption_Router_Alert]
    low = int(IPv4Address(dst)) & 0x7FFFFF
    assert packet.dst == "01:00:5e:" + ":".join(f"{b:02x}" for b in low.to_bytes(3, "big"))


def records(packet: Packet, source: str = IP_OURS) -> list[tuple[int, str, list[str]]]:
    """Type, group and sources of each record of a v3 report."""
    is_igmp(packet, REPORTS, source)
    report = packet[IGMPv3_MR]
    assert report.numgrp == len(report.records)
    return [(r.rtype, r.maddr, list(r.srcaddrs)) for r in report.records]


def old_message(packet: Packet) -> tuple[int, str]:
    """Type and group of a v1 or v2 message."""
    message = packet[IGMP]
    is_igmp(packet, ALL_ROUTERS if message.type == 0x17 else message.gaddr)
    return message.type, message.gaddr


def link(vlan: int | None = None, dst: str = MAC) -> Packet:
    ether = Ether(src=PEER_MAC, dst=dst)
    return ether if vlan is None else ether / Dot1Q(vlan=vlan, prio=3)


def arp(vlan: int | None = None, dst: str = "ff:ff:ff:ff:ff:ff", **changed: object) -> Packet:
    request = {"op": 1, "hwsrc": PEER_MAC, "psrc": PEER, "pdst": IP_OURS} | changed
    return link(vlan, dst) / ARP(**request)


def ping(data: bytes = b"x" * 56, vlan: int | None = None, dst: str = MAC, **ip: object) -> Packet:
    head = IP(**({"src": PEER, "dst": IP_OURS, "ttl": 61, "tos": 0x28} | ip))
    return link(vlan, dst) / head / ICMP(id=77, seq=3) / Raw(data)


def query(
    group: str = "0.0.0.0",
    version: int = 3,
    code: int = 100,
    vlan: int | None = None,
    sources: tuple[str, ...] = (),
    dst: str = "",
    **more: object,
) -> Packet:
    """A membership query to be answered within ``code`` tenths of a second."""
    to = dst or (ALL_HOSTS if group == "0.0.0.0" else group)
    ip = IP(src=PEER, dst=to, ttl=1, tos=0xC0, options=[IPOption_Router_Alert()])
    if version == 3:
        message = IGMPv3_MQ(mrcode=code, gaddr=group, srcaddrs=list(sources), **more)
    else:
        message = IGMP(type=0x11, mrcode=code, gaddr=group)
    return link(vlan, "01:00:5e:00:00:01") / ip / message


def quiet(*groups: str, **config: int) -> Host:
    """A host whose joins are long over."""
    host = Host(**config)
    host.join(*(groups or GROUPS))
    host.said(100)
    assert host.due == NEVER
    return host


# --- ARP and ICMP ---


@pytest.mark.parametrize("vlan", [None, 0, 5, 4094])
@pytest.mark.parametrize("dst", ["ff:ff:ff:ff:ff:ff", MAC])
def test_arp_is_answered(vlan, dst):
    host = Host()
    assert host.hear(arp(vlan, dst)) == lib.ANSWER_ARP
    (reply,) = host.said_now()
    assert reply.dst == PEER_MAC
    assert (reply[Dot1Q].vlan, reply[Dot1Q].prio) == (vlan, 3) if vlan is not None else True
    assert (Dot1Q in reply) == (vlan is not None)
    a = reply[ARP]
    assert (a.op, a.hwsrc, a.psrc, a.hwdst, a.pdst) == (2, MAC, IP_OURS, PEER_MAC, PEER)
    assert host.due == NEVER


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (arp(pdst="10.0.0.6"), lib.ANSWER_NONE),
        (arp(op=2), lib.ANSWER_NONE),
        (arp(hwtype=6), lib.ANSWER_NONE),
        (arp(ptype=0x86DD), lib.ANSWER_NONE),
        (arp(hwlen=8), lib.ANSWER_NONE),
        (arp(dst="02:00:00:00:00:08"), lib.ANSWER_NONE),
        (arp(hwsrc="ff:ff:ff:ff:ff:ff"), lib.ANSWER_BAD),
        (Ether(src=MAC, dst="ff:ff:ff:ff:ff:ff") / arp()[ARP], lib.ANSWER_NONE),
        (Ether(src="01:00:5e:00:00:01", dst=MAC) / arp()[ARP], lib.ANSWER_BAD),
        (ping(dst="ff:ff:ff:ff:ff:ff"), lib.ANSWER_NONE),
        (link() / IP(src=PEER, dst="10.0.0.255") / ICMP(), lib.ANSWER_NONE),
        (link() / IP(src=PEER, dst=IP_OURS) / ICMP(type=13), lib.ANSWER_NONE),
        (link() / IP(src=PEER, dst=IP_OURS) / ICMP(type=8, code=1), lib.ANSWER_NONE),
        (link() / IP(src=PEER, dst=IP_OURS) / UDP(dport=7), lib.ANSWER_NONE),
        (ping(flags="MF"), lib.ANSWER_NONE),
        (ping(frag=10), lib.ANSWER_NONE),
        (ping(src="0.0.0.0"), lib.ANSWER_BAD),
        (ping(src="127.0.0.1"), lib.ANSWER_BAD),
        (ping(src=IP_OURS), lib.ANSWER_BAD),
        (ping(src="224.0.0.1"), lib.ANSWER_BAD),
        (ping(src="255.255.255.255"), lib.ANSWER_BAD),
        (ping(chksum=1), lib.ANSWER_BAD),
        (ping(ihl=4), lib.ANSWER_BAD),
        (ping(ihl=15), lib.ANSWER_BAD),
        (ping(version=6), lib.ANSWER_BAD),
        (ping(len=20), lib.ANSWER_BAD),
        (ping(len=27), lib.ANSWER_BAD),
        (ping(len=19), lib.ANSWER_BAD),
        (ping(len=5000), lib.ANSWER_BAD),
        (link() / IP(src=PEER, dst=IP_OURS) / ICMP(chksum=1), lib.ANSWER_BAD),
        (ping(b"x" * 1477), lib.ANSWER_BAD),
        (link() / Raw(b"\x81\x00"), lib.ANSWER_NONE),
    ],
)
def test_what_is_not_answered(frame, kind):
    host = Host()
    assert host.hear(frame) == kind
    assert host.said(10) == []
    assert host.stats()["bad"] == (kind == lib.ANSWER_BAD)


@pytest.mark.parametrize("vlan", [None, 5])
@pytest.mark.parametrize("size", [0, 1, 17, 18, 56, 57, 1471, 1472])
def test_an_echo_comes_back_with_its_data(vlan, size):
    host = Host()
    data = bytes(i * 7 & 255 for i in range(size))
    assert host.hear(ping(data, vlan)) == lib.ANSWER_ECHO
    (reply,) = host.said_now()
    assert (Dot1Q in reply, reply.dst) == (vlan is not None, PEER_MAC)
    ip, icmp = reply[IP], reply[ICMP]
    assert (ip.src, ip.dst, ip.tos, ip.ttl, ip.len) == (IP_OURS, PEER, 0x28, 64, 28 + size)
    assert (icmp.type, icmp.code, icmp.id, icmp.seq) == (0, 0, 77, 3)
    assert bytes(icmp.payload)[:size] == data


def test_a_header_of_16_bytes_is_none_though_its_sum_is_right():
    frame = bytearray(bytes(ping(b"x" * 56)))
    frame[14] = 0x44
    frame[24:26] = b"\0\0"
    total = sum(struct.unpack(">8H", frame[14:30]))
    struct.pack_into(">H", frame, 24, 0xFFFF - total % 0xFFFF)
    assert Host().hear(bytes(frame)) == lib.ANSWER_BAD


def test_an_echo_with_options_or_padding_comes_back_without():
    host = Host()
    with_options = ping(b"abc", options=[IPOption_RR(pointer=4, routers=["0.0.0.0"] * 3)])
    assert host.hear(with_options) == lib.ANSWER_ECHO
    assert host.hear(bytes(ping(b"abc")) + b"padding" * 4) == lib.ANSWER_ECHO
    for reply in host.said_now():
        assert (reply[IP].ihl, reply[IP].len) == (5, 31)


def test_without_an_address_nothing_but_igmp():
    host = Host(ip="0.0.0.0")
    assert host.hear(arp(pdst="0.0.0.0")) == lib.ANSWER_NONE
    assert host.hear(ping(dst=MAC)) == lib.ANSWER_NONE
    assert host.hear(link() / IP(src=PEER, dst="0.0.0.0") / ICMP()) == lib.ANSWER_NONE
    host.join(GROUPS[0])
    (report,) = host.said_now()
    assert records(report, source="0.0.0.0") == [(TO_EX, GROUPS[0], [])]


def test_a_flood_gives_a_bounded_number_of_answers():
    host, sent, request = Host(), 0, bytes(arp())
    for _ in range(100_000):  # 1,000 requests a ms for 100 ms
        host.now += 1000
        host.hear(request)
        sent += bool(host.next())
    assert sent <= 100 * lib.ANSWER_PER_MS + lib.ANSWER_QUEUE
    stats = host.stats()
    assert sent >= 99 * lib.ANSWER_PER_MS
    assert stats["replies"] == sent
    assert stats["arp"] + stats["full"] == 100_000
    assert 0 <= stats["arp"] - sent <= lib.ANSWER_QUEUE
    host.said(1)
    assert host.stats()["replies"] == stats["arp"]


def test_a_flood_of_queries_starves_nobody():
    host, replies, frames = quiet(), 0, 0
    requests = bytes(query(code=0)), bytes(arp())
    for _ in range(10_000):
        host.now += 10_000
        for request in requests:
            host.hear(request)
        while frame := host.next():
            frames += 1
            replies += Ether(frame).type == 0x0806
    assert frames <= 100 * lib.ANSWER_PER_MS + lib.ANSWER_QUEUE
    assert 0.45 < replies / frames < 0.6


def test_a_clock_that_goes_back_does_not_silence_it():
    host = Host()
    for _ in range(lib.ANSWER_QUEUE):
        host.hear(arp())
    host.said_now()
    host.now -= 3600 * SECOND
    host.hear(arp())
    assert len(host.said(0.01)) == 1


# --- IGMP ---


def test_a_join_is_said_twice_within_a_second_and_a_leave_too():
    host = Host()
    host.join(*GROUPS)
    host.join(GROUPS[0])
    (first, *again) = host.said(100)
    assert first[0] == 0
    assert records(first[1]) == [(TO_EX, group, []) for group in GROUPS]
    assert all(0 < at <= 1 for at, _ in again)
    assert sorted(r for _, p in again for r in records(p)) == sorted(records(first[1]))
    assert host.leave(GROUPS[1]) == 0
    leaves = host.said(100)
    assert [records(p) for _, p in leaves] == [[(TO_IN, GROUPS[1], [])]] * 2
    assert host.leave(GROUPS[1]) == -2
    assert host.stats()["leaves"] == 2


def test_the_seed_decides_the_delays():
    def times(seed: int) -> list[float]:
        host = Host(seed=seed)
        host.join(*GROUPS)
        return [at for at, _ in host.said(10)]

    assert times(3) == times(3)
    assert len({tuple(times(seed)) for seed in range(20)}) == 20


def test_groups_have_an_end_and_a_form():
    host = Host()
    groups = [f"239.1.1.{i}" for i in range(lib.IGMP_GROUPS_MAX)]
    host.join(*groups)
    assert lib.answer_join(host.pointer, wire_order("239.2.0.1")) == -28
    for bad in ("10.0.0.1", "0.0.0.0", ALL_HOSTS, "224.0.0.0", "240.0.0.1"):
        assert lib.answer_join(host.pointer, wire_order(bad)) == -22
        assert host.leave(bad) == -2
    assert [r[1] for r in records(host.said_now()[0])] == groups
    host.said(10)
    host.leave(groups[5])
    host.said(10)
    host.join("239.2.0.1")


def test_a_group_left_and_joined_again_at_once_stays():
    host = quiet()
    host.leave(GROUPS[0])
    host.join(GROUPS[0])
    assert [records(p) for _, p in host.said(10)] == [[(TO_EX, GROUPS[0], [])]] * 2
    host.hear(query())
    ((_, report),) = host.said(20)
    assert sorted(r[1] for r in records(report)) == sorted(GROUPS)


@pytest.mark.parametrize("vlan", [None, 5])
@pytest.mark.parametrize(("code", "limit_s"), [(1, 0.1), (100, 10), (248, 24.8), (31744, 3174.4)])
def test_a_general_query_is_answered_in_time_by_one_report(code, limit_s, vlan):
    delays = []
    for seed in range(30):
        host = quiet(seed=seed)
        assert host.hear(query(code=code, vlan=vlan)) == lib.ANSWER_QUERY
        ((at, report),) = host.said(4000)
        assert records(report) == [(IS_EX, group, []) for group in GROUPS]
        assert (report[Dot1Q].vlan if Dot1Q in report else None) == vlan
        delays.append(at)
    assert 0 < min(delays) < limit_s * 0.3
    assert limit_s * 0.7 < max(delays) <= limit_s


def test_a_group_query_is_answered_for_that_group_and_sources_are_named():
    host = quiet()
    host.hear(query(GROUPS[1]))
    assert [records(p) for _, p in host.said(11)] == [[(IS_EX, GROUPS[1], [])]]
    asked = ("10.1.1.1", "10.1.1.2")
    host.hear(query(GROUPS[1], sources=asked))
    host.hear(query(GROUPS[1], sources=("10.1.1.2", "10.1.1.3")))
    assert [records(p) for _, p in host.said(11)] == [
        [(IS_IN, GROUPS[1], ["10.1.1.1", "10.1.1.2", "10.1.1.3"])]
    ]
    host.hear(query(GROUPS[1], sources=asked))
    host.hear(query(GROUPS[1]))
    host.hear(query(GROUPS[1], sources=asked))
    assert [records(p) for _, p in host.said(11)] == [[(IS_EX, GROUPS[1], [])]]
    many = tuple(f"10.2.0.{i}" for i in range(lib.IGMP_SOURCES + 1))
    host.hear(query(GROUPS[1], sources=many[:-1]))
    assert [records(p) for _, p in host.said(11)] == [[(IS_IN, GROUPS[1], list(many[:-1]))]]
    host.hear(query(GROUPS[1], sources=many))
    assert [records(p) for _, p in host.said(11)] == [[(IS_EX, GROUPS[1], [])]]
    host.hear(query("239.9.9.9"))
    assert host.said(11) == []


def test_each_tag_has_a_report_of_its_own():
    host = quiet()
    host.hear(query(GROUPS[0], vlan=5, code=0))
    host.hear(query(GROUPS[1], vlan=6, code=0))
    found = [(p[Dot1Q].vlan, records(p)) for _, p in host.said(1)]
    assert found == [(5, [(IS_EX, GROUPS[0], [])]), (6, [(IS_EX, GROUPS[1], [])])]


def test_a_version_2_join_is_said_again_within_ten_seconds():
    again = []
    for seed in range(20):
        host = quiet(seed=seed)
        host.hear(query(version=2, code=1))
        host.said(1)
        host.join("239.9.9.9")
        again.append(host.said(20)[1][0])
    assert 5 < max(again) <= 10


def test_a_pending_answer_to_all_answers_for_a_group_too():
    host = quiet()
    host.hear(query(code=1))
    host.hear(query(GROUPS[0], code=200))
    ((at, report),) = host.said(60)
    assert at <= 0.1
    assert len(records(report)) == len(GROUPS)


def test_reports_too_long_for_one_frame_take_more():
    groups = [f"239.1.1.{i}" for i in range(40)]
    host = quiet(*groups)
    sources = tuple(f"10.2.0.{i}" for i in range(lib.IGMP_SOURCES))
    for group in groups:
        host.hear(query(group, code=0, sources=sources))
    found = [r for _, p in host.said(1) for r in records(p)]
    assert sorted(found) == sorted((IS_IN, group, list(sources)) for group in groups)


@pytest.mark.parametrize(("version", "code", "report"), [(2, 50, 0x16), (1, 0, 0x12)])
def test_an_older_querier_is_spoken_to_in_its_language(version, code, report):
    host = quiet()
    assert host.hear(query(version=version, code=code)) == lib.ANSWER_QUERY
    assert lib.answer_version(host.pointer, host.now) == version
    found = host.said(100)
    assert sorted(old_message(p) for _, p in found) == sorted((report, g) for g in GROUPS)
    assert max(at for at, _ in found) <= (code or 100) / 10
    host.join("239.9.9.9")
    joins = host.said(11)
    assert [old_message(p) for _, p in joins] == [(report, "239.9.9.9")] * 2
    assert joins[0][0] == 0 < joins[1][0] <= 10
    host.leave("239.9.9.9")
    left = [old_message(p) for _, p in host.said(11)]
    assert left == ([(0x17, "239.9.9.9")] if version == 2 else [])
    host.now += 400 * SECOND
    assert lib.answer_version(host.pointer, host.now) == 3
    host.hear(query())
    ((_, last),) = host.said(11)
    assert len(records(last)) == len(GROUPS)


def test_how_long_an_older_querier_is_believed():
    """RFC 3376 8.12: robustness x query interval + response interval, the query's own."""
    host = quiet()
    host.hear(query(version=3, qrv=3, qqic=20))
    host.hear(query(version=2, code=100))
    start = host.now
    assert lib.answer_version(host.pointer, start + 69 * SECOND) == 2
    assert lib.answer_version(host.pointer, start + 70 * SECOND) == 3


def test_a_version_2_query_about_a_group_changes_no_version():
    host = quiet()
    host.hear(query(GROUPS[0], version=2, code=10))
    ((at, report),) = host.said(60)
    assert (records(report), at <= 1) == ([(IS_EX, GROUPS[0], [])], True)


def test_a_change_of_version_keeps_the_first_word_and_cancels_the_rest():
    host = Host()
    host.join(GROUPS[0])
    host.said_now()
    host.join(GROUPS[1])
    host.hear(query(version=2, code=10))
    found = [old_message(p) for _, p in host.said(100)]
    assert sorted(found) == sorted([(0x16, GROUPS[0]), *[(0x16, GROUPS[1])] * 3])
    host = quiet()
    host.leave(GROUPS[0])
    host.said_now()
    host.hear(query(version=2, code=10))
    assert {old_message(p)[1] for _, p in host.said(100)} == set(GROUPS[1:])


def test_robustness_is_the_queriers():
    host = quiet()
    host.hear(query(qrv=5))
    host.said(20)
    host.join("239.9.9.9")
    assert len(host.said(100)) == 5


def test_groups_are_reported_again_without_a_querier_if_wanted():
    host = Host(refresh_s=60)
    host.join(*GROUPS)
    times = [at for at, p in host.said(200) if records(p)[0][0] == IS_EX]
    assert times == [60, 120, 180]
    host.hear(query(version=2, code=10))
    found = [old_message(p) for at, p in host.said(59) if at > 1.5]
    assert sorted(found) == sorted((0x16, g) for g in GROUPS)


def test_what_is_said_unasked_carries_the_ports_own_tag():
    host = Host(vlan=905)
    host.join(GROUPS[0])
    assert {p[Dot1Q].vlan for _, p in host.said(10)} == {905}
    host.hear(query(vlan=5, code=1))  # another VLAN's query gives way to our own
    host.hear(query(vlan=905, code=100))
    host.hear(query(vlan=5, code=1))
    assert [p[Dot1Q].vlan for _, p in host.said(20)] == [905]
    host.hear(query(GROUPS[0], vlan=5, code=1))
    host.hear(query(GROUPS[0], vlan=905, code=100))
    host.hear(query(GROUPS[0], vlan=5, code=1))
    assert [p[Dot1Q].vlan for _, p in host.said(20)] == [905]


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (query(dst="10.0.0.5"), lib.ANSWER_NONE),
        (query(dst="224.0.0.5"), lib.ANSWER_NONE),
        (query(GROUPS[0], dst=IP_OURS), lib.ANSWER_QUERY),
        (query(GROUPS[0], dst=ALL_HOSTS), lib.ANSWER_QUERY),
        (query(GROUPS[0], dst=GROUPS[1]), lib.ANSWER_NONE),
        (query("10.1.1.1", dst=ALL_HOSTS), lib.ANSWER_BAD),
        (query(numsrc=1), lib.ANSWER_BAD),
        (query(numsrc=65535), lib.ANSWER_BAD),
        (link() / IP(dst=ALL_HOSTS) / IGMP(chksum=5), lib.ANSWER_BAD),
        (link() / IP(dst=ALL_HOSTS, proto=2) / Raw(b"\x11\0\xee\xff\0\0\0\0\0"), lib.ANSWER_BAD),
        (link() / IP(dst=ALL_HOSTS, proto=2) / Raw(b"\x11\0\xee\xff\0\0\0"), lib.ANSWER_BAD),
        (link() / IP(dst=GROUPS[0]) / IGMP(type=0x16, gaddr=GROUPS[0]), lib.ANSWER_NONE),
    ],
)
def test_which_queries_count(frame, kind):
    host = quiet()
    assert host.hear(frame) == kind
    assert bool(host.said(20)) == (kind == lib.ANSWER_QUERY)


def test_a_query_with_data_behind_its_sources_counts():
    """RFC 3376 4.1.10: in the checksum, else ignored."""
    frame = query(GROUPS[0], sources=("10.1.1.1",)) / Raw(b"more")
    host = quiet()
    assert host.hear(frame) == lib.ANSWER_QUERY
    assert [records(p) for _, p in host.said(11)] == [[(IS_IN, GROUPS[0], ["10.1.1.1"])]]


# --- hostile frames ---

GOOD = [
    bytes(frame)
    for vlan in (None, 5)
    for frame in (
        arp(vlan),
        ping(vlan=vlan),
        ping(vlan=vlan, options=[IPOption_Router_Alert()]),
        query(vlan=vlan),
        query(GROUPS[0], vlan=vlan, sources=("10.1.1.1", "10.1.1.2")),
        query(version=2, vlan=vlan),
        query(version=1, code=0, vlan=vlan),
    )
]


@pytest.mark.parametrize("frame", GOOD, ids=range(len(GOOD)))
def test_a_frame_cut_at_any_byte_is_not_answered(frame):
    needed = len(frame)
    for cut in range(needed):
        host = quiet()
        assert host.hear(frame[:cut]) in (lib.ANSWER_BAD, lib.ANSWER_NONE)
        assert host.said(20) == []
    assert quiet().hear(frame) not in (lib.ANSWER_BAD, lib.ANSWER_NONE)


@given(
    st.lists(
        st.tuples(
            st.one_of(
                st.binary(max_size=80),
                st.sampled_from(GOOD),
                st.tuples(st.sampled_from(GOOD), st.integers(0, 1600), st.integers(0, 255)).map(
                    lambda t: (
                        t[0][: t[1] % len(t[0])] + bytes([t[2]]) + t[0][t[1] % len(t[0]) + 1 :]
                    )
                ),
                st.tuples(st.sampled_from(GOOD), st.binary(max_size=40)).map(lambda t: t[0] + t[1]),
            ),
            st.integers(0, 2 * SECOND),
            st.sampled_from(["", "", "join", "leave"]),
        ),
        max_size=40,
    )
)
def test_any_frames_give_nothing_but_sound_answers(steps):
    host = Host(refresh_s=10)
    host.join(GROUPS[0])
    for frame, pause, what in steps:
        kind = host.hear(frame)
        assert 0 <= kind <= lib.ANSWER_FULL
        if what == "join":
            host.join(GROUPS[1])
        elif what == "leave":
            host.leave(GROUPS[1])
        host.said(pause / SECOND)
    assert len(host.said(30)) < 40
    stats = host.stats()
    assert stats["replies"] == stats["arp"] + stats["echo"]


def test_tshark_finds_nothing_wrong(tshark, tmp_path):
    """A third opinion on answers of every kind."""
    SEEN.clear()
    for vlan in (None, 5):
        for version, code in ((3, 100), (2, 100), (1, 0)):
            host = Host(vlan=vlan or 0)
            host.join(*GROUPS)
            host.hear(arp(vlan))
            host.hear(ping(b"odd" * 5, vlan))
            host.said(20)
            host.hear(query(version=version, code=code, vlan=vlan))
            host.said(20)
            host.hear(query(GROUPS[0], vlan=vlan, sources=("10.1.1.1",)))
            host.leave(GROUPS[1])
            host.said(20)
    path = tmp_path / "answers.pcap"
    wrpcap(str(path), [Ether(frame) for frame in SEEN])
    names = ["_ws.malformed", "_ws.expert.severity", "frame.protocols", "igmp.type"]
    sums = [f"{layer}.checksum.status" for layer in ("ip", "icmp", "igmp")]
    rows = fields(tshark, path, names + sums, "-o", "ip.check_checksum:TRUE")
    assert len(rows) == len(SEEN) > 60
    kinds, types, good = set(), set(), {"1"}
    for malformed, severity, protocols, igmp, *statuses in rows:
        assert (malformed, severity) == ([], [])
        assert all(status == [] or set(status) == good for status in statuses)
        kinds.add(protocols[0].split(":")[-1])
        types |= set(igmp)
    assert {"arp", "data", "igmp"} <= kinds
    assert types == {"0x22", "0x16", "0x12", "0x17"}
