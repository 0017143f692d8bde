"""pydpdk bench instructions: what the core's hot parts execute, whatever the host's pace."""

from __future__ import annotations

from typing import Any

import click

from pydpdk.bench.instructions import TOLERANCE, Counts, count, update
from pydpdk.cli.common import console, emit_json, json_option, table
from pydpdk.errors import Exit


@click.command("instructions")
@click.option("--update", "accept", is_flag=True, help="Make these counts the baseline.")
@json_option
@click.pass_context
def instructions(ctx: click.Context, accept: bool, as_json: bool) -> None:
    """Count instructions of each hot part under callgrind, beside the committed baseline.

    Counts do not depend on what else the host does: the same code and compiler give the same ones.
    The exit code is 5 when a part is more than 3 % above its baseline. Needs valgrind and a clone.

    \b
    pydpdk bench instructions
    pydpdk bench instructions --json
    pydpdk bench instructions --update
    """
    click.echo("building the core and counting (some 10 s)", err=True)
    counts = count()
    if accept:
        update(counts)
    if as_json:
        emit_json(_plain(counts))
    else:
        _show(counts)
    if counts.too_high() and not accept:
        click.echo("\n".join(counts.too_high()), err=True)
        ctx.exit(Exit.THRESHOLD)


def _plain(counts: Counts) -> dict[str, Any]:
    parts = [
        part._asdict() | {"change": part.change, "too_high": part.too_high}
        for part in counts.parts
    ]  # fmt: skip
    return counts._asdict() | {"tolerance": TOLERANCE, "parts": parts}


def _show(counts: Counts) -> None:
    out = console()
    out.print(f"{counts.compiler} {counts.flags}\n")
    rows = table(("part", "of one"), ("instructions", "baseline", "change"))
    for part in counts.parts:
        before = "" if part.before is None else f"{part.before:,.1f}"
        change = "" if part.change is None else f"{part.change:+.1%}"
        rows.add_row(
            part.part, part.unit, f"{part.instructions:,.1f}", before, change,
            style="red" if part.too_high else None,
        )  # fmt: skip
    out.print(rows)
    if counts.incomparable:
        out.print(f"not compared: {counts.incomparable}", style="yellow")
