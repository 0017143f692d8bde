"""pydpdk doctor: is this host ready?"""

from __future__ import annotations

import sys

import click
from rich.table import Table
from rich.text import Text

from pydpdk.cli.common import console, emit_json, json_option
from pydpdk.doctor import PURPOSES, checks
from pydpdk.errors import Exit

STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command("doctor")
@click.option("--for", "purpose", type=click.Choice(PURPOSES), default="replay", show_default=True)
@click.option("--strict", is_flag=True, help="Warnings count as failures.")
@json_option
def command(purpose: str, strict: bool, as_json: bool) -> None:
    """Check what this host lacks, with the command that mends it. Exits 3 when something fails.

    \b
    pydpdk doctor
    pydpdk doctor --for bench --strict --json
    """
    rows = checks(purpose)
    if as_json:
        emit_json({"for": purpose, "checks": [row.to_dict() for row in rows]})
    else:
        table = Table(box=None, pad_edge=False, show_header=False)
        for row in rows:
            table.add_row(Text(row.status, STYLES[row.status]), row.name, row.found)
            if row.mend:
                table.add_row("", "", f"-> {row.mend}")
        console().print(table)
    bad = {"fail", "warn"} if strict else {"fail"}
    if any(row.status in bad for row in rows):
        sys.exit(Exit.HOST)
