"""What is in a capture file: by our own reader, and by Wireshark's."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from pydpdk._core import ffi
from pydpdk.source.source import open_source
from tests.conftest import missing


class Frame(NamedTuple):
    data: bytes
    ts: int
    wirelen: int
    link: int


def frames_of(path: Path) -> list[Frame]:
    """All frames by our own reader; the capture must end clean."""
    packets = ffi.new("struct packet[]", 256)
    frames = []
    with open_source(f"pcap:{path}") as source:
        while (n := source.pointer.burst(source.pointer, packets, 256)) >= 0:
            for p in packets[0:n]:
                data = bytes(ffi.buffer(p.data, p.caplen))
                frames.append(Frame(data, p.ts_recv, p.wirelen, p.link))
        assert source.problem() == ""
    return frames


def capinfos(*paths: Path) -> list[int]:
    """Frames of each, by Wireshark's reader, which refuses what is not whole."""
    tool = shutil.which("capinfos")
    if tool is None:
        missing("capinfos")
    command = [str(tool), "-c", "-M", "-T", "-r", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return [int(line.split("\t")[1]) for line in done.stdout.splitlines()]
