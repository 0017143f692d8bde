"""What comes out of the engine does not depend on how many packets a burst has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydpdk._core")
from pydpdk.core.ring import Reader
from pydpdk.engine.engine import Engine
from pydpdk.engine.feed import Endpoint, Feed
from pydpdk.source.source import open_source
from testbed.frames import itch_add
from testbed.hostile import iextp
from testbed.hostile.vector import GROUP_IEX, LINES, PORT_IEX, Frame, iex, line_a, pcap

BURSTS = (1, 7, 64, 256)


def run(path: Path, burst: int, **options: int) -> tuple[list[int], np.ndarray]:
    """Packets of each step, and all records."""
    itch = Feed("itch50", tuple(map(Endpoint.parse, LINES["itch50"])), orders_max=1 << 16)
    deep = Feed("deep10", (Endpoint(GROUP_IEX, PORT_IEX),))
    steps, batches = [], []
    with (
        Engine([open_source(f"pcap:{path}")], [itch, deep], burst=burst, **options) as engine,
        Reader(fd=engine.ring.fd, from_start=True) as reader,
    ):
        while (packets := engine.step()) > 0:
            steps.append(packets)
            while len(batch := reader.batch()):
                batches.append(batch.copy())
                reader.release()
    return steps, np.concatenate(batches)


def same(path: Path, **options: int) -> list[int]:
    steps, events = run(path, BURSTS[0], **options)
    for burst in BURSTS[1:]:
        others = run(path, burst, **options)
        assert others[0] == steps
        assert np.array_equal(others[1], events)
    return steps


def test_records_of_two_feeds_keep_the_order_of_their_packets(tmp_path: Path) -> None:
    level = [iextp.level(b"8", 1_000_000 + n, 1) for n in range(100)]
    frames: list[Frame] = []
    for n in range(1, 100):
        frames += [line_a(n, itch_add(n), after_us=1), iex(n, level[n], after_us=1)]
    path = tmp_path / "two.pcap"
    path.write_bytes(pcap(frames))
    assert len(same(path)) == 2
    _, events = run(path, 64)
    assert (np.diff(events["ts_recv"].astype(np.int64)) >= 0).all()


@pytest.mark.parametrize("size", [1, 20, 37])
def test_steps_that_end_by_their_records_end_at_the_same_packets(tmp_path: Path, size: int) -> None:
    adds = [itch_add(n, b"B", 1, 1_000_000 + n) for n in range(1, 20_001)]
    frames = [line_a(at + 1, *adds[at : at + size], after_us=1) for at in range(0, 20_000, size)]
    path = tmp_path / "long.pcap"
    path.write_bytes(pcap(frames))
    assert len(same(path, batch_us=0, packets_max=1 << 20)) > 3
