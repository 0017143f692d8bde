"""The engine process of a run: EAL, the ports, one C loop for each receive core.

Its parent made the rings and flight recorders and hands them down by descriptor, so that they
outlive it. It says what happens in lines of JSON on its stdout: ``known`` (what each way in can
and cannot do), ``ready`` (after a line on stdin told it to go), ``status``, ``gap``, ``result``
(the accounts); everything else goes to stderr. It ends when it is told to (SIGTERM), when its
parent is gone, or when all its sources ended.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from pydpdk._core import lib
from pydpdk.core import counters
from pydpdk.core.closes import Closes
from pydpdk.core.instruments import Instruments
from pydpdk.core.utc import UNKNOWN, Utc
from pydpdk.engine.engine import Engine, Live, Running
from pydpdk.engine.feed import midnight_ns
from pydpdk.engine.flight import Flight
from pydpdk.errors import CoreError, HostError, PydpdkError, check
from pydpdk.lockstep.account import loop_result, refused, refused_lines, unexplained
from pydpdk.process import config as configuration
from pydpdk.process import rights, rundir
from pydpdk.process.times import Times
from pydpdk.process.ways_in import Answerer, Reception, Way, Ways

LOOK_S = 0.005  # between looks at loops, and at links that tell no news
UPDATE_S = 0.1  # of the UTC map, and of the status
SLOW_S = 1.0
RTMGRP_LINK = 1  # linux/rtnetlink.h
LINKS = {"unknown": 0, "up": 1, "down": 2, "gone": 3}
KERNEL_STAMP_DELAY_US = 20_000  # how old a stamp may be that the kernel or device took


@dataclass
class Loop:
    """One receive core at work."""

    engine: Engine
    reception: Reception
    answerers: list[Answerer]
    flight: Flight | None
    running: Running | None = None
    gaps: int = 0
    first: int = 0  # position of its first record in the ring
    written: dict[int, int] = field(default_factory=dict)  # by whom was there before
    suspect: dict[str, bool] = field(default_factory=dict)
    refused: dict[str, list[str]] = field(default_factory=dict)  # instruments, as was said
    problems: list[str] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        return self.running is not None and self.running.alive


class EngineProcess:
    """Everything that the engine process owns."""

    def __init__(self, path: str, rings: Sequence[int], flights: Sequence[int], incarnation: int):
        self.config = configuration.load(path)
        self.incarnation = incarnation
        self._stack = ExitStack()
        captures = [s.device.ends for s in self.config.sources]
        self.clock = None if all(captures) else self._stack.enter_context(Utc())
        self.ways = self._stack.enter_context(Ways(self.config, self.clock))
        self.ways.judge()
        self.loops = [
            self._loop(reception, rings[i], flights[i])
            for i, reception in enumerate(self.ways.receptions)
        ]
        self._links = {way.name: "" for way in self.ways.ways.values()}
        self._news = self._stack.enter_context(LinkNews())

    def _loop(self, reception: Reception, ring: int, flight: int) -> Loop:
        way = reception.lanes[0][0]
        today = midnight_ns(time.time_ns())
        feeds = [
            replace(plan.feed, midnight_ns=0 if way.known["clock"] == "capture" else today)
            for plan in reception.feeds
        ]
        late = way.known["clock"] in ("kernel", "hardware")
        live = Live(
            clock=self.clock, by_stamp=True, marks=True, ring_fd=ring,
            idle_us=KERNEL_STAMP_DELAY_US if late else 0, incarnation=self.incarnation,
        )  # fmt: skip
        sources = [source for _, source in reception.lanes]
        number = self.ways.receptions.index(reception)
        path = rundir.times_path(self.config.name, f"loop{number}")
        times = self._stack.enter_context(Times.attach(path, writer=True))
        name = rundir.instruments_name(self.config.name, number)
        table = self._stack.enter_context(Instruments.attach(name, writer=True))
        engine = self._stack.enter_context(
            Engine(
                sources, feeds, live=live, lockstep=self.clock is None, times=times.engine(),
                instruments=table,
            )
        )  # fmt: skip
        assert engine.ring is not None
        engine.ring.tell_clock(way.known["clock"])
        kept = None
        if self.clock:
            for feed in engine.feeds:
                check(
                    lib.books_populate(feed.books.pointer), f"memory for the books of {feed.spec}"
                )
        if flight >= 0:
            kept = self._stack.enter_context(Flight.attach(fd=flight, writer=True))
            engine.keep(kept)
        made = Loop(engine, reception, self._answer(engine, reception), kept)
        made.first, made.written = engine.ring.next, engine.ring.last_sequences()
        return made

    def _answer(self, engine: Engine, reception: Reception) -> list[Answerer]:
        """An answerer for each port that no kernel speaks for, on one of its queues."""
        mine: dict[str, Answerer] = {}
        for index, (way, _) in enumerate(reception.lanes):
            if not self.clock or not way.speaks:
                continue
            if way.name not in mine:  # one for all queues: a query may come on any
                mine[way.name] = Answerer(way)
            engine.answer(index, mine[way.name].pointer)
        return list(mine.values())

    def feeds(self) -> list[list[str]]:
        """Names of the feeds of each loop, in the order of their numbers."""
        return [[plan.feed.name for plan in loop.reception.feeds] for loop in self.loops]

    def run(self, say: Any, asked: Any) -> None:
        """Run until ``asked()``, or until all sources have ended."""
        self._look_at_links()
        step_aside(loop.reception.core for loop in self.loops)
        for loop in self.loops:
            loop.running = loop.engine.start(loop.reception.core)
        say("ready", pid=os.getpid())
        due = {"update": 0.0, "slow": 0.0}
        while any(loop.alive for loop in self.loops) and not asked():
            now = time.monotonic()
            self._look_at_links()
            if now >= due["update"]:
                due["update"] = now + UPDATE_S
                self._update(say)
            if now >= due["slow"]:
                due["slow"] = now + SLOW_S
                self._slowly()
            self._news.wait(LOOK_S)
        self.stop()

    def _look_at_links(self) -> None:
        for loop in self.loops:
            for index, (way, source) in enumerate(loop.reception.lanes):
                state = source.link() if self.clock else "unknown"
                self._links[way.name] = state
                loop.engine.link(index, LINKS[state])

    def _update(self, say: Any) -> None:
        if self.clock:
            with suppress(
                CoreError
            ):  # a look that failed: the map's error bound grows, and says so
                self.clock.update()
                for way in self.ways.ways.values():
                    way.sources[0].tick()
        say("status", **self.status())
        for loop in self.loops:
            self._note_gaps(loop, say)

    def _note_gaps(self, loop: Loop, say: Any) -> None:
        """Tell the parent of gaps that were given up: it keeps the frames around them."""
        gaps = loop.engine.counters()["gaps_declared"]
        if gaps > loop.gaps:
            say("gap", loop=self.loops.index(loop), gaps=gaps - loop.gaps, now=loop.engine.now)
        loop.gaps = gaps

    def _slowly(self) -> None:
        today = midnight_ns(time.time_ns())
        for loop in self.loops:
            assert loop.engine.ring is not None
            loop.engine.ring.reap()
            loop.suspect = {feed.spec.name: feed.suspect for feed in loop.engine.feeds}
            self._say_refused(loop)
            if self.clock:
                for feed in loop.engine.feeds:
                    lib.feed_midnight(feed.pointer, today)

    def _say_refused(self, loop: Loop) -> None:
        """Write to the log which instruments found no room, once for each that is known by name."""
        if (found := refused(loop.engine)) != loop.refused:
            loop.refused = found
            for line in refused_lines(found, loop.engine.counters()["instruments_full"]):
                print(line, file=sys.stderr, flush=True)

    def stop(self) -> None:
        """Stop: each loop finishes its batch and declares open gaps; multicast groups are left."""
        for loop in self.loops:
            if loop.running:
                loop.running.stop()
        for loop in self.loops:
            if not loop.running:
                continue
            try:
                loop.running.join()
            except (CoreError, HostError) as error:  # said in the result, with all accounts
                loop.problems.append(str(error))
            for answerer in loop.answerers:
                answerer.leave()
            loop.engine.farewell()

    def status(self) -> dict[str, Any]:
        """The counts that may be read while the loops run."""
        return {
            "pid": os.getpid(),
            "incarnation": self.incarnation,
            "loops": [self._loop_status(loop) for loop in self.loops],
            "clock": self._clock(),
        }

    def _loop_status(self, loop: Loop) -> dict[str, Any]:
        engine = loop.engine
        assert engine.ring is not None
        stats = engine.ring.stats()
        return {
            "core": loop.reception.core,
            "feeds": [plan.feed.name for plan in loop.reception.feeds],
            "now": engine.now,
            "counters": counters.nonzero(engine.counters()),
            "lines": [
                {"feed": feed.spec.name, **line} for feed in engine.feeds for line in feed.lines()
            ],
            "suspect": loop.suspect,
            "refused": refused(engine),
            "links": {way.name: self._links[way.name] for way, _ in loop.reception.lanes},
            "ports": [self._port(way, source) for way, source in loop.reception.lanes],
            "ring": {
                "written": stats.written,
                "lost": stats.lost,
                "readers": [reader._asdict() for reader in stats.readers],
            },
            "stall_max_ns": engine.times()["stall"].max,
        }

    def _port(self, way: Way, source: Any) -> dict[str, Any]:
        """Figures of the driver, the socket and the kernel; null where none can be known.

        A file's are those of the loop.
        """
        stats = None
        if way.known["losses"] != "file":
            with suppress(CoreError):
                stats = source.stats()
        return {
            "source": way.name,
            "stats": vars(stats) if stats else None,
            "mbufs": source.mbufs(),
            "kernel": source.kernel() if self.clock else None,
        }

    def _clock(self) -> dict[str, Any] | None:
        if not self.clock:
            return None
        state = self.clock.state()
        return {
            "error_ns": None if state.error_ns == UNKNOWN else state.error_ns,
            "rate_ppb": state.rate_ppb,
            "steps": state.steps,
        }

    def result(self) -> dict[str, Any]:
        """The accounts of all loops, after these have ended."""
        loops = [self._loop_result(loop) for loop in self.loops]
        return {
            "incarnation": self.incarnation,
            "unexplained": sum(loop["unexplained"] for loop in loops),
            "loops": loops,
            "ways": self.ways.told(),
            "clock": self._clock(),
        }

    def _loop_result(self, loop: Loop) -> dict[str, Any]:
        engine, status = loop.engine, self._loop_status(loop)
        assert engine.ring is not None
        totals, account = engine.counters(), loop_result(engine)
        sessions = account["sequence"]
        return {
            **status,
            **account,
            "books": account["books"] if sessions else None,
            "answers": [answerer.stats() for answerer in loop.answerers],
            "latency_ns": {
                name: hist.percentiles() for name, hist in engine.times().items() if hist.count
            },
            "reliable": totals["stalls"] == 0,
            "problems": [f"{s.spec}: {s.problem()}" for s in engine.sources if s.problem()]
            or loop.problems,
            "broke": self._broke(loop, sessions),
            # Records that found no room were counted; the ring must have all others.
            "unexplained": unexplained(totals, sessions, engine.ring.next - loop.first)
            + abs(totals["frames_received"] - self._handed_over(loop)),
        }

    def _broke(self, loop: Loop, sessions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Sequences missing between the last of the engine before and the first of this one."""
        broke = []
        for feed in loop.engine.feeds:
            firsts = [s["first"] for s in sessions if s["feed"] == str(feed.spec)]
            last = loop.written.get(feed.index)
            if last is not None and firsts:
                missing = max(firsts[0] - last - 1, 0)
                broke.append({"feed": feed.spec.name, "last": last, "missing": missing})
        return broke

    def _handed_over(self, loop: Loop) -> int:
        """Frames that the sources say they gave to the loop."""
        return sum(source.stats().received or 0 for source in loop.engine.sources)

    def close(self) -> None:
        """Close loops and ports, unmap the rings."""
        for loop in self.loops:
            loop.engine.close()
        self._stack.close()


