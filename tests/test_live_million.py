"""Two faulty lines over a veth into `pydpdk run`: every loss is healed, or flagged and explained.

What was sent is the feeder's ledger, what reached the engine is its flight recorder's dump, and
what the books must be is the replay of one clean line without the packets that both lines lost.
Time-outs are so long that only the window decides, whatever else this host does.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pydpdk.synth.gen import generate
from testbed.feeder import Ledger
from testbed.plan import Faults, Feed, plan
from tests import live_oracle
from tests.live_oracle import WITNESS, Told, count, frames_of, healing, lost_on_both, send
from tests.live_run import LiveRun, config, leftovers, stage

pytestmark = pytest.mark.live

DEVICES = ["af_packet", "tpacket", "af_xdp"]
RUNS = pytest.mark.parametrize(
    ("kind", "day"),
    [*(pytest.param(kind, 100_000, id=f"100k-{kind}") for kind in DEVICES),
     pytest.param("tpacket", 1_000_000, id="million-tpacket", marks=pytest.mark.slow)],
    indirect=["day"],
)  # fmt: skip
PPS = 50_000
FAULTS = [
    Faults(loss=0.02, duplicate=0.02, reorder=0.02),
    Faults(loss=0.02, duplicate=0.02, reorder=0.02, late_us=1000),
]
FEED = "window = {}\ngap_timeout_ms = 60000"


@pytest.fixture(scope="module")
def day(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Feed:
    """A session without a fault, on both lines."""
    path = tmp_path_factory.mktemp("million") / "day.pcap"
    generate(path, messages=request.param, instruments=50, seed=3)
    feed = Feed.capture(path)
    assert int(feed.rows["sequence"].max()) == request.param + 1
    return feed


@pytest.fixture(scope="module")
def clean_hash(day: Feed, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of the books when nothing is lost."""
    return live_oracle.books_without(day, [], tmp_path_factory.mktemp("clean") / "a.pcap")


class Ran:
    """A run that ended, and what it said."""

    def __init__(self, run: LiveRun, record: dict[str, Any], ledger: Ledger) -> None:
        assert run.process.returncode == 0, run.log
        assert leftovers(run.name) == []
        assert record["unexplained"] == 0
        assert record["deaths"] == []
        self.ledger, self.record = ledger, record
        (self.loop,), (self.stage,) = record["engine"]["loops"], record["stages"]
        (self.port,), (self.session,) = self.loop["ports"], self.loop["sequence"]
        self.counters = self.loop["counters"]
        self.missed = self.port["stats"]["missed"]
        self.lost = self.session["lost"]
        assert self.stage["read"] + self.stage["lost"] == self.loop["ring"]["written"]

    def explains_every_frame(self) -> None:
        """By the socket's own count."""
        assert self.counters["frames_received"] + self.missed == self.ledger.sent
        assert self.counters["frames_received"] == sum(
            line["packets"] for line in self.loop["lines"]
        ) + self.counters.get("drop_untrusted_jump", 0)


def until_all(run: LiveRun, ledger: Ledger) -> None:
    """Each frame was received, or counted as missed by the socket."""

    def seen(status: dict[str, Any]) -> bool:
        (loop,) = status["engine"]["loops"]
        (port,) = loop["ports"]
        return loop["counters"].get("frames_received", 0) + port["stats"]["missed"] >= ledger.sent

    run.until(seen, "all frames there")


def paced(kind: str, day: Feed, wire: Any, tmp_path: Path, *, heals: bool) -> Ran:
    spec = config(tmp_path / "live.toml", f"{kind}:{wire.b.name}", feed=FEED.format(8192),
                  source="flight_mb = 0", rest=stage(WITNESS))  # fmt: skip
    work = plan(day, FAULTS, seed=0, pps=PPS)
    assert work.feed.rows["sequence"][work.frame[0]] == 1, "choose another seed"
    with LiveRun(spec, namespace=wire.b.namespace) as run:
        run.ready()
        with run.room() as room:
            ledger = send(wire, healing(work) if heals else work, room=room)
        until_all(run, ledger)
        return Ran(run, run.stop(), ledger)


