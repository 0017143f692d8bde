"""pydpdk bench selftest: would a change be found on this host, and only where there is one?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pydpdk.bench import data
from pydpdk.bench.compare import percent
from pydpdk.bench.selftest import selftest
from pydpdk.cli.bench_run import dir_option, keep_option
from pydpdk.cli.common import emit_json, json_option
from pydpdk.errors import Exit


@click.command("selftest")
@click.option("--repetitions", type=click.IntRange(1), default=20, show_default=True)
@click.option("--slowdown", type=click.FloatRange(1.01, 10), default=1.2, show_default=True)
@keep_option
@dir_option
@json_option
def command(
    repetitions: int, slowdown: float, keep: bool, folder: Path | None, as_json: bool
) -> int:
    """Plant a slowdown in one of two workers and look for it; then none, and look again.

    Exit code 1 when one that was planted is missed, or one is found that was not: on such a host,
    or while it is as busy as now, do not trust a comparison.

    \b
    pydpdk bench selftest
    pydpdk bench selftest --repetitions 5 --slowdown 1.1
    """

    def tell(row: dict[str, Any]) -> None:
        if not as_json:
            planted = percent(row["planted"]) if row["planted"] > 1 else "nothing"
            found = percent(row["ratio"]) if row["ratio"] else row["why"]
            click.echo(
                f"{row['repetition']:>3}  planted {planted:>8}: {row['verdict']}, {found}"
                + ("" if row["right"] else "  WRONG")
            )

    rows = selftest(repetitions, slowdown, folder or data.cache_dir(), keep, tell)
    wrong = sum(not row["right"] for row in rows)
    if as_json:
        emit_json({"repetitions": repetitions, "slowdown": slowdown, "wrong": wrong, "rows": rows})
    else:
        right = {
            kind: sum(row["right"] for row in rows if (row["planted"] > 1) == kind)
            for kind in (True, False)
        }
        click.echo(
            f"found {right[True]} of {repetitions} planted, nothing called in {right[False]} of "
            f"{repetitions} without"
        )
    return Exit.FAILED if wrong else Exit.OK
