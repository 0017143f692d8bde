"""A supervisor whose engine or stage does not come back."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from pydpdk.cli.run import finish
from pydpdk.process import config as configuration
from pydpdk.process.supervisor import Supervisor
from tests.command import ROOT
from tests.live_run import config, leftovers, stage

pytestmark = pytest.mark.live

SPREAD = f"{ROOT}/apps/spread.py:Spread"


def made(tmp_path: Path, name: str) -> configuration.Config:
    path = config(tmp_path / "run.toml", "null:size=64", name=f"{name}-{os.getpid()}",
                  source="flight_mb = 0", rest=stage(SPREAD))  # fmt: skip
    return configuration.load(path)


def test_an_engine_that_cannot_start_again_leaves_the_runs_record(tmp_path: Path) -> None:
    plan = made(tmp_path, "gone")
    with Supervisor(plan) as run:
        run.start()
        assert run.engine is not None
        plan.path.write_text("what is no configuration")
        run.engine.process.kill()
        run.run(lambda: False, 60)
        record = run.finish()
    assert [death["incarnation"] for death in record["deaths"]] == list(range(1, 7))
    assert record["stages"][0]["unexplained"] == 0
    assert record["unexplained"] is None
    assert leftovers(plan.name) == []


def test_a_run_without_a_stages_account_is_no_success(tmp_path: Path) -> None:
    plan = made(tmp_path, "killed")
    with Supervisor(plan) as run:
        run.start()
        run.stages[0].process.send_signal(signal.SIGKILL)
        run.run(lambda: False, 1)
        record = run.finish() | {"interrupted": False}
    assert record["unexplained"] is None
    assert record["engine"]["loops"]
    with pytest.raises(SystemExit) as ended:
        finish(record)
    assert ended.value.code == 1
