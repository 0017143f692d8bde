"""pydpdk export: a capture's events, messages or books as a table."""

from __future__ import annotations

from pathlib import Path

import click

from pydpdk.cli.common import (
    checksum_option,
    data_problems,
    emit_json,
    json_option,
    progress,
    resolve_feeds,
)
from pydpdk.lockstep import export
from pydpdk.lockstep.account import broken_sources
from pydpdk.lockstep.replay import Replay


@click.command("export")
@click.argument("file", type=click.Path())
@click.option("--feed", "feed_text", required=True, metavar="PROTOCOL[@A[,B]]")
@click.option(
    "--what",
    type=click.Choice(["events", "messages", "books"]),
    default="events",
    show_default=True,
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(),
    help="Ends in .npy, .csv or .parquet; messages: one file a type, its name before the ending.",
)
@click.option(
    "--depth",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="Levels a side, for books.",
)
@checksum_option
@json_option
def command(
    file: str, feed_text: str, what: str, output: str, depth: int, checksum: str, as_json: bool
) -> None:
    """Write what a capture says to a table.

    events: the 64-byte records that stages see. messages: the venue's own fields with sequence
    and ts_recv. books: every level of every book at the end. Prices are integers in 1e-9, times
    nanoseconds.

    \b
    pydpdk export day.pcap --feed itch50 --what events -o events.npy
    pydpdk export day.pcap --feed itch50 --what messages -o day.parquet
    pydpdk export deep.pcap.gz --feed deep10 --what books -o books.csv
    """
    export.check_output(Path(output))
    feeds = resolve_feeds([feed_text], [file])
    with (
        Replay(file, feeds, checksum=checksum, keep_events=what == "events") as replay,
        progress("export", None, "frames") as tick,
    ):
        files = export.export(replay, what, Path(output), depth=depth, progress=tick)
        problems = broken_sources(replay.engine)
    if as_json:
        emit_json({"files": {str(path): rows for path, rows in files.items()}})
    else:
        for path, rows in files.items():
            click.echo(f"{path}  {rows:,} rows")
        if not files:
            click.echo("no messages, so no file")
    data_problems(problems)
