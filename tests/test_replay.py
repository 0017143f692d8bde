"""The lockstep pipeline from Python: money in integers, accounts that close, runs that repeat."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from itertools import pairwise

import numpy as np
import pytest

from pydpdk._core import lib
from pydpdk.core.event import EVENT, KINDS, join
from pydpdk.core.layout import UNDEF_PRICE
from pydpdk.core.ring import Reader
from pydpdk.engine.engine import END, Engine, Live
from pydpdk.engine.feed import Feed
from pydpdk.errors import DataError, UsageError
from pydpdk.lockstep.account import unexplained
from pydpdk.lockstep.replay import Replay
from pydpdk.source.source import open_source
from pydpdk.stage.stage import Stage
from pydpdk.synth.gen import generate
from pydpdk.synth.two_lines import LINE_A, LINE_B
from pydpdk.tape.pcapfile import CaptureWriter
from pydpdk.trade.fills import Fills
from pydpdk.trade.limits import UNLIMITED, AccountLimits, Limits, RiskConfig
from testbed.frames import datagram, itch_system, mold
from tests.command import ROOT
from tests.pipeline import replay
from tests.recount import packets, records

LINES = ",".join(f"{line.group}:{line.port}" for line in (LINE_A, LINE_B))
FEED = Feed.parse(f"itch50@{LINES}")


@pytest.fixture(scope="module")
def day(tmp_path_factory):
    path = tmp_path_factory.mktemp("replay") / "day.pcap"
    generate(path, messages=4000, instruments=20, loss=0.1, dup=0.05, reorder=0.05, seed=1)
    return path


class Crossing(Stage):
    """Buys and sells at the other side, now and then; keeps what it was told."""

    def __init__(self):
        self.seen, self.told = 0, []

    def on_quote(self, quote, orders):
        self.seen += 1
        if self.seen % 10 == 0:
            (orders.buy, orders.sell)[self.seen % 20 == 0](
                quote.instrument_id,
                (quote.ask, quote.bid)[self.seen % 20 == 0],
                100,
                ioc=True,
            )

    def on_fill(self, fill, orders):
        self.told.append(("fill", fill.order_id, fill.size, fill.price, fill.side))

    def on_reject(self, reject, orders):
        self.told.append(("reject", reject.order_id, reject.aux))


def run(day, stage=None, **options):
    """Result and a copy of all records of one replay."""
    with Replay(day, FEED, stage, keep_events=True, **options) as replay:
        replay.run()
        return replay.accounts(), replay.events(), replay.desk and replay.desk.fills


def test_the_same_input_gives_the_same_records_and_orders(day):
    expected_stage = Crossing()
    expected, records, _ = run(day, expected_stage)
    assert len(expected_stage.told) > 10
    for burst in (1, 7, 256):
        stage = Crossing()
        result, again, _ = run(day, stage, burst=burst)
        assert again.tobytes() == records.tobytes()
        assert stage.told == expected_stage.told
        assert result["orders"] == expected["orders"]


def test_records_come_in_the_order_of_time_and_sequence(day):
    _, records, _ = run(day)
    assert (np.diff(records["stamp"].astype(np.int64)) > 0).all()
    assert (np.diff(records["sequence"].astype(np.int64)) >= 0).all()
    stamps = {packet.ts for packet in packets(day)}
    gaps = records["kind"] == KINDS["GAP"]  # these are stamped with the time they were given up
    assert set(records["ts_recv"][~gaps].tolist()) <= stamps | {0}
    assert (np.diff(records["ts_recv"].astype(np.int64))[gaps[1:]] >= 0).all()


def test_what_the_strategy_was_told_is_what_is_counted(day):
    stage = Crossing()
    result, _, fills = run(day, stage)
    orders = result["orders"]
    told = [entry for entry in stage.told if entry[0] == "fill"]
    # The reports of the last cycle are counted, but nobody trades on them any more.
    assert len(told) <= orders["filled"] <= len(told) + 10
    assert fills.count == orders["filled"]
    assert orders["shares"] >= sum(size for _, _, size, _, _ in told)
    assert orders["acked"] + sum(orders["rejected"].values()) == orders["sent"]
    assert result["unexplained"] == 0


def test_batches_end_where_the_record_clock_enters_another_interval(day):
    stamps = []
    with Replay(day, FEED, batch_us=1000) as replay:
        while replay.cycle():
            stamps.append(replay.engine.now)
        declared = replay.engine.counters()["gaps_declared"]
    intervals = [ts // 1_000_000 for ts in stamps]
    assert all(a <= b for a, b in pairwise(stamps))
    again = sum(a == b for a, b in pairwise(intervals))
    assert again <= 2 * declared  # a gap that is given up has a step of its own
    assert set(intervals) >= {packet.ts // 1_000_000 for packet in packets(day)}


def test_until_is_an_end_like_any_other(day):
    found = packets(day)
    moment = found[len(found) // 2].ts
    with Replay(day, FEED, until_ns=moment) as replay:
        replay.run()
        result = replay.accounts()
        assert replay.engine.source_error(0) == END
        assert replay.engine.now == moment
    assert result["frames"]["received"] == sum(packet.ts <= moment for packet in found)
    assert result["unexplained"] == 0


def test_progress_ends_with_all_frames(day):
    told = []
    with Replay(day, FEED) as replay:
        replay.run(lambda frames, now: told.append((frames, now)))
    found = packets(day)
    assert told[-1] == (len(found), max(packet.ts for packet in found))


# --- the account ---


def test_every_sum_that_does_not_close_is_unexplained(day):
    with Replay(day, FEED) as replay:
        replay.run()
        totals = replay.engine.counters()
        sessions = list(replay.engine.feeds[0].sessions())
        read = replay.events_read
    assert unexplained(totals, sessions, read) == 0
    assert unexplained(totals, sessions, read - 3) == 3
    moved = (
        "frames_received", "frames_parsed", "drop_arp", "messages_received",
        "messages_duplicate", "messages_late", "message_unknown", "events_written",
    )  # fmt: skip
    for name in moved:
        assert unexplained(totals | {name: totals[name] + 5}, sessions, read) == 5
    short = [sessions[0] | {"delivered": sessions[0]["delivered"] - 1}]
    assert unexplained(totals, short, read) == 1


def test_orders_without_an_answer_and_lost_reports_are_unexplained(day):
    with Engine([open_source(f"pcap:{day}")], [FEED]) as engine:
        account = (engine.counters(), [], 0)
    orders = {"sent": 9, "acked": 5, "rejected": {"SIDE": 1, "VENUE": 3}, "reports_lost": 0}
    assert unexplained(*account, orders) == 0
    assert unexplained(*account, orders | {"acked": 3}) == 2
    assert unexplained(*account, orders | {"reports_lost": 4}) == 4


class Flood(Stage):
    """As many orders in one batch as there may be, for books that have nothing."""

    def __init__(self, count):
        self.count = count
        self.told = []

    def on_system(self, event, orders):
        for i in range(self.count):
            orders.buy(i, 10**9, 1, ioc=True)
        self.count = 0

    def on_ack(self, ack, orders):
        self.told.append(ack.order_id)


def open_limits():
    return RiskConfig(default=Limits(price_collar_bps=UNLIMITED, position_max=UNLIMITED),
                      account=AccountLimits(UNLIMITED, UNLIMITED, 10**9, UNLIMITED))  # fmt: skip


def test_the_largest_batch_loses_no_report(day):
    stage, count = Flood(65_536), 65_536
    with Replay(day, FEED, stage, limits=open_limits()) as replay:
        replay.run()
        result = replay.accounts()
    orders = result["orders"]
    assert (orders["sent"], orders["acked"], orders["reports_lost"]) == (count, count, 0)
    assert orders["canceled"] == count
    assert stage.told == list(range(1, count + 1))
    assert result["unexplained"] == 0


def test_orders_and_reports_are_kept_only_when_asked_for(day):
    for keep in (False, True):
        with Replay(day, FEED, Crossing(), keep=keep) as replay:
            replay.run()
            result = replay.result()
        orders, sent, reports = result.accounts["orders"], result.orders, result.reports
        assert bool(len(result.profit)) is keep
        assert orders["sent"] > 0
        assert len(sent) == (orders["sent"] + orders["cancels"] if keep else 0)
        fills = np.count_nonzero(reports["kind"] == lib.EVENT_FILL)
        assert fills == (orders["filled"] if keep else 0)


# --- other readers of the ring ---


@pytest.fixture(scope="module")
def long_day(tmp_path_factory):
    """More records than the ring has slots."""
    path = tmp_path_factory.mktemp("replay") / "long.pcap"
    generate(path, messages=60_000, instruments=20, seed=2)
    return path


def test_a_slow_reader_is_waited_for(long_day):
    seen = []
    watch = lambda events: seen.append(events.tobytes())  # noqa: E731
    with Replay(long_day, FEED, on_events=watch) as replay:
        engine = replay.engine
        slow = Reader(fd=engine.ring.fd, from_start=True, batch_max=8192)
        read, done = [], threading.Event()

        def follow():
            while not (done.is_set() and not slow.ready()):
                time.sleep(0.02)
                read.append(slow.batch().tobytes())
                slow.release()

        other = threading.Thread(target=follow)
        other.start()
        replay.run()
        result = replay.accounts()
        done.set()
        other.join()
        assert result["unexplained"] == 0
        assert result["events"]["written"] > engine.ring.stats().written // 2 > 30_000
        assert b"".join(read) == b"".join(seen)
        slow.close()


def test_a_reader_that_stands_still_is_named(long_day, monkeypatch):
    monkeypatch.setattr("pydpdk.lockstep.replay.STALL_S", 0.1)
    with (
        Replay(long_day, FEED) as replay,
        Reader(fd=replay.engine.ring.fd, from_start=True),
        pytest.raises(DataError, match=f"process {os.getpid()} has read nothing for 0.1 s"),
    ):
        replay.run()


def test_stop_ends_the_wait_for_a_reader(long_day):
    with (
        Replay(long_day, FEED) as replay,
        Reader(fd=replay.engine.ring.fd, from_start=True) as reader,
    ):
        began = time.monotonic()
        replay.run(stop=lambda: time.monotonic() - began > 1)
        assert reader.ready()
        assert time.monotonic() - began < 5


def test_a_reader_that_died_holds_nobody_up(long_day):
    code = (
        "import os, sys; from pydpdk.core.ring import Reader\n"
        "reader = Reader(fd=int(sys.argv[1]), from_start=True); os._exit(0)"
    )
    with Replay(long_day, FEED) as replay:
        fd = replay.engine.ring.fd
        subprocess.run([sys.executable, "-c", code, str(fd)], pass_fds=[fd], cwd=ROOT, check=True)
        assert len(replay.engine.ring.stats().readers) == 2
        replay.run()
        assert replay.accounts()["unexplained"] == 0


class Answering(Stage):
    def on_system(self, event, orders):
        orders.buy(0, 10**9, 1)


def test_the_wait_for_the_pace_is_no_latency(tmp_path):
    path = tmp_path / "slow.pcap"
    with CaptureWriter(path, "pcap-ns") as capture:
        for i in (1, 2):
            payload = mold(sequence=i, messages=[itch_system()])
            frame = datagram(payload, dst=LINE_A.group, dst_port=LINE_A.port)
            capture.write(1_700_000_000 * 10**9 + i * 400_000_000, frame)
    with Replay(path, FEED, Answering(), speed=1) as replay:
        began = time.monotonic()
        replay.run()
        assert time.monotonic() - began > 0.4
        latency = replay.accounts()["latency_ns"]["tick_to_trade"]
    assert latency["count"] == 2
    assert latency["max"] < 300_000_000


# --- money ---


def fills_of(rows):
    fills = np.zeros(len(rows), EVENT)
    for fill, (instrument, side, price, size) in zip(fills, rows, strict=True):
        fill["instrument_id"], fill["side"], fill["price"], fill["size"] = (
            instrument, side, price, size,
        )  # fmt: skip
    return fills


def test_profit_is_cash_and_what_is_open_at_its_mark():
    fills = Fills()
    fills.add(fills_of([(1, lib.SIDE_BID, 100 * 10**9, 10), (1, lib.SIDE_ASK, 103 * 10**9, 4)]))
    assert fills.position == {1: 6}
    fills.mark(1, 100 * 10**9, 102 * 10**9)
    assert fills.profit == 18 * 10**9
    assert (fills.count, fills.shares) == (2, 14)


def quote_of(instrument, bid, ask):
    quote = np.zeros(1, EVENT)
    quote["kind"], quote["instrument_id"] = lib.EVENT_QUOTE, instrument
    quote["bid"], quote["ask"] = bid, ask
    return quote


def test_an_open_position_keeps_its_last_mid_when_the_book_empties():
    fills = Fills()
    fills.quotes(quote_of(1, 10, 20))
    fills.add(fills_of([(1, lib.SIDE_BID, 100, 10), (2, lib.SIDE_ASK, 50, 3)]))
    assert (fills.profit, fills.unmarked) == (0, 2), "at the last fill"
    quotes = [(1, 90, 110), (1, 100, 120), (3, 1, 1), (1, UNDEF_PRICE, 500), (1, 7, UNDEF_PRICE)]
    fills.quotes(join([quote_of(*quote) for quote in quotes]))
    assert (fills.profit, fills.unmarked) == (100, 1)
    fills.add(fills_of([(2, lib.SIDE_BID, 40, 3)]))
    assert (fills.profit, fills.unmarked) == (130, 0)


def test_positions_of_a_replay_are_marked_though_its_books_are_empty_at_the_end(day):
    """The same replay, cleared by another session's begin."""
    cleared = day.with_name("cleared.pcap")
    last = packets(day)[-1].ts + 10**9
    with CaptureWriter(cleared, "pcap-ns") as capture:
        for ts, frame in records(day):
            capture.write(ts, frame)
        payload = mold(b"TOMORROW01", 1, [itch_system()])
        capture.write(last, datagram(payload, dst=LINE_A.group, dst_port=LINE_A.port))
    whole, _, _ = run(day, Crossing())
    result, events, fills = run(cleared, Crossing())
    assert result["books"]["orders"] == 0 < whole["books"]["orders"]
    quotes = events[(events["kind"] == lib.EVENT_QUOTE) & (events["ask"] != UNDEF_PRICE)]
    quotes = quotes[quotes["bid"] != UNDEF_PRICE]
    for instrument in fills.open():
        last = quotes[quotes["instrument_id"] == instrument][-1]
        assert fills.mids[instrument] == (int(last["bid"]) + int(last["ask"])) // 2
    assert result["orders"]["profit_1e9"] == whole["orders"]["profit_1e9"]
    assert result["orders"]["unmarked"] == 0


