"""Sends a capture's lines over an interface, with faults and at a rate, and says what it sent.

    python -m testbed.feeder day.pcap --interface a0 --loss 0.02 --seed 7 --pps 50000

Everything is laid out before the first frame (``testbed.plan``); then sendmmsg(2) takes what is
due from memory, so a send costs the kernel's time alone. Frames go through the queueing layer of
the interface, where faults of the network are put (``testbed.faults``).
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import json
import os
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from testbed.datagrams import OTHER, Line, Rows, line_of, spans, split
from testbed.plan import Faults, Feed, Plan, plan

BATCH = 512
SPIN_NS = 100_000  # a sleep may take so much longer than asked for
NAP_NS = 50_000_000  # longest sleep: a stop is heeded after it
GONE = (errno.ENXIO, errno.ENODEV)
UNSAID = 0xFFFF  # sendmmsg tells the error of the first frame of a batch alone
PASSING = (errno.ENOBUFS, errno.ENETDOWN, errno.EMSGSIZE)  # this frame is refused, not the next

# struct iovec, struct mmsghdr (socket(7), sendmmsg(2)) on a 64-bit machine.
IOVEC = np.dtype([("base", "u8"), ("length", "u8")])
MMSGHDR = np.dtype(
    {
        "names": ["iov", "iovlen", "sent"],
        "formats": ["u8", "u8", "u4"],
        "offsets": [16, 24, 56],
        "itemsize": 64,
    }
)
_sendmmsg = ctypes.CDLL(None, use_errno=True).sendmmsg


@dataclass
class SentLine:
    """One line of one session: what crossed, and what was done to it."""

    line: Line
    dropped: list[tuple[int, int]]  # by the feeder: ranges (first, behind the last) of sequences
    refused: list[tuple[int, int]]  # by the kernel, no copy of them having been sent
    duplicated: int
    reordered: int


@dataclass
class Ledger:
    """What was sent. ``planned`` = sent + refused + unsent; times are of CLOCK_REALTIME."""

    interface: str
    seed: int
    ended: str  # "done", "stopped", "interface gone"
    offered: int  # frames of the feed
    planned: int  # after loss and duplication
    sent: int
    refused: dict[str, int]  # by error: ENOBUFS is a drop at egress; "unsaid" in mid-batch
    unsent: int
    other: int  # sent frames that are no datagram of a session
    start_ns: int
    seconds: float
    pps: float
    late_us_max: float  # behind the plan; nothing is on time when it is not paced
    lines: list[SentLine] = field(default_factory=list)

    @property
    def crossed(self) -> list[Line]:
        """The lines of which a checker has seen something."""
        return [sent.line for sent in self.lines if sent.line.packets + sent.line.control]

    def json(self) -> str:
        return json.dumps(asdict(self), indent=1)


class Feeder:
    """A raw socket on an interface of the calling thread's namespace, as a context manager.

    Raises OSError without the interface or the right to send raw frames (CAP_NET_RAW).
    """

    def __init__(self, interface: str) -> None:
        self.interface = interface
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # 0: receives nothing
        try:
            self.socket.bind((interface, 0))
        except OSError as error:
            self.socket.close()
            raise OSError(error.errno, f"{interface}: {error.strerror}") from None
        self.stopped = False
        self._iov = np.zeros(BATCH, IOVEC)
        self._messages = np.zeros(BATCH, MMSGHDR)
        self._messages["iov"] = self._iov.ctypes.data + np.arange(BATCH) * IOVEC.itemsize
        self._messages["iovlen"] = 1
        self._address = ctypes.c_void_p(self._messages.ctypes.data)

    def __enter__(self) -> Feeder:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def stop(self, *_: object) -> None:
        """From a signal handler or another thread: end at the next frame."""
        self.stopped = True

    def send(
        self, work: Plan, *, paced: bool = True, seed: int = 0,
        room: Callable[[int], int] | None = None,
    ) -> Ledger:  # fmt: skip
        """All of it, each frame at its time, or in the plan's order as fast as it goes.

        ``room`` is told how many were sent, and says for how many more the receiver has room:
        the others are late.
        """
        iov = np.zeros(len(work), IOVEC)
        iov["base"] = work.feed.data.ctypes.data + work.feed.offsets[work.frame]
        iov["length"] = work.feed.lengths[work.frame]
        refused = np.zeros(len(work), np.uint16)
        start_ns, start, late, at = time.time_ns(), time.perf_counter_ns(), 0, 0
        gone = False
        while at < len(work) and not self.stopped and not gone:
            upto = len(work)
            if paced:
                now = time.perf_counter_ns() - start
                upto = self._due(work.time_ns, at, now)
                if upto > at:
                    late = max(late, now - int(work.time_ns[at]))
            if room is not None and upto > at:
                upto = min(upto, at + room(at))
                if upto == at:
                    time.sleep(SPIN_NS / 1e9)
            at, gone = self._batch(iov, at, min(upto, at + BATCH), refused)
        seconds = (time.perf_counter_ns() - start) / 1e9
        ended = "interface gone" if gone else "stopped" if at < len(work) else "done"
        return _ledger(
            work, at, refused[:at], interface=self.interface, seed=seed, ended=ended,
            start_ns=start_ns, seconds=seconds, late_us_max=late / 1000,
        )  # fmt: skip

    @staticmethod
    def _due(times: Rows, at: int, now: int) -> int:
        """Behind the last send that is due; sleeps if that is none and there is time for it."""
        wait = int(times[at]) - now
        if wait > SPIN_NS:
            time.sleep(min(wait - SPIN_NS, NAP_NS) / 1e9)
        if wait > 0:
            return at
        return at + int(np.searchsorted(times[at : at + BATCH], now, "right"))

    def _batch(self, iov: Rows, at: int, upto: int, refused: Rows) -> tuple[int, bool]:
        """Send [at, upto): how far it came, and whether the interface is no more."""
        if at == upto:
            return at, False
        self._iov[: upto - at] = iov[at:upto]
        sent = _sendmmsg(self.socket.fileno(), self._address, upto - at, 0)
        if sent > 0:
            at += sent
            if at < upto:  # the next one failed, and was perhaps consumed: no second try
                refused[at] = UNSAID
                at += 1
            return at, False
        code = ctypes.get_errno()
        if code in PASSING:
            refused[at] = code
            return at + 1, False
        if code in GONE:
            return at, True
        if code in (errno.EINTR, errno.EAGAIN):
            return at, False
        raise OSError(code, f"{self.interface}: {os.strerror(code)}")


def _ledger(work: Plan, at: int, refused: Rows, **facts: Any) -> Ledger:
    """What became of the first ``at`` sends of a plan."""
    rows = work.feed.rows
    crossed = work.frame[:at][refused == 0]
    codes = Counter(map(int, refused[refused > 0]))
    return Ledger(
        offered=len(work.feed),
        planned=len(work),
        sent=len(crossed),
        refused={errno.errorcode.get(code, "unsaid"): n for code, n in codes.items()},
        unsent=len(work) - at,
        other=int((rows["protocol"][crossed] == OTHER).sum()),
        pps=len(crossed) / facts["seconds"] if facts["seconds"] else 0.0,
        lines=[_sent_line(work, mine, at, refused == 0) for mine in split(rows)],
        **facts,
    )


def _sent_line(work: Plan, mine: Rows, at: int, went: Rows) -> SentLine:
    """``mine`` are the frames of the line, ``went`` tells which of the first sends crossed."""
    rows, lengths = work.feed.rows, work.feed.lengths
    member = np.zeros(len(rows), bool)
    member[mine] = True
    sends = work.frame[:at]
    ours = member[sends] & went
    crossed = sends[ours]
    refused = np.setdiff1d(sends[member[sends] & ~went], crossed)
    return SentLine(
        line_of(rows[mine[0]], rows[crossed], lengths[crossed]),
        dropped=spans(rows[work.lost[member[work.lost]]]),
        refused=spans(rows[refused]),
        duplicated=int(work.copied[:at][ours].sum()),
        reordered=int(work.held[:at][ours].sum()),
    )


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        columns = zip(*(_two(getattr(options, name)) for name in FAULTS), strict=True)
        faults = [Faults(*column) for column in columns]
        work = plan(
            Feed.capture(options.capture), faults, seed=options.seed, pps=options.pps,
            speed=options.speed or 1.0, burst=options.burst,
        )  # fmt: skip
        with Feeder(options.interface) as feeder:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, feeder.stop)
            paced = options.pps is not None or options.speed > 0
            ledger = feeder.send(work, paced=paced, seed=options.seed)
    except (OSError, ValueError) as error:
        print(f"testbed.feeder: {error}", file=sys.stderr)
        return 1
    if options.ledger:
        Path(options.ledger).write_text(ledger.json() + "\n")
    else:
        print(ledger.json())
    return 0 if ledger.ended == "done" else 1


FAULTS = ("loss", "duplicate", "reorder", "late_us")  # in the order of Faults


def _two(text: str) -> tuple[float, float]:
    """``0.1`` is for both lines, ``0.1,0`` for line A and the others."""
    first, _, second = text.partition(",")
    return float(first), float(second or first)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m testbed.feeder",
        description="Send the lines of a capture with faults; a fault given as X,Y is X on line A "
        "and Y on the others.",
    )
    parser.add_argument("capture", help="classic pcap, for example of `pydpdk gen`")
    parser.add_argument("--interface", required=True)
    parser.add_argument("--loss", default="0", help="share of packets lost")
    parser.add_argument("--duplicate", default="0", help="share of packets sent twice")
    parser.add_argument("--reorder", default="0", help="share of packets held back")
    parser.add_argument("--late-us", default="0", help="0,250: line B is later by 250 us")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pps", type=float, help="frames a second, over all lines")
    parser.add_argument(
        "--speed", type=float, default=0.0,
        help="times the recorded pace; without it and --pps as fast as possible",
    )  # fmt: skip
    parser.add_argument("--burst", type=int, default=1, help="so many frames at once")
    parser.add_argument("--ledger", help="file for what was sent, else stdout")
    return parser


if __name__ == "__main__":
    sys.exit(main())
