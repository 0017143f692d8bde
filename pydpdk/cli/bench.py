"""pydpdk bench: what this host and this build can do, and what changed."""

from __future__ import annotations

import click

from pydpdk.cli import bench_compare, bench_list, bench_report, bench_run, bench_selftest
from pydpdk.cli.bench_instructions import instructions


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
    pydpdk bench selftest                               would a change be found here?
    """


for part in (bench_list, bench_run, bench_compare, bench_report, bench_selftest):
    command.add_command(part.command)
command.add_command(instructions)
