"""Stage times in shared memory: one counts, others read; logs of them, and the command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pydpdk.core import hlog
from pydpdk.core.hist import Hist
from pydpdk.core.hlog import HistLog, Interval
from pydpdk.engine.engine import TIMES, Engine
from pydpdk.engine.feed import Endpoint, Feed
from pydpdk.errors import DataError, UsageError
from pydpdk.process import rundir
from pydpdk.process.times import BETWEEN, MAGIC, TRADER, Times, TimesLog
from pydpdk.source.source import open_source
from pydpdk.synth.gen import CHANNELS, generate
from tests.command import ROOT, call, refused, well
from tests.live_run import LiveRun, config, leftovers, stage

SPREAD = f"{ROOT}/apps/spread.py:Spread"
MESSAGES = 20_000


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("times") / "day.pcap"
    generate(path, messages=MESSAGES, instruments=10, seed=5)
    return path


def counted(day: Path, times: Times | None = None, **options: int) -> dict[str, dict[str, int]]:
    lines = tuple(Endpoint(c.group, c.port) for c in CHANNELS.values())
    feed = Feed("itch50", lines)
    where = times.engine() if times else None
    with Engine([open_source(f"pcap:{day}")], [feed], times=where, lockstep=False, **options) as e:
        while e.step() >= 0:
            pass
        found = e.counters() | {"orders": sum(e.feeds[0].books.instruments["state"] != 0)}
        return {"counters": found, **{name: h.percentiles() for name, h in e.times().items()}}


def test_every_packet_message_and_record_is_counted_once(day: Path) -> None:
    """By steps that are looked at closely, or by those that are not: nothing is left out."""
    told, plain = counted(day, sample_every=1), counted(day, sample_every=0)
    counters = told["counters"]
    packets, records = counters["frames_received"], counters["events_written"]
    assert (
        told["receive"]["count"] == plain["receive"]["count"] == told["parse"]["count"] == packets
    )
    assert plain["arbitrate"]["count"] == plain["step"]["count"] == packets
    assert plain["decode"]["count"] == counters["messages_delivered"] == MESSAGES
    # Records of sessions and gaps are written outside the decoder.
    assert 0 <= records - told["ring"]["count"] < 10
    assert MESSAGES / 2 < told["book"]["count"] < 2 * MESSAGES  # a replace is two changes
    for name in ("arbitrate", "decode", "step", "stall"):
        assert told[name]["count"] == 0
    for name in ("parse", "book", "ring", "stall"):
        assert plain[name]["count"] == 0


def test_sampling_looks_at_some_steps(day: Path) -> None:
    every, some, none = (counted(day, sample_every=n) for n in (1, 8, 0))
    for name in ("parse", "book", "ring"):
        assert 0 < some[name]["count"] < every[name]["count"] / 2
    assert some["parse"]["count"] + some["step"]["count"] == none["step"]["count"]
    assert some["step"]["count"] == some["arbitrate"]["count"]


def test_another_process_reads_what_an_engine_counts(day: Path, tmp_path: Path) -> None:
    path = tmp_path / "loop0"
    with Times(path, TIMES) as times:
        first = counted(day, times)
        counted(day, times)  # another engine goes on in the same memory
        read = (
            "import sys, json; from pathlib import Path; from pydpdk.process.times import Times\n"
        )
        read += "print(json.dumps({n: h.percentiles() for n, h in Times.attach(Path(sys.argv[1]))"
        read += ".copy().items()}))"
        said = subprocess.run(
            [sys.executable, "-c", read, str(path)], check=True, capture_output=True, text=True
        ).stdout
        for name, points in json.loads(said).items():
            assert points["count"] == 2 * first[name]["count"]
            assert points == times.hists[name].percentiles()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not a file of stage times"),
        (b"{}".ljust(4096), "not a file of stage times"),
        (b"[1, 2]".ljust(4096), "not a file of stage times"),
        (b'{"magic": "x", "hist_bytes": 1, "names": []}'.ljust(4096), "another version"),
        (json.dumps({"magic": MAGIC, "hist_bytes": 34848, "names": ["a"]}).encode().ljust(9000),
         "another version"),
    ],
)  # fmt: skip
def test_what_is_no_file_of_times_is_refused(data: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "times"
    path.write_bytes(data)
    with pytest.raises(DataError, match=says):
        Times.attach(path)


def test_files_that_are_there_or_not_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        Times.attach(tmp_path / "none")
    with Times(tmp_path / "a", ("x",)) as times:
        with pytest.raises(UsageError, match="File exists"):
            Times(tmp_path / "a", ("x",))
        with pytest.raises(DataError, match="not the times of an engine"):
            times.engine()


def test_a_log_has_what_came_in_each_interval(tmp_path: Path) -> None:
    with Times(tmp_path / "t", ("a", "b")) as times:
        with TimesLog(tmp_path / "t.hlog", {"loop0": times}, every_s=0.0) as log:
            times.hists["a"].add(100, 3)
            log.look()
            times.hists["a"].add(9, 1)
            times.hists["b"].add(7, 2)
            log.write()
            log.write()  # nothing came
        found = hlog.read(tmp_path / "t.hlog")
    assert [(i.tag, i.hist.count) for i in found] == [
        ("loop0.a", 3), ("loop0.a", 1), ("loop0.b", 2),
    ]  # fmt: skip
    assert found[1].start_s == pytest.approx(found[0].start_s + found[0].length_s, abs=0.002)
    merged = hlog.merge(found)
    assert merged["loop0.a"].counts.tolist() == times_of({100: 3, 9: 1}).counts.tolist()


def times_of(samples: dict[int, int]) -> Hist:
    made = Hist()
    for value, times in samples.items():
        made.add(value, times)
    return made


def test_everything_that_is_counted_is_explained() -> None:
    told = well("times", "--explain", "--json").json
    assert told == BETWEEN
    assert {*TIMES, *TRADER, "read"} == BETWEEN.keys()
    assert "asking the source" in well("times", "--explain").out


def test_logs_are_merged_and_compared(tmp_path: Path) -> None:
    for name, value in (("mon", 100), ("tue", 300)):
        with HistLog(tmp_path / f"{name}.hlog") as log:
            for tag in "ab":
                log.write(Interval(tag, 1.0, 1.0, times_of({value: 10})))
    mon, tue, both = (str(tmp_path / f"{name}.hlog") for name in ("mon", "tue", "both"))
    told = well("times", mon, tue, "--out", both, "--json").json
    assert told["a"]["count"] == 20
    assert told["a"]["p50"] == pytest.approx(100, rel=0.01)
    assert {tag: hist.count for tag, hist in hlog.merge(hlog.read(both)).items()} == {
        "a": 20, "b": 20,
    }  # fmt: skip
    ratios = well("times", tue, "--against", mon, "--json").json
    assert ratios["b"]["ratio"]["p99"] == pytest.approx(3, rel=0.01)
    assert "3.0" in well("times", tue, "--against", mon).out
    for wrong in ([mon, "nasdaq"], [mon, "--watch"]):
        assert "run" in refused(2, "times", *wrong)
    assert "no run nobody" in refused(1, "times", "nobody")


def test_a_replay_writes_its_times(day: Path, tmp_path: Path) -> None:
    path = tmp_path / "replay.hlog"
    result = call("replay", day, "--feed", "itch50", "--hlog", path, "--json").json
    merged = hlog.merge(hlog.read(path))
    assert {n: h.count for n, h in merged.items()} == {
        name: points["count"] for name, points in result["latency_ns"].items()
    }


@pytest.mark.slow
def test_a_run_s_times_are_seen_while_it_runs_and_logged(
    day: Path, tmp_path: Path, pydpdk_wire, pydpdk_feeder
) -> None:
    wire, log = pydpdk_wire, tmp_path / "run.hlog"
    spec = config(tmp_path / "live.toml", f"tpacket:{wire.b.name}", rest=stage(SPREAD))
    with LiveRun(spec, "--hlog", str(log), namespace=wire.b.namespace) as run:
        run.ready()
        sent = pydpdk_feeder(day, pps=20_000).sent
        run.until(lambda s: run.counter("frames_received") >= sent, "all frames there")
        run.idle()
        seen = well("times", run.name, "--json").json
        record = run.stop()
    loop, trader = record["engine"]["loops"][0], record["stages"][0]
    assert seen["loop0.receive"]["count"] == loop["counters"]["frames_received"]
    assert seen["stage0.tick_to_trade"]["count"] == trader["latency_ns"]["tick_to_trade"]["count"]
    late, whole = seen["stage0.wire_to_stage"], seen["stage0.tick_to_trade"]
    assert whole["max"] >= whole["p50"] > late["p50"] / 2  # from the frame's stamp, not the batch's
    logged = hlog.merge(hlog.read(log))
    assert logged["loop0.receive"].count == loop["latency_ns"]["receive"]["count"]
    assert logged["stage0.stage"].count == trader["latency_ns"]["stage"]["count"]
    assert rundir.all_times(run.name) == {}
    assert leftovers(run.name) == []


@pytest.mark.live
def test_a_run_outlives_a_log_that_cannot_be_written(day: Path, tmp_path: Path) -> None:
    """/dev/full takes nothing; the record is whole all the same."""
    spec = config(tmp_path / "full.toml", f"pcap:{day}", rest=stage(SPREAD, 'policy = "block"'))
    with LiveRun(spec, "--hlog", "/dev/full") as run:
        record = run.end()
    assert run.process.returncode == 0, run.log
    assert "stage times are logged no more: " in run.log
    assert "No space left" in run.log
    assert record["unexplained"] == 0


def test_a_view_of_counts_outlives_its_histogram() -> None:
    views = [Hist.from_values([i, i, i]).counts for i in range(200)]
    others = [Hist.from_values([9] * 50) for _ in range(200)]
    assert [int(view.sum()) for view in views] == [3] * 200
    assert len(others) == 200
