"""What a port says of itself is true: losses, what it was granted, its link, its stamps."""

from __future__ import annotations

from pathlib import Path

import pytest

from pydpdk.source import eal
from tests.port_child import run_child
from tests.test_port_send import FRAMES

pytestmark = pytest.mark.skipif(not eal.version(), reason="pydpdk was built without DPDK")

SEND = (
    FRAMES
    + """
from pydpdk.source.source import open_port
from pydpdk.core.utc import Utc
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(("a0", 0))
def send(frames):
    for frame in frames:
        wire.send(frame)
def opened(spec, **wish):
    try:
        return open_source(spec, **wish)
    except HostError as error:
        say(str(error))
        wire.close()
        sys.exit()
"""
)


def run(code: str, *args: object) -> None:
    outcome = run_child(SEND + code + "\nsay(0)\nwire.close()", *args, namespace=True)
    if outcome != 0:
        pytest.skip(f"this driver cannot run here: {outcome}")


@pytest.mark.parametrize("spec", ["af_packet:b0", "af_xdp:b0", "net_af_packet7,iface=b0"])
def test_received_and_missed_are_all_that_was_sent(spec: str) -> None:
    """Nobody reads while 20,000 frames come, twice over, then half of them are read in between."""
    run(
        """
with opened(sys.argv[1], rx_ring_mb=1) as source:
    sent = received = 0
    for _ in range(2):
        send(numbered(20000))
        sent += 20000
        frames, _ = read(source, 20000, 0.3)
        received += len(frames)
        stats = source.stats()
        assert 0 < received < sent, received
        assert stats.received == received
        assert received + stats.missed == sent, stats
    for _ in range(40):
        send(numbered(1500))
        sent += 1500
        received += len(read(source, 500, 0.3)[0])
    received += len(read(source, 20000, 0.3)[0])
    assert received + source.stats().missed == sent, (received, source.stats(), sent)
    assert source.known()["losses"] == "socket"
    kernel = source.kernel()
    assert kernel["rx_packets"] >= sent and kernel["tx_packets"] == 0, kernel
    assert source.stats() == source.stats(), "looking changes nothing"
""",
        spec,
    )


def test_losses_are_unknown_where_no_socket_tells_them() -> None:
    run("""
with open_source("ring:") as ring, open_source("null:") as null:
    assert (ring.stats().missed, ring.known()["losses"]) == (None, "unknown")
    assert (null.stats().missed, null.known()["losses"]) == (0, "device")
    assert ring.kernel() is None
""")


def test_a_bigger_ring_holds_more() -> None:
    run("""
with opened("af_packet:b0", rx_ring_mb=8) as source:
    send(numbered(4096))
    assert len(read(source, 4096, 1)[0]) == 4096
    assert source.stats().missed == 0
""")


def test_a_frame_that_the_ring_cuts_is_shown_cut_and_counted() -> None:
    """An interface above the MTU that the port was opened for."""
    run("""
for name in "a0", "b0":
    ip(f"link set {name} mtu 9000")
with opened("af_packet:b0", mtu=1500) as source:
    tagged = b"\\1\\0\\x5e\\0\\0\\1\\2\\0\\0\\0\\0\\1\\x81\\0\\x03\\x89\\x88\\xb5" + bytes(6000)
    send([*numbered(1, 1514), *numbered(1, 1900), *numbered(1, 6000), tagged])
    got = [(len(data) // 2, wirelen) for data, wirelen, _ in read(source, 4, 1)[0]]
    assert got[:2] == [(1514, 1514), (1900, 1900)]
    assert all(caplen < 2048 and wirelen > caplen for caplen, wirelen in got[2:]), got
    assert source.stats().oversize == 2
with opened("af_packet:b0") as source:
    send(numbered(3, 9014))
    assert [len(data) // 2 for data, _, _ in read(source, 3, 1)[0]] == [9014] * 3
    assert source.stats().oversize == 0
""")


@pytest.mark.parametrize("kind", ["af_packet", "af_xdp"])
def test_the_link_is_the_kernels(kind: str) -> None:
    """Also under another name; and an interface that took the old name is not the one that went."""
    run(
        """
def becomes(state):     # the kernel tells a carrier's change a little later
    until = time.monotonic() + 5
    while source.link() != state and time.monotonic() < until:
        time.sleep(0.01)
    return source.link() == state
with opened(f"{sys.argv[1]}:b0") as source:
    assert becomes("up")
    ip("link set a0 down")
    assert becomes("down")
    ip("link set a0 up")
    assert becomes("up")
    ip("link set b0 name c0")
    assert source.link() == "up"
    ip("link del c0")
    assert source.link() == "gone"
    ip("link add b0 type veth peer name d0")
    ip("link set b0 up")
    ip("link set d0 up")
    assert source.link() == "gone"
    assert read(source, 1, 0.05)[0] == []
""",
        kind,
    )


