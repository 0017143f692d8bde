"""The counter registry as Python sees it: names and documentation come from count.h."""

from __future__ import annotations

from typing import Any

from pydpdk._core import ffi, lib

NAMES: tuple[str, ...] = tuple(
    ffi.string(lib.counter_name(i)).decode() for i in range(lib.counter_count())
)
DOCS: dict[str, str] = {
    name: ffi.string(lib.counter_doc(i)).decode() for i, name in enumerate(NAMES)
}
DROPS: tuple[str, ...] = NAMES[lib.counter_drop_first() : lib.counter_drop_last() + 1]


def read(counters: Any) -> dict[str, int]:
    """All values of a ``struct counters *`` by name."""
    return dict(zip(NAMES, ffi.unpack(counters.value, len(NAMES)), strict=True))


def nonzero(values: dict[str, int], names: tuple[str, ...] = NAMES) -> dict[str, int]:
    """The counters of ``names`` that moved."""
    return {name: values[name] for name in names if values[name]}


def table() -> str:
    """All counters as a Markdown table, in the order of the registry."""
    rows = (f"| `{name}` | {doc} |" for name, doc in DOCS.items())
    return "\n".join(["| counter | counts |", "|---|---|", *rows])
