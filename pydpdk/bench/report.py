"""Results as tables of Markdown and as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from pydpdk.bench import output, plot, warn
from pydpdk.bench.compare import percent
from pydpdk.core.hist import POINTS, Hist

Row = dict[str, Any]
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0 } caption { text-align: left; font-weight: bold }
td, th { padding: .15em .8em; border-bottom: 1px solid #ddd; text-align: left }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
.warning { color: #8a5a00 } svg { max-width: 100%; height: auto }
"""


@dataclass(frozen=True)
class Table:
    """``numbers``: how many columns at the end are figures."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: int


def tables(result: Row) -> Iterator[Table]:
    """Of one result, whatever its kind."""
    for case in result["cases"]:
        if case["series"]:
            changed = any("changes" in row for row in case["series"])
            yield from [_changes(case)] if changed else _figures(case)


def _figures(case: Row) -> Iterator[Table]:
    rows = [
        (
            row["name"], row["role"], *(f"{row[name]:,.1f}" for name in ("min", "median", "max")),
            f"{row['ratio']:,.2f} of {row['against']}" if "ratio" in row else "",
        )
        for row in case["series"]
    ]  # fmt: skip
    head = ("series", "role", "min", "median", "max", "ratio")
    yield Table(f"{case['name']}, {case['unit']}", head, tuple(rows), 4)
    rows = []
    for row in case["series"]:
        for of, points in row.get("percentiles", {}).items():
            few = warn.thin(points)
            figures = (
                f"{value:,}" + (f" ({few[name]})" if name in few else "")
                for name, value in points.items()
            )
            rows.append((row["name"], of, *figures))
    if rows:
        yield Table(
            f"{case['name']}, distributions, ns (in brackets: rests on so many samples)",
            ("series", "of", "count", *POINTS, "max"), tuple(rows), 2 + len(POINTS),
        )  # fmt: skip


def _changes(case: Row) -> Table:
    rows = []
    for row in case["series"]:
        for change in row["changes"]:
            of, point = change["of"], change["point"]
            figures = [f"{output.figure(row[side], of, point):,.1f}" for side in ("old", "new")]
            judged = ["", ""]
            if change["ratio"] is not None:
                judged = [
                    percent(change["ratio"]),
                    f"{percent(change['low'])} to {percent(change['high'])}",
                ]
            rows.append((row["name"], row["role"], of, change["verdict"], point, *figures, *judged))
    head = ("series", "role", "of", "verdict", "point", "old", "new", "change", "99 % interval")
    return Table(f"{case['name']}, {case['unit']}", head, tuple(rows), 5)


def heading(result: Row) -> str:
    """What was measured when and on what, in a line."""
    host = result.get("host") or result["new"]
    return f"{result['kind']} of {result['created']}, commit {host['commit'] or 'unknown'}"


def warnings(result: Row) -> list[str]:
    """Of the whole and of its cases."""
    found = list(result["warnings"])
    for case in result["cases"]:
        if "skipped" in case:
            found.append(f"{case['name']}: skipped: {case['skipped']}")
        found += [f"{case['name']}: {text}" for text in case.get("warnings", [])]
        found += [f"{case['name']}: {name}: {why}" for name, why in case["missing"].items()]
    return found


def markdown(results: Sequence[Row]) -> str:
    """Tables to paste into a document, each result under what it was taken on."""
    parts = []
    for result in results:
        host = result.get("host") or result["new"]
        parts.append(
            f"{heading(result)}: {host['cpu']}, kernel {host['kernel']}, {host['compiler']}"
        )
        for table in tables(result):
            texts = len(table.head) - table.numbers
            lines = [table.head, tuple(["---"] * texts + ["---:"] * table.numbers), *table.rows]
            rows = [
                "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines
            ]
            parts.append(f"**{table.title}**\n\n" + "\n".join(rows))
        parts += ["\n".join(f"- {text}" for text in warnings(result))]
    return "\n\n".join(filter(None, parts)) + "\n"


def page(results: Sequence[Row]) -> str:
    """One HTML page: no script, nothing to fetch."""
    body = "".join(map(_section, results))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>pydpdk bench</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>pydpdk bench</h1>\n{body}</body></html>\n"
    )


def _section(result: Row) -> str:
    parts = [f"<h2>{escape(heading(result))}</h2>\n"]
    parts += [f'<p class="warning">{escape(text)}</p>\n' for text in warnings(result)]
    parts += map(_table, tables(result))
    by_case: dict[str, dict[str, Hist]] = {}
    for tag, hist in output.hists(result).items():
        case, _, rest = tag.partition("/")
        by_case.setdefault(case, {})[rest] = hist
    for case, hists in by_case.items():
        parts.append(plot.inline_svg(plot.draw(hists, case)) + "\n")
    for name in ("host", "old", "new"):
        if name in result:
            rows = tuple((key, str(value)) for key, value in result[name].items())
            parts.append(_table(Table(name, ("", ""), rows, 0)))
    return "".join(parts)


def _table(table: Table) -> str:
    texts = len(table.head) - table.numbers

    def row(cells: Sequence[str], tag: str) -> str:
        made = (
            f"<{tag}{' class=n' if i >= texts else ''}>{escape(cell)}</{tag}>"
            for i, cell in enumerate(cells)
        )
        return f"<tr>{''.join(made)}</tr>\n"

    rows = "".join(row(cells, "td") for cells in table.rows)
    return (
        f"<table><caption>{escape(table.title)}</caption>\n{row(table.head, 'th')}{rows}</table>\n"
    )
