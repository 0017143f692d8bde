"""What a plan refuses and what it leaves out; and who keeps an interface."""

from __future__ import annotations

import ipaddress
import json
import struct

import pytest

from pydpdk.errors import HostError, UsageError
from pydpdk.host.plan import Wish, plan
from pydpdk.host.routes import above, needed
from tests.fakehost import CPU, PCI, POOL, ROUTES, UNSAFE, bare

NIC = "0000:00:04.0"


@pytest.fixture
def kernel(tmp_path):
    return bare(tmp_path / "root")


def what(kernel, **wish):
    return [step.what for step in plan(kernel, Wish(**wish), {}).steps]


def refusal(kernel, environment=None, **wish) -> str:
    with pytest.raises(HostError) as error:
        plan(kernel, Wish(**wish), environment or {})
    return str(error.value)


def test_nothing_wished_is_nothing_to_do(kernel):
    empty = plan(kernel, Wish(), {})
    assert (empty.steps, empty.command_line, empty.notes) == ((), (), ())
    assert json.loads(json.dumps(empty.to_dict())) == empty.to_dict()


# --- hugepages ---


def test_hugepages_are_added_to_those_in_use(kernel):
    kernel.put(f"{POOL}/nr_hugepages", "40")
    kernel.put(f"{POOL}/free_hugepages", "10")
    step = plan(kernel, Wish(hugepages=16), {}).steps[0]
    assert (step.old, step.new) == ("40\n", "46\n")
    assert what(kernel, hugepages=10) == ["mount hugetlbfs at /dev/hugepages"]


def test_hugepages_take_no_more_than_their_share(kernel):
    # 8 GiB are available: 50 % are 2,048 pages.
    assert len(what(kernel, hugepages=2048)) == 2
    assert "50 % of the 8192 MiB free is enough for 2048" in refusal(kernel, hugepages=2049)
    assert len(what(kernel, hugepages=2049, share=60)) == 2


def test_hugepages_of_a_node(kernel):
    pool = "/sys/devices/system/node/node1/hugepages/hugepages-2048kB"
    kernel.put(f"{pool}/nr_hugepages", "0")
    kernel.put(f"{pool}/free_hugepages", "0")
    kernel.put("/sys/devices/system/node/node1/meminfo", f"Node 1 MemFree:   {1 << 20} kB")
    assert plan(kernel, Wish(hugepages=256, node=1), {}).steps[0].path == f"{pool}/nr_hugepages"
    assert "enough for 256" in refusal(kernel, hugepages=257, node=1)
    assert "hugepages of 2048 kB" in refusal(kernel, hugepages=1, node=2)
    assert any("--node" in note for note in plan(kernel, Wish(hugepages=1), {}).notes)


def test_hugepages_of_a_size_this_kernel_has_not(kernel):
    assert "there are hugepages-2048kB" in refusal(kernel, hugepages=1, size_kb=1 << 20)


def test_a_mount_that_is_there_stays(kernel):
    kernel.put("/proc/mounts", "none /mnt/h hugetlbfs rw,pagesize=2M 0 0")
    assert what(kernel, hugepages=1) == ["1 free hugepages of 2 MiB"]
    kernel.put("/proc/mounts", "none /mnt/h hugetlbfs rw,pagesize=1024M 0 0")
    assert len(what(kernel, hugepages=1)) == 2


# --- drivers ---


def test_binding_loads_the_module_first(kernel):
    assert what(kernel, bind=("00:04.0",)) == [
        "load kernel module vfio-pci", "give 0000:00:04.0 eth1 to vfio-pci, from e1000e",
    ]  # fmt: skip
    kernel.module("vfio-pci", True)
    assert len(what(kernel, bind=(NIC, "00:04.0"))) == 1
    kernel.drop(f"{PCI}/{NIC}/driver")
    kernel.put_link(f"{PCI}/{NIC}/driver", "../../drivers/vfio-pci")
    assert what(kernel, bind=(NIC,)) == []


