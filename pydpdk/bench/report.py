"""The report of a run, as a file of JSON: what it must hold, written and read back.

The structs below are its shape; code passes the plain values on. What is here but not declared
is kept, what is declared and missing is refused. A member that changes its meaning or goes
changes SCHEMA.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import msgspec

from pydpdk.core.hist import POINTS
from pydpdk.errors import DataError, UsageError

SCHEMA = "pydpdk.bench/1"
WHOLE = {"count", "max", *POINTS}  # of a distribution
Plain = dict[str, Any]
Verdict = Literal["slower", "faster", "no change seen", "too noisy to say"]


class Build(msgspec.Struct):
    """What was compiled how, and what it runs on."""

    commit: str
    compiler: str
    flags: str
    dpdk: str
    python: str
    numpy: str


class Side(Build):
    """A build that was measured in turn with another: what its process imported."""

    package: str
    core: str
    core_sha256: str
    sources_sha256: str


class Host(Build):
    """See :func:`pydpdk.bench.host.describe`; ``core``: where measured loops ran."""

    cpu: str
    microcode: str
    cores: int
    usable: list[int]
    core: int
    l3: str
    virtual: bool
    kernel: str
    command_line: str
    governor: str
    turbo: str
    cstates: list[str]
    thp: str
    hugepages: list[Plain]
    isolated: str
    tickless: str
    clocksource: str
    tsc: dict[str, bool]
    nics: list[Plain]
    load: float
    load_after: float


class Session(msgspec.Struct):
    """The generated session that cases ran on."""

    messages: int
    instruments: int
    live_orders: int


class Series(msgspec.Struct):
    """One measured thing. ``figures``: a round each; ``percentiles`` of all its single figures
    (ns) by the two events they lie between, ``points`` those of each round, ``hists`` the
    distributions as HdrHistogram's base64."""

    name: str
    role: Literal["ours", "floor", "peer"]
    rounds: int
    min: float
    median: float
    max: float
    figures: list[float]
    against: str = ""
    against_role: str = ""
    ratio: float | msgspec.UnsetType = msgspec.UNSET
    percentiles: dict[str, dict[str, float]] = {}
    points: dict[str, dict[str, list[float]]] = {}
    hists: dict[str, str] = {}

    def __post_init__(self) -> None:
        if lost := self.points.keys() - self.percentiles.keys():
            raise ValueError(f"percentiles lack {min(lost)!r}")
        for of, percentiles in self.percentiles.items():
            if lost := WHOLE - percentiles.keys():
                raise ValueError(f"percentiles of {of!r} lack {min(lost)!r}")


class Change(msgspec.Struct):
    """See :class:`pydpdk.bench.statistics.Change`; ``of`` "": of the rounds' figures."""

    of: str
    point: str
    verdict: Verdict
    rounds: int
    ratio: float | None
    low: float | None
    high: float | None
    noise: float | None
    detectable: float | None
    worse: float | None
    why: str


class Changed(msgspec.Struct):
    """A series of two builds."""

    name: str
    role: Literal["ours", "floor", "peer"]
    old: Series
    new: Series
    changes: list[Change]


class Case(msgspec.Struct):
    """Series measured together, or why they were not. ``missing``: series that could not be
    measured, and why; ``facts``: what it ran on."""

    name: str
    missing: dict[str, str]
    unit: str = ""
    better: Literal["lower", "higher"] = "lower"
    skipped: str = ""
    interrupted: bool = False
    facts: Plain = {}
    meanwhile: Plain = {}
    ungated: list[str] = []
    warnings: list[str] = []

    def __post_init__(self) -> None:
        if not self.unit and not self.skipped:
            raise ValueError("neither 'unit' nor 'skipped'")


class Measured(Case, kw_only=True):
    series: list[Series]


class Compared(Case, kw_only=True):
    series: list[Changed]


class Report(msgspec.Struct, kw_only=True, tag_field="kind"):
    schema: Literal["pydpdk.bench/1"]
    created: str
    rounds: int
    warnings: list[str]


class Run(Report, kw_only=True, tag="run"):
    """Of ``bench run``."""

    host: Host
    session: Session
    stalls: dict[str, list[Plain]]
    clock: Plain
    interrupted: bool
    cases: list[Measured]


class Against(Run, kw_only=True, tag="against"):
    """Of ``bench run --against``: builds that took turns."""

    old: Side
    new: Side
    cases: list[Compared]  # type: ignore[assignment]


class Compare(Report, kw_only=True, tag="compare"):
    """Of ``bench compare``: two runs at different times."""

    old: Host
    new: Host
    cases: list[Compared]


def check(text: bytes | str) -> None:
    """DataError for what is no report, with the member that is not as it must be."""
    try:
        msgspec.json.decode(text, type=Run | Against | Compare)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DataError(str(error)) from error


def writable(*files: Path) -> None:
    """UsageError for a file that could not be written, before anything is measured."""
    for file in files:
        try:
            file.open("a").close()
        except OSError as error:
            raise UsageError(f"{file}: {error.strerror}") from error


def write(report: Plain, file: Path) -> None:
    file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def read(file: Path, kind: str = "") -> Plain:
    """A report, of one ``kind`` if that is named.

    UsageError: no such file; DataError: something else, or a member that is not as it must be.
    """
    try:
        text = file.read_bytes()
        check(text)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    except DataError as error:
        raise DataError(f"{file}: no report of pydpdk bench: {error}") from error
    report: Plain = json.loads(text)
    if kind and report["kind"] != kind:
        raise DataError(f"{file}: a report of kind {report['kind']!r}: one of {kind!r} is needed")
    return report
