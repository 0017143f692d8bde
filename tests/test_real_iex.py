"""Recorded IEX sessions through the whole pipeline, judged by another decoder and plain books.

The oracle takes frames from scapy, the framing from struct (tests/dissect.py), the messages
from iex_parser, and builds tests/naive_book.py. iex_parser's own Parser shows no packet header,
so it cannot tell one session from the next: its message decoder is used, session by session.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from iex_parser import DEEP_1_0, TOPS_1_6
from iex_parser.messages import decode_message
from scapy.utils import RawPcapReader, checksum

from pydpdk._core import lib
from pydpdk.engine.engine import END
from tests.dissect import iextp_packets
from tests.naive_book import ASK, BID, NaiveBooks
from tests.pipeline import Outcome, found_feed, replay

PRICE = 10**9


class Recorded(NamedTuple):
    """A capture and the check figures published with it."""

    name: str
    protocol: str
    frames: int
    messages: dict[str, int]
    heartbeats: int
    sessions: int


TOPS = Recorded(
    "iex_tops16_20170710_a.pcapng.gz", "tops16", 8000,
    {"A": 500, "B": 2, "D": 10, "H": 7803, "O": 7800, "P": 7800, "Q": 17789, "S": 3, "T": 4074},
    182, 1,
)  # fmt: skip
ONE = Recorded(
    "iex_deep10_20170425_s12a.pcap.gz", "deep10", 40000,
    {"5": 7366, "8": 6730, "B": 50, "E": 14, "H": 7803, "O": 7803, "P": 7803, "S": 5, "T": 26149},
    66, 1,
)  # fmt: skip
SEVEN = Recorded(
    "iex_deep10_20170425_s01-07.pcap.gz", "deep10", 30057,
    {"5": 2963, "8": 2958, "E": 33, "H": 54623, "O": 54623, "P": 54621, "S": 26, "T": 18845},
    3261, 7,
)  # fmt: skip
CAPTURES = [
    pytest.param(TOPS, id="tops"),
    pytest.param(SEVEN, id="seven-sessions"),
    pytest.param(ONE, id="one-session", marks=pytest.mark.slow),
]


@cache
def run(path: Path, protocol: str, checksum: str = "auto") -> Outcome:
    return replay(path, [found_feed(path, protocol)], checksum=checksum)


# ---- the oracle ----


class Session:
    """Books and counts of one IEX-TP session, from its messages alone."""

    def __init__(self, indices: dict[bytes, int]) -> None:
        self.books = NaiveBooks()
        self.indices = indices  # by symbol, in order of appearance in the feed, from 1
        self.quotes: list[tuple[int, ...]] = []
        self.messages: Counter[str] = Counter()
        self.unknown = 0

    def index(self, symbol: bytes) -> int:
        index = self.indices.setdefault(symbol, len(self.indices) + 1)
        self.books.symbols[index] = symbol
        return index

    def take(self, version: str, message: bytes) -> None:
        self.messages[chr(message[0])] += 1
        if message[:1] == b"S":
            return
        index = self.index(message[10:18].rstrip())
        if message[:1] not in b"Q85":
            return
        row: dict[str, Any] = dict(decode_message(version, message[0], message[1:]))
        assert self.index(row["symbol"]) == index
        if message[:1] == b"Q":
            self.quote(index, row)
        else:
            side = BID if row["side"] == b"B" else ASK
            reason = self.books.level(index, side, int(row["price"] * PRICE), row["size"])
            self.unknown += reason == "book_unknown_level"

    def quote(self, index: int, row: dict[str, Any]) -> None:
        for at in [at for at in self.books.totals if at[0] == index]:
            del self.books.totals[at]
        told = [index]
        for side, name in ((BID, "bid"), (ASK, "ask")):
            price, size = int(row[f"{name}_price"] * PRICE), row[f"{name}_size"]
            if price and size:
                self.books.level(index, side, price, size)
            told += [price, size] if price and size else [2**63 - 1, 0]
        self.quotes.append(tuple(told))


@cache
def oracle(path: Path, version: str) -> list[Session]:
    """Sessions: the sequence falls back to 1 where one begins."""
    sessions: list[Session] = []
    indices: dict[bytes, int] = {}
    expected = 0
    for sequence, messages in iextp_packets(path):
        if sequence < expected or not sessions:
            assert sequence == 1
            sessions.append(Session(indices))
        expected = sequence + len(messages)
        for message in messages:
            sessions[-1].take(version, message)
    return sessions


def judged(capture: Recorded, path: Path) -> Iterator[tuple[dict[str, Any], Session]]:
    """Each session's account and what the oracle has of it."""
    version = TOPS_1_6 if capture is TOPS else DEEP_1_0
    accounts = run(path, capture.protocol).result["sequence"]
    yield from zip(accounts, oracle(path, version), strict=True)


