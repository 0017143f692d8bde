"""The ring's protocol under a stress test, a thread sanitizer and a model checker.

Each is also run with one step of the protocol taken away, and must then find an error: that is
what shows it would find one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
STRESS = ROOT / "tests" / "c" / "ring_stress.c"
MODEL = ROOT / "tests" / "spin" / "ring.pml"
WARNINGS = ["-std=gnu11", "-Wall", "-Wextra", "-Werror"]
TSAN = ["-O1", "-g", "-fsanitize=thread"]
ASAN = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
BLOCK_STEPS = [1, 6, 7, 8, 9, 10]
SKIP_STEPS = [1, 2, 3, 4, 5, 11, 12]


def need(*tools: str) -> None:
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing and os.environ.get("CI"):
        pytest.fail(f"missing: {', '.join(missing)}")
    if missing:
        pytest.skip(f"missing: {', '.join(missing)}")


def run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


def stress(
    compiler: str, where: Path, *args: str, flags: list[str], seconds: float = 0
) -> tuple[int, str]:
    """Build the stress test and run it, for ``seconds`` while it finds nothing: code, stderr."""
    need(compiler)
    program = where / "ring_stress"
    sources = [STRESS, ROOT / "csrc" / "ring" / "map.c", ROOT / "csrc" / "base" / "shm.c"]
    include = f"-I{ROOT / 'csrc'}"
    built = run(compiler, *WARNINGS, *flags, include, *sources, "-pthread", "-o", program)
    assert built.returncode == 0, built.stderr
    until = time.monotonic() + seconds
    ran = run(program, *args)
    while ran.returncode == 0 and time.monotonic() < until:
        ran = run(program, *args)
    return ran.returncode, ran.stderr


@pytest.mark.parametrize("args", [("200000",), ("200000", "file")], ids=["memory", "file"])
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_stress(compiler: str, args: tuple[str, ...], tmp_path: Path) -> None:
    assert stress(compiler, tmp_path, *args, flags=["-O2"]) == (0, "")


def test_stress_under_thread_sanitizer(tmp_path: Path) -> None:
    assert stress("clang", tmp_path, "20000", flags=TSAN) == (0, "")


def test_stress_under_address_sanitizer(tmp_path: Path) -> None:
    assert stress("clang", tmp_path, "20000", "file", flags=ASAN) == (0, "")


@pytest.mark.parametrize("order", ["STAMP", "POLL", "READ", "GATE"])
def test_thread_sanitizer_finds_a_relaxed(order: str, tmp_path: Path) -> None:
    broken = f"-DRING_{order}_ORDER=__ATOMIC_RELAXED"
    code, said = stress("clang", tmp_path, "20000", flags=[*TSAN, broken])
    assert code != 0
    assert "data race" in said


@pytest.mark.parametrize("broken", ["INVALIDATE=0", "VALIDATE=0", "GATE_SLACK=1"])
def test_stress_finds(broken: str, tmp_path: Path) -> None:
    # On busy cores the threads may not meet at all in one run.
    flags = ["-O2", f"-DRING_{broken}"]
    code, said = stress("gcc", tmp_path, "400000", flags=flags, seconds=60)
    assert code == 1
    assert "violation" in said


def check_model(where: Path, *defines: str) -> str:
    """Explore every interleaving; what the model checker reports."""
    need("spin", "gcc")
    made = run("spin", "-a", *defines, MODEL, cwd=where)
    assert made.returncode == 0, made.stdout + made.stderr
    options = ["-DSAFETY", "-DCOLLAPSE", "-DMEMLIM=2000"]
    built = run("gcc", "-O1", "-w", *options, "-o", "pan", "pan.c", cwd=where)
    assert built.returncode == 0, built.stderr
    return run(where / "pan", "-m1000000", cwd=where).stdout


def assert_proven(report: str) -> None:
    assert "errors: 0" in report, report
    assert "max search depth too small" not in report
    assert "Warning: Search not completed" not in report


@pytest.mark.parametrize(
    "defines",
    [("-DONLY_BLOCK", "-DOFFERS=10"), ("-DONLY_SKIP", "-DOFFERS=8")],
    ids=["block", "skip"],
)
def test_model_holds(defines: tuple[str, ...], tmp_path: Path) -> None:
    assert_proven(check_model(tmp_path, *defines))


def test_model_holds_with_both_readers(tmp_path: Path) -> None:
    assert_proven(check_model(tmp_path, "-DOFFERS=5"))


@pytest.mark.parametrize(
    ("step", "only"),
    [(n, "-DONLY_BLOCK") for n in BLOCK_STEPS] + [(n, "-DONLY_SKIP") for n in SKIP_STEPS],
)
def test_model_needs_step(step: int, only: str, tmp_path: Path) -> None:
    report = check_model(tmp_path, only, f"-DBROKEN={step}")
    assert "assertion violated" in report
