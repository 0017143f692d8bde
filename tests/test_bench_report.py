"""Pages, plots and tables of results that are made up."""

from __future__ import annotations

import builtins
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from pydpdk.bench import compare, listing, output, plot, report
from pydpdk.bench.run import CASES, SCHEMA
from pydpdk.core.hist import Hist
from pydpdk.errors import HostError, UsageError
from tests.bench_results import case, noisy, result, tailed
from tests.command import call, refused, well

WAY = result(case(noisy(1000, 1), tailed(10_000, 1)), cpu="a <fast> & odd | one")
VOID = {"meta", "br", "img", "link", "input"}


class Page(HTMLParser):
    """What a browser would meet: balanced elements, their text, what they would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.fetched += [
            value or "" for name, value in attrs
            if name in ("src", "href", "xlink:href") and not (value or "").startswith("#")
        ]  # fmt: skip

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    output.write_json(WAY, tmp_path / "way.json")
    return tmp_path / "way.json"


def test_the_page_needs_nothing_else(file: Path, tmp_path: Path) -> None:
    done = call("bench", "report", file, "--html", tmp_path / "a.html")
    assert (done.code, done.out) == (0, "")
    text = (tmp_path / "a.html").read_text()
    page = Page()
    page.feed(text)
    assert page.open == page.fetched == []
    assert {"table", "svg", "caption"} <= page.seen
    assert "script" not in page.seen
    assert "url(http" not in text
    assert "a &lt;fast&gt; &amp; odd | one" in text
    figures = next(row for row in WAY["cases"][0]["series"] if row["name"] == "ours")
    assert f"{figures['median']:,.1f}" in text
    assert f"{figures['percentiles']['sent']['p99.9']:,}" in text


def test_a_comparison_can_be_shown_too(tmp_path: Path) -> None:
    made = compare.compare(result(case(noisy(20, 1))), result(case(noisy(24, 2))))
    output.write_json(made, tmp_path / "c.json")
    told = well("bench", "report", tmp_path / "c.json", "--markdown").out
    assert re.search(r"\| ours \| ours \|  \| slower \| median \| 20\.\d \| 24\.\d \| \+", told)
    assert "- not paired" in told


def test_markdown_is_tables(file: Path) -> None:
    told = well("bench", "report", file, "--markdown").out
    tables = [block for block in told.split("\n\n") if block.startswith("|")]
    assert len(tables) == 2
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1
    assert "a <fast> & odd" in told
    assert "(2)" in tables[1]  # p99.99 of 20,000


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_plot_is_drawn_from_results_and_logs(file: Path, tmp_path: Path, suffix: str) -> None:
    output.write_hlog(WAY, tmp_path / "way.hlog")
    drawn = tmp_path / f"a.{suffix}"
    done = call("bench", "report", file, tmp_path / "way.hlog", "--plot", drawn)
    assert done.code == 0, done.err
    data = drawn.read_bytes()
    if suffix == "png":
        assert data.startswith(b"\x89PNG\r\n")
    else:
        assert ElementTree.fromstring(data).tag.endswith("svg")


def test_curve_is_the_distribution() -> None:
    values = np.arange(1, 1001)
    x, y = plot.curve(Hist.from_values(values))
    assert (np.diff(x) > 0).all()
    assert (np.diff(y) >= 0).all()
    assert y[-1] == 1000
    for percent in (10, 50, 90, 99, 99.9):
        at = int(np.searchsorted(x, 100 / (100 - percent) - 1e-9))
        assert y[at] == pytest.approx(np.percentile(values, percent, method="higher"), rel=0.02)


def test_what_lies_on_few_samples_is_drawn_thin() -> None:
    figure = plot.draw({"a": Hist.from_values(range(1, 1001))})
    thin, whole = figure.axes[0].lines
    assert thin.get_linestyle() == ":"
    assert whole.get_xdata().max() <= 100 < thin.get_xdata().max()
    assert figure.axes[0].get_xscale() == "log"


def test_matplotlib_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError("No module named 'matplotlib'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(HostError, match=r"pip install 'pydpdk\[plot\]'"):
        plot.draw({"a": Hist.from_values([1])})
    assert call("bench", "report", file, "--markdown").code == 0


def test_what_cannot_be_shown_says_why(file: Path, tmp_path: Path) -> None:
    output.write_hlog(WAY, tmp_path / "a.hlog")
    output.write_json(result(case(noisy(20, 1))), tmp_path / "plain.json")
    assert "--markdown" in refused(2, "bench", "report", file)
    assert ".svg" in refused(2, "bench", "report", file, "--plot", tmp_path / "a.gif")
    assert "nothing to plot" in refused(
        2, "bench", "report", tmp_path / "plain.json", "--plot", tmp_path / "a.svg"
    )
    assert "only be plotted" in refused(2, "bench", "report", tmp_path / "a.hlog", "--markdown")
    (tmp_path / "junk").write_text("neither")
    assert "line 1" in refused(4, "bench", "report", tmp_path / "junk", "--plot", "a.svg")
    refused(2, "bench", "report", file, "--html", tmp_path / "no" / "such.html")


def test_two_results_are_told_apart() -> None:
    assert report.page([WAY, WAY]).count("<h2>") == 2
    with pytest.raises(UsageError, match="nothing to plot"):
        plot.draw({})


def test_list_names_every_case_and_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = well("bench", "list", "--json").json["cases"]
    assert [row["name"] for row in rows] == list(CASES)
    assert all(row["measures"] for row in rows)
    monkeypatch.setitem(listing.NEEDS, "two cores", lambda: "two cores: buy one")
    lacking = {row["name"] for row in listing.describe() if row["lacks"]}
    assert {"hop", "receive-null", "latency-veth"} <= lacking
    assert "decode" not in lacking
    assert "two cores: buy one" in well("bench", "list").out


@pytest.mark.parametrize("kind", ["run", "compare"])
@pytest.mark.parametrize("cases", [None, [{}], [{"name": "a", "unit": "ns", "series": [{}]}], 5])
def test_a_hollow_result_is_refused(kind: str, cases: Any, tmp_path: Path) -> None:
    hollow = tmp_path / "hollow.json"
    hollow.write_text(json.dumps({"schema": SCHEMA, "kind": kind, "cases": cases}))
    done = call("bench", "report", hollow, "--markdown")
    assert done.code == 4
    assert f"{hollow}: not a whole result" in done.err
    assert "Traceback" not in done.err
