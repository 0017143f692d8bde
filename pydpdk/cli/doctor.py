"""pydpdk doctor: is this host ready?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click
from rich.text import Text

from pydpdk.cli.common import console, emit_json, json_option, table
from pydpdk.errors import Exit, UsageError
from pydpdk.host import stall
from pydpdk.host.doctor import PURPOSES, Finding, checks
from pydpdk.host.info import Host, parse_cores
from pydpdk.process import config as configuration
from pydpdk.process import footprint

STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


def as_cores(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """Callback of an option that takes a list of cores, as the kernel writes it."""
    try:
        return parse_cores(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


@click.command("doctor")
@click.option("--for", "purpose", type=click.Choice(PURPOSES), default="replay", show_default=True)
@click.option(
    "--config", "path", type=click.Path(), metavar="CONFIG.toml",
    help="With --for run: what it needs, and the NICs that it names.",
)  # fmt: skip
@click.option("--strict", is_flag=True, help="Warnings count as failures.")
@click.option(
    "--cores", callback=as_cores, default="", metavar="2,3",
    help="Of the engine; else the isolated ones.",
)  # fmt: skip
@click.option(
    "--hugepages-mb", type=click.IntRange(0), default=0, help="What the engine asks for, in MiB."
)
@click.option(
    "--stall", "stall_s", type=float, metavar="SECONDS", help="Spin on the cores, measure gaps."
)
@click.option(
    "--threshold-ns", type=click.IntRange(1), default=stall.THRESHOLD_NS, show_default=True,
    help="Shorter gaps are not counted.",
)  # fmt: skip
@json_option
def command(
    purpose: str,
    path: str | None,
    strict: bool,
    cores: tuple[int, ...],
    hugepages_mb: int,
    stall_s: float | None,
    threshold_ns: int,
    as_json: bool,
) -> None:
    """Check what this host lacks, with the command that mends it. Exits 3 when something fails.

    With --stall it spins on the cores and says what took them away: interrupts, other processes,
    the hypervisor. Nothing is changed; pydpdk host does that.

    \b
    pydpdk doctor
    pydpdk doctor --for bench --strict --json
    pydpdk doctor --for run --cores 1 --hugepages-mb 256
    pydpdk doctor --for run --config live.toml
    pydpdk doctor --stall 0.2 --cores 0
    """
    if path and purpose != "run":
        raise UsageError(f"--config is for a run, not for {purpose}: add --for run")
    config = configuration.load(path) if path else None
    rows = checks(purpose, cores, hugepages_mb, config=config)
    stalls: Sequence[stall.Stall] = ()
    if stall_s is not None:
        host = Host()
        where = (
            cores or (footprint.cores(config) if config else ()) or host.isolated or host.allowed()
        )
        stalls = stall.measure(where, stall_s, threshold_ns)
    if as_json:
        result: dict[str, Any] = {"for": purpose, "checks": [row.to_dict() for row in rows]}
        if stall_s is not None:
            result["stall"] = [one.to_dict() for one in stalls]
        emit_json(result)
    else:
        _show(rows)
        if stalls:
            _show_stalls(stalls, threshold_ns)
    bad = {"fail", "warn"} if strict else {"fail"}
    if any(row.status in bad for row in rows):
        sys.exit(Exit.HOST)


def _show(rows: Sequence[Finding]) -> None:
    # No table: it would cut what does not fit, and a command that was cut mends nothing.
    out, width = console(), max(len(row.name) for row in rows)
    for row in rows:
        out.print(
            Text(f"{row.status:<6}", STYLES[row.status]) + f"{row.name:<{width}}  {row.found}"
        )
        if row.mend:
            out.print(f"{'':<{width + 8}}-> {row.mend}")


def _show_stalls(stalls: Sequence[stall.Stall], threshold_ns: int) -> None:
    out = console()
    out.print(f"\ngaps of {threshold_ns} ns and more in a loop that only reads the cycle counter:")
    numbers = ("seconds", "gaps", "a second", "lost %", "p50 us", "p90 us", "p99 us", "max us")
    shown = table(("core",), numbers)
    for one in stalls:
        seconds = one.elapsed_ns / 1e9
        spread = [one.percentile(percent) / 1e3 for percent in (50, 90, 99)]
        shown.add_row(
            str(one.core), f"{seconds:.1f}", f"{one.count:,}", f"{one.count / seconds:,.0f}",
            f"{100 * one.sum_ns / one.elapsed_ns:.3f}",
            *(f"{value:,.1f}" for value in (*spread, one.max_ns / 1e3)),
        )  # fmt: skip
    out.print(shown)
