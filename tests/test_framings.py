"""Framings to come fit beside the arbiter and the feed, which know none by name."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import missing

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
FLAGS = ["-std=gnu11", "-O1", "-march=x86-64-v2", "-Wall", "-Wextra", "-Werror", f"-I{CSRC}"]
ROOMS = ("base", "session", "arbiter", "book", "ring", "decode", "engine")
# The core's own protocols, and the loop, which would need sources.
LEFT_OUT = {"decode.c", "itch50.c", "iex.c", "engine.c"}


@pytest.mark.slow
def test_a_framing_is_a_row(tmp_path: Path) -> None:
    """A size that counts itself, numbers of packets, and a stream without numbers."""
    compiler = shutil.which("gcc") or shutil.which("cc") or missing("gcc")
    core = [path for room in ROOMS for path in (CSRC / room).glob("*.c")]
    sources = [path for path in core if path.name not in LEFT_OUT]
    program = tmp_path / "framings"
    command = [str(compiler), *FLAGS, *sources, CSRC / "count.c", ROOT / "tests/c/framings.c"]
    built = subprocess.run([*command, "-pthread", "-o", program], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    ran = subprocess.run([program], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [
        "units 1:a 2:bcd 3:ef 4:g | delivered 4 duplicate 2 lost 0 | losses 1 0 healed 1 0",
        "packets 1:ab 1:c 4:d | delivered 2 duplicate 1 lost 2 | losses 2 0 healed 0 0",
        "stream 1:ab 2:c | delivered 2 duplicate 0 lost 0 | losses 0 0 healed 0 0",
    ]
