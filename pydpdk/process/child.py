"""A child process of a run: what it says, in lines of JSON, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TextIO

from pydpdk.process import rights

LOOK_S = 0.01
TAIL = 40  # lines of its log that are kept to explain its end
# rte_exit() gives its cause in the next line; rte_panic(); EAL.
TELLING = re.compile(r".*exiting with code.*\n.*|.*(?:PANIC|EAL: ).*")
Say = Callable[["Child", dict[str, Any]], None]


class Child:
    """``python -m MODULE ARGS``, with its messages passed to ``heard`` by a thread of their own."""

    def __init__(
        self,
        name: str,
        module: str,
        args: Sequence[str],
        heard: Say,
        *,
        fds: Sequence[int] = (),
        core: int | None = None,
        log: TextIO = sys.stderr,
        stage: bool = False,
    ) -> None:
        self.name = name
        self.last: dict[str, dict[str, Any]] = {}  # newest message of each kind
        self.tail: deque[str] = deque(maxlen=TAIL)
        self._heard, self._log = heard, log
        before = rights.child(os.getpid(), stage)

        def before_exec() -> None:
            before()
            if core is not None:
                os.sched_setaffinity(0, {core})

        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *args],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            pass_fds=fds, preexec_fn=before_exec,
        )  # fmt: skip
        self._threads = [
            threading.Thread(target=self._listen, daemon=True),
            threading.Thread(target=self._copy_log, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                message = json.loads(line)
                self.last[message["event"]] = message
            except (ValueError, KeyError, TypeError):  # it died in the middle of a line
                continue
            self._heard(self, message)

    def _copy_log(self) -> None:
        assert self.process.stderr is not None
        for raw in self.process.stderr:
            line = raw.decode(errors="replace").rstrip()
            self.tail.append(line)
            with suppress(OSError):  # nobody reads on; the child must not wait for that
                print(f"{self.name}: {line}", file=self._log)

    def go(self) -> None:
        """Send the line that lets the child start its work."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(b"go\n")
            self.process.stdin.flush()

    def until(self, event: str, timeout_s: float) -> bool:
        """Wait for a message of that kind; False when the child ended first, or at the timeout."""
        deadline = time.monotonic() + timeout_s
        while event not in self.last and time.monotonic() < deadline:
            if not self.alive:
                self.wait(1.0)
                break
            time.sleep(LOOK_S)
        return event in self.last

    def end(self, number: int = signal.SIGTERM) -> None:
        """Send the child a signal; harmless when it is gone."""
        if self.alive:
            self.process.send_signal(number)

    def wait(self, timeout_s: float) -> bool:
        """Wait until the child ended and all its messages were heard; False at the timeout."""
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        for thread in self._threads:
            thread.join(timeout_s)
        if not any(thread.is_alive() for thread in self._threads):
            self._close()
        return True

    def _close(self) -> None:
        """Close the pipes to the child, which nobody reads or writes any more."""
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            with suppress(BrokenPipeError):  # what it did not take
                pipe.close()

    def cause(self) -> str:
        """Why the child ended, in one line."""
        code = self.process.returncode
        for event in ("refused", "broken", "raised"):
            if event in self.last:
                return str(self.last[event]["error"])
        how = f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
        said = [line for line in self.tail if line.strip()]
        telling = TELLING.findall("\n".join(said)) or said
        return f"{how}: {' '.join(telling[-1].split())}" if telling else how
