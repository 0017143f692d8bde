"""A replay's accounts: what came in is what came out, and what is left over is said."""

from __future__ import annotations

from typing import Any

from pydpdk.core import counters
from pydpdk.engine.engine import Engine


def added(counts: Any) -> dict[str, int]:
    total: dict[str, int] = {}
    for count in counts:
        for name, n in count.items():
            total[name] = total.get(name, 0) + n
    return total


def feed_result(feed: Any) -> dict[str, Any]:
    name = str(feed.spec)
    return {
        "messages": feed.messages(),
        "sequence": [{"feed": name, **session} for session in feed.sessions()],
        "lines": [{"feed": name, **line} for line in feed.lines()],
    }


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
