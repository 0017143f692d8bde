"""Rings through their Python side: files, readers of both policies, other processes."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pydpdk._core import ffi, lib
from pydpdk.core.event import EVENT, Events
from pydpdk.core.ring import Reader, Ring
from pydpdk.errors import CoreError, PydpdkError

SHM = Path("/dev/shm")
ROOT = Path(__file__).parent.parent
SLOTS = 64
F_GET_SEALS = 1034


def events(first: int, n: int) -> Events:
    """Records that tell their position in two fields."""
    out = np.zeros(n, EVENT)
    out["sequence"] = np.arange(first, first + n)
    out["price"] = -np.arange(first, first + n)
    return out


def positions(batch: Events) -> list[int]:
    """The positions of the records, after checking that each is whole."""
    assert (batch["price"] == -batch["sequence"].astype(np.int64)).all()
    assert (batch["stamp"] == batch["sequence"] + 1).all()
    return [int(n) for n in batch["sequence"]]


@pytest.fixture
def name() -> Iterator[str]:
    name = f"pydpdk-test-{uuid.uuid4().hex}"
    yield name
    (SHM / name).unlink(missing_ok=True)


def refused(code: int, **how: Any) -> None:
    with pytest.raises(CoreError) as caught:
        Reader(**how)
    assert caught.value.code == code


# ---- making ----


@pytest.mark.parametrize("slots", [-1, 0, 1, 32, 63, 65, 96, 1 << 40])
def test_slots_must_be_a_power_of_two_in_range(slots: int) -> None:
    with pytest.raises(CoreError) as caught:
        Ring(slots)
    assert caught.value.code == 22


@pytest.mark.parametrize("name", ["", "a/b", "/a", "..", ".hidden", "x" * 256])
def test_name_is_one_plain_file_name(name: str) -> None:
    with pytest.raises(CoreError) as caught:
        Ring(SLOTS, name)
    assert caught.value.code == 22


def test_clock_is_told_and_must_fit() -> None:
    with Ring(SLOTS, clock="hardware") as ring, Reader(fd=ring.fd) as reader:
        assert reader.clock == "hardware"
        assert reader.slots == SLOTS
    with pytest.raises(CoreError):
        Ring(SLOTS, clock="x" * 32)


def test_named_ring_is_private_exclusive_and_unlinked(name: str) -> None:
    with Ring(SLOTS, name):
        mode = (SHM / name).stat().st_mode
        assert stat.S_ISREG(mode)
        assert stat.S_IMODE(mode) == 0o600
        with pytest.raises(CoreError) as caught:
            Ring(SLOTS, name)
        assert caught.value.code == 17
        assert (SHM / name).exists()
    assert not (SHM / name).exists()


def test_close_leaves_a_name_that_now_belongs_to_another(name: str) -> None:
    old = Ring(SLOTS, name)
    (SHM / name).unlink()
    with Ring(SLOTS, name):
        old.close()
        assert (SHM / name).exists()


def test_anonymous_ring_cannot_be_resized() -> None:
    with Ring(SLOTS) as ring:
        assert fcntl.fcntl(ring.fd, F_GET_SEALS) & 6 == 6
        for size in (0, 1 << 20):
            with pytest.raises(PermissionError):
                os.ftruncate(ring.fd, size)


def test_no_descriptor_or_mapping_is_left_behind() -> None:
    def held() -> tuple[int, int]:
        maps = Path("/proc/self/maps").read_text()
        return len(os.listdir("/proc/self/fd")), maps.count("pydpdk-ring")

    before = held()
    for _ in range(3):
        with Ring(SLOTS) as ring, Reader(fd=ring.fd) as reader:
            ring.put(events(0, 3))
            reader.batch()
        with pytest.raises(CoreError):
            Reader(fd=0x7FFFFFF)
    del ring, reader
    assert held() == before


# ---- refusing what is not a ring ----

HEADER = {"magic": 0, "version": 8, "record_size": 12, "layout_hash": 16, "slots": 24}
HEADER |= {"slots_at": 32, "clock": 40}


def spoil(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.mark.parametrize(
    ("field", "data"),
    [
        ("magic", bytes(8)),
        ("version", struct.pack("<I", lib.RING_VERSION + 1)),
        ("record_size", struct.pack("<I", 128)),
        ("layout_hash", bytes(8)),
        ("slots", struct.pack("<Q", 0)),
        ("slots", struct.pack("<Q", 32)),
        ("slots", struct.pack("<Q", 63)),
        ("slots", struct.pack("<Q", 128)),
        ("slots", struct.pack("<Q", 1 << 58)),
        ("slots", struct.pack("<Q", 1 << 63)),
        ("slots_at", struct.pack("<Q", 4096)),
        ("slots_at", struct.pack("<Q", 1 << 63)),
        ("clock", b"x" * 32),
    ],
)
def test_header_that_is_not_ours_is_refused(name: str, field: str, data: bytes) -> None:
    with Ring(SLOTS, name):
        Reader(name).close()
        spoil(SHM / name, HEADER[field], data)
        refused(71, name=name)


@pytest.mark.parametrize("size", [0, 7, 71, 72, 4096, 8192, 8192 + 4095, 8192 + 4097, 1 << 20])
def test_file_of_another_size_is_refused(name: str, size: int) -> None:
    with Ring(SLOTS, name):  # its own file must stay whole while it is mapped
        whole = (SHM / name).read_bytes()
    (SHM / name).write_bytes(whole[:size].ljust(size, b"\0"))
    refused(71, name=name)


def test_file_with_holes_is_refused(name: str) -> None:
    with Ring(SLOTS, name):
        whole = (SHM / name).read_bytes()
    with (SHM / name).open("wb") as file:
        file.write(whole[:72])
        file.truncate(len(whole))
    refused(71, name=name)


def test_what_is_no_file_is_refused(name: str) -> None:
    refused(2, name=name)
    refused(22, name="a/b")
    refused(9, fd=0x7FFFFFF)
    out, into = os.pipe()
    with open(out), open(into, "w"), open("/dev/null") as null:
        refused(71, fd=into)
        refused(71, fd=null.fileno())
    os.mkfifo(SHM / name)
    refused(71, name=name)
    (SHM / name).unlink()
    with Ring(SLOTS, name + "x"):
        (SHM / name).symlink_to(SHM / (name + "x"))
        refused(40, name=name)


def test_layout_hash_covers_every_field_and_kind() -> None:
    """The same FNV-1a from what cffi knows: a new field or kind that C forgot would differ."""

    def fields(ctype: Any, base: int) -> Iterator[tuple[str, int, int]]:
        for name, field in ctype.fields:
            if name:
                yield name, base + field.offset, ffi.sizeof(field.type)
            else:
                yield from fields(field.type, base + field.offset)

    facts = list(fields(ffi.typeof("struct event"), 0))
    facts += [(kind, n, 0) for n, kind in sorted(ffi.typeof("enum event_kind").elements.items())]
    value = 0xCBF29CE484222325
    for name, at, size in facts:
        for byte in name.encode() + struct.pack("<II", at, size):
            value = (value ^ byte) * 0x100000001B3 % 2**64
    with Ring(SLOTS) as ring:
        (found,) = struct.unpack("<Q", os.pread(ring.fd, 8, HEADER["layout_hash"]))
    assert found == value


# ---- reading ----


def test_put_refuses_other_arrays() -> None:
    with Ring(SLOTS) as ring:
        for wrong in (np.zeros(3), np.zeros((2, 2), EVENT)):
            with pytest.raises(TypeError):
                ring.put(wrong)
        assert ring.put(events(0, 20)[::2]) == 10


def test_batches_are_contiguous_read_only_views_across_the_end() -> None:
    with Ring(SLOTS) as ring, Reader(fd=ring.fd) as reader:
        for first in range(0, 50 * 7, 50):
            assert ring.put(events(first, 50)) == 50
            batch = reader.batch()
            assert positions(batch) == list(range(first, first + 50))
            assert batch.base is not None
            with pytest.raises(ValueError, match="read-only"):
                batch["price"] = 1
            with pytest.raises(ValueError, match="WRITEABLE"):
                batch.flags.writeable = True
            reader.release()


def test_views_outlive_close() -> None:
    with Ring(SLOTS) as ring, Reader(fd=ring.fd) as reader:
        ring.put(events(0, 5))
        batch = reader.batch()
    assert positions(batch) == [0, 1, 2, 3, 4]
    for use in (reader.batch, reader.copy, reader.stats, lambda: reader.wait(1), lambda: ring.fd):
        with pytest.raises(PydpdkError, match="closed"):
            use()
    assert not reader.ready()
    reader.close()


def test_batch_comes_again_until_released() -> None:
    with Ring(SLOTS) as ring, Reader(fd=ring.fd) as reader:
        ring.put(events(0, 9))
        assert positions(reader.batch(4)) == [0, 1, 2, 3]
        assert positions(reader.batch(4)) == [0, 1, 2, 3]
        reader.release(1)
        assert positions(reader.batch(2)) == [1, 2]
        reader.release(1000)  # never more than was handed out
        assert positions(reader.batch()) == [3, 4, 5, 6, 7, 8]
        assert reader.stats().readers[0].lag == 6


def test_a_full_ring_loses_the_newest_and_counts() -> None:
    with Ring(SLOTS) as ring, Reader(fd=ring.fd) as reader:
        assert ring.put(events(0, SLOTS + 6)) == SLOTS
        assert (ring.room(), ring.stats().lost) == (0, 6)
        reader.batch(10)
        reader.release()
        assert ring.room() == 10
        assert ring.put(events(SLOTS, 11)) == 10
        assert positions(reader.batch()) == list(range(10, SLOTS + 10))
        assert ring.stats().lost == 7


def test_room_without_readers_is_a_quarter_to_a_half() -> None:
    with Ring(SLOTS) as ring:
        for first in range(200):
            assert SLOTS // 4 <= ring.room() <= SLOTS // 2
            ring.put(events(first, 1))


def test_skip_is_not_for_views() -> None:
    with Ring(SLOTS) as ring, Reader(fd=ring.fd, policy="skip") as reader:
        ring.put(events(0, 5))
        with pytest.raises(PydpdkError, match="copy"):
            reader.batch()
        assert positions(reader.copy(3)) == [0, 1, 2]


def test_skip_reader_knows_what_it_lost() -> None:
    with Ring(SLOTS) as ring, Reader(fd=ring.fd, policy="skip") as reader:
        ring.put(events(0, 1000))
        got = positions(reader.copy())
        assert got == list(range(1000 - SLOTS * 3 // 4, 1000))
        assert reader.lost == got[0]
        assert ring.stats().readers[0].lost == got[0]
        assert ring.stats().lost == 0


def test_reader_passes_a_record_whose_writer_died_in_it() -> None:
    with Ring(SLOTS) as ring, Reader(fd=ring.fd, policy="skip") as reader:
        ring.put(events(0, SLOTS))
        ffi.cast("struct event *", lib.ring_slots(ring._ring))[0].stamp = 0
        assert len(reader.copy()) > 0
        assert reader.lost == SLOTS // 4


def test_from_start_and_from_now() -> None:
    with Ring(SLOTS) as ring:
        ring.put(events(0, SLOTS))
        for policy in ("block", "skip"):
            with Reader(fd=ring.fd, policy=policy, from_start=True) as old:
                assert positions(old.copy()) == list(range(SLOTS))
            with Reader(fd=ring.fd, policy=policy) as new:
                assert not new.ready()
                assert positions(new.copy()) == []


def test_sixteen_readers_and_no_more() -> None:
    with Ring(SLOTS) as ring:
        readers = [Reader(fd=ring.fd, policy="skip") for _ in range(lib.RING_READERS)]
        assert len(ring.stats().readers) == 16
        refused(87, fd=ring.fd)
        readers.pop(7).close()
        readers.append(Reader(fd=ring.fd))
        assert [r.policy for r in ring.stats().readers].index("block") == 7
        for reader in readers:
            reader.close()
        assert ring.stats().readers == []


def test_iteration_ends_when_the_ring_is_closed_and_drained() -> None:
    for policy in ("block", "skip"):
        ring = Ring(SLOTS)
        with Reader(fd=ring.fd, policy=policy, batch_max=10) as reader:
            ring.put(events(0, 25))
            ring.close()
            assert [len(batch) for batch in reader] == [10, 10, 5]
            assert reader.ended


def test_closing_publishes_the_rest() -> None:
    ring = Ring(SLOTS)
    with Reader(fd=ring.fd) as reader:
        lib.ring_put_many(ring._ring, ffi.from_buffer("struct event[]", events(0, 5)), 5)
        assert reader.stats()[:4] == (0, 0, os.getpid(), False)
        assert positions(reader.batch()) == list(range(5))  # attached: sees them at once
        ring.close()
        assert reader.stats()[:4] == (5, 0, os.getpid(), True)


def test_wait_times_out_and_wakes() -> None:
    with Ring(SLOTS) as ring, Reader(fd=ring.fd) as reader:
        begin = time.monotonic()
        assert not reader.wait(0.02)
        assert time.monotonic() - begin >= 0.02
        later = threading.Timer(0.02, ring.put, [events(0, 1)])
        later.start()
        assert reader.wait(5)
        later.join()


# ---- what another process may do to the shared lines ----


@pytest.mark.parametrize("read", [0, 2**63, 2**64 - 1], ids=["behind", "ahead", "wrapped"])
def test_corrupt_cursor_stops_neither_writer_nor_reader(read: int) -> None:
    with Ring(SLOTS) as ring, Reader(fd=ring.fd) as reader:
        for first in (0, SLOTS):
            ring.put(events(first, SLOTS))
            assert len(reader.batch()) == SLOTS
            reader.release()
        ffi.cast("struct ring_cursor *", lib.ring_cursors(ring._ring)).read = read
        assert ring.put(events(2 * SLOTS, 2 * SLOTS)) == 2 * SLOTS
        assert positions(reader.batch()) == []  # it was overrun, and says by how much
        assert positions(reader.batch())[0] == 2 * SLOTS + reader.lost
        assert reader.lost == ring.stats().readers[0].lost > 0
        assert ring.put(events(4 * SLOTS, SLOTS)) < SLOTS  # it gates again


def test_corrupt_cursor_does_not_expose_another_reader() -> None:
    with Ring(SLOTS) as ring, Reader(fd=ring.fd) as corrupt, Reader(fd=ring.fd) as honest:
        for first in range(0, 4 * SLOTS, SLOTS):
            ring.put(events(first, SLOTS))
            for reader in (corrupt, honest):
                reader.batch()
                reader.release()
        cursor = ffi.cast("struct ring_cursor *", lib.ring_cursors(ring._ring))
        for read in (0, 2**63):
            cursor[0].read = read
            assert ring.put(events(4 * SLOTS, SLOTS + 1)) == (SLOTS if read == 0 else 0)
        assert positions(honest.batch()) == list(range(4 * SLOTS, 5 * SLOTS))


def test_core_releases_no_more_than_was_peeked() -> None:
    with Ring(SLOTS) as ring, Reader(fd=ring.fd) as reader:
        ring.put(events(0, 10))
        reader.batch(3)
        lib.ring_release(reader._ring, 1000)
        assert ring.stats().readers[0].read == 3


def test_scribbled_writer_line_misleads_nobody() -> None:
    with Ring(SLOTS) as ring, Reader(fd=ring.fd, policy="skip") as reader:
        ring.put(events(0, 200))
        ffi.cast("struct ring_writer *", lib.ring_writer(ring._ring)).written = 1 << 60
        got = positions(reader.copy())
        while got and got[-1] != 199:
            got = positions(reader.copy())
        assert reader.lost < 200
        assert ring.put(events(200, 5)) == 5
        assert ring.stats().written == 205


# ---- other processes ----

CHILD = "import sys, time; from pydpdk.core.ring import *; from pydpdk._core import ffi, lib\n"


def child(code: str, *args: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD + code, *map(str, args)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, text=True, **pipes, **options)


def say_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line == "ready\n", process.communicate()[1]


TOTAL = """
total = count = 0
with Reader(**{how}, policy="block") as reader:
    print("ready", flush=True)
    for batch in reader:
        count += len(batch)
        total += int(batch["sequence"].sum())
        assert (batch["stamp"] == batch["sequence"] + 1).all()
