"""Processes of a live run that die or stop, and what follows."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pydpdk._core import lib
from pydpdk.core.instruments import Instruments
from pydpdk.core.ring import Ring
from pydpdk.errors import CoreError
from pydpdk.process import rundir
from tests.live_run import LiveRun, config, leftovers, stage
from tests.live_watch import PPS, SKIP, SPREAD, Watch, feeding, frames_in, gone, two_days
from tests.test_run import replayed

pytestmark = pytest.mark.live

# What kills an engine from inside, on SIGUSR2: C code of the test, in its address space alone.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void act(int number)
{
    const char *how = getenv("SHIM");
    void *eal = NULL;
    char name[32];
    for (int abi = 23; eal == NULL && abi < 40; abi++) { /* 23 is DPDK 22.11's */
        snprintf(name, sizeof name, "librte_eal.so.%d", abi);
        eal = dlopen(name, RTLD_NOLOAD | RTLD_NOW);
    }
    void (*panic)(const char *, const char *, ...) = eal ? dlsym(eal, "__rte_panic") : 0;
    void (*leave)(int, const char *, ...) = eal ? dlsym(eal, "rte_exit") : 0;
    (void)number;
    if (!strcmp(how, "panic") && panic)
        panic("lcore_main", "nothing works any more\n");
    if (!strcmp(how, "exit") && leave)
        leave(1, "Cannot go on\n");
}

__attribute__((constructor)) static void begin(void) { signal(SIGUSR2, act); }
"""


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library to be loaded before all others."""
    path = tmp_path_factory.mktemp("shim") / "shim.so"
    source = path.with_suffix(".c")
    source.write_text(SHIM)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", path, source, "-ldl"], check=True)
    return path


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return two_days(tmp_path_factory.mktemp("days"))


def kill(pid: int, how: str) -> None:
    numbers = {"panic": signal.SIGUSR2, "exit": signal.SIGUSR2}
    os.kill(pid, numbers.get(how) or signal.Signals[how])


def mended(status: dict[str, Any]) -> bool:
    """The second engine is at work."""
    engine = status["engine"]
    return bool(engine and engine["incarnation"] == 2 and engine["loops"][0]["links"]["a"] == "up")


# --- an engine that dies ---

DEATHS = {
    "SIGKILL": "killed by SIGKILL",
    "SIGSEGV": "killed by SIGSEGV",
    "SIGABRT": "killed by SIGABRT",
    "panic": "PANIC in lcore_main",
    "exit": "Cannot go on",
}


@pytest.mark.parametrize("how", DEATHS)
def test_a_dead_engine_is_told_and_followed_by_another(
    how: str, days: tuple[Path, Path], shim: Path, tmp_path: Path, pydpdk_wire: Any,
    pydpdk_feeder: Any, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Its books are right again with the next session, and the frames before its end are kept."""
    wire = pydpdk_wire
    spec = config(tmp_path / "live.toml", f"af_packet:{wire.b.name}", rest=stage(SPREAD, SKIP))
    with monkeypatch.context() as patch:
        if how in ("panic", "exit"):
            before = os.environ.get("LD_PRELOAD", "")  # a sanitizer's library must come first
            patch.setenv("LD_PRELOAD", f"{before} {shim}".strip())
            patch.setenv("SHIM", how)
        run = LiveRun(spec, "--flights", str(tmp_path), namespace=wire.b.namespace)
    with run:
        pid = run.ready()["engine"]["pid"]
        watch = Watch(run)
        with feeding(pydpdk_feeder, days[0], pps=PPS):
            run.until(lambda _: run.counter("frames_parsed") > 1_000, "part of a session")
            names = Instruments.attach(rundir.instruments_name(run.name, 0))
            named = names.symbols(0)
            died = time.time_ns()
            kill(pid, how)
            assert names.symbols(0) == named != {}, "they outlive their engine"
            run.until(mended, "mended")
            time.sleep(0.3)  # frames for the second engine, in mid-session
            assert names.symbols(0) == named, "it is the same session"
        run.idle()
        assert run.status()["engine"]["loops"][0]["suspect"] == {"itch": True}
        first, broken, second = watch.of(lib.EVENT_ENGINE)
        ledger = pydpdk_feeder(days[1], pps=PPS)
        run.until(lambda _: run.counter("session_resets") == 1, "the next session")
        run.idle()
        names.close()
        record = run.stop()
    assert run.process.returncode == 0, run.log
    assert [int(e["order_id"]) for e in (first, broken, second)] == [1, 1, 2]
    assert [int(e["aux"]) for e in (first, broken, second)] == [0, 1, 0]
    assert died <= int(broken["ts_recv"]) <= int(second["ts_recv"]), "in band, before it is mended"
    assert broken["flags"] & lib.FLAG_SUSPECT
    (death,) = record["deaths"]
    assert DEATHS[how] in death["cause"]
    assert DEATHS[how] in run.log
    assert record["unexplained"] == 0
    loop, (trader,) = record["engine"]["loops"][0], record["stages"]
    assert ledger.lines[0].line.packets > 0
    assert loop["sequence"][-1]["session"] == "DAY1"
    assert loop["sequence"][-1]["lost"] == 0
    assert loop["suspect"] == {"itch": False}
    assert trader["books"] == [loop["books"]["hash"]]
    alone = replayed(days[1], tmp_path, "alone")
    assert loop["books"]["hash"] == alone["engine"]["loops"][0]["books"]["hash"]
    crash = next(path for path in record["dumps"] if path.endswith("-crash.pcapng"))
    assert frames_in(crash) > 1_000
    assert leftovers(run.name) == []


