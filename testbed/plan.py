"""What the feeder will send, worked out before it sends: a function of frames, faults and seed.

Every destination of the frames is a line, in order of appearance: A, then B. Each line has faults
of its own, drawn from its own random numbers. Only packets with messages are lost, sent twice or
held back: heartbeats and the end of a session always go, so that every gap shows itself. A packet
that is held back goes after 1 to ``reorder_max`` later ones of its line, and nothing else is held
meanwhile, so every packet that is held is really overtaken.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from struct import Struct, unpack_from

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from testbed.datagrams import HEAD, OTHER, Rows, read

CHUNK = 1 << 16  # frames looked at in one go: bounds the memory
MAGIC = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}  # to the nanoseconds of a unit of a classic pcap


class Feed:
    """Ethernet frames to be sent, with the time of each in nanoseconds (ascending)."""

    def __init__(self, frames: Sequence[bytes], times_ns: Sequence[int] | None = None) -> None:
        self.lengths = np.fromiter(map(len, frames), np.int64, len(frames))
        self.offsets = np.cumsum(self.lengths) - self.lengths
        # Spare bytes behind the last frame, so that HEAD of them can be read from any.
        self.data = np.frombuffer(b"".join(frames) + bytes(HEAD), np.uint8)
        times = np.zeros(len(frames), np.int64) if times_ns is None else np.array(times_ns)
        self.times_ns = np.maximum.accumulate(times.astype(np.int64))
        self.rows = np.concatenate([self._rows(n) for n in range(0, len(frames) or 1, CHUNK)])

    def _rows(self, first: int) -> Rows:
        part = slice(first, first + CHUNK)
        heads = sliding_window_view(self.data, HEAD)[self.offsets[part]]
        return read(heads, self.lengths[part])

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def capture(cls, path: str | Path) -> Feed:
        """From a classic pcap of Ethernet in micro- or nanoseconds, perhaps ``.gz``.

        Raises ValueError for another file; a record that is cut short ends it.
        """
        data = Path(path).read_bytes()
        if str(path).endswith(".gz"):
            data = gzip.decompress(data)
        for order in "<>":
            if len(data) >= 24 and unpack_from(f"{order}I", data)[0] in MAGIC:
                return cls(*_records(data, order))
        raise ValueError(f"{path}: no classic pcap file; editcap -F nsecpcap makes one")


def _records(data: bytes, order: str) -> tuple[list[bytes], list[int]]:
    unit = MAGIC[unpack_from(f"{order}I", data)[0]]
    record = Struct(f"{order}IIII")
    frames, times, at = [], [], 24
    while at + 16 <= len(data):
        seconds, part, size, _ = record.unpack_from(data, at)
        at += 16 + size
        if at > len(data):
            break
        frames.append(data[at - size : at])
        times.append(seconds * 10**9 + part * unit)
    return frames, times


@dataclass(frozen=True)
class Faults:
    """What a line does: probabilities per packet with messages, and how late the line is."""

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    late_us: float = 0.0
    reorder_max: int = 3


@dataclass(frozen=True)
class Plan:
    """Sends in order; ``frame`` is the index of what is sent, ``time_ns`` counts from the start."""

    feed: Feed
    frame: Rows
    time_ns: Rows
    copied: Rows  # the send repeats the one before it on its line
    held: Rows  # the send comes late
    lost: Rows  # frames that are not sent

    def __len__(self) -> int:
        return len(self.frame)


def plan(
    feed: Feed,
    faults: Sequence[Faults] = (Faults(),),
    *,
    seed: int = 1,
    pps: float | None = None,
    speed: float = 1.0,
    burst: int = 1,
) -> Plan:
    """Faults of lines A, B and so on (the last one stands for all further lines) put on a feed.

    Frames leave at ``pps`` a second over all lines together, or at ``speed`` times their
    recorded pace; ``burst`` of them at once, the mean rate being the same.
    """
    recorded = feed.times_ns - feed.times_ns[:1].sum()
    due = np.arange(len(feed)) * (1e9 / pps) if pps else recorded / speed
    if burst > 1 and len(due):
        lasts = np.minimum(np.arange(len(due)) // burst * burst + burst, len(due)) - 1
        due = due[lasts]
    line_of = _lines(feed.rows)
    parts = [_sends(feed, due, np.flatnonzero(line_of < 0), Faults(), (seed, 0))]
    for line in range(line_of.max(initial=-1) + 1):
        bad = faults[min(line, len(faults) - 1)]
        parts.append(_sends(feed, due, np.flatnonzero(line_of == line), bad, (seed, line + 1)))
    joined = (np.concatenate(part) for part in zip(*parts, strict=True))
    frame, anchor, time_ns, copied, held, lost = joined
    order = np.lexsort((anchor, time_ns))  # stable: the order within a line stays
    return Plan(feed, frame[order], time_ns[order], copied[order], held[order], np.sort(lost))


def _lines(rows: Rows) -> Rows:
    """The number of each frame's line, -1 for what is no datagram of a session."""
    key = rows["group"].astype(np.uint64) << np.uint64(16) | rows["port"]
    known = rows["protocol"] != OTHER
    keys, firsts, which = np.unique(key[known], return_index=True, return_inverse=True)
    number = np.empty(len(keys), np.int64)
    number[np.argsort(firsts)] = np.arange(len(keys))
    lines = np.full(len(rows), -1)
    lines[known] = number[which]
    return lines


def _sends(
    feed: Feed, due: Rows, frames: Rows, faults: Faults, seed: tuple[int, int]
) -> tuple[Rows, Rows, Rows, Rows, Rows, Rows]:
    """One line's frame, anchor (the frame in whose place it goes), time, copied, held, lost.

    RandomState, because its numbers never change.
    """
    loss, duplicate, reorder, places = np.random.RandomState(seed).random_sample((4, len(frames)))
    data = feed.rows["messages"][frames] > 0
    gone = data & (loss < faults.loss)
    stays = np.flatnonzero(~gone)
    data = data[stays]
    behind = _held(
        data,
        data & (reorder[stays] < faults.reorder),
        1 + (places[stays] * faults.reorder_max).astype(np.int64),
    )
    twice = np.flatnonzero(data & (duplicate[stays] < faults.duplicate) & (behind == 0))
    # Places in the line: a copy right behind its frame, one held right behind who overtook it.
    place = np.arange(len(stays))
    places = np.concatenate([place + behind + 0.5 * (behind > 0), twice + 0.25])
    order = np.argsort(places, kind="stable")
    what = np.concatenate([place, twice])[order]
    frame = frames[stays][what]
    anchor = frames[stays][places[order].astype(np.int64)]
    time_ns = np.maximum(due[anchor] + faults.late_us * 1000, 0).astype(np.int64)
    copied = np.concatenate([np.zeros(len(place), bool), np.ones(len(twice), bool)])[order]
    held = (behind > 0)[what] & ~copied
    return frame, anchor, time_ns, copied, held, frames[gone]


def _held(data: Rows, wanted: Rows, places: Rows) -> Rows:
    """By how many places each frame comes later: one at a time, and never behind control."""
    behind = np.zeros(len(data), np.int64)
    control = np.append(np.cumsum(~data), 0)
    free = 0
    for n in np.flatnonzero(wanted):
        to = n + places[n]
        if n >= free and to < len(data) and control[to] == control[n]:
            behind[n] = places[n]
            free = to + 1
    return behind
