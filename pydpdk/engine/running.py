"""An engine's loop in a thread of its own."""

from __future__ import annotations

import errno
import os
from threading import Thread
from typing import TYPE_CHECKING

from pydpdk._core import lib
from pydpdk.errors import CoreError, HostError
from pydpdk.source import eal

if TYPE_CHECKING:
    from pydpdk.engine.engine import Engine

END = -errno.ENODATA
AGAIN = -errno.EAGAIN


class Running:
    """What Engine.start() gives. The engine lives until end() was called: its close() does."""

    def __init__(self, engine: Engine, core: int | None) -> None:
        self._engine = engine
        self._error: Exception | None = None
        self._thread = Thread(target=self._run, args=(core,), name="pydpdk-engine", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it still runs. All its records are in the ring once it does not."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Ask it to end as if its sources had ended; harmless when it did. See join()."""
        if self.alive:
            self._engine.stop()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for its end; False at the timeout.

        CoreError when a source broke, HostError when it cannot run on that core.
        """
        self._thread.join(timeout_s)
        if self.alive:
            return False
        error, self._error = self._error, None
        if error:
            raise error
        return True

    def end(self) -> None:
        """Stop it and wait, whatever it says."""
        self.stop()
        self._thread.join()

    def _run(self, core: int | None) -> None:
        pointer = self._engine.pointer
        try:
            _pin(core)
            with eal.thread():
                code = lib.engine_run(pointer)
                while code >= 0:  # stopped: the last steps declare what is open, if there is room
                    code = lib.engine_step(pointer)
            if code not in (END, AGAIN):
                raise CoreError(-code, self._broken(code))
        except Exception as error:
            self._error = error

    def _broken(self, code: int) -> str:
        engine = self._engine
        specs = (s.spec for i, s in enumerate(engine.sources) if engine.source_error(i) == code)
        return next(specs, "engine")


def _pin(core: int | None) -> None:
    """Bind the calling thread, none else, to one CPU."""
    if core is None:
        return
    try:
        os.sched_setaffinity(0, {core})
    except (OSError, ValueError, OverflowError) as error:
        have = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
        raise HostError(
            f"the engine cannot run on core {core}: {error}; there are {have}"
        ) from error