print(count, total)
"""


@pytest.mark.parametrize("how", ["name", "fd"])
def test_another_process_reads_everything(name: str, how: str) -> None:
    with Ring(SLOTS, name if how == "name" else None) as ring:
        if how == "name":
            process = child(TOTAL.format(how="{'name': sys.argv[1]}"), name)
        else:
            code = TOTAL.format(how="{'fd': int(sys.argv[1])}")
            process = child(code, ring.fd, pass_fds=[ring.fd])
        with process:
            say_ready(process)
            first, deadline = 0, time.monotonic() + 20
            while first < 3000 and time.monotonic() < deadline:
                n = min(ring.room(), 3000 - first)
                first += ring.put(events(first, n))
            ring.close()
            out, err = process.communicate(timeout=20)
    assert (out, err) == (f"3000 {sum(range(3000))}\n", "")


@pytest.mark.parametrize(
    "write",
    [
        "ffi.cast('struct event *', lib.ring_slots(reader._ring))[0].price = 1",
        "ffi.cast('struct event *', lib.ring_slots(reader._ring))[64].price = 1",
        "ffi.cast('struct ring_header *', lib.ring_header(reader._ring)).slots = 1",
    ],
)
def test_a_reader_that_writes_dies(write: str) -> None:
    with Ring(SLOTS) as ring:
        code = f"reader = Reader(fd=int(sys.argv[1]))\nprint('ready', flush=True)\n{write}"
        with child(code, ring.fd, pass_fds=[ring.fd]) as process:
            say_ready(process)
            assert process.wait(20) == -signal.SIGSEGV
        assert ring.put(events(0, 3)) == 3


def test_killed_reader_is_reaped_and_a_live_one_is_not() -> None:
    with Ring(SLOTS) as ring, Reader(fd=ring.fd) as live:
        code = "r = Reader(fd=int(sys.argv[1]))\nprint('ready', flush=True)\nsys.stdin.read()"
        with child(code, ring.fd, pass_fds=[ring.fd]) as process:
            say_ready(process)
            assert ring.put(events(0, SLOTS + 1)) == SLOTS
            assert positions(live.batch()) == list(range(SLOTS))
            live.release()
            assert ring.put(events(SLOTS, 1)) == 0
            assert ring.reap() == live.reap() == 0
            process.send_signal(signal.SIGKILL)
            process.wait(20)
        assert ring.put(events(SLOTS, 1)) == 0  # nobody has looked yet
        assert live.reap() == 1
        assert ring.put(events(SLOTS, 1)) == 1
        assert [r.pid for r in ring.stats().readers] == [os.getpid()]
        assert ring.stats().lost == 3


def test_cursor_of_a_dead_reader_is_taken_by_the_next() -> None:
    with Ring(SLOTS) as ring:
        code = "r = Reader(fd=int(sys.argv[1]))\nimport os; os._exit(0)"
        with child(code, ring.fd, pass_fds=[ring.fd]) as process:
            assert process.wait(20) == 0
        ring.put(events(0, SLOTS))
        with Reader(fd=ring.fd, policy="skip"):
            assert [r.policy for r in ring.stats().readers] == ["skip"]
        assert ring.put(events(SLOTS, 1)) == 1


# ---- any order of operations ----


class RingMachine(RuleBasedStateMachine):
    """A ring against plain integers: how many were written, where each reader is."""

    def __init__(self) -> None:
        super().__init__()
        self.ring = Ring(SLOTS)
        self.next = self.published = self.refused = 0
        self.readers: list[tuple[Reader, list[int]]] = []  # with [position, lost]

    def teardown(self) -> None:
        for reader, at in self.readers:
            while len(got := reader.copy()):
                at[0] += len(got)
            assert at[0] + reader.lost - at[1] == self.next
            reader.close()
        self.ring.close()

    def slowest(self) -> int:
        return min([at[0] for r, at in self.readers if r.policy == "block"], default=self.next)

    @rule(n=st.integers(0, 3 * SLOTS))
    def put(self, n: int) -> None:
        records = ffi.from_buffer("struct event[]", events(self.next, n).view(np.uint8))
        fitted = lib.ring_put_many(self.ring._ring, records, n)
        gated = any(r.policy == "block" for r, _ in self.readers)
        assert fitted == (min(n, SLOTS - (self.next - self.slowest())) if gated else n)
        self.next += fitted
        self.refused += n - fitted

    @rule()
    def publish(self) -> None:
        lib.ring_publish(self.ring._ring)
        assert self.ring.stats().written == self.next

    @rule()
    def room(self) -> None:
        free = SLOTS - (self.next - self.slowest())
        assert min(free, SLOTS // 4) <= self.ring.room() <= min(free, SLOTS // 2)

    @precondition(lambda self: len(self.readers) < 5)
    @rule(policy=st.sampled_from(["block", "skip"]), from_start=st.booleans())
    def attach(self, policy: Any, from_start: bool) -> None:
        written = self.ring.stats().written
        reader = Reader(fd=self.ring.fd, policy=policy, from_start=from_start)
        at = reader._at
        assert written - SLOTS <= at <= max(written, self.next - SLOTS // 2)
        if from_start:
            assert at <= max(0, self.next - SLOTS // 2)
        if policy == "block":
            assert self.next - at <= SLOTS
        self.readers.append((reader, [at, 0]))

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def detach(self, data: st.DataObject) -> None:
        reader, _ = self.readers.pop(data.draw(st.integers(0, len(self.readers) - 1)))
        reader.close()

    @precondition(lambda self: any(r.policy == "block" for r, _ in self.readers))
    @rule(data=st.data(), limit=st.integers(0, 2 * SLOTS), n=st.integers(0, SLOTS))
    def peek_and_release(self, data: st.DataObject, limit: int, n: int) -> None:
        reader, at = data.draw(st.sampled_from([r for r in self.readers if r[0].policy == "block"]))
        expected = list(range(at[0], min(at[0] + limit, self.next)))
        assert reader.ready() == (at[0] < self.next)
        assert positions(reader.batch(limit)) == expected
        reader.release(n)
        at[0] += min(n, len(expected))

    @precondition(lambda self: self.readers)
    @rule(data=st.data(), limit=st.integers(0, 2 * SLOTS))
    def copy(self, data: st.DataObject, limit: int) -> None:
        reader, at = data.draw(st.sampled_from(self.readers))
        oldest, before = self.next - SLOTS, reader.lost
        got = positions(reader.copy(limit))
        jump = reader.lost - before
        assert (jump > 0) == (at[0] < oldest and limit > 0)
        assert at[0] + jump <= max(at[0], oldest + SLOTS // 4)
        first = at[0] + jump
        assert got == list(range(first, min(first + limit, self.next)))
        at[0], at[1] = first + len(got), at[1] + jump

    @invariant()
    def counts_are_exact(self) -> None:
        stats = self.ring.stats()
        assert stats.lost == self.refused
        assert self.next - SLOTS // 2 <= stats.written <= self.next
        assert sum(r.lost for r in stats.readers) == sum(at[1] for _, at in self.readers)


TestRingMachine = RingMachine.TestCase
TestRingMachine.settings = settings(max_examples=60, stateful_step_count=40)


def test_how_far_records_are_safe_is_said_by_a_reader_and_read_by_the_writer() -> None:
    def levels() -> list[int]:
        return [lib.ring_level(ring.pointer, level) for level in range(lib.RING_LEVELS)]

    with Ring(SLOTS) as ring, Reader(fd=ring.fd) as journal:
        assert levels() == [0, 0, 0]
        lib.ring_raise(journal.pointer, lib.RING_DURABLE, 7)
        lib.ring_raise(journal.pointer, lib.RING_SHIPPED, 9)
        lib.ring_raise(journal.pointer, lib.RING_DURABLE, 5)  # it only rises
        assert levels() == [7, 9, 0]
