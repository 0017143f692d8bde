"""Tick to trade: an add order arrives, an order goes back, the round trip is the generator's.

A generator sends add orders to a schedule on one wire and sees the answers on another of the same
kind. Between them, as ``pydpdk run`` has it: driver, engine, ring, then a stage process with books
of its own, a strategy per event in Python, risk in C and the simulated venue; what risk approved
is encoded in C and sent. The answer is an Enter Order in a UDP datagram, for order entry over TCP
does not exist here yet. The peer is one Python process between two kernel UDP sockets: struct,
decision, sendto; it keeps no books and checks no limits.

Round trips count from the send and from when the tick was due. The parts inside, which add up:
sent to stage, stage to order ready, order ready to seen. Strategy, risk and encode are within the
second, send is within the third.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from statistics import median
from typing import Any

from pydpdk.bench.cases.latency import (
    BLOCKING,
    IDLE_MS,
    POLLED,
    SHARED,
    WARM,
    Hists,
    cores_of,
    ready,
)
from pydpdk.bench.data import LINES, QUICK, Market
from pydpdk.bench.measure import Case, Series
from pydpdk.bench.wires import schedule, stamps
from pydpdk.bench.wires.agents import Wires, Worker
from pydpdk.bench.wires.schedule import RESPONSE, SERVICE, Behind
from pydpdk.core.hist import Hist
from pydpdk.core.ring import Ring
from pydpdk.engine.engine import ring_slots
from pydpdk.engine.feed import Feed
from pydpdk.errors import HostError, PydpdkError

KINDS = ("memif", "af_packet", "af_xdp", "tpacket")
RATE = 1_000  # ticks a second
SENDS, SENDS_QUICK = 1_000, 200  # in a turn
FIRST_PRICE = 1_000_000  # wire units; of the first tick
ORDERS_MAX = 1 << 17  # adds of all turns: nothing deletes them
NAP_NS = 100_000  # between looks at the answers where the generator has no core of its own
LINGER_MS = 500
END_S, ENDS = 0.25, 20
TO_STAGE, IN_STAGE, BACK = (
    "inside: sent to stage", "inside: stage to order ready", "inside: order ready to seen"
)  # fmt: skip
MAC, ADDRESS = "020000000007", "10.77.1.2"


def cases() -> dict[str, Callable[[Market], AbstractContextManager[Case]]]:
    """By name, one of each kind of wire."""
    return {f"trade-{kind}": partial(trade, kind=kind) for kind in KINDS}


@contextmanager
def trade(market: Market, kind: str) -> Iterator[Case]:
    """From a tick sent to its order seen, beside pure Python on kernel sockets."""
    ready(market, kind)
    sends = SENDS_QUICK if market.size == QUICK else SENDS
    cores = cores_of(market.cores)
    shared = cores["stage"] == cores["sender"]
    facts: dict[str, Any] = {**cores, "rate": RATE, "sends_a_round": sends,
                             "order": "OUCH 5.0 Enter Order in a UDP datagram"}  # fmt: skip
    if shared:
        facts |= {"unreliable": SHARED, "answers_looked_for_every_us": NAP_NS // 1000}
    with ExitStack() as stack:
        socket = SocketDesk(stack, "tpacket", cores)
        ours = StageDesk(stack, kind, cores)
        series = [
            _series(BLOCKING, "", partial(socket.turn, sends, spin=False)),
            _series(POLLED, "", partial(socket.turn, sends, spin=True)),
            _series(f"stage over {kind}", POLLED, partial(ours.turn, sends)),
        ]
        yield Case(f"trade-{kind}", "round trip", series, facts)
        facts["unanswered"] = {"sockets": socket.unanswered, kind: ours.unanswered}
        facts |= schedule.facts(Behind.of((socket.behind, ours.behind)), series)


def _series(name: str, against: str, run: Callable[[Hists], float]) -> Series:
    hists: Hists = {}
    return Series(name, "ours" if against else "peer", lambda: run(hists), against, hists=hists)


class _Desk:
    """Ticks go out on wire 0, orders come back on wire 1."""

    def __init__(self, stack: ExitStack, kind: str, cores: dict[str, int]) -> None:
        self.cores = cores
        self.sequence = 1
        self.ticks = 0
        self.unanswered = 0
        self.behind = Behind()
        self.nap_ns = NAP_NS if cores["stage"] == cores["sender"] else 0
        self.wires = stack.enter_context(Wires(kind, 2))
        self.sender = stack.enter_context(Worker(self.wires, 0, cores["sender"]))
        for i in range(2):
            self.sender.ask("open", spec=self.wires.sender(i))

    def begin(self, sends: int, **how: Any) -> None:
        """Whoever answers is about to."""
        raise NotImplementedError

    def end(self) -> dict[str, Any]:
        """What it did: see ``pydpdk.bench.wires.trading``."""
        raise NotImplementedError

    def turn(self, sends: int, hists: Hists, **how: Any) -> float:
        """Median round trip since sent; every figure is counted."""
        if self.ticks + sends > ORDERS_MAX:
            raise HostError(f"trade: the books are full after {self.ticks} ticks: fewer rounds")
        base = FIRST_PRICE + self.ticks
        self.begin(sends, **how)
        told = self.sender.ask(
            "pace", out=0, frame=stamps.add(), sequence=self.sequence, count=sends, rate=RATE,
            nap_ns=self.nap_ns, answers={"source": 1, "base": base, "linger_ms": LINGER_MS},
        )  # fmt: skip
        self.behind.add(told)
        self.sequence += told["sent"]
        self.ticks += sends
        inside = self.end()
        self.unanswered += told["sent"] - len(told["rows"])
        if inside["refused"] or inside["rejected"]:
            raise PydpdkError(f"trade: {inside['refused']} orders refused, {inside['rejected']}")
        return self._note(told["rows"], inside, base, hists)

    def _note(
        self, rows: list[list[int]], inside: dict[str, Any], base: int, hists: Hists
    ) -> float:
        by_number = {price - base: (begun, ready_at) for price, begun, ready_at in inside["rows"]}
        ways = []
        for number, due, sent, seen in rows:
            if number < WARM:
                continue
            begun, ready_at = by_number[number]
            ways.append((seen - sent, seen - due, begun - sent, ready_at - begun, seen - ready_at))
        if not ways:
            raise HostError(f"{self.wires.receiver(0)}: no order came back")
        names = (SERVICE, RESPONSE, TO_STAGE, IN_STAGE, BACK)
        for name, values in zip(names, zip(*ways, strict=True), strict=True):
            hists.setdefault(name, Hist()).record(values)
        for name, encoded in inside["hists"].items():
            hists.setdefault(name, Hist()).merge(Hist.decode(encoded))
        return float(median(way[0] for way in ways))


class SocketDesk(_Desk):
    """Pure Python, on the core that is the engine's on other ways."""

    def __init__(self, stack: ExitStack, kind: str, cores: dict[str, int]) -> None:
        super().__init__(stack, kind, cores)
        self.answerer = stack.enter_context(Worker(self.wires, 1, cores["engine"]))
        self.answerer.ask("join", interface="b0", group=LINES[0].host, port=LINES[0].port)

    def begin(self, sends: int, **how: Any) -> None:
        self.answerer.begin("trade_socket", wanted=sends, idle_ms=IDLE_MS, interface="b1", **how)

    def end(self) -> dict[str, Any]:
        return self.answerer.end()