def test_links_of_ports_without_an_interface(tmp_path: Path) -> None:
    run(
        """
with open_source("null:") as null:
    assert null.link() == "up"
with open_source(f"memif:role=server,socket={sys.argv[1]},socket-abstract=no") as alone:
    assert alone.link() == "down", "nobody is at the other end"
""",
        tmp_path / "m",
    )


def test_what_was_asked_and_granted_is_told() -> None:
    run("""
with opened("af_packet:b0", clock=None) as source:
    known = source.known()
    assert known["driver"] == "net_af_packet"
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind(("b0", 0))
        assert bytes.fromhex(known["mac"].replace(":", "")) == sock.getsockname()[4]
    assert (known["mtu"], known["queues"], known["queues_wanted"]) == (1500, 1, 1)
    assert (known["promiscuous"], known["all_multicast"]) == ("accepted", "not asked for")
    assert (known["clock"], known["bypass"], known["joins"]) == ("host", False, "kernel")
with Utc() as clock, open_source("ring:", clock=clock) as source:
    assert (source.known()["clock"], source.known()["mtu"]) == ("tsc", 9000)
    keys = set(source.known())
assert keys == set(known)
sources = open_port("null:", 4)
assert [source.known()["queues"] for source in sources] == [len(sources)] * len(sources)
assert sources[0].known()["queues_wanted"] == 4
for source in sources:
    source.close()
""")


def test_every_burst_is_stamped_once_and_later_than_the_one_before() -> None:
    run("""
import itertools
with Utc() as clock:
    for given in None, clock:
        before = time.time_ns()
        with open_source("null:", clock=given) as source:
            packets, stamps = ffi.new("struct packet[]", 256), []
            for _ in range(20000):
                assert source.pointer.burst(source.pointer, packets, 2) == 2
                assert packets[0].ts_recv == packets[1].ts_recv
                stamps.append(packets[0].ts_recv)
        assert all(a < b for a, b in itertools.pairwise(stamps))
        assert before - 10**6 < stamps[0] and stamps[-1] < time.time_ns() + 10**6
    stopped = Utc(hz=10**15)    # of a counter so fast that the TSC makes it stand still
    stopped.sample(0, 0, 0)
    with open_source("null:", clock=stopped) as source:
        stamps = []
        for _ in range(100):
            source.pointer.burst(source.pointer, packets, 1)
            stamps.append(packets[0].ts_recv)
    assert all(a < b for a, b in itertools.pairwise(stamps)), stamps[:5]
    stopped.close()
""")


def test_a_source_per_queue_and_every_frame_on_one_of_them() -> None:
    run("""
HEAD = bytes.fromhex("01005e000001 020000000001 0800 4500005400000000 2011 0000")
def flow(i):    # the kernel spreads by a hash of addresses and ports
    addresses, udp = bytes([10, 0, 0, i % 50, 239, 1, 1, 1]), bytes.fromhex("0001000200400000")
    return HEAD + addresses + udp + i.to_bytes(4) + bytes(52)
sources = open_port("af_packet:b0", 2, rx_ring_mb=1)
assert len(sources) == 2
frames = [flow(i) for i in range(300)]
send(frames)
parts = [[data for data, _, _ in read(source, 300, 0.3)[0]] for source in sources]
assert sorted(parts[0] + parts[1]) == sorted(hexed(frames)) and all(parts), [*map(len, parts)]
send([flow(i) for i in range(20000)])
got = sum(len(read(source, 20000, 0.3)[0]) for source in sources)
assert got + sources[0].stats().missed == 20000
assert sources[0].stats().missed == sources[1].stats().missed
sources[0].close()
send([flow(i) for i in range(100)])
assert read(sources[1], 1, 0.3)[0], "the other queue goes on"
sources[1].close()
try:
    open_port("af_packet:b0", 17)
except UsageError as error:
    assert "1 to 16" in str(error)
""")


