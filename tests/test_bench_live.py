"""The live benchmarks carry what they say they carry. Nothing here looks at how long it took."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from pydpdk.bench import data
from pydpdk.bench.cases import latency, readers, receive, trade
from pydpdk.bench.measure import Case, Series
from pydpdk.bench.wires import agents
from pydpdk.bench.wires.agents import Testpmd, Wires, Worker
from pydpdk.core.hist import Hist
from pydpdk.errors import HostError
from pydpdk.source import eal
from testbed.net import missing

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(
        len(os.sched_getaffinity(0)) < 2, reason="needs two cores, one for whoever sends"
    ),
]
Measure = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> data.Market:
    size = data.Size(messages=20_000, instruments=50, live_orders=2_000)
    both, alone = data.session_files(tmp_path_factory.mktemp("bench"), size, lambda done: None)
    return data.Market(size, both, alone, sorted(os.sched_getaffinity(0)))


@pytest.fixture
def measured(market: data.Market, monkeypatch: pytest.MonkeyPatch) -> Measure:
    """One round of a case, or the named skip of what this host lacks."""
    monkeypatch.setattr(receive, "NULL_PACKETS", 5_000)
    monkeypatch.setattr(latency, "SENDS", 60)

    def measure(name: str) -> dict[str, Any]:
        if not eal.version() and name != "receive-tpacket":
            pytest.skip("pydpdk was built without DPDK")
        if name.split("-")[1] not in ("null", "ring", "memif") and (lacking := missing()):
            pytest.skip(f"needs {lacking}")
        with (receive.cases() | latency.cases())[name](market) as case:
            case.measure(1)
        return case.result()

    return measure


def names(result: dict[str, Any], role: str) -> list[str]:
    return [row["name"] for row in result["series"] if row["role"] == role]


@pytest.mark.parametrize("kind", receive.KINDS)
def test_receive_has_the_driver_the_source_and_the_pipeline(measured: Measure, kind: str) -> None:
    result = measured(f"receive-{kind}")
    pipeline = ["pipeline", "pipeline without its own work"] if kind != "null" else []
    assert names(result, "ours") == ["source", *pipeline]
    assert names(result, "floor") == ([] if kind == "tpacket" else ["driver alone"])
    assert result["unit"] == "ns/packet"
    assert result["facts"]["packets_a_round"] > 0
    for row in result["series"]:
        assert row["min"] > 0 or row["name"] == "pipeline without its own work"
    assert receive.PEER in [*names(result, "peer"), *result["missing"]]


def test_what_the_loop_counts_is_what_was_sent(market: data.Market) -> None:
    """Over a looped wire nothing else can come and nothing is lost; polls are of whole bursts."""
    if not eal.version():
        pytest.skip("pydpdk was built without DPDK")
    with Wires("ring", 1) as wires, Worker(wires, 1, market.cores[-1]) as worker:
        worker.ask("open", spec="ring:")
        worker.ask("engine", orders_max=1 << 14)
        frames = worker.ask("load", path=str(market.alone))["frames"]
        for what in ("driver", "source", "pipeline"):
            how: dict[str, Any] = {"what": what, "idle_ms": 200, "looped": True}
            told = worker.ask("receive", wanted=frames, **how)
            assert told["packets"] == frames
            assert frames / 32 <= told["polls"] <= frames
            assert (told["own_ns"] > 0) == (what == "pipeline")
            short = worker.ask("receive", wanted=0, **how)
            assert (short["packets"], short["polls"]) == (0, 0)
        silent = worker.ask("receive", what="source", wanted=1, idle_ms=20)
        assert (silent["packets"], silent["polls"], silent["ns"]) == (0, 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["memif", "veth"])
def test_latency_has_every_driver_beside_the_sockets(measured: Measure, name: str) -> None:
    if lacking := missing():
        pytest.skip(f"needs {lacking}")
    result = measured(f"latency-{name}")
    assert names(result, "peer") == [latency.BLOCKING, latency.POLLED]
    ours = [f"stage over {kind}" for kind in latency.DRIVERS[name]]
    assert names(result, "ours") == ours, result["missing"]
    for row in result["series"]:
        sent, due = (row["percentiles"][of] for of in (latency.SERVICE, latency.RESPONSE))
        assert 0 < sent["count"] == due["count"] <= 60 - latency.WARM  # without the first round
        assert 0 < sent["p50"] <= sent["p90"] <= sent["p99"] <= sent["p99.9"] <= sent["max"]
        assert due["p50"] >= sent["p50"]
        assert due["max"] >= sent["max"]
        assert sent["p50"] <= row["min"] * (1 + 1 / 128)  # one round: the middle, or between two
        assert due["max"] < 60e9  # stamps of this round: nothing takes a minute
    assert result["facts"]["lost"] == 0
    assert result["facts"]["engine_preempted"] >= 0
    assert result["facts"]["generator_behind_max_ms"] >= 0
    assert set(result["facts"]["response_and_service"]) == {r["name"] for r in result["series"]}
    shared = len(os.sched_getaffinity(0)) == 2
    assert ("unreliable" in result["facts"]) == shared


def test_all_that_is_sent_comes_through_in_order(market: data.Market) -> None:
    """The stage's own answer: each add once, seen after it was sent, times only grow."""
    if not eal.version():
        pytest.skip("pydpdk was built without DPDK")
    with ExitStack() as stack:
        way = latency.StageWay(stack, "memif", latency.cores_of(market.cores))
        hists: dict[str, Hist] = {}
        for _ in range(2):
            way.turn(50, hists)
        assert way.lost == 0
        assert way.sequence == 4 + 2 * 50
        assert hists[latency.SERVICE].count == 2 * (50 - latency.WARM)


