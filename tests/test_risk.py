"""Risk: every reject by its smallest case, and random histories against a Python model."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydpdk._core import ffi, lib
from pydpdk.core.event import ASK, BID, EVENT, KINDS
from pydpdk.core.layout import UNDEF_PRICE
from pydpdk.errors import CoreError, PydpdkError, UsageError
from pydpdk.trade.limits import DEFAULT, DEFAULT_ACCOUNT, UNLIMITED
from pydpdk.trade.limits_file import load_config
from pydpdk.trade.risk import REJECTS, Risk, reject_doc, reject_name, reject_table
from tests.risk_model import Book, Model

GOOD = {"kind": KINDS["ORDER_NEW"], "instrument_id": 5, "side": BID, "price": 10_000_000_000,
        "size": 100, "order_id": 1}  # fmt: skip
CANCEL = {"kind": KINDS["ORDER_CANCEL"], "order_id": 1}


def events(*rows):
    out = np.zeros(len(rows), EVENT)
    for i, row in enumerate(rows):
        for name, value in row.items():
            out[name][i] = value
    return out


class Bench:
    """A Risk with one book-bearing feed, everything open, that answers by reject name."""

    def __init__(self, orders_max=64):
        self.risk = Risk(orders_max=orders_max)
        self.risk.limits[5] = (1_000, 10**16, 1_000, 5_000)
        for name, value in {"gross_value_max": 10**17, "rate_max": 50, "open_max": 50}.items():
            self.risk.account[name] = value
        self.book = ffi.new("struct book[65536]")
        self.gaps = ffi.new("uint32_t *", 0)
        self.risk.books(0, self.book, self.gaps)
        self.top(9_990_000_000, 10_000_000_000)

    def top(self, bid, ask):
        self.book[5].bid, self.book[5].ask = bid, ask

    def ask(self, now=10**9, **changes):
        """The reject name of GOOD with changes, NONE when it was approved."""
        approved, rejects = self.risk.pass_orders(events(GOOD | changes), now)
        assert len(approved) + len(rejects) == 1
        return "NONE" if len(approved) else reject_name(int(rejects["aux"][0]))

    def report(self, kind, **fields):
        self.risk.on_reports(events({"kind": KINDS[kind], "order_id": 1} | fields))


def _halted(b):
    b.book[5].state = lib.BOOK_HALTED
    return b.ask()


def _suspect(b):
    b.gaps[0] = 1
    return b.ask()


def _killed(b):
    b.risk.kill()
    return b.ask()


def _second(b):
    assert b.ask() == "NONE"
    return b.ask()


def _limited(b, name, value, **changes):
    b.risk.account[name] = value
    assert b.ask() == "NONE"
    return b.ask(order_id=2, **changes)


def _venue(b):
    b.ask()
    b.report("REJECT", aux=lib.REJECT_VENUE)
    assert b.risk.stats()["reports"] == 1
    return reject_name(lib.REJECT_VENUE)


CASES = {
    "NONE": lambda b: b.ask(),
    "KILL_SWITCH": _killed,
    "INSTRUMENT_UNKNOWN": lambda b: b.ask(instrument_id=65536),
    "INSTRUMENT_HALTED": _halted,
    "BOOK_SUSPECT": _suspect,
    "SIDE": lambda b: b.ask(side=0),
    "SIZE_ZERO": lambda b: b.ask(size=0),
    "SIZE_MAX": lambda b: b.ask(size=1_001),
    "PRICE": lambda b: b.ask(price=UNDEF_PRICE),
    "VALUE_MAX": lambda b: b.ask(price=10**13 + 1, size=1_000),
    "PRICE_COLLAR": lambda b: b.ask(price=11_000_000_001),
    "POSITION_MAX": lambda b: [b.ask(size=1_000, order_id=i) for i in range(6)][-1],
    "GROSS_MAX": lambda b: _limited(b, "gross_value_max", 2 * 10**12 - 1),
    "RATE_MAX": lambda b: _limited(b, "rate_max", 1, now=2 * 10**9 - 1),
    "DUPLICATE": _second,
    "VENUE": _venue,
    "TOO_MANY_OPEN": lambda b: _limited(b, "open_max", 1),
    "UNKNOWN_ORDER": lambda b: b.ask(**CANCEL),
}


@pytest.mark.parametrize("name", REJECTS.values())
def test_every_reject_is_reached_by_its_smallest_case(name):
    bench = Bench()
    assert CASES[name](bench) == name
    rejected = bench.risk.stats()["rejected"]
    assert rejected == ({} if name in ("NONE", "VENUE") else {name: 1})


AT_THE_LIMIT = {
    "SIZE_MAX": lambda b: b.ask(size=1_000),
    "VALUE_MAX": lambda b: (b.top(UNDEF_PRICE, 10**13), b.ask(price=10**13, size=1_000))[1],
    "PRICE_COLLAR": lambda b: b.ask(price=11_000_000_000),
    "PRICE_COLLAR sell": lambda b: b.ask(price=8_991_000_000, side=ASK),
    "POSITION_MAX": lambda b: [b.ask(size=1_000, order_id=i) for i in range(5)][-1],
    "GROSS_MAX": lambda b: _limited(b, "gross_value_max", 2 * 10**12),
    "RATE_MAX": lambda b: _limited(b, "rate_max", 1, now=2 * 10**9),
    "TOO_MANY_OPEN": lambda b: _limited(b, "open_max", 2),
}


@pytest.mark.parametrize("name", AT_THE_LIMIT)
def test_what_just_reaches_a_limit_passes(name):
    assert AT_THE_LIMIT[name](Bench()) == "NONE"


def test_an_operational_halt_of_the_venue_is_a_halt():
    bench = Bench()
    bench.book[5].state = lib.BOOK_SEEN | lib.BOOK_STOPPED
    assert bench.ask() == "INSTRUMENT_HALTED"
    bench.book[5].state = lib.BOOK_SEEN
    assert bench.ask() == "NONE"


def test_reject_names_docs_and_table_cover_the_enum():
    assert list(REJECTS) == list(range(lib.REJECT_END))
    assert [reject_name(code) for code in REJECTS] == list(REJECTS.values())
    assert all(reject_doc(code) for code in REJECTS)
    assert (reject_name(-1), reject_doc(lib.REJECT_END)) == ("-1", "")
    assert len(reject_table().splitlines()) == 2 + len(REJECTS)


def test_rejects_are_the_orders_with_their_reason():
    bench = Bench()
    orders = events(GOOD, GOOD | {"order_id": 2, "size": 0}, CANCEL, CANCEL | {"order_id": 9},
                    GOOD | {"kind": KINDS["ACK"], "order_id": 4})  # fmt: skip
    approved, rejects = bench.risk.pass_orders(orders, now=77)
    assert approved[0] == orders[0]
    assert approved[1][["kind", "order_id", "instrument_id", "side"]].item() == (
        KINDS["ORDER_CANCEL"], 1, 5, BID,
    ), "risk tells the gateway where the order is"  # fmt: skip
    assert rejects[["kind", "order_id", "aux", "ts_recv"]].tolist() == [
        (KINDS["REJECT"], 2, lib.REJECT_SIZE_ZERO, 77),
        (KINDS["CANCEL_REJECT"], 9, lib.REJECT_UNKNOWN_ORDER, 77),
        (KINDS["REJECT"], 4, lib.REJECT_UNKNOWN_ORDER, 77),
    ]


def test_nothing_passes_before_limits_are_set():
    out = ffi.new("struct risk **")
    assert lib.risk_create(1, 8, out) == 0
    order = ffi.from_buffer("struct event[]", events(GOOD).view(np.uint8))
    assert lib.risk_check(out[0], order, 0) == lib.REJECT_INSTRUMENT_UNKNOWN
    lib.risk_limits(out[0])[5].order_size_max = 1
    assert lib.risk_check(out[0], order, 0) == lib.REJECT_SIZE_MAX
    lib.risk_destroy(out[0])
    for feeds, orders_max in [(0, 1), (257, 1), (1, 0), (1, 2**31)]:
        with pytest.raises(CoreError, match="EINVAL"):
            Risk(feeds=feeds, orders_max=orders_max)


def test_cancels_pass_with_the_kill_switch_on_until_the_order_is_gone():
    bench = Bench()
    assert bench.ask() == "NONE"
    bench.risk.kill()
    assert bench.ask(order_id=2) == "KILL_SWITCH"
    assert bench.ask(**CANCEL) == "NONE"
    assert bench.ask(**CANCEL) == "NONE", "until its outcome is known"
    bench.report("CANCELED", size=100)
    assert bench.ask(**CANCEL) == "UNKNOWN_ORDER"
    bench.risk.kill(on=False)
    assert bench.ask(order_id=2) == "NONE"


def test_a_silent_venue_leaves_orders_in_exposure():
    bench = Bench()
    bench.risk.limits["position_max"][5] = 150
    assert bench.ask() == "NONE"
    assert bench.ask(order_id=2, now=2**63) == "POSITION_MAX"
    bench.report("ACK", sequence=1)
    assert bench.ask(order_id=2) == "POSITION_MAX"
    assert bench.ask(order_id=3, side=ASK) == "NONE", "sells weigh on their own side"
    bench.report("CANCELED", sequence=2)
    assert bench.ask(order_id=2) == "NONE"


def test_reports_are_applied_once_and_the_venues_word_moves_the_position():
    bench = Bench()
    bench.ask()
    fill = {"size": 60, "price": 10**10, "aux": 40, "sequence": 3}
    bench.report("FILL", **fill)
    bench.report("FILL", **fill)
    assert bench.risk.positions[5] == 60
    bench.report("CANCELED", size=40, sequence=4)
    bench.report("FILL", size=15, price=10**10, sequence=5)
    assert bench.risk.positions[5] == 75, "filled before the cancel got there"
    bench.report("FILL", order_id=99, size=1)
    stats = bench.risk.stats()
    assert (stats["reports"], stats["reports_duplicate"]) == (3, 1)
    assert (stats["reports_unknown"], stats["reports_beyond"]) == (1, 1)


@pytest.mark.parametrize(("side", "sign"), [(BID, 1), (ASK, -1)])
def test_a_position_stops_at_the_end_of_its_range(side, sign):
    bench, end = Bench(), 2**63 - 1
    assert bench.ask(side=side) == "NONE"
    bench.risk.positions[5] = sign * (end - 5)
    bench.report("FILL", size=100, price=10**10)
    assert bench.risk.positions[5] == (end if sign > 0 else -end - 1)


def test_a_reject_of_a_duplicate_does_not_end_the_order_that_has_the_id():
    bench = Bench()
    _, rejects = bench.risk.pass_orders(events(GOOD, GOOD), 0)
    bench.risk.on_reports(rejects)
    assert bench.ask(**CANCEL) == "NONE"


def test_ids_are_remembered_until_the_table_needs_their_rows():
    bench = Bench(orders_max=2)
    assert [bench.ask(order_id=i) for i in (1, 2, 3)] == ["NONE", "NONE", "TOO_MANY_OPEN"]
    bench.report("CANCELED", order_id=2)
    bench.report("CANCELED", order_id=1)
    assert bench.ask(order_id=1) == "DUPLICATE"
    assert bench.ask(order_id=3) == "NONE", "takes the row of 2, which finished first"
    assert bench.ask(order_id=1) == "DUPLICATE"
    assert bench.ask(order_id=2) == "NONE"


def test_the_rate_is_an_exact_sliding_count():
    bench = Bench()
    bench.risk.account["rate_max"], bench.risk.account["rate_window_ns"] = 2, 100
    times = [0, 50, 99, 100, 149, 150, 10, 249, 250]
    answers = [bench.ask(now=now, order_id=i) == "NONE" for i, now in enumerate(times)]
    assert answers == [True, True, False, True, False, True, False, True, True]


def test_a_record_clock_that_goes_back_makes_no_room():
    bench = Bench()
    bench.risk.account["rate_max"], bench.risk.account["rate_window_ns"] = 3, 100
    answers = [bench.ask(now=now, order_id=now) for now in (10, 100, 50, 110, 200, 160)]
    assert answers == ["NONE"] * 5 + ["RATE_MAX"]


@pytest.mark.parametrize(
    ("bid", "ask", "side", "price", "passes"),
    [
        (UNDEF_PRICE, UNDEF_PRICE, BID, 1, False),
        (100_000, UNDEF_PRICE, BID, 110_000, True),
        (100_000, UNDEF_PRICE, BID, 110_001, False),
        (UNDEF_PRICE, 100_000, ASK, 90_000, True),
        (UNDEF_PRICE, 100_000, ASK, 89_999, False),
        (1, 100_000, BID, 110_000, True),
        (100_000, 1, BID, 2, False),
        (0, 0, BID, 1, False),
    ],
)
def test_the_collar_looks_at_the_other_side_first(bid, ask, side, price, passes):
    bench = Bench()
    bench.top(bid, ask)
    assert bench.ask(side=side, price=price) == ("NONE" if passes else "PRICE_COLLAR")
    bench.risk.limits["price_collar_bps"][5] = UNLIMITED
    assert bench.ask(side=side, price=price, order_id=2) == "NONE"


def test_without_a_book_only_a_collar_that_is_off_lets_orders_pass():
    with Risk() as risk:
        assert len(risk.pass_orders(events(GOOD), 0)[0]) == 0
        risk.limits["price_collar_bps"] = UNLIMITED
        assert len(risk.pass_orders(events(GOOD), 0)[0]) == 1


def test_views_outlive_the_risk_they_came_from():
    with Risk() as risk:
        limits, positions, account = risk.limits, risk.positions, risk.account
    with pytest.raises(PydpdkError, match="closed"):
        risk.pass_orders(events(GOOD), 0)
    del risk
    limits[65535] = (1, 2, 3, 4)
    positions[:] = 7
    account["kill"] = 1
    assert limits[65535].item() == (1, 2, 3, 4)


# Random histories against the model.

EXTREMES = [0, 1, 99, 100, 101, 2**31, 2**63 - 2, 2**63 - 1, -1, -(2**63)]
LIMIT = st.sampled_from(EXTREMES) | st.integers(0, 1_000)
PRICE = st.sampled_from([*EXTREMES, 100, 100, 100]) | st.integers(80, 120)
SIZE = st.sampled_from([0, 1, 2**31, 2**32 - 1]) | st.integers(1, 60)
IDS = st.integers(0, 9)
COUNT = st.sampled_from([UNLIMITED, UNLIMITED, 0, 1, 3, 10])


@st.composite
def order(draw):
    at = st.sampled_from([5, 5, 6, 65535, 65536, 2**32 - 1])
    return {"kind": draw(st.sampled_from([32, 32, 32, 32, 33, 40])), "instrument_id": draw(at),
            "side": draw(st.sampled_from([1, 1, 2, 2, 0, 255])), "price": draw(PRICE),
            "size": draw(SIZE), "order_id": draw(IDS)}  # fmt: skip


@st.composite
def report(draw):
    return {"kind": draw(st.sampled_from([40, 41, 41, 41, 42, 43, 44, 25])), "order_id": draw(IDS),
            "price": draw(PRICE), "size": draw(SIZE), "aux": draw(st.sampled_from([15, 15, 14])),
            "sequence": draw(st.integers(0, 12)), "instrument_id": 2**32 - 1}  # fmt: skip


LIMITS = st.fixed_dictionaries({
    "order_size_max": LIMIT | st.just(UNLIMITED),
    "order_value_max": LIMIT | st.just(UNLIMITED),
    "price_collar_bps": st.sampled_from([UNLIMITED, 0, 500, 10_000, *EXTREMES]),
    "position_max": LIMIT | st.just(UNLIMITED),
})  # fmt: skip
ACCOUNT = st.fixed_dictionaries({
    "gross_value_max": LIMIT | st.just(UNLIMITED) | st.integers(0, 30_000),
    "rate_max": COUNT | st.sampled_from(EXTREMES),
    "rate_window_ns": st.sampled_from([0, -1, 1, 10, 2**63 - 1]),
    "open_max": COUNT,
    "kill": st.sampled_from([0, 0, 0, 0, 1, -1]),
})  # fmt: skip
OPEN = {"order_size_max": UNLIMITED, "order_value_max": UNLIMITED, "price_collar_bps": UNLIMITED,
        "position_max": 10_000}  # fmt: skip
PLAIN = st.integers(80, 120)
ACCOUNT_OPEN = {"gross_value_max": UNLIMITED, "rate_max": UNLIMITED, "rate_window_ns": 10,
                "open_max": UNLIMITED, "kill": 0}  # fmt: skip
BOOK = st.builds(Book, PRICE, PRICE, st.sampled_from([0, 0, 1, 2, 4]), st.sampled_from([0, 0, 1]))
HOSTILE = st.lists(order() | order() | report() | st.integers(-5, 15), min_size=15, max_size=40)


class Twins:
    """A Risk and its model, told the same."""

    def __init__(self, limits, account, books, opening, orders_max):
        self.risk = Risk(orders_max=orders_max)
        self.limit(limits, account)
        self.risk.positions[5] = opening
        self.memory, self.gaps = ffi.new("struct book[65536]"), ffi.new("uint32_t *", 0)
        for at, book in (books or {}).items():
            fields = {"bid": book.bid, "ask": book.ask, "state": book.state, "epoch": book.epoch}
            self.memory[at] = fields
        if books is not None:
            self.risk.books(0, self.memory, self.gaps)
        self.model = Model(65536, orders_max, limits, account, books, position={5: opening})
        self.now = 1_000

    def limit(self, limits, account):
        for at in (5, 6, 9, 65535):
            row = limits.get(at, dict.fromkeys(OPEN, 0))
            self.risk.limits[at] = tuple(row[name] for name in self.risk.limits.dtype.names)
        for name, value in account.items():
            self.risk.account[name] = value

    def check(self, order):
        approved, rejects = self.risk.pass_orders(events(order), self.now)
        got = "NONE" if len(approved) else reject_name(int(rejects["aux"][0]))
        assert got == self.model.check(order, self.now), order

    def play(self, steps):
        for step in steps:
            if isinstance(step, int):
                self.now += step
            elif "sequence" not in step:
                self.check(step)
            else:
                self.risk.on_reports(events(step))
                self.model.report(step)
            for at, position in self.model.position.items():
                assert self.risk.positions[at] == position
        stats, model = self.risk.stats(), self.model
        assert (stats["reports"], stats["reports_unknown"]) == (model.applied, model.unknown)
        assert stats["reports_duplicate"] == model.duplicate
        assert stats["reports_beyond"] == model.beyond

    def gross(self):
        """The risk's gross value, found by what just passes with one more unit."""
        self.model.limits = {9: OPEN}
        self.model.account = ACCOUNT_OPEN | {"gross_value_max": self.model.gross()}
        self.limit(self.model.limits, self.model.account)
        self.check({"kind": 32, "instrument_id": 9, "side": BID, "price": 1, "size": 1,
                    "order_id": 2**64 - 1})  # fmt: skip
        self.model.account["gross_value_max"] += 1
        self.limit(self.model.limits, self.model.account)
        self.check({"kind": 32, "instrument_id": 9, "side": BID, "price": 1, "size": 1,
                    "order_id": 2**64 - 1})  # fmt: skip


