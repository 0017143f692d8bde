"""pydpdk bench: what this host and this build can do, and what changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from pydpdk.bench import data, instructions, report, versus
from pydpdk.bench.compare import Gate, compare
from pydpdk.bench.listing import describe
from pydpdk.bench.run import CASES, run
from pydpdk.cli import bench_show
from pydpdk.cli.common import console, emit_json, interruptible, json_option, progress
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


@click.group("bench")
def command() -> None:
    """Measure each part beside its physical floor and its peers, in turn, on one core.

    A ratio is taken within each round, so it holds when the host's pace changes; a figure of its
    own is only as good as the host's peace. Peers run where installed: pip install pydpdk[bench].
    docs/bench.md says how to read, compare and trust it.

    \b
    pydpdk bench list                                   what there is
    pydpdk bench run                                    all of it
    pydpdk bench run book path --out new.json
    pydpdk bench run decode --against HEAD~1 --fail-on median:10%
    pydpdk bench compare old.json new.json
    pydpdk bench report new.json --html new.html
    pydpdk bench instructions                           counts, whatever the host's pace
    """


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Every case: what it measures, what it needs, whether it can run here.

    \b
    pydpdk bench list
    pydpdk bench list --json
    """
    rows = describe()
    if as_json:
        emit_json({"cores": sorted(os.sched_getaffinity(0)), "cases": rows})
    else:
        console().print(bench_show.cases(rows))


@command.command("run")
@click.argument("cases", nargs=-1, type=click.Choice(list(CASES)), metavar="[CASE]...")
@click.option("--rounds", type=click.IntRange(1), help="That count, after one to warm up. [10]")
@click.option("--quick", is_flag=True, help="A small session and few rounds: does it all work?")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where generated captures are kept.  [default: the user's cache]",
)
@click.option(
    "--against", metavar="OTHER", help="In turn with a commit, a checkout, a python, or self."
)
@click.option(
    "--keep",
    is_flag=True,
    help="The same two processes for all rounds: quicker, but blind to where memory came to lie.",
)
@fail_option
@click.option("--out", type=file_option, help="The report, as of --json, to a file.")
@json_option
def run_(
    cases: tuple[str, ...],
    rounds: int | None,
    quick: bool,
    folder: Path | None,
    against: str | None,
    keep: bool,
    limits: tuple[str, ...],
    out: Path | None,
    as_json: bool,
) -> int:
    """Measure CASEs (all without any): the first round warms up and is thrown away.

    Ctrl-C ends it with what was measured so far; a second one at once.

    \b
    pydpdk bench run
    pydpdk bench run path book --rounds 21 --out new.json
    pydpdk bench run decode ring --against HEAD~1 --fail-on median:5%
    pydpdk bench run decode --against ../other-checkout
    pydpdk bench run decode --against self             the noise of the measurement
    pydpdk bench run --quick --json
    """
    gates = [Gate.parse(limit) for limit in limits]
    if gates and against is None:
        raise UsageError("--fail-on compares: give --against OTHER, or use 'pydpdk bench compare'")
    rounds = rounds or ((ROUNDS_QUICK_AGAINST if against else QUICK_ROUNDS) if quick else ROUNDS)
    if out:
        report.writable(out)
    size = data.QUICK if quick else data.FULL
    names = [name for name in CASES if name in cases] or list(CASES)
    with _notices(size) as (generating, notify, tick):
        options: dict[str, Any] = {
            "size": size, "rounds": rounds, "folder": folder or data.cache_dir(),
            "generating": generating, "notify": notify, "tick": tick,
        }  # fmt: skip
        made = (
            versus.against(names, against, keep=keep, **options) if against
            else run(names, **options)
        )  # fmt: skip
    if out:
        report.write(made, out)
    if made["interrupted"]:
        _told(made, [], as_json)
        return Exit.INTERRUPTED
    return _told(made, gates, as_json)


@command.command("compare")
@click.argument("old", type=file_option)
@click.argument("new", type=file_option)
@fail_option
@json_option
def compare_(old: Path, new: Path, limits: tuple[str, ...], as_json: bool) -> int:
    """What changed from OLD to NEW, two files of 'bench run --out'.

    Not paired: whatever the host did between the runs counts. 'bench run --against' is sharper.

    \b
    pydpdk bench compare old.json new.json
    pydpdk bench compare old.json new.json --fail-on p99:10% --fail-on median:5%
    """
    gates = [Gate.parse(limit) for limit in limits]
    return _told(compare(report.read(old, "run"), report.read(new, "run")), gates, as_json)


def _told(made: dict[str, Any], gates: list[Gate], as_json: bool) -> int:
    """Shown; the exit code, with a line on stderr for each reason that a gate has to fail."""
    if as_json:
        emit_json(made)
    else:
        bench_show.show(made, console())
    return bench_show.judged(made, gates)


@command.command("report")
@click.argument("files", nargs=-1, required=True, type=file_option, metavar="FILE...")
@click.option("--html", type=file_option, help="One page with all of them; no script.")
def report_(files: tuple[Path, ...], html: Path | None) -> None:
    """Show reports again, FILEs of 'bench run --out'.

    \b
    pydpdk bench report new.json
    pydpdk bench report old.json new.json --html both.html
    """
    made = [report.read(file) for file in files]
    if html is None:
        for one in made:
            bench_show.show(one, console())
        return
    report.writable(html)
    html.write_text(bench_show.page(made), encoding="utf-8")
    click.echo(f"wrote {html}", err=True)


@command.command("instructions")
@click.option("--update", "accept", is_flag=True, help="Make these counts the baseline.")
@json_option
@click.pass_context
def instructions_(ctx: click.Context, accept: bool, as_json: bool) -> None:
    """Count instructions of each hot part under callgrind, beside the committed baseline.

    Counts do not depend on what else the host does: the same code and compiler give the same ones.
    The exit code is 5 when a part is more than 3 % above its baseline. Needs valgrind and a clone.

    \b
    pydpdk bench instructions
    pydpdk bench instructions --json
    pydpdk bench instructions --update
    """
    click.echo("building the core and counting (some 10 s)", err=True)
    counts = instructions.count()
    if accept:
        instructions.update(counts)
    if as_json:
        emit_json(counts.plain())
    else:
        bench_show.show_counts(counts, console())
    if counts.too_high() and not accept:
        click.echo("\n".join(counts.too_high()), err=True)
        ctx.exit(Exit.THRESHOLD)


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
