"""A kind of source that the package does not know: a table of operations, and a row."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pydpdk._core import ffi, lib
from pydpdk.engine.engine import Engine
from pydpdk.engine.feed import Feed
from pydpdk.errors import CoreError, UsageError
from pydpdk.lockstep.replay import Replay
from pydpdk.source.description import Kind
from pydpdk.source.kinds import KINDS
from pydpdk.source.source import Source, open_source
from pydpdk.source.told import SourceStats
from pydpdk.synth.gen import generate
from pydpdk.synth.two_lines import LINE_A, LINE_B
from tests.captured import Frame, frames_of

FEED = Feed.parse(
    "itch50@" + ",".join(f"{line.group}:{line.port}" for line in (LINE_A, LINE_B)),
    orders_max=1 << 16, levels_max=1 << 18,
)  # fmt: skip


SPEC = "stream:market:443"


class Stream:
    """Frames out of Python's memory; then the clean end, or `broken`."""

    def __init__(self, frames: Sequence[Frame] = (), broken: int = 0) -> None:
        self.frames, self.given, self.broken = frames, 0, broken
        self.asked: list[str] = []
        self._held: list[Any] = []
        self._calls: list[Any] = []
        self.ops = ffi.new("struct source_ops *")
        burst = self.call("int(struct source *, struct packet *, int)", self._burst)
        self.pointer = ffi.new("struct source *", {"burst": burst, "ops": self.ops})

    def call(self, signature: str, function: Any) -> Any:
        self._calls.append(ffi.callback(signature, function))
        return self._calls[-1]

    def _burst(self, _: Any, packets: Any, most: int) -> int:
        some = self.frames[self.given : self.given + most]
        self._held = [ffi.from_buffer(frame.data) for frame in some]
        for packet, frame, data in zip(packets[0 : len(some)], some, self._held, strict=True):
            packet.data, packet.ts_recv, packet.link = data, frame.ts, frame.link
            packet.caplen, packet.wirelen, packet.flags = len(frame.data), frame.wirelen, 0
        self.given += len(some)
        return len(some) or self.broken or -errno.ENODATA


class Answering(Stream):
    """One that has every operation."""

    def __init__(self, frames: Sequence[Frame] = (), broken: int = 0) -> None:
        super().__init__(frames, broken)
        self.text = ffi.new("char[]", b"the peer hung up at 7")
        ops, source = self.ops, "struct source *"
        ops.close = self.call(f"void({source})", lambda _: self.asked.append("close"))
        ops.stats = self.call(f"int({source}, struct source_stats *)", self._stats)
        ops.told = self.call(f"int({source}, struct source_told *)", self._told)
        ops.problem = self.call(f"const char *({source})", lambda _: self.text)
        ops.link = self.call(f"int({source})", lambda _: lib.LINK_STATE_UP)
        ops.tick = self.call(f"int({source})", lambda _: -errno.EIO)
        ops.mbufs = self.call(f"int({source})", lambda _: 17)
        ops.poll = self.call(f"int({source}, int)", lambda _, most: most)
        ops.steer = self.call(f"int({source}, const struct address *, char *)", self._steer)
        ops.groups = self.call(f"int({source}, const uint8_t *, uint32_t, char *)", self._groups)

    def _stats(self, _: Any, stats: Any) -> int:
        stats.received = self.given
        return 0

    def _told(self, _: Any, told: Any) -> int:
        told.driver, told.clock, told.losses = b"stream", lib.SOURCE_CLOCK_KERNEL, 0
        return 0

    def _steer(self, _: Any, address: Any, reason: Any) -> int:
        self.asked.append(f"{bytes(address.bytes)[: address.len].hex()}:{address.port}")
        return 0

    def _groups(self, _: Any, macs: Any, count: int, reason: Any) -> int:
        self.asked.append(bytes(ffi.buffer(macs, 6 * count)).hex())
        ffi.memmove(reason, b"full\0", 5)
        return -errno.ENOSPC


