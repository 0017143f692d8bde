"""A host that is made up: a tree of kernel files, and a kernel that answers what is written."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from pydpdk.host.info import ClockState
from pydpdk.host.step import System

PCI = "/sys/bus/pci/devices"
POOL = "/sys/kernel/mm/hugepages/hugepages-2048kB"
CPU = "/sys/devices/system/cpu"
UNSAFE = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
ROUTES = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tW\tI"
ALL_CAPABILITIES = "000001ffffffffff"
STAT = (
    "{tid} ({name}) R 1 1 1 0 -1 {flags} 0 0 0 0 {ticks} 0 0 0 20 0 1 0 0 0 0"
    + " 0" * 14
    + " {core} 0"
)


class FakeHost(System):
    """Files under a folder; what no file says is an attribute."""

    clock_state: ClockState | None = ClockState(True, 12, 300)
    shm_bytes = 1 << 30

    def put(self, name: str, text: str) -> None:
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if text.endswith("\n") else text + "\n")

    def drop(self, name: str) -> None:
        path = self.path(name)
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def put_link(self, name: str, target: str) -> None:
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)

    def put_task(self, pid: int, name: str, core: int, ticks: int = 0, flags: int = 0) -> None:
        stat = STAT.format(tid=pid, name=name, ticks=ticks, core=core, flags=flags)
        self.put(f"/proc/{pid}/task/{pid}/stat", stat)
        self.put(f"/proc/{pid}/comm", name)

    def put_nic(
        self, pci: str, name: str = "", ids: str = "8086:10d3", driver: str = "e1000e",
        group: str = "1", kind: str = "0x020000", node: int = -1, mtu: int = 1500,
    ) -> None:  # fmt: skip
        folder = f"{PCI}/{pci}"
        vendor, device = ids.split(":")
        values = {
            "vendor": f"0x{vendor}", "device": f"0x{device}", "class": kind, "numa_node": str(node),
            "driver_override": "(null)",
        }  # fmt: skip
        for file, text in values.items():
            self.put(f"{folder}/{file}", text)
        if driver:
            self.path(f"/sys/bus/pci/drivers/{driver}").mkdir(parents=True, exist_ok=True)
            self.put_link(f"{folder}/driver", f"../../drivers/{driver}")
        if group:
            self.put_link(f"{folder}/iommu_group", f"../../../../kernel/iommu_groups/{group}")
            self.path(f"/sys/kernel/iommu_groups/{group}/devices/{pci}").mkdir(parents=True)
        if name:
            self.put(f"{folder}/net/{name}/mtu", str(mtu))
            self.put(f"/sys/class/net/{name}/mtu", str(mtu))
            self.put_link(f"/sys/class/net/{name}/device", f"../../../bus/pci/devices/{pci}")

    def clock(self) -> ClockState | None:
        return self.clock_state

    def free_bytes(self, name: str) -> int:
        return self.shm_bytes

    def snapshot(self) -> dict[str, str]:
        """Every path and what it holds."""
        found = {}
        for folder, names, files in os.walk(self.root):
            for name in (*names, *files):
                path = Path(folder, name)
                key = str(path.relative_to(self.root))
                if path.is_symlink():
                    found[key] = f"-> {os.readlink(path)}"
                else:
                    found[key] = "folder" if path.is_dir() else path.read_text()
        return found


def ready(root: Path) -> FakeHost:
    """Four cores of which 2 and 3 are the engine's, and nothing to find fault with."""
    host = FakeHost(root)
    for name, text in {
        "/proc/cpuinfo": "vendor_id : GenuineIntel\nmodel name\t: Some CPU\n"
        "flags\t\t: sse4_2 constant_tsc nonstop_tsc\n",
        "/proc/meminfo": f"MemAvailable: {8 << 20} kB\nHugepagesize: 2048 kB",
        "/proc/cmdline": "quiet isolcpus=managed_irq,domain,2-3 nohz_full=2-3 rcu_nocbs=2-3",
        "/proc/mounts": "proc /proc proc rw 0 0\n",
        "/proc/loadavg": "0.10 0.10 0.10 1/99 999",
        "/proc/self/cgroup": "0::/",
        "/proc/self/status": f"Name: x\nCapEff:\t{ALL_CAPABILITIES}\nCpus_allowed_list:\t0-1",
        "/proc/self/limits": "Max open files            4096                 4096   files\n"
        "Max locked memory         unlimited            unlimited   bytes\n",
        "/proc/interrupts": "           CPU0       CPU1       CPU2       CPU3\n"
        " 24:  100  0  0  0  IO-APIC  eth0\nLOC:  9  9  9  9  Local timer\n",
        "/proc/irq/24/smp_affinity_list": "0-1",
        "/proc/irq/default_smp_affinity": "3",
        "/proc/sys/kernel/osrelease": "6.1.0-test",
        "/proc/sys/kernel/random/boot_id": "11111111-2222-3333-4444-555555555555",
        "/proc/net/route": ROUTES,
        "/sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc",
        f"{CPU}/online": "0-3",
        f"{CPU}/isolated": "2-3",
        f"{CPU}/nohz_full": "2-3",
        "/sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never",
        f"{POOL}/nr_hugepages": "512",
        f"{POOL}/free_hugepages": "512",
        "/sys/bus/pci/drivers_probe": "",
        "/dev/vfio/vfio": "",
        "/dev/vfio/7": "",
        "/sys/module/vfio_pci/initstate": "live",
        "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode": "N",
    }.items():
        host.put(name, text)
    for core in range(4):
        host.put(f"{CPU}/cpu{core}/cpufreq/scaling_governor", "performance")
        host.put(f"{CPU}/cpu{core}/cpufreq/scaling_available_governors", "performance powersave")
        host.put(f"{CPU}/cpu{core}/topology/thread_siblings_list", str(core))
        host.path(f"{CPU}/cpu{core}/node0").mkdir(parents=True)
    host.path("/sys/devices/system/node/node0").mkdir(parents=True)
    host.path("/sys/bus/pci/drivers/vfio-pci").mkdir(parents=True)
    host.path("/sys/kernel/iommu_groups/1").mkdir(parents=True)
    host.put_task(1, "init", 0)
    host.put_task(50, "chronyd", 0)
    return host


