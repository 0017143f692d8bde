"""Every tick is answered by its own order, and the times inside lie in order. No speed here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pydpdk.bench import data
from pydpdk.bench.cases import trade
from pydpdk.bench.cases.latency import WARM, Hists, cores_of
from pydpdk.bench.wires import schedule
from pydpdk.errors import HostError
from pydpdk.source import eal
from testbed.net import missing

pytestmark = pytest.mark.live

needs_two_cores = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="needs two cores, one for whoever sends"
)
needs_wires = pytest.mark.skipif(bool(missing()), reason="needs namespaces")
SENDS = 80


@pytest.fixture
def market() -> data.Market:
    cores = sorted(os.sched_getaffinity(0))
    return data.Market(data.QUICK, Path("none"), Path("none"), cores)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@needs_two_cores
@needs_wires
def test_each_tick_has_its_order_and_the_parts_lie_within_it(
    market: data.Market, stack: ExitStack
) -> None:
    """The generator matches by price, the stage told the same prices: two accounts of one thing."""
    kind = "memif" if eal.version() else "tpacket"
    desk = trade.StageDesk(stack, kind, cores_of(market.cores))
    hists: Hists = {}
    for turn in range(2):
        assert desk.turn(SENDS, hists) > 0
        assert desk.ticks == (turn + 1) * SENDS
    counted = 2 * (SENDS - WARM)
    ends = schedule.SERVICE, schedule.RESPONSE, trade.TO_STAGE, trade.IN_STAGE, trade.BACK
    for name in ends:
        assert hists[name].count == counted - desk.unanswered
    assert desk.unanswered == 0
    for name in (trade.TO_STAGE, trade.IN_STAGE, trade.BACK):
        assert hists[name].max <= hists[schedule.SERVICE].max
    assert hists[schedule.SERVICE].max <= hists[schedule.RESPONSE].max
    for name in ("risk: per order", "encode: per order"):
        assert hists[name].count == 2 * SENDS
    assert 0 < hists["send: per burst"].count <= 2 * SENDS
    total = sum(hists[name].sum for name in (trade.TO_STAGE, trade.IN_STAGE, trade.BACK))
    assert total == pytest.approx(hists[schedule.SERVICE].sum, rel=1e-9)


@needs_two_cores
@needs_wires
@pytest.mark.parametrize("spin", [True, False])
def test_pure_python_answers_too(market: data.Market, stack: ExitStack, spin: bool) -> None:
    desk = trade.SocketDesk(stack, "tpacket", cores_of(market.cores))
    hists: Hists = {}
    desk.turn(SENDS, hists, spin=spin)
    assert desk.unanswered == 0
    assert hists[schedule.SERVICE].count == SENDS - WARM


@needs_two_cores
@needs_wires
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["af_packet", "af_xdp"])
def test_a_case_has_the_peers_beside_the_stage(
    market: data.Market, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if not eal.version():
        pytest.skip("pydpdk was built without DPDK")
    monkeypatch.setattr(trade, "SENDS_QUICK", SENDS)
    with trade.trade(market, kind) as case:
        case.measure(1)
    result = case.result()
    assert [row["role"] for row in result["series"]] == ["peer", "peer", "ours"]
    for row in result["series"]:
        points = row["percentiles"]
        assert points[schedule.SERVICE]["max"] <= points[schedule.RESPONSE]["max"]
    assert result["facts"]["unanswered"] == {"sockets": 0, kind: 0}


def test_full_books_end_it_by_name(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trade, "ORDERS_MAX", 10)
    desk = trade.StageDesk.__new__(trade.StageDesk)
    desk.ticks = 8
    with pytest.raises(HostError, match="fewer rounds"):
        desk.turn(3, {})


def test_one_core_is_a_named_skip(market: data.Market) -> None:
    alone = data.Market(market.size, market.both, market.alone, market.cores[-1:])
    for name, case in trade.cases().items():
        with pytest.raises(HostError, match=r"two cores|without DPDK"), case(alone):
            pytest.fail(name)
