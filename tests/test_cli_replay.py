"""pydpdk replay against a recount of the capture, with everything a user may get wrong."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import time
from collections import Counter

import pytest

from pydpdk.engine.feed import Feed
from pydpdk.lockstep.replay import Replay
from pydpdk.source import eal
from tests.command import ROOT, call, refused, spawn, start, well
from tests.recount import books, delivered, packets, records, split

A, B = "233.54.12.111:26477", "233.86.230.111:26477"
SPREAD = f"{ROOT}/apps/spread.py:Spread"


@pytest.fixture(scope="module")
def day(tmp_path_factory):
    """A capture with every fault, some messages lost on both lines; the first ones are there."""
    path = tmp_path_factory.mktemp("day") / "día 1.pcap"
    faults = ("--loss", 0.2, "--dup", 0.03, "--reorder", 0.03, "--skew-us", 300)
    made = well("gen", path, "--messages", 4000, "--instruments", 30, *faults, "--json").json
    assert len(made["lost_on_both"]) > 10
    assert min(made["lost_on_both"]) > 1
    return path, made


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    path = tmp_path_factory.mktemp("clean") / "clean.pcap"
    well("gen", path, "--messages", 3000, "--instruments", 20)
    return path


def replay(*args):
    return well("replay", *args, "--feed", "itch50", "--json").json


def outcome(result):
    """What must not depend on how a capture was read."""
    orders = result["orders"]
    return result["messages"], result["sequence"], result["books"], orders


# --- the account ---


def test_the_account_is_that_of_the_file(day):
    path, truth = day
    result = replay(path)
    (session,) = result["sequence"]
    found = packets(path)
    messages = delivered(path)
    assert (session["first"], session["last"]) == (1, truth["last_sequence"])
    assert session["delivered"] == len(messages)
    assert session["lost"] == len(truth["lost_on_both"]) == truth["messages"] - len(messages)
    assert session["duplicate"] == sum(len(p.messages) for p in found) - len(messages)
    assert result["messages"] == Counter(chr(m[0]) for m in messages.values())
    assert result["frames"] == {"received": len(found), "parsed": len(found), "dropped": {}}
    by_line = Counter(packet.line for packet in found)
    assert {line["line"]: line["packets"] for line in result["lines"]} == by_line
    assert result["unexplained"] == 0
    assert result["books"]["suspect"] is True


def test_books_of_a_whole_capture_are_the_naive_ones(clean):
    result = replay(clean)["books"]
    naive = books(delivered(clean))
    levels = sum(len(naive.levels(i, side)) for i in naive.symbols for side in (1, 2))
    assert result == {
        "instruments": len(naive.symbols),
        "orders": len(naive.orders),
        "levels": levels,
        "hash": f"{naive.hash():016x}",
        "suspect": False,
        "suspect_instruments": 0,
    }


def test_the_lead_of_a_line_is_the_skew_between_them(clean):
    a, b = replay(clean)["lines"]
    stamps = {}
    for packet in packets(clean):
        stamps.setdefault((packet.line, packet.sequence, len(packet.messages)), packet.ts)
    leads = [
        stamps[B, *key] - ts for (line, *key), ts in stamps.items() if line == A and key[1] > 0
    ]
    assert (a["leads"], b["leads"]) == (len(leads), 0)
    assert a["lead_ns_mean"] == sum(leads) // len(leads)
    assert a["lead_ns_max"] == max(leads)


def test_frames_for_nobody_are_dropped_by_name(day):
    path, _ = day
    alone = well("replay", path, "--feed", f"itch50@{A}", "--json").json
    others = sum(packet.line == B for packet in packets(path))
    assert alone["frames"]["dropped"] == {"drop_no_feed": others}
    assert alone["unexplained"] == 0


@pytest.mark.parametrize(
    "options",
    [["--burst", 1], ["--burst", 256], ["--checksum", "verify"], ["--speed", 1e5]],
    ids=lambda options: " ".join(map(str, options)),
)
def test_how_it_is_read_does_not_matter(day, options):
    trading = ("--strategy", SPREAD, "--param", "spread_min=10000000")
    expected = replay(day[0], *trading)
    assert expected["orders"]["sent"] > 0
    assert outcome(replay(day[0], *trading, *options)) == outcome(expected)


@pytest.mark.parametrize("batch_us", [0, 1, 10**12])
def test_batches_change_nothing_but_when_a_strategy_sees_records(day, batch_us):
    result = replay(day[0], "--batch-us", batch_us)
    assert outcome(result) == outcome(replay(day[0]))


def test_the_driver_path_and_ours_agree_on_a_clean_stdout(clean):
    if not eal.version():
        pytest.skip("built without DPDK")
    done = spawn("replay", f"net_pcap:{clean}", "--feed", "itch50", "--json")
    assert done.code == 0
    through, ours = done.json, replay(clean)
    for session in (*through["sequence"], *ours["sequence"]):
        session["ts_first"] //= 1000  # the driver's stamps are in microseconds
        session["ts_last"] //= 1000
    assert outcome(through) == outcome(ours)


# --- several files and feeds ---


def test_files_of_each_line_are_merged(day, tmp_path):
    path, _ = day
    a, b = tmp_path / "line a.pcap", tmp_path / "line b.pcap"
    split(path, {a: lambda _, f: f[30:34] == bytes([233, 54, 12, 111]),
                 b: lambda _, f: f[30:34] != bytes([233, 54, 12, 111])})  # fmt: skip
    feed = f"itch50@{A},{B}"
    both = [well("replay", *files, "--feed", feed, "--json").json for files in ([a, b], [b, a])]
    assert outcome(both[0]) == outcome(both[1]) == outcome(replay(path))
    assert outcome(replay(a, b)) == outcome(replay(path))


def test_parts_of_one_recording_are_one(day, tmp_path):
    path, _ = day
    cut = list(records(path))[300][0]
    parts = [tmp_path / "day.pcap0", tmp_path / "day.pcap1"]
    split(path, {parts[0]: lambda ts, _: ts < cut, parts[1]: lambda ts, _: ts >= cut})
    assert outcome(replay(*parts)) == outcome(replay(*reversed(parts))) == outcome(replay(path))


def test_two_feeds_keep_their_accounts_apart(data):
    deep = data / "iex" / "iex_deep10_20170425_s12a.pcap.gz"
    tops = data / "iex" / "iex_tops16_20170710_a.pcapng.gz"
    result = well("replay", deep, tops, "--feed", "deep10", "--feed", "tops16", "--json").json
    names = [session["feed"] for session in result["sequence"]]
    assert names == ["deep10@224.2.3.10:16648", "tops16@224.67.0.199:16642"]
    assert [session["delivered"] for session in result["sequence"]] == [63_723, 45_781]
    assert result["frames"]["parsed"] == 48_000
    assert result["unexplained"] == 0


# --- pace and interrupts ---


def test_speed_keeps_the_pace_of_the_capture(clean):
    found = packets(clean)
    seconds = (found[-1].ts - found[0].ts) / 1e9 / 20
    assert 0.3 < seconds < 1.5
    begun = time.monotonic()
    replay(clean, "--speed", 20)
    assert seconds <= time.monotonic() - begun < seconds + 2


MARK = """
from pathlib import Path
from time import monotonic, sleep
from pydpdk.stage.stage import Stage

