"""What a packet costs to receive, beside testpmd's rxonly on an equal wire in the same run.

Every figure is time in polls that received something, a packet: so testpmd counts (with
--record-core-cycles), and it is the measure that holds at any rate, for a loop that polls is
always busy. Sender and receiver have a core each. Frames come in bursts, few enough at a time
that the smallest ring holds them. What the pipeline does beside receiving is its own affair: the
last series leaves it out, by the engine's own measure, and is what the aim is about.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

from pydpdk.bench.data import LINES, Market
from pydpdk.bench.measure import Case, Series
from pydpdk.bench.wires.agents import SENDS, Testpmd, Wires, Worker
from pydpdk.errors import HostError
from pydpdk.source import eal

KINDS = tuple(SENDS)
SLICES = 32  # of the session, one a round: sequence numbers go on from round to round
BURST, EVERY_NS = 256, 1_000_000
IDLE_MS = 1_000  # longer than a busy host lets a process wait
NULL_PACKETS = 1_000_000
NULL_S = 0.05
SETTLE_S = 0.02  # from the last frame sent to the last received
PEER = "testpmd rxonly"
AIM = "pipeline without its own work at most 1.2 of testpmd"


def cases() -> dict[str, Callable[[Market], AbstractContextManager[Case]]]:
    """By name, one of each kind of wire."""
    return {f"receive-{kind}": partial(receive, kind=kind) for kind in KINDS}


@contextmanager
def receive(market: Market, kind: str) -> Iterator[Case]:
    """The driver alone, our source, the whole pipeline, and testpmd."""
    if kind != "tpacket" and not eal.version():
        raise HostError(f"pydpdk was built without DPDK: {eal.INSTALL_DPDK}")
    if len(market.cores) < 2:
        raise HostError("needs two cores: give the process a second one (taskset, cpuset)")
    with ExitStack() as stack:
        wires = stack.enter_context(Wires(kind, 2))
        yield _Bench(market, wires, stack).case()


class _Bench:
    """Wire 0 is ours, wire 1 testpmd's; one process sends into both."""

    def __init__(self, market: Market, wires: Wires, stack: ExitStack) -> None:
        self.wires = wires
        self.kind = wires.kind
        self.cores = [market.cores[0], market.cores[-1]]
        self.sends = bool(SENDS[self.kind])
        self.frames = 0
        self.turns: dict[str, int] = {}
        self.facts: dict[str, Any] = {"cores": self.cores}
        self.missing: dict[str, str] = {}
        self.own = 0.0
        self.ours = stack.enter_context(Worker(wires, 1, self.cores[1]))
        self.sender = self.ours
        if self.sends:
            self.sender = stack.enter_context(Worker(wires, 0, self.cores[0]))
            for i in range(2):
                self.sender.ask("open", spec=wires.sender(i))
        self.facts |= self.ours.ask("open", spec=wires.receiver(0))
        self.testpmd = self._testpmd(stack)
        if self.kind != "null":
            feed = market.feed(LINES[:1])
            self.ours.ask("engine", orders_max=feed.orders_max)
            self.frames = self.sender.ask("load", path=str(market.alone))["frames"] // SLICES
            self.sender.ask("link", first=2 if self.testpmd else 1)
            self.ours.ask("link")
        self.facts |= {"packets_a_round": self.frames or NULL_PACKETS, "lost": 0, "preempted": 0}

    def _testpmd(self, stack: ExitStack) -> Testpmd | None:
        try:
            if self.kind == "ring":
                raise HostError("its rxonly sends nothing, and net_ring has no other sender")
            peer = Testpmd(self.wires, self.wires.vdev(1), self.cores)
        except HostError as error:
            self.missing[PEER] = str(error)
            return None
        return stack.enter_context(peer)

    def case(self) -> Case:
        against = PEER if self.testpmd else ""
        driver = self.kind != "tpacket"
        series = []
        if self.testpmd:
            series.append(Series(PEER, "peer", self.peer))
        if driver:
            series.append(Series("driver alone", "floor", lambda: self.run("driver")))
        against = against or ("driver alone" if driver else "")
        series.append(Series("source", "ours", lambda: self.run("source"), against))
        if self.kind == "null":
            self.missing["pipeline"] = "frames of net_null have no content"
        else:
            series += [
                Series("pipeline", "ours", lambda: self.run("pipeline"), against),
                Series("pipeline without its own work", "ours", lambda: self.own, against),
            ]
            self.facts["aim"] = AIM
        name = f"receive-{self.kind}"
        for each in series:
            each.once = True  # a run uses up its part of the session
        return Case(name, "packet", series, self.facts, missing=self.missing)

    def _slice(self, who: str) -> int:
        """The first frame of its next turn."""
        turn = self.turns[who] = self.turns.get(who, -1) + 1
        if turn >= SLICES:
            raise HostError(f"receive: the session is used up after {SLICES - 1} rounds")
        return turn * self.frames

    def _send(self, out: int, who: str) -> None:
        if self.sends:
            first = self._slice(who)
            self.sender.ask("send", out=out, first=first, count=self.frames, burst=BURST,
                            every_ns=EVERY_NS)  # fmt: skip

    def run(self, what: str) -> float:
        wanted = self.frames or NULL_PACKETS
        looped = {"looped": True, "first": self._slice(what)} if self.kind == "ring" else {}
        self.ours.begin("receive", what=what, wanted=wanted, idle_ms=IDLE_MS, **looped)
        self._send(0, what)
        got = self.ours.end()
        if not got["packets"]:
            raise HostError(f"{self.wires.receiver(0)}: nothing was received")
        self.facts["lost"] += wanted - min(wanted, got["packets"])
        self.facts["preempted"] += got["preempted"]
        self.facts[f"packets_a_poll_{what}"] = round(got["packets"] / got["polls"], 1)
        figure = float(got["ns"] / got["packets"])
        self.own = figure - got["own_ns"] / got["packets"]
        return figure

    def peer(self) -> float:
        assert self.testpmd
        self.testpmd.start()
        self._send(1, PEER)
        time.sleep(SETTLE_S if self.sends else NULL_S)
        return self.testpmd.stop()[0]
