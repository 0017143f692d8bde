"""The limits of a host: each is there or missing by name, and its loop does what it says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pydpdk.bench import data, host
from pydpdk.bench.cases import floors
from pydpdk.bench.cases.books import Lines
from pydpdk.bench.loops import ffi, lib
from pydpdk.bench.wires.agents import Wires, Worker
from pydpdk.source import eal

CORES = sorted(os.sched_getaffinity(0))
EVERYWHERE = [
    "line of memory, streamed",
    "line of memory, one after another",
    "headers of a packet in cache",
    "call of C from Python (cffi)",
    "view of a batch (numpy slice)",
    "column of a batch (numpy field)",
    "read of the cycle counter",
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    size = data.Size(messages=5_000, instruments=50, live_orders=500)
    return data.session_files(tmp_path_factory.mktemp("limits"), size, lambda done: None)


def measured(files: tuple[Path, Path], cores: list[int], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(floors, "memory_size", lambda: 1 << 20)
    market = data.Market(data.Size(5_000, 50, 500), *files, cores)
    with floors.floors(market) as case:
        case.measure(1)
    return case.result()


@pytest.mark.slow
@pytest.mark.skipif(len(CORES) < 2, reason="needs two cores")
def test_every_limit_is_a_floor_or_missing_by_name(files, monkeypatch):
    result = measured(files, CORES, monkeypatch)
    assert {row["role"] for row in result["series"]} == {"floor"}
    names = [row["name"] for row in result["series"]]
    assert set(EVERYWHERE) | {"line between cores, one way"} <= set(names)
    assert ("empty rx_burst (DPDK ring port)" in names) == bool(eal.version())
    assert result["facts"]["read_GB_per_s"] == round(64 / result["series"][0]["min"], 1)


def test_without_dpdk_and_a_second_core_the_others_stay(files, monkeypatch):
    monkeypatch.setattr(eal, "version", lambda: "")
    result = measured(files, CORES[-1:], monkeypatch)
    assert [row["name"] for row in result["series"]] == EVERYWHERE
    assert "two cores" in result["missing"]["line between cores, one way"]
    assert "without DPDK" in result["missing"]["empty rx_burst (DPDK ring port)"]


def test_lines_are_one_ring_that_the_chase_follows():
    lines = Lines(64 * 1000)
    at, seen = 0, []
    for _ in range(1000):
        seen.append(at)
        at = int(lines.lines[at, 0])
    assert at == 0
    assert sorted(seen) == list(range(1000))
    start = ffi.from_buffer("uint64_t[]", lines.lines)
    assert [lib.bench_chase(start, steps) for steps in (1, 7, 999, 1000)] == [*map(
        seen.__getitem__, (1, 7, 999)), 0]  # fmt: skip


@pytest.mark.parametrize(("cache", "times"), [("32768K", 8), ("128M", 4), ("", None)])
def test_memory_is_far_larger_than_the_cache(cache, times, monkeypatch):
    monkeypatch.setattr(host, "read", lambda path: cache)
    size = floors.memory_size()
    assert size == (256 << 20 if times is None else times * int(cache[:-1])
                    * {"K": 1 << 10, "M": 1 << 20}[cache[-1]])  # fmt: skip


def test_an_idle_port_is_asked_as_often_as_told_and_a_busy_one_is_seen() -> None:
    if not eal.version():
        pytest.skip("pydpdk was built without DPDK")
    for kind, empty in (("ring", 1000), ("null", 0)):
        with Wires(kind, 1) as wires, Worker(wires, 1, CORES[-1]) as worker:
            worker.ask("open", spec=wires.receiver(0))
            assert worker.ask("idle", polls=1000)["empty"] == empty
