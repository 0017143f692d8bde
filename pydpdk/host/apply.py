"""Change a host, and take it back.

The undo record is on disk before each step is made (a file of its own, renamed over the old one,
both synced), so whatever ends this process, all that was begun can be taken back. A record is of
one boot: none of these changes outlives it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydpdk.errors import HostError
from pydpdk.host.plan import Plan
from pydpdk.host.step import Step, System, make, take_back

RECORD = Path("/var/lib/pydpdk/undo.json")
FORMAT = 1


@dataclass(frozen=True)
class Applied:
    """``skipped``: steps that the kernel refused and that are optional, with its reason."""

    plan: Plan
    made: tuple[Step, ...]
    skipped: tuple[tuple[Step, str], ...]


@dataclass(frozen=True)
class Undone:
    """``left``: steps that could not be taken back, with the reason; the record keeps them."""

    steps: tuple[Step, ...]
    left: tuple[tuple[Step, str], ...]


class Record:
    """The steps begun since boot that were not taken back."""

    def __init__(self, path: Path, boot: str) -> None:
        self.path, self.boot = path, boot
        self.steps: list[Step] = []
        try:
            with path.open("rb") as file:
                stat = os.fstat(file.fileno())
                text = file.read()
        except FileNotFoundError:
            return
        if stat.st_uid != os.geteuid() or stat.st_mode & 0o022:
            raise HostError(
                f"{path}: others may write it: chown $(id -u) and chmod go-w, once read"
            )
        try:
            found = json.loads(text)
            if found["format"] != FORMAT:
                raise HostError(f"{path}: format {found['format']}, this reads {FORMAT}")
            if found["boot"] == boot:
                self.steps = [Step.from_dict(values) for values in found["steps"]]
        except (ValueError, KeyError, TypeError) as error:
            raise HostError(f"{path} is no undo record ({error}): move it away") from error

    def save(self) -> None:
        """Write the record, on disk when this returns; without steps there is no file."""
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if self.steps:
                self._write()
            else:
                self.path.unlink(missing_ok=True)
            os.fsync(folder)
        finally:
            os.close(folder)

    def _write(self) -> None:
        values: dict[str, Any] = {"format": FORMAT, "boot": self.boot}
        values["steps"] = [step.to_dict() for step in self.steps]
        new = self.path.with_name(self.path.name + ".new")
        with open(new, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            json.dump(values, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        new.rename(self.path)


@contextmanager
def _locked(system: System, path: Path) -> Iterator[Record]:
    """The undo record, locked against every other process meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HostError(f"another pydpdk host works with {path}: wait for its end") from None
        yield Record(path, system.read("/proc/sys/kernel/random/boot_id"))
    finally:
        os.close(lock)


def apply(system: System, planned: Callable[[], Plan], path: Path = RECORD) -> Applied:
    """Make the steps of a plan, which is drawn up while nobody else changes the host.

    All or nothing: at a failure or an interruption what was made is taken back, then the cause is
    raised. HostError: a refusal of the plan, a step that failed, or another apply at work.
    """
    with _locked(system, path) as record:
        plan = planned()
        before = len(record.steps)
        made: list[Step] = []
        skipped: list[tuple[Step, str]] = []
        try:
            for step in plan.steps:
                record.steps.append(step)
                record.save()
                if reason := _attempt(system, step):
                    record.steps.pop()
                    record.save()
                    skipped.append((step, reason))
                else:
                    made.append(step)
        except BaseException as error:
            _roll_back(system, record, before, error)
            raise
        return Applied(plan, tuple(made), tuple(skipped))


def _attempt(system: System, step: Step) -> str:
    """Why the kernel refused an optional step; "" when it is made."""
    try:
        make(system, step)
    except OSError as error:
        if step.optional:
            return error.strerror or str(error)
        raise HostError(f"{step.what}: {error.strerror} ({step.path})") from error
    return ""


def _roll_back(system: System, record: Record, keep: int, cause: BaseException) -> None:
    """Take back all but the first ``keep`` steps; what cannot be, the cause says."""
    left = _take_back(system, record, keep)
    if left:
        problems = "; ".join(f"{step.what}: {why}" for step, why in left)
        raise HostError(
            f"{cause}; and not taken back: {problems}: mend that, then:"
            f" pydpdk host undo --record {record.path}"
        ) from cause


def _take_back(system: System, record: Record, keep: int) -> list[tuple[Step, str]]:
    left: list[tuple[Step, str]] = []
    for i in reversed(range(keep, len(record.steps))):
        step = record.steps[i]
        try:
            take_back(system, step)
        except (HostError, OSError) as error:
            left.append((step, str(error)))
        else:
            del record.steps[i]
            record.save()
    return left


def undo(system: System, path: Path = RECORD) -> Undone:
    """Take back every step of the record, the last one first; twice is as good as once."""
    with _locked(system, path) as record:
        steps = tuple(reversed(record.steps))
        left = _take_back(system, record, 0)
        record.save()  # of another boot: gone now
        there = {id(step) for step, _ in left}
        return Undone(tuple(step for step in steps if id(step) not in there), tuple(left))
