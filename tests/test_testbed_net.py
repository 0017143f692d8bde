"""Wires that flap, vanish and leave nothing behind; faults in the network and their counters."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from testbed.faults import PROBES, Egress, RateCap, Rules, available
from testbed.feeder import Ledger
from testbed.net import Here, Namespace, Wire, missing
from testbed.plan import Faults, Feed, Plan, plan
from testbed.wire import Observer, Report
from tests.test_testbed import crossed, feeder_at, mold_feed

ROOT = Path(__file__).parent.parent
A, B = "233.54.12.111", "233.86.230.111"


@contextmanager
def traffic(
    wire: Wire, work: Plan, paced: bool = False
) -> Iterator[Callable[[], tuple[Ledger, Report]]]:
    """Sends in the background; what is yielded waits for the end and gives both accounts."""
    done: list[Ledger] = []
    with wire.b.namespace.inside():
        observer = Observer(wire.b.name, whole=True, megabytes=128)
    with observer, feeder_at(wire) as feeder:
        thread = threading.Thread(target=lambda: done.append(feeder.send(work, paced=paced)))
        thread.start()

        def accounts() -> tuple[Ledger, Report]:
            thread.join(30)
            return done[0], observer.watch()

        try:
            yield accounts
        finally:
            feeder.stop()
            thread.join(30)


def faulty(name: str) -> None:
    if lacking := available()[name]:
        pytest.skip(f"needs {name}: {lacking}")


def test_this_host_can_do_all_of_it() -> None:
    """What CI has, so that nothing below is skipped there."""
    if not os.environ.get("CI"):
        pytest.skip("needs CI=true, which promises every kind of fault")
    assert missing() == ""
    assert available() == dict.fromkeys(PROBES, "")


def test_without_rights_a_fixture_skips_and_says_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "test_user.py").write_text("def test_user(pydpdk_feeder): pass")
    powerless = ["setpriv", "--bounding-set", "-sys_admin,-net_admin,-net_raw"]
    pytest_ = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run([*powerless, *pytest_], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "needs network namespaces with veth (root, or `unshare -Urn`)" in done.stdout
    assert "unshare: Operation not permitted" in done.stdout


def test_no_interface_is_new_here_and_none_speaks_unasked(pydpdk_wire: Wire) -> None:
    assert not {"a0", "b0"} & set(os.listdir("/sys/class/net"))
    time.sleep(0.3)
    assert pydpdk_wire.b.statistics()["rx_packets"] <= 2  # IGMP at most
    assert "inet6" not in pydpdk_wire.a.namespace.run(["ip", "addr", "show", "a0"]).stdout


def test_kernel_sockets_send_right_checksums_to_groups(pydpdk_wire: Wire) -> None:
    """Without the offloads being off a checksum of a veth is only begun."""
    send = "from socket import *; socket(AF_INET, SOCK_DGRAM).sendto(b'x' * 500, ('239.1.1.1', 99))"
    with pydpdk_wire.b.namespace.inside():
        observer = Observer("b0", whole=True)
    with observer:
        pydpdk_wire.a.namespace.run([sys.executable, "-c", send])
        report = observer.watch()
    assert (report.seen, report.corrupt) == (1, 0)


def test_processes_inside_end_with_the_namespace() -> None:
    with_child = [sys.executable, "-c", "import subprocess; subprocess.run(['sleep', '60'])"]
    with Namespace() as namespace:
        child = namespace.popen(with_child)
        until = time.monotonic() + 10
        while len(namespace.processes()) < 2 and time.monotonic() < until:
            time.sleep(0.01)
        inside = namespace.processes()
        assert child.pid in inside
        assert len(inside) == 2
    assert child.wait(5) == -signal.SIGKILL
    assert wait_until(lambda: not any(alive(pid) for pid in inside))


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def wait_until(true: Callable[[], bool], seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.01)
    return true()


def names(namespace: Namespace) -> set[str]:
    with namespace.netlink() as ip:
        return {link.get_attr("IFLA_IFNAME") for link in ip.get_links()}


def test_nothing_is_left_after_an_exception() -> None:
    with Namespace() as home, home.inside(), Here() as here:
        named, open_files = namespaces(), descriptors()
        with pytest.raises(ZeroDivisionError):
            leave_by_an_exception(here)
        assert (names(here), descriptors(), namespaces()) == ({"lo"}, open_files, named)
        with pytest.raises(NetlinkError, match="File exists"), Namespace() as other:
            Wire(other, other, names=("same", "same"))
        assert descriptors() == open_files


def leave_by_an_exception(here: Namespace) -> None:
    with Namespace() as other, Wire(here, other, names=("near0", "far0")):
        assert names(here) == {"lo", "near0"}
        raise ZeroDivisionError


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def namespaces() -> set[str]:
    """Those with a name in the file system: none is ever added."""
    return set(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else set()


HELD = """
    import sys, time
    from testbed.net import Namespace, Wire
    outer, inner = Namespace(), Namespace()
    outer.fd, mine = int(sys.argv[1]), outer.fd
    wire = Wire(outer, inner, names=("seen0", "b0"))
    child = inner.popen(["sleep", "60"])
    print(child.pid, flush=True)
    time.sleep(60)
