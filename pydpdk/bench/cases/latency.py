"""Wire to Python stage, one way, beside kernel UDP sockets read by Python.

A sender of its own process sends one add order at a time, asleep between them, and writes the time
into each (CLOCK_MONOTONIC, which all processes of a host share). A stage in another process polls
the ring and takes the time once it holds the batch; a peer takes it when the datagram is in its
buffer. On the way between: driver, parse, arbiter, decoder, book and ring. Every way has a wire of
its own and they run in turn within a round. Times count from the send; from when it was due they
are given too, so that a late sender hides nothing (pydpdk/bench/wires/schedule.py).

With two cores sender and stage share one: the stage then begins to look only when the sender
sleeps again, and the tail is the scheduler's. Such a result says so. So it does when another
process took the engine's core (``engine_preempted``): it is worth nothing then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from statistics import median
from typing import Any

from pydpdk.bench.data import LINES, QUICK, Market
from pydpdk.bench.measure import Case, Role, Series
from pydpdk.bench.wires import schedule, stamps
from pydpdk.bench.wires.agents import Wires, Worker
from pydpdk.bench.wires.schedule import RESPONSE, SERVICE, Behind
from pydpdk.core.hist import Hist
from pydpdk.core.ring import Ring
from pydpdk.engine.engine import ring_slots
from pydpdk.engine.feed import Feed
from pydpdk.errors import HostError
from pydpdk.source import eal

RATE = 5_000  # sends a second
SENDS, SENDS_QUICK = 2_500, 500  # in a turn
WARM = 20  # of a turn that do not count: they find cold caches
IDLE_MS = 2_000  # longer than a busy host lets a process wait
ORDERS_MAX = 1 << 17
DRIVERS = {"veth": ("af_packet", "af_xdp", "tpacket"), "memif": ("memif",)}
NEEDS_DPDK = ("memif", "af_packet", "af_xdp")
BLOCKING, POLLED = "UDP socket, blocking", "UDP socket, polled"
AIM = f"a tenth of '{BLOCKING}' at the median"
SHARED = "sender and stage share a core, so tails are the scheduler's"


def cases() -> dict[str, Callable[[Market], AbstractContextManager[Case]]]:
    """Over a veth, and over memif with the sockets on a veth beside it."""
    return {f"latency-{name}": partial(latency, name=name) for name in DRIVERS}


def needs(name: str) -> tuple[str, ...]:
    """Of the host, see pydpdk.bench.listing; the sockets beside memif are on a veth."""
    dpdk = ("DPDK",) if name == "latency-memif" else ()
    return ("two cores", *dpdk, "network namespaces")


@contextmanager
def latency(market: Market, name: str) -> Iterator[Case]:
    """Each driver that this host has; the kernel's sockets as peers."""
    ready(market, name)
    sends = SENDS_QUICK if market.size == QUICK else SENDS
    cores = cores_of(market.cores)
    facts: dict[str, Any] = {**cores, "rate": RATE, "sends_a_round": sends, "aim": AIM}
    if cores["stage"] == cores["sender"]:
        facts["unreliable"] = SHARED
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        socket = SocketWay(stack, cores)
        ways: list[Way] = [socket]
        series = [
            _series(BLOCKING, "", partial(socket.turn, sends, spin=False)),
            _series(POLLED, "", partial(socket.turn, sends, spin=True)),
        ]
        for kind in DRIVERS[name]:
            try:
                way = StageWay(stack, kind, cores)
            except HostError as error:
                missing[f"stage over {kind}"] = str(error)
                continue
            ways.append(way)
            series.append(_series(f"stage over {kind}", BLOCKING, partial(way.turn, sends)))
        yield Case(f"latency-{name}", "message", series, facts, missing=missing)
        facts["lost"] = sum(way.lost for way in ways)
        facts["engine_preempted"] = sum(way.preempted for way in ways)
        facts |= schedule.facts(Behind.of(way.behind for way in ways), series)


Hists = dict[str, Hist]


def _series(name: str, against: str, run: Callable[[Hists], float]) -> Series:
    hists: Hists = {}
    role: Role = "ours" if against else "peer"
    return Series(name, role, lambda: run(hists), against, hists=hists)


def ready(market: Market, kind: str) -> None:
    """HostError where a sender cannot have a core beside the engine, or DPDK is missing."""
    if len(market.cores) < 2:
        raise HostError("needs two cores: give the process a second one (taskset, cpuset)")
    if kind in NEEDS_DPDK and not eal.version():
        raise HostError(f"pydpdk was built without DPDK: {eal.INSTALL_DPDK}")


