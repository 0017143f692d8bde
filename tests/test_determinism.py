"""The same input gives the same records, orders and books, however it comes in."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scapy.utils import RawPcapReader

from pydpdk._core import lib
from pydpdk.engine.feed import Endpoint, Feed
from pydpdk.source import eal
from pydpdk.synth.gen import generate
from pydpdk.synth.multicast import Framer
from pydpdk.synth.two_lines import LINE_A, LINE_B
from pydpdk.tape.pcapfile import CaptureWriter, Format
from pydpdk.trade.limits import AccountLimits, RiskConfig
from tests.conftest import ROOT, missing
from tests.pipeline import SMALL, Outcome, found_feed, replay
from tests.pipeline_child import PerBatch, PerEvent, digests

FEED = Feed("itch50", tuple(Endpoint(line.group, line.port) for line in (LINE_A, LINE_B)), **SMALL)
FAULTS: dict[str, Any] = {
    "seed": 3, "instruments": 20, "loss": 0.02, "dup": 0.02, "reorder": 0.03,
    "skew_us": 400.0, "jitter_us": 50.0, "gaps": ((9000, 30), (11_000, 1)),
}  # fmt: skip
BURSTS = (2, 3, 7, 16, 64, 255, 256)
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Captures of one faulty day; the same arguments are written once."""
    folder = tmp_path_factory.mktemp("captures")

    def make(name: str, **changes: Any) -> Path:
        path = folder / name
        if not path.exists():
            generate(path, **{"messages": 12_000, **FAULTS, **changes})
        return path

    return make


def traded(path: Any, **options: Any) -> Outcome:
    got = replay(path, [FEED], options.pop("stage", PerEvent)(), **options)
    assert got.clean
    return got


def same(got: Outcome, first: Outcome) -> None:
    """All of it, to the byte."""
    assert len(got.events) == len(first.events)
    words = [np.frombuffer(run.events.tobytes(), "u8").reshape(-1, 8) for run in (got, first)]
    differ = np.flatnonzero((words[0] != words[1]).any(axis=1))
    assert len(differ) == 0, f"first difference at record {differ[0]}"
    assert got.orders == first.orders
    assert got.reports == first.reports
    assert (got.books, got.counters, got.ends) == (first.books, first.counters, first.ends)
    assert got.result == first.result


def test_the_captures_make_work_for_every_part(make: Make) -> None:
    got = traded(make("day.pcap"))
    (account,) = got.result["sequence"]
    assert min(account[name] for name in ("lost", "recovered", "declared", "duplicate")) > 0
    orders = got.result["orders"]
    assert min(orders[name] for name in ("sent", "acked", "filled", "canceled")) > 50
    assert orders["rejected"]
    assert (got.events["flags"] & lib.FLAG_SUSPECT).any()


# ---- burst sizes ----

DENSE = {"rate": 2e8, "messages": 60_000, "loss": 0.0, "reorder": 0.0}
"""More records within 100 us than one step may write."""


@pytest.mark.parametrize(
    ("capture", "batch_us"),
    [
        pytest.param({}, 100, id="day"),
        pytest.param({}, 0, id="one-batch"),
        pytest.param({}, 1, id="short-batches"),
        pytest.param(DENSE, 100, id="dense"),
        pytest.param(DENSE, 0, id="dense-in-one"),
    ],
)
def test_the_burst_size_changes_nothing(make: Make, capture: dict[str, Any], batch_us: int) -> None:
    path = make("dense.pcap" if capture else "day.pcap", **capture)
    first = traded(path, burst=1, batch_us=batch_us)
    for burst in BURSTS:
        same(traded(path, burst=burst, batch_us=batch_us), first)


def test_the_burst_size_changes_nothing_on_a_recorded_day(data: Path) -> None:
    path = data / "iex" / "iex_tops16_20170710_a.pcapng.gz"
    feed = found_feed(path, "tops16", **SMALL)
    first = replay(path, [feed], PerEvent(), burst=1)
    assert first.result["orders"]["sent"] > 100
    for burst in (5, 256):
        same(replay(path, [feed], PerEvent(), burst=burst), first)


# ---- files ----


def test_compressed_files_are_the_same_as_plain_ones(make: Make, tmp_path: Path) -> None:
    plain = make("day.pcap")
    first = traded(plain)
    same(traded(make("day.pcap.gz")), first)
    zstd = shutil.which("zstd")
    if zstd is None:
        missing("zstd")
    packed = tmp_path / "day.pcap.zst"
    subprocess.run([str(zstd), "-q", str(plain), "-o", str(packed)], check=True)
    same(traded(packed), first)


