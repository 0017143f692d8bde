"""A replay's accounts: what came in is what came out, and what is left over is said."""

from __future__ import annotations

import os
from typing import Any

from pydpdk.core import counters
from pydpdk.engine.engine import END, Engine
from pydpdk.engine.survey import survey
from pydpdk.source.source import Source, capture_path, open_source


def added(counts: Any) -> dict[str, int]:
    total: dict[str, int] = {}
    for count in counts:
        for name, n in count.items():
            total[name] = total.get(name, 0) + n
    return total


def loop_result(engine: Engine) -> dict[str, Any]:
    """The accounts of one loop, of a replay or live: what came in and what was built of it."""
    totals = engine.counters()
    return {
        "frames": {
            "received": totals["frames_received"],
            "parsed": totals["frames_parsed"],
            "dropped": counters.nonzero(totals, counters.DROPS),
        },
        "messages": added(feed.messages() for feed in engine.feeds),
        "sequence": [
            {"feed": str(feed.spec), **session}
            for feed in engine.feeds
            for session in feed.sessions()
        ],
        "books": books_result(engine),
        "refused": refused(engine),
    }


def refused(engine: Engine) -> dict[str, list[str]]:
    """The first 8 symbols, by feed, that found no room among its 65,535 instruments."""
    return {str(feed.spec): symbols for feed in engine.feeds if (symbols := feed.refused())}


def refused_lines(refused: dict[str, list[str]], messages: int) -> list[str]:
    """A line for each feed that had no room for instruments, for people."""
    return [
        f"{feed}: no room for instruments beyond 65,535, first {', '.join(symbols)}:"
        f" {messages:,} messages refused"
        for feed, symbols in refused.items()
    ]


def books_result(engine: Engine) -> dict[str, Any]:
    """Books as they stand; several feeds' hashes are combined in feed order."""
    books = [list(feed.sessions())[-1]["books"] for feed in engine.feeds if list(feed.sessions())]
    return {
        **{name: sum(book[name] for book in books) for name in ("instruments", "orders", "levels")},
        "hash": "-".join(book["hash"] for book in books),
        "suspect": any(feed.suspect for feed in engine.feeds),
        "suspect_instruments": sum(feed.suspect_instruments for feed in engine.feeds),
    }


def unexplained(
    totals: dict[str, int],
    sessions: list[dict[str, Any]],
    events_read: int,
    orders: dict[str, Any] | None = None,
) -> int:
    """Frames, messages, records, orders that no counter accounts for; 0 when all sums close."""
    frames = totals["frames_received"] - totals["frames_parsed"]
    frames -= sum(totals[name] for name in counters.DROPS)
    messages = totals["messages_received"] - sum(
        totals[name]
        for name in (
            "messages_delivered",
            "messages_duplicate",
            "messages_late",
            "messages_cut",
            "messages_untrusted",
        )
    )
    decoded = totals["messages_delivered"] - sum(
        totals[name] for name in ("messages_decoded", "message_unknown", "message_length")
    )
    events = totals["events_written"] - events_read
    expected = totals["messages_expected"]
    expected -= totals["messages_delivered"] + totals["messages_lost"]
    ledger: int = sum(
        abs(s["last"] + 1 - s["first"] - s["delivered"] - s["lost"]) for s in sessions
    )
    left: int = abs(frames) + abs(messages) + abs(decoded) + abs(events) + abs(expected) + ledger
    return left + (_unanswered(orders) if orders else 0)


def _unanswered(orders: dict[str, Any]) -> int:
    """Orders without an answer, and execution reports that were lost."""
    answers: int = orders["acked"] + sum(orders["rejected"].values())
    lost: int = orders["reports_lost"]
    unanswered: int = abs(orders["sent"] - answers)
    return unanswered + lost


def broken_sources(engine: Engine) -> list[str]:
    """What broke, a line for each source that did not end clean."""
    lines = []
    for i, source in enumerate(engine.sources):
        if (code := engine.source_error(i)) not in (0, END):
            lines.append(f"{source.spec}: {_problem(source) or os.strerror(-code)}")
    return lines


def _problem(source: Source) -> str:
    """A port cannot tell where its file broke: our own reader finds the place."""
    path = capture_path(source.spec)
    if source.problem() or path is None:
        return source.problem()
    with open_source(f"pcap:{path}") as reader:
        survey(reader)
        return reader.problem()
