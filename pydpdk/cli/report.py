"""A replay's result for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from pydpdk.cli.common import console, table
from pydpdk.core import counters
from pydpdk.core.hist import POINTS
from pydpdk.lockstep.account import refused_lines


def show(result: dict[str, Any]) -> None:
    """Print a replay's result: what came in, what was built, what was traded, what was lost."""
    out = console()
    frames = result["frames"]
    out.print(
        f"frames     {frames['received']:,} received = {frames['parsed']:,} parsed"
        + "".join(f" + {n:,} {name}" for name, n in frames["dropped"].items())
    )
    total = sum(result["messages"].values())
    out.print(
        f"messages   {total:,}   "
        + "  ".join(
            f"{kind} {n:,}" for kind, n in sorted(result["messages"].items(), key=lambda i: -i[1])
        )
    )
    books = result["books"]
    state = f"  {books['suspect_instruments']:,} SUSPECT" if books["suspect"] else ""
    out.print(
        f"books      {books['instruments']:,} instruments, {books['orders']:,} orders, "
        f"{books['levels']:,} levels, hash {books['hash']}{state}"
    )
    for line in refused_lines(result["refused"], result["counters"].get("instruments_full", 0)):
        out.print(f"REFUSED    {line}")
    _sessions(out, result["sequence"])
    _lines(out, result["lines"])
    _orders(out, result["orders"])
    _latency(out, result["latency_ns"])
    _account(out, result)


def _sessions(out: Console, sessions: list[dict[str, Any]]) -> None:
    names = ("first", "last", "delivered", "duplicate", "late", "gaps", "recovered", "lost")
    rows = table(["session"], names)
    for session in sessions:
        label = f"{session['feed'].partition('@')[0]} {session['session']}"
        rows.add_row(label, *(f"{session[name]:,}" for name in names))
    out.print(rows)


def _lines(out: Console, lines: list[dict[str, Any]]) -> None:
    names = ("packets", "wins", "losses", "healed", "lead_ns_mean", "lead_ns_max", "stale")
    rows = table(["line"], names)
    for line in lines:
        rows.add_row(line["line"], *(f"{line[name]:,}" for name in names))
    out.print(rows)


def _orders(out: Console, orders: dict[str, Any]) -> None:
    if not orders["sent"]:
        return
    rejected = ", ".join(f"{n:,} {name}" for name, n in orders["rejected"].items()) or "none"
    out.print(
        f"orders     {orders['sent']:,} sent, {orders['acked']:,} accepted, "
        f"{orders['filled']:,} fills of {orders['shares']:,} shares, "
        f"{orders['canceled']:,} canceled; rejected: {rejected}"
    )
    unmarked = f"; {orders['unmarked']:,} had none: at the last fill" if orders["unmarked"] else ""
    out.print(
        f"P&L        {orders['profit_1e9'] / 1e9:,.2f} simulated, open positions at the last mid"
        f"{unmarked}"
    )
    if orders["reports_lost"]:
        out.print(f"           {orders['reports_lost']:,} execution reports were LOST")


def _latency(out: Console, stages: dict[str, dict[str, int]]) -> None:
    names = ("count", *POINTS, "max")
    rows = table(["latency, ns"], names)
    for stage, values in stages.items():
        rows.add_row(stage, *(f"{values[name]:,}" for name in names))
    out.print(rows)


def _account(out: Console, result: dict[str, Any]) -> None:
    total = result["counters"]
    terms = ("delivered", "duplicate", "late", "cut", "untrusted")
    parts = " + ".join(f"{total.get('messages_' + t, 0):,} {t}" for t in terms)
    expected = total.get("messages_expected", 0)
    lost = total.get("messages_lost", 0)
    out.print(f"accounts   {total.get('messages_received', 0):,} messages received = {parts}")
    out.print(
        f"           {expected:,} sequences = {total.get('messages_delivered', 0):,} delivered "
        f"+ {lost:,} lost; unexplained: {result['unexplained']}"
    )
    noted = {name: n for name, n in total.items() if name in NOTED}
    for name, n in noted.items():
        out.print(f"           {n:,} {name}: {counters.DOCS[name]}")


NOTED = tuple(
    name
    for name in counters.NAMES
    if name.startswith(("note_", "book_", "message_", "session_", "block_", "line_", "feed_"))
    or name == "ab_mismatch"
)
