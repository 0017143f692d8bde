"""pydpdk replay: a capture through the whole pipeline."""

from __future__ import annotations

import sys
from typing import Any

import click

from pydpdk._core import lib
from pydpdk.cli.common import (
    checksum_option,
    emit_json,
    feed_option,
    interruptible,
    json_option,
    progress,
    resolve_feeds,
)
from pydpdk.cli.report import show
from pydpdk.core import hlog as hist_log
from pydpdk.errors import Exit, UsageError
from pydpdk.lockstep.replay import Replay
from pydpdk.stage.stage import load_strategy

MICROSECONDS_MAX = 10**12


class Speed(click.ParamType[float]):
    """``max`` or a factor of the capture's own pace."""

    name = "speed"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        if value == "max":
            return 0.0
        try:
            speed = float(value)
        except ValueError:
            speed = -1.0
        if not 0 < speed < 1e6:
            self.fail(f"{value!r}: 'max', or a factor such as 1 or 10", param, ctx)
        return speed


@click.command("replay")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@feed_option
@click.option(
    "--strategy", metavar="FILE.py:CLASS", help="Trade with it against a simulated venue."
)
@click.option("--param", "params", multiple=True, metavar="K=V", help="Argument of the strategy.")
@click.option("--risk", "risk_file", type=click.Path(), help="Limits (TOML); else mild defaults.")
@click.option(
    "--speed",
    type=Speed(),
    default="max",
    show_default=True,
    help="'max', or a factor of the capture's pace.",
)
@click.option(
    "--burst",
    type=click.IntRange(1, lib.BURST_MAX),
    default=64,
    show_default=True,
    help="Packets per burst.",
)
@click.option(
    "--batch-us",
    type=click.IntRange(0, MICROSECONDS_MAX),
    default=100,
    show_default=True,
    help="Record-clock interval that stages see as one batch; 0: as many packets as fit.",
)
@click.option(
    "--orders-max",
    type=click.IntRange(1, 2**31),
    default=1 << 21,
    show_default=True,
    help="Live orders that a feed's books have room for; 1.5 times the expected is right.",
)
@click.option(
    "--gap-timeout-us",
    type=click.IntRange(0, MICROSECONDS_MAX),
    default=10_000,
    show_default=True,
    help="Record-clock time before a gap is given up.",
)
@checksum_option
@click.option("--hlog", type=click.Path(), metavar="FILE", help="Write the stage times there.")
@json_option
def command(
    files: tuple[str, ...],
    feed_texts: tuple[str, ...],
    strategy: str | None,
    params: tuple[str, ...],
    risk_file: str | None,
    speed: float,
    burst: int,
    batch_us: int,
    orders_max: int,
    gap_timeout_us: int,
    checksum: str,
    hlog: str | None,
    as_json: bool,
) -> None:
    """Run FILE (a capture or any source string) through the whole pipeline.

    Several files are merged by time stamp, for line A and line B recorded apart.

    \b
    pydpdk replay day.pcap.zst --feed itch50
    pydpdk replay net_pcap:day.pcap --feed itch50@233.54.12.111:26477,233.86.230.111:26477
    pydpdk replay a.pcap b.pcap --feed deep10 --strategy apps/spread.py:Spread --json
    """
    if (params or risk_file) and not strategy:
        raise UsageError("--param and --risk are for a --strategy FILE.py:CLASS")
    stage = load_strategy(strategy, params) if strategy else None
    feeds = resolve_feeds(feed_texts, files, gap_timeout_us=gap_timeout_us, orders_max=orders_max)
    with Replay(
        files, feeds, stage, limits=risk_file, speed=speed, checksum=checksum, burst=burst,
        batch_us=batch_us,
    ) as replay:  # fmt: skip
        result = run(replay)
        if hlog:
            hist_log.write(hlog, replay.times())
    if as_json:
        emit_json(result)
    else:
        show(result)
    finish(result)


def run(replay: Replay, total: int | None = None) -> dict[str, Any]:
    """Until the end or an interrupt, with progress; the accounts."""
    with interruptible() as asked, progress("replay", total, "frames") as tick:
        replay.run(lambda frames, now: tick(frames), stop=asked)
        return replay.accounts()


def finish(result: dict[str, Any]) -> None:
    """Exit code of a replay: broken data 4, interrupted 130, an account that does not close 1."""
    for problem in result["problems"]:
        print(f"pydpdk: {problem}", file=sys.stderr)
    if result["problems"]:
        sys.exit(Exit.DATA)
    if result["interrupted"]:
        sys.exit(Exit.INTERRUPTED)
    if result["unexplained"]:
        print(
            f"pydpdk: {result['unexplained']} items are not accounted for: please report this",
            file=sys.stderr,
        )
        sys.exit(Exit.FAILED)
