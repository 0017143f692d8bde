"""DPDK ports: what goes into a driver comes out of the source, or is accounted for."""

from __future__ import annotations

import errno
import os
import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw
from scapy.utils import PcapNgWriter, PcapWriter

from pydpdk.source import eal
from tests.port_child import NO_DATA, ROOT, run_child

pytestmark = pytest.mark.skipif(not eal.version(), reason="pydpdk was built without DPDK")

READ = """
with open_source(sys.argv[1]) as source:
    frames, last = read(source)
    again = source.pointer.burst(source.pointer, ffi.new("struct packet[]", 256), 256)
    say([frames, last, again, vars(source.stats())])
"""


def frame(size: int, seed: int = 0, vlan: int = 0) -> bytes:
    head = Ether(src="02:00:00:00:00:01", dst="01:00:5e:00:00:01")
    head = head / Dot1Q(vlan=vlan) if vlan else head
    head = head / IP(src="10.0.0.1", dst="224.0.0.1") / UDP(sport=1, dport=2)
    body = random.Random(seed).randbytes(max(0, size - len(head)))
    return bytes(head / Raw(body))


def write(path: Path, frames: list[tuple[bytes, float]], nano: bool = False) -> Path:
    with PcapWriter(str(path), linktype=1, nano=nano, sync=True) as writer:
        writer.write_header(None)
        for data, at in frames:
            seconds = int(at)
            writer.write_packet(
                data, sec=seconds, usec=round((at - seconds) * (1e9 if nano else 1e6))
            )
    return path


SIZES = [60, 64, 590, 1514, 2047, 2048, 2049, 4096, 9018]


def test_net_pcap_delivers_exactly_the_frames(tmp_path: Path) -> None:
    sent = [(frame(size, size), 1_700_000_000.25 + i * 0.5) for i, size in enumerate(SIZES)]
    sent.append((frame(300, vlan=905), 1_700_000_100.0))
    frames, last, again, stats = run_child(READ, f"net_pcap:{write(tmp_path / 'a.pcap', sent)}")
    assert [bytes.fromhex(data) for data, _, _ in frames] == [data for data, _ in sent]
    assert [wirelen for _, wirelen, _ in frames] == [len(data) for data, _ in sent]
    assert [ts for _, _, ts in frames] == [round(at * 1e6) * 1000 for _, at in sent]
    assert (last, again) == (NO_DATA, NO_DATA)
    assert {name for name, value in stats.items() if value} == {"received"}
    assert stats["received"] == len(sent)


def test_net_pcap_cuts_nanoseconds_and_reads_pcapng(tmp_path: Path) -> None:
    path = write(tmp_path / "n.pcap", [(frame(60), 1_700_000_000 + 0.123456789)], nano=True)
    (shown,), last, *_ = run_child(READ, f"net_pcap:{path}")
    cut = 1_700_000_000_123_456_000
    assert shown[2] in (cut, cut + 789), "net_pcap keeps nanoseconds from DPDK 26.07 on"
    assert last == NO_DATA
    with PcapNgWriter(str(tmp_path / "n.pcapng")) as writer:
        packet = Ether(frame(70))
        packet.time = 1_700_000_000.5
        writer.write(packet)
    (shown,), *_ = run_child(READ, f"net_pcap:{tmp_path / 'n.pcapng'}")
    assert (bytes.fromhex(shown[0]), shown[2]) == (frame(70), 1_700_000_000_500_000_000)


def test_a_replay_of_the_largest_frames_never_lacks_mbufs(tmp_path: Path) -> None:
    sent = [(random.Random(i).randbytes(65_535), 1.0) for i in range(300)]
    smallest_pool = "from pydpdk.source import source as module\nmodule.POOL_BYTES = 1 << 20\n"
    path = write(tmp_path / "big.pcap", sent)
    frames, last, _, stats = run_child(smallest_pool + READ, f"net_pcap:{path}")
    assert [bytes.fromhex(data) for data, _, _ in frames] == [data for data, _ in sent]
    assert (last, stats["no_mbuf"]) == (NO_DATA, 0)


@pytest.mark.parametrize("cut", [1, 15, 16, 17, 75])
def test_a_cut_capture_ends_in_an_error_after_its_whole_frames(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "cut.pcap", [(frame(60, i), 1.0) for i in range(3)])
    path.write_bytes(path.read_bytes()[:-cut])
    frames, last, again, _ = run_child(READ, f"net_pcap:{path}")
    assert len(frames) == 2
    assert last == again == -errno.EBADMSG


def test_an_empty_capture_ends_at_once(tmp_path: Path) -> None:
    frames, last, *_ = run_child(READ, f"net_pcap:{write(tmp_path / 'empty.pcap', [])}")
    assert (frames, last) == ([], NO_DATA)


