"""pydpdk send: every frame of a capture leaves, in order, not before it is due."""

from __future__ import annotations

import errno
import json
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pydpdk._core import ffi
from pydpdk.errors import DataError, UsageError
from pydpdk.source import eal
from pydpdk.source.told import SourceStats
from pydpdk.tape.pcapfile import CaptureWriter
from pydpdk.tape.send import Rate, Sender, sendable
from tests.captured import frames_of
from tests.command import refused, spawn, start, wait_interruptible
from tests.port_child import run_child

EPOCH = 1_700_000_000_000_000_000
MS = 1_000_000
SLACK_NS = 0.1 * MS  # for the rate of the cycle counter, measured in 5 ms


def frame(i: int) -> bytes:
    return struct.pack(">6x6xHQ", 0x88B5, i) + bytes(40 + i % 1000)


def capture(path: Path, stamps: list[int]) -> Path:
    with CaptureWriter(path) as writer:
        for i, at in enumerate(stamps):
            writer.write(EPOCH + at, frame(i))
    return path


class Port:
    """A source in Python: takes what `room` says of what is offered, and notes when."""

    def __init__(self, room: Callable[[int], int] = lambda offered: offered) -> None:
        self.spec = "port"
        self.got: list[bytes] = []
        self.at: list[int] = []
        self.offers: list[int] = []
        self.room = room
        self.pointer = ffi.new("struct source *")
        self._send = ffi.callback("int(struct source *, struct outgoing *, int)", self.take)
        self.pointer.send = self._send

    def stats(self) -> SourceStats:
        return SourceStats(*[None] * 10)

    def take(self, source: Any, frames: Any, count: int) -> int:
        now = time.monotonic_ns()
        self.offers.append(count)
        n = self.room(count)
        for outgoing in frames[0 : max(n, 0)]:
            self.got.append(bytes(ffi.buffer(outgoing.data, outgoing.len)))
            self.at.append(now)
        return n


def send(path: Path, port: Port, rate: str, skip: bool = False, **options: Any) -> dict[str, Any]:
    sendable(str(path), skip)
    with Sender(str(path), port, Rate.parse(rate), **options) as sender:  # type: ignore[arg-type]
        assert sender.join(60)
        result = sender.result()
        extra = {"problem": sender.problem, "begun": sender._shared.begun_ns}
    assert result["unexplained"] == 0
    assert result["sent"] == len(port.got)
    return result | extra


# ---- what is sent ----


@pytest.mark.parametrize("rate", ["line", "recorded", "x3.5", "200000pps"])
@pytest.mark.parametrize("take", [1, 3, 1000])
def test_every_frame_once_and_in_order(rate: str, take: int, tmp_path: Path) -> None:
    path = capture(tmp_path / "a.pcap", [i * 1000 for i in range(1000)])
    port = Port(lambda offered: min(offered, take))
    result = send(path, port, rate)
    assert port.got == [frame(i) for i in range(1000)]
    assert result["bytes"] == sum(map(len, port.got))
    assert (result["scheduled"], result["refused"], result["laps"]) == (1000, 0, 1)


@pytest.mark.parametrize("rate", ["line", "recorded", "100000pps"])
def test_passes_over_the_capture(rate: str, tmp_path: Path) -> None:
    path = capture(tmp_path / "a.pcap", [i * 10_000 for i in range(50)])
    port = Port()
    result = send(path, port, rate, laps=3)
    assert port.got == [frame(i) for i in range(50)] * 3
    assert result["laps"] == 3
    if rate != "line":  # the passes follow one another at the capture's own pace
        assert result["seconds"] * 1e9 + 1 >= 149 * 10_000


@pytest.mark.parametrize("count", [1, 31, 32, 33, 50, 51, 120])
def test_count_is_exact(count: int, tmp_path: Path) -> None:
    path = capture(tmp_path / "a.pcap", [0] * 50)
    port = Port()
    assert send(path, port, "line", laps=9, frames=count)["scheduled"] == count
    assert port.got == [frame(i % 50) for i in range(count)]


# ---- when ----


@pytest.mark.parametrize(("rate", "factor"), [("recorded", 1), ("x4", 4), ("x0.5", 0.5)])
def test_no_frame_is_early_and_lateness_is_told(rate: str, factor: float, tmp_path: Path) -> None:
    stamps = [0, 0, 1 * MS, 1 * MS + 50_000, 7 * MS, 40 * MS, 41 * MS]
    port = Port()
    result = send(capture(tmp_path / "a.pcap", stamps), port, rate)
    for at, stamp in zip(port.at, stamps, strict=True):
        assert at - result["begun"] >= stamp / factor - SLACK_NS
    late = result["lateness_ns"]
    assert late["count"] == 7
    assert late["p50"] <= late["p99"] <= late["max"]
    assert abs(result["drift_ns"] - (result["seconds"] * 1e9 - 41 * MS / factor)) <= 2
    assert abs(result["clock_ppm"]) < 10_000


