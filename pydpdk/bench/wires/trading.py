"""Who answers an order with an order: the stage of a run, and pure Python between two sockets.

Both bid for 100 shares at the price of every add order they see, and send an OUCH 5.0 Enter Order
in a UDP datagram of its own: order entry over TCP does not exist here yet. The price is also the
number of the tick, so whoever sent it knows which order answers which.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from pydpdk.bench.loops import ffi, lib
from pydpdk.bench.wires.stamps import HEADERS, SEQUENCE_AT
from pydpdk.core.event import Event, Events, records
from pydpdk.core.hist import Hist
from pydpdk.core.ring import Reader
from pydpdk.engine.feed import Feed
from pydpdk.engine.mirror import Mirror
from pydpdk.process.stage_process import Batches
from pydpdk.source.source import Source
from pydpdk.stage.stage import Orders, Stage
from pydpdk.trade.desk import Desk, Trading
from pydpdk.trade.limits import AccountLimits, RiskConfig
from pydpdk.trade.risk import Risk

GROUP, PORT = "239.77.0.1", 26_500
MAC = b"\x01\x00\x5e\x4d\x00\x01"
ORDER_PRICE_AT = HEADERS + 18  # 8 bytes
SHARES = 100
UNIT = 100_000  # of a wire price, in 1e-9
GIVE_UP_NS = 100_000_000
LOOKS = 10_000
RISK = RiskConfig(AccountLimits(rate_max=10**9, open_max=10**9))
ADD = struct.Struct(">cHHHIQcI8sI")
ADD_AT = SEQUENCE_AT - HEADERS + 12  # after MoldUDP64's header and the length of its first message
ENTER_ORDER = struct.Struct(">cIcI8sQccccc14sH")
Answer = dict[str, Any]


class Answers:
    """What comes back to a generator: frames whose 8 bytes at ORDER_PRICE_AT are base + number."""

    def __init__(
        self, sources: Sequence[Source], count: int, source: int, base: int, linger_ms: int
    ) -> None:
        self.base = base
        self._seen, self._stamps = (np.zeros(count, np.uint64) for _ in range(2))
        self.stamps = ffi.from_buffer("uint64_t[]", self._stamps)
        self._held = ffi.from_buffer("uint64_t[]", self._seen)
        self.pointer = ffi.new(
            "struct bench_answers *",
            {"in": sources[source].pointer, "seen": self._held, "base": base,
             "at": ORDER_PRICE_AT, "port": PORT, "linger_ns": linger_ms * 1_000_000},
        )  # fmt: skip

    def rows(self, begun_ns: int, rate: int) -> list[list[int]]:
        """``[number, due, sent, seen]``, ns of CLOCK_MONOTONIC, of each that was answered."""
        numbers = np.flatnonzero(self._seen)
        sent, seen = self._stamps[numbers].tolist(), self._seen[numbers].tolist()
        return [
            [n, begun_ns + n * 10**9 // rate, sent[i], seen[i]]
            for i, n in enumerate(numbers.tolist())
        ]


class Follow(Stage):
    """Bids at the price of every order that is added."""

    def on_add(self, event: Event, orders: Orders) -> None:
        orders.buy(event.instrument_id, event.price, SHARES, ioc=True)


class Sender:
    """Approved orders encoded and sent through a source; times of both in ``times``."""

    def __init__(self, out: Any, mac: str, address: str) -> None:
        route = {
            "dst_mac": list(MAC), "src_mac": list(bytes.fromhex(mac)),
            "dst": list(socket.inet_aton(GROUP)), "src": list(socket.inet_aton(address)),
            "dport": PORT, "sport": PORT, "display": b"Y", "capacity": b"P",
            "cl_ord_id": b"PYDPDK".ljust(14),
        }  # fmt: skip
        self._symbols = np.zeros(1 << 16, np.uint64)
        self._encoder = ffi.new("struct encoder *")
        self._held = ffi.from_buffer("uint64_t[]", self._symbols)
        lib.encoder_init(self._encoder, ffi.new("struct order_route *", route), self._held,
                         len(self._symbols))  # fmt: skip
        self.work = ffi.new(
            "struct bench_orders *",
            {"out": out, "encoder": self._encoder, "give_up_ns": GIVE_UP_NS},
        )
        self.times: dict[str, Hist] = {}

    def learn(self, events: Events) -> None:
        """Symbols from the directory records among them."""
        named = events[events["kind"] == lib.EVENT_INSTRUMENT]
        self._symbols[named["instrument_id"]] = named["order_id"]

    def send(self, orders: Events) -> Iterator[tuple[Events, int]]:
        """Of a batch, in bursts: each, and when it was encoded (CLOCK_MONOTONIC, ns)."""
        for at in range(0, len(orders), lib.BENCH_ORDERS_MAX):
            some = orders[at : at + lib.BENCH_ORDERS_MAX]
            begun = time.monotonic_ns()
            lib.bench_orders(self.work, records(some), len(some))
            self.times["encode: per order"].add(self.work.encode_ns // len(some), len(some))
            self.times["send: per burst"].add(self.work.send_ns)
            yield some, begun + self.work.encode_ns


class Trader:
    """Mirror, strategy, risk and simulated venue at a ring, as in a stage process."""

    def __init__(self, ring_fd: int, orders_max: int, sender: Sender) -> None:
        self._reader = Reader(fd=ring_fd, from_start=True)
        self._batches = Batches(self._reader, 1)
        self._sender = sender
        feed = Feed("itch50", orders_max=orders_max, levels_max=2 * orders_max)
        self._mirror = Mirror(feed)
        self._risk = Risk(RISK, orders_max=orders_max)
        self._desk = Desk(Trading(Follow(), self._risk), wire=self._on_approved)
        self._desk.attach(0, self._mirror.books, self._mirror.gaps)
        self._begun = 0
        self._rows: list[list[int]] = []

    def turn(self, idle_ns: int) -> Answer:
        """Until a system event: ``rows`` are ``[price, begun, ready]`` of each order sent.

        ``begun``: its batch was seen; ``ready``: it was encoded; CLOCK_MONOTONIC ns.
        ``hists``: of strategy and risk, encode and send, by name, encoded.
        """
        self._rows = []
        self._sender.times = {name: Hist() for name in ("encode: per order", "send: per burst")}
        inside = self._desk.times["stage"], self._desk.times["risk"]
        before = [hist.copy() for hist in inside]
        self._until_system(idle_ns)
        parts = [now.since(then) for now, then in zip(inside, before, strict=True)]
        hists = dict(zip(("strategy: per batch", "risk: per order"), parts, strict=True))
        work, stats = self._sender.work, self._risk.stats()
        return {
            "rows": self._rows,
            "hists": {name: hist.encode() for name, hist in (hists | self._sender.times).items()},
            "rejected": stats["rejected"], "refused": work.refused, "unsent": work.unsent,
        }  # fmt: skip

    def _until_system(self, idle_ns: int) -> None:
        ready, clock = self._reader.ready, time.monotonic_ns
        last, ended = clock(), False
        while not ended and clock() - last < idle_ns:
            for _ in range(LOOKS):
                if not ready():
                    continue
                for batch, now in self._batches.poll():
                    ended |= self._on_batch(batch, now)
                last = clock()
                break

    def _on_batch(self, batch: Events, now: int) -> bool:
        self._begun = time.monotonic_ns()
        self._mirror.apply(batch)
        self._sender.learn(batch)
        self._desk.on_batch(batch, now, self._begun)
        return bool(np.any(batch["kind"] == lib.EVENT_SYSTEM))

    def _on_approved(self, orders: Events) -> None:
        for some, ready in self._sender.send(orders):
            prices = some["price"].tolist()
            self._rows += [[price // UNIT, self._begun, ready] for price in prices]

    def close(self) -> None:
        """Leaves the ring."""
        for part in (self._desk, self._risk, self._mirror, self._reader):
            part.close()


def order_socket(interface: str) -> socket.socket:
    """That sends to GROUP through an interface."""
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    through = struct.pack("=4s4si", bytes(4), bytes(4), socket.if_nametoindex(interface))
    out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, through)  # struct ip_mreqn
    return out


def answer(sock: socket.socket, out: socket.socket, wanted: int, idle_ns: int) -> Answer:
    """As :meth:`Trader.turn` without books and limits: parse, decide, send; ``rows`` alone."""
    rows: list[list[int]] = []
    buffer, clock, to = bytearray(2048), time.monotonic_ns, (GROUP, PORT)
    last, receive, parse, say = clock(), sock.recv_into, ADD.unpack_from, ENTER_ORDER.pack
    with suppress(TimeoutError):
        while len(rows) < wanted and clock() - last < idle_ns:
            try:
                receive(buffer)
            except BlockingIOError:
                continue
            last = clock()
            kind, _, _, _, _, _, side, _, stock, price = parse(buffer, ADD_AT)
            if kind != b"A" or side not in (b"B", b"S") or price == 0:
                continue
            order = say(b"O", len(rows) + 1, b"B", SHARES, stock, price, b"3", b"Y", b"P",
                        b"N", b"N", b"PYDPDK        ", 0)  # fmt: skip
            rows.append([price, last, clock()])
            out.sendto(order, to)
    return {"rows": rows, "hists": {}, "rejected": {}, "refused": 0, "unsent": 0}
