"""The flight recorder: what a dump holds, whenever it is made and however its writer ended."""

from __future__ import annotations

import mmap
import os
import random
import shutil
import signal
import struct
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pydpdk._core import ffi, lib
from pydpdk.engine.flight import Flight
from pydpdk.errors import CoreError, PydpdkError
from pydpdk.tape.pcapfile import CaptureWriter
from tests.captured import Frame, capinfos, frames_of
from tests.conftest import missing

ROOT = Path(__file__).parent.parent
SHM = Path("/dev/shm")
MIB = 1 << 20
KILLS = 200
PATTERN = bytes(range(256)) * 300


def put(flight: Flight, *frames: Frame, port: int = 0) -> int:
    """Put frames as a burst of one port."""
    packets = ffi.new("struct packet[]", len(frames))
    held = [ffi.from_buffer("uint8_t[]", frame.data) for frame in frames]
    for packet, frame, data in zip(packets, frames, held, strict=True):
        packet.data, packet.caplen = data, len(frame.data)
        packet.ts_recv, packet.wirelen, packet.link = frame.ts, frame.wirelen, frame.link
        packet.port = port
    return int(lib.flight_put(flight.pointer, packets, len(frames)))


def numbered(number: int, size: int, more: int = 0) -> Frame:
    data = struct.pack("<Q", number) + bytes(max(0, size - 8))
    return Frame(data[:size], 10**18 + number, size + more, 1)


@pytest.fixture
def name() -> Iterator[str]:
    name = f"pydpdk-test-{uuid.uuid4().hex}"
    yield name
    (SHM / name).unlink(missing_ok=True)


# ---- what a dump holds ----


def test_a_dump_is_what_was_put(tmp_path: Path) -> None:
    """All paddings, an empty frame, a cut one, a link type of its own, the last nanosecond."""
    sent = [numbered(i, size, more=i % 2) for i, size in enumerate([*range(70), 1514, 262144])]
    sent.append(Frame(b"\x45" + bytes(19), 2**64 - 1, 20, 101))
    with Flight.create(MIB) as flight:
        flight.source("af_packet:eth0")
        assert put(flight, *sent) == len(sent)
        assert flight.dump(tmp_path / "a.pcapng") == len(sent)
        stats = flight.stats()
        assert (stats.frames, stats.lost, stats.cut) == (len(sent), 0, 0)
        assert stats.interfaces == ["af_packet:eth0"] * 2
    assert frames_of(tmp_path / "a.pcapng") == sent
    assert os.listdir(tmp_path) == ["a.pcapng"]


