"""How much a way from wire to Python stage carries, and how late it is on the way there.

An open loop: frames are due at a steady rate and go out when they are, each an add order and its
delete. The rate doubles from trial to trial until one loses a frame, then the edge is found by
bisection and confirmed (pydpdk/bench/wires/search.py; RFC 2544, section 26.1, but with trials far
shorter than its 60 seconds: ``trial_s``). A trial passes when every frame arrived, by its sequence
number, the generator kept its schedule (on a wire that takes no more it cannot), and no backlog was
left at the end: rings hold more than a short trial sends, so a reader that is too slow loses
nothing for a while.

Latency is the response: from when a frame was due. It is kept for each step that lost nothing.
The peer is a kernel UDP socket read by Python, polled, on a wire of its own. Both have the same
generator: it spins, or sleeps between bursts where it must share its core with the stage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydpdk.bench.cases.latency import SHARED, Hists, SocketWay, StageWay, cores_of, ready
from pydpdk.bench.data import QUICK, Market
from pydpdk.bench.measure import Case, Series
from pydpdk.bench.wires import search, stamps
from pydpdk.bench.wires.schedule import RESPONSE, Behind
from pydpdk.bench.wires.search import Edge, Search
from pydpdk.core.hist import Hist
from pydpdk.errors import HostError, PydpdkError

KINDS = ("memif", "af_packet", "af_xdp", "tpacket")
MESSAGES = 2  # a frame
TRIAL_S, TRIAL_QUICK_S = 0.2, 0.05
RATES = Search(start=20_000, ceiling=2_560_000, floor=1_000)
RATES_QUICK = Search(
    20_000, 1_280_000, factor=4, resolution=0.25, confirm=1, floor=4_000, trials_max=8
)
LATE_PART = 0.05  # of the trial: a last frame sent or seen later than that is a backlog
LATE_MS = 10  # and than that: a busy host's bad moment is no limit
REST_NS = 50_000
IDLE_MS = 2_000
END_S, ENDS = 0.25, 20  # the wait for a trial's end, and how often it is told again
PEER = "UDP socket, polled"
COLUMNS = ("offered/s", "frames", "sent", "received", "lost", "p50", "p99", "max")


def cases() -> dict[str, Callable[[Market], AbstractContextManager[Case]]]:
    """By name, one of each kind of wire."""
    return {f"load-{kind}": partial(load, kind=kind) for kind in KINDS}


@contextmanager
def load(market: Market, kind: str) -> Iterator[Case]:
    """The highest rate without loss, and latency at the rates below."""
    quick = market.size == QUICK
    trial_s = TRIAL_QUICK_S if quick else TRIAL_S
    rates = RATES_QUICK if quick else RATES
    with ExitStack() as stack:
        lines = Lines(stack, market, kind)
        steps: dict[str, Any] = {}
        series = [
            _series(PEER, "", lines.peer, rates, trial_s, steps),
            _series(f"stage over {kind}", PEER, lines.ours, rates, trial_s, steps),
        ]
        facts = lines.facts | {
            "trial_s": trial_s, "resolution": rates.resolution, "confirmed": rates.confirm,
            "step_is": COLUMNS, "steps_of_the_last_round": steps,
        }  # fmt: skip
        yield Case(f"load-{kind}", "s", series, facts, "packets", better="higher")
        facts |= lines.behind().facts()


def _series(
    name: str, against: str, line: Line, rates: Search, trial_s: float, steps: dict[str, Any]
) -> Series:
    hists: Hists = {}

    def run() -> float:
        rows: list[Trial] = []

        def passes(rate: int) -> bool:
            trial = line.trial(rate, int(rate * trial_s) or 1)
            rows.append(trial)
            if not trial.failed and rate in grid(rates):
                hists.setdefault(f"{RESPONSE} at {rate}/s", Hist()).merge(trial.response)
            return not trial.failed

        edge = search.find(passes, rates)
        limit = limited_by(edge, rows)
        steps[name] = {"limited_by": limit, "rows": [trial.row() for trial in rows]}
        if not edge.highest:
            raise HostError(f"{name}: even {edge.failed} packets/s do not pass ({limit})")
        return float(edge.highest)

    return Series(name, "ours" if against else "peer", run, against, hists=hists)


def grid(rates: Search) -> list[int]:
    """The rates that the search goes through upwards: those that all rounds have."""
    made = [rates.start]
    while made[-1] < rates.ceiling:
        made.append(min(made[-1] * rates.factor, rates.ceiling))
    return made


def limited_by(edge: Edge, rows: list[Trial]) -> str:
    """What ended the lowest trial that failed."""
    failed = [trial for trial in rows if trial.rate == edge.failed and trial.failed]
    if not failed:
        return "nothing up to the ceiling"
    confirmed = "" if edge.confirmed else ", not confirmed"
    return failed[0].failed + confirmed


@dataclass
class Trial:
    """One rate for one time. ``full``: times the wire had no room."""

    rate: int
    frames: int
    sent: int
    received: int
    lost: int
    full: int
    overdue_ns: int  # the last frame
    backlog_ns: int  # the last frame's response
    service: Hist
    response: Hist

    def _in_time(self, late_ns: int) -> bool:
        """Later at the end of a trial is a backlog that would grow on."""
        return late_ns <= max(LATE_PART * self.frames / self.rate * 1e9, LATE_MS * 1e6)

    @property
    def failed(self) -> str:
        """What kept it from passing, "" where nothing did."""
        if self.lost:
            return "loss"
        if self.sent < self.frames or not self._in_time(self.overdue_ns):
            return "no room on the wire" if self.full else "the generator"
        return "" if self._in_time(self.backlog_ns) else "backlog"

    def row(self) -> list[int]:
        """Figures in the order of COLUMNS."""
        points = [self.response.percentile(percent) for percent in (50, 99)]
        return [self.rate, self.frames, self.sent, self.received, self.lost, *points,
                self.response.max]  # fmt: skip


class Line:
    """From a generator to who counts."""

    def __init__(self, way: SocketWay | StageWay, nap: bool) -> None:
        self.way = way
        self.how = {"rest_ns": REST_NS} if nap else {"nap_ns": 0}
        self.reader = way.reader if isinstance(way, SocketWay) else way.stage
        self.ring = {} if isinstance(way, SocketWay) else {"ring_fd": way.fd}

    def trial(self, rate: int, frames: int, **fault: int) -> Trial:
        """Send, count, and see that the account closes. PydpdkError when it does not."""
        way, first = self.way, self.way.sequence
        self.reader.begin("count", first=first, step=MESSAGES, idle_ms=IDLE_MS, **self.ring)
        way.sender.begin(
            "pace", out=0, frame=stamps.add_and_delete(), sequence=first, count=frames, rate=rate,
            messages=MESSAGES, **self.how, **fault,
        )  # fmt: skip
        way.sender.heard(frames / rate)
        told = way.sender.end()
        way.behind.add(told)
        end = first + MESSAGES * told["sent"]
        way.sequence = end + 1
        return self._made(rate, frames, told, end, self._end(end))

    def _end(self, sequence: int) -> dict[str, Any]:
        """Until it has heard of the end, which may be lost too."""
        for _ in range(ENDS):
            self.way.sender.ask("say", out=0, frame=stamps.end(sequence))
            if self.reader.heard(END_S):
                return self.reader.end()
        raise HostError(f"{self.way.wires.receiver(0)}: the end of a trial never came through")

    def _made(
        self, rate: int, frames: int, told: dict[str, int], end: int, got: dict[str, Any]
    ) -> Trial:
        lost = got["lost"] + (end - got["expected"]) // MESSAGES
        if got["received"] + lost != told["sent"] or got["again"]:
            raise PydpdkError(
                f"{self.way.wires.receiver(0)}: sent {told['sent']}, received {got['received']}, "
                f"lost {lost}, {got['again']} a second time: the account does not close"
            )
        due = told["begun_ns"] + (frames - 1) * 10**9 // rate
        return Trial(
            rate, frames, told["sent"], got["received"], lost, told["full"],
            max(0, told["ended_ns"] - due), got["last_ns"],
            Hist.decode(got["service"]), Hist.decode(got["response"]),
        )  # fmt: skip


class Lines:
    """Ours over a kind of wire, and the peer's."""

    def __init__(self, stack: ExitStack, market: Market, kind: str) -> None:
        ready(market, kind)
        cores = cores_of(market.cores)
        shared = cores["stage"] == cores["sender"]
        socket = SocketWay(stack, cores)
        stage = StageWay(stack, kind, cores)
        stage.engine.ask("run")
        self.peer, self.ours = Line(socket, nap=shared), Line(stage, nap=shared)
        self.facts: dict[str, Any] = {**cores, "messages_a_packet": MESSAGES}
        self.facts["generator"] = (
            f"sleeps {REST_NS // 1000} us between bursts" if shared else "spins"
        )
        if shared:
            self.facts["unreliable"] = SHARED

    def behind(self) -> Behind:
        """Of both generators."""
        return Behind.of((self.peer.way.behind, self.ours.way.behind))
