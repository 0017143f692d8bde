"""pydpdk bench: what its result promises. Nothing here looks at how long anything took."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from click.testing import CliRunner

from pydpdk.bench import data, echo, host, peers, rings, run
from pydpdk.bench.measure import Case, Series, timed
from pydpdk.cli import cli
from pydpdk.errors import HostError, UsageError

ROUNDS = 2
LOADS = ("load-", "burst-", "soak-", "trade-")  # they take longest and have tests of their own
NAMES = [name for name in run.CASES if not name.startswith(LOADS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def result(folder: Path) -> dict[str, Any]:
    arguments = ["--quick", "--rounds", str(ROUNDS), "--dir", str(folder), "--json"]
    arguments += [word for name in NAMES for word in ("--only", name)]
    ran = CliRunner().invoke(cli, ["bench", *arguments], catch_exceptions=False)
    assert ran.exit_code == 0
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


@pytest.fixture(scope="module")
def market(result: dict[str, Any], folder: Path) -> data.Market:
    both, alone = data.session_files(folder, data.QUICK, lambda done: pytest.fail("made again"))
    return data.Market(data.QUICK, both, alone, sorted(os.sched_getaffinity(0)))


def test_every_case_is_there_with_its_floor(result: dict[str, Any]) -> None:
    assert [case["name"] for case in result["cases"]] == NAMES
    for case in result["cases"]:
        if "skipped" in case:
            continue
        roles = {row["role"] for row in case["series"]}
        assert "ours" in roles or (case["name"], roles) == ("limits", {"floor"})
        assert "floor" in roles or "peer" in roles or case["name"] in ("path", "receive-tpacket")


def test_every_series_has_sane_figures(result: dict[str, Any]) -> None:
    for case in result["cases"]:
        names = [row["name"] for row in case["series"]]
        assert len(names) == len(set(names))
        for row in case["series"]:
            assert row["rounds"] == ROUNDS
            assert row["min"] <= row["median"] <= row["max"]
            if "ratio" in row:
                assert row["against"] in names
                assert isinstance(row["ratio"], float)  # of a difference: below 0 on a busy host


def test_the_host_is_told(result: dict[str, Any]) -> None:
    assert {
        "cpu", "cores", "core", "kernel", "governor", "turbo", "thp", "isolated", "dpdk",
        "compiler", "flags", "python", "numpy", "load", "load_after", "commit",
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


def test_unknown_case_is_a_usage_error() -> None:
    assert CliRunner().invoke(cli, ["bench", "--only", "speed"]).exit_code == 2


def test_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--dir"):
        data.session_files(tmp_path / "file" / "below", data.QUICK, lambda done: None)
