"""Every command that docs/bench.md shows runs, as it is shown, only shorter."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from pydpdk import _core
from pydpdk.bench import _bench, data, meters, versus
from pydpdk.bench.cases import latency
from pydpdk.bench.run import CASES
from pydpdk.cli.bench import command as cli_bench
from pydpdk.source import eal
from testbed.net import missing
from tests.command import ROOT, call
from tests.test_docs import blocks, ours

PAGE = ROOT / "docs" / "bench.md"
OTHERS = ("HEAD~1", "../other-checkout", "/opt/other/bin/python")  # a checkout stands for each
SHOWN = [command for block in blocks(PAGE) for command in ours(block)]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the page only names: another checkout, another Python."""
    checkout = tmp_path / "other-checkout"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "pydpdk", checkout / "pydpdk", ignore=ignore)
    (checkout / "build").mkdir()
    for module in (_core, _bench):
        built = Path(str(module.__file__)).resolve()
        (checkout / "build" / built.name).symlink_to(built)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(latency, "SENDS_QUICK", 60)
    monkeypatch.setattr(versus, "TURNS", 1)
    monkeypatch.setattr(meters, "STALL_S", 0.02)
    monkeypatch.setattr(data, "cache_dir", lambda: tmp_path)
    return checkout


@pytest.mark.slow
def test_commands_of_the_page_run(elsewhere: Path) -> None:
    """In order: later ones read what earlier ones wrote. A verdict may go either way here."""
    codes = {"--fail-on": (0, 5)}
    seen: set[str] = set()
    ran: list[list[str]] = []
    for command in SHOWN:
        words = shlex.split(command)[1:]
        if "latency-memif" in words and (missing() or not eal.version()):
            continue
        if words[1:2] == ["run"]:
            words += ["--quick", "--rounds", "1"]
        if "--against" in words:
            words = [word for word in words if word != "ring"] + ["--keep"]
        words = [str(elsewhere) if word in OTHERS else word for word in words]
        if words in ran:
            continue
        ran.append(words)
        if words[1] == "report" and not Path(words[2]).exists():
            continue
        done = call(*words)
        allowed = next((codes[key] for key in codes if key in words), (0,))
        assert done.code in allowed, f"{command}: {done.err}"
        assert done.out or any(Path(word).exists() for word in words), command
        seen.add(words[1])
    assert seen == {"list", "run", "report", "compare"}


def test_the_page_shows_what_there_is() -> None:
    assert len(SHOWN) > 11
    for verdict in ("slower", "faster", "no change seen", "too noisy to say"):
        assert f"`{verdict}`" in PAGE.read_text()


PERFORMANCE = ROOT / "docs" / "performance.md"
NAMED = re.compile(r"`(?:pydpdk bench run )?([a-z]+(?:-[a-z_]+)?)`")


def test_every_figure_has_its_command() -> None:
    """A section with a table names its command, and each row a case where that says CASE."""
    text = PERFORMANCE.read_text() + (ROOT / "README.md").read_text().partition("## Figures")[2]
    for section in re.split(r"^## ", text, flags=re.M):
        rows = [line for line in section.splitlines() if line.startswith("|")]
        commands = re.findall(r"`pydpdk bench ([^`]+)`", section)
        title = section.partition("\n")[0]
        aims = title.startswith("Where the aims stand")  # by the tables above it
        assert not rows or commands or aims, title
        for command in commands:
            words = command.split()
            assert words[0] in cli_bench.commands, command
            cases = [word for word in words[1:] if re.fullmatch(r"[a-z]+(-[a-z_]+)?", word)]
            assert words[0] != "run" or set(cases) <= {*CASES}, command
        cases_of_rows = [case for row in rows for case in NAMED.findall(row.partition("|")[2][:40])]
        assert {*cases_of_rows} <= {*CASES}, title
