"""Network namespaces and veth pairs that leave nothing behind.

A namespace here has no name in the file system: it lives as long as a descriptor of it, a process
or a thread inside it does. So the end of the process that made it is its end, and that of every
interface in it, even by SIGKILL; there are no leftovers to look for. Another program reaches it by
``Namespace.path``, for example ``nsenter --net=PATH tcpdump``.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from struct import pack
from types import TracebackType
from typing import Any, Self

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

CLONE_NEWNET = 0x40000000
SIOCETHTOOL = 0x8946
# ethtool's set commands: rx and tx checksum, scatter-gather, TSO, GSO, GRO (linux/ethtool.h).
OFFLOADS = (0x15, 0x17, 0x19, 0x1F, 0x24, 0x2C)
CARRIER_SECONDS = 5.0  # the kernel's link watch acts once a second
THREAD_NET = "/proc/thread-self/ns/net"

_libc = ctypes.CDLL(None, use_errno=True)


def _call(function: str, *args: int) -> None:
    if getattr(_libc, function)(*args) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{function}: {os.strerror(code)}")


def missing() -> str:
    """Why no wire can be made here, or nothing."""
    try:
        with Namespace() as a, Namespace() as b, Wire(a, b):
            return ""
    except (OSError, NetlinkError) as error:
        return f"network namespaces with veth (root, or `unshare -Urn`): {error}"


class Namespace:
    """A fresh network namespace as a context manager; on leaving, processes inside are killed.

    Loopback is up, and interfaces that come into it have no IPv6: no router solicitations and no
    duplicate address detection among the frames of a test. Raises OSError without the rights.
    """

    def __init__(self) -> None:
        with _returning():
            _call("unshare", CLONE_NEWNET)
            self.fd = os.open(THREAD_NET, os.O_RDONLY | os.O_CLOEXEC)
            with suppress(FileNotFoundError):  # a kernel without IPv6
                Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
        with self.netlink() as ip:
            ip.link("set", index=1, state="up")

    @property
    def path(self) -> str:
        """For nsenter --net=, while this process lives."""
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread is in the namespace: sockets it opens stay there for good."""
        with _returning():
            _call("setns", self.fd, CLONE_NEWNET)
            yield

    @contextmanager
    def netlink(self) -> Iterator[IPRoute]:
        """A netlink socket inside. One for each use: pyroute2 opens another for each thread that
        comes by, in the namespace of that thread."""
        with self.inside(), IPRoute() as ip:
            yield ip

    def popen(self, command: Sequence[object], **options: Any) -> subprocess.Popen[Any]:
        """A process inside; it is killed when the thread that started it ends, however it ends."""
        enter = ["nsenter", f"--net={self.path}", "setpriv", "--pdeathsig", "KILL", "--"]
        return subprocess.Popen([*enter, *map(str, command)], **options)

    def run(self, command: Sequence[object], **options: Any) -> subprocess.CompletedProcess[str]:
        """A process inside, to its end (60 seconds unless ``timeout`` is given), output captured.

        Raises CalledProcessError if it fails, unless ``check`` is false.
        """
        enter = ["nsenter", f"--net={self.path}", "--"]
        options = {"check": True, "capture_output": True, "text": True, "timeout": 60} | options
        return subprocess.run([*enter, *map(str, command)], **options)

    def processes(self) -> list[int]:
        """Ids of the processes inside."""
        here, inode = os.getpid(), os.fstat(self.fd).st_ino
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                inside = entry.name.isdigit() and (entry / "ns/net").stat().st_ino == inode
                if inside and int(entry.name) != here:
                    found.append(int(entry.name))
        return found

    def close(self) -> None:
        """Kill what runs inside and let go of the namespace; a second call does nothing."""
        if self.fd < 0:
            return
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.close(self.fd)
        self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()


