"""pydpdk record: what came in is in the files, or is counted."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from pydpdk.source import eal
from pydpdk.source.source import open_source
from pydpdk.tape.pcapfile import CaptureWriter
from pydpdk.tape.record import Recorder, Rotation
from tests.captured import Frame, capinfos, frames_of
from tests.command import COMMAND, call, refused, spawn, start, wait_interruptible, well
from tests.conftest import missing
from tests.port_child import run_child

EPOCH = 1_700_000_000_000_000_000
SECOND = 10**9
BLOCK = 532  # of a frame of 500 bytes
needs_dpdk = pytest.mark.skipif(not eal.version(), reason="pydpdk was built without DPDK")


def capture(path: Path, frames: int, size: int = 500, step_ns: int = 1000) -> Path:
    with CaptureWriter(path) as writer:
        for i in range(frames):
            writer.write(EPOCH + i * step_ns, i.to_bytes(8, "big") + bytes(size - 8))
    return path


def recorded(where: Path) -> list[Frame]:
    """All frames of the files that were written, in their order."""
    return [frame for path in sorted(where.glob("*.pcapng")) for frame in frames_of(path)]


def record(where: Path, *args: object) -> Any:
    where.mkdir(exist_ok=True)
    result = well("record", *args, "-o", where / "a", "--json").json
    assert result["unexplained"] == result["unwritten"] == 0
    return result


# ---- a recording equals its input ----

CAPTURES = [
    "net/formats/*",
    "net/mixed/*",
    "net/vlan/*",
    "net/ip_options/*",
    "net/tunnel/*",
    "iex/*.pcap*",
]


@pytest.mark.parametrize("pattern", CAPTURES)
def test_real_captures_come_out_frame_by_frame(pattern: str, data: Path, tmp_path: Path) -> None:
    """Same bytes, lengths, link types and stamps, up to where a file is broken."""
    compared = 0
    for path in sorted(data.glob(pattern)):
        if path.stat().st_size > 30_000_000 or not path.is_file():
            continue
        done = call("record", f"pcap:{path}", "-o", tmp_path / "a", "--json")
        if done.code == 4 and not done.out:
            continue  # no capture at all
        assert done.json["unexplained"] == done.json["unwritten"] == done.json["lost"] == 0
        want = readable(path)
        assert recorded(tmp_path) == want
        assert done.json["written"] == len(want)
        compared += bool(want)
        for file in tmp_path.iterdir():
            file.unlink()
    if not compared:
        missing(f"a capture {data / pattern}")


def readable(path: Path) -> list[Frame]:
    from pydpdk._core import ffi

    packets, frames = ffi.new("struct packet[]", 256), []
    with open_source(f"pcap:{path}") as source:
        while (n := source.pointer.burst(source.pointer, packets, 256)) >= 0:
            for p in packets[0:n]:
                data = bytes(ffi.buffer(p.data, p.caplen))
                frames.append(Frame(data, p.ts_recv, p.wirelen, p.link))
    return frames


def test_wireshark_sees_the_same(data: Path, tmp_path: Path, tshark: str) -> None:
    paths = sorted((data / "net" / "mixed").glob("*.pcap*"))
    if not paths:
        missing("a capture in net/mixed")
    record(tmp_path / "out", f"pcap:{paths[0]}")
    (written,) = (tmp_path / "out").iterdir()
    fields = ["time_epoch", "cap_len", "len", "protocols"]
    seen = []
    for path in (paths[0], written):
        command = [tshark, "-r", str(path), "-T", "fields", "-e", "_ws.col.Info"]
        command += [word for field in fields for word in ("-e", f"frame.{field}")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        seen.append(done.stdout)
    assert seen[0] == seen[1] != ""


def test_several_sources_are_told_apart(tmp_path: Path, tshark: str) -> None:
    specs = [f"pcap:{capture(tmp_path / f'{i}.pcap', 5 + i)}" for i in range(3)]
    result = record(tmp_path / "out", *specs)
    assert [source["received"] for source in result["sources"]] == [5, 6, 7]
    (path,) = (tmp_path / "out").iterdir()
    command = [tshark, "-r", path, "-T", "fields", "-e", "frame.interface_name"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.split()
    assert [sum(spec.endswith(name[3:]) for name in shown) for spec in specs] == [5, 6, 7]


# ---- files ----


def test_files_turn_by_size_at_a_frame(tmp_path: Path) -> None:
    path = capture(tmp_path / "a.pcap", 1000)
    result = record(tmp_path / "out", path, "--rotate-mb", 0.05)
    files = [Path(file["path"]) for file in result["files"]]
    assert len(files) == 11
    assert all(40_000 < file.stat().st_size <= 50_000 for file in files[:-1])
    assert [file["bytes"] for file in result["files"]] == [f.stat().st_size for f in files]
    assert capinfos(*files) == [file["frames"] for file in result["files"]]
    assert recorded(tmp_path / "out") == frames_of(path)
    assert sorted(files) == files == sorted((tmp_path / "out").iterdir())
    name = rf"a-20231114T221320\.{'0' * 9}Z-000001\.pcapng"
    assert re.fullmatch(name, files[0].name)


def test_a_frame_larger_than_a_file_has_one_of_its_own(tmp_path: Path) -> None:
    path = capture(tmp_path / "a.pcap", 5)
    result = record(tmp_path / "out", path, "--rotate-mb", 0.0001)
    assert [file["frames"] for file in result["files"]] == [1] * 5


def test_files_turn_by_the_time_of_their_frames(tmp_path: Path) -> None:
    path = capture(tmp_path / "a.pcap", 100, step_ns=SECOND // 10)
    result = record(tmp_path / "out", path, "--rotate-s", 2.5)
    spans = [(file["frames"], file["ts_first"], file["ts_last"]) for file in result["files"]]
    assert spans == [
        (25, EPOCH + i * SECOND // 10, EPOCH + (i + 24) * SECOND // 10) for i in range(0, 100, 25)
    ]


def test_only_the_newest_files_are_kept(tmp_path: Path) -> None:
    path = capture(tmp_path / "a.pcap", 1000)
    result = record(tmp_path / "out", path, "--rotate-mb", 0.05, "--keep", 3)
    assert (result["files_removed"], len(result["files"]), result["written"]) == (8, 3, 1000)
    assert recorded(tmp_path / "out") == frames_of(path)[-len(recorded(tmp_path / "out")) :]
    assert [str(p) for p in sorted((tmp_path / "out").iterdir())] == [
        file["path"] for file in result["files"]
    ]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = capture(tmp_path / "a.pcap", 3)
    record(tmp_path / "out", path)
    before = recorded(tmp_path / "out")
    assert "File exists" in refused_after(1, "record", path, "-o", tmp_path / "out" / "a")
    assert recorded(tmp_path / "out") == before


def refused_after(code: int, *args: object) -> str:
    """The error of a call that prints its summary all the same."""
    done = call(*args)
    assert done.code == code
    return done.err.splitlines()[-1]


def test_no_frame_no_file(tmp_path: Path) -> None:
    result = record(tmp_path / "out", capture(tmp_path / "a.pcap", 0))
    assert (result["written"], result["files"]) == (0, [])
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("count", [1, 255, 256, 257, 700])
def test_count_is_exact(count: int, tmp_path: Path) -> None:
    path = capture(tmp_path / "a.pcap", 700)
    assert record(tmp_path / "out", path, "--count", count)["received"] == count
    assert recorded(tmp_path / "out") == frames_of(path)[:count]


def test_longer_frames_are_cut(tmp_path: Path) -> None:
    assert record(tmp_path / "out", capture(tmp_path / "a.pcap", 7), "--snaplen", 60)["cut"] == 7
    assert {(len(f.data), f.wirelen) for f in recorded(tmp_path / "out")} == {(60, 500)}


def test_a_file_waits_for_room_and_loses_nothing(tmp_path: Path) -> None:
    path = capture(tmp_path / "a.pcap", 20_000, size=1500)
    assert record(tmp_path / "out", path, "--buffer-mb", 1)["lost"] == 0
    assert recorded(tmp_path / "out") == frames_of(path)


# ---- what goes wrong ----


def test_a_broken_capture_is_kept_up_to_the_break(tmp_path: Path) -> None:
    path = capture(tmp_path / "a.pcap", 10)
    path.write_bytes(path.read_bytes()[:-7])
    error = refused_after(4, "record", path, "-o", tmp_path / "b", "--json")
    assert "the file ends inside the record" in error
    assert len(frames_of(next(tmp_path.glob("b*")))) == 9


def test_a_directory_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    path = capture(tmp_path / "a.pcap", 1)
    assert "No such file" in refused(1, "record", path, "-o", tmp_path / "no" / "a")


def test_a_core_that_is_not_there_is_told(tmp_path: Path) -> None:
    path = capture(tmp_path / "a.pcap", 1)
    error = refused_after(3, "record", path, "-o", tmp_path / "b", "--core", 4095)
    assert "cannot run on core 4095" in error


def limited(args: list[object], limit: int) -> subprocess.CompletedProcess[str]:
    """The command with RLIMIT_FSIZE; Python ignores SIGXFSZ, so that write() fails."""
    return subprocess.run(
        [*COMMAND, *map(str, args)], capture_output=True, text=True, timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip


@pytest.mark.parametrize("more", [0, 1, 31, 200, 531])
def test_a_full_disk_ends_it_and_keeps_what_is_whole(more: int, tmp_path: Path) -> None:
    """The limit lies anywhere in a block; it must be above the recorder's own memory."""
    path, limit = capture(tmp_path / "a.pcap", 5000), 1_100_000 + more
    (one,) = record(tmp_path / "one", path, "--count", 1)["files"]
    start = one["bytes"] - BLOCK
    args = ["record", path, "-o", tmp_path / "b", "--json", "--buffer-mb", 1]
    done = limited(args, limit)
    assert done.returncode == 1
    assert os.strerror(errno.EFBIG) in done.stderr
    assert "Traceback" not in done.stderr
    result = json.loads(done.stdout)
    written = recorded(tmp_path)
    assert len(written) == result["written"] == (limit - start) // BLOCK
    assert written == frames_of(path)[: len(written)]
    assert result["received"] == result["written"] + result["unwritten"] + result["lost"]
    assert result["unexplained"] == 0


