"""``tpacket:``, our own packet socket: what the wire carried is what is shown, or counted."""

from __future__ import annotations

import pytest

from pydpdk.source import eal
from tests.port_child import run_child

SETUP = """
import itertools
from pydpdk._core import lib
from pydpdk.core.utc import Utc
from tests.port_child import NO_DATA
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(("a0", 0))
def numbered(count, size=100):
    return [b"\\1\\0\\x5e\\0\\0\\1\\2\\0\\0\\0\\0\\1\\x88\\xb5" + i.to_bytes(4) + bytes(size - 18)
            for i in range(count)]
def send(frames):
    for frame in frames:
        wire.send(frame)
def hexed(frames):
    return [frame.hex() for frame in frames]
def bytes_of(source, want, seconds=1):
    return [data for data, _, _ in read(source, want, seconds)[0]]
"""


def run(code: str) -> None:
    assert run_child(SETUP + code + "\nsay(0)\nwire.close()", namespace=True) == 0


def test_what_was_sent_is_shown_and_the_rest_is_missed() -> None:
    """The ring goes round many times, and overflows while nobody reads."""
    run("""
with open_source("tpacket:b0", rx_ring_mb=1) as source:
    sent = [data[:60 + i % 1455] for i, data in enumerate(numbered(5000, 1514))]
    for at in range(0, 5000, 250):  # the last burst's slots are still held
        send(sent[at:at + 250])
        assert bytes_of(source, 250) == hexed(sent[at:at + 250])
    assert source.stats().missed == 0
    total = 5000
    for _ in range(3):
        send(numbered(20000))
        total += 20000
        got = bytes_of(source, 20000, 0.2)
        assert got == hexed(numbered(20000))[:len(got)], "what is lost is the end"
        stats = source.stats()
        assert stats.received + stats.missed == total, stats
    kernel = source.kernel()
    assert kernel["rx_packets"] == total and kernel["rx_dropped"] == 0
    assert source.known()["losses"] == "socket"
""")


def test_a_frame_is_shown_at_once() -> None:
    run("""
with open_source("tpacket:b0") as source:
    packets = ffi.new("struct packet[]", 256)
    for data in numbered(300):
        send([data])
        assert source.pointer.burst(source.pointer, packets, 256) == 1
        assert bytes(ffi.buffer(packets[0].data, packets[0].caplen)) == data
        assert source.pointer.burst(source.pointer, packets, 256) == 0
""")


def test_views_stay_until_the_next_burst_and_bursts_may_be_small() -> None:
    run("""
with open_source("tpacket:b0", rx_ring_mb=1) as source:
    packets = ffi.new("struct packet[]", 256)
    send(numbered(512))
    assert source.pointer.burst(source.pointer, packets, 0) == 0
    assert source.pointer.burst(source.pointer, packets, 256) == 256
    send(numbered(512))     # 256 slots are held, 256 are full
    shown = [bytes(ffi.buffer(p.data, p.caplen)) for p in packets]
    assert shown == numbered(512)[:256]
    assert source.stats().missed == 512
    for data in numbered(512)[256:]:
        assert source.pointer.burst(source.pointer, packets, 1) == 1
        assert bytes(ffi.buffer(packets[0].data, packets[0].caplen)) == data
    assert source.pointer.burst(source.pointer, packets, 256) == 0
""")


def test_vlan_tags_are_put_back() -> None:
    run("""
head = b"\\1\\0\\x5e\\0\\0\\1\\2\\0\\0\\0\\0\\1"
tags = [b"\\x81\\0\\x03\\x89", b"\\x81\\0\\xff\\xff", b"\\x88\\xa8\\0\\x05\\x81\\0\\x03\\x89", b""]
frames = [head + tag + b"\\x88\\xb5" + bytes(range(size)) for tag in tags for size in (46, 250)]
with open_source("tpacket:b0") as source:
    send(frames)
    got = read(source, len(frames), 1)[0]
    assert [data for data, _, _ in got] == hexed(frames)
    assert [wirelen for _, wirelen, _ in got] == [len(frame) for frame in frames]
    assert source.stats().oversize == 0
""")


