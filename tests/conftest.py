"""Fixtures of the whole suite."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from testbed import vm

ROOT = Path(__file__).resolve().parent.parent
os.environ.pop("PYTHONUNBUFFERED", None)  # what is written late can fail late

# No time limits: other tests keep the cores busy. In CI the same examples every time, so that
# what fails there fails by the change that it looks at; elsewhere new ones.
settings.register_profile(
    "pydpdk",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,
)
settings.load_profile("pydpdk")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that no worker is left with a long one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def missing(what: str) -> None:
    """Skip by name; in CI what is missing is a failure."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing, and CI must have it")
    pytest.skip(f"{what} is missing")


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of the real captures: PYDPDK_DATA, or ../shared/data beside the project."""
    path = Path(os.environ.get("PYDPDK_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        missing(f"capture folder {path} (PYDPDK_DATA)")
    return path


@pytest.fixture(scope="session")
def tshark() -> str:
    """Path of tshark, the independent dissector."""
    path = shutil.which("tshark")
    if path is None:
        missing("tshark")
    return str(path)


@pytest.fixture(scope="session")
def virtual_machine() -> type[vm.VirtualMachine]:
    """VirtualMachine, where this host can run one."""
    try:
        vm.require()
    except vm.Missing as lack:
        missing(str(lack))
    return vm.VirtualMachine
