"""Sends a capture's frames through a source, each when it is due (csrc/tape/sender.h)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from threading import Thread
from typing import Any, Self

from pydpdk._core import ffi, lib
from pydpdk.core.closes import Closes
from pydpdk.core.hist import Hist
from pydpdk.engine.engine import END, _pin
from pydpdk.errors import CoreError, DataError, PydpdkError, UsageError
from pydpdk.source.source import Source, open_source

RETRY_S = 0.1


@dataclass(frozen=True)
class Rate:
    """When frames are due: as recorded (`speed` times as fast), `pps` a second, or at once."""

    kind: int
    speed: float = 1.0
    pps: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Self:
        """``recorded``, ``x10``, ``50000pps`` or ``line``; UsageError for anything else."""
        if text == "line":
            return cls(lib.SENDER_LINE)
        if text == "recorded":
            return cls(lib.SENDER_RECORDED)
        if (found := re.fullmatch(r"x(\d+\.?\d*|\.\d+)", text)) and 1e-6 <= float(found[1]) <= 1e6:
            return cls(lib.SENDER_RECORDED, speed=float(found[1]))
        if (found := re.fullmatch(r"(\d+\.?\d*) ?(pps)?", text)) and 1e-3 <= float(found[1]) <= 1e9:
            return cls(lib.SENDER_PPS, pps=float(found[1]))
        raise UsageError(f"rate {text!r} is none of recorded, x10 (times as fast), 50000pps, line")


class Sender(Closes):
    """A capture on its way out of ``to``, which stays the caller's; use it in ``with``.

    ``laps``: passes over the capture; ``frames``: end after so many, 0: no limit. A frame that
    finds no room is offered for ``retry_s``, then counted as refused. Frames that the capture does
    not hold whole, or that are not Ethernet, are skipped and counted: see sendable().
    UsageError: a source that cannot send.
    """

    def __init__(
        self,
        capture: str,
        to: Source,
        rate: Rate,
        *,
        laps: int = 1,
        frames: int = 0,
        retry_s: float = RETRY_S,
        core: int | None = None,
    ) -> None:
        if not to.pointer.send:
            raise UsageError(f"{to.spec}: it cannot send; name a port")
        self.capture, self.to, self.laps, self.laps_done = capture, to, laps, 0
        self.problem: PydpdkError | None = None
        """What broke the capture or the port; frames before it were sent."""
        self._core = core
        self._error: Exception | None = None
        self._shared = ffi.new("struct sender *")
        self._shared.rate, self._shared.speed, self._shared.pps = rate.kind, rate.speed, rate.pps
        self._shared.frames_max = frames
        self._shared.retry_ns = round(retry_s * 1e9)
        self._thread = Thread(target=self._run, name="pydpdk-send", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it, and wait for its thread."""
        self.stop()
        self._thread.join()

    @property
    def frames(self) -> int:
        """Frames that the port took so far."""
        return int(self._shared.frames)

    def stop(self) -> None:
        """End before the next frame that is not due yet. See join()."""
        self._shared.stop = 1

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; False at the timeout. HostError when it cannot run on that core."""
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            return False
        error, self._error = self._error, None
        if error:
            raise error
        return True

    def _run(self) -> None:
        try:
            _pin(self._core)
            while self.laps_done < self.laps and self._lap() == 0:
                self.laps_done += 1
        except Exception as error:
            self._error = error

    def _lap(self) -> int:
        """One pass over the capture, which is opened anew."""
        with open_source(f"pcap:{self.capture}") as source:
            rc = int(lib.sender_run(self._shared, source.pointer, self.to.pointer))
            if self._shared.out_error:
                self.problem = CoreError(-self._shared.out_error, f"{self.to.spec}: cannot send")
            elif rc < 0 and rc != END:
                self.problem = DataError(f"{self.capture}: {source.problem()}")
        return rc

    def result(self) -> dict[str, Any]:
        """The summary so far. Scheduled = sent + refused + unfit. None is unknown.

        ``send_errors``: taken by the device, but not sent, as far as its driver tells.
        ``drift_ns``: how much later than due the last frame was taken. ``lateness_ns``: the same of
        every frame. ``behind_ns``: time with a frame overdue by more than a millisecond.
        ``clock_ppm``: how much faster the cycle counter, which the schedule is kept by, ran than
        CLOCK_MONOTONIC.
        """
        s, port = self._shared, self.to.stats()
        seconds = s.last / 1e9
        scheduled = s.rate != lib.SENDER_LINE
        return {
            "capture": self.capture,
            "to": self.to.spec,
            "laps": self.laps_done,
            "scheduled": s.scheduled,
            "sent": s.frames,
            "bytes": s.bytes,
            "refused": s.refused,
            "unfit": s.unfit,
            "send_errors": port.send_errors,
            "unexplained": s.scheduled - s.frames - s.refused - s.unfit,
            "skipped": {"truncated": s.truncated, "not_ethernet": s.foreign},
            "regress": s.regress,
            "seconds": seconds,
            "pps": round((s.frames - 1) / seconds) if s.frames > 1 and seconds else None,
            "drift_ns": s.last - s.last_due if scheduled else None,
            "lateness_ns": Hist(ffi.addressof(s, "late")).percentiles() if scheduled else None,
            "behind_ns": s.behind if scheduled else None,
            "clock_ppm": round((s.counter_ns / s.clock_ns - 1) * 1e6, 1) if s.clock_ns else None,
        }


def sendable(capture: str, skip: bool = False) -> int:
    """How many frames of a capture can be sent, up to where it breaks.

    DataError when there are none, or, unless ``skip``, when there are others: frames not whole in
    the capture, or not Ethernet.
    """
    scan = ffi.new("struct sender_scan *")
    with open_source(f"pcap:{capture}") as source:
        while lib.sender_scan(source.pointer, scan) > 0:
            pass
        broken = source.problem()
    if not skip and (scan.truncated or scan.foreign):
        raise DataError(
            f"{capture}: {scan.truncated} frames are not whole in the capture and"
            f" {scan.foreign} are not Ethernet: --skip sends the {scan.frames} others"
        )
    if scan.frames == 0:
        raise DataError(f"{capture}: no frame that can be sent{broken and f': {broken}'}")
    return int(scan.frames)
