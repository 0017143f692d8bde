"""Two builds in turn: that each is the build it should be, and that the rounds pair up.

Nothing here looks at how long anything took.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest

from pydpdk import _core
from pydpdk.bench import _bench, data, trees, versus
from pydpdk.bench.cases.rings import Partner
from pydpdk.bench.versus import Pair, Side
from pydpdk.bench.wires.agents import Refused, Wires, Worker
from pydpdk.errors import HostError, UsageError
from tests.bench_results import check
from tests.command import ROOT, call, refused, start

pytestmark = pytest.mark.live

CORE, LOOPS = (Path(str(module.__file__)).resolve() for module in (_core, _bench))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def market(folder: Path) -> data.Market:
    return versus.market_of(folder, data.QUICK, lambda done: None)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Another tree with this core; its partner process of the hop leaves a file behind."""
    tree = tmp_path / "other"
    ignore = shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(ROOT / "pydpdk", tree / "pydpdk", ignore=ignore)
    (tree / "build").mkdir()
    for made in (CORE, LOOPS):
        (tree / "build" / made.name).symlink_to(made)
    echo = tree / "pydpdk" / "bench" / "cases" / "echo.py"
    mark = f"open({str(tmp_path / 'was-here')!r}, 'w').write(__file__)\n"
    echo.write_text(echo.read_text().replace("\nimport ", f"\n{mark}import ", 1))
    return tree


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository that this build seems to run from, its cache beside it."""
    root = tmp_path / "repository"
    (root / "pydpdk").mkdir(parents=True)
    (root / "pydpdk" / "__init__.py").write_text("")
    monkeypatch.setattr(trees.pydpdk, "__file__", str(root / "pydpdk" / "__init__.py"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "a")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "a@b")
    git(root, "init", "-q")
    commit(root)
    return root


def git(root: Path, *words: str) -> str:
    ran = subprocess.run(["git", "-C", str(root), *words], check=True, capture_output=True)
    return ran.stdout.decode().strip()


def commit(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "as it is")


def files_of(tree: Path) -> set[Path]:
    return {path for path in tree.rglob("*") if path.name != "was-here"}


@pytest.mark.slow
def test_the_other_tree_is_what_its_processes_import(checkout: Path, folder: Path) -> None:
    """The hop's partner too, which the case starts on its own."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core")
    before = files_of(checkout)
    done = call(
        "bench", "run", "hop", "--quick", "--rounds", 1, "--keep", "--against", checkout,
        "--dir", folder, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    check(done.json)
    old, new = done.json["old"], done.json["new"]
    assert old["package"] == str(checkout / "pydpdk")
    assert new["package"] == str(ROOT / "pydpdk")
    assert old["core"] == new["core"] == str(CORE)
    assert old["sources_sha256"] != new["sources_sha256"]
    assert (checkout.parent / "was-here").exists()
    assert files_of(checkout) == before  # nothing was written into it


@pytest.mark.slow
@pytest.mark.parametrize("keep", [[], ["--keep"]])
def test_rounds_pair_up_without_peers(folder: Path, keep: list[str]) -> None:
    rounds = 2
    done = call(
        "bench", "run", "memory", *["ring"] * len(keep), "--quick", "--rounds", rounds, *keep,
        "--against", "self", "--dir", folder, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    check(done.json)
    assert [case["name"] for case in done.json["cases"]] == [*["ring"] * len(keep), "memory"]
    for case in done.json["cases"]:
        assert {row["role"] for row in case["series"]} == {"ours", "floor"}
        for row in case["series"]:
            assert row["old"]["rounds"] == row["new"]["rounds"] == rounds
            assert row["changes"][0]["verdict"] == "too noisy to say"  # 2 rounds are no verdict
        assert case["meanwhile"]["seconds"] > 0
    constant = done.json["cases"][-1]["series"]
    assert all(row["old"]["figures"] == row["new"]["figures"] for row in constant)
    assert done.json["stalls"]["before"][0]["looks"] > 0


@pytest.mark.slow
def test_a_planted_slowdown_is_found_and_nothing_where_none_is(
    market: data.Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole path of a comparison, with this build on both sides."""
    monkeypatch.setattr(versus, "ROUND_S", 0.05)
    plain, slow = trees.here(), replace(trees.here(), planted=2.0)
    for build, verdicts in ((slow, {"slower"}), (plain, {"no change seen", "too noisy to say"})):
        found = Pair(plain, build, market, keep=True).measure("decode", 6, only="pydpdk")
        (change,) = found["series"][0]["changes"]
        assert change["verdict"] in verdicts, change


def test_what_is_planted_is_in_the_timed_loop() -> None:
    """By its own clock, in units of the loop itself: no wall-clock figure is judged."""
    from pydpdk.bench import measure

    def spin() -> int:
        return sum(1 for _ in range(200_000))

    before, measure.planted = measure.planted, 50.0
    try:
        slow = measure.timed(spin)
    finally:
        measure.planted = before
    assert slow > measure.timed(spin)


def test_a_worker_says_what_it_cannot_and_why_it_died(market: data.Market) -> None:
    with Side(trees.here(), market.cores) as side:
        side.ask("session", both="a", alone="b", size=[1, 1, 1])
        with pytest.raises(Refused, match="no case nosuch"):
            side.ask("open", name="nosuch")
        with pytest.raises(HostError, match=r"ended with 1: .*absent"):
            side.ask("absent")


@pytest.mark.parametrize("other", ["nosuch", "--version", "HEAD:pydpdk", ""])
def test_what_is_no_build_is_refused(other: str, repository: Path) -> None:
    if not other:
        (repository / "plain").mkdir()
        other = str(repository / "plain")
    with pytest.raises(UsageError), trees.resolve(other):
        pass


def test_a_commit_without_a_worker_is_too_old(repository: Path) -> None:
    with pytest.raises(UsageError, match="too old"), trees.resolve("HEAD"):
        pass
    (repository / "pydpdk" / "bench").mkdir()
    (repository / trees.WORKER).write_text("")
    with (
        pytest.raises(UsageError, match="not built for this Python: make"),
        trees.resolve(str(repository)),
    ):
        pass


def test_processes_import_nothing_from_the_current_folder(
    market: data.Market, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mmap.py").write_text("raise SystemExit('from here')")
    (tmp_path / "json.py").write_text("raise SystemExit('from here')")
    monkeypatch.chdir(tmp_path)
    for build in (trees.here(), trees.Build("python", sys.executable)):
        with Side(build, market.cores) as side:
            assert side.hello()["package"] == str(ROOT / "pydpdk")
    with (
        Wires("null", 1) as wires,
        Worker(wires, 1, market.cores[-1]) as worker,
        pytest.raises(HostError, match="nosuch"),
    ):
        worker.ask("nosuch")
    if len(market.cores) > 1:
        with Partner(market.cores[0]) as partner:
            assert partner.child.poll() is None


def test_this_build_is_that_of_this_process(
    market: data.Market, checkout: Path, tmp_path: Path
) -> None:
    with trees.resolve(str(checkout)) as other:
        astray = replace(trees.here(), env=other.env)
        with pytest.raises(UsageError, match=f"this build is {ROOT / 'pydpdk'}, but .*import"):
            Pair(other, astray, market, keep=True)
        with Side(other, market.cores) as side:
            assert side.hello()["package"] == str(checkout / "pydpdk")


def test_a_core_older_than_its_sources_is_refused(checkout: Path) -> None:
    """Judged by ninja, on a build of one step; the core is that of the build to be."""
    build = checkout / "build"
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    (build / "_core.aaa.so").touch()  # of another Python
    (build / "build.ninja").write_text(
        f"rule copy\n  command = cp $in $out\nbuild made{suffix}: copy {checkout / 'source.c'}\n"
    )
    (checkout / "source.c").touch()

    def resolved() -> Path:
        with trees.resolve(str(checkout)) as build:
            (core,) = (Path(build.env["PYTHONPATH"]) / "pydpdk").glob("_core.*")
            return core.resolve()

    with pytest.raises(UsageError, match=rf"make -C {checkout} build"):
        resolved()
    assert not (build / f"made{suffix}").exists()  # looked at, not built
    subprocess.run(["ninja", "-C", build], check=True, capture_output=True)
    assert resolved() == CORE
    later = (build / f"made{suffix}").stat().st_mtime + 10
    os.utime(checkout / "source.c", (later, later))
    with pytest.raises(UsageError, match="not built from its sources"):
        resolved()
    (build / "build.ninja").write_text("rule")
    with pytest.raises(HostError, match="ninja"):
        resolved()


def test_a_python_without_pydpdk_is_refused(tmp_path: Path, folder: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'python: No module named pydpdk.bench.worker' >&2\nexit 1\n")
    python.chmod(0o755)
    said = refused(2, "bench", "run", "ring", "--quick", "--dir", folder, "--against", python)
    assert "too old" in said


@pytest.mark.slow
def test_a_commit_is_built_once_beside_the_tree(repository: Path, tmp_path: Path) -> None:
    """Its build copies this one: what is compiled is not the question here."""
    for name in ("pydpdk", "testbed"):
        shutil.copytree(
            ROOT / name, repository / name, dirs_exist_ok=True,
            ignore=shutil.ignore_patterns("__pycache__"),
        )  # fmt: skip
    (repository / "meson.build").write_text(
        "project('copy')\nfs = import('fs')\n"
        + "".join(f"fs.copyfile('{made}', '{made.name}')\n" for made in (CORE, LOOPS))
    )
    commit(repository)
    (repository / "pydpdk" / "broken.py").write_text("what is not committed takes no part")
    said: list[str] = []
    for _ in range(2):
        with trees.resolve("HEAD", said.append) as build, Side(build, [0]) as side:
            told = side.hello()
        cached = Path(told["package"])
        assert tmp_path / "cache" in cached.parents
        assert not (cached / "broken.py").exists()
        assert Path(told["core"]).is_relative_to(cached.parents[1])
        assert told["commit"] == git(repository, "rev-parse", "--short=12", "HEAD")
    assert len(said) == 1
    assert git(repository, "status", "--porcelain") == "?? pydpdk/broken.py"


def test_ctrl_c_prints_what_was_measured(folder: Path, market: data.Market) -> None:
    rounds = 2000
    words = ("run", "memory", "ring", "hop", "--quick", "--rounds", rounds, "--dir", folder)
    with start("bench", *words, "--json") as process:
        assert process.stderr
        for line in process.stderr:
            if "measuring ring" in line:
                process.send_signal(signal.SIGINT)
                break
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    found = json.loads(out)
    assert found["interrupted"]
    assert [case["name"] for case in found["cases"]] == ["ring"]
    check(found)
    assert all(row["rounds"] < rounds for row in found["cases"][0]["series"])
