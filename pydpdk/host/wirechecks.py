"""Checks of what frames come through: rights, DPDK, IOMMU, NICs; and of the clock they get."""

from __future__ import annotations

from collections.abc import Iterable

from pydpdk.host.corechecks import recommended
from pydpdk.host.finding import SUDO_SELF, Finding, Question
from pydpdk.host.info import CAPABILITIES
from pydpdk.host.nics import nics
from pydpdk.host.traps import mend, traps
from pydpdk.source import eal
from pydpdk.source.kinds import KINDS

# Capability -> the kinds of source that open only with it: each was tried alone and left out.
NEEDED = {
    name: tuple(kind.prefix for kind in KINDS if name in kind.needs)
    for name in ("CAP_NET_RAW", "CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_IPC_LOCK")
}
KEEPERS = ("chronyd", "ptp4l", "phc2sys", "systemd-timesyncd", "ntpd")
ERROR_US = 1000


def dpdk(q: Question) -> Finding:
    version = eal.version()
    if not version:
        return Finding(
            "dpdk", q.worst("run"), "built without: captures work, ports do not",
            "apt-get install libdpdk-dev dpdk, then build again (make clean build)",
        )  # fmt: skip
    return Finding("dpdk", "ok", version)


def kernel(q: Question) -> Finding:
    return Finding("kernel", "ok", q.host.read("/proc/sys/kernel/osrelease") or "unknown")


def command_line(q: Question) -> Finding:
    have = q.host.command_line
    lacking = [f"{name}={value}" for name, value in recommended(q).items() if name not in have]
    if lacking:
        return Finding(
            "command line", "warn", f"without {', '.join(p.partition('=')[0] for p in lacking)}",
            "GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub: " + " ".join(lacking),
        )  # fmt: skip
    return Finding("command line", "ok", q.host.read("/proc/cmdline") or "unknown")


def rights(q: Question) -> Finding:
    lacking = [name for name in NEEDED if name not in q.host.capabilities()]
    if not lacking:
        return Finding("rights", "ok", f"all of {', '.join(NEEDED)}")
    kinds = {name: ", ".join(f"{prefix}:" for prefix in NEEDED[name]) for name in lacking}
    return Finding(
        "rights", "warn",
        "pcap:, net_pcap: and null: work; without "
        + "; ".join(f"{name}: no {kinds[name]}" for name in lacking),
        grant(lacking) + "; on a veth: unshare -Urn",
    )  # fmt: skip


def grant(names: Iterable[str]) -> str:
    """The command that runs ours as this user with capabilities besides."""
    short = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in names)
    return (
        "sudo setpriv --reuid $USER --regid $(id -g) --init-groups"
        f" --inh-caps {short} --ambient-caps {short} $(command -v pydpdk) ..."
    )


def iommu(q: Question) -> Finding:
    groups = q.host.names("/sys/kernel/iommu_groups")
    unsafe = q.host.read("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode") in ("Y", "1")
    if groups:
        return Finding(
            "iommu", "ok", f"{len(groups)} groups" + (", unsafe mode on" if unsafe else "")
        )
    if unsafe:
        return Finding(
            "iommu", "warn", "none: vfio in its unsafe mode, a NIC may write all memory",
            "boot with intel_iommu=on iommu=pt (AMD: iommu=pt)",
        )  # fmt: skip
    return Finding(
        "iommu", "warn", "none: pci: sources cannot use vfio-pci",
        "boot with intel_iommu=on iommu=pt (AMD: iommu=pt; enable VT-d or AMD-Vi in the firmware)",
    )  # fmt: skip


def vfio(q: Question) -> Finding:
    if not q.host.read("/sys/module/vfio_pci/initstate") and not q.host.names(
        "/sys/bus/pci/drivers/vfio-pci"
    ):
        return Finding(
            "vfio", "warn", "vfio-pci is not loaded: no pci: sources", "modprobe vfio-pci"
        )
    groups = [name for name in q.host.names("/dev/vfio") if name != "vfio"]
    if not groups:
        return Finding(
            "vfio", "warn", "vfio-pci holds no device", f"{SUDO_SELF} host apply --bind ADDRESS"
        )
    return Finding("vfio", "ok", f"groups {', '.join(groups)}")


def devices(q: Question) -> list[Finding]:
    """A row for each NIC; its traps are warnings of a run."""
    rows = []
    for nic in nics(q.host):
        told = [nic.driver or "no driver", nic.version, nic.firmware and f"firmware {nic.firmware}"]
        found = " ".join(filter(None, told)) + (f", node {nic.node}" if nic.node >= 0 else "")
        there = traps(nic)
        if there:
            what = "; ".join(f"{trap.what} ({trap.source})" for trap in there)
            rows.append(
                Finding(f"nic {nic.label}", "warn", f"{found}: {what}", mend(there[0], nic))
            )
        else:
            rows.append(Finding(f"nic {nic.label}", "ok", found))
    return rows


def time_sync(q: Question) -> Finding:
    """Time stamps of a live run are compared with the venue's: UTC has to be right."""
    keepers = q.host.running(KEEPERS)
    state = q.host.clock()
    who = f"by {', '.join(keepers)}" if keepers else "by nobody"
    if state is None:
        return Finding("time sync", "warn" if not keepers else "ok", f"kept {who}; error unknown",
                   "" if keepers else "apt-get install chrony")  # fmt: skip
    error = f"error {state.error_us} us, at most {state.error_max_us} us"
    if not state.synchronised:
        return Finding(
            "time sync", "warn", f"not synchronised, kept {who}",
            "chronyc tracking" if "chronyd" in keepers else "apt-get install chrony",
        )  # fmt: skip
    if state.error_us > ERROR_US:
        return Finding(
            "time sync", "warn", f"kept {who}, {error}", "use PTP: apt-get install linuxptp"
        )
    return Finding("time sync", "ok", f"kept {who}, {error}")


assert NEEDED.keys() <= CAPABILITIES.keys()
