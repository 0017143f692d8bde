"""Results of pydpdk bench for people."""

from __future__ import annotations

from typing import Any

import click
from rich.table import Table

from pydpdk.bench import warn
from pydpdk.bench.compare import Gate, failures, percent
from pydpdk.bench.output import figure
from pydpdk.cli.common import console, table
from pydpdk.core.hist import POINTS
from pydpdk.errors import Exit

STYLES = {"slower": "bold red", "faster": "bold green", "too noisy to say": "yellow"}


def show(result: dict[str, Any]) -> None:
    """The host, a table of all series, and what to hold against the figures."""
    out = console()
    host = result["host"]
    out.print(
        f"{host['cpu']}, core {host['core']} of {host['cores']}, L3 {host['l3']}, kernel "
        f"{host['kernel']}, governor {host['governor']}, turbo {host['turbo']}, THP {host['thp']}\n"
        f"{host['compiler']} {host['flags']}, DPDK {host['dpdk']}, Python {host['python']}, "
        f"numpy {host['numpy']}, load {host['load']}, commit {host['commit'] or 'unknown'}\n"
        f"{result['rounds']} rounds over {result['session']['messages']:,} messages, "
        f"{result['session']['instruments']:,} instruments\n"
    )
    if result["kind"] == "against":
        old, new = result["old"], result["new"]
        out.print(f"old: {old['label']}, commit {old['commit'] or 'unknown'}, {old['package']}")
        out.print(f"new: this build, commit {new['commit'] or 'unknown'}, {new['package']}\n")
        out.print(_changes(result["cases"]))
    else:
        out.print(_table(result["cases"]))
        if any("percentiles" in row for case in result["cases"] for row in case["series"]):
            out.print(_distributions(result["cases"]))
    for case in result["cases"]:
        if case["facts"] or "skipped" in case:
            out.print(f"{case['name']}: {case.get('skipped') or _facts(case['facts'])}")
    warn_of(result)


def warn_of(result: dict[str, Any]) -> None:
    """What to hold against the figures, and that they are not all."""
    out = console()
    for warning in result["warnings"]:
        out.print(f"warning: {warning}", style="yellow")
    for case in result["cases"]:
        for warning in case.get("warnings", []):
            out.print(f"warning: {case['name']}: {warning}", style="yellow")
    if result.get("interrupted"):
        out.print("interrupted: this is what was measured so far", style="yellow")


def show_compared(result: dict[str, Any]) -> None:
    """Two results beside each other."""
    out = console()
    for name in ("old", "new"):
        host = result[name]
        out.print(f"{name}: commit {host['commit'] or 'unknown'}, {host['cpu']}")
    out.print(_changes(result["cases"]))
    warn_of(result)


def judged(result: dict[str, Any], gates: list[Gate]) -> int:
    """The exit code, with a line on stderr for each reason that a gate has to fail."""
    failed = failures(result, gates)
    for line in failed:
        click.echo(f"failed: {line}", err=True)
    return Exit.THRESHOLD if failed else Exit.OK


def _changes(cases: list[dict[str, Any]]) -> Table:
    made = table(
        ["series", "role", "of"],
        ["point", "old", "new", "change", "99 % interval", "noise", "would have seen"],
    )
    made.add_column("verdict")
    for case in cases:
        for row in case["series"]:
            for change in row["changes"]:
                of, point = change["of"], change["point"]
                figures = [f"{figure(row[side], of, point):,.1f}" for side in ("old", "new")]
                judged = [""] * 4
                if change["ratio"] is not None:
                    judged = [
                        percent(change["ratio"]),
                        f"{percent(change['low'])} to {percent(change['high'])}",
                        *(percent(1 + change[name]) for name in ("noise", "detectable")),
                    ]
                made.add_row(
                    f"{case['name']}: {row['name']}", row["role"], of, point, *figures, *judged,
                    change["verdict"], style=STYLES.get(change["verdict"]),
                )  # fmt: skip
        made.add_section()
    return made


def _table(cases: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("measured")
    table.add_column("")
    for title in ("min", "median", "max", "unit", "ratio"):
        table.add_column(title, justify="left" if title == "unit" else "right")
    table.add_column("to")
    for case in cases:
        for row in case["series"]:
            style = {"ours": "bold", "floor": "dim", "peer": None}[row["role"]]
            figures = [f"{row[name]:,.1f}" for name in ("min", "median", "max")]
            ratio = f"{row['ratio']:,.2f}" if "ratio" in row else ""
            table.add_row(
                f"{case['name']}: {row['name']}", row["role"], *figures, case["unit"],
                ratio, row.get("against", ""), style=style,
            )  # fmt: skip
        for name, why in case["missing"].items():
            table.add_row(f"{case['name']}: {name}", "skipped", *[""] * 5, why, style="yellow")
        table.add_section()
    return table


def _distributions(cases: list[dict[str, Any]]) -> Table:
    """All single figures of the series that keep them; a point on few samples says on how many."""
    made = table(["distribution, ns", "of"], ["count", *POINTS, "max"])
    for case in cases:
        for row in case["series"]:
            for of, points in row.get("percentiles", {}).items():
                few = warn.thin(points)
                figures = [
                    f"{value:,.0f}" + (f" ({few[name]})" if name in few else "")
                    for name, value in points.items()
                ]
                made.add_row(f"{case['name']}: {row['name']}", of, *figures)
    return made


def _facts(facts: dict[str, Any]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {value:,}" if isinstance(value, int) else f"{name} {value}"
        for name, value in facts.items()
        if not isinstance(value, dict)  # whole tables: in --json
    )
