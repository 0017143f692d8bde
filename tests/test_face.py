"""What ``import pydpdk`` gives: names that come late and have types, and replays in one call."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pydpdk
from pydpdk import ASK, BID, EVENT, KINDS, DataError, Feed, StageError, UsageError
from pydpdk.core.hist import POINTS
from pydpdk.synth.gen import generate
from pydpdk.synth.two_lines import LINE_A, LINE_B
from pydpdk.tape.pcapfile import CaptureWriter
from testbed.frames import datagram
from tests.command import COMMAND, ROOT, well
from tests.recount import books, delivered

MAKER = f"{ROOT}/apps/market_maker.py:MarketMaker"
ARGUMENTS = {"instrument": 1, "size": 50}


@pytest.fixture(scope="module")
def day(tmp_path_factory):
    path = tmp_path_factory.mktemp("face") / "day.pcap"
    generate(path, messages=20_000, instruments=20, loss=0.05, dup=0.02, reorder=0.02, seed=1)
    return path


class Crossing(pydpdk.Stage):
    """Takes the other side of every tenth quote."""

    def __init__(self, size: int = 100):
        self.size, self.seen = size, 0

    def on_quote(self, quote, orders):
        self.seen += 1
        if self.seen % 10 == 0 and pydpdk.UNDEF_PRICE not in (quote.bid, quote.ask):
            trade, price = ((orders.buy, quote.ask), (orders.sell, quote.bid))[self.seen % 20 == 0]
            trade(quote.instrument_id, price, self.size, ioc=True)


@pytest.fixture(scope="module")
def traded(day):
    return pydpdk.replay(day, "itch50", Crossing, {"size": 30}, keep_events=True)


# --- the import ---


def imported(code: str, *flags: str) -> set[str]:
    """Modules that a new process has imported at the end of ``code``."""
    tell = "import sys; print('\\n'.join(sys.modules), file=sys.stderr)"
    code = f"import sys; sys.path[:0] = {[str(ROOT), *sys.path]}\n{code}\n{tell}"
    command = [sys.executable, *flags, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def light(code: str) -> set[str]:
    """The same without site: an editable install's loader imports much before ``code``."""
    return imported(code, "-S")


def ours(modules: set[str]) -> set[str]:
    return {name for name in modules if name.split(".")[0] == "pydpdk"}


HEAVY = {"numpy", "cffi", "_cffi_backend", "pydpdk._core", "pandas", "polars", "msgspec",
         "importlib.metadata"}  # fmt: skip


def test_the_import_imports_nothing():
    modules = light("import pydpdk; dir(pydpdk)")
    assert ours(modules) == {"pydpdk"}
    assert not modules & {*HEAVY, "click", "rich", "inspect", "dataclasses"}


def test_the_help_imports_no_command():
    code = "from pydpdk.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    modules = light(code)
    assert ours(modules) == {"pydpdk", "pydpdk.cli", "pydpdk.errors"}
    assert not modules & {*HEAVY, "rich"}


def test_a_strategy_needs_only_what_a_strategy_needs():
    wanted = ours(imported("from pydpdk import Stage, Orders, KINDS, UNDEF_PRICE"))
    rooms = {name.split(".")[1] for name in wanted if "." in name}
    assert rooms <= {"_core", "core", "errors", "stage"}


def test_every_name_is_what_its_module_has():
    for name in pydpdk.__all__:
        thing = getattr(pydpdk, name)
        if name != "__version__":
            assert thing is getattr(importlib.import_module(pydpdk._MODULES[name]), name)
    assert dir(pydpdk) == pydpdk.__all__
    assert pydpdk.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        pydpdk.nothing  # noqa: B018


def test_no_name_is_that_of_a_module():
    """Importing pydpdk.x would put the module in the place of a name x."""
    inside = {path.stem for path in (ROOT / "pydpdk").iterdir()}
    assert not inside & set(pydpdk.__all__)


def test_the_types_are_those_of_the_names():
    tree = ast.parse((ROOT / "pydpdk" / "__init__.pyi").read_text())
    told = {a.asname: f"{n.module}.{a.name}" for n in tree.body if isinstance(n, ast.ImportFrom)
            for a in n.names}  # fmt: skip
    assert told == {name: f"{module}.{name}" for name, module in pydpdk._MODULES.items()}
    assert (ROOT / "pydpdk" / "py.typed").exists()


PROGRAM = """
import pydpdk
from pydpdk import Event, Orders, Quote, Stage

class Mine(Stage):
    def on_quote(self, quote: Quote, orders: Orders) -> None:
        reveal_type(orders.buy(quote.instrument_id, quote.ask, 1))
    def on_fill(self, fill: Event, orders: Orders) -> None: ...

result = pydpdk.replay(["a.pcap", "b.pcap"], "itch50", Mine, limits=pydpdk.RiskConfig())
reveal_type(result)
reveal_type(result.times["stage"].percentile(99))
pydpdk.replay("a.pcap", batch="x")
pydpdk.run(1)
"""


