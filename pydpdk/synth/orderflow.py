"""Order flow of a synthetic market: books with time priority and the messages that move them.

Every order is one integer, reference number above 20 bits of shares, in the queue of its level;
a side keeps its levels sorted by ``key``, the price for bids and its negative for asks, so that
the best level is the last of either side and two keys sum below zero while the book is uncrossed.
Prices are in the unit of the wire, 1e-4. A handler takes 30 random bits and returns one message;
what the book cannot do at this moment (delete from an empty book) becomes an add, and an add
above the instrument's share of live orders becomes a delete, so any kinds in any order are valid.
"""

from __future__ import annotations

from bisect import bisect_left
from math import log

from pydpdk.synth.pack import itch50

TICK = 100
MID_MIN = 200 * TICK
SHARES_BITS = 20
SHARES_MASK = (1 << SHARES_BITS) - 1


def exponential(size: int) -> list[float]:
    """A table to draw from by index: ``size`` quantiles of the exponential of mean 1."""
    return [-log((i + 0.5) / size) for i in range(size)]


# Tables indexed by random bits: integers, so that no platform's float unit decides a byte.
DISTANCE = [(round(4 * x) - 1) * TICK for x in exponential(256)]  # from the fair touch; -1 improves
SHARES = [100] * 150 + [100 * round(1 + 3 * x) for x in exponential(74)] + [*range(2, 98, 3)]
NEAR = [round(1023 * (i / 1024) ** 3) for i in range(1024)]  # of 1024: mostly the near end
STEP = [-1, 1, *[None] * 14]  # of the mid price


class Side:
    """One side of a book: ``keys[i]`` is the level whose orders wait in ``queues[i]``."""

    __slots__ = ("keys", "letter", "other", "queues", "sign")
    other: Side

    def __init__(self, letter: bytes, sign: int) -> None:
        self.letter = letter
        self.sign = sign
        self.keys: list[int] = []
        self.queues: list[list[int]] = []

    def rest(self, key: int, order: int) -> None:
        """Join the end of the level's queue."""
        at = bisect_left(self.keys, key)
        if at < len(self.keys) and self.keys[at] == key:
            self.queues[at].append(order)
        else:
            self.keys.insert(at, key)
            self.queues.insert(at, [order])

    def pull(self, level: int, position: int) -> int:
        """Take an order out, and its level when that was the last."""
        queue = self.queues[level]
        order = queue.pop(position)
        if not queue:
            del self.keys[level], self.queues[level]
        return order


