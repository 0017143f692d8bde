"""A virtual machine with emulated PCI NICs behind an emulated IOMMU.

It boots a stock Debian kernel under QEMU over this host's own file system, read-only with a layer
in RAM, so that the same build, venv and checkout run there. No root and no KVM is needed::

    with VirtualMachine(nics=["e1000e"]) as vm:
        reader = vm.popen([sys.executable, "reader.py", vm.nics[0].pci])
        vm.nics[0].wire.send(frames, pps=2000)
        assert reader.wait(timeout=30) == 0
        print(reader.out)

A command runs as a file in a folder that host and guest share; a virtio-serial port carries one
line to start or signal it, and one line each when it started and exited.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import shlex
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL
from typing import Self

from testbed import vm_kernel
from testbed.dgram import Wire
from testbed.vm_kernel import Kernel, Missing
from testbed.vm_qemu import DRIVERS, FIRST_SLOT, KINDS, Nic, accelerator, machine, netdev, shared

log = logging.getLogger(__name__)


class VirtualMachineError(RuntimeError):
    """The guest did not boot, died, or hung; the message ends with its console."""


@dataclass(frozen=True)
class Done:
    """A finished command; a signal's exit code is 128 + its number, as a shell says it."""

    code: int
    out: str
    err: str


def require() -> Kernel:
    """The guest's kernel, fetched when need be. Missing names what this host lacks."""
    vm_kernel.program("qemu-system-x86_64", "qemu-system-x86")
    vm_kernel.program("setpriv", "util-linux")
    vm_kernel.program("busybox", "busybox-static")
    return vm_kernel.kernel()


class Process:
    """A command in the guest."""

    def __init__(self, vm: VirtualMachine, name: str) -> None:
        self._vm, self._name = vm, name

    @property
    def pid(self) -> int:
        """In the guest; it leads a session of its own."""
        return self._vm._await(self._vm._pids, self._name, 30)

    @property
    def out(self) -> str:
        """stdout so far."""
        return self._read("out")

    @property
    def err(self) -> str:
        return self._read("err")

    def _read(self, suffix: str) -> str:
        path = self._vm.directory / "run" / f"{self._name}.{suffix}"
        return path.read_text(errors="replace") if path.exists() else ""

    def poll(self) -> int | None:
        """Exit code, None while it runs."""
        self._vm._pump(0)
        return self._vm._codes.get(self._name)

    def wait(self, timeout: float) -> int:
        """Exit code. TimeoutError, with what it printed, when it still runs then."""
        try:
            return self._vm._await(self._vm._codes, self._name, timeout)
        except TimeoutError:
            tail = (self.out + self.err)[-2000:]
            raise TimeoutError(f"still running after {timeout:g} s; printed:\n{tail}") from None

    def send_signal(self, number: signal.Signals) -> None:
        self._vm._say(f"kill {number.value} {self.pid}")

    def kill(self) -> None:
        """SIGKILL to it and all that it started."""
        self._vm._say(f"kill 9 -{self.pid}")


