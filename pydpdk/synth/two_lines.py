"""Lines A and B of a feed: one stream of packets sent twice, each line with faults of its own.

What happened is written down in ``Truth`` while the frames are made, so a receiver's account can
be held against it. Heartbeats and end-of-session packets always arrive: every gap shows itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from random import Random

from pydpdk.synth.multicast import Channel, Framer
from pydpdk.synth.packetize import Framing, Packet

LINE_A = Channel("233.54.12.111", 26477, "198.51.100.1")
LINE_B = Channel("233.86.230.111", 26477, "203.0.113.1", source_mac=b"\x02\x00\x00\x00\x00\x02")
BEHIND_NS = 1_000  # a copy or a late packet leaves this long after the frame before it


@dataclass(frozen=True)
class Faults:
    """What a line does to its data packets; probabilities are per packet, from 0 to 1.

    A reordered packet leaves after 1 to ``reorder_max`` later ones. ``gaps`` are (position,
    count) of messages whose packets are lost for certain; ``poison`` is (position, jump): behind
    the packet of that message comes a copy of it that claims a sequence ``jump`` further on.
    Every frame is ``delay_ns`` late, give or take ``jitter_ns``, and frames do not overtake.
    """

    loss: float = 0.0
    dup: float = 0.0
    reorder: float = 0.0
    reorder_max: int = 3
    delay_ns: int = 0
    jitter_ns: int = 0
    gaps: tuple[tuple[int, int], ...] = ()
    poison: tuple[tuple[int, int], ...] = ()


@dataclass
class LineTruth:
    """What one line did. ``sent`` = packets - lost + duplicated + poisoned + control.

    ``lost_messages`` is the set of the positions that this line lost.
    """

    packets: int = 0  # with messages, offered to the line
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    poisoned: int = 0
    control: int = 0  # heartbeats and end-of-session packets
    sent: int = 0  # frames

    def __post_init__(self) -> None:
        self.lost_messages: set[int] = set()  # no field: asdict() stays small and plain


@dataclass
class Truth:
    """What a whole feed did: the oracle of a receiver's account.

    ``sessions`` are (name, position of its first message); with one session a position is the
    sequence number on the wire. ``last_sequence`` is that of the last session, 0 without a
    message. ``lost_on_both`` are the positions that no line delivered.
    """

    sessions: list[tuple[str | int, int]]
    lines: dict[str, LineTruth]
    messages: int = 0
    last_sequence: int = 0
    lost_on_both: set[int] = field(default_factory=set)

    def close(self) -> None:
        """Draw the sums, once every frame is sent."""
        self.last_sequence = self.messages - self.sessions[-1][1] + 1
        lost = (line.lost_messages for line in self.lines.values())
        self.lost_on_both = set.intersection(*lost)


class Line:
    """Turns packets into the frames of one channel, sorted by time, and tells ``truth``."""

    def __init__(
        self,
        channel: Channel,
        framing: Framing,
        faults: Faults,
        truth: LineTruth,
        seed: int | str = 1,
    ) -> None:
        self.framing = framing
        self.frame = Framer(channel).frame
        self.faults = faults
        self.truth = truth
        self.random = Random(seed).random
        self.now = 0
        self.late: bytes | None = None  # a payload held back
        self.to_pass = 0  # so many packets before it leaves
        self.passed = False  # by one at least, or it would not be out of order

    def __call__(self, packets: Iterable[Packet]) -> Iterator[tuple[int, bytes]]:
        for packet in packets:
            self._clock(packet.ts_ns)
            payload = self.framing.payload(packet)
            if not packet.blocks:
                self.truth.control += 1
                yield from self._release()
                yield self._send(payload)
            else:
                yield from self._data(packet, payload)
        yield from self._release()

    def _clock(self, ts_ns: int) -> None:
        faults = self.faults
        jitter = int((2 * self.random() - 1) * faults.jitter_ns) if faults.jitter_ns else 0
        self.now = max(self.now, ts_ns + max(faults.delay_ns + jitter, 0))

    def _send(self, payload: bytes) -> tuple[int, bytes]:
        self.truth.sent += 1
        return self.now, self.frame(payload)

    def _behind(self, payload: bytes) -> tuple[int, bytes]:
        self.now += BEHIND_NS
        return self._send(payload)

    def _data(self, packet: Packet, payload: bytes) -> Iterator[tuple[int, bytes]]:
        """One packet with messages: lost, held back, or sent and perhaps sent again."""
        faults, truth = self.faults, self.truth
        truth.packets += 1
        if self._chance(faults.loss) or self._holds(packet, faults.gaps):
            truth.lost += 1
            truth.lost_messages.update(range(packet.position, packet.position + packet.messages))
            return
        if self.late is None and self._chance(faults.reorder):
            self.late, self.to_pass = payload, 1 + int(self.random() * faults.reorder_max)
            self.passed = False
            return
        yield self._send(payload)
        if self._chance(faults.dup):
            truth.duplicated += 1
            yield self._behind(payload)
        for position, jump in faults.poison:
            if packet.position <= position < packet.position + packet.messages:
                truth.poisoned += 1
                yield self._behind(
                    self.framing.payload(packet._replace(sequence=packet.sequence + jump))
                )
        self.passed = True
        self.to_pass -= 1
        if self.to_pass == 0:
            yield from self._release()

    def _release(self) -> Iterator[tuple[int, bytes]]:
        """Send the packet that was held back, if there is one."""
        if self.late is not None:
            payload, self.late = self.late, None
            self.truth.reordered += self.passed
            yield self._behind(payload)

    def _chance(self, probability: float) -> bool:
        return probability > 0 and self.random() < probability

    @staticmethod
    def _holds(packet: Packet, gaps: tuple[tuple[int, int], ...]) -> bool:
        end = packet.position + packet.messages
        return any(start < end and packet.position < start + count for start, count in gaps)