# ---- what must agree ----


@pytest.mark.parametrize("capture", CAPTURES)
def test_counts_are_the_published_ones(data: Path, capture: Recorded) -> None:
    got = run(data / "iex" / capture.name, capture.protocol)
    assert got.clean
    assert got.result["messages"] == capture.messages
    assert got.counters["frames_received"] == got.counters["frames_parsed"] == capture.frames
    assert got.counters["packets_heartbeat"] == capture.heartbeats
    assert got.counters["session_resets"] == capture.sessions - 1
    total = sum(capture.messages.values())
    names = ("messages_received", "messages_delivered", "messages_decoded")
    assert [got.counters[name] for name in names] == [total] * 3
    assert len(got.result["sequence"]) == capture.sessions
    for account in got.result["sequence"]:
        assert (account["first"], account["lost"], account["gaps"]) == (1, 0, 0)
    assert int((got.events["kind"] == lib.EVENT_SESSION).sum()) == capture.sessions
    assert not (got.events["flags"] & lib.FLAG_SUSPECT).any()


@pytest.mark.parametrize("capture", CAPTURES)
def test_each_session_ends_with_the_books_that_another_decoder_builds(
    data: Path, capture: Recorded
) -> None:
    path = data / "iex" / capture.name
    unknown = 0
    for account, session in judged(capture, path):
        assert account["delivered"] == account["last"] == session.messages.total()
        assert account["books"] == {
            "instruments": len(session.books.symbols),
            "orders": 0,
            "levels": len(session.books.totals),
            "hash": f"{session.books.hash():016x}",
        }
        assert session.books.totals, "the books of a session are not empty at its end"
        unknown += session.unknown
    assert run(path, capture.protocol).counters["book_unknown_level"] == unknown


def test_quotes_of_tops_are_those_of_another_decoder(data: Path) -> None:
    path = data / "iex" / TOPS.name
    events = run(path, "tops16").events
    quotes = events[events["kind"] == lib.EVENT_QUOTE]
    names = ("instrument_id", "bid", "bid_size", "ask", "ask_size")
    ((_, session),) = judged(TOPS, path)
    assert quotes[list(names)].tolist() == session.quotes
    assert len(session.quotes) == TOPS.messages["Q"]


def udp_checksums_right(path: Path) -> int:
    """Frames whose UDP checksum is right, summed anew over pseudo header and datagram."""
    right = 0
    with RawPcapReader(str(path)) as reader:
        for frame, _ in reader:
            ip = frame[14:]
            udp = ip[4 * (ip[0] & 15) : int.from_bytes(ip[2:4], "big")]
            pseudo = ip[12:20] + bytes([0, 17]) + len(udp).to_bytes(2, "big")
            right += udp[6:8] == b"\0\0" or checksum(pseudo + udp) == 0
    return right


@pytest.mark.parametrize("capture", CAPTURES)
def test_wrong_udp_checksums_are_accepted_and_counted_or_dropped(
    data: Path, capture: Recorded
) -> None:
    path = data / "iex" / capture.name
    right = udp_checksums_right(path)
    assert right == 0
    auto = run(path, capture.protocol).counters
    assert auto["note_udp_checksum"] == capture.frames - right
    assert auto["note_ip_checksum"] == 0
    verify = run(path, capture.protocol, "verify")
    assert verify.counters["drop_udp_checksum"] == capture.frames - right
    assert verify.counters["frames_parsed"] == right
    assert verify.result["unexplained"] == 0
    assert verify.ends == [END]
    ignore = run(path, capture.protocol, "ignore")
    assert ignore.counters["note_udp_checksum"] == 0
    assert ignore.books == run(path, capture.protocol).books
