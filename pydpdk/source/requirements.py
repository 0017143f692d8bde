"""What a source needs of the host, checked before DPDK runs: each refusal names its remedy."""

from __future__ import annotations

import fcntl
import re
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

from pydpdk.core.utc import Utc
from pydpdk.errors import DataError, HostError, UsageError
from pydpdk.source import eal

RING_MB = 16  # of an AF_PACKET ring: 8,192 frames of 2 kB


@dataclass(frozen=True)
class Wish:
    """What a port is asked for."""

    queues: int = 1
    mtu: int | None = None  # None: the interface's or the device's own
    rx_ring_mb: int = RING_MB
    clock: Utc | None = None  # that stamps bursts; None: the host's
    promiscuous: bool = False


@dataclass(frozen=True)
class Shape:
    """What a driver is given for a wish."""

    more: str = ""  # device arguments
    mbuf: int = 2048  # bytes that one mbuf must hold
    mtu: int = 0  # 0: the device's
    cut_at: int = 0  # frames of this length and more were cut by the driver; 0: none is
    interface: str = ""  # that the driver reads from, when it exists before the port does


def plain_file(name: str) -> None:
    if not name:
        raise UsageError("no file name after the prefix")
    if not Path(name).exists():
        raise DataError("no such file")
    if not Path(name).is_file():
        raise DataError("not a regular file")
    try:
        Path(name).open("rb").close()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}") from error


def _ioctl(request: int, name: str) -> int:
    """The 32-bit answer of a SIOCGIF* request."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, request, struct.pack("16s16x", name.encode()))
    return int(struct.unpack_from("i", answer, 16)[0])


_SIOCGIFFLAGS, _SIOCGIFMTU, _IFF_UP = 0x8913, 0x8921, 1


def _interface_name(name: str) -> None:
    if not re.fullmatch(r"[\w.@-]{1,15}", name):
        raise UsageError(f"{name!r} is no interface name: 1 to 15 letters, digits, '.', '_', '-'")


def interface(name: str) -> None:
    _interface_name(name)
    existing = [found for _, found in socket.if_nameindex()]
    if name not in existing:
        raise HostError(f"no interface {name!r}: there are {', '.join(existing)} (ip link)")
    if not _ioctl(_SIOCGIFFLAGS, name) & _IFF_UP:
        raise HostError(f"interface {name} is down: ip link set {name} up")


XDP_MTU = 1700  # measured with 2 kB mbufs: 1,700 passes, 3,400 loses every frame in silence


def xdp_interface(name: str) -> None:
    interface(name)
    if (mtu := _ioctl(_SIOCGIFMTU, name)) > XDP_MTU:
        raise HostError(
            f"MTU {mtu}: AF_XDP would lose frames in silence: ip link set {name} mtu {XDP_MTU},"
            f" or use af_packet:{name}"
        )


def tap(name: str) -> None:
    _interface_name(name)
    if not Path("/dev/net/tun").exists():
        raise HostError("no /dev/net/tun: modprobe tun")


def device_arguments(text: str) -> None:
    for part in filter(None, text.split(",")):
        if not re.fullmatch(r"[\w-]+=\S+", part):
            raise UsageError(f"{part!r}: device arguments are key=value,key=value")


def pci(address: str) -> None:
    eal.arguments(eal.Options(pci=(address,)))
    device = Path("/sys/bus/pci/devices", address)
    if not device.exists():
        raise HostError(f"no PCI device {address}: dpdk-devbind.py --status-dev net lists them")
    if not re.fullmatch(r"vfio.*|.*uio.*|mlx[45]_core", (device / "driver").resolve().name):
        raise HostError(f"{address} belongs to the kernel: dpdk-devbind.py -b vfio-pci {address}")


def plain_shape(_: str, wish: Wish) -> Shape:
    return Shape(mtu=wish.mtu or 0)


PACKET_HEADERS = 66  # TPACKET2_HDRLEN and its padding before an Ethernet frame in the ring


def packet_ring(name: str, wish: Wish) -> Shape:
    """net_af_packet cuts what does not fit its ring's frames: they fit the MTU.

    TPACKET2 headers, Ethernet and two VLAN tags come on top: 128 bytes hold them.
    """
    size, mtu = 2048, wish.mtu or _ioctl(_SIOCGIFMTU, name)
    while size < min(mtu + 128, 32768):
        size *= 2
    count = (wish.rx_ring_mb << 20) // size
    ring = f",blocksz=65536,framesz={size},framecnt={count},qpairs={wish.queues}"
    return Shape(ring, size, min(mtu, size - 128), size - PACKET_HEADERS, name)


def tpacket_shape(name: str, wish: Wish) -> Shape:
    return Shape(mtu=wish.mtu or _ioctl(_SIOCGIFMTU, name), interface=name)


def xdp_shape(name: str, wish: Wish) -> Shape:
    mtu = min(wish.mtu or _ioctl(_SIOCGIFMTU, name), XDP_MTU)
    return Shape(f",queue_count={wish.queues}", mtu=mtu, interface=name)


def interface_counters(name: str) -> dict[str, int] | None:
    """The kernel's counters of an interface; None when this namespace has none of that name."""
    heads, *lines = Path("/proc/thread-self/net/dev").read_text().splitlines()[1:]
    _, *columns = heads.split("|")
    names = [f"{way}_{name}" for way, part in zip(("rx", "tx"), columns, strict=True)
             for name in part.split()]  # fmt: skip
    figures = {line.partition(":")[0].strip(): line.partition(":")[2].split() for line in lines}
    if name not in figures:
        return None
    told = dict(zip(names, map(int, figures[name]), strict=True))
    return {_LONG.get(name, name): value for name, value in told.items()}


# As ip -s link calls them; rx_dropped has rx_missed in it.
_LONG = {f"{way}_{short}": f"{way}_{long}" for way in ("rx", "tx")
         for short, long in (("errs", "errors"), ("drop", "dropped"))}  # fmt: skip


_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13}


def capability(name: str) -> None:
    status = Path("/proc/self/status").read_text()
    held = int(re.findall(r"CapEff:\s*(\w+)", status)[0], 16)
    if not held >> _CAPABILITIES[name] & 1:
        raise HostError(f"needs {name}: run it with sudo, or in a namespace: unshare -Urn")
