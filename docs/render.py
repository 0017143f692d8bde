"""The reference pages in docs/: written heads, tables out of the compiled core.

    python docs/render.py [FOLDER]

writes everything below MARK of each page anew.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from pydpdk.core import counters, layout
from pydpdk.trade import risk

MARK = "<!-- From here on made by: python docs/render.py -->\n"


def _wire() -> str:
    return "\n".join(f"## {name}\n\n{layout.reference(name)}" for name in layout.protocols())


PAGES: dict[str, Callable[[], str]] = {
    "counters.md": counters.table,
    "risk.md": risk.reject_table,
    "wire.md": _wire,
}


def page(name: str, text: str) -> str:
    """The page ``text`` with its tables as this build has them."""
    head, _, _ = text.partition(MARK)
    return f"{head}{MARK}\n{PAGES[name]().rstrip()}\n"


def main(folder: Path) -> None:
    """Refresh every page in ``folder``."""
    for name in PAGES:
        path = folder / name
        path.write_text(page(name, path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(Path(*sys.argv[1:] or ["docs"]))
