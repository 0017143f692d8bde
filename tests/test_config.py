"""A run's configuration: what is read, and that what is wrong is refused with its line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example as case
from hypothesis import given, settings
from hypothesis import strategies as st

from pydpdk.core.toml import line_of
from pydpdk.errors import Exit, UsageError
from pydpdk.process import config
from pydpdk.process.config import Config, example, load
from pydpdk.trade.limits import CURRENCY

ROOT = Path(__file__).parent.parent

SMALL = """\
name = "nasdaq"

[sources]
a = "af_packet:eth1"
b = "af_packet:eth2"

[[feeds]]
name = "itch"
protocol = "itch50"
lines = ["233.54.12.111:26477", "233.49.196.111:26477"]

[[stages]]
strategy = "apps/spread.py:Spread"
"""


@pytest.fixture(autouse=True)
def _four_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "cpus", lambda: {0, 1, 2, 3})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "apps", tmp_path / "apps", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def read(folder: Path, text: str) -> Config:
    (folder / "run.toml").write_text(text)
    return load(folder / "run.toml")


def refused(folder: Path, text: str) -> str:
    with pytest.raises(UsageError) as error:
        read(folder, text)
    assert error.value.exit == Exit.USAGE
    return str(error.value)


def test_the_example_is_whole(folder: Path) -> None:
    found = read(folder, example())
    assert found.name == "nasdaq"
    assert [s.name for s in found.sources] == ["a", "b"]
    (stage,) = found.stages
    assert stage.strategy == f"{folder}/apps/spread.py:Spread"
    assert stage.params == ("size=100",)
    assert stage.limits.account.rate_max == 500
    assert stage.limits.default.order_size_max == 500
    assert stage.limits.default.order_value_max == 1_000_000 * CURRENCY
    assert (found.feeds[0].core, stage.core, stage.cpu) == (0, 0, 1)


def test_the_example_has_every_key_and_shows_the_defaults(folder: Path) -> None:
    shown = tomllib.loads(example())
    assert {*shown} == {*config.RunTable.__struct_fields__}
    assert {*shown["eal"]} == {*config.EalTable.__struct_fields__}
    assert {*shown["sources"]["a"]} == {*config.SourceTable.__struct_fields__}
    assert {*shown["feeds"][0]} == {*config.FeedTable.__struct_fields__}
    assert {*shown["stages"][0]} == {*config.StageTable.__struct_fields__}
    small, whole = read(folder, SMALL), read(folder, example())
    feed = whole.feeds[0].feed
    assert small.feeds[0].feed == feed
    assert small.feeds[0].feed.name == feed.name == "itch"
    assert small.eal == whole.eal
    assert small.sources[1] == whole.sources[1]
    for name in ("on_fallback", "restart", "restarts_max", "restart_window_s", "ring_slots"):
        assert getattr(small, name) == getattr(whole, name)
    assert (small.stages[0].policy, small.stages[0].on_error) == ("skip", "freeze")


def test_loops_are_cores_and_queues_are_loops(folder: Path) -> None:
    def feed(name: str, port: int, more: str) -> str:
        return f'[[feeds]]\nname="{name}"\nprotocol="itch50"\nlines=["233.0.0.1:{port}"]\n{more}\n'

    text = SMALL.partition("[[feeds]]")[0] + "".join(
        [
            feed("one", 1, "core = 2"),
            feed("two", 2, 'sources = ["a"]'),
            feed("three", 3, 'core = 3\nsources = ["b"]'),
            feed("four", 4, 'core = 2\nsources = ["a"]'),
            feed("five", 5, 'sources = ["a"]'),
            '[[stages]]\nstrategy = "apps/spread.py:Spread"\ncore = 3\n',
            '[[stages]]\nstrategy = "apps/spread.py:Spread"\n',
        ]
    )
    found = read(folder, text)
    loops = [
        (loop.core, [f.feed.name for f in loop.feeds], [s.name for s in loop.sources])
        for loop in found.loops()
    ]
    assert loops == [
        (2, ["one", "four"], ["a", "b"]),
        (None, ["two", "five"], ["a"]),
        (3, ["three"], ["b"]),
    ]
    assert (found.queues("a"), found.queues("b")) == (2, 2)
    assert [stage.core for stage in found.stages] == [3, 2]


def test_parameters_are_what_toml_has_but_dates_and_arrays(folder: Path) -> None:
    text = SMALL + "params = { size = 1, edge = 0.25, name = 'x', up = true }\n"
    (stage,) = read(folder, text).stages
    assert stage.params == ("size=1", "edge=0.25", "name=x", "up=True")
    assert "must be a table of names" in refused(folder, SMALL + "params = {d = 2020-01-01}\n")


def test_limits_may_stand_in_a_file_of_their_own(folder: Path) -> None:
    (folder / "limits.toml").write_text("[account]\nrate_max = 7\n")
    found = read(folder, SMALL + 'limits = "limits.toml"\n')
    assert found.stages[0].limits.account.rate_max == 7


def test_pci_devices_are_allowed_to_eal(folder: Path) -> None:
    text = SMALL.replace("af_packet:eth1", "pci:0000:3b:00.0")
    assert "[eal]" not in text
    assert "line 1: eal.hugepages: false: must be true for a pci: source" in refused(folder, text)
    found = read(folder, text + "[eal]\nhugepages = true\n")
    assert found.eal.pci == ("0000:3b:00.0",)


# What stands in the small file, what replaces it, the line blamed, and what is said.
BROKEN: list[tuple[str, str, int, str]] = [
    ('name = "nasdaq"', "", 1, "the key 'name' is missing"),
    ('"nasdaq"', '"Nasdaq"', 1, "name: 'Nasdaq': must be 1 to 32 of a-z, 0-9 and '-'"),
    ('"nasdaq"', '""', 1, "name: '': must be"),
    ('"nasdaq"', f'"{"n" * 33}"', 1, "must be 1 to 32"),
    ('"nasdaq"', "7", 1, "name: 7: must be"),
    ('name = "nasdaq"', 'nmae = "nasdaq"', 1, "nmae: unknown key (did you mean 'name'?)"),
    ("\n\n[sources]", '\non_fallback = "warm"\n[sources]', 2, "(did you mean 'warn'?)"),
    ("\n\n[sources]", '\nrestart = "sometimes"\n[sources]', 2, "must be always or never"),
    ("\n\n[sources]", "\nrestarts_max = -1\n[sources]", 2, "restarts_max: -1: must be an integer"),
    ("\n\n[sources]", "\nrestarts_max = true\n[sources]", 2, "restarts_max: True: must be an int"),
    ("\n\n[sources]", "\nrestart_window_s = 1.5\n[sources]", 2, "restart_window_s: 1.5: must be"),
    ("\n\n[sources]", "\nring_slots = 1000000\n[sources]", 2, "must be a power of two"),
    ("\n\n[sources]", "\nring_slots = 64\n[sources]", 2, "ring_slots: 64: must be"),
    ("\n\n[sources]", '\nring_slots = "1048576"\n[sources]', 2, "must be a power of two"),
    ("\n\n[sources]", "\nring_slots = 0\n[sources]", 2, "ring_slots: 0: must be"),
    ("\n\n[sources]", "\nrestarts_max = 1e999\n[sources]", 2, "1E+999: must be an integer from 0"),
    ("\n\n[sources]", "\nrestarts_max = nan\n[sources]", 2, "restarts_max: NaN: must be an int"),
    ("\n\n[sources]", f"\nrestarts_max = {10**40}\n[sources]", 2, "must be an integer from 0 to"),
    ("\n\n[sources]", "\neal = 5\n[sources]", 2, "eal: 5: must be a table"),
    ("\n\n[sources]", "\neal.memory_mb = 1\n[sources]", 2, "eal.memory_mb: 1: must be"),
    ("\n\n[sources]", '\neal.extra = ["--vdev=x"]\n[sources]', 2, "use a source"),
    ("\n\n[sources]", '\neal.extra = ["--nonsense"]\n[sources]', 2, "unknown EAL option"),
    ("\n\n[sources]", '\neal.extra = "--no-hpet"\n[sources]', 2, "must be an array of strings"),
    ("\n\n[sources]", '\neal.hugepages = "yes"\n[sources]', 2, "must be true or false"),
    ("\n\n[sources]", "\neal.hugepage = true\n[sources]", 2, "(did you mean 'hugepages'?)"),
    ("[sources]\n", "[source]\n", 3, "source: unknown key (did you mean 'sources'?)"),
    ("[sources]\n", "[[sources]]\n", 3, "must be a table of at least one source"),
    ('a = "af_packet:eth1"\nb = "af_packet:eth2"', "", 3, "0 sources: must be 1 to 8"),
    ("af_packet:eth1", "afpacket:eth1", 4, "sources.a.device: 'afpacket:eth1' is no source"),
    ('"af_packet:eth1"', "5", 4, "sources.a: 5: must be a table"),
    ('"af_packet:eth1"', "{ mtu = 1500 }", 4, "sources.a: the key 'device' is missing"),
    ('"af_packet:eth1"', '{ device = "af_packet:x", mtu = 10 }', 4, "sources.a.mtu: 10: must be"),
    ('"af_packet:eth1"', '{ device = "af_packet:x", mut = 10 }', 4, "(did you mean 'mtu'?)"),
    ('"af_packet:eth1"', '{ device = "tap:x", address = "10.0.0" }', 4, "must be an IPv4 address"),
    ('"af_packet:eth1"', '{ device = "tap:x", address = "233.0.0.1" }', 4, "a host can have"),
    ('"af_packet:eth1"', '{ device = "tap:x", flight_mb = -1 }', 4, "sources.a.flight_mb: -1"),
    ('"af_packet:eth1"', '{ device = "tap:x", rx_ring_mb = 0 }', 4, "sources.a.rx_ring_mb: 0"),
    ('b = "', 'B = "', 5, "sources.B: 'B': must be 1 to 32 of a-z"),
    ("af_packet:eth2", "af_packet:eth1", 5, "is the device of source a already"),
    ("[[feeds]]", "[feeds]", 7, "must be an array of tables: [[feeds]]"),
    ('name = "itch"', "", 7, "feeds[0]: the key 'name' is missing"),
    ('protocol = "itch50"', "", 7, "feeds[0]: the key 'protocol' is missing"),
    ('"itch50"', '"itch5"', 9, "'itch5' is not one of"),
    ('protocol = "', 'protcol = "', 9, "protcol: unknown key (did you mean 'protocol'?)"),
    ("111:26477", "111:99999", 10, "port must be 1..65535"),
    ('"233.54.12.111:26477"', '"233.54.12.999:1"', 10, "expected ADDRESS:PORT"),
    ('"233.54.12.111:26477"', "26477", 10, "feeds[0].lines[0]: 26477: must be a string"),
    ('["233', '["1.1.1.1:1", "233', 10, "must be an array of one or two lines, A and B"),
    ("233.54.12", "233.49.196", 10, "feeds[0].lines[1]: 233.49.196.111:26477 is a line of feed"),
    ("\n\n[[stages]]", "\ncore = 64\n[[stages]]", 11, "must be a CPU of this host: 0, 1, 2, 3"),
    ("\n\n[[stages]]", "\ncore = [1]\n[[stages]]", 11, "feeds[0].core: [1]: must be a CPU"),
    ("\n\n[[stages]]", '\nsources = ["a", "c"]\n[[stages]]', 11, "'c' is no source: a or b"),
    ("\n\n[[stages]]", '\nsources = ["a",\n"a"]\n[[stages]]', 12, "'a' is named twice"),
    ("\n\n[[stages]]", "\nsources = []\n[[stages]]", 11, "must name a source"),
    ("\n\n[[stages]]", "\nwindow = 1000\n[[stages]]", 11, "window: 1000: must be a power of two"),
    ("\n\n[[stages]]", "\ngap_timeout_ms = 1e3\n[[stages]]", 11, "gap_timeout_ms: 1E+3: must be"),
    ("\n\n[[stages]]", "\nstale_line_ms = 0\n[[stages]]", 11, "stale_line_ms: 0: must be"),
    ("\n\n[[stages]]", "\norders_max = 0\n[[stages]]", 11, "orders_max: 0: must be"),
    ("\n\n[[stages]]", "\ncompare = 1\n[[stages]]", 11, "compare: 1: must be true or false"),
    ("\n\n[[stages]]", '\nallowed = ["10.0.0"]\n[[stages]]', 11, "feeds[0].allowed"),
    ("[[stages]]", "[[feeds]]\nname='itch'\nprotocol='itch50'\nlines=['1.1.1.1:1']\n[[stages]]", 13,
     "feeds[1].name: 'itch' is the name of a feed already"),
    ("[[stages]]", "[[feeds]]\nname='x'\nprotocol='itch50'\nlines=[\n'233.54.12.111:26477']\n"
     "[[stages]]", 16, "feeds[1].lines[0]: 233.54.12.111:26477 is a line of feed itch already"),
    ("spread.py:Spread", "spread.py", 13, "must be file.py:Class"),
    ("spread.py:Spread", "sread.py:Spread", 13, "No such file"),
    ("spread.py:Spread", "spread.py:Spred", 13, "(did you mean 'Spread'?)"),
    ("apps/spread.py:Spread", "bad.py:Spread", 13, "bad.py, line 2"),
    ('Spread"\n', 'Spread"\npolicy = "wait"\n', 14, "must be block or skip"),
    ('Spread"\n', 'Spread"\non_error = "ignore"\n', 14, "must be freeze or restart"),
    ('Spread"\n', 'Spread"\nparams = { size = [1] }\n', 14, "must be a table of names"),
    ('Spread"\n', 'Spread"\ncpu = -1\n', 14, "stages[0].cpu: -1: must be a CPU"),
    ('Spread"\n', 'Spread"\ncore = 1\n', 14, "no feed is received there; cores: none"),
    ('Spread"\n', 'Spread"\nlimits = 5\n', 14, "must be a table, or the name of a file"),
    ('Spread"\n', 'Spread"\nlimits = "none.toml"\n', 14, "cannot read"),
    ('Spread"\n', 'Spread"\n[stages.limits.account]\nkill=false\nrate_max = -1\n', 16,
     "stages[0].limits.account.rate_max: -1: must not be negative"),
    ('Spread"\n', 'Spread"\nlimits.default.size = 5\n', 14,
     "stages[0].limits.default.size: unknown key; known: order_size_max"),
    ('Spread"\n', 'Spread"\nlimits.instrument.TOOLONGSYM = {}\n', 14, "1 to 8 ASCII"),
    ("[[stages]]", "[stages]", 12, "must be an array of tables: [[stages]]"),
    ('name = "itch"', 'name = "itch', 8, "not TOML"),
    ("[sources]", "[sources", 3, "not TOML"),
    ('b = "af_packet:eth2"', 'a = "af_packet:eth2"', 5, "not TOML: Cannot overwrite a value"),
    ('Spread"\n', 'Spread"\nextra = """', 14, "not TOML"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "line", "said"), BROKEN)
