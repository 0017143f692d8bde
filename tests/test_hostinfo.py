"""Lists of cores, kernel command lines and the kernel's files, as the kernel writes them."""

from __future__ import annotations

import os
import shlex
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydpdk.host.info import Host, format_cores, parse_command_line, parse_cores
from pydpdk.host.nics import nics
from tests.fakehost import ready

CORES = st.sets(st.integers(0, 300))


@given(CORES)
def test_lists_of_cores_come_back(cores):
    text = format_cores(cores)
    assert parse_cores(text) == tuple(sorted(cores))
    assert text.count(",") + 1 <= max(len(cores), 1)
    # Shortest: no two neighbours that could be one range.
    ends = [(int(p.split("-")[0]), int(p.split("-")[-1])) for p in text.split(",") if p]
    assert all(b + 1 < c for (_, b), (c, _) in pairwise(ends))


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 50)), max_size=8))
def test_ranges_in_any_order_and_overlapping(ranges):
    text = ",".join(f"{a}-{a + n}" if n else str(a) for a, n in ranges)
    assert set(parse_cores(text)) == {core for a, n in ranges for core in range(a, a + n + 1)}


def test_groups_of_a_range():
    # The kernel's own example: the first 2 of every 4.
    assert parse_cores("0-9:2/4\n") == (0, 1, 4, 5, 8, 9)
    assert parse_cores("\n") == ()


@pytest.mark.parametrize(
    "text", ["x", "1-", "-1", "3-1", "1:1/2", "0-3:3/2", "0-3:0/2", "0-99999", "1 2"]
)
def test_what_is_no_list(text):
    with pytest.raises(ValueError, match=r"is no (core|range)"):
        parse_cores(text)


WORD = st.text("abcXYZ019_.,-:=/", min_size=1, max_size=12).filter(lambda w: w[0] != "=")


@given(st.lists(st.tuples(WORD.map(lambda w: w.replace("=", "")).filter(bool),
                          st.text("ab 01,=", max_size=8), st.booleans())))  # fmt: skip
def test_command_lines_read_as_a_shell_would(parameters):
    words = [
        f'"{name}={value}"' if outside else f'{name}="{value}"'
        for name, value, outside in parameters
    ]
    text = "  ".join(words)
    split = [word.partition("=") for word in shlex.split(text)]
    assert parse_command_line(text) == {name: value for name, _, value in split}


def test_flags_and_repeats():
    assert parse_command_line("quiet a=1 a=2\n") == {"quiet": "", "a": "2"}


def test_a_folder_without_anything_has_no_facts_and_no_error(tmp_path):
    host = Host(tmp_path)
    assert (host.online, host.allowed(), host.isolated, host.tickless) == ((), (), (), ())
    assert (host.hugepages(), host.hugetlbfs(), host.nodes(), host.tasks()) == ([], {}, [], {})
    assert (host.capabilities(), host.limit("Max open files"), host.clock()) == (set(), -1, None)
    assert (host.interrupts(), host.siblings(0), host.node_of_core(0)) == ({}, (), -1)
    assert nics(host) == []


def test_binary_rubbish_is_no_error(tmp_path):
    host = ready(tmp_path)
    for path in list(tmp_path.rglob("*")):
        if path.is_file():
            path.write_bytes(b"\xff\x00\xfe rubbish 9 ) (")
    host = Host(tmp_path)
    host.online, host.allowed(), host.hugepages(), host.hugetlbfs(), host.tasks(), nics(host)
    assert host.memory == {}


def test_this_machine():
    host = Host()
    assert set(os.sched_getaffinity(0)) <= set(host.online)
    assert host.memory["MemTotal"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    me = host.tasks()[os.getpid()]
    assert me.pid == os.getpid()
    assert me.core in host.online
    assert not me.kernel
    assert (os.geteuid() != 0) or "CAP_NET_RAW" in host.capabilities() or host.status("CapEff")


@pytest.mark.parametrize(
    ("cgroup", "file", "text"),
    [("0::/a/b", "/sys/fs/cgroup/a/b/cpuset.cpus.effective", "1-2"),
     ("3:cpuset:/x\n0::/", "/sys/fs/cgroup/cpuset/x/cpuset.effective_cpus", "1-2"),
     ("2:cpu,cpuset:/x", "/sys/fs/cgroup/cpuset/x/cpuset.effective_cpus", "1-2")],
)  # fmt: skip
def test_a_cpuset_of_either_version_bounds_the_cores(tmp_path, cgroup, file, text):
    host = ready(tmp_path)
    assert host.allowed() == (0, 1, 2, 3)
    host.put("/proc/self/cgroup", cgroup)
    host.put(file, text)
    assert host.allowed() == (1, 2)


def test_names_with_brackets_and_spaces_are_read(tmp_path):
    host = ready(tmp_path)
    host.put_task(77, "a) (b c", 3, ticks=40, flags=0x200000)
    task = host.tasks()[77]
    assert (task.name, task.core, task.ticks, task.kernel) == ("a) (b c", 3, 40, True)


def test_an_interrupt_fires_where_it_may_and_does(tmp_path):
    host = ready(tmp_path)
    for irq, wanted, effective in ((30, "0-3", "2"), (31, "0", "2"), (32, "2-3", "")):
        host.put(f"/proc/irq/{irq}/smp_affinity_list", wanted)
        if effective:
            host.put(f"/proc/irq/{irq}/effective_affinity_list", effective)
    assert host.interrupts() == {24: (0, 1), 30: (2,), 31: (), 32: (2, 3)}
