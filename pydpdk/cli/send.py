"""pydpdk send: a capture out of a port."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from pydpdk.cli.common import console, emit_json, interruptible, json_option, progress
from pydpdk.errors import Exit, PydpdkError, UsageError
from pydpdk.source.source import capture_path, open_source
from pydpdk.tape.send import Rate, Sender, sendable

LOOK_S = 0.1


@click.command("send")
@click.argument("capture")
@click.option("--to", "spec", required=True, metavar="SOURCE", help="The port that sends.")
@click.option(
    "--rate",
    default="recorded",
    show_default=True,
    metavar="recorded|xK|Npps|line",
    help="As recorded, K times as fast, N frames a second, or as fast as the port takes them.",
)
@click.option(
    "--loop",
    "laps",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Passes over the capture; 0: until Ctrl-C.",
)
@click.option("--count", type=click.IntRange(1), help="End after so many frames.")
@click.option(
    "--skip",
    is_flag=True,
    help="Leave out frames that are not whole in the capture or not Ethernet, and count them.",
)
@click.option("--core", type=click.IntRange(0), help="CPU of the sending loop.")
@json_option
def command(
    capture: str,
    spec: str,
    rate: str,
    laps: int,
    count: int | None,
    skip: bool,
    core: int | None,
    as_json: bool,
) -> None:
    """Send the frames of CAPTURE through a port, each when it is due, and say how late each was.

    The loop spins between frames: give it a core of its own where the pace matters.

    \b
    pydpdk send day.pcap --to af_packet:eth0
    pydpdk send day.pcap.zst --to pci:0000:3b:00.0 --rate x10 --core 3
    pydpdk send day.pcap --to net_pcap0,tx_pcap=out.pcap --rate line --loop 10 --json
    """
    path = capture_path(capture)
    if path is None:
        raise UsageError(f"{capture}: not a capture")
    pace = Rate.parse(rate)
    ends = [n for n in (laps * sendable(path, skip), count) if n]
    with (
        open_source(spec) as port,
        Sender(path, port, pace, laps=laps or 2**62, frames=count or 0, core=core) as sender,
    ):
        result = run(sender, min(ends, default=None))
        time.sleep(port.description.kind.linger_s)
    if as_json:
        emit_json(result)
    else:
        show(result)
    finish(result, sender.problem)


def run(sender: Sender, total: int | None) -> dict[str, Any]:
    """Send until the end or an interrupt; the summary."""
    with interruptible() as asked, progress("send", total, "frames") as tick:
        while not sender.join(LOOK_S):
            tick(sender.frames)
            if asked():
                sender.stop()
        return sender.result() | {"interrupted": asked()}


def show(result: dict[str, Any]) -> None:
    """The summary for people."""
    out = console()
    pps = f", {result['pps']:,} a second" if result["pps"] else ""
    out.print(
        f"{result['sent']:,} of {result['scheduled']:,} frames, {result['bytes']:,} bytes"
        f" in {result['seconds']:.6f} s{pps}"
    )
    skipped = result["skipped"]
    out.print(
        f"no room {result['refused']:,}, do not fit {result['unfit']:,}, skipped: truncated"
        f" {skipped['truncated']:,}, not Ethernet {skipped['not_ethernet']:,};"
        f" taken and not sent {result['send_errors']:,}"
    )
    if late := result["lateness_ns"]:
        figures = ", ".join(f"{name} {late[name] / 1e3:,.1f}" for name in ("p50", "p99", "max"))
        out.print(
            f"late by, us: {figures}; the last frame {result['drift_ns'] / 1e3:,.1f};"
            f" cycle counter against the host's clock {result['clock_ppm']:+} ppm"
        )
        if result["behind_ns"]:
            out.print(f"fell behind for {result['behind_ns'] / 1e6:,.1f} ms")
    if result["regress"]:
        out.print(
            f"{result['regress']:,} frames stamped before the one ahead of them: sent at once"
        )


def finish(result: dict[str, Any], problem: PydpdkError | None) -> None:
    """Exit code: interrupted 130, a broken capture 4, a broken port or frames not taken 1."""
    if problem:
        raise problem
    if result["interrupted"]:
        sys.exit(Exit.INTERRUPTED)
    if result["send_errors"]:
        raise PydpdkError(f"{result['to']}: {result['send_errors']} frames it took were not sent")
    if result["sent"] != result["scheduled"]:
        missing = result["scheduled"] - result["sent"]
        raise PydpdkError(f"{missing} frames were not sent: send slower, or see the port's MTU")