class LinkNews(Closes):
    """Wakes the control thread as soon as the kernel says that an interface changed."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.bind((0, RTMGRP_LINK))
        self._socket.setblocking(False)

    def wait(self, timeout_s: float) -> None:
        """Wait until an interface changed, or until the timeout."""
        if not select.select([self._socket], [], [], timeout_s)[0]:
            return
        with suppress(BlockingIOError, OSError):  # ENOBUFS: more news than it could hold
            while True:
                self._socket.recv(1 << 16)

    def close(self) -> None:
        self._socket.close()


def step_aside(cores: Iterable[int | None]) -> None:
    """Move this thread off the receive cores, where there are others."""
    left = os.sched_getaffinity(0) - {core for core in cores if core is not None}
    if left:
        os.sched_setaffinity(0, left)


class Speaker:
    """Lines of JSON to the parent, on what was stdout; stdout itself becomes stderr."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        self._lock = threading.Lock()

    def __call__(self, event: str, **what: Any) -> None:
        with self._lock:
            self._out.write(json.dumps({"event": event, **what}) + "\n")


def main(argv: Sequence[str]) -> int:
    """``CONFIG RING_FDS FLIGHT_FDS INCARNATION``, descriptors separated by commas."""
    say, asked = Speaker(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: asked.set())
    path, rings, flights, incarnation = argv
    try:
        process = EngineProcess(path, _fds(rings), _fds(flights), int(incarnation))
    except PydpdkError as error:
        say("refused", error=str(error), exit=int(error.exit))
        return int(error.exit)
    try:
        say("known", ways=process.ways.told(), feeds=process.feeds())
        if sys.stdin.readline():  # its stages are there; else the parent is gone
            process.run(say, asked.is_set)
        result = process.result()
        say("result", **result)
        return 4 if any(loop["problems"] for loop in result["loops"]) else 0
    except (CoreError, HostError) as error:
        say("broken", error=str(error), exit=int(error.exit))
        return int(error.exit)
    except BrokenPipeError:  # the parent is gone
        process.stop()
        return 1
    finally:
        process.close()


def _fds(text: str) -> list[int]:
    return [int(fd) for fd in text.split(",") if fd]


if __name__ == "__main__":
    rights.no_new()
    sys.exit(main(sys.argv[1:]))
