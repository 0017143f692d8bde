"""`pydpdk run` in a guest, and what the host sends to it and hears from it."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import pydpdk._core
from testbed.datagrams import tally
from testbed.dgram import Wire
from testbed.plan import Feed, Plan
from testbed.vm import Nic, Process, VirtualMachine
from tests.live_run import LiveRun, config

ROOT = Path(__file__).resolve().parent.parent
CORE = Path(pydpdk._core.__file__)
PPS = 2000  # what an emulated NIC takes (docs/vm.md)
READY_S, END_S = 180.0, 90.0  # emulated, on a busy host
TOP = """\
ring_slots = 262144
[eal]
hugepages = true
memory_mb = 128
"""


def environment() -> dict[str, str]:
    """The build as it is: to ask ninja whether it is the newest takes 20 s in emulation."""
    build = next((p for p in CORE.parents if (p / "build.ninja").exists()), ROOT)
    return {"MESONPY_EDITABLE_SKIP": str(build), "PYTHONPATH": str(ROOT)}


@contextmanager
def guest(kind: Callable[..., VirtualMachine], **options: Any) -> Iterator[VirtualMachine]:
    """A machine with an e1000e and a virtio-net NIC, and the core where it is imported from."""
    with kind(nics=["e1000e", "virtio-net-pci"], memory_mb=1536, **options) as machine:
        link = f"test -e {CORE.name} || ln -s {CORE} ."
        assert machine.run(link, cwd=ROOT / "pydpdk").code == 0  # in the guest's layer of RAM
        yield machine


def pydpdk_popen(machine: VirtualMachine, *args: str) -> Process:
    """``pydpdk args``, started in the guest."""
    command = [sys.executable, "-m", "pydpdk", *args]
    return machine.popen(command, cwd=ROOT, env=environment())


def pydpdk_json(machine: VirtualMachine, *args: str) -> Any:
    """What ``pydpdk args --json`` in the guest gives; it must succeed."""
    process = pydpdk_popen(machine, *args, "--json")
    assert process.wait(END_S) == 0, process.err
    return json.loads(process.out)


def nic_config(machine: VirtualMachine, name: str, nics: Sequence[Nic], **parts: Any) -> Path:
    """A configuration of NICs a, b and so on, one feed."""
    source = 'address = "10.0.0.5"\nflight_mb = 8'
    for letter, nic in zip("bc", nics[1:], strict=False):
        source += f'\n[sources.{letter}]\ndevice = "pci:{nic.pci}"\nflight_mb = 8'
    # A host that is busy stops the guest for longer than the default waits for a lost packet.
    feed = "window = 65536\ngap_timeout_ms = 3000"
    return config(
        machine.scratch / f"{name}.toml", f"pci:{nics[0].pci}",
        **{"name": name, "top": TOP, "source": source, "feed": feed} | parts,
    )  # fmt: skip


class GuestRun(LiveRun):
    """As LiveRun, in a guest."""

    def __init__(self, machine: VirtualMachine, path: Path, *options: str) -> None:
        self.machine, self.name = machine, path.stem
        self.guest: Process = pydpdk_popen(machine, "run", str(path), "--json", *options)
        self.process: Any = self.guest  # poll() and send_signal() are alike

    def __exit__(self, *_: object) -> None:
        if self.guest.poll() is None:
            self.guest.send_signal(signal.SIGTERM)
            try:
                self.guest.wait(END_S)
            except TimeoutError:
                self.guest.kill()

    @property
    def log(self) -> str:
        return self.guest.err

    def status(self) -> dict[str, Any]:
        """{}: none yet, or the guest was too busy to say; until() asks again."""
        try:
            text = self.machine.run(["cat", f"/run/pydpdk/{self.name}/status.json"]).out
        except TimeoutError:
            return {}
        return json.loads(text) if text else {}

    def until(self, test: Any, what: str, seconds: float = READY_S) -> dict[str, Any]:
        return super().until(test, what, seconds)

    def end(self) -> dict[str, Any]:
        assert self.guest.wait(END_S) == 0, self.log
        record: dict[str, Any] = json.loads(self.guest.out)
        return record

    def leftovers(self) -> str:
        """What it left in shared memory, run directories, hugepage files."""
        places = "/dev/shm /run/pydpdk /dev/hugepages /run/dpdk"
        return self.machine.run(f"find {places} -mindepth 1 2> /dev/null").out


# --- what is sent ---


def send(work: Plan, nics: Sequence[Nic]) -> None:
    """All of a plan: over one NIC, or each line over its own."""
    frames, of = frames_of(work.feed), work.feed.rows["group"].tolist()
    groups = sorted(set(of))
    start = time.monotonic()
    for i, n in enumerate(work.frame.tolist(), 1):
        nics[groups.index(of[n]) % len(nics)].wire.send([frames[n]])
        time.sleep(max(0.0, start + i / PPS - time.monotonic()))


def lost_on_both(work: Plan) -> set[int]:
    """Sequences of its one session that neither line carries."""
    lines = tally(work.feed.rows[work.frame], work.feed.lengths[work.frame])
    lost = ({n for first, end in line.missing for n in range(first, end)} for line in lines)
    return set.intersection(*lost)


def begins(work: Plan) -> bool:
    """Whether each line sends sequence 1 first: two NICs keep no order between their lines, and
    a session is joined where the first packet of any line has it."""
    rows = work.feed.rows[work.frame]
    firsts = np.unique(rows["group"], return_index=True)[1]
    return bool((rows["sequence"][firsts] == 1).all())


def without(feed: Feed, lost: set[int]) -> Iterator[tuple[int, bytes]]:
    """Time and bytes of the frames that are not lost."""
    for i, frame in enumerate(frames_of(feed)):
        row = feed.rows[i]
        if not (row["messages"] and int(row["sequence"]) in lost):
            yield int(feed.times_ns[i]), frame


def frames_of(feed: Feed) -> list[bytes]:
    data, ends = feed.data.tobytes(), (feed.offsets + feed.lengths).tolist()
    return [data[at:end] for at, end in zip(feed.offsets.tolist(), ends, strict=True)]


# --- what is heard ---


def heard_until(wire: Wire, test: Callable[[bytes], Any], seconds: float = 20.0) -> list[bytes]:
    """Frames from the guest, up to the first that passes; fails without one."""
    frames: list[bytes] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        frame = wire.receive(0.2)
        if frame is not None:
            frames.append(frame)
            if test(frame):
                return frames
    raise AssertionError(f"not heard within {seconds} s; heard: {[f.hex() for f in frames]}")
