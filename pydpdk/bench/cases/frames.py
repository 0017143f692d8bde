"""From the capture to messages in order: walk, frame, arbiter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from pydpdk.bench import peers
from pydpdk.bench.data import LINES, Market, packets_of
from pydpdk.bench.loops import ffi, lib
from pydpdk.bench.measure import Case, Series, timed
from pydpdk.engine.engine import CHECKSUMS
from pydpdk.source.source import open_source

BURST = 64
NEAR = 512  # packets that stay in the second-level cache, as a burst does
NEAR_TURNS = 200
PEER_PACKETS = 5_000


@contextmanager
def capture(market: Market) -> Iterator[Case]:
    """Walk a capture in memory, beside reading all its bytes."""
    path = market.both
    bytes_ = np.fromfile(path, np.uint8)
    start = ffi.from_buffer("uint8_t[]", bytes_)
    with packets_of(path) as (_, count):
        frames = count

    def ours() -> int:
        with open_source(f"pcap:{path}") as source:
            return int(lib.bench_walk(source.pointer, BURST))

    def floor() -> int:
        lib.bench_sum(start, len(bytes_))
        return frames

    series = [
        Series("pydpdk", "ours", lambda: timed(ours), "read all bytes"),
        Series("read all bytes", "floor", lambda: timed(floor)),
        *(
            Series(name, "peer", lambda walk=walk: timed(walk), "pydpdk")  # type: ignore[misc]
            for name, walk in peers.walkers(path, PEER_PACKETS).items()
        ),
    ]
    yield Case("capture", "packet", series, {"packets": frames, "bytes": len(bytes_)})


@contextmanager
def frame(market: Market) -> Iterator[Case]:
    """Ethernet, IPv4 and UDP, every length checked, of packets in cache, under each policy."""
    with packets_of(market.both) as (packets, count):
        near = min(count, NEAR)

        def parse(policy: int) -> int:
            return sum(lib.bench_frame(packets, near, policy) for _ in range(NEAR_TURNS))

        def touch() -> int:
            for _ in range(NEAR_TURNS):
                lib.bench_touch(packets, near)
            return near * NEAR_TURNS

        series = [
            Series("touch the headers", "floor", lambda: timed(touch)),
            *(
                Series(
                    f"checksum {name}", "ours",
                    lambda policy=policy: timed(lambda: parse(policy)), "touch the headers",  # type: ignore[misc]
                )
                for name, policy in CHECKSUMS.items()
            ),
            *(
                Series(name, "peer", lambda work=work: timed(work), "checksum ignore")  # type: ignore[misc]
                for name, work in peers.frame_parsers(packets, near).items()
            ),
        ]  # fmt: skip
        yield Case("frame", "packet", series, {"packets": near})


@contextmanager
def arbiter(market: Market) -> Iterator[Case]:
    """Merge lines A and B: what it costs above the headers alone, measured just before."""
    line_b = ffi.new("uint8_t[]", bytes(map(int, LINES[1].host.split("."))))
    with packets_of(market.both) as (packets, count):
        config = market.feed(LINES).config()
        bare = market.feed(LINES, compare=False).config()
        unique = len(market.messages)
        declared = int(lib.bench_session(packets, count))

        def headers() -> int:
            lib.bench_session(packets, count)
            return count

        def above(settings: Any) -> float:
            return timed(lambda: merge(settings)) - timed(headers)

        def merge(settings: Any) -> int:
            merged = lib.bench_arbiter(packets, count, ffi.addressof(settings, "arbiter"), line_b)
            return count if merged == unique else 0

        series = [
            Series("headers alone", "floor", lambda: timed(headers)),
            Series("merge", "ours", lambda: above(bare), "headers alone"),
            Series("merge and compare", "ours", lambda: above(config), "headers alone"),
        ]  # fmt: skip
        facts = {
            "packets": count,
            "messages": unique,
            "copies": declared - unique,
            "messages_per_packet": round(declared / count, 1),
        }
        yield Case("arbiter", "packet", series, facts)
