"""Bursts, soaks and rings with several readers: what they count, never how fast it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydpdk.bench import burst, data, soak
from pydpdk.bench.cases import load, readers, trade
from pydpdk.bench.cases.load import Trial
from pydpdk.bench.wires import schedule
from pydpdk.bench.wires.search import Search
from pydpdk.core.hist import Hist
from pydpdk.errors import HostError
from pydpdk.source import eal
from testbed.net import missing

needs_two_cores = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="needs two cores, one for whoever sends"
)
needs_wires = pytest.mark.skipif(bool(missing()), reason="needs namespaces")
KIND = "memif" if eal.version() else "tpacket"


@pytest.fixture
def market() -> data.Market:
    cores = sorted(os.sched_getaffinity(0))
    return data.Market(data.QUICK, Path("none"), Path("none"), cores)


class Device:
    """A line that buffers so many frames and loses what comes beyond."""

    def __init__(self, room: int) -> None:
        self.room = room

    def trial(self, rate: int, frames: int) -> Trial:
        lost = max(0, frames - self.room)
        return Trial(rate, frames, frames, frames - lost, lost, 0, 0, 0, 1_000 * frames,
                     Hist(), Hist(), [])  # fmt: skip


@given(room=st.integers(32, 1 << 17))
def test_the_longest_burst_is_what_the_device_buffers(room: int) -> None:
    found: dict[str, Any] = {}
    device: Any = Device(room)
    series = burst._series("device", "", device, Search(32, 1 << 18), found)
    longest = series.run()
    assert room * 0.94 - 1 <= longest <= room
    assert found["device"] == {"line_rate_us": longest, "limited_by": "loss"}


def test_a_device_that_loses_all_is_named() -> None:
    device: Any = Device(0)
    series = burst._series("device", "", device, Search(32, 64), {})
    with pytest.raises(HostError, match=r"device: not even 1 frames .* \(loss\)"):
        series.run()


@needs_two_cores
@needs_wires
def test_slices_of_a_soak_add_up(market: data.Market) -> None:
    with soak.soak(market, KIND, seconds=0.5, rate=1_000) as case:
        case.measure(1)
    (row,) = case.result()["series"]
    slices = case.facts["slices_of_the_last_round"]
    assert len(slices) >= soak.SLICES
    received, lost = (sum(part[i] for part in slices) for i in (1, 2))
    assert (received, lost, case.facts["lost"]) == (500, 0, 0)
    for name in (schedule.SERVICE, schedule.RESPONSE):
        assert row["percentiles"][name]["count"] == 500
    assert max(part[5] for part in slices) == row["percentiles"][schedule.RESPONSE]["max"]


@needs_two_cores
@needs_wires
@pytest.mark.slow
def test_a_long_soak_tells_a_line_of_json_a_slice() -> None:
    command = [sys.executable, "-m", "pydpdk.bench.soak", KIND, "0.5", "1000"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    *slices, facts = map(json.loads, told.splitlines())
    assert sum(part["received"] for part in slices) == 500
    assert facts["rate"] == 1_000


@needs_two_cores
def test_every_reader_sees_every_record_or_is_missing_by_name(
    market: data.Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "RECORDS", 500)
    with readers.readers(market) as case:
        case.measure(2)
    result = case.result()
    free = min(len(market.cores) - 1, readers.READERS_MAX)
    assert len(result["series"]) == 2 * free
    assert len(result["missing"]) == 2 * (readers.READERS_MAX - free)
    for row in result["series"]:
        assert row["percentiles"][readers.WAY]["count"] == 2 * 500 * int(row["name"][0])
    for why in result["missing"].values():
        assert f"has {len(market.cores)}" in why


@needs_two_cores
@needs_wires
def test_nothing_is_left_behind(market: data.Market) -> None:
    before = left()
    with burst.burst(market, KIND) as case:
        assert case.series[1].run() > 0
        assert left() != before  # it would be seen
    with trade.trade(market, KIND):
        pass
    with pytest.raises(ZeroDivisionError), load.load(market, KIND):
        raise ZeroDivisionError  # an end that nobody planned
    assert left() == before


def left() -> set[str]:
    """Processes below this one, and the namespaces and shared memory that it holds.

    Of /dev/shm only what is open here: other tests make files there meanwhile.
    """
    return set(children(os.getpid())) | set(namespaces()) | set(shared())


def shared() -> Iterator[str]:
    for fd in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            target = os.readlink(fd)
            if target.startswith(("/memfd:", "/dev/shm/")):
                yield f"{fd.name} {target}"


def children(parent: int) -> Iterator[str]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(stat.read_text().rsplit(")")[1].split()[1]) == parent:
                yield f"process {stat.parent.name}"


def namespaces() -> Iterator[str]:
    for fd in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            target = os.readlink(fd)
            if target.startswith(("net:", "/memfd")):
                yield target


def test_one_core_is_a_named_skip(market: data.Market) -> None:
    alone = data.Market(market.size, market.both, market.alone, market.cores[-1:])
    cases = burst.cases() | soak.cases() | {"readers": readers.readers}
    for name, case in cases.items():
        with pytest.raises(HostError, match=r"two cores|without DPDK"), case(alone):
            pytest.fail(name)
