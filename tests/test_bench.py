"""pydpdk bench: what its result promises. Nothing here looks at how long anything took."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from click.testing import CliRunner

from pydpdk.bench import data, host, meters, peers, run
from pydpdk.bench.cases import echo, floors, readers, rings
from pydpdk.bench.measure import Case, Series, timed
from pydpdk.cli import cli
from pydpdk.errors import DataError, HostError, UsageError
from pydpdk.host.info import Host
from tests.bench_results import check
from tests.command import ROOT

pytestmark = pytest.mark.slow

ROUNDS = 2
# Those over a wire: tests/test_bench_live.py, _load.py and _trade.py.
SHORT = [name for name in run.CASES if "-" not in name]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def result(folder: Path) -> dict[str, Any]:
    arguments = ["--quick", "--rounds", str(ROUNDS), "--dir", str(folder), "--json"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(floors, "memory_size", lambda: 1 << 20)
        patch.setattr(readers, "RECORDS", 500)
        patch.setattr(meters, "STALL_S", 0.02)
        ran = CliRunner().invoke(cli, ["bench", "run", *SHORT, *arguments], catch_exceptions=False)
    assert ran.exit_code == 0
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


@pytest.fixture(scope="module")
def market(result: dict[str, Any], folder: Path) -> data.Market:
    both, alone = data.session_files(folder, data.QUICK, lambda done: pytest.fail("made again"))
    return data.Market(data.QUICK, both, alone, sorted(os.sched_getaffinity(0)))


def test_every_case_is_there_with_its_floor(result: dict[str, Any]) -> None:
    assert [case["name"] for case in result["cases"]] == SHORT
    for case in result["cases"]:
        if "skipped" in case:
            continue
        roles = {row["role"] for row in case["series"]}
        assert "ours" in roles or (case["name"], roles) == ("floors", {"floor"})
        assert roles & {"floor", "peer"} or case["name"] == "path"


def test_every_series_has_sane_figures(result: dict[str, Any]) -> None:
    for case in result["cases"]:
        names = [row["name"] for row in case["series"]]
        assert len(names) == len(set(names))
        for row in case["series"]:
            assert row["rounds"] == len(row["figures"]) == ROUNDS
            assert row["median"] == median(row["figures"])
            assert row["min"] <= row["median"] <= row["max"]
            if "ratio" in row:
                assert row["against"] in names
                assert isinstance(row["ratio"], float)  # of a difference: below 0 on a busy host


def test_result_has_the_shape_of_a_report(result: dict[str, Any]) -> None:
    check(result)
    broken = result | {"cases": [result["cases"][1] | {"series": [{"name": "no figures"}]}]}
    for none in (broken, result | {"schema": "pydpdk.bench/2"}):
        with pytest.raises(DataError):
            check(none)


def test_what_the_host_did_meanwhile_is_told(result: dict[str, Any]) -> None:
    used = set(map(str, meters.used(result["host"]["usable"])))
    for case in result["cases"]:
        if "skipped" not in case:
            assert case["meanwhile"].keys() >= {"seconds", "others_ms", "preempted"}
            assert case["meanwhile"]["cores"].keys() == used
    for when in ("before", "after"):
        assert {str(stall["core"]) for stall in result["stalls"][when]} == used


def test_meter_counts_what_came_between(tmp_path: Path) -> None:
    def put(steal: int, user: int, interrupts: int) -> None:
        (tmp_path / "proc").mkdir(exist_ok=True)
        (tmp_path / "proc" / "stat").write_text(
            f"cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 {user} 0 5 900 0 1 2 {steal} 0 0\nctxt 1\n"
        )
        (tmp_path / "proc" / "interrupts").write_text(
            f"       CPU0 CPU1\n  0:  {interrupts}  7  IO-APIC timer\nLOC:  5  6  local\nERR:  0\n"
        )

    put(3, 10, 100)
    meter = meters.Meter([0, 5], Host(tmp_path))
    put(8, 60, 142)
    told = meter.stop(own_s=0.2, preempted=4)
    tick_ms = 1000 / os.sysconf("SC_CLK_TCK")
    assert told["cores"] == {"0": {"steal_ms": 5 * tick_ms, "interrupt_ms": 0, "interrupts": 42}}
    assert told["others_ms"] == 50 * tick_ms - 200
    assert told["preempted"] == 4


def test_whole_rounds_stay_when_it_is_interrupted() -> None:
    left = iter(range(5))

    def tick() -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    case = Case("c", "thing", [Series(name, "ours", lambda: 1.0) for name in "ab"])
    with pytest.raises(KeyboardInterrupt):
        case.measure(9, tick)
    assert [series.rounds for series in case.series] == [[1.0, 1.0], [1.0, 1.0]]


def test_the_host_is_told(result: dict[str, Any]) -> None:
    assert {
        "cpu", "cores", "core", "kernel", "governor", "turbo", "thp", "isolated", "dpdk",
        "compiler", "flags", "python", "numpy", "load", "load_after", "commit", "microcode",
        "command_line", "cstates", "hugepages", "clocksource", "tsc", "nics",
    } <= result["host"].keys()  # fmt: skip
    assert "-march=" in result["host"]["flags"]
    assert result["host"]["compiler"].startswith(("gcc ", "clang "))
    assert result["host"]["python"] == ".".join(map(str, sys.version_info[:3]))


def test_the_path_carries_every_message(result: dict[str, Any], market: data.Market) -> None:
    facts = next(case["facts"] for case in result["cases"] if case["name"] == "path")
    trading = data.QUICK.messages - market.opening
    assert 0.9 * trading < facts["messages"] <= trading
    assert facts["records"] > data.QUICK.messages
    arbiter = next(case["facts"] for case in result["cases"] if case["name"] == "arbiter")
    assert arbiter["messages"] == arbiter["copies"] == data.QUICK.messages


def test_memory_is_what_the_structs_say(result: dict[str, Any]) -> None:
    case = next(case for case in result["cases"] if case["name"] == "memory")
    ours, order = (row["median"] for row in case["series"])
    assert order == 32
    assert order < ours < 64


def test_session_is_whole_in_memory(market: data.Market) -> None:
    assert len(market.messages) == data.QUICK.messages
    assert market.messages["sequence"].tolist() == list(range(1, data.QUICK.messages + 1))
    opening = market.letters[: market.opening]
    assert set(opening.tobytes()) & set(b"EXUPQ") == set()  # D: books above their share
    assert (opening == ord("A")).sum() > 0.9 * data.QUICK.live_orders


def test_affinity_is_given_back(result: dict[str, Any], market: data.Market) -> None:
    assert sorted(os.sched_getaffinity(0)) == market.cores
    assert result["host"]["core"] == market.cores[-1]


def test_ratios_are_of_pairs() -> None:
    floor = Series("floor", "floor", iter([9.0, 1.0, 10.0, 2.0]).__next__)
    ours = Series("ours", "ours", iter([9.0, 3.0, 10.0, 8.0]).__next__, "floor")
    case = Case("c", "thing", [floor, ours])
    case.measure(3)
    row = case.result()["series"][1]
    assert (row["min"], row["median"], row["max"], row["rounds"]) == (3.0, 8.0, 10.0, 3)
    assert row["ratio"] == median([3.0, 1.0, 4.0])
    assert case.result()["unit"] == "ns/thing"


def test_series_take_turns() -> None:
    order: list[str] = []

    def runs(name: str) -> Series:
        return Series(name, "ours", lambda: order.append(name) or 1.0)  # type: ignore[func-returns-value]

    Case("c", "thing", [runs("a"), runs("b")]).measure(2)
    assert order == ["a", "b"] * 3


def test_a_loop_that_did_nothing_is_no_figure() -> None:
    with pytest.raises(RuntimeError, match="nothing"):
        timed(lambda: 0)


def test_a_case_the_host_cannot_run_is_named(
    monkeypatch: pytest.MonkeyPatch, folder: Path, result: dict[str, Any]
) -> None:
    @contextmanager
    def impossible(market: data.Market) -> Iterator[Case]:
        raise HostError("two cores needed")
        yield

    monkeypatch.setitem(run.CASES, "hop", impossible)
    found = run.run(["hop"], size=data.QUICK, rounds=1, folder=folder)
    assert found["cases"] == [
        {
            "name": "hop",
            "skipped": "two cores needed",
            "series": [],
            "facts": {},
            "missing": {},
            "warnings": [],
        }
    ]


def test_hop_needs_two_cores(market: data.Market) -> None:
    alone = data.Market(market.size, market.both, market.alone, market.cores[-1:])
    with pytest.raises(HostError, match="two cores"), rings.hop(alone):
        pass


def test_partner_leaves_when_its_parent_does(market: data.Market) -> None:
    if len(market.cores) < 2:
        pytest.skip("one core")
    with rings.hop(market) as case:
        partner = case.series[0].run.__self__  # type: ignore[attr-defined]
        assert partner.words[echo.STATE] == echo.IDLE
    assert partner.child.returncode == 0


def test_warnings_name_load_and_virtual_machines() -> None:
    told = host.describe() | {"load": 0.1, "virtual": False, "turbo": "off"}
    quiet = host.warnings(told, 1.0)
    assert not [text for text in quiet if text.startswith(("load", "virtual", "turbo"))]
    busy = host.warnings(told | {"load": 3.0, "virtual": True, "turbo": "unknown"}, 1.0)
    assert len(busy) == len(quiet) + 3


def test_struct_peer_decodes_every_message(market: data.Market) -> None:
    body = market.taps[0].tobytes()
    base = market.taps[0].ctypes.data
    row = market.messages[market.opening]
    at, size = int(row["data"]) - base, int(row["len"])
    stream = (size.to_bytes(2, "big") + body[at : at + size]) * 3
    assert peers.decoders(stream)["struct (Python, no books)"]() == 3


def test_a_build_without_the_benchmarks_says_what_builds_them() -> None:
    without = "import sys; sys.modules['pydpdk.bench._bench'] = None; "
    command = [
        sys.executable,
        "-c",
        f"{without}from pydpdk.cli import main; main(['bench', 'list'])",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1
    assert "-Dbench=enabled" in done.stderr


def test_unknown_case_is_a_usage_error() -> None:
    assert CliRunner().invoke(cli, ["bench", "run", "speed"]).exit_code == 2


def test_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--dir"):
        data.session_files(tmp_path / "file" / "below", data.QUICK, lambda done: None)
