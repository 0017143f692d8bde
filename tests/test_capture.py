"""The capture source through its C interface: formats, breaks, hostile files (HOSTILE L1-L11)."""

from __future__ import annotations

import errno
import gzip
import itertools
import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pydpdk._core import ffi, lib

BURST_MAX = lib.BURST_MAX
NS = 10**9


# --- reading, through burst() --------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    ts: int
    data: bytes
    wirelen: int
    link: int = 1


@dataclass
class Run:
    """What one pass over a file gave: its records, the code that ended it and the last info."""

    records: list[Record]
    rc: int
    info: Any

    @property
    def reason(self) -> str:
        return ffi.string(self.info.reason).decode()


class Refused(Exception):
    def __init__(self, rc: int, reason: str) -> None:
        super().__init__(reason)
        self.rc = rc


class Capture:
    def __init__(self, path: Path) -> None:
        handle, reason = ffi.new("struct source **"), ffi.new("char[160]")
        rc = lib.capture_open(os.fsencode(path), handle, reason)
        if rc < 0:
            assert handle[0] == ffi.NULL
            raise Refused(rc, ffi.string(reason).decode())
        self.source = handle[0]
        self.packets = ffi.new("struct packet[]", BURST_MAX)

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        lib.source_close(self.source)

    @property
    def info(self) -> Any:
        return lib.capture_info(self.source)

    def burst(self, size: int = BURST_MAX) -> tuple[int, list[Record]]:
        n = self.source.burst(self.source, self.packets, size)
        return n, [self.record(self.packets[i]) for i in range(max(n, 0))]

    @staticmethod
    def record(p: Any) -> Record:
        assert p.wirelen >= p.caplen
        assert (p.port, p.flags, p.pad) == (0, 0, 0)
        return Record(p.ts_recv, ffi.buffer(p.data, p.caplen)[:], p.wirelen, p.link)


def walk(path: Path, size: int = BURST_MAX) -> Run:
    records: list[Record] = []
    with Capture(path) as capture:
        n = idle = 0
        while n >= 0:
            n, more = capture.burst(size)
            records += more
            idle += n == 0
            assert n <= size
            assert idle < 1000, "no progress"
        info = ffi.new("struct capture_info *", capture.info[0])
        assert capture.burst(size) == (n, []), "an end is final"
    assert info.frames == len(records)
    assert (n == -errno.ENODATA) == (info.error == 0)
    return Run(records, n, info)


# --- writing, independent of the code under test -------------------------------------------------


