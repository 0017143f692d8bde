"""Soaks `pydpdk run`: feeds it faulty sessions over a wire for a time, and says what grew.

    python -m testbed.soak --seconds 600 --device af_packet

Sessions follow each other, at one rate and in bursts of several sizes, with loss, copies and
reordering on both lines. After each one every process of the run is looked at: memory, descriptors
and threads, the run's files in /dev/shm, mbufs where a driver has them. A figure is flat when its
largest value in the second half of the time, the warm-up left out, is at most BOUNDS above that of
the first half. The ledger closes when every frame sent was received or counted as missed, every
sequence that both lines lost was declared lost and no other, and nothing is unexplained. Exit
code 5 when a figure is not flat or the ledger does not close.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from struct import pack, pack_into, unpack, unpack_from
from typing import Any

from pydpdk.process import rundir
from testbed.datagrams import MOLDUDP64
from testbed.feeder import Feeder, Ledger
from testbed.net import Namespace, Wire
from testbed.plan import Faults, Feed, Plan, plan

ROOT = Path(__file__).resolve().parent.parent
NAME = 42, 52  # of the session in a MoldUDP64 frame without tags; its UDP checksum:
CHECKSUM = 40
FAULTS = [  # of line A; line B is so late that what A lost is a gap until B has it
    Faults(loss=0.02, duplicate=0.01, reorder=0.01),
    Faults(loss=0.02, duplicate=0.01, reorder=0.01, late_us=2000),
]
BURSTS = (1, 32, 256, 1)  # frames at once, by turns
WARM = 0.25  # of the samples
READY_S, END_S, TELL_S = 60.0, 60.0, 5.0
BOUNDS = {"rss": 2 << 20, "fds": 0, "threads": 0, "shm": 0, "mbufs": 256}  # bytes; a burst of mbufs
FAILED, BEYOND = 1, 5
CONFIG = """\
name = "{name}"
ring_slots = 65536
[sources.a]
device = "{device}"
flight_mb = 8
[[feeds]]
name = "itch"
protocol = "itch50"
lines = {lines}
window = 4096
gap_timeout_ms = 5000
orders_max = 131072
levels_max = 262144
[[stages]]
strategy = "{strategy}"
"""


@dataclass
class Series:
    """One figure of one process over time."""

    of: str
    what: str
    values: list[int] = field(default_factory=list)

    @property
    def growth(self) -> int:
        """Of the second half's largest value over the first half's, after the warm-up."""
        warm = self.values[int(len(self.values) * WARM) :]
        half = len(warm) // 2
        return max(warm[half:]) - max(warm[:half]) if half else 0

    @property
    def flat(self) -> bool:
        return self.growth <= BOUNDS[self.what]

    def told(self) -> dict[str, Any]:
        return {
            "of": self.of, "what": self.what, "first": self.values[0], "last": self.values[-1],
            "max": max(self.values), "growth": self.growth, "bound": BOUNDS[self.what],
            "flat": self.flat,
        }  # fmt: skip


def process_figures(pid: int) -> dict[str, int]:
    """Resident bytes, open descriptors and threads of a process."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    of = {key: value.split() for key, _, value in (line.partition(":") for line in status)}
    return {
        "rss": int(of["VmRSS"][0]) << 10,
        "threads": int(of["Threads"][0]),
        "fds": len(list(Path(f"/proc/{pid}/fd").iterdir())),
    }


def shared_bytes(name: str) -> int:
    """Memory behind the files of a run in /dev/shm."""
    return sum(path.stat().st_size for path in rundir.SHM.glob(f"pydpdk-{name}.*"))


class Session:
    """A capture that can be sent again and again, each time as another session."""

    def __init__(self, capture: Path) -> None:
        self.feed = Feed.capture(capture)
        lines = dict.fromkeys(self.feed.rows[["group", "port"]].tolist())
        self.lines = [f"{'.'.join(map(str, pack('>I', group)))}:{port}" for group, port in lines]
        if set(self.feed.rows["protocol"].tolist()) != {MOLDUDP64}:
            raise ValueError(f"{capture}: a frame that is no MoldUDP64")

    def named(self, number: int) -> Feed:
        """The frames of session ``number``, with right checksums."""
        name = f"SOAK{number:06d}".encode()
        data = bytearray(self.feed.data)
        ends = self.feed.offsets + self.feed.lengths
        frames = zip(self.feed.offsets.tolist(), ends.tolist(), strict=True)
        return Feed([_renamed(data[a:b], name) for a, b in frames], self.feed.times_ns)

    def work(self, number: int, pps: float) -> Plan:
        """What is sent of it; its first packet goes first, or its sequences would not be known."""
        feed, seed = self.named(number), 1000 * number
        while True:
            seed += 1
            burst = BURSTS[number % len(BURSTS)]
            work = plan(feed, FAULTS, seed=seed, pps=pps, burst=burst)
            if feed.rows["sequence"][work.frame[0]] == 1:
                return work