def test_profit_is_exact_however_large():
    chance = random.Random(1)
    rows = [
        (chance.randrange(5), chance.choice((lib.SIDE_BID, lib.SIDE_ASK)),
         chance.randrange(1, 2**62), chance.randrange(1, 2**32))
        for _ in range(200)
    ]  # fmt: skip
    fills = Fills()
    for at in range(0, 200, 7):
        fills.add(fills_of(rows[at : at + 7]))
    marks = {i: 10**9 * (i + 1) for i in range(5)}
    for i, mark in marks.items():
        fills.mark(i, mark - 3, mark + 3)
    signs = {lib.SIDE_BID: 1, lib.SIDE_ASK: -1}
    expected = sum(signs[side] * size * (marks[i] - price) for i, side, price, size in rows)
    assert fills.profit == expected


# --- engines that cannot be ---


@pytest.mark.parametrize(
    ("feeds", "options", "words"),
    [
        ([FEED], {"burst": 0}, "burst 0"),
        ([FEED], {"burst": 257}, "burst 257"),
        ([FEED], {"checksum": "maybe"}, "'maybe'"),
        ([FEED], {"batch_us": -1}, "batch_us"),
        ([FEED], {"packets_max": 0}, "packets_max"),
        ([Feed("itch50")], {}, "no lines"),
        ([FEED, FEED], {}, "is a line already"),
        ([Feed.parse(f"itch50@1.2.3.{i}:5") for i in range(65)], {}, "65 feeds: at most 64"),
    ],
)
def test_what_an_engine_refuses(day, feeds, options, words):
    with open_source(f"pcap:{day}") as source, pytest.raises(UsageError, match=words):
        Engine([source], feeds, **options)


def test_a_mark_tells_the_next_sequence(long_day):
    """A journal that ends there knows where to go on, whatever messages wrote no record."""
    got = replay(long_day, [FEED], live=Live(marks=True))
    marks = got.events[got.events["kind"] == lib.EVENT_MARK]
    told = np.maximum.accumulate(got.events["sequence"])[got.events["kind"] == lib.EVENT_MARK]
    assert len(marks) > 10
    assert (marks["sequence"] >= told).all()
    assert marks["sequence"][-1] == got.result["sequence"][0]["last"] + 1
