"""Wires of a kind, the processes at their ends, and testpmd as one of them."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

from pydpdk.errors import HostError
from pydpdk.source.requirements import Wish
from pydpdk.source.source import parse

ANSWER_S = 30.0
PROMPT = b"testpmd> "
TESTPMD = ("dpdk-testpmd", "testpmd")
MISSING = "testpmd is not installed: apt install dpdk-dev"
SAFE = {"PYTHONSAFEPATH": "1"}  # `-m` would look for modules in the current folder first
Popen = subprocess.Popen[bytes]
SENDS = {"null": "", "ring": "", "memif": "memif", "af_packet": "tpacket", "af_xdp": "tpacket",
         "tpacket": "tpacket"}  # fmt: skip


class Wires:
    """``count`` wires of one kind as a context manager; nothing of them is left afterwards.

    HostError where the host cannot have them.
    """

    def __init__(self, kind: str, count: int) -> None:
        self.kind = kind
        self._stack = ExitStack()
        self.ends: tuple[Any, Any] = (None, None)  # namespaces of senders and receivers
        try:
            if SENDS[kind] == "tpacket":
                self.ends = self._namespaces(count)
            self._folder = self._stack.enter_context(tempfile.TemporaryDirectory())
        except BaseException:
            self._stack.close()
            raise

    def _namespaces(self, count: int) -> tuple[Any, Any]:
        try:
            from testbed.net import Namespace, Wire, missing
        except ImportError as error:
            raise HostError(f"{error}: pip install 'pydpdk[testbed]'") from error
        if lacking := missing():
            raise HostError(f"needs {lacking}")
        a, b = (self._stack.enter_context(Namespace()) for _ in "ab")
        for i in range(count):
            addresses = (f"10.77.{i}.1/24", f"10.77.{i}.2/24")
            wire = Wire(a, b, names=(f"a{i}", f"b{i}"), addresses=addresses)
            self._stack.enter_context(wire)
        return a, b

    def sender(self, i: int) -> str:
        """The source that the sender of wire ``i`` opens."""
        return self._memif(i, "server") if self.kind == "memif" else f"tpacket:a{i}"

    def receiver(self, i: int) -> str:
        if self.kind == "memif":
            return self._memif(i, "client")
        named = {"null": "null:size=64", "ring": "ring:"}
        return named.get(self.kind, f"{self.kind}:b{i}")

    def _memif(self, i: int, role: str) -> str:
        return f"memif:role={role},id={i},socket={self._folder}/{i},socket-abstract=no"

    def vdev(self, i: int) -> str:
        """The receiver's for testpmd, with the same arguments as ours."""
        description = parse(self.receiver(i).replace("tpacket:", "af_packet:"))
        kind, argument, more = description.kind, description.argument, ""
        if self.ends[1]:
            with self.ends[1].inside():
                more = kind.shape(argument, Wish(1, None, 64)).more
            argument = f"{kind.key}={argument}"
        return f"{kind.driver}0,{argument}{more}"

    def popen(self, end: int, command: Sequence[object], **options: Any) -> Popen:
        """A process at the sending (0) or receiving (1) end of all wires."""
        if self.ends[end]:
            process: Popen = self.ends[end].popen(command, **options)
            return process
        dies = ["setpriv", "--pdeathsig", "KILL", "--"]
        return subprocess.Popen([*dies, *map(str, command)], **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


class Refused(HostError):
    """A process lives and says that it cannot."""


class Told:
    """A process that is told in lines of JSON and answers so, as a context manager."""

    def __init__(
        self,
        popen: Callable[..., Popen],
        command: Sequence[object],
        answer_s: float = ANSWER_S,
        env: dict[str, str] | None = None,
        **options: Any,
    ) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._heard = b""
        self._answer_s = answer_s
        self.process = popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
            env=os.environ | SAFE | (env or {}), **options,
        )  # fmt: skip

    def begin(self, do: str, **arguments: Any) -> None:
        """Returns when it is about to do it."""
        self._tell(do, arguments)
        self._hear()

    def end(self) -> dict[str, Any]:
        """The answer to what it began."""
        return self._hear()

    def heard(self, seconds: float) -> bool:
        """Whether it answers, or ends, within that time."""
        assert self.process.stdout
        return b"\n" in self._heard or bool(
            select.select([self.process.stdout], [], [], seconds)[0]
        )

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        self._tell(do, arguments)
        answer = self._hear()
        return self._hear() if "ready" in answer else answer

    def _tell(self, do: str, arguments: dict[str, Any]) -> None:
        assert self.process.stdin
        with suppress(BrokenPipeError):  # it is gone: heard next
            self.process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self.process.stdin.flush()

    def _hear(self) -> dict[str, Any]:
        assert self.process.stdout
        deadline = time.monotonic() + self._answer_s
        while b"\n" not in self._heard and (part := _read(self.process.stdout.fileno(), deadline)):
            self._heard += part
        line, newline, self._heard = self._heard.partition(b"\n")
        if not newline:
            raise HostError(f"a process of the benchmark {self._fate(deadline)}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin
        assert self.process.stdout
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        _finish(self.process)
        self.process.stdout.close()
        self._log.close()

    def _fate(self, deadline: float) -> str:
        """Why it says nothing, with the last line of its log."""
        how = f"did not answer in {self._answer_s:.0f} s"
        if time.monotonic() < deadline:
            how = f"ended with {_finish(self.process)}"
        self._log.seek(0)
        return f"{how}: {''.join(self._log.read().decode(errors='replace').splitlines()[-1:])}"


class Worker(Told):
    """A ``pydpdk.bench.wires.agent`` at an end of the wires."""

    def __init__(self, wires: Wires, end: int, core: int, fds: Sequence[int] = ()) -> None:
        command = [sys.executable, "-m", "pydpdk.bench.wires.agent", core]
        super().__init__(partial(wires.popen, end), command, pass_fds=fds)


def which() -> str | None:
    """Where testpmd is."""
    return next(filter(None, map(shutil.which, TESTPMD)), None)


class Testpmd:
    """``dpdk-testpmd`` receiving from a device and freeing, on the second of two cores."""

    __test__ = False  # for pytest, which goes by the name

    def __init__(self, wires: Wires, vdev: str, cores: Sequence[int]) -> None:
        if (program := which()) is None:
            raise HostError(MISSING)
        self._tty, theirs = pty.openpty()
        prefix = f"--file-prefix=pydpdk-bench-{os.getpid()}"
        self.process = wires.popen(
            1,
            [program, "--no-huge", "--no-shconf", "--no-pci", "--no-telemetry", "-m", 512, prefix,
             f"--lcores=0@{cores[0]},1@{cores[-1]}", f"--vdev={vdev}", "--", "-i",
             "--forward-mode=rxonly", "--record-core-cycles", "--burst=64", "--no-flush-rx",
             "--rxd=1024", "--txd=512", "--total-num-mbufs=8192"],
            stdin=theirs, stdout=theirs, stderr=theirs,
        )  # fmt: skip
        os.close(theirs)
        try:
            self._prompt()
        except BaseException:
            self.__exit__()
            raise

    def start(self) -> None:
        os.write(self._tty, b"start\n")
        self._prompt()

    def stop(self) -> tuple[float, int]:
        """ns a packet in polls that received something, and the packets."""
        os.write(self._tty, b"stop\n")
        told = self._prompt()
        found = re.search(r"cycles/packet=.*cycles=(\d+) /.*packets=(\d+)\) at (\d+) MHz", told)
        if found is None:
            raise HostError(f"testpmd received nothing: {told[-300:]!r}")
        cycles, packets, mhz = map(int, found.groups())
        return cycles * 1e3 / mhz / packets, packets

    def _prompt(self) -> str:
        text, deadline = b"", time.monotonic() + ANSWER_S
        while not text.endswith(PROMPT):
            if not (part := _read(self._tty, deadline)):
                raise HostError(f"testpmd ended or did not answer: {text[-300:].decode()!r}")
            text += part
        return text.decode(errors="replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            os.write(self._tty, b"quit\n")
        _finish(self.process)
        os.close(self._tty)
        base = Path("/var/run/dpdk" if os.getuid() == 0 else "/tmp/dpdk")
        with suppress(OSError):
            (base / f"pydpdk-bench-{os.getpid()}").rmdir()


def _read(fd: int, deadline: float) -> bytes:
    """What is there; b"" at the deadline, or when the other side is gone."""
    left = max(0.0, deadline - time.monotonic())
    with suppress(OSError):  # EIO of a terminal
        return os.read(fd, 1 << 16) if select.select([fd], [], [], left)[0] else b""
    return b""


def _finish(process: Popen) -> int:
    """Its exit code, soon."""
    try:
        return process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
