"""The live commands of the documents run, on a wire of their own, with README's configuration."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pydpdk.synth.gen import generate
from testbed import net
from tests.command import MAIN, ROOT, Done
from tests.live_run import LiveRun
from tests.test_docs import DOCUMENTS, LIVE, NOT_RUN, RUNNABLE, Block, ours

CONFIG = next(b.text for b in DOCUMENTS if b.language == "toml" and "[sources]" in b.text)
NAMED = "nasdaq"  # the run of the documents; ours have names of their own
SHORT_S = "1"  # of a run that a document ends by hand
ANSWERS = ("status", "flight", "times")  # these need a run


def live(block: Block) -> list[str]:
    return [c for c in ours(block) if LIVE.match(c) and not any(part in c for part in NOT_RUN)]


@pytest.fixture
def wire() -> Any:
    """eth0 - eth1, each in a namespace of its own."""
    if lacking := net.missing():
        pytest.skip(f"needs {lacking}")
    addresses = "10.77.0.1/24", "10.77.0.2/24"
    with (
        net.Namespace() as a,
        net.Namespace() as b,
        net.Wire(a, b, names=("eth0", "eth1"), addresses=addresses) as made,
    ):
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a reader of the documents works; one core is enough."""
    core = max(os.sched_getaffinity(0))
    text = re.sub(r"^core = \d+", f"core = {core}", CONFIG, flags=re.M)
    (tmp_path / "live.toml").write_text(text.replace(NAMED, own_name()))
    (tmp_path / "apps").symlink_to(ROOT / "apps")
    generate(tmp_path / "day.pcap", messages=500, instruments=5)
    return tmp_path


def own_name() -> str:
    return f"docs{os.getpid()}"


def placed(command: str, folder: Path) -> list[str]:
    """The words of a command: bounded, and below the folder."""
    words = shlex.split(command.replace("/data/", f"{folder}/"))[1:]
    words = [own_name() if word == NAMED else word for word in words]
    if words[0] == "run" and "--check" not in words:
        words += ["--seconds", SHORT_S]  # the last one counts
    if words[0] == "record":
        words += ["--seconds", SHORT_S]
    if words[0] == "send":
        words += ["--count", "20"]
    return words


def perform(words: list[str], namespace: net.Namespace, folder: Path) -> Done:
    done = namespace.popen(
        [sys.executable, "-c", MAIN, *words], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, err = done.communicate(timeout=90)
    return Done(done.returncode, out, err)


@pytest.mark.slow
@pytest.mark.parametrize(
    "block", [block for block in RUNNABLE if live(block)], ids=lambda block: block.where
)
def test_live_commands_run(block: Block, wire: net.Wire, folder: Path) -> None:
    for command in live(block):
        words = placed(command, folder)
        space = (wire.a if "eth0" in command else wire.b).namespace
        if words[0] in ANSWERS:
            with LiveRun(folder / "live.toml", "--seconds", "3", namespace=space) as run:
                run.ready()
                done = perform(words, space, folder)
        else:
            done = perform(words, space, folder)
        ready = (0, 3) if words[0] == "doctor" else (0,)
        assert done.code in ready, f"{block.where}: {command}: {done.err}"
        assert done.out or "--check" in words


@pytest.mark.slow
@pytest.mark.parametrize(
    "block",
    [b for b in DOCUMENTS if b.language == "python" and "def test_" in b.text],
    ids=lambda block: block.where,
)
def test_a_test_that_is_shown_passes(block: Block, folder: Path) -> None:
    if lacking := net.missing():
        pytest.skip(f"needs {lacking}")
    (folder / "test_shown.py").write_text(block.text)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_shown.py"],
        cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
