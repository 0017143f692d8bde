"""Ways into a live run beside a veth: tap, memif, several ports, kernel sockets, no steering."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, IPOption_Router_Alert
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from pydpdk.synth.gen import generate
from pydpdk.synth.two_lines import LINE_A, LINE_B
from testbed.feeder import Feeder
from testbed.net import Namespace, Wire
from testbed.plan import Feed, plan
from tests.live_run import LINES, LiveRun, config, leftovers
from tests.test_run import replayed

pytestmark = pytest.mark.live

HEADERS = 14 + 20 + 8  # Ethernet, IPv4, UDP
REPORT = 0x22  # RFC 3376 4.2
LEAVE = 3  # CHANGE_TO_INCLUDE_MODE, RFC 3376 4.2.12
EXCLUDE = (2, 4)  # MODE_IS_EXCLUDE, CHANGE_TO_EXCLUDE_MODE
GROUPS = {LINE_A.group, LINE_B.group}
OURS = "10.0.0.5"
ALERT = IPOption_Router_Alert()


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ways") / "day.pcap"
    generate(path, messages=10_000, instruments=10, seed=3)
    return path


def datagrams(day: Path) -> list[tuple[str, int, bytes]]:
    """Group, port and payload of every frame."""
    feed = Feed.capture(day)
    found = []
    for at, length in zip(feed.offsets, feed.lengths, strict=True):
        frame = feed.data[at : at + length].tobytes()
        port = int.from_bytes(frame[36:38])
        found.append((socket.inet_ntoa(frame[30:34]), port, frame[HEADERS:]))
    return found


def send_datagrams(
    namespace: Namespace, interface: str, day: Path, pps: float, run: LiveRun
) -> int:
    """By the kernel's own UDP, to the groups; how many."""
    with (
        run.room() as room,
        namespace.inside(),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        index = socket.if_nametoindex(interface)
        sender.setsockopt(
            socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("=4s4si", b"", b"", index)
        )
        all_of_them, begun = datagrams(day), time.monotonic()
        for n, (group, port, payload) in enumerate(all_of_them):
            time.sleep(max(0.0, begun + n / pps - time.monotonic()))
            while not room(n):
                time.sleep(0.001)
            sender.sendto(payload, (group, port))
    return len(all_of_them)


@contextmanager
def listening(namespace: Namespace, interface: str) -> Iterator[socket.socket]:
    """A packet socket that hears what comes out of an interface's other side."""
    with namespace.inside():
        heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        heard.bind((interface, 0))
    with heard:
        yield heard


def hear(heard: socket.socket, seconds: float, test: Any) -> Packet:
    """The first packet that passes."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        heard.settimeout(left)
        try:
            data, address = heard.recvfrom(65_536)
        except TimeoutError:
            break
        except OSError as error:  # said once; what came before it is still there
            if error.errno == errno.ENETDOWN:
                continue
            raise
        if address[2] != socket.PACKET_OUTGOING and test(packet := Ether(data)):
            return packet
    raise AssertionError("not heard")


def reports(packet: Packet, kinds: tuple[int, ...], groups: set[str]) -> bool:
    """An IGMPv3 report, with these groups in records of these kinds."""
    if IP not in packet or packet[IP].proto != socket.IPPROTO_IGMP:
        return False
    message = bytes(packet[IP].payload)
    if message[0] == REPORT:
        for at in range(8, 8 + 8 * int.from_bytes(message[6:8]), 8):
            assert message[at + 1 : at + 4] == bytes(3), "no auxiliary data, no sources"
            if message[at] in kinds:
                groups.discard(socket.inet_ntoa(message[at + 4 : at + 8]))
    return not groups


# --- tap: we are the host behind a kernel's interface ---


def test_tap_is_a_host_with_a_kernel_on_the_other_side(
    day: Path, tmp_path: Path, pydpdk_namespace: Namespace
) -> None:
    namespace = pydpdk_namespace
    spec = config(tmp_path / "tap.toml", "tap:t0", source=f'address = "{OURS}"')
    with LiveRun(spec, namespace=namespace) as run:
        run.until(lambda s: s["engine"], "running")
        namespace.run(["ip", "address", "add", "10.0.0.1/24", "dev", "t0"])
        namespace.run(["ip", "link", "set", "t0", "up"])
        run.ready()
        with listening(namespace, "t0") as heard:
            ask(namespace, "t0")
            hear(heard, 15, lambda p, left=set(GROUPS): reports(p, EXCLUDE, left))
            assert ping(namespace) == b"are you there? " * 10
        sent = send_datagrams(namespace, "t0", day, 4_000, run)
        run.until(lambda _: run.counter("frames_parsed") >= sent, "all frames there")
        with listening(namespace, "t0") as heard:
            record = run.stop()
            hear(heard, 5, lambda p, left=set(GROUPS): reports(p, (LEAVE,), left))
    assert run.process.returncode == 0, run.log
    assert record["unexplained"] == 0
    (way,) = record["engine"]["ways"]
    assert way["membership"].startswith("IGMP of ours")
    assert way["losses"] == "unknown"
    loop = record["engine"]["loops"][0]
    alone = replayed(day, tmp_path, "alone")["engine"]["loops"][0]
    assert loop["books"] == alone["books"]
    assert loop["counters"]["answers_sent"] >= 4, "ARP, echo, reports, leaves"
    assert leftovers(run.name) == []


def ask(namespace: Namespace, interface: str) -> None:
    """A general query, as a router's (RFC 3376 4.1): answer within a second."""
    query = Raw(bytes.fromhex("110aec7800000000027d0000"))  # robustness 2, interval 125 s
    head = Ether(src="02:00:00:00:00:09", dst="01:00:5e:00:00:01")
    frame = head / IP(src="10.0.0.9", dst="224.0.0.1", ttl=1, proto=2, options=ALERT) / query
    with namespace.inside(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((interface, 0))
        sender.send(bytes(frame))


def ping(namespace: Namespace) -> bytes:
    """What comes back from our address; the kernel finds its MAC by ARP before."""
    request = bytes(ICMP(id=7, seq=1) / Raw(b"are you there? " * 10))
    with (
        namespace.inside(),
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock,
    ):
        sock.settimeout(5)
        sock.sendto(request, (OURS, 0))
        reply = IP(sock.recv(2048))
    assert (reply.src, reply[ICMP].type, reply[ICMP].id) == (OURS, 0, 7)
    return bytes(reply[Raw].load)


# --- memif: another process on the same host ---


def test_memif_takes_what_another_process_sends(day: Path, tmp_path: Path) -> None:
    at = f"id=0,socket={tmp_path / 'm'},socket-abstract=no"
    spec = config(tmp_path / "memif.toml", f"memif:role=server,{at}", source="flight_mb = 8")
    with LiveRun(spec) as run:
        run.until(lambda s: s["engine"], "running")
        command = [sys.executable, "-m", "pydpdk", "send", str(day), "--rate", "8000pps"]
        subprocess.run(
            [*command, "--to", f"memif:role=client,{at}"], check=True, timeout=60,
            capture_output=True,
        )  # fmt: skip
        run.idle()
        record = run.stop()
    assert run.process.returncode == 0, run.log
    assert record["unexplained"] == 0
    loop = record["engine"]["loops"][0]
    assert loop["sequence"][0]["lost"] == 0
    alone = replayed(day, tmp_path, "alone")["engine"]["loops"][0]
    assert loop["books"] == alone["books"]
    missing = alone["frames"]["received"] - loop["frames"]["received"]
    assert 0 <= missing < 50  # a full memif drops what nobody counts; the other line had it
    assert leftovers(run.name) == []


# --- several feeds or several ports ---

TWO_FEEDS = """
name = "{name}"
on_fallback = "{fallback}"
[sources]
a = "af_packet:{interface}"
[[feeds]]
name = "one"
protocol = "itch50"
lines = ["{a}"]
core = {cores[0]}
[[feeds]]
name = "two"
protocol = "itch50"
lines = ["{b}"]
core = {cores[1]}
"""


def two_feeds(tmp_path: Path, wire: Wire, fallback: str) -> Path:
    """Line A and line B as two feeds, each with a core of its own, of one port."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("needs two CPUs")
    path = tmp_path / "two.toml"
    path.write_text(
        TWO_FEEDS.format(name=f"t{os.getpid()}", fallback=fallback, interface=wire.b.name,
                         a=LINES[0], b=LINES[1], cores=cores)
    )  # fmt: skip
    return path


@pytest.mark.parametrize("fallback", ["warn", "allow"])
def test_without_steering_one_loop_tells_feeds_apart(
    fallback: str, day: Path, tmp_path: Path, pydpdk_wire: Wire, pydpdk_feeder: Any
) -> None:
    wire = pydpdk_wire
    spec = two_feeds(tmp_path, wire, fallback)
    with LiveRun(spec, namespace=wire.b.namespace) as run:
        run.ready()
        pydpdk_feeder(day, pps=4_000)
        run.idle()
        record = run.stop()
    assert run.process.returncode == 0, run.log
    assert record["unexplained"] == 0
    assert ("fallback:" in run.log) == (fallback == "warn")
    (way,), (loop,) = record["engine"]["ways"], record["engine"]["loops"]
    assert [row["line"] for row in way["steering"]] == LINES
    assert {row["done"] for row in way["steering"]} == {"software"}
    assert any("on one core" in text for text in way["fallbacks"])
    assert loop["feeds"] == ["one", "two"]
    delivered = [session["delivered"] for session in loop["sequence"]]
    assert delivered[0] == delivered[1] > 9_000
    assert [session["lost"] for session in loop["sequence"]] == [0, 0]


def test_no_fallback_wanted_none_taken(tmp_path: Path, pydpdk_wire: Wire) -> None:
    wire = pydpdk_wire
    spec = two_feeds(tmp_path, wire, "fail")
    with LiveRun(spec, namespace=wire.b.namespace) as run:
        run.process.wait(30)
    assert run.process.returncode == 3
    (line,) = run.log.splitlines()
    assert "on_fallback = fail" in line
    assert "on one core" in line
    assert leftovers(run.name) == []


@pytest.mark.parametrize("kind", ["af_packet", "tpacket"])
def test_two_ports_are_the_lines_of_one_feed(kind: str, tmp_path: Path, pydpdk_wire: Wire) -> None:
    """Line B is there alone when line A's wire is cut."""
    one, paths = pydpdk_wire, [tmp_path / f"{line}.pcap" for line in "AB"]
    for line, path in zip("AB", paths, strict=True):
        generate(path, messages=10_000, instruments=10, seed=3, lines=line)
    with Wire(one.a.namespace, one.b.namespace, names=("a1", "b1")) as two:
        ports = f'[sources.b]\ndevice = "{kind}:b1"'
        spec = config(tmp_path / "two.toml", f"{kind}:b0", source=ports)
        with LiveRun(spec, namespace=one.b.namespace) as run:
            run.ready()
            sent = [send(wire, path) for wire, path in zip((one, two), paths, strict=True)]
            run.until(lambda _: run.counter("frames_parsed") >= sum(sent), "all frames there")
            one.a.down()
            run.until(lambda s: s["engine"]["loops"][0]["links"]["a"] == "down", "cut", 10)
            assert run.status()["engine"]["loops"][0]["links"]["b"] == "up"
            record = run.stop()
    assert run.process.returncode == 0, run.log
    assert record["unexplained"] == 0
    (loop,) = record["engine"]["loops"]
    assert [line["packets"] for line in loop["lines"]] == sent
    assert [port["stats"]["received"] for port in loop["ports"]] == sent
    assert loop["sequence"][0]["lost"] == 0
    alone = replayed(paths[0], tmp_path, "alone")["engine"]["loops"][0]
    assert loop["books"] == alone["books"]


def send(wire: Wire, path: Path) -> int:
    with wire.a.namespace.inside():
        feeder = Feeder(wire.a.name)
    with feeder:
        return feeder.send(plan(Feed.capture(path), pps=5_000)).sent


# --- a kernel that owns the interface holds the groups ---


@pytest.mark.parametrize("kind", ["af_packet", "tpacket", "af_xdp"])
def test_the_kernel_joins_what_its_own_udp_sends(
    kind: str, day: Path, tmp_path: Path, pydpdk_wire: Wire
) -> None:
    wire = pydpdk_wire
    spec = config(tmp_path / "live.toml", f"{kind}:{wire.b.name}")
    assert not joined(wire) & GROUPS
    with LiveRun(spec, namespace=wire.b.namespace) as run:
        run.ready()
        assert joined(wire) >= GROUPS
        sent = send_datagrams(wire.a.namespace, wire.a.name, day, 4_000, run)
        run.until(lambda _: run.counter("frames_parsed") >= sent, "all frames there")
        record = run.stop()
    assert run.process.returncode == 0, run.log
    assert not joined(wire) & GROUPS
    assert record["unexplained"] == 0
    assert record["engine"]["ways"][0]["membership"].startswith("kernel socket")
    assert record["engine"]["loops"][0]["sequence"][0]["lost"] == 0


def joined(wire: Wire) -> set[str]:
    """Groups that the kernel has on the receiving end (/proc/net/igmp, in its byte order)."""
    listed = wire.b.namespace.run(["cat", "/proc/net/igmp"]).stdout.splitlines()
    rows = [line.split()[0] for line in listed if line.startswith("\t\t")]
    return {str(IPv4Address(int(row, 16).to_bytes(4, "little"))) for row in rows}