"""


def test_nothing_is_left_after_a_kill() -> None:
    """The far end of a killed process's wire is here: it goes when its namespace does."""
    with Namespace() as outer:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(HELD), str(outer.fd)],
            pass_fds=[outer.fd], stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        with process:
            assert process.stdout is not None
            child = int(process.stdout.readline())
            assert alive(child)
            assert "seen0" in names(outer)
            process.kill()
        assert wait_until(lambda: not alive(child))
        assert wait_until(lambda: "seen0" not in names(outer))


def test_a_flap_is_what_the_sender_was_refused(pydpdk_wire: Wire) -> None:
    with traffic(pydpdk_wire, plan(mold_feed(4_000), pps=5_000), paced=True) as accounts:
        time.sleep(0.2)
        pydpdk_wire.flap(0.1)
        ledger, report = accounts()
    assert ledger.ended == "done"
    assert ledger.sent + sum(ledger.refused.values()) == 4_001
    assert ledger.refused["ENETDOWN"] > 100
    # Both ends go down one after the other: what was sent between is lost on the wire.
    lost = ledger.sent - report.seen
    assert 0 <= lost == pydpdk_wire.a.statistics()["tx_dropped"]
    (line,), (sent,) = crossed(report), ledger.lines
    refused = {n for a, b in sent.refused for n in range(a, b)}
    gone = {n for a, b in line.missing for n in range(a, b)}
    assert refused <= gone
    assert len(gone) == len(refused) + lost


def test_a_dead_receiving_end_loses_what_the_sender_thinks_it_sent(pydpdk_wire: Wire) -> None:
    with traffic(pydpdk_wire, plan(mold_feed(3_000), pps=5_000), paced=True) as accounts:
        time.sleep(0.2)
        pydpdk_wire.b.down()
        time.sleep(0.1)
        pydpdk_wire.b.up()
        ledger, report = accounts()
    lost = ledger.sent - report.seen + sum(ledger.refused.values())
    (line,) = crossed(report)
    assert lost > 100
    assert sum(b - a for a, b in line.missing) == lost


def test_an_end_removed_in_use_is_told(pydpdk_wire: Wire) -> None:
    with traffic(pydpdk_wire, plan(mold_feed(20_000), pps=5_000), paced=True) as accounts:
        time.sleep(0.2)
        pydpdk_wire.b.remove()
        ledger, report = accounts()
    assert ledger.ended == "interface gone"
    assert ledger.unsent > 0
    assert report.seen <= ledger.sent < 20_001
    assert ledger.planned == ledger.sent + sum(ledger.refused.values()) + ledger.unsent
    assert names(pydpdk_wire.a.namespace) == {"lo"}


SESSION = [Faults(0.02, 0.02, 0.02)]