@pytest.mark.parametrize("heals", [True, False], ids=["heals", "gaps"])
@RUNS
def test_lines_heal_each_other_and_what_they_cannot_heal_is_flagged(
    kind: str, heals: bool, day: Feed, clean_hash: str, tmp_path: Path, pydpdk_wire,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    told = Told(tmp_path, monkeypatch)
    ran = paced(kind, day, pydpdk_wire, tmp_path, heals=heals)
    ran.explains_every_frame()
    assert ran.missed == 0
    both = lost_on_both(ran.ledger)
    assert bool(both) != heals
    for sent, line in zip(ran.ledger.lines, ran.loop["lines"], strict=True):
        assert min(len(sent.dropped), sent.duplicated, sent.reordered) > 50, sent
        assert line["packets"] == sent.line.packets + sent.line.control
        assert line["losses"] >= count(sent.dropped)  # what came late was skipped too
    assert told.gaps == both
    assert ran.lost == count(both)
    assert (
        ran.session["delivered"] + ran.lost
        == ran.session["last"]
        == ran.ledger.lines[0].line.next - 1
    )
    assert ran.session["late"] == 0
    assert ran.session["gaps"] == ran.session["recovered"] + ran.session["declared"]
    assert ran.session["recovered"] > 50
    want = clean_hash if heals else live_oracle.books_without(day, both, tmp_path / "without.pcap")
    assert ran.loop["books"]["hash"] == want
    assert ran.stage["books"] == [want]
    assert ran.loop["books"]["suspect"] is (not heals)
    assert (want == clean_hash) is heals, "what was lost moved the books"


def overrun(
    kind: str, day: Feed, wire: Any, tmp_path: Path, pps: float | None, stop_s: float = 0.0
) -> tuple[Ran, Path]:
    """A run whose socket has room for 4,096 frames, perhaps with its engine stopped for a while."""
    spec = config(tmp_path / "live.toml", f"{kind}:{wire.b.name}", feed=FEED.format(1 << 20),
                  source="rx_ring_mb = 8\nflight_mb = 256", rest=stage(WITNESS))  # fmt: skip
    work = plan(day, FAULTS, seed=1, pps=pps)
    with LiveRun(spec, "--flights", str(tmp_path), namespace=wire.b.namespace) as run:
        pid = run.ready()["engine"]["pid"]
        timer = threading.Timer(0.3, stopped, (pid, stop_s))
        if stop_s:
            timer.start()
        ledger = send(wire, work, paced=pps is not None)
        if stop_s:
            timer.join()
        until_all(run, ledger)
        run.process.send_signal(signal.SIGUSR1)
        run.until(lambda _: "-demand.pcapng" in run.log, "dumped")
        record = run.stop()
    if kind == "tpacket":
        assert record["engine"]["ways"][0]["rx_descriptors"] == 4096
    (dump,) = (name for name in record["dumps"] if name.endswith("-demand.pcapng"))
    return Ran(run, record, ledger), Path(dump)


def stopped(pid: int, seconds: float) -> None:
    os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(pid, signal.SIGCONT)


def explained(ran: Ran, dump: Path, told: Told) -> None:
    """Every sequence that no received frame had was declared lost, and no other."""
    frames = frames_of(dump)
    assert len(frames) == ran.counters["frames_received"]
    ran.explains_every_frame()
    absent = live_oracle.never_received(frames.rows, ran.session["last"])
    assert told.gaps == absent
    assert ran.lost == count(absent)
    assert ran.session["delivered"] + ran.lost == ran.session["last"]
    assert ran.session["late"] == 0


@RUNS
def test_as_fast_as_it_goes_whatever_the_socket_lost_is_explained(
    kind: str, day: Feed, tmp_path: Path, pydpdk_wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(tmp_path, monkeypatch)
    ran, dump = overrun(kind, day, pydpdk_wire, tmp_path, None)
    explained(ran, dump, told)


@pytest.mark.parametrize("kind", DEVICES)
def test_an_engine_that_stood_still_for_a_second_knows_what_it_lost(
    kind: str, tmp_path: Path, pydpdk_wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "day.pcap"
    generate(path, messages=150_000, instruments=20, seed=4)
    told = Told(tmp_path, monkeypatch)
    ran, dump = overrun(kind, Feed.capture(path), pydpdk_wire, tmp_path, 15_000, stop_s=1.0)
    assert ran.missed > 5_000
    assert ran.lost > 10_000
    assert ran.loop["stall_max_ns"] > 900_000_000
    assert not ran.loop["reliable"]
    explained(ran, dump, told)
