"""Who reads at the end of a live benchmark: a Python stage at its ring, or at a kernel socket.

``rows``: ``[seen, sent, late]`` in ns of each add order; a :class:`Tally` keeps what becomes of
millions of them.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from pydpdk.bench.loops import lib
from pydpdk.bench.wires.stamps import HEADERS, SEQUENCE_AT, of_payload
from pydpdk.core.event import Events
from pydpdk.core.hist import Hist
from pydpdk.core.ring import Reader

HOP_IDLE_NS = 1_000_000_000
LOOKS = 10_000  # at ring or socket between two looks at the clock
ADD, SYSTEM = lib.EVENT_ADD, lib.EVENT_SYSTEM
SEQUENCE = slice(SEQUENCE_AT - HEADERS, SEQUENCE_AT - HEADERS + 8)
KIND_AT = SEQUENCE.stop + 4  # of the first message: after its count and length


class Tally:
    """Add orders of one trial: received, missing by their sequence, and how long they took.

    Each order is ``step`` messages after the one before; the first has sequence ``first``.
    """

    def __init__(self, first: int, step: int) -> None:
        self.expected = first
        self.step = step
        self.received = self.lost = self.again = self.last_ns = 0
        self.service, self.response = Hist(), Hist()

    def add(self, seen: Any, sequences: Any, sent: Any, late: Any) -> None:
        """Orders in the order of their coming, int64 arrays of one length above 0."""
        ahead = np.diff(sequences, prepend=self.expected - self.step) // self.step - 1
        self.again += int(np.count_nonzero(ahead < 0))
        self.lost += int(np.maximum(ahead, 0).sum())
        self.received += len(seen)
        self.expected = int(sequences[-1]) + self.step
        took = seen - sent
        self.service.record(took)
        self.response.record(took + late - 1)
        self.last_ns = int(took[-1] + late[-1] - 1)

    def end(self, sequence: int) -> None:
        """The message after the last order has this number."""
        self.lost += (sequence - self.expected) // self.step
        self.expected = sequence

    def told(self) -> dict[str, Any]:
        """As plain values, histograms encoded.

        ``again``: orders that came a second time; ``last_ns``: the response of the last one.
        """
        return {"received": self.received, "lost": self.lost, "again": self.again,
                "expected": self.expected, "last_ns": self.last_ns,
                "service": self.service.encode(), "response": self.response.encode()}  # fmt: skip


def _batches(reader: Reader, idle_ns: int) -> Iterator[tuple[int, Events]]:
    """(when, records) as a strategy polls; ends with no news for so long."""
    ready, clock = reader.ready, time.monotonic_ns
    last = clock()
    while True:
        late = clock() - last > idle_ns  # and then one look more: this process may have slept
        for _ in range(LOOKS):
            if ready():
                break
        else:
            if late:
                return
            continue
        events = reader.batch()
        last = clock()
        yield last, events
        reader.release()


def stage(reader: Reader, wanted: int, idle_ns: int) -> list[list[int]]:
    """Rows, as many as wanted."""
    seen: list[list[int]] = []
    for now, events in _batches(reader, idle_ns):
        adds = events[events["kind"] == ADD]
        seen += [[now, int(add["order_id"]), int(add["size"])] for add in adds]
        if len(seen) >= wanted:
            reader.release()
            break
    return seen


def hops(reader: Reader, wanted: int) -> Hist:
    """The time that each record took, by its ts_event."""
    ways: list[int] = []
    for now, events in _batches(reader, HOP_IDLE_NS):
        ways += [now - put for put in events["ts_event"].tolist()]
        if len(ways) >= wanted:
            reader.release()
            break
    return Hist.from_values(ways)


def count_stage(reader: Reader, tally: Tally, idle_ns: int) -> None:
    """Until a system event, which the sender says when it is done."""
    for now, events in _batches(reader, idle_ns):
        kinds = events["kind"]
        adds = events[kinds == ADD]
        if len(adds):
            sequences, sent, late = (
                adds[name].astype(np.int64) for name in ("sequence", "order_id", "size")
            )
            tally.add(np.full(len(adds), now), sequences, sent, late)
        ends = events["sequence"][kinds == SYSTEM]
        if len(ends):
            tally.end(int(ends[-1]))
            reader.release()
            break


def count_socket(sock: socket.socket, tally: Tally, idle_ns: int) -> None:
    """The same from datagrams, without a wait for more in the socket: polled."""
    rows: list[tuple[int, ...]] = []
    buffer, clock, receive = bytearray(2048), time.monotonic_ns, sock.recv_into
    number = int.from_bytes
    last, end = clock(), 0
    while not end and clock() - last < idle_ns:
        for _ in range(LOOKS):
            with suppress(BlockingIOError):
                receive(buffer)
                last = clock()
                if buffer[KIND_AT] != ord("A"):
                    end = number(buffer[SEQUENCE], "big")
                    break
                rows.append((last, number(buffer[SEQUENCE], "big"), *of_payload(buffer)))
    if rows:
        tally.add(*np.array(rows, np.int64).T)
    if end:
        tally.end(end)


def spin(sock: socket.socket, wanted: int, idle_ns: int) -> list[list[int]]:
    """Rows from datagrams, polled without a pause."""
    seen: list[list[int]] = []
    buffer, clock = bytearray(2048), time.monotonic_ns
    last, receive = clock(), sock.recv_into
    while len(seen) < wanted and clock() - last < idle_ns:
        for _ in range(LOOKS):
            with suppress(BlockingIOError):
                receive(buffer)
                last = clock()
                seen.append([last, *of_payload(buffer)])
                break
    return seen


def block(sock: socket.socket, wanted: int) -> list[list[int]]:
    """The same from a blocking socket with a time-out."""
    seen: list[list[int]] = []
    buffer, clock, receive = bytearray(2048), time.monotonic_ns, sock.recv_into
    with suppress(TimeoutError):
        while len(seen) < wanted:
            receive(buffer)
            seen.append([clock(), *of_payload(buffer)])
    return seen
