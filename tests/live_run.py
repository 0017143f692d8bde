"""A run of `pydpdk run` in a network namespace, and all that it said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from pydpdk.process import rundir
from pydpdk.process.times import Times
from pydpdk.synth.two_lines import LINE_A, LINE_B

LINES = [f"{line.group}:{line.port}" for line in (LINE_A, LINE_B)]
READY_S, END_S = 60.0, 60.0
STUCK_S = 5.0
WAITING = 512  # frames: the smallest of our sockets has room for twice as many
HEAD = """\
name = "{name}"
{top}
[sources.a]
device = "{device}"
{source}
[[feeds]]
name = "itch"
protocol = "itch50"
lines = {lines}
orders_max = 131072
levels_max = 262144
{feed}
{rest}
"""
STAGE = """\
[[stages]]
strategy = "{strategy}"
{options}
"""


def config(path: Path, device: str, **parts: Any) -> Path:
    """A configuration with one source and one feed; parts are lines of TOML."""
    fields = {"name": f"t{os.getpid()}", "top": "", "source": "", "feed": "", "rest": ""}
    path.write_text(HEAD.format(**fields | parts, device=device, lines=json.dumps(LINES)))
    return path


def stage(strategy: Path | str, options: str = "") -> str:
    """A [[stages]] table."""
    return STAGE.format(strategy=strategy, options=options)


class LiveRun:
    """`pydpdk run`, started in ``namespace`` (None: here) and waited for; ended on exit."""

    def __init__(self, path: Path, *options: str, namespace: Any = None) -> None:
        command = [sys.executable, "-m", "pydpdk", "run", str(path), "--json", *options]
        self.name = next(
            line.split('"')[1] for line in path.read_text().splitlines() if line.startswith("name")
        )
        self._out = path.with_suffix(".out").open("w+")
        self._err = path.with_suffix(".err").open("w+")
        popen = namespace.popen if namespace else subprocess.Popen
        self.process = popen(command, stdout=self._out, stderr=self._err)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._out.close()
        self._err.close()

    @property
    def log(self) -> str:
        return Path(self._err.name).read_text()

    def status(self) -> dict[str, Any]:
        return rundir.read(self.name, "status")

    def until(self, test: Any, what: str, seconds: float = READY_S) -> dict[str, Any]:
        """The first status that passes; fails with the log."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            status = self.status()
            if status and status.get("engine") and test(status):
                return status
            assert self.process.poll() is None, f"it ended before {what}:\n{self.log}"
            time.sleep(0.05)
        raise AssertionError(f"not {what} within {seconds} s: {self.status()}\n{self.log}")

    def ready(self) -> dict[str, Any]:
        """Its engine runs, its stages are attached, its link is up."""

        def up(status: dict[str, Any]) -> bool:
            links = status["engine"]["loops"][0]["links"].values()
            return all(link in ("up", "unknown") for link in links)

        return self.until(up, "ready")

    def counter(self, name: str) -> int:
        return int(self.status()["engine"]["loops"][0]["counters"].get(name, 0))

    @contextmanager
    def room(self) -> Iterator[Callable[[int], int]]:
        """For how many more frames there is room when so many were sent: what a Feeder asks.

        A host that is busy elsewhere then slows the sender down, where else a socket overflows.
        What is lost in spite of it is waited for once.
        """
        with Times.attach(rundir.times_path(self.name, "loop0")) as times:
            received, lost, since = times.hists["receive"], 0, time.monotonic()
            last = received.count

            def room(sent: int) -> int:
                nonlocal last, lost, since
                taken, now = received.count, time.monotonic()
                if taken != last or sent - taken - lost < WAITING:
                    last, since = taken, now
                elif now - since > STUCK_S:
                    lost = sent - taken
                return max(0, WAITING - (sent - taken - lost))

            yield room

    def idle(self, seconds: float = 0.6) -> None:
        """No frame came for a while."""
        seen, since = -1, time.monotonic()
        deadline = time.monotonic() + END_S
        while time.monotonic() - since < seconds and time.monotonic() < deadline:
            now = self.counter("frames_received")
            if now != seen:
                seen, since = now, time.monotonic()
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGTERM) -> dict[str, Any]:
        """End it; its record."""
        self.process.send_signal(number)
        return self.end()

    def end(self) -> dict[str, Any]:
        """Wait for its end; its record."""
        self.process.wait(END_S)
        text = Path(self._out.name).read_text()
        assert text, f"no record, exit code {self.process.returncode}:\n{self.log}"
        record: dict[str, Any] = json.loads(text)
        return record


def leftovers(name: str) -> list[str]:
    """What a run left in shared memory and run directories."""
    found = [path.name for path in rundir.SHM.glob(f"pydpdk-{name}.*")]
    place = rundir.base() / name
    return found + ([str(place)] if place.exists() else [])
