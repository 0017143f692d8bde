"""Does a run of ten rounds find what is planted, and nothing where nothing is?

A short real case goes through the very path of ``bench run --against``: three workers of this one
build, of which one was told to cost more within every timed loop. It and one of the other two take
turns, then those two.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pydpdk.bench import data, trees
from pydpdk.bench.versus import Pair, Side, market_of

CASE, SERIES = "decode", "pydpdk"
ROUNDS = 10
Told = Callable[[dict[str, Any]], None]


def selftest(repetitions: int, slowdown: float, folder: Path, tell: Told) -> list[dict[str, Any]]:
    """A row for each repetition: planted, the change that was found, right or not."""
    market = market_of(folder, data.QUICK, lambda done: None)
    rows = []
    with ExitStack() as stack:
        sides = [stack.enter_context(Side(trees.here(), market.cores)) for _ in range(3)]
        sides[2].ask("plant", factor=slowdown)
        equal, slower = Pair(sides[0], sides[1], market), Pair(sides[0], sides[2], market)
        for number in range(repetitions):
            for pair, planted in ((equal, 1.0), (slower, slowdown)):
                found = pair.measure(CASE, ROUNDS, only=SERIES)
                change = found["series"][0]["changes"][0]
                said = change["verdict"] in ("slower", "faster")
                right = change["verdict"] == "slower" if planted > 1 else not said
                row = {"repetition": number + 1, "planted": planted, "right": right, **change}
                rows.append(row)
                tell(row)
    return rows
