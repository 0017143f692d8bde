"""The synthetic session against a naive book that believes nothing."""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import sys
from collections import Counter, defaultdict
from itertools import pairwise

import pytest

from pydpdk.errors import UsageError
from pydpdk.synth.market import MIX, Market, epoch_ns

# Length of each type in Nasdaq TotalView-ITCH 5.0, all 23 of them.
LENGTHS = {
    "S": 12, "R": 39, "H": 25, "Y": 20, "L": 26, "V": 35, "W": 12, "K": 28, "J": 35, "h": 21,
    "A": 36, "F": 40, "E": 31, "C": 36, "X": 23, "D": 19, "U": 35, "P": 44, "Q": 40, "B": 19,
    "I": 50, "N": 20, "O": 48,
}  # fmt: skip


def number(message: bytes, offset: int, size: int) -> int:
    return int.from_bytes(message[offset : offset + size], "big")


class NaiveBook:
    """Orders of one instrument as a list per price, by the words of the ITCH specification."""

    def __init__(self):
        self.orders = {}
        self.levels = {"B": defaultdict(list), "S": defaultdict(list)}

    def best(self, side):
        prices = [price for price, queue in self.levels[side].items() if queue]
        return (max if side == "B" else min)(prices, default=None)

    def add(self, reference, side, shares, price):
        assert reference not in self.orders
        assert shares > 0
        assert 0 < price <= 2_000_000_000
        assert price % 100 == 0
        self.orders[reference] = [side, shares, price]
        self.levels[side][price].append(reference)
        bid, ask = self.best("B"), self.best("S")
        assert bid is None or ask is None or bid < ask

    def remove(self, reference, shares=None):
        side, left, price = self.orders[reference]
        shares = left if shares is None else shares
        assert 0 < shares <= left
        self.orders[reference][1] -= shares
        if shares == left:
            del self.orders[reference]
            self.levels[side][price].remove(reference)

    def assert_front(self, reference):
        side, _, price = self.orders[reference]
        assert price == self.best(side)
        assert self.levels[side][price][0] == reference


class Exchange:
    """Applies a session message by message; anything invalid is an AssertionError."""

    def __init__(self):
        self.books = defaultdict(NaiveBook)
        self.stocks = {}
        self.paused = set()
        self.matches = 0
        self.ages = []  # of deleted orders: the share of their book that is younger

    def apply(self, message):
        kind = chr(message[0])
        locate = number(message, 1, 2)
        assert len(message) == LENGTHS[kind]
        assert (locate == 0) == (kind in "SVW")
        book = self.books[locate]
        if kind == "R":
            self.stocks[locate] = message[11:19]
        elif kind == "H":
            (self.paused.add if message[19:20] == b"P" else self.paused.discard)(locate)
        if kind in "AFPIQ":
            at = {"I": 28, "Q": 19}.get(kind, 24)
            assert message[at : at + 8] == self.stocks[locate]
        if kind in "ECP":
            assert locate not in self.paused
        if kind in "ECPQ":
            self.matches += 1
            assert number(message, {"P": 36, "Q": 31}.get(kind, 23), 8) == self.matches
        if kind == "B":
            assert 0 < number(message, 11, 8) <= self.matches
        if kind in "AFEXCDU":
            self.order(kind, book, message)

    def order(self, kind, book, message):
        reference = number(message, 11, 8)
        if kind in "AF":
            side = chr(message[19])
            book.add(reference, side, number(message, 20, 4), number(message, 32, 4))
        elif kind in "EC":
            book.assert_front(reference)
            book.remove(reference, number(message, 19, 4))
        elif kind == "X":
            book.remove(reference, number(message, 19, 4))
            assert reference in book.orders
        elif kind == "D":
            book.remove(reference)
            if len(book.orders) >= 10:
                younger = sum(other > reference for other in book.orders)
                self.ages.append(younger / len(book.orders))
        elif kind == "U":
            side = book.orders[reference][0]
            book.remove(reference)
            new = number(message, 19, 8)
            book.add(new, side, number(message, 27, 4), number(message, 31, 4))

    @property
    def live(self):
        return sum(len(book.orders) for book in self.books.values())


@pytest.mark.parametrize(
    ("seed", "instruments", "messages"), [(1, 30, 12_000), (2, 1, 6_000), (3, 400, 20_000)]
)
def test_every_message_is_valid(seed, instruments, messages):
    exchange = Exchange()
    for _, message in Market(seed, instruments, messages):
        exchange.apply(message)
    assert len(exchange.stocks) == len(set(exchange.stocks.values())) == instruments


