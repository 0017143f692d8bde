"""pydpdk bench list: the cases, what they need, and whether this host has it."""

from __future__ import annotations

import os

import click

from pydpdk.bench.listing import describe
from pydpdk.cli.common import console, emit_json, json_option, table


@click.command("list")
@json_option
def command(as_json: bool) -> None:
    """Every case: what it measures, what it needs, whether it can run here.

    \b
    pydpdk bench list
    pydpdk bench list --json
    """
    rows = describe()
    if as_json:
        emit_json({"cores": sorted(os.sched_getaffinity(0)), "cases": rows})
        return
    out = table(["case", "measures", "needs", "here"], [])
    for row in rows:
        lacks = "; ".join(row["lacks"])
        style = "dim" if lacks else None
        out.add_row(
            row["name"], row["measures"], ", ".join(row["needs"]), lacks or "yes", style=style
        )
    console().print(out)
