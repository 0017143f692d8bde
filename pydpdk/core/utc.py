"""A counter's map to UTC (csrc/base/utc.h)."""

from __future__ import annotations

from typing import Any, NamedTuple

from pydpdk._core import ffi, lib
from pydpdk.core.closes import Closes
from pydpdk.errors import PydpdkError, check

UNKNOWN = 2**64 - 1
HOST_UTC = ("tsc", "host", "kernel", "hardware")  # domains of stamps mapped to this host's UTC


class ClockDomainError(PydpdkError):
    """A difference of two stamps whose clocks have nothing to do with each other."""


def same_domain(earlier: str, later: str) -> None:
    """ClockDomainError unless a latency may be told from a stamp of one to one of the other.

    Domains as a ring's header names them: those of this host's UTC go together, "capture" (stamps
    made elsewhere, at another time) only with itself.
    """
    if earlier != later and not {earlier, later} <= set(HOST_UTC):
        raise ClockDomainError(
            f"no latency from a stamp of clock {earlier!r} to one of {later!r}: "
            f"only {', '.join(HOST_UTC)} go together"
        )


class State(NamedTuple):
    """How good a map is at one counter; fields and units as ``struct utc_state``."""

    updates: int
    error_ns: int  # bound against the clock that was sampled; UNKNOWN before the first sample
    offset_ns: int  # how far the map is ahead of that clock
    rate_ppb: int
    steps: int
    age_ns: int
    late: int


class Utc(Closes):
    """UTC in ns since the Unix epoch, told by a counter; close it, or use it in ``with``.

    ``hz`` makes a map of another counter than the TSC, right within ``ppm``, that waits for
    :meth:`sample`; without it the TSC is measured against CLOCK_REALTIME for 5 ms, and
    :meth:`update`, called some ten times a second by one thread, keeps it right.
    ``pointer`` is the ``struct utc *`` for the core.
    """

    def __init__(self, hz: int | None = None, ppm: int = 200) -> None:
        out = ffi.new("struct utc **")
        check(lib.utc_create(out), "UTC map")
        self._pointer: Any = out[0]
        if hz is not None:
            lib.utc_init(self._pointer, hz, ppm)

    @property
    def pointer(self) -> Any:
        if self._pointer is None:
            raise PydpdkError("this Utc is closed: make another one")
        return self._pointer

    def update(self) -> None:
        """Sample CLOCK_REALTIME and correct the map."""
        check(lib.utc_update(self.pointer), "UTC map: CLOCK_REALTIME")

    def sample(self, counter: int, utc_ns: int, bracket_ns: int) -> None:
        """The clock showed ``utc_ns`` within half of ``bracket_ns`` around ``counter``."""
        lib.utc_sample(self.pointer, counter, utc_ns, bracket_ns)

    def jump(self) -> None:
        """Let the next sample be believed at once, where a step is else slewed."""
        lib.utc_jump(self.pointer)

    def now(self) -> int:
        """UTC by the TSC."""
        return int(lib.utc_now(self.pointer))

    def at(self, counter: int) -> int:
        """UTC at a counter."""
        return int(lib.utc_at(self.pointer, counter))

    def state(self, counter: int | None = None) -> State:
        """How good the map is now, or at a counter."""
        out = ffi.new("struct utc_state *")
        if counter is None:
            lib.utc_state(self.pointer, out)
        else:
            lib.utc_state_at(self.pointer, counter, out)
        return State(*(getattr(out, name) for name in State._fields))

    def close(self) -> None:
        """Free the map; nothing may read it any more."""
        pointer, self._pointer = self._pointer, None
        if pointer is not None:
            lib.utc_destroy(pointer)
