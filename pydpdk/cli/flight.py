"""pydpdk flight: dump the flight recorders of a run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from pydpdk.cli.common import console, emit_json, json_option
from pydpdk.engine.flight import Flight
from pydpdk.errors import PydpdkError
from pydpdk.process import rundir


@click.command("flight")
@click.argument("name")
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.pcapng", help="Of several loops each has a file: FILE-0.pcapng ...",
)  # fmt: skip
@click.option(
    "--since-s", type=click.FloatRange(0), metavar="N",
    help="Only frames of the last N seconds of the run.",
)  # fmt: skip
@json_option
def command(name: str, output: Path, since_s: float | None, as_json: bool) -> None:
    """Write the frames that the flight recorders of run NAME hold, as pcapng.

    It reads the memory of the run, which does not notice; that of a run that was killed too, until
    the next run of its name begins.

    \b
    pydpdk flight nasdaq -o last.pcapng
    pydpdk flight nasdaq -o last.pcapng --since-s 5 --json
    """
    loops = recorders(name)
    if not loops:
        there = ", ".join(rundir.running()) or "none"
        raise PydpdkError(
            f"no flight recorder of a run {name}: runs are {there}; "
            "a source has one unless its flight_mb is 0"
        )
    files = []
    for loop in loops:
        path = output if len(loops) == 1 else output.with_stem(f"{output.stem}-{loop}")
        since = 0 if since_s is None else round(now_ns(name, loop) - since_s * 1e9)
        files.append(dump(name, loop, path, max(since, 0)))
    if as_json:
        emit_json({"run": name, "files": files})
        return
    for file in files:
        console().print(
            f"loop {file['loop']}: {file['frames']:,} of {file['recorded']:,} frames in"
            f" {file['path']}; {file['lost']:,} lost, {file['cut']:,} cut"
        )


def recorders(name: str) -> list[int]:
    """Numbers of the loops of a run that have one."""
    stem = rundir.flight_name(name, 0).removesuffix("0")
    found = (path.name.removeprefix(stem) for path in rundir.SHM.glob(f"{stem}*"))
    return sorted(int(number) for number in found if number.isdecimal())


def now_ns(name: str, loop: int) -> float:
    """When the run spoke last, on the clock that stamps its frames."""
    engine = rundir.read(name, "status").get("engine") or {"loops": []}
    if engine["loops"] and engine["clock"] is None:  # captures: the clock is theirs
        return float(engine["loops"][loop]["now"]) if loop < len(engine["loops"]) else 0.0
    return (time.time() - (rundir.age_s(name, "status") or 0.0)) * 1e9


def dump(name: str, loop: int, path: Path, since_ns: int) -> dict[str, Any]:
    """One recorder to one file: what is in it, and of how many frames."""
    with Flight.attach(rundir.flight_name(name, loop)) as flight:
        frames, stats = flight.dump(path, since_ns), flight.stats()
    return {
        "loop": loop, "path": str(path), "frames": frames, "recorded": stats.frames,
        "lost": stats.lost, "cut": stats.cut, "sources": stats.interfaces,
    }  # fmt: skip
