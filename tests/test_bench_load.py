"""The load benchmarks account for every frame. Nothing here looks at how fast it was.

The one exception is made on purpose: a generator is stalled for 200 ms, and that must be found.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydpdk.bench import data
from pydpdk.bench.cases import load
from pydpdk.bench.cases.load import Line, Lines, Trial
from pydpdk.bench.wires import schedule
from pydpdk.bench.wires.reading import Tally
from pydpdk.bench.wires.search import Edge, Search
from pydpdk.core.hist import Hist
from pydpdk.errors import HostError
from pydpdk.source import eal
from testbed.net import missing

pytestmark = pytest.mark.live

needs_two_cores = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="needs two cores, one for whoever sends"
)
STALL_MS, RATE, STEP = 200, 1_000, load.MESSAGES
AT_ONCE = 1_000_000_000


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> data.Market:
    cores = sorted(os.sched_getaffinity(0))
    return data.Market(data.QUICK, Path("none"), Path("none"), cores)


@pytest.fixture(scope="module")
def lines(market: data.Market) -> Iterator[Lines]:
    if lacking := missing():
        pytest.skip(f"needs {lacking}")
    if not eal.version():
        pytest.skip("pydpdk was built without DPDK")
    with ExitStack() as stack:
        yield Lines(stack, market, "memif")


@needs_two_cores
@pytest.mark.parametrize("who", ["peer", "ours"])
def test_a_stalled_generator_shows_in_response_and_not_in_service(lines: Lines, who: str) -> None:
    line: Line = getattr(lines, who)
    trial = line.trial(RATE, 600, stall_at=100, stall_ms=STALL_MS)
    assert (trial.sent, trial.received, trial.lost) == (600, 600, 0)
    assert trial.response.max >= 150_000_000
    # 200 were due while it slept: from all of it to nothing late. The rest is the same in both.
    late_ns = trial.response.sum - trial.service.sum
    assert late_ns >= 0.9 * RATE * (STALL_MS / 1e3) ** 2 / 2 * 1e9
    told = line.way.behind.facts()
    assert told["generator_behind_ms"] >= STALL_MS - 2
    assert told["generator_behind_max_ms"] >= STALL_MS - 2
    assert told["generator_behind_times"] >= 1


@needs_two_cores
@pytest.mark.parametrize("who", ["peer", "ours"])
def test_the_account_closes_also_where_frames_are_lost(lines: Lines, who: str) -> None:
    """All at once and more than any buffer on the way holds; then a rate that nobody minds."""
    line: Line = getattr(lines, who)
    for rate, frames in ((AT_ONCE, 60_000), (1_000, 50)):
        trial = line.trial(rate, frames)
        assert trial.sent == frames
        assert trial.received + trial.lost == trial.sent
        assert trial.received == trial.response.count == trial.service.count
    assert trial.lost == 0


@needs_two_cores
def test_a_frame_that_finds_no_room_is_offered_again(lines: Lines) -> None:
    """memif has room for a thousand and loses none; what follows holds all of these."""
    trial = lines.ours.trial(AT_ONCE, 8_000)
    assert (trial.sent, trial.received, trial.lost) == (8_000, 8_000, 0)
    assert trial.service.max <= trial.response.max


@pytest.mark.skipif(bool(missing()), reason="needs namespaces")
@needs_two_cores
@pytest.mark.slow
def test_a_case_finds_a_rate(market: data.Market, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over one kind of wire: tests/test_bench_live.py has a stage over each."""
    kind = "tpacket"
    monkeypatch.setattr(load, "RATES_QUICK", Search(2_000, 4_000, 2, 0.5, 1))
    monkeypatch.setattr(load, "LATE_MS", 60_000)  # a busy host's backlog is nothing to fail on
    with load.load(market, kind) as case:
        case.measure(1)
    result = case.result()
    assert result["unit"] == "packets/s"
    assert [row["name"] for row in result["series"]] == [load.PEER, f"stage over {kind}"]
    for row in result["series"]:
        assert 0 < row["median"] <= 4_000
        told = result["facts"]["steps_of_the_last_round"][row["name"]]
        for step in told["rows"]:
            rate, frames, sent, received, lost, *_ = step
            assert sent == received + lost
            assert frames == int(rate * load.TRIAL_QUICK_S)
        for name, points in row.get("percentiles", {}).items():
            assert name.startswith(schedule.RESPONSE)
            assert 0 < points["p50"] <= points["p99"] <= points["max"]
            assert points["count"] >= 100


def test_one_core_is_a_named_skip(market: data.Market) -> None:
    alone = data.Market(market.size, market.both, market.alone, market.cores[-1:])
    for name, case in load.cases().items():
        with pytest.raises(HostError, match=r"two cores|without DPDK"), case(alone):
            pytest.fail(name)


@given(came=st.lists(st.booleans(), min_size=1, max_size=60), cut=st.integers(1, 7))
def test_a_tally_counts_what_came_and_what_did_not(came: list[bool], cut: int) -> None:
    """Order i is sent at 1000 + i, was late by 2 i and is seen 5 ns later."""
    tally = Tally(first=101, step=STEP)
    got = np.flatnonzero(came).astype(np.int64)
    for at in range(0, len(got), cut):
        i = got[at : at + cut]
        tally.add(1005 + i, 101 + STEP * i, 1000 + i, 2 * i + 1)
    tally.end(101 + STEP * len(came))
    told = tally.told()
    assert told["received"] == len(got) == Hist.decode(told["service"]).count
    assert told["lost"] == len(came) - len(got)
    assert told["again"] == 0
    due = Hist.from_values(5 + 2 * got)
    assert Hist.decode(told["response"]).counts.tolist() == due.counts.tolist()


def test_an_order_that_comes_twice_is_told() -> None:
    tally = Tally(first=1, step=1)
    one = np.array([1], np.int64)
    for _ in range(2):
        tally.add(one + 10, one, one, one)
    assert tally.told()["again"] == 1


def trial(**changed: Any) -> Trial:
    plain = {"rate": 1_000, "frames": 100, "sent": 100, "received": 100, "lost": 0, "full": 0,
             "overdue_ns": 0, "backlog_ns": 0, "service": Hist(), "response": Hist()}  # fmt: skip
    return Trial(**plain | changed)


def test_why_a_trial_fails() -> None:
    late = load.LATE_MS * 1_000_000 + 1
    assert trial().failed == ""
    assert trial(received=99, lost=1).failed == "loss"
    assert trial(overdue_ns=late).failed == "the generator"
    assert trial(overdue_ns=late, full=3).failed == "no room on the wire"
    assert trial(sent=99, received=99, full=1).failed == "no room on the wire"
    assert trial(backlog_ns=late).failed == "backlog"
    failed = [trial(), trial(rate=2_000, lost=1, received=99)]
    assert load.limited_by(Edge(1_000, 2_000), failed) == "loss"
    assert load.limited_by(Edge(1_000, 2_000, confirmed=False), failed) == "loss, not confirmed"
    assert load.limited_by(Edge(1_000, None), failed[:1]) == "nothing up to the ceiling"
