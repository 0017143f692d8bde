"""A ring whose writer changes: given away, taken back, killed in mid-write."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from pydpdk.core.event import EVENT
from pydpdk.core.ring import Reader, Ring
from pydpdk.errors import CoreError
from tests.command import ROOT

WRITER = """
import sys
import numpy as np
from pydpdk.core.event import EVENT
from pydpdk.core.ring import Ring
with Ring.adopt(fd=int(sys.argv[1])) as ring:
    at, batch = ring.stats().written, np.zeros(int(sys.argv[2]), EVENT)
    print("ready", flush=True)
    while True:
        at = ring.next
        batch["sequence"] = batch["order_id"] = np.arange(at, at + len(batch))
        ring.put(batch[: max(1, min(len(batch), ring.room()))])
"""


def records(n: int, first: int = 0) -> np.ndarray:
    out = np.zeros(n, EVENT)
    out["sequence"] = out["order_id"] = np.arange(first, first + n)
    return out


def test_it_is_written_on_after_the_last_record() -> None:
    with Ring(64, clock="capture") as ring, Reader(fd=ring.fd) as reader:
        ring.put(records(3))
        ring.give()
        with Ring.adopt(fd=ring.fd) as other:
            assert other.next == 3
            assert other.clock == "capture"
            other.put(records(2, 3))
            with pytest.raises(CoreError, match="busy"):
                ring.take()
        assert not reader.ended
        assert not reader.writer_alive
        ring.take()
        ring.put(records(1, 5))
        assert reader.batch()["sequence"].tolist() == [0, 1, 2, 3, 4, 5]


def test_one_writer_at_a_time() -> None:
    with Ring(64) as ring:
        with pytest.raises(CoreError, match="busy"):
            Ring.adopt(fd=ring.fd)
        with Reader(fd=ring.fd) as reader:
            assert reader.writer_alive
            ring.give()
            assert not reader.writer_alive


def test_a_name_goes_with_its_maker_not_with_a_writer() -> None:
    name = f"pydpdk-test-{os.getpid()}"
    with Ring(64, name) as ring:
        ring.give()
        with Ring.adopt(name) as other:
            other.put(records(1))
        with Reader(name, from_start=True) as reader:
            assert len(reader.batch()) == 1
            assert not reader.ended
    with pytest.raises(CoreError, match="No such file"):
        Reader(name)


@pytest.mark.parametrize("policy", ["block", "skip"])
def test_killed_writers_leave_whole_records_in_a_row(policy: str) -> None:
    """Each position once, whole, in order; what a skip reader lost is said."""
    rng, expected = random.Random(7), 0
    with Ring(256) as ring, Reader(fd=ring.fd, policy=policy, batch_max=64) as reader:
        ring.give()
        for _ in range(5):
            command = [sys.executable, "-c", WRITER, str(ring.fd), "64"]
            writer = subprocess.Popen(command, pass_fds=[ring.fd], stdout=subprocess.PIPE, cwd=ROOT)
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            until, first = time.monotonic() + rng.uniform(0, 0.02), expected
            killed = False
            while True:
                if not killed and time.monotonic() > until and expected > first:
                    os.kill(writer.pid, signal.SIGKILL)
                    writer.wait()
                    killed = True
                events = reader.batch() if policy == "block" else reader.copy()
                if not len(events) and killed:
                    break
                assert (np.diff(events["stamp"].astype(np.int64)) == 1).all()
                assert (events["sequence"] + 1 == events["stamp"]).all()
                assert (events["sequence"] == events["order_id"]).all()
                if len(events):
                    assert events["sequence"][0] == expected + reader.lost - lost_before(reader)
                    expected = int(events["sequence"][-1]) + 1
                    reader.noted = reader.lost
                if policy == "block":
                    reader.release()
            writer.stdout.close()
        assert policy == "skip" or reader.lost == 0


def lost_before(reader: Reader) -> int:
    return getattr(reader, "noted", 0)
