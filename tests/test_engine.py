"""The engine's life: what it refuses, what it closes, and its run in a thread of its own."""

from __future__ import annotations

import os
import time

import pytest

from pydpdk._core import ffi, lib
from pydpdk.core.ring import Reader
from pydpdk.core.utc import Utc
from pydpdk.engine.engine import END, Engine, Live
from pydpdk.engine.feed import Feed
from pydpdk.errors import CoreError, HostError, PydpdkError, UsageError
from pydpdk.gateway.gateway import join
from pydpdk.lockstep.account import books_result
from pydpdk.lockstep.replay import Replay
from pydpdk.source.source import open_source
from pydpdk.synth.gen import generate
from pydpdk.synth.two_lines import LINE_A, LINE_B
from testbed.frames import itch_system
from testbed.hostile.vector import GROUP_A, PORT, line_a

LINES = ",".join(f"{line.group}:{line.port}" for line in (LINE_A, LINE_B))
FEED = Feed.parse(f"itch50@{LINES}", orders_max=1 << 16, levels_max=1 << 18)


@pytest.fixture(scope="module")
def day(tmp_path_factory):
    path = tmp_path_factory.mktemp("engine") / "day.pcap"
    generate(path, messages=4000, instruments=20, loss=0.1, dup=0.05, reorder=0.05, seed=1)
    return path


@pytest.fixture(scope="module")
def expected(day):
    """All records, and the account, of a lockstep replay."""
    with Replay(day, FEED, keep_events=True) as pipeline:
        pipeline.run()
        return pipeline.events().tobytes(), list(pipeline.engine.feeds[0].sessions())


def engine_of(day, **options):
    return Engine([open_source(f"pcap:{day}")], [FEED], **options)


def drain(reader, running):
    """Copies of everything until the run ended."""
    batches = []
    while running.alive or reader.ready():
        if reader.wait(0.01):
            batches.append((reader.batch() if reader.policy == "block" else reader.copy()).copy())
            if reader.policy == "block":
                reader.release()
    return join(batches).tobytes()


# --- the end ---


USES = {
    "step": lambda engine, feed: engine.step(),
    "run": lambda engine, feed: engine.run(),
    "start": lambda engine, feed: engine.start(),
    "stop": lambda engine, feed: engine.stop(),
    "now": lambda engine, feed: engine.now,
    "counters": lambda engine, feed: engine.counters(),
    "times": lambda engine, feed: engine.times(),
    "source_error": lambda engine, feed: engine.source_error(0),
    "instruments": lambda engine, feed: engine.instruments(),
    "pointer": lambda engine, feed: engine.pointer,
    "feed.symbols": lambda engine, feed: feed.symbols(),
    "feed.counters": lambda engine, feed: feed.counters(),
    "feed.messages": lambda engine, feed: feed.messages(),
    "feed.lines": lambda engine, feed: feed.lines(),
    "feed.sessions": lambda engine, feed: list(feed.sessions()),
    "feed.gaps": lambda engine, feed: feed.gaps,
    "feed.gaps_pointer": lambda engine, feed: feed.gaps_pointer,
    "feed.suspect": lambda engine, feed: feed.suspect,
    "feed.is_suspect": lambda engine, feed: feed.is_suspect(0),
    "feed.books": lambda engine, feed: feed.books,
}


@pytest.mark.parametrize("use", USES)
def test_a_closed_engine_is_an_error(day, use):
    with engine_of(day) as engine:
        assert engine.step() > 0
        feed = engine.feeds[0]
    with pytest.raises(PydpdkError, match="this Engine is closed"):
        USES[use](engine, feed)
    engine.close()


def test_books_taken_before_end_with_their_engine(day):
    with engine_of(day) as engine:
        books = engine.feeds[0].books
    looks = [lambda: books.top(0), lambda: books.orders, books.hash, lambda: books.order(1)]
    for look in looks:
        with pytest.raises(PydpdkError, match="the engine that had them"):
            look()


@pytest.mark.parametrize("wrong", [{"burst": 0}, {"checksum": "x"}, {"ring_name": "a/b"}])
def test_an_engine_that_cannot_be_closes_its_sources(day, wrong):
    source = open_source(f"pcap:{day}")
    with pytest.raises((UsageError, CoreError)):
        Engine([source], [FEED], **wrong)
    assert source.pointer == ffi.NULL


def test_an_engine_that_cannot_be_takes_its_ring_away(day, request):
    name = f"pydpdk-test-{os.getpid()}-engine"
    feed = Feed.parse(f"itch50@{LINES}", orders_max=0)
    for _ in range(2):
        with pytest.raises(CoreError, match="feed"):
            Engine([open_source(f"pcap:{day}")], [feed], ring_name=name)


# --- books that may be wrong ---


