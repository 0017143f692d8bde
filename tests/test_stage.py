"""Strategies: dispatch, the two styles, order collection, state, loading."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydpdk._core import lib
from pydpdk.errors import DataError, UsageError
from pydpdk.stage.stage import (
    ASK,
    BID,
    EVENT,
    HANDLERS,
    KINDS,
    UNDEF_PRICE,
    OrderLimitError,
    Orders,
    Runner,
    Stage,
    StageError,
    load_strategy,
)

APPS = Path(__file__).parent.parent / "apps"
PRICES = st.integers(1, 20).map(lambda ticks: ticks * 10_000_000)


def event(kind, **fields):
    out = np.zeros((), EVENT)
    out["kind"] = KINDS[kind]
    for name, value in fields.items():
        out[name] = value
    return out


@st.composite
def market(draw):
    """Quotes, executions and fills of three instruments: bytes a decoder could have written."""
    out = []
    for at in range(draw(st.integers(0, 40))):
        stamp = {"ts_recv": 1_000 + at, "instrument_id": draw(st.integers(0, 2))}
        kind = draw(st.sampled_from(["QUOTE", "EXECUTE", "ADD", "FILL"]))
        if kind == "QUOTE":
            prices = {"bid": draw(PRICES), "ask": draw(PRICES | st.just(UNDEF_PRICE))}
            out.append(event(kind, bid_size=1, ask_size=1, **prices, **stamp))
        else:
            out.append(event(kind, price=draw(PRICES), size=7, side=BID, **stamp))
    return np.array(out, EVENT)


class CrossEach(Stage):
    """Buys at each ask below a level; cancels its last order on each execution."""

    state = {"last": "u8", "executed": ("i8", 3)}

    def on_quote(self, quote, orders):
        if quote.ask < 100_000_000:
            self.state["last"] = orders.buy(quote.instrument_id, quote.ask, quote.ask_size)

    def on_execute(self, trade, orders):
        self.state["executed"][trade.instrument_id] += trade.size
        if self.state["last"]:
            orders.cancel(self.state["last"])


class CrossBatch(Stage):
    state = CrossEach.state

    def on_batch(self, events, orders):
        low = (events["kind"] == KINDS["QUOTE"]) & (events["ask"] < 100_000_000)
        traded = events["kind"] == KINDS["EXECUTE"]
        np.add.at(self.state["executed"], events["instrument_id"][traded], events["size"][traded])
        for one in events[low | traded]:
            if one["kind"] == KINDS["EXECUTE"]:
                if self.state["last"]:
                    orders.cancel(self.state["last"])
            else:
                self.state["last"] = orders.buy(one["instrument_id"], one["ask"], one["ask_size"])


@given(market(), st.integers(1, 7))
def test_both_styles_give_the_same_orders_and_state(events, step):
    each, batch = Runner(CrossEach()), Runner(CrossBatch())
    for start in range(0, len(events), step):
        part = events[start : start + step]
        assert each.run(part).tobytes() == batch.run(part).tobytes()
    assert each.stage.state_differs(batch.stage) == []


@given(market(), st.integers(1, 7))
def test_where_batches_are_cut_changes_only_the_time_of_decision(events, step):
    whole, cut = Runner(CrossEach()), Runner(CrossEach())
    expected = whole.run(events, now=0).copy()
    parts = [cut.run(events[i : i + step], now=0).copy() for i in range(0, len(events), step)]
    assert b"".join(p.tobytes() for p in parts) == expected.tobytes()


def test_every_kind_of_record_reaches_its_handler():
    seen = []

    def handler(name):
        return lambda self, record, orders: seen.append((name, record.kind))

    everything = type("Everything", (Stage,), {name: handler(name) for name in HANDLERS})
    Runner(everything()).run(np.array([event(kind) for kind in KINDS], EVENT))
    assert seen == list(HANDLERS.items())


def test_a_record_equals_its_event_and_outlives_the_batch():
    kept = []
    keeper = type("Keeper", (Stage,), {"on_quote": lambda s, q, o: kept.append(q),
                                       "on_fill": lambda s, f, o: kept.append(f)})  # fmt: skip
    rng = np.random.default_rng(3)
    events = np.frombuffer(rng.bytes(64 * 50), EVENT).copy()
    events["kind"] = rng.choice([KINDS["QUOTE"], KINDS["FILL"], KINDS["ADD"]], 50)
    expected = events[events["kind"] != KINDS["ADD"]].copy()
    Runner(keeper()).run(events)
    events.view(np.uint8)[:] = 0
    assert len(kept) == len(expected) > 10
    for record, event_ in zip(kept, expected, strict=True):
        assert record._asdict() == {name: int(event_[name]) for name in record._fields}


def test_batch_wins_over_handlers_and_sees_memory_read_only():
    class Both(Stage):
        def on_quote(self, quote, orders):
            raise AssertionError

        def on_batch(self, events, orders):
            assert np.shares_memory(events, given)
            events["size"] = 0

    given = np.array([event("QUOTE")], EVENT)
    with pytest.raises(StageError, match="read-only"):
        Runner(Both()).run(given)


def test_orders_are_records_with_ids_that_count_up():
    orders = Orders(first_id=7)
    orders.begin(now=55)
    assert orders.buy(3, np.int64(1_250_000_000), np.uint32(100)) == 7
    assert orders.sell(np.uint32(65536), 5, 1, ioc=True) == 8
    orders.cancel(np.uint64(7))
    names = ["kind", "instrument_id", "side", "price", "order_id", "size", "aux", "ts_recv"]
    new, cancel = KINDS["ORDER_NEW"], KINDS["ORDER_CANCEL"]
    assert orders.records[names].tolist() == [
        (new, 3, BID, 1_250_000_000, 7, 100, lib.TIME_IN_FORCE_DAY, 55),
        (new, 65536, ASK, 5, 8, 1, lib.TIME_IN_FORCE_IOC, 55),
        (cancel, 0, lib.SIDE_NONE, 0, 7, 0, 0, 55),
    ]
    assert not orders.records["stamp"].any()
    assert not orders.records.flags.writeable


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ((1, 10.5, 1), TypeError, "price must be an integer of units of 1e-9, not float 10.5"),
        ((1, np.float64(3), 1), TypeError, "price must be an integer"),
        ((1, "10", 1), TypeError, "price must be an integer"),
        ((1, 10, 1.0), TypeError, "size must be an integer, not float"),
        ((1, 10, -1), ValueError, "size -1 is outside 0..4294967295"),
        ((1, 2**63, 1), ValueError, "price 9223372036854775808 is outside"),
        ((-1, 10, 1), ValueError, "instrument -1 is outside"),
        ((2**32, 10, 1), ValueError, "instrument 4294967296 is outside"),
    ],
)
def test_what_is_no_order_is_refused_and_uses_no_id(arguments, error, says):
    orders = Orders()
    with pytest.raises(error, match=says):
        orders.buy(*arguments)
    assert (len(orders.records), orders.next_id) == (0, 1)


def test_the_collector_grows_up_to_its_bound():
    orders = Orders(batch_max=1000)
    ids = [orders.buy(1, 2, 3) for _ in range(1000)]
    assert orders.records["order_id"].tolist() == ids
    with pytest.raises(OrderLimitError, match="more than 1000"):
        orders.buy(1, 2, 3)
    orders.begin(0)
    assert orders.buy(1, 2, 3) == 1001


class Fails(Stage):
    def on_fill(self, fill, orders):
        orders.buy(1, 1, 1)
        if fill.size == 13:
            raise ZeroDivisionError("unlucky")


def test_a_strategy_that_raises_names_the_event_and_keeps_the_traceback():
    events = np.array([event("ADD"), event("FILL"), event("ADD"), event("FILL", size=13)], EVENT)
    runner = Runner(Fails())
    with pytest.raises(StageError, match="Fails raised ZeroDivisionError at event 3") as caught:
        runner.run(events)
    assert caught.value.index == 3
    assert 'raise ZeroDivisionError("unlucky")' in caught.value.traceback
    assert len(runner.orders.records) == 0
    assert len(runner.run(events[:2])) == 1, "later batches still run"


def test_an_unknown_handler_or_state_type_is_refused_when_the_class_is_made():
    with pytest.raises(TypeError, match="on_qoute is no handler; on_batch or one of: on_session"):
        type("Typo", (Stage,), {"on_qoute": lambda *_: None})
    with pytest.raises(TypeError, match=r"Odd\.state"):
        type("Odd", (Stage,), {"state": {"a": "no such type"}})
    with pytest.raises(TypeError, match="Python objects cannot be saved"):
        type("Odd", (Stage,), {"state": {"a": "O"}})


def test_state_survives_and_differences_are_named():
    one, other = CrossEach(), CrossEach()
    one.state["last"] = 2**64 - 1
    one.state["executed"][2] = -5
    assert one.state_differs(other) == ["last", "executed"]
    other.load(one.save())
    assert one.state_differs(other) == []
    other.state["executed"][0] = 1
    assert one.state_differs(other) == ["executed"]
    assert one.state["executed"][0] == 0, "states are apart"
    assert Fails().state_differs(one) == ["executed", "last"]


@pytest.mark.parametrize("cut", [0, 1, 10, 100])
def test_a_broken_or_foreign_state_is_refused(cut):
    stage = CrossEach()
    with pytest.raises(DataError, match="not a saved state of CrossEach"):
        stage.load(stage.save()[:cut])
    with pytest.raises(DataError, match="declares"):
        stage.load(Fails().save())


@pytest.mark.parametrize("shape", [(1,), (2,), (1, 1)])
def test_several_states_are_not_one(shape):
    stage, saved = CrossEach(), io.BytesIO()
    np.save(saved, np.zeros(shape, stage.state_dtype))
    with pytest.raises(DataError, match="CrossEach"):
        stage.load(saved.getvalue())


def test_apps_load_with_parameters_and_run():
    spread = load_strategy(f"{APPS}/spread.py:Spread", ["size=5"])
    quote = event("QUOTE", bid=100_000_000, ask=900_000_000, instrument_id=4)
    orders = Runner(spread).run(np.array([quote, quote], EVENT))
    assert orders[["instrument_id", "price", "size"]].tolist() == [(4, 110_000_000, 5)]


def test_momentum_follows_a_run_of_prices():
    prices = [10, 11, 11, 12, 13, 12, 11, 10]
    events = np.array([event("EXECUTE", price=p, instrument_id=2) for p in prices], EVENT)
    orders = Runner(load_strategy(f"{APPS}/momentum.py:Momentum", ["size=9"])).run(events)
    assert orders[["side", "price"]].tolist() == [(BID, 13), (ASK, 10)]


def test_market_maker_leans_against_its_inventory():
    spec = f"{APPS}/market_maker.py:MarketMaker"
    runner = Runner(load_strategy(spec, ["instrument=1", "half_spread=20000000", "size=100"]))
    quote = event("QUOTE", bid=1_000_000_000, ask=1_020_000_000, instrument_id=1)
    first = runner.run(np.array([quote, quote], EVENT))
    assert first["price"].tolist() == [990_000_000, 1_030_000_000]
    fill = event("FILL", side=BID, size=100, order_id=first["order_id"][0], instrument_id=1)
    after = runner.run(np.array([fill, quote], EVENT))
    assert after["kind"].tolist() == [
        KINDS["ORDER_CANCEL"],
        KINDS["ORDER_NEW"],
        KINDS["ORDER_NEW"],
    ]
    assert after["price"][1:].tolist() == [980_000_000, 1_020_000_000]


GOOD = "from pydpdk.stage.stage import Stage\nclass A(Stage):\n    def __init__(self, n: int = 1, on: bool = False): self.n = n if n else 1 // n\n"  # noqa: E501


@pytest.mark.parametrize(
    ("text", "spec", "params", "says"),
    [
        (GOOD, "{}", [], "write it as file.py:Class"),
        (GOOD, "{}:", [], "write it as file.py:Class"),
        (GOOD, "{}x:A", [], "cannot read strategy file .*: No such file"),
        (GOOD, "{}:B", [], "has no strategy B: the subclasses of Stage in it: A"),
        (GOOD, "{}:Stage", ["n=1"], "no parameter 'n=1'"),
        (GOOD + "def f(:\n", "{}:A", [], "line 4: invalid syntax"),
        (GOOD + "\0", "{}:A", [], "null bytes"),
        (GOOD + "import nothing_like_it\n", "{}:A", [], "line 4: ModuleNotFoundError"),
        (GOOD + "class C(Stage):\n  def on_x(self): 0\n", "{}:A", [], "line 4: TypeError: C.on_x"),
        (GOOD, "{}:A", ["n=0"], "line 3: ZeroDivisionError"),
        (GOOD, "{}:A", ["m=0"], "no parameter 'm=0'; name=value with one of: n, on"),
        (GOOD, "{}:A", ["n"], "no parameter 'n'"),
        (GOOD, "{}:A", ["n=x"], "n='x' is not of type int"),
        (GOOD, "{}:A", ["on=maybe"], "on='maybe' is not of type bool"),
    ],
)
def test_a_strategy_that_does_not_load_says_why(tmp_path, text, spec, params, says):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(UsageError, match=says):
        load_strategy(spec.format(path), params)


def test_a_changed_file_loads_anew(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(GOOD)
    assert load_strategy(f"{path}:A", ["n=4", "on=yes"]).n == 4
    path.write_text(GOOD.replace("n if n else 1 // n", "-n"))
    assert load_strategy(f"{path}:A", ["n=4"]).n == -4
    assert list(tmp_path.iterdir()) == [path]
