"""The soak finds nothing in a short run, and finds what does grow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.net import missing
from testbed.soak import Series, _renamed
from testbed.wire import checksum_holds
from tests.command import ROOT
from tests.live_run import leftovers

LEAK = """
import os
from pydpdk.stage.stage import Stage

class Leak(Stage):
    def __init__(self):
        self.kept, self.bytes, self.open = [], 0, []

    def on_batch(self, events, orders):  # by the record: a busy host has fewer, larger batches
        self.kept.append(events.tobytes())
        self.bytes += events.nbytes
        while len(self.open) < self.bytes >> 20:
            self.open.append(os.open("/dev/null", os.O_RDONLY))
"""


def soak(*options: object, seconds: int = 20) -> tuple[int, dict, str]:
    if lacking := missing():
        pytest.skip(f"needs {lacking}")
    command = [sys.executable, "-m", "testbed.soak", "--seconds", seconds, "--every", 1]
    command += ["--messages", 8000, *options]
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=180
    )
    assert done.returncode in (0, 5), done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("device", ["af_packet", "af_xdp"])
def test_nothing_grows_and_the_ledger_closes(device: str) -> None:
    code, report, log = soak("--device", device)
    assert code == 0, (log, report)
    assert report["frames_received"] + sum(report["frames_missed"]) == report["frames_sent"]
    assert report["lost_on_both_lines"] > 0
    assert report["gaps_healed"] > 100
    assert report["stages_read"] == [report["records"]]
    told = {(figure["of"], figure["what"]) for figure in report["figures"]}
    each = {(of, what) for of in ("supervisor", "engine", "stage 0")
            for what in ("rss", "fds", "threads")}  # fmt: skip
    assert told == each | {("run", "shm"), ("engine", "mbufs")}
    assert not [name for name in Path("/dev/shm").glob("pydpdk-soak-*") if leftovers(name.name)]


@pytest.mark.slow
def test_a_strategy_that_leaks_is_found(tmp_path: Path) -> None:
    (tmp_path / "leak.py").write_text(LEAK)
    code, report, log = soak("--strategy", f"{tmp_path}/leak.py:Leak", seconds=15)
    assert code == 5
    grown = {(f["of"], f["what"]) for f in report["figures"] if not f["flat"]}
    assert grown == {("stage 0", "rss"), ("stage 0", "fds")}
    assert "stage 0: fds grew by" in log
    assert report["closes"]


def test_what_is_flat() -> None:
    warm = [0, 50, 90, 99]
    assert Series("engine", "fds", [*warm, *[100] * 12]).flat
    assert not Series("engine", "fds", [*warm, *[100] * 11, 101]).flat
    assert not Series("engine", "rss", list(range(0, 32 << 20, 1 << 20))).flat
    assert Series("engine", "fds", [7]).flat


def test_a_renamed_session_keeps_a_right_checksum(pydpdk_capture: Path) -> None:
    from testbed.soak import Session

    feed = Session(pydpdk_capture).named(123)
    ends = feed.offsets + feed.lengths
    frames = [feed.data[a:b].tobytes() for a, b in zip(feed.offsets, ends, strict=True)]
    assert all(map(checksum_holds, frames))
    assert all(frame[40:42] != b"\0\0" for frame in frames)
    assert set(feed.rows["session"].tolist()) == {b"SOAK000123"}
    assert checksum_holds(_renamed(bytearray(frames[0]), b"ABCDEFGHIJ"))