def test_ebpf_counters_are_the_difference(pydpdk_wire: Wire, pydpdk_capture: Path) -> None:
    faulty("bpf")
    work = plan(Feed.capture(pydpdk_capture), SESSION, seed=4)
    with Egress(pydpdk_wire.a, drop=0.05, duplicate=0.03, corrupt=0.01) as egress:
        with traffic(pydpdk_wire, work) as accounts:
            ledger, report = accounts()
        counts = egress.counts()
    assert counts.seen == ledger.sent
    assert ledger.refused == {}  # the sender is not told
    assert report.seen == ledger.sent - counts.dropped + counts.duplicated
    assert report.corrupt == counts.corrupted
    assert min(counts.dropped, counts.duplicated, counts.corrupted) > 0
    for share, count in (0.05, counts.dropped), (0.03, counts.duplicated), (0.01, counts.corrupted):
        expected = share * ledger.sent
        assert count == pytest.approx(expected, abs=6 * expected**0.5)
    packets = sum(line.packets + line.control for line in crossed(report))
    assert packets == report.seen


def test_ebpf_rates_change_while_frames_go_and_strike_one_line(
    pydpdk_wire: Wire, pydpdk_capture: Path
) -> None:
    faulty("bpf")
    work = plan(Feed.capture(pydpdk_capture))
    with Egress(pydpdk_wire.a, drop=1.0, group=A) as egress:
        with traffic(pydpdk_wire, work) as accounts:
            ledger, report = accounts()
        assert [line.destination for line in crossed(report)] == [f"{B}:26477"]
        assert egress.counts().dropped == egress.counts().seen == ledger.sent - report.seen
        egress.set(drop=1.0, group=B)
        with traffic(pydpdk_wire, work) as accounts:
            assert [line.destination for line in crossed(accounts()[1])] == [f"{A}:26477"]
        egress.set()
        with traffic(pydpdk_wire, work) as accounts:
            ledger, report = accounts()
        assert crossed(report) == ledger.crossed
    with traffic(pydpdk_wire, work) as accounts:  # detached
        ledger, report = accounts()
    assert crossed(report) == ledger.crossed


def test_nft_counters_are_the_difference(pydpdk_wire: Wire, pydpdk_capture: Path) -> None:
    faulty("nft drop")
    faulty("nft duplicate")
    work = plan(Feed.capture(pydpdk_capture), SESSION, seed=4)
    with Rules(pydpdk_wire.a, drop=0.05, duplicate=0.03) as rules:
        with traffic(pydpdk_wire, work) as accounts:
            ledger, report = accounts()
        counts = rules.counts()
    assert report.seen == counts["seen"] - counts["dropped"]
    assert counts["seen"] == ledger.planned + counts["duplicated"]  # a copy passes again
    assert sum(ledger.refused.values()) <= counts["dropped"]  # of a copy nobody is told
    assert min(counts["dropped"], counts["duplicated"]) > 0


def test_nft_drops_one_line_and_the_sender_knows(pydpdk_wire: Wire, pydpdk_capture: Path) -> None:
    faulty("nft drop")
    with Rules(pydpdk_wire.a, drop=1.0, group=B, port=26477) as rules:
        with traffic(pydpdk_wire, plan(Feed.capture(pydpdk_capture))) as accounts:
            ledger, report = accounts()
        assert rules.counts()["dropped"] == sum(ledger.refused.values())
    assert [line.destination for line in crossed(report)] == [f"{A}:26477"]
    assert crossed(report) == ledger.crossed


def test_a_rate_cap_slows_the_line(pydpdk_wire: Wire) -> None:
    faulty("rate cap")
    work = plan(mold_feed(2_000))
    with RateCap(pydpdk_wire.a, kilobits=4_000, burst_bytes=5_000, limit_bytes=20_000) as cap:
        with traffic(pydpdk_wire, work) as accounts:
            ledger, report = accounts()
        assert cap.dropped() == sum(ledger.refused.values()) > 0
    assert crossed(report) == ledger.crossed
    seconds = (report.last_ns - report.first_ns) / 1e9
    assert sum(line.bytes for line in crossed(report)) - 6_000 <= seconds * 4e6 / 8


def test_rates_beyond_reason_are_an_error_of_the_tool(pydpdk_wire: Wire) -> None:
    with pytest.raises(OSError, match=r"nft .*Error"):
        Rules(pydpdk_wire.a, drop=0.1, group="no address")