@pytest.mark.parametrize(("policy", "engines"), [("never", 1), ("restarts_max = 2", 3)])
def test_the_policy_says_how_often(
    policy: str, engines: int, tmp_path: Path, pydpdk_wire: Any
) -> None:
    wire = pydpdk_wire
    top = 'restart = "never"' if policy == "never" else policy
    spec = config(tmp_path / "live.toml", f"tpacket:{wire.b.name}", top=top)
    with LiveRun(spec, namespace=wire.b.namespace) as run:
        for number in range(1, engines + 1):
            at = run.until(lambda s, n=number: s["engine"]["incarnation"] == n, f"engine {number}")
            os.kill(at["engine"]["pid"], signal.SIGKILL)
        record = run.end()
    assert run.process.returncode == 1, run.log
    assert record["incarnations"] == engines
    assert [death["incarnation"] for death in record["deaths"]] == list(range(1, engines + 1))
    assert "restart policy" in run.log
    assert leftovers(run.name) == []


def test_a_dead_supervisor_ends_all_and_the_next_run_clears_up(
    tmp_path: Path, pydpdk_wire: Any, pydpdk_feeder: Any, days: tuple[Path, Path]
) -> None:
    wire = pydpdk_wire
    spec = config(tmp_path / "live.toml", f"af_packet:{wire.b.name}", rest=stage(SPREAD, SKIP) * 2)
    with LiveRun(spec, namespace=wire.b.namespace) as run:
        status = run.ready()
        pids = [status["engine"]["pid"], *(int(pid) for pid in stage_pids(status["pid"]))]
        assert len(set(pids)) == 3
        with feeding(pydpdk_feeder, days[0], pps=PPS):
            run.until(lambda _: run.counter("frames_parsed") > 100, "traffic")
            os.kill(status["pid"], signal.SIGKILL)
            run.process.wait(10)
            assert [pid for pid in pids if not gone(pid)] == []
    left = leftovers(run.name)
    assert f"pydpdk-{run.name}.ring0" in left
    assert f"pydpdk-{run.name}.flight0" in left
    with LiveRun(spec, namespace=wire.b.namespace) as run:
        run.until(lambda s: s["pid"] == run.process.pid, "another run")
        assert f"removed what a killed run left: pydpdk-{run.name}." in run.log
        record = run.stop()
    assert run.process.returncode == 0
    assert record["unexplained"] == 0
    assert leftovers(run.name) == []


def stage_pids(supervisor: int) -> list[str]:
    """Its children but the engine."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    return [pid for pid in children if "stage_process" in Path(f"/proc/{pid}/cmdline").read_text()]


# --- two who would write (fault 20) ---


def test_a_stopped_engine_keeps_its_ring(
    days: tuple[Path, Path], tmp_path: Path, pydpdk_wire: Any, pydpdk_feeder: Any
) -> None:
    """Nobody can take it over while it may wake up, so it never writes beside another."""
    wire = pydpdk_wire
    spec = config(tmp_path / "live.toml", f"tpacket:{wire.b.name}", rest=stage(SPREAD, SKIP))
    with LiveRun(spec, namespace=wire.b.namespace) as run:
        pid = run.ready()["engine"]["pid"]
        watch = Watch(run)
        with feeding(pydpdk_feeder, days[0], pps=PPS):
            run.until(lambda _: run.counter("frames_parsed") > 500, "traffic")
            os.kill(pid, signal.SIGSTOP)
            with pytest.raises(CoreError, match="busy"):
                Ring.adopt(rundir.ring_name(run.name, 0))
            time.sleep(0.3)
            os.kill(pid, signal.SIGCONT)
        run.idle()
        events = watch.take()
        record = run.stop()
    assert run.process.returncode == 0, run.log
    assert record["incarnations"] == 1
    assert np.all(np.diff(events["stamp"].astype(np.int64)) == 1)
    assert (events["kind"] == lib.EVENT_ENGINE).sum() == 1
    assert record["unexplained"] == 0
