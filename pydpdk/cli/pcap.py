"""pydpdk pcap: look into captures."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from pydpdk.cli.common import console, data_problems, emit_json, json_option, progress, table
from pydpdk.core import counters
from pydpdk.engine.engine import END
from pydpdk.engine.survey import Survey, survey
from pydpdk.source.source import open_source


@click.group("pcap")
def command() -> None:
    """Look into captures.

    \b
    pydpdk pcap info day.pcap
    """


@command.command("info")
@click.argument("file", type=click.Path())
@json_option
def info(file: str, as_json: bool) -> None:
    """Feeds, groups, sessions, sequence ranges and gaps per line of FILE.

    \b
    pydpdk pcap info day.pcap
    pydpdk pcap info day.pcapng.gz --json | jq .streams
    """
    with open_source(f"pcap:{file}") as source, progress("survey", None, "frames") as tick:
        found = survey(source, tick)
        problems = [f"{file}: {source.problem()}"] if found.error not in (0, END) else []
    if as_json:
        emit_json(to_dict(file, found, problems))
    else:
        show(file, found)
    data_problems(problems)


def to_dict(file: str, found: Survey, problems: list[str]) -> dict[str, object]:
    """The survey as plain values."""
    return {
        "file": file,
        "frames": {
            "received": found.counters["frames_received"],
            "udp": found.counters["frames_parsed"],
            "dropped": counters.nonzero(found.counters, counters.DROPS),
        },
        "ts_first": found.ts_first,
        "ts_last": found.ts_last,
        "streams_lost": found.streams_lost,
        "streams": [stream.to_dict() for stream in found.streams],
        "problems": problems,
    }


def show(file: str, found: Survey) -> None:
    """The survey for people."""
    out = console()
    first, last = (datetime.fromtimestamp(ts / 1e9, UTC) for ts in (found.ts_first, found.ts_last))
    out.print(
        f"{file}: {found.counters['frames_received']:,} frames, {first:%Y-%m-%d %H:%M:%S.%f} "
        f"to {last:%H:%M:%S.%f} UTC, {found.counters['frames_parsed']:,} UDP datagrams"
    )
    for name, n in counters.nonzero(found.counters, counters.DROPS).items():
        out.print(f"  {n:>10,}  {name}: {counters.DOCS[name]}")
    if not found.streams:
        return
    rows = table(
        ["destination", "protocol", "session"],
        ["packets", "messages", "sessions", "first", "last", "gaps", "lost"],
    )
    for stream in found.streams:
        f = stream.fields
        last_sequence = f["next"] - 1 if f["next"] else 0
        numbers = (
            f["packets"],
            f["messages"],
            f["sessions"],
            f["first"],
            last_sequence,
            f["gaps"],
            f["lost"],
        )
        rows.add_row(
            str(stream.endpoint),
            stream.protocol or stream.framing,
            repr(stream.session) if stream.session else "",
            *(f"{n:,}" for n in numbers),
        )
    out.print(rows)