class Mark(Stage):
    def __init__(self, path: str, seconds: float = 0.0):
        self.path, self.seconds = path, seconds

    def on_batch(self, events, orders):
        Path(self.path).touch()
        until = monotonic() + self.seconds
        while monotonic() < until:
            sleep(0.01)
"""


@pytest.fixture
def running(clean, tmp_path):
    """Starts a replay and comes back when its strategy has seen the first batch."""
    (tmp_path / "mark.py").write_text(MARK)
    mark = tmp_path / "mark"
    begun = []

    def begin(*args, seconds=0):
        process = start(
            "replay", clean, "--feed", "itch50", "--strategy", f"{tmp_path}/mark.py:Mark",
            "--param", f"path={mark}", "--param", f"seconds={seconds}", *args,
        )  # fmt: skip
        begun.append(process)
        until = time.monotonic() + 30
        while not mark.exists():
            assert time.monotonic() < until
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        return process

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_prints_the_summary_so_far(running, number):
    process = running("--speed", 1e-6, "--json")  # the next batch is minutes away
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "")
    result = json.loads(out)
    assert result["interrupted"] is True
    assert 0 < result["frames"]["received"] < 100
    assert result["unexplained"] == 0


def test_an_interrupt_in_the_middle_of_a_gap_closes_the_account(day):
    """Whatever is held or in a burst at that moment: nothing is unexplained."""
    for steps in range(20, 400, 38):
        left = iter(range(steps))
        with Replay(day[0], Feed("itch50", gap_timeout_us=10**9)) as replay:
            replay.run(stop=lambda left=left: next(left, None) is None)
            result = replay.accounts()
        assert 0 < result["frames"]["received"] < len(packets(day[0]))
        assert result["unexplained"] == 0


def test_a_second_interrupt_ends_at_once(running):
    process = running("--json", seconds=60)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == -signal.SIGINT


# --- what is broken or wrong ---


def test_a_broken_file_gives_its_whole_part_and_the_place(clean, tmp_path):
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(clean.read_bytes()[:100_000])
    offset = 24
    for _, frame in records(clean):
        if offset + 16 + len(frame) > 100_000:
            break
        offset += 16 + len(frame)
    done = call("replay", cut, "--feed", "itch50", "--json")
    assert done.code == 4
    assert f"at offset {offset}" in done.err
    (problem,) = done.json["problems"]
    assert problem in done.err
    assert 0 < done.json["frames"]["received"] == done.json["frames"]["parsed"]
    assert done.json["unexplained"] == 0
    assert "sequences = " in call("replay", cut, "--feed", "itch50").out
    if eal.version():
        through = spawn("replay", f"net_pcap:{cut}", "--feed", "itch50", "--json")
        assert through.code == 4
        assert f"at offset {offset}" in through.err
        assert through.json["frames"] == done.json["frames"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.touch(), "empty"),
        (lambda path: path.mkdir(), "not a regular file"),
        (lambda path: path.write_text("hello, this is text\n"), "neither pcap nor pcapng"),
        (lambda path: path.write_bytes(b"\x1f\x8bnot really gzip"), ""),
    ],
    ids=["missing", "empty", "folder", "text", "gzip"],
)
@pytest.mark.parametrize("command", ["replay", "pcap info", "book", "export"])
def test_what_is_no_capture_takes_one_line(tmp_path, make, words, command):
    path = tmp_path / "[odd] name.pcap"
    make(path)
    args = {
        "replay": ["replay", f"pcap:{path}", "--feed", "itch50"],
        "pcap info": ["pcap", "info", path],
        "book": ["book", "AAPL", "--pcap", path],
        "export": ["export", f"pcap:{path}", "--feed", "itch50", "-o", tmp_path / "x.npy"],
    }[command]
    done = call(*args)
    assert done.code == 4
    assert len(done.err.splitlines()) == 1
    assert words in done.err
    assert "[odd] name.pcap" in done.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(clean, tmp_path):
    path = tmp_path / "secret.pcap"
    path.write_bytes(clean.read_bytes())
    path.chmod(0)
    assert "ermission" in refused(4, "replay", path, "--feed", "itch50")


@pytest.mark.parametrize(
    ("code", "args", "words"),
    [
        (2, ["--feed", "foo"], "'foo' is not one of itch50"),
        (2, ["--feed", "itch50@1.2.3.4"], "expected ADDRESS:PORT"),
        (2, ["--feed", "itch50@1.2.3.4:0"], "port must be 1..65535"),
        (2, ["--feed", "itch50@1.1.1.1:1,2.2.2.2:2,3.3.3.3:3"], "at most two lines"),
        (4, ["--feed", "deep10"], f"it has: {A} (itch50), {B} (itch50)"),
        (4, ["--feed", "itch50@1.2.3.4:5"], f"it has: {A} (itch50), {B} (itch50)"),
        (2, ["--feed", "itch50", "--feed", "itch50"], "is a line already"),
        (2, ["--feed", f"itch50@{A},{A}"], "is a line already"),
        (2, ["--feed", "itch50", "--burst", 0], "--burst"),
        (2, ["--feed", "itch50", "--burst", 257], "--burst"),
        (2, ["--feed", "itch50", "--batch-us", -1], "--batch-us"),
        (2, ["--feed", "itch50", "--batch-us", 10**30], "--batch-us"),
        (2, ["--feed", "itch50", "--gap-timeout-us", -5], "--gap-timeout-us"),
        (2, ["--feed", "itch50", "--speed", 0], "'max', or a factor"),
        (2, ["--feed", "itch50", "--speed", "nan"], "'max', or a factor"),
        (2, ["--feed", "itch50", "--checksum", "no"], "--checksum"),
        (2, [], "--feed"),
    ],
)
def test_usage(clean, code, args, words):
    assert words in refused(code, "replay", clean, *args)


def test_more_sources_than_there_is_room_for(clean):
    assert "9 sources: at most 8" in refused(2, "replay", *[clean] * 9, "--feed", "itch50")


def test_a_source_that_does_not_exist():
    assert "is no source" in refused(2, "replay", "nosuch:thing", "--feed", "itch50")


STRATEGIES = """
from pydpdk.stage.stage import Stage
class Boom(Stage):
    def on_quote(self, quote, orders):
        raise ValueError("a quote too many")
