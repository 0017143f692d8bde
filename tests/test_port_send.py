"""Sending through DPDK ports: the bytes that leave are the bytes given, and no call lies."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from scapy.utils import RawPcapReader

from pydpdk.source import eal
from tests.port_child import run_child
from tests.test_port import SIZES, frame, write

pytestmark = pytest.mark.skipif(not eal.version(), reason="pydpdk was built without DPDK")

FRAMES = """
def numbered(count, size=100):
    return [b"\\1\\0\\x5e\\0\\0\\1\\2\\0\\0\\0\\0\\1\\x88\\xb5" + i.to_bytes(4) + bytes(size - 18)
            for i in range(count)]
def all_of(source, frames):
    while frames:
        frames = frames[source.send(frames):]
def hexed(frames):
    return [frame.hex() for frame in frames]
"""


def test_what_is_sent_into_a_ring_comes_out_of_it() -> None:
    run_child(
        FRAMES
        + """
with open_source("ring:") as source:
    assert source.send([]) == 0
    sent = [bytes([size % 251]) * size for size in (14, 15, 60, 590, 1514, 1518, 1522)]
    assert source.send(sent) == len(sent)
    keep = bytearray(sent[0])
    assert source.send([keep]) == 1
    keep[:] = bytes(len(keep))
    got = [data for data, _, _ in read(source, len(sent) + 1)[0]]
    assert got == hexed([*sent, sent[0]]), "a frame is copied before send returns"
    stats = source.stats()
    assert (stats.sent, stats.received, stats.send_full) == (len(sent) + 1, len(sent) + 1, 0)
say(0)
"""
    )


def test_a_full_queue_takes_the_first_frames_and_goes_on_later() -> None:
    run_child(
        FRAMES
        + """
with open_source("ring:") as source:
    sent, got, parts = numbered(5000), [], []
    at = 0
    while at < len(sent):
        parts.append(source.send(sent[at:]))
        at += parts[-1]
        assert source.send(sent[at:at + 1]) == 0, "no room is not an error"
        while len(got) < at:
            got += [data for data, _, _ in read(source, at - len(got))[0]]
    assert got == hexed(sent)
    assert len(parts) > 1 and all(0 < part < 5000 for part in parts[:-1]), parts
    stats = source.stats()
    assert stats.sent == stats.received == 5000
    assert stats.send_full >= len(parts) - 1
    while source.send(numbered(256)):
        pass
    for _ in range(100):    # what was not taken is not leaked
        assert source.send(numbered(256)) == 0
    assert read(source, 1)[0]
    assert source.send(numbered(256)) == 256
say(0)
"""
    )


def test_frames_too_long_or_too_short_are_refused_and_those_before_them_sent() -> None:
    run_child(
        FRAMES
        + """
def refused(source, frame):
    try:
        source.send([frame])
    except UsageError as error:
        return str(error)
with open_source("ring:", mtu=1500) as source:
    fits, long, short = bytes(1522), bytes(1523), bytes(13)
    assert "1523" in refused(source, long) and "13" in refused(source, short)
    assert source.stats().send_refused == 2
    assert source.send([fits, fits, long, fits]) == 2
    assert source.send([fits, short]) == 1
    assert [len(data) // 2 for data, _, _ in read(source, 3)[0]] == [1522] * 3
    stats = source.stats()
    assert (stats.sent, stats.send_refused, stats.send_full) == (3, 2, 0)
say(0)
"""
    )


def test_captures_cannot_send(tmp_path: Path) -> None:
    run_child(
        """
        try:
            open_source(sys.argv[1]).send([bytes(60)])
        except UsageError as error:
            assert "cannot send" in str(error)
            say(0)
        """,
        f"pcap:{write(tmp_path / 'a.pcap', [(frame(60), 1.0)])}",
    )


def test_net_pcap_writes_what_is_sent(tmp_path: Path) -> None:
    sent = [frame(size, size) for size in SIZES if size <= 1522] * 50
    write(tmp_path / "in.pcap", [(data, 1.0 + i) for i, data in enumerate(sent)])
    run_child(
        FRAMES
        + """
import os
os.chdir(sys.argv[1])
with open_source("net_pcap0,rx_pcap=in.pcap,tx_pcap=out.pcap") as source:
    while frames := read(source, 1, 0.1)[0]:
        all_of(source, [bytes.fromhex(data) for data, _, _ in frames])
say(0)
""",
        tmp_path,
    )
    with RawPcapReader(str(tmp_path / "out.pcap")) as written:
        assert [data for data, _ in written] == sent
    if shutil.which("capinfos"):
        told = subprocess.run(
            ["capinfos", "-Mc", tmp_path / "out.pcap"], capture_output=True, text=True
        )
        assert str(len(sent)) in told.stdout, told.stderr


def test_af_packet_sends_and_receives_at_once() -> None:
    """An ordinary AF_PACKET socket on the other end is the oracle for both directions."""
    run_child(
        FRAMES
        + """
other = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88b5))
other.bind(("a0", 0x88b5))
other.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)
other.settimeout(3)
out = [data[:(60, 64, 590, 1514)[i % 4]] for i, data in enumerate(numbered(4000, 1514))]
back = [data[:6] + b"\\2\\0\\0\\0\\0\\2" + data[12:] for data in out]
with open_source("af_packet:b0") as source:
    got, there = [], []
    for at in range(0, 4000, 100):
        all_of(source, out[at:at + 100])
        for frame in back[at:at + 100]:
            other.send(frame)
        got += [data for data, _, _ in read(source, 100, 1)[0]]
        there += [other.recv(2048) for _ in range(100)]
    assert hexed(there) == hexed(out), "what left the port"
    assert got == hexed(back), "and nothing of it came back"
    assert source.stats().sent == source.stats().received == 4000
    try:
        source.send([bytes(1523)])
    except UsageError:
        say(0)
""",
        namespace=True,
    )


def test_af_packet_sends_jumbo_frames() -> None:
    run_child(
        FRAMES
        + """
for name in "a0", "b0":
    ip(f"link set {name} mtu 9000")
other = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88b5))
other.bind(("a0", 0x88b5))
other.settimeout(3)
with open_source("af_packet:b0") as source:
    sent = numbered(20, 9014)
    all_of(source, sent)
    assert hexed(other.recv(10000) for _ in sent) == hexed(sent)
say(0)
""",
        namespace=True,
    )


def test_memif_carries_both_ways(tmp_path: Path) -> None:
    run_child(
        FRAMES
        + """
socket_path = f"socket={sys.argv[1]},socket-abstract=no"
with (open_source(f"memif:role=server,id=0,{socket_path}") as server,
      open_source(f"memif:role=client,id=0,{socket_path}") as client):
    until = time.monotonic() + 20
    while not client.send(numbered(1)) and time.monotonic() < until:
        time.sleep(0.01)
    assert len(read(server, 1)[0]) == 1, "the two have met"
    for sender, receiver in (client, server), (server, client):
        sent, got, at = numbered(5000), [], 0
        while len(got) < len(sent) and time.monotonic() < until:
            at += sender.send(sent[at:])    # into buffers that the receiver offers when it polls
            got += [data for data, _, _ in read(receiver, max(1, at - len(got)), 0.1)[0]]
        assert got == hexed(sent)
say(0)
""",
        tmp_path / "m",
    )