def _renamed(frame: bytearray, name: bytes) -> bytes:
    """RFC 1624: the checksum follows from the words that changed."""
    (was,) = unpack_from(">H", frame, CHECKSUM)
    if was:
        total = ~was & 0xFFFF
        words = zip(unpack(">5H", frame[slice(*NAME)]), unpack(">5H", name), strict=True)
        total += sum((~old & 0xFFFF) + new for old, new in words)
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        pack_into(">H", frame, CHECKSUM, ~total & 0xFFFF or 0xFFFF)
    frame[slice(*NAME)] = name
    return bytes(frame)


def lost_on_both(ledger: Ledger) -> int:
    """Sequences that crossed on no line."""
    sets = [
        {n for first, end in sent.line.missing for n in range(first, end)} for sent in ledger.lines
    ]
    return len(set.intersection(*sets))


class Run:
    """`pydpdk run` on one end of a wire, ended on exit."""

    def __init__(self, place: Path, namespace: Namespace, name: str, config: str) -> None:
        self.name = name
        file = place / "soak.toml"
        file.write_text(config)
        self.out, self.err = (place / "out").open("w+"), (place / "err").open("w+")
        command = [sys.executable, "-m", "pydpdk", "run", file, "--json"]
        self.process = namespace.popen(command, stdout=self.out, stderr=self.err)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(END_S)
            self.process.kill()
        self.process.wait()
        self.out.close()
        self.err.close()

    def log(self) -> str:
        return Path(self.err.name).read_text()

    def status(self) -> dict[str, Any]:
        """As it was told last, once engine and stages are there."""
        until = time.monotonic() + READY_S
        while time.monotonic() < until and self.process.poll() is None:
            status: dict[str, Any] = rundir.read(self.name, "status")
            if status and status["engine"] and all(status["stages"]):
                return status
            time.sleep(0.05)
        raise OSError(f"the run is not there:\n{self.log()}")

    def received(self) -> int:
        """Frames that the engine had, or that its sockets dropped."""
        (loop,) = self.status()["engine"]["loops"]
        missed = sum((port["stats"] or {}).get("missed") or 0 for port in loop["ports"])
        return int(loop["counters"].get("frames_received", 0)) + missed

    def caught_up(self, sent: int) -> None:
        """Returns when all that was sent was seen, or will not be."""
        until = time.monotonic() + TELL_S
        while self.received() < sent and time.monotonic() < until:
            time.sleep(0.05)

    def figures(self) -> dict[tuple[str, str], int]:
        """Every figure of every process, now."""
        status = self.status()
        pids = {"supervisor": status["pid"], "engine": status["engine"]["pid"]}
        pids |= {f"stage {i}": stage["pid"] for i, stage in enumerate(status["stages"])}
        found = {
            (of, what): value
            for of, pid in pids.items()
            for what, value in process_figures(pid).items()
        }
        found["run", "shm"] = shared_bytes(self.name)
        mbufs = [p.get("mbufs") for p in status["engine"]["loops"][0]["ports"]]
        if None not in mbufs:
            found["engine", "mbufs"] = sum(mbufs)
        return found

    def end(self) -> dict[str, Any]:
        """Its record."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(END_S)
        text = Path(self.out.name).read_text()
        if not text:
            raise OSError(
                f"no record of the run, exit code {self.process.returncode}:\n{self.log()}"
            )
        record: dict[str, Any] = json.loads(text)
        return record


@dataclass
class Soak:
    """What was sent and what was seen."""

    sessions: int = 0
    frames: int = 0
    lost: int = 0  # sequences, on both lines
    refused: int = 0
    seconds: float = 0.0
    series: dict[tuple[str, str], Series] = field(default_factory=dict)

    def sent(self, ledger: Ledger) -> None:
        self.sessions += 1
        self.frames += ledger.sent
        self.refused += sum(ledger.refused.values())
        self.lost += lost_on_both(ledger)

    def sample(self, figures: dict[tuple[str, str], int]) -> None:
        for key, value in figures.items():
            self.series.setdefault(key, Series(*key)).values.append(value)

    def verdict(self, record: dict[str, Any]) -> dict[str, Any]:
        """The report."""
        (loop,) = record["engine"]["loops"]
        counters = loop["counters"]
        received = counters.get("frames_received", 0)
        missed = [(port["stats"] or {}).get("missed") for port in loop["ports"]]
        lost = counters.get("messages_lost", 0)
        whole = not any(missed)  # else more may be lost than the feeder knows
        closes = (
            record["unexplained"] == 0
            and (None in missed or received + sum(missed) == self.frames)
            and (lost == self.lost if whole else lost >= self.lost)
            and not record["deaths"]
        )
        figures = [series.told() for series in self.series.values()]
        return {
            "seconds": round(self.seconds, 1),
            "sessions": self.sessions,
            "samples": max(len(series.values) for series in self.series.values()),
            "frames_sent": self.frames,
            "frames_refused": self.refused,
            "frames_received": received,
            "frames_missed": missed,
            "lost_on_both_lines": self.lost,
            "declared_lost": lost,
            "delivered": counters.get("messages_delivered", 0),
            "gaps_healed": counters.get("gaps_healed", 0),
            "stalls": counters.get("stalls", 0),
            "records": loop["ring"]["written"],
            "records_lost": loop["ring"]["lost"],
            "stages_read": [stage.get("read") for stage in record["stages"]],
            "unexplained": record["unexplained"],
            "deaths": record["deaths"],
            "figures": figures,
            "flat": all(figure["flat"] for figure in figures),
            "closes": closes,
        }


def soak(
    device: str, seconds: float, *, pps: float, messages: int, strategy: str, every: float
) -> dict[str, Any]:
    """One soak; its report. OSError when there is no wire or no run."""
    done, begun = Soak(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder, Namespace() as a, Namespace() as b:
        place = Path(folder)
        day = place / "day.pcap"
        command = [sys.executable, "-m", "pydpdk", "gen", day, "--messages", str(messages)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        session, name = Session(day), f"soak-{os.getpid()}"
        addresses = "10.77.0.1/24", "10.77.0.2/24"
        with Wire(a, b, addresses=addresses) as wire:
            config = CONFIG.format(
                name=name, device=f"{device}:{wire.b.name}", lines=json.dumps(session.lines),
                strategy=strategy,
            )  # fmt: skip
            with a.inside():
                feeder = Feeder(wire.a.name)
            with feeder, Run(place, b, name, config) as run:
                run.status()
                _feed(done, run, feeder, session, begun + seconds, pps, every)
                done.seconds = time.monotonic() - begun
                return done.verdict(run.end())


def _feed(
    done: Soak, run: Run, feeder: Feeder, session: Session, until: float, pps: float, every: float
) -> None:
    due = time.monotonic()
    while time.monotonic() < until:
        done.sent(feeder.send(session.work(done.sessions, pps)))
        run.caught_up(done.frames)
        if time.monotonic() >= due:
            due = time.monotonic() + every
            done.sample(run.figures())


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        report = soak(**vars(options))
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        print(f"testbed.soak: {error}", file=sys.stderr)
        return FAILED
    print(json.dumps(report, indent=1))
    for figure in report["figures"]:
        if not figure["flat"]:
            print("testbed.soak: {of}: {what} grew by {growth}".format(**figure), file=sys.stderr)
    if not report["closes"]:
        print("testbed.soak: the ledger does not close", file=sys.stderr)
    return 0 if report["flat"] and report["closes"] else BEYOND


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m testbed.soak", description="Soak `pydpdk run`.")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--device", default="af_packet", help="af_packet, af_xdp, tpacket")
    parser.add_argument("--pps", type=float, default=4000, help="frames a second")
    parser.add_argument("--messages", type=int, default=20_000, help="of a session")
    parser.add_argument("--every", type=float, default=3, help="seconds from sample to sample")
    parser.add_argument("--strategy", default=f"{ROOT}/apps/spread.py:Spread")
    return parser


if __name__ == "__main__":
    sys.exit(main())
