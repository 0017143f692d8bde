"""pydpdk status: what a run says of itself."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from pydpdk.cli.common import console, emit_json, json_option, table
from pydpdk.errors import PydpdkError
from pydpdk.lockstep.account import refused_lines
from pydpdk.process import rundir
from pydpdk.watch.status import look

LOOK_S = 1.0


@click.command("status")
@click.argument("name", required=False)
@click.option("--watch", is_flag=True, help="Again every second, until the run ends.")
@json_option
def command(name: str | None, watch: bool, as_json: bool) -> None:
    """Say how the run NAME is, or every run of this user: what its processes said last.

    It asks no process: a run that hangs is seen by the age of what it said. With --watch and
    --json there is a line for each look.

    \b
    pydpdk status                    all runs
    pydpdk status nasdaq --watch     one, every second
    pydpdk status nasdaq --json
    """
    found = look(name)
    if name and not found:
        raise PydpdkError(f"no run {name}: there are {', '.join(rundir.running()) or 'none'}")
    while True:
        tell(found, name, watch, as_json)
        if not watch or not found:
            return
        time.sleep(LOOK_S)
        found = look(name)


def tell(found: list[dict[str, Any]], name: str | None, watch: bool, as_json: bool) -> None:
    """One look, on stdout."""
    result = {"runs": found} if name is None else (found[0] if found else {})
    if as_json and watch:
        click.echo(json.dumps(result))
    elif as_json:
        emit_json(result)
    else:
        if watch and sys.stdout.isatty():
            click.clear()
        for status in found:
            show(status)
        if not found:
            console().print("no run")


def show(status: dict[str, Any]) -> None:
    """One run, for people."""
    out, engine = console(), status.get("engine")
    age = (
        "has said nothing yet" if status["age_s"] is None else f"as of {status['age_s']:.1f} s ago"
    )
    told = [f"process {status.get('pid', '?')}"]
    if engine:
        told.append(f"engine {engine['pid']} (number {engine['incarnation']})")
    out.print(f"{status['name']}: {', '.join(told)}, {age}")
    for death in status.get("deaths", []):
        out.print(f"  engine {death['incarnation']} died: {death['cause']}")
    for loop in engine["loops"] if engine else []:
        _show_loop(loop)
    for index, stage in enumerate(status.get("stages", [])):
        _show_stage(index, stage)
    if engine and engine["clock"]:
        clock = engine["clock"]
        error = "unknown" if clock["error_ns"] is None else f"at most {clock['error_ns']:,} ns"
        out.print(f"clock: error {error}, rate {clock['rate_ppb']:+,} ppb, {clock['steps']} steps")


def _show_loop(loop: dict[str, Any]) -> None:
    out = console()
    core = "not pinned" if loop["core"] is None else f"core {loop['core']}"
    out.print(f"loop of {', '.join(loop['feeds'])} ({core})")
    for feed in (feed for feed, suspect in loop["suspect"].items() if suspect):
        out.print(f"  books of {feed} may be wrong: a gap was given up")
    for line in refused_lines(loop["refused"], loop["counters"].get("instruments_full", 0)):
        out.print(f"  {line}")
    counters = table(["  counter"], ["count"])
    for name, count in loop["counters"].items():
        counters.add_row(f"  {name}", f"{count:,}")
    out.print(counters)
    _show_lines(loop["lines"])
    for port in loop["ports"]:
        stats = port["stats"] or {}
        missed = "unknown" if stats.get("missed") is None else f"{stats['missed']:,}"
        out.print(f"  {port['source']}: link {loop['links'][port['source']]}, missed {missed}")
    ring = loop["ring"]
    out.print(f"  ring: {ring['written']:,} written, {ring['lost']:,} lost")
    for reader in ring["readers"]:
        out.print(
            f"    reader {reader['pid']} ({reader['policy']}): {reader['read']:,} read,"
            f" {reader['lost']:,} lost, {reader['lag']:,} behind"
        )
    out.print(f"  longest stall {loop['stall_max_ns'] / 1e6:.1f} ms")


def _show_lines(lines: list[dict[str, Any]]) -> None:
    numbers = ["packets", "messages", "wins", "losses", "healed", "lead us"]
    shown = table(["  line", "feed", ""], numbers)
    for line in lines:
        counts = (f"{line[name]:,}" for name in numbers[:-1])
        lead, stale = f"{line['lead_ns_mean'] / 1e3:,.1f}", "stale" if line["stale"] else ""
        shown.add_row(f"  {line['line']}", line["feed"], stale, *counts, lead)
    console().print(shown)


def _show_stage(index: int, stage: dict[str, Any] | None) -> None:
    if stage is None:
        console().print(f"stage {index}: has said nothing yet")
        return
    console().print(
        f"stage {index} {stage['strategy']} (process {stage['pid']}): {stage['read']:,} records"
        f" read, {stage['lost']:,} lost, {stage['lag']:,} behind"
    )
    if stage["frozen"]:
        console().print(f"  frozen: {stage['frozen']}")
