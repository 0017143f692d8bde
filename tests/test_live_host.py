"""A live run on a host that stalls or is not ready, or with a configuration that is not right."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.command import ROOT
from tests.live_run import LiveRun, config, leftovers
from tests.test_config import BROKEN, SMALL
from tests.test_stall import quota_group, set_quota

pytestmark = pytest.mark.live

# --- a host that stalls (fault 21) ---


def test_every_stall_is_counted(tmp_path: Path, pydpdk_wire: Any) -> None:
    wire = pydpdk_wire
    spec = config(tmp_path / "live.toml", f"tpacket:{wire.b.name}")
    with LiveRun(spec, namespace=wire.b.namespace) as run:
        pid = run.ready()["engine"]["pid"]
        before = run.status()["engine"]["loops"][0]["counters"].get("stall_us", 0)
        for _ in range(6):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(0.05)
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.1)
        record = run.stop()
    assert run.process.returncode == 0, run.log
    loop = record["engine"]["loops"][0]
    assert loop["counters"]["stalls"] >= 6
    assert loop["counters"]["stall_us"] - before >= 6 * 49_000
    assert loop["latency_ns"]["stall"]["max"] >= 49_000_000
    assert not loop["reliable"]


def test_a_throttled_engine_knows_it(tmp_path: Path, pydpdk_wire: Any) -> None:
    wire, group = pydpdk_wire, quota_group()
    spec = config(tmp_path / "live.toml", f"tpacket:{wire.b.name}")
    try:
        with LiveRun(spec, namespace=wire.b.namespace) as run:
            pid = run.ready()["engine"]["pid"]
            before = run.counter("stall_us")
            set_quota(group)
            (group / "cgroup.procs").write_text(str(pid))
            time.sleep(2)
            run.until(lambda _: run.counter("stall_us") - before > 1_000_000, "most of two seconds")
            Path(group.parent, "cgroup.procs").write_text(str(pid))
            record = run.stop()
    finally:
        group.rmdir()
    assert run.process.returncode == 0, run.log
    assert not record["engine"]["loops"][0]["reliable"]


# --- a host that is not ready, a configuration that is not right (faults 22, 23, 26) ---

UNREADY = {
    "no hugepages": ("hugepages = true", "nr_hugepages"),
    "more memory than there is": ("memory_mb = 1048576", "memory_mb"),
}


@pytest.mark.parametrize("lack", UNREADY)
def test_a_host_that_lacks_memory_is_told_what_to_do(lack: str, tmp_path: Path) -> None:
    option, remedy = UNREADY[lack]
    pools = Path("/sys/kernel/mm/hugepages").glob("hugepages-*/free_hugepages")
    if "huge" in lack and any(int(pool.read_text()) for pool in pools):
        pytest.skip("needs a host without free hugepages")
    spec = config(tmp_path / "live.toml", "null:size=64", rest=f"[eal]\n{option}")
    with LiveRun(spec) as run:
        run.process.wait(60)
    assert run.process.returncode == 3, run.log
    (line,) = run.log.splitlines()
    assert remedy in line
    assert leftovers(run.name) == []


@pytest.mark.parametrize(("old", "new", "line", "said"), BROKEN[::6])
def test_a_broken_configuration_starts_nothing(
    old: str, new: str, line: int, said: str, tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "apps", tmp_path / "apps")
    (tmp_path / "bad.py").write_text("x = 1\nclass Spread(:\n")
    path = tmp_path / "run.toml"
    path.write_text(SMALL.replace(old, new, 1))
    before = sorted(tmp_path.rglob("*"))
    command = [sys.executable, "-B", "-m", "pydpdk", "run", str(path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"pydpdk: {path}, line {line}: ")
    assert done.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
    assert leftovers("nasdaq") == []
