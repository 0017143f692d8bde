"""The rooms of the house: includes and imports run one way, and only one room knows DPDK."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CSRC, PACKAGE = ROOT / "csrc", ROOT / "pydpdk"

# A room may use those before it and itself; docs/architecture.md says what each is for.
ROOMS = (
    "", "base", "wire", "source", "dpdk", "net", "session", "arbiter", "book", "ring", "decode",
    "tape", "trade", "engine", "desk", "bench",
)  # fmt: skip
PACKAGES = (
    "errors", "core", "source", "engine", "stage", "gateway", "trade", "lockstep", "tape", "synth",
    "process", "watch", "host", "bench", "cli",
)  # fmt: skip


def includes() -> Iterator[tuple[str, str]]:
    """Of each C file: itself and what it includes, as paths below csrc/."""
    for path in sorted([*CSRC.rglob("*.c"), *CSRC.rglob("*.h")]):
        for name in re.findall(r'^#include "([^"]+)"', path.read_text(), flags=re.M):
            yield str(path.relative_to(CSRC)), name


def imports() -> Iterator[tuple[str, str]]:
    """Of each module: itself and what it imports of the package, by dotted names below it."""
    for path in sorted(PACKAGE.glob("*/**/*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pydpdk."):
                base = (node.module or "").removeprefix("pydpdk.")
                for alias in node.names:
                    inner = PACKAGE / base.replace(".", "/") / f"{alias.name}.py"
                    yield module, f"{base}.{alias.name}" if inner.exists() else base


def room(path: str) -> str:
    return path.rpartition("/")[0]


def noun(name: str) -> str:
    """A .c and its .h are one, with what is theirs alone: impl.h is the room's, X_impl.h is X's."""
    stem = re.sub(r"\.[ch]$", "", name)
    stem = re.sub(r"(\w+)/impl$", r"\1/\1", stem).replace("dpdk/dpdk", "dpdk/port")
    return stem.removesuffix("_impl").replace("counter_id", "count")


def test_includes_run_down_the_rooms() -> None:
    back = [
        f"{file} includes {name}" for file, name in includes()
        if ROOMS.index(room(name)) > ROOMS.index(room(file))
    ]  # fmt: skip
    assert not back, "\n".join(back)


def test_imports_run_down_the_packages() -> None:
    back = [
        f"{module} imports {name}" for module, name in imports() if name != "_core"
        and PACKAGES.index(name.split(".")[0]) > PACKAGES.index(module.split(".")[0])
    ]  # fmt: skip
    assert not back, "\n".join(back)


@pytest.mark.parametrize("arrows", [includes, imports])
def test_there_is_no_circle(arrows) -> None:
    left: dict[str, set[str]] = {}
    for start, end in ((noun(start), noun(end)) for start, end in arrows()):
        if start != end:
            left.setdefault(start, set()).add(end)
    while leaves := {noun for noun, uses in left.items() if not uses & left.keys()}:
        left = {noun: uses for noun, uses in left.items() if noun not in leaves}
    assert not left, "\n".join(
        f"{noun}: {sorted(uses & left.keys())}" for noun, uses in left.items()
    )


def test_only_one_room_knows_dpdk() -> None:
    """Comments may name it: what counts is code."""
    found = []
    for path in CSRC.rglob("*.[ch]"):
        code = re.sub(r"/\*.*?\*/|//.*?$", "", path.read_text(), flags=re.S | re.M)
        if path.parent.name != "dpdk" and re.search(r"\brte_|<rte_", code):
            found.append(str(path.relative_to(CSRC)))
    assert not found


def test_every_room_is_on_the_page() -> None:
    """docs/architecture.md has a line for each room that exists, and for no other."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    for folder, order in ((CSRC, ROOMS), (PACKAGE, PACKAGES)):
        there = {path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != "_"}
        told = set(re.findall(rf"^\| `{folder.name}/(\w+)/` \|", page, flags=re.M))
        assert told == there <= set(order)
