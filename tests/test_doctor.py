"""pydpdk doctor: each finding from a host that is made up, and the command's exit codes."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from pydpdk.host import doctor, finding, traps, wirechecks
from pydpdk.host.info import ClockState
from pydpdk.host.nics import Nic
from tests.command import call, well
from tests.fakehost import CPU, POOL, FakeHost, ready
from tests.port_child import run_child

NODE = "/sys/devices/system/node"
NIC = "0000:00:04.0"


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host that has everything; the command finds it too."""
    made = ready(tmp_path)
    made.dpdk = "22.11"
    monkeypatch.setattr(wirechecks, "eal", SimpleNamespace(version=lambda: made.dpdk))
    monkeypatch.setattr(doctor, "Host", lambda: made)
    monkeypatch.setattr(finding, "SAMPLE_S", 0.0)
    return made


def found(purpose="run", **asked):
    return {row.name: row for row in doctor.checks(purpose, **asked)}


@pytest.mark.parametrize("purpose", doctor.PURPOSES)
def test_a_host_that_has_everything_is_ready(host, purpose):
    rows = found(purpose, hugepages_mb=1024)
    assert {row.status for row in rows.values()} == {"ok"}, rows
    assert all(row.mend == "" for row in rows.values())
    done = well("doctor", "--for", purpose, "--strict", "--hugepages-mb", 1024)
    assert done.out.count("ok ") == len(rows)


def busy(h: FakeHost) -> None:
    """Another program runs on core 2: it has had more each time one looks."""
    tasks, ticks = h.tasks, iter(range(0, 10_000, 100))

    def later():
        h.drop("/proc/70") if h.path("/proc/70").exists() else None
        h.put_task(70, "spinner", 2, ticks=next(ticks))
        return tasks()

    h.tasks = later


