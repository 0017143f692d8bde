"""The lockstep pipeline from Python: money in integers, accounts that close, runs that repeat."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest

from pydpdk._core import lib
from pydpdk.engine import END, Engine
from pydpdk.errors import UsageError
from pydpdk.feed import Feed
from pydpdk.gen import generate
from pydpdk.lines import LINE_A, LINE_B
from pydpdk.record import EVENT
from pydpdk.replay import Fills, Lockstep, Trading, join, unexplained
from pydpdk.risk import Risk
from pydpdk.source import open_source
from pydpdk.stage import Stage
from tests.recount import packets

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
    records = []
    with Engine([open_source(f"pcap:{day}")], [FEED], **options) as engine, Risk() as risk:
        trading = Trading(stage, risk) if stage else None
        keep = lambda events: records.append(events.copy())  # noqa: E731
        with Lockstep(engine, trading, on_events=keep) as lockstep:
            lockstep.run()
            return lockstep.result(), join(records), lockstep.fills


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
    assert set(records["ts_recv"].tolist()) <= stamps | {0}


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
    with (
        Engine([open_source(f"pcap:{day}")], [FEED], batch_us=1000) as engine,
        Lockstep(engine) as lockstep,
    ):
        while lockstep.cycle():
            stamps.append(engine.now)
    intervals = [ts // 1_000_000 for ts in stamps]
    assert all(a < b for a, b in pairwise(intervals))
    assert set(intervals) == {packet.ts // 1_000_000 for packet in packets(day)}


def test_until_is_an_end_like_any_other(day):
    found = packets(day)
    moment = found[len(found) // 2].ts
    with Engine([open_source(f"pcap:{day}")], [FEED], until_ns=moment) as engine:
        with Lockstep(engine) as lockstep:
            lockstep.run()
            result = lockstep.result()
        assert engine.source_error(0) == END
        assert engine.now == moment
    assert result["frames"]["received"] == sum(packet.ts <= moment for packet in found)
    assert result["unexplained"] == 0


def test_progress_ends_with_all_frames(day):
    told = []
    with Engine([open_source(f"pcap:{day}")], [FEED]) as engine, Lockstep(engine) as lockstep:
        lockstep.run(lambda frames, now: told.append((frames, now)))
    found = packets(day)
    assert told[-1] == (len(found), max(packet.ts for packet in found))


# --- the account ---


def test_every_sum_that_does_not_close_is_unexplained(day):
    with Engine([open_source(f"pcap:{day}")], [FEED]) as engine, Lockstep(engine) as lockstep:
        lockstep.run()
        totals = engine.counters()
        sessions = list(engine.feeds[0].sessions())
        read = lockstep.events_read
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
    assert fills.profit({1: 101 * 10**9}.get) == 18 * 10**9
    assert (fills.count, fills.shares) == (2, 14)


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
    marks = {i: 10**9 * i for i in range(5)}
    signs = {lib.SIDE_BID: 1, lib.SIDE_ASK: -1}
    expected = sum(signs[side] * size * (marks[i] - price) for i, side, price, size in rows)
    assert fills.profit(marks.get) == expected


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
        ([Feed.parse(f"itch50@1.2.3.{i}:5") for i in range(9)], {}, "9 feeds: at most 8"),
    ],
)
def test_what_an_engine_refuses(day, feeds, options, words):
    with open_source(f"pcap:{day}") as source, pytest.raises(UsageError, match=words):
        Engine([source], feeds, **options)
