"""Signals to a run, whenever they come: it drains, tells its record once, and leaves nothing."""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pydpdk.errors import UsageError
from pydpdk.process import rundir
from tests.live_run import LiveRun, config, leftovers, stage
from tests.live_watch import SKIP, SPREAD, feeding, frames_in, gone

pytestmark = pytest.mark.live

INSTANTS = 12
SPAN_S = 2.6  # start takes about one second, then there is traffic for one, then it drains
SEED = 24


def family(pid: int) -> list[int]:
    """A process and its children."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        children = []
    return [pid, *map(int, children)]


def wait_for_handlers(run: LiveRun) -> None:
    """The run has its directory, so its signals are caught."""
    deadline = time.monotonic() + 20
    while not (rundir.base() / run.name / "lock").exists() and time.monotonic() < deadline:
        time.sleep(0.002)


@pytest.mark.parametrize("instant", range(INSTANTS))
def test_a_signal_at_any_instant(
    instant: int, tmp_path: Path, pydpdk_wire: Any, pydpdk_feeder: Any, pydpdk_capture: Path
) -> None:
    """To the supervisor alone, or to all processes as a terminal and systemd send it."""
    draw = random.Random(SEED * 1000 + instant)
    number = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)[instant % 3]
    kind, to_all = draw.choice(["af_packet", "tpacket"]), draw.random() < 0.4
    after = (instant + draw.random()) / INSTANTS
    wire = pydpdk_wire
    spec = config(tmp_path / "live.toml", f"{kind}:{wire.b.name}", rest=stage(SPREAD, SKIP))
    run = LiveRun(spec, "--seconds", "1", namespace=wire.b.namespace)
    with run, feeding(pydpdk_feeder, pydpdk_capture, pps=2_000):
        wait_for_handlers(run)
        time.sleep(after * SPAN_S)
        pids = family(run.process.pid)
        struck = run.process.poll() is None
        for pid in pids if to_all else pids[:1]:
            with suppress(ProcessLookupError):  # it may end by itself at any instant
                os.kill(pid, number)
        record = run.end()
        log = run.log
    interrupted = struck and number == signal.SIGINT and record["interrupted"]
    assert record["unexplained"] == 0, json.dumps(record)
    assert run.process.returncode == (130 if interrupted else 0), (kind, after, to_all, log)
    assert record["unexplained"] == 0
    assert record["deaths"] == []
    assert "Traceback" not in log
    assert [pid for pid in pids if not gone(pid, 1)] == []
    assert leftovers(run.name) == []


@pytest.mark.parametrize("first_s", [0.0, 0.4, 1.2])
def test_a_second_signal_ends_it_at_once(first_s: float, tmp_path: Path, pydpdk_wire: Any) -> None:
    """Also when its engine cannot drain: it is stopped."""
    wire = pydpdk_wire
    spec = config(tmp_path / "live.toml", f"af_packet:{wire.b.name}", rest=stage(SPREAD, SKIP))
    with LiveRun(spec, namespace=wire.b.namespace) as run:
        wait_for_handlers(run)
        time.sleep(first_s)
        pids = family(run.process.pid)
        if first_s > 1:
            os.kill(run.ready()["engine"]["pid"], signal.SIGSTOP)
        os.kill(run.process.pid, signal.SIGTERM)
        time.sleep(0.05)
        assert run.process.poll() is None, "it drains"
        begun = time.monotonic()
        os.kill(run.process.pid, signal.SIGINT)  # two of a kind may be one while C code runs
        run.process.wait(10)
        assert time.monotonic() - begun < 5, "a child may take 20 s to drain"
    assert run.process.returncode == 130
    assert "Traceback" not in run.log
    assert [pid for pid in pids if not gone(pid, 3)] == []
    assert leftovers(run.name) == []


def test_nobody_reads_what_it_says(
    tmp_path: Path, pydpdk_wire: Any, pydpdk_feeder: Any, pydpdk_capture: Path
) -> None:
    """With its log gone it runs on; with its stdout gone it ends with 1, and clears up."""
    wire = pydpdk_wire
    spec = config(tmp_path / "live.toml", f"af_packet:{wire.b.name}", rest=stage(SPREAD, SKIP))
    record = tmp_path / "record.json"
    command = [sys.executable, "-m", "pydpdk", "run", spec, "--record", record]
    process = wire.b.namespace.popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    process.stderr.close()
    name = f"t{os.getpid()}"
    deadline = time.monotonic() + 20
    while not rundir.read(name, "status").get("engine") and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(rundir.read(name, "status")["engine"]["pid"], signal.SIGKILL)
    while rundir.read(name, "status")["incarnation"] < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    ledger = pydpdk_feeder(pydpdk_capture, pps=5_000)
    time.sleep(0.5)
    process.terminate()
    assert process.wait(20) == 1
    told = json.loads(record.read_text())
    assert told["engine"]["loops"][0]["frames"]["parsed"] > ledger.sent // 4
    assert told["unexplained"] == 0
    assert len(told["deaths"]) == 1
    assert leftovers(name) == []


def test_sigusr1_dumps(
    tmp_path: Path, pydpdk_wire: Any, pydpdk_feeder: Any, pydpdk_capture: Path
) -> None:
    wire = pydpdk_wire
    spec = config(tmp_path / "live.toml", f"tpacket:{wire.b.name}")
    with LiveRun(spec, "--flights", str(tmp_path / "f"), namespace=wire.b.namespace) as run:
        run.ready()
        with feeding(pydpdk_feeder, pydpdk_capture, pps=5_000) as ledgers:
            for n in range(1, 6):
                os.kill(run.process.pid, signal.SIGUSR1)
                run.until(lambda _, n=n: run.log.count("frames in") == n, "dumped")
        run.idle()
        os.kill(run.process.pid, signal.SIGUSR1)
        record = run.stop()
    counts = [frames_in(path) for path in record["dumps"]]
    assert len(counts) == 6
    assert counts == sorted(counts)
    assert counts[-1] == ledgers[0].sent
    assert leftovers(run.name) == []


# --- a name is of one run ---


def test_a_name_is_of_one_run(tmp_path: Path, pydpdk_wire: Any) -> None:
    wire = pydpdk_wire
    spec = config(tmp_path / "live.toml", f"tpacket:{wire.b.name}", rest=stage(SPREAD, SKIP))
    with LiveRun(spec, namespace=wire.b.namespace) as run:
        run.ready()
        before = sorted(leftovers(run.name))
        command = [sys.executable, "-m", "pydpdk", "run", spec]
        second = wire.b.namespace.run(command, check=False)
        assert second.returncode == 2
        assert f"is running already (process {run.process.pid})" in second.stderr
        assert second.stderr.count("\n") == 1
        assert sorted(leftovers(run.name)) == before, "the first one keeps all it has"
        record = run.stop()
    assert run.process.returncode == 0
    assert record["unexplained"] == 0


def test_a_lock_that_its_holder_just_removed_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run before ends between our open and our lock: its file is no more the name's."""
    name, lock, calls = f"race-{os.getpid()}", fcntl.flock, []
    before = rundir.RunDir(name)

    def late(fd: int, how: int) -> None:
        if not calls:
            calls.append(fd)
            before.close()
        lock(fd, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with rundir.RunDir(name), pytest.raises(UsageError, match="is running already"):
        rundir.RunDir(name)
    assert leftovers(name) == []


def test_names_are_taken_by_one_of_many() -> None:
    """Threads that come and go: never two at once."""
    name, inside, most = f"many-{os.getpid()}", [], []
    end = time.monotonic() + 1

    def contend() -> None:
        while time.monotonic() < end:
            try:
                with rundir.RunDir(name):
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
            except UsageError:
                continue

    threads = [threading.Thread(target=contend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert len(most) > 4
    assert leftovers(name) == []
