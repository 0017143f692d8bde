"""A process of the live benchmarks: receives, sends or reads as its parent tells it.

``python -m pydpdk.bench.agent CORE``. A line of JSON in names what to do; ``{"ready": true}`` comes
back when it is about to, and its answer when it is done. The end of stdin is its end.
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

from pydpdk._core import ffi, lib
from pydpdk.bench.data import LINES, packets_of
from pydpdk.engine import Engine, Live
from pydpdk.errors import HostError, PydpdkError
from pydpdk.feed import Feed
from pydpdk.ring import Reader
from pydpdk.source import Source, open_source
from pydpdk.utc import Utc

LINK_S = 10.0
GIVE_UP_NS = 1_000_000_000
LOOKS = 10_000  # at ring or socket between two looks at the clock
ADD = lib.EVENT_ADD
# Of a MoldUDP64 packet with one ITCH add order, from the start of an untagged Ethernet frame.
SEQUENCE_AT, SENT_AT, LATE_AT = 52, 75, 84
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
        self._engine = Engine(self._sources[:1], [feed], live=live, lockstep=False)
        self._stack.enter_context(self._engine)
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
        self, what: int, wanted: int, idle_ms: int, first: int = 0, looped: bool = False
    ) -> Answer:
        """Of source 0, in a thread as the engine's: figures of ``struct bench_receive``.

        ``preempted``: how often another process took the core meanwhile.
        """
        self._clock.update()
        before = self._own_ns()
        source = self._sources[0].pointer
        work = ffi.new(
            "struct bench_receive *",
            {
                "source": source,
                "engine": self._engine.pointer if self._engine else ffi.NULL,
                "looped": source if looped else ffi.NULL,
                "frames": self._frames + first if looped else ffi.NULL,
                "wanted": wanted,
                "idle_ns": idle_ms * 1_000_000,
                "what": what,
                "burst": 64,
            },
        )
        returned: list[int] = []
        self._ready()
        preempted: list[int] = []

        def run() -> None:
            lib.port_thread_begin()
            before = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
            returned.append(lib.bench_receive(work))
            preempted.append(resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw - before)
            lib.port_thread_end()

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if returned != [0]:
            raise HostError(f"{self._sources[0].spec}: it broke ({returned})")
        own = self._own_ns() - before
        return {"packets": work.packets, "polls": work.polls, "own_ns": own,
                "ns": int(lib.ticks_ns(work.ticks)), "preempted": preempted[0]}  # fmt: skip

    def idle(self, polls: int) -> Answer:
        """Polls of source 0, a DPDK port: ns of all of them, how many found nothing."""
        empty = ffi.new("uint64_t *")
        ticks: list[int] = []

        def run() -> None:
            lib.port_thread_begin()
            ticks.append(lib.bench_idle(self._sources[0].pointer, polls, empty))
            lib.port_thread_end()

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
        """One frame (hexadecimal)."""
        return {"sent": self._sources[out].send([bytes.fromhex(frame)])}

    def pace(self, out: int, frame: str, sequence: int, count: int, interval_ns: int) -> Answer:
        """An add order again and again, with the time of each in it."""
        data = bytearray.fromhex(frame)
        data[SEQUENCE_AT : SEQUENCE_AT + 8] = sequence.to_bytes(8, "big")
        held = ffi.from_buffer("uint8_t[]", data, require_writable=True)
        paced = ffi.new(
            "struct bench_paced *",
            {
                "out": self._sources[out].pointer,
                "frame": held,
                "len": len(data),
                "sequence_at": SEQUENCE_AT,
                "sent_at": SENT_AT,
                "late_at": LATE_AT,
                "count": count,
                "interval_ns": interval_ns,
            },
        )
        self._ready()
        _hurry(True)
        lib.bench_paced(paced)
        _hurry(False)
        return {"sent": paced.taken}

    def stage(self, ring_fd: int, wanted: int, idle_ms: int) -> Answer:
        """As a strategy polls its ring: ``[seen, sent, late]`` in ns of each add order."""
        with Reader(fd=ring_fd) as reader:
            self._ready()
            return {"seen": _stage(reader, wanted, idle_ms * 1_000_000)}

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
            return {"seen": _spin(self._socket, wanted, idle_ms * 1_000_000)}
        self._socket.settimeout(idle_ms / 1000)
        return {"seen": _block(self._socket, wanted)}

    def close(self) -> None:
        self._stack.close()


def _hurry(on: bool) -> None:
    """Before all others on its core while it sends, so that a busy stage there delays no send."""
    policy = os.SCHED_FIFO if on else os.SCHED_OTHER
    with suppress(PermissionError):
        os.sched_setscheduler(0, policy, os.sched_param(int(on)))


def _stage(reader: Reader, wanted: int, idle_ns: int) -> list[list[int]]:
    seen: list[list[int]] = []
    ready, clock = reader.ready, time.monotonic_ns
    last = clock()
    while len(seen) < wanted:
        late = clock() - last > idle_ns  # and then one look more: this process may have slept
        for _ in range(LOOKS):
            if ready():
                break
        else:
            if late:
                break
            continue
        events = reader.batch()
        last = clock()
        adds = events[events["kind"] == ADD]
        seen += [[last, int(add["order_id"]), int(add["size"])] for add in adds]
        reader.release()
    return seen


def _spin(sock: socket.socket, wanted: int, idle_ns: int) -> list[list[int]]:
    seen: list[list[int]] = []
    buffer, clock = bytearray(2048), time.monotonic_ns
    last, receive = clock(), sock.recv_into
    while len(seen) < wanted and clock() - last < idle_ns:
        for _ in range(LOOKS):
            with suppress(BlockingIOError):
                receive(buffer)
                last = clock()
                seen.append([last, *_stamps(buffer)])
                break
    return seen


def _block(sock: socket.socket, wanted: int) -> list[list[int]]:
    seen: list[list[int]] = []
    buffer, clock, receive = bytearray(2048), time.monotonic_ns, sock.recv_into
    with suppress(TimeoutError):
        while len(seen) < wanted:
            receive(buffer)
            seen.append([clock(), *_stamps(buffer)])
    return seen


def _stamps(payload: bytearray) -> tuple[int, int]:
    """Sent and late, as a record of the same message has them; the headers are gone."""
    sent, late = SENT_AT - 42, LATE_AT - 42
    return (
        int.from_bytes(payload[sent : sent + 8], "big"),
        int.from_bytes(payload[late : late + 4], "big"),
    )


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
