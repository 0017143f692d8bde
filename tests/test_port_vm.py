"""Sending, multicast filters and steering on physical-NIC drivers, in a virtual machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from pydpdk.source import eal
from testbed.vm import KINDS, VirtualMachine
from tests.test_port_send import FRAMES
from tests.test_vm import ROOT, wait_for

pytestmark = pytest.mark.skipif(not eal.version(), reason="pydpdk was built without DPDK")
GROUPS = {"list": "01005e010203", "other": "01005e7f0001"}

CHILD = (
    FRAMES
    + """
import json, sys, time
from pydpdk.source.source import open_port
from tests.port_child import read
def tell(word):
    print(word, file=sys.stderr, flush=True)
(source,) = open_port(sys.argv[1])
until = time.monotonic() + 20
while source.link() != "up" and time.monotonic() < until:
    time.sleep(0.05)
told = {"link": source.link(), "steer": source.steer("239.1.1.1", 4000)}
told["groups"] = source.groups([bytes.fromhex(sys.argv[2])])
told["known"] = source.known()
tell("open")
heard, until = [], time.monotonic() + 20
while not heard and time.monotonic() < until:
    heard += [data for data, _, _ in read(source, seconds=0.5)[0]]
heard += [data for data, _, _ in read(source, seconds=2)[0]]
told["heard"] = [data[:12] for data in heard]
all_of(source, numbered(500, 300))
time.sleep(1)
told["stats"] = vars(source.stats())
source.close()
print(json.dumps(told))
"""
)

# By driver: what opens the filter for a group, and whether other groups stay outside.
ACCEPTED = {
    "e1000": ("list", True),
    "e1000e": ("list", True),
    "virtio-net-pci": ("all-multicast", False),
    "vmxnet3": ("all-multicast", False),
}


@pytest.fixture(scope="module")
def machine(virtual_machine: type[VirtualMachine]) -> Iterator[VirtualMachine]:
    with virtual_machine(nics=list(KINDS), driver="vfio-pci") as started:
        yield started


def frame(group: str) -> bytes:
    return bytes.fromhex(group) + bytes.fromhex("02000000000188b5") + bytes(60)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_nic_sends_and_lets_in_what_was_asked_for(machine: VirtualMachine, kind: str) -> None:
    nic = next(nic for nic in machine.nics if nic.kind == kind)
    command = [sys.executable, "-c", CHILD, f"pci:{nic.pci}", GROUPS["list"]]
    process = machine.popen(command, cwd=ROOT)
    wait_for(lambda: process.poll() is not None or "open" in process.err.split())
    for _ in range(50):
        nic.wire.send([frame(group) for group in GROUPS.values()], pps=1000)
    sent = nic.wire.collect(500, 60)
    assert process.wait(60) == 0, process.err
    told: dict[str, Any] = json.loads(process.out)
    helpers: dict[str, Any] = {}
    exec(FRAMES, helpers)
    assert sent == helpers["numbered"](500, 300)
    assert told["stats"]["sent"] == 500
    assert told["link"] == "up"
    how, outside = ACCEPTED[kind]
    assert told["groups"] == how, told
    assert told["known"]["promiscuous"] == "not asked for"
    assert GROUPS["list"] in told["heard"]
    assert (GROUPS["other"] not in told["heard"]) == outside
    assert told["steer"].startswith("refused: "), told["steer"]
    assert told["known"]["clock"] == "host", "none of these has a clock of its own"
