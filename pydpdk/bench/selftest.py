"""Does a run of ten rounds find what is planted, and nothing where nothing is?

A short real case goes through the very path of ``bench run --against``, with this build on both
sides. In every second repetition one side's workers are told to cost more in every timed loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydpdk.bench import data, trees
from pydpdk.bench.versus import Pair, market_of
from pydpdk.errors import HostError

CASE, SERIES = "decode", "pydpdk"
ROUNDS = 10
Told = Callable[[dict[str, Any]], None]


def selftest(
    repetitions: int, slowdown: float, folder: Path, keep: bool, tell: Told
) -> list[dict[str, Any]]:
    """A row for each repetition: planted, the change that was found, right or not.

    HostError where the case cannot be measured.
    """
    market = market_of(folder, data.QUICK, lambda done: None)
    plain, slow = trees.here(), replace(trees.here(), planted=slowdown)
    rows = []
    for number in range(repetitions):
        for build in (plain, slow):
            pair = Pair(plain, build, market, keep)
            found = pair.measure(CASE, ROUNDS, only=SERIES)
            if "skipped" in found:
                raise HostError(f"{CASE} could not be measured: {found['skipped']}")
            change = found["series"][0]["changes"][0]
            said = change["verdict"] in ("slower", "faster")
            right = change["verdict"] == "slower" if build.planted > 1 else not said
            row = {"repetition": number + 1, "planted": build.planted, "right": right, **change}
            rows.append(row)
            tell(row)
    return rows
