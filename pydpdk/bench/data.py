"""What benchmarks run on: a generated session of a whole market, kept between runs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pydpdk.bench.loops import ffi, lib
from pydpdk.core.layout import dtype
from pydpdk.engine.engine import Engine
from pydpdk.engine.feed import Endpoint, Feed
from pydpdk.engine.feedview import FeedView
from pydpdk.errors import UsageError
from pydpdk.source.source import Source, open_source
from pydpdk.synth import adminflow, gen, market, orderflow, packetize, two_lines
from pydpdk.tape.pcapfile import CaptureWriter

Array = np.ndarray[Any, Any]
Progress = Callable[[int], None]
LINES = tuple(Endpoint(c.group, c.port) for c in gen.CHANNELS.values())
MAKERS = (adminflow, gen, two_lines, market, orderflow, packetize)  # who decides the bytes
TAP_BYTES_PER_MESSAGE = 96


@dataclass(frozen=True)
class Size:
    """Of a session: messages in all, instruments, orders resting once the books are filled."""

    messages: int
    instruments: int
    live_orders: int


FULL = Size(messages=2_200_000, instruments=8_000, live_orders=1_000_000)
QUICK = Size(messages=20_000, instruments=200, live_orders=4_000)


def cache_dir() -> Path:
    """Where generated captures stay: XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pydpdk"


def session_files(folder: Path, size: Size, progress: Progress) -> tuple[Path, Path]:
    """Captures of both lines and of line A alone, made when they are not there yet.

    The name tells the size and the code that made it, so a changed generator makes new ones.
    """
    code = b"".join(Path(str(maker.__file__)).read_bytes() for maker in MAKERS)
    made_by = hashlib.sha256(code).hexdigest()[:12]
    stem = f"bench-{size.messages}-{size.instruments}-{size.live_orders}-{made_by}"
    both, alone = folder / f"{stem}-ab.pcap", folder / f"{stem}-a.pcap"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not both.exists():
            gen.generate(
                both, messages=size.messages, instruments=size.instruments,
                live_orders=size.live_orders, progress=progress,
            )  # fmt: skip
        if not alone.exists():
            _keep_line_a(both, alone)
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}; name another folder with --dir") from error
    return both, alone


def _keep_line_a(both: Path, alone: Path) -> None:
    group = bytes(map(int, LINES[0].host.split(".")))
    with packets_of(both) as (packets, count), CaptureWriter(alone) as out:
        for packet in packets[0:count]:
            frame = bytes(ffi.buffer(packet.data, packet.caplen))
            if frame[30:34] == group:
                out.write(packet.ts_recv, frame)


@contextmanager
def packets_of(path: Path) -> Iterator[tuple[Any, int]]:
    """A whole capture as ``(struct packet *, count)``, valid inside the block."""
    with open_source(f"pcap:{path}") as source:
        rows = np.zeros(path.stat().st_size // 60, dtype("packet"))
        packets = pointer("struct packet[]", rows)
        yield packets, int(lib.bench_collect(source.pointer, packets, len(rows)))


@dataclass
class Market:
    """A session: its captures, its messages in memory, where trading begins.

    ``cores``: those this process may use; measured work runs on the last.
    """

    size: Size
    both: Path
    alone: Path
    cores: list[int]

    @cached_property
    def taps(self) -> tuple[Array, Array]:
        """The bytes of every message, and ``struct message`` rows that point to them."""
        tapped = np.zeros(self.size.messages * TAP_BYTES_PER_MESSAGE, np.uint8)
        into = ffi.new(
            "struct tap *", {"buffer": ffi.from_buffer("uint8_t[]", tapped), "room": len(tapped)}
        )
        with self.engine(self.alone, LINES[:1], ring=False) as engine:
            lib.feed_tap(engine.feeds[0].pointer, into)
            while engine.step() >= 0:
                pass
        rows = np.zeros(self.size.messages, dtype("message"))
        start = ffi.from_buffer("uint8_t[]", tapped)
        n = lib.bench_messages(start, into.used, pointer("struct message[]", rows), len(rows))
        return tapped, rows[:n]

    @property
    def messages(self) -> Array:
        """Rows of ``struct message``, in order."""
        return self.taps[1]

    @cached_property
    def letters(self) -> Array:
        """The type byte of each message."""
        tapped, rows = self.taps
        return tapped[rows["data"] - np.uint64(tapped.ctypes.data)]

    @cached_property
    def opening(self) -> int:
        """Messages before continuous trading: the first ``Q``, which is a cross, ends them."""
        return int(np.argmax(self.letters == ord("Q")))

    def feed(self, lines: tuple[Endpoint, ...], **options: Any) -> Feed:
        """The feed of this market, its books sized for it."""
        orders = 1 << (self.size.live_orders * 5 // 4).bit_length()
        return Feed("itch50", lines, orders_max=orders, levels_max=2 * orders, **options)

    def engine(self, path: Path, lines: tuple[Endpoint, ...], **options: Any) -> Engine:
        """One engine over a capture, as fast as it goes."""
        kept = {name: options.pop(name) for name in ("compare",) if name in options}
        source: Source = open_source(f"pcap:{path}")
        settings = {"batch_us": 0, "packets_max": 1 << 10, "lockstep": False} | options
        return Engine([source], [self.feed(lines, **kept)], **settings)


def delivered(feed: FeedView) -> int:
    """Messages that the arbiter passed on so far."""
    return feed.counters()["messages_delivered"]


def pointer(kind: str, rows: Array) -> Any:
    """A cffi pointer of type ``kind`` on an array's memory."""
    return ffi.from_buffer(kind, rows.view(np.uint8), require_writable=True)