def test_what_is_wrong_is_named_with_its_line(
    folder: Path, old: str, new: str, line: int, said: str
) -> None:
    (folder / "bad.py").write_text("x = 1\nclass Spread(:\n")
    assert old in SMALL
    before = sorted(folder.rglob("*"))
    message = refused(folder, SMALL.replace(old, new, 1))
    assert message.startswith(f"{folder / 'run.toml'}, line {line}: "), message
    assert said in message
    assert "\n" not in message
    assert sorted(folder.rglob("*")) == sorted([*before, folder / "run.toml"])


def test_there_are_fifty_and_more() -> None:
    assert len(BROKEN) >= 70


def test_a_core_receives_or_thinks(folder: Path) -> None:
    text = SMALL.replace("\n\n[[stages]]", "\ncore = 2\n\n[[stages]]") + "cpu = 2\n"
    assert "line 15: stages[0].cpu: 2: feed itch is received there" in refused(folder, text)


def test_a_capture_has_one_queue(folder: Path) -> None:
    second = '[[feeds]]\nname="x"\nprotocol="itch50"\nlines=["1.1.1.1:1"]\ncore=1\n[[stages]]'
    text = SMALL.replace("af_packet:eth2", "pcap:day.pcap").replace("[[stages]]", second)
    assert "line 5: sources.b: a capture has one queue" in refused(folder, text)


