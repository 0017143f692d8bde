"""Results to files and back: JSON, CSV, histogram logs."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from pydpdk.bench.run import SCHEMA
from pydpdk.core.hist import Hist
from pydpdk.core.hlog import PLAIN, HistLog, Interval
from pydpdk.errors import DataError, UsageError

COLUMNS = (
    "case", "series", "role", "unit", "of", "point", "value", "old", "ratio", "low", "high",
    "verdict",
)  # fmt: skip
Row = dict[str, Any]


def writable(*files: Path) -> None:
    """UsageError for a file that could not be written, before anything is measured."""
    for file in files:
        try:
            file.open("a").close()
        except OSError as error:
            raise UsageError(f"{file}: {error.strerror}") from error


def write_json(result: Row, file: Path) -> None:
    file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def read_json(file: Path) -> Row:
    """A result of any kind. UsageError: no such file; DataError: something else."""
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{file}: no JSON: {error}") from error
    schema = result.get("schema") if isinstance(result, dict) else None
    if schema != SCHEMA:
        raise DataError(f"{file}: no result of pydpdk bench ({SCHEMA}), its schema is {schema!r}")
    checked: Row = result
    return checked


def write_csv(result: Row, file: Path) -> None:
    """A line a series and point; what does not apply is empty."""
    with file.open("w", newline="", encoding="utf-8") as out:
        rows = csv.DictWriter(out, COLUMNS, restval="")
        rows.writeheader()
        for case in result["cases"]:
            for series in case["series"]:
                of = {"case": case["name"], "series": series["name"], "role": series["role"],
                      "unit": case["unit"]}  # fmt: skip
                lines = _changed(series) if "changes" in series else _figures(series)
                rows.writerows(of | line for line in lines)


def _figures(row: Row) -> Iterator[Row]:
    for point in ("min", "median", "max"):
        yield {"of": "", "point": point, "value": row[point]}
    if "ratio" in row:
        yield {"of": f"to {row['against']}", "point": "ratio", "ratio": row["ratio"]}
    for of, points in row.get("percentiles", {}).items():
        for point, value in points.items():
            yield {
                "of": of,
                "point": point,
                "value": value,
                "unit": "" if point == "count" else "ns",
            }


def _changed(row: Row) -> Iterator[Row]:
    for change in row["changes"]:
        of, point = change["of"], change["point"]
        yield {
            "of": of, "point": point, **({"unit": "ns"} if of else {}),
            "old": figure(row["old"], of, point), "value": figure(row["new"], of, point),
            **{name: change[name] for name in ("ratio", "low", "high", "verdict")},
        }  # fmt: skip


def figure(row: Row, of: str, point: str) -> float:
    """Of all rounds: the median, or a point of the whole distribution."""
    return float(row["percentiles"][of][point] if of else row["median"])


def hists(result: Row) -> dict[str, Hist]:
    """Every histogram of a result as ``case/series/of``."""
    return {
        f"{case['name']}/{row['name']}/{of}": Hist.decode(text)
        for case in result["cases"]
        for row in case["series"]
        for of, text in row.get("hists", {}).items()
    }


def write_hlog(result: Row, file: Path) -> None:
    """An interval of the whole run for each histogram; what a tag cannot hold becomes a blank."""
    start = datetime.fromisoformat(result["created"]).timestamp()
    plain = str.maketrans(PLAIN, " " * len(PLAIN))
    lengths = {case["name"]: case.get("meanwhile", {}).get("seconds", 0.0)
               for case in result["cases"]}  # fmt: skip
    with HistLog(file, "pydpdk bench", f"commit {result['host']['commit']}") as log:
        for tag, hist in hists(result).items():
            length = lengths[tag.partition("/")[0]]
            log.write(Interval(" ".join(tag.translate(plain).split()), start, length, hist))