SPOILT = [
    ("replay", "cpu", "fail", lambda h: h.put("/proc/cpuinfo", "flags : constant_tsc nonstop_tsc")),
    ("replay", "cycle counter", "warn", lambda h: h.put("/proc/cpuinfo", "flags : sse4_2 tsc")),
    ("bench", "cycle counter", "fail", lambda h: h.put("/proc/cpuinfo", "flags : sse4_2 tsc")),
    ("run", "cycle counter", "warn", lambda h: h.put(
        "/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet")),
    ("replay", "memory", "warn", lambda h: h.put("/proc/meminfo", "MemAvailable: 500000 kB")),
    ("replay", "shared memory", "fail", lambda h: setattr(h, "shm_bytes", -1)),
    ("replay", "shared memory", "fail", lambda h: setattr(h, "shm_bytes", 1 << 20)),
    ("replay", "file descriptors", "warn", lambda h: h.put(
        "/proc/self/limits", "Max open files  256  4096  files\n"
        "Max locked memory  unlimited  unlimited  bytes")),
    ("replay", "dpdk", "warn", lambda h: setattr(h, "dpdk", "")),
    ("run", "dpdk", "fail", lambda h: setattr(h, "dpdk", "")),
    ("replay", "cores", "warn", lambda h: (
        h.put(f"{CPU}/online", "3"), h.put(f"{CPU}/isolated", "3"))),
    ("run", "isolated cores", "warn", lambda h: (
        h.put("/proc/cmdline", "isolcpus=2-3 nohz_full=2-3 rcu_nocbs=2-3"),
        h.put(f"{CPU}/nohz_full", "3"))),
    ("bench", "command line", "warn", lambda h: h.put("/proc/cmdline",
                                                      "isolcpus=2-3 rcu_nocbs=2-3")),
    ("run", "cpu quota", "fail", lambda h: (
        h.put("/proc/self/cgroup", "0::/a/b"),
        h.put("/sys/fs/cgroup/a/cpu.max", "20000 100000"),
        h.put("/sys/fs/cgroup/a/b/cpu.max", "max 100000"))),
    ("bench", "cpu quota", "fail", lambda h: (
        h.put("/proc/self/cgroup", "4:cpu,cpuacct:/x"),
        h.put("/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "20000"))),
    ("bench", "cpu governor", "warn",
     lambda h: h.put(f"{CPU}/cpu2/cpufreq/scaling_governor", "powersave")),
    ("bench", "idle states", "warn", lambda h: (
        h.put(f"{CPU}/cpu3/cpuidle/state2/name", "C6"),
        h.put(f"{CPU}/cpu3/cpuidle/state2/latency", "133"),
        h.put(f"{CPU}/cpu3/cpuidle/state2/disable", "0"))),
    ("run", "smt siblings", "warn", lambda h: h.put(
        f"{CPU}/cpu3/topology/thread_siblings_list", "1,3")),
    ("run", "interrupts", "warn", lambda h: h.put("/proc/irq/24/smp_affinity_list", "0-3")),
    ("run", "irqbalance", "warn", lambda h: (
        h.put_task(60, "irqbalance", 0), h.put(f"{CPU}/isolated", ""))),
    ("run", "busy cores", "warn", busy),
    ("bench", "load", "warn", lambda h: h.put("/proc/loadavg", "3.00 1.0 1.0 1/9 9")),
    ("run", "transparent hugepages", "warn", lambda h: h.put(
        "/sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never")),
    ("run", "numa", "warn", lambda h: (
        h.path(f"{NODE}/node1").mkdir(), h.drop(f"{CPU}/cpu3/node0"),
        h.path(f"{CPU}/cpu3/node1").mkdir(),
        h.put(f"{NODE}/node0/hugepages/hugepages-2048kB/nr_hugepages", "9"),
        h.put(f"{NODE}/node0/hugepages/hugepages-2048kB/free_hugepages", "9"))),
    ("run", "numa", "warn", lambda h: (
        h.path(f"{NODE}/node1").mkdir(),
        h.put(f"{NODE}/node0/hugepages/hugepages-2048kB/nr_hugepages", "9"),
        h.put(f"{NODE}/node0/hugepages/hugepages-2048kB/free_hugepages", "9"),
        h.put_nic(NIC, driver="vfio-pci", node=1))),
    ("run", "hugepages", "warn", lambda h: h.put(f"{POOL}/free_hugepages", "0")),
    ("run", "locked memory", "warn", lambda h: (
        h.put("/proc/self/limits", "Max open files  9999  9999  files\n"
              "Max locked memory  8388608  8388608  bytes"),
        h.put("/proc/self/status", "CapEff:\t000001ffffffbfff"))),
    ("run", "rights", "warn", lambda h: h.put("/proc/self/status", "CapEff:\t0000000000004000")),
    ("run", "iommu", "warn", lambda h: h.drop("/sys/kernel/iommu_groups")),
    ("run", "vfio", "warn", lambda h: h.drop("/dev/vfio/7")),
    ("run", "vfio", "warn", lambda h: (
        h.drop("/sys/module/vfio_pci"), h.drop("/sys/bus/pci/drivers/vfio-pci"))),
    ("run", "time sync", "warn", lambda h: setattr(h, "clock_state", ClockState(False, 1, 1))),
    ("run", "time sync", "warn", lambda h: setattr(h, "clock_state", ClockState(True, 9999, 1))),
    ("run", f"nic {NIC} eth1", "warn", lambda h: h.put_nic(NIC, "eth1", mtu=9000)),
    ("run", f"nic {NIC}", "warn", lambda h: h.put_nic(NIC, "", "15b3:1017", "vfio-pci")),
]  # fmt: skip

# One fault that a second row tells of too, from its own side.
TOGETHER = {
    "cpu": {"cpu"}, "locked memory": {"rights"}, "isolated cores": {"command line"},
    "command line": {"isolated cores"}, "irqbalance": {"isolated cores", "interrupts", "cores"},
}  # fmt: skip


@pytest.mark.parametrize(("purpose", "name", "status", "spoil"), SPOILT)
def test_what_lacks_is_named_with_what_mends_it(host, purpose, name, status, spoil):
    spoil(host)
    rows = found(purpose)
    assert (rows[name].status, bool(rows[name].mend)) == (status, True)
    others = {key for key, row in rows.items() if row.status != "ok" and key != name}
    assert others <= TOGETHER.get(name, set())
    done = call("doctor", "--for", purpose)
    assert done.code == (3 if status == "fail" else 0)
    assert f"-> {rows[name].mend}" in done.out
    assert call("doctor", "--for", purpose, "--strict").code == 3


def test_hugepages_are_held_against_what_is_asked_for(host):
    host.put(f"{POOL}/free_hugepages", "100")
    assert found(hugepages_mb=200)["hugepages"].status == "ok"
    row = found(hugepages_mb=201)["hugepages"]
    assert (row.status, row.found) == ("fail", "201 MiB needed near 2-3; 100 of 2 MiB free")
    assert row.mend.endswith("host apply --hugepages 101 --node 0")


def test_hugepages_on_the_wrong_node_do_not_count(host):
    for node, count in ((0, 0), (1, 512)):
        pool = f"{NODE}/node{node}/hugepages/hugepages-2048kB"
        host.put(f"{pool}/nr_hugepages", str(count))
        host.put(f"{pool}/free_hugepages", str(count))
    row = found(hugepages_mb=64)["hugepages"]
    assert (row.status, row.found) == (
        "fail",
        "64 MiB needed near 2-3; 512 of 2 MiB free on node 1",
    )


def test_cores_that_cannot_be_had(host):
    assert found(cores=(2, 9))["cores"].found == "9 not online: there are 0-3"
    host.put("/sys/fs/cgroup/cpuset.cpus.effective", "0-2")
    assert found(cores=(2, 3))["cores"].found == "3 outside the cpuset: there are 0-2"
    assert call("doctor", "--cores", "3").code == 3


def test_isolation_names_what_to_boot_with(host):
    rows = found("run", cores=(1,))
    assert rows["isolated cores"].found == "core 1 without isolcpus, nohz_full, rcu_nocbs"
    assert rows["isolated cores"].mend == (
        "boot with isolcpus=managed_irq,domain,1 nohz_full=1 rcu_nocbs=1"
    )
    host.put(f"{CPU}/isolated", "")
    assert "N" in found("run")["isolated cores"].mend


def test_interrupts_that_fired_are_counted(host, monkeypatch):
    host.put("/proc/irq/24/smp_affinity_list", "2")
    counts = iter((5, 47))
    fired = finding._fired

    def later(h):
        host.put(
            "/proc/interrupts", f"  CPU0 CPU1 CPU2 CPU3\n 24: 1 1 {next(counts)} 1 x\nNMI: 7 7 7 7"
        )
        return fired(h)

    monkeypatch.setattr(finding, "_fired", later)
    row = found()["interrupts"]
    assert row.found.startswith("1 go to 2-3, 42 fired in ")
    assert row.mend.endswith("host apply --irqs --cores 2-3")


def test_rights_say_what_fails_without_them(host):
    host.put("/proc/self/status", "CapEff:\t0000000000000000")
    row = found()["rights"]
    assert "CAP_NET_RAW: no tpacket:, af_packet:, af_xdp:" in row.found
    assert "--ambient-caps +net_raw,+net_admin,+sys_admin,+ipc_lock" in row.mend


def test_an_unsafe_vfio_is_said(host):
    host.drop("/sys/kernel/iommu_groups")
    host.put("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y")
    assert "may write all memory" in found()["iommu"].found


# --- devices ---


def nic(**values) -> Nic:
    return Nic(**({"pci": NIC, "names": ("e0",), "ids": "8086:10d3", "driver": "e1000e", "node": -1,
                   "group": "1"} | values))  # fmt: skip


@pytest.mark.parametrize(
    ("device", "says"),
    [
        (nic(), None),
        (nic(driver="virtio-pci", ids="1af4:1041"), None),
        (nic(driver="virtio-pci", ids="1af4:1000"), None),
        (nic(driver="virtio-pci", ids="1af4:1000", group=""), "cannot be bound"),
        (nic(driver="i40e", firmware="8.30 0x8000a49d 1.2926.0"), "global registers"),
        (nic(driver="i40e", firmware="5.05 0x80002a"), "firmware below 6.01"),
        (nic(driver="ice", firmware="4.20 0x80017785"), None),
        (nic(driver="ice", firmware="4.10 0x80015188"), None),
        (nic(driver="ice", firmware="4.02 0x80011786"), "firmware below 4.1"),
        (nic(driver="ice", firmware="3.20 0x8000d83e"), "firmware below 4.1"),
        (nic(driver="ice", firmware=""), None),
        (nic(driver="ena", ids="1d0f:ec20"), "write combining"),
        (nic(driver="vfio-pci", ids="1d0f:ec20"), "write combining"),
        (nic(driver="mlx5_core", ids="15b3:1017"), None),
        (nic(driver="vfio-pci", ids="15b3:1017"), "work beside it"),
        (nic(driver="r8169", ids="10ec:8168"), "no driver for it before 24.11"),
        (nic(driver="e1000", ids="8086:100e"), "emulated"),
        (nic(pci="", driver="veth", ids="", tx_checksum=True), "partial"),
        (nic(pci="", driver="veth", ids="", gro=True), "partial"),
        (nic(pci="", driver="veth", ids=""), None),
        (nic(mtu=1700), None),
        (nic(mtu=1701), "af_xdp:"),
    ],
)
def test_known_traps(device, says):
    there = traps.traps(device)
    assert bool(there) is (says is not None)
    if says:
        assert any(says in trap.what for trap in there)
        assert all(trap.source and "{" not in traps.mend(trap, device) for trap in there)


def test_every_trap_has_a_source():
    assert all(trap.source and trap.what and trap.mend for trap in traps.TRAPS)


def test_a_veth_that_leaves_checksums_to_hardware_is_told_of():
    told = run_child(
        """
        import array, fcntl, socket, struct
        from pydpdk.host.doctor import checks
        def off(name, command):  # struct ethtool_value
            value = array.array("B", struct.pack("II", command, 0))
            with socket.socket() as sock:
                request = struct.pack("16sP16x", name.encode(), value.buffer_info()[0])
                fcntl.ioctl(sock, 0x8946, request)
        def row():
            return {r.name: r.status for r in checks("run")}["nic a0"]
        before = row()
        off("a0", 0x17)  # ETHTOOL_STXCSUM
        off("a0", 0x2c)  # ETHTOOL_SGRO
        say([before, row()])
        """,
        namespace=True,
    )
    assert told == ["warn", "ok"]


# --- the command ---


def test_a_kernel_that_says_nothing_is_no_crash(host):
    for name in ("proc", "sys", "dev"):
        host.drop(f"/{name}")
    host.shm_bytes = -1
    rows = found("run")
    assert rows["cpu"].status == "fail"
    assert rows["memory"].status == "warn"


def test_json_has_every_row(host):
    result = well("doctor", "--for", "run", "--json").json
    rows = [row.to_dict() for row in doctor.checks("run")]
    assert result == {"for": "run", "checks": rows}
    assert list(rows[0]) == ["name", "status", "found", "mend"]


def test_names_of_rows_are_what_scripts_look_for(host):
    assert list(found("replay")) == [
        "kernel", "cpu", "cycle counter", "cores", "memory", "shared memory", "file descriptors",
        "dpdk",
    ]  # fmt: skip
    assert {*found("replay"), "isolated cores", "cpu governor", "load"} <= set(found("bench"))
    assert {*found("replay"), "isolated cores", "hugepages", "rights"} <= set(found("run"))


def test_stalls_are_part_of_the_result():
    core = min(os.sched_getaffinity(0))
    args = ("doctor", "--stall", 0.05, "--cores", core, "--threshold-ns", 500)
    (one,) = call(*args, "--json").json["stall"]
    assert (one["core"], one["elapsed_ns"] >= 50_000_000) == (core, True)
    assert {"count", "sum_ns", "max_ns", "p50_ns", "p99_ns", "buckets", "largest"} <= one.keys()
    assert "gaps of 500 ns and more" in call(*args).out
    assert call("doctor", "--stall", -1).code == 2


@pytest.mark.parametrize("purpose", doctor.PURPOSES)
def test_this_host(purpose):
    done = call("doctor", "--for", purpose, "--json")
    rows = done.json["checks"]
    assert done.code == (3 if any(row["status"] == "fail" for row in rows) else 0)
    assert {row["status"] for row in rows} <= {"ok", "warn", "fail"}


@pytest.mark.parametrize("args", [["--for", "fun"], ["--cores", "x"], ["--hugepages-mb", "-1"]])
def test_usage(args):
    assert call("doctor", *args).code == 2
