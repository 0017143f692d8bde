"""pydpdk book: one book at one moment."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import Any

import click
import numpy as np
from rich.table import Table

from pydpdk.cli.common import (
    broken_sources,
    console,
    data_problems,
    emit_json,
    json_option,
    look_at,
    open_sources,
)
from pydpdk.engine import Engine
from pydpdk.errors import UsageError
from pydpdk.feed import VENUE_TZ, Feed
from pydpdk.survey import resolve


def moment_ns(text: str, near_ns: int) -> int:
    """``HH:MM:SS[.frac]`` (New York, on the capture's day), an ISO time, or ns since the epoch."""
    if text.isdigit():
        return int(text)
    head, _, fraction = text.partition(".")
    try:
        if "T" in head or " " in head:
            whole = datetime.fromisoformat(head)
            whole = whole if whole.tzinfo else whole.replace(tzinfo=VENUE_TZ)
        else:
            day = datetime.fromtimestamp(near_ns // 10**9, VENUE_TZ)
            whole = datetime.combine(day.date(), time.fromisoformat(head), VENUE_TZ)
        return int(whole.timestamp()) * 10**9 + int((fraction or "0").ljust(9, "0")[:9])
    except ValueError:
        raise UsageError(
            f"--at {text!r}: HH:MM:SS[.fraction] New York time, an ISO time, or ns since 1970"
        ) from None


@click.command("book")
@click.argument("symbol")
@click.option("--pcap", "file", required=True, type=click.Path(), help="The capture.")
@click.option(
    "--feed", "feed_text", default="itch50", show_default=True, metavar="PROTOCOL[@A[,B]]"
)
@click.option("--at", "at", help="Moment on the record clock; default: the end.")
@click.option("--depth", type=click.IntRange(1), default=10, show_default=True)
@json_option
def command(
    symbol: str, file: str, feed_text: str, at: str | None, depth: int, as_json: bool
) -> None:
    """Print the book of SYMBOL as it stood at a moment of a capture.

    \b
    pydpdk book AAPL --pcap day.pcap --at 09:45:00.25
    pydpdk book ZIEXT --pcap deep.pcap.gz --feed deep10 --depth 5 --json
    """
    found = look_at(file)
    feed = resolve(Feed.parse(feed_text), found)
    until = moment_ns(at, found.ts_first) if at else 2**64 - 1
    with Engine(
        open_sources([f"pcap:{file}"]), [feed], ring=False, until_ns=until, packets_max=1 << 16
    ) as engine:
        while engine.step() >= 0:
            pass
        book = _book(engine, symbol, depth)
        problems = broken_sources(engine)
    if as_json:
        emit_json(book)
    else:
        _show(book)
    data_problems(problems)


def _book(engine: Engine, symbol: str, depth: int) -> dict[str, Any]:
    feed = engine.feeds[0]
    instrument = feed.books.instrument(symbol)
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
    moment = datetime.fromtimestamp(book["at"] // 10**9, UTC)
    out = console()
    out.print(
        f"{book['symbol']} at {moment:%Y-%m-%d %H:%M:%S}.{book['at'] % 10**9:09d} UTC"
        + ("  SUSPECT after a gap" if book["suspect"] else "")
    )
    table = Table(box=None, pad_edge=False)
    for title in ("orders", "size", "bid", "ask", "size", "orders"):
        table.add_column(title, justify="right")
    blank = ("", "", "")
    for i in range(max(len(book["bids"]), len(book["asks"]))):
        bid = _row(book["bids"][i]) if i < len(book["bids"]) else blank
        ask = _row(book["asks"][i]) if i < len(book["asks"]) else blank
        table.add_row(bid[2], bid[1], bid[0], *ask)
    out.print(table)


def _row(level: dict[str, int]) -> tuple[str, str, str]:
    return f"{level['price_1e9'] / 1e9:.4f}", f"{level['size']:,}", f"{level['orders']:,}"