@given(
    steps=HOSTILE,
    limits=st.fixed_dictionaries({5: st.just(OPEN) | LIMITS, 6: LIMITS, 65535: LIMITS}),
    account=ACCOUNT,
    books=st.none() | st.fixed_dictionaries({5: BOOK, 6: BOOK}),
    opening=st.sampled_from([0, 0, 0, 50, -50, 2**63 - 1, -(2**63)]),
    orders_max=st.integers(1, 6),
)
def test_risk_decides_as_the_model_does(steps, limits, account, books, opening, orders_max):
    Twins(limits, account, books, opening, orders_max).play(steps)


def test_ids_are_found_after_any_history_of_removals():
    rng = random.Random(7)
    twins = Twins({5: OPEN}, ACCOUNT_OPEN, None, 0, orders_max=8)
    order = {"kind": 32, "instrument_id": 5, "side": BID, "price": 1, "size": 1}
    for sequence in range(1, 3000, 2):
        report = {"kind": 42, "order_id": rng.randrange(40), "sequence": sequence}
        again = report | {"sequence": sequence + 1}
        twins.play([order | {"order_id": rng.randrange(40)}, report, again])


@st.composite
def trading(draw):
    """A plausible day: orders mostly pass and fill, positions grow, shrink and turn."""
    steps, sequence = [], 0
    for id_ in range(draw(st.integers(1, 30))):
        key = draw(st.sampled_from([id_, id_ * 16, max(0, id_ - 3)]))
        side, size = draw(st.sampled_from([BID, ASK])), draw(st.integers(1, 60))
        steps.append({"kind": 32, "instrument_id": 5, "side": side, "price": draw(PLAIN),
                      "size": size, "order_id": key})  # fmt: skip
        for _ in range(draw(st.integers(0, 3))):
            sequence += draw(st.sampled_from([0, 1, 1, 1]))
            steps.append({"kind": draw(st.sampled_from([41, 41, 41, 42])), "order_id": key,
                          "price": draw(PLAIN), "size": draw(st.integers(1, size)),
                          "sequence": sequence})  # fmt: skip
        steps.append(draw(st.integers(-3, 10)))
        steps.append({"kind": 33, "order_id": draw(st.integers(0, 30)) * 16})
    return steps


