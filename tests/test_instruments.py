"""The table of instruments: whole symbols that any process may read while they change."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from pydpdk._core import lib
from pydpdk.core.instruments import FEED_BYTES, INSTRUMENT, Instruments
from pydpdk.core.ring import Ring
from pydpdk.errors import CoreError, PydpdkError, UsageError
from pydpdk.lockstep.replay import Replay
from pydpdk.lockstep.result import levels
from pydpdk.synth.gen import generate
from tests import iex_spec, itch50_spec
from tests.command import ROOT
from tests.decoding import Decoding

SHM = Path("/dev/shm")
LAST = lib.BOOK_INSTRUMENTS_MAX - 1
STRESS = ROOT / "tests" / "c" / "instruments_stress.c"
CODE = ROOT / "csrc" / "ring" / "instruments.c"
READ = """
import sys
from pydpdk.core.instruments import Instruments
with Instruments.attach(sys.argv[1]) as table:
    print(table.feed_name(0), table.symbols(0), table.symbols(1), table.rows(0)[7].tolist())
"""
WRITE = """
import sys
from pydpdk.core.instruments import Instruments
with Instruments.attach(sys.argv[1], writer=True) as table:
    table.put(3, "BY-ANOTHER")
    print("there", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def name() -> Iterator[str]:
    name = f"pydpdk-test-{uuid.uuid4().hex}"
    yield name
    (SHM / name).unlink(missing_ok=True)


def taken(table: Instruments) -> int:
    """Bytes of memory that its file has."""
    return os.stat(f"/proc/self/fd/{table.fd}").st_blocks * 512


# --- the table ---


def test_another_process_reads_whole_rows(name: str) -> None:
    with Instruments.create(2, name) as table:
        table.name_feed(0, "crypto")
        table.put(7, "1000SHIBUSDT", venue="XBIN", currency="FDUSD", round_lot=3, size_unit=8)
        table.put(65_535, "X" * 64)
        table.put(65_536 + 2, "ES 20DEC24/21MAR25")
        said = subprocess.run([sys.executable, "-c", READ, name], capture_output=True, text=True)
        assert said.stdout.strip() == (
            f"crypto {{7: '1000SHIBUSDT', 65535: '{'X' * 64}'}} {{65538: 'ES 20DEC24/21MAR25'}} "
            "(2, 3, b'1000SHIBUSDT', b'XBIN', b'FDUSD', 8, 9)"
        ), said.stderr
        assert [table.symbol(n) for n in (7, 8, 65_538, 65_539)] == [
            "1000SHIBUSDT", "", "ES 20DEC24/21MAR25", "",
        ]  # fmt: skip
    with Instruments.attach(name) as left:
        assert left.symbol(7) == "1000SHIBUSDT"
        left.unlink()
    assert not (SHM / name).exists()


def test_memory_is_taken_where_something_is_named() -> None:
    with Instruments.create(lib.FEEDS_MAX) as table:
        table.put(63 * 65_536 + 9_999, "LAST")
        assert len(table.rows(63)) == 10_000
        assert [table.symbols(feed) for feed in range(63)] == [{}] * 63
        assert taken(table) < 10_000 * INSTRUMENT.itemsize + (1 << 17)
        table.name_feed(2, "", populate=True)
        assert FEED_BYTES < taken(table) < FEED_BYTES + 10_000 * INSTRUMENT.itemsize + (1 << 17)


def test_what_does_not_fit_is_refused() -> None:
    with Instruments.create(1) as table:
        with pytest.raises(OverflowError, match="longer than symbol's 64 bytes"):
            table.put(1, "X" * 65)
        for outside in (lambda: table.put(65_536, "A"), lambda: table.symbol(65_536)):
            with pytest.raises(CoreError, match="EINVAL"):
                outside()
        with pytest.raises(PydpdkError, match="no feed 1"):
            table.rows(1)
    with pytest.raises(PydpdkError, match="closed"):
        table.symbol(1)
    for feeds in (0, lib.FEEDS_MAX + 1):
        with pytest.raises(CoreError, match="EINVAL"):
            Instruments.create(feeds)


def test_a_feed_of_another_name_begins_empty() -> None:
    with Instruments.create(2) as table:
        for feed in (0, 1):
            table.name_feed(feed, "a")
            table.put(feed << 16 | 5, "OLD")
        table.name_feed(0, "a")
        assert table.symbol(5) == "OLD"
        table.name_feed(0, "b")
        assert (table.symbols(0), table.feed_name(0)) == ({}, "b")
        assert table.symbols(1) == {65_541: "OLD"}


def test_one_writer_at_a_time_and_another_when_it_is_killed(name: str) -> None:
    with Instruments.create(1, name), pytest.raises(CoreError, match="busy"):
        Instruments.attach(name, writer=True)
    child = subprocess.Popen(
        [sys.executable, "-c", WRITE, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"there\n"
        with pytest.raises(CoreError, match="EBUSY"):
            Instruments.attach(name, writer=True)
        child.kill()
    with Instruments.attach(name, writer=True) as table:
        assert table.symbol(3) == "BY-ANOTHER"
        table.put(3, "MINE")
        assert table.symbol(3) == "MINE"


def test_a_row_that_its_writer_died_in_names_nothing_until_it_is_named_again(name: str) -> None:
    with Instruments.create(1, name) as table:
        table.put(1, "FIRST")
        with mmap.mmap(table.fd, 0) as file:
            at = file.find(b"FIRST") - INSTRUMENT.fields["symbol"][1]
            file[at] |= 1
    with Instruments.attach(name) as table:
        begun = time.monotonic()
        assert table.symbols(0) == {}
        assert time.monotonic() - begun < 0.5, "nobody is waited for who is dead"
    with Instruments.attach(name, writer=True) as table:
        table.put(1, "AGAIN")
        assert table.symbols(0) == {1: "AGAIN"}


def spoilt(path: Path, how: str) -> None:
    """Makes what is not a table of this build."""
    if how == "ring":
        Ring(64, path.name).close()
        path.write_bytes(bytes(range(256)) * 64)
        return
    Instruments.create(1, path.name).close()
    with path.open("r+b") as file:
        if how == "short":
            file.truncate(FEED_BYTES)
        elif how == "empty":
            file.truncate(0)
        else:
            file.seek({"magic": 0, "version": 8, "rows": 12, "feeds": 20}[how])
            file.write(b"\xff")


@pytest.mark.parametrize("how", ["ring", "short", "empty", "magic", "version", "rows", "feeds"])
def test_what_is_no_table_is_refused_by_name(name: str, how: str) -> None:
    spoilt(SHM / name, how)
    for writer in (False, True):
        with pytest.raises(CoreError, match=f"table of instruments {name}.*EPROTO") as refused:
            Instruments.attach(name, writer=writer)
        assert refused.value.code == errno.EPROTO
    with pytest.raises(CoreError, match="ENOENT"):
        Instruments.attach(f"{name}-not")


# --- renamed while it is read ---


def stress(where: Path, code: str, seconds: float = 0) -> subprocess.CompletedProcess[str]:
    """Build it with this text of instruments.c and run it, for ``seconds`` while all is well."""
    source, program = where / "instruments.c", where / "stress"
    source.write_text(code)
    sources = (STRESS, source, ROOT / "csrc" / "base" / "shm.c")
    subprocess.run(
        ["gcc", "-std=gnu11", "-O2", f"-I{ROOT / 'csrc'}", *sources, "-o", program],
        check=True,
    )
    until = time.monotonic() + seconds
    while True:
        ran = subprocess.run([program, "100000"], capture_output=True, text=True, timeout=120)
        if ran.returncode != 0 or time.monotonic() > until:
            return ran


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_a_reader_never_sees_a_mixed_name(tmp_path: Path) -> None:
    ran = stress(tmp_path, CODE.read_text())
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("at->version | 1;", "at->version;"),  # the writer does not say that it writes
        ("(version & 1) == 0 && ", "version == version || "),  # the reader does not look
    ],
    ids=["writer", "reader"],
)
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_the_stress_finds_a_broken_publication(tmp_path: Path, right: str, wrong: str) -> None:
    code = CODE.read_text()
    assert code.count(right) == 1
    ran = stress(tmp_path, code.replace(right, wrong), seconds=30)
    assert ran.returncode == 1
    assert "mixed" in ran.stderr


# --- what decoders say ---


def directory(locate: int, symbol: str, lot: int = 100) -> bytes:
    return itch50_spec.pack("R", locate=locate, stock=symbol, round_lot_size=lot)


def test_itch_names_its_instruments_and_renames_them() -> None:
    with Instruments.create(1) as table, Decoding("itch50", table=table) as itch:
        itch.begin(b"MONDAY")
        itch.decode(directory(5, "AAPL"), directory(9, "BRK.A", 1))
        assert table.rows(0)[9].tolist()[1:] == (1, b"BRK.A", b"XNAS", b"USD", 0, 9)
        itch.decode(directory(5, "ZVZZT"))
        assert table.symbols(0) == {5: "ZVZZT", 9: "BRK.A"}


def test_locate_codes_of_another_session_are_forgotten() -> None:
    with Instruments.create(1) as table:
        for session, gaps, left in (
            (b"MONDAY", 0, set()), (b"MONDAY", 1, {5, 9}), (b"TUESDAY", 1, set()),
            (b"TUESDAY", 1, {5, 9}), (b"TUESDAY", 0, set()),
        ):  # fmt: skip
            with Decoding("itch50", table=table) as itch:  # another engine each time
                itch.begin(session, gaps)
                itch.decode(itch50_spec.pack("S", event_code="O"))
                assert table.symbols(0).keys() == left, (session, gaps)
                itch.decode(directory(5, "AAPL"), directory(9, "BRK.A"))


def status(symbol: str) -> bytes:
    return iex_spec.pack("H", symbol=symbol, status="T")


def test_iex_numbers_outlive_sessions_and_engines() -> None:
    """Positions and limits are kept by them."""
    with Instruments.create(2) as table:
        with Decoding("deep10", table=table) as deep:
            deep.decoder.out.feed = 1
            deep.begin(b"ONE")
            deep.decode(*map(status, ("BBB", "AAA", "CCC")))
            deep.begin(b"TWO")
            deep.decode(status("DDD"), iex_spec.pack("D", symbol="AAA", round_lot_size=100))
        with Decoding("deep10", table=table) as deep:
            deep.decoder.out.feed = 1
            deep.begin(b"TWO", gaps=1)
            events = deep.decode(*map(status, ("CCC", "EEE", "AAA", "BBB")))
        found = events[events["kind"] == lib.EVENT_STATUS]["instrument_id"]
        assert [number & 0xFFFF for number in found.tolist()] == [3, 5, 2, 1]
        base = 65_536
        assert table.symbols(1) == {
            base + 1: "BBB", base + 2: "AAA", base + 3: "CCC", base + 4: "DDD", base + 5: "EEE",
        }  # fmt: skip
        assert table.symbols(0) == {}
        assert table.rows(1)[1].tolist()[1:] == (0, b"BBB", b"IEXG", b"USD", 0, 9)


def test_instruments_beyond_65535_are_refused_by_name() -> None:
    with Instruments.create(1) as table, Decoding("deep10", listen=False, table=table) as deep:
        for at in range(0, LAST, 256):
            deep.batch([status(f"S{n}") for n in range(at, min(at + 256, LAST))])
        assert table.refused(0) == []
        deep.batch([status(symbol) for symbol in ("LATE", "S7", "LATER", "LATE")])
        assert deep.counted() == {"messages_decoded": LAST + 4, "instruments_full": 3}
        assert table.refused(0) == ["LATE", "LATER"]
        deep.batch([status(f"T{n}") for n in range(10)])
        assert table.refused(0) == ["LATE", "LATER", *(f"T{n}" for n in range(6))]
        assert len(table.symbols(0)) == LAST
        assert table.symbol(LAST) == f"S{LAST - 1}"


# --- what an engine answers ---


def test_an_engine_answers_with_whole_symbols(tmp_path: Path) -> None:
    day = tmp_path / "day.pcap"
    generate(day, messages=2_000, instruments=20, seed=1)
    with Replay(day, ["itch50"], keep_events=True) as replay:
        replay.run()
        engine, (feed,) = replay.engine, replay.engine.feeds
        events = replay.events()
        told = events[events["kind"] == lib.EVENT_INSTRUMENT]
        numbers, symbols = told["instrument_id"].tolist(), told["order_id"].tolist()
        before = {
            n: s.to_bytes(8, "little").decode().rstrip()
            for n, s in zip(numbers, symbols, strict=True)
        }
        assert engine.instruments() == engine.table.symbols(0) == before
        traded = int(levels(engine)["instrument_id"][0])
        engine.table.put(traded, "BTC-ICOND-27SEP24-50000_55000_70000_75000")
        after = before | {traded: "BTC-ICOND-27SEP24-50000_55000_70000_75000"}
        assert engine.instruments() == after
        assert feed.instrument(after[traded]) == traded
        result = replay.result()
    assert result.symbols == after
    assert [len(side) for side in result.book(after[traded])] > [0, 0]
    with pytest.raises(UsageError, match="no instrument"):
        result.book(before[traded])
