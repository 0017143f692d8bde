"""What a live run must have found, worked out from what was sent, or from the raw frames it had."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pydpdk.engine.feed import Endpoint, Feed
from pydpdk.synth.market import Market, midnight_ns
from pydpdk.synth.two_lines import LINE_A
from pydpdk.tape.pcapfile import CaptureWriter
from testbed import plan as planned
from testbed.datagrams import Rows, split
from testbed.feeder import Feeder, Ledger
from tests.command import ROOT
from tests.pipeline import SMALL, replay

Room = Callable[[int], int] | None
Ranges = list[tuple[int, int]]  # (first sequence, sequence behind the last)
WITNESS = f"{ROOT}/tests/witness.py:Witness"


class Told:
    """What the stage tests/witness.py writes down."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = folder / "told"
        monkeypatch.setenv("WITNESS", str(self.path))

    def _rows(self, kind: str) -> list[tuple[int, int]]:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [(int(a), int(b)) for name, a, b in map(str.split, lines) if name == kind]

    @property
    def gaps(self) -> Ranges:
        return joined((first, first + count) for first, count in self._rows("gap"))

    @property
    def lost(self) -> int:
        """Records that the ring had no room for."""
        return sum(count for _, count in self._rows("lost"))


def joined(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """The same sequences, touching ranges joined."""
    out: Ranges = []
    for first, end in sorted(ranges):
        if out and first <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((first, end))
    return out


def count(ranges: Ranges) -> int:
    return sum(end - first for first, end in ranges)


def common(*lines: Ranges) -> Ranges:
    """The sequences that are in the ranges of every line."""
    sets = [{n for first, end in ranges for n in range(first, end)} for ranges in lines]
    return joined((n, n + 1) for n in set.intersection(*sets))


def lost_on_both(ledger: Ledger) -> Ranges:
    """What crossed on no line."""
    return common(*(sent.line.missing for sent in ledger.lines))


def healing(work: planned.Plan) -> planned.Plan:
    """The plan, with what both lines would lose sent by the second one after all, at its place."""
    rows = work.feed.rows
    first, second = (np.intersect1d(work.lost, mine) for mine in split(rows))
    give = second[np.isin(rows["sequence"][second], rows["sequence"][first])]
    sent = np.flatnonzero(~work.copied & ~work.held & (work.frame < give.max(initial=0) + 1))
    # Behind the last frame of before it that went in order.
    order = sent[np.argsort(work.frame[sent], kind="stable")]
    at = order[np.searchsorted(work.frame[order], give) - 1] + 1
    return planned.Plan(
        work.feed,
        np.insert(work.frame, at, give),
        np.insert(work.time_ns, at, work.time_ns[at - 1]),
        np.insert(work.copied, at, False),
        np.insert(work.held, at, False),
        np.setdiff1d(work.lost, give),
    )


def send(wire: Any, work: planned.Plan, *, paced: bool = True, room: Room = None) -> Ledger:
    """All of a plan, over the wire's end a."""
    with wire.a.namespace.inside():
        feeder = Feeder(wire.a.name)
    with feeder:
        ledger = feeder.send(work, paced=paced, room=room)
    assert ledger.ended == "done"
    assert not ledger.refused
    return ledger


def books_without(day: planned.Feed, lost: Ranges, path: Path) -> str:
    """Hash of the books of a replay of line A, all of it but the packets of those sequences."""
    mine, _ = split(day.rows)
    starts = np.array([first for first, _ in lost], np.uint64)
    ends = np.array([end for _, end in lost], np.uint64)
    with CaptureWriter(path) as capture:
        for n in mine.tolist():
            row = day.rows[n]
            at = int(np.searchsorted(starts, row["sequence"], "right")) - 1
            if row["messages"] == 0 or at < 0 or row["sequence"] >= ends[at]:
                frame = day.data[day.offsets[n] :][: day.lengths[n]].tobytes()
                capture.write(int(day.times_ns[n]), frame)
    line = Endpoint(LINE_A.group, LINE_A.port)
    midnight = midnight_ns(Market(1, 1, 1000).start_ns)
    got = replay(path, [Feed("itch50", (line,), midnight_ns=midnight, **SMALL)])
    assert got.clean
    return got.books[0]


def frames_of(path: Path) -> planned.Feed:
    """The frames of a little-endian pcapng, by its enhanced packet blocks (draft, section 4.3)."""
    data, at, frames = path.read_bytes(), 0, []
    while at + 12 <= len(data):
        kind, length = struct.unpack_from("<II", data, at)
        if kind == 6:
            (size,) = struct.unpack_from("<I", data, at + 20)
            frames.append(data[at + 28 : at + 28 + size])
        at += length
    return planned.Feed(frames)


def never_received(rows: Rows, end: int) -> Ranges:
    """The sequences in 1..end that are in none of the frames of these rows."""
    rows = rows[rows["messages"] > 0]
    ranges = zip(rows["sequence"].tolist(), rows["messages"].tolist(), strict=True)
    had = joined((first, first + messages) for first, messages in ranges)
    edges: Sequence[int] = [1, *(n for pair in had for n in pair), end + 1]
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a]
