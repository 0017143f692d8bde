"""What runs in a guest: everything that a source delivers, until it has been silent for a while.

``python -m tests.vm_child SOURCE SECONDS`` says on stderr when the source is open and when the
first PROBE arrived (a link comes up late), then prints JSON: frames but for probes as hex with
their wire length, the largest burst, and the port's figures.
"""

from __future__ import annotations

import json
import sys
import time

from pydpdk._core import ffi
from pydpdk.source.source import open_source
from testbed.frames import eth

PROBE = eth(b"probe", ethertype=0x88B5, pad_to=60)


def say(word: str) -> None:
    print(word, file=sys.stderr, flush=True)


def main(spec: str, silence: float) -> None:
    packets = ffi.new("struct packet[]", 256)
    frames: list[tuple[bytes, int]] = []
    largest = 0
    with open_source(spec) as source:
        say("open")
        last = time.monotonic()
        while time.monotonic() - last < silence:
            got = source.pointer.burst(source.pointer, packets, 256)
            assert got >= 0, got
            if not got:
                continue
            if not frames:
                say("up")
            last = time.monotonic()
            largest = max(largest, got)
            frames += [(bytes(ffi.buffer(p.data, p.caplen)), p.wirelen) for p in packets[0:got]]
        stats = vars(source.stats())
    told = [(data.hex(), wirelen) for data, wirelen in frames if data != PROBE]
    print(json.dumps({"frames": told, "all": len(frames), "largest": largest, "stats": stats}))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
