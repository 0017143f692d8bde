"""`pydpdk run` on emulated PCI NICs: vfio-pci, DPDK's physical-NIC drivers, faults on the wire."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.igmp import IGMPv3_MR
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from pydpdk.source import eal
from pydpdk.synth.gen import generate
from pydpdk.synth.two_lines import LINE_A, LINE_B
from pydpdk.tape.pcapfile import CaptureWriter
from testbed.frames import datagram, mold
from testbed.plan import Faults, Feed, Plan, plan
from testbed.vm import Nic, VirtualMachine
from tests.command import well
from tests.guest_run import (
    END_S,
    PPS,
    ROOT,
    GuestRun,
    begins,
    frames_of,
    guest,
    heard_until,
    lost_on_both,
    nic_config,
    pydpdk_json,
    pydpdk_popen,
    send,
    without,
)
from tests.live_run import LINES, stage
from tests.test_answer import (
    IP_OURS,
    IS_EX,
    PEER,
    PEER_MAC,
    TO_EX,
    TO_IN,
    arp,
    ping,
    query,
    records,
)
from tests.test_vm import wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not eal.version(), reason="pydpdk was built without DPDK"),
]
SPREAD = f"{ROOT}/apps/spread.py:Spread"
GROUPS = {LINE_A.group, LINE_B.group}
NOTHING_LOST = {"missed": 0, "no_mbuf": 0, "errors": 0, "oversize": 0}
FILTER = {"e1000e": "list", "virtio-net-pci": "all-multicast"}
FOREIGN = [datagram(mold(), dst="239.255.1.2")] * 20  # a group that nobody asked for


@pytest.fixture(scope="module")
def machine(virtual_machine: type[VirtualMachine]) -> Iterator[VirtualMachine]:
    with guest(virtual_machine, driver="vfio-pci") as started:
        yield started


# --- what is sent, and what must become of it ---


@dataclass
class Session:
    """A session on lines A and B, each with faults, and its accounts where only `lost` are lost."""

    capture: Path
    work: Plan
    lost: set[int]  # sequences that neither line carries
    accounts: dict[str, Any]


@dataclass
class Day:
    """In the first session the lines heal each other, in the second both lose a packet."""

    healed: Session
    gapped: Session

    @property
    def frames(self) -> int:
        return len(self.healed.work) + len(self.gapped.work)


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Day:
    folder = tmp_path_factory.mktemp("vm")
    return Day(session(folder, "HEALED", False), session(folder, "GAPPED", True))


def session(folder: Path, name: str, gaps: bool) -> Session:
    """With the first seed that gives it gaps, or none."""
    capture, kept = folder / f"{name}.pcap", folder / f"{name}-kept.pcap"
    generate(capture, messages=10_000, instruments=20, seed=len(name) + gaps,
             sessions=((name.encode(), 1),))  # fmt: skip
    feed = Feed.capture(capture)
    bad = Faults(loss=0.02, duplicate=0.02, reorder=0.02)
    late = replace(bad, late_us=5000)  # so that what A loses is missed before B heals it
    works = (plan(feed, [bad, late], seed=seed, pps=PPS) for seed in range(1000))
    losses = ((work, lost_on_both(work)) for work in works if begins(work))
    work, lost = next((work, lost) for work, lost in losses if bool(lost) == gaps)
    with CaptureWriter(kept) as writer:
        for ts_ns, frame in without(feed, lost):
            writer.write(ts_ns, frame)
    result = well("replay", kept, "--feed", f"itch50@{','.join(LINES)}", "--json").json
    return Session(capture, work, lost, result["sequence"][0])


# --- one run on each NIC, looked at from several sides ---


@dataclass
class Told:
    """What a run said of itself, and what the host heard of it."""

    nic: Nic
    joins: list[bytes]
    answers: dict[str, Packet]  # to what the host asked
    leaves: list[bytes]
    record: dict[str, Any]
    left: str

    @property
    def loop(self) -> dict[str, Any]:
        (loop,) = self.record["engine"]["loops"]
        return dict(loop)

    @property
    def way(self) -> dict[str, Any]:
        (way,) = self.record["engine"]["ways"]
        return dict(way)


@pytest.fixture(scope="module", params=list(FILTER))
def told(request: pytest.FixtureRequest, machine: VirtualMachine, day: Day) -> Told:
    nic = next(nic for nic in machine.nics if nic.kind == request.param)
    spec = nic_config(machine, f"on-{nic.kind}", [nic], rest=stage(SPREAD))
    with GuestRun(machine, spec) as run:
        run.ready()
        joins = nic.wire.collect(1000, 2.0)  # both reports, the second within a second
        answers = {
            "arp": ask(nic, arp(), lambda packet: ARP in packet),
            "echo": ask(nic, ping(dst=nic.mac), lambda packet: ICMP in packet),
            "query": ask(nic, query(code=10), lambda packet: IGMPv3_MR in packet),
        }
        nic.wire.send(FOREIGN, pps=500)
        send(day.healed.work, [nic])
        send(day.gapped.work, [nic])
        run.until(lambda s: parsed(s) >= day.frames, "all frames there", END_S)
        nic.wire.collect(1000, 0.1)
        record = run.stop()
    return Told(nic, joins, answers, nic.wire.collect(1000, 0.5), record, run.leftovers())


def ask(nic: Nic, question: Packet, answer: Callable[[Packet], bool]) -> Packet:
    nic.wire.send([bytes(question)])
    return Ether(heard_until(nic.wire, lambda frame: answer(Ether(frame)))[-1])


def parsed(status: dict[str, Any]) -> int:
    return int(status["engine"]["loops"][0]["counters"].get("frames_parsed", 0))


def changes(frames: list[bytes]) -> list[tuple[int, str]]:
    """Type and group of every record of the IGMPv3 reports among frames."""
    packets = [packet for packet in map(Ether, frames) if IGMPv3_MR in packet]
    return [(kind, group) for packet in packets for kind, group, _ in records(packet, IP_OURS)]


def test_books_are_those_of_no_loss_where_the_lines_heal_each_other(told: Told, day: Day) -> None:
    healed, gapped = told.loop["sequence"]
    assert (healed["session"], gapped["session"]) == ("HEALED", "GAPPED")
    assert healed["books"] == day.healed.accounts["books"]
    assert (healed["lost"], healed["declared"], healed["last"]) == (0, 0, 10_000)
    assert healed["gaps"] == healed["recovered"] > 10


def test_what_both_lines_lost_is_flagged(told: Told, day: Day) -> None:
    _, gapped = told.loop["sequence"]
    assert gapped["lost"] == len(day.gapped.lost) > 0
    assert gapped["declared"] > 0
    assert gapped["books"] == day.gapped.accounts["books"]
    assert told.loop["books"]["suspect"]


def test_the_ledger_closes(told: Told, day: Day) -> None:
    assert told.record["unexplained"] == 0
    assert told.record["deaths"] == []
    frames, (port,) = told.loop["frames"], told.loop["ports"]
    assert frames["parsed"] == day.frames
    assert port["stats"].items() >= NOTHING_LOST.items()
    assert port["stats"]["received"] == frames["received"]
    got = sum(line["packets"] for line in told.loop["lines"])
    assert got == day.frames


def test_the_stage_has_the_books_of_the_engine(told: Told) -> None:
    (trader,) = told.record["stages"]
    assert trader["lost"] == 0
    assert trader["orders"]["sent"] > 0
    assert trader["books"] == [told.loop["books"]["hash"]]


def test_groups_are_joined_and_left_on_the_wire(told: Told) -> None:
    assert {group for kind, group in changes(told.joins) if kind == TO_EX} == GROUPS
    assert sorted(changes(told.leaves)) == sorted((TO_IN, group) for group in GROUPS)
    assert all(Ether(frame).src == told.nic.mac for frame in told.joins + told.leaves)


def test_neighbours_and_queriers_are_answered(told: Told) -> None:
    state = changes([bytes(told.answers["query"])])
    assert sorted(state) == sorted((IS_EX, group) for group in GROUPS)
    reply = told.answers["arp"][ARP]
    assert (reply.op, reply.hwsrc, reply.psrc) == (2, told.nic.mac, IP_OURS)
    assert (reply.hwdst, reply.pdst) == (PEER_MAC, PEER)
    echo = told.answers["echo"]
    assert (echo[IP].src, echo[IP].dst, echo[ICMP].type) == (IP_OURS, PEER, 0)
    assert echo[Raw].load == ping()[Raw].load
    (stats,) = told.loop["answers"]
    assert stats.items() >= {"arp": 1, "echo": 1, "queries": 1, "replies": 2, "bad": 0}.items()
    assert told.loop["counters"].get("answers_lost", 0) == 0


def test_the_record_says_what_the_filter_did(told: Told) -> None:
    how, way = FILTER[told.nic.kind], told.way
    assert way["groups"] == [LINE_A.group, LINE_B.group]
    assert way["membership"] == f"IGMP of ours; filter: {how}"
    assert way["promiscuous"] == "not asked for"
    assert (way["multicast_list"] == "accepted") == (how == "list")
    assert (way["all_multicast"] == "accepted") == (how == "all-multicast")
    assert any("all-multicast" in text for text in way["fallbacks"]) == (how != "list")
    outside = told.loop["frames"]["dropped"].get("drop_no_feed", 0)
    assert outside == (0 if how == "list" else len(FOREIGN))
    assert (way["bypass"], way["losses"]) == (True, "device")


def test_sigterm_leaves_nothing(told: Told) -> None:
    assert not told.record["interrupted"]
    assert told.left == ""


# --- two NICs, and an engine that is killed ---


def test_a_killed_engine_reopens_both_its_nics(machine: VirtualMachine, day: Day) -> None:
    """Line A on one NIC, line B on the other, one feed; a session on each side of the break."""
    spec = nic_config(machine, "two", machine.nics, rest=stage(SPREAD))
    with GuestRun(machine, spec) as run:
        first = run.ready()["engine"]["pid"]
        send(day.healed.work, machine.nics)
        status = run.until(lambda s: parsed(s) >= len(day.healed.work), "session one there", END_S)
        assert machine.run(f"kill -9 {first}").code == 0
        run.until(lambda s: s["engine"]["incarnation"] == 2, "another engine")
        run.ready()
        send(day.gapped.work, machine.nics)
        run.until(lambda s: parsed(s) >= len(day.gapped.work), "session two there", END_S)
        record = run.stop()
    healed = status["engine"]["loops"][0]["counters"]
    assert healed["gaps_detected"] == healed["gaps_healed"] > 0
    assert healed["messages_delivered"] == healed["messages_expected"] == 10_000
    (death,) = record["deaths"]
    assert (death["incarnation"], record["incarnations"]) == (1, 2)
    assert "SIGKILL" in death["cause"]
    (loop,), (trader,) = record["engine"]["loops"], record["stages"]
    (gapped,) = loop["sequence"]
    assert (gapped["first"], gapped["lost"]) == (1, len(day.gapped.lost))
    assert gapped["books"] == day.gapped.accounts["books"]
    assert record["unexplained"] == 0
    received = [port["stats"]["received"] for port in loop["ports"]]
    assert min(received) > 0
    assert sum(received) == loop["frames"]["received"]
    assert all(port["stats"].items() >= NOTHING_LOST.items() for port in loop["ports"])
    (mirror,) = trader["mirror"]
    assert (mirror["breaks"], mirror["refused"]) == (1, 0)
    assert trader["books"] == [loop["books"]["hash"]]
    assert run.leftovers() == ""


# --- out of a NIC ---


@pytest.mark.parametrize("kind", list(FILTER))
def test_a_capture_leaves_the_nic_byte_by_byte(
    machine: VirtualMachine, day: Day, kind: str
) -> None:
    nic = next(nic for nic in machine.nics if nic.kind == kind)
    frames = frames_of(Feed.capture(day.healed.capture))
    capture = machine.scratch / "sent.pcap"
    with CaptureWriter(capture) as writer:
        for i, frame in enumerate(frames):
            writer.write(i, frame)
    nic.wire.collect(100_000, 0.1)
    process = pydpdk_popen(machine, "send", str(capture), "--to", f"pci:{nic.pci}",
                           "--rate", f"{PPS}pps", "--json")  # fmt: skip
    got = nic.wire.collect(len(frames), END_S)
    assert process.wait(END_S) == 0, process.err
    assert got == frames


# --- a host whose NICs are the kernel's ---


@pytest.fixture(scope="module")
def plain(virtual_machine: type[VirtualMachine]) -> Iterator[VirtualMachine]:
    with guest(virtual_machine, driver="kernel", hugepages=0) as started:
        yield started


def test_a_host_is_made_ready_used_and_given_back(plain: VirtualMachine, day: Day) -> None:
    def now() -> str:
        drivers = " ".join(f"/sys/bus/pci/devices/{nic.pci}/driver" for nic in plain.nics)
        return plain.run(
            f"readlink {drivers}; cat /proc/sys/vm/nr_hugepages; ls /sys/class/net"
        ).out

    wait_for(lambda: len(now().splitlines()) == 2 + 1 + 3)
    before = now()
    wish = ["--hugepages", "80", *(word for nic in plain.nics for word in ("--bind", nic.pci))]
    planned = pydpdk_json(plain, "host", "plan", *wish)
    assert now() == before
    made = pydpdk_json(plain, "host", "apply", *wish)
    assert made["made"] == planned["steps"]
    assert now().split() == ["../../../bus/pci/drivers/vfio-pci"] * 2 + ["80", "lo"]
    spec = nic_config(plain, "ready", plain.nics)
    with GuestRun(plain, spec) as run:
        run.ready()
        send(day.healed.work, plain.nics)
        run.until(lambda s: parsed(s) >= len(day.healed.work), "all frames there", END_S)
        record = run.stop()
    assert record["unexplained"] == 0
    assert record["engine"]["loops"][0]["sequence"][0]["books"] == day.healed.accounts["books"]
    undone = pydpdk_json(plain, "host", "undo")
    assert undone["left"] == []
    wait_for(lambda: now() == before)
