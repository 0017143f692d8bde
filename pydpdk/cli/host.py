"""pydpdk host: the only commands that change a host."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from pydpdk.cli.common import console, emit_json, json_option
from pydpdk.cli.doctor import as_cores
from pydpdk.errors import Exit, HostError
from pydpdk.host import apply as hostapply
from pydpdk.host import plan as hostplan
from pydpdk.host.plan import DRIVERS, SHARE, Plan, Wish
from pydpdk.host.step import Step, System

SYSTEM = System()

OPTIONS = (
    click.option("--hugepages", type=click.IntRange(0), default=0, metavar="COUNT",
                 help="Free hugepages to have."),
    click.option("--hugepage-kb", "size_kb", type=click.Choice(["2048", "1048576"]),
                 default="2048", show_default=True, help="Their size."),
    click.option("--node", type=click.IntRange(0), help="NUMA node of the hugepages."),
    click.option("--share", type=click.IntRange(1, 95), default=SHARE, show_default=True,
                 help="Percent of the free memory that hugepages may take."),
    click.option("--bind", multiple=True, metavar="PCI", help="Give this NIC to DPDK."),
    click.option("--driver", type=click.Choice(DRIVERS), default=DRIVERS[0], show_default=True),
    click.option("--unsafe-noiommu", is_flag=True, help="Let vfio work without an IOMMU."),
    click.option("--cores", callback=as_cores, default="", metavar="2,3", help="Of the engine."),
    click.option("--irqs", is_flag=True, help="Move interrupts off the cores."),
    click.option("--governor", is_flag=True, help="Run the cores at full clock."),
)  # fmt: skip
record_option = click.option(
    "--record", type=click.Path(dir_okay=False, path_type=Path), default=hostapply.RECORD,
    show_default=True, help="What undo needs.",
)  # fmt: skip


def wish_options(function: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(OPTIONS):
        function = option(function)
    return function


def wish_of(size_kb: str, **values: Any) -> Wish:
    return Wish(size_kb=int(size_kb), **values)


@click.group("host")
def command() -> None:
    """Change this host for a live run: hugepages, a NIC's driver, interrupts, governor.

    plan shows, apply makes, undo takes back; nothing else changes a host. The kernel command line
    is recommended, never written. No change outlives the next boot.

    \b
    pydpdk host plan --hugepages 128 --cores 1 --irqs
    sudo $(command -v pydpdk) host apply --bind 0000:00:04.0 --hugepages 128
    sudo $(command -v pydpdk) host undo
    """


@command.command("plan")
@wish_options
@json_option
def plan(as_json: bool, **values: Any) -> None:
    """Show what apply would change. Needs no rights.

    \b
    pydpdk host plan --hugepages 16
    pydpdk host plan --cores 1 --irqs --governor --json
    """
    drawn = hostplan.plan(SYSTEM, wish_of(**values))
    if as_json:
        emit_json(drawn.to_dict())
        return
    _show("would", drawn.steps, "nothing to change")
    _show_plan(drawn)


@command.command("apply")
@wish_options
@record_option
@json_option
def apply(as_json: bool, record: Path, **values: Any) -> None:
    """Make the changes, all of them or none. Exits 3 when the host does not allow them.

    \b
    sudo $(command -v pydpdk) host apply --bind 0000:00:04.0 --hugepages 128
    sudo $(command -v pydpdk) host apply --cores 2,3 --irqs --governor
    """
    _need_root()
    wish = wish_of(**values)
    with _signals_roll_back():
        done = hostapply.apply(SYSTEM, lambda: hostplan.plan(SYSTEM, wish), record)
    if as_json:
        emit_json({
            "made": [step.to_dict() for step in done.made],
            "skipped": [step.to_dict() | {"why": why} for step, why in done.skipped],
            "command_line": list(done.plan.command_line),
            "notes": list(done.plan.notes),
            "record": str(record),
        })  # fmt: skip
        return
    _show("made", done.made, "nothing to change")
    _show_left("kept as it was", done.skipped)
    _show_plan(done.plan)


@command.command("undo")
@record_option
@json_option
def undo(as_json: bool, record: Path) -> None:
    """Take back what apply made since the last boot. Twice is as good as once.

    \b
    sudo $(command -v pydpdk) host undo
    """
    _need_root()
    done = hostapply.undo(SYSTEM, record)
    if as_json:
        emit_json({
            "undone": [step.to_dict() for step in done.steps],
            "left": [step.to_dict() | {"why": why} for step, why in done.left],
            "record": str(record),
        })  # fmt: skip
    else:
        _show("undone", done.steps, "nothing to undo")
        _show_left("left", done.left)
    if done.left:
        sys.exit(Exit.FAILED)


def _need_root() -> None:
    if os.geteuid() != 0:
        again = shlex.join([os.path.abspath(sys.argv[0]), *sys.argv[1:]])
        raise HostError(f"changing a host needs root: sudo {again}")


@contextmanager
def _signals_roll_back() -> Iterator[None]:
    """SIGTERM and a lost terminal take back what was made, as Ctrl-C does."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show(word: str, steps: Sequence[Step], nothing: str) -> None:
    out = console()
    for step in steps:
        out.print(f"{word:<8}{step.what}")
    if not steps:
        out.print(nothing)


def _show_left(word: str, steps: Sequence[tuple[Step, str]]) -> None:
    for step, why in steps:
        console().print(f"{word}: {step.what}: {why}")


def _show_plan(drawn: Plan) -> None:
    for note in drawn.notes:
        console().print(f"note    {note}")
    if drawn.command_line:
        line = " ".join(drawn.command_line)
        console().print(f"by hand add to the kernel command line (/etc/default/grub): {line}")
