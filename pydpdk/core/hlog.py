"""Histogram logs: text files of tagged intervals that HdrHistogram's tools read and plot.

Format version 1.3 of HdrHistogram's HistogramLogWriter: comments, a legend, then a line an
interval: ``Tag=NAME,START_S,LENGTH_S,MAX_MS,ENCODED``, starts in seconds since the Unix epoch.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from pydpdk.core.closes import Closes
from pydpdk.core.hist import Hist
from pydpdk.errors import DataError, UsageError

LEGEND = '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"'
PLAIN = "=,\r\n"  # what a tag cannot hold


@dataclass(frozen=True)
class Interval:
    """Samples of one kind within ``length_s`` from ``start_s`` (Unix epoch, seconds)."""

    tag: str
    start_s: float
    length_s: float
    hist: Hist


class HistLog(Closes):
    """A log to write, as a context manager: closed on exit; UsageError if it cannot be made."""

    def __init__(self, path: Path | str, *comments: str) -> None:
        self.path = Path(path)
        try:
            self._file: TextIO = self.path.open("w", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"histogram log {path}: {error.strerror}") from error
        now = time.time()
        lines = [*comments, "[Histogram log format version 1.3]"]
        lines.append(f"[StartTime: {now:.3f} (seconds since epoch), {time.ctime(now)}]")
        self._file.writelines(f"#{' '.join(line.split())}\n" for line in lines)
        self._file.write(LEGEND + "\n")

    def write(self, interval: Interval) -> None:
        """Write an interval and flush it: it is there even when the process dies."""
        if not interval.tag or set(PLAIN) & set(interval.tag):
            raise UsageError(f"histogram log: {interval.tag!r} cannot be a tag")
        worst = interval.hist.max * 1e-6
        self._file.write(
            f"Tag={interval.tag},{interval.start_s:.3f},{interval.length_s:.3f},{worst:.3f},"
            f"{interval.hist.encode()}\n"
        )
        self._file.flush()

    def close(self) -> None:
        """Close the file; write() told of what could not be written."""
        with suppress(OSError):
            self._file.close()


def read(path: Path | str) -> list[Interval]:
    """All intervals of a log. DataError names the first line that is none; UsageError: no file."""
    found = []
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                if line.startswith(("#", '"')) or not line.strip():
                    continue
                try:
                    found.append(_interval(line.strip()))
                except (DataError, ValueError) as error:
                    raise DataError(f"{path}, line {number}: {error}") from error
    except OSError as error:
        raise UsageError(f"histogram log {path}: {error.strerror}") from error
    return found


def write(path: Path | str, found: dict[str, Hist]) -> None:
    """A log of one interval of each, by tag. UsageError when it cannot be made."""
    with HistLog(path, "pydpdk times, merged") as log:
        for tag, hist in found.items():
            log.write(Interval(tag, time.time(), 0.0, hist))


def _interval(line: str) -> Interval:
    tag = ""
    if line.startswith("Tag="):
        tag, _, line = line.removeprefix("Tag=").partition(",")
    fields = line.split(",")
    if len(fields) != 4:
        raise DataError("not an interval: [Tag=NAME,]START,LENGTH,MAX,HISTOGRAM")
    start, length, _ = map(float, fields[:3])
    return Interval(tag, start, length, Hist.decode(fields[3]))


def merge(intervals: Iterable[Interval]) -> dict[str, Hist]:
    """One histogram of each tag, in the order of their first interval."""
    merged: dict[str, Hist] = {}
    for interval in intervals:
        merged.setdefault(interval.tag, Hist()).merge(interval.hist)
    return merged
