"""A process of the live benchmarks: receives, sends or reads as its parent tells it.

``python -m pydpdk.bench.wires.agent CORE``. A line of JSON in names what to do; ``{"ready": true}``
comes back when it is about to, and its answer when it is done. The end of stdin is its end.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from pydpdk.bench.data import LINES, packets_of
from pydpdk.bench.loops import ffi, lib
from pydpdk.bench.wires import reading, stamps, trading
from pydpdk.core.ring import Reader
from pydpdk.core.utc import Utc
from pydpdk.engine.engine import Engine, Live
from pydpdk.engine.feed import Feed
from pydpdk.errors import HostError, PydpdkError
from pydpdk.source import eal
from pydpdk.source.source import Source, open_source

LINK_S = 10.0
GIVE_UP_NS = 1_000_000_000
ALL_NAP = 2**63  # until a frame is due
PACED = ("sent", "full", "begun_ns", "ended_ns", "behind", "behind_ns", "behind_max_ns")
Answer = dict[str, Any]


class Agent:
    """A method for each thing that can be told; arguments and answers are plain values."""

    def __init__(self, ready: Callable[[], None]) -> None:
        self._ready = ready
        self._stack = ExitStack()
        self._clock = self._stack.enter_context(Utc())
        self._sources: list[Source] = []
        self._engine: Engine | None = None
        self._frames: Any = None
        self._socket: socket.socket | None = None
        self._turns: trading.Turns | None = None

    def open(self, spec: str) -> Answer:
        """A source, numbered from 0."""
        source = open_source(spec, clock=self._clock)
        self._stack.callback(source.close)
        self._sources.append(source)
        return {"driver": source.known()["driver"]}

    def engine(self, orders_max: int, ring_fd: int = -1) -> Answer:
        """A live engine over source 0, as ``pydpdk run`` has it."""
        feed = Feed("itch50", LINES[:1], orders_max=orders_max, levels_max=2 * orders_max)
        live = Live(clock=self._clock, by_stamp=True, marks=True, ring_fd=ring_fd)
        self._engine = Engine(self._sources[:1], [feed], live=live, lockstep=False, sample_every=0)
        self._stack.enter_context(self._engine)
        return {}

    def run(self) -> Answer:
        """The engine in a thread of its own, to the end of this process."""
        assert self._engine is not None
        self._engine.start()
        return {}

    def load(self, path: str) -> Answer:
        """Frames of a capture, to be sent."""
        self._frames, count = self._stack.enter_context(packets_of(Path(path)))
        return {"frames": count}

    def link(self, first: int = 1) -> Answer:
        """Waits until each of the first sources can carry something."""
        deadline = time.monotonic() + LINK_S
        while any(source.link() == "down" for source in self._sources[:first]):
            if time.monotonic() > deadline:
                raise HostError(f"no link within {LINK_S:.0f} s")
            time.sleep(0.01)
        return {}

    def receive(
        self, what: str, wanted: int, idle_ms: int, first: int = 0, looped: bool = False
    ) -> Answer:
        """Of source 0, in a thread as the engine's: figures of ``struct bench_receive``.

        ``what`` is polled: the ``driver`` alone, the ``source``, or the whole ``pipeline``.

        ``preempted``: how often another process took the core meanwhile.
        """
        self._clock.update()
        before = self._own_ns()
        source = self._sources[0].pointer
        work = ffi.new(
            "struct bench_receive *",
            {
                "source": source,
                **self._polled(what),
                "looped": source if looped else ffi.NULL,
                "frames": self._frames + first if looped else ffi.NULL,
                "wanted": wanted,
                "idle_ns": idle_ms * 1_000_000,
                "burst": 64,
            },
        )
        returned: list[int] = []
        self._ready()
        preempted: list[int] = []

        def run() -> None:
            with eal.thread():
                before = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
                returned.append(lib.bench_receive(work))
                preempted.append(resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw - before)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if returned != [0]:
            raise HostError(f"{self._sources[0].spec}: it broke ({returned})")
        own = self._own_ns() - before
        return {"packets": work.packets, "polls": work.polls, "own_ns": own,
                "ns": int(lib.ticks_ns(work.ticks)), "preempted": preempted[0]}  # fmt: skip

    def _polled(self, what: str) -> dict[str, Any]:
        if what == "driver":
            return {"poll": ffi.addressof(lib, "source_poll")}
        if what == "source":
            return {}
        assert self._engine is not None
        engine = self._engine.pointer
        counters, step = lib.engine_counters(engine), ffi.addressof(lib, "engine_step")
        return {"engine": engine, "counters": counters, "step": step}

    def idle(self, polls: int) -> Answer:
        """Polls of source 0, a DPDK port: ns of all of them, how many found nothing."""
        empty = ffi.new("uint64_t *")
        ticks: list[int] = []

        def run() -> None:
            with eal.thread():
                poll = ffi.addressof(lib, "source_poll")
                ticks.append(lib.bench_idle(self._sources[0].pointer, poll, polls, empty))

        self._ready()
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return {"ns": int(lib.ticks_ns(ticks[0])), "empty": empty[0]}

    def _own_ns(self) -> int:
        """What the pipeline did beside receiving, by its own measure."""
        if self._engine is None:
            return 0
        times = self._engine.times()
        return int(times["arbitrate"].sum + times["decode"].sum)

    def send(self, out: int, first: int, count: int, burst: int, every_ns: int) -> Answer:
        """Frames of the capture through source ``out``."""
        self._ready()
        pointer, frames = self._sources[out].pointer, self._frames + first
        return {"sent": int(lib.bench_send(pointer, frames, count, burst, every_ns, GIVE_UP_NS))}

    def say(self, out: int, frame: str) -> Answer:
        """One frame (hexadecimal), offered until it is taken: a wire may want its reader first."""
        deadline = time.monotonic() + LINK_S
        while not self._sources[out].send([bytes.fromhex(frame)]):
            if time.monotonic() > deadline:
                raise HostError(f"{self._sources[out].spec}: took no frame within {LINK_S:.0f} s")
            time.sleep(0.001)
        return {}

    def pace(
        self, out: int, frame: str, sequence: int, count: int, rate: int, nap_ns: int = ALL_NAP,
        rest_ns: int = 0, messages: int = 1, stall_at: int = 0, stall_ms: int = 0,
        answers: dict[str, int] | None = None,
    ) -> Answer:  # fmt: skip
        """A frame of :mod:`pydpdk.bench.wires.stamps` again and again, its times in each.

        Figures of ``struct bench_paced``. ``stall_ms``: a planted fault, before frame
        ``stall_at``, while the schedule goes on. ``answers`` come back to a ``source``: see
        :class:`trading.Answers`; ``rows`` are ``[number, due, sent, seen]`` of each.
        """
        awaited = trading.Answers(self._sources, count, **answers) if answers else None
        one = bytes.fromhex(frame)
        held = ffi.from_buffer(bytearray(one * lib.PACED_BATCH), require_writable=True)
        paced = ffi.new(
            "struct bench_paced *",
            {
                "out": self._sources[out].pointer,
                "frames": ffi.cast("uint8_t *", held),
                "len": len(one),
                "messages": messages,
                "sequence_at": stamps.SEQUENCE_AT,
                "sent_at": stamps.SENT_AT,
                "again_at": stamps.AGAIN_AT if messages == 2 else 0,
                "late_at": stamps.LATE_AT,
                "answers": awaited.pointer if awaited else ffi.NULL,
                "stamps": awaited.stamps if awaited else ffi.NULL,
                "number_at": stamps.PRICE_AT if awaited else 0,
                "number": awaited.base if awaited else 0,
                "sequence": sequence,
                "count": count,
                "rate": rate,
                "nap_ns": nap_ns,
                "rest_ns": rest_ns,
                "give_up_ns": GIVE_UP_NS,
                "stall_at": stall_at,
                "stall_ns": stall_ms * 1_000_000,
            },
        )
        self._ready()
        _hurry(bool(nap_ns))
        rc = lib.bench_paced(paced)
        _hurry(False)
        if rc < 0:
            raise HostError(f"{self._sources[out].spec}: it broke ({rc})")
        told: Answer = {name: int(getattr(paced, name)) for name in PACED}
        return told | {"rows": awaited.rows(told["begun_ns"], rate) if awaited else []}

    def stage(self, ring_fd: int, wanted: int, idle_ms: int) -> Answer:
        """As a strategy polls its ring: ``[seen, sent, late]`` in ns of each add order."""
        with Reader(fd=ring_fd) as reader:
            self._ready()
            return {"seen": reading.stage(reader, wanted, idle_ms * 1_000_000)}

    def hops(self, ring_fd: int, wanted: int) -> Answer:
        """A histogram of the ways of so many records of csrc/bench/readers.c."""
        with Reader(fd=ring_fd) as reader:
            self._ready()
            return {"hist": reading.hops(reader, wanted).encode()}

    def count(self, first: int, step: int, idle_ms: int, ring_fd: int = -1) -> Answer:
        """A :class:`reading.Tally` of a trial, from the ring or from the socket."""
        tally = reading.Tally(first, step)
        if ring_fd < 0:
            assert self._socket is not None
            self._socket.setblocking(False)
            self._ready()
            reading.count_socket(self._socket, tally, idle_ms * 1_000_000)
            return tally.told()
        with Reader(fd=ring_fd) as reader:
            self._ready()
            reading.count_stage(reader, tally, idle_ms * 1_000_000)
        return tally.told()

    def trader(self, ring_fd: int, orders_max: int, mac: str, address: str) -> Answer:
        """A strategy at a ring, its orders to go out through source 0."""
        send = trading.Sender(self._sources[0].pointer, mac, address)
        self._turns = trading.Turns(ring_fd, orders_max, send)
        self._stack.callback(self._turns.close)
        return {}

    def trade(self, idle_ms: int) -> Answer:
        """Until the end of a turn: see :meth:`trading.Turns.turn`."""
        assert self._turns is not None
        self._ready()
        return self._turns.turn(idle_ms * 1_000_000)

    def trade_socket(self, wanted: int, idle_ms: int, spin: bool, interface: str) -> Answer:
        """The same in pure Python between two kernel sockets."""
        assert self._socket is not None
        self._socket.settimeout(0 if spin else idle_ms / 1000)
        with trading.order_socket(interface) as out:
            self._ready()
            return trading.answer(self._socket, out, wanted, idle_ms * 1_000_000)

    def join(self, interface: str, group: str, port: int) -> Answer:
        """A kernel UDP socket in a group."""
        sock = self._stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        member = socket.inet_aton(group) + bytes(4)
        member += socket.if_nametoindex(interface).to_bytes(4, sys.byteorder)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)  # struct ip_mreqn
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.bind((group, port))
        self._socket = sock
        return {}

    def datagrams(self, wanted: int, idle_ms: int, spin: bool) -> Answer:
        """As :meth:`stage`, from the socket: blocking, or polled without a pause."""
        assert self._socket is not None
        self._ready()
        if spin:
            self._socket.setblocking(False)
            return {"seen": reading.spin(self._socket, wanted, idle_ms * 1_000_000)}
        self._socket.settimeout(idle_ms / 1000)
        return {"seen": reading.block(self._socket, wanted)}

    def close(self) -> None:
        self._stack.close()


def _hurry(on: bool) -> None:
    """Before all others on its core while it sends, so that a busy stage there delays no send."""
    policy = os.SCHED_FIFO if on else os.SCHED_OTHER
    with suppress(PermissionError):
        os.sched_setscheduler(0, policy, os.sched_param(int(on)))


def main(core: int) -> None:
    os.sched_setaffinity(0, {core})
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its round, then this process
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what DPDK prints
    agent = Agent(lambda: print('{"ready": true}', file=out))
    try:
        for line in sys.stdin:
            told = json.loads(line)
            try:
                answer = getattr(agent, told.pop("do"))(**told)
            except PydpdkError as error:
                answer = {"error": str(error)}
            print(json.dumps(answer), file=out)
    finally:
        agent.close()


if __name__ == "__main__":
    main(int(sys.argv[1]))