@dataclass(frozen=True)
class Pcap:
    """A classic pcap writer."""

    order: str = "<"
    ns: bool = False
    link: int = 1
    snaplen: int = 262144

    @property
    def tick(self) -> int:
        return 1 if self.ns else 1000

    def head(self) -> bytes:
        magic = 0xA1B23C4D if self.ns else 0xA1B2C3D4
        return struct.pack(self.order + "IHHiIII", magic, 2, 4, 0, 0, self.snaplen, self.link)

    def record(self, r: Record) -> bytes:
        fraction = r.ts % NS // self.tick
        head = (r.ts // NS, fraction, len(r.data), r.wirelen)
        return struct.pack(self.order + "4I", *head) + r.data

    def parts(self, records: list[Record]) -> list[bytes]:
        return [self.head(), *map(self.record, records)]


@dataclass(frozen=True)
class Pcapng:
    """A pcapng writer: one section, one interface per (link, tsresol, tsoffset, snaplen)."""

    order: str = "<"
    interfaces: tuple[tuple[int, int | None, int, int], ...] = ((1, 9, 0, 0),)
    kind: int = 6

    @property
    def tick(self) -> int:
        tsresol = self.interfaces[0][1]
        return NS // 10 ** (6 if tsresol is None else tsresol)

    def block(self, kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        total = struct.pack(self.order + "I", len(body) + 12)
        return struct.pack(self.order + "I", kind) + total + body + total

    def option(self, code: int, value: bytes) -> bytes:
        head = struct.pack(self.order + "HH", code, len(value))
        return head + value + bytes(-len(value) % 4)

    def interface(self, link: int, tsresol: int | None, tsoffset: int, snaplen: int) -> bytes:
        options = self.option(2, b"eth0")
        if tsresol is not None:
            options += self.option(9, bytes([tsresol]))
        if tsoffset:
            options += self.option(14, struct.pack(self.order + "q", tsoffset))
        head = struct.pack(self.order + "HHI", link, 0, snaplen)
        return self.block(1, head + options + self.option(0, b""))

    def section(self) -> bytes:
        return self.block(0x0A0D0D0A, struct.pack(self.order + "IHHq", 0x1A2B3C4D, 1, 0, -1))

    def head(self) -> bytes:
        return self.section() + b"".join(self.interface(*i) for i in self.interfaces)

    def packet(self, ticks: int, data: bytes, wirelen: int, interface: int = 0) -> bytes:
        stamp = struct.pack(self.order + "II", ticks >> 32, ticks & 0xFFFFFFFF)
        lengths = struct.pack(self.order + "II", len(data), wirelen)
        if self.kind == 2:
            which = struct.pack(self.order + "HH", interface, 7)
        else:
            which = struct.pack(self.order + "I", interface)
        return self.block(self.kind, which + stamp + lengths + data)

    def simple(self, data: bytes, wirelen: int) -> bytes:
        return self.block(3, struct.pack(self.order + "I", wirelen) + data)

    def record(self, r: Record) -> bytes:
        return self.packet(r.ts // self.tick, r.data, r.wirelen)

    def parts(self, records: list[Record]) -> list[bytes]:
        return [self.head(), *map(self.record, records)]


def run_tool(command: list[str], data: bytes = b"") -> bytes:
    """Its stdout. Without our preloads, for a sanitizer's runtime hangs in some tools."""
    env = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    return subprocess.run(
        command, input=data, capture_output=True, check=False, env=env, timeout=60
    ).stdout


def zstd(data: bytes, *options: str) -> bytes:
    tool = shutil.which("zstd")
    if tool is None:
        pytest.skip("no zstd tool to compress with")
    return run_tool([tool, "-q", "-c", *options], data)


def zstd_stored(data: bytes) -> bytes:
    """A zstd frame of raw blocks (RFC 8878, 3.1.1), as the tool is slow to start."""
    frame, step = struct.pack("<IBB", 0xFD2FB528, 0, 13 << 3), 1 << 16
    for at in range(0, max(len(data), 1), step):
        chunk = data[at : at + step]
        frame += struct.pack("<I", len(chunk) << 3 | (at + step >= len(data)))[:3] + chunk
    return frame


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": lambda data: gzip.compress(data, 1),
    "zstd": zstd_stored,
}
FORMATS: dict[str, Pcap | Pcapng] = {
    "pcap-us-le": Pcap("<"),
    "pcap-us-be": Pcap(">"),
    "pcap-ns-le": Pcap("<", ns=True),
    "pcap-ns-be": Pcap(">", ns=True),
    "pcapng-ns-le": Pcapng("<"),
    "pcapng-us-be": Pcapng(">", ((1, None, 0, 0),)),
    "pcapng-obsolete": Pcapng("<", kind=2),
}


@dataclass
class Files:
    """Writes files below a directory of the test's own."""

    root: Path
    made: int = field(default=0)

    def __call__(self, content: bytes) -> Path:
        self.made += 1
        path = self.root / f"{self.made}.capture"
        path.write_bytes(content)
        return path


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def some(n: int = 5, tick: int = 1000) -> list[Record]:
    start = 1_700_000_000 * NS
    return [Record(start + i * tick, bytes([i % 256]) * (i * 7 % 31), 60 + i) for i in range(n)]


# --- what is written is read ---------------------------------------------------------------------

stamps = st.integers(0, 2**32 * NS - 1)


@st.composite
def record_lists(draw: st.DrawFn) -> list[Record]:
    one = st.tuples(stamps, st.binary(max_size=70), st.integers(0, 2000))
    return [
        Record(ts, data, max(extra, len(data)))
        for ts, data, extra in draw(st.lists(one, max_size=40))
    ]


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("form", FORMATS)
@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(records=record_lists(), size=st.integers(1, BURST_MAX))
def test_records_come_back(
    files: Files, form: str, packer: str, records: list[Record], size: int
) -> None:
    writer = FORMATS[form]
    records = [Record(r.ts // writer.tick * writer.tick, r.data, r.wirelen) for r in records]
    content = b"".join(writer.parts(records))
    run = walk(files(PACKERS[packer](content)), size)
    assert run.records == records
    assert run.rc == -errno.ENODATA
    assert run.info.offset == len(content)
    assert (run.info.ts_first, run.info.ts_last) == (
        (records[0].ts, records[-1].ts) if records else (0, 0)
    )
    assert run.info.ts_regress == sum(b.ts < a.ts for a, b in itertools.pairwise(records))
    assert run.info.precision_ns == writer.tick
    assert run.info.link == 1
    assert ffi.string(run.info.format).decode() == form.partition("-")[0]


@pytest.mark.parametrize("size", [1, 3, BURST_MAX])
@pytest.mark.parametrize("packer", ["gzip", "zstd"])
@pytest.mark.parametrize("form", ["pcap-ns-le", "pcapng-ns-le"])
def test_stream_longer_than_its_window(files: Files, form: str, packer: str, size: int) -> None:
    """3 MB through the 1 MiB window: the longest frames there may be, and many short ones."""
    lengths = [262144, 1, 0, 1500, 262143] + [60 + i % 200 for i in range(8000)] + [262144] * 5
    records = [Record(i * 1000, bytes([i % 251]) * n, n) for i, n in enumerate(lengths)]
    content = b"".join(FORMATS[form].parts(records))
    assert len(content) > 3 * 2**20
    run = walk(files(PACKERS[packer](content)), size)
    assert run.records == records
    assert run.rc == -errno.ENODATA
    assert run.info.offset == len(content)


@pytest.mark.parametrize("packer", ["gzip", "zstd"])
def test_members_and_frames_in_a_row_are_one_stream(files: Files, packer: str) -> None:
    writer, records = Pcap(), some(30)
    content, pack = b"".join(writer.parts(records)), PACKERS[packer]
    pieces = [content[i : i + 37] for i in range(0, len(content), 37)]
    assert walk(files(pack(b"") + b"".join(map(pack, pieces)))).records == records


def test_zstd_of_the_tool_with_a_skippable_frame_before(files: Files) -> None:
    records = some(50)
    packed = zstd(b"".join(Pcap().parts(records)), "-19", "--check")
    skippable = struct.pack("<II", 0x184D2A5A, 4) + b"name"
    run = walk(files(skippable + packed))
    assert (run.records, run.rc) == (records, -errno.ENODATA)


def test_views_stay_until_the_next_burst(files: Files) -> None:
    """The bytes of a burst are intact after all of it was read, at a refill of the window too."""
    records = [Record(i, bytes([i % 256]) * 5000, 5000) for i in range(1000)]
    path = files(gzip.compress(b"".join(Pcap(ns=True).parts(records)), 1))
    seen = 0
    with Capture(path) as capture:
        while (n := capture.burst()[0]) >= 0:
            for i in range(n):
                assert ffi.buffer(capture.packets[i].data, 5000)[:] == records[seen + i].data
            seen += n
    assert seen == len(records)


# --- L1, L2, L5: where it breaks, everything before it is delivered ------------------------------


def ends(parts: list[bytes]) -> list[int]:
    """Offsets behind each part."""
    return [sum(map(len, parts[: i + 1])) for i in range(len(parts))]


@pytest.mark.parametrize("form", FORMATS)
def test_cut_at_every_byte(files: Files, form: str) -> None:
    writer, records = FORMATS[form], some()
    head, *bodies = writer.parts(records)
    first = 28 if isinstance(writer, Pcapng) else 24
    content, borders = head + b"".join(bodies), ends([head, *bodies])
    for cut in range(1, len(content) + 1):
        path = files(content[:cut])
        if cut < first:
            with pytest.raises(Refused, match=r"ends inside the (file|block)"):
                walk(path)
            continue
        run = walk(path, 2)
        assert run.records == records[: sum(end <= cut for end in borders[1:])]
        if cut in (first, *borders):
            assert (run.rc, run.info.truncated, run.info.offset) == (-errno.ENODATA, 0, cut)
            continue
        begin = max(b for b in (first, *borders) if b < cut)
        assert (run.rc, run.info.error) == (-errno.EBADMSG, -errno.EBADMSG)
        assert (run.info.truncated, run.info.offset) == (1, begin)
        assert run.reason.startswith("the file ends inside the ")
        assert run.reason.endswith(f" at offset {begin}")


def test_stored_gzip_cut_at_every_byte(files: Files) -> None:
    """Level 0 keeps the bytes: 15 of gzip and block header, the capture, 8 of checksum."""
    records = some()
    head, *bodies = Pcap().parts(records)
    borders = ends([head, *bodies])
    packed = gzip.compress(head + b"".join(bodies), 0)
    for cut in range(15 + 24, len(packed)):
        run = walk(files(packed[:cut]))
        assert run.records == records[: sum(end <= cut - 15 for end in borders[1:])]
        assert (run.rc, run.info.truncated) == (-errno.EBADMSG, 1)
        assert run.reason.startswith("the gzip stream is cut")


@pytest.mark.parametrize("packer", ["gzip", "zstd"])
def test_compressed_cut_at_every_byte(files: Files, packer: str) -> None:
    records = some(40)
    packed, reasons = PACKERS[packer](b"".join(Pcap().parts(records))), []
    for cut in range(4, len(packed)):
        try:
            run = walk(files(packed[:cut]))
        except Refused as refused:
            reasons.append(str(refused))
            continue
        reasons.append(run.reason)
        assert run.records == records[: len(run.records)]
        assert (run.rc, run.info.truncated) == (-errno.EBADMSG, 1)
    assert all(f"the {packer} stream is cut" in reason for reason in reasons)


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("form", ["pcap-us-le", "pcapng-us-be"])
def test_every_flipped_byte_leaves_what_is_before_it(files: Files, form: str, packer: str) -> None:
    writer, records = FORMATS[form], some(4)
    parts = writer.parts(records)
    borders, content = ends(parts), PACKERS[packer](b"".join(parts))
    for at in range(len(content)):
        for flip in (0xFF, 0x01, 0x80):
            broken = bytearray(content)
            broken[at] ^= flip
            try:
                run = walk(files(bytes(broken)), 3)
            except Refused:
                continue
            if packer == "plain" and at >= borders[0]:
                assert run.info.offset <= len(content)
                whole = sum(end <= at for end in borders[1:])
                assert run.records[:whole] == records[:whole]


@pytest.mark.parametrize("packer", ["gzip", "zstd"])
def test_corrupted_stream_is_named(files: Files, packer: str) -> None:
    records = some(40)
    content = b"".join(Pcap().parts(records))
    packed = bytearray(gzip.compress(content, 1) if packer == "gzip" else zstd(content, "--check"))
    packed[-3 if packer == "zstd" else -7] ^= 1  # in the checksum: every frame is whole
    run = walk(files(bytes(packed)))
    assert (run.records, run.rc, run.info.truncated) == (records, -errno.EBADMSG, 0)
    assert run.reason.startswith(f"the {packer} stream is corrupted")


@pytest.mark.parametrize(
    ("snaplen", "caplen"),
    [
        (96, 97),
        (65535, 65536),
        (0, 262145),
        (2**32 - 1, 262145),
        (65535, 0x7FFFFFFF),
        (0, 2**32 - 1),
    ],
)
@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("kind", ["pcap", "pcapng"])
def test_captured_length_above_the_limit(
    files: Files, kind: str, packer: str, snaplen: int, caplen: int
) -> None:
    """L5: whole frames follow the broken one, and not one of them may come out."""
    writer = Pcap(snaplen=snaplen) if kind == "pcap" else Pcapng(interfaces=((1, 9, 0, snaplen),))
    before, after = some(3), some(500)
    *parts, broken = writer.parts([*before, Record(0, b"x" * 80, 80)])
    at = 8 if kind == "pcap" else 20
    broken = broken[:at] + struct.pack("<I", caplen) + broken[at + 4 :]
    content = b"".join(parts) + broken + b"".join(map(writer.record, after))
    run = walk(files(PACKERS[packer](content)))
    assert (run.records, run.rc, run.info.truncated) == (before, -errno.EBADMSG, 0)
    assert run.info.offset == len(b"".join(parts))
    assert f"at offset {run.info.offset}: captured length {caplen} is above" in run.reason


@pytest.mark.parametrize("form", FORMATS)
def test_captured_length_at_the_limit(files: Files, form: str) -> None:
    record = [Record(5000, bytes(262144), 262144)]
    assert walk(files(b"".join(FORMATS[form].parts(record)))).records == record


# --- L3, L4, L8: what is opened at all -----------------------------------------------------------


SECTION = Pcapng().section()


@pytest.mark.parametrize(
    ("content", "rc", "reason"),
    [
        (b"", errno.EBADMSG, "the file is empty"),
        (b"\xd4\xc3", errno.EBADMSG, "ends inside the file header"),
        (Pcap().head()[:23], errno.EBADMSG, "ends inside the file header"),
        (b"snoop\0\0\0" + bytes(40), errno.EBADMSG, "neither pcap nor pcapng (magic 6f6f6e73)"),
        (bytes(100), errno.EBADMSG, "neither pcap nor pcapng"),
        (struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 3, 0, 0, 0, 1), errno.EBADMSG, "version 2.3"),
        (SECTION[:12] + b"\2\0\1\0" + SECTION[16:], errno.EBADMSG, "version 2.1"),
        (SECTION.replace(b"\x4d\x3c", b"\x4d\x3d"), errno.EBADMSG, "without its magic"),
        (gzip.compress(b""), errno.EBADMSG, "empty inside"),
        (gzip.compress(gzip.compress(Pcap().head())), errno.EBADMSG, "neither pcap nor pcapng"),
        (gzip.compress(b"")[:5], errno.EBADMSG, "the gzip stream is cut"),
        (b"\x1f\x8b" + bytes(50), errno.EBADMSG, "the gzip stream is corrupted"),
        (b"\x28\xb5\x2f\xfd\0\xa0" + bytes(50), errno.EBADMSG, "a window above 128 MiB"),
        (b"\x28\xb5\x2f\xfd\xff" + bytes(50), errno.EBADMSG, "the zstd stream is corrupted"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_refused_with_the_name_of_the_file(
    files: Files, content: bytes, rc: int, reason: str
) -> None:
    path = files(content)
    with pytest.raises(Refused) as refused:
        Capture(path)
    assert refused.value.rc == -rc
    shown = str(path) if len(str(path)) <= 80 else "..." + str(path)[-80:]
    assert str(refused.value).startswith(f"{shown}: ")
    assert reason in str(refused.value)


def test_refused_paths(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, code in [
        (tmp_path / "missing", errno.ENOENT),
        (tmp_path, errno.EISDIR),
        (tmp_path / "fifo", errno.EBADMSG),
        (tmp_path / ("x" * 200) / "y", errno.ENOENT),
    ]:
        with pytest.raises(Refused) as refused:
            Capture(path)
        assert refused.value.rc == -code
        assert str(path)[-80:] in str(refused.value)
        assert code == errno.EBADMSG or str(refused.value).endswith(os.strerror(code))


def test_refused_unreadable(files: Files) -> None:
    path = files(Pcap().head())
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("root reads everything")
    with pytest.raises(Refused, match="Permission denied"):
        Capture(path)


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("form", FORMATS)
def test_header_only_is_an_empty_capture(files: Files, form: str, packer: str) -> None:
    run = walk(files(PACKERS[packer](FORMATS[form].head())))
    assert (run.records, run.rc) == ([], -errno.ENODATA)
    assert (run.info.ts_first, run.info.ts_last, run.info.link) == (0, 0, 1)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("link", [0, 1, 101, 113, 228, 229, 276, 160, 65535])
def test_link_type(files: Files, link: int, order: str) -> None:
    """L8. The upper bits say that and how long an FCS follows; they are no link type."""
    records = [Record(1000, b"frame", 5, link)]
    for bits in (0, 0x54000000, 0x30000000, 0x03FF0000):
        run = walk(files(b"".join(Pcap(order, link=link | bits).parts(records))))
        assert (run.records, run.info.link) == (records, link)
    assert (
        walk(files(b"".join(Pcapng(order, ((link, 9, 0, 0),)).parts(records)))).records == records
    )


# --- L6, L7, L10: odd records --------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_odd_lengths(files: Files, form: str) -> None:
    """Cut by the snap length, of no bytes at all, and longer than they say they were."""
    odd = [Record(1000, b"x" * 60, 9018), Record(2000, b"", 0), Record(3000, b"", 1500)]
    writer = FORMATS[form]
    content = b"".join(writer.parts([*odd, Record(4000, b"x" * 60, 59)]))
    assert walk(files(content)).records == [*odd, Record(4000, b"x" * 60, 60)]


@pytest.mark.parametrize("form", FORMATS)
def test_times_keep_the_order_of_the_file(files: Files, form: str) -> None:
    year_2100 = 4_102_444_800 * NS
    times = [5000, 5000, 4000, year_2100, year_2100 - 1000, year_2100, 0, (2**32 - 1) * NS]
    records = [Record(ts, b"frame", 5) for ts in times]
    run = walk(files(b"".join(FORMATS[form].parts(records))), 2)
    assert run.records == records
    assert run.info.ts_regress == 3
    assert (run.info.ts_first, run.info.ts_last) == (5000, (2**32 - 1) * NS)


# --- L9: pcapng ----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("tsresol", "ticks", "ns"),
    [
        (None, 1_700_000_000_123_456, 1_700_000_000_123_456_000),
        (0, 1_700_000_000, 1_700_000_000 * NS),
        (3, 1_700_000_000_123, 1_700_000_000_123_000_000),
        (6, 1, 1000),
        (9, 1_700_000_000_123_456_789, 1_700_000_000_123_456_789),
        (12, 1_700_000_123_456_789_999, 1_700_000_123_456_789),
        (20, 2**64 - 1, (2**64 - 1) // 10**11),
        (28, 2**64 - 1, 1),
        (40, 2**64 - 1, 0),
        (127, 2**64 - 1, 0),
        (0x80, 1_700_000_000, 1_700_000_000 * NS),
        (0x80 | 10, 1_700_000_000 * 1024 + 512, 1_700_000_000 * NS + NS // 2),
        (0x80 | 20, 3 * 2**20 + 1, 3 * NS + 953),
        (0x80 | 63, 2**63 + 2**62, NS + NS // 2),
        (0x80 | 127, 2**64 - 1, 0),
        (0, 2**64 - 1, 2**64 - 1),
    ],
)  # fmt: skip
def test_resolution(files: Files, order: str, tsresol: int | None, ticks: int, ns: int) -> None:
    writer = Pcapng(order, ((1, tsresol, 0, 0),))
    run = walk(files(writer.head() + writer.packet(ticks, b"frame", 5)))
    assert [r.ts for r in run.records] == [ns]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("tsoffset", "ns"),
    [(1_700_000_000, 1_700_000_005 * NS), (-3, 2 * NS), (-6, 0), (2**40, 2**64 - 1)],
)
def test_offset(files: Files, order: str, tsoffset: int, ns: int) -> None:
    """Seconds added to each stamp; what 64 bits of ns cannot hold stops at their ends."""
    writer = Pcapng(order, ((1, 9, tsoffset, 0),))
    run = walk(files(writer.head() + writer.packet(5 * NS, b"frame", 5)))
    assert [r.ts for r in run.records] == [ns]


def test_each_interface_has_its_link_and_clock(files: Files) -> None:
    writer = Pcapng("<", ((1, 9, 0, 0), (113, None, 0, 0), (276, 3, 7, 0)))
    content = writer.head() + b"".join(writer.packet(1000, b"frame", 5, i) for i in (2, 0, 1, 2))
    run = walk(files(content))
    assert [(r.link, r.ts) for r in run.records] == [
        (276, 8 * NS), (1, 1000), (113, 10**6), (276, 8 * NS),
    ]  # fmt: skip
    assert (run.info.link, run.info.precision_ns) == (1, 1)


def test_sections_of_either_byte_order(files: Files) -> None:
    """Interfaces are counted anew in each section."""
    little, big = Pcapng("<", ((1, 9, 0, 0), (113, 9, 0, 0))), Pcapng(">", ((101, 9, 0, 0),))
    content = little.head() + little.packet(1, b"a", 1, 1) + big.head() + big.packet(2, b"b", 1)
    content += little.head() + little.packet(3, b"c", 1, 0)
    run = walk(files(content))
    assert run.records == [Record(1, b"a", 1, 113), Record(2, b"b", 1, 101), Record(3, b"c", 1, 1)]
    end = len(content)
    run = walk(files(content + big.head() + big.packet(4, b"d", 1, 1)))
    assert (len(run.records), run.rc, run.info.offset) == (3, -errno.EBADMSG, end + len(big.head()))
    assert "interface 1 is not described" in run.reason


@pytest.mark.parametrize("size", [1, BURST_MAX])
@pytest.mark.parametrize("packer", PACKERS)
def test_other_blocks_are_passed_over_and_counted(files: Files, packer: str, size: int) -> None:
    writer, records = Pcapng(), some(3)
    head, *bodies = writer.parts(records)
    kinds = [(4, 0), (5, 12), (0x40000BAD, 3 * 2**20), (10, 327680), (0xFFFFFFFF, 1)]
    others = [writer.block(kind, bytes(n)) for kind, n in kinds]
    content = head + b"".join(b + b"".join(others) for b in bodies)
    run = walk(files(PACKERS[packer](content)), size)
    assert (run.records, run.rc, run.info.skipped) == (records, -errno.ENODATA, 15)
    assert run.info.offset == len(content)


def test_a_burst_ends_among_blocks_without_frames(files: Files) -> None:
    writer = Pcapng()
    path = files(writer.head() + writer.block(4, b"") * 5000 + writer.packet(7, b"frame", 5))
    with Capture(path) as capture:
        assert [capture.burst()[0] for _ in range(4)] == [0, 0, 0, 0]
    assert walk(path).records == [Record(7, b"frame", 5)]


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("cut", [1, 4, 5, 2**20, 3 * 2**20 + 4])
def test_cut_inside_a_block_that_is_passed_over(files: Files, packer: str, cut: int) -> None:
    writer, records = Pcapng(), some(3)
    content = b"".join(writer.parts(records)) + writer.block(0x40000BAD, bytes(3 * 2**20))[:-cut]
    run = walk(files(PACKERS[packer](content)))
    assert (run.records, run.rc, run.info.truncated) == (records, -errno.EBADMSG, 1)
    assert run.info.offset == len(b"".join(writer.parts(records)))
    assert run.reason.startswith("the file ends inside the block ")


def lengths(block: bytes, head: int, tail: int) -> bytes:
    return block[:4] + struct.pack("<I", head) + block[8:-4] + struct.pack("<I", tail)


@pytest.mark.parametrize("kind", [1, 2, 3, 5, 6, 0x0A0D0D0A, 0x40000BAD])
@pytest.mark.parametrize(
    ("head", "tail", "reason"),
    [
        (0, 0, "impossible length 0"),
        (11, 11, "impossible length 11"),
        (61, 61, "impossible length 61"),
        (64, 60, "length 64, but 60 at its end"),
        (60, 64, "length 60, but "),
        (12, 64, ""),
        (68, 68, ""),
        (2**31, 2**31, ""),
        (2**32 - 4, 2**32 - 4, ""),
    ],
)  # fmt: skip
def test_wrong_block_length(files: Files, kind: int, head: int, tail: int, reason: str) -> None:
    writer, before = Pcapng(), some(3)
    parts = writer.parts(before)
    body = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) if kind == 0x0A0D0D0A else bytes(16)
    broken = lengths(writer.block(kind, body + bytes(52 - len(body))), head, tail)
    run = walk(files(b"".join(parts) + broken + writer.packet(9, b"never", 5) * 9))
    assert (run.records, run.rc) == (before, -errno.EBADMSG)
    assert run.info.offset == len(b"".join(parts))
    assert reason in run.reason


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (Pcapng().block(6, bytes(16)), "packet block too short"),
        (Pcapng().block(2, bytes(16)), "packet block too short"),
        (Pcapng().block(3, b""), "packet block too short"),
        (Pcapng().block(1, bytes(4)), "interface block too short"),
        (Pcapng().block(0x0A0D0D0A, struct.pack("<I", 0x1A2B3C4D)), "section header too short"),
        (Pcapng().block(6, struct.pack("<5I", 0, 0, 0, 9, 9) + bytes(8)), "exceeds the block"),
        (Pcapng().block(3, struct.pack("<I", 9) + bytes(8)), "exceeds the block"),
        (Pcapng().packet(0, b"frame", 5, 1), "interface 1 is not described"),
        (Pcapng().packet(0, b"frame", 5, 2**32 - 1), "interface 4294967295 is not described"),
        (Pcapng().block(1, bytes(8) + struct.pack("<HHI", 9, 2, 0)), "malformed interface option"),
        (Pcapng().block(1, bytes(8) + struct.pack("<HHI", 14, 4, 0)), "malformed interface option"),
        (Pcapng().block(1, bytes(8) + struct.pack("<HHI", 2, 5, 0)), "malformed interface option"),
        (Pcapng().block(6, bytes(2**20)), "above the limit"),
        (Pcapng().interface(1, 9, 0, 0) * 1024, "above 1024"),
    ],
)  # fmt: skip
def test_malformed_block(files: Files, block: bytes, reason: str) -> None:
    before = some(3)
    content = b"".join(Pcapng().parts(before)) + block + Pcapng().packet(9, b"never", 5)
    run = walk(files(content))
    assert (run.records, run.rc, run.info.truncated) == (before, -errno.EBADMSG, 0)
    assert reason in run.reason
    assert len(run.reason) < 111, "the reason fits"


def test_packet_block_without_an_interface(files: Files) -> None:
    for block in (Pcapng().packet(1, b"frame", 5), Pcapng().simple(b"frame", 5)):
        run = walk(files(Pcapng().section() + block))
        assert (run.records, run.rc, run.info.link) == ([], -errno.EBADMSG, -1)
        assert "interface 0 is not described" in run.reason


def test_simple_packet_block(files: Files) -> None:
    """Its captured length is implied by the snap length, and it has no time: 0."""
    writer = Pcapng("<", ((113, 9, 0, 6),))
    content = writer.head() + writer.simple(b"frame", 5) + writer.simple(b"longer", 1500)
    run = walk(files(content + writer.simple(b"", 0)))
    assert run.records == [
        Record(0, b"frame", 5, 113),
        Record(0, b"longer", 1500, 113),
        Record(0, b"", 0, 113),
    ]


# --- L11: the file changes while it is read ------------------------------------------------------


def test_file_removed_while_read(files: Files) -> None:
    records = some(3)
    path = files(b"".join(Pcap().parts(records)))
    with Capture(path) as capture:
        path.unlink()
        assert capture.burst() == (3, records)
        assert capture.burst() == (-errno.ENODATA, [])


def test_file_growing_while_read(files: Files) -> None:
    """A capture is what the file held when it was opened."""
    records = some(3)
    path = files(b"".join(Pcap().parts(records)))
    with Capture(path) as capture:
        with path.open("ab") as f:
            f.write(Pcap().record(records[0]))
        assert capture.burst() == (3, records)
        assert capture.burst() == (-errno.ENODATA, [])
    with path.open("ab") as f:
        f.write(Pcap().record(records[1])[:-1])
    assert (walk(path).records, walk(path).info.truncated) == ([*records, records[0]], 1)


@pytest.mark.parametrize("packer", PACKERS)
def test_file_truncated_while_read(files: Files, packer: str) -> None:
    """No SIGBUS: 4 MB lie ahead of the reader when all behind 2 MB goes."""
    records = [Record(i * 1000, os.urandom(1000), 1000) for i in range(6000)]
    path = files(PACKERS[packer](b"".join(Pcap().parts(records))))
    read: list[Record] = []
    with Capture(path) as capture:
        while (burst := capture.burst())[0] >= 0:
            read += burst[1]
            if len(read) == 256:
                os.truncate(path, 2 * 2**20)
        assert burst[0] == capture.info.error == -errno.EBADMSG
        assert capture.info.truncated == 1
        reason = ffi.string(capture.info.reason).decode()
    assert read == records[: len(read)]
    assert 1500 < len(read) <= 2 * 2**20 // 1000
    assert reason.startswith("the file was truncated while it was read")


# --- real captures against other readers ---------------------------------------------------------

BROKEN = {"zeek__trunc-hdr.pcap"}  # captured length 8 above a snap length of 1: L5
ODD = "reported"  # a folder of captures that readers do not agree on


def captures(data: Path) -> list[Path]:
    found = [
        path
        for path in sorted(data.rglob("*.pcap*"))
        if path.is_file() and path.name not in BROKEN and path.parent.name != ODD
    ]
    assert len(found) > 170
    return found


def test_real_captures_have_as_many_frames_as_capinfos_counts(data: Path) -> None:
    tool = shutil.which("capinfos")
    if tool is None:
        pytest.skip("no capinfos")
    paths = captures(data)
    table = run_tool([tool, "-T", "-M", "-r", "-c", *map(str, paths)]).decode()
    counted = dict(line.rsplit("\t", 1) for line in table.splitlines())
    for path in paths:
        run = walk(path)
        assert run.rc == -errno.ENODATA, path
        assert len(run.records) == int(counted[str(path)]), path


def test_real_captures_are_read_as_scapy_reads_them(data: Path) -> None:
    from scapy import utils

    for path in captures(data):
        run, i = walk(path), 0
        with utils.RawPcapReader(str(path)) as reader:
            for i, (frame, meta) in enumerate(reader, 1):
                ours = run.records[i - 1]
                if hasattr(meta, "sec"):
                    theirs = meta.sec * NS + meta.usec * (1 if reader.nano else 1000)
                else:
                    theirs = ((meta.tshigh << 32) + meta.tslow) * NS // meta.tsresol
                    theirs = min(theirs, 2**64 - 1)  # one file has made-up times
                assert (ours.data, ours.ts, ours.wirelen) == (frame, theirs, meta.wirelen), path
        assert i == len(run.records), path


def test_real_break(data: Path) -> None:
    run = walk(data / "net/malformed/zeek__trunc-hdr.pcap")
    assert (run.records, run.rc, run.info.offset) == ([], -errno.EBADMSG, 24)
