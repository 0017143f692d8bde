"""Lines and links of a live run that die (fault 14)."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pydpdk._core import lib
from testbed.faults import Egress
from tests.live_run import LINES, LiveRun, config, leftovers, stage
from tests.live_watch import PPS, SKIP, SPREAD, Watch, feeding, two_days
from tests.test_run import replayed

pytestmark = pytest.mark.live

STALE_MS, TIMEOUT_MS = 200, 10
WITHIN_NS = 1_000_000
STALE = f"stale_line_ms = {STALE_MS}\ngap_timeout_ms = {TIMEOUT_MS}"


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return two_days(tmp_path_factory.mktemp("days"))


def stamps(path: str, group: str) -> list[int]:
    """When the frames to a group came, by the record clock."""
    command = ["tshark", "-r", path, "-Y", f"ip.dst == {group}", "-T", "fields"]
    done = subprocess.run(
        [*command, "-e", "frame.time_epoch"], check=True, capture_output=True, text=True
    )
    parts = (line.split(".") for line in done.stdout.split())
    return [int(seconds) * 10**9 + int(rest.ljust(9, "0")) for seconds, rest in parts]


@pytest.mark.parametrize("dead", [0, 1])
def test_a_dead_line_is_told_and_healed_by_the_other(
    dead: int, days: tuple[Path, Path], tmp_path: Path, pydpdk_wire: Any, pydpdk_feeder: Any
) -> None:
    wire, group = pydpdk_wire, LINES[dead].partition(":")[0]
    spec = config(tmp_path / "live.toml", f"af_packet:{wire.b.name}", feed=STALE,
                  rest=stage(SPREAD, SKIP))  # fmt: skip
    with LiveRun(spec, "--flights", str(tmp_path), namespace=wire.b.namespace) as run:
        run.ready()
        watch = Watch(run)
        with Egress(wire.a, group=group) as faults:
            with feeding(pydpdk_feeder, days[0], pps=PPS):
                run.until(lambda _: run.counter("frames_parsed") > 1_000, "traffic")
                faults.set(drop=1, group=group)
                run.until(lambda _: faults.counts().dropped > 800, "silent")
                faults.set()
            run.idle()
            dropped = faults.counts().dropped
        os.kill(run.process.pid, signal.SIGUSR1)
        run.until(lambda _: "frames in" in run.log, "dumped")
        told = watch.of(lib.EVENT_LINE)
        record = run.stop()
    assert dropped > 800
    assert record["unexplained"] == 0
    assert [dead, lib.LINE_STALE] in [[int(e["order_id"]), int(e["aux"])] for e in told]
    times = [np.array(stamps(record["dumps"][0], line.partition(":")[0])) for line in LINES]
    for event in told:  # a host that stalls silences both lines: these are right as well
        frames, now = times[int(event["order_id"])], int(event["ts_recv"])
        silent = STALE_MS * 1_000_000 if event["aux"] == lib.LINE_STALE else 0
        assert 0 <= now - int(frames[frames <= now].max()) - silent < WITHIN_NS
    loop = record["engine"]["loops"][0]
    assert loop["lines"][dead]["losses"] > 100
    assert loop["sequence"][0]["lost"] == 0
    alone = replayed(days[0], tmp_path, "alone")["engine"]["loops"][0]
    assert loop["books"] == alone["books"]
    assert record["stages"][0]["books"] == [alone["books"]["hash"]]


@pytest.mark.parametrize("how", ["both lines", "flap"])
def test_a_gap_on_both_is_flagged_at_once_and_gone_with_the_next_session(
    how: str, days: tuple[Path, Path], tmp_path: Path, pydpdk_wire: Any, pydpdk_feeder: Any
) -> None:
    wire = pydpdk_wire
    spec = config(tmp_path / "live.toml", f"af_packet:{wire.b.name}", feed=STALE,
                  rest=stage(SPREAD, SKIP))  # fmt: skip
    with LiveRun(spec, "--flights", str(tmp_path), namespace=wire.b.namespace) as run:
        run.ready()
        watch = Watch(run)
        with feeding(pydpdk_feeder, days[0], pps=PPS):
            run.until(lambda _: run.counter("frames_parsed") > 1_000, "traffic")
            if how == "flap":
                wire.flap(0.1)
            else:
                with Egress(wire.a, drop=1):
                    time.sleep(0.1)
        run.idle()
        assert run.status()["engine"]["loops"][0]["suspect"] == {"itch": True}
        os.kill(run.process.pid, signal.SIGUSR1)
        run.until(lambda _: "-demand.pcapng" in run.log, "dumped")
        links = watch.of(lib.EVENT_LINK)
        events = watch.take()
        pydpdk_feeder(days[1], pps=PPS)
        run.until(lambda _: run.counter("session_resets") == 1, "the next session")
        run.idle()
        record = run.stop()
    assert record["unexplained"] == 0
    gaps = events[events["kind"] == lib.EVENT_GAP]
    gap = gaps[gaps["order_id"].argmax()]
    loop = record["engine"]["loops"][0]
    before, after = loop["sequence"]
    assert before["lost"] == gaps["order_id"].sum() > 100
    assert loop["counters"]["gaps_declared"] == len(gaps)
    dump = next(path for path in record["dumps"] if path.endswith("-demand.pcapng"))
    frames = np.array(sorted(t for g in LINES for t in stamps(dump, g.partition(":")[0])))
    last = events[events["stamp"] < gap["stamp"]]["ts_recv"].max()
    frames = frames[(frames >= last) & (frames <= gap["ts_recv"])]
    first = frames[np.diff(frames).argmax() + 1]  # behind the silence
    late = int(gap["ts_recv"]) - int(first)  # no time-out where both lines went past the gap
    assert 0 <= late < TIMEOUT_MS * 1_000_000 + WITHIN_NS
    market = np.isin(events["kind"], [lib.EVENT_ADD, lib.EVENT_DELETE, lib.EVENT_EXECUTE])
    ahead = market & (events["stamp"] > gaps["stamp"][0])
    assert np.all(events[ahead]["flags"] & lib.FLAG_SUSPECT)
    assert not np.any(events[market & ~ahead]["flags"] & lib.FLAG_SUSPECT)
    if how == "flap":
        assert links["aux"].tolist() == [lib.LINK_STATE_UP, lib.LINK_STATE_DOWN, lib.LINK_STATE_UP]
        down = int(links[1]["ts_recv"])
        assert down < first, "told before the first packet that came after it"
    assert after["lost"] == 0
    alone = replayed(days[1], tmp_path, "alone")["engine"]["loops"][0]
    assert loop["books"] == alone["books"]


@pytest.mark.parametrize("kind", ["af_packet", "tpacket", "af_xdp"])
def test_an_interface_that_is_taken_away(
    kind: str, days: tuple[Path, Path], tmp_path: Path, pydpdk_wire: Any, pydpdk_feeder: Any
) -> None:
    """Told as gone, in band; the engine lives, its log stays small, its end is clean."""
    wire = pydpdk_wire
    spec = config(tmp_path / "live.toml", f"{kind}:{wire.b.name}", rest=stage(SPREAD, SKIP))
    with LiveRun(spec, namespace=wire.b.namespace) as run:
        run.ready()
        watch = Watch(run)
        with feeding(pydpdk_feeder, days[0], pps=PPS):
            run.until(lambda _: run.counter("frames_parsed") > 500, "traffic")
            wire.b.remove()
        run.until(lambda s: s["engine"]["loops"][0]["links"]["a"] == "gone", "gone", 10)
        time.sleep(0.5)
        links = watch.of(lib.EVENT_LINK)
        record = run.stop()
    assert run.process.returncode == 0, run.log
    assert int(links[-1]["aux"]) == lib.LINK_STATE_GONE
    assert record["deaths"] == []
    assert record["unexplained"] == 0
    assert len(run.log) < 3_000
    assert leftovers(run.name) == []


def test_an_engine_without_its_interface_is_given_up(tmp_path: Path, pydpdk_wire: Any) -> None:
    wire = pydpdk_wire
    spec = config(tmp_path / "live.toml", f"tpacket:{wire.b.name}", top="restarts_max = 3",
                  rest=stage(SPREAD, SKIP))  # fmt: skip
    with LiveRun(spec, namespace=wire.b.namespace) as run:
        pid = run.ready()["engine"]["pid"]
        wire.b.remove()
        os.kill(pid, signal.SIGKILL)
        record = run.end()
    assert run.process.returncode == 1
    assert len(record["deaths"]) == 4
    assert record["stages"][0]["unexplained"] == 0
    assert "no interface 'b0'" in record["deaths"][-1]["cause"]
    assert "Traceback" not in run.log
    assert leftovers(run.name) == []