def test_the_default_route_is_not_given_away(kernel):
    assert "eth0 carries the default route" in refusal(kernel, bind=("0000:00:03.0",))
    kernel.put("/proc/net/route", ROUTES)
    assert what(kernel, bind=("0000:00:03.0",))
    zero, gateway = "0" * 32, "fd" + "0" * 29 + "1"
    kernel.put(
        "/proc/net/ipv6_route",
        f"{zero} 00 {zero} 00 {gateway} 00000400 00000002 00000000 00000003     eth0\n"
        f"{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo",
    )
    assert "eth0 carries the default route" in refusal(kernel, bind=("0000:00:03.0",))


@pytest.mark.parametrize("link", ["master", "upper_bond0"])
def test_a_part_of_a_bond_or_bridge_is_not_given_away(kernel, link):
    kernel.put(
        "/proc/net/route", f"{ROUTES}\nbr0\t00000000\t010200C0\t3\t0\t0\t0\t00000000\t0\t0\t0"
    )
    assert what(kernel, bind=(NIC,))
    kernel.put_link(f"/sys/class/net/eth1/{link}", "../bond0")
    kernel.put_link("/sys/class/net/bond0/upper_br0", "../br0")
    assert above(kernel, "eth1") == {"eth1", "bond0", "br0"}
    assert "carries the default route (through br0)" in refusal(kernel, bind=(NIC,))


def test_the_ssh_connection_is_not_cut(kernel):
    # eth1 is 172.16.2.0/24 here, eth0 has the rest.
    inside = {"SSH_CONNECTION": "172.16.2.9 50000 172.16.2.1 22"}
    assert "eth1 carries the ssh connection (172.16.2.9)" in refusal(kernel, inside, bind=(NIC,))
    outside = {"SSH_CONNECTION": "198.51.100.9 50000 192.0.2.2 22"}
    assert plan(kernel, Wish(bind=(NIC,)), outside).steps
    loop = {"SSH_CONNECTION": "127.0.0.1 50000 127.0.0.1 22"}
    assert plan(kernel, Wish(bind=(NIC,)), loop).steps


def hex_v4(text: str) -> str:
    return f"{struct.unpack('=I', ipaddress.IPv4Address(text).packed)[0]:08X}"


def hex_v6(text: str) -> str:
    words = struct.unpack("=4I", ipaddress.IPv6Address(text).packed)
    return "".join(f"{word:08X}" for word in words)


@pytest.mark.parametrize(
    ("file", "encode", "local", "peer"),
    [("tcp", hex_v4, "172.16.2.1", "172.16.2.9"),
     ("tcp6", hex_v6, "::ffff:172.16.2.1", "::ffff:172.16.2.9")],
)  # fmt: skip
def test_an_ssh_connection_behind_sudo_is_seen_in_the_kernels_table(
    kernel, file, encode, local, peer
):
    row = "   0: {}:{:04X} {}:C350 {} 0:0 0:0 0 0 0 1 1"
    head = "  sl  local_address rem_address   st\n"
    for port, state, kept in ((22, "01", True), (22, "0A", False), (80, "01", False)):
        kernel.put(f"/proc/net/{file}", head + row.format(encode(local), port, encode(peer), state))
        assert ("eth1" in needed(kernel, {})) is kept


def test_ipv6_ways_are_known(kernel):
    net = "fd00000000000001" + "0" * 16
    own = "fd00000000000001" + "0" * 15 + "2"
    zero = "0" * 32
    kernel.put(
        "/proc/net/ipv6_route",
        f"{net} 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001     eth1\n"
        f"{own} 80 {zero} 00 {zero} 00000000 00000002 00000000 80200001       lo",
    )
    environment = {"SSH_CONNECTION": "fd00:0:0:1::9%eth1 50000 fd00:0:0:1::2 22"}
    assert "eth1" in needed(kernel, environment)


@pytest.mark.parametrize(
    ("address", "said"),
    [("0000:00:05.0", "no network device"), ("0000:00:09.0", "network devices are 0000:00:03.0, ")],
)
def test_only_network_devices_are_given_away(kernel, address, said):
    assert said in refusal(kernel, bind=(address,))


