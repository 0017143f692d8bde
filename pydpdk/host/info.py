"""What the kernel says of a host, read below a root folder so that a test can make one up."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import re
from collections.abc import Iterable
from pathlib import Path

CPUS = "/sys/devices/system/cpu"
NODES = "/sys/devices/system/node"
HUGEPAGES = "/sys/kernel/mm/hugepages"
CAPABILITIES = {
    "CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_IPC_LOCK": 14, "CAP_SYS_RAWIO": 17,
    "CAP_SYS_ADMIN": 21, "CAP_SYS_NICE": 23,
}  # fmt: skip


def parse_cores(text: str) -> tuple[int, ...]:
    """Sorted cores of a kernel's list: ``0-2,5``, ``0-6:2/4`` (Documentation/admin-guide/
    kernel-parameters.rst, cpu lists). Raises ValueError for what is no list."""
    cores: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        match = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+)/(\d+))?)?", part)
        if not match:
            raise ValueError(f"{part!r} is no core or range of cores (2,3 or 2-5)")
        first, last = int(match[1]), int(match[2] or match[1])
        used, group = int(match[3] or 1), int(match[4] or 1)
        if last < first or not 0 < used <= group or last >= 1 << 16:
            raise ValueError(f"{part!r} is no range of cores (2-5)")
        cores.update(core for core in range(first, last + 1) if (core - first) % group < used)
    return tuple(sorted(cores))


def format_cores(cores: Iterable[int]) -> str:
    """The shortest list that parse_cores() reads back: ``0-2,5``."""
    runs: list[list[int]] = []
    for core in sorted(set(cores)):
        if runs and core == runs[-1][1] + 1:
            runs[-1][1] = core
        else:
            runs.append([core, core])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def parse_command_line(text: str) -> dict[str, str]:
    """Parameters of /proc/cmdline; the last of a name counts, quotes go, a flag has ""."""
    found = {}
    for word in re.findall(r'(?:[^\s"]|"[^"]*")+', text):
        name, _, value = word.partition("=")
        found[name.replace('"', "")] = value.replace('"', "")
    return found


@dataclasses.dataclass(frozen=True)
class ClockState:
    """What adjtimex(2) says: is the kernel's clock disciplined, and how far off may it be (us)."""

    synchronised: bool
    error_us: int
    error_max_us: int


