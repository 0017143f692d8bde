"""What a comparison needs of a result that was read from a file: its members and their types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydpdk.bench import output
from pydpdk.errors import DataError

# A type; [of each], {"member": of it}, with "?" where it may be missing, "*" for all there are.
NUMBER = (int, float)
SERIES = {
    "name": str, "role": str, "median": NUMBER, "figures": [NUMBER],
    "percentiles?": {"*": {"*": NUMBER}}, "points?": {"*": {"*": [NUMBER]}},
}  # fmt: skip
MEASURED = {"name": str, "unit": str, "better?": str, "series": [SERIES]}
SKIPPED = {"name": str, "skipped": str, "series": []}
RUN = {
    "created": str, "rounds": int, "session": dict, "host": {"cpu": str, "commit": str},
    "cases": [dict],
}  # fmt: skip


def read_run(file: Path) -> dict[str, Any]:
    """A result of ``bench run``. UsageError: no such file; DataError names the file and what in it
    is not as it must be."""
    result = output.read_json(file)
    if (kind := result.get("kind")) != "run":
        raise DataError(f"{file}: a result of kind {kind!r}: one of 'bench run' is needed")
    try:
        _check(result, RUN, "")
        for i, case in enumerate(result["cases"]):
            _check(case, SKIPPED if "skipped" in case else MEASURED, f"cases[{i}]")
            for j, row in enumerate(case["series"]):
                _check_points(row, f"cases[{i}].series[{j}]")
    except DataError as error:
        raise DataError(f"{file}: {error}: measure it anew with 'bench run --out'") from None
    return result


def _check(value: Any, shape: Any, where: str) -> None:
    wanted = type(shape) if isinstance(shape, dict | list) else shape
    if not isinstance(value, wanted) or isinstance(value, bool):
        raise DataError(f"{where} is a {type(value).__name__}")
    if isinstance(shape, list):
        for i, one in enumerate(value):
            for part in shape:
                _check(one, part, f"{where}[{i}]")
    elif isinstance(shape, dict):
        for member, part in shape.items():
            name = member.rstrip("?")
            if name not in value and name == member != "*":
                raise DataError(f"{where}{'.' * bool(where)}{name} is missing")
            for key in value if name == "*" else {name}.intersection(value):
                _check(value[key], part, f"{where}{'.' * bool(where)}{key}")


def _check_points(row: dict[str, Any], where: str) -> None:
    """Each point of the rounds is one of the whole distribution too."""
    for of, points in row.get("points", {}).items():
        if lost := points.keys() - row.get("percentiles", {}).get(of, {}).keys():
            raise DataError(f"{where}.percentiles.{of}.{min(lost)} is missing")