class FakeKernel(FakeHost):
    """A ready host whose kernel reacts. ``on_change(n, path)`` is called before each change.

    ``pages_max``: more hugepages it cannot give; ``stubborn``: paths it refuses to write (EIO).
    """

    pages_max = 1 << 30
    stubborn: tuple[str, ...] = ()
    natives: dict[str, str]
    on_change: Callable[[int, str], None]
    changes = 0

    def begin(self, name: str) -> None:
        n, self.changes = self.changes, self.changes + 1
        self.on_change(n, name)

    def write(self, name: str, text: str) -> None:
        self.begin(name)
        if name in self.stubborn:
            raise OSError(errno.EIO, os.strerror(errno.EIO), name)
        folder, _, file = name.rpartition("/")
        if file == "nr_hugepages":
            self._pages(folder, int(text))
        elif file == "driver_override":
            self.put(name, text.strip() or "(null)")
        elif file == "unbind":
            self._release(text.strip())
        elif file == "drivers_probe":
            self._probe(text.strip())
        elif name == UNSAFE:
            self.put(name, {"1": "Y", "0": "N"}.get(text.strip(), text))
        else:
            super().write(name, text)

    def _pages(self, folder: str, count: int) -> None:
        total, free = (self.number(f"{folder}/{name}_hugepages") for name in ("nr", "free"))
        given = max(min(count, self.pages_max), total - free)
        self.put(f"{folder}/nr_hugepages", str(given))
        self.put(f"{folder}/free_hugepages", str(free + given - total))

    def _stash(self, pci: str) -> Path:
        return self.root.parent / f"net-{pci}"

    def _release(self, pci: str) -> None:
        self.drop(f"{PCI}/{pci}/driver")
        if self.path(f"{PCI}/{pci}/net").exists():
            self.path(f"{PCI}/{pci}/net").rename(self._stash(pci))

    def _probe(self, pci: str) -> None:
        override = self.read(f"{PCI}/{pci}/driver_override")
        driver = self.natives[pci] if override == "(null)" else override
        if not driver or not self.path(f"/sys/bus/pci/drivers/{driver}").exists():
            return
        self.put_link(f"{PCI}/{pci}/driver", f"../../drivers/{driver}")
        if driver == self.natives[pci] and self._stash(pci).exists():
            self._stash(pci).rename(self.path(f"{PCI}/{pci}/net"))

    def mount(self, folder: str, option: str) -> None:
        self.begin(folder)
        self.path(folder).mkdir(parents=True, exist_ok=True)
        mounts = self.path("/proc/mounts")
        mounts.write_text(mounts.read_text() + f"none {folder} hugetlbfs rw,{option} 0 0\n")

    def unmount(self, folder: str) -> None:
        self.begin(folder)
        mounts = self.path("/proc/mounts")
        lines = mounts.read_text().splitlines(keepends=True)
        mounts.write_text("".join(line for line in lines if f" {folder} hugetlbfs" not in line))

    def module(self, name: str, load: bool) -> None:
        self.begin(name)
        if load:
            self.put("/sys/module/vfio_pci/initstate", "live")
            self.put(UNSAFE, "N")
            self.path("/sys/bus/pci/drivers/vfio-pci").mkdir()
        else:
            for path in (
                "/sys/module/vfio_pci",
                "/sys/module/vfio",
                "/sys/bus/pci/drivers/vfio-pci",
            ):
                self.drop(path)


def bare(root: Path) -> FakeKernel:
    """A host before anything was done for us: two NICs, the first with the default route."""
    ready(root)
    kernel = FakeKernel(root)
    kernel.natives = {"0000:00:03.0": "virtio-pci", "0000:00:04.0": "e1000e"}
    kernel.on_change = lambda n, path: None
    kernel.drop("/sys/module/vfio_pci")
    kernel.drop("/sys/module/vfio")
    kernel.drop("/sys/bus/pci/drivers/vfio-pci")
    kernel.put(f"{POOL}/nr_hugepages", "0")
    kernel.put(f"{POOL}/free_hugepages", "0")
    kernel.put("/proc/cmdline", "quiet")
    kernel.put("/proc/irq/24/smp_affinity_list", "0-3")
    kernel.put("/proc/irq/25/smp_affinity_list", "2")
    kernel.put("/proc/irq/26/smp_affinity_list", "0-1")
    kernel.put("/proc/irq/default_smp_affinity", "f")
    for core in (2, 3):
        kernel.put(f"{CPU}/cpu{core}/cpufreq/scaling_governor", "powersave")
    kernel.put_nic("0000:00:03.0", "eth0", "1af4:1041", "virtio-pci", group="3")
    kernel.put_nic("0000:00:04.0", "eth1", group="4")
    kernel.put_nic("0000:00:05.0", "", "8086:2922", "ahci", group="5", kind="0x010601")
    kernel.put(
        "/proc/net/route",
        f"{ROUTES}\n"
        "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
        "eth1\t000210AC\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n",
    )
    return kernel