@pytest.mark.slow
def test_mypy_sees_the_types_of_a_program(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache",
         "--config-file", os.devnull, "--follow-imports", "silent", "program.py"],
        cwd=tmp_path, env=os.environ | {"MYPYPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    told = [line for line in done.stdout.splitlines() if line.startswith("program.py")]
    revealed = [line.split('"')[1] for line in told if "Revealed type" in line]
    assert revealed == ["int", "pydpdk.lockstep.result.Result", "int"], done.stdout
    errors = [line for line in told if "error:" in line]
    assert len(errors) == 2, done.stdout
    assert 'Unexpected keyword argument "batch"' in errors[0]
    assert 'Argument 1 to "run" has incompatible type "int"' in errors[1]


# --- a replay and what it gives back ---


def test_the_accounts_are_those_of_the_command(day):
    result = pydpdk.replay(day, "itch50", MAKER, ARGUMENTS)
    params = [word for name, n in ARGUMENTS.items() for word in ("--param", f"{name}={n}")]
    command = ("replay", day, "--feed", "itch50", "--strategy", MAKER, *params, "--json")
    printed = well(*command).json
    told = json.loads(json.dumps(result.accounts))
    assert list(told) == list(printed)
    assert told.pop("latency_ns").keys() == printed.pop("latency_ns").keys()
    assert told == printed
    assert told["orders"]["filled"] > 10
    assert told["unexplained"] == 0


def test_the_same_input_gives_the_same_result(day, traded):
    again = pydpdk.replay(str(day), strategy=Crossing(30), keep_events=True, burst=3)
    for table in ("orders", "reports", "fills", "positions", "profit", "books", "events"):
        one, other = getattr(traded, table), getattr(again, table)
        assert len(one) > 0, table
        assert one.tobytes() == other.tobytes(), table
    assert again.symbols == traded.symbols
    assert again.accounts["books"] == traded.accounts["books"]


def test_orders_and_reports_are_what_the_accounts_count(traded):
    counts = traded.accounts["orders"]
    assert traded.orders.dtype == traded.reports.dtype == traded.events.dtype == EVENT
    assert np.count_nonzero(traded.orders["kind"] == KINDS["ORDER_NEW"]) == counts["sent"]
    for kind, name in (("ACK", "acked"), ("FILL", "filled"), ("CANCELED", "canceled")):
        assert np.count_nonzero(traded.reports["kind"] == KINDS[kind]) == counts[name]
    rejects = np.count_nonzero(traded.reports["kind"] == KINDS["REJECT"])
    assert rejects == sum(counts["rejected"].values())
    assert len(traded.fills) == counts["filled"] > 50
    assert len(traded.events) == traded.accounts["events"]["written"]
    assert (traded.orders["size"] == 30).all()


def test_positions_and_profit_are_those_of_the_fills(traded):
    position, cash = {}, {}
    for fill in traded.fills:
        i, signed = int(fill["instrument_id"]), int(fill["size"])
        signed = signed if fill["side"] == BID else -signed
        position[i] = position.get(i, 0) + signed
        cash[i] = cash.get(i, 0) - signed * int(fill["price"])
    quotes = traded.events[traded.events["kind"] == KINDS["QUOTE"]]
    both = quotes[(quotes["bid"] != pydpdk.UNDEF_PRICE) & (quotes["ask"] != pydpdk.UNDEF_PRICE)]
    marks = {int(q["instrument_id"]): (int(q["bid"]) + int(q["ask"])) // 2 for q in both}
    assert len(position) > 10
    rows = {int(row["instrument_id"]): row for row in traded.positions}
    assert rows.keys() == position.keys()
    for i, row in rows.items():
        assert (row["position"], row["cash_1e9"]) == (position[i], cash[i])
        assert row["mark"] == marks[i]
        assert row["profit_1e9"] == cash[i] + position[i] * marks[i]
        assert row["symbol"].decode().strip() == traded.symbols[i]
    total = sum(cash[i] + position[i] * marks[i] for i in position)
    assert total == traded.accounts["orders"]["profit_1e9"] == traded.positions["profit_1e9"].sum()
    assert traded.profit[-1]["profit_1e9"] == total
    assert (np.diff(traded.profit["ts_recv"].astype(np.int64)) >= 0).all()
    assert (np.diff(traded.profit["profit_1e9"]) != 0).all(), "a row for each change"


class Once(pydpdk.Stage):
    """One share, bought and held."""

    def __init__(self):
        self.bought = False

    def on_quote(self, quote, orders):
        if not self.bought and pydpdk.UNDEF_PRICE not in (quote.bid, quote.ask):
            self.bought = True
            orders.buy(quote.instrument_id, quote.ask, 1, ioc=True)


def test_the_profit_of_a_share_follows_its_middle(day):
    result = pydpdk.replay(day, strategy=Once(), keep_events=True, batch_us=1)
    (fill,) = result.fills
    later = result.events[result.events["ts_recv"] > fill["ts_recv"]]
    mine = later[(later["kind"] == KINDS["QUOTE"])
                 & (later["instrument_id"] == fill["instrument_id"])]  # fmt: skip
    last = {}
    for quote in mine:  # the last of a stamp counts: it is one batch
        if pydpdk.UNDEF_PRICE not in (quote["bid"], quote["ask"]):
            middle = (int(quote["bid"]) + int(quote["ask"])) // 2
            last[int(quote["ts_recv"])] = middle - int(fill["price"])
    course = result.profit[result.profit["ts_recv"] > fill["ts_recv"]]
    assert len(course) > 20
    told = dict(zip(*(course[name].tolist() for name in ("ts_recv", "profit_1e9")), strict=True))
    changed = [(ts, profit) for ts, profit in last.items() if ts in told]
    assert len(changed) > 20
    assert all(told[ts] == profit for ts, profit in changed)


def test_a_fill_that_comes_at_the_end_counts(day):
    (fill,) = pydpdk.replay(day, strategy=Once()).fills
    result = pydpdk.replay(day, strategy=Once(), until_ns=int(fill["ts_recv"]))
    (row,) = result.positions
    assert result.fills.tolist() == [fill.tolist()]
    assert result.profit["profit_1e9"].tolist() == [row["profit_1e9"]]
    assert row["profit_1e9"] == row["mark"] - fill["price"] < 0


def test_books_are_those_of_a_plain_recount(tmp_path):
    path = tmp_path / "clean.pcap"
    generate(path, messages=8000, instruments=10, seed=2)
    result, plain = pydpdk.replay(path), books(delivered(path))
    assert len(result.books) > 100
    for locate, raw in plain.symbols.items():
        symbol = raw.decode().strip()
        for side, rows in zip((BID, ASK), result.book(symbol), strict=True):
            found = rows[["price", "size", "orders"]].tolist()
            assert found == plain.levels(locate, side), symbol
            assert rows["depth"].tolist() == list(range(len(rows)))
            assert set(rows["instrument_id"].tolist()) <= {locate}
    with pytest.raises(UsageError, match="no instrument 'NONE'"):
        result.book("NONE")


def test_arrays_and_times_outlive_what_was_closed(traded):
    assert traded.orders.tobytes() == traded.orders.copy().tobytes()
    for name, hist in traded.times.items():
        points = traded.accounts["latency_ns"][name]
        assert points["count"] == hist.count > 0
        assert points["p99"] == hist.percentile(POINTS["p99"])
    assert repr(traded).startswith("<Result of ")
    assert f"{len(traded.fills):,} fills" in repr(traded)


def test_numbers_beyond_64_bits_stay_exact():
    from pydpdk.lockstep.result import PROFIT, exact

    assert exact([], PROFIT).dtype == PROFIT
    assert exact([(1, -5)], PROFIT).dtype == PROFIT
    rows = exact([(1, -5), (2, 2**70 + 1)], PROFIT)
    assert rows["profit_1e9"].tolist() == [-5, 2**70 + 1]


def test_feeds_are_found_or_named(day, traded):
    lines = ",".join(f"{line.group}:{line.port}" for line in (LINE_A, LINE_B))
    whole = traded.accounts["sequence"]
    for feeds in (None, "itch50", ["itch50"], f"itch50@{lines}", Feed("itch50")):
        assert pydpdk.replay(day, feeds).accounts["sequence"] == whole
    seen: list[int] = []
    alone = pydpdk.replay(
        day, Feed.parse(f"itch50@{lines}"), on_events=lambda e: seen.append(len(e))
    )
    assert alone.accounts["sequence"] == whole
    assert sum(seen) == alone.accounts["events"]["written"]
    assert len(alone.events) == len(alone.orders) == len(alone.profit) == 0


def test_limits_stop_orders(day, tmp_path):
    path = tmp_path / "risk.toml"
    path.write_text("[default]\norder_size_max = 10\n")
    for limits in (path, str(path), pydpdk.RiskConfig(default=pydpdk.Limits(order_size_max=10))):
        orders = pydpdk.replay(day, strategy=Crossing(), limits=limits).accounts["orders"]
        assert orders["rejected"]["SIZE_MAX"] > 50
        assert (orders["acked"], orders["filled"]) == (0, 0)


# --- frames of others ---


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_tables_become_frames(traded, library):
    module = pytest.importorskip(library)
    convert = getattr(traded, f"to_{library}")
    for table in ("orders", "reports", "fills", "positions", "profit", "books", "events"):
        frame, rows = convert(table), getattr(traded, table)
        assert isinstance(frame, module.DataFrame)
        assert len(frame) == len(rows)
        for name in frame.columns:
            if name != "symbol":
                assert frame[name].to_numpy().tolist() == rows[name].tolist(), name
    fills = convert()
    ids = traded.fills["instrument_id"].tolist()
    assert fills["symbol"].to_list() == [traded.symbols[i] for i in ids]
    with pytest.raises(UsageError, match="no table 'bids': one of orders, reports"):
        convert("bids")


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_missing_library_is_named(traded, library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(pydpdk.HostError, match=f"pip install {library}"):
        getattr(traded, f"to_{library}")()


# --- what is wrong ---


class Failing(pydpdk.Stage):
    def on_execute(self, execute, orders):
        raise RuntimeError("enough")


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"sources": "nosuch.pcap"}, DataError, "nosuch.pcap: no such file"),
        ({"sources": []}, UsageError, "no source"),
        ({"sources": "ring:a=1", "feeds": None}, UsageError, "name its feeds"),
        ({"sources": f"{ROOT}/README.md", "feeds": None}, DataError, "README.md"),
        ({"feeds": "itch51"}, UsageError, "'itch51' is not one of"),
        ({"feeds": "deep10"}, DataError, "no deep10 stream"),
        ({"feeds": "itch50@1.2.3.4:5"}, DataError, "nothing for itch50@1.2.3.4:5"),
        ({"strategy": "nosuch.py:Mine"}, UsageError, "nosuch.py"),
        ({"strategy": Failing}, StageError, "RuntimeError .* enough"),
        ({"strategy": Failing(), "params": {"a": 1}}, UsageError, "params"),
        ({"strategy": MAKER, "params": {"nosuch": 1}}, UsageError, "nosuch"),
        ({"strategy": Crossing, "params": ["size=x"]}, UsageError, "Crossing: size='x'"),
        ({"limits": "nosuch.toml"}, UsageError, "nosuch.toml"),
        ({"checksum": "x"}, UsageError, "checksum policy 'x'"),
        ({"burst": 0}, UsageError, "burst 0"),
    ],
)
def test_errors_say_what_is_wrong_and_leave_nothing_open(day, changes, error, words):
    pydpdk.replay(day)  # all that a process opens once
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(error, match=words):
        pydpdk.replay(**{"sources": day, "feeds": "itch50", **changes})
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_capture_of_something_else_says_what_it_has(tmp_path):
    path = tmp_path / "other.pcap"
    with CaptureWriter(path) as capture:
        capture.write(10**18, datagram(b"hello", dst="239.1.2.3", dst_port=77))
    with pytest.raises(DataError, match=r"no feed is known .* it has: 239.1.2.3:77 \(unknown\)"):
        pydpdk.replay(path)