def test_mlx_stays_with_its_driver(kernel):
    kernel.put_nic("0000:00:06.0", "eth6", "15b3:1017", "mlx5_core", group="6")
    assert "stays with mlx5_core" in refusal(kernel, bind=("0000:00:06.0",))


def test_without_an_iommu_it_asks_whether_that_is_meant(kernel):
    kernel.drop(f"{PCI}/{NIC}/iommu_group")
    kernel.drop("/sys/kernel/iommu_groups")
    assert "--unsafe-noiommu" in refusal(kernel, bind=(NIC,))
    drawn = plan(kernel, Wish(bind=(NIC,), unsafe_noiommu=True), {})
    assert [step.path for step in drawn.steps[:2]] == ["vfio-pci", UNSAFE]
    assert drawn.command_line == ("intel_iommu=on", "iommu=pt")
    assert what(kernel, bind=(NIC,), driver="uio_pci_generic")


def test_a_group_goes_whole(kernel):
    kernel.put_nic("0000:00:04.1", "eth2", group="4b")
    kernel.path("/sys/kernel/iommu_groups/4/devices/0000:00:04.1").mkdir()
    assert "shares IOMMU group 4 with 0000:00:04.1 eth2 (e1000e)" in refusal(kernel, bind=(NIC,))
    assert len(what(kernel, bind=(NIC, "0000:00:04.1"))) == 3


def test_a_device_reserved_for_another_driver_stays(kernel):
    kernel.put(f"{PCI}/{NIC}/driver_override", "uio_pci_generic")
    assert "reserved for uio_pci_generic" in refusal(kernel, bind=(NIC,))


# --- cores ---


def test_interrupts_leave_the_cores(kernel):
    steps = plan(kernel, Wish(cores=(1, 2, 3), irqs=True), {}).steps
    assert [(s.path.split("/")[3], s.old, s.new) for s in steps] == [
        ("24", "0-3\n", "0\n"), ("25", "2\n", "0\n"), ("26", "0-1\n", "0\n"),
        ("default_smp_affinity", "f\n", "1\n"),
    ]  # fmt: skip
    assert all(step.optional for step in steps)


def test_masks_of_many_cores(kernel):
    kernel.put(f"{CPU}/online", "0-39")
    kernel.put("/proc/irq/default_smp_affinity", "ff,ffffffff")
    steps = plan(kernel, Wish(cores=(3, 33), irqs=True), {}).steps
    assert steps[-1].new == "fd,fffffff7\n"


def test_no_core_left_for_interrupts(kernel):
    with pytest.raises(UsageError, match="none is left"):
        plan(kernel, Wish(cores=(0, 1, 2, 3), irqs=True), {})


def test_irqbalance_is_told_of(kernel):
    kernel.put_task(60, "irqbalance", 0)
    assert "systemctl stop irqbalance" in plan(kernel, Wish(cores=(2,), irqs=True), {}).notes[0]


def test_a_governor_that_is_not_there(kernel):
    kernel.put(f"{CPU}/cpu2/cpufreq/scaling_available_governors", "powersave")
    assert "no governor 'performance'" in refusal(kernel, cores=(2,), governor=True)
    kernel.drop(f"{CPU}/cpu2/cpufreq")
    drawn = plan(kernel, Wish(cores=(2,), governor=True), {})
    assert (drawn.steps, len(drawn.notes)) == ((), 1)


def test_the_command_line_is_recommended_and_never_written(kernel):
    before = kernel.snapshot()
    line = plan(kernel, Wish(cores=(2, 3)), {}).command_line
    assert line == ("isolcpus=managed_irq,domain,2-3", "nohz_full=2-3", "rcu_nocbs=2-3")
    kernel.put("/proc/cmdline", f"quiet {' '.join(line[:2])}")
    assert plan(kernel, Wish(cores=(2, 3)), {}).command_line == line[2:]
    kernel.put("/proc/cmdline", "quiet")
    assert kernel.snapshot() == before
