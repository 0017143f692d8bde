"""One reversible change of a host: how it is made, and how it is taken back.

A step is plain values, so that the undo record holds all that taking it back needs. Taking back is
idempotent: it looks at what is there first, so it may run after a step that was never made, was
made halfway, or was taken back before.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from pydpdk.errors import HostError
from pydpdk.host.info import Host

PLACES = ("/sys/", "/proc/irq/", "/dev/huge")  # what a step may touch
NO_OVERRIDE = "(null)"  # how sysfs shows that driver_override is not set


class System(Host):
    """A host that can be changed: every change of this package goes through these four."""

    def write(self, name: str, text: str) -> None:
        """Write a kernel file as it is; OSError when the kernel refuses."""
        fd = os.open(self.path(name), os.O_WRONLY | os.O_TRUNC)  # never makes a file
        try:
            os.write(fd, text.encode())  # one write: sysfs takes each as a whole
        finally:
            os.close(fd)

    def mount(self, folder: str, option: str) -> None:
        """Mount hugetlbfs."""
        self.path(folder).mkdir(parents=True, exist_ok=True)
        _run("mount", "-t", "hugetlbfs", "-o", option, "none", str(self.path(folder)))

    def unmount(self, folder: str) -> None:
        _run("umount", str(self.path(folder)))

    def module(self, name: str, load: bool) -> None:
        """Load a kernel module, or unload it."""
        _run("modprobe", *([] if load else ["-r"]), name)


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    except FileNotFoundError as error:
        raise HostError(f"{command[0]} is not installed (apt-get install mount kmod)") from error
    except subprocess.CalledProcessError as error:
        raise HostError(f"{' '.join(command)}: {error.stderr.strip()}") from error
    except subprocess.TimeoutExpired as error:
        raise HostError(f"{' '.join(command)}: no answer in a minute") from error


@dataclass(frozen=True)
class Step:
    """``kind`` is one of KINDS; ``old`` and ``new`` are what it reads before and after.

    ``optional``: the kernel may refuse it (an interrupt that cannot move), and that is no failure.
    """

    kind: str
    path: str
    old: str
    new: str
    what: str
    optional: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Step:
        """A step out of an undo record; HostError for what no apply can have written."""
        try:
            step = cls(**values)
        except TypeError as error:
            raise HostError(f"undo record: no step: {values}") from error
        texts = (step.kind, step.path, step.old, step.new)
        if step.kind not in KINDS or not all(isinstance(text, str) for text in texts):
            raise HostError(f"undo record: unknown kind of step {step.kind!r}")
        if step.kind != "module" and (not step.path.startswith(PLACES) or ".." in step.path):
            raise HostError(f"undo record: {step.path} is none of ours")
        return step


# --- a file that holds one value: affinity, governor, a module's parameter ---


def _write(system: System, step: Step) -> None:
    system.write(step.path, step.new)


def _unwrite(system: System, step: Step) -> None:
    # Gone with its device or module: nothing is left to restore.
    if system.path(step.path).exists() and system.read(step.path) != step.old.strip():
        system.write(step.path, step.old)


# --- hugepages: the kernel takes any number, and gives what it can ---


def _hugepages(system: System, step: Step) -> None:
    system.write(step.path, step.new)
    got, wanted = system.number(step.path), int(step.new)
    if got < wanted:
        raise HostError(
            f"{step.what}: asked for {wanted}, the kernel gave {got}: memory is in pieces:"
            f" echo 1 > /proc/sys/vm/compact_memory, or at boot: hugepages={wanted}"
        )


def _unhugepages(system: System, step: Step) -> None:
    _unwrite(system, step)
    left = system.number(step.path)
    if left > int(step.old):
        raise HostError(f"{left} of {step.old.strip()} hugepages left: stop who uses them")


# --- hugetlbfs; old: "" or "made" (the folder was there, or is ours to remove) ---


def _mounted(system: System, folder: str) -> bool:
    mounts = (line.split() for line in system.read("/proc/mounts").splitlines())
    return any(parts[1:3] == [folder, "hugetlbfs"] for parts in mounts)


def _mount(system: System, step: Step) -> None:
    system.mount(step.path, step.new)


def _unmount(system: System, step: Step) -> None:
    if _mounted(system, step.path):
        system.unmount(step.path)
    if step.old == "made" and system.path(step.path).is_dir():
        system.path(step.path).rmdir()


# --- a kernel module ---


def loaded(system: Host, module: str) -> bool:
    return system.path(f"/sys/module/{module.replace('-', '_')}").exists()


def _load(system: System, step: Step) -> None:
    system.module(step.path, True)


def _unload(system: System, step: Step) -> None:
    if loaded(system, step.path):
        system.module(step.path, False)


# --- a PCI device's driver; path: its folder, old and new: the driver's name or "" ---
# driver_override makes drivers_probe take one driver for one device (ABI/testing/sysfs-bus-pci).


def _bind(system: System, step: Step) -> None:
    pci = step.path.rpartition("/")[2]
    system.write(f"{step.path}/driver_override", step.new)
    if system.link(f"{step.path}/driver"):
        system.write(f"{step.path}/driver/unbind", pci)
    system.write("/sys/bus/pci/drivers_probe", pci)
    if system.link(f"{step.path}/driver") != step.new:
        raise HostError(f"{step.new} did not take {pci}: dmesg | tail says why")


def _unbind(system: System, step: Step) -> None:
    pci = step.path.rpartition("/")[2]
    if system.read(f"{step.path}/driver_override") != NO_OVERRIDE:
        system.write(f"{step.path}/driver_override", "\n")
    if (now := system.link(f"{step.path}/driver")) == step.old:
        return
    if now:
        system.write(f"{step.path}/driver/unbind", pci)
    if step.old:
        system.write("/sys/bus/pci/drivers_probe", pci)
        if system.link(f"{step.path}/driver") != step.old:
            raise HostError(f"{step.old} did not take {pci} back: dmesg | tail says why")


Act = Callable[[System, Step], None]
KINDS: dict[str, tuple[Act, Act]] = {
    "write": (_write, _unwrite),
    "hugepages": (_hugepages, _unhugepages),
    "mount": (_mount, _unmount),
    "module": (_load, _unload),
    "driver": (_bind, _unbind),
}


def make(system: System, step: Step) -> None:
    """Change the host; HostError or OSError when it did not come about."""
    KINDS[step.kind][0](system, step)


def take_back(system: System, step: Step) -> None:
    """Bring back what was before the step, whatever became of it."""
    KINDS[step.kind][1](system, step)
