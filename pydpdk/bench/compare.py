"""Changes of all series between two results, and the gate that fails on them.

The rounds' figures of a series are compared, and where it counts single figures, each point of
their distribution: the p99 of every round of the one build with the p99 of every round of the
other. A gate fails where the verdict is ``slower`` and the estimate is above its limit, and where
it cannot tell: something of ours was measured on one side only, or nothing has its point.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydpdk.bench import run, statistics
from pydpdk.errors import UsageError

MEDIAN = "median"
POINTS = ("p50", "p90", "p99", "p99.9", "p99.99", "max")
SAME = {
    "host": (
        "cpu", "microcode", "cores", "kernel", "command_line", "governor", "turbo", "cstates",
        "thp", "hugepages", "isolated", "clocksource", "virtual", "core",
    ),
    "build": ("compiler", "flags", "dpdk", "python", "numpy"),
}  # fmt: skip
Row = dict[str, Any]
Judge = Callable[[list[float], list[float]], statistics.Change]


@dataclass(frozen=True)
class Gate:
    """``p99:10%``: a point and the share by which it may be more."""

    point: str
    limit: float

    @classmethod
    def parse(cls, text: str) -> Gate:
        """UsageError for what is no gate."""
        match = re.fullmatch(r"([\w.]+):(\d+(?:\.\d+)?)%", text)
        if not match or match[1] not in (MEDIAN, *POINTS):
            raise UsageError(
                f"--fail-on {text}: POINT:PERCENT%, as p99:10%, of {', '.join((MEDIAN, *POINTS))}"
            )
        return cls(match[1], float(match[2]) / 100)

    def chosen(self, row: Row) -> list[Row]:
        """Changes of a series that it looks at: the rounds' median if that was asked for or if
        there is no distribution, else its point of each."""
        of = [change for change in row["changes"] if change["of"]]
        if self.point == MEDIAN or not of:
            return [change for change in row["changes"] if not change["of"]]
        return [change for change in of if change["point"] == self.point]


def changes(old: Row, new: Row, judge: Judge, higher: bool = False) -> list[Row]:
    """Of one series: a row of statistics.Change for each point that both have.

    ``higher``: the rounds' figures are better so; the points of distributions are times.
    """
    before, after = dict(_points(old)), dict(_points(new))
    return [
        _change(of, point, judge(before[of, point], after[of, point]), higher and not of)
        for of, point in before
        if (of, point) in after
    ]


def _change(of: str, point: str, change: statistics.Change, higher: bool) -> Row:
    verdict: str = change.verdict
    if higher:
        verdict = {"slower": "faster", "faster": "slower"}.get(verdict, verdict)
    worse = change.ratio and (1 / change.ratio if higher else change.ratio)
    return {"of": of, "point": point, **change.to_dict(), "verdict": verdict, "worse": worse}


def _points(row: Row) -> Iterator[tuple[tuple[str, str], list[float]]]:
    yield ("", MEDIAN), row["figures"]
    for of, points in row.get("points", {}).items():
        for point in POINTS:
            if point in points:
                yield (of, point), points[point]


def compared(old: Row, new: Row, judge: Judge) -> Row:
    """One case of both: its series that both measured."""
    before = {row["name"]: row for row in old["series"]}
    higher = new.get("better") == "higher"
    after = {row["name"]: row for row in new["series"]}
    return {
        "name": new["name"],
        "unit": new["unit"],
        "better": new.get("better", "lower"),
        "series": [
            {
                "name": name,
                "role": row["role"],
                "old": before[name],
                "new": row,
                "changes": changes(before[name], row, judge, higher),
            }
            for name, row in after.items()
            if name in before
        ],
        **one_sided(
            *({name: row["role"] for name, row in side.items()} for side in (before, after))
        ),
    }


def one_sided(old: dict[str, str], new: dict[str, str]) -> Row:
    """From the roles of series by name: ``missing`` on one side, and what of it is ``ungated``."""
    missing = {
        name: f"only the {'old' if name in old else 'new'} build has it"
        for name in sorted(old.keys() ^ new.keys())
    }
    ours = [name for name in missing if (old | new)[name] == "ours"]
    return {"missing": missing, "ungated": [f"{name}: {missing[name]}" for name in ours]}


def compare(old: Row, new: Row) -> Row:
    """Two results of ``bench run`` (see report.read), as one of kind ``compare``."""
    before, after = ({case["name"]: case for case in result["cases"]} for result in (old, new))
    cases = [_both(name, before.get(name), after.get(name)) for name in after | before]
    return {
        "schema": new["schema"],
        "kind": "compare",
        "created": new["created"],
        "old": old["host"],
        "new": new["host"],
        "rounds": min(old["rounds"], new["rounds"]),
        "warnings": [
            "not paired: the runs were taken at different times, so what the host did between "
            "them counts as a change; 'bench run --against' takes both in turn",
            *differences(old, new),
            *(f"{case['name']}: {case['skipped']}" for case in cases if "skipped" in case),
        ],
        "cases": cases,
    }


def _both(name: str, old: Row | None, new: Row | None) -> Row:
    lacks = [_lacks(side, case) for side, case in (("old", old), ("new", new))]
    if old and new and not any(lacks):
        return compared(old, new, statistics.unpaired)
    why = "; ".join(filter(None, lacks))
    ours = any(row["role"] == "ours" for side in (old, new) if side for row in side["series"])
    return run.skipped(name, why) | {"ungated": [why] * ours}


def _lacks(side: str, case: Row | None) -> str:
    if case is None:
        return f"not in the {side} result"
    return f"skipped in the {side} result: {case['skipped']}" if "skipped" in case else ""


def differences(old: Row, new: Row) -> list[str]:
    """What else was not the same."""
    found = [
        f"{what}: {name} was {old['host'].get(name)!r}, is {new['host'].get(name)!r}"
        for what, names in SAME.items()
        for name in names
        if old["host"].get(name) != new["host"].get(name)
    ]
    for name in ("session", "rounds"):
        if old[name] != new[name]:
            found.append(f"{name}: was {old[name]}, is {new[name]}")
    return found


def failures(result: Row, gates: list[Gate]) -> list[str]:
    """A line for each of our series that is beyond a gate, and for what keeps one from telling."""
    found: list[str] = []
    seen: set[Gate] = set()
    for case in result["cases"] if gates else ():
        found += [f"{case['name']}: {text}" for text in case.get("ungated", [])]
        for row in case["series"]:
            if row["role"] != "ours":
                continue
            for gate in gates:
                for change in gate.chosen(row):
                    seen.add(gate)
                    if change["verdict"] == "slower" and change["worse"] > 1 + gate.limit:
                        of = f", {change['of']}" if change["of"] else ""
                        found.append(
                            f"{case['name']}: {row['name']}{of}: {change['point']} "
                            f"{percent(change['ratio'])} ({percent(change['low'])} to "
                            f"{percent(change['high'])}), limit +{gate.limit:.1%}"
                        )
    return found + [
        f"{gate.point}: nothing of ours has it on both sides" for gate in gates if gate not in seen
    ]


def figure(row: Row, of: str, point: str) -> float:
    """Of all rounds: the median, or a point of the whole distribution."""
    return float(row["percentiles"][of][point] if of else row["median"])


def percent(ratio: float) -> str:
    """1.2 as +20.0 %; from ten times on, as that."""
    return f"{(ratio - 1) * 100:+,.1f} %" if ratio < 10 else f"x {ratio:,.0f}"