def test_a_broken_book_is_suspect_without_any_gap(day):
    with engine_of(day) as engine:
        while engine.step() > 0:
            pass
        feed = engine.feeds[0]
        known = len(feed.symbols())
        seen = [i - feed.base for i in feed.symbols()]
        before = feed.suspect_instruments
        assert before == sum(map(feed.is_suspect, seen))
        for i in seen:
            book = lib.book_of(feed.books.pointer, i)
            book.epoch, book.state = feed.gaps, book.state & ~lib.BOOK_BROKEN
        assert (feed.suspect, feed.suspect_instruments) == (False, 0)
        lib.book_of(feed.books.pointer, seen[0]).state |= lib.BOOK_BROKEN
        assert (feed.suspect, feed.suspect_instruments) == (True, 1)
        lib.book_of(feed.books.pointer, seen[1]).epoch = feed.gaps + 1
        books = books_result(engine)
        assert (books["suspect"], books["suspect_instruments"]) == (True, 2)
        assert known > 2


# --- a thread of its own ---


@pytest.mark.parametrize("policy", ["block", "skip"])
def test_a_run_in_its_own_thread_writes_what_lockstep_does(day, expected, policy):
    core = min(os.sched_getaffinity(0))
    with (
        engine_of(day, lockstep=False) as engine,
        Reader(fd=engine.ring.fd, policy=policy, from_start=True) as reader,
    ):
        running = engine.start(core)
        assert drain(reader, running) == expected[0]
        assert running.join()
        assert reader.lost == 0
        assert list(engine.feeds[0].sessions()) == expected[1]
        assert engine.step() == END
    assert os.sched_getaffinity(0) != {core} or os.cpu_count() == 1


class Null:
    """A source without end that gives nothing."""

    def __init__(self):
        self.spec = "null"
        self.core = None
        self._burst = ffi.callback("int(struct source *, struct packet *, int)", self._give)
        self.pointer = ffi.new("struct source *", {"burst": self._burst})

    def _give(self, source, packets, most):
        self.core = os.sched_getaffinity(0)
        return 0

    def close(self):
        self.pointer = ffi.NULL


class Given(Null):
    """A source that gives these frames once, stamped now, and then nothing."""

    def __init__(self, frames, clock):
        super().__init__()
        self._frames, self._clock = iter([ffi.from_buffer(frame) for frame in frames]), clock
        self._given = []

    def _give(self, source, packets, most):
        for data in self._frames:
            self._given.append(data)
            packets[0] = {
                "data": ffi.cast("uint8_t *", data), "caplen": len(data), "wirelen": len(data),
                "ts_recv": self._clock.now(), "link": lib.LINK_ETHERNET,
            }  # fmt: skip
            return 1
        return 0


@pytest.mark.parametrize(("idle_us", "declared"), [(0, 1), (3_600_000_000, 0)])
def test_a_time_out_waits_for_packets_that_come_stamped_late(idle_us, declared):
    """Live, without a packet: a gap of 1 ms is given up by the clock, `idle_us` after its time."""
    frames = [line_a(1, itch_system()).data, line_a(3, itch_system()).data]
    feed = Feed.parse(f"itch50@{GROUP_A}:{PORT}", orders_max=64, levels_max=64, gap_timeout_us=1000)
    with Utc() as clock:
        live = Live(clock=clock, idle_us=idle_us)
        with Engine([Given(frames, clock)], [feed], live=live, lockstep=False) as engine:
            while engine.counters()["gaps_detected"] == 0:
                engine.step()
            until = time.monotonic() + (30 if declared else 0.05)
            while time.monotonic() < until and not engine.counters()["gaps_declared"]:
                engine.step()
            assert engine.counters()["frames_parsed"] == 2
            assert engine.counters()["gaps_declared"] == declared


def test_it_runs_pinned_until_it_is_stopped():
    source, core = Null(), max(os.sched_getaffinity(0))
    with Engine([source], [FEED]) as engine:
        running = engine.start(core)
        assert not running.join(0.02)
        for refused in (engine.step, engine.run, engine.start):
            with pytest.raises(UsageError, match="thread of its own"):
                refused()
        with pytest.raises(UsageError, match="thread of its own"):
            list(engine.feeds[0].sessions())
        assert engine.counters()["frames_received"] == 0
        assert engine.running
        running.stop()
        assert running.join()
        assert source.core == {core}
        assert not engine.running


def test_close_stops_and_joins_first():
    engine = Engine([Null()], [FEED])
    running = engine.start()
    time.sleep(0.01)
    engine.close()
    assert not running.alive
    assert running.join()
    running.stop()


def test_what_broke_the_run_comes_out_of_join(day, tmp_path):
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(day.read_bytes()[:60_000])
    with Engine([open_source(f"pcap:{cut}")], [FEED], lockstep=False) as engine:
        running = engine.start()
        with pytest.raises(CoreError, match=r"cut\.pcap"):
            running.join()
        assert running.join()


@pytest.mark.parametrize("core", [1 << 14, -1])
def test_a_core_that_is_not_there(day, core):
    with engine_of(day) as engine, pytest.raises(HostError, match=f"core {core}"):
        engine.start(core).join()