@contextmanager
def _returning() -> Iterator[None]:
    """The calling thread comes back to the namespace it is in now."""
    here = os.open(THREAD_NET, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        try:
            if os.stat(THREAD_NET).st_ino != os.fstat(here).st_ino:
                _call("setns", here, CLONE_NEWNET)
        finally:
            os.close(here)


class Here(Namespace):
    """The namespace that the calling thread is in: for a wire with one end in it.

    Closing lets go of it and kills nothing.
    """

    def __init__(self) -> None:
        self.fd = os.open(THREAD_NET, os.O_RDONLY | os.O_CLOEXEC)

    def processes(self) -> list[int]:
        return []


class End:
    """One end of a wire: an interface in a namespace."""

    def __init__(self, namespace: Namespace, name: str) -> None:
        self.namespace = namespace
        self.name = name
        with namespace.netlink() as ip:
            self.index: int = ip.link_lookup(ifname=name)[0]

    def up(self) -> None:
        """Administratively up; returns when it carries, or at once if the other end is down."""
        until = time.monotonic() + CARRIER_SECONDS
        with self.namespace.netlink() as ip:
            ip.link("set", index=self.index, state="up")
            while not self._settled(ip) and time.monotonic() < until:
                time.sleep(0.002)

    def down(self) -> None:
        """Administratively down; the other end loses its carrier."""
        with self.namespace.netlink() as ip:
            ip.link("set", index=self.index, state="down")

    def remove(self) -> None:
        """Take the interface away, and its peer with it, whoever uses them."""
        with self.namespace.netlink() as ip:
            ip.link("del", index=self.index)

    def address(self, address: str) -> None:
        """Add an address such as ``10.77.0.1/24``."""
        host, _, length = address.partition("/")
        with self.namespace.netlink() as ip:
            ip.addr("add", index=self.index, address=host, prefixlen=int(length or 32))

    def multicast(self) -> None:
        """Route 224.0.0.0/4 to this end, for kernel sockets that send to a group or join one."""
        with self.namespace.netlink() as ip:
            ip.route("replace", dst="224.0.0.0/4", oif=self.index)

    def statistics(self) -> dict[str, int]:
        """The kernel's counters: rx_packets, tx_packets, rx_dropped, rx_bytes and so on."""
        with self.namespace.netlink() as ip:
            return dict(ip.get_links(self.index)[0].get_attr("IFLA_STATS64"))

    def plain(self) -> None:
        """Offloads off: frames cross with real checksums, as long as they were sent."""
        with self.namespace.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            for command in OFFLOADS:
                value = ctypes.create_string_buffer(pack("II", command, 0))
                request = pack("16sP", self.name.encode(), ctypes.addressof(value))
                with suppress(OSError):  # fixed on some kernels, and then off
                    fcntl.ioctl(control, SIOCETHTOOL, request)

    def _settled(self, ip: IPRoute) -> bool:
        """Without carrier, or with it and no more waiting to be told so."""
        link = ip.get_links(self.index)[0]
        return not link.get_attr("IFLA_CARRIER") or link.get_attr("IFLA_OPERSTATE") == "UP"


class Wire:
    """A veth pair from namespace ``a`` to ``b`` as a context manager, up and without offloads.

    ``addresses`` are those of the ends, such as ``("10.77.0.1/24", "10.77.0.2/24")``: with them
    the ends also carry multicast of kernel sockets. Raises OSError without rights.
    """

    def __init__(
        self,
        a: Namespace,
        b: Namespace,
        *,
        names: tuple[str, str] = ("a0", "b0"),
        mtu: int = 1500,
        addresses: tuple[str, str] | None = None,
    ) -> None:
        peer = {"ifname": names[1], "net_ns_fd": b.path, "mtu": mtu}
        with a.netlink() as ip:
            ip.link("add", ifname=names[0], kind="veth", mtu=mtu, peer=peer)
        self.a, self.b = End(a, names[0]), End(b, names[1])
        try:
            self._start(addresses)
        except BaseException:
            self.close()
            raise

    def _start(self, addresses: tuple[str, str] | None) -> None:
        for end in (self.a, self.b):
            end.plain()
        self.up()
        for end, address in zip((self.a, self.b), addresses or (), strict=bool(addresses)):
            end.address(address)
            end.multicast()

    def up(self) -> None:
        """Both ends up; returns when the wire carries."""
        for end in (self.a, self.b, self.a):  # the first has no carrier before the second is up
            end.up()

    def down(self) -> None:
        """Both ends down."""
        self.a.down()
        self.b.down()

    def flap(self, seconds: float) -> None:
        """Down for so long, then up."""
        self.down()
        time.sleep(seconds)
        self.up()

    def close(self) -> None:
        """Remove the pair; none is left is fine."""
        with suppress(NetlinkError, OSError, IndexError):
            self.a.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()