def test_frames_a_second(tmp_path: Path) -> None:
    path, port = capture(tmp_path / "a.pcap", [0] * 100), Port()
    result = send(path, port, "2000pps")
    since = [at - result["begun"] for at in port.at]
    assert all(at >= i * 500_000 - SLACK_NS for i, at in enumerate(since))
    assert abs(result["drift_ns"] - (result["seconds"] * 1e9 - 99 * 500_000)) <= 2
    assert result["pps"] <= 2001


def test_frames_not_due_are_not_sent_to_fill_a_batch(tmp_path: Path) -> None:
    port = Port()
    send(capture(tmp_path / "a.pcap", [0, 0, 0, 150 * MS, 300 * MS, 300 * MS]), port, "recorded")
    assert port.offers == [3, 1, 2]


def test_a_port_without_room_makes_it_fall_behind(tmp_path: Path) -> None:
    until = []

    def room(offered: int) -> int:
        if not until:
            until.append(time.monotonic() + 0.02)
        return offered if time.monotonic() > until[0] else 0

    port = Port(room)
    result = send(capture(tmp_path / "a.pcap", [0, 5 * MS, 6 * MS, 60 * MS]), port, "recorded")
    assert len(port.got) == 4
    assert result["lateness_ns"]["max"] >= 19 * MS
    assert 19 * MS <= result["behind_ns"] <= result["seconds"] * 1e9


def test_stamps_that_go_back_are_sent_at_once(tmp_path: Path) -> None:
    path, port = capture(tmp_path / "a.pcap", [5 * MS, 0, 6 * MS, 5 * MS]), Port()
    result = send(path, port, "recorded")
    assert result["regress"] == 1
    assert port.got == [frame(i) for i in range(4)]
    assert result["seconds"] >= 0.001


# ---- what goes wrong ----


def test_what_finds_no_room_is_counted_after_a_bounded_time(tmp_path: Path) -> None:
    path = capture(tmp_path / "a.pcap", [0] * 200)
    begun = time.monotonic()
    port = Port(lambda offered: 0)
    result = send(path, port, "line", retry_s=0.005)
    assert (result["sent"], result["refused"]) == (0, 200)
    assert time.monotonic() - begun >= 0.005 * 200 / 32


def test_frames_that_do_not_fit_are_counted_and_passed(tmp_path: Path) -> None:
    calls = [0]

    def room(offered: int) -> int:
        calls[0] += 1
        return -errno.EMSGSIZE if calls[0] % 10 == 5 else 1

    port = Port(room)
    result = send(capture(tmp_path / "a.pcap", [0] * 100), port, "line")
    assert (result["sent"], result["unfit"]) == (90, 10)
    assert port.got == [frame(i) for i in range(100) if i % 10 != 4]


def test_a_broken_port_ends_it(tmp_path: Path) -> None:
    port = Port(lambda offered: offered if len(port.got) < 40 else -errno.EIO)
    result = send(capture(tmp_path / "a.pcap", [0] * 200), port, "line")
    assert "port: cannot send" in str(result["problem"])
    assert result["sent"] == 64


def test_a_broken_capture_is_sent_up_to_the_break(tmp_path: Path) -> None:
    path, port = capture(tmp_path / "a.pcap", [0] * 20), Port()
    path.write_bytes(path.read_bytes()[:-3])
    result = send(path, port, "line", laps=5)
    assert isinstance(result["problem"], DataError)
    assert (result["sent"], result["laps"]) == (19, 0)


def mixed(path: Path) -> Path:
    """A whole frame, a cut one, a whole one; pcap."""
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    record = struct.Struct("<IIII").pack
    frames = [record(1, 0, 60, 60), bytes(60), record(1, 1, 60, 99), bytes(60)]
    path.write_bytes(head + b"".join(frames) + record(1, 2, 60, 60) + bytes(60))
    return path


def test_truncated_frames_are_refused_or_skipped(tmp_path: Path) -> None:
    path, port = mixed(tmp_path / "a.pcap"), Port()
    with pytest.raises(DataError, match=r"1 frames are not whole.*--skip sends the 2 others"):
        send(path, port, "line")
    assert port.got == []
    result = send(path, port, "line", skip=True)
    assert (result["sent"], result["skipped"]) == (2, {"truncated": 1, "not_ethernet": 0})