@pytest.mark.parametrize("name", ["a, b=[c] \u00e9.pcap", f"{'long' * 50}.pcap"])
def test_file_names_that_device_arguments_cannot_carry(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, [(frame(60), 1.0)])
    frames, *_ = run_child(READ, f"net_pcap:{path}")
    assert len(frames) == 1


def test_two_ports_at_once_and_bursts_of_one(tmp_path: Path) -> None:
    a, b = ([(frame(60, seed + i), 1.0 + i) for i in range(20)] for seed in (0, 100))
    got = run_child(
        """
        a, b = (open_source(f"net_pcap:{name}") for name in sys.argv[1:])
        packets, got = ffi.new("struct packet[]", 1), [[], []]
        for _ in range(20):
            for source, frames in zip((a, b), got, strict=True):
                assert source.pointer.burst(source.pointer, packets, 0) == 0
                assert source.pointer.burst(source.pointer, packets, 1) == 1
                frames.append(bytes(ffi.buffer(packets[0].data, packets[0].caplen)).hex())
        a.close()
        assert read(b) == ([], -61)
        b.close()
        b.close()
        say(got)
        """,
        write(tmp_path / "a.pcap", a),
        write(tmp_path / "b.pcap", b),
    )
    assert got == [[data.hex() for data, _ in side] for side in (a, b)]


def test_net_null_bursts_with_the_hosts_clock() -> None:
    run_child("""
        before = time.time_ns()
        with open_source("net_null0,size=100") as source:
            packets = ffi.new("struct packet[]", 256)
            for _ in range(200):
                assert source.pointer.burst(source.pointer, packets, 256) == 256
            assert {p.caplen for p in packets} == {p.wirelen for p in packets} == {100}
            assert len({p.ts_recv for p in packets}) == 1, "one clock read per burst"
            assert before <= packets[0].ts_recv <= time.time_ns()
            assert source.stats().received == 200 * 256
        with open_source("null:size=64"), open_source("ring:") as ring:
            assert read(ring, seconds=0.05) == ([], 0), "a live source has no end"
            assert ring.stats().missed is None, "and its losses are unknown"
        say(0)
    """)


def test_a_vdev_that_cannot_be_probed_says_why_and_leaves_nothing() -> None:
    run_child("""
        def refused(spec):
            try:
                open_source(spec)
            except HostError as error:
                return str(error)
        assert "ogus" in (text := refused("net_null7,bogus=1")), text
        assert "net_nosuch0" in (text := refused("net_nosuch0")), text
        with open_source("net_null7") as source:
            assert read(source, 1)[0]
            assert "busy" in (text := refused("net_null7")), text
            assert read(source, 1)[0], "a refused second user leaves the first alone"
        with open_source("net_null7"):
            say(0)
    """)


def test_200_open_close_cycles_leak_nothing() -> None:
    run_child("""
        def resources():
            pages = int(open("/proc/self/statm").read().split()[0])
            return len(os.listdir("/proc/self/fd")), pages * 4096
        def cycle(count):
            for _ in range(count):
                with open_source("net_null0") as source:
                    read(source, 1)
            return resources()
        (fds, memory), (fds_after, memory_after) = cycle(20), cycle(200)
        assert fds_after == fds
        assert memory_after - memory < 8 << 20, (memory, memory_after)
        say(0)
    """)


def test_eal_keeps_the_affinity_and_its_own_copy_of_the_arguments() -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two CPUs")
    run_child("""
        cpus = os.sched_getaffinity(0)
        argv = [a for a in eal.arguments(eal.Options()) if not a.startswith("--lcores")]
        argv += [f"--lcores=0@{max(cpus)}", "--no-huge"]
        keep = [ffi.new("char[]", argument.encode()) for argument in argv]
        pointers = ffi.new("char *[]", keep)
        assert lib.eal_init(len(keep), pointers) == 0
        assert os.sched_getaffinity(0) == cpus
        assert list(pointers) == keep
        assert lib.eal_init(len(keep), pointers) == -114, "EALREADY"
        eal._remove_runtime_dir(os.getpid(), argv)
        say(0)
    """)


def test_eal_starts_once_and_its_output_is_kept_off_stdout() -> None:
    run_child("""
        eal.start(eal.Options(log_level="info"))
        assert "EAL: " in eal.output()
        eal.start(eal.Options(log_level="info"))
        try:
            eal.start(eal.Options(memory_mb=128))
        except UsageError as error:
            assert "once per process" in str(error)
            say(0)
    """)


def test_a_failed_start_of_eal_shows_its_reason_and_not_its_usage_text() -> None:
    run_child("""
        try:
            eal.start(eal.Options(extra=("--vfio-vf-token=" + "-" * 36,)))
        except HostError as error:
            assert "token" in str(error) and "--no-pci" in str(error)
            assert "--base-virtaddr" not in str(error) and "--base-virtaddr" in eal.output()
            assert eal.started() is None
            say(0)
    """)


