"""frame_parse over every recorded frame, judged by tshark, which saw the same bytes."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections import Counter
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import pytest
from scapy.utils import RawPcapReader

from pydpdk._core import lib
from tests.frame_model import model
from tests.frame_parse import parse


class Recorded(NamedTuple):
    link: int
    wirelen: int
    frame: bytes


Judged = tuple[Recorded, dict[str, str]]


def recorded(folder: Path) -> list[Recorded]:
    """Every frame of the captures below, but for the one snoop file, which scapy cannot open."""
    frames = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".pcap", ".pcapng")):
        with RawPcapReader(str(path)) as reader:
            for frame, meta in reader:
                link = meta.linktype if hasattr(meta, "linktype") else reader.linktype
                frames.append(Recorded(link & 0xFFFF, meta.wirelen, frame))
    return frames


def write_pcapng(path: Path, frames: list[Recorded]) -> None:
    """One section, one interface per link type, as tshark needs it for a single pass."""

    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        size = struct.pack("<I", 12 + len(body))
        return struct.pack("<I", kind) + size + body + size

    links = sorted({f.link for f in frames})
    with path.open("wb") as out:
        out.write(block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))
        for link in links:
            out.write(block(1, struct.pack("<HHI", link, 0, 0)))
        for f in frames:
            head = struct.pack("<IIIII", links.index(f.link), 0, 0, len(f.frame), f.wirelen)
            out.write(block(6, head + f.frame))


FIELDS = ["frame.protocols",
    "ip.proto",
    "ipv6.plen", "udp.length", "udp.dstport", "ip.len", "ip.hdr_len", "ip.flags.mf",
          "ip.frag_offset", "ip.checksum.status", "udp.checksum.status",
    "udp.checksum", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst"]  # fmt: skip


def tshark(path: Path) -> list[dict[str, str]]:
    """First occurrence of each field: outer headers come first."""
    preferences = ["ip.defragment:FALSE", "ipv6.defragment:FALSE", "ip.check_checksum:TRUE",
                   "udp.check_checksum:TRUE"]  # fmt: skip
    command = ["tshark", "-n", "-r", str(path), "-T", "fields", "-E", "occurrence=f"]
    command += [arg for p in preferences for arg in ("-o", p)]
    command += [arg for field in FIELDS for arg in ("-e", field)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [dict(zip(FIELDS, line.split("\t"), strict=True)) for line in lines]


@pytest.fixture(scope="module")
def judged(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Judged]:
    if shutil.which("tshark") is None:
        pytest.skip("needs tshark")
    frames = recorded(data / "net") + recorded(data / "omi")
    path = tmp_path_factory.mktemp("net") / "all.pcapng"
    write_pcapng(path, frames)
    verdicts = tshark(path)
    assert len(verdicts) == len(frames) > 2400
    return list(zip(frames, verdicts, strict=True))


# What a receiver may find around its UDP header, and what the link header takes at least.
PLAIN = {"eth", "ethertype", "vlan", "ieee8021ad", "sll", "raw", "ip", "ipv6", "ah"}
PLAIN |= {"ipv6.hopopts", "ipv6.dstopts"}
LINK_HEADER = {1: 14, 101: 0, 113: 16, 228: 0, 229: 0, 276: 20}

# Layers or IPv4 protocol numbers of which tshark saw at least one when the reason is this.
EVIDENCE = {
    "drop_arp": {"arp"},
    "drop_tcp": {"tcp", "6"},
    "drop_icmp": {"icmp", "icmpv6", "1"},
    "drop_igmp": {"igmp", "icmpv6", "2"},
    "drop_llc": {"llc"},
    "drop_lldp": {"lldp"},
    "drop_encap": {"gre", "4", "41", "mpls", "pppoe", "pppoed", "pppoes", "vxlan"},
}


def delivers(recorded: Recorded, seen: dict[str, str]) -> bool:
    """By tshark's fields: is this a whole UDP datagram, in no tunnel and not a fragment?"""
    outer, udp, _ = seen["frame.protocols"].partition(":udp")
    layers = outer.split(":")
    if not udp or not set(layers) <= PLAIN or not seen["udp.length"]:
        return False
    if layers.count("ip") + layers.count("ipv6") != 1:
        return False
    link = LINK_HEADER.get(recorded.link)
    header = int(seen["ip.hdr_len"] or 40)
    total = int(seen["ip.len"] or int(seen["ipv6.plen"]) + 40)
    return (
        link is not None
        and link + total <= len(recorded.frame)
        and seen["ip.flags.mf"] in ("", "0", "False")
        and seen["ip.frag_offset"] in ("", "0")
        and 8 <= int(seen["udp.length"]) <= total - header
        and seen["udp.dstport"] != "4789"
    )


def test_every_frame_has_one_outcome_and_tshark_agrees_on_it(judged: list[Judged]) -> None:
    outcomes: Counter[str] = Counter()
    ours = theirs = 0
    for frame, seen in judged:
        verdict, got, _ = parse(frame.frame, wirelen=frame.wirelen, link=frame.link)
        outcomes[verdict] += 1
        assert (verdict == "ok") == delivers(frame, seen), (verdict, seen)
        if verdict in EVIDENCE:
            layers = {*seen["frame.protocols"].split(":"), seen["ip.proto"]}
            assert layers & EVIDENCE[verdict], (verdict, seen)
        ours += len(got.payload) if got else 0
        theirs += int(seen["udp.length"]) - 8 if delivers(frame, seen) else 0
    assert ours == theirs > 0
    assert sum(outcomes.values()) == len(judged)
    assert set(outcomes) >= {"ok", *EVIDENCE} - {"drop_lldp"}


def for_the_card(seen: dict[str, str]) -> bool:
    """Did the sender leave the sum to its card? tshark 4.0 calls that bad, 4.4 good."""
    ends = [seen[name] for name in ("ip.src", "ip.dst", "ipv6.src", "ipv6.dst") if seen[name]]
    packed = b"".join(ip_address(end).packed for end in ends)
    total = sum(struct.unpack(f">{len(packed) // 2}H", packed)) + 17 + int(seen["udp.length"])
    return int(seen["udp.checksum"], 16) == (total & 0xFFFF) + (total >> 16)


def test_checksums_are_judged_as_by_tshark(judged: list[Judged]) -> None:
    bad, none = "0", "3"
    found: Counter[int] = Counter()
    for frame, seen in judged:
        how = {"wirelen": frame.wirelen, "link": frame.link}
        verdict, _, noted = parse(frame.frame, policy=lib.CHECKSUM_AUTO, **how)
        if verdict != "ok":
            continue
        expect = lib.NOTED_IP_CHECKSUM * (seen["ip.checksum.status"] == bad)
        wrong = seen["udp.checksum.status"] == bad or for_the_card(seen)
        expect |= lib.NOTED_UDP_CHECKSUM * wrong
        expect |= lib.NOTED_UDP_NO_CHECKSUM * (seen["udp.checksum.status"] == none)
        assert noted == expect, seen
        found[noted] += 1
    assert len(found) >= 5


def test_the_model_agrees_on_every_frame_whole_and_cut(judged: list[Judged]) -> None:
    for frame, _ in judged:
        for cut in {len(frame.frame), 60, 37, 22}:
            data = frame.frame[:cut]
            verdict, got, _ = parse(data, wirelen=frame.wirelen, link=frame.link)
            assert (verdict, got) == model(data, frame.wirelen, frame.link)
