"""Fixtures to test a strategy on live traffic: a pytest plugin that comes with the package.

    def test_gaps_are_announced(pydpdk_wire, pydpdk_feeder, pydpdk_capture):
        engine = pydpdk_wire.b.namespace.popen(["pydpdk", "run", "live.toml"])
        ...
        ledger = pydpdk_feeder(pydpdk_capture, Faults(loss=0.02), pps=20_000)

Each fixture that cannot be had here skips its test and says what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from testbed.feeder import Ledger
    from testbed.net import Namespace, Wire
    from testbed.plan import Faults
    from testbed.wire import Observer

MESSAGES, INSTRUMENTS = 20_000, 20
NEEDED = "needs pyroute2: pip install 'pydpdk[testbed]'"


def _net() -> Any:
    """testbed.net, or a skip: only here may a plugin need more than pytest."""
    net = pytest.importorskip("testbed.net", reason=NEEDED)
    if lacking := net.missing():
        pytest.skip(f"needs {lacking}")
    return net


@pytest.fixture
def pydpdk_namespace() -> Iterator[Namespace]:
    """A fresh network namespace (testbed.net.Namespace); what runs in it is killed afterwards."""
    with _net().Namespace() as namespace:
        yield namespace


@pytest.fixture
def pydpdk_wire() -> Iterator[Wire]:
    """A veth pair (testbed.net.Wire) between two fresh namespaces, up: ``a`` sends, ``b``
    receives; interface a0 is 10.77.0.1, b0 10.77.0.2, and multicast is routed to them."""
    net = _net()
    addresses = "10.77.0.1/24", "10.77.0.2/24"
    with net.Namespace() as a, net.Namespace() as b, net.Wire(a, b, addresses=addresses) as wire:
        yield wire


@pytest.fixture
def pydpdk_observer(pydpdk_wire: Wire) -> Iterator[Observer]:
    """What really crosses the wire (testbed.wire.Observer at its end ``b``); see watch()."""
    from testbed.wire import Observer

    with pydpdk_wire.b.namespace.inside():
        observer = Observer(pydpdk_wire.b.name)
    with observer:
        yield observer


@pytest.fixture
def pydpdk_feeder(pydpdk_wire: Wire) -> Callable[..., Ledger]:
    """A function that sends a capture over the wire's end ``a`` and returns what it sent.

    ``feed(capture, *faults, seed=1, pps=None, speed=None, burst=1)``: ``faults`` are those of line
    A, of line B (testbed.plan.Faults; one is for both); frames leave at ``pps`` a second, or at
    ``speed`` times the recorded pace, or as fast as they go. Returns a testbed.feeder.Ledger.
    """
    from testbed.feeder import Feeder
    from testbed.plan import Faults, Feed, plan

    def feed(
        capture: str | Path, *faults: Faults, seed: int = 1, pps: float | None = None,
        speed: float | None = None, burst: int = 1,
    ) -> Ledger:  # fmt: skip
        work = plan(
            Feed.capture(capture), faults or [Faults()], seed=seed, pps=pps, speed=speed or 1.0,
            burst=burst,
        )  # fmt: skip
        with pydpdk_wire.a.namespace.inside():
            feeder = Feeder(pydpdk_wire.a.name)
        with feeder:
            return feeder.send(work, paced=bool(pps or speed), seed=seed)

    return feed


@pytest.fixture(scope="session")
def pydpdk_capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture of a small market session without faults: 20,000 ITCH 5.0 messages of 20
    instruments over MoldUDP64 on lines A and B, the same in every run."""
    from pydpdk.synth.gen import generate

    path = tmp_path_factory.mktemp("pydpdk") / "session.pcap"
    generate(path, messages=MESSAGES, instruments=INSTRUMENTS)
    return path
