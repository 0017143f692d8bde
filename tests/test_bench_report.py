"""Reports that are made up, as text and as a page; the list of cases."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pydpdk.bench import compare, listing, report
from pydpdk.bench.run import CASES
from tests.bench_results import case, noisy, result, tailed
from tests.command import call, refused, well

WAY = result(case(noisy(1000, 1), tailed(10_000, 1)), cpu="a <fast> & odd [b]one")
OURS = next(row for row in WAY["cases"][0]["series"] if row["name"] == "ours")
CHANGED = compare.compare(result(case(noisy(20, 1))), result(case(noisy(24, 2))))


class Page(HTMLParser):
    """What a browser would meet: balanced elements, their text, what they would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.fetched: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag != "meta":
            self.open.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def file(tmp_path: Path) -> Path:
    report.write(WAY, tmp_path / "way.json")
    return tmp_path / "way.json"


def shows(text: str) -> None:
    """Host, figures and distributions of WAY."""
    assert "a <fast> & odd [b]one" in text
    assert f"{OURS['median']:,.1f}" in text
    assert f"{OURS['percentiles']['sent']['p99.9']:,}" in text
    assert "(2)" in text  # p99.99 of 20,000


def test_a_report_is_shown_as_when_it_was_made(file: Path) -> None:
    shows(well("bench", "report", file).out)


def test_the_page_needs_nothing_else(file: Path, tmp_path: Path) -> None:
    report.write(CHANGED, tmp_path / "c.json")
    done = call("bench", "report", file, tmp_path / "c.json", "--html", tmp_path / "a.html")
    assert (done.code, done.out) == (0, "")
    text = (tmp_path / "a.html").read_text()
    page = Page()
    page.feed(text)
    assert page.open == page.fetched == []
    assert page.seen == {"html", "head", "meta", "title", "body", "pre", "span"}
    assert "url(" not in text
    shows(page.text)
    assert "not paired" in page.text


def test_a_comparison_can_be_shown_too(tmp_path: Path) -> None:
    report.write(CHANGED, tmp_path / "c.json")
    told = well("bench", "report", tmp_path / "c.json").out
    assert re.search(r"way: ours +ours +median +20\.\d +24\.\d +\+.* slower", told)
    assert "warning: not paired" in told


def test_what_cannot_be_shown_says_why(file: Path, tmp_path: Path) -> None:
    (tmp_path / "junk").write_text("neither")
    assert "no report" in refused(4, "bench", "report", tmp_path / "junk")
    refused(2, "bench", "report", tmp_path / "absent")
    refused(2, "bench", "report", file, "--html", tmp_path / "no" / "such.html")


def test_list_names_every_case_and_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = well("bench", "list", "--json").json["cases"]
    assert [row["name"] for row in rows] == list(CASES)
    assert all(row["measures"] for row in rows)
    monkeypatch.setitem(listing.NEEDS, "two cores", lambda: "two cores: buy one")
    lacking = {row["name"] for row in listing.describe() if row["lacks"]}
    assert {"hop", "receive-null", "latency-veth"} <= lacking
    assert "decode" not in lacking
    assert "two cores: buy one" in well("bench", "list").out


@pytest.mark.parametrize("kind", ["run", "against", "compare", "odd"])
@pytest.mark.parametrize("cases", [None, [{}], [{"name": "a", "unit": "ns", "series": [{}]}], 5])
def test_a_hollow_report_is_refused(kind: str, cases: Any, tmp_path: Path) -> None:
    hollow = tmp_path / "hollow.json"
    hollow.write_text(json.dumps({"schema": report.SCHEMA, "kind": kind, "cases": cases}))
    assert f"{hollow}: no report of pydpdk bench: " in refused(4, "bench", "report", hollow)
