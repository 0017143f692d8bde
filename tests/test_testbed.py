"""The testbed's own accounts: what the feeder says it sent is what crossed, fault by fault."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from scapy.utils import RawPcapReader

from testbed import frames as build
from testbed.datagrams import Line
from testbed.feeder import Feeder, Ledger
from testbed.net import Wire
from testbed.plan import Faults, Feed, Plan, plan
from testbed.wire import Observer, Report
from tests.dissect import fields

Send = Callable[..., Ledger]
SETTINGS = [
    (Faults(),),
    (Faults(loss=0.02, duplicate=0.02, reorder=0.02),),
    (Faults(loss=0.3, duplicate=0.5, reorder=0.6, reorder_max=8),),
    (Faults(reorder=1.0), Faults(loss=1.0)),
    (Faults(duplicate=1.0), Faults(reorder=0.2, late_us=300)),
]


@contextmanager
def feeder_at(wire: Wire) -> Iterator[Feeder]:
    with wire.a.namespace.inside():
        feeder = Feeder(wire.a.name)
    with feeder:
        yield feeder


def crossed(report: Report) -> list[Line]:
    assert (report.blind, report.cut) == (0, 0)
    return report.lines


def mold_feed(packets: int, times_ns: list[int] | None = None) -> Feed:
    """One line, one message a packet, and the end of the session."""
    payloads = [build.mold(sequence=n, messages=[b"x" * 20]) for n in range(1, packets + 1)]
    payloads.append(build.mold(sequence=packets + 1, count=0xFFFF))
    return Feed([build.datagram(payload) for payload in payloads], times_ns)


@pytest.mark.parametrize("faults", SETTINGS)
def test_the_ledger_is_what_crossed(
    faults: tuple[Faults, ...],
    pydpdk_feeder: Send,
    pydpdk_capture: Path,
    pydpdk_observer: Observer,
) -> None:
    ledger = pydpdk_feeder(pydpdk_capture, *faults, seed=7)
    report = pydpdk_observer.watch()
    assert crossed(report) == ledger.crossed
    assert report.seen == ledger.sent == ledger.planned
    for sent, bad in zip(ledger.lines, (faults * 2)[:2], strict=True):
        # What was done, by construction, and what came of it, by the sequences on the wire.
        line, whole = sent.line, sent.line.packets - sent.line.duplicates
        assert line.missing == [lost for lost in sent.dropped if lost[0] > 1]
        assert (line.duplicates, line.out_of_order) == (sent.duplicated, sent.reordered)
        for share, got in (bad.duplicate, line.duplicates), (bad.reorder, line.out_of_order):
            assert (got > 0) == (share > 0 and whole > 0)


def test_heartbeats_and_ends_of_session_show_every_gap(
    pydpdk_feeder: Send, pydpdk_capture: Path, pydpdk_observer: Observer
) -> None:
    ledger = pydpdk_feeder(pydpdk_capture, Faults(loss=1.0))
    assert [(line.packets, line.next) for line in crossed(pydpdk_observer.watch())] == [
        (0, 20_001),
        (0, 20_001),
    ]
    assert [sent.dropped for sent in ledger.lines] == [[(1, 20_001)]] * 2


def test_what_is_sent_is_a_function_of_the_seed(pydpdk_capture: Path) -> None:
    feed, faults = Feed.capture(pydpdk_capture), [Faults(loss=0.1, duplicate=0.1, reorder=0.1)]

    def sends(**seed: int) -> list[int]:
        return list(plan(feed, faults, **seed).frame)

    assert sends(seed=1) == sends(seed=1) != sends(seed=2)


def test_lines_fail_independently(pydpdk_capture: Path) -> None:
    work = plan(Feed.capture(pydpdk_capture), [Faults(loss=0.1)], seed=3)
    sequence, group = work.feed.rows["sequence"][work.lost], work.feed.rows["group"][work.lost]
    a, b = (set(sequence[group == one]) for one in sorted(set(group)))
    assert len(a) > 150
    assert len(b) > 150
    assert len(a & b) < 0.3 * len(a)  # 10 % of them by chance


def test_a_held_packet_comes_behind_at_most_so_many(pydpdk_capture: Path) -> None:
    work = plan(Feed.capture(pydpdk_capture), [Faults(reorder=1.0, reorder_max=4)], seed=5)
    for group in set(work.feed.rows["group"]):
        line = [n for n in work.frame if work.feed.rows["group"][n] == group]
        passed = [sum(other > n for other in line[max(0, i - 9) : i]) for i, n in enumerate(line)]
        assert set(passed) == {0, 1, 2, 3, 4}
        assert sorted(line) == sorted(set(line))


def test_a_copy_goes_right_behind_its_packet(pydpdk_capture: Path) -> None:
    work = plan(Feed.capture(pydpdk_capture), [Faults(0.1, 0.3, 0.3)], seed=5)
    group = work.feed.rows["group"][work.frame]
    for one in set(group):
        frame, copied = work.frame[group == one], work.copied[group == one]
        assert copied.sum() > 300
        assert list(copied[1:]) == list(frame[1:] == frame[:-1])


def times_of(work: Plan) -> list[int]:
    return [int(time) for time in work.time_ns]


def test_times_are_recorded_scaled_or_by_rate() -> None:
    feed = mold_feed(3, [1_000, 2_000, 4_000, 9_000])
    assert times_of(plan(feed)) == [0, 1_000, 3_000, 8_000]
    assert times_of(plan(feed, speed=2)) == [0, 500, 1_500, 4_000]
    assert times_of(plan(feed, pps=1e6)) == [0, 1_000, 2_000, 3_000]
    assert times_of(plan(feed, pps=1e6, burst=2)) == [1_000, 1_000, 3_000, 3_000]
    assert times_of(plan(feed, [Faults(late_us=5)], pps=1e6)) == [5_000, 6_000, 7_000, 8_000]


def test_a_rate_is_kept(pydpdk_wire: Wire, pydpdk_observer: Observer) -> None:
    work = plan(mold_feed(2_000), pps=10_000)
    with feeder_at(pydpdk_wire) as feeder:
        ledger = feeder.send(work)
    report = pydpdk_observer.watch()
    assert 0.199 < ledger.seconds < 2.0  # a busy host may be late, never early
    assert (report.last_ns - report.first_ns) / 1e9 == pytest.approx(ledger.seconds, abs=0.05)


def test_iextp_and_frames_that_are_neither(pydpdk_wire: Wire, tmp_path: Path) -> None:
    payloads = [build.iextp(7, n, [b"12", b"345"]) for n in (1, 3, 7)] + [build.iextp(7, 11)]
    other = [build.eth(b"\0" * 46, ethertype=0x0806), build.datagram(b"short"), b"\1" * 14]
    tagged = build.eth(
        build.ipv4(build.udp(build.mold(b"TAGGED", 5, [b"x"])), options=b"\x01" * 4),
        vlans=[(0x88A8, 5), (0x8100, 6)],
    )
    frames = [*map(build.datagram, payloads), *other, tagged]
    with pydpdk_wire.b.namespace.inside():
        observer = Observer(pydpdk_wire.b.name, record=tmp_path / "crossed.pcap")
    with observer, feeder_at(pydpdk_wire) as feeder:
        ledger = feeder.send(plan(Feed(frames)), paced=False)
        report = observer.watch()
    assert crossed(report) == ledger.crossed
    with RawPcapReader(str(tmp_path / "crossed.pcap")) as reader:
        assert [frame for frame, _ in reader] == frames
    assert report.other == ledger.other == 3
    mold, iextp = report.lines
    assert (iextp.protocol, iextp.session) == ("iextp", "7")
    assert iextp.destination == "233.54.12.111:26477"
    assert (iextp.packets, iextp.control, iextp.next) == (3, 1, 11)
    assert iextp.missing == [(5, 7), (9, 11)]
    assert (mold.protocol, mold.session, mold.packets, mold.next) == ("moldudp64", "TAGGED", 1, 6)


def test_tshark_agrees(
    pydpdk_wire: Wire, pydpdk_capture: Path, tmp_path: Path, tshark: str
) -> None:
    """Every sequence and count in the order in which it crossed, by somebody else's dissector."""
    record = tmp_path / "crossed.pcap"
    work = plan(Feed.capture(pydpdk_capture), [Faults(0.05, 0.05, 0.05)], seed=9)
    with pydpdk_wire.b.namespace.inside():
        observer = Observer(pydpdk_wire.b.name, record=record)
    with observer, feeder_at(pydpdk_wire) as feeder:
        ledger = feeder.send(work, paced=False)
        report = observer.watch()
    assert crossed(report) == ledger.crossed
    assert report.corrupt == 0
    names = ["ip.dst", "moldudp64.sequence", "moldudp64.count", "udp.checksum.status", "frame.len"]
    options = "-d", "udp.port==26477,moldudp64", "-o", "udp.check_checksum:TRUE"
    seen = [tuple(value[0] for value in row) for row in fields(tshark, record, names, *options)]
    assert len(seen) == ledger.sent
    for line in ledger.crossed:
        group = line.destination.partition(":")[0]
        mine = [row for row in seen if row[0] == group]
        data = [(int(row[1]), int(row[2])) for row in mine if row[2] not in ("0", "65535")]
        delivered = {s for first, count in data for s in range(first, first + count)}
        lost = {s for a, b in line.missing for s in range(a, b)}
        assert delivered | lost == set(range(data and min(delivered), line.next))
        assert delivered & lost == set()
        assert len(data) == line.packets
        assert len(data) - len(set(data)) == line.duplicates
        assert {row[3] for row in mine} == {"1"}
        assert sum(int(row[4]) for row in mine) == line.bytes


