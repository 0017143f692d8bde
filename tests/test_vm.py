"""A virtual machine's PCI NICs, and physical-NIC drivers on them: what the host sends arrives."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed import vm, vm_kernel
from testbed.dgram import Wire
from testbed.frames import datagram, itch_add, mold
from testbed.vm import KINDS, Nic, Process, VirtualMachine, VirtualMachineError
from tests.vm_child import PROBE

ROOT = Path(__file__).parent.parent
SILENCE = 3.0  # seconds after which a child in the guest has all that will come


def wait_for(what: Callable[[], Any], timeout: float = 60.0) -> None:
    until = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < until, "did not happen in time"
        time.sleep(0.02)


# --- DPDK's drivers on vfio-pci ---


@pytest.fixture(scope="module")
def machine(virtual_machine: type[VirtualMachine]) -> Iterator[VirtualMachine]:
    with virtual_machine(nics=list(KINDS), driver="vfio-pci") as started:
        yield started


class Reader:
    """A child in the guest that reads a NIC whose link is up."""

    def __init__(self, machine: VirtualMachine, kind: str) -> None:
        self.nic: Nic = next(nic for nic in machine.nics if nic.kind == kind)
        command = [sys.executable, "-m", "tests.vm_child", f"pci:{self.nic.pci}", str(SILENCE)]
        self.process: Process = machine.popen(command, cwd=ROOT)
        self.probes = 0
        self.until("open")
        wait_for(self._probed)

    def until(self, word: str) -> None:
        wait_for(lambda: self.process.poll() is not None or word in self.process.err.split())
        assert self.process.poll() is None, self.process.err

    def _probed(self) -> bool:
        self.probes += self.nic.wire.send([PROBE])
        time.sleep(0.1)
        return self.process.poll() is not None or "up" in self.process.err.split()

    def result(self) -> Any:
        assert self.process.wait(60) == 0, self.process.err
        return json.loads(self.process.out)


def feed(count: int, size: Callable[[int], int]) -> list[bytes]:
    """MoldUDP64 packets of one feed; size(i) is the frame's, from 100 bytes on."""
    head = len(datagram(mold(messages=[itch_add()])))
    frames = []
    for i in range(count):
        rest = random.Random(i).randbytes(size(i) - head)
        packet = mold(sequence=1 + i, messages=[itch_add(reference=i) + rest])
        frames.append(datagram(packet))
    return frames


def jumbo(i: int) -> int:
    return (1519, 1522, 2047, 2048, 2049, 4096, 9000)[i % 7]


NOTHING_LOST = {"missed": 0, "no_mbuf": 0, "errors": 0, "oversize": 0}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_pci_source_delivers_the_frames_of_the_wire(machine: VirtualMachine, kind: str) -> None:
    reader = Reader(machine, kind)
    steady = feed(500, lambda i: 100 + i * 37 % 1415)
    burst = feed(500, lambda i: 100 + i % 100)
    reader.nic.wire.send(steady, pps=2000)
    reader.nic.wire.send(burst)
    got = reader.result()
    sent = steady + burst
    assert [bytes.fromhex(data) for data, _ in got["frames"]] == sent
    assert [wirelen for _, wirelen in got["frames"]] == [len(data) for data in sent]
    assert got["stats"].items() >= {"received": got["all"], **NOTHING_LOST}.items()
    assert len(sent) < got["all"] <= len(sent) + reader.probes


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["e1000", "e1000e", "virtio-net-pci"])
def test_jumbo_frames_arrive_whole(machine: VirtualMachine, kind: str) -> None:
    reader = Reader(machine, kind)
    sent = feed(70, jumbo)
    reader.nic.wire.send(sent, pps=500)
    got = reader.result()
    assert [(bytes.fromhex(data), wirelen) for data, wirelen in got["frames"]] == [
        (data, len(data)) for data in sent
    ]
    assert got["stats"].items() >= {"received": got["all"], **NOTHING_LOST}.items()