def test_a_full_file_system_too(tmp_path: Path) -> None:
    """A tmpfs of 1 MB in a mount namespace; what it held is copied out."""
    path = capture(tmp_path / "a.pcap", 5000)
    script = f"""
    mount -t tmpfs -o size=1m none {tmp_path}/full || exit 77
    shift; "$@"; code=$?
    mkdir {tmp_path}/kept; exec 3>{tmp_path}/tar; tar -C {tmp_path}/full -cf - . >&3
    exit $code
    """
    (tmp_path / "full").mkdir()
    inner = [*COMMAND, "record", path, "-o", tmp_path / "full" / "b", "--rotate-mb", "0.4"]
    command = ["unshare", "-m", "sh", "-c", script, "sh", "--", *inner]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("needs to mount a tmpfs in a namespace of its own")
    assert done.returncode == 1
    assert os.strerror(errno.ENOSPC) in done.stderr
    subprocess.run(["tar", "-C", tmp_path / "kept", "-xf", tmp_path / "tar"], check=True)
    written = recorded(tmp_path / "kept")
    assert written == frames_of(path)[: len(written)]
    assert len(written) > 1500


# ---- live ----

NULL = "net_null0,size=64"


@needs_dpdk
def test_what_has_no_room_is_counted(tmp_path: Path) -> None:
    """A driver that gives frames faster than any disk takes them."""
    args = ["record", NULL, "-o", tmp_path / "a", "--count", 3_000_000, "--buffer-mb", 1, "--json"]
    done = spawn(*args, "--keep", 1, "--rotate-mb", 20)
    assert (done.code, done.err) == (0, "")
    result = done.json
    assert result["received"] == 3_000_000 == result["written"] + result["lost"]
    assert result["lost"] > 0
    assert (result["unwritten"], result["unexplained"], result["missed"]) == (0, 0, 0)


