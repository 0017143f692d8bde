"""The places that a run named NAME uses: one directory, and files in /dev/shm.

The directory's lock says that the run lives; the kernel drops it with the process, so what a
killed run left behind is known for what it is and removed by the next one.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydpdk.core.closes import Closes
from pydpdk.errors import UsageError

SHM = Path("/dev/shm")
LOOK_S = 0.1


def base() -> Path:
    """The directory that holds one folder for each run of this user."""
    if os.getuid() == 0:
        return Path("/run/pydpdk")
    return Path(os.environ.get("XDG_RUNTIME_DIR", f"/tmp/pydpdk-{os.getuid()}"), "pydpdk")


def _prefix(name: str) -> str:
    """How names in /dev/shm begin: with the user's number, unless that is root, as all share it."""
    return f"pydpdk-{name}" if os.getuid() == 0 else f"pydpdk-{os.getuid()}-{name}"


def ring_name(name: str, loop: int) -> str:
    """The ring that receive loop number ``loop`` of run ``name`` writes."""
    return f"{_prefix(name)}.ring{loop}"


def flight_name(name: str, loop: int) -> str:
    """The flight recorder of that loop."""
    return f"{_prefix(name)}.flight{loop}"


def instruments_name(name: str, loop: int) -> str:
    """The table of the instruments on that loop's ring."""
    return f"{_prefix(name)}.instruments{loop}"


def times_path(name: str, who: str) -> Path:
    """The stage times that ``who`` ("loop0", "stage1") of run ``name`` counts."""
    return SHM / f"{_prefix(name)}.times-{who}"


def all_times(name: str) -> dict[str, Path]:
    """The files of stage times of run ``name``, by who counts in them."""
    found = sorted(SHM.glob(f"{_prefix(name)}.times-*"))
    return {path.name.partition(".times-")[2]: path for path in found}


class RunDir(Closes):
    """Holds the name for one run; UsageError when another run has it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = base() / name
        while not self._hold():
            pass
        self.leftovers = self._clear()

    def _hold(self) -> bool:
        """Take the lock; False when its directory was removed meanwhile by the run before."""
        with suppress(FileExistsError):  # it was removed while it was looked at
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return False
        if not self._taken():
            os.close(self._lock)
            pid = self.read("status").get("pid", "?")
            raise UsageError(
                f"run {self.name} is running already (process {pid}): stop it with kill {pid}, "
                "or give this one another name"
            )
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._lock), os.stat(self.path / "lock")):
                return True
        os.close(self._lock)
        return False

    def _taken(self) -> bool:
        """Whether the name is ours now; running() holds it for a moment when it looks."""
        until = time.monotonic() + LOOK_S
        while True:
            with suppress(OSError):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            if time.monotonic() > until:
                return False
            time.sleep(LOOK_S / 10)

    def _clear(self) -> list[str]:
        """Remove what a killed run of that name left; returns the names."""
        found = [path for path in SHM.glob(f"{_prefix(self.name)}.*") if path.is_file()]
        for path in found:
            path.unlink()
        with suppress(FileNotFoundError):
            (self.path / "status.json").unlink()
        return [path.name for path in found]

    def write(self, name: str, value: Any) -> None:
        """Replace a JSON file in one step: a reader finds the old or the new one."""
        part = self.path / f".{name}.{os.getpid()}"
        part.write_text(json.dumps(value))
        part.replace(self.path / f"{name}.json")

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of a run; {} when there is none."""
        return read(self.name, name)

    def close(self) -> None:
        """Remove the directory and every file of the run, and give the name free."""
        self._clear()
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def read(run: str, name: str) -> dict[str, Any]:
    """A JSON file of run ``run``; {} when there is none."""
    try:
        found: dict[str, Any] = json.loads((base() / run / f"{name}.json").read_text())
    except (OSError, ValueError):
        return {}
    return found


def age_s(run: str, name: str) -> float | None:
    """How long ago a JSON file of run ``run`` was written; None when there is none."""
    try:
        return max(time.time() - (base() / run / f"{name}.json").stat().st_mtime, 0.0)
    except OSError:
        return None


def running() -> list[str]:
    """Names of the runs of this user that live."""
    names = []
    for path in sorted(base().glob("*/lock")):
        try:
            with path.open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            names.append(path.parent.name)
        except FileNotFoundError:  # it ended just now
            continue
    return names
