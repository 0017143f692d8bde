"""The simulated venue: its rules one by one, and random sessions against a Python model."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydpdk._core import ffi, lib
from pydpdk.core.event import ASK, BID, EVENT, KINDS
from pydpdk.core.layout import UNDEF_PRICE
from pydpdk.errors import CoreError, PydpdkError
from pydpdk.gateway.sim import SimVenue
from tests.venue_model import Displayed, Resting, VenueModel

NAMES = {value: name for name, value in KINDS.items()}
DAY, IOC = lib.TIME_IN_FORCE_DAY, lib.TIME_IN_FORCE_IOC


class World:
    """One venue over real books that a displayed market drives, and its reports."""

    def __init__(self, orders_max=64):
        out = ffi.new("struct books **")
        config = ffi.new("struct books_config *", {"orders_max": 64, "levels_max": 4096})
        assert lib.books_create(config, out) == 0
        self.books = ffi.gc(out[0], lib.books_destroy)
        self.market = Displayed()
        self.venue = SimVenue(orders_max)
        self.gaps = ffi.new("uint32_t *")
        self.venue.books(0, self.books, self.gaps)
        self.sequence = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.venue.close()

    def show(self, instrument, side, price, size):
        """Display ``size`` at a price; returns the quote when the best prices changed."""
        before = self._quote(instrument)
        level = self.market.levels.setdefault((instrument, side), {})
        assert lib.book_level(self.books, instrument, side, price, size) == 0 or price not in level
        level.pop(price, None)
        if size:
            level[price] = size
        after = self._quote(instrument)
        return [] if after == before else [after]

    def halt(self, instrument, on, bit=lib.BOOK_HALTED):
        book = lib.book_of(self.books, instrument)
        book.state = book.state & ~bit | (bit if on else 0)
        (self.market.halted.add if on else self.market.halted.discard)(instrument)

    def see(self, *rows):
        """Market records, at no time of their own."""
        self.venue.market(events(*rows), now=0)

    def _quote(self, instrument):
        bid, bid_size = self.market.best(instrument, BID)
        ask, ask_size = self.market.best(instrument, ASK)
        return {"kind": "QUOTE", "instrument_id": instrument, "bid": bid, "bid_size": bid_size,
                "ask": ask, "ask_size": ask_size}  # fmt: skip

    def order(self, id_, side, price, size, aux=DAY, instrument=1, now=50):
        request = {"kind": "ORDER_NEW", "order_id": id_, "side": side, "price": price, "aux": aux,
                   "size": size, "instrument_id": instrument}  # fmt: skip
        self.venue.orders(events(request), now)

    def cancel(self, id_, now=50):
        self.venue.orders(events({"kind": "ORDER_CANCEL", "order_id": id_}), now)

    def said(self):
        """New reports as (kind, id, instrument, side, price, size, aux, ts); they count up."""
        out = []
        for report in self.venue.take():
            self.sequence += 1
            assert report["sequence"] == self.sequence
            names = ["order_id", "instrument_id", "side", "price", "size", "aux", "ts_recv"]
            out.append((NAMES[int(report["kind"])], *(int(report[name]) for name in names)))
        return out

    def brief(self):
        """New reports as (kind, id, price, size, aux)."""
        return [
            (kind, id_, price, size, aux) for kind, id_, _, _, price, size, aux, _ in self.said()
        ]


def events(*rows):
    out = np.zeros(len(rows), EVENT)
    for i, row in enumerate(rows):
        for name, value in row.items():
            out[name][i] = KINDS[value] if name == "kind" else value
    return out


@pytest.fixture
def world():
    with World() as world:
        yield world


def test_a_marketable_order_takes_displayed_levels_within_its_limit(world):
    for price, size in [(10, 100), (11, 100), (13, 100)]:
        world.show(1, ASK, price, size)
    world.order(1, BID, 12, 250)
    assert world.brief() == [
        ("ACK", 1, 12, 250, 0),
        ("FILL", 1, 10, 100, 150),
        ("FILL", 1, 11, 100, 50),
    ]
    assert world.venue.stats()["open"] == 1, "the rest rests"


def test_what_is_left_of_an_immediate_order_is_canceled(world):
    world.show(1, BID, 10, 30)
    world.order(1, ASK, 10, 50, aux=IOC)
    assert world.brief()[1:] == [("FILL", 1, 10, 30, 20), ("CANCELED", 1, 10, 20, 0)]
    world.cancel(1)
    assert world.brief() == [("CANCEL_REJECT", 1, 0, 0, lib.REJECT_UNKNOWN_ORDER)]


def test_shares_that_were_taken_are_gone_until_the_best_level_changes(world):
    world.show(1, ASK, 10, 100)
    world.show(1, ASK, 11, 100)
    world.order(1, BID, 11, 150, aux=IOC)
    world.order(2, BID, 11, 60, aux=IOC)
    world.show(1, ASK, 12, 5)
    world.order(3, BID, 11, 60, aux=IOC)
    fills = [report[1:] for report in world.brief() if report[0] == "FILL"]
    assert fills == [(1, 10, 100, 50), (1, 11, 50, 0), (2, 11, 50, 10)]
    world.show(1, ASK, 10, 99)
    world.order(4, BID, 11, 60, aux=IOC)
    assert ("FILL", 4, 10, 60, 0) in world.brief()


def test_a_quote_that_moved_the_other_side_shows_nothing_new(world):
    world.show(1, ASK, 10, 100)
    world.order(1, BID, 10, 150)
    world.see(*world.show(1, BID, 9, 1))
    assert [report[0] for report in world.brief()] == ["ACK", "FILL"]
    world.see(*world.show(1, ASK, 10, 20))
    assert world.brief() == [("FILL", 1, 10, 20, 30)]


@pytest.mark.parametrize(("side", "through", "at"), [(BID, 9, 10), (ASK, 11, 10)])
@pytest.mark.parametrize("kind", ["TRADE", "EXECUTE"])
def test_a_resting_order_fills_when_a_trade_goes_through_it(world, side, through, at, kind):
    world.order(1, side, 10, 70)
    world.said()
    trade = {"kind": kind, "instrument_id": 1, "price": at, "size": 70, "ts_recv": 8, "ts_event": 7}
    world.see(trade, trade | {"price": UNDEF_PRICE}, trade | {"price": 0})
    world.see(trade | {"price": through, "instrument_id": 2})
    assert world.brief() == []
    world.see(trade | {"price": through})
    report = world.venue.take()[0]
    assert report[["price", "size", "aux", "ts_recv", "ts_event"]].tolist() == (10, 70, 0, 8, 7)


@pytest.mark.parametrize(("side", "prices", "through"), [(BID, (10, 12), 9), (ASK, (12, 10), 13)])
def test_a_trade_fills_no_more_shares_than_it_had(world, side, prices, through):
    for id_, price in enumerate(prices):
        world.order(id_, side, price, 5000)
    world.said()
    trade = {"kind": "EXECUTE", "instrument_id": 1, "price": through}
    world.see(trade | {"size": 1}, trade | {"size": 5001}, trade)
    best, worse = prices[1], prices[0]
    assert world.brief() == [
        ("FILL", 1, best, 1, 4999),
        ("FILL", 1, best, 4999, 0),
        ("FILL", 0, worse, 2, 4998),
    ]


def test_orders_do_not_take_from_a_book_that_may_be_wrong(world):
    world.show(1, ASK, 10, 100)
    world.gaps[0] = 1
    world.order(1, BID, 10, 5, aux=IOC)
    assert [report[0] for report in world.brief()] == ["ACK", "CANCELED"]
    lib.book_of(world.books, 1).epoch = 1
    world.order(2, BID, 10, 5, aux=IOC)
    assert [report[0] for report in world.brief()] == ["ACK", "FILL"]
    lib.book_of(world.books, 1).state |= lib.BOOK_BROKEN
    world.order(3, BID, 10, 5, aux=IOC)
    assert [report[0] for report in world.brief()] == ["ACK", "CANCELED"]


def test_a_quote_that_reaches_resting_orders_fills_what_it_shows_best_first(world):
    for id_, price in [(1, 10), (2, 11), (3, 11)]:
        world.order(id_, BID, price, 40)
    world.said()
    world.see(*world.show(1, ASK, 11, 60))
    assert world.brief() == [("FILL", 2, 11, 40, 0), ("FILL", 3, 11, 20, 20)]
    world.see(*world.show(1, ASK, 9, 1000))
    assert world.brief() == [("FILL", 3, 11, 20, 0), ("FILL", 1, 10, 40, 0)], "own price"


@pytest.mark.parametrize("flag", [lib.FLAG_HALTED, lib.FLAG_SUSPECT])
def test_nothing_fills_against_quotes_of_halted_or_suspect_books(world, flag):
    world.order(1, BID, 10, 40)
    world.said()
    (quote,) = world.show(1, ASK, 9, 60)
    world.see(quote | {"flags": flag}, {"kind": "GAP", "order_id": 5})
    assert world.brief() == []
    world.see(quote)
    assert world.brief() == [("FILL", 1, 10, 40, 0)]


@pytest.mark.parametrize("bit", [lib.BOOK_HALTED, lib.BOOK_STOPPED])
def test_a_halted_instrument_takes_orders_and_fills_none(world, bit):
    world.show(1, ASK, 10, 100)
    world.halt(1, True, bit)
    world.order(1, BID, 10, 5)
    world.order(2, BID, 10, 5, aux=IOC)
    trade = {"kind": "TRADE", "instrument_id": 1, "price": 1, "size": 9, "flags": lib.FLAG_HALTED}
    world.see(trade)
    assert [report[:2] for report in world.brief()] == [("ACK", 1), ("ACK", 2), ("CANCELED", 2)]


@pytest.mark.parametrize("kind", ["SESSION", "SESSION_END"])
def test_a_session_that_begins_or_ends_cancels_the_orders_of_its_feed(world, kind):
    world.order(1, BID, 10, 5, instrument=65535)
    world.order(2, ASK, 10, 5, instrument=0)
    world.order(3, BID, 11, 5, instrument=0)
    world.said()
    world.see({"kind": kind, "instrument_id": 1 << 16})
    assert world.brief() == []
    world.see({"kind": kind})
    assert [report[:2] for report in world.brief()] == [
        ("CANCELED", 3), ("CANCELED", 2), ("CANCELED", 1),
    ]  # fmt: skip
    assert world.venue.stats()["open"] == 0


@pytest.mark.parametrize(
    "wrong",
    [{"side": 0}, {"side": 3}, {"size": 0}, {"price": 0}, {"price": -5}, {"price": UNDEF_PRICE},
     {"aux": 2}, {"instrument_id": 65536}, {"instrument_id": 2**32 - 1}, {"order_id": 1},
     {"kind": "ACK"}],
)  # fmt: skip
def test_what_is_no_order_is_refused(world, wrong):
    world.order(1, BID, 10, 5)
    world.said()
    request = {"kind": "ORDER_NEW", "order_id": 2, "side": BID, "price": 10, "size": 5}
    world.venue.orders(events(request | wrong), 0)
    (report,) = world.said()
    assert (report[0], report[6]) == ("REJECT", lib.REJECT_VENUE)
    assert world.venue.stats()["open"] == 1


def test_a_full_venue_refuses_and_recovers():
    with World(orders_max=2) as world:
        for id_ in (1, 2, 3):
            world.order(id_, BID, 10, 5)
        world.cancel(1)
        world.order(3, BID, 10, 5)
        kinds = [report[0] for report in world.said()]
        assert kinds == ["ACK", "ACK", "REJECT", "CANCELED", "ACK"]


def test_a_closed_venue_is_an_error():
    with pytest.raises(CoreError, match="EINVAL"):
        SimVenue(orders_max=0)
    venue = SimVenue()
    venue.close()
    for call in (venue.stats, venue.take, lambda: venue.market(events(), 0), lambda: venue.state):
        with pytest.raises(PydpdkError, match="SimVenue is closed"):
            call()


# Random sessions against the model.

PRICES = st.integers(8, 12)
SIDES = st.sampled_from([BID, ASK])
INSTRUMENTS = st.sampled_from([1, 1, 1, 1, 0, 65535])
SHOW = st.tuples(st.just("show"), INSTRUMENTS, SIDES, PRICES, st.integers(0, 30))
TRADE = st.tuples(st.just("trade"), INSTRUMENTS, PRICES | st.just(7), st.integers(0, 60))
NEW = st.tuples(
    st.just("new"), INSTRUMENTS, SIDES, PRICES, st.integers(1, 40),
    st.sampled_from([DAY, DAY, IOC]), st.integers(0, 99),
)  # fmt: skip
WRONG = st.tuples(
    st.just("new"), st.sampled_from([1, 65536]), st.sampled_from([BID, ASK, 0]),
    st.sampled_from([10, 0]), st.sampled_from([5, 0]), st.sampled_from([DAY, 2]), st.integers(0, 9),
)  # fmt: skip
OTHER = st.sampled_from([("halt", 1, True), ("halt", 1, False), ("session",), ("gap",)])
CANCEL = st.tuples(st.just("cancel"), st.integers(0, 99))
STEPS = st.lists(
    SHOW | NEW | NEW | CANCEL | NEW | TRADE | CANCEL | WRONG | OTHER, min_size=30, max_size=60
)


@given(STEPS, st.integers(1, 5), st.sampled_from([3, 64]))
def test_random_sessions_go_as_in_the_model_however_batches_are_cut(steps, cut, orders_max):
    with World(orders_max) as world:
        model = VenueModel(world.market, orders_max)
        waiting: list[dict] = []

        def flush():
            for start in range(0, len(waiting), cut):
                world.see(*waiting[start : start + cut])
            waiting.clear()

        for ts, step in enumerate(steps):
            if step[0] in ("new", "cancel"):
                flush()
            play(world, model, waiting, ts, *step)
        flush()
        assert world.said() == model.reports
        assert world.venue.stats()["open"] == len(model.resting)


def play(world, model, waiting, ts, what, *args):
    """One step for both. Market records wait, so that they arrive in batches of any size."""
    halted = lib.FLAG_HALTED if args and args[0] in world.market.halted else 0
    stamp = {"ts_recv": ts, "flags": halted}
    if what == "show":
        for quote in world.show(*args):
            waiting.append(quote | stamp)
            bid, ask = (quote["bid"], quote["bid_size"]), (quote["ask"], quote["ask_size"])
            model.quote(args[0], bid, ask, halted, ts)
    elif what == "trade":
        instrument, price, size = args
        trade = {"kind": "TRADE", "instrument_id": instrument, "price": price, "size": size}
        waiting.append(trade | stamp)
        model.trade(instrument, price, size, halted, ts)
    elif what == "halt":
        world.halt(*args)
    elif what in ("session", "gap"):
        waiting.append({"kind": what.upper(), "ts_recv": ts})
        if what == "session":
            model.session(ts)
    elif what == "new":
        instrument, side, price, size, force, id_ = args
        world.order(id_, side, price, size, force, instrument, now=ts)
        model.new(Resting(id_, instrument, side, price, size), force, ts)
    else:
        (pick,) = args
        id_ = model.resting[pick % len(model.resting)].id if model.resting else pick
        world.cancel(id_, now=ts)
        model.cancel(id_, ts)
