"""Gateways: the simulated venue's room for reports, and a table of the test's own under a desk."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pydpdk._core import ffi, lib
from pydpdk.core.books import Books
from pydpdk.core.event import EVENT, Event, Events, join, records
from pydpdk.errors import PydpdkError
from pydpdk.gateway.gateway import Gateway
from pydpdk.gateway.sim import SimVenue
from pydpdk.stage.stage import Orders, Stage
from pydpdk.trade.desk import Desk, Trading
from pydpdk.trade.limits import UNLIMITED, AccountLimits, Limits, RiskConfig
from pydpdk.trade.risk import Risk

RESTING = 100  # orders, in a venue for as many


def order(id_: int, side: int, price: int, size: int = 10**6, **fields: int) -> Events:
    made = np.zeros(1, EVENT)
    made["kind"], made["order_id"], made["side"] = lib.EVENT_ORDER_NEW, id_, side
    made["price"], made["size"] = price, size
    for name, value in fields.items():
        made[name] = value
    return made


def market(count: int, kind: int, **fields: Any) -> Events:
    made = np.zeros(count, EVENT)
    made["kind"] = kind
    for name, value in fields.items():
        made[name] = value
    return made


def give(venue: SimVenue, orders: Events) -> None:
    """All of them while their reports stay in the venue."""
    taken = 0
    while taken < len(orders):
        left = orders[taken:]
        some = venue.pointer.ops.orders(venue.pointer, records(left), len(left), 1)
        assert some
        taken += some


def resting(venue: SimVenue) -> None:
    """Half of them buy at 100, half sell at 50."""
    sides = [(lib.SIDE_BID, 100), (lib.SIDE_ASK, 50)] * (RESTING // 2)
    venue.books(0, ffi.NULL)
    give(venue, join([order(i + 1, *side) for i, side in enumerate(sides)]))


@pytest.fixture
def venue():
    with SimVenue(RESTING) as venue:
        yield venue


# --- the simulated venue loses no report ---


def test_whatever_it_is_given(venue):
    """Every order sweeps a whole book of many levels; every trade fills orders."""
    with Books.create(orders_max=1000, levels_max=4096) as books:
        venue.books(0, books.pointer)
        for i in range(lib.VENUE_DEPTH_MAX):
            assert lib.book_add(books.pointer, 0, lib.SIDE_ASK, i + 1, 10 + i, 1000) == 0
        sweeps = [order(i, lib.SIDE_BID, 1000) for i in range(1, 5001)]
        venue.orders(join(sweeps), now=1)
        kinds = venue.take()["kind"]
        assert np.count_nonzero(kinds == lib.EVENT_ACK) == RESTING
        assert np.count_nonzero(kinds == lib.EVENT_REJECT) == 5000 - RESTING
        assert np.count_nonzero(kinds == lib.EVENT_FILL) == lib.VENUE_DEPTH_MAX
        venue.market(market(5000, lib.EVENT_TRADE, price=5, size=2), now=2)
        reports = venue.take()
        assert reports["kind"].tolist() == [lib.EVENT_FILL] * 5000
        assert np.all(np.diff(reports["sequence"].astype(int)) == 1)
        assert venue.lost == 0
        assert len(venue.take()) == 0


@pytest.mark.parametrize("end", range(lib.VENUE_ROOM // 2 - 2, lib.VENUE_ROOM // 2 + 3))
def test_every_quote_may_fill_on_both_sides_before_all_is_canceled(venue, end):
    resting(venue)
    venue.take()
    quotes = market(end, lib.EVENT_QUOTE, bid=60, ask=90)
    quotes["bid_size"] = quotes["ask_size"] = 1 + np.arange(end) % 2
    venue.market(join([quotes, market(1, lib.EVENT_SESSION)]), now=2)
    kinds = venue.take()["kind"].tolist()
    assert kinds == [lib.EVENT_FILL] * 2 * end + [lib.EVENT_CANCELED] * RESTING
    assert venue.lost == 0


@pytest.mark.parametrize("room", [0, 1, 2, 3])
def test_one_record_may_end_every_order(venue, room):
    """With no room beyond a report for each of them, it is not taken, and nothing has happened."""
    resting(venue)
    unknown = market(lib.VENUE_ROOM - room - RESTING, lib.EVENT_ORDER_CANCEL, order_id=10**6)
    give(venue, unknown)
    ops, over = venue.pointer.ops, market(1, lib.EVENT_SESSION)
    taken = ops.market(venue.pointer, records(over), 1, 2)
    assert taken == room // 2
    waited = venue.take()
    assert len(waited) == lib.VENUE_ROOM - room + taken * RESTING
    if not taken:
        venue.market(over, now=2)
        waited = venue.take()
    assert waited["kind"][-RESTING:].tolist() == [lib.EVENT_CANCELED] * RESTING
    assert (venue.lost, venue.stats()["open"]) == (0, 0)


def test_every_order_may_take_as_many_levels_as_there_are(venue):
    count = 2 * lib.VENUE_ROOM // lib.VENUE_REPORTS_PER_ORDER
    levels = count * lib.VENUE_DEPTH_MAX  # what was taken is gone: one order for each book
    with Books.create(orders_max=levels, levels_max=2 * levels) as books:
        venue.books(0, books.pointer)
        sweeps = []
        for book in range(count):
            for i in range(lib.VENUE_DEPTH_MAX):
                id_ = book * lib.VENUE_DEPTH_MAX + i + 1
                assert lib.book_add(books.pointer, book, lib.SIDE_ASK, id_, 10 + i, 1000) == 0
            ioc = {"instrument_id": book, "aux": lib.TIME_IN_FORCE_IOC}
            sweeps.append(order(book + 1, lib.SIDE_BID, 1000, **ioc))
        venue.orders(join(sweeps), now=1)
        assert len(venue.take()) == count * lib.VENUE_REPORTS_PER_ORDER
        assert venue.lost == 0


def test_reports_that_find_no_room_with_the_caller_stay(venue):
    resting(venue)
    some = np.zeros(30, EVENT)
    out, told = records(some), []
    while count := venue.pointer.ops.reports(venue.pointer, out, len(some)):
        told += some["order_id"][:count].tolist()
    assert told == list(range(1, RESTING + 1))


def test_it_is_always_up(venue):
    assert venue.state == "up"


# --- a gateway of one's own ---


class Answering:
    """A ``struct gateway`` that answers each order and has room for four answers."""

    ROOM = 4

    def __init__(self, *, looks: bool = True, stuck: bool = False) -> None:
        self.state = lib.GATEWAY_UP
        self.seen: list[tuple[str, int, int]] = []  # what, how many, at which record time
        self.answers: list[bytes] = []
        self.lost = self.closed = 0
        self._stuck = stuck
        calls = {
            "orders": self._orders, "reports": self._reports, "state": lambda _: self.state,
            "lost": lambda _: self.lost, "close": self._close,
        }  # fmt: skip
        calls |= {"market": self._market} if looks else {}
        kinds = {name: field.type for name, field in ffi.typeof("struct gateway_ops").fields}
        self._calls = {name: ffi.callback(kinds[name], call) for name, call in calls.items()}
        self._ops = ffi.new("struct gateway_ops *", self._calls)
        self.pointer = ffi.new("struct gateway *", {"ops": self._ops})

    def _market(self, _: Any, events: Any, count: int, now: int) -> int:
        self.seen.append(("market", count, now))
        return count

    def _orders(self, _: Any, orders: Any, count: int, now: int) -> int:
        taken = 0 if self._stuck else min(count, self.ROOM - len(self.answers))
        self.seen.append(("orders", taken, now))
        for row in np.frombuffer(ffi.buffer(orders, taken * EVENT.itemsize), EVENT):
            answer = row.copy()
            up = self.state == lib.GATEWAY_UP
            answer["kind"] = lib.EVENT_ACK if up else lib.EVENT_REJECT
            answer["aux"] = 0 if up else lib.REJECT_VENUE
            self.answers.append(answer.tobytes())
        return taken

    def _reports(self, _: Any, out: Any, most: int) -> int:
        told, self.answers = self.answers[:most], self.answers[most:]
        ffi.memmove(out, b"".join(told), len(told) * EVENT.itemsize)
        return len(told)

    def _close(self, _: Any) -> None:
        self.closed += 1


class Buys(Stage):
    """Ten orders at the first record, and what came of them."""

    def __init__(self) -> None:
        self.left, self.told = 10, []

    def on_system(self, event: Event, orders: Orders) -> None:
        for _ in range(self.left):
            orders.buy(1, 10**9, 1)
        self.left = 0

    def on_ack(self, ack: Event, orders: Orders) -> None:
        self.told.append(("ack", ack.order_id))

    def on_reject(self, reject: Event, orders: Orders) -> None:
        self.told.append(("reject", reject.order_id))


def desk_of(gateway: Gateway) -> tuple[Desk, Buys, Risk]:
    """Ten orders may work at once."""
    limits = Limits(price_collar_bps=UNLIMITED, position_max=UNLIMITED)
    risk = Risk(RiskConfig(AccountLimits(open_max=10, rate_max=UNLIMITED), limits))
    stage = Buys()
    return Desk(Trading(stage, risk, gateway)), stage, risk


TICK = market(1, lib.EVENT_SYSTEM)


def test_a_table_of_ones_own_trades_under_a_desk():
    own = Answering()
    with Gateway(own.pointer) as gateway:
        desk, stage, risk = desk_of(gateway)
        desk.on_batch(TICK, 5000, None)
        desk.on_batch(TICK, 6000, None)
        desk.finish(7000)
        assert stage.told == [("ack", i + 1) for i in range(10)], "in order, however cut"
        assert own.seen == [
            ("market", 1, 5000), ("orders", 4, 5000), ("orders", 4, 5000), ("orders", 2, 5000),
            ("market", 1, 6000),
        ]  # fmt: skip
        own.lost = 3
        told = desk.result()
        assert (told["sent"], told["acked"], told["reports_lost"]) == (10, 10, 3)
        assert len(risk.pass_orders(order(11, lib.SIDE_BID, 10**9, 1), 8000)[0]) == 0
        assert not own.closed
    gateway.close()
    assert own.closed == 1


def test_one_that_is_down_refuses_and_risk_lets_go():
    own = Answering()
    own.state = lib.GATEWAY_DOWN
    with Gateway(own.pointer) as gateway:
        assert gateway.state == "down"
        desk, stage, risk = desk_of(gateway)
        desk.on_batch(TICK, 5000, None)
        desk.on_batch(TICK, 6000, None)
        assert stage.told == [("reject", i + 1) for i in range(10)]
        assert desk.result()["rejected"] == {"VENUE": 10}
        assert len(risk.pass_orders(order(11, lib.SIDE_BID, 10**9, 1), 8000)[0]) == 1
        own.state = lib.GATEWAY_CLOSING
        assert gateway.state == "closing"


def test_one_need_not_look_at_the_market():
    own = Answering(looks=False)
    with Gateway(own.pointer) as gateway:
        desk, _, _ = desk_of(gateway)
        desk.on_batch(TICK, 5000, None)
        assert {what for what, _, _ in own.seen} == {"orders"}


def test_one_that_takes_nothing_is_an_error_not_a_loop():
    own = Answering(stuck=True)
    with Gateway(own.pointer) as gateway, pytest.raises(PydpdkError, match="takes no record"):
        gateway.orders(order(1, lib.SIDE_BID, 10), 1)
