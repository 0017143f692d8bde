"""Messages grouped into packets of a transport: MoldUDP64 or IEX-TP, heartbeats, end of session.

A message has a ``position``, 1 for the first of the stream. A session starts at a position, and
its sequence numbers count from 1 there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from random import Random
from struct import Struct
from typing import NamedTuple, Protocol

from pydpdk.synth.pack import packer

HEARTBEAT, END = 0, 0xFFFF  # instead of a number of messages, in MoldUDP64
COUNT_MAX = END - 1


class Packet(NamedTuple):
    """One packet of a transport before its header."""

    ts_ns: int  # sent, since the Unix epoch
    session: int  # index into the sessions of the stream
    position: int  # of the first message; without messages, of the next one
    sequence: int  # the same in its session
    messages: int  # how many, or HEARTBEAT or END
    offset: int  # bytes of blocks before this packet in its session
    blocks: bytes  # each message behind its length


class Framing(Protocol):
    """A transport: how a block's length and a packet's header are written."""

    length: Struct
    header_size: int

    @property
    def sessions(self) -> Sequence[bytes | int]:
        """Names or numbers of the sessions of the stream."""

    def payload(self, packet: Packet) -> bytes:
        """The UDP payload of a packet."""


class MoldUDP64:
    """MoldUDP64 1.00; a session name has up to 10 characters and is padded with spaces."""

    length = packer("moldudp64_block")
    _header = packer("moldudp64_header")
    header_size = _header.size

    def __init__(self, sessions: Sequence[bytes] = (b"SYNTH00001",)) -> None:
        self.sessions = [name.ljust(10) for name in sessions]

    def payload(self, packet: Packet) -> bytes:
        header = self._header.pack(self.sessions[packet.session], packet.sequence, packet.messages)
        return header + packet.blocks


class IexTp:
    """IEX-TP 1.25; it has no end of session, a heartbeat stands for it."""

    length = packer("iextp_block")
    _header = packer("iextp_header")
    header_size = _header.size

    def __init__(
        self, sessions: Sequence[int] = (1,), protocol: int = 0x8004, channel: int = 1
    ) -> None:
        self.sessions = sessions
        self.protocol = protocol
        self.channel = channel

    def payload(self, packet: Packet) -> bytes:
        header = self._header.pack(
            1, 0, self.protocol, self.channel, self.sessions[packet.session], len(packet.blocks),
            packet.messages if packet.blocks else 0, packet.offset, packet.sequence, packet.ts_ns,
        )  # fmt: skip
        return header + packet.blocks


class Packetizer:
    """Groups ``(ts_ns, message)`` pairs into packets.

    A packet leaves when the next message would take its UDP payload over ``payload_max`` bytes,
    when its first message has waited for a time drawn from ``flush_ns``, or before a new session.
    After ``idle_ns`` without a packet a heartbeat leaves, and ``ends`` end-of-session packets,
    ``idle_ns`` apart, follow the last message. ``starts`` are the positions of later sessions.
    """

    def __init__(
        self,
        framing: Framing,
        *,
        seed: int | str = 1,
        payload_max: int = 1400,
        flush_ns: tuple[int, int] = (20_000, 100_000),
        idle_ns: int = 1_000_000_000,
        ends: int = 3,
        starts: Iterable[int] = (),
    ) -> None:
        self.framing = framing
        self.random = Random(seed).random
        self.blocks_max = payload_max - framing.header_size
        self.flush_ns = flush_ns
        self.idle_ns = idle_ns
        self.ends = ends
        self.starts = frozenset(starts)
        self.session = self.offset = 0
        self.base = self.position = 1  # of the session, of the next packet
        self.waiting: list[bytes] = []

    def __call__(self, messages: Iterable[tuple[int, bytes]]) -> Iterator[Packet]:
        prefix, length = self.framing.length.pack, self.framing.length.size
        waiting = self.waiting
        sent = flush = last = size = 0
        position = self.position
        for ts, message in messages:
            needed = length + len(message)
            full = size + needed > self.blocks_max or len(waiting) == 2 * COUNT_MAX
            if waiting and (ts > flush or full or position in self.starts):
                sent = flush if ts > flush else last
                yield self._packet(sent)
                size = 0
            if not waiting:
                while sent and ts - sent > self.idle_ns:
                    sent += self.idle_ns
                    yield self._empty(sent, HEARTBEAT)
                if position in self.starts:
                    self._start()
                flush = ts + self._patience()
            waiting += prefix(len(message)), message
            size += needed
            position += 1
            last = ts
        if waiting:
            sent = flush
            yield self._packet(sent)
        for nth in range(1, self.ends + 1):
            yield self._empty(sent + nth * self.idle_ns, END)

    def _patience(self) -> int:
        least, most = self.flush_ns
        return least + int(self.random() * (most - least))

    def _start(self) -> None:
        self.session += 1
        self.base = self.position
        self.offset = 0

    def _packet(self, ts_ns: int) -> Packet:
        """The packet of what waits."""
        count = len(self.waiting) // 2
        packet = self._empty(ts_ns, count)._replace(blocks=b"".join(self.waiting))
        self.waiting.clear()
        self.position += count
        self.offset += len(packet.blocks)
        return packet

    def _empty(self, ts_ns: int, count: int) -> Packet:
        sequence = self.position - self.base + 1
        return Packet(ts_ns, self.session, self.position, sequence, count, self.offset, b"")
