"""The command line. Commands are imported when they are called, so that start-up stays quick."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, TextIO

import click

from pydpdk.errors import Exit, PydpdkError

COMMANDS = {
    "bench": "Measure this host and this build, with ratios to peers and floors.",
    "book": "Print the order book of a symbol at a moment of a capture.",
    "demo": "Generate a session, replay it through DPDK, trade on it, account for it.",
    "doctor": "Check what this host lacks, with the command that mends it.",
    "export": "Write events, messages or books of a capture to npy, CSV or Parquet.",
    "flight": "Dump the last frames of a run from its flight recorders.",
    "gen": "Write a deterministic synthetic A/B session as a capture.",
    "host": "Change this host for a live run, and take it back.",
    "pcap": "Look into captures.",
    "record": "Record sources to rotating captures.",
    "replay": "Run a capture through the whole pipeline.",
    "run": "Run a configuration live: ports in, stages on its rings, until it is stopped.",
    "send": "Send a capture through a port at recorded, scaled or line rate.",
    "status": "Say how a run is: loops, lines, links, readers, stages, deaths.",
    "times": "Show how long each stage of a run takes, and merge or compare logs of it.",
}


class LazyGroup(click.Group):
    """A group whose commands live in modules of the same name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"pydpdk.cli.{name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pydpdk")
def cli() -> None:
    """A DPDK market-data appliance: captures and ports in, books and orders out.

    \b
    pydpdk demo                              see all of it work
    pydpdk pcap info day.pcap                what is in a capture
    pydpdk replay day.pcap --feed itch50     run it through the pipeline

    Exit codes: 0 ok, 1 failed, 2 usage, 3 host not ready, 4 data problem, 5 threshold exceeded,
    130 interrupted.
    """


def main(argv: list[str] | None = None) -> Any:
    """Entry point: errors become one line on stderr and an exit code."""
    try:
        try:
            code = cli.main(args=argv, standalone_mode=False)
        finally:
            if sys.stdout:  # there is none when the shell closed it
                sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        code = Exit.USAGE
    except (click.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        code = Exit.INTERRUPTED
    except PydpdkError as error:
        sys.stderr.write(getattr(error, "traceback", ""))  # of a user's strategy
        print(f"pydpdk: {error}", file=sys.stderr)
        code = error.exit
    except BrokenPipeError:
        code = Exit.FAILED
    except OSError as error:
        print(f"pydpdk: {error.filename or 'system'}: {error.strerror or error}", file=sys.stderr)
        code = Exit.FAILED
    finally:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            _let_go(stream)
    sys.exit(int(code or 0))


def _let_go(stream: TextIO) -> None:
    """What nobody reads goes nowhere: Python's own last flush would make the exit code 120."""
    try:
        stream.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
