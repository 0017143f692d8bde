"""Checks of the cores: what they are, who else uses them, and what may stop a loop on them."""

from __future__ import annotations

import os

from pydpdk.host.finding import SUDO_SELF, Finding, Question
from pydpdk.host.info import CPUS, format_cores

BUSY_SHARE = 0.05
LATENCY_US = 10  # a sleep state that takes longer to leave is seen by a loop that was idle


def _flags(q: Question) -> set[str]:
    return set(q.host.read("/proc/cpuinfo").partition("flags")[2].partition("\n")[0].split())


def _model(q: Question) -> str:
    text = q.host.read("/proc/cpuinfo")
    return text.partition("model name")[2].partition("\n")[0].strip(" \t:") or "unknown processor"


def cpu(q: Question) -> Finding:
    if "sse4_2" not in _flags(q):
        return Finding("cpu", "fail", f"{_model(q)}: no SSE4.2", "use an x86-64-v2 processor")
    return Finding("cpu", "ok", f"{_model(q)}, {len(q.host.online)} cores")


def tsc(q: Question) -> Finding:
    missing = {"constant_tsc", "nonstop_tsc"} - _flags(q)
    source = q.host.read("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    if missing:
        return Finding(
            "cycle counter", q.worst("bench", "run"),
            f"no {', '.join(sorted(missing))}: intervals are not to be trusted",
            "use another host, or show the guest the counter (-cpu host,+invtsc)",
        )  # fmt: skip
    if source not in ("tsc", ""):
        return Finding(
            "cycle counter", "warn", f"invariant, but the kernel's clock source is {source}",
            "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource",
        )  # fmt: skip
    return Finding("cycle counter", "ok", f"invariant; kernel clock source {source or 'unknown'}")


def cores(q: Question) -> Finding:
    allowed, online = q.host.allowed(), q.host.online
    for missing, what in (
        (set(q.cores) - set(online), "not online"),
        (set(q.cores) - set(allowed), "outside the cpuset"),
    ):
        if missing:
            return Finding(
                "cores", "fail",
                f"{format_cores(missing)} {what}: there are {format_cores(allowed)}",
                f"pydpdk doctor --cores {format_cores(allowed)}",
            )  # fmt: skip
    if len(allowed) < 2:
        return Finding(
            "cores", "warn", "one core: engine and stage share it",
            "give the process a second core (taskset, cpuset)",
        )  # fmt: skip
    return Finding("cores", "ok", f"{format_cores(allowed)} usable, {q.core_list} for the engine")


def recommended(q: Question) -> dict[str, str]:
    """Kernel parameters that keep the kernel off the engine's cores."""
    if not q.chosen and not q.host.isolated:
        return {}
    return {
        "isolcpus": f"managed_irq,domain,{q.core_list}",
        "nohz_full": q.core_list,
        "rcu_nocbs": q.core_list,
    }


def isolation(q: Question) -> Finding:
    have = {
        "isolcpus": q.host.isolated,
        "nohz_full": q.host.tickless,
        "rcu_nocbs": q.host.offloaded,
    }
    lacking = [name for name, there in have.items() if set(q.cores) - set(there)]
    if not lacking:
        return Finding("isolated cores", "ok", q.core_list)
    wanted = recommended(q) or dict.fromkeys(have, "N")
    found = f"core {q.core_list} without {', '.join(lacking)}" if q.host.isolated else "none"
    return Finding(
        "isolated cores", "warn", found,
        "boot with " + " ".join(f"{name}={wanted[name]}" for name in lacking)
        + (" for the cores N of the engine" if "N" in wanted.values() else ""),
    )  # fmt: skip


def cpu_quota(q: Question) -> Finding:
    """A quota of any group above stops a polling loop for the rest of each period."""
    for controllers, path in q.host.groups():
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = "/sys/fs/cgroup/cpu" if controllers else "/sys/fs/cgroup"
        folder = path.strip("/")
        while True:
            here = f"{top}/{folder}"
            quota, _, period = q.host.read(f"{here}/cpu.max").partition(" ")
            quota = quota or q.host.read(f"{here}/cpu.cfs_quota_us")
            period = period or q.host.read(f"{here}/cpu.cfs_period_us")
            if quota.isdigit():
                file, value = ("cpu.cfs_quota_us", "-1") if controllers else ("cpu.max", "max")
                return Finding(
                    "cpu quota", q.worst("bench", "run"),
                    f"{quota} us of every {period} in /{folder}: a loop is stopped for the rest",
                    f"echo {value} > {here.rstrip('/')}/{file}",
                )  # fmt: skip
            if not folder:
                break
            folder = folder.rpartition("/")[0]
    return Finding("cpu quota", "ok", "none")


def siblings(q: Question) -> Finding:
    shared = {core: other for core in q.cores if (other := q.host.siblings(core))}
    if not shared:
        return Finding("smt siblings", "ok", "each core is one hardware thread")
    others = sorted({thread for threads in shared.values() for thread in threads})
    idle = [core for core in others if core in q.host.isolated and core not in q.cores]
    if idle == others:
        return Finding("smt siblings", "ok", f"{format_cores(others)}, isolated too")
    return Finding(
        "smt siblings", "warn",
        f"{format_cores(others)} share execution units with {q.core_list}",
        f"leave {format_cores(others)} idle, or: echo off > {CPUS}/smt/control",
    )  # fmt: skip


def governor(q: Question) -> Finding:
    found = {core: q.host.read(f"{CPUS}/cpu{core}/cpufreq/scaling_governor") for core in q.cores}
    wrong = sorted(core for core, name in found.items() if name not in ("", "performance"))
    if wrong:
        return Finding(
            "cpu governor", "warn", f"{found[wrong[0]]} on {format_cores(wrong)}",
            f"{SUDO_SELF} host apply --governor --cores {format_cores(wrong)}",
        )  # fmt: skip
    names = sorted(set(found.values()) - {""})
    return Finding("cpu governor", "ok", names[0] if names else "not controlled by this kernel")


def idle_states(q: Question) -> Finding:
    deep = set()
    for core in q.cores:
        folder = f"{CPUS}/cpu{core}/cpuidle"
        for state in q.host.names(folder):
            here = f"{folder}/{state}"
            if q.host.number(f"{here}/latency") > LATENCY_US and not q.host.number(
                f"{here}/disable"
            ):
                deep.add(q.host.read(f"{here}/name") or state)
    if deep:
        return Finding(
            "idle states", "warn", f"{', '.join(sorted(deep))} take over {LATENCY_US} us to leave",
            f"cpupower -c {q.core_list} idle-set -D {LATENCY_US}",
        )  # fmt: skip
    return Finding("idle states", "ok", f"none that takes over {LATENCY_US} us to leave")


def interrupts(q: Question) -> Finding:
    on_ours = [irq for irq, where in q.host.interrupts().items() if set(where) & set(q.cores)]
    fired = sum(q.sample.interrupts.get(core, 0) for core in q.cores)
    if not on_ours:
        return Finding("interrupts", "ok", f"none on {q.core_list}")
    found = f"{len(on_ours)} go to {q.core_list}, {fired} fired in {q.sample.seconds:.1f} s"
    if set(q.cores) >= set(q.host.online):
        return Finding("interrupts", "warn", found, "choose cores for the engine: --cores N")
    mend = f"{SUDO_SELF} host apply --irqs --cores {q.core_list}"
    return Finding("interrupts", "warn", found, mend)


def irqbalance(q: Question) -> Finding:
    if not q.host.running(["irqbalance"]):
        return Finding("irqbalance", "ok", "not running")
    if q.host.isolated and not set(q.cores) - set(q.host.isolated):
        return Finding("irqbalance", "ok", "running, and it leaves isolated cores alone")
    return Finding(
        "irqbalance", "warn", "running: it moves interrupts back to the engine's cores",
        "systemctl stop irqbalance",
    )  # fmt: skip


def busy(q: Question) -> Finding:
    """Threads of others that ran on our cores while we looked."""
    least = BUSY_SHARE * q.sample.seconds * os.sysconf("SC_CLK_TCK")
    others = {
        task.pid: f"{task.name} ({task.pid}) on {task.core}"
        for task, ticks in q.sample.busy
        if task.core in q.cores and ticks >= max(least, 1) and task.pid != os.getpid()
    }
    if others:
        there = sorted(set(q.host.online) - set(q.cores))
        return Finding(
            "busy cores", "warn", ", ".join(list(others.values())[:5]),
            f"taskset -acp {format_cores(there)} {min(others)}" if there else "stop them",
        )  # fmt: skip
    return Finding("busy cores", "ok", f"nobody else on {q.core_list}")


def load(q: Question) -> Finding:
    one = float((q.host.read("/proc/loadavg") or "0").split()[0])
    if one > 0.5:
        return Finding(
            "load", "warn", f"{one:.2f} over the last minute", "stop what else is running"
        )
    return Finding("load", "ok", f"{one:.2f}")
