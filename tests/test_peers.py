"""Peers do the whole of their work: over the same bytes their counts are ours."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pydpdk.bench import data, peers
from pydpdk.bench.data import LINES, packets_of
from pydpdk.bench.loops import ffi, lib
from pydpdk.bench.peers import BOOKKEEPERS, DECODERS, FRAME_PARSERS, RECORDERS, WALKERS, Peer
from pydpdk.source.source import open_source
from pydpdk.tape.pcapfile import CaptureWriter
from testbed import frames as of
from tests import itch50_spec, recount

SIZE = data.Size(messages=5_000, instruments=30, live_orders=500)
BUILT_IN = [name for name, peer in DECODERS.items() if peer.module is None]
PAGE = Path(__file__).parent.parent / "docs" / "peers.md"


def installed(table: dict[str, Peer], name: str) -> None:
    if table[name].load() is None:
        pytest.skip(f"{name} is not installed: pip install 'pydpdk[bench]'")


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> data.Market:
    files = data.session_files(tmp_path_factory.mktemp("peers"), SIZE, lambda done: None)
    return data.Market(SIZE, *files, cores=[0])


@pytest.fixture(scope="module")
def messages(market: data.Market) -> dict[int, bytes]:
    """By sequence, recounted from the file."""
    return recount.delivered(market.alone)


def framed(messages: Any) -> bytes:
    return b"".join(len(message).to_bytes(2, "big") + message for message in messages)


def decoded(market: data.Market, path: Path) -> int:
    with market.engine(path, LINES[:1], ring=False) as engine:
        while engine.step() >= 0:
            pass
        counters = engine.feeds[0].counters()
    return int(counters["messages_decoded"])


# --- captures and frames ---


@pytest.mark.parametrize("name", WALKERS)
def test_walkers_find_every_packet(name: str, market: data.Market) -> None:
    installed(WALKERS, name)
    with open_source(f"pcap:{market.both}") as source:
        ours = lib.bench_walk(source.pointer, 64)
    assert ours == len(list(recount.records(market.both)))
    limit = (ours + 1) * WALKERS[name].share
    assert peers.walkers(market.both, limit)[name]() == ours
    part = ours // 2 * WALKERS[name].share
    assert peers.walkers(market.both, part)[name]() == (ours if name == "libpcap" else ours // 2)


UDP4, UDP6 = of.ipv4(of.udp(b"data")), of.ipv6(of.udp(b"data", src=of.SOURCE6, dst=of.GROUP6))
MIXED = [
    of.eth(UDP4),
    of.eth(UDP4, vlans=[(of.VLAN, 7)]),
    of.eth(UDP6, ethertype=of.IPV6),
    of.eth(of.ipv4(bytes(20), protocol=6)),  # TCP
    of.eth(bytes(28), ethertype=0x0806),  # ARP
]


@pytest.mark.parametrize("name", FRAME_PARSERS)
def test_frame_parsers_find_the_same_datagrams(name: str, tmp_path: Path) -> None:
    installed(FRAME_PARSERS, name)
    share = FRAME_PARSERS[name].share
    with CaptureWriter(tmp_path / "mixed.pcap") as capture:
        for i, frame in enumerate(MIXED * share):
            capture.write(10**18 + i, frame)
    with packets_of(tmp_path / "mixed.pcap") as (packets, count):
        assert count == len(MIXED) * share
        ours = lib.bench_frame(packets, len(MIXED), lib.CHECKSUM_IGNORE)
        assert ours == 3
        assert peers.frame_parsers(packets, count)[name]() == ours


# --- messages ---


@pytest.mark.parametrize("name", DECODERS)
def test_decoders_find_every_message(
    name: str, market: data.Market, messages: dict[int, bytes]
) -> None:
    installed(DECODERS, name)
    assert decoded(market, market.alone) == len(messages) == SIZE.messages
    assert peers.decoders(framed(messages.values()))[name]() == len(messages)


@pytest.mark.parametrize("name", BUILT_IN)
def test_decoders_pass_over_what_we_pass_over(
    name: str, market: data.Market, tmp_path: Path
) -> None:
    add = itch50_spec.add(1)
    told = [add, add[:-1], b"z" + add[1:], add + b"\0", itch50_spec.add(2), add[:1]]
    with CaptureWriter(tmp_path / "odd.pcap") as capture:
        line = LINES[0]
        packet = of.datagram(of.mold(messages=told), dst=line.host, dst_port=line.port)
        capture.write(10**18, packet)
    assert peers.decoders(framed(told))[name]() == decoded(market, tmp_path / "odd.pcap") == 2


def test_numpy_rows_are_the_specification(messages: dict[int, bytes]) -> None:
    every = [
        itch50_spec.pack(letter, **{
            name: "Q" * size if kind == "a" else int.from_bytes(bytes(range(i + 1, i + 1 + size)))
            for i, (name, kind, size) in enumerate(itch50_spec.spec(letter))
        })
        for letter in itch50_spec.MESSAGES
    ]  # fmt: skip
    told = [*messages.values(), *every]
    rows = peers.numpy_rows(framed(told))
    assert set(rows) == set(itch50_spec.MESSAGES)
    for letter, found in rows.items():
        mine = [message for message in told if message[:1] == letter.encode()]
        assert len(found) == len(mine)
        at = 1
        for name, kind, size in itch50_spec.spec(letter):
            raw = [message[at : at + size] for message in mine]
            at += size
            assert column(found[name]) == (
                [text.rstrip(b"\0") for text in raw]
                if kind == "a"
                else list(map(int.from_bytes, raw))
            )


def column(values: Any) -> list[Any]:
    if values.dtype.names:
        high, low = values["high"].astype(np.uint64), values["low"].astype(np.uint64)
        values = high << np.uint64(32) | low
    assert values.dtype.isnative
    return list(values.tolist())


@pytest.mark.parametrize("name", BOOKKEEPERS)
def test_bookkeepers_have_our_books(
    name: str, market: data.Market, messages: dict[int, bytes]
) -> None:
    installed(BOOKKEEPERS, name)
    stream = framed(messages.values())
    assert peers.bookkeepers(stream, len(messages))[name]() == len(messages)
    manager = BOOKKEEPERS[name].load().BookManager()
    manager.process_stream(stream)
    with market.engine(market.alone, LINES[:1], ring=False) as engine:
        while engine.step() >= 0:
            pass
        books = engine.feeds[0].books
        rows, levels = lib.books_all(books.pointer), lib.books_levels(books.pointer)
        live = [rows[i] for i in range(lib.BOOK_INSTRUMENTS_MAX) if rows[i].orders]
        assert live
        for row in live:
            found = manager.book_for_symbol(ffi.string(row.symbol, 8).decode().strip()).bbo()
            best = [
                levels[side.at + side.count - 1].price if side.count else 0 for side in row.side
            ]
            assert [
                round(found.bid_price * 10_000) * 100_000 if found.has_bid else 0,
                round(found.ask_price * 10_000) * 100_000 if found.has_ask else 0,
            ] == best


# --- values ---


@pytest.mark.parametrize("name", RECORDERS)
def test_recorders_take_every_value(name: str) -> None:
    installed(RECORDERS, name)
    assert peers.recorders([1, 5, 10**6])[name]() == 3


# --- what the page says ---


def test_the_page_names_every_peer() -> None:
    text = PAGE.read_text()
    for table in (WALKERS, FRAME_PARSERS, DECODERS, BOOKKEEPERS, RECORDERS):
        for name in table:
            assert re.search(rf"^\| `?{name.split(' (')[0]}`? \|", text, re.M), name


def test_the_example_of_the_page_is_a_peer(
    market: data.Market, messages: dict[int, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    monkeypatch.setattr(peers, "DECODERS", dict(DECODERS))
    exec(compile(code, str(PAGE), "exec"), {})
    (name,) = peers.DECODERS.keys() - DECODERS.keys()
    assert peers.decoders(framed(messages.values()))[name]() == len(messages)


def test_a_peer_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(peers.DECODERS, "nobody", Peer("no.such.package", lambda *_: 0))
    assert "nobody" not in peers.decoders(b"")
    assert set(BUILT_IN) <= set(peers.decoders(b""))