def test_what_is_not_ethernet_too(tmp_path: Path) -> None:
    with CaptureWriter(tmp_path / "a.pcap", linktype=101) as writer:
        writer.write(EPOCH, bytes(60))
    for skip, text in ((False, "1 are not Ethernet"), (True, "no frame that can be sent")):
        with pytest.raises(DataError, match=text):
            send(tmp_path / "a.pcap", Port(), "line", skip=skip)


def test_a_source_that_cannot_send_is_refused(tmp_path: Path) -> None:
    source = SimpleNamespace(spec="mute", pointer=ffi.new("struct source *"))
    with pytest.raises(UsageError, match="mute: it cannot send"):
        Sender(str(tmp_path / "a.pcap"), source, Rate.parse("line"))  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", ["", "x", "x0", "xinf", "-1", "0pps", "1e9pps", "fast", "10x"])
def test_what_is_no_rate_is_refused(rate: str, tmp_path: Path) -> None:
    path = capture(tmp_path / "a.pcap", [0])
    assert "none of recorded" in refused(2, "send", path, "--to", "null:", "--rate", rate)


def test_a_capture_is_no_port(tmp_path: Path) -> None:
    path = capture(tmp_path / "a.pcap", [0])
    assert "name a port" in refused(2, "send", path, "--to", f"pcap:{path}")


def test_it_stops_in_the_middle_of_a_wait(tmp_path: Path) -> None:
    path, port = capture(tmp_path / "a.pcap", [0, 3600 * 1000 * MS]), Port()
    with Sender(str(path), port, Rate.parse("recorded")) as sender:  # type: ignore[arg-type]
        assert not sender.join(0.05)
        sender.stop()
        assert sender.join(10)
        result = sender.result()
    assert (result["scheduled"], result["sent"], result["unexplained"]) == (1, 1, 0)


# ---- through DPDK ----

needs_dpdk = pytest.mark.skipif(not eal.version(), reason="pydpdk was built without DPDK")


@needs_dpdk
@pytest.mark.parametrize("rate", ["line", "x100"])
def test_what_a_port_wrote_equals_the_capture(rate: str, tmp_path: Path) -> None:
    path = capture(tmp_path / "a.pcap", [i * 10_000 for i in range(3000)])
    to = f"net_pcap0,tx_pcap={tmp_path / 'out.pcap'}"
    done = spawn("send", path, "--to", to, "--rate", rate, "--loop", 2, "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json["sent"] == 6000
    assert [f.data for f in frames_of(tmp_path / "out.pcap")] == [frame(i) for i in range(3000)] * 2


VETH_SEND = """
import subprocess
from tests.command import COMMAND
inside = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
inside.bind(("b0", 0))
inside.setsockopt(socket.SOL_SOCKET, 33, 1 << 26)  # SO_RCVBUFFORCE
inside.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS
inside.settimeout(2)
args = sys.argv[2:]
done = subprocess.run([*COMMAND, "send", sys.argv[1], "--to", "af_packet:a0", "--json", *args],
                      stdout=subprocess.PIPE, text=True)
got = []
try:
    while True:
        data, extra, *_ = inside.recvmsg(65536, 64)
        seconds, ns = __import__("struct").unpack("qq", extra[0][2])
        if data[12:14] == b"\\x88\\xb5":
            got.append([data.hex(), seconds * 10**9 + ns])
except TimeoutError:
    pass
say([done.returncode, json.loads(done.stdout), got])
"""


@pytest.mark.slow
@needs_dpdk
@pytest.mark.parametrize("rate", ["line", "recorded", "3000pps"])
def test_a_veth_carries_every_byte_at_its_pace(rate: str, tmp_path: Path) -> None:
    """As the kernel stamped them at the other end: the order, and never faster than due."""
    path = capture(tmp_path / "a.pcap", [i * 400_000 for i in range(600)])
    code, result, got = run_child(VETH_SEND, path, "--rate", rate, namespace=True)
    assert code == 0
    assert [bytes.fromhex(data) for data, _ in got] == [frame(i) for i in range(600)]
    assert result["sent"] == 600
    if rate != "line":
        took = (got[-1][1] - got[0][1]) / 1e9
        due = 599 / 2500 if rate == "recorded" else 599 / 3000
        late = result["lateness_ns"]
        assert took > due - late["max"] / 1e9 - 0.02, "the first may have been late, no other early"
        assert late["count"] == 600
        assert 0 <= result["drift_ns"] <= late["max"]


@needs_dpdk
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_says_how_far_it_came(number: int, tmp_path: Path) -> None:
    path = capture(tmp_path / "a.pcap", [i * 1000 * MS for i in range(100)])
    with start("send", path, "--to", "null:", "--json") as process:
        wait_interruptible(process)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "")
    result = json.loads(out)
    assert result["interrupted"]
    assert result["unexplained"] == 0
    assert result["sent"] == result["scheduled"] < 100
