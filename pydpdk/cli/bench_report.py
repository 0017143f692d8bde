"""pydpdk bench report: results as a page, a plot, tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from pydpdk.bench import output, plot, report
from pydpdk.cli.bench_run import file_option
from pydpdk.core import hlog
from pydpdk.core.hist import Hist
from pydpdk.errors import DataError, UsageError


@click.command("report")
@click.argument("files", nargs=-1, required=True, type=file_option, metavar="RESULT...")
@click.option("--html", type=file_option, help="One page with everything in it; no script.")
@click.option("--plot", "plot_file", type=file_option, help="Percentiles, to an .svg or .png.")
@click.option("--markdown", is_flag=True, help="Tables for a document, on stdout.")
def command(
    files: Sequence[Path], html: Path | None, plot_file: Path | None, markdown: bool
) -> None:
    """Show RESULTs, files of 'bench run --out'; for --plot histogram logs too.

    Plots need matplotlib: pip install 'pydpdk[plot]'.

    \b
    pydpdk bench report new.json --markdown
    pydpdk bench report new.json --html new.html
    pydpdk bench report old.json new.json --plot both.svg
    pydpdk bench report veth.hlog --plot veth.png
    """
    if not (html or plot_file or markdown):
        raise UsageError("say what is wanted: --markdown, --html FILE, --plot FILE")
    results: list[dict[str, Any]] = []
    hists: dict[str, Hist] = {}
    for file in files:
        prefix = f"{file.name}: " if len(files) > 1 else ""
        if _is_log(file):
            if html or markdown:
                raise UsageError(f"{file}: a histogram log can only be plotted")
            found = hlog.merge(hlog.read(file))
        else:
            results.append(output.read_json(file))
            try:
                found = output.hists(results[-1])
                report.markdown(results[-1:])
            except (AttributeError, KeyError, TypeError) as error:
                raise DataError(
                    f"{file}: not a whole result: {error!r}: measure it anew with 'bench run --out'"
                ) from error
        hists |= {prefix + tag: hist for tag, hist in found.items()}
    if markdown:
        click.echo(report.markdown(results), nl=False)
    if html:
        page = report.page(results)
        output.writable(html)
        html.write_text(page, encoding="utf-8")
    if plot_file:
        plot.save(plot.draw(hists), plot_file)
    for written in filter(None, (html, plot_file)):
        click.echo(f"wrote {written}", err=True)


def _is_log(file: Path) -> bool:
    """Not JSON: the first letter tells."""
    try:
        with file.open("rb") as data:
            return data.read(64).lstrip()[:1] not in (b"{", b"[")
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
