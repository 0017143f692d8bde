"""Network devices with a known trap: what goes wrong, what mends it, and who says so.

A row matches by the kernel driver that holds the device, or by its PCI ids when DPDK has it already
and the driver no longer tells. ``when`` looks closer. A trap without a source is not listed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from pydpdk.host.nics import Nic


@dataclass(frozen=True)
class Trap:
    """``{pci}`` and ``{name}`` in ``mend`` are the device's."""

    drivers: tuple[str, ...]
    ids: tuple[str, ...]  # as 15b3: or 8086:1592
    what: str
    mend: str
    source: str
    when: Callable[[Nic], bool] = lambda nic: True


def _older(firmware: str, major: int, minor: int) -> bool:
    """Whether a version is known, and older.

    Intel says ``7.10 0x80007b63 1.2585.0``: two digits after the point, so what its tables call
    4.1 is 4.10 here.
    """
    match = re.match(r"(\d+)\.(\d+)", firmware)
    return bool(match) and (int(match[1]), int(match[2])) < (major, minor)  # type: ignore[index]


def _held_by_dpdk(nic: Nic) -> bool:
    return nic.bound


_GUIDE = "DPDK 22.11 guide, "
TRAPS = (
    Trap(
        ("mlx5_core", "mlx4_core"), ("15b3:",),
        "bound away from its kernel driver: the mlx4 and mlx5 drivers work beside it",
        "dpdk-devbind.py -b mlx5_core {pci}",
        _GUIDE + "Linux Drivers, Bifurcated Driver",
        _held_by_dpdk,
    ),
    Trap(
        ("i40e",), (),
        "firmware below 6.01, the oldest that a driver since 17.08 was verified with",
        "update it with Intel's NVM update tool for the 700 series",
        "DPDK guide, I40E Poll Mode Driver, Recommended Matching List",
        lambda nic: _older(nic.firmware, 6, 1),
    ),
    Trap(
        ("i40e",), (),
        "counts frames above its maximum size as received when it drops them; its ports share"
        " global registers, so a port left to the kernel is changed by one that DPDK has",
        "pci:{pci},support-multi-driver=1; set the MTU to the wire's largest frame",
        "DPDK guide, I40E Poll Mode Driver, Limitations or Known issues",
    ),
    Trap(
        ("ice",), (),
        "firmware below 4.1, which DPDK 22.11 was verified with",
        "update it with Intel's NVM update tool for the 800 series",
        _GUIDE + "ICE Poll Mode Driver, Kernel driver, DDP and Firmware Matching List",
        lambda nic: _older(nic.firmware, 4, 10),
    ),
    Trap(
        ("ena",), ("1d0f:",),
        "slow without write combining, which vfio-pci gives only when patched; without an IOMMU"
        " vfio needs its unsafe mode",
        "modprobe uio && insmod igb_uio.ko wc_activate=1, or vfio-pci with Amazon's patch",
        "amzn-drivers, userspace/dpdk/README, vfio-pci and igb_uio; DPDK guide, ENA",
    ),
    Trap(
        ("virtio-pci",), ("1af4:1000",),
        "transitional virtio without an IOMMU cannot be bound to vfio-pci",
        "start the virtual machine with iommu_platform=on,disable-legacy=on and an emulated IOMMU,"
        " or: pydpdk host apply --bind {pci} --unsafe-noiommu",
        "github.com/openvswitch/ovs-issues/issues/191; github.com/rivosinc/salus/issues/55",
        lambda nic: nic.ids == "1af4:1000" and not nic.group,
    ),
    Trap(
        ("r8169",), ("10ec:",),
        "DPDK has no driver for it before 24.11",
        "use af_packet:{name}",
        "DPDK guide, R8169 Poll Mode Driver (first in 24.11)",
    ),
    Trap(
        ("e1000",), ("8086:100e", "8086:100f"),
        "emulated: no multi-segment receive, no checksum validation, one interrupt source",
        "keep frames below the mbuf size (2 kB)",
        "DPDK guide, Driver for VM Emulated Devices, Known Limitations",
    ),
    Trap(
        ("veth",), (),
        "checksums are left to hardware that is not there: frames sent through it carry partial"
        " ones, which count as wrong",
        "ethtool -K {name} tx off gro off, on both ends",
        "github.com/FDio/vpp/issues/265; github.com/bisdn/xdpd/issues/41",
        lambda nic: nic.tx_checksum or nic.gro,
    ),
    Trap(
        (), (),
        "MTU above 1700: af_xdp: would lose every larger frame in silence",
        "ip link set {name} mtu 1700, or use af_packet:{name}",
        "measured with net_af_xdp of DPDK 22.11 and 2 kB mbufs",
        lambda nic: nic.mtu > 1700,
    ),
)  # fmt: skip


def traps(nic: Nic) -> list[Trap]:
    """The known traps of this device."""
    return [
        trap
        for trap in TRAPS
        if (
            not (trap.drivers or trap.ids)
            or nic.driver in trap.drivers
            or nic.ids.startswith(trap.ids)
        )
        and trap.when(nic)
    ]


def mend(trap: Trap, nic: Nic) -> str:
    name = nic.names[0] if nic.names else "INTERFACE"
    return trap.mend.format(pci=nic.pci or name, name=name)
