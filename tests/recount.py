"""A MoldUDP64 capture recounted from its bytes: nothing here knows the core."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.itch50_spec import unpack
from tests.naive_book import NaiveBooks

END = 0xFFFF


class Packet(NamedTuple):
    """One packet of an untagged IPv4 frame in a little-endian nanosecond pcap."""

    ts: int
    line: str
    sequence: int
    messages: list[bytes]


def records(path: Path) -> Iterator[tuple[int, bytes]]:
    """(ns, frame), as the file has them."""
    data = path.read_bytes()
    assert struct.unpack_from("<I", data) == (0xA1B23C4D,)
    at = 24
    while at < len(data):
        seconds, nanoseconds, size = struct.unpack_from("<III", data, at)
        yield seconds * 10**9 + nanoseconds, data[at + 16 : at + 16 + size]
        at += 16 + size


def split(path: Path, parts: dict[Path, Any]) -> None:
    """Copy frames into one capture for each of ``parts``: those its test(ts, frame) accepts."""
    head = path.read_bytes()[:24]
    for part, wanted in parts.items():
        frames = [(ts, frame) for ts, frame in records(path) if wanted(ts, frame)]
        part.write_bytes(head + b"".join(
            struct.pack("<IIII", *divmod(ts, 10**9), len(frame), len(frame)) + frame
            for ts, frame in frames
        ))  # fmt: skip


def packets(path: Path) -> list[Packet]:
    """All of them, in the order of the file."""
    found = []
    for ts, frame in records(path):
        group, port = ".".join(map(str, frame[30:34])), struct.unpack_from(">H", frame, 36)[0]
        sequence, count = struct.unpack_from(">QH", frame, 52)
        messages, at = [], 62
        for _ in range(0 if count == END else count):
            (size,) = struct.unpack_from(">H", frame, at)
            messages.append(frame[at + 2 : at + 2 + size])
            at += 2 + size
        found.append(Packet(ts, f"{group}:{port}", sequence, messages))
    return found


def delivered(path: Path, until: int | None = None) -> dict[int, bytes]:
    """Messages by sequence: of every one the first copy, of those before ``until`` (ns)."""
    found: dict[int, bytes] = {}
    for packet in packets(path):
        if until is None or packet.ts <= until:
            for i, message in enumerate(packet.messages):
                found.setdefault(packet.sequence + i, message)
    return dict(sorted(found.items()))


def gaps(path: Path) -> dict[str, tuple[int, int]]:
    """Holes, and messages in them, that each line shows of itself."""
    expected: dict[str, int] = {}
    seen: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for packet in packets(path):
        hole = packet.sequence - expected.get(packet.line, packet.sequence)
        count, lost = seen[packet.line]
        seen[packet.line] = (count + (hole > 0), lost + max(hole, 0))
        after = packet.sequence + len(packet.messages)
        expected[packet.line] = max(after, expected.get(packet.line, 0))
    return dict(seen)


def books(messages: dict[int, bytes]) -> NaiveBooks:
    """Naive books after these ITCH 5.0 messages."""
    naive = NaiveBooks()
    for message in messages.values():
        m: dict[str, Any] = unpack(message)
        order = m.get("order_reference", 0)
        match chr(m["type"]):
            case "R":
                naive.symbols[m["locate"]] = m["stock"]
            case "A" | "F":
                side = 1 if m["side"] == b"B" else 2
                naive.add(m["locate"], side, order, m["price"], m["shares"])
            case "E" | "C" | "X":
                naive.reduce(order, m["shares"])
            case "D":
                naive.delete(order)
            case "U":
                naive.replace(order, m["new_order_reference"], m["price"], m["shares"])
    return naive
