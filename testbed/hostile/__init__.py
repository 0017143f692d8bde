"""Hostile input as data: what comes in, and every counter that it may move.

The same vectors go through the capture source, through DPDK's net_pcap and af_packet, and into
the corpus of the fuzzers. They are built without pydpdk and are the same in every run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from struct import pack

from testbed.hostile import book, iextp, ip, line, link, session, udp
from testbed.hostile.vector import Frame, Vector

__all__ = ["Frame", "Vector", "vectors", "write_corpus"]


# Configuration of fuzz_path: checksums are noted and copies compared; a second run by other bursts.
NOTED_AND_COMPARED, TWO_BURSTS = 4, 33


def vectors() -> Iterator[Vector]:
    """All of them, in the order of their numbers within each group."""
    for group in (link, ip, udp, session, line, iextp, book):
        yield from sorted(group.vectors(), key=lambda vector: vector.id)


def write_corpus(path_seeds: Path, frame_seeds: Path) -> None:
    """Seeds of tests/c/fuzz_path.c and of fuzz_frame.c, in the formats that these describe."""
    for n, vector in enumerate(vectors()):
        config = bytes([NOTED_AND_COMPARED | TWO_BURSTS * (n % 4 == 0)])
        records = [_record(frame) for frame in vector.frames]
        (path_seeds / vector.id).write_bytes(config + b"".join(records[:128]))
        for i, frame in enumerate(vector.frames[:4]):
            (frame_seeds / f"{vector.id}.{i}").write_bytes(bytes([0, 0, 2, 0]) + frame.data)


def _record(frame: Frame) -> bytes:
    time = 8 if frame.after_us >= 10_000 else 5
    data = frame.data[:4096]
    return pack("<BBH", 0, time, len(data)) + data