def test_a_full_ring_makes_the_observer_blind_and_it_says_so(
    pydpdk_wire: Wire, pydpdk_capture: Path
) -> None:
    with pydpdk_wire.b.namespace.inside():
        observer = Observer(pydpdk_wire.b.name, megabytes=1)
    with observer, feeder_at(pydpdk_wire) as feeder:
        sent = feeder.send(plan(Feed.capture(pydpdk_capture)), paced=False).sent
        report = observer.watch()
        assert report.seen >= observer.slots > 0
        assert report.blind > 0
        assert report.seen + report.blind == sent
        assert observer.report().blind == report.blind


def test_the_ring_goes_round(pydpdk_wire: Wire) -> None:
    work = plan(mold_feed(6_000), [Faults(0.01, 0.01, 0.01)])
    with pydpdk_wire.b.namespace.inside():
        observer = Observer(pydpdk_wire.b.name, megabytes=2)
    with observer, feeder_at(pydpdk_wire) as feeder:
        for turn in range(1, 6):
            ledger = feeder.send(work, paced=False)
            report = observer.watch()
            assert report.seen == turn * ledger.sent
        assert report.seen > 3 * observer.slots
    (line,) = crossed(report)
    once = ledger.crossed[0]
    assert (line.packets, line.missing) == (5 * once.packets, once.missing)
    assert line.duplicates == 4 * once.packets + once.duplicates


