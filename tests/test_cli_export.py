"""pydpdk export: every table read back, and held against the capture's own bytes."""

from __future__ import annotations

import csv
import gzip
import subprocess
import sys

import numpy as np
import pytest

from pydpdk._core import lib
from pydpdk.core import layout
from pydpdk.core.event import EVENT
from pydpdk.engine.feed import Feed
from pydpdk.errors import DataError
from pydpdk.lockstep import export as exporting
from pydpdk.lockstep.replay import Replay
from pydpdk.synth.two_lines import LINE_A, LINE_B
from pydpdk.tape.pcapfile import CaptureWriter
from testbed.frames import GROUP, datagram, iextp, itch_add, itch_system, mold
from tests import iex_spec, itch50_spec
from tests.command import ROOT, call, refused, start, well
from tests.dissect import iextp_packets
from tests.itch50_model import Model
from tests.recount import books, delivered, packets

ENDINGS = (".npy", ".csv", ".parquet")
DAY_FEED = Feed.parse(
    "itch50@" + ",".join(f"{line.group}:{line.port}" for line in (LINE_A, LINE_B))
)


@pytest.fixture(scope="module")
def day(tmp_path_factory):
    """A capture with faults, of which line A or B has every message."""
    path = tmp_path_factory.mktemp("export") / "day.pcap"
    faults = ("--loss", 0.02, "--dup", 0.02, "--reorder", 0.02, "--seed", 1)
    made = well("gen", path, "--messages", 3000, "--instruments", 10, *faults, "--json").json
    assert made["lost_on_both"] == []
    return path


def export(capture, what, output, feed="itch50"):
    args = ("export", capture, "--feed", feed, "--what", what, "-o", output, "--json")
    return well(*args).json["files"]


def read(path):
    """Rows of a table as plain values by column, whatever the file is."""
    if path.suffix == ".npy":
        table = np.load(path)
        return [dict(zip(table.dtype.names, row, strict=True)) for row in table.tolist()]
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    parquet = pytest.importorskip("pyarrow.parquet")
    return parquet.read_table(path).to_pylist()


def plain(rows):
    """As CSV would say it."""
    return [
        {k: v.decode("latin-1").rstrip(" \0") if isinstance(v, bytes) else str(v)
         for k, v in row.items()}
        for row in rows
    ]  # fmt: skip


@pytest.mark.parametrize("ending", ENDINGS)
def test_messages_are_those_of_the_capture(day, tmp_path, ending):
    files = export(day, "messages", tmp_path / f"m{ending}")
    expected = {}
    for sequence, message in delivered(day).items():
        fields = {"sequence": sequence} | itch50_spec.unpack(message)
        name = itch50_spec.MESSAGES[chr(message[0])][0]
        expected.setdefault(name, []).append({**fields, "type": message[:1]})
    paths = {name: tmp_path / f"m.{name}{ending}" for name in expected}
    assert files == {str(paths[name]): len(rows) for name, rows in expected.items()}
    arrivals = {packet.ts for packet in packets(day)}
    for name, rows in expected.items():
        found = plain(read(paths[name]))
        assert {int(row.pop("ts_recv")) for row in found} <= arrivals
        assert found == plain(rows)


def test_price_level_messages_too(data, tmp_path):
    capture = data / "iex" / "iex_tops16_20170710_a.pcapng.gz"
    plain_capture = tmp_path / "t.pcapng"
    plain_capture.write_bytes(gzip.decompress(capture.read_bytes()))
    expected = {}
    for sequence, messages in iextp_packets(plain_capture):
        for i, message in enumerate(messages):
            row = {"sequence": sequence + i} | iex_spec.unpack(message)
            expected.setdefault(chr(message[0]), []).append({**row, "type": message[:1]})
    files = export(capture, "messages", tmp_path / "t.npy", "tops16")
    assert sum(files.values()) == 45_781
    for letter in "QTA":
        found = read(tmp_path / f"t.{iex_spec.MESSAGES[letter][0]}.npy")
        for row in found:
            row.pop("ts_recv")
        assert plain(found) == plain(expected[letter])


@pytest.mark.parametrize("ending", ENDINGS)
def test_events_are_what_a_model_makes_of_the_messages(day, tmp_path, ending):
    path = tmp_path / f"events{ending}"
    files = export(day, "events", path)
    events = [{k: int(v) for k, v in row.items()} for row in read(path)]
    assert files == {str(path): len(events)}
    assert list(events[0]) == list(layout.dtype("event").names)
    assert [e["stamp"] for e in events] == sorted({e["stamp"] for e in events})
    model = Model()
    expected = [
        (sequence, *record)
        for sequence, message in delivered(day).items() if chr(message[0]) in "AFECXDU"
        for record in model.apply(message)
    ]  # fmt: skip
    names = ("sequence", "kind", "side", "flags", "instrument_id",
             "price", "order_id", "size", "aux")  # fmt: skip
    made = {sequence for sequence, *_ in expected}
    for event in events:
        event["flags"] &= ~lib.FLAG_HALTED  # the model knows orders only
    found = [tuple(e[n] for n in names) for e in events if e["sequence"] in made]
    assert found == expected