class VirtualMachine:
    """Boots in ``with``, and leaves no process, socket or file behind.

    `driver` is what NICs are bound to in the guest: "vfio-pci", "uio_pci_generic", "kernel" (their
    own driver, so they are interfaces), or None. `hugepages` are of 2 MiB. `directory` is kept
    when it is given: `scratch`, the console's log and the output of commands lie in it.

    Missing: the host lacks something. VirtualMachineError: it did not boot in `boot_timeout` s.
    """

    def __init__(
        self,
        nics: Sequence[str] = ("e1000e",),
        driver: str | None = "vfio-pci",
        memory_mb: int = 1024,
        *,
        hugepages: int = 272,
        cpus: int = 2,
        directory: Path | None = None,
        boot_timeout: float = 90.0,
    ) -> None:
        self._driver = driver or "none"
        if self._driver not in DRIVERS or (unknown := set(nics) - set(KINDS)):
            raise ValueError(f"driver {driver!r} of {DRIVERS}, NICs {unknown} of {list(KINDS)}")
        self._kinds, self._memory_mb, self._cpus = nics, memory_mb, cpus
        self._hugepages, self._boot_timeout = hugepages, boot_timeout
        self._given = directory
        self._names = map(str, itertools.count())
        self._pids: dict[str, int] = {}
        self._codes: dict[str, int] = {}
        self._heard = b""

    # --- from boot to end ---

    def __enter__(self) -> Self:
        with ExitStack() as until_booted:
            self._boot(until_booted)
            self._leaving = until_booted.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.close()

    def _boot(self, leaving: ExitStack) -> None:
        kernel = require()
        self.accelerator, self.accelerator_reason = accelerator(kernel)
        log.warning("the guest runs under %s: %s", self.accelerator, self.accelerator_reason)
        self.directory = self._folder(leaving)
        self.nics = [self._nic(i, kind, leaving) for i, kind in enumerate(self._kinds)]
        modules = (*vm_kernel.MODULES, *(vm_kernel.NET_MODULES if self._driver == "kernel" else ()))
        initramfs = self.directory / "initramfs"
        leaving.callback(initramfs.unlink, missing_ok=True)
        initramfs.write_bytes(vm_kernel.initramfs(kernel, modules))
        self._start(kernel, leaving)
        try:
            self._await(self._codes, "boot", self._boot_timeout)
        except TimeoutError:
            raise VirtualMachineError(self._story("did not boot in time")) from None

    def _folder(self, leaving: ExitStack) -> Path:
        path = self._given or leaving.enter_context(
            tempfile.TemporaryDirectory(prefix="pydpdk-vm-")
        )
        directory = Path(path).resolve()
        if not re.fullmatch(r"[\w./+-]+", str(directory), flags=re.A):
            raise ValueError(f"{directory}: not a path that a kernel command line can carry")
        for name in "run", "scratch":
            (directory / name).mkdir(parents=True, exist_ok=True)
        return directory

    def _nic(self, index: int, kind: str, leaving: ExitStack) -> Nic:
        wire = leaving.enter_context(Wire())
        return Nic(kind, f"0000:00:{FIRST_SLOT + index:02x}.0", f"52:54:00:00:00:{index:02x}", wire)

    def _start(self, kernel: Kernel, leaving: ExitStack) -> None:
        self._control, far = socket.socketpair()
        leaving.enter_context(self._control)
        fds = [far.fileno(), *(nic.wire.far.fileno() for nic in self.nics)]
        with far, Path(self.directory, "qemu.log").open("w") as log:
            self._qemu = subprocess.Popen(
                self._command(kernel, far), pass_fds=fds, stdin=DEVNULL, stdout=log, stderr=log
            )
        leaving.callback(self._end)
        for nic in self.nics:
            nic.wire.far.close()  # now QEMU's alone: a send after its end fails

    def _end(self) -> None:
        self._qemu.kill()  # nothing in the guest outlives it: shared files are written through
        self._qemu.wait(10)

    def _command(self, kernel: Kernel, control: socket.socket) -> list[str]:
        return [
            *machine(self.accelerator),
            *("-m", str(self._memory_mb), "-smp", str(self._cpus)),
            *("-serial", f"file:{self.directory}/console.log"),
            *shared("root", "/", "readonly=on"),
            *shared("shared", str(self.directory), "readonly=off"),
            *("-device", "virtio-serial-pci", "-chardev", f"socket,id=c,fd={control.fileno()}"),
            *("-device", "virtserialport,chardev=c,name=control"),
            *(part for i, nic in enumerate(self.nics) for part in netdev(i, nic)),
            *("-kernel", str(kernel.image), "-initrd", f"{self.directory}/initramfs"),
            *("-append", self._kernel_arguments()),
        ]

    def _kernel_arguments(self) -> str:
        nics = ",".join(nic.pci for nic in self.nics)
        return (
            "console=ttyS0 quiet panic=-1 intel_iommu=on iommu=pt"
            f" VM_DIRECTORY={self.directory} VM_DRIVER={self._driver}"
            f" VM_HUGEPAGES={self._hugepages} VM_NICS={nics}"
        )

    # --- commands ---

    @property
    def scratch(self) -> Path:
        """A folder that host and guest share for writing, at the same path in both."""
        return self.directory / "scratch"

    @property
    def console(self) -> str:
        """What QEMU and the guest's kernel printed."""
        logs = (self.directory / name for name in ("qemu.log", "console.log"))
        return "".join(log.read_text(errors="replace") for log in logs if log.exists())

    def popen(
        self,
        command: str | Sequence[str],
        *,
        cwd: str | Path = "/",
        env: Mapping[str, str] | None = None,
    ) -> Process:
        """Start argv, or a command line for bash, as root in the guest."""
        argv = ["/bin/bash", "-c", command] if isinstance(command, str) else list(command)
        variables = {"PATH": os.environ["PATH"], "HOME": "/root", "LANG": "C.UTF-8", **(env or {})}
        lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
        lines += [f"cd {shlex.quote(str(cwd))} || exit 126", f"exec {shlex.join(argv)}"]
        name = next(self._names)
        (self.directory / "run" / f"{name}.sh").write_text("\n".join(lines) + "\n")
        self._say(f"run {name}")
        return Process(self, name)

    def run(
        self,
        command: str | Sequence[str],
        *,
        timeout: float = 120.0,
        cwd: str | Path = "/",
        env: Mapping[str, str] | None = None,
    ) -> Done:
        """Run a command to its end; after `timeout` s it is killed. TimeoutError says so."""
        process = self.popen(command, cwd=cwd, env=env)
        try:
            return Done(process.wait(timeout), process.out, process.err)
        except TimeoutError:
            process.kill()
            raise

    # --- the control line ---

    def _say(self, line: str) -> None:
        self._control.settimeout(10)
        self._control.sendall(f"{line}\n".encode())

    def _pump(self, timeout: float) -> None:
        """Take in what the guest says within `timeout` s."""
        self._control.settimeout(max(timeout, 1e-6))
        try:
            heard = self._control.recv(4096)
        except TimeoutError:
            return
        if not heard:
            raise VirtualMachineError(self._story("died"))
        *lines, self._heard = (self._heard + heard).split(b"\n")
        for line in lines:
            self._hear(line.decode().split())

    def _hear(self, words: list[str]) -> None:
        match words:
            case ["started", name, pid]:
                self._pids[name] = int(pid)
            case ["exited", name, code]:
                self._codes[name] = int(code)
            case _:
                raise VirtualMachineError(self._story(f"said {words}"))

    def _await(self, table: dict[str, int], name: str, timeout: float) -> int:
        until = time.monotonic() + timeout
        while name not in table:
            if (left := until - time.monotonic()) <= 0:
                raise TimeoutError
            self._pump(left)
        return table[name]

    def _story(self, what: str) -> str:
        tail = "\n".join(self.console.replace("\r", "").splitlines()[-40:])
        return f"the guest ({self.accelerator}) {what}; its console:\n{tail}"


__all__ = ["Done", "Missing", "Nic", "Process", "VirtualMachine", "VirtualMachineError", "require"]