def test_a_frame_above_the_mtu_asked_for_shows_that_it_was_cut() -> None:
    run("""
for name in "a0", "b0":
    ip(f"link set {name} mtu 9000")
tagged = b"\\1\\0\\x5e\\0\\0\\1\\2\\0\\0\\0\\0\\1\\x81\\0\\x03\\x89\\x88\\xb5" + bytes(6000)
with open_source("tpacket:b0", mtu=1500) as source:
    frames = [*numbered(1, 1514), *numbered(1, 9014), tagged]
    send(frames)
    got = read(source, 3, 1)[0]
    assert [wirelen for _, wirelen, _ in got] == [len(frame) for frame in frames]
    assert [len(data) // 2 == wirelen for data, wirelen, _ in got] == [True, False, False]
    assert all(frame.hex().startswith(data) for frame, (data, _, _) in zip(frames, got))
    assert source.stats().oversize == 2
with open_source("tpacket:b0", rx_ring_mb=1) as source:
    send(numbered(30, 9014))
    assert bytes_of(source, 30) == hexed(numbered(30, 9014))
""")


def test_stamps_are_the_kernels_or_one_per_burst() -> None:
    run("""
with open_source("tpacket:b0") as source:
    assert source.known()["clock"] == "kernel"
    bounds = []
    for data in numbered(200):
        before = time.time_ns()
        send([data])
        bounds.append((before, time.time_ns()))
    time.sleep(0.05)
    stamps = [ts for _, _, ts in read(source, 200)[0]]
    assert all(a <= ts <= b for ts, (a, b) in zip(stamps, bounds, strict=True)), "at arrival"
    assert len({ts % 1000 for ts in stamps}) > 10, "nanoseconds"
with Utc() as clock, open_source("tpacket:b0", clock=clock) as source:
    assert source.known()["clock"] == "tsc"
    packets, last = ffi.new("struct packet[]", 256), time.time_ns() - 10**6
    for _ in range(100):
        send(numbered(5))
        assert source.pointer.burst(source.pointer, packets, 256) == 5
        (stamp,) = {p.ts_recv for p in packets[0:5]}
        assert last < stamp < time.time_ns() + 10**6
        last = stamp
""")


def test_it_sends_and_does_not_hear_itself_or_this_host() -> None:
    run("""
other = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88b5))
other.bind(("a0", 0x88b5))
other.settimeout(3)
beside = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
beside.bind(("b0", 0))
sizes = itertools.cycle((60, 590, 1514))
frames = [data[:next(sizes)] for data in numbered(1000, 1514)]
with open_source("tpacket:b0") as source:
    for at in range(0, 1000, 100):
        part = frames[at:at + 100]
        while part:
            part = part[source.send(part):]
        beside.send(frames[0])
        assert [other.recv(2048) for _ in range(101)] == [*frames[at:at + 100], frames[0]]
        send([frames[at]])
        assert bytes_of(source, 1) == [frames[at].hex()]
    assert bytes_of(source, 1, 0.05) == []
    assert source.send([]) == 0
    for bad in bytes(1519), bytes(13):
        try:
            source.send([bad])
        except UsageError as error:
            assert str(len(bad)) in str(error)
        else:
            raise AssertionError(len(bad))
        assert source.send([frames[0], bad]) == 1
    stats = source.stats()
    assert (stats.sent, stats.send_refused, stats.received) == (1002, 2, 10)
other.close()
beside.close()
""")


def test_an_interface_that_went_is_an_error_after_its_whole_frames() -> None:
    run("""
with open_source("tpacket:b0") as source:
    send(numbered(300))
    ip("link set b0 down")
    assert source.link() == "down"
    ip("link set b0 up")
    send(numbered(1))
    ip("link del b0")
    assert source.link() == "gone"
    frames, last = read(source)
    assert [data for data, _, _ in frames] == hexed(numbered(300) + numbered(1))
    assert last == source.pointer.burst(source.pointer, ffi.new("struct packet[]", 1), 1) == -19
    assert source.stats().missed == 0 and source.kernel() is None
""")


