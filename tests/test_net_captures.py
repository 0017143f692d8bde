"""Every capture there is, through the engine: nothing crashes, each frame is counted once.

Feeds subscribe to what the capture has, whatever protocol it speaks, so that alien bytes reach
every layer. How many frames a capture has is capinfos' word.
"""

from __future__ import annotations

import errno
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pydpdk._core import lib
from pydpdk.core import counters
from pydpdk.engine.engine import END
from pydpdk.engine.feed import Endpoint, Feed
from pydpdk.engine.survey import survey
from pydpdk.errors import DataError
from pydpdk.source.source import open_source
from tests.conftest import missing
from tests.pipeline import Outcome, replay

FOLDERS = (
    "cboe", "cme", "deribit", "fix", "ice", "iex", "miax", "nyse", "omi", "net/formats",
    "net/frag", "net/igmp_arp", "net/ip_options", "net/malformed", "net/mixed", "net/tcp",
    "net/tunnel", "net/udp_checksum_length", "net/vlan", "net/websocket", "orders",
)  # fmt: skip
ODD = "reported"  # each of its captures has an answer of its own, not all of them capinfos'
SLOW = ("cboe", "cme", "ice", "miax", "nyse", "omi")
BY_FOLDER = pytest.mark.parametrize(
    "folder", [pytest.param(f, marks=[pytest.mark.slow] if f in SLOW else []) for f in FOLDERS]
)
BROKEN = {  # name: frames before the break, error, what is said of it
    "zeek__trunc-hdr.pcap": (0, errno.EBADMSG, "captured length 8 is above the limit of 1"),
}
PROTOCOLS = ("itch50", "deep10", "tops16")
FEEDS_MAX = 8
BURSTS = (1, 3, 64, 256)
STEPS = {"batch_us": 0}  # as few as can be
TINY = {"orders_max": 4096, "levels_max": 8192, "window": 256}
ARBITRARY = Feed("itch50", (Endpoint("239.255.1.2", 1),), **TINY)


def is_capture(path: Path) -> bool:
    return path.suffix != ".snoop" and path.name.removesuffix(".gz").endswith((".pcap", ".pcapng"))


def captures(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if is_capture(path))
    assert found
    return found


@cache
def frames_by_capinfos(folder: Path) -> dict[str, int]:
    tool = shutil.which("capinfos")
    if tool is None:
        missing("capinfos")
    command = [str(tool), "-T", "-r", "-m", "-M", "-c", *map(str, captures(folder))]
    rows = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    cells = (row.rsplit(",", 1) for row in rows)
    return {Path(name.strip('"')).name: int(count.strip('"')) for name, count in cells}


def feeds_of(path: Path) -> list[Feed]:
    """Feeds on the first destinations of a capture, of each protocol in turn."""
    with open_source(f"pcap:{path}") as source:
        endpoints = [stream.endpoint for stream in survey(source).streams]
    return [
        Feed(PROTOCOLS[i % len(PROTOCOLS)], (endpoint,), **TINY)
        for i, endpoint in enumerate(endpoints[: FEEDS_MAX - 1])
    ]


def frames_close(got: Outcome) -> int:
    """The frames received, all accounted for."""
    received = got.counters["frames_received"]
    drops = sum(got.counters[name] for name in counters.DROPS)
    assert received == got.counters["frames_parsed"] + drops
    assert got.result["unexplained"] == 0
    return received


def seen(got: Outcome) -> tuple[Any, ...]:
    return got.result, got.counters, got.books, got.ends, got.problems, got.events.tobytes()


@BY_FOLDER
def test_each_frame_is_counted_once_at_any_burst_size(data: Path, folder: str) -> None:
    counts = frames_by_capinfos(data / folder)
    for path in captures(data / folder):
        feeds = [*feeds_of(path), ARBITRARY]
        first = replay(path, feeds, burst=BURSTS[0], **STEPS)
        if path.name in BROKEN:
            frames, error, reason = BROKEN[path.name]
            assert first.ends == [-error]
            assert reason in first.problems[0]
        else:
            frames = counts[path.name]
            assert first.ends == [END]
        assert frames_close(first) == frames, path
        assert first.counters["events_written"] == len(first.events)
        for burst in BURSTS[1:]:
            assert seen(replay(path, feeds, burst=burst, **STEPS)) == seen(first), (path, burst)


@BY_FOLDER
def test_nothing_reaches_a_feed_of_a_group_that_is_not_there(data: Path, folder: str) -> None:
    for path in captures(data / folder):
        got = replay(path, [ARBITRARY], checksum="verify", **STEPS)
        frames_close(got)
        assert got.counters["frames_parsed"] == got.counters["messages_received"] == 0
        assert len(got.events) == 0
        assert got.result["sequence"] == []


def test_alien_bytes_reach_the_sessions(data: Path) -> None:
    """The test above means nothing when all frames stop at the door."""
    reasons: set[str] = set()
    for path in captures(data / "omi") + captures(data / "net/udp_checksum_length"):
        reasons |= set(counters.nonzero(replay(path, feeds_of(path)).counters))
    assert reasons >= {
        "drop_session_header", "drop_sequence", "messages_cut", "messages_delivered",
        "messages_untrusted", "block_cut", "message_unknown", "message_length",
    }  # fmt: skip


@pytest.mark.parametrize("folder", [f for f in FOLDERS if f.startswith("net/")])
def test_a_capture_cut_in_its_last_record_gives_all_before_it(
    data: Path, tmp_path: Path, folder: str
) -> None:
    """HOSTILE 1, 2. In the classic format the last bytes of a file are its last record's."""
    counts = frames_by_capinfos(data / folder)
    for path in captures(data / folder):
        raw = path.read_bytes()
        classic = raw[:4] != b"\x0a\x0d\x0d\x0a"
        if not classic or path.name in BROKEN:
            continue
        cut = tmp_path / path.name
        cut.write_bytes(raw[:-1])
        got = replay(cut, [*feeds_of(cut), ARBITRARY])
        assert frames_close(got) == counts[path.name] - 1
        assert got.ends == [-errno.EBADMSG], path
        assert "offset" in got.problems[0]


def test_every_other_file_is_refused_by_name(data: Path) -> None:
    refused = 0
    for path in sorted(p for p in data.rglob("*") if p.is_file()):
        if path.is_relative_to(data / "reported"):  # made to be odd: each has an answer of its own
            continue
        if is_capture(path):
            assert str(path.parent.relative_to(data)) in FOLDERS, path
            continue
        with pytest.raises(DataError) as error:
            open_source(f"pcap:{path}").close()
        assert str(path) in str(error.value)
        refused += 1
    assert refused > 20


def test_files_that_are_not_there_or_empty_are_refused_by_name(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pcap"
    empty.touch()
    for path in (empty, tmp_path / "absent.pcap", tmp_path):
        with pytest.raises(DataError) as error:
            open_source(f"pcap:{path}")
        assert str(path) in str(error.value)


def test_the_core_has_room_for_the_feeds_of_this_test() -> None:
    assert lib.FEEDS_MAX >= FEEDS_MAX