class StageDesk(_Desk):
    """Engine and stage in processes of their own, joined by a ring."""

    def __init__(self, stack: ExitStack, kind: str, cores: dict[str, int]) -> None:
        super().__init__(stack, kind, cores)
        ring = stack.enter_context(Ring(ring_slots([Feed("itch50")]), clock="tsc"))
        ring.give()
        fd = os.dup(ring.fd)
        stack.callback(os.close, fd)
        engine = stack.enter_context(Worker(self.wires, 1, cores["engine"], [fd]))
        engine.ask("open", spec=self.wires.receiver(0))
        engine.ask("engine", orders_max=ORDERS_MAX, ring_fd=fd)
        self.stage = self._stage(stack, fd)
        self.stage.ask("trader", ring_fd=fd, orders_max=ORDERS_MAX, mac=MAC, address=ADDRESS)
        for worker, sources in ((engine, 1), (self.stage, 1), (self.sender, 2)):
            worker.ask("link", first=sources)
        engine.ask("run")
        self.begin(0)
        self._end_with(stamps.opening(self.sequence))
        self.sequence += stamps.OPENING

    def _stage(self, stack: ExitStack, fd: int) -> Worker:
        """net_af_packet numbers its socket group by process id XOR interface index: in one
        namespace two neighbours of both may get the same, and then a third process does not."""
        for last in (False, False, True):
            worker = stack.enter_context(Worker(self.wires, 1, self.cores["stage"], [fd]))
            try:
                worker.ask("open", spec=self.wires.receiver(1))
            except HostError as error:
                if last or "FANOUT" not in str(error):
                    raise
            else:
                break
        return worker

    def begin(self, sends: int, **how: Any) -> None:
        self.stage.begin("trade", idle_ms=IDLE_MS)

    def end(self) -> dict[str, Any]:
        told = self._end_with(stamps.end(self.sequence))
        self.sequence += 1
        return told

    def _end_with(self, frame: str) -> dict[str, Any]:
        """A system event tells it that the turn is over; the frame may be lost too."""
        for _ in range(ENDS):
            self.sender.ask("say", out=0, frame=frame)
            if self.stage.heard(END_S):
                return self.stage.end()
        raise HostError(f"{self.wires.receiver(0)}: the end of a turn never came through")
