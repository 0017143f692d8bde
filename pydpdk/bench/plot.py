"""Percentile plots as HdrHistogram draws them: value over 1 / (1 - p), each nine as wide.

A curve is dotted where fewer than ten samples lie above: there it is single events, not a
distribution.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pydpdk.bench.warn import BEYOND_MIN
from pydpdk.core.hist import HIGHEST, Hist
from pydpdk.errors import HostError, UsageError

Floats = np.ndarray[Any, np.dtype[np.float64]]
FORMATS = (".svg", ".png")
TICKS = {1: "0", 2: "50 %", 10: "90 %", 100: "99 %", 1000: "99.9 %", 10**4: "99.99 %",
         10**5: "99.999 %", 10**6: "99.9999 %", 10**7: "99.99999 %"}  # fmt: skip


def curve(hist: Hist) -> tuple[Floats, Floats]:
    """Corners of the steps: 1 / (1 - p) and the value in ns that the share p does not exceed.

    The last value, which all of the samples do not exceed, is drawn to twice their number.
    """
    used = np.flatnonzero(hist.counts)
    above = hist.count - np.cumsum(hist.counts[used]).astype(np.float64)
    above[-1] = 0.5
    values = HIGHEST[used].astype(np.float64)
    values[-1] = hist.max
    return np.append(1.0, hist.count / above), np.append(values[0], values)


def draw(hists: Mapping[str, Hist], title: str = "") -> Any:
    """A figure of matplotlib. HostError without it; UsageError without a sample."""
    filled = {name: hist for name, hist in hists.items() if hist.count}
    if not filled:
        raise UsageError("nothing to plot: no series here keeps single figures (latency cases do)")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise HostError(f"plots need matplotlib ({error}): pip install 'pydpdk[plot]'") from error
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot()
    for number, (name, hist) in enumerate(filled.items()):
        x, y = curve(hist)
        sure = hist.count / BEYOND_MIN
        colour = f"C{number % 10}"
        axes.step(x, y, where="pre", color=colour, linewidth=0.8, linestyle=":")
        kept = x <= sure
        axes.step(x[kept], y[kept], where="pre", color=colour, label=f"{name} ({hist.count:,})")
    furthest = max(2 * hist.count for hist in filled.values())
    ticks = [tick for tick in TICKS if tick <= furthest]
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(ticks, [TICKS[tick] for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set(xlabel="percentile", ylabel="ns", title=title)
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(fontsize="small")
    return figure


def save(figure: Any, file: Path) -> None:
    """By the file's suffix. UsageError for one that is not of FORMATS, or no place."""
    if file.suffix not in FORMATS:
        raise UsageError(f"{file}: a plot is {' or '.join(FORMATS)}")
    try:
        figure.savefig(file)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error


def inline_svg(figure: Any) -> str:
    """An <svg> element to put into a page: no declaration, no metadata, nothing to fetch."""
    import matplotlib

    out = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": str(id(figure))}):
        figure.savefig(out, format="svg", metadata=nothing)
    text = out.getvalue()
    return text[text.index("<svg") :]
