"""What tests of live runs share: all records of a ring, traffic in the background, two days."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pydpdk.core.event import Events
from pydpdk.core.ring import Reader
from pydpdk.process import rundir
from pydpdk.synth.gen import generate
from tests.command import ROOT
from tests.live_run import LiveRun

SPREAD = f"{ROOT}/apps/spread.py:Spread"
SKIP = 'policy = "skip"'
PPS = 4_000


def two_days(folder: Path) -> tuple[Path, Path]:
    """Two sessions, one after the other: the first lasts three seconds at PPS."""
    paths = folder / "1.pcap", folder / "2.pcap"
    for seed, (path, messages) in enumerate(zip(paths, (60_000, 10_000), strict=True)):
        session = f"DAY{seed}".encode()
        generate(path, messages=messages, instruments=20, seed=seed, sessions=((session, 1),))
    return paths


class Watch:
    """All records of the ring of a run's first loop, read by the test itself."""

    def __init__(self, run: LiveRun) -> None:
        self._reader = Reader(rundir.ring_name(run.name, 0), policy="skip", from_start=True)
        self._parts: list[Events] = []

    def take(self) -> Events:
        """All of them so far."""
        while len(part := self._reader.copy()):
            self._parts.append(part)
        assert self._reader.lost == 0
        return np.concatenate(self._parts) if self._parts else self._reader.copy()

    def of(self, kind: int) -> Events:
        events = self.take()
        return events[events["kind"] == kind]


@contextmanager
def feeding(feeder: Callable[..., Any], *args: Any, **options: Any) -> Iterator[list[Any]]:
    """Frames go while the body runs, and to their end; the ledger is in the list then."""
    ledgers: list[Any] = []
    thread = threading.Thread(target=lambda: ledgers.append(feeder(*args, **options)))
    thread.start()
    try:
        yield ledgers
    finally:
        thread.join()


def gone(pid: int, seconds: float = 10.0) -> bool:
    """No process of that id but a dead one that nobody has waited for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state in "ZX":
            return True
        time.sleep(0.02)
    return False


def frames_in(path: str) -> int:
    """As Wireshark counts them."""
    command = ["capinfos", "-c", "-M", "-T", "-r", path]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout.split("\t")[1])
