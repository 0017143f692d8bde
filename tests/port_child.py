"""EAL starts once per process, for good: tests run their DPDK part in a child of their own."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PRELUDE = """
import json, os, socket, sys, time
from pydpdk.source import eal
from pydpdk._core import ffi, lib
from pydpdk.errors import *
from pydpdk.source.source import open_source
from tests.port_child import read, say
"""


def run_child(code: str, *args: object, namespace: bool = False) -> Any:
    """What `code` passed to say(), and nothing else may be on its stdout.

    With `namespace` it is root in a network namespace of its own with veth a0 - b0, both up.
    """
    if namespace:
        code = VETH + textwrap.dedent(code)
    command = [sys.executable, "-W", "error", "-c", PRELUDE + textwrap.dedent(code)]
    if namespace:
        command = [*_unshare(), *command]
    done = subprocess.run(
        [*command, *map(str, args)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


VETH = """
def ip(command):
    from subprocess import run
    run(["ip", *command.split()], check=True, capture_output=True)

ip("link set lo up")
ip("link add a0 type veth peer name b0")
for name in "a0", "b0":
    open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "w").write("1")
    ip(f"link set {name} up")
"""


def _unshare() -> list[str]:
    for command in (["unshare", "-n"], ["unshare", "-Urn"]):
        probe = [*command, "ip", "link", "add", "a0", "type", "veth", "peer", "name", "b0"]
        if shutil.which("unshare") and not subprocess.run(probe, capture_output=True).returncode:
            return command
    pytest.skip("needs a network namespace with veth: root, or unshare -Urn")


def say(value: object) -> None:
    print(json.dumps(value))


def read(source: Any, want: int = sys.maxsize, seconds: float = 5.0) -> tuple[list[Any], int]:
    """Frames as (hex bytes, wire length, ts_recv), and what the last burst returned.

    Stops at the end of the source, after `want` frames, or when the time is over.
    """
    from pydpdk._core import ffi

    packets = ffi.new("struct packet[]", 256)
    frames: list[Any] = []
    until = time.monotonic() + seconds
    count = 0
    while count >= 0 and len(frames) < want and time.monotonic() < until:
        count = source.pointer.burst(source.pointer, packets, 256)
        for p in packets[0 : max(count, 0)]:
            frames.append((bytes(ffi.buffer(p.data, p.caplen)).hex(), p.wirelen, p.ts_recv))
    return frames, count


NO_DATA = -errno.ENODATA
