"""Source strings: what they mean, and what is refused before DPDK runs."""

from __future__ import annotations

import gzip
import socket
import struct
from pathlib import Path

import pytest

from pydpdk.errors import DataError, HostError, PydpdkError, UsageError
from pydpdk.source import eal
from pydpdk.source.source import KINDS, check, open_source, parse
from tests.port_child import read


def capture(path: Path, link: int = 1) -> Path:
    record = struct.pack("<IIII", 1, 0, 20, 20) + bytes(20)
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link) + record)
    return path


@pytest.mark.parametrize(
    ("spec", "prefix", "argument", "ends"),
    [
        ("pcap:day.pcap", "pcap", "day.pcap", True),
        ("net_pcap:day.pcap", "net_pcap", "day.pcap", True),
        ("af_packet:eth0", "af_packet", "eth0", False),
        ("af_xdp:eth0", "af_xdp", "eth0", False),
        ("tpacket:eth0", "tpacket", "eth0", False),
        ("tap:t0", "tap", "t0", False),
        ("memif:role=client,id=1", "memif", "role=client,id=1", False),
        ("null:", "null", "", False),
        ("ring:", "ring", "", False),
        ("pci:0000:3b:00.0", "pci", "0000:3b:00.0", False),
        ("net_null0,size=64", "null", "", False),
        ("net_af_packet3,iface=eth1,qpairs=1", "af_packet", "eth1", False),
        ("net_pcap0,rx_pcap=day.pcap", "net_pcap", "day.pcap", True),
        ("net_pcap0,rx_pcap=day.pcap,infinite_rx=1", "net_pcap", "day.pcap", False),
        ("net_pcap0,iface=eth0", "net_pcap", "", False),
        ("net_e1000_igb0", "vdev", "", False),
    ],
)
def test_a_source_is_a_string(spec: str, prefix: str, argument: str, ends: bool) -> None:
    description = parse(spec)
    assert (description.spec, description.kind.prefix) == (spec, prefix)
    assert (description.argument, description.ends) == (argument, ends)


def test_an_existing_path_is_a_capture(tmp_path: Path) -> None:
    path = capture(tmp_path / "with:colon.pcap")
    assert parse(str(path)).kind.prefix == "pcap"
    assert parse(str(path)).argument == str(path)


def test_every_row_tells_what_it_knows() -> None:
    for kind in KINDS:
        assert kind.losses in ("counted", "by the socket", "unknown")
        assert kind.stamps
        assert kind.truncation
        assert kind.argument
    assert {kind.prefix for kind in KINDS if kind.losses != "counted"} >= {"af_packet", "af_xdp"}
    assert parse("net_failsafe0").kind.losses == "unknown"


INTERFACES = socket.if_nameindex()[0][1]

REFUSED = [
    ("", UsageError, "pcap:FILE"),
    ("nosuchfile", UsageError, "neither a file"),
    ("pacp:day.pcap", UsageError, "no source"),
    ("pcap:", UsageError, "no file name"),
    ("pcap:nosuch.pcap", DataError, "no such file"),
    ("pcap:DIR", DataError, "not a regular file"),
    ("net_pcap:nosuch.pcap", DataError, "no such file"),
    ("net_pcap:DIR/a.pcap.gz", DataError, "gunzip -k"),
    ("net_pcap:DIR/a.pcap.zst", DataError, "unzstd"),
    ("net_pcap0,rx_pcap=nosuch.pcap", DataError, "no such file"),
    ("af_packet:nosuch0", HostError, INTERFACES),
    ("af_packet:a,b=c", UsageError, "no interface name"),
    ("af_packet:", UsageError, "no interface name"),
    ("af_packet:0123456789abcdef", UsageError, "1 to 15"),
    ("net_af_packet0,iface=nosuch0", HostError, INTERFACES),
    ("af_xdp:nosuch0", HostError, INTERFACES),
    ("tpacket:nosuch0", HostError, INTERFACES),
    ("tap:a/b", UsageError, "no interface name"),
    ("memif:socket", UsageError, "key=value"),
    ("null:size", UsageError, "key=value"),
    ("ring:a b", UsageError, "key=value"),
    ("net_null0,size", UsageError, "key=value"),
    ("pci:3b:00.0", UsageError, "0000:3b:00.0"),
    ("pci:zz00:3b:00.0", UsageError, "lspci"),
    ("pci:ffff:ff:1f.7", HostError, "dpdk-devbind.py"),
]


