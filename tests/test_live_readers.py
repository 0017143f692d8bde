"""Readers that stop, readers that are slow, and mbufs that run out, in a live run.

HOSTILE faults 1 to 3, each with its counters asserted exactly.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pydpdk._core import lib
from pydpdk.core.event import EVENT
from pydpdk.core.ring import Reader, Ring
from pydpdk.process import rundir
from pydpdk.process.stage_process import Batches
from pydpdk.source import eal
from pydpdk.synth.gen import generate
from testbed.plan import Feed, plan
from tests import live_oracle
from tests.command import ROOT
from tests.live_oracle import WITNESS, Told, send
from tests.live_run import LiveRun, config, leftovers, stage
from tests.port_child import run_child

pytestmark = pytest.mark.live

PPS = 20_000
FEED = "window = 8192\ngap_timeout_ms = 60000"
SPREAD = f"{ROOT}/apps/spread.py:Spread"
SLOW = """
import time
from pydpdk.stage.stage import Stage

class Slow(Stage):
    def on_batch(self, events, orders):
        time.sleep(len(events) * 100e-6)
"""


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> list[Feed]:
    """Two sessions, one after the other."""
    paths = [tmp_path_factory.mktemp("readers") / f"{n}.pcap" for n in range(2)]
    for n, path in enumerate(paths):
        generate(path, messages=[100_000, 20_000][n], instruments=20, seed=5 + n,
                 sessions=((b"SYNTH0000%d" % n, 1),))  # fmt: skip
    return [Feed.capture(path) for path in paths]


def fed(run: LiveRun, wire: Any, day: Feed) -> int:
    """Send a session and wait until the engine had all of it."""
    before = seen(run.status())
    ledger = send(wire, plan(day, pps=PPS))
    run.until(lambda status: seen(status) >= before + ledger.sent, "all frames there")
    return ledger.sent


def pids(run: LiveRun) -> list[int]:
    """Of the stages, once all is there."""
    run.ready()
    status = run.until(lambda status: all(status["stages"]), "stages there")
    return [told["pid"] for told in status["stages"]]


def seen(status: dict[str, Any]) -> int:
    """Frames that were received or missed."""
    (loop,) = status["engine"]["loops"]
    missed: int = loop["ports"][0]["stats"]["missed"]
    return missed + int(loop["counters"].get("frames_received", 0))


@contextmanager
def stopped(pid: int, seconds: float) -> Iterator[None]:
    """The process stands still meanwhile, and for so long at least."""
    os.kill(pid, signal.SIGSTOP)
    until = time.monotonic() + seconds
    try:
        yield
        time.sleep(max(0.0, until - time.monotonic()))
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("policy", ["skip", "block"])
def test_a_stopped_reader_never_stops_the_engine_and_knows_its_loss(
    policy: str, days: list[Feed], tmp_path: Path, pydpdk_wire,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """HOSTILE fault 1: SIGSTOP for longer than the ring lasts, beside a reader that goes on."""
    told = Told(tmp_path, monkeypatch)
    stages = stage(WITNESS, f'policy = "{policy}"') + stage(SPREAD)
    spec = config(tmp_path / "live.toml", f"tpacket:{pydpdk_wire.b.name}",
                  top="ring_slots = 65536", feed=FEED, rest=stages)  # fmt: skip
    with LiveRun(spec, namespace=pydpdk_wire.b.namespace) as run:
        pid, _ = pids(run)
        with Reader(rundir.ring_name(run.name, 0), policy="skip", from_start=True) as idle:
            with stopped(pid, 1.0):
                sent = fed(run, pydpdk_wire, days[0])
            run.until(lambda s: lag(s, pid) == 0, "caught up")
            sent += fed(run, pydpdk_wire, days[1])
            record = run.stop()
            stamps = drained(idle)
            overwritten = idle.lost
    assert run.process.returncode == 0, run.log
    assert record["unexplained"] == 0
    (loop,), (torn, other) = record["engine"]["loops"], record["stages"]
    counters, ring = loop["counters"], loop["ring"]
    hashes = [
        live_oracle.books_without(day, [], tmp_path / f"{n}.pcap") for n, day in enumerate(days)
    ]
    # The engine had every frame, in time.
    assert counters["frames_received"] == counters["frames_parsed"] == sent
    assert loop["ports"][0]["stats"]["missed"] == 0
    assert [s["delivered"] for s in loop["sequence"]] == [100_000, 20_000]
    assert [s["books"]["hash"] for s in loop["sequence"]] == hashes
    # Each reader's loss is exact, by its own count and by the records that an idle one finds.
    for reader in (torn, other):
        assert reader["first"] + reader["read"] + reader["lost"] == ring["written"]
    told_lost = {reader["pid"]: reader["lost"] for reader in ring["readers"]}
    assert (told_lost[torn["pid"]], told_lost[other["pid"]]) == (torn["lost"], other["lost"])
    assert overwritten + len(stamps) == ring["written"]
    assert stamps.tolist() == list(range(overwritten + 1, ring["written"] + 1))
    if policy == "skip":
        assert counters.get("events_lost", 0) == ring["lost"] == 0
        assert torn["lost"] == told.lost > 20_000  # its strategy heard of each of them
        assert other["lost"] == 0
    else:
        assert torn["lost"] == 0
        assert counters["events_lost"] == ring["lost"] == told.lost > 20_000
    # The books of the session that was torn are not trusted, those of the next one are right.
    assert torn["mirror"][0]["breaks"] > 0
    assert torn["mirror"][0]["refused"] == other["mirror"][0]["refused"] == 0
    assert torn["books"] == other["books"] == [hashes[1]]
    assert leftovers(run.name) == []


def lag(status: dict[str, Any], pid: int) -> int:
    """Of a reader, as the engine tells it."""
    (loop,) = status["engine"]["loops"]
    return next(reader["lag"] for reader in loop["ring"]["readers"] if reader["pid"] == pid)


def drained(reader: Reader) -> Any:
    """Stamps (position + 1) of the records that are left for a reader."""
    parts = [reader.copy()["stamp"]]
    while len(parts[-1]):
        parts.append(reader.copy()["stamp"])
    return np.concatenate(parts)


def test_a_slow_consumer_is_seen_and_harms_no_other(
    days: list[Feed], tmp_path: Path, pydpdk_wire
) -> None:
    """HOSTILE fault 2: its lag is in the status, and it is alone in lagging."""
    (tmp_path / "slow.py").write_text(SLOW)
    spec = config(tmp_path / "live.toml", f"tpacket:{pydpdk_wire.b.name}", feed=FEED,
                  rest=stage(tmp_path / "slow.py:Slow") + stage(SPREAD))  # fmt: skip
    with LiveRun(spec, namespace=pydpdk_wire.b.namespace) as run:
        slow, fast = pids(run)
        fed(run, pydpdk_wire, days[1])
        told = run.until(lambda s: lag(s, fast) == 0, "the fast one has all")
        assert lag(told, slow) > 5_000
        run.until(lambda s: s["stages"][0]["lag"] > 1_000, "told by the slow one too", 3)
        run.until(lambda s: lag(s, slow) == 0, "the slow one has all")
        record = run.stop()
    assert record["unexplained"] == 0
    written = record["engine"]["loops"][0]["ring"]["written"]
    for trader in record["stages"]:
        assert (trader["first"] + trader["read"], trader["lost"]) == (written, 0)
    slow_wait, fast_wait = (s["latency_ns"]["wire_to_stage"]["p50"] for s in record["stages"])
    assert slow_wait > 3 * fast_wait
    assert record["engine"]["loops"][0]["counters"].get("events_lost", 0) == 0
    clean = live_oracle.books_without(days[1], [], tmp_path / "a.pcap")
    assert [trader["books"] for trader in record["stages"]] == [[clean]] * 2


def test_a_block_reader_gives_room_back_with_each_batch() -> None:
    """Not when all that waited is done: the writer would lose records meanwhile."""
    events = np.zeros(30, EVENT)
    events["kind"][9::10] = lib.EVENT_MARK
    with Ring(64) as ring, Reader(fd=ring.fd, policy="block") as reader:
        ring.put(events)
        batches = Batches(reader, 1)
        lags = [(len(batch), reader.lag) for batch, _ in batches.poll()]
        assert lags == [(9, 30), (9, 20), (9, 10)]
        assert (batches.read, reader.lag) == (30, 0)


HOLD = """
from dataclasses import replace
from pydpdk.source import source as module
from pydpdk.engine.engine import Engine, Live
from pydpdk.engine.feed import Feed as Spec
from pydpdk.core.utc import Utc
from testbed.feeder import Feeder
from testbed.plan import Feed, plan
from tests.live_run import LINES
from tests.pipeline import SMALL