def test_wireshark_reads_every_field(tmp_path: Path, tshark: str) -> None:
    with Flight.create(MIB) as flight:
        for source in ("af_packet:eth0", "x" * 44 + "y" * 56):
            flight.source(source)
        for port, number in ((0, 1), (1, 2), (3, 3), (0, 4)):
            put(flight, numbered(number, 60 + number, more=number), port=port)
        flight.dump(tmp_path / "a.pcapng")
    fields = ["time_epoch", "cap_len", "len", "interface_id", "interface_name"]
    command = [tshark, "-r", str(tmp_path / "a.pcapng"), "-T", "fields"]
    command += [word for field in fields for word in ("-e", f"frame.{field}")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert [line.split("\t") for line in done.stdout.splitlines()] == [
        ["1000000000.000000001", "61", "62", "0", "af_packet:eth0"],
        ["1000000000.000000002", "62", "64", "1", "..." + "y" * 56],
        ["1000000000.000000003", "63", "66", "3", "port3"],
        ["1000000000.000000004", "64", "68", "0", "af_packet:eth0"],
    ]
    assert capinfos(tmp_path / "a.pcapng") == [4]


def test_an_empty_recorder_gives_an_empty_capture(tmp_path: Path) -> None:
    with Flight.create(MIB) as flight:
        flight.source("a")
        assert flight.dump(tmp_path / "a.pcapng") == 0
    assert frames_of(tmp_path / "a.pcapng") == []
    assert capinfos(tmp_path / "a.pcapng") == [0]


def test_the_newest_frames_that_fit_are_kept(tmp_path: Path) -> None:
    """Against a list: after each put, the dump is the longest suffix whose blocks fit."""
    rng = random.Random(5)
    sent: list[Frame] = []
    with Flight.create(MIB) as flight:
        while len(sent) < 400:
            size = rng.choice([0, 60, 1514, 9000, 65000, 262144])
            sent.append(numbered(len(sent), size))
            put(flight, sent[-1])
            if len(sent) % 20 == 0:
                flight.dump(tmp_path / "a.pcapng")
                assert frames_of(tmp_path / "a.pcapng") == fitting(sent, MIB)
        assert flight.stats().frames == len(sent)


def test_blocks_are_those_of_another_writer(tmp_path: Path) -> None:
    """Byte by byte, the padding too, in memory that was written before."""
    sent = [Frame(bytes([i % 255 + 1]) * (60 + i * 37 % 1450), i, 60 + i * 37 % 1450, 1)
            for i in range(5000)]  # fmt: skip
    with Flight.create(MIB) as flight:
        for first in range(0, len(sent), 50):
            put(flight, *sent[first : first + 50])
        count = flight.dump(tmp_path / "a.pcapng")
    with CaptureWriter(tmp_path / "b.pcapng", "pcapng") as writer:
        for frame in sent[-count:]:
            writer.write(frame.ts, frame.data)
    held = sum(32 + (len(frame.data) + 3) // 4 * 4 for frame in sent[-count:])
    dumped, other = (tmp_path / f"{name}.pcapng" for name in "ab")
    assert dumped.read_bytes()[-held:] == other.read_bytes()[-held:]


def fitting(frames: list[Frame], room: int) -> list[Frame]:
    """The newest frames whose blocks are within `room` bytes."""
    n = len(frames)
    while n and (room := room - 32 - (len(frames[n - 1].data) + 3) // 4 * 4) >= 0:
        n -= 1
    return frames[n:]


def test_since_leaves_out_what_is_older(tmp_path: Path) -> None:
    sent = [numbered(i, 100) for i in range(50)]
    with Flight.create(MIB) as flight:
        put(flight, *sent)
        for since, want in ((sent[20].ts, sent[20:]), (sent[49].ts + 1, []), (0, sent)):
            assert flight.dump(tmp_path / "a.pcapng", since) == len(want)
            assert frames_of(tmp_path / "a.pcapng") == want


def test_longer_frames_are_cut_and_counted(tmp_path: Path) -> None:
    with Flight.create(MIB, snaplen=96) as flight:
        put(flight, numbered(1, 96), numbered(2, 97), numbered(3, 1514, more=5))
        assert flight.stats().cut == 2
        flight.dump(tmp_path / "a.pcapng")
    assert [(len(f.data), f.wirelen) for f in frames_of(tmp_path / "a.pcapng")] == [
        (96, 96), (96, 97), (96, 1519),
    ]  # fmt: skip


def test_a_frame_of_one_interface_too_many_is_counted(tmp_path: Path) -> None:
    with Flight.create(MIB) as flight:
        for port in range(40):
            assert put(flight, numbered(port, 60), port=port) == 1
        stats = flight.stats()
        assert (stats.frames, stats.lost, len(stats.interfaces)) == (32, 8, 32)
        assert flight.dump(tmp_path / "a.pcapng") == 32
        with pytest.raises(CoreError, match="one source too many"):
            flight.source("more")


def test_keep_refuses_what_has_no_room() -> None:
    frame = numbered(1, 65536 - 32)
    with Flight.create(MIB, keep=True) as flight:
        assert [put(flight, frame, frame) for _ in range(9)] == [2] * 8 + [0]
        at = ffi.new("uint8_t **")
        assert lib.flight_peek(flight.pointer, at) == MIB
        lib.flight_release(flight.pointer, 65536)
        assert put(flight, frame, frame) == 1
        assert lib.flight_peek(flight.pointer, at) == MIB


# ---- the memory ----


@pytest.mark.parametrize("size", [-1, 0, MIB // 2, MIB + 4096, 1 << 41])
def test_size_must_be_a_power_of_two_in_range(size: int) -> None:
    with pytest.raises(CoreError, match="EINVAL"):
        Flight.create(size)


def test_names_descriptors_and_their_end(name: str, tmp_path: Path) -> None:
    with Flight.create(MIB, name) as flight:
        put(flight, numbered(1, 60))
        with pytest.raises(CoreError, match="EEXIST"):
            Flight.create(MIB, name)
        for how in ({"name": name}, {"fd": flight.fd}):
            with Flight.attach(**how) as reader:  # type: ignore[arg-type]
                assert reader.dump(tmp_path / "a.pcapng") == 1
            with pytest.raises(CoreError, match="EBUSY"):
                Flight.attach(**how, writer=True)  # type: ignore[arg-type]
    with Flight.attach(name, writer=True) as flight:
        put(flight, numbered(2, 60))
        assert flight.dump(tmp_path / "a.pcapng") == 2
        flight.unlink()
    assert not (SHM / name).exists()
    with pytest.raises(CoreError, match="ENOENT"):
        Flight.attach(name)
    with pytest.raises(PydpdkError, match="closed"):
        flight.dump(tmp_path / "a.pcapng")


@pytest.mark.parametrize("at", [0, 8, 12, 16, 24, 32])
def test_what_is_no_flight_recorder_is_refused(name: str, at: int) -> None:
    Flight.create(MIB, name).close()
    with (SHM / name).open("r+b") as file:
        file.seek(at)
        file.write(b"\xff" * 4)
    for writer in (False, True):
        with pytest.raises(CoreError, match="EPROTO"):
            Flight.attach(name, writer=writer)


def test_a_damaged_memory_is_told_and_written_up_to_the_damage(name: str, tmp_path: Path) -> None:
    with Flight.create(MIB, name) as flight:
        put(flight, *(numbered(i, 96) for i in range(20)))
    with (SHM / name).open("r+b") as file:
        file.seek(4096 + 128 * 7 + 4)
        file.write(b"\x01")
    with Flight.attach(name) as flight:
        with pytest.raises(CoreError, match="EBADMSG"):
            flight.dump(tmp_path / "a.pcapng")
        with (tmp_path / "b.pcapng").open("wb") as file:
            lib.flight_dump(flight.pointer, file.fileno(), 0)
    assert len(frames_of(tmp_path / "b.pcapng")) == 7
    with Flight.attach(name, writer=True) as flight:  # what cannot be followed is given up
        put(flight, numbered(99, 60))
        assert flight.dump(tmp_path / "a.pcapng") == 1


# ---- a writer that is killed, or still runs ----


class Writer:
    """tests/c/flight_stress.c on a memory of its own."""

    def __init__(self, where: Path, name: str, *flags: str) -> None:
        self.name, self.ack = name, where / "ack"
        self.program = build(where, *flags)
        self.ack.write_bytes(bytes(8))
        with self.ack.open("r+b") as file:
            self.acked = mmap.mmap(file.fileno(), 8)
        Flight.create(MIB, name).close()

    def start(self, first: int, burst: int) -> subprocess.Popen[bytes]:
        command = [self.program, self.name, str(first), self.ack, str(burst)]
        return subprocess.Popen(command)

    def dump(self, path: Path) -> None:
        """By the program, which may lack the step under test."""
        subprocess.run([self.program, self.name, path], check=True)

    def put(self) -> int:
        """Frames surely put by now."""
        return int(struct.unpack("<Q", self.acked)[0])


def build(where: Path, *flags: str) -> Path:
    program, core = where / "flight_stress", ROOT / "csrc"
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        missing("gcc")
    sources = [ROOT / "tests" / "c" / "flight_stress.c"]
    sources += [
        core / f"{noun}.c" for noun in ("tape/flight_file", "base/shm", "tape/pcapng_write")
    ]
    warnings = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"]
    command = [compiler, *warnings, *flags, f"-I{core}", *sources, "-o", program]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return program


def numbers(path: Path) -> list[int]:
    """The numbers of the frames, after checking that each is as flight_stress.c makes it."""
    found = []
    for data, ts, wirelen, _ in frames_of(path):
        (number,) = struct.unpack_from("<Q", data)
        start = (number * 7 + 8) % 256
        whole = data[8:] == PATTERN[start : start + len(data) - 8]
        assert whole, "a torn frame"
        assert (ts, wirelen) == (number, len(data) + 4), "a torn block"
        found.append(number)
    return found


def check_suffix(found: list[int], earliest_end: int, latest_end: int) -> None:
    assert found == list(range(found[0], found[0] + len(found))), "not contiguous"
    assert earliest_end <= found[-1] + 1 <= latest_end


def kill_often(writer: Writer, where: Path, kills: int) -> None:
    rng = random.Random(11)
    following, waiting = 0, []
    for kill in range(kills):
        burst = rng.choice([1, 7, 64])
        with writer.start(following, burst) as process:
            wait_for(lambda: writer.put() > following)  # noqa: B023
            time.sleep(rng.random() * 0.01)
            process.kill()
        assert process.returncode == -signal.SIGKILL
        path = where / f"{kill}.pcapng"
        with Flight.attach(writer.name) as flight:
            count = flight.dump(path)
        found = numbers(path)
        assert len(found) == count
        check_suffix(found, writer.put(), writer.put() + burst)
        following = found[-1] + 1  # the next writer goes on in the same memory
        waiting.append((path, count))
        if len(waiting) == 20 or kill == kills - 1:
            assert capinfos(*(path for path, _ in waiting)) == [n for _, n in waiting]
            while waiting:
                waiting.pop()[0].unlink()


def dump_live(writer: Writer, where: Path, dumps: int, own: bool = False) -> None:
    path = where / "live.pcapng"
    with writer.start(0, 64) as process, Flight.attach(writer.name) as flight:
        try:
            dump: Callable[[Path], object] = flight.dump if own else writer.dump
            wait_for(lambda: flight.stats().held > MIB * 0.9)
            for _ in range(dumps):
                before = writer.put()
                dump(path)
                found = numbers(path)
                if found:  # none: the writer passed all of them during the copy
                    check_suffix(found, before, writer.put() + 64)
        finally:
            process.kill()


def wait_for(condition: Any, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "nothing was put"
        time.sleep(0.0005)


@pytest.mark.slow
def test_killed_at_any_instant_the_frames_are_there(name: str, tmp_path: Path) -> None:
    kill_often(Writer(tmp_path, name), tmp_path, KILLS)


def test_a_dump_of_a_running_writer_is_whole(name: str, tmp_path: Path) -> None:
    dump_live(Writer(tmp_path, name), tmp_path, 50, own=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "scenario"),
    [("HEAD_LAST", kill_often), ("TAIL_FIRST", dump_live), ("RECHECK", dump_live)],
)
def test_these_tests_would_notice(step: str, scenario: Any, name: str, tmp_path: Path) -> None:
    writer = Writer(tmp_path, name, f"-DFLIGHT_{step}=0")
    with pytest.raises((AssertionError, CoreError, subprocess.CalledProcessError)):
        scenario(writer, tmp_path, 2000)
