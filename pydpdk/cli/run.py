"""pydpdk run: the live pipeline, as a configuration has it."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from pydpdk.cli.common import console, emit_json, json_option, table
from pydpdk.errors import Exit, UsageError
from pydpdk.lockstep.account import refused_lines
from pydpdk.process import config as configuration
from pydpdk.process.supervisor import Supervisor


@click.command("run")
@click.argument("path", metavar="CONFIG.toml", required=False, type=click.Path())
@click.option("--example", is_flag=True, help="Print a commented configuration and end.")
@click.option("--check", "check_only", is_flag=True, help="Only check the configuration.")
@click.option("--seconds", type=click.FloatRange(0), help="End after that time.")
@click.option(
    "--flights",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory for dumps of the flight recorders: on a gap, a crash, SIGUSR1.",
)
@click.option(
    "--hlog", type=click.Path(path_type=Path), help="Log each second's stage times there."
)
@click.option("--record", "record_file", type=click.Path(), help="Write the run's record there.")
@json_option
def command(
    path: str | None,
    example: bool,
    check_only: bool,
    seconds: float | None,
    flights: Path | None,
    hlog: Path | None,
    record_file: str | None,
    as_json: bool,
) -> None:
    """Run CONFIG.toml until it is stopped.

    An engine process receives, decodes and keeps books, one C loop for each receive core; stages
    are processes of their own on its rings; a supervisor outlives them all. Ctrl-C and SIGTERM
    drain in order, a second one ends at once; SIGUSR1 dumps the flight recorders.

    \b
    pydpdk run --example > live.toml      a commented configuration
    pydpdk run live.toml --check          is it right?
    pydpdk run live.toml --json           the run's record at its end
    pydpdk run live.toml --hlog day.hlog   stage times for the tools of HdrHistogram
    """
    if example:
        click.echo(configuration.example(), nl=False)
        return
    if path is None:
        raise UsageError("name a CONFIG.toml, or see one with --example")
    config = configuration.load(path)
    if check_only:
        click.echo(f"{path}: right", err=True)
        return
    if flights is not None:
        flights.mkdir(parents=True, exist_ok=True)
    with signals() as asked, Supervisor(config, flights=flights, hlog=hlog) as run:
        asked.second = run.kill
        asked.dump = run.dump
        run.start()
        tell_ways(run)
        run.run(asked, seconds)
        record = run.finish()
        asked.over = True
    record["interrupted"] = asked.interrupted
    if record_file:
        Path(record_file).write_text(json.dumps(record, indent=2) + "\n")
    if as_json:
        emit_json(record)
    else:
        show(record)
    finish(record)


class Asked:
    """Whether a signal asked for the end; what a second one and SIGUSR1 do."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.over = False  # all has ended; what is left is to clear up and to tell
        self.second: Any = None
        self.dump: Any = None

    def __call__(self) -> bool:
        return bool(self.numbers)

    @property
    def interrupted(self) -> bool:
        """By Ctrl-C."""
        return signal.SIGINT in self.numbers

    def end(self, number: int, frame: Any) -> None:
        """Of SIGINT, SIGTERM, SIGHUP. Clearing up is not broken off."""
        self.numbers.append(number)
        if len(self.numbers) == 2 and not self.over:
            if self.second:
                self.second()
            raise KeyboardInterrupt

    def usr1(self, number: int, frame: Any) -> None:
        if self.dump:
            self.dump()


@contextmanager
def signals() -> Iterator[Asked]:
    """The signals of a run; then, to the end of the process, those that end it are ignored."""
    asked = Asked()
    handlers = dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), asked.end)
    handlers[signal.SIGUSR1] = asked.usr1
    for number, handler in handlers.items():
        signal.signal(number, handler)
    try:
        yield asked
    finally:
        for number in handlers:
            signal.signal(number, signal.SIG_IGN)


def tell_ways(run: Supervisor) -> None:
    """What each way in can and cannot do, on stderr."""
    assert run.engine is not None
    for way in run.engine.last["known"]["ways"]:
        run.say(
            f"{way['source']} = {way['spec']}: driver {way['driver'] or 'our own'}, "
            f"{'bypasses the kernel' if way['bypass'] else 'through the kernel'}, "
            f"{_copies(way['copies'])}, stamps by {way['clock']}, losses counted by "
            f"{way['losses']}, queues {way['queues']} of {way['queues_wanted']}, "
            f"groups: {way['membership']}"
        )
        if run.config.on_fallback == "warn":
            for text in way["fallbacks"]:
                run.say(f"{way['source']}: fallback: {text}")


def _copies(n: int) -> str:
    return "zero copy" if n == 0 else f"{n} cop{'y' if n == 1 else 'ies'} of a frame"


def show(record: dict[str, Any]) -> None:
    """For people."""
    out = console()
    engine = record["engine"]
    for loop in engine.get("loops", []):
        core = "not pinned" if loop["core"] is None else f"core {loop['core']}"
        out.print(f"loop of {', '.join(loop['feeds'])} ({core})")
        frames, ring = loop["frames"], loop["ring"]
        out.print(f"  frames    {frames['received']:,} received, {frames['parsed']:,} parsed")
        for name, n in frames["dropped"].items():
            out.print(f"            {n:,} {name}")
        for line in refused_lines(loop["refused"], loop["counters"].get("instruments_full", 0)):
            out.print(f"  REFUSED   {line}")
        out.print(f"  records   {ring['written']:,} written, {ring['lost']:,} lost")
        for port in loop["ports"]:
            stats = port["stats"] or {}
            missed = "unknown" if stats.get("missed") is None else f"{stats['missed']:,}"
            out.print(f"  {port['source']}: link {loop['links'][port['source']]}, missed {missed}")
        if loop["sequence"]:
            out.print(_sequences(loop["sequence"]))
        if not loop["reliable"]:
            counters = loop["counters"]
            out.print(
                f"  {counters['stalls']} stalls of the loop, longest "
                f"{loop['stall_max_ns'] / 1e6:.1f} ms: latencies of this run are not reliable"
            )
    for index, stage in enumerate(record["stages"]):
        orders = stage.get("orders", {})
        out.print(
            f"stage {index} {stage.get('strategy', '')}: {stage.get('read', 0):,} records read, "
            f"{stage.get('lost', 0):,} lost, {orders.get('sent', 0):,} orders, "
            f"{orders.get('filled', 0):,} fills"
        )
    for death in record["deaths"]:
        out.print(f"engine {death['incarnation']} died: {death['cause']}")
    out.print(f"unexplained: {record['unexplained']}")


def _sequences(sessions: list[dict[str, Any]]) -> Any:
    made = table(["  session", "feed"], ["first", "last", "delivered", "lost", "gaps", "healed"])
    for session in sessions:
        made.add_row(
            f"  {session['session']}", session["feed"], f"{session['first']:,}",
            f"{session['last']:,}", f"{session['delivered']:,}", f"{session['lost']:,}",
            f"{session['gaps']:,}", f"{session['recovered']:,}",
        )  # fmt: skip
    return made


def finish(record: dict[str, Any]) -> None:
    """Exit code of a run."""
    problems = [p for loop in record["engine"].get("loops", []) for p in loop["problems"]]
    for problem in problems:
        print(f"pydpdk: {problem}", file=sys.stderr)
    if problems:
        sys.exit(Exit.DATA)
    if not record["engine"] or record["unexplained"] != 0:  # None: a stage left no account
        sys.exit(Exit.FAILED)
    if record["interrupted"]:
        sys.exit(Exit.INTERRUPTED)