def test_a_source_that_is_missing_closes_those_before_it(day):
    lines = Feed.parse(f"itch50@{LINE_A.group}:{LINE_A.port}")
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(UsageError, match="nosuch"):
        pydpdk.replay([day, "nosuch.pcap"], lines)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_broken_capture_is_an_error_with_its_whole_part(day, tmp_path):
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(day.read_bytes()[:100_001])
    with pytest.raises(pydpdk.BrokenSourceError, match=r"cut.pcap: .* at offset \d+") as caught:
        pydpdk.replay(cut, strategy=Crossing)
    result = caught.value.result
    assert isinstance(caught.value, DataError)
    assert result.problems == [str(caught.value)]
    assert result.accounts["frames"]["received"] > 0
    assert result.accounts["unexplained"] == 0


# --- live ---


@pytest.mark.slow
def test_run_is_the_live_run(day, tmp_path):
    lines = json.dumps([f"{line.group}:{line.port}" for line in (LINE_A, LINE_B)])
    config: Path = tmp_path / "run.toml"
    config.write_text(
        f'name = "face-{os.getpid()}"\n[sources]\na = "pcap:{day}"\n'
        f'[[feeds]]\nname = "itch"\nprotocol = "itch50"\nlines = {lines}\n'
        f'[[stages]]\nstrategy = "{ROOT}/apps/momentum.py:Momentum"\npolicy = "block"\n'
    )
    record = pydpdk.run(config)
    assert (record["unexplained"], record["interrupted"]) == (0, False)
    (loop,) = record["engine"]["loops"]
    replayed = pydpdk.replay(day, "itch50").accounts
    assert loop["books"] == replayed["books"]
    assert loop["messages"] == replayed["messages"]
    assert record["stages"][0]["orders"]["sent"] > 0
    with pytest.raises(UsageError, match=r"nosuch\.toml"):
        pydpdk.run("nosuch.toml")


def test_the_version_is_the_commands():
    done = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, check=True)
    assert pydpdk.__version__ in done.stdout