def test_both_run_as_processes(pydpdk_wire: Wire, pydpdk_capture: Path, tmp_path: Path) -> None:
    a, b = pydpdk_wire.a.namespace, pydpdk_wire.b.namespace
    watch = [sys.executable, "-W", "error", "-m", "testbed.wire", "--interface", "b0", "--json"]
    with b.popen([*watch, "--whole"], stdout=-1, stderr=-1, text=True) as watcher:
        assert watcher.stderr.readline() == "watching b0\n"
        feed = [sys.executable, "-W", "error", "-m", "testbed.feeder", pydpdk_capture]
        options = "--interface a0 --loss 0.02,0.1 --duplicate 0.02 --reorder 0.02 --seed 7"
        a.run([*feed, *options.split(), "--pps", 50_000, "--ledger", tmp_path / "out.json"])
        watcher.terminate()
        out, err = watcher.communicate(timeout=30)
    assert (watcher.returncode, err) == (0, "")
    ledger = json.loads((tmp_path / "out.json").read_text())
    report = json.loads(out)
    assert report["lines"] == [sent["line"] for sent in ledger["lines"]]
    assert (report["seen"], report["corrupt"]) == (ledger["sent"], 0)
    assert ledger["ended"] == "done"


@pytest.mark.parametrize("module", ["testbed.feeder x.pcap", "testbed.wire"])
def test_without_an_interface_it_is_one_line(
    module: str, pydpdk_wire: Wire, pydpdk_capture: Path
) -> None:
    words = module.replace("x.pcap", str(pydpdk_capture)).split()
    command = [sys.executable, "-m", *words, "--interface", "none0"]
    done = pydpdk_wire.a.namespace.run(command, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{words[0]}: [Errno 19] none0: No such device\n"


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(b"no capture")
    with pytest.raises(ValueError, match="no classic pcap"):
        Feed.capture(path)
