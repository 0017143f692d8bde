"""pydpdk bench: what this host and this build can do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from pydpdk.bench import data
from pydpdk.bench.run import CASES, run
from pydpdk.cli.common import console, emit_json, json_option, progress

QUICK_ROUNDS = 3


@click.command("bench")
@click.option("--only", multiple=True, type=click.Choice(list(CASES)), help="Just this; repeat.")
@click.option("--rounds", type=click.IntRange(1), help="That count, after one to warm up. [7]")
@click.option("--quick", is_flag=True, help="A small session and 3 rounds: does it all work?")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where generated captures are kept.  [default: the user's cache]",
)
@json_option
def command(
    only: tuple[str, ...], rounds: int | None, quick: bool, folder: Path | None, as_json: bool
) -> None:
    """Measure each part beside its physical floor and its peers, in turn, on one core.

    A ratio is taken within each round, so it holds when the host's pace changes; a figure of its
    own is only as good as the host's peace. Peers run where installed: pip install pydpdk[bench].

    \b
    pydpdk bench
    pydpdk bench --only path --only book --rounds 21
    pydpdk bench --only receive-af_xdp --only latency-veth
    pydpdk bench --quick --json
    """
    size = data.QUICK if quick else data.FULL
    log = Console(stderr=True, highlight=False)
    with progress("generate a session", size.messages, "messages") as tick:
        result = run(
            [name for name in CASES if name in only] or list(CASES),
            size=size,
            rounds=rounds or (QUICK_ROUNDS if quick else 7),
            folder=folder or data.cache_dir(),
            generating=tick,
            notify=lambda name: log.print(f"measuring {name}"),
        )
    if as_json:
        emit_json(result)
    else:
        show(result)


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
    out.print(_table(result["cases"]))
    if any("percentiles" in row for case in result["cases"] for row in case["series"]):
        out.print(_distributions(result["cases"]))
    for case in result["cases"]:
        if case["facts"] or "skipped" in case:
            out.print(f"{case['name']}: {case.get('skipped') or _facts(case['facts'])}")
    for warning in result["warnings"]:
        out.print(f"warning: {warning}", style="yellow")


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
    """All single figures of the series that keep them."""
    table = Table(box=None, pad_edge=False)
    for title in ("distribution", "of"):
        table.add_column(title)
    for title in ("count", "p50", "p90", "p99", "p99.9", "max", "unit"):
        table.add_column(title, justify="right")
    for case in cases:
        for row in case["series"]:
            for of, points in row.get("percentiles", {}).items():
                figures = [f"{value:,.0f}" for value in points.values()]
                table.add_row(f"{case['name']}: {row['name']}", of, *figures, case["unit"])
    return table


def _facts(facts: dict[str, Any]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {value:,}" if isinstance(value, int) else f"{name} {value}"
        for name, value in facts.items()
    )