def cores_of(cores: list[int]) -> dict[str, int]:
    """One for each who is busy; with two, the engine has its own."""
    return {"sender": cores[0], "stage": cores[1] if len(cores) > 2 else cores[0],
            "engine": cores[-1]}  # fmt: skip


class Way:
    """From a sender to who reads, over a wire of its own."""

    def __init__(self, stack: ExitStack, kind: str, cores: dict[str, int]) -> None:
        self.stack = stack
        self.cores = cores
        self.sequence = 1
        self.lost = 0
        self.preempted = 0  # times that another process took the engine's core
        self.wires = stack.enter_context(Wires(kind, 1))
        self.sender = stack.enter_context(Worker(self.wires, 0, cores["sender"]))
        self.behind = Behind()
        self.sender.ask("open", spec=self.wires.sender(0))

    def begin(self, sends: int, **how: Any) -> None:
        """Whoever reads is about to."""
        raise NotImplementedError

    def end(self) -> list[list[int]]:
        """``[seen, sent, late]`` of each that was read."""
        raise NotImplementedError

    def turn(self, sends: int, hists: Hists, **how: Any) -> float:
        """Median of a round; every figure is counted."""
        self.begin(sends, **how)
        told = self.sender.ask("pace", out=0, frame=stamps.add(), sequence=self.sequence,
                               count=sends, rate=RATE)  # fmt: skip
        self.behind.add(told)
        rows = self.end()[WARM:]
        self.sequence += told["sent"]
        self.lost += sends - WARM - len(rows)
        if not rows:
            raise HostError(f"{self.wires.receiver(0)}: nothing came through")
        ways = [seen - sent for seen, sent, _ in rows]
        hists.setdefault(SERVICE, Hist()).record(ways)
        due = [seen - sent + late - 1 for seen, sent, late in rows]
        hists.setdefault(RESPONSE, Hist()).record(due)
        return float(median(ways))


class SocketWay(Way):
    """The reader has the core that is the engine's on other ways."""

    def __init__(self, stack: ExitStack, cores: dict[str, int]) -> None:
        super().__init__(stack, "tpacket", cores)
        self.reader = stack.enter_context(Worker(self.wires, 1, cores["engine"]))
        line = LINES[0]
        self.reader.ask("join", interface="b0", group=line.host, port=line.port)

    def begin(self, sends: int, **how: Any) -> None:
        self.reader.begin("datagrams", wanted=sends, idle_ms=IDLE_MS, **how)

    def end(self) -> list[list[int]]:
        return list(self.reader.end()["seen"])


class StageWay(Way):
    """Engine and stage as ``pydpdk run`` has them: processes of their own, joined by a ring."""

    def __init__(self, stack: ExitStack, kind: str, cores: dict[str, int]) -> None:
        super().__init__(stack, kind, cores)
        ring = stack.enter_context(Ring(ring_slots([Feed("itch50")]), clock="tsc"))
        ring.give()
        self.fd = os.dup(ring.fd)
        stack.callback(os.close, self.fd)
        self.engine = stack.enter_context(Worker(self.wires, 1, cores["engine"], [self.fd]))
        self.stage = stack.enter_context(Worker(self.wires, 1, cores["stage"], [self.fd]))
        self.engine.ask("open", spec=self.wires.receiver(0))
        self.engine.ask("engine", orders_max=ORDERS_MAX, ring_fd=self.fd)
        for worker in (self.sender, self.engine):
            worker.ask("link")
        self._open_market()

    def _open_market(self) -> None:
        """The messages that a session begins with."""
        self._receive(1)
        self.sender.ask("say", out=0, frame=stamps.opening(self.sequence))
        self.sequence += stamps.OPENING
        if not self.engine.end()["packets"]:
            raise HostError(f"{self.wires.receiver(0)}: the opening never came through")

    def _receive(self, wanted: int) -> None:
        self.engine.begin("receive", what="pipeline", wanted=wanted, idle_ms=IDLE_MS)

    def begin(self, sends: int, **how: Any) -> None:
        self.stage.begin("stage", ring_fd=self.fd, wanted=sends, idle_ms=IDLE_MS)
        self._receive(sends)

    def end(self) -> list[list[int]]:
        rows = self.stage.end()["seen"]
        self.preempted += self.engine.end()["preempted"]
        return list(rows)
