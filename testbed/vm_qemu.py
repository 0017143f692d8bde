"""QEMU's command line: a q35 machine with an IOMMU, shared folders and NICs."""

from __future__ import annotations

import functools
import os
import select
import subprocess
import time
from dataclasses import dataclass
from subprocess import DEVNULL, PIPE

from testbed.dgram import Wire
from testbed.vm_kernel import Kernel

KINDS = {  # NIC kinds with the properties that they need behind an IOMMU
    "e1000": "",
    "e1000e": "",
    "virtio-net-pci": ",disable-legacy=on,iommu_platform=on,ats=on",
    "vmxnet3": "",
}
DRIVERS = ("vfio-pci", "uio_pci_generic", "kernel", "none")
FIRST_SLOT = 8  # of the NICs on PCI bus 0; QEMU gives the first free ones to the rest
KVM_SECONDS = 5.0  # for a guest's first line, which even emulation shows within 2


@dataclass(frozen=True)
class Nic:
    """One emulated NIC: its place in the guest and its wire to the host."""

    kind: str
    pci: str  # 0000:00:08.0
    mac: str
    wire: Wire


def machine(accelerator: str) -> list[str]:
    """QEMU that dies with the thread that started it."""
    cpu = "host" if accelerator == "kvm" else "max"
    return [
        *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-nodefaults", "-no-user-config"),
        *("-machine", f"q35,accel={accelerator},kernel-irqchip=split", "-cpu", cpu),
        *("-device", "intel-iommu,intremap=on,caching-mode=on", "-display", "none", "-no-reboot"),
    ]


def _speaks(fd: int, word: bytes, seconds: float) -> bool:
    heard, until = b"", time.monotonic() + seconds
    while word not in heard and select.select([fd], [], [], max(0, until - time.monotonic()))[0]:
        if not (more := os.read(fd, 4096)):
            break
        heard += more
    return word in heard


@functools.cache
def accelerator(kernel: Kernel) -> tuple[str, str]:
    """("kvm" or "tcg", why). A /dev/kvm that opens may still run no guest, so one is tried."""
    if forced := os.environ.get("PYDPDK_VM_ACCELERATOR"):
        return forced, "PYDPDK_VM_ACCELERATOR says so"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg", "no usable /dev/kvm"
    command = [*machine("kvm"), "-m", "256", "-serial", "stdio", "-kernel", str(kernel.image)]
    command += ["-append", "earlyprintk=serial,ttyS0 console=ttyS0 panic=-1"]
    with subprocess.Popen(command, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL) as qemu:
        assert qemu.stdout is not None
        speaks = _speaks(qemu.stdout.fileno(), b"Linux version", KVM_SECONDS)
        qemu.kill()
    if speaks:
        return "kvm", "a guest runs under it"
    return "tcg", f"/dev/kvm is there, but a guest under it says nothing in {KVM_SECONDS:g} s"


def shared(tag: str, path: str, mode: str) -> list[str]:
    return [
        *("-fsdev", f"local,id={tag},path={path},security_model=none,multidevs=remap,{mode}"),
        *("-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"),
    ]


def netdev(index: int, nic: Nic) -> list[str]:
    slot = f"addr={FIRST_SLOT + index:#x}"
    return [
        *("-netdev", f"dgram,id=n{index},local.type=fd,local.str={nic.wire.far.fileno()}"),
        *("-device", f"{nic.kind},netdev=n{index},mac={nic.mac},{slot}{KINDS[nic.kind]}"),
    ]