@needs_dpdk
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_writes_what_it_received(number: int, tmp_path: Path) -> None:
    with start("record", NULL, "-o", tmp_path / "a", "--snaplen", 60, "--json") as process:
        until = time.monotonic() + 30
        while not list(tmp_path.glob("a*")) and time.monotonic() < until:
            time.sleep(0.01)
        wait_interruptible(process)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    result = json.loads(out)
    assert result["interrupted"]
    assert result["received"] == result["written"] + result["lost"] > 0
    assert sum(capinfos(*tmp_path.glob("a*"))) == result["written"]


def test_it_ends_after_its_time(tmp_path: Path) -> None:
    if not eal.version():
        pytest.skip("pydpdk was built without DPDK")
    done = spawn(
        "record", "net_null0,size=64,no-rx=1", "-o", tmp_path / "a", "--seconds", 0.2, "--json"
    )
    assert (done.code, done.json["received"], done.json["files"]) == (0, 0, [])
    assert 0.2 <= done.json["seconds"] < 20


LIVE = """
import subprocess, signal
from tests.command import COMMAND, wait_interruptible
where, spec, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
process = subprocess.Popen([*COMMAND, "record", spec, "-o", where + "/a", "--json", "--seconds",
                            "60"], stdout=subprocess.PIPE, text=True)
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind(("a0", 0))
beacon = bytes.fromhex("ffffffffffff020000000001 88b5") + bytes(46)
until = time.monotonic() + 30
from pathlib import Path
while not list(Path(where).iterdir()) and time.monotonic() < until:
    out.send(beacon)
    time.sleep(0.02)
begun = time.time_ns()
for i in range(count):
    out.send(beacon[:14] + i.to_bytes(4, "big") + bytes(46 + i % 1400))
    if i % 16 == 0:
        time.sleep(0.0005)
time.sleep(0.3)
wait_interruptible(process)
process.send_signal(signal.SIGINT)
text, _ = process.communicate(timeout=30)
say([process.returncode, json.loads(text), begun, time.time_ns()])
"""


