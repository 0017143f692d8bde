"""Stage times of live runs, read from their shared memory."""

from __future__ import annotations

from collections.abc import Sequence

from pydpdk.core.hist import Hist
from pydpdk.errors import PydpdkError
from pydpdk.process import rundir
from pydpdk.process.times import Times


def of_runs(names: Sequence[str] = ()) -> dict[str, Hist]:
    """What the processes of these runs, or of all, counted so far, by ``[RUN.]WHO.NAME``.

    RUN only where no names are given. PydpdkError when there is no run of a name.
    """
    runs = rundir.running()
    if missing := [name for name in names if name not in runs]:
        raise PydpdkError(f"no run {missing[0]}: there are {', '.join(runs) or 'none'}")
    found: dict[str, Hist] = {}
    for run in names or runs:
        for who, path in rundir.all_times(run).items():
            with Times.attach(path) as times:
                for name, hist in times.copy().items():
                    prefix = "" if names else f"{run}."
                    found[f"{prefix}{who}.{name}"] = hist
    return {name: hist for name, hist in found.items() if hist.count}
