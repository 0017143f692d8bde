"""Reports of pydpdk bench for people, as text and as a page of it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from pydpdk.bench import warn
from pydpdk.bench.compare import Gate, failures, figure, percent
from pydpdk.bench.instructions import Counts
from pydpdk.cli.common import WIDE, table
from pydpdk.core.hist import POINTS
from pydpdk.errors import Exit

STYLES = {"slower": "bold red", "faster": "bold green", "too noisy to say": "yellow"}
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>pydpdk bench</title></head>
<body><pre style="font: 13px/1.4 ui-monospace, monospace">{code}</pre></body></html>
"""
Row = dict[str, Any]


def show(report: Row, out: Console) -> None:
    """What it was taken on, a table of all series, and what to hold against the figures."""
    if report["kind"] == "compare":
        for name in ("old", "new"):
            host = report[name]
            out.print(f"{name}: commit {host['commit'] or 'unknown'}, {host['cpu']}")
    else:
        _head(report, out)
    if report["kind"] == "run":
        out.print(_figures(report["cases"]))
        if any("percentiles" in row for case in report["cases"] for row in case["series"]):
            out.print(_distributions(report["cases"]))
    else:
        out.print(_changes(report["cases"]))
    for case in report["cases"]:
        if "skipped" in case or case.get("facts"):
            out.print(f"{case['name']}: {case.get('skipped') or _facts(case['facts'])}")
    for warning in report["warnings"]:
        out.print(f"warning: {warning}", style="yellow")
    for case in report["cases"]:
        for warning in case.get("warnings", []):
            out.print(f"warning: {case['name']}: {warning}", style="yellow")
    if report.get("interrupted"):
        out.print("interrupted: this is what was measured so far", style="yellow")


def _head(report: Row, out: Console) -> None:
    host = report["host"]
    out.print(
        f"{host['cpu']}, core {host['core']} of {host['cores']}, L3 {host['l3']}, kernel "
        f"{host['kernel']}, governor {host['governor']}, turbo {host['turbo']}, THP {host['thp']}\n"
        f"{host['compiler']} {host['flags']}, DPDK {host['dpdk']}, Python {host['python']}, "
        f"numpy {host['numpy']}, load {host['load']}, commit {host['commit'] or 'unknown'}\n"
        f"{report['created']}: {report['rounds']} rounds over "
        f"{report['session']['messages']:,} messages, "
        f"{report['session']['instruments']:,} instruments\n"
    )
    for name in ("old", "new") if report["kind"] == "against" else ():
        side = report[name]
        label = side.get("label", "this build")
        out.print(f"{name}: {label}, commit {side['commit'] or 'unknown'}, {side['package']}")


def page(reports: Sequence[Row]) -> str:
    """All of them as one HTML page that fetches nothing and runs nothing."""
    out = Console(
        record=True, file=io.StringIO(), width=WIDE, soft_wrap=True, force_terminal=True,
        highlight=False, markup=False, emoji=False,
    )  # fmt: skip
    for report in reports:
        show(report, out)
        out.print()
    return out.export_html(code_format=PAGE, inline_styles=True)


def judged(report: Row, gates: list[Gate]) -> int:
    """The exit code, with a line on stderr for each reason that a gate has to fail."""
    failed = failures(report, gates)
    for line in failed:
        click.echo(f"failed: {line}", err=True)
    return Exit.THRESHOLD if failed else Exit.OK


def cases(rows: list[Row]) -> Table:
    """Those there are, see :func:`pydpdk.bench.listing.describe`."""
    made = table(["case", "measures", "needs", "here"], [])
    for row in rows:
        lacks = "; ".join(row["lacks"])
        made.add_row(
            row["name"], row["measures"], ", ".join(row["needs"]), lacks or "yes",
            style="dim" if lacks else None,
        )  # fmt: skip
    return made


def show_counts(counts: Counts, out: Console) -> None:
    """Instructions of each part beside the baseline."""
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


def _changes(cases: list[Row]) -> Table:
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


def _figures(cases: list[Row]) -> Table:
    made = table(["measured", ""], ["min", "median", "max"])
    made.add_column("unit")
    made.add_column("ratio", justify="right")
    made.add_column("to")
    for case in cases:
        for row in case["series"]:
            style = {"ours": "bold", "floor": "dim", "peer": None}[row["role"]]
            figures = [f"{row[name]:,.1f}" for name in ("min", "median", "max")]
            ratio = f"{row['ratio']:,.2f}" if "ratio" in row else ""
            made.add_row(
                f"{case['name']}: {row['name']}", row["role"], *figures, case["unit"],
                ratio, row.get("against", ""), style=style,
            )  # fmt: skip
        for name, why in case["missing"].items():
            made.add_row(f"{case['name']}: {name}", "skipped", *[""] * 5, why, style="yellow")
        made.add_section()
    return made


def _distributions(cases: list[Row]) -> Table:
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


def _facts(facts: Row) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {value:,}" if isinstance(value, int) else f"{name} {value}"
        for name, value in facts.items()
        if not isinstance(value, dict)  # whole tables: in --json
    )