@pytest.mark.parametrize(("spec", "kind", "text"), REFUSED)
def test_what_cannot_work_is_refused_with_cause_and_remedy(
    tmp_path: Path, spec: str, kind: type[PydpdkError], text: str
) -> None:
    plain = capture(tmp_path / "a.pcap").read_bytes()
    (tmp_path / "a.pcap.gz").write_bytes(gzip.compress(plain))
    (tmp_path / "a.pcap.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(20))
    with pytest.raises(kind) as refusal:
        open_source(spec.replace("DIR", str(tmp_path)))
    assert text in str(refusal.value)
    assert eal.started() is None


def test_every_row_is_refused_something() -> None:
    assert {kind.prefix for kind in KINDS} <= {spec.partition(":")[0] for spec, _, _ in REFUSED}


def test_net_pcap_takes_only_ethernet(tmp_path: Path) -> None:
    raw_ip = capture(tmp_path / "raw.pcap", link=101)
    with pytest.raises(DataError, match=r"101.*pcap:"):
        check(parse(f"net_pcap:{raw_ip}"))
    garbage = tmp_path / "garbage.pcap"
    garbage.write_bytes(b"no capture at all, whatever its name says")
    with pytest.raises(DataError, match="garbage"):
        check(parse(f"net_pcap:{garbage}"))


def test_a_capture_is_a_source_too(tmp_path: Path) -> None:
    with open_source(f"pcap:{capture(tmp_path / 'a.pcap')}") as source:
        info = source.capture_info()
        assert info is not None
        assert (info.format, info.link, info.error) == ("pcap", 1, 0)
        assert (stats := source.stats()).received == 0 == stats.missed
        assert stats.oversize is None, "it does not count them"
        assert len(read(source)[0]) == 1 == source.stats().received
        assert (source.link(), source.mbufs(), source.problem()) == ("unknown", None, "")
        assert (source.known()["clock"], source.known()["losses"]) == ("capture", "file")
        assert source.steer("239.1.1.1", 1).startswith("refused: ")
        assert source.groups([bytes(6)]).startswith("refused: ")
        source.tick()
    source.close()


# --- EAL's arguments ---


def test_the_default_start_needs_no_privileges() -> None:
    argv = eal.arguments(eal.Options())
    assert {"--no-huge", "--no-shconf", "--no-pci", "--no-telemetry"} <= set(argv)
    assert not {"-a", "--in-memory"} & set(argv)
    assert sum(argument.startswith("--lcores=0@(") for argument in argv) == 1


def test_pci_devices_come_as_an_allow_list() -> None:
    argv = eal.arguments(eal.Options(hugepages=True, pci=("0000:3b:00.0", "0000:3b:00.1")))
    assert "--no-pci" not in argv
    assert argv.count("-a") == 2
    assert "--in-memory" in argv
    assert "--no-huge" not in argv, "EAL refuses the two together"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (eal.Options(memory_mb=0), "64 MB"),
        (eal.Options(memory_mb=-5), "64 MB"),
        (eal.Options(log_level="loud"), "log_level"),
        (eal.Options(file_prefix="a/b"), "file_prefix"),
        (eal.Options(pci=("3b:00.0",)), "PCI address"),
        (eal.Options(pci=("0000:3b:00.0,a=b",)), "PCI address"),
        (eal.Options(extra=("--nosuch",)), "unknown EAL option"),
        (eal.Options(extra=("--help",)), "unknown EAL option"),
        (eal.Options(extra=("--version",)), "unknown EAL option"),
        (eal.Options(extra=("-c", "3")), "unknown EAL option"),
        (eal.Options(extra=("positional",)), "unknown EAL option"),
        (eal.Options(extra=("--no-hpet=1",)), "takes no value"),
        (eal.Options(extra=("--iova-mode",)), "--iova-mode"),
        (eal.Options(extra=("--iova-mode=xy",)), "--iova-mode"),
        (eal.Options(extra=("--log-level=help",)), "--log-level"),
        (eal.Options(extra=("--vdev=net_null0",)), "a source"),
        (eal.Options(extra=("--no-pci",)), "Options.pci"),
        (eal.Options(extra=("--lcores=0",)), "taskset"),
    ],
)
def test_bad_eal_arguments_never_reach_eal(options: eal.Options, text: str) -> None:
    with pytest.raises(UsageError) as refusal:
        eal.start(options)
    assert text in str(refusal.value)
    assert eal.started() is None


def test_one_start_serves_several_sources() -> None:
    specs = ["net_pcap:a.pcap", "pci:0000:3b:00.0", "pci:0000:3b:00.1", "pci:0000:3b:00.0"]
    options = eal.union([parse(spec).eal_options for spec in specs])
    assert options == eal.Options(hugepages=True, pci=("0000:3b:00.0", "0000:3b:00.1"))
