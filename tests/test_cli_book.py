"""pydpdk book: the book at a moment is what naive books say of the packets up to it."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from pydpdk.cli.book import clock_text, moment_ns
from pydpdk.errors import UsageError
from tests.command import call, refused, well
from tests.recount import books, delivered, packets


@pytest.fixture(scope="module")
def day(tmp_path_factory):
    path = tmp_path_factory.mktemp("book") / "day.pcap"
    well("gen", path, "--messages", 3000, "--instruments", 8)
    return path


def levels(side):
    return [(level["price_1e9"], level["size"], level["orders"]) for level in side]


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, None])
def test_the_book_at_a_moment_is_the_naive_one(day, share):
    found = packets(day)
    at = None if share is None else found[int(share * len(found))].ts
    naive = books(delivered(day, at))
    asked = [] if at is None else ["--at", at]
    for instrument, name in naive.symbols.items():
        symbol = name.decode().strip()
        book = well("book", symbol, "--pcap", day, "--depth", 10**9, "--json", *asked).json
        assert book["at"] == (at or found[-1].ts)
        assert (book["symbol"], book["instrument_id"]) == (symbol, instrument)
        assert book["suspect"] is False
        assert levels(book["bids"]) == naive.levels(instrument, 1)
        assert levels(book["asks"]) == naive.levels(instrument, 2)


def test_depth_is_the_levels_of_a_side(day):
    naive = books(delivered(day))
    instrument, name = next((i, n) for i, n in naive.symbols.items() if len(naive.levels(i, 1)) > 2)
    book = well("book", name.decode().strip(), "--pcap", day, "--depth", 2, "--json").json
    assert levels(book["bids"]) == naive.levels(instrument, 1)[:2]


def test_people_read_it_in_the_venues_time(day):
    naive = books(delivered(day))
    instrument, name = next(
        (i, n) for i, n in naive.symbols.items() if naive.levels(i, 1) and naive.levels(i, 2)
    )
    symbol = name.decode().strip()
    head, titles, first, *_ = well("book", symbol, "--pcap", day, "--depth", 1).out.splitlines()
    assert head == f"{symbol} at {clock_text(packets(day)[-1].ts)}"
    assert titles.split() == ["orders", "size", "bid", "ask", "size", "orders"]
    (bid, bid_size, bid_orders), *_ = naive.levels(instrument, 1)
    (ask, ask_size, ask_orders), *_ = naive.levels(instrument, 2)
    assert first.replace(",", "").split() == [
        str(bid_orders), str(bid_size), f"{bid / 1e9:.4f}",
        f"{ask / 1e9:.4f}", str(ask_size), str(ask_orders),
    ]  # fmt: skip


def test_a_gap_makes_it_suspect(tmp_path):
    path = tmp_path / "lossy.pcap"
    well("gen", path, "--messages", 3000, "--instruments", 5, "--loss", 0.3)
    symbol = next(iter(books(delivered(path)).symbols.values())).decode().strip()
    assert well("book", symbol, "--pcap", path, "--json").json["suspect"] is True
    assert "SUSPECT" in well("book", symbol, "--pcap", path).out


def test_a_price_level_feed(data):
    path = data / "iex" / "iex_deep10_20170425_s01-07.pcap.gz"
    args = ("book", "ZIEXT", "--pcap", path, "--feed", "deep10", "--json")
    book = well(*args).json
    assert [level["price_1e9"] for level in book["bids"][:2]] == [20 * 10**9, 19_990_000_000]
    assert all(level["orders"] == 0 for level in book["bids"])


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["NOSUCH"], "no instrument 'NOSUCH'"),
        (["NOSUCH", "--at", "09:00"], "the capture begins at 2026-01-05 09:30:00"),
        (["NOSUCH", "--at", "930"], "the capture begins at"),
        (["NOSUCH", "--at", "noon"], "--at 'noon'"),
        (["NOSUCH", "--at", "25:00"], "--at '25:00'"),
        (["NOSUCH", "--at", "-5"], "--at '-5'"),
        (["NOSUCH", "--at", "9" * 30], "no instrument"),
        (["NOSUCH", "--depth", "0"], "--depth"),
    ],
)
def test_usage(day, args, words):
    assert words in refused(2, "book", *args, "--pcap", day)


def test_another_feed_than_the_captures(day):
    assert call("book", "X", "--pcap", day, "--feed", "deep10").code == 4


NEAR = int(datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("America/New_York")).timestamp()) * 10**9
NINE = NEAR - 150 * 60 * 10**9  # 09:30 of that day


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("09:30", NINE),
        ("09:30:00", NINE),
        ("09:30:00.000000001", NINE + 1),
        ("09:30:00.5", NINE + 500_000_000),
        ("13:30:00Z", NINE),
        ("2026-07-01T09:30:00", NINE),
        ("2026-07-01 09:30:00.25", NINE + 250_000_000),
        ("2026-07-01T13:30:00.25Z", NINE + 250_000_000),
        ("2026-07-01T15:30:00.25+02:00", NINE + 250_000_000),
        ("2026-01-05T09:30:00", NINE - 177 * 86_400 * 10**9 + 3600 * 10**9),  # winter time
        ("123", 123),
    ],
)
def test_moments(text, ns):
    assert moment_ns(text, NEAR) == ns


@pytest.mark.parametrize("text", ["", "9:30", "09:30:00.0000000001", "2026-13-01T00:00:00", "1e9"])
def test_what_is_no_moment(text):
    with pytest.raises(UsageError, match="New York time"):
        moment_ns(text, NEAR)
