"""What commands share: options, progress, results."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from pydpdk.engine.feed import Feed
from pydpdk.engine.survey import Survey, find_feeds, survey
from pydpdk.errors import DataError, UsageError
from pydpdk.source.source import capture_path, open_source

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
feed_option = click.option(
    "--feed",
    "feed_texts",
    multiple=True,
    required=True,
    metavar="PROTOCOL[@A[,B]]",
    help="itch50, deep10, tops16; with ADDRESS:PORT of line A and B, or found in the capture.",
)
checksum_option = click.option(
    "--checksum",
    type=click.Choice(["auto", "verify", "ignore"]),
    default="auto",
    show_default=True,
    help="Wrong checksums: auto counts and accepts, verify drops.",
)


WIDE = 200  # a narrow terminal wraps a table's lines; it must not cost digits


def console() -> Console:
    """Where results for people go: stdout, text as it is, no colour but on a terminal."""
    return Console(
        file=sys.stdout, width=WIDE, height=50, soft_wrap=True,
        highlight=False, markup=False, emoji=False,
    )  # fmt: skip


def table(texts: Sequence[str], numbers: Sequence[str]) -> Table:
    """An empty table: columns of text to the left, then columns of numbers to the right."""
    made = Table(box=None, pad_edge=False)
    for title in texts:
        made.add_column(title)
    for title in numbers:
        made.add_column(title, justify="right")
    return made


def emit_json(result: Any) -> None:
    """One object, sorted as built, newline at the end."""
    click.echo(json.dumps(result, indent=2))


@contextmanager
def progress(label: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    """A progress line on stderr when that is a terminal; else nothing."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield lambda done: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} " + unit),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM ask for an end; a second one ends at once. Yields "was it asked?"."""
    asked: list[int] = []

    def ask(number: int, frame: Any) -> None:
        if asked:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        asked.append(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def look_at(spec: str) -> Survey:
    """Survey the capture behind a source string, with progress."""
    path = capture_path(spec)
    if path is None:
        raise UsageError(f"{spec}: not a capture; name the feed's lines: --feed PROTOCOL@A,B")
    with open_source(f"pcap:{path}") as source, progress("survey", None, "frames") as tick:
        return survey(source, tick)


def resolve_feeds(texts: Sequence[str], specs: Sequence[str], **options: Any) -> list[Feed]:
    """Feeds by their texts; what they leave open is found in the captures, with progress."""
    feeds = [Feed.parse(text, **options) for text in texts]
    with progress("survey", None, "frames") as tick:
        return find_feeds(feeds, specs, tick)


def data_problems(lines: Sequence[str]) -> None:
    """Raise DataError with these lines, if there are any."""
    if lines:
        raise DataError("\n".join(lines))
