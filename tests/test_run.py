"""`pydpdk run` on real sockets: frames cross a veth into the engine, records reach the stage."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pydpdk.synth.gen import generate
from testbed.plan import Feed, plan
from tests.command import ROOT
from tests.live_oracle import send
from tests.live_run import LiveRun, config, leftovers, stage

APPS = {
    "spread.py:Spread": "size = 50",
    "momentum.py:Momentum": "",
    "market_maker.py:MarketMaker": "instrument = 3, size = 30",
}
DEVICES = ["af_packet", "tpacket", "af_xdp"]


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "day.pcap"
    generate(path, messages=30_000, instruments=20, seed=11)
    return path


def stages(policy: str) -> str:
    """The strategies of the spine, each in a process of its own."""
    return "\n".join(
        stage(f"{ROOT}/apps/{name}", f'policy = "{policy}"\nparams = {{ {params} }}')
        for name, params in APPS.items()
    )


def replayed(path: Path, tmp_path: Path, name: str) -> dict:
    """The record of the same configuration over a capture."""
    spec = config(tmp_path / f"{name}.toml", f"pcap:{path}", name=f"{name}-{os.getpid()}",
                  rest=stages("block"))  # fmt: skip
    with LiveRun(spec) as run:
        return run.end()


@pytest.mark.live
@pytest.mark.parametrize("kind", DEVICES)
def test_a_live_run_gives_the_books_and_orders_of_its_recording(
    kind: str, day: Path, tmp_path: Path, pydpdk_wire
) -> None:
    """One string changes: the interface, then the flight recorder's dump of it."""
    wire = pydpdk_wire
    spec = config(tmp_path / "live.toml", f"{kind}:{wire.b.name}", source="flight_mb = 64",
                  rest=stages("skip"))  # fmt: skip
    with LiveRun(spec, "--flights", str(tmp_path), namespace=wire.b.namespace) as run:
        run.ready()
        with run.room() as room:
            ledger = send(wire, plan(Feed.capture(day), pps=20_000), room=room)
        run.until(lambda s: run.counter("frames_parsed") >= ledger.sent, "all frames there")
        run.process.send_signal(signal.SIGUSR1)
        run.until(lambda _: "flight recorder:" in run.log, "dumped")
        record = run.stop()
    assert run.process.returncode == 0, run.log
    assert record["unexplained"] == 0
    loop, traders = record["engine"]["loops"][0], record["stages"]
    assert loop["sequence"][0]["lost"] == 0
    assert len(traders) == len(APPS)
    for trader in traders:
        assert trader["lost"] == 0
        assert trader["orders"]["sent"] > 20, trader["strategy"]
        assert trader["books"] == [loop["books"]["hash"]]
    (dump,) = record["dumps"]
    again = replayed(Path(dump), tmp_path, "again")
    assert again["unexplained"] == 0
    assert again["engine"]["loops"][0]["books"] == loop["books"]
    for trader, second in zip(traders, again["stages"], strict=True):
        assert second["orders"] == trader["orders"], trader["strategy"]
        refused = {"wire_to_stage", "tick_to_trade"}
        assert second["latency_refused"].keys() == refused
        assert refused == trader["latency_ns"].keys() - second["latency_ns"].keys()
    assert leftovers(run.name) == []


def test_the_example_is_right(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pydpdk", "run"]
    text = subprocess.run([*command, "--example"], check=True, capture_output=True).stdout
    assert b"[[feeds]]" in text


def test_a_wrong_configuration_starts_nothing(tmp_path: Path) -> None:
    spec = config(tmp_path / "bad.toml", "af_packet:lo", top="on_falback = 1")
    done = subprocess.run(
        [sys.executable, "-m", "pydpdk", "run", str(spec)], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert f"{spec}, line 2" in done.stderr
    assert "on_fallback" in done.stderr
    assert done.stdout == ""
    assert leftovers(f"t{os.getpid()}") == []
