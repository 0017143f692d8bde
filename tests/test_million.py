"""Generated ITCH sessions through the whole pipeline: books, healed lines, lost messages, flags.

The oracle reads the capture with scapy and struct, decodes by the specification typed in
tests/itch50_spec.py and builds tests/naive_book.py.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from scapy.utils import RawPcapReader

from pydpdk._core import lib
from pydpdk.engine.engine import END, Engine
from pydpdk.engine.feed import Endpoint, Feed
from pydpdk.source.source import open_source
from pydpdk.synth.gen import feed as make_feed
from pydpdk.synth.gen import generate
from pydpdk.synth.market import Market, midnight_ns
from pydpdk.synth.multicast import Channel
from pydpdk.synth.packetize import MoldUDP64
from pydpdk.synth.two_lines import LINE_A, LINE_B, Faults, Truth
from pydpdk.tape.pcapfile import CaptureWriter
from tests.itch50_spec import pack, unpack
from tests.naive_book import ASK, BID, NaiveBooks
from tests.pipeline import SMALL, replay

MOLD = struct.Struct(">10sQH")
SEED, INSTRUMENTS = 7, 60
SIZES = [
    pytest.param((60_000, 0.01), id="60k"),
    pytest.param((1_000_000, 0.002), id="million", marks=pytest.mark.slow),
]


def endpoint(channel: Channel) -> Endpoint:
    return Endpoint(channel.group, channel.port)


MIDNIGHT = midnight_ns(Market(1, 1, 1000).start_ns)
ONE_LINE = Feed("itch50", (endpoint(LINE_A),), midnight_ns=MIDNIGHT, **SMALL)
TWO_LINES = Feed("itch50", (endpoint(LINE_A), endpoint(LINE_B)), midnight_ns=MIDNIGHT, **SMALL)
ELSEWHERE = {
    "A": Channel("233.1.2.3", 1000, "192.0.2.1"),
    "B": Channel("233.1.2.4", 1000, "192.0.2.2"),
}
OTHER_FEED = Feed("itch50", tuple(map(endpoint, ELSEWHERE.values())), midnight_ns=MIDNIGHT, **SMALL)


# ---- the oracle ----


class Datagram(NamedTuple):
    ts_ns: int
    sequence: int
    messages: list[bytes]


def datagrams(path: Path) -> Iterator[Datagram]:
    """MoldUDP64 packets of a capture in nanoseconds; heartbeats and ends have no messages."""
    with RawPcapReader(str(path)) as reader:
        for frame, meta in reader:
            _, sequence, count = MOLD.unpack_from(frame, 42)
            at, messages = 42 + MOLD.size, []
            for _ in range(count % 0xFFFF):
                size = int.from_bytes(frame[at : at + 2], "big")
                messages.append(frame[at + 2 : at + 2 + size])
                at += 2 + size
            yield Datagram(meta.sec * 10**9 + meta.usec, sequence, messages)


class Oracle:
    """Naive books that take messages one by one."""

    def __init__(self) -> None:
        self.books = NaiveBooks()
        self.taken = 0

    def take(self, message: bytes) -> None:
        self.taken += 1
        letter = message[:1]
        if letter not in b"RAFECXDU":
            return
        m: dict[str, Any] = unpack(message)
        order = m.get("order_reference", 0)
        if letter == b"R":
            self.books.symbols[m["locate"]] = m["stock"]
        elif letter in b"AF":
            side = BID if m["side"] == b"B" else ASK
            self.right(self.books.add(m["locate"], side, order, m["price"], m["shares"]))
        elif letter in b"ECX":
            self.right(self.books.reduce(order, m["shares"]))
        elif letter == b"D":
            self.right(self.books.delete(order))
        else:
            new = m["new_order_reference"]
            self.right(self.books.replace(order, new, m["price"], m["shares"]))

    @staticmethod
    def right(reason: str) -> None:
        assert reason == "", "the generator sends valid messages"

    @property
    def hash(self) -> str:
        return f"{self.books.hash():016x}"


class Day(NamedTuple):
    """One session on line A without a fault, and all of it by position."""

    path: Path
    loss: float
    packets: list[Datagram]
    messages: list[bytes]


@pytest.fixture(scope="module", params=SIZES)
def day(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Day:
    count, loss = request.param
    path = tmp_path_factory.mktemp("day") / "a.pcap"
    generate(path, seed=SEED, messages=count, instruments=INSTRUMENTS, lines="A")
    packets = list(datagrams(path))
    messages = [message for packet in packets for message in packet.messages]
    assert len(messages) == count
    return Day(path, loss, packets, messages)


@pytest.fixture(scope="module")
def last_hash(day: Day) -> str:
    oracle = Oracle()
    for message in day.messages:
        oracle.take(message)
    return oracle.hash


# ---- no loss ----


def test_books_equal_the_naive_ones_at_every_checkpoint(day: Day) -> None:
    oracle, checkpoints = Oracle(), 0
    rest = iter(day.messages)
    with open_source(str(day.path)) as source, Engine([source], [ONE_LINE], ring=False) as engine:
        (feed,) = engine.feeds
        code = 1
        while code > 0:
            code = engine.step()
            delivered = feed.counters()["messages_delivered"]
            if code > 0 and delivered - oracle.taken < len(day.messages) // 25:
                continue
            for message in islice(rest, delivered - oracle.taken):
                oracle.take(message)
            checkpoints += 1
            assert f"{feed.books.hash():016x}" == oracle.hash, oracle.taken
            assert feed.books.orders == len(oracle.books.orders)
            for i in (1, INSTRUMENTS // 2, INSTRUMENTS):
                sides = [side[["price", "size", "orders"]].tolist() for side in feed.books.depth(i)]
                assert sides == [oracle.books.levels(i, side) for side in (BID, ASK)]
        assert code == END
        assert oracle.taken == len(day.messages)
        assert checkpoints > 20
        assert not any(feed.is_suspect(i) for i in range(1, INSTRUMENTS + 1))


def test_a_run_until_a_time_ends_with_the_books_of_that_time(day: Day) -> None:
    oracle, rest = Oracle(), iter(day.packets)
    held = next(rest)
    for quarter in range(4):
        until = day.packets[len(day.packets) * quarter // 4].ts_ns
        while held.ts_ns <= until:
            for message in held.messages:
                oracle.take(message)
            held = next(rest)
        got = replay(day.path, [ONE_LINE], until_ns=until)
        assert got.clean
        assert got.counters["messages_delivered"] == oracle.taken
        assert got.books == [oracle.hash]


# ---- lines that heal each other ----


def told(events: np.ndarray[Any, Any]) -> bytes:
    """What the records say of the market: all but where and when they were received."""
    told = events.copy()
    told["ts_recv"] = told["stamp"] = 0
    return told.tobytes()


def test_two_faulty_lines_that_heal_each_other_are_like_one_without_a_fault(
    day: Day, last_hash: str, tmp_path: Path
) -> None:
    path = tmp_path / "ab.pcap"
    truth = generate(
        path, seed=SEED, messages=len(day.messages), instruments=INSTRUMENTS, loss=day.loss,
        dup=0.01, reorder=0.02,
    )  # fmt: skip
    assert not truth.lost_on_both, "choose another seed"
    assert all(line.lost and line.duplicated and line.reordered for line in truth.lines.values())
    got, alone = replay(path, [TWO_LINES]), replay(day.path, [ONE_LINE])
    assert got.clean
    assert alone.clean
    assert got.books == alone.books == [last_hash]
    assert told(got.events) == told(alone.events)
    (account,) = got.result["sequence"]
    assert (account["lost"], account["late"], account["declared"]) == (0, 0, 0)
    assert account["recovered"] == account["gaps"] > 0
    assert account["delivered"] == len(day.messages) == truth.messages
    received = sum(len(packet.messages) for packet in datagrams(path))
    assert account["received"] == received
    assert account["duplicate"] == received - len(day.messages)
    for line, true in zip(got.result["lines"], truth.lines.values(), strict=True):
        assert line["packets"] == true.sent
    assert not (got.events["flags"] & lib.FLAG_SUSPECT).any()


# ---- messages that no line delivered ----


def lost_by(events: np.ndarray[Any, Any]) -> set[int]:
    gaps = events[events["kind"] == lib.EVENT_GAP]
    return {
        n
        for first, count in gaps[["sequence", "order_id"]].tolist()
        for n in range(first, first + count)
    }


def flagged_from(events: np.ndarray[Any, Any], sequence: int) -> dict[int, set[bool]]:
    """By instrument: were its records of later messages flagged?"""
    later = events[(events["sequence"] >= sequence) & (events["instrument_id"] & 0xFFFF > 0)]
    flags = (later["flags"] & lib.FLAG_SUSPECT) > 0
    return {int(i): set(flags[later["instrument_id"] == i].tolist())
            for i in np.unique(later["instrument_id"])}  # fmt: skip


def test_gaps_on_both_lines_are_lost_exactly_and_every_book_is_flagged(
    day: Day, tmp_path: Path
) -> None:
    path, count = tmp_path / "gaps.pcap", len(day.messages)
    gaps = ((count // 3, 1), (count // 2, 500), (count * 3 // 4, 40))
    truth = generate(
        path, seed=SEED, messages=count, instruments=INSTRUMENTS, loss=0.05, dup=0.01, gaps=gaps
    )
    suspect: list[bool] = []

    def look(engine: Engine) -> None:
        (feed,) = engine.feeds
        suspect.extend(feed.is_suspect(i) for i in range(1, INSTRUMENTS + 1))

    got = replay(path, [TWO_LINES], look=look)
    assert got.clean
    (account,) = got.result["sequence"]
    assert len(truth.lost_on_both) > 541, "some are lost by chance"
    assert account["lost"] == len(truth.lost_on_both)
    assert account["delivered"] == count - account["lost"]
    assert lost_by(got.events) == truth.lost_on_both
    first = min(truth.lost_on_both)
    before = got.events[(got.events["sequence"] < first) & (got.events["instrument_id"] > 0)]
    assert not (before["flags"] & lib.FLAG_SUSPECT).any()
    flagged = flagged_from(got.events, first)
    assert set(flagged) == set(range(1, INSTRUMENTS + 1))
    assert all(seen == {True} for seen in flagged.values())
    assert all(suspect)
    assert got.result["books"]["suspect"]


def with_newcomer(
    messages: list[tuple[int, bytes]], at: int, locate: int
) -> Iterator[tuple[int, bytes]]:
    """A stock that is listed during the day, with two orders, and one that is named again."""
    yield from messages[:at]
    ts = messages[at - 1][0]
    common = {"locate": locate, "timestamp": ts - MIDNIGHT, "stock": "NEWCOMER"}
    yield ts, next(message for _, message in messages if message[:1] == b"R")
    yield ts, pack("R", round_lot_size=100, **common)
    for order, side in ((2**40, "B"), (2**40 + 1, "S")):
        price = 100_0000 + order % 2 * 100
        yield ts, pack("A", order_reference=order, side=side, shares=5, price=price, **common)
    yield from messages[at:]


def write(path: Path, *feeds: Iterator[tuple[int, bytes]]) -> None:
    with CaptureWriter(path) as capture:
        for ts_ns, frame in merge(*feeds, key=lambda stamped: stamped[0]):
            capture.write(ts_ns, frame)


def gapped(
    messages: Iterator[tuple[int, bytes]] | list[tuple[int, bytes]], *gaps: tuple[int, int]
) -> tuple[Iterator[tuple[int, bytes]], Truth]:
    faults = {name: Faults(delay_ns=delay, gaps=gaps) for name, delay in (("A", 0), ("B", 5000))}
    return make_feed(messages, faults, framing=MoldUDP64())


@pytest.mark.parametrize(
    ("gap", "at", "is_suspect"),
    [pytest.param(200, 400, False, id="before"), pytest.param(3000, 6000, True, id="after")],
)
def test_a_stock_listed_after_the_gap_is_flagged_only_after_the_opening(
    tmp_path: Path, gap: int, at: int, is_suspect: bool
) -> None:
    """Then its directory message may be one sent again, and its orders lost in the gap."""
    path, locate = tmp_path / "new.pcap", 60_000
    messages = list(Market(SEED, 20, 8000))
    opening = [m[11:12] for _, m in messages[:at] if m[:1] == b"S"]
    assert (b"Q" in opening) == is_suspect
    frames, truth = gapped(with_newcomer(messages, at, locate), (gap, 10))
    write(path, frames)
    got = replay(path, [TWO_LINES])
    assert got.clean
    assert lost_by(got.events) == truth.lost_on_both
    flagged = flagged_from(got.events, min(truth.lost_on_both))
    assert flagged.pop(locate) == {is_suspect}
    assert set(flagged) == set(range(1, 21))
    assert all(seen == {True} for seen in flagged.values())


def test_a_gap_within_the_directory_flags_those_named_before_and_within(tmp_path: Path) -> None:
    """The books of the others are right, and say so; those with a lost directory message do not."""
    path, stocks = tmp_path / "directory.pcap", 40
    messages = list(Market(SEED, stocks, 12_000))
    frames, truth = gapped(messages, (30, 10))
    write(path, frames)
    named = {
        int.from_bytes(message[1:3], "big"): sequence
        for sequence, (_, message) in enumerate(messages, 1)
        if message[:1] == b"R"
    }
    right = {locate for locate, at in named.items() if at > max(truth.lost_on_both)}
    assert 5 < len(right) < stocks - 5
    assert set(named.values()) & truth.lost_on_both, "a directory message is lost"
    oracle = Oracle()
    for _, message in messages:
        oracle.take(message)
    suspect: dict[int, bool] = {}

    def look(engine: Engine) -> None:
        (feed,) = engine.feeds
        suspect.update({i: feed.is_suspect(i) for i in named})
        for i in right:
            sides = [side[["price", "size", "orders"]].tolist() for side in feed.books.depth(i)]
            assert sides == [oracle.books.levels(i, side) for side in (BID, ASK)]

    got = replay(path, [TWO_LINES], look=look)
    assert got.clean
    assert {i for i, wrong in suspect.items() if not wrong} == right
    flagged = flagged_from(got.events, min(truth.lost_on_both))
    assert {i for i, seen in flagged.items() if seen == {False}} == right
    assert {i for i, seen in flagged.items() if seen == {True}} == set(named) - right


def test_a_gap_flags_no_book_of_another_feed(tmp_path: Path) -> None:
    path, alone = tmp_path / "both.pcap", tmp_path / "alone.pcap"
    framing = MoldUDP64((b"OTHER",))

    def other() -> Iterator[tuple[int, bytes]]:
        faults = {"A": Faults(loss=0.02), "B": Faults(delay_ns=5000)}
        return make_feed(Market(SEED + 1, 20, 10_000), faults, framing=framing, channels=ELSEWHERE)[
            0
        ]

    frames, truth = gapped(Market(SEED, 20, 10_000), (4000, 50))
    write(path, frames, other())
    write(alone, other())
    got, unmixed = replay(path, [TWO_LINES, OTHER_FEED]), replay(alone, [OTHER_FEED])
    assert got.clean
    assert unmixed.clean
    assert [s["lost"] for s in got.result["sequence"]] == [len(truth.lost_on_both), 0]
    assert got.books[1:] == unmixed.books
    of_other = got.events[got.events["instrument_id"] >> 16 == 1]
    assert not (of_other["flags"] & lib.FLAG_SUSPECT).any()
    assert {int(i) & 0xFFFF for i in of_other["instrument_id"]} > set(range(1, 21))
    flagged = flagged_from(got.events, 1)
    assert all(True in seen for i, seen in flagged.items() if i < 1 << 16)
    assert all(seen == {False} for i, seen in flagged.items() if i >= 1 << 16)
