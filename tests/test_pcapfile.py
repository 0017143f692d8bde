"""Written captures read back by tshark and capinfos."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from pydpdk.errors import UsageError
from pydpdk.tape.pcapfile import CaptureWriter
from testbed.frames import datagram

# The first and last instants of a second, a year past 2038, and equal times.
TIMES = [
    0,
    999_999_999,
    1_767_623_400_123_456_789,
    1_767_623_400_123_456_789,
    4_102_444_800 * 10**9,
]
FRAMES = [datagram(bytes(n)) for n in range(len(TIMES))]


def write(path, **how):
    with CaptureWriter(path, **how) as capture:
        for ts, frame in zip(TIMES, FRAMES, strict=True):
            capture.write(ts, frame)
    assert capture.frames == len(TIMES)
    return path


def run(*command):
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("byteorder", "suffix"), [("little", ""), ("big", ".gz")])
@pytest.mark.parametrize("format", ["pcap-ns", "pcap-us", "pcapng"])
def test_tshark_reads_times_and_bytes(tmp_path, format, byteorder, suffix):
    path = write(tmp_path / f"a{suffix}", format=format, byteorder=byteorder)
    rows = run("tshark", "-r", path, "-T", "fields", "-e", "frame.time_epoch", "-e", "frame.len",
        "-e", "data.data").splitlines()  # fmt: skip
    unit = 1000 if format == "pcap-us" else 1
    for row, ts, frame in zip(rows, TIMES, FRAMES, strict=True):
        time, size, data = (*row.split("\t"), "")[:3]
        seconds, nanoseconds = time.split(".")
        assert int(seconds) * 10**9 + int(nanoseconds.ljust(9, "0")) == ts // unit * unit
        assert int(size) == len(frame)
        assert data == frame[42:].hex()


@pytest.mark.parametrize(
    ("format", "type_name", "precision"),
    [("pcap-ns", "nsecpcap", "nanoseconds"), ("pcap-us", "pcap", "microseconds"),
        ("pcapng", "pcapng", "nanoseconds")],
)  # fmt: skip
def test_capinfos_names_the_format(tmp_path, format, type_name, precision):
    text = run("capinfos", "-t", "-c", "-I", write(tmp_path / "a", format=format))
    assert type_name in text.split("File type:")[1].splitlines()[0] or precision in text
    assert precision in text
    assert f"Number of packets:   {len(TIMES)}" in text


@pytest.mark.parametrize("name", ["a.pcap", "a.pcap.gz"])
def test_same_frames_same_bytes_under_any_name(tmp_path, name):
    one, two = write(tmp_path / name), write(tmp_path / f"other-{name}")
    assert one.read_bytes() == two.read_bytes()
    if name.endswith(".gz"):
        assert one.read_bytes()[3:8] == bytes(5)  # RFC 1952: no flags, so no name; no time


@pytest.mark.parametrize("name", ["a.pcap", "a.pcap.gz"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"old")
    with pytest.raises(TypeError), CaptureWriter(path) as capture:
        capture.write(1, None)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_appears_before_the_end(tmp_path):
    path = tmp_path / "a.pcap"
    with CaptureWriter(path) as capture:
        for _ in range(40):
            capture.write(1, bytes(60_000))
        assert not path.exists()
    assert path.stat().st_size == 24 + 40 * 60_016


@pytest.mark.parametrize(("name", "format"), [("a.pcap.zst", "pcap-ns"), ("a.pcap", "erf")])
def test_what_cannot_be_written_is_refused(tmp_path, name, format):
    with pytest.raises(UsageError):
        CaptureWriter(tmp_path / name, format)
    assert list(tmp_path.iterdir()) == []
