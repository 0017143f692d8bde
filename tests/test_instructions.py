"""Instruction counts of the core's hot parts: none above its baseline, one that grew is named."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pydpdk.bench import instructions
from pydpdk.bench.instructions import Count, Counts
from pydpdk.cli.bench import command
from pydpdk.errors import Exit, HostError

PARSE = (
    "int frame_parse(const struct packet *packet, int checksum_policy, struct datagram *datagram)\n"
    "{\n"
)
EXTRA = "    for (volatile int i = 0; i < 4; i++)\n        ;\n"


def needed() -> None:
    lacks = instructions.missing()
    if lacks and os.environ.get("CI"):
        pytest.fail(lacks)
    if lacks:
        pytest.skip(lacks)


@pytest.fixture(scope="module")
def counts() -> Counts:
    needed()
    return instructions.count()


@pytest.mark.slow
def test_no_part_is_above_its_baseline(counts: Counts) -> None:
    if counts.incomparable:
        pytest.skip(counts.incomparable)
    assert not counts.too_high(), "\n".join(counts.too_high())
    known = json.loads(instructions.BASELINE.read_text())["parts"]
    assert [count.part for count in counts.parts] == list(known), instructions.UPDATE


@pytest.mark.slow
def test_work_that_was_added_is_named_and_nothing_else(
    counts: Counts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instructions, "BASELINE", tmp_path / "baseline.json")
    instructions.update(counts)
    csrc = shutil.copytree(instructions.ROOT / "csrc", tmp_path / "csrc")
    text = (csrc / "net" / "frame.c").read_text()
    assert PARSE in text
    (csrc / "net" / "frame.c").write_text(text.replace(PARSE, PARSE + EXTRA))
    grown = instructions.count(csrc)
    assert not grown.incomparable
    # 20 to 30 instructions a packet: little of a whole path, much of a parse.
    assert {"frame parse", "frame parse, checksums", "frame and session headers"} == {
        count.part for count in grown.parts if count.too_high
    }
    *lines, advice = grown.too_high()
    assert "frame parse: " in lines[0]
    assert "baseline" in lines[0]
    assert instructions.UPDATE in advice
    for before, after in zip(counts.parts, grown.parts, strict=True):
        if "frame" not in before.part and before.part != "whole path":
            assert after.instructions == before.instructions  # to the instruction


# --- what is told ---

FOUND = Counts("gcc 1.2.3", "-O3", [Count("walk", "packet", 103.1, 100.0),
                                    Count("parse", "packet", 102.9, 100.0),
                                    Count("new", "packet", 5.0, None)], "")  # fmt: skip


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(instructions, "count", lambda: FOUND)
    monkeypatch.setattr(instructions, "BASELINE", tmp_path / "baseline.json")
    return tmp_path / "baseline.json"


def call(*args: str) -> Result:
    return CliRunner().invoke(command, ["instructions", *args], catch_exceptions=False)


def test_more_than_three_percent_is_too_high(counted: Path) -> None:
    done = call("--json")
    assert done.exit_code == Exit.THRESHOLD
    parts = json.loads(done.stdout)["parts"]
    assert [part["too_high"] for part in parts] == [True, False, False]
    assert [part["change"] for part in parts] == [pytest.approx(0.031), pytest.approx(0.029), None]
    assert "walk: 103.1 instructions a packet, baseline 100.0 (+3.1%)" in done.stderr
    assert instructions.UPDATE in done.stderr
    assert not counted.exists()


def test_table_shows_every_part(counted: Path) -> None:
    done = call()
    for word in ("gcc 1.2.3", "walk", "parse", "new", "103.1", "+2.9%"):
        assert word in done.stdout


def test_update_makes_them_the_baseline(counted: Path) -> None:
    assert call("--update").exit_code == Exit.OK
    assert json.loads(counted.read_text()) == {
        "compiler": "gcc 1.2.3",
        "flags": "-O3",
        "parts": {"walk": 103.1, "parse": 102.9, "new": 5.0},
    }


def test_missing_valgrind_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool == "valgrind" else tool)
    with pytest.raises(HostError, match=r"apt-get install .*valgrind"):
        instructions.count()
