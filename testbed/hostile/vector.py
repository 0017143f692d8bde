"""What a hostile vector is, and the good traffic that stands around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from struct import pack
from typing import Any

from testbed import frames

START_NS = 1_700_000_000_000_000_000  # when the first frame of a vector comes
GROUP_A, GROUP_B, PORT = frames.GROUP, "233.49.196.111", 26_477
GROUP_IEX, PORT_IEX = "233.215.21.4", 10_378
LINES = {
    "itch50": (f"{GROUP_A}:{PORT}", f"{GROUP_B}:{PORT}"),
    "deep10": (f"{GROUP_IEX}:{PORT_IEX}",),
}
ETHERNET = 1
SNAPLEN = 262_144


@dataclass(frozen=True)
class Frame:
    """A captured frame, ``after_us`` behind the one before it."""

    data: bytes
    after_us: int = 100
    wirelen: int | None = None  # None: all of it was captured


@dataclass(frozen=True)
class Vector:
    """Input, and all that may come of it.

    ``counters`` has every counter that moves. ``truth`` is what the venue said in its last session:
    each book must equal it or be one of ``suspect``, which is exact. ``gaps`` are the breaks that
    consumers are told, as (sequence, messages), with 0 messages where copies differ. ``sessions``
    are the accounts, as (first, next). ``file`` is the capture when it is not a plain record of
    the frames, and ``error`` a part of what the source then says, or the opening of it when it is
    ``refused``. ``driver`` has the counters that differ behind net_pcap, ``driver_why`` says why.
    """

    id: str
    frames: tuple[Frame, ...]
    counters: dict[str, int]
    truth: tuple[bytes, ...]
    suspect: frozenset[int] = frozenset()
    gaps: tuple[tuple[int, int], ...] = ()
    sessions: tuple[tuple[int, int], ...] = ((1, 4),)
    protocol: str = "itch50"
    lines: tuple[str, ...] = ()
    link: int = ETHERNET
    checksum: str = "auto"
    options: dict[str, Any] = field(default_factory=dict)  # of the feed
    file: bytes | None = None
    error: str = ""
    refused: bool = False
    driver: dict[str, int] = field(default_factory=dict)
    driver_why: str = ""

    @property
    def number(self) -> int:
        """Of the case among the hostile ones; 0 for what is only needed around them."""
        return int(self.id[1:].partition("_")[0])

    @property
    def group(self) -> str:
        return self.id[0]

    def capture(self) -> bytes:
        """The capture file: `file`, or a classic pcap in nanoseconds."""
        return pcap(self.frames, link=self.link) if self.file is None else self.file


def pcap_record(ts_ns: int, frame: Frame, order: str = "<", unit_ns: int = 1) -> bytes:
    wirelen = len(frame.data) if frame.wirelen is None else frame.wirelen
    seconds, rest = divmod(ts_ns, 10**9)
    return pack(f"{order}4I", seconds, rest // unit_ns, len(frame.data), wirelen) + frame.data


def pcap(
    frames: Sequence[Frame],
    *,
    link: int = ETHERNET,
    order: str = "<",
    unit_ns: int = 1,
    magic: int | None = None,
    snaplen: int = SNAPLEN,
    start_ns: int = START_NS,
) -> bytes:
    """A classic pcap file; nothing is checked."""
    if magic is None:
        magic = 0xA1B23C4D if unit_ns == 1 else 0xA1B2C3D4
    parts = [pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, snaplen, link)]
    ts = start_ns
    for frame in frames:
        ts += frame.after_us * 1000
        parts.append(pcap_record(ts, frame, order, unit_ns))
    return b"".join(parts)


# --- the good traffic: one instrument, a bid and an ask ---

DIRECTORY = frames.itch_directory(ts=1)
BID = frames.itch_add(1, b"B", 100, 1_000_000, ts=2)
ASK = frames.itch_add(2, b"S", 200, 1_010_000, ts=3)
TRUTH = (DIRECTORY, BID, ASK)


def line_a(sequence: int, *messages: bytes, after_us: int = 100, **header: Any) -> Frame:
    """A right frame of line A around a MoldUDP64 packet, of which `header` says what is odd."""
    payload = frames.mold(sequence=sequence, messages=messages, **header)
    return Frame(frames.datagram(payload, dst=GROUP_A), after_us)


def line_b(sequence: int, *messages: bytes, after_us: int = 100, **header: Any) -> Frame:
    payload = frames.mold(sequence=sequence, messages=messages, **header)
    return Frame(frames.datagram(payload, dst=GROUP_B), after_us)


def iex(sequence: int, *messages: bytes, after_us: int = 100, **header: Any) -> Frame:
    payload = frames.iextp(sequence=sequence, messages=messages, **header)
    return Frame(frames.datagram(payload, dst=GROUP_IEX, dst_port=PORT_IEX), after_us)


FIRST, LAST = line_a(1, DIRECTORY, BID), line_a(3, ASK)
ACCOUNT = ("delivered", "duplicate", "late", "cut", "untrusted")
DROP = "drop_"


def counts(
    frames_received: int, gaps: Sequence[tuple[int, int]] = (), **moved: int
) -> dict[str, int]:
    """`moved` and what follows from it when every account closes.

    Of the messages only `messages_decoded` and the odd ones are given: those delivered are the
    decoded and the undecodable ones, those received all of them; gaps come from `gaps`.
    """
    out = {name: n for name, n in moved.items() if n}
    dropped = sum(n for name, n in moved.items() if name.startswith(DROP))
    delivered = sum(
        moved.get(n, 0) for n in ("messages_decoded", "message_unknown", "message_length")
    )
    out["frames_received"] = frames_received
    out["frames_parsed"] = frames_received - dropped
    out["messages_delivered"] = delivered
    out["messages_received"] = delivered + sum(moved.get(f"messages_{n}", 0) for n in ACCOUNT[1:])
    out["messages_lost"] = sum(n for _, n in gaps)
    out["messages_expected"] = delivered + out["messages_lost"]
    out["gaps_declared"] = sum(n > 0 for _, n in gaps)
    out["gaps_detected"] = out["gaps_declared"] + moved.get("gaps_healed", 0)
    return {name: n for name, n in out.items() if n}


def stray(id: str, *hostile: bytes | Frame, moved: dict[str, int], **rest: Any) -> Vector:
    """Hostile frames between the good ones: they move `moved` and nothing else."""
    inner = [Frame(frame) if isinstance(frame, bytes) else frame for frame in hostile]
    base = {"messages_decoded": 3, "events_written": 6}
    total = {name: base.get(name, 0) + moved.get(name, 0) for name in base | moved}
    return Vector(id, (FIRST, *inner, LAST), counts(len(inner) + 2, **total), TRUTH, **rest)


def stream(
    id: str,
    *packets: Frame,
    truth: Sequence[bytes] = TRUTH,
    gaps: Sequence[tuple[int, int]] = (),
    suspect: Sequence[int] = (),
    **rest: Any,
) -> Vector:
    """Packets of a session. Keywords that are no fields of Vector are counters, see counts()."""
    fields = {name: rest.pop(name) for name in list(rest) if name in Vector.__dataclass_fields__}
    moved = counts(len(packets), gaps, **rest)
    return Vector(id, packets, moved, tuple(truth), frozenset(suspect), tuple(gaps), **fields)