class Fussy(Stage):
    def __init__(self, size: int):
        pass
class Plain: pass
"""


@pytest.mark.parametrize(
    ("spec", "params", "words"),
    [
        ("none.py:Boom", [], "cannot read strategy file"),
        ("bad.py:Boom", [], "line 1: '(' was never closed"),
        ("mine.py", [], "write it as file.py:Class"),
        ("mine.py:Nobody", [], "the subclasses of Stage in it: Boom, Fussy"),
        ("mine.py:Plain", [], "has no strategy Plain"),
        ("mine.py:Fussy", ["size=ten"], "is not of type int"),
        ("mine.py:Fussy", ["sise=10"], "no parameter 'sise=10'"),
        ("mine.py:Fussy", [], "size"),
    ],
)
def test_strategy_files_that_do_not_load(clean, tmp_path, spec, params, words):
    (tmp_path / "bad.py").write_text("x = (\n")
    (tmp_path / "mine.py").write_text(STRATEGIES)
    more = [part for param in params for part in ("--param", param)]
    args = ("replay", clean, "--feed", "itch50", "--strategy", tmp_path / spec, *more)
    assert words in refused(2, *args)


def test_a_strategy_that_raises_shows_its_own_line(clean, tmp_path):
    (tmp_path / "mine.py").write_text(STRATEGIES)
    done = call("replay", clean, "--feed", "itch50", "--strategy", f"{tmp_path}/mine.py:Boom")
    assert (done.code, done.out) == (1, "")
    assert 'mine.py", line 5, in on_quote' in done.err
    assert done.err.splitlines()[-1].startswith("pydpdk: strategy Boom raised ValueError")


@pytest.mark.parametrize("option", [["--param", "size=1"], ["--risk", "limits.toml"]])
def test_options_of_a_strategy_need_one(clean, option):
    assert "--strategy" in refused(2, "replay", clean, "--feed", "itch50", *option)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot read"),
        ("[account", "not TOML"),
        ("[account]\nfoo = 1\n", "account.foo: unknown key"),
        ("[default]\norder_size_max = -1\n", "must not be negative"),
    ],
)
def test_risk_files(clean, tmp_path, text, words):
    path = tmp_path / "limits.toml"
    if text is not None:
        path.write_text(text)
    trading = ("--strategy", SPREAD, "--risk", path)
    assert words in refused(2, "replay", clean, "--feed", "itch50", *trading)


def test_limits_reach_the_orders(clean, tmp_path):
    path = tmp_path / "limits.toml"
    path.write_text("[default]\norder_size_max = 10\n")
    trading = ("--strategy", SPREAD, "--param", "spread_min=10000000", "--param", "size=100")
    free = replay(clean, *trading)["orders"]
    tied = replay(clean, *trading, "--risk", path)["orders"]
    assert free["sent"] == tied["sent"] > 0
    assert tied["acked"] == tied["filled"] == 0
    assert sum(tied["rejected"].values()) == tied["sent"]


# --- what people see ---


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_the_tables_are_whole_at_any_width(clean, monkeypatch, term):
    """A capture's numbers stand in the output as they are, in a terminal of 40 columns too."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", term)
    ours, theirs = pty.openpty()
    with start("replay", clean, "--feed", "itch50", stdout=theirs) as process:
        os.close(theirs)
        text = b""
        while part := _read(ours):
            text += part
    os.close(ours)
    assert process.returncode == 0
    shown = text.decode()
    assert "…" not in shown
    assert A in shown
    assert "itch50 SYNTH00001" in shown
    assert "3,000" in shown


def _read(fd):
    try:
        return os.read(fd, 1 << 16)
    except OSError:
        return b""


def test_a_closed_pipe_is_no_story(clean):
    with start("replay", clean, "--feed", "itch50", "--json") as process:
        process.stdout.close()
        err = process.stderr.read()
    assert err == ""
    assert process.returncode in (0, 1)