def test_file_formats_are_the_same(make: Make) -> None:
    first = traded(make("day.pcap"))
    same(traded(make("day.pcapng", format="pcapng")), first)
    coarse = traded(make("us.pcap", format="pcap-us"))
    assert digests(coarse) == digests(first)
    assert coarse.events.tobytes() != first.events.tobytes(), "the stamps are cut in the file"


def healing(path: Path, format: Format, noticed_ns: int, healed_ns: int) -> Path:
    """Line A skips a message, line B brings it, so long after the session began."""
    message = b"S" + bytes(10) + b"Q"
    a, b = Framer(LINE_A).frame, Framer(LINE_B).frame
    packets = [(0, a, 1), (noticed_ns, a, 3), (healed_ns, b, 2), (healed_ns + 1000, a, 4)]
    with CaptureWriter(path, format) as capture:
        for ts_ns, frame, sequence in packets:
            header = struct.pack(">10sQH", b"SESSION", sequence, 1)
            block = len(message).to_bytes(2, "big") + message
            capture.write(1_700_000_000 * 10**9 + ts_ns, frame(header + block))
    return path


def test_a_gap_is_given_up_alike_on_coarse_and_fine_stamps(tmp_path: Path) -> None:
    timeout_ns, lost = FEED.gap_timeout_us * 1000, set()
    formats: tuple[Format, ...] = ("pcap-ns", "pcap-us")
    for noticed in (0, 1, 500, 999, 1000):
        for off in (-1000, -999, -500, -1, 0, 1, 500, 999, 1000):
            fine, coarse = (
                replay(healing(tmp_path / "gap.pcap", format, noticed, noticed + timeout_ns + off),
                       [FEED]) for format in formats
            )  # fmt: skip
            assert digests(coarse) == digests(fine), (noticed, off)
            lost.add(fine.result["sequence"][0]["lost"])
    assert lost == {0, 1}


def test_a_rate_limit_decides_alike_on_coarse_and_fine_stamps(make: Make) -> None:
    limits = RiskConfig(account=AccountLimits(rate_max=1, rate_window_ns=100_000))
    options: dict[str, Any] = {"limits": limits, "batch_us": 1}
    first = traded(make("day.pcap"), **options)
    rejected = first.result["orders"]["rejected"]["RATE_MAX"]
    assert 200 < rejected < first.result["orders"]["sent"] - 200
    assert digests(traded(make("us.pcap", format="pcap-us"), **options)) == digests(first)


def split(path: Path, folder: Path) -> list[Path]:
    """Line A's frames and line B's in files of their own."""
    files = [folder / "a.pcap", folder / "b.pcap"]
    with (
        RawPcapReader(str(path)) as reader,
        CaptureWriter(files[0]) as a,
        CaptureWriter(files[1]) as b,
    ):
        group = bytes(map(int, LINE_A.group.split(".")))
        for frame, meta in reader:
            line = a if frame[30:34] == group else b
            line.write(meta.sec * 10**9 + meta.usec, frame)
        assert min(a.frames, b.frames) > 500
    return files


@pytest.mark.parametrize("burst", [1, 64, 256])
def test_two_files_merged_are_the_same_as_one(make: Make, tmp_path: Path, burst: int) -> None:
    path = make("day.pcap")
    got, first = traded(split(path, tmp_path), burst=burst), traded(path)
    assert len(got.ends) == 2
    got.ends = first.ends
    same(got, first)


# ---- strategies ----


@pytest.mark.parametrize("batch_us", [0, 1, 100, 5000])
def test_a_strategy_per_event_and_per_batch_sends_the_same_orders(
    make: Make, batch_us: int
) -> None:
    path = make("day.pcap")
    each, whole = (traded(path, stage=s, batch_us=batch_us) for s in (PerEvent, PerBatch))
    assert len(each.orders) > 0
    same(whole, each)


# ---- processes and drivers ----


def child(source: str, **environment: str) -> dict[str, Any]:
    """The digests of a replay in another process."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.pipeline_child", source, str(FEED)],
        cwd=ROOT, env=os.environ | environment, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return dict(json.loads(run.stdout))


def test_another_process_and_hash_seed_change_nothing(make: Make) -> None:
    path = make("day.pcap")
    first = json.loads(json.dumps(digests(traded(path))))
    for seed in ("0", "4242"):
        assert child(f"pcap:{path}", PYTHONHASHSEED=seed) == first


@pytest.mark.skipif(not eal.version(), reason="pydpdk was built without DPDK")
@pytest.mark.parametrize("name", ["day.pcap", "dense.pcap"])
def test_the_dpdk_driver_gives_the_same_as_our_own_reader(make: Make, name: str) -> None:
    path = make(name, **DENSE if name == "dense.pcap" else {})
    first = json.loads(json.dumps(digests(traded(path))))
    assert child(f"net_pcap:{path}") == first