# --- kernel interfaces: a veth pair in a namespace of the child ---

SEND = """
def send(name, frames):
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((name, 0))
        for data in frames:
            sock.send(data)
def numbered(count, size):
    return [b"\\1\\0\\x5e\\0\\0\\1\\2\\0\\0\\0\\0\\1\\x88\\xb5" + i.to_bytes(4) + bytes(size - 18)
            for i in range(count)]
"""


@pytest.mark.parametrize("mtu", [1500, 9000])
def test_af_packet_receives_what_the_veth_carries(mtu: int) -> None:
    got, stats = run_child(
        SEND
        + """
mtu = int(sys.argv[1])
for name in "a0", "b0":
    ip(f"link set {name} mtu {mtu}")
sent = numbered(1000, mtu + 14)
with open_source("af_packet:b0") as source:
    before = time.time_ns()
    send("a0", sent)
    frames, _ = read(source, len(sent), 3)
    assert all(before <= ts <= time.time_ns() for _, _, ts in frames)
    say([[data for data, _, _ in frames] == [data.hex() for data in sent], vars(source.stats())])
""",
        mtu,
        namespace=True,
    )
    assert got
    assert stats["received"] == 1000
    assert stats["missed"] == 0


def test_vlan_tags_stay_in_the_frame() -> None:
    run_child(
        SEND
        + """
tagged = [b"\\1\\0\\x5e\\0\\0\\1\\2\\0\\0\\0\\0\\1\\x81\\0\\x03\\x89\\x88\\xb5" + bytes(100)] * 3
with open_source("af_packet:b0") as source:
    send("a0", tagged)
    assert [data for data, _, _ in read(source, 3, 1)[0]] == [data.hex() for data in tagged]
say(0)
""",
        namespace=True,
    )


def test_interfaces_that_a_driver_cannot_serve_are_refused() -> None:
    run_child(
        """
def refused(spec):
    try:
        open_source(spec).close()
    except HostError as error:
        return str(error)
ip("link set b0 mtu 3400")
assert "mtu 1700" in refused("af_xdp:b0")
ip("link set b0 down")
assert "ip link set b0 up" in refused("af_packet:b0")
assert eal.started() is None
say(0)
""",
        namespace=True,
    )


def test_tap_receives_what_is_sent_to_its_interface() -> None:
    assert run_child(
        SEND
        + """
with open_source("tap:t0") as source:
    ip("link set t0 up")
    sent = numbered(1000, 1514)
    got = []
    for at in range(0, 1000, 100):
        send("t0", sent[at:at + 100])
        got += [data for data, _, _ in read(source, 1000, 0.1)[0] if data[24:28] == "88b5"]
    say(got == [data.hex() for data in sent])
""",
        namespace=True,
    )


def test_af_xdp_receives_what_the_veth_carries() -> None:
    outcome = run_child(
        SEND
        + """
try:
    source = open_source("af_xdp:b0")
except HostError as error:
    say(str(error))
else:
    sent = numbered(1000, 1000)
    got = []
    for at in range(0, 1000, 100):
        send("a0", sent[at:at + 100])
        got += [data for data, _, _ in read(source, 100, 1)[0]]
    source.close()
    say(got == [data.hex() for data in sent])
""",
        namespace=True,
    )
    if isinstance(outcome, str):
        pytest.skip(f"af_xdp cannot run here: {outcome}")
    assert outcome


def test_capabilities_are_asked_for_before_dpdk_runs() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to give capabilities up")
    code = (
        "from pydpdk.source.source import check, parse\n"
        "try: check(parse('af_packet:lo'))\n"
        "except Exception as error: print(error)"
    )
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    done = subprocess.run(
        [*drop, sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert "CAP_NET_RAW" in done.stdout, done.stderr


# --- without DPDK ---


@pytest.mark.slow
def test_a_build_without_dpdk_says_what_to_install(tmp_path: Path) -> None:
    package = tmp_path / "pydpdk"
    for command in (
        ["meson", "setup", str(tmp_path / "build"), str(ROOT), "-Ddpdk=disabled"],
        ["ninja", "-C", str(tmp_path / "build")],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    package.mkdir()
    for part in (ROOT / "pydpdk").iterdir():
        if not part.name.startswith("_core"):
            (package / part.name).symlink_to(part)
    built = next((tmp_path / "build" / "csrc").glob("_core*.so"))
    built.rename(package / built.name)
    (tmp_path / "a.pcap").write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
    code = "from pydpdk.source.source import open_source; open_source('net_pcap:a.pcap')"
    # An editable install must stand aside for this build.
    skip = {"MESONPY_EDITABLE_SKIP": f"{ROOT}/build:{ROOT}/build-asan"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | skip,
        capture_output=True,
        text=True,
    )
    assert "HostError" in done.stderr
    assert "apt install libdpdk-dev dpdk" in done.stderr