@pytest.mark.slow
def test_vmxnet3_counts_the_jumbo_frames_that_it_refuses(machine: VirtualMachine) -> None:
    """The driver leaves maxNumRxSG at 0, which QEMU reads as one buffer a frame."""
    reader = Reader(machine, "vmxnet3")
    sent = feed(70, jumbo)
    reader.nic.wire.send(sent, pps=500)
    got = reader.result()
    whole = [data for data in sent if len(data) <= 2048]
    assert [bytes.fromhex(data) for data, _ in got["frames"]] == whole
    assert got["stats"]["errors"] == len(sent) - len(whole)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["e1000e", "virtio-net-pci", "vmxnet3"])
def test_a_stopped_reader_loses_only_what_the_port_counts(
    machine: VirtualMachine, kind: str
) -> None:
    reader = Reader(machine, kind)
    sent = feed(3000, lambda _: 100)
    reader.process.send_signal(signal.SIGSTOP)
    reader.nic.wire.send(sent)
    time.sleep(1)
    reader.process.send_signal(signal.SIGCONT)
    got = reader.result()
    place = {data.hex(): i for i, data in enumerate(sent)}
    order = [place[data] for data, _ in got["frames"]]
    assert order == sorted(set(order)), "each frame once, in order"
    assert got["stats"]["missed"] == len(sent) - len(order)
    assert bool(got["stats"]["missed"]) == (kind == "vmxnet3"), "the others hold the wire back"


# --- the machine itself ---


@pytest.fixture(scope="module")
def plain(virtual_machine: type[VirtualMachine]) -> Iterator[VirtualMachine]:
    """NICs on the kernel's own drivers, no hugepages."""
    kinds = ["e1000e", "virtio-net-pci"]
    with virtual_machine(nics=kinds, driver="kernel", hugepages=0) as started:
        yield started


@pytest.mark.slow
def test_commands_have_their_code_output_folder_and_environment(plain: VirtualMachine) -> None:
    done = plain.run("echo out; echo err >&2; exit 7")
    assert (done.code, done.out, done.err) == (7, "out\n", "err\n")
    done = plain.run(["printf", "%s|", "a b", "'", "$HOME"])
    assert (done.code, done.out) == (0, "a b|'|$HOME|")
    done = plain.run("pwd; echo $X; cat README.md", cwd=ROOT, env={"X": "a 'b'"})
    assert done.out == f"{ROOT}\na 'b'\n{(ROOT / 'README.md').read_text()}"
    assert plain.run("uname -r").out.strip() == vm_kernel.kernel().version != os.uname().release


@pytest.mark.slow
def test_scratch_is_shared_and_the_rest_of_the_host_is_not_written(plain: VirtualMachine) -> None:
    data = os.urandom(300_000)
    (plain.scratch / "in").write_bytes(data)
    mark = f"/{plain.directory.name}"
    assert plain.run(f"cp {plain.scratch}/in {plain.scratch}/out && touch {mark}").code == 0
    assert (plain.scratch / "out").read_bytes() == data
    assert plain.run(["test", "-e", mark]).code == 0
    assert not Path(mark).exists()


@pytest.mark.slow
def test_signals_and_time_outs(plain: VirtualMachine) -> None:
    stopped = f"{sys.executable} -Sc 'import signal; print(1, flush=True); signal.pause()'"
    for number, code in (signal.SIGTERM, 143), (signal.SIGKILL, 137), (signal.SIGINT, 130):
        process = plain.popen(f"exec {stopped}")
        wait_for(lambda process=process: process.out)
        assert process.poll() is None
        process.send_signal(number)
        assert process.wait(20) == code
    assert "KeyboardInterrupt" in process.err
    with pytest.raises(TimeoutError, match="so far"):
        plain.run("sleep 4321 & echo so far; sleep 4321", timeout=10)
    wait_for(lambda: plain.run("ps -C sleep").code == 1)


