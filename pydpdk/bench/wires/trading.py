"""Who answers an order with an order: the stage of a run, and pure Python between two sockets.

Both bid for 100 shares at the price of every add order they see, and send an OUCH 5.0 Enter Order
in a UDP datagram of its own: order entry over TCP does not exist here yet. The price is also the
number of the tick, so whoever sent it knows which order answers which.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np

from pydpdk.bench.loops import ffi, lib
from pydpdk.bench.wires.stamps import HEADERS, SEQUENCE_AT
from pydpdk.core.closes import Closes
from pydpdk.core.event import Event, Events, records
from pydpdk.core.hist import Hist
from pydpdk.core.ring import Reader
from pydpdk.engine.feed import Feed
from pydpdk.gateway.sim import SimVenue
from pydpdk.process.stage_process import Seat
from pydpdk.source.source import Source
from pydpdk.stage.stage import Orders, Stage
from pydpdk.trade.desk import Trading
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


class Sender(SimVenue):
    """The simulated venue, before which each order goes out through a source as a frame."""

    def __init__(self, out: Any, mac: str, address: str) -> None:
        super().__init__()
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
        self.begin()

    def begin(self) -> None:
        """Forget what was sent."""
        self.times = {name: Hist() for name in ("encode: per order", "send: per burst")}
        self.sent: list[tuple[int, int]] = []
        """Wire price of each order, and when it was encoded (CLOCK_MONOTONIC, ns)."""

    def market(self, events: Events, now: int) -> None:
        """Learn symbols from the directory records, too."""
        named = events[events["kind"] == lib.EVENT_INSTRUMENT]
        self._symbols[named["instrument_id"]] = named["order_id"]
        super().market(events, now)

    def orders(self, orders: Events, now: int) -> None:
        """Send them in bursts."""
        for at in range(0, len(orders), lib.BENCH_ORDERS_MAX):
            some = orders[at : at + lib.BENCH_ORDERS_MAX]
            begun = time.monotonic_ns()
            lib.bench_orders(self.work, records(some), len(some))
            self.times["encode: per order"].add(self.work.encode_ns // len(some), len(some))
            self.times["send: per burst"].add(self.work.send_ns)
            ready = begun + self.work.encode_ns
            self.sent += [(price // UNIT, ready) for price in some["price"].tolist()]
        super().orders(orders, now)


class Turns(Closes):
    """The seat of a stage process, turn by turn."""

    def __init__(self, ring_fd: int, orders_max: int, sender: Sender) -> None:
        self._stack = ExitStack()
        self._sender = self._stack.enter_context(sender)
        self._risk = self._stack.enter_context(Risk(RISK, orders_max=orders_max))
        self._reader = self._stack.enter_context(Reader(fd=ring_fd, from_start=True))
        feed = Feed("itch50", orders_max=orders_max, levels_max=2 * orders_max)
        seat = Seat(self._reader, [feed], Trading(Follow(), self._risk, sender))
        self._seat = self._stack.enter_context(seat)

    def turn(self, idle_ns: int) -> Answer:
        """Until a system event: ``rows`` are ``[price, begun, ready]`` of each order sent.

        ``begun``: its batch was seen; ``ready``: it was encoded; CLOCK_MONOTONIC ns.
        ``hists``: of strategy and risk, encode and send, by name, encoded.
        """
        self._sender.begin()
        inside = self._seat.times["stage"], self._seat.times["risk"]
        before = [hist.copy() for hist in inside]
        rows = self._until_system(idle_ns)
        parts = [now.since(then) for now, then in zip(inside, before, strict=True)]
        hists = dict(zip(("strategy: per batch", "risk: per order"), parts, strict=True))
        work, stats = self._sender.work, self._risk.stats()
        return {
            "rows": rows,
            "hists": {name: hist.encode() for name, hist in (hists | self._sender.times).items()},
            "rejected": stats["rejected"], "refused": work.refused, "unsent": work.unsent,
        }  # fmt: skip

    def _until_system(self, idle_ns: int) -> list[list[int]]:
        """Spins: what a nap of the stage adds is not what is asked here."""
        ready, clock = self._reader.ready, time.monotonic_ns
        seat, sent = self._seat, self._sender.sent
        rows: list[list[int]] = []
        last, ended = clock(), False
        while not ended and clock() - last < idle_ns:
            for _ in range(LOOKS):
                if not ready():
                    continue
                for batch, now in seat.batches.poll():
                    seat.on_batch(batch, now)
                    rows += [[price, seat.begun, at] for price, at in sent[len(rows) :]]
                    ended |= bool(np.any(batch["kind"] == lib.EVENT_SYSTEM))
                last = clock()
                break
        return rows

    def close(self) -> None:
        """Leave the ring."""
        self._stack.close()


def order_socket(interface: str) -> socket.socket:
    """That sends to GROUP through an interface."""
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    through = struct.pack("=4s4si", bytes(4), bytes(4), socket.if_nametoindex(interface))
    out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, through)  # struct ip_mreqn
    return out


def answer(sock: socket.socket, out: socket.socket, wanted: int, idle_ns: int) -> Answer:
    """As :meth:`Turns.turn` without books and limits: parse, decide, send; ``rows`` alone."""
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