def test_wrong_limits_in_a_file_are_named_there(folder: Path) -> None:
    (folder / "limits.toml").write_text("[account]\n\nrate_maxx = 7\n")
    message = refused(folder, SMALL + 'limits = "limits.toml"\n')
    assert message.startswith(f"{folder / 'limits.toml'}, line 3: account.rate_maxx: ")


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*none\.toml: No such file"):
        load(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "x"\nother = "\xe4"\n')
    with pytest.raises(UsageError, match=r"latin\.toml, line 2: not UTF-8"):
        load(tmp_path / "latin.toml")


def test_reading_starts_nothing(folder: Path) -> None:
    """Neither EAL nor the strategy, whose import would be seen."""
    (folder / "apps" / "spread.py").write_text("raise SystemExit(9)\nclass Spread: ...\n")
    (folder / "run.toml").write_text(SMALL)
    program = (
        "import sys; from pydpdk.process import config; "
        "from pydpdk.source import eal; config.load(sys.argv[1]);"
        "assert eal.started() is None"
    )
    subprocess.run([sys.executable, "-c", program, folder / "run.toml"], check=True)


def test_this_hosts_cpus() -> None:
    count = re.search(r"\d+", subprocess.check_output(["nproc", "--all"], text=True))
    assert count is not None
    assert len(REAL_CPUS()) <= int(count[0])
    assert os.sched_getaffinity(0) <= REAL_CPUS()


REAL_CPUS = config.cpus


# --- lines: documents written line by line, so that it is known where each key went ---

KEYS = ["a", "b-1", "c_d", '"q.r"', "'s#t'", '"u\\u0041"', "7"]
NAMES = {key: next(iter(tomllib.loads(f"{key} = 1"))) for key in KEYS}
FLAT = ["1", "-2.5e3", "true", '"a # [b] = {c}"', "'x\\'", '"\\" # \\\\"', "1979-05-27 07:32:00Z",
        '""', "''''''", '"""a"""""', "inf"]  # fmt: skip
SCALARS = [*FLAT, '"""one\n# two = 3\n[four] "" \\""""', "'''one\n[[two]]\n''three'''",
           '"""a \\\n  # [b]"""']  # fmt: skip
Value = tuple[str, Any]
DEPTH = 2


@st.composite
def values(draw: st.DrawFn, depth: int = DEPTH) -> Value:
    """Text, and its shape: None, a list of (offset in lines, shape), or a dict of such."""
    kind = draw(st.sampled_from(["scalar", "scalar", "array", "inline"] if depth else ["scalar"]))
    if kind == "scalar":
        # What follows a string of several lines in its array is blamed where the string begins.
        return draw(st.sampled_from(SCALARS if depth == DEPTH else FLAT)), None
    gaps = st.sampled_from(["", " ", "\n", " # ] , } x = 1\n", "\n\n\t"])
    text, parts = ("[", []) if kind == "array" else ("{", {})
    flat = ["", " "]
    for key in draw(st.lists(st.sampled_from(KEYS), unique=True, max_size=3)):
        if kind == "array":
            text += draw(gaps)
        else:
            text += f"{draw(st.sampled_from(flat))}{key} = "
        inner, shape = draw(values(depth=depth - 1))
        place = (text.count("\n"), shape)
        if kind == "array":
            parts.append(place)  # type: ignore[attr-defined]
        else:
            parts[NAMES[key]] = place  # type: ignore[call-overload]
        text += inner + ("" if kind == "inline" else draw(gaps)) + ","
    text = text if kind == "array" else text.removesuffix(",")
    return text + (draw(gaps) + "]" if kind == "array" else " }"), parts


def place(found: dict[Any, int], path: Any, line: int, shape: Any) -> None:
    """Where a value at `path` and all in it stand."""
    found[path] = line
    if shape is not None:
        for key, (offset, inner) in shape.items() if isinstance(shape, dict) else enumerate(shape):
            place(found, (*path, key), line + offset, inner)


def paths(value: Any, at: Any = ()) -> set[Any]:
    """Every path of what tomllib read."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found = {at} if at else set()
    if isinstance(value, dict | list):
        for key, below in inner:
            found |= paths(below, (*at, key)) if isinstance(below, dict | list) else {(*at, key)}
    return found


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_every_key_is_found_in_its_line(data: st.DataObject) -> None:
    text, known, table = "", {}, ()
    used: set[Any] = set()
    arrays: dict[str, int] = {}
    for _ in range(data.draw(st.integers(0, 8))):
        text += data.draw(st.sampled_from(["", "\n", "# a = [1\n", "  \t"]))
        line, key = text.count("\n") + 1, data.draw(st.sampled_from(KEYS))
        what = data.draw(st.sampled_from(["pair", "pair", "pair", "dotted", "table", "array"]))
        name = NAMES[key]
        if what == "array":
            if ("T", name) in used:
                continue
            arrays[name] = arrays.get(name, -1) + 1
            used.add(("A", name))
            text += f"[[ X . {key} ]] # [[\n"
            table = ("X", name, arrays[name])
        elif what == "table":
            if ("T", name) in used or ("A", name) in used:
                continue
            used.add(("T", name))
            text += f"[X.{key}]\n"
            table = ("X", name)
        else:
            path = (*table, name, "z") if what == "dotted" else (*table, name)
            if (table, name) in used:
                continue
            used.add((table, name))
            value, shape = data.draw(values())
            text += f"{key}{' . z' if what == 'dotted' else ''} = {value} # end\n"
            place(known, path, line, shape)
            for length in range(1, len(path)):
                known.setdefault(path[:length], line)
            continue
        for length in range(1, len(table) + 1):
            known.setdefault(table[:length], line)
    text = text.replace("\n", data.draw(st.sampled_from(["\n", "\r\n"])))
    read_back = tomllib.loads(text)
    assert set(known) == paths(read_back)
    assert {path: line_of(text, path) for path in known} == known


@case('a = "\\\n"')
@given(st.text(alphabet="ab=[]{}\"'#,.\n\\ 1", max_size=40))
@settings(max_examples=500)
def test_a_line_is_found_in_whatever_tomllib_reads(text: str) -> None:
    try:
        read_back = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert all(1 <= line_of(text, path) <= text.count("\n") + 1 for path in paths(read_back))


def test_the_nearest_line_is_blamed() -> None:
    text = "x = 1\n[a]\nb = [\n1]\n"
    assert line_of(text, ("a", "c", "d")) == 2
    assert line_of(text, ("a", "b", 0)) == 4
    assert line_of(text, ("y",)) == 1
