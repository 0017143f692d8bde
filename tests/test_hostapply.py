"""pydpdk host: what it changes it takes back, whatever ends it and wherever."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from pydpdk.cli import host as cli
from pydpdk.errors import HostError, UsageError
from pydpdk.host import apply as hostapply
from pydpdk.host.plan import Plan, Wish, plan
from pydpdk.host.step import System
from tests.command import call, refused, well
from tests.fakehost import CPU, PCI, POOL, UNSAFE, bare

NIC = "0000:00:04.0"
WISH = Wish(hugepages=128, bind=(NIC,), unsafe_noiommu=True, cores=(2, 3), irqs=True, governor=True)
CHANGES = 12  # of the fake kernel, to make WISH; as many to take it back


@pytest.fixture
def kernel(tmp_path):
    return bare(tmp_path / "root")


@pytest.fixture
def record(tmp_path):
    return tmp_path / "state" / "undo.json"


def drawn(kernel, wish=WISH) -> Plan:
    return plan(kernel, wish, {})


def apply(kernel, record, wish=WISH) -> hostapply.Applied:
    return hostapply.apply(kernel, lambda: drawn(kernel, wish), record)


# --- the round trip ---


def test_apply_makes_the_host_as_wished(kernel, record):
    done = apply(kernel, record)
    assert done.made == done.plan.steps
    assert kernel.number(f"{POOL}/free_hugepages") == 128
    assert kernel.hugetlbfs() == {2048: "/dev/hugepages"}
    assert kernel.link(f"{PCI}/{NIC}/driver") == "vfio-pci"
    assert kernel.read(UNSAFE) == "Y"
    assert [kernel.read(f"/proc/irq/{n}/smp_affinity_list") for n in (24, 25, 26)] == ["0-1"] * 3
    assert kernel.read("/proc/irq/default_smp_affinity") == "3"
    assert kernel.read(f"{CPU}/cpu2/cpufreq/scaling_governor") == "performance"
    assert drawn(kernel).steps == (), "nothing is left to do"
    assert kernel.changes == CHANGES


def test_undo_leaves_every_file_as_it_was(kernel, record):
    before = kernel.snapshot()
    made = apply(kernel, record).made
    assert kernel.snapshot() != before
    done = hostapply.undo(kernel, record)
    assert (done.steps, done.left) == (made[::-1], ())
    assert kernel.snapshot() == before
    assert not record.exists()
    changes = kernel.changes
    assert hostapply.undo(kernel, record) == hostapply.Undone((), ())
    assert kernel.changes == changes


def test_applies_add_up_and_one_undo_takes_all_back(kernel, record):
    before = kernel.snapshot()
    apply(kernel, record, Wish(hugepages=16))
    apply(kernel, record, Wish(hugepages=64))
    apply(kernel, record)
    assert apply(kernel, record).made == ()
    hostapply.undo(kernel, record)
    assert kernel.snapshot() == before


# --- what goes wrong ---


@pytest.mark.parametrize("at", range(CHANGES))
def test_a_failure_at_any_change_takes_all_back(kernel, record, at):
    before = kernel.snapshot()

    def fail(n, path):
        if n == at:
            raise OSError(5, "Input/output error", path)

    kernel.on_change = fail
    may_refuse = at in (7, 8, 9)  # interrupts
    if may_refuse:
        assert len(apply(kernel, record).skipped) == 1
        hostapply.undo(kernel, record)
    else:
        with pytest.raises(HostError, match="Input/output error"):
            apply(kernel, record)
    assert kernel.snapshot() == before
    assert not record.exists()


@pytest.mark.parametrize("at", range(CHANGES))
def test_whatever_kills_it_the_record_suffices(kernel, record, at, monkeypatch):
    class Killed(BaseException):
        pass

    def kill(n, path):
        if n == at:
            raise Killed

    before = kernel.snapshot()
    monkeypatch.setattr(hostapply, "_roll_back", lambda *_: None)
    kernel.on_change = kill
    with pytest.raises(Killed):
        apply(kernel, record)
    assert record.exists()
    assert not hostapply.undo(kernel, record).left
    assert kernel.snapshot() == before


@pytest.mark.parametrize("at", range(CHANGES))
def test_a_killed_undo_is_done_by_the_next(kernel, record, at):
    class Killed(BaseException):
        pass

    before = kernel.snapshot()
    apply(kernel, record)

    def kill(n, path):
        if n == CHANGES + at:
            raise Killed

    kernel.on_change = kill
    with pytest.raises(Killed):
        hostapply.undo(kernel, record)
    hostapply.undo(kernel, record)
    assert kernel.snapshot() == before


def test_an_interrupt_takes_all_back(kernel, record):
    before = kernel.snapshot()

    def interrupt(n, path):
        if n == 6:
            raise KeyboardInterrupt

    kernel.on_change = interrupt
    with pytest.raises(KeyboardInterrupt):
        apply(kernel, record)
    assert kernel.snapshot() == before


def test_the_record_is_on_disk_before_each_step(kernel, record):
    seen = []

    def look(n, path):
        steps = json.loads(record.read_text())["steps"]
        seen.append(steps[-1]["path"])
        here = path if path != "/sys/bus/pci/drivers_probe" else steps[-1]["path"]
        assert here.startswith(steps[-1]["path"]), f"{path} is touched, {steps[-1]} is recorded"

    kernel.on_change = look
    made = apply(kernel, record).made
    assert list(dict.fromkeys(seen)) == [step.path for step in made]


def test_fewer_hugepages_than_asked_for_are_given_back(kernel, record):
    before = kernel.snapshot()
    kernel.pages_max = 100
    with pytest.raises(HostError, match=r"asked for 128, the kernel gave 100.*compact_memory"):
        apply(kernel, record)
    assert kernel.snapshot() == before
    assert not record.exists()


def test_a_driver_that_does_not_take_the_device_gives_it_back(kernel, record):
    before = kernel.snapshot()
    probe = kernel._probe
    kernel._probe = lambda pci: probe(pci) if "null" in kernel.read(
        f"{PCI}/{pci}/driver_override") else None  # fmt: skip
    with pytest.raises(HostError, match=r"vfio-pci did not take 0000:00:04\.0"):
        apply(kernel, record)
    assert kernel.snapshot() == before


def test_an_interrupt_that_cannot_move_is_said_and_no_failure(kernel, record):
    kernel.stubborn = ("/proc/irq/25/smp_affinity_list",)
    done = apply(kernel, record)
    assert [(step.path, why) for step, why in done.skipped] == [
        ("/proc/irq/25/smp_affinity_list", "Input/output error")
    ]
    assert kernel.read("/proc/irq/24/smp_affinity_list") == "0-1"


def test_what_cannot_be_taken_back_stays_in_the_record(kernel, record):
    before = kernel.snapshot()
    apply(kernel, record)
    kernel.stubborn = (f"{CPU}/cpu3/cpufreq/scaling_governor",)
    done = hostapply.undo(kernel, record)
    assert [step.path for step, _ in done.left] == list(kernel.stubborn)
    assert len(json.loads(record.read_text())["steps"]) == 1
    kernel.stubborn = ()
    hostapply.undo(kernel, record)
    assert kernel.snapshot() == before


def test_an_interrupt_that_went_with_its_device_is_no_loss(kernel, record):
    apply(kernel, record, Wish(cores=(2,), irqs=True))
    kernel.drop("/proc/irq/25")
    assert hostapply.undo(kernel, record).left == ()
    assert kernel.read("/proc/irq/24/smp_affinity_list") == "0-3"


def test_a_record_of_another_boot_is_void(kernel, record):
    apply(kernel, record)
    kernel.put("/proc/sys/kernel/random/boot_id", "another")
    now = kernel.snapshot()
    assert hostapply.undo(kernel, record).steps == ()
    assert kernel.snapshot() == now
    assert not record.exists()


def test_two_at_a_time_are_refused(kernel, record):
    def meanwhile():
        with pytest.raises(HostError, match="another pydpdk host"):
            hostapply.undo(kernel, record)
        return drawn(kernel, Wish(hugepages=1))

    assert hostapply.apply(kernel, meanwhile, record).made


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"format": 2, "boot": "x", "steps": []}', '{"format": 1, "boot": "B"}',
     '{"format": 1, "boot": "B", "steps": [{"kind": "write"}]}',
     '{"format": 1, "boot": "B", "steps": [{"kind": "run", "path": "/sys/x", "old": "",'
     ' "new": "", "what": ""}]}',
     '{"format": 1, "boot": "B", "steps": [{"kind": "write", "path": "/etc/passwd", "old": "x",'
     ' "new": "", "what": ""}]}',
     '{"format": 1, "boot": "B", "steps": [{"kind": "write", "path": "/sys/../etc/passwd",'
     ' "old": "x", "new": "", "what": ""}]}'],
)  # fmt: skip
def test_a_broken_or_forged_record_is_refused_untouched(kernel, record, text):
    kernel.put("/etc/passwd", "root")
    before = kernel.snapshot()
    record.parent.mkdir()
    boot = kernel.read("/proc/sys/kernel/random/boot_id")
    record.write_text(text.replace('"B"', f'"{boot}"'))
    with pytest.raises(HostError):
        hostapply.undo(kernel, record)
    assert record.exists()
    assert kernel.snapshot() == before


def test_a_record_that_others_may_write_is_refused(kernel, record):
    apply(kernel, record)
    assert record.stat().st_mode & 0o777 == 0o600
    record.chmod(0o666)
    with pytest.raises(HostError, match="others may write it"):
        hostapply.undo(kernel, record)


# --- the command ---


@pytest.fixture
def here(kernel, record, monkeypatch):
    monkeypatch.setattr(cli, "SYSTEM", kernel)
    monkeypatch.setattr(os, "geteuid", lambda: record.parent.parent.stat().st_uid)
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    if os.getuid():
        monkeypatch.setattr(cli, "_need_root", lambda: None)
    return ["--record", record]


def test_the_whole_round_from_the_command_line(kernel, here):
    before = kernel.snapshot()
    wish = ["--hugepages", 128, "--bind", "00:04.0", "--cores", "2-3", "--irqs", "--governor"]
    shown = well("host", "plan", *wish, "--json").json
    assert list(shown) == ["steps", "command_line", "notes"]
    assert kernel.snapshot() == before, "a plan changes nothing"
    made = well("host", "apply", *wish, *here, "--json").json
    assert list(made) == ["made", "skipped", "command_line", "notes", "record"]
    assert made["made"] == shown["steps"]
    assert list(made["made"][0]) == ["kind", "path", "old", "new", "what", "optional"]
    assert made["command_line"] == [
        "isolcpus=managed_irq,domain,2-3", "nohz_full=2-3", "rcu_nocbs=2-3"
    ]  # fmt: skip
    undone = well("host", "undo", *here, "--json").json
    assert list(undone) == ["undone", "left", "record"]
    assert len(undone["undone"]) == len(made["made"])
    assert kernel.snapshot() == before
    assert well("host", "undo", *here).out == "nothing to undo\n"


def test_text_tells_each_step(kernel, here):
    out = well("host", "apply", "--bind", NIC, "--cores", "2,3", "--governor", *here).out
    assert "made    give 0000:00:04.0 eth1 to vfio-pci, from e1000e\n" in out
    assert "by hand add to the kernel command line" in out
    assert "undone  give 0000:00:04.0" in well("host", "undo", *here).out


def test_an_undo_that_leaves_something_fails(kernel, here):
    well("host", "apply", "--hugepages", 8, *here)
    kernel.stubborn = (f"{POOL}/nr_hugepages",)
    done = call("host", "undo", *here)
    assert done.code == 1
    assert "left: 8 free hugepages" in done.out


def test_without_root_it_says_the_command(kernel, here, monkeypatch):
    monkeypatch.setattr(cli, "_need_root", _NEED_ROOT)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr("sys.argv", ["/opt/x/bin/pydpdk", "host", "apply", "--cores", "2"])
    line = refused(3, "host", "apply", "--cores", "2", *here)
    assert line.endswith("sudo /opt/x/bin/pydpdk host apply --cores 2")
    assert refused(3, "host", "undo", *here).startswith("pydpdk: changing a host needs root")
    well("host", "plan", "--hugepages", 1)


_NEED_ROOT = cli._need_root


@pytest.mark.parametrize(
    "args", [["--irqs"], ["--governor"], ["--cores", "9", "--irqs"], ["--cores", "0-3", "--irqs"],
             ["--cores", "x"], ["--bind", "nic"], ["--hugepages", "-1"], ["--share", "99"],
             ["--driver", "e1000e"]],
)  # fmt: skip
def test_usage(kernel, here, args):
    before = kernel.snapshot()
    assert call("host", "apply", *args, *here).code == 2
    assert kernel.snapshot() == before


def test_api_refuses_a_driver_it_does_not_know(kernel):
    with pytest.raises(UsageError, match="driver ixgbe"):
        drawn(kernel, replace(WISH, driver="ixgbe"))


# --- the system below, for real ---


def test_a_kernel_file_is_written_and_never_made(tmp_path):
    system = System(tmp_path)
    (tmp_path / "there").write_text("longer than that\n")
    system.write("/there", "new\n")
    assert (tmp_path / "there").read_text() == "new\n"
    with pytest.raises(FileNotFoundError):
        system.write("/not-there", "new\n")


def test_a_tool_that_fails_is_quoted(tmp_path):
    with pytest.raises(HostError, match="modprobe"):
        System(tmp_path).module("no_such_module_of_pydpdk", True)
    with pytest.raises(HostError, match="mount"):
        System(tmp_path).unmount("/not-mounted")