class Book:
    """One instrument: two sides, the fair price they follow, and how many orders may live."""

    __slots__ = (
        "ask", "bid", "half", "halted", "live", "live_max", "live_min", "locate", "mid", "move",
        "sides", "stock", "wide",
    )  # fmt: skip

    def __init__(self, locate: int, stock: bytes, mid: int, wide: int, live: int) -> None:
        self.locate = locate
        self.stock = stock
        self.mid = mid  # fair price
        self.wide = self.half = wide  # half the spread: where it returns to, and now
        self.move = max(mid // 5000 // TICK, 1) * TICK
        self.live = 0
        self.live_min = live * 9 // 10
        self.live_max = live * 11 // 10 + 1
        self.halted = False
        self.bid = Side(b"B", 1)
        self.ask = Side(b"S", -1)
        self.bid.other, self.ask.other = self.ask, self.bid
        self.sides = (self.bid, self.ask)

    def walk(self, r: int) -> None:
        """One step in eight: the mid price moves, the spread widens or falls back by a quarter."""
        step = STEP[r & 15]
        if step is not None:
            self.mid = max(self.mid + step * self.move, MID_MIN)
            shock = NEAR[r >> 4 & 1023] * self.wide >> 9
            self.half = max(((3 * self.half + self.wide + shock) >> 2) // TICK, 1) * TICK

    def place(self, side: Side, r: int) -> int:
        """The key of a new order: near the fair touch, never through the other side."""
        key = side.sign * self.mid - self.half - DISTANCE[r & 255]
        keys = side.other.keys
        return -keys[-1] - TICK if keys and key + keys[-1] >= 0 else key

    def pick(self, r: int) -> tuple[Side, int, int]:
        """A live order as (side, level, position): mostly near the touch, mostly young."""
        side = self.stale(r)
        levels = len(side.keys)
        level = levels - 1 - (levels * NEAR[r >> 2 & 1023] >> 10)
        waiting = len(side.queues[level])
        return side, level, waiting - 1 - (waiting * NEAR[r >> 12 & 1023] >> 10)

    def stale(self, r: int) -> Side:
        """The side the fair price has gone through; else either that has an order."""
        bid, ask = self.sides
        if bid.keys and bid.keys[-1] >= self.mid:
            return bid
        if ask.keys and ask.keys[-1] >= -self.mid:
            return ask
        side = self.sides[r & 1]
        return side if side.keys else side.other


class OrderFlow:
    """The numbers that a whole market shares, and one handler per order message."""

    def __init__(self, attributions: list[bytes]) -> None:
        self.reference = 0
        self.match = 0
        self.attributions = attributions
        self.add_pack = itch50("A", "add_order")
        self.add_mpid_pack = itch50("F", "add_order_mpid")
        self.delete_pack = itch50("D", "order_delete")
        self.replace_pack = itch50("U", "order_replace")
        self.execute_pack = itch50("E", "order_executed")
        self.execute_price_pack = itch50("C", "order_executed_with_price")
        self.cancel_pack = itch50("X", "order_cancel")
        self.trade_pack = itch50("P", "trade")

    def add(self, book: Book, ts: int, r: int) -> bytes:
        if book.live >= book.live_max:
            return self.delete(book, ts, r)
        side, key, order, shares = self._enter(book, r)
        reference = order >> SHARES_BITS
        return self.add_pack(
            book.locate, ts, reference, side.letter, shares, book.stock, key * side.sign
        )

    def add_mpid(self, book: Book, ts: int, r: int) -> bytes:
        side, key, order, shares = self._enter(book, r)
        who = self.attributions[r % len(self.attributions)]
        reference, price = order >> SHARES_BITS, key * side.sign
        return self.add_mpid_pack(
            book.locate, ts, reference, side.letter, shares, book.stock, price, who
        )

    def _enter(self, book: Book, r: int) -> tuple[Side, int, int, int]:
        book.walk(r >> 12)
        side = book.sides[r >> 11 & 1]
        shares = SHARES[r & 255]
        key = book.place(side, r >> 5)
        order = self._number(r) << SHARES_BITS | shares
        side.rest(key, order)
        book.live += 1
        return side, key, order, shares

    def _number(self, r: int) -> int:
        """Reference numbers rise through the day, with gaps."""
        self.reference += 1 + (r >> 9 & 3)
        return self.reference

    def delete(self, book: Book, ts: int, r: int) -> bytes:
        if book.live <= book.live_min:
            return self.add(book, ts, r)
        side, level, position = book.pick(r)
        order = side.pull(level, position)
        book.live -= 1
        return self.delete_pack(book.locate, ts, order >> SHARES_BITS)

    def replace(self, book: Book, ts: int, r: int) -> bytes:
        if not book.live:
            return self.add(book, ts, r)
        side, level, position = book.pick(r)
        old = side.pull(level, position) >> SHARES_BITS
        book.walk(r >> 12)
        key = book.place(side, r >> 20)
        shares = SHARES[r & 255]
        new = self._number(r)
        side.rest(key, new << SHARES_BITS | shares)
        return self.replace_pack(book.locate, ts, old, new, shares, key * side.sign)

    def cancel(self, book: Book, ts: int, r: int) -> bytes:
        """Part of an order; it keeps its place in the queue."""
        if not book.live:
            return self.add(book, ts, r)
        side, level, position = book.pick(r)
        queue = side.queues[level]
        order = queue[position]
        shares = order & SHARES_MASK
        if shares == 1:
            return self.delete(book, ts, r)
        cancelled = 1 + (r >> 10) % (shares - 1)
        queue[position] = order - cancelled
        return self.cancel_pack(book.locate, ts, order >> SHARES_BITS, cancelled)

    def execute(self, book: Book, ts: int, r: int) -> bytes:
        if book.halted or book.live <= book.live_min:
            return self.add(book, ts, r)
        reference, shares = self._fill(book, book.stale(r), r)
        self.match += 1
        return self.execute_pack(book.locate, ts, reference, shares, self.match)

    def execute_price(self, book: Book, ts: int, r: int) -> bytes:
        """The front order fills at another price than its own: one tick better for the taker."""
        if book.halted or book.live <= book.live_min:
            return self.add(book, ts, r)
        side = book.stale(r)
        price = (side.keys[-1] + TICK) * side.sign
        reference, shares = self._fill(book, side, r)
        self.match += 1
        return self.execute_price_pack(
            book.locate, ts, reference, shares, self.match, b"YN"[r & 1 : (r & 1) + 1], price
        )

    def _fill(self, book: Book, side: Side, r: int) -> tuple[int, int]:
        """Execute the front of the best level, whole or in part: (reference, shares)."""
        order = side.queues[-1][0]
        shares = order & SHARES_MASK
        if r & 6 and shares > 1:
            shares = 1 + (r >> 10) % (shares - 1)
            side.queues[-1][0] = order - shares
        else:
            side.pull(-1, 0)
            book.live -= 1
        return order >> SHARES_BITS, shares

    def trade(self, book: Book, ts: int, r: int) -> bytes:
        """Against a non-displayed order: no reference, side always B, the book stays."""
        if book.halted:
            return self.add(book, ts, r)
        self.match += 1
        return self.trade_pack(
            book.locate, ts, 0, b"B", SHARES[r & 255], book.stock, book.mid, self.match
        )
