"""One replay through the whole pipeline, and all that it left behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pydpdk.core.event import join
from pydpdk.engine.engine import END, Engine
from pydpdk.engine.feed import Feed
from pydpdk.engine.survey import resolve, survey
from pydpdk.lockstep.replay import Replay
from pydpdk.source.source import open_source
from pydpdk.stage.stage import Stage
from pydpdk.trade.limits import RiskConfig

SMALL = {"orders_max": 1 << 17, "levels_max": 1 << 18}
"""Options of a Feed: books that fit a test, made faster than those of a whole market."""


@dataclass
class Outcome:
    """What one run gave; ``result`` is its accounts without what a clock measured."""

    result: dict[str, Any]
    counters: dict[str, int]
    books: list[str]  # hash of each feed
    ends: list[int]  # of each source: END, or the error that broke it
    problems: list[str]
    orders: bytes  # records that the strategy issued
    reports: bytes
    events: np.ndarray[Any, Any] = field(repr=False)

    @property
    def clean(self) -> bool:
        """Every account closes, no record is lost (lockstep waits) and no source broke."""
        left = self.result["unexplained"] + self.result["events"]["lost"]
        return left == 0 and set(self.ends) <= {END}


def replay(
    specs: str | Path | Sequence[str | Path],
    feeds: Sequence[Feed],
    stage: Stage | None = None,
    look: Callable[[Engine], object] | None = None,
    limits: RiskConfig | None = None,
    **options: Any,
) -> Outcome:
    """Run sources (paths or source strings) to their end; ``look`` at the engine before it goes."""
    with Replay(
        specs, feeds, stage, limits=limits, keep=True, keep_events=True, **options
    ) as pipeline:
        pipeline.run()
        result, engine = pipeline.accounts(), pipeline.engine
        for name in ("latency_ns", "problems"):  # their sources are named
            del result[name]
        if look:
            look(engine)
        traded = pipeline.desk.records if pipeline.desk else {"sent": [], "reports": []}
        return Outcome(
            result,
            engine.counters(),
            [f"{feed.books.hash():016x}" for feed in engine.feeds],
            [engine.source_error(i) for i in range(len(engine.sources))],
            [source.problem() for source in engine.sources],
            join(traded["sent"]).tobytes(),
            join(traded["reports"]).tobytes(),
            pipeline.events(),
        )


def found_feed(path: str | Path, protocol: str, **options: Any) -> Feed:
    """The feed of that protocol as the capture itself tells it."""
    with open_source(f"pcap:{path}") as source:
        return resolve(Feed(protocol, **options), survey(source))
