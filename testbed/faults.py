"""Faults in the network, not in the sender: eBPF at tc egress, nftables rules, a rate cap.

They are put at an end of a ``net.Wire`` and go with it. Packet sockets see frames before the
ingress hooks of their interface, so a fault that an AF_PACKET or AF_XDP receiver shall meet
belongs at the sender's egress. There nftables and the rate cap tell the sender of a drop (its
send fails with ENOBUFS, which the feeder's ledger counts as refused); the eBPF program does not.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address
from pathlib import Path
from struct import pack, unpack
from typing import Any

from testbed.net import End, Namespace, Wire, missing

SOURCE = Path(__file__).with_name("faults.bpf.c")
TC_EGRESS = 2  # enum bpf_tc_attach_point of libbpf
EEXIST = 17
RATES, COUNTS = "5I", "5Q"  # structs of faults.bpf.c
MILLION = 1_000_000
TABLE = "testbed"


class _Hook(ctypes.Structure):
    """struct bpf_tc_hook of libbpf."""

    _fields_ = [
        ("size", ctypes.c_size_t),
        ("ifindex", ctypes.c_int),
        ("attach_point", ctypes.c_int),
        ("parent", ctypes.c_uint32),
    ]


class _Options(ctypes.Structure):
    """struct bpf_tc_opts of libbpf."""

    _fields_ = [
        ("size", ctypes.c_size_t),
        ("prog_fd", ctypes.c_int),
        ("flags", ctypes.c_uint32),
        ("prog_id", ctypes.c_uint32),
        ("handle", ctypes.c_uint32),
        ("priority", ctypes.c_uint32),
    ]


@cache
def _libbpf() -> Any:
    try:
        library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError:
        raise OSError("needs libbpf.so.1: apt-get install libbpf1") from None
    for name in "open_mem", "find_program_by_name", "find_map_by_name":
        getattr(library, f"bpf_object__{name}").restype = ctypes.c_void_p
    library.libbpf_set_print(None)
    return library


@cache
def _program() -> bytes:
    """The object file, compiled once a process."""
    clang = shutil.which("clang")
    if clang is None:
        raise OSError("needs clang: apt-get install clang")
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "faults.o"
        machine = f"-I/usr/include/{os.uname().machine}-linux-gnu"  # asm/types.h on Debian
        flags = ["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-target", "bpf", machine]
        done = subprocess.run(
            [clang, *flags, "-c", SOURCE, "-o", output], capture_output=True, text=True, timeout=60
        )
        if done.returncode:
            raise OSError(f"clang cannot build {SOURCE.name}: {done.stderr.strip()}")
        return output.read_bytes()


@dataclass(frozen=True)
class Counts:
    """What the program did; ``seen`` frames contain the dropped ones and no copies.

    ``failed``: a frame too short to corrupt, or a copy that the kernel refused.
    """

    seen: int
    dropped: int
    corrupted: int
    duplicated: int
    failed: int


class Egress:
    """The eBPF program at an end's egress, as a context manager; rates may change while it runs.

    Rates are probabilities per frame, independent of each other. Only frames to ``group`` are
    struck if one is named. A corrupted frame has one bit of one byte at or behind
    ``corrupt_from`` turned: by default behind Ethernet, IPv4, UDP and MoldUDP64 headers.
    Raises OSError for what the kernel or the host lacks.
    """

    def __init__(self, end: End, **rates: Any) -> None:
        bpf = _libbpf()
        code = _program()
        self._object = bpf.bpf_object__open_mem(code, ctypes.c_size_t(len(code)), None)
        if not self._object:
            raise OSError(ctypes.get_errno(), "libbpf cannot open the program")
        try:
            _check(bpf.bpf_object__load(ctypes.c_void_p(self._object)), "load a program")
            self._rates, self._counts = self._map("rates"), self._map("counts")
            self.set(**rates)
            self._attach(end)
        except BaseException:
            self._free()
            raise

    def _map(self, name: str) -> int:
        bpf = _libbpf()
        found = bpf.bpf_object__find_map_by_name(ctypes.c_void_p(self._object), name.encode())
        return _check(bpf.bpf_map__fd(ctypes.c_void_p(found)), f"find map {name}")

    def _attach(self, end: End) -> None:
        bpf = _libbpf()
        program = bpf.bpf_object__find_program_by_name(ctypes.c_void_p(self._object), b"faults")
        fd = _check(bpf.bpf_program__fd(ctypes.c_void_p(program)), "find the program")
        self._end = end
        self._hook = _Hook(ctypes.sizeof(_Hook), end.index, TC_EGRESS, 0)
        self._options = _Options(ctypes.sizeof(_Options), fd, 0, 0, 1, 1)
        with end.namespace.inside():
            made = bpf.bpf_tc_hook_create(ctypes.byref(self._hook))
            if made != -EEXIST:
                _check(made, "make a clsact qdisc")
            attached = bpf.bpf_tc_attach(ctypes.byref(self._hook), ctypes.byref(self._options))
            _check(attached, "attach to tc egress")

    def set(
        self,
        *,
        drop: float = 0.0,
        corrupt: float = 0.0,
        duplicate: float = 0.0,
        corrupt_from: int = 62,
        group: str | None = None,
    ) -> None:
        """From the next frame on these rates, and 0 for those that are not named."""
        shares = (round(rate * MILLION) for rate in (drop, corrupt, duplicate))
        to = int.from_bytes(IPv4Address(group).packed, "little") if group else 0
        value = pack(RATES, *shares, corrupt_from, to)
        done = _libbpf().bpf_map_update_elem(
            self._rates, bytes(4), value, ctypes.c_uint64(0)
        )  # fmt: skip
        _check(done, "set rates")

    def counts(self) -> Counts:
        value = ctypes.create_string_buffer(8 * 5)
        _check(_libbpf().bpf_map_lookup_elem(self._counts, bytes(4), value), "read counters")
        return Counts(*unpack(COUNTS, value.raw))

    def close(self) -> None:
        """Frames pass as they are again; counts() is over. An end that is gone is fine."""
        if self._object:
            self._options.prog_fd = self._options.flags = self._options.prog_id = 0
            with self._end.namespace.inside():
                _libbpf().bpf_tc_detach(ctypes.byref(self._hook), ctypes.byref(self._options))
            self._free()

    def _free(self) -> None:
        _libbpf().bpf_object__close(ctypes.c_void_p(self._object))
        self._object = None

    def __enter__(self) -> Egress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check(code: int, what: str) -> int:
    if code < 0:
        raise OSError(-code, f"eBPF: cannot {what}: {os.strerror(-code)}")
    return code


class Rules:
    """nftables at an end's ``egress`` or ``ingress``, as a context manager.

    ``drop`` and ``duplicate`` are probabilities per frame, drawn one after the other: what is
    dropped is not duplicated. A copy at egress passes by the rules again. ``group`` and ``port``
    choose the frames, else it is every one. Raises OSError.
    """

    def __init__(
        self,
        end: End,
        *,
        drop: float = 0.0,
        duplicate: float = 0.0,
        hook: str = "egress",
        group: str | None = None,
        port: int | None = None,
    ) -> None:
        self.end = end
        match = (f"ip daddr {group} " if group else "") + (f"udp dport {port} " if port else "")
        rules = [f"{match}counter name seen"]
        for rate, counter, verdict in (
            (drop, "dropped", "drop"),
            (duplicate, "duplicated", f'dup to "{end.name}"'),
        ):
            if rate > 0:
                share = (
                    f"numgen random mod {MILLION} < {round(rate * MILLION)} " if rate < 1 else ""
                )
                rules.append(f"{match}{share}counter name {counter} {verdict}")
        counters = [f"counter {name} {{ }}" for name in ("seen", "dropped", "duplicated")]
        chain = f'type filter hook {hook} device "{end.name}" priority 0'
        self._nft(
            ["--file", "-"],
            "\n".join(
                [f"table netdev {TABLE} {{", *counters, "chain faults {", chain, *rules, "}", "}"]
            ),
        )

    def counts(self) -> dict[str, int]:
        """Frames ``seen``, ``dropped`` and ``duplicated``."""
        listed = json.loads(self._nft(["--json", "list", "table", "netdev", TABLE]))["nftables"]
        counters = (item["counter"] for item in listed if "counter" in item)
        return {counter["name"]: counter["packets"] for counter in counters}

    def close(self) -> None:
        """Frames pass as they are again."""
        self._nft(["delete", "table", "netdev", TABLE])

    def __enter__(self) -> Rules:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _nft(self, arguments: list[str], script: str = "") -> str:
        return _tool(self.end.namespace, ["nft", *arguments], "nftables", script)


class RateCap:
    """At most so much leaves an end (tbf), as a context manager; ``limit_bytes`` may wait.

    A sender waits too, instead of losing, if its socket's buffer is smaller than that.
    """

    def __init__(self, end: End, *, kilobits: int, burst_bytes: int, limit_bytes: int) -> None:
        self.end = end
        shape = f"rate {kilobits}kbit burst {burst_bytes} limit {limit_bytes}".split()
        self._tc("add", ["tbf", *shape])

    def dropped(self) -> int:
        """Frames for which there was no room to wait."""
        command = ["tc", "-s", "-j", "qdisc", "show", "dev", self.end.name, "root"]
        return int(json.loads(_tool(self.end.namespace, command, "iproute2"))[0]["drops"])

    def close(self) -> None:
        """The full rate again."""
        self._tc("del", [])

    def __enter__(self) -> RateCap:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tc(self, verb: str, rest: list[str]) -> None:
        command = ["tc", "qdisc", verb, "dev", self.end.name, "root", *rest]
        _tool(self.end.namespace, command, "iproute2")


def _tool(namespace: Namespace, command: list[str], package: str, text: str = "") -> str:
    if shutil.which(command[0]) is None:
        raise OSError(f"needs {command[0]}: apt-get install {package}")
    done = namespace.run(command, input=text, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def available() -> dict[str, str]:
    """For each kind of fault nothing, or why it cannot be had here."""
    if lacking := missing():
        return dict.fromkeys(PROBES, f"needs {lacking}")
    reasons = {}
    for name, probe in PROBES.items():
        with Namespace() as a, Namespace() as b, Wire(a, b) as wire:
            try:
                probe(wire.a).close()
                reasons[name] = ""
            except OSError as error:
                reasons[name] = str(error)
    return reasons


PROBES: dict[str, Callable[[End], Egress | Rules | RateCap]] = {
    "bpf": Egress,
    "nft drop": lambda end: Rules(end, drop=0.5),
    "nft duplicate": lambda end: Rules(end, duplicate=0.5),
    "nft ingress": lambda end: Rules(end, drop=0.5, hook="ingress"),
    "rate cap": lambda end: RateCap(end, kilobits=8000, burst_bytes=3000, limit_bytes=30_000),
}
