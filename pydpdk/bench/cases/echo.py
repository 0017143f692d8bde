"""The other process of the hop benchmark: answers what its partner sends, in the mode told.

``python -m pydpdk.bench.cases.echo RING_FD SHARED_FD PIPE_FD CORE``; words of the shared page,
each on a line of its own: the command, this process's state, the bounced word, the answer.
"""

from __future__ import annotations

import mmap
import os
import sys
import time

from pydpdk.bench.loops import ffi, lib
from pydpdk.core.ring import Reader

COMMAND, STATE, PING, ANSWER = 0, 16, 32, 48  # in words of 8 bytes
IDLE, LINE, SEEN, READ, PIPE, QUIT = range(1, 7)
TRIPS = 2_000
NAP_S = 1e-3
LOOKS = 1 << 24  # at a ring before giving up: a second or two


def main(ring_fd: int, shared_fd: int, pipe_fd: int, core: int) -> None:
    """Obey until QUIT, or until the partner is gone."""
    os.sched_setaffinity(0, {core})
    parent = os.getppid()
    page = mmap.mmap(shared_fd, mmap.PAGESIZE)
    words = memoryview(page).cast("Q")
    start = ffi.from_buffer("uint64_t[]", page, require_writable=True)
    with Reader(fd=ring_fd) as reader:
        words[STATE] = IDLE
        while (mode := words[COMMAND]) != QUIT and os.getppid() == parent:
            if mode not in (LINE, SEEN, READ, PIPE):
                time.sleep(NAP_S)
                continue
            words[STATE] = mode
            if mode == LINE:
                lib.bench_echo(start + PING, TRIPS)
            elif mode == PIPE:
                _pipe(pipe_fd, words)
            else:
                _records(reader, words, mode)
            words[STATE] = IDLE


def _records(reader: Reader, words: memoryview, mode: int) -> None:
    """SEEN answers as soon as the poll says so, READ with a field out of the batch."""
    ready, first = reader.ready, int(lib.ring_next(reader.pointer)) + 1
    for sequence in range(first, first + TRIPS):
        for _ in range(LOOKS):
            if ready():
                break
        else:
            return
        if mode == SEEN:
            words[ANSWER] = sequence
            reader.batch(1)
        else:
            words[ANSWER] = int(reader.batch(1)["sequence"][0])
        reader.release()


def _pipe(fd: int, words: memoryview) -> None:
    for trip in range(1, TRIPS + 1):
        os.read(fd, 64)
        words[ANSWER] = trip


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
