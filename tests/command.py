"""The command line as a user meets it: in this process, or in one of its own."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydpdk.cli import main

ROOT = Path(__file__).parent.parent
MAIN = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from pydpdk.cli import main; main()"
COMMAND = [sys.executable, "-W", "error", "-c", MAIN]


@dataclass(frozen=True)
class Done:
    """A finished command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout, which must be one JSON object and nothing else."""
        return json.loads(self.out)


def call(*args: object) -> Done:
    """``pydpdk args`` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main([str(arg) for arg in args])
            raise AssertionError("main() must exit")
        except SystemExit as left:
            code = left.code
    assert isinstance(code, int)
    return Done(code, out.getvalue(), err.getvalue())


def well(*args: object) -> Done:
    """A call that must succeed and say nothing on stderr."""
    done = call(*args)
    assert (done.code, done.err) == (0, "")
    return done


def refused(code: int, *args: object) -> str:
    """The one line on stderr of a call that must fail with this code and print no result."""
    done = call(*args)
    assert (done.code, done.out) == (code, ""), done.err
    assert "Traceback" not in done.err
    return done.err.splitlines()[-1]


def start(*args: object, cwd: Path | None = None, **pipes: Any) -> subprocess.Popen[str]:
    """``pydpdk args`` in a process of its own, stdout and stderr piped."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | pipes
    return subprocess.Popen([*COMMAND, *map(str, args)], cwd=cwd, text=True, **pipes)


def wait_interruptible(process: subprocess.Popen[str]) -> None:
    """Until a started command handles SIGTERM (a bit of its SigCgt mask), so that it can sum up."""
    until = time.monotonic() + 30
    status = Path(f"/proc/{process.pid}/status")
    while time.monotonic() < until and process.poll() is None:
        caught = next(line for line in status.read_text().splitlines() if "SigCgt" in line)
        if int(caught.split()[1], 16) & 1 << signal.SIGTERM - 1:
            return
        time.sleep(0.01)
    raise AssertionError("it ended, or never handled SIGTERM")


def spawn(*args: object, cwd: Path | None = None) -> Done:
    """``pydpdk args`` in a process of its own, to its end."""
    with start(*args, cwd=cwd) as process:
        out, err = process.communicate(timeout=60)
    return Done(process.returncode, out, err)
