"""pydpdk book: one book at one moment."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import click
import numpy as np

from pydpdk.cli.common import (
    console,
    data_problems,
    emit_json,
    json_option,
    look_at,
    progress,
    table,
)
from pydpdk.engine.engine import Engine
from pydpdk.engine.feed import VENUE_TZ, Feed
from pydpdk.engine.survey import resolve
from pydpdk.errors import UsageError
from pydpdk.lockstep.account import broken_sources
from pydpdk.source.source import open_source

MOMENT = re.compile(
    r"((\d{4}-\d\d-\d\d)[T ])?(?P<clock>\d\d:\d\d(:\d\d)?)(\.(?P<fraction>\d{1,9}))?"
    r"(?P<zone>Z|[+-]\d\d:\d\d)?"
)
END_OF_TIME = 2**64 - 1


def moment_ns(text: str, near_ns: int) -> int:
    """``[DATE ]HH:MM[:SS[.fraction]][zone]`` (else the capture's day, New York), or epoch ns."""
    if text.isdecimal():
        return min(int(text), END_OF_TIME)
    found = MOMENT.fullmatch(text)
    try:
        if not found:
            raise ValueError
        day = found[2] or datetime.fromtimestamp(near_ns // 10**9, VENUE_TZ).date()
        whole = datetime.fromisoformat(f"{day}T{found['clock']}{found['zone'] or ''}")
        whole = whole if whole.tzinfo else whole.replace(tzinfo=VENUE_TZ)
        return int(whole.timestamp()) * 10**9 + int((found["fraction"] or "").ljust(9, "0"))
    except ValueError:
        raise UsageError(
            f"--at {text!r}: HH:MM:SS[.fraction] New York time, an ISO time, or ns since 1970"
        ) from None


def clock_text(ts_ns: int) -> str:
    """A moment as the venue's clock shows it."""
    whole = datetime.fromtimestamp(ts_ns // 10**9, VENUE_TZ)
    return f"{whole:%Y-%m-%d %H:%M:%S}.{ts_ns % 10**9:09d} {whole:%Z}"


@click.command("book")
@click.argument("symbol")
@click.option("--pcap", "file", required=True, type=click.Path(), help="The capture.")
@click.option(
    "--feed", "feed_text", default="itch50", show_default=True, metavar="PROTOCOL[@A[,B]]"
)
@click.option(
    "--at", "at", metavar="TIME", help="HH:MM:SS[.fraction] New York time; default: the end."
)
@click.option(
    "--depth", type=click.IntRange(1), default=10, show_default=True, help="Levels a side."
)
@json_option
def command(
    symbol: str, file: str, feed_text: str, at: str | None, depth: int, as_json: bool
) -> None:
    """Print the book of SYMBOL as it stood at a moment of a capture.

    TIME is on the capture's clock: of its own day, or an ISO time, or nanoseconds since 1970.

    \b
    pydpdk book AAPL --pcap day.pcap --at 09:45:00.25
    pydpdk book ZIEXT --pcap deep.pcap.gz --feed deep10 --depth 5 --json
    """
    found = look_at(file)
    feed = resolve(Feed.parse(feed_text), found)
    until = moment_ns(at, found.ts_first) if at else END_OF_TIME
    if until < found.ts_first:
        raise UsageError(f"--at {at}: the capture begins at {clock_text(found.ts_first)}")
    frames = found.counters["frames_received"]
    with (
        Engine(
            [open_source(f"pcap:{file}")], [feed], ring=False, until_ns=until, packets_max=1 << 16
        ) as engine,
        progress("book", frames, "frames") as tick,
    ):
        while engine.step() >= 0:
            tick(engine.counters()["frames_received"])
        book = _book(engine, symbol, depth)
        problems = broken_sources(engine)
    if as_json:
        emit_json(book)
    else:
        _show(book)
    data_problems(problems)


def _book(engine: Engine, symbol: str, depth: int) -> dict[str, Any]:
    feed = engine.feeds[0]
    instrument = feed.instrument(symbol)
    bids, asks = feed.books.depth(instrument, depth)
    return {
        "symbol": symbol,
        "instrument_id": feed.base + instrument,
        "at": engine.now,
        "suspect": feed.is_suspect(instrument),
        "bids": _levels(bids),
        "asks": _levels(asks),
    }


def _levels(side: np.ndarray[Any, Any]) -> list[dict[str, int]]:
    return [
        {"price_1e9": int(price), "size": int(size), "orders": int(orders)}
        for price, size, orders in zip(side["price"], side["size"], side["orders"], strict=True)
    ]


def _show(book: dict[str, Any]) -> None:
    out = console()
    state = "  SUSPECT after a gap" if book["suspect"] else ""
    out.print(f"{book['symbol']} at {clock_text(book['at'])}{state}")
    rows = table([], ("orders", "size", "bid", "ask", "size", "orders"))
    blank = ("", "", "")
    for i in range(max(len(book["bids"]), len(book["asks"]))):
        bid = _row(book["bids"][i]) if i < len(book["bids"]) else blank
        ask = _row(book["asks"][i]) if i < len(book["asks"]) else blank
        rows.add_row(bid[2], bid[1], bid[0], *ask)
    out.print(rows)


def _row(level: dict[str, int]) -> tuple[str, str, str]:
    return f"{level['price_1e9'] / 1e9:.4f}", f"{level['size']:,}", f"{level['orders']:,}"
