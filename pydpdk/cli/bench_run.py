"""pydpdk bench run: measure cases, alone or in turn with another build."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from pydpdk.bench import data, output, versus
from pydpdk.bench.compare import Gate
from pydpdk.bench.run import CASES, run
from pydpdk.cli import bench_show
from pydpdk.cli.common import emit_json, interruptible, json_option, progress
from pydpdk.errors import Exit, UsageError

ROUNDS, QUICK_ROUNDS = 10, 3
ROUNDS_QUICK_AGAINST = 5  # below that there is no verdict

file_option = click.Path(path_type=Path, dir_okay=False)
fail_option = click.option(
    "--fail-on",
    "limits",
    multiple=True,
    metavar="POINT:PERCENT%",
    help="Exit code 5 when median, p50, p90, p99, p99.9, p99.99 or max is slower by more. Repeat.",
)
keep_option = click.option(
    "--keep",
    is_flag=True,
    help="The same two processes for all rounds: quicker, but blind to where memory came to lie.",
)
dir_option = click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where generated captures are kept.  [default: the user's cache]",
)


@click.command("run")
@click.argument("cases", nargs=-1, type=click.Choice(list(CASES)), metavar="[CASE]...")
@click.option("--rounds", type=click.IntRange(1), help="That count, after one to warm up. [10]")
@click.option("--quick", is_flag=True, help="A small session and few rounds: does it all work?")
@dir_option
@click.option(
    "--against", metavar="OTHER", help="In turn with a commit, a checkout, a python, or self."
)
@keep_option
@fail_option
@click.option("--out", type=file_option, help="The result, as of --json, to a file.")
@click.option("--csv", "csv_file", type=file_option, help="A line a series and point.")
@click.option("--hlog", "hlog_file", type=file_option, help="Histograms, for HdrHistogram's tools.")
@json_option
def command(
    cases: tuple[str, ...],
    rounds: int | None,
    quick: bool,
    folder: Path | None,
    against: str | None,
    keep: bool,
    limits: tuple[str, ...],
    out: Path | None,
    csv_file: Path | None,
    hlog_file: Path | None,
    as_json: bool,
) -> int:
    """Measure CASEs (all without any): the first round warms up and is thrown away.

    Ctrl-C ends it with what was measured so far; a second one at once.

    \b
    pydpdk bench run
    pydpdk bench run path book --rounds 21 --out new.json
    pydpdk bench run latency-veth --hlog veth.hlog --csv veth.csv
    pydpdk bench run decode ring --against HEAD~1 --fail-on median:5%
    pydpdk bench run decode --against ../other-checkout
    pydpdk bench run decode --against self             the noise of the measurement
    pydpdk bench run --quick --json
    """
    gates = [Gate.parse(limit) for limit in limits]
    if gates and against is None:
        raise UsageError("--fail-on compares: give --against OTHER, or use 'pydpdk bench compare'")
    if hlog_file and against is not None:
        raise UsageError("--hlog: of one build; leave --against out")
    rounds = rounds or ((ROUNDS_QUICK_AGAINST if against else QUICK_ROUNDS) if quick else ROUNDS)
    output.writable(*filter(None, (out, csv_file, hlog_file)))
    size = data.QUICK if quick else data.FULL
    names = [name for name in CASES if name in cases] or list(CASES)
    with _notices(size) as (generating, notify, tick):
        options: dict[str, Any] = {
            "size": size, "rounds": rounds, "folder": folder or data.cache_dir(),
            "generating": generating, "notify": notify, "tick": tick,
        }  # fmt: skip
        result = (
            versus.against(names, against, keep=keep, **options) if against
            else run(names, **options)
        )  # fmt: skip
    if out:
        output.write_json(result, out)
    if csv_file:
        output.write_csv(result, csv_file)
    if hlog_file:
        output.write_hlog(result, hlog_file)
    if as_json:
        emit_json(result)
    else:
        bench_show.show(result)
    if result["interrupted"]:
        return Exit.INTERRUPTED
    return bench_show.judged(result, gates)


@contextmanager
def _notices(
    size: data.Size,
) -> Iterator[tuple[Callable[[int], None], Callable[[str], None], Callable[[], None]]]:
    """Progress of the session's making, a line for what is done, and the look for Ctrl-C."""
    log = Console(stderr=True, highlight=False)
    turns = 0
    with interruptible() as asked, progress("generate a session", size.messages, "messages") as bar:

        def stop() -> None:
            if asked():
                raise KeyboardInterrupt

        def generating(done: int) -> None:
            stop()
            bar(done)

        def notify(what: str) -> None:
            nonlocal turns
            turns = 0
            log.print(what)

        def tick() -> None:
            nonlocal turns
            turns += 1
            if log.is_terminal:
                log.print(f"  {turns} turns", end="\r")
            stop()

        yield generating, notify, tick