@given(
    steps=trading(),
    position_max=st.sampled_from([UNLIMITED, UNLIMITED, 150]),
    rate_max=st.sampled_from([UNLIMITED, UNLIMITED, 3]),
    gross_max=st.sampled_from([UNLIMITED, UNLIMITED, 15_000]),
    orders_max=st.sampled_from([4, 8, 64]),
)
def test_exposure_follows_a_day_as_the_model_does(
    steps, position_max, rate_max, gross_max, orders_max
):
    account = ACCOUNT_OPEN | {"rate_max": rate_max, "gross_value_max": gross_max}
    twins = Twins({5: OPEN | {"position_max": position_max}}, account, None, 0, orders_max)
    twins.play(steps)
    twins.gross()


# Limits from TOML.


def config(tmp_path, text):
    path = tmp_path / "limits.toml"
    path.write_text(text)
    return load_config(path)


def test_limits_come_exactly_from_toml(tmp_path):
    read = config(
        tmp_path,
        """
        [account]
        kill = true
        gross_value_max = "0.000000001"
        rate_window_ms = 20
        open_max = "unlimited"
        [default]
        order_value_max = 9223372036.854775806
        [instrument.ZVZZT]
        position_max = 0
        [instrument."BRK.A"]
        order_value_max = 12
        """,
    )
    assert read.account.gross_value_max == 1
    assert (read.account.rate_window_ns, read.account.open_max) == (20_000_000, UNLIMITED)
    assert read.account.rate_max == DEFAULT_ACCOUNT.rate_max
    assert read.default.order_value_max == 2**63 - 2
    assert read.instruments["ZVZZT"].order_value_max == 2**63 - 2
    assert read.instruments["BRK.A"].order_value_max == 12 * 10**9
    directory = {"kind": KINDS["INSTRUMENT"], "instrument_id": 9,
                 "order_id": int.from_bytes(b"ZVZZT   ", "little")}  # fmt: skip
    with Risk(read) as risk:
        risk.on_market(events(GOOD, directory))
        assert risk.limits["position_max"][[8, 9]].tolist() == [DEFAULT.position_max, 0]
        assert risk.account["kill"] == 1


