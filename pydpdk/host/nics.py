"""The network devices of a host: what sysfs and the kernel's ethtool interface say of them."""

from __future__ import annotations

import array
import fcntl
import re
import socket
import struct
from dataclasses import dataclass, replace

from pydpdk.host.info import Host

PCI = "/sys/bus/pci/devices"
NET = "/sys/class/net"
USERSPACE_DRIVERS = ("vfio-pci", "uio_pci_generic", "igb_uio")
BIFURCATED_DRIVERS = ("mlx4_core", "mlx5_core")  # the kernel's driver stays; DPDK works beside it

# linux/sockios.h and linux/ethtool.h
_SIOCETHTOOL, _SIOCGIFMTU = 0x8946, 0x8921
_GDRVINFO, _GTXCSUM, _GGRO = 0x03, 0x16, 0x2B


@dataclass(frozen=True)
class Nic:
    """One device: ``pci`` is "" for a virtual one, ``names`` those of its interfaces.

    ``node`` is -1 and ``group`` "" where the host has none. ``version`` and ``firmware`` are
    known only while a kernel driver holds it.
    """

    pci: str
    names: tuple[str, ...]
    ids: str  # vendor:device, as lspci -n
    driver: str
    node: int
    group: str
    version: str = ""
    firmware: str = ""
    mtu: int = 0
    tx_checksum: bool = False  # left to the device, or to whoever receives it
    gro: bool = False

    @property
    def label(self) -> str:
        return " ".join(filter(None, (self.pci, ",".join(self.names))))

    @property
    def bound(self) -> bool:
        """Whether DPDK has the device to itself."""
        return self.driver in USERSPACE_DRIVERS


def _ethtool(name: str, request: bytes) -> bytes:
    """The answer to one ethtool command; b"" when the driver or a namespace refuses it."""
    buffer = array.array("B", request)
    address, _ = buffer.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            fcntl.ioctl(sock, _SIOCETHTOOL, struct.pack("16sP16x", name.encode(), address))
        except OSError:
            return b""
    return buffer.tobytes()


def _mtu(name: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            answer = fcntl.ioctl(sock, _SIOCGIFMTU, struct.pack("16s16x", name.encode()))
        except OSError:
            return 0
    return int(struct.unpack_from("i", answer, 16)[0])


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode(errors="replace")


def asked(nic: Nic, name: str) -> Nic:
    """``nic`` with what the running kernel's driver says of its interface."""
    # struct ethtool_drvinfo: u32 cmd, then driver, version, fw_version of 32 bytes each, of 196.
    info = _ethtool(name, struct.pack("I192x", _GDRVINFO))
    if not info:
        return nic
    value = {
        command: _ethtool(name, struct.pack("II", command, 0)) for command in (_GTXCSUM, _GGRO)
    }
    on = {command: bool(raw and struct.unpack("II", raw)[1]) for command, raw in value.items()}
    return replace(
        nic,
        driver=nic.driver or _text(info[4:36]),
        version=_text(info[36:68]),
        firmware=_text(info[68:100]).strip(),
        tx_checksum=on[_GTXCSUM],
        gro=on[_GGRO],
        mtu=_mtu(name) or nic.mtu,
    )


def interfaces_of(host: Host, pci: str) -> tuple[str, ...]:
    """Kernel interfaces of a PCI device; virtio has them one folder deeper."""
    folder = f"{PCI}/{pci}"
    deeper = [f"{folder}/{name}" for name in host.names(folder) if re.fullmatch(r"virtio\d+", name)]
    return tuple(name for place in (folder, *deeper) for name in host.names(f"{place}/net"))


def pci_nic(host: Host, pci: str) -> Nic:
    """The device at this address, as sysfs has it."""
    folder = f"{PCI}/{pci}"
    ids = ":".join(
        host.read(f"{folder}/{part}").removeprefix("0x") for part in ("vendor", "device")
    )
    names = interfaces_of(host, pci)
    return Nic(
        pci, names, ids,
        host.link(f"{folder}/driver"),
        host.number(f"{folder}/numa_node", -1),
        host.link(f"{folder}/iommu_group"),
        mtu=host.number(f"{NET}/{names[0]}/mtu") if names else 0,
    )  # fmt: skip


def is_network(host: Host, pci: str) -> bool:
    return host.read(f"{PCI}/{pci}/class").startswith("0x02")


def nics(host: Host) -> list[Nic]:
    """PCI network devices, then veth and tap interfaces. Drivers are asked on the running host
    only: below another root there are none."""
    found = [pci_nic(host, pci) for pci in host.names(PCI) if is_network(host, pci)]
    taken = {name for nic in found for name in nic.names}
    # Of this network namespace: sysfs shows those of the one it was mounted in.
    here = [name for _, name in socket.if_nameindex()] if host.running_kernel else host.names(NET)
    for name in here:
        if name not in taken and host.link(f"{NET}/{name}/device") == "":
            found.append(Nic("", (name,), "", "", -1, "", mtu=host.number(f"{NET}/{name}/mtu")))
    if host.running_kernel:
        found = [asked(nic, nic.names[0]) if nic.names else nic for nic in found]
    return [nic for nic in found if nic.pci or nic.driver in ("veth", "tun")]


def same_group(host: Host, nic: Nic) -> list[Nic]:
    """Other devices of its IOMMU group that a kernel driver holds, bridges left out."""
    if not nic.group:
        return []
    others = [
        pci_nic(host, name)
        for name in host.names(f"/sys/kernel/iommu_groups/{nic.group}/devices")
        if name != nic.pci
    ]
    return [o for o in others if o.driver and not o.bound and o.driver != "pcieport"]
