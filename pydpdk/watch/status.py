"""What the processes of live runs said last, read from the files of the runs."""

from __future__ import annotations

from typing import Any

from pydpdk.process import rundir


def look(name: str | None = None) -> list[dict[str, Any]]:
    """The newest status of this run, or of all; ``age_s`` is how old it is, None: none yet."""
    names = [run for run in rundir.running() if name in (None, run)]
    return [
        {"name": run, **rundir.read(run, "status"), "age_s": rundir.age_s(run, "status")}
        for run in names
    ]
