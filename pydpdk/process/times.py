"""Stage times in shared memory: histograms that one process counts and any other may read.

A file of one page of JSON, which names them, then a ``struct hist`` each (csrc/base/hist.h).
Percentiles are computed by who reads. What each lies between stands in :data:`BETWEEN`.
"""

from __future__ import annotations

import json
import mmap
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from pydpdk._core import ffi, lib
from pydpdk.core.closes import Closes
from pydpdk.core.hist import Hist
from pydpdk.core.hlog import HistLog, Interval
from pydpdk.engine.engine import TIMES
from pydpdk.errors import DataError, UsageError
from pydpdk.trade.desk import DESK_TIMES

MAGIC = "pydpdk-times-1"
SIZE = ffi.sizeof("struct hist")
TRADER = ("wire_to_stage", "batch", *DESK_TIMES)
# Of each: the two events, and what is counted once. All are ns of the TSC or CLOCK_MONOTONIC of one
# host; those from a frame's stamp have the error of that stamp's clock.
BETWEEN = {
    "receive": "asking the source for a burst to having it, shared by its packets; of a packet",
    "parse": "frame to datagram, checksums included; of a packet, sampled",
    "arbitrate": "parse, session and arbiter; of a packet",
    "decode": "message to records, books and ring included; of a message",
    "book": "one change of a book, its share of prefetching included; sampled",
    "ring": "a record into its slot; sampled",
    "step": "asking the source to the publication of the step's records; of a packet",
    "stall": "the loop left to the loop run again, where that took over a millisecond",
    "read": "asking the ring for a batch to having it; of a batch",
    "wire_to_stage": "the frame's stamp to its batch in the stage's hands; of a batch",
    "batch": "a batch in the stage's hands to all of it done; of a batch",
    "stage": "the strategy's own work; of a batch",
    "risk": "the checks; of an order",
    "send": "approved orders into the gateway; of a batch with orders",
    "tick_to_trade": "the frame's stamp (in a replay: the begin of its step) to its orders in the"
    " gateway; of a batch with orders",
}


class Times(Closes):
    """Histograms by name in one file, mapped; close it, or use it in ``with``.

    The maker of a file removes it; :meth:`attach` opens one, to read unless it is the writer.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        """UsageError when the file cannot be made."""
        told = json.dumps({"magic": MAGIC, "hist_bytes": SIZE, "names": [*names]}).encode()
        try:
            with path.open("xb") as file:
                file.write(told.ljust(mmap.PAGESIZE))
                file.truncate(mmap.PAGESIZE + len(names) * SIZE)
        except OSError as error:
            raise UsageError(f"stage times {path}: {error.strerror}") from error
        self._map(path, True)

    @classmethod
    def attach(cls, path: Path, writer: bool = False) -> Self:
        """UsageError when there is no such file, DataError when it is no file of times."""
        made = cls.__new__(cls)
        made._map(path, writer)
        return made

    def _map(self, path: Path, writer: bool) -> None:
        self.path = path
        flags, access = (
            (os.O_RDWR, mmap.ACCESS_WRITE) if writer else (os.O_RDONLY, mmap.ACCESS_READ)
        )
        try:
            fd = os.open(path, flags | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(f"stage times {path}: {error.strerror}") from error
        try:
            if os.fstat(fd).st_size < mmap.PAGESIZE:
                raise DataError(f"{path}: not a file of stage times")
            self._mapped = mmap.mmap(fd, 0, access=access)
        finally:
            os.close(fd)
        self.hists: dict[str, Hist] = {}
        try:
            names = _names(path, self._mapped)
        except DataError:
            self._mapped.close()
            raise
        self._start = ffi.from_buffer(self._mapped)
        for i, name in enumerate(names):
            at = self._start + mmap.PAGESIZE + i * SIZE
            self.hists[name] = Hist(ffi.cast("struct hist *", at))

    def engine(self) -> Any:
        """The file as a ``struct engine_times *``; DataError when it has other histograms."""
        if tuple(self.hists) != TIMES:
            raise DataError(f"{self.path}: not the times of an engine")
        return ffi.cast("struct engine_times *", self._start + mmap.PAGESIZE)

    def copy(self) -> dict[str, Hist]:
        """Copies of all histograms as they are now."""
        return {name: hist.copy() for name, hist in self.hists.items()}

    def close(self) -> None:
        """Unmap the file: its histograms must not be used any more."""
        self.hists = {}
        if self._start is not None:
            ffi.release(self._start)
        self._start = None
        self._mapped.close()


def _names(path: Path, mapped: mmap.mmap) -> list[str]:
    try:
        told = json.loads(mapped[: mmap.PAGESIZE])
        names = [str(name) for name in told["names"]]
        right = (told["magic"], told["hist_bytes"]) == (MAGIC, SIZE)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: not a file of stage times") from error
    if not right or len(mapped) != mmap.PAGESIZE + len(names) * SIZE:
        raise DataError(f"{path}: stage times of another version: {lib.HIST_BUCKETS} buckets here")
    return names


class TimesLog(Closes):
    """A histogram log of files of times: what came in each interval, tagged ``WHO.NAME``."""

    def __init__(self, path: Path, times: dict[str, Times], every_s: float = 1.0) -> None:
        """UsageError when the log cannot be made."""
        self._times, self._every_s = times, every_s
        self._log = HistLog(path, "pydpdk stage times, ns")
        self._since, self._due = time.time(), time.monotonic() + every_s
        self._before = {who: one.copy() for who, one in times.items()}

    def look(self) -> None:
        """Write, if an interval is over."""
        if time.monotonic() >= self._due:
            self.write()
            self._due = time.monotonic() + self._every_s

    def write(self) -> None:
        """Write what was counted since the last time."""
        now = time.time()
        for who, one in self._times.items():
            later = one.copy()
            for name, hist in later.items():
                came = hist.since(self._before[who][name])
                if came.count:
                    self._log.write(
                        Interval(f"{who}.{name}", self._since, max(now - self._since, 0.0), came)
                    )
            self._before[who] = later
        self._since = now

    def close(self) -> None:
        self._log.close()
