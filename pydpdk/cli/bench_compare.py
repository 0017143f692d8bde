"""pydpdk bench compare: two results of runs at different times."""

from __future__ import annotations

from pathlib import Path

import click

from pydpdk.bench import shape
from pydpdk.bench.compare import Gate, compare
from pydpdk.cli import bench_show
from pydpdk.cli.bench_run import fail_option, file_option
from pydpdk.cli.common import emit_json, json_option


@click.command("compare")
@click.argument("old", type=file_option)
@click.argument("new", type=file_option)
@fail_option
@json_option
def command(old: Path, new: Path, limits: tuple[str, ...], as_json: bool) -> int:
    """What changed from OLD to NEW, two files of 'bench run --out'.

    Not paired: whatever the host did between the runs counts. 'bench run --against' is sharper.

    \b
    pydpdk bench compare old.json new.json
    pydpdk bench compare old.json new.json --fail-on p99:10% --fail-on median:5%
    """
    gates = [Gate.parse(limit) for limit in limits]
    result = compare(shape.read_run(old), shape.read_run(new))
    if as_json:
        emit_json(result)
    else:
        bench_show.show_compared(result)
    return bench_show.judged(result, gates)
