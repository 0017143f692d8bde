"""pydpdk times: stage times of runs, and of histogram logs."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from pydpdk.cli.common import console, emit_json, json_option, table
from pydpdk.core import hlog
from pydpdk.core.hist import POINTS, Hist
from pydpdk.errors import UsageError
from pydpdk.process import rundir
from pydpdk.process.times import BETWEEN
from pydpdk.watch.times import of_runs

LOOK_S = 1.0
SHOWN = ("count", *POINTS, "max")
Found = dict[str, Hist]


@click.command("times")
@click.argument("what", nargs=-1, metavar="[RUN | FILE.hlog...]")
@click.option("--watch", is_flag=True, help="A run: again every second, until it ends.")
@click.option("--against", type=click.Path(), metavar="FILE.hlog", help="Ratios to this log.")
@click.option("--out", type=click.Path(), metavar="FILE.hlog", help="Write them there, merged.")
@click.option("--explain", is_flag=True, help="Say what each lies between, and end.")
@json_option
def command(
    what: tuple[str, ...],
    watch: bool,
    against: str | None,
    out: str | None,
    explain: bool,
    as_json: bool,
) -> None:
    """Show how long each stage took: of a run, from its shared memory, or of histogram logs.

    Logs are those of `run --hlog` and `replay --hlog`, or of any of HdrHistogram's tools with two
    significant figures up to 2^40 ns; several are merged by tag. All figures are ns.

    \b
    pydpdk times                                all runs of this user
    pydpdk times nasdaq --watch
    pydpdk times mon.hlog tue.hlog --out week.hlog
    pydpdk times new.hlog --against old.hlog
    """
    if explain:
        tell(BETWEEN, as_json)
        return
    logs = [name for name in what if name.endswith(".hlog")]
    if logs and len(logs) != len(what):
        raise UsageError("name one run, or logs that end in .hlog, not both")
    if watch and (logs or out):
        raise UsageError("--watch is for a run")
    before = hlog.merge(hlog.read(against)) if against else None
    while True:
        found = merged(logs) if logs else of_runs(what)
        if out:
            hlog.write(out, found)
        show(found, before, as_json, line=watch)
        if not watch:
            return
        time.sleep(LOOK_S)
        if not set(what or rundir.running()) & set(rundir.running()):
            return


def merged(paths: list[str]) -> Found:
    """What stands in all these logs, by tag."""
    return hlog.merge(interval for path in paths for interval in hlog.read(path))


def show(found: Found, before: Found | None, as_json: bool, line: bool) -> None:
    """Percentiles; with ``before`` the ratio of each to its."""
    told: dict[str, dict[str, Any]] = {n: dict(h.percentiles()) for n, h in found.items()}
    for name, points in told.items():
        if before and name in before:
            was = before[name].percentiles()
            points["ratio"] = {p: round(points[p] / was[p], 3) for p in SHOWN[1:] if was[p]}
    if as_json and line:
        click.echo(json.dumps(told))
    elif as_json:
        emit_json(told)
    else:
        console().print(rows_of(told, before is not None))


def rows_of(told: dict[str, dict[str, Any]], ratios: bool) -> Any:
    rows = table(["ns"], SHOWN)
    for name, points in told.items():
        rows.add_row(name, *(f"{points[point]:,}" for point in SHOWN))
        if ratios:
            ratio = points.get("ratio", {})
            rows.add_row(
                "  ratio", "", *(f"{ratio[p]:.2f}" if p in ratio else "" for p in SHOWN[1:])
            )
    return rows


def tell(between: dict[str, str], as_json: bool) -> None:
    if as_json:
        emit_json(between)
        return
    rows = table(["name", "lies between"], [])
    for name, text in between.items():
        rows.add_row(name, text)
    console().print(rows)