def kind_of(stream: Stream) -> Kind:
    """A row as in kinds.py: what a new kind of source has to say of itself."""
    return Kind(
        "stream", "", "HOST:PORT", "", lambda argument: None, lambda _, wish: [stream.pointer],
        losses="counted", stamps="the kernel's", truncation="none",
        bypass=False, copies=1, joins="none", ends=True, eal=None,
    )  # fmt: skip


def know(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pydpdk.source.kinds.KINDS", (*KINDS, kind_of(stream)))


def opened(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> Source:
    """Through the front door, as any source."""
    know(stream, monkeypatch)
    return open_source(SPEC)


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kind") / "day.pcap"
    generate(path, messages=4000, instruments=20, loss=0.1, dup=0.05, reorder=0.05, seed=1)
    return path


def replayed(spec: str) -> tuple[bytes, list[dict[str, Any]]]:
    with Replay(spec, FEED, keep_events=True) as pipeline:
        pipeline.run()
        return pipeline.events().tobytes(), list(pipeline.engine.feeds[0].sessions())


@pytest.mark.parametrize("kind", [Stream, Answering])
def test_its_frames_become_the_records_of_the_capture(
    day: Path, kind: type[Stream], monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = frames_of(day)
    expected = replayed(f"pcap:{day}")
    assert expected[0]
    stream = kind(frames)
    know(stream, monkeypatch)
    assert replayed(SPEC) == expected
    assert stream.given == len(frames)
    assert stream.asked == (["close"] if kind is Answering else [])


def test_what_a_kind_lacks_is_unknown_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(Stream(), monkeypatch) as source:
        assert source.stats() == SourceStats(*[None] * 10)
        assert (source.link(), source.mbufs(), source.problem()) == ("unknown", None, "")
        assert (source.capture_info(), source.kernel()) == (None, None)
        source.tick()
        assert source.steer("239.1.1.1", 1) == "refused: this kind of source has one queue"
        assert source.groups([bytes(6)]) == "refused: this kind of source filters nothing"
        with pytest.raises(UsageError, match="cannot send"):
            source.send([bytes(60)])
        assert lib.source_poll(source.pointer, 1) == -errno.EOPNOTSUPP
        known = source.known()
        assert (known["queues"], known["clock"], known["losses"]) == (1, "host", "unknown")
        assert (known["spec"], known["driver"], known["joins"]) == (SPEC, "", "none")
        unknown = {"mac", "mtu", "rss", "promiscuous", "all_multicast", "rx_descriptors"}
        assert {known[key] for key in unknown} == {None}


def test_what_a_kind_has_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Answering([Frame(bytes(60), 5, 60, 1)], broken=-errno.ECONNRESET)
    with opened(stream, monkeypatch) as source:
        packets = ffi.new("struct packet[]", 8)
        got = [source.pointer.burst(source.pointer, packets, 8) for _ in "ab"]
        assert got == [1, -errno.ECONNRESET]
        stats = source.stats()
        assert (stats.received, stats.missed) == (1, None)
        assert (source.link(), source.mbufs()) == ("up", 17)
        assert source.problem() == "the peer hung up at 7"
        assert (source.known()["driver"], source.known()["clock"]) == ("stream", "kernel")
        assert source.steer("239.1.1.2", 7) == "accepted"
        assert source.groups([b"\1\0\x5e\1\1\2", b"\1\0\x5e\1\1\3"]) == "refused: full"
        assert lib.source_poll(source.pointer, 3) == 3
        with pytest.raises(CoreError, match="device clock"):
            source.tick()
    assert stream.asked == ["ef010102:7", "01005e01010201005e010103", "close"]


def test_one_that_breaks_is_told_by_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Answering([Frame(bytes(60), 5, 60, 1)], broken=-errno.ECONNRESET)
    with Engine([opened(stream, monkeypatch)], [FEED]) as engine:
        while (code := engine.step()) >= 0:
            pass
        assert code == -errno.ECONNRESET == engine.source_error(0)
        assert engine.sources[0].problem() == "the peer hung up at 7"
        assert engine.counters()["frames_received"] == 1
