"""What frames say of themselves, many at a time: where they go, and their place in a session.

A frame is Ethernet, up to two VLAN tags, IPv4 that is no later fragment, UDP, and then IEX-TP (its
first byte is version 1, the second reserved 0) or MoldUDP64 (it begins with a session name).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

import numpy as np
from numpy.typing import NDArray

HEAD = 128  # bytes of a frame that are enough for all of its headers: 14 + 8 + 60 + 8 + 32
OTHER, MOLDUDP64, IEXTP = 0, 1, 2
PROTOCOLS = ("other", "moldudp64", "iextp")
END = 0xFFFF  # instead of a number of messages: the end of a MoldUDP64 session

DATAGRAM = np.dtype(
    [
        ("group", "u4"),
        ("port", "u2"),
        ("protocol", "u1"),
        ("session", "S10"),  # MoldUDP64: the name; IEX-TP: the number's four bytes
        ("sequence", "u8"),  # of the first message, or of the next one
        ("messages", "u2"),  # 0 in heartbeats and at the end of a session
    ]
)
Rows = NDArray[Any]
Heads = NDArray[np.uint8]


@dataclass
class Line:
    """What went over one line of one session, in the words of feeder and checker alike.

    Ranges are (first sequence, sequence behind the last)."""

    destination: str
    session: str
    protocol: str
    packets: int = 0  # with messages
    control: int = 0  # heartbeats and ends of session
    bytes: int = 0  # of all those frames
    next: int = 0  # behind the highest sequence that was told
    missing: list[tuple[int, int]] = field(default_factory=list)  # up to next
    duplicates: int = 0  # packets that had gone before
    out_of_order: int = 0  # first copies that came behind a later packet
    order: int = 0  # CRC-32 of the packets' sequences in their order, each as big-endian u64


def read(heads: Heads, lengths: Rows) -> Rows:
    """A DATAGRAM for each frame, from its first HEAD bytes (rows of ``heads``) and its length."""
    out = np.zeros(len(heads), DATAGRAM)
    ip = np.full(len(heads), 14)
    for _ in range(2):
        tagged = np.isin(_number(heads, ip - 2, 2), (0x8100, 0x88A8))
        ip += 4 * tagged
    udp = ip + 4 * (_number(heads, ip, 1) & 15)
    payload = udp + 8
    whole = (_number(heads, ip - 2, 2) == 0x0800) & (_number(heads, ip, 1) >> 4 == 4)
    whole &= (_number(heads, ip + 9, 1) == 17) & (_number(heads, ip + 6, 2) & 0x1FFF == 0)
    whole &= lengths >= payload
    out["group"] = np.where(whole, _number(heads, ip + 16, 4), 0)
    out["port"] = np.where(whole, _number(heads, udp + 2, 2), 0)
    iextp = whole & (_number(heads, payload, 2) == 0x0100) & (lengths >= payload + 40)
    mold = whole & ~iextp & (lengths >= payload + 20)
    _fill(out, mold, heads, payload, MOLDUDP64, (0, 10), (10, 8, False), (18, 2, False))
    _fill(out, iextp, heads, payload, IEXTP, (8, 4), (24, 8, True), (14, 2, True))
    out["messages"][mold & (out["messages"] == END)] = 0
    return out


def _fill(
    out: Rows, which: Rows, heads: Heads, at: Rows, protocol: int, session: tuple[int, int],
    sequence: tuple[int, int, bool], messages: tuple[int, int, bool],
) -> None:  # fmt: skip
    if not which.any():
        return
    heads, at = heads[which], at[which]
    out["protocol"][which] = protocol
    name = np.ascontiguousarray(_bytes(heads, at + session[0], session[1]))
    out["session"][which] = name.view(f"S{session[1]}")[:, 0]
    out["sequence"][which] = _number(heads, at + sequence[0], *sequence[1:])
    out["messages"][which] = _number(heads, at + messages[0], *messages[1:])


def _bytes(heads: Heads, at: Rows, size: int) -> Heads:
    columns = np.minimum(at[:, None] + np.arange(size), heads.shape[1] - 1)
    return np.take_along_axis(heads, columns, axis=1)


def _number(heads: Heads, at: Rows, size: int, little: bool = False) -> Rows:
    raw = _bytes(heads, at, size)
    value = np.zeros(len(heads), np.uint64)
    for column in range(size)[:: -1 if little else 1]:
        value = value << np.uint64(8) | raw[:, column]
    return value if size == 8 else value.astype(np.int64)


def tally(rows: Rows, lengths: Rows) -> list[Line]:
    """The lines among frames in the order in which they crossed, by destination and session."""
    return [line_of(rows[mine[0]], rows[mine], lengths[mine]) for mine in split(rows)]


def split(rows: Rows) -> list[Rows]:
    """The indices of the frames of each destination and session, by these."""
    lines = []
    known = np.flatnonzero(rows["protocol"] != OTHER)
    while len(known):
        first = rows[known[0]]
        same = np.ones(len(known), bool)
        for name in ("group", "port", "protocol", "session"):
            same &= rows[name][known] == first[name]
        lines.append(known[same])
        known = known[~same]
    key = ["group", "port", "protocol", "session"]
    return sorted(lines, key=lambda mine: rows[key][mine[0]].item())


def line_of(like: Any, rows: Rows, lengths: Rows) -> Line:
    """The line of the frame ``like``, over whose frames it begins with their lowest sequence."""
    data = rows[rows["messages"] > 0]
    sequences, firsts = np.unique(data["sequence"], return_index=True)
    behind = data["sequence"] + data["messages"]
    end = int(max(rows["sequence"].max(initial=0), behind.max(initial=0)))
    highest = np.maximum.accumulate(data["sequence"])
    return Line(
        f"{IPv4Address(int(like['group']))}:{like['port']}",
        _session(int(like["protocol"]), bytes(like["session"])),
        PROTOCOLS[like["protocol"]],
        packets=len(data),
        control=len(rows) - len(data),
        bytes=int(lengths.sum()),
        next=end,
        missing=holes(sequences, behind[firsts], end),
        duplicates=len(data) - len(sequences),
        out_of_order=int((data["sequence"] < highest)[firsts].sum()),
        order=zlib.crc32(data["sequence"].astype(">u8").tobytes()),
    )


def _session(protocol: int, raw: bytes) -> str:
    if protocol == IEXTP:
        return str(int.from_bytes(raw, "little"))
    return raw.decode("latin-1").rstrip()


def spans(rows: Rows) -> list[tuple[int, int]]:
    """The sequences of packets as ranges, touching ones joined."""
    rows = np.sort(rows, order="sequence")
    starts, ends = rows["sequence"], rows["sequence"] + rows["messages"]
    if not len(rows):
        return []
    gaps = holes(starts, ends, 0)
    firsts = [int(starts[0]), *(b for _, b in gaps)]
    return list(zip(firsts, [*(a for a, _ in gaps), int(ends.max())], strict=True))


def holes(starts: Rows, ends: Rows, end: int) -> list[tuple[int, int]]:
    """The ranges that those from ``starts`` (ascending) to ``ends`` leave open below ``end``."""
    if not len(starts):
        return []
    reached = np.maximum.accumulate(ends)
    upto = np.append(starts[1:], np.uint64(end))
    open_ = upto > reached
    return [(int(a), int(b)) for a, b in zip(reached[open_], upto[open_], strict=True)]
