"""pydpdk record: sources to rotating captures."""

from __future__ import annotations

import sys
from typing import Any

import click

from pydpdk.cli.common import (
    console,
    emit_json,
    interruptible,
    json_option,
    progress,
    table,
)
from pydpdk.errors import DataError, Exit, PydpdkError
from pydpdk.source.source import open_sources
from pydpdk.tape.record import Recorder, Rotation

MB = 1_000_000
LOOK_S = 0.1
BUFFER_MAX_MB = 1 << 19


@click.command("record")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option(
    "-o",
    "--output",
    "prefix",
    required=True,
    metavar="DIR/PREFIX",
    help="Start of every file's path; a stamp, a number and .pcapng follow.",
)
@click.option(
    "--rotate-mb",
    type=click.FloatRange(0),
    default=0,
    help="Begin another file before one exceeds so many million bytes.",
)
@click.option(
    "--rotate-s",
    type=click.FloatRange(0),
    default=0,
    help="Begin another file with the frame stamped so much later than its first.",
)
@click.option(
    "--keep",
    type=click.IntRange(0),
    default=0,
    help="Files kept: the oldest of this recording are removed.",
)
@click.option(
    "--snaplen",
    type=click.IntRange(1, Rotation.snaplen),
    default=Rotation.snaplen,
    show_default=True,
    help="Bytes kept of a frame; longer ones are counted as cut.",
)
@click.option("--count", type=click.IntRange(1), help="End after so many frames.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="End after this time.")
@click.option(
    "--buffer-mb",
    type=click.IntRange(1, BUFFER_MAX_MB),
    default=64,
    show_default=True,
    help="Memory between receiving and writing, in MiB, rounded up to a power of two.",
)
@click.option("--core", type=click.IntRange(0), help="CPU of the receive loop.")
@json_option
def command(
    sources: tuple[str, ...],
    prefix: str,
    rotate_mb: float,
    rotate_s: float,
    keep: int,
    snaplen: int,
    count: int | None,
    seconds: float | None,
    buffer_mb: int,
    core: int | None,
    as_json: bool,
) -> None:
    """Record SOURCEs to pcapng files with nanosecond stamps.

    Frames are lost only when the disk falls behind by more than the buffer, and are counted. A
    file can be read while it is written; it is synced to disk when it is finished. Ctrl-C ends
    the recording after all that was received is written.

    \b
    pydpdk record af_packet:eth0 -o /data/day --rotate-mb 1000 --keep 20
    pydpdk record pci:0000:3b:00.0 pci:0000:3b:00.1 -o day --core 3 --seconds 3600
    pydpdk record pcap:day.pcap.zst -o day --json
    """  # fmt: skip
    rotation = Rotation(int(rotate_mb * MB), rotate_s, keep, count or 0, seconds or 0, snaplen)
    opened = open_sources(sources)
    try:
        with Recorder(
            opened,
            prefix,
            rotation,
            buffer_bytes=1 << (buffer_mb * 2**20 - 1).bit_length(),
            core=core,
        ) as recorder:
            result = run(recorder)
    finally:
        for source in opened:
            source.close()
    if as_json:
        emit_json(result)
    else:
        show(result)
    finish(result, recorder.errors)


def run(recorder: Recorder) -> dict[str, Any]:
    """Record until the end or an interrupt; the summary."""
    with interruptible() as asked, progress("record", None, "frames") as tick:
        while not recorder.join(LOOK_S):
            tick(recorder.frames)
            if asked():
                recorder.stop()
        return recorder.result() | {"interrupted": asked()}


def show(result: dict[str, Any]) -> None:
    """The summary for people."""
    out = console()
    rows = table(["file"], ["frames", "bytes"])
    for file in result["files"]:
        rows.add_row(file["path"], f"{file['frames']:,}", f"{file['bytes']:,}")
    out.print(rows)
    removed = f", {result['files_removed']} files removed" if result["files_removed"] else ""
    out.print(
        f"{result['written']:,} frames, {result['bytes']:,} bytes in {result['seconds']} s{removed}"
    )
    out.print(
        f"lost by the recorder {result['lost']:,}, received and not written"
        f" {result['unwritten']:,}, cut {result['cut']:,}, unexplained {result['unexplained']}"
    )
    for source in result["sources"]:
        missed = "unknown" if source["missed"] is None else f"{source['missed']:,}"
        out.print(f"{source['source']}: received {source['received']:,}, missed by it {missed}")


def finish(result: dict[str, Any], errors: list[Exception]) -> None:
    """Exit code: what could not be written 1, a broken source 4, interrupted 130."""
    if errors:
        raise errors[0]
    problems = [f"{s['source']}: {s['problem']}" for s in result["sources"] if s["problem"]]
    if problems:
        raise DataError("\n".join(problems))
    if result["interrupted"]:
        sys.exit(Exit.INTERRUPTED)
    if result["unexplained"] or result["unwritten"]:
        raise PydpdkError("frames are not accounted for: please report this")
