"""The documents are true: their commands run, their strategies trade, their tables are current."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import click
import pytest

import pydpdk
from docs import render
from pydpdk._core import ffi, lib
from pydpdk.cli import COMMANDS, cli
from pydpdk.core.hist import Hist
from pydpdk.core.hlog import HistLog, Interval
from pydpdk.source import eal
from pydpdk.synth.gen import feed, generate
from pydpdk.synth.multicast import Channel
from pydpdk.synth.packetize import IexTp
from pydpdk.synth.two_lines import Faults
from pydpdk.tape.pcapfile import CaptureWriter
from tests import iex_spec
from tests.command import ROOT, call, spawn
from tests.recount import books, delivered

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
SHELL = ("sh", "shell", "bash", "console")
CAPTURE = re.compile(r"(?:net_)?(?:pcap:)?((?:[\w.-]+/)*[\w.-]+\.(?:pcapng|pcap)(?:\.\w+)?)")
MESSAGES_MAX = 200_000

# What a test cannot do, and why. A part of the command that names it -> the reason.
NOT_RUN = {
    "pci:": "needs a NIC and hugepages",
    "pydpdk bench": "measures for minutes; it has tests of its own",
}
# Commands of a live run, and those on an interface: tests/test_docs_live.py runs them.
LIVE = re.compile(
    r"pydpdk (run (?!--example)|status|flight|times nasdaq|doctor .*--config|.*\beth\d)"
)
# First words of other commands in our documents; what they do is not ours to test.
OTHERS = {"apt-get", "cd", "echo", "git", "ip", "jq", "pip", "python", "source", "sudo", "unshare"}


class Block(NamedTuple):
    """Code of a document, in order."""

    where: str
    language: str
    text: str


def blocks(path: Path) -> list[Block]:
    """Fenced blocks, and indented commands as ``sh``."""
    text = path.read_text(encoding="utf-8")
    name = str(path.relative_to(ROOT))
    found = []
    fence = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
    for match in fence.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(f"{name}:{line}", match[1], match[2]))
    for match in re.finditer(r"^    pydpdk .*$", fence.sub("", text), re.M):
        found.append(Block(f"{name}: {match[0].strip()}", "sh", match[0]))
    return found


def helps(command: click.Command, name: str) -> list[Block]:
    """The examples in the help of a command and of those below it."""
    found = [Block(f"{name} --help", "sh", command.help or "")]
    if isinstance(command, click.Group):
        with click.Context(command) as ctx:
            for sub in command.list_commands(ctx):
                made = command.get_command(ctx, sub)
                assert made
                found += helps(made, f"{name} {sub}")
    return found


def commands(text: str) -> list[str]:
    """Commands of a shell block: prompts, comments and what a pipe does behind them left out."""
    joined = text.replace("\\\n", " ")
    lines = [line.strip().removeprefix("$ ") for line in joined.splitlines()]
    return [re.split(r"\s+[|#>]|\s{3,}", line)[0] for line in lines if line]


def ours(block: Block) -> list[str]:
    return [line for line in commands(block.text) if line.startswith("pydpdk ")]


DOCUMENTS = [block for page in PAGES for block in blocks(page)]
STRATEGIES = [
    Block(str(path.relative_to(ROOT)), "sh", ast.get_docstring(ast.parse(path.read_text())) or "")
    for path in sorted((ROOT / "apps").glob("*.py"))
]
EXAMPLES = helps(cli, "pydpdk")
RUNNABLE = [
    block for block in DOCUMENTS + STRATEGIES + EXAMPLES
    if block.language in (*SHELL, "") and ours(block)
]  # fmt: skip


# --- commands ---


@pytest.fixture(scope="module")
def itch(tmp_path_factory):
    path = tmp_path_factory.mktemp("itch") / "day.pcap"
    generate(path, messages=3000, instruments=10)
    symbol = next(iter(books(delivered(path)).symbols.values())).decode().strip()
    return path, symbol


@pytest.fixture(scope="module")
def iex(tmp_path_factory):
    """A little IEX session, DEEP by default: one symbol, some levels."""
    folder = tmp_path_factory.mktemp("iex")
    start = 1_700_000_000 * 10**9
    made = {}
    for name, letters, protocol in (("deep10", "SD85", 0x8004), ("tops16", "SDQ", 0x8003)):
        messages = [
            (start + i * 1000, iex_spec.pack(letter, timestamp=start, **_values(letter)))
            for i, letter in enumerate(letters)
        ]
        channels = {"A": Channel("224.2.3.10", 16648, "198.51.100.1")}
        frames, _ = feed(iter(messages), {"A": Faults()}, framing=IexTp(protocol=protocol),
                         channels=channels)  # fmt: skip
        made[name] = folder / f"{name}.pcap"
        with CaptureWriter(made[name]) as capture:
            for ts, frame in frames:
                capture.write(ts, frame)
    return made, "ZIEXT"


def _values(letter):
    symbol = {"symbol": "ZIEXT"}
    return {
        "S": {"event": "O"},
        "D": symbol | {"round_lot_size": 100},
        "8": symbol | {"event_flags": 1, "size": 100, "price": 10_0000},
        "5": symbol | {"event_flags": 1, "size": 200, "price": 10_0100},
        "Q": symbol | {"bid_size": 1, "bid_price": 10_0000, "ask_price": 10_0100, "ask_size": 2},
    }[letter]


def placed(command, folder, itch, iex):
    """The command over captures that exist: what a document only names is put there."""
    words = shlex.split(command)
    protocol = next((p for p in ("deep10", "tops16") if p in command), "itch50")
    capture, symbol = (iex[0][protocol], iex[1]) if protocol != "itch50" else itch
    writes = words[1] == "gen"
    names = [found[1] for word in words if (found := CAPTURE.fullmatch(word))]
    absent = [name for name in names if not (folder / name).exists() and not writes]
    for i, name in enumerate(absent):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        empty = capture.read_bytes()[:24]
        (folder / name).write_bytes(capture.read_bytes() if i == 0 else empty)
    if words[1] == "times":
        for word in words[2:]:
            if word.endswith(".hlog") and not (folder / word).exists():
                with HistLog(folder / word) as log:
                    log.write(Interval("decode", 1.0, 1.0, Hist.from_values([1, 2])))
    if words[1] == "book" and absent:
        words[2] = symbol
    for i, word in enumerate(words[:-1]):
        if word == "--messages":
            words[i + 1] = str(min(int(words[i + 1]), MESSAGES_MAX))
        if word == "--speed" and words[i + 1] != "max":
            words[i + 1] = "1000"
        if word == "--risk" and not (folder / words[i + 1]).exists():
            (folder / words[i + 1]).write_text("".join(
                block.text
                for block in DOCUMENTS
                if block.language == "toml" and "[account]" in block.text
            ))  # fmt: skip
        if word == "--strategy":
            _place_strategy(folder, *words[i + 1].rsplit(":", 1))
    if words[1] == "demo" and "--messages" not in words:
        words += ["--messages", "5000"]
    return words[1:]


def _place_strategy(folder, name, cls):
    """A strategy that a document shows is the file that a command names."""
    if (folder / name).exists():
        return
    for block in DOCUMENTS:
        if block.language == "python" and f"class {cls}(" in block.text:
            (folder / name).write_text(block.text)


@pytest.mark.slow
@pytest.mark.parametrize("block", RUNNABLE, ids=lambda block: block.where)
def test_commands_run(block, tmp_path, monkeypatch, itch, iex):
    (tmp_path / "apps").symlink_to(ROOT / "apps")
    monkeypatch.chdir(tmp_path)
    for command in ours(block):
        if LIVE.match(command) or any(part in command for part in NOT_RUN):
            continue
        driver = "net_pcap" in command or command.startswith("pydpdk demo")
        if driver and not eal.version():
            continue
        words = placed(command, tmp_path, itch, iex)
        done = spawn(*words, cwd=tmp_path) if driver else call(*words)
        ready = (0, 3) if words[0] == "doctor" else (0,)
        assert done.code in ready, f"{block.where}: {command}: {done.err}"
        assert done.out


def test_other_commands_are_known():
    makefile = (ROOT / "Makefile").read_text()
    for block in DOCUMENTS:
        if block.language not in SHELL:
            continue
        for command in commands(block.text):
            if not command or command.startswith("#"):
                continue
            words = command.split()
            while "=" in words[0]:  # the environment of a command
                words = words[1:]
            if words[0] == "make":
                targets = [word for word in words[1:] if "=" not in word]
                assert all(re.search(f"^{t}:", makefile, re.M) for t in targets), block.where
            elif block.language != "console":
                first = Path(words[0]).name
                assert first in {"pydpdk", *OTHERS}, f"{block.where}: {command}"


@pytest.mark.parametrize("name", [(), *[(name,) for name in COMMANDS], ("pcap", "info")])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_shows_an_example(name, flag):
    done = call(*name, flag)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("Usage: ")
    example = " ".join(("pydpdk", *name))
    assert example in done.out.partition("Options:")[0].partition("\n")[2]


@pytest.mark.parametrize("args", [["nosuch"], ["pcap", "nosuch"], ["replay", "--nosuch"]])
def test_what_does_not_exist_is_a_usage_error(args):
    done = call(*args)
    assert (done.code, done.out) == (2, "")
    assert "nosuch" in done.err


# --- strategies and other Python ---


@pytest.mark.parametrize(
    "block", [b for b in DOCUMENTS if b.language == "python"], ids=lambda block: block.where
)
def test_python_compiles_and_its_strategies_trade(block, tmp_path, itch):
    tree = ast.parse(block.text)
    stages = [node.name for node in tree.body if isinstance(node, ast.ClassDef)
              and any(getattr(base, "id", "") == "Stage" for base in node.bases)]  # fmt: skip
    (tmp_path / "shown.py").write_text(block.text)
    for name in stages:
        strategy = f"{tmp_path}/shown.py:{name}"
        done = call("replay", itch[0], "--feed", "itch50", "--strategy", strategy, "--json")
        assert done.code == 0, f"{block.where}: {done.err}"
        assert done.json["orders"]["sent"] > 0


@pytest.mark.parametrize(
    "block",
    [b for b in DOCUMENTS if b.language == "python" and "pydpdk.replay(" in b.text],
    ids=lambda block: block.where,
)
def test_replays_in_python_run(block, tmp_path, monkeypatch, itch, capsys):
    capture, symbol = itch
    (tmp_path / "apps").symlink_to(ROOT / "apps")
    (tmp_path / "day.pcap").symlink_to(capture)
    monkeypatch.chdir(tmp_path)
    exec(block.text.replace("AKL", symbol), {})
    assert capsys.readouterr().out


# --- tables ---


@pytest.mark.parametrize("name", render.PAGES)
def test_tables_are_those_of_the_core(name):
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert render.MARK in text
    assert text == render.page(name, text), "refresh it: python docs/render.py"


def test_pages_are_refreshed_in_place(tmp_path):
    for name in render.PAGES:
        (tmp_path / name).write_text(f"# Head of {name}\n\n{render.MARK}\n| old | table |\n")
    render.main(tmp_path)
    for name, table in render.PAGES.items():
        text = (tmp_path / name).read_text()
        assert text.startswith(f"# Head of {name}\n")
        assert "| old |" not in text
        assert text.endswith(table().rstrip() + "\n")


def test_every_counter_and_reject_has_its_line():
    counters, rejects = (render.PAGES[name]() for name in ("counters.md", "risk.md"))
    for i in range(lib.counter_count()):
        assert f"| `{ffi.string(lib.counter_name(i)).decode()}` | " in counters
    for code, name in ffi.typeof("enum reject").elements.items():
        if name != "REJECT_END":
            assert f"| {code} | `{name.removeprefix('REJECT_')}` | " in rejects


def test_every_public_name_has_its_docstring():
    names = [name for group in render.GROUPS.values() for name in group]
    assert sorted(names) == pydpdk.__all__
    text = render.reference()
    entries = re.split(r"^###+ (.*)\n", text, flags=re.M)
    for head, entry in zip(entries[1::2], entries[2::2], strict=True):
        doc = re.sub(r"```text\n.*?```|^##.*$", "", entry, flags=re.M | re.S)
        assert doc.strip(), head


def test_links_between_documents_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
