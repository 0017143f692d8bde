"""pydpdk pcap info: what it says of generated captures and of recorded ones."""

from __future__ import annotations

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from pydpdk.tape.pcapfile import CaptureWriter
from tests.command import call, well
from tests.itch50_spec import add, pack
from tests.recount import gaps, packets

NAMES = {"A": "233.54.12.111:26477", "B": "233.86.230.111:26477"}
SIX = "[ff02::beef]:26477"


@pytest.fixture(scope="module")
def lossy(tmp_path_factory):
    path = tmp_path_factory.mktemp("pcap") / "lossy.pcap"
    faults = ("--loss", 0.05, "--dup", 0.05, "--reorder", 0.05, "--instruments", 20)
    return path, well("gen", path, "--messages", 4000, *faults, "--json").json


def streams(path):
    return {s["destination"]: s for s in well("pcap", "info", path, "--json").json["streams"]}


def mold(sequence, *messages, session=b"IPV6LINE01"):
    blocks = b"".join(len(m).to_bytes(2, "big") + m for m in messages)
    header = session + sequence.to_bytes(8, "big") + len(messages).to_bytes(2, "big")
    return header + blocks


@pytest.fixture
def six(tmp_path):
    """Two packets to an IPv6 group."""
    path = tmp_path / "six.pcap"
    payloads = [
        mold(1, pack("S", timestamp=1, event_code="O"), pack("R", locate=1, stock="AAPL")),
        mold(3, add(1, timestamp=2)),
    ]
    with CaptureWriter(path, "pcap-ns") as capture:
        for i, payload in enumerate(payloads):
            frame = Ether() / IPv6(src="fe80::1", dst="ff02::beef") / UDP(sport=1, dport=26477)
            capture.write(1_700_000_000 * 10**9 + i, bytes(frame / payload))
    return path


def test_each_line_is_told_as_a_recount_sees_it(lossy):
    path, truth = lossy
    found = streams(path)
    assert found.keys() == set(NAMES.values())
    for name, (count, lost) in gaps(path).items():
        line = found[name]
        mine = [packet for packet in packets(path) if packet.line == name]
        assert (line["gaps"], line["lost"]) == (count, lost)
        assert line["packets"] == len(mine)
        assert line["messages"] == sum(len(packet.messages) for packet in mine)
        assert (line["ts_first"], line["ts_last"]) == (mine[0].ts, mine[-1].ts)
        assert (line["protocol"], line["session"]) == ("itch50", "SYNTH00001")
        assert line["next"] == truth["last_sequence"] + 1


def test_gaps_are_those_that_the_generator_made(tmp_path):
    """Without reordering, what a line shows as lost is what it lost."""
    path = tmp_path / "x.pcap"
    truth = well("gen", path, "--messages", 3000, "--loss", 0.1, "--instruments", 9, "--json").json
    for letter, line in streams(path).items():
        made = truth["lines"][{v: k for k, v in NAMES.items()}[letter]]
        assert line["packets"] == made["sent"]
        assert line["messages"] + line["lost"] + line["first"] - 1 == 3000
        assert 0 < line["gaps"] <= made["lost"]


def test_people_read_the_same(lossy):
    path, _ = lossy
    out = well("pcap", "info", path).out
    for name, line in streams(path).items():
        (row,) = [text for text in out.splitlines() if text.startswith(name)]
        numbers = [f"{line[key]:,}" for key in ("packets", "messages", "sessions", "first")]
        numbers += [f"{line['next'] - 1:,}", str(line["gaps"]), str(line["lost"])]
        assert row.split() == [name, "itch50", "'SYNTH00001'", *numbers]


@pytest.mark.parametrize(
    ("name", "destination", "protocol", "packets", "messages", "sessions"),
    [
        ("iex_deep10_20170425_s01-07.pcap.gz", "224.2.3.10:16648", "deep10", 30057, 188692, 7),
        ("iex_deep10_20170425_s12a.pcap.gz", "224.2.3.10:16648", "deep10", 40000, 63723, 1),
        ("iex_tops16_20170710_a.pcapng.gz", "224.67.0.199:16642", "tops16", 8000, 45781, 1),
    ],
)
def test_recorded_captures(data, name, destination, protocol, packets, messages, sessions):
    (stream,) = streams(data / "iex" / name).values()
    assert stream["destination"] == destination
    assert stream["protocol"] == protocol
    assert (stream["packets"], stream["messages"]) == (packets, messages)
    assert (stream["sessions"], stream["gaps"], stream["lost"]) == (sessions, 0, 0)


def test_other_venues_are_shown_without_a_guess(data):
    found = streams(data / "cme" / "cme_mdp3_v6_20161112_ab.pcap.gz")
    assert found.keys() == {"224.0.31.64:14340", "224.0.32.64:15340"}
    for stream in found.values():
        assert (stream["framing"], stream["protocol"], stream["session"]) == ("unknown", None, "")
        assert stream["packets"] == stream["not_framed"] == 5000


def test_a_capture_without_udp_says_what_it_has(data):
    path = data / "net" / "tcp" / "tcpdump__tcp-handshake-nano.pcap"
    out = well("pcap", "info", path).out
    assert "3 frames" in out
    assert "drop_tcp" in out
    assert "destination" not in out
    done = call("replay", path, "--feed", "itch50")
    assert (done.code, done.out) == (4, "")
    assert done.err.endswith("it has: no UDP\n")


def test_ipv6_lines_keep_their_brackets(six):
    (stream,) = streams(six).values()
    assert (stream["destination"], stream["messages"]) == (SIX, 3)
    assert SIX in well("pcap", "info", six).out
    for feed in ("itch50", f"itch50@{SIX}"):
        done = well("replay", six, "--feed", feed)
        assert SIX in done.out
        assert "3 sequences = 3 delivered" in done.out


def test_names_with_brackets_are_no_markup(six):
    path = six.rename(six.with_name("[red] :smile: día.pcap"))
    assert well("pcap", "info", path).out.startswith(f"{path}: 2 frames")


def test_a_cut_capture_is_told_up_to_the_cut(lossy, tmp_path):
    path = tmp_path / "cut.pcap"
    path.write_bytes(lossy[0].read_bytes()[:50_000])
    done = call("pcap", "info", path, "--json")
    assert done.code == 4
    assert "at offset" in done.err
    assert done.json["frames"]["received"] > 50
    assert done.json["problems"] == [done.err.removeprefix("pydpdk: ").rstrip()]