SENDS = ("frame", "time_ns", "copied", "held")
if sys.argv[1].startswith("af_packet"):
    module.POOL_BYTES = 1 << 20

def steps(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if engine.step() > 0:
            until = time.monotonic() + seconds

def send(first, end):
    for at in range(first, end, 200):
        part = slice(at, min(at + 200, end))
        feeder.send(replace(work, **{n: getattr(work, n)[part] for n in SENDS}), paced=False)
        steps(0.01)
    steps(0.3)

def look(name):
    counters = {key: value for key, value in engine.counters().items() if value}
    said[name] = counters | vars(source.stats()) | {"in_use": source.mbufs()}

work = plan(Feed.capture(sys.argv[2]))
third = len(work) // 3
spec = Spec.parse("itch50@" + ",".join(LINES), window=1 << 20, gap_timeout_us=60_000_000, **SMALL)
said = {}
with Utc() as clock, Feeder("a0") as feeder:
    source = open_source(sys.argv[1], rx_ring_mb=1, clock=clock)
    with Engine([source], [spec], live=Live(clock=clock, by_stamp=True), lockstep=False) as engine:
        send(0, third)
        look("before")
        said["held"] = lib.port_hold(source.pointer, 100_000)
        send(third, 2 * third)
        look("during")
        lib.port_hold(source.pointer, 0)
        steps(0.3)
        look("after")
        send(2 * third, len(work))
        engine.stop()
        engine.step()
        look("end")
        (said["session"],) = engine.feeds[0].sessions()
say(said)
"""
ROOM = {"af_packet": 512, "af_xdp": 1024}  # frames that wait in the socket's ring


@pytest.mark.skipif(not eal.version(), reason="needs a build with DPDK")
@pytest.mark.parametrize("kind", ["af_packet", "af_xdp"])
def test_receiving_resumes_after_mbufs_ran_out(kind: str, tmp_path: Path) -> None:
    """HOSTILE fault 3: what was lost is missed by the socket, and is the session's gap."""
    path = tmp_path / "day.pcap"
    generate(path, messages=60_000, instruments=20, seed=5)
    said = run_child(HOLD, f"{kind}:b0", path, namespace=True)
    before, during, after, end = (said[name] for name in ("before", "during", "after", "end"))
    work = plan(Feed.capture(path))
    third = len(work) // 3
    assert (before["frames_received"], before["missed"], before["starved"]) == (third, 0, 0)
    # Nothing is received without an mbuf, and it is counted that there is none.
    assert said["held"] > 500
    assert during["frames_received"] == third
    assert during["starved"] > 0
    assert during["missed"] == third - ROOM[kind]
    assert during["in_use"] == before["in_use"] + said["held"]
    # The frames that waited come first, then all the others: nothing is lost after the release.
    assert after["frames_received"] == third + ROOM[kind]
    assert end["missed"] == during["missed"]
    assert end["frames_received"] + end["missed"] == len(work)
    assert end["frames_received"] == end["frames_parsed"]
    assert end["in_use"] == before["in_use"]
    rows = work.feed.rows[np.r_[work.frame[: third + ROOM[kind]], work.frame[2 * third :]]]
    lost = live_oracle.never_received(rows, 60_000)
    assert said["session"]["lost"] == end["messages_lost"] == live_oracle.count(lost) > 10_000
    assert said["session"]["declared"] == len(lost) == 1
    assert (
        said["session"]["delivered"] == end["messages_decoded"] == 60_000 - live_oracle.count(lost)
    )
