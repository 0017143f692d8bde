"""Every C file is clean under gcc and clang with all warnings, and knows what it includes."""

from __future__ import annotations

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import missing

pytestmark = pytest.mark.slow

CSRC = Path(__file__).parent.parent / "csrc"
# -O2: some warnings come from the optimiser alone.
FLAGS = ["-std=gnu11", "-O2", "-march=x86-64-v2", "-Wall", "-Wextra", "-Werror", f"-I{CSRC}"]
OWN = CSRC / "dpdk" / "impl.h"  # DPDK's types in it
DPDK_ONLY = set(CSRC.glob("dpdk/*.c"))


def compiled(compiler: str, arguments: list[str]) -> str:
    """The diagnostics of one compilation, "" when there are none."""
    done = subprocess.run(
        [compiler, *FLAGS, *arguments, "-c", "-o", os.devnull], capture_output=True, text=True
    )
    return done.stderr if done.returncode else ""


@pytest.fixture(params=["gcc", "clang"])
def compiler(request: pytest.FixtureRequest) -> str:
    if shutil.which(request.param) is None:
        missing(request.param)
    return str(request.param)


def all_clean(compiler: str, runs: list[list[str]]) -> None:
    with ThreadPoolExecutor(2) as pool:
        said = [text for text in pool.map(lambda run: compiled(compiler, run), runs) if text]
    assert not said, "\n".join(said)


def test_the_core_is_clean_without_dpdk(compiler: str) -> None:
    files = sorted(path for path in CSRC.rglob("*.c") if path not in DPDK_ONLY)
    assert len(files) > 30
    all_clean(compiler, [[str(path)] for path in files])


def test_the_ports_are_clean_with_dpdk(compiler: str) -> None:
    found = subprocess.run(["pkg-config", "--cflags", "libdpdk"], capture_output=True, text=True)
    if found.returncode:
        missing("libdpdk-dev")
    flags = [
        f"-isystem{flag[2:]}" if flag.startswith("-I") else flag for flag in found.stdout.split()
    ]
    all_clean(compiler, [[*flags, str(path)] for path in sorted(DPDK_ONLY)])


def test_headers_stand_alone_and_go_together(compiler: str) -> None:
    """Each by itself, and all in the order of their names and in the opposite one."""
    headers = [str(path.relative_to(CSRC)) for path in sorted(CSRC.rglob("*.h")) if path != OWN]
    all_clean(
        compiler, [including(some) for some in [*([h] for h in headers), headers, headers[::-1]]]
    )


def including(headers: list[str]) -> list[str]:
    return [*(part for name in headers for part in ("-include", name)), "-x", "c", os.devnull]