class _Timex(ctypes.Structure):
    # The members up to `status`; the rest of struct timex only has to have room.
    _fields_ = [
        ("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long), ("esterror", ctypes.c_long), ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 32),
    ]  # fmt: skip


_TIME_ERROR, _STA_UNSYNC = 5, 0x40  # linux/timex.h
_PF_KTHREAD = 0x200000  # linux/sched.h


def clock_state() -> ClockState | None:
    """The clock state of this machine; None when the kernel does not tell."""
    timex = _Timex(modes=0)
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    if state < 0:
        return None
    in_order = state != _TIME_ERROR and not timex.status & _STA_UNSYNC
    return ClockState(in_order, timex.esterror, timex.maxerror)


@dataclasses.dataclass(frozen=True)
class Hugepages:
    """Hugepages of one size on one NUMA node (-1: the host has no nodes)."""

    node: int
    size_kb: int
    total: int
    free: int


@dataclasses.dataclass(frozen=True)
class Task:
    """One thread in a sample: ``ticks`` of CPU it had by then, ``core`` it ran on last."""

    pid: int
    name: str
    ticks: int
    core: int
    kernel: bool


@dataclasses.dataclass
class Host:
    """A host's kernel files; paths are absolute, as on the host, and looked up below ``root``."""

    root: Path = dataclasses.field(default_factory=lambda: Path("/"))

    @property
    def running_kernel(self) -> bool:
        """Is it this machine, so that its kernel answers system calls too?"""
        return self.root == Path("/")

    def path(self, name: str) -> Path:
        return self.root / name.lstrip("/")

    def read(self, name: str) -> str:
        """Text of a kernel file, empty when it is not there."""
        try:
            return self.path(name).read_text(errors="replace").strip()
        except OSError:
            return ""

    def number(self, name: str, default: int = 0) -> int:
        """The integer that a kernel file holds."""
        text = self.read(name)
        return int(text) if re.fullmatch(r"-?\d+", text) else default

    def names(self, name: str) -> list[str]:
        """Entries of a folder, sorted; none when it is not there."""
        try:
            return sorted(os.listdir(self.path(name)))
        except OSError:
            return []

    def link(self, name: str) -> str:
        """Last part of a symbolic link's target: how sysfs names a driver or a group."""
        try:
            return os.path.basename(os.readlink(self.path(name)))
        except OSError:
            return ""

    def cores(self, name: str) -> tuple[int, ...]:
        """The cores that a kernel file lists; empty when it lists none."""
        try:
            return parse_cores(self.read(name))
        except ValueError:
            return ()

    # --- cores ---

    @property
    def command_line(self) -> dict[str, str]:
        return parse_command_line(self.read("/proc/cmdline"))

    @property
    def online(self) -> tuple[int, ...]:
        return self.cores(f"{CPUS}/online")

    def parameter_cores(self, name: str) -> tuple[int, ...]:
        """Cores that a kernel parameter names; ``all`` is every core."""
        value = self.command_line.get(name, "")
        if value == "all":
            return self.online
        try:
            return parse_cores(value)
        except ValueError:
            return ()

    @property
    def isolated(self) -> tuple[int, ...]:
        return self.cores(f"{CPUS}/isolated")

    @property
    def tickless(self) -> tuple[int, ...]:
        return self.cores(f"{CPUS}/nohz_full") or self.parameter_cores("nohz_full")

    @property
    def offloaded(self) -> tuple[int, ...]:
        """Cores without RCU callbacks; nohz_full implies it."""
        found = {*self.parameter_cores("rcu_nocbs"), *self.tickless}
        return tuple(sorted(found))

    def groups(self) -> list[tuple[str, str]]:
        """(controllers, path) of the process's cgroups; version 2 has no controllers' names."""
        lines = (line.split(":", 2) for line in self.read("/proc/self/cgroup").splitlines())
        return [(line[1], line[2]) for line in lines if len(line) == 3]

    def allowed(self) -> tuple[int, ...]:
        """Cores that sched_setaffinity(2) will grant: those of the cpuset, isolated ones too."""
        for controllers, path in self.groups():
            for file in (
                f"/sys/fs/cgroup{path}/cpuset.cpus.effective" if not controllers else "",
                f"/sys/fs/cgroup/cpuset{path}/cpuset.effective_cpus"
                if "cpuset" in controllers.split(",")
                else "",
            ):
                if file and (found := self.cores(file)):
                    return found
        return self.online

    def siblings(self, core: int) -> tuple[int, ...]:
        """Other hardware threads of the same core."""
        found = self.cores(f"{CPUS}/cpu{core}/topology/thread_siblings_list")
        return tuple(other for other in found if other != core)

    def node_of_core(self, core: int) -> int:
        for name in self.names(f"{CPUS}/cpu{core}"):
            if re.fullmatch(r"node\d+", name):
                return int(name[4:])
        return -1

    # --- memory ---

    @property
    def memory(self) -> dict[str, int]:
        """The values of /proc/meminfo: bytes, or counts where they have no unit."""
        found = {}
        for line in self.read("/proc/meminfo").splitlines():
            name, _, value = line.partition(":")
            number, _, unit = value.strip().partition(" ")
            if number.isdigit():
                found[name] = int(number) << (10 if unit == "kB" else 0)
        return found

    def nodes(self) -> list[int]:
        names = self.names(NODES)
        return sorted(int(name[4:]) for name in names if re.fullmatch(r"node\d+", name))

    def hugepages(self) -> list[Hugepages]:
        """The hugepages of every size on every node."""
        places = [(node, f"{NODES}/node{node}/hugepages") for node in self.nodes()]
        if not any(self.names(folder) for _, folder in places):
            places = [(-1, HUGEPAGES)]
        found = []
        for node, folder in places:
            for name in self.names(folder):
                if match := re.fullmatch(r"hugepages-(\d+)kB", name):
                    total = self.number(f"{folder}/{name}/nr_hugepages")
                    free = self.number(f"{folder}/{name}/free_hugepages")
                    found.append(Hugepages(node, int(match[1]), total, free))
        return found

    def hugetlbfs(self) -> dict[int, str]:
        """Where hugetlbfs is mounted, by page size in kB."""
        default = self.memory.get("Hugepagesize", 2 << 20) >> 10
        found: dict[int, str] = {}
        for line in self.read("/proc/mounts").splitlines():
            parts = line.split()
            if len(parts) > 3 and parts[2] == "hugetlbfs":
                size = re.search(r"pagesize=(\d+)([MG])", parts[3])
                kb = int(size[1]) << {"M": 10, "G": 20}[size[2]] if size else default
                found.setdefault(kb, parts[1])
        return found

    # --- the process ---

    def status(self, name: str) -> str:
        """A line of /proc/self/status."""
        match = re.search(rf"^{name}:\s*(.*)$", self.read("/proc/self/status"), re.M)
        return match[1].strip() if match else ""

    def capabilities(self) -> set[str]:
        """Those of CAPABILITIES that this process has in effect."""
        held = int(self.status("CapEff") or "0", 16)
        return {name for name, bit in CAPABILITIES.items() if held >> bit & 1}

    def limit(self, name: str) -> int:
        """Soft limit in /proc/self/limits; -1 is unlimited, or not known."""
        match = re.search(rf"^{name}\s+(\d+)\s", self.read("/proc/self/limits"), re.M)
        return int(match[1]) if match else -1

    # --- others ---

    def tasks(self) -> dict[int, Task]:
        """Every thread, from /proc/PID/task/TID/stat (proc(5), fields counted from 1)."""
        found = {}
        for pid in filter(str.isdigit, self.names("/proc")):
            for tid in self.names(f"/proc/{pid}/task"):
                name, _, rest = self.read(f"/proc/{pid}/task/{tid}/stat").rpartition(")")
                field = dict(enumerate(rest.split(), 3))
                if 39 in field:
                    ticks, kernel = int(field[14]) + int(field[15]), int(field[9]) & _PF_KTHREAD
                    comm = name.partition("(")[2]
                    found[int(tid)] = Task(int(pid), comm, ticks, int(field[39]), bool(kernel))
        return found

    def running(self, names: Iterable[str]) -> list[str]:
        """Which of these programs run; the kernel keeps 15 letters of a name."""
        pids = filter(str.isdigit, self.names("/proc"))
        there = {self.read(f"/proc/{pid}/comm") for pid in pids}
        return [name for name in names if name[:15] in there]

    def interrupts(self) -> dict[int, tuple[int, ...]]:
        """The cores that each interrupt may fire on.

        The effective ones follow a new affinity only with the next interrupt: what both name.
        """
        found = {}
        for name in filter(str.isdigit, self.names("/proc/irq")):
            folder = f"/proc/irq/{name}"
            wanted = self.cores(f"{folder}/smp_affinity_list")
            now = self.cores(f"{folder}/effective_affinity_list") or wanted
            found[int(name)] = tuple(core for core in wanted if core in now)
        return found

    # --- what no file says ---

    def clock(self) -> ClockState | None:
        return clock_state() if self.running_kernel else None

    def free_bytes(self, name: str) -> int:
        """Free bytes in the file system of ``name``; -1 when it cannot be written."""
        if not os.access(self.path(name), os.W_OK):
            return -1
        stat = os.statvfs(self.path(name))
        return stat.f_bavail * stat.f_frsize

    def used_bytes(self, name: str) -> int:
        """Used bytes in the file system of ``name``; 0 when that is not known."""
        try:
            stat = os.statvfs(self.path(name))
        except OSError:
            return 0
        return (stat.f_blocks - stat.f_bfree) * stat.f_frsize
