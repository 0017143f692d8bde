"""Pre-trade risk in plain Python integers: the oracle of test_risk.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

UNDEF = UNLIMITED = 2**63 - 1
BID, ASK = 1, 2
NEW, CANCEL = 32, 33
ACK, FILL, CANCELED, REJECT = 40, 41, 42, 43
VENUE = 15
RATE_ORDERS_MAX = 1 << 17
COST_MAX = 1 << 94


@dataclass
class Order:
    id: int
    instrument: int
    side: int
    price: int
    left: int
    working: bool = True
    sequence: int = 0


@dataclass
class Book:
    bid: int = UNDEF
    ask: int = UNDEF
    state: int = 0
    epoch: int = 0


def beyond(amount: int, limit: int) -> bool:
    return limit != UNLIMITED and amount > limit


def priced(price: int) -> bool:
    return 0 < price < UNDEF


@dataclass
class Model:
    instruments: int
    orders_max: int
    limits: dict[int, dict[str, int]] = field(default_factory=dict)
    account: dict[str, int] = field(default_factory=dict)
    books: dict[int, Book] | None = None
    gaps: int = 0
    known: dict[int, Order] = field(default_factory=dict)
    finished: list[int] = field(default_factory=list)
    position: dict[int, int] = field(default_factory=dict)
    cost: dict[int, int] = field(default_factory=dict)
    times: list[int] = field(default_factory=list)
    unknown: int = 0
    duplicate: int = 0
    beyond: int = 0
    applied: int = 0

    def working(self) -> list[Order]:
        return [order for order in self.known.values() if order.working]

    def gross(self) -> int:
        return sum(o.price * o.left for o in self.working()) + sum(self.cost.values())

    def check(self, order: Any, now: int) -> str:
        """The name of the first reject, or NONE."""
        if order["kind"] == CANCEL:
            known = self.known.get(order["order_id"])
            return "NONE" if known and known.working else "UNKNOWN_ORDER"
        if order["kind"] != NEW:
            return "UNKNOWN_ORDER"
        reject = next((name for name, no in self._rules(order, now) if no), "NONE")
        if reject == "NONE":
            self._enter(order, now)
        return reject

    def _rules(self, o: Any, now: int) -> Any:
        account, at = self.account, o["instrument_id"]
        yield "KILL_SWITCH", account["kill"] != 0
        limits = self.limits.get(at, {})
        yield "INSTRUMENT_UNKNOWN", at >= self.instruments or not any(limits.values())
        book = None if self.books is None else self.books.get(at, Book())
        yield "INSTRUMENT_HALTED", book and book.state & 2
        yield "BOOK_SUSPECT", book and (book.state & 4 or book.epoch != self.gaps)
        yield "SIDE", o["side"] not in (BID, ASK)
        yield "SIZE_ZERO", o["size"] == 0
        yield "SIZE_MAX", beyond(o["size"], limits["order_size_max"])
        yield "PRICE", not priced(o["price"])
        value = o["price"] * o["size"]
        yield "VALUE_MAX", beyond(value, limits["order_value_max"])
        yield "PRICE_COLLAR", self._collared(o, book, limits["price_collar_bps"])
        same = sum(w.left for w in self.working() if (w.instrument, w.side) == (at, o["side"]))
        held = self.position.get(at, 0) * (1 if o["side"] == BID else -1)
        yield "POSITION_MAX", beyond(held + same + o["size"], limits["position_max"])
        yield "GROSS_MAX", beyond(self.gross() + value, account["gross_value_max"])
        yield "RATE_MAX", self._too_fast(now)
        yield "DUPLICATE", o["order_id"] in self.known
        open_ = len(self.working())
        yield "TOO_MANY_OPEN", beyond(open_ + 1, account["open_max"]) or open_ >= self.orders_max

    def _collared(self, o: Any, book: Book | None, bps: int) -> bool:
        if bps == UNLIMITED:
            return False
        near = [] if book is None else [book.ask, book.bid]
        if o["side"] == ASK:
            near.reverse()
        best = next((price for price in near if priced(price)), None)
        if best is None:
            return True
        if o["side"] == BID:
            return o["price"] * 10_000 > best * (10_000 + bps)
        return o["price"] * 10_000 < best * (10_000 - bps)

    def _too_fast(self, now: int) -> bool:
        most, window = self.account["rate_max"], self.account["rate_window_ns"]
        if most == UNLIMITED:
            return False
        within = sum(1 for then in self.times if now - then < window)
        return most <= 0 or window <= 0 or within >= min(most, RATE_ORDERS_MAX)

    def _enter(self, o: Any, now: int) -> None:
        self.times.append(max(now, self.times[-1] if self.times else 0))
        if len(self.known) == self.orders_max:
            del self.known[self.finished.pop(0)]
        self.known[o["order_id"]] = Order(
            o["order_id"], o["instrument_id"], o["side"], o["price"], o["size"]
        )

    def report(self, report: Any) -> None:
        kind = report["kind"]
        if kind not in (ACK, FILL, CANCELED) and not (kind == REJECT and report["aux"] == VENUE):
            return
        order = self.known.get(report["order_id"])
        if order is None:
            self.unknown += 1
            return
        if report["sequence"] and report["sequence"] <= order.sequence:
            self.duplicate += 1
            return
        order.sequence = report["sequence"] or order.sequence
        self.applied += 1
        if kind == FILL:
            self._fill(order, report)
        elif kind != ACK:
            self._finish(order)

    def _fill(self, order: Order, report: Any) -> None:
        size, price = report["size"], report["price"]
        price = price if priced(price) else order.price
        self.beyond += size > order.left
        order.left -= min(order.left, size)
        at, sign = order.instrument, 1 if order.side == BID else -1
        held, cost = self.position.get(at, 0) * sign, self.cost.get(at, 0)
        if held >= 0:
            cost += price * size
        elif size <= -held:
            cost -= cost * size // -held
        else:
            cost = price * (size + held)
        self.cost[at] = min(cost, COST_MAX)
        self.position[at] = max(-(2**63), min(2**63 - 1, (held + size) * sign))
        if order.left == 0:
            self._finish(order)

    def _finish(self, order: Order) -> None:
        if order.working:
            order.left, order.working = 0, False
            self.finished.append(order.id)