@needs_dpdk
def test_a_live_interface_is_recorded(tmp_path: Path) -> None:
    count = 2000
    code, result, begun, ended = run_child(LIVE, tmp_path, "af_packet:b0", count, namespace=True)
    assert code == 130
    assert result["missed"] == 0, "by its socket"
    assert result["lost"] == result["unexplained"] == result["unwritten"] == 0
    frames = [frame for frame in recorded(tmp_path) if any(frame.data[14:])] or []
    assert [int.from_bytes(f.data[14:18], "big") for f in frames] == list(range(1, count))
    assert [len(f.data) for f in frames] == [64 + i % 1400 for i in range(1, count)]
    assert all(begun <= frame.ts <= ended for frame in frames)
    assert [f.ts for f in frames] == sorted(f.ts for f in frames)


def test_while_it_is_written_a_file_is_a_valid_prefix(tmp_path: Path) -> None:
    """Read again and again during the recording; only its last block may be incomplete."""
    path = capture(tmp_path / "a.pcap", 30_000, size=1000)
    want = frames_of(path)
    with (
        open_source(str(path)) as source,
        Recorder([source], tmp_path / "b", Rotation()) as recorder,
    ):
        done, looks = False, 0
        while not done:
            done = recorder.join(0)
            for file in tmp_path.glob("b*"):
                if file.stat().st_size >= 160:
                    seen = readable(file)
                    assert seen == want[: len(seen)]
                    looks += 1
        assert recorder.errors == []
        assert recorder.result()["written"] == 30_000
    assert looks
