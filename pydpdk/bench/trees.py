"""Another build beside this one: how its processes are started so that they import it, not ours.

An editable install puts a finder before everything else in ``sys.meta_path``, and a case starts
processes of its own, so the environment alone has to say what is imported: MESONPY_EDITABLE_SKIP
turns that finder off, and PYTHONPATH leads to a folder of links to one checkout and its built core.
The worker is asked afterwards what it really imported.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pydpdk
from pydpdk.bench import data
from pydpdk.errors import HostError, UsageError

WORKER = "pydpdk/bench/worker.py"
TOO_OLD = f"has no {WORKER}: it is too old to be measured in turn"
BUILD_TOOLS = "pip install meson ninja cffi"
BUILD_S = 1800.0
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
Notify = Callable[[str], None]


@dataclass(frozen=True)
class Build:
    """``python`` with ``env`` imports it; ``label`` is what the user called it.

    ``planted``: what its timed loops shall cost more than they do, for a self-test. ``own``: it is
    what this process runs.
    """

    label: str
    python: str
    env: dict[str, str] = field(default_factory=dict)
    planted: float = 1.0
    own: bool = False


def here() -> Build:
    """The build this process runs."""
    return Build("this build", sys.executable, own=True)


@contextmanager
def resolve(text: str, notify: Notify = lambda what: None) -> Iterator[Build]:
    """``self``, a folder with a built checkout, a Python interpreter, or else a commit.

    What is made for it in a temporary folder is gone afterwards; a commit's build stays in the
    cache. UsageError for what is none of these or too old, HostError where it cannot be built.
    """
    path = Path(text)
    with ExitStack() as stack:
        if text == "self":
            yield replace(here(), label="self")
        elif path.is_dir():
            tree = path.resolve()
            _must_be_fresh(text, tree)
            yield stack.enter_context(_checkout(text, tree, tree / "build"))
        elif path.is_file() and os.access(path, os.X_OK):
            yield Build(text, str(path.absolute()))
        else:
            tree, build = _commit(text, notify)
            yield stack.enter_context(_checkout(text, tree, build))


def _must_be_fresh(label: str, tree: Path) -> None:
    """UsageError when its core is older than its sources; what ninja did not build is as it is."""
    if not (tree / "build" / "build.ninja").exists():
        return
    if "no work to do" not in _do(["ninja", "-C", str(tree / "build"), "-n"]):
        raise UsageError(f"{label}: its core is not built from its sources: make -C {tree} build")


@contextmanager
def _checkout(label: str, tree: Path, build: Path) -> Iterator[Build]:
    """Links to its sources and core in one folder: the tree itself is not touched."""
    if not (tree / "pydpdk" / "__init__.py").exists():
        raise UsageError(f"{label}: no checkout of pydpdk (no pydpdk/__init__.py in it)")
    if not (tree / WORKER).exists():
        raise UsageError(f"{label} {TOO_OLD}")
    cores, loops = (sorted(build.glob(f"**/{name}{SUFFIX}")) for name in ("_core", "_bench"))
    if not cores:
        raise UsageError(f"{label}: not built for this Python: make -C {tree} build")
    with tempfile.TemporaryDirectory(prefix="pydpdk-bench-") as folder:
        package = Path(folder) / "pydpdk"
        (package / "bench").mkdir(parents=True)
        _link(package, (tree / "pydpdk").iterdir())
        _link(package / "bench", (tree / "pydpdk" / "bench").iterdir())
        _link(package, cores[:1])
        _link(package / "bench", loops[:1])  # its loops were in the core once: then it has none
        if (tree / "testbed").exists():
            (Path(folder) / "testbed").symlink_to(tree / "testbed")
        finders = [getattr(finder, "_build_path", "") for finder in sys.meta_path]
        yield Build(label, sys.executable, {
            "PYTHONPATH": folder,
            "PYTHONDONTWRITEBYTECODE": "1",
            "MESONPY_EDITABLE_SKIP": os.pathsep.join(filter(None, finders)),
        })  # fmt: skip


def _link(folder: Path, files: Iterable[Path]) -> None:
    for file in files:
        if file.name != "__pycache__" and not (folder / file.name).exists():
            (folder / file.name).symlink_to(file)


def _commit(text: str, notify: Notify) -> tuple[Path, Path]:
    """Worktree and build of a commit of this tree's repository, made once."""
    root = Path(str(pydpdk.__file__)).resolve().parents[1]
    if text.startswith("-") or not (root / ".git").exists():
        raise UsageError(
            f"{text}: neither a folder nor an interpreter, and pydpdk runs from no git checkout "
            "that it could be a commit of"
        )
    git = ["git", "-C", str(root)]
    found = subprocess.run(
        [*git, "rev-parse", "--verify", "--quiet", f"{text}^{{commit}}"],
        capture_output=True, text=True,
    )  # fmt: skip
    commit = found.stdout.strip()
    if found.returncode or not commit:
        raise UsageError(f"{text}: no commit of {root}, no folder, no interpreter and not 'self'")
    if subprocess.run(
        [*git, "cat-file", "-e", f"{commit}:{WORKER}"], capture_output=True
    ).returncode:
        raise UsageError(f"{text} ({commit[:12]}) {TOO_OLD}")
    of = hashlib.sha256(os.fsencode(root)).hexdigest()[:8]  # a worktree belongs to one repository
    folder = data.cache_dir() / "trees" / f"{commit[:16]}-{sys.implementation.cache_tag}-{of}"
    tree, build, done = folder / "tree", folder / "build", folder / "built"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            notify(f"building {text} ({commit[:12]}) in {folder}")
            for old in (tree, build):
                shutil.rmtree(old, ignore_errors=True)
            _do([*git, "worktree", "add", "--force", "--detach", str(tree), commit])
            meson = [sys.executable, "-m", "mesonbuild.mesonmain"]
            _do([*meson, "setup", str(build), str(tree)])
            _do([*meson, "compile", "-C", str(build)])
            done.touch()
    return tree, build


def _do(command: Sequence[str]) -> str:
    """What it says on stdout. HostError when it fails."""
    tools = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    try:
        ran = subprocess.run(
            command, capture_output=True, text=True, timeout=BUILD_S,
            stdin=subprocess.DEVNULL, env=os.environ | {"PATH": tools},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"{' '.join(command)}: {error}") from error
    if ran.returncode:
        said = (ran.stdout + ran.stderr).strip().splitlines()
        tail = "\n  ".join(said[-5:])
        mend = f" ({BUILD_TOOLS})" if "No module named" in tail else ""
        raise HostError(f"{' '.join(command)} failed{mend}:\n  {tail}")
    return ran.stdout