@pytest.mark.slow
def test_the_wire_reaches_the_kernels_interfaces_both_ways(plain: VirtualMachine) -> None:
    for i, nic in enumerate(plain.nics):
        folder = f"/sys/bus/pci/devices/{nic.pci}"
        name = plain.run(f"ls {folder}/net || ls {folder}/virtio*/net").out.strip()
        up = f"ip addr add 192.0.2.{i}/24 dev {name} && ip link set {name} up"
        assert plain.run(up).code == 0
        host = bytes.fromhex("020000000001")
        ask = bytes.fromhex("0001080006040001") + host + socket.inet_aton("192.0.2.99") + bytes(6)
        request = b"\xff" * 6 + host + b"\x08\x06" + ask + bytes([192, 0, 2, i])
        reply = host + bytes.fromhex(nic.mac.replace(":", "") + "08060001080006040002")
        until = time.monotonic() + 20
        while not any(frame.startswith(reply) for frame in nic.wire.collect(20, 0.2)):
            assert time.monotonic() < until
            nic.wire.send([request])


@pytest.mark.slow
def test_nothing_is_left_behind_after_an_exception(virtual_machine: type[VirtualMachine]) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(ZeroDivisionError), virtual_machine(driver=None) as machine:  # noqa: PT012
        pid = int(machine._qemu.pid)
        bound = f"test -e /sys/bus/pci/devices/{machine.nics[0].pci}/driver"
        assert machine.run(bound).code == 1
        raise ZeroDivisionError
    assert not Path(f"/proc/{pid}").exists()
    assert not machine.directory.exists()
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.slow
def test_a_failed_boot_shows_the_console_and_keeps_it(
    virtual_machine: type[VirtualMachine], tmp_path: Path
) -> None:
    with pytest.raises(VirtualMachineError, match="of 9999 hugepages"):
        virtual_machine(hugepages=9999, directory=tmp_path).__enter__()
    assert "of 9999 hugepages" in (tmp_path / "console.log").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("virtual_machine")
def test_qemu_dies_with_its_parent(tmp_path: Path) -> None:
    code = """
import os, signal, sys; from pathlib import Path; from testbed.vm import VirtualMachine
with VirtualMachine([], hugepages=0, directory=Path(sys.argv[1])) as vm:
    os.kill(vm._qemu.pid, signal.SIGSTOP)  # so that it cannot end by itself
    print(vm._qemu.pid, flush=True)
    signal.pause()
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        qemu = Path("/proc", parent.stdout.readline().strip())
        assert qemu.exists()
        parent.kill()
    wait_for(lambda: not qemu.exists(), 10)


# --- without a guest ---


def test_a_wire_carries_frames_both_ways() -> None:
    frames = [bytes([i]) * size for i, size in enumerate((14, 60, 1514, 9018))]
    with Wire() as wire:
        assert wire.send(frames) == 4
        assert [wire.far.recv(65536) for _ in frames] == frames
        for frame in frames:
            wire.far.send(frame)
        assert wire.collect(4, 1) == frames
        started = time.monotonic()
        assert wire.receive(0.05) is None
        assert wire.send([b"x" * 60] * 20, pps=200) == 20
        assert time.monotonic() - started >= 0.05 + 20 / 200
        wire.far.close()
        with pytest.raises(ConnectionRefusedError):
            wire.send([b"x"] * 2)


@pytest.mark.usefixtures("virtual_machine")
@pytest.mark.slow
def test_the_initramfs_is_what_cpio_reads() -> None:
    kernel = vm_kernel.kernel()
    image = vm_kernel.initramfs(kernel, vm_kernel.MODULES)
    done = subprocess.run(["cpio", "-it", "--quiet"], input=image, capture_output=True, check=True)
    names = done.stdout.decode().split()
    assert {"init", "bin/busybox", "dev/console"} <= set(names)
    loaded: set[str] = set()
    for path in vm_kernel.module_files(kernel, vm_kernel.MODULES):
        needed = subprocess.run(["modinfo", "-F", "depends", path], capture_output=True, text=True)
        assert {
            name.replace("-", "_") for name in needed.stdout.strip().split(",") if name
        } <= loaded
        loaded.add(vm_kernel.module_name(path))
        assert any(name.endswith(f"-{vm_kernel.module_name(path)}.ko") for name in names)
    assert {"vfio_pci", "overlay"} <= loaded


def test_what_the_host_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(vm.Missing, match="apt-get install qemu-system-x86"):
        vm.require()
