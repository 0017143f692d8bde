"""The supervisor of a run: makes rings and recorders, starts engine and stages, outlives them.

It has no port and no thread on any receive core. When the engine dies the rings stay: a break is
written into each at once, the flight recorders are dumped, and by the configuration's policy
another engine writes on. Stages keep their place. At the end the engine drains first, then the
rings are closed, then the stages read what is left.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from pydpdk._core import lib
from pydpdk.core.closes import Closes
from pydpdk.core.event import EVENT
from pydpdk.core.instruments import Instruments
from pydpdk.core.ring import Ring
from pydpdk.engine.engine import TIMES
from pydpdk.engine.flight import Flight
from pydpdk.errors import CoreError, Exit, HostError, PydpdkError
from pydpdk.process import config as configuration
from pydpdk.process import footprint, rundir
from pydpdk.process.child import Child
from pydpdk.process.config import Config
from pydpdk.process.times import TRADER, Times, TimesLog
from pydpdk.source import eal

READY_S = 60.0  # for EAL and ports to come up
DRAIN_S = 20.0  # for a child to end when it was asked
BACKOFF_S, BACKOFF_MAX_S = 0.1, 5.0
LOOK_S = 0.01
GAP_DUMP_S = 1.0  # between two dumps for gaps


def run(
    config: Config | str | Path,
    *,
    seconds: float | None = None,
    stop: Callable[[], bool] | None = None,
    flights: Path | None = None,
    hlog: Path | None = None,
) -> dict[str, Any]:
    """Run a configuration live, as ``pydpdk run`` does, and return the run's record.

    ``config``: the path of a TOML file (``pydpdk run --example``), or what it was loaded to. The
    run ends when all its sources do, after ``seconds``, when ``stop()`` says so or at Ctrl-C, and
    drains in order. ``flights``: an existing directory for dumps of the flight recorders;
    ``hlog``: the file to log each second's stage times to.

    In the record ``unexplained`` is 0 when every account closes, and ``problems`` of each loop in
    ``engine["loops"]`` say which sources broke. Errors, all before anything was received:
    UsageError for what the configuration has wrong, HostError for what the host lacks.
    """
    if not isinstance(config, Config):
        config = configuration.load(config)
    interrupted = False
    with Supervisor(config, flights=flights, hlog=hlog) as supervisor:
        supervisor.start()
        try:
            supervisor.run(stop or (lambda: False), seconds)
        except KeyboardInterrupt:
            interrupted = True
        return supervisor.finish() | {"interrupted": interrupted}


class Supervisor(Closes):
    """One run of a configuration. ``flights``: directory of dumps; None: none are written.

    ``hlog``: the stage times of each second go there.
    """

    def __init__(
        self,
        config: Config,
        *,
        flights: Path | None = None,
        hlog: Path | None = None,
        log: TextIO = sys.stderr,
    ) -> None:
        self.config = config
        self.log = log
        self.flights = flights
        self.deaths: list[dict[str, Any]] = []
        self.dumps: list[str] = []
        self.stage_ends: list[dict[str, Any]] = []
        self._stack = ExitStack()
        self._place = self._stack.enter_context(rundir.RunDir(config.name))
        if self._place.leftovers:
            self.say(f"removed what a killed run left: {', '.join(self._place.leftovers)}")
        self.rings: list[Ring] = []
        self.recorders: list[Flight | None] = []
        try:
            for i, loop in enumerate(config.loops()):
                self._make(i, loop)
            self._times = self._make_times()
            self._hlog = self._stack.enter_context(TimesLog(hlog, self._times)) if hlog else None
        except BaseException:
            self.close()
            raise
        self.engine: Child | None = None
        self.stages: list[Child] = []
        self.incarnation = 0
        self._feeds: list[list[str]] = []  # of each ring, as the newest engine to come up has them
        self._restarts: deque[float] = deque()
        self._stage_restarts: dict[int, deque[float]] = {}
        self._gap_dumped: dict[int, float] = {}
        self._wanted: deque[tuple[int, str]] = deque()  # dumps for the main thread to write

    def _make(self, index: int, loop: Any) -> None:
        name = rundir.ring_name(self.config.name, index)
        ring = self._stack.enter_context(Ring(footprint.slots(self.config, loop), name))
        ring.give()
        self.rings.append(ring)
        name = rundir.instruments_name(self.config.name, index)
        # Of as many feeds as loops that become one can have. An engine is its writer.
        Instruments.create(len(self.config.feeds), name).close()
        recorder = None
        if size := footprint.flight_bytes(loop):
            name = rundir.flight_name(self.config.name, index)
            Flight.create(size, name).close()  # an engine is its writer
            recorder = Flight.attach(name)
            self._stack.callback(recorder.close)
            self._stack.callback(recorder.unlink)
        self.recorders.append(recorder)

    def _make_times(self) -> dict[str, Times]:
        """Make the files of stage times, which outlive the processes that count in them."""
        wanted: dict[str, Sequence[str]] = {f"loop{i}": TIMES for i in range(len(self.rings))}
        wanted |= {f"stage{i}": TRADER for i in range(len(self.config.stages))}
        return {
            who: self._stack.enter_context(Times(rundir.times_path(self.config.name, who), names))
            for who, names in wanted.items()
        }

    def say(self, text: str) -> None:
        """Write a line of the log."""
        with suppress(OSError):  # nobody reads on
            print(f"pydpdk: {text}", file=self.log, flush=True)

    # --- engine ---

    def start(self) -> None:
        """Start engine, then stages on its rings. HostError, UsageError as the engine says."""
        engine = self._start_engine()
        for index, plan in enumerate(self.config.stages):
            self.stages.append(self._start_stage(index, plan))
        for stage in self.stages:
            if not stage.until("ready", READY_S):
                raise self._refusal(stage)
        self._go(engine)

    def _start_engine(self) -> Child:
        """Start an engine and wait until its ports are up; it then waits for its go."""
        self.incarnation += 1
        recorders = [-1 if r is None else r.fd for r in self.recorders]
        args = [
            str(self.config.path),
            ",".join(str(ring.fd) for ring in self.rings),
            ",".join(map(str, recorders)),
            str(self.incarnation),
        ]
        fds = [ring.fd for ring in self.rings] + [fd for fd in recorders if fd >= 0]
        self.engine = Child(
            "engine", "pydpdk.process.engine_process", args, self._heard, fds=fds, log=self.log
        )
        self._until(self.engine, "known")
        self._feeds = self.engine.last["known"]["feeds"]
        return self.engine

    def _go(self, engine: Child) -> None:
        engine.go()
        self._until(engine, "ready")

    def _until(self, engine: Child, event: str) -> None:
        if engine.until(event, READY_S):
            return
        if engine.alive:
            engine.end(signal.SIGKILL)
            engine.wait(DRAIN_S)
            raise HostError(f"the engine did not come up within {READY_S:g} s")
        raise self._refusal(engine)

    def _refusal(self, child: Child) -> PydpdkError:
        said = child.last.get("refused") or child.last.get("broken")
        error = PydpdkError(str(said["error"]) if said else f"{child.name} ended: {child.cause()}")
        error.exit = Exit(said["exit"]) if said else Exit.FAILED
        return error

    def _heard(self, child: Child, message: dict[str, Any]) -> None:
        """Take a message of the engine, in the thread that listens to it."""
        event = message["event"]
        if event == "status":
            with suppress(OSError):
                self._place.write("status", self.status())
        elif event == "gap":
            self.say(f"{message['gaps']} gap(s) given up in loop {message['loop']}")
            self._wanted.append((message["loop"], "gap"))

    # --- stages ---

    def _start_stage(self, index: int, plan: Any, again: bool = False) -> Child:
        assert self.engine is not None
        ring, feeds = self._ring_of(plan)
        args = [str(self.config.path), str(index), rundir.ring_name(self.config.name, ring)]
        return Child(
            f"stage {index}", "pydpdk.process.stage_process",
            [*args, ",".join(feeds), str(int(again))], self._stage_heard,
            core=plan.cpu, log=self.log, stage=True,
        )  # fmt: skip

    def _ring_of(self, plan: Any) -> tuple[int, list[str]]:
        """The ring that has the feeds of a stage's loop, and the feeds on it."""
        wanted = {p.feed.name for p in self.config.feeds if p.core == plan.core}
        for index, feeds in enumerate(self._feeds):
            if wanted & set(feeds):
                return index, feeds
        raise AssertionError("every feed is in a loop")

    def _stage_heard(self, child: Child, message: dict[str, Any]) -> None:
        if message["event"] == "raised":
            self.say(f"{child.name}: {message['error']}\n{message['traceback']}")

    # --- the run ---

    def run(self, asked: Any, seconds: float | None = None) -> None:
        """Watch over the run until ``asked()``, its end, ``seconds``, or too many deaths."""
        end = None if seconds is None else time.monotonic() + seconds
        while not asked() and (end is None or time.monotonic() < end):
            assert self.engine is not None
            if not self.engine.alive:
                self.engine.wait(1.0)
                if self._ended() or not self._restart():
                    return
            self._look_at_stages()
            self._write_dumps()
            self._log_times()
            time.sleep(LOOK_S)

    def _log_times(self, last: bool = False) -> None:
        """Write the log of stage times; one that cannot be written is no reason to end a run."""
        if self._hlog is None:
            return
        try:
            self._hlog.write() if last else self._hlog.look()
        except OSError as error:
            self.say(f"stage times are logged no more: {error}")
            self._hlog = None

    def _ended(self) -> bool:
        """Whether the engine said that it is done. A live source that broke may come back."""
        assert self.engine is not None
        result = self.engine.last.get("result")
        if result is None:
            return False
        broke = any(loop["problems"] for loop in result["loops"])
        return not broke or all(source.device.ends for source in self.config.sources)

    def _restart(self) -> bool:
        """After the engine died: tell of it, and start another; False: not by the policy.

        One that does not come up has died too, as the next look finds.
        """
        assert self.engine is not None
        cause = self.engine.cause()
        eal.clear_after(self.engine.process.pid)
        self._break_rings()
        known = self.engine.last.get("result") or self.engine.last.get("status", {})
        death = {"incarnation": self.incarnation, "cause": cause, "at": time.time()}
        self.deaths.append(death | {"last": known.get("loops", [])})
        self.say(f"the engine died: {cause}")
        for index in range(len(self.recorders)):
            self._dump(index, "crash")
        if self.config.restart == "never" or not self._may(self._restarts):
            self.say("it is not started again: by the configuration's restart policy")
            return False
        time.sleep(min(BACKOFF_S * 2 ** (len(self._restarts) - 1), BACKOFF_MAX_S))
        try:
            self._go(self._start_engine())
        except PydpdkError as error:
            self.say(f"the engine did not start again: {error}")
            return True
        self.say(f"engine {self.incarnation} writes on")
        return True

    def _may(self, restarts: deque[float]) -> bool:
        """Count a restart; False when there were too many within the configuration's window."""
        now = time.monotonic()
        restarts.append(now)
        while now - restarts[0] > self.config.restart_window_s:
            restarts.popleft()
        return len(restarts) <= self.config.restarts_max

    def _break_rings(self) -> None:
        """Write to each ring that its records broke off, so that readers see it at once."""
        for ring in self.rings:
            with suppress(CoreError):
                ring.take()
                told = np.zeros(2, EVENT)
                told["kind"] = lib.EVENT_ENGINE, lib.EVENT_MARK
                told["flags"] = lib.FLAG_LAST | lib.FLAG_SUSPECT
                told["order_id"] = self.incarnation
                told["aux"] = lib.ENGINE_DIED
                told["ts_recv"] = time.time_ns()
                ring.put(told)
                ring.give()

    def _look_at_stages(self) -> None:
        for index, stage in enumerate(self.stages):
            if stage.alive:
                continue
            stage.wait(1.0)
            ended = {"stage": index, "pid": stage.process.pid, "cause": stage.cause()}
            if ended["pid"] in [end["pid"] for end in self.stage_ends]:
                continue
            self.stage_ends.append(ended)
            self.say(f"stage {index} ended: {ended['cause']}")
            plan = self.config.stages[index]
            restarts = self._stage_restarts.setdefault(index, deque())
            if plan.on_error == "restart" and self._may(restarts):
                self.stages[index] = self._start_stage(index, plan, again=True)

    # --- flight recorders ---

    def dump(self, reason: str = "demand") -> None:
        """Write what every flight recorder holds to a file; a signal handler may call it."""
        self._wanted.extend((index, reason) for index in range(len(self.recorders)))

    def _write_dumps(self) -> None:
        while self._wanted:
            index, reason = self._wanted.popleft()
            if reason == "gap":
                if time.monotonic() - self._gap_dumped.get(index, 0.0) < GAP_DUMP_S:
                    continue
                self._gap_dumped[index] = time.monotonic()
            self._dump(index, reason)

    def _dump(self, index: int, reason: str) -> None:
        recorder = self.recorders[index]
        if self.flights is None or recorder is None:
            return
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime()) + f".{len(self.dumps):03d}"
        path = self.flights / f"{self.config.name}-{index}-{stamp}-{reason}.pcapng"
        try:
            frames = recorder.dump(path)
        except (CoreError, OSError) as error:
            self.say(f"flight recorder {index} not written: {error}")
            return
        self.dumps.append(str(path))
        self.say(f"flight recorder: {frames} frames in {path}")

    # --- the end ---

    def finish(self) -> dict[str, Any]:
        """Drain engine, rings and stages, in this order. Returns the run's record."""
        if self.engine is not None:
            self.engine.end()
            if not self.engine.wait(DRAIN_S):
                self.say(f"the engine did not end within {DRAIN_S:g} s: killed")
                self.engine.end(signal.SIGKILL)
                self.engine.wait(DRAIN_S)
        self._write_dumps()
        written = [self._close_ring(ring) for ring in self.rings]
        for stage in self.stages:
            if not stage.wait(DRAIN_S):
                self.say(f"{stage.name} did not end within {DRAIN_S:g} s: killed")
                stage.end(signal.SIGKILL)
                stage.wait(DRAIN_S)
        self._log_times(last=True)
        return self._record(written)

    def _close_ring(self, ring: Ring) -> int:
        with suppress(CoreError):  # EBUSY: an engine that cannot even be killed
            ring.take()
        written = ring.stats().written
        ring.close()
        return written

    def _record(self, written: list[int]) -> dict[str, Any]:
        engine = self.engine.last.get("result", {}) if self.engine else {}
        stages = [self._stage_record(i, stage, written) for i, stage in enumerate(self.stages)]
        left = engine.get("unexplained")
        for stage in stages:
            left = (
                None
                if left is None or stage["unexplained"] is None
                else left + stage["unexplained"]
            )
        return {
            "name": self.config.name,
            "config": str(self.config.path),
            "unexplained": left,
            "engine": engine,
            "incarnations": self.incarnation,
            "deaths": self.deaths,
            "stages": stages,
            "stage_ends": self.stage_ends,
            "dumps": self.dumps,
        }

    def _stage_record(self, index: int, stage: Child, written: list[int]) -> dict[str, Any]:
        """A stage's account, with the records of its ring that it neither read nor knows lost."""
        result = stage.last.get("result") or stage.last.get("status") or {}
        left = None
        if "result" in stage.last:
            ring, _ = self._ring_of(self.config.stages[index])
            left = written[ring] - result["first"] - result["read"] - result["lost"]
        return {**result, "unexplained": left}

    def status(self) -> dict[str, Any]:
        """What `pydpdk status` shows of this run."""
        return {
            "pid": os.getpid(),
            "name": self.config.name,
            "engine": self.engine.last.get("status") if self.engine else None,
            "stages": [stage.last.get("status") for stage in self.stages],
            "incarnation": self.incarnation,
            "deaths": self.deaths,
        }

    def _children(self) -> list[Child]:
        return [*self.stages, *([self.engine] if self.engine else [])]

    def kill(self) -> None:
        """End everything at once, without draining."""
        for child in self._children():
            child.end(signal.SIGKILL)

    def close(self) -> None:
        """End and remove every process, all shared memory and the directory of the run."""
        if getattr(self, "stages", None) is not None:
            self.kill()
            for child in self._children():  # it writes nothing any more, nor does its listener
                child.wait(DRAIN_S)
            if self.engine is not None:
                eal.clear_after(self.engine.process.pid)
        self._stack.close()
