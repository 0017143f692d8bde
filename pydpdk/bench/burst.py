"""The largest burst that a way takes back to back without loss, its reader at work meanwhile.

All frames are due at once and go out as fast as the wire takes them (RFC 2544, section 26.4, by
bisection over the length of the burst). A wire that had no room in between ended the burst there:
it held the sender up, and a line from an exchange cannot be held up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

from pydpdk.bench.cases.load import KINDS, PEER, Line, Lines, Trial, limited_by
from pydpdk.bench.data import QUICK, Market
from pydpdk.bench.measure import Case, Series
from pydpdk.bench.wires import search
from pydpdk.bench.wires.search import Search
from pydpdk.errors import HostError

FRAMES = Search(start=32, ceiling=1 << 18)
FRAMES_QUICK = Search(start=32, ceiling=1 << 15, factor=4, resolution=0.25, confirm=1, trials_max=8)


def cases() -> dict[str, Callable[[Market], AbstractContextManager[Case]]]:
    """By name, one of each kind of wire."""
    return {f"burst-{kind}": partial(burst, kind=kind) for kind in KINDS}


@contextmanager
def burst(market: Market, kind: str) -> Iterator[Case]:
    """The longest burst without loss, beside a polled kernel socket's."""
    frames = FRAMES_QUICK if market.size == QUICK else FRAMES
    with ExitStack() as stack:
        lines = Lines(stack, market, kind)
        found: dict[str, Any] = {}
        series = [
            _series(PEER, "", lines.peer, frames, found),
            _series(f"stage over {kind}", PEER, lines.ours, frames, found),
        ]
        facts = lines.facts | {
            "resolution": frames.resolution, "confirmed": frames.confirm, "last_round": found
        }  # fmt: skip
        yield Case(f"burst-{kind}", "burst", series, facts, "frames", better="higher")


def _series(name: str, against: str, line: Line, frames: Search, found: dict[str, Any]) -> Series:
    def run() -> float:
        rows: list[Trial] = []

        def passes(length: int) -> bool:
            rows.append(line.trial(0, length))
            return not rows[-1].failed

        edge = search.find(passes, frames)
        limit = limited_by(edge, rows, lambda trial: trial.frames)
        if not edge.highest:
            raise HostError(f"{name}: not even {edge.failed} frames back to back pass ({limit})")
        longest = [trial for trial in rows if trial.frames == edge.highest][-1]
        found[name] = {"line_rate_us": round(longest.took_ns / 1e3, 1), "limited_by": limit}
        return float(edge.highest)

    return Series(name, "ours" if against else "peer", run, against)
