"""pydpdk status and pydpdk flight beside a run on real sockets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from pydpdk.process import rundir
from pydpdk.synth.gen import generate
from tests.command import ROOT, call, refused, spawn, start, well
from tests.live_run import LINES, LiveRun, config, leftovers, stage

SPREAD = f"{ROOT}/apps/spread.py:Spread"
OTHER = """
[sources.b]
device = "af_packet:{name}"
flight_mb = 1

[[feeds]]
name = "other"
protocol = "itch50"
lines = ["233.1.2.3:26477"]
sources = ["b"]
core = {core}
"""


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("status") / "day.pcap"
    generate(path, messages=5_000, instruments=10, seed=3)
    return path


def times(tshark: str, path: Path) -> list[int]:
    """Stamps of all frames in ns, as tshark reads them."""
    command = [tshark, "-r", str(path), "-T", "fields", "-e", "frame.time_epoch"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [int(line.replace(".", "")) for line in text.split()]


@pytest.mark.live
def test_a_run_is_seen_from_outside(day, tmp_path, tshark, pydpdk_wire, pydpdk_feeder):
    """Two loops, one of which hears nothing; frames in two parts with a pause between."""
    wire = pydpdk_wire
    core = min(os.sched_getaffinity(0))
    spec = config(
        tmp_path / "live.toml", f"tpacket:{wire.b.name}", feed='sources = ["a"]',
        rest=OTHER.format(name=wire.b.name, core=core) + stage(SPREAD),
    )  # fmt: skip
    with LiveRun(spec, namespace=wire.b.namespace) as run:
        run.ready()
        first = pydpdk_feeder(day).sent
        run.idle()
        time.sleep(1)
        second = pydpdk_feeder(day).sent
        run.idle()
        run.until(lambda s: s["stages"][0]["lag"] == 0, "all read")

        status = well("status", run.name, "--json").json
        assert status["age_s"] < 1
        assert {key: status[key] for key in ("name", "pid")} == {
            "name": run.name, "pid": run.process.pid,
        }  # fmt: skip
        mine, other = status["engine"]["loops"]
        assert (mine["core"], other["core"]) == (None, core)
        assert mine["counters"]["frames_received"] == first + second
        assert [line["line"] for line in mine["lines"]] == LINES
        assert run.name in [one["name"] for one in well("status", "--json").json["runs"]]
        text = " ".join(well("status", run.name).out.split())
        for shown in (
            f"frames_received {first + second:,}",
            *LINES, "a: link up, missed 0", "b: link up, missed 0", "(skip): ", "0 behind",
            "loop of other", "stage 0 ", "clock: error at most ", f"process {run.process.pid}",
        ):  # fmt: skip
            assert shown in text, text
        assert run.name in refused(1, "status", "nosuch").partition("there are ")[2]

        out = tmp_path / "last.pcapng"
        told = well("flight", run.name, "-o", out, "--json").json
        paths = [tmp_path / "last-0.pcapng", tmp_path / "last-1.pcapng"]
        assert [file["path"] for file in told["files"]] == [str(path) for path in paths]
        assert [file["frames"] for file in told["files"]] == [first + second] * 2
        stamps = times(tshark, paths[0])
        assert len(stamps) == first + second
        since_s = time.time() - stamps[first] / 1e9 + 0.5  # into the pause
        text = well("flight", run.name, "-o", out, "--since-s", since_s).out
        assert f"loop 0: {second:,} of {first + second:,} frames in {paths[0]}" in text
        assert times(tshark, paths[0]) == stamps[first:]
        assert "runs are" in refused(1, "flight", "nosuch", "-o", out)
        assert "No such file" in refused(1, "flight", run.name, "-o", "/nosuch/x.pcapng")

        with start("status", run.name, "--watch", "--json") as watch:
            line = json.loads(watch.stdout.readline())
            assert line["name"] == run.name
            assert run.stop()["unexplained"] == 0
            assert watch.wait(20) == 0
    assert run.name not in [one["name"] for one in well("status", "--json").json["runs"]]
    assert leftovers(run.name) == []


@pytest.mark.live
def test_frames_of_a_run_that_was_killed_are_still_there(day, tmp_path, pydpdk_wire, pydpdk_feeder):
    wire = pydpdk_wire
    spec = config(tmp_path / "live.toml", f"tpacket:{wire.b.name}")
    try:
        with LiveRun(spec, namespace=wire.b.namespace) as run:
            run.ready()
            sent = pydpdk_feeder(day).sent
            run.idle()
            run.process.send_signal(signal.SIGKILL)
            run.process.wait(10)
        assert run.name in refused(1, "status", run.name)
        done = well("flight", run.name, "-o", tmp_path / "last.pcapng", "--json")
        assert done.json["files"][0]["frames"] == sent
    finally:
        rundir.RunDir(run.name).close()
    assert leftovers(run.name) == []


def test_no_run(tmp_path, monkeypatch):
    monkeypatch.setattr(rundir, "base", lambda: tmp_path)
    assert well("status").out == "no run\n"
    assert spawn("flight", "nosuch").code == 2  # without -o


def test_a_run_that_hangs_has_an_old_status(tmp_path, monkeypatch):
    """Nobody answers for it: its lock is held, its file is old."""
    monkeypatch.setattr(rundir, "base", lambda: tmp_path)
    with rundir.RunDir("hung") as place:
        assert "hung: process ?, has said nothing yet" in well("status", "hung").out
        place.write("status", {"pid": 7, "deaths": [{"incarnation": 1, "cause": "SIGKILL"}]})
        then = time.time() - 60
        os.utime(tmp_path / "hung" / "status.json", (then, then))
        text = well("status").out
        assert "hung: process 7, as of 60." in text
        assert "engine 1 died: SIGKILL" in text
    assert call("status", "hung").code == 1


def test_who_looks_does_not_keep_a_run_from_its_name(tmp_path, monkeypatch):
    """running() holds each lock for a moment, and the directories come and go meanwhile."""
    monkeypatch.setattr(rundir, "base", lambda: tmp_path)
    ended, seen = Event(), set()

    def look() -> None:
        while not ended.is_set():
            seen.update(rundir.running())

    with ThreadPoolExecutor(2) as pool:
        lookers = [pool.submit(look) for _ in range(2)]
        try:
            for _ in range(500):
                with rundir.RunDir("once"):
                    pass
        finally:
            ended.set()
        for looker in lookers:
            looker.result()
    assert seen <= {"once"}