def test_one_core_is_a_named_skip(market: data.Market) -> None:
    alone = data.Market(market.size, market.both, market.alone, market.cores[-1:])
    for name, case in (receive.cases() | latency.cases() | {"readers": readers.readers}).items():
        with pytest.raises(HostError, match=r"two cores|without DPDK"), case(alone):
            pytest.fail(name)


def test_testpmd_is_named_when_it_is_missing(
    market: data.Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not eal.version():
        pytest.skip("pydpdk was built without DPDK")
    monkeypatch.setattr(agents, "TESTPMD", ("no-such-program",))
    with receive.receive(market, "null") as case:
        assert case.missing[receive.PEER] == agents.MISSING
        assert case.series[-1].against == "driver alone"


def test_testpmd_that_cannot_start_says_why(market: data.Market) -> None:
    if agents.which() is None:
        pytest.skip(agents.MISSING)
    with Wires("null", 1) as wires, pytest.raises(HostError, match="testpmd ended"):
        Testpmd(wires, "net_nonsense0", market.cores)


def test_a_worker_that_fails_says_why(market: data.Market) -> None:
    with Wires("null", 1) as wires, Worker(wires, 1, market.cores[0]) as worker:
        with pytest.raises(HostError, match="is no source"):
            worker.ask("open", spec="nothing:here")
        with pytest.raises(HostError, match=r"ended with 1: .*no_such_thing"):
            worker.ask("no_such_thing")


@pytest.mark.skipif(bool(missing()), reason="needs namespaces")
def test_nothing_is_left_behind(market: data.Market) -> None:
    before = left()
    with receive.receive(market, "tpacket"):
        assert left() != before  # it would be seen
    with ExitStack() as stack:
        trade.StageDesk(stack, "tpacket", latency.cores_of(market.cores))
        assert left() != before
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


def test_samples_of_the_first_round_do_not_count() -> None:
    hists: dict[str, Hist] = {}
    figures = iter([1, 2, 3])

    def run() -> float:
        figure = next(figures)
        hists.setdefault("way", Hist()).record([figure, figure * 10])
        return figure

    case = Case("c", "thing", [Series("a", "ours", run, hists=hists)], missing={"b": "no b"})
    case.measure(2)
    row = case.result()["series"][0]
    assert row["percentiles"]["way"]["count"] == 4
    assert Hist.decode(row["hists"]["way"]).counts.tolist() == (
        Hist.from_values([2, 20, 3, 30]).counts.tolist()
    )
    assert case.result()["missing"] == {"b": "no b"}