def test_checksums_that_a_device_never_saw_count_as_good() -> None:
    """A sender on this host leaves them to the device; with offloads off it does not."""
    run("""
from subprocess import run as command
ip("addr add 10.9.0.1/24 dev a0")
ip("neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev a0")
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
flags = []
for offload in "on", "off":
    command(["ethtool", "-K", "a0", "tx", offload], check=True, capture_output=True)
    with open_source("tpacket:b0") as source:
        packets = ffi.new("struct packet[]", 256)
        udp.sendto(b"x" * 50, ("10.9.0.2", 4000))
        count = source.pointer.burst(source.pointer, packets, 256)
        shown = [p for p in packets[0:count] if bytes(ffi.buffer(p.data, 14))[12:] == b"\\x08\\0"]
        flags += [p.flags for p in shown]
assert flags == [lib.PACKET_L4_GOOD, 0], flags
udp.close()
""")


def test_opening_and_closing_leaves_nothing() -> None:
    run("""
def descriptors():
    return len(os.listdir("/proc/self/fd"))
before = descriptors()
for _ in range(50):
    with open_source("tpacket:b0") as source:
        send(numbered(1))
        assert len(bytes_of(source, 1)) == 1
        assert source.groups([bytes.fromhex("01005e010203")]) == "list"
    source.close()
assert descriptors() == before
with open("/proc/self/maps") as maps:
    assert "socket:" not in maps.read()
for wish in {"rx_ring_mb": 0}, {"mtu": 1 << 24}, {"rx_ring_mb": 5000}:
    try:
        open_source("tpacket:b0", **wish)
    except HostError as error:
        assert "out of range" in str(error)
    else:
        raise AssertionError(wish)
assert descriptors() == before
""")


def test_fragments_stay_as_they_are() -> None:
    """net_af_packet has the kernel reassemble them, and never sees what it could not complete."""
    run("""
from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.l2 import Ether
whole = IP(src="10.0.0.1", dst="239.1.1.1", id=7) / UDP(sport=1, dport=2) / bytes(2800)
link = Ether(src="02:00:00:00:00:01", dst="01:00:5e:01:01:01")
frames = [bytes(link / part) for part in fragment(whole, 1400)]
assert len(frames) > 1
with open_source("tpacket:b0") as source:
    send(frames)
    send(frames[:1])
    assert bytes_of(source, len(frames) + 1) == hexed(frames + frames[:1])
    if eal.version():
        with open_source("af_packet:b0") as other:
            send(frames[1:])
            assert bytes_of(source, len(frames) - 1) == hexed(frames[1:])
            assert bytes_of(other, 1, 0.2) == []
            assert other.stats().missed == 0
            assert "fragment" in other.known()["truncation"]
""")


@pytest.mark.skipif(not eal.version(), reason="pydpdk was built without DPDK")
def test_it_shows_what_net_af_packet_shows() -> None:
    run("""
import random
dice = random.Random(1)
head = b"\\1\\0\\x5e\\0\\0\\1\\2\\0\\0\\0\\0\\1"
def random_frame():
    tag = dice.choice([b"", b"\\x81\\0" + dice.randbytes(2)])
    kind = dice.choice([b"\\x86\\xdd", b"\\x88\\xb5"])    # of IPv4 the kernel takes fragments away
    return head + tag + kind + dice.randbytes(dice.randrange(46, 1400))
frames = [random_frame() for _ in range(2000)]
with open_source("tpacket:b0") as ours, open_source("af_packet:b0") as theirs:
    for at in range(0, 2000, 200):
        send(frames[at:at + 200])
        a, b = (read(source, 200, 1)[0] for source in (ours, theirs))
        assert [f[:2] for f in a] == [f[:2] for f in b]
        assert [f[0] for f in a] == hexed(frames[at:at + 200])
    assert [source.stats().missed for source in (ours, theirs)] == [0, 0]
""")
