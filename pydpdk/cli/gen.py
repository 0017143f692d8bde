"""pydpdk gen: synthetic sessions."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from typing import Any

import click

from pydpdk.cli.common import emit_json, json_option, progress
from pydpdk.synth.gen import generate

DEFAULTS = {name: p.default for name, p in inspect.signature(generate).parameters.items()}


@click.command("gen")
@click.argument("file", type=click.Path())
@click.option("--messages", type=click.IntRange(1), default=100_000, show_default=True)
@click.option("--instruments", type=click.IntRange(1, 65535), default=100, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option(
    "--loss",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of packets lost, on each line by itself.",
)
@click.option(
    "--dup",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of packets sent twice.",
)
@click.option(
    "--reorder",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of packets that change places with a later one.",
)
@click.option(
    "--skew-us",
    type=float,
    default=DEFAULTS["skew_us"],
    show_default=True,
    help="How much later line B is, on average.",
)
@click.option("--lines", type=click.Choice(["A", "AB"]), default="AB", show_default=True)
@json_option
def command(file: str, as_json: bool, **options: Any) -> None:
    """Write a synthetic Nasdaq ITCH 5.0 session over MoldUDP64 to FILE.

    The same options give the same bytes. What was lost on both lines is printed, so that a
    replay can be held against it.

    \b
    pydpdk gen day.pcap --messages 1000000 --instruments 500
    pydpdk gen lossy.pcap --loss 0.02 --dup 0.01 --reorder 0.01 --seed 7
    """
    with progress("generate", options["messages"], "messages") as tick:
        truth = generate(file, progress=tick, **options)
    result = {
        "file": file,
        "messages": truth.messages,
        "last_sequence": truth.last_sequence,
        "lost_on_both": sorted(truth.lost_on_both),
        "lines": {name: asdict(line) for name, line in truth.lines.items()},
    }
    if as_json:
        emit_json(result)
        return
    click.echo(
        f"{file}: {truth.messages:,} messages, {len(truth.lost_on_both):,} lost on both lines"
    )
    for name, line in truth.lines.items():
        click.echo(
            f"line {name}: " + ", ".join(f"{n:,} {what}" for what, n in asdict(line).items())
        )
