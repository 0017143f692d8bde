"""pydpdk demo: everything at once, on data it makes itself."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from pydpdk.cli.common import console, emit_json, json_option, progress, resolve_feeds
from pydpdk.cli.replay import finish, run
from pydpdk.cli.report import show
from pydpdk.core.layout import UNDEF_PRICE
from pydpdk.lockstep.replay import Replay
from pydpdk.source import eal
from pydpdk.source.source import capture_path
from pydpdk.stage.stage import Orders, Stage
from pydpdk.synth.gen import generate


class Imbalance(Stage):
    """Joins the heavier side of a tight book and lets go of a fill at the other side's price."""

    def __init__(self, every: int = 50) -> None:
        super().__init__()
        self.every = every
        self.seen = 0

    def on_quote(self, quote: Any, orders: Orders) -> None:
        """Buy at the ask, or sell at the bid, when the size ahead of it is four times ours."""
        if UNDEF_PRICE in (quote.bid, quote.ask):
            return
        self.seen += 1
        if self.seen % self.every:
            return
        if quote.bid_size >= 4 * quote.ask_size:
            orders.buy(quote.instrument_id, quote.ask, 100, ioc=True)
        elif quote.ask_size >= 4 * quote.bid_size:
            orders.sell(quote.instrument_id, quote.bid, 100, ioc=True)


@click.command("demo")
@click.option(
    "--dir",
    "folder",
    type=click.Path(),
    default="demo",
    show_default=True,
    help="Where the capture goes.",
)
@click.option("--messages", type=click.IntRange(1000), default=300_000, show_default=True)
@click.option(
    "--source",
    type=click.Choice(["net_pcap", "pcap"]),
    default=None,
    help="Through DPDK's driver, or by our own reader. [default: net_pcap if built in]",
)
@json_option
def command(folder: str, messages: int, source: str | None, as_json: bool) -> None:
    """Generate an A/B session, replay it through DPDK, trade on it, account for everything.

    Lines A and B each lose, duplicate and reorder packets; together they are (nearly) whole.
    No root, no hugepages, no NIC.

    \b
    pydpdk demo
    pydpdk demo --source pcap --json | jq .orders
    """
    version = eal.version()
    source = source or ("net_pcap" if version else "pcap")
    path = Path(folder) / "session.pcap"
    path.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with progress("generate", messages, "messages") as tick:
        truth = generate(
            path,
            messages=messages,
            instruments=200,
            loss=0.003,
            dup=0.005,
            reorder=0.005,
            seed=1,
            progress=tick,
        )
    made = time.monotonic()
    spec = f"{source}:{path}"
    feeds = resolve_feeds(["itch50"], [spec])
    frames = sum(line.sent for line in truth.lines.values())
    with Replay(spec, feeds, Imbalance()) as replay:
        result = run(replay, total=frames)
    ended = time.monotonic()
    result |= {
        "source": spec,
        "dpdk": version or None,
        "file": str(capture_path(spec)),
        "truth": {"messages": truth.messages, "lost_on_both": len(truth.lost_on_both)},
    }
    if as_json:
        emit_json(result)
    else:
        driver = f"DPDK {version}, net_pcap" if source == "net_pcap" else "own capture reader"
        console().print(
            f"session    {path}: {truth.messages:,} messages on two lines, written in "
            f"{made - began:.1f} s, replayed in {ended - made:.1f} s ({driver})"
        )
        show(result)
    finish(result)