def test_groups_are_let_in_by_a_socket_that_ends_with_the_port() -> None:
    run("""
import subprocess
from pydpdk.process.ways_in import multicast_mac
def shown(word):
    command = ["ip", "-d", *word.split(), "show", "dev", "b0"]
    return subprocess.run(command, capture_output=True, text=True).stdout
(source,) = open_port("af_packet:b0")
assert "promiscuity 0" in shown("link") and "PROMISC" not in shown("link")
groups = "239.129.2.3", "224.255.0.1"  # 23 of their 28 bits go into the address
assert source.groups([multicast_mac(group) for group in groups]) == "list"
assert "01:00:5e:01:02:03" in shown("maddr") and "01:00:5e:7f:00:01" in shown("maddr")
known = source.known()
assert (known["multicast_list"], known["promiscuous"]) == ("accepted", "not asked for")
source.close()
assert "01:00:5e:01:02:03" not in shown("maddr")
with open_source("af_packet:b0"):
    assert "promiscuity 1" in shown("link")
assert "promiscuity 0" in shown("link")
(ring,) = open_port("ring:")
assert ring.groups([bytes.fromhex("01005e010203")]) in ("all-multicast", "promiscuous") or \\
    ring.groups([bytes(6)]).startswith("refused: ")
ring.close()
""")


def test_a_driver_without_rules_refuses_to_steer_with_its_reason() -> None:
    run("""
with opened("af_packet:b0") as source, open_source("null:") as null:
    for port in source, null:
        for address in "239.1.1.1", "ff02::1":
            assert port.steer(address, 4000).startswith("refused: "), port.steer(address, 4000)
""")


def test_receiving_resumes_after_the_mbufs_were_all_held() -> None:
    """HOSTILE fault 3: counted, frames wait in the socket's ring, and what overflows is missed."""
    run("""
from pydpdk.source import source as module
module.POOL_BYTES = 1 << 20
with opened("af_packet:b0", rx_ring_mb=1) as source:
    held = lib.port_hold(source.pointer, 100000)
    assert 512 <= held < 10000, held
    send(numbered(300))
    assert read(source, 1, 0.2)[0] == []
    stats = source.stats()
    assert stats.starved > 0 and stats.missed == 0, stats   # the driver itself counts nothing
    lib.port_hold(source.pointer, 0)
    assert [data for data, _, _ in read(source, 300, 1)[0]] == hexed(numbered(300))
    assert read(source, 1, 0.05)[0] == []   # gives the last burst's mbufs back
    lib.port_hold(source.pointer, 100000)
    send(numbered(5000))
    assert read(source, 1, 0.2)[0] == []
    lib.port_hold(source.pointer, 0)
    got = [data for data, _, _ in read(source, 5000, 0.5)[0]]
    assert got == hexed(numbered(5000))[:len(got)]
    assert len(got) + source.stats().missed == 5000
    send(numbered(10))
    assert len(read(source, 10, 1)[0]) == 10
with open_source("null:") as source:
    held = lib.port_hold(source.pointer, 100000)
    assert read(source, 1, 0.05)[0] == [] and source.stats().starved > 0
    lib.port_hold(source.pointer, 0)
    assert read(source, 1)[0]
""")


def test_an_xdp_socket_goes_on_after_the_mbufs_were_all_held() -> None:
    run("""
with opened("af_xdp:b0") as source:
    send(numbered(100))
    received = len(read(source, 100, 1)[0])
    assert read(source, 1, 0.05)[0] == []
    lib.port_hold(source.pointer, 100000)   # the driver cannot refill
    for _ in range(20):
        send(numbered(500))
        received += len(read(source, 500, 0.05)[0])
    lib.port_hold(source.pointer, 0)
    received += len(read(source, 10000, 0.3)[0])
    assert 100 < received < 10100, received
    assert received + source.stats().missed == 10100, (received, source.stats())
    for _ in range(10):
        send(numbered(100))
        received += len(read(source, 100, 0.3)[0])
    assert received + source.stats().missed == 11100, (received, source.stats())
""")


@pytest.mark.parametrize("spec", ["af_packet:b0", "tpacket:b0"])
def test_what_this_host_sends_takes_no_room(spec: str) -> None:
    run(
        """
beside = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
beside.bind(("b0", 0))
with opened(sys.argv[1], rx_ring_mb=1) as source:
    for frame in numbered(2000):
        beside.send(frame)
    send(numbered(3))
    assert [data for data, _, _ in read(source, 3, 0.3)[0]] == hexed(numbered(3))
    assert source.stats().missed == 0
beside.close()
""",
        spec,
    )
