"""What a check finds, and what it is asked about."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from functools import cached_property

from pydpdk.host.info import Host, Task, format_cores
from pydpdk.process.config import Config

PURPOSES = ("replay", "bench", "run")
SAMPLE_S = 0.2
SUDO_SELF = "sudo $(command -v pydpdk)"  # root's PATH has no virtual environment


@dataclass(frozen=True)
class Finding:
    """One finding: ``status`` is ok, warn or fail; ``mend`` the command that mends it."""

    name: str
    status: str
    found: str
    mend: str = ""

    def to_dict(self) -> dict[str, str]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Sample:
    """What happened on every core within some seconds."""

    seconds: float
    busy: tuple[tuple[Task, int], ...]  # ticks that each thread had, most first
    interrupts: dict[int, int]  # core -> how many fired


@dataclass
class Question:
    """A host, what it is to be used for, on which cores, with how many MiB of hugepages."""

    host: Host
    purpose: str
    cores: tuple[int, ...]
    hugepages_mb: int = 0
    chosen: bool = False  # by the user; else the isolated cores, or all
    config: Config | None = None  # that is to be run
    sample_s: float = field(default_factory=lambda: SAMPLE_S)

    def worst(self, *purposes: str) -> str:
        """``fail`` where it is asked for one of these, else ``warn``."""
        return "fail" if self.purpose in purposes else "warn"

    @property
    def core_list(self) -> str:
        return format_cores(self.cores)

    @cached_property
    def sample(self) -> Sample:
        """What happens on the host; taken once, when the first check asks."""
        before, fired = self.host.tasks(), _fired(self.host)
        begin = time.monotonic()
        time.sleep(self.sample_s)
        seconds, after = time.monotonic() - begin, self.host.tasks()
        used = [
            (task, task.ticks - before[tid].ticks) for tid, task in after.items() if tid in before
        ]
        busy = sorted((pair for pair in used if pair[1] > 0), key=lambda pair: -pair[1])
        now = _fired(self.host)
        return Sample(seconds, tuple(busy), {c: now[c] - fired.get(c, 0) for c in now})


def _fired(host: Host) -> dict[int, int]:
    """Device interrupts of each core so far (/proc/interrupts, the numbered ones)."""
    head, *lines = host.read("/proc/interrupts").splitlines() or [""]
    cores = [int(name.removeprefix("CPU")) for name in head.split()]
    total = dict.fromkeys(cores, 0)
    for line in lines:
        name, _, rest = line.partition(":")
        if name.strip().isdigit():
            for core, count in zip(cores, rest.split(), strict=False):
                total[core] += int(count)
    return total