def test_limits_go_with_the_symbol_when_an_id_becomes_another(tmp_path):
    path = tmp_path / "limits.toml"
    path.write_text("[default]\nposition_max = 7\n[instrument.AAA]\nposition_max = 999\n")
    with Risk(load_config(path)) as risk:
        risk.limits["position_max"][2] = 55
        for instrument, symbol in [(1, "AAA"), (2, "BBB"), (1, "AAA     ")]:
            risk.name(instrument, symbol)
        assert risk.limits["position_max"][[1, 2]].tolist() == [999, 55], "set by hand"
        risk.name(1, "BBB")
        risk.name(2, "AAA")
        assert risk.limits["position_max"][[1, 2]].tolist() == [7, 999]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[account]\nkill = maybe", "not TOML: .*line 2"),
        ("[acount]", r"line 1: acount: unknown key \(did you mean 'account'\?\); known: "),
        ("account = 1", "line 1: account: 1: must be a table"),
        ("[account]\nkil = true", r"line 2: account.kil: unknown key \(did you mean 'kill'\?\)"),
        ("[account]\nkill = 1", "account.kill: 1: must be true or false"),
        ("[account]\nrate_max = true", "account.rate_max: True: must be an integer"),
        ("[account]\nrate_max = 1.5", "must be an integer"),
        ("[account]\nrate_max = '5'", "must be an integer"),
        ("[account]\nrate_max = -1", "must not be negative"),
        ("[account]\nrate_window_ms = 0", "at least 1"),
        ("[account]\nrate_window_ms = 10_000_000_000_000", "reach 2"),
        ("[account]\nopen_max = 9223372036854775807", 'write "unlimited"'),
        ("[account]\ngross_value_max = nan", "finite number"),
        ("[account]\ngross_value_max = inf", "finite number"),
        ("[account]\ngross_value_max = 1e99999999", "finite number"),
        ("[account]\ngross_value_max = 'ten'", "must be a number"),
        ("[account]\ngross_value_max = [1]", "must be a number"),
        ("[account]\ngross_value_max = 0.0000000001", "more than 9 decimals"),
        ("[account]\ngross_value_max = 1.0000000000000000000000000000000001", "than 9 decimals"),
        ("[account]\ngross_value_max = 1e-99999999", "more than 9 decimals"),
        ("[account]\ngross_value_max = '-0.01'", "must not be negative"),
        ("[default]\norder_value_max = 9223372036.854775807", 'write "unlimited"'),
        ("[default]\nprice = 1", "default.price: unknown key; known: order_size_max"),
        ("[instrument]\nA = 1", "line 2: instrument.A: 1: must be a table"),
        ("[instrument.TOOLONGSYM]", "1 to 8 ASCII"),
        ("[instrument.A]\nkill = true", "line 2: instrument.A.kill: unknown key"),
    ],
)
def test_a_wrong_limits_file_is_refused_by_file_and_key(tmp_path, text, says):
    with pytest.raises(UsageError, match=says) as caught:
        config(tmp_path, text)
    assert "limits.toml" in str(caught.value)


def test_a_missing_limits_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read .*none\.toml: No such file"):
        load_config(tmp_path / "none.toml")