DIGEST = """
import hashlib
from pydpdk.synth.market import Market
digest = hashlib.sha256()
for ts, message in Market(7, 20, 6000):
    digest.update(ts.to_bytes(8, "big") + message)
print(digest.hexdigest())
"""


def test_same_seed_same_bytes_in_any_process():
    runs = {
        subprocess.run(
            [sys.executable, "-c", DIGEST],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1


def test_iterating_again_is_the_same_session_and_another_seed_is_not():
    def digest(market):
        return hashlib.sha256(b"".join(message for _, message in market)).digest()

    market = Market(1, 10, 5_000)
    assert digest(market) == digest(market)
    assert digest(market) != digest(Market(2, 10, 5_000))


@pytest.mark.parametrize("instruments", [1, 10, 100])
def test_all_23_types_in_5000_messages(instruments):
    kinds = Counter(chr(message[0]) for _, message in Market(1, instruments, 5_000))
    assert kinds.keys() == LENGTHS.keys()
    assert kinds.total() == 5_000


def test_message_mix_is_that_of_a_day():
    kinds = Counter(chr(message[0]) for _, message in Market(1, 100, 100_000))
    for kind in "ADUEXPFC":
        assert kinds[kind] / kinds.total() == pytest.approx(MIX[kind] / 10_000, rel=0.2)


def test_times_rise_are_bursty_and_agree_with_the_message():
    market = Market(1, 50, 20_000, epoch_ns("2026-07-06T09:30:00"))
    midnight = epoch_ns("2026-07-06T00:00:00")
    times = [ts for ts, _ in market]
    assert times[0] == market.start_ns
    assert all(a <= b for a, b in pairwise(times))
    assert all(ts == midnight + number(message, 5, 6) for ts, message in market)
    gaps = [b - a for a, b in pairwise(times) if b - a < 1_000_000_000]
    assert statistics.mean(gaps) == pytest.approx(20_000, rel=0.1)
    assert statistics.median(gaps) < 1_000  # more than half follow at once


def test_system_events_frame_the_day():
    kinds = [(chr(m[0]), chr(m[11])) for _, m in Market(1, 20, 5_000)]
    assert [code for kind, code in kinds if kind == "S"] == list("OSQMEC")
    order = "".join(code if kind == "S" else kind for kind, code in kinds)
    assert set(order[: order.index("A")]) == set("ORHYLS")
    assert not set("ECP") & set(order[: order.index("Q")])
    assert order[1:41] == "RH" * 20
    assert kinds[0] == ("S", "O")
    assert kinds[-1] == ("S", "C")


def test_activity_is_zipf_and_most_cancelled_orders_are_young():
    exchange, active = Exchange(), Counter()
    for _, message in Market(1, 50, 20_000):
        exchange.apply(message)
        if message[:1] in b"ADUEX":
            active[number(message, 1, 2)] += 1
    counts = [count for _, count in active.most_common()]
    assert counts[0] > 1.5 * counts[1] > 1.5 * counts[3]
    assert counts[0] > 15 * counts[-1]
    assert statistics.median(exchange.ages) < 0.2


def test_live_orders_reach_the_target_and_stay():
    exchange, live = Exchange(), []
    for n, (_, message) in enumerate(Market(1, 80, 30_000, live_orders=8_000)):
        exchange.apply(message)
        if n >= 9_000 and n % 1_000 == 0:
            live.append(exchange.live)
    assert min(live) > 7_200
    assert max(live) < 8_900


@pytest.mark.parametrize(
    "wrong",
    [
        {"instruments": 0}, {"instruments": 65_536, "messages": 10**6}, {"messages": 100},
        {"messages": 5_000, "live_orders": 5_000}, {"rate": 0.0},
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_refused_at_once(wrong):
    with pytest.raises(UsageError):
        Market(1, **wrong)


def test_start_is_new_york_time_with_and_without_daylight_saving():
    assert epoch_ns("2026-01-05T09:30:00 America/New_York") == 1_767_623_400 * 10**9
    assert epoch_ns("2026-07-06T09:30:00") == 1_783_344_600 * 10**9
    assert epoch_ns("2026-01-05T14:30:00+00:00") == 1_767_623_400 * 10**9
    with pytest.raises(UsageError):
        epoch_ns("half past nine")
