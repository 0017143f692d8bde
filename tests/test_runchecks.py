"""pydpdk doctor --for run --config: what a configuration needs, against hosts that are made up."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

from pydpdk._core import lib
from pydpdk.host import doctor, finding
from pydpdk.process import config as configuration
from pydpdk.process import footprint
from pydpdk.source import eal
from tests.command import call, refused
from tests.fakehost import FakeHost, ready
from tests.port_child import run_child

NIC = "0000:00:04.0"
MB = 1 << 20
CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_IPC_LOCK": 14, "CAP_SYS_ADMIN": 21}
FEED = """
[[feeds]]
name = "f{n}"
protocol = "itch50"
lines = ["233.54.12.{n}:26477", "233.49.196.{n}:26477"]
{more}
"""


@pytest.fixture
def host(tmp_path, monkeypatch):
    made = ready(tmp_path / "host")
    monkeypatch.setattr(doctor, "Host", lambda: made)
    monkeypatch.setattr(finding, "SAMPLE_S", 0.0)
    monkeypatch.setattr(configuration, "cpus", lambda: {0, 1, 2, 3})
    return made


def write(path: Path, device: str, *, source="", eal="", feeds=1, more="core = 2") -> Path:
    body = "".join(FEED.format(n=n + 1, more=more) for n in range(feeds))
    path.write_text(
        f'name = "t"\nring_slots = 1048576\n[eal]\n{eal}\n'
        f'[sources.a]\ndevice = "{device}"\n{source}\n{body}'
    )
    return path


def rows(path: Path, host: FakeHost) -> dict:
    found = doctor.checks("run", host=host, config=configuration.load(path))
    return {row.name: row for row in found}


def lacking(host: FakeHost, *names: str, locked_kb: int | None = None) -> None:
    held = 0x1FFFFFFFFFF & ~sum(1 << CAPABILITIES[name] for name in names)
    host.put("/proc/self/status", f"CapEff:\t{held:016x}")
    if locked_kb is not None:
        host.put("/proc/self/limits", f"Max locked memory  {locked_kb << 10}  8  bytes\n"
                 "Max open files  4096  4096  files")  # fmt: skip


def test_a_host_that_has_everything_is_ready(host, tmp_path):
    host.put_nic(NIC, driver="vfio-pci", group="7")
    found = rows(write(tmp_path / "c.toml", f"pci:{NIC}", eal="hugepages = true"), host)
    assert {row.status for row in found.values()} == {"ok"}, found
    assert found["receive loops"].found == "core 2: f1"
    assert "2 for the engine" in found["cores"].found
    assert call("doctor", "--for", "run", "--config", tmp_path / "c.toml", "--strict").code == 0


def test_hugepages_are_those_of_the_configuration(host, tmp_path):
    host.put_nic(NIC, driver="vfio-pci", group="7")
    spec = write(tmp_path / "c.toml", f"pci:{NIC}", eal="hugepages = true\nmemory_mb = 1026")
    row = rows(spec, host)["hugepages"]
    assert (row.status, row.found) == ("fail", "1026 MiB needed near 2; 512 of 2 MiB free")
    assert "host apply --hugepages 513" in row.mend
    plain = rows(write(tmp_path / "c.toml", "memif:role=server"), host)
    assert not {"hugepages", "iommu", "vfio"} & set(plain)


def test_shared_memory_holds_rings_and_flight_recorders(host, tmp_path):
    """2**20 records of 64 bytes, 65 MB as a power of two, 65,536 instruments of 128 bytes."""
    spec = write(tmp_path / "c.toml", "memif:role=server", source="flight_mb = 65")
    assert footprint.shared(configuration.load(spec)) == (64 + 128 + 8) * MB
    host.shm_bytes = 200 * MB
    assert rows(spec, host)["shared memory"].status == "ok"
    host.shm_bytes -= 1
    row = rows(spec, host)["shared memory"]
    assert (row.status, "200 needed" in row.found) == ("fail", True)
    assert "remount,size=" in row.mend
    host.shm_bytes = -1
    assert rows(spec, host)["shared memory"].status == "fail"


def test_a_ring_is_never_too_small_for_its_feeds(host, tmp_path):
    """Whatever the configuration says: a window that heals writes all that was held at once."""
    spec = write(tmp_path / "c.toml", "memif:role=server", more="core = 2\nwindow = 262144")
    spec.write_text(spec.read_text().replace("ring_slots = 1048576", "ring_slots = 16384"))
    plan = configuration.load(spec)
    (loop,) = plan.loops()
    held = lib.EVENTS_PER_MESSAGE * 262_144
    assert 2 * held < footprint.slots(plan, loop) < 8 * held
    assert footprint.shared(plan) == footprint.slots(plan, loop) * 64 + (64 + 8) * MB


@pytest.mark.parametrize(("spare", "status"), [(0, "ok"), (-1, "warn"), (-300, "fail")])
def test_memory_is_held_against_books_and_rings(host, tmp_path, spare, status):
    (tmp_path / "s.py").write_text("class S: pass")
    spec = write(tmp_path / "c.toml", "tpacket:eth9", source="rx_ring_mb = 32")
    spec.write_text(spec.read_text() + '[[stages]]\nstrategy = "s.py:S"\n')
    plan = configuration.load(spec)
    feed = plan.feeds[0].feed
    least = feed.orders_max * 32 + feed.levels_max * 32
    assert least < footprint.books(plan) == footprint.mirrors(plan) < 2 * least
    total = 2 * footprint.books(plan) + (64 + 64 + 8 + 32) * MB
    host.put("/proc/meminfo", f"MemAvailable: {(total >> 10) + 1 + spare * 1024} kB")
    row = rows(spec, host)["memory"]
    assert row.status == status, row
    assert bool(row.mend) == (status != "ok")


def test_too_little_eal_memory_is_told(host, tmp_path):
    spec = write(tmp_path / "c.toml", "memif:role=server", eal="memory_mb = 64", feeds=3)
    assert rows(spec, host)["eal memory"].status == "ok"
    spec.write_text(
        spec.read_text().replace("core = 2", "core = 1", 1).replace("core = 2", "core = 3", 1)
    )  # three loops: three queues
    row = rows(spec, host)["eal memory"]
    assert (row.status, row.found[:11]) == ("fail", "69 MiB of m")
    assert row.mend == f"memory_mb = 69 under [eal] in {spec}"


@pytest.mark.skipif(not eal.version(), reason="needs DPDK")
@pytest.mark.parametrize(("ports", "mtu"), [(5, 1500), (6, 1500), (3, 9000), (4, 9000)])
def test_the_memory_of_pools_is_what_dpdk_takes(ports, mtu):
    """DPDK itself opens that many queues in 128 MiB exactly when we say so."""
    told = run_child(
        f"""
        from pydpdk.source import eal
        from pydpdk.source.opening import queue_bytes
        from pydpdk.source.source import open_port
        eal.start(eal.Options(memory_mb=128))
        try:
            opened = [open_port(f"net_null{{i}},size=64", mtu={mtu}) for i in range({ports})]
            fits = True
        except HostError as error:
            assert "Cannot allocate memory" in str(error)
            fits = False
        say([fits, {ports} * queue_bytes({mtu}) <= 128 << 20])
        """
    )
    assert told == [ports in (3, 5)] * 2


@pytest.mark.parametrize(
    ("device", "names", "locked_kb", "bad"),
    [
        ("memif:role=server", CAPABILITIES, 8, set()),
        ("tpacket:eth9", ["CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_IPC_LOCK"], 8, set()),
        ("tpacket:eth9", ["CAP_NET_RAW"], None, {"rights"}),
        ("tap:t9", ["CAP_NET_ADMIN"], None, {"rights"}),
        ("af_packet:eth9", ["CAP_NET_ADMIN"], None, {"rights"}),
        ("af_packet:eth9", ["CAP_IPC_LOCK"], 65_000, {"locked memory"}),
        ("af_packet:eth9", ["CAP_IPC_LOCK"], 66_000, set()),
        ("af_xdp:eth9", ["CAP_SYS_ADMIN"], None, {"rights"}),
        ("af_xdp:eth9", ["CAP_IPC_LOCK", "CAP_NET_RAW"], 8, {"rights", "locked memory"}),
    ],
)
def test_rights_are_those_that_the_sources_need(host, tmp_path, device, names, locked_kb, bad):
    host.put_nic(NIC, "eth9")
    lacking(host, *names, locked_kb=locked_kb)
    found = rows(write(tmp_path / "c.toml", device), host)
    assert {name for name in ("rights", "locked memory") if found[name].status == "fail"} == bad
    for name in bad:
        assert "setpriv" in found[name].mend
    if len(bad) == 2:  # one command grants all
        assert "+net_raw,+net_admin,+sys_admin,+ipc_lock" in found["rights"].mend


@pytest.mark.parametrize(
    ("device", "given", "status", "says"),
    [
        (f"pci:{NIC}", {"driver": "e1000e"}, "fail", f"host apply --bind {NIC}"),
        (f"pci:{NIC}", {"driver": ""}, "fail", f"host apply --bind {NIC}"),
        ("pci:0000:00:05.0", {}, "fail", "dpdk-devbind.py"),
        (f"pci:{NIC}", {"driver": "vfio-pci", "group": "8"}, "fail", "/dev/vfio/8"),
        (f"pci:{NIC}", {"driver": "vfio-pci", "group": "7", "node": 1}, "warn", "node1/cpulist"),
        ("af_packet:eth9", {"name": "eth8"}, "fail", "ip link"),
        ("af_packet:eth9", {"name": "eth9", "mtu": 9000}, "ok", ""),
        ("af_xdp:eth9", {"name": "eth9", "mtu": 9000}, "warn", "mtu 1700"),
        ("tpacket:eth9", {"name": "eth9", "mtu": 9000}, "warn", "mtu = 9000"),
        ("pcap:none.pcap", {}, "fail", "another device"),
    ],
)
def test_sources_must_be_there(host, tmp_path, device, given, status, says):
    host.put_nic(NIC, **given)
    row = rows(write(tmp_path / "c.toml", device, eal="hugepages = true"), host)["source a"]
    assert (row.status, says in row.mend) == (status, True), row


def test_groups_are_counted(host, tmp_path):
    host.put_nic(NIC, "eth9")
    spec = write(tmp_path / "c.toml", "tpacket:eth9", feeds=3)
    assert rows(spec, host)["groups"].found.startswith("6 by kernel sockets")
    host.put("/proc/sys/net/ipv4/igmp_max_memberships", "0")
    assert rows(spec, host)["groups"].mend == "sysctl net.ipv4.igmp_max_memberships=20"
    host.put("/proc/sys/net/ipv4/igmp_max_memberships", "20")
    host.put("/proc/self/limits", "Max open files  260  4096  files")
    assert rows(spec, host)["groups"].mend == "ulimit -n 262"


def test_a_feed_without_a_core_is_told(host, tmp_path):
    row = rows(write(tmp_path / "c.toml", "memif:role=server", more=""), host)["receive loops"]
    assert (row.status, "f1 has no core" in row.found) == ("warn", True)


def test_usage(tmp_path):
    spec = write(tmp_path / "c.toml", "tpacket:lo", more="")
    assert "add --for run" in refused(2, "doctor", "--config", spec)
    assert "nosuch.toml" in refused(2, "doctor", "--for", "run", "--config", "nosuch.toml")


@pytest.mark.live
@pytest.mark.parametrize("kind", ["tpacket", "af_packet", "af_xdp"])
def test_what_is_told_of_rights_is_what_the_kernel_says(kind, tmp_path, pydpdk_wire):
    """With just the rights that the doctor asks for a source opens; without one it does not."""
    end = pydpdk_wire.b
    spec = write(tmp_path / "c.toml", f"{kind}:{end.name}", more="")
    wanted = [name for name, kinds in doctor.wire.NEEDED.items() if kind in kinds]
    for without in (None, *wanted):
        held = ",".join(["-all", *(f"+{n[4:].lower()}" for n in wanted if n != without)])
        limited = ["prlimit", "--memlock=8388608", "setpriv", "--bounding-set", held]
        command = [*limited, sys.executable, "-m", "pydpdk"]
        run = end.namespace.popen(
            [*command, "run", str(spec), "--seconds", "0"], stdout=PIPE, stderr=PIPE
        )
        run.communicate(timeout=60)
        assert run.returncode == (3 if without else 0), held
        told = end.namespace.popen(
            [*command, "doctor", "--for", "run", "--config", str(spec), "--json"], stdout=PIPE
        )
        rows = {
            row["name"]: row["status"]
            for row in json.loads(told.communicate(timeout=60)[0])["checks"]
        }
        assert rows["source a"] != "fail"
        failed = {name for name in ("rights", "locked memory") if rows[name] == "fail"}
        lack = "locked memory" if without == "CAP_IPC_LOCK" else "rights"
        assert failed == ({lack} if without else set()), held