@pytest.mark.parametrize("ending", ENDINGS)
def test_books_are_the_naive_ones(day, tmp_path, ending):
    path = tmp_path / f"books{ending}"
    export(day, "books", path)
    naive = books(delivered(day))
    expected = [
        {"instrument_id": i, "symbol": symbol.strip(), "side": side, "depth": at,
         "price": price, "size": size, "orders": orders}
        for i, symbol in sorted(naive.symbols.items()) for side in (1, 2)
        for at, (price, size, orders) in enumerate(naive.levels(i, side)[:10])
    ]  # fmt: skip
    assert len(expected) > 20
    assert plain(read(path)) == plain(expected)


def capture_of(path, *payloads):
    with CaptureWriter(path, "pcap-ns") as capture:
        for i, payload in enumerate(payloads):
            frame = datagram(payload, dst=GROUP, dst_port=26477)
            capture.write(1_700_000_000 * 10**9 + i, frame)
    return path


def test_messages_of_a_wrong_length_are_left_out(tmp_path):
    """The last one has no byte at all: its type lies beyond all that was delivered."""
    wrong = [itch_add() + b"x", itch_add()[:-1], b"A", b""]
    capture = capture_of(tmp_path / "t.pcap", mold(messages=[itch_system(), itch_add(), *wrong]))
    files = export(capture, "messages", tmp_path / "t.npy", f"itch50@{GROUP}:26477")
    assert files == {str(tmp_path / "t.system_event.npy"): 1, str(tmp_path / "t.add_order.npy"): 1}


def test_iex_messages_that_grew_are_exported(tmp_path):
    one = iex_spec.pack("T", symbol="ZIEXT", size=7, price=1_234_500)
    other = iex_spec.pack("T", symbol="ZIEXT", size=8, price=1_234_600)
    payload = iextp(messages=[one + b"new field", other, one[:-1]], protocol=0x8003)
    capture = capture_of(tmp_path / "t.pcap", payload)
    export(capture, "messages", tmp_path / "t.npy", f"tops16@{GROUP}:26477")
    found = np.load(tmp_path / "t.trade_report.npy")
    assert found[["sequence", "size"]].tolist() == [(1, 7), (2, 8)]


def test_what_a_full_tap_drops_is_an_error(day, monkeypatch):
    monkeypatch.setattr(exporting, "TAP_BYTES", 256)
    with Replay(day, DAY_FEED, keep_events=True) as replay:
        with pytest.raises(DataError, match="messages of one step"):
            exporting.messages(replay, lambda frames: None)
        while replay.engine.step() > 0:  # without the tap
            pass


def test_events_in_memory_are_the_records_themselves(day, tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(exporting, "write", lambda path, table: written.append(table))
    with Replay(day, DAY_FEED, keep_events=True) as replay:
        exporting.export(replay, "events", tmp_path / "e.npy")
    assert written[0].dtype == EVENT
    assert written[0].itemsize == 64


def test_people_read_names_and_rows(day, tmp_path):
    path = tmp_path / "e.npy"
    done = well("export", day, "--feed", "itch50", "-o", path)
    assert done.out == f"{path}  {len(np.load(path)):,} rows\n"


def test_without_messages_no_file(tmp_path):
    capture = tmp_path / "none.pcap"
    well("gen", capture, "--messages", 1000, "--instruments", 5, "--loss", 1)
    done = well("export", capture, "--feed", "itch50", "--what", "messages",
                "-o", tmp_path / "m.csv")  # fmt: skip
    assert done.out == "no messages, so no file\n"
    assert [path.name for path in tmp_path.iterdir()] == ["none.pcap"]


def test_a_broken_capture_gives_its_whole_part(day, tmp_path):
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(day.read_bytes()[:60_000])
    done = call("export", cut, "--feed", "itch50", "-o", tmp_path / "e.npy")
    assert done.code == 4
    assert "at offset" in done.err
    assert len(np.load(tmp_path / "e.npy")) > 100


@pytest.mark.parametrize(
    ("output", "words"),
    [("e.txt", "must end in one of .npy, .csv, .parquet"), ("no/e.csv", "does not exist")],
)
def test_where_it_cannot_go(day, tmp_path, output, words):
    assert words in refused(2, "export", day, "--feed", "itch50", "-o", tmp_path / output)


def test_parquet_without_pyarrow_says_what_to_install(day, tmp_path):
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from pydpdk.cli import main; main()"
    )
    args = ["export", day, "--feed", "itch50", "-o", tmp_path / "e.parquet"]
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "pydpdk: Parquet needs pyarrow: pip install 'pydpdk[parquet]'\n"


def test_a_failed_write_leaves_nothing(day, tmp_path):
    taken = tmp_path / "e.npy"
    taken.mkdir()
    assert "Is a directory" in refused(1, "export", day, "--feed", "itch50", "-o", taken)
    assert [path.name for path in tmp_path.iterdir()] == ["e.npy"]


def test_a_closed_pipe_is_no_story(day, tmp_path):
    args = ("export", day, "--feed", "itch50", "--what", "messages", "-o", tmp_path / "m.csv")
    with start(*args) as process:
        process.stdout.close()
        err = process.stderr.read()
    assert err == ""
