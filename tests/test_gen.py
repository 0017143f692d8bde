"""Captures of the synthetic feed: recounted from the file, dissected by tshark and scapy."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from itertools import islice, pairwise
from struct import unpack_from

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.all import IP, UDP, Ether
from scapy.utils import RawPcapNgReader, RawPcapReader

from pydpdk.errors import UsageError
from pydpdk.synth.gen import feed, generate
from pydpdk.synth.market import Market, epoch_ns
from pydpdk.synth.multicast import Channel, Framer
from pydpdk.synth.packetize import END, IexTp, MoldUDP64, Packetizer
from pydpdk.synth.two_lines import LINE_A, Faults, Line, LineTruth
from pydpdk.tape.pcapfile import CaptureWriter

SMALL = {"messages": 20_000, "instruments": 40}
LINES = {"233.54.12.111": "A", "233.86.230.111": "B"}


def frames_of(path):
    """(ns, frame) of a nanosecond pcap, by struct alone."""
    data = path.read_bytes()
    assert unpack_from("<I", data) == (0xA1B23C4D,)
    at = 24
    while at < len(data):
        seconds, nanoseconds, size, wire = unpack_from("<IIII", data, at)
        assert size == wire
        yield seconds * 10**9 + nanoseconds, data[at + 16 : at + 16 + size]
        at += 16 + size


def mold_of(frame):
    """(line, session, sequence, count, messages) of an untagged frame."""
    assert frame[12:14] == b"\x08\x00"
    line = LINES[".".join(str(byte) for byte in frame[30:34])]
    session, sequence, count = unpack_from(">10sQH", frame, 42)
    messages, at = [], 62
    while at < len(frame):
        (size,) = unpack_from(">H", frame, at)
        messages.append(frame[at + 2 : at + 2 + size])
        at += 2 + size
    assert at == len(frame)
    assert len(messages) == (0 if count == END else count)
    return line, session.decode().rstrip(), sequence, count, messages


def read(path):
    """The packets per line, in the order of the file."""
    lines = {}
    for ts, frame in frames_of(path):
        line, *packet = mold_of(frame)
        lines.setdefault(line, []).append((ts, *packet))
    return lines


def received(packets):
    return {
        sequence + i
        for _, _, sequence, _, messages in packets
        for i in range(len(messages))
    }  # fmt: skip


def recount(packets, offered):
    """What happened to the packets of a line, given how many messages-packets it was offered."""
    first, seen, highest = Counter(), 0, 0
    for _, _, sequence, count, messages in packets:
        if not messages:
            first["control"] += 1
            continue
        seen += 1
        if first[sequence, count]:
            first["duplicated"] += 1
        elif sequence < highest:
            first["reordered"] += 1
        first[sequence, count] += 1
        highest = max(highest, sequence)
    return {
        "packets": offered,
        "lost": offered - (seen - first["duplicated"]),
        "duplicated": first["duplicated"],
        "reordered": first["reordered"],
        "control": first["control"],
        "sent": len(packets),
    }


def test_a_clean_capture_carries_the_market_on_both_lines(tmp_path):
    told = []
    truth = generate(tmp_path / "a.pcap", **SMALL, progress=told.append)
    market = Market(1, 40, 20_000, epoch_ns("2026-01-05T09:30:00"))
    sent = [message for _, message in market]
    for packets in read(tmp_path / "a.pcap").values():
        assert [m for *_, messages in packets for m in messages] == sent
    assert truth.lost_on_both == set()
    assert truth.last_sequence == truth.messages == 20_000
    assert told[-1] == 20_000


def test_same_arguments_same_bytes(tmp_path):
    bad = {"loss": 0.02, "dup": 0.02, "reorder": 0.02, "repacketize": True}
    for name in ("a", "b"):
        generate(tmp_path / name, **SMALL, **bad)
    generate(tmp_path / "c", **SMALL, **bad, seed=2)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c


def test_truth_is_what_the_file_says(tmp_path):
    rates = {"loss": 0.05, "dup": 0.03, "reorder": 0.04}
    clean = generate(tmp_path / "clean.pcap", **SMALL)
    truth = generate(tmp_path / "bad.pcap", **SMALL, **rates)
    lines = read(tmp_path / "bad.pcap")
    everything = set(range(1, 20_001))
    lost = [everything - received(packets) for packets in lines.values()]
    assert truth.lost_on_both == lost[0] & lost[1] != set()
    for name, packets in lines.items():
        line = truth.lines[name]
        counted = recount(packets, clean.lines[name].packets)
        assert counted == {key: getattr(line, key) for key in counted}
        assert line.lost_messages == everything - received(packets)
        offered = line.packets - line.lost
        assert_binomial(line.lost, line.packets, rates["loss"])
        assert_binomial(line.duplicated, offered - line.reordered, rates["dup"])
        # While one packet is held back, for two others on average, no other is.
        assert_binomial(line.reordered, offered - 2 * line.reordered, rates["reorder"])


def assert_binomial(count, trials, probability):
    deviation = (trials * probability * (1 - probability)) ** 0.5
    assert abs(count - trials * probability) < 5 * deviation


def test_frames_are_sorted_and_line_b_is_behind(tmp_path):
    generate(tmp_path / "a.pcap", **SMALL, skew_us=30.0, jitter_us=4.0)
    times = [ts for ts, _ in frames_of(tmp_path / "a.pcap")]
    assert all(a <= b for a, b in pairwise(times))
    lines = read(tmp_path / "a.pcap")
    behind = [b[0] - a[0] for a, b in zip(lines["A"], lines["B"], strict=True)]
    assert min(behind) >= 26_000
    assert sorted(behind)[len(behind) // 2] == pytest.approx(30_000, rel=0.05)


def test_gap_on_both_lines_is_at_the_chosen_sequence(tmp_path):
    truth = generate(tmp_path / "a.pcap", **SMALL, gaps=((5_000, 10),), repacketize=True)
    lines = read(tmp_path / "a.pcap")
    lost = [set(range(1, 20_001)) - received(packets) for packets in lines.values()]
    assert truth.lost_on_both == lost[0] & lost[1] >= set(range(5_000, 5_010))
    assert lost[0] != lost[1]  # the packets around the gap are cut differently
    borders = [{packet[2] for packet in packets} for packets in lines.values()]
    assert len(borders[0] ^ borders[1]) > 100


def test_poison_jumps_on_line_a_only(tmp_path):
    truth = generate(tmp_path / "a.pcap", **SMALL, poison=((9_000, 10**6),))
    lines = read(tmp_path / "a.pcap")
    jumps = {name: [p[2] for p in packets if p[2] > 20_001] for name, packets in lines.items()}
    assert len(jumps["A"]) == truth.lines["A"].poisoned == 1
    assert jumps["A"][0] <= 9_000 + 10**6 < jumps["A"][0] + 200
    assert jumps["B"] == []


def test_session_changes_and_sequence_starts_again(tmp_path):
    sessions = ((b"MONDAY", 1), (b"TUESDAY", 12_001))
    truth = generate(tmp_path / "a.pcap", **SMALL, sessions=sessions, lines="B")
    counts, last = Counter(), {}
    for _, session, sequence, _, messages in read(tmp_path / "a.pcap")["B"]:
        assert sequence == counts[session] + 1
        counts[session] += len(messages)
        last[session] = sequence
    assert counts == {"MONDAY": 12_000, "TUESDAY": 8_000}
    assert list(last) == ["MONDAY", "TUESDAY"]
    assert truth.last_sequence == 8_000
    assert truth.sessions == [("MONDAY", 1), ("TUESDAY", 12_001)]


def test_an_idle_line_beats_every_second_and_the_end_is_said_three_times(tmp_path):
    generate(tmp_path / "a.pcap", **SMALL, lines="A")
    packets = read(tmp_path / "a.pcap")["A"]
    assert all(b[0] - a[0] <= 10**9 for a, b in pairwise(packets))
    beats = [packet for packet in packets if packet[3] == 0]
    assert len(beats) >= 4
    at = {packet[0]: n for n, packet in enumerate(packets)}
    for beat in beats:
        before = packets[at[beat[0]] - 1]
        assert beat[2] == before[2] + len(before[4])
    assert [packet[3] for packet in packets[-4:]].count(END) == 3
    assert packets[-1][2] == 20_001


@pytest.mark.parametrize("wrong", [{"loss": 1.5}, {"dup": -0.1}, {"lines": "BA"}, {"start": "x"}])
def test_wrong_arguments_leave_no_file(tmp_path, wrong):
    with pytest.raises(UsageError):
        generate(tmp_path / "a.pcap", **SMALL, **wrong)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("vlan", [None, 141])
def test_tshark_finds_every_frame_well_formed(tmp_path, vlan):
    if not shutil.which("tshark"):
        pytest.skip("tshark is not installed")
    channel = Channel("233.54.12.111", 26477, "198.51.100.1", vlan=vlan)
    frames, _ = feed(
        Market(1, 40, 10_000), {"A": Faults()}, framing=MoldUDP64(), channels={"A": channel}
    )
    with CaptureWriter(tmp_path / "a.pcap") as capture:
        for ts, frame in islice(frames, 500):
            capture.write(ts, frame)
    fields = ["ip.checksum.status", "udp.checksum.status", "moldudp64.count", "eth.dst",
        "vlan.id", "moldudp64.msglen", "_ws.malformed"]  # fmt: skip
    options = [x for name in fields for x in ("-e", name)]
    output = subprocess.run(
        ["tshark", "-r", tmp_path / "a.pcap", "-o", "ip.check_checksum:TRUE", "-o",
            "udp.check_checksum:TRUE", "-d", "udp.port==26477,moldudp64", "-T", "fields", *options],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    rows = [row.split("\t") for row in output.splitlines()]
    assert len(rows) == 500
    for ip, udp, count, mac, tag, lengths, malformed in rows:
        assert (ip, udp, malformed) == ("1", "1", "")
        assert mac == "01:00:5e:36:0c:6f"
        assert tag == ("" if vlan is None else "141")
        assert len(lengths.split(",")) == max(int(count), 1)


@given(payload=st.binary(max_size=2_000), vlan=st.none() | st.integers(0, 4094))
def test_scapy_computes_the_same_frame(payload, vlan):
    channel = Channel("239.255.1.2", 5000, "192.0.2.7", vlan=vlan)
    frame = Framer(channel).frame(payload)
    packet = Ether(frame)
    assert bytes(packet[UDP].payload) == payload
    del packet[IP].chksum, packet[IP].len, packet[UDP].chksum, packet[UDP].len
    assert bytes(packet) == frame


def test_a_udp_checksum_of_zero_is_sent_as_all_ones():
    framer = Framer(LINE_A)
    right = framer.frame(b"\0\0")[40:42]
    # With its own checksum for payload the words sum to 0xFFFF, whose complement is 0.
    assert framer.frame(right)[40:42] == b"\xff\xff"


STREAMS = st.lists(
    st.tuples(st.integers(0, 300_000), st.binary(min_size=1, max_size=500)), max_size=60
)


def timed(stream):
    now = 10**18
    for gap, message in stream:
        now += gap
        yield now, message


@pytest.mark.parametrize("framing", [MoldUDP64((b"A", b"B")), IexTp((1, 2))])
@given(stream=STREAMS, payload_max=st.integers(600, 1_400))
def test_packets_hold_all_messages_in_order_within_limits(framing, stream, payload_max):
    sent = list(timed(stream))
    packets = list(Packetizer(framing, payload_max=payload_max, starts=(20,))(sent))
    order = "big" if framing.length.format == ">H" else "little"
    messages = []
    for packet in packets:
        payload = framing.payload(packet)
        assert len(payload) <= payload_max
        assert packet.position == len(messages) + 1
        at = framing.header_size
        first = len(messages)
        while at < len(payload):
            size = int.from_bytes(payload[at : at + 2], order)
            messages.append(payload[at + 2 : at + 2 + size])
            at += 2 + size
        for ts, _ in sent[first : len(messages)]:
            assert 0 <= packet.ts_ns - ts <= 100_000
        if packet.blocks and len(messages) < len(sent):
            assert packet.ts_ns <= sent[len(messages)][0]
        assert packet.session == (packet.position >= 20 and len(messages) >= 20)
        assert packet.sequence == packet.position - 19 * packet.session
    assert messages == [message for _, message in sent]
    assert all(a.ts_ns <= b.ts_ns for a, b in pairwise(packets))


@pytest.mark.parametrize("payload_max", range(600, 640))
def test_a_packet_is_filled_to_the_limit_and_no_further(payload_max):
    sent = [(10**18, bytes(36))] * 40
    first, *_ = Packetizer(MoldUDP64(), payload_max=payload_max)(sent)
    size = len(MoldUDP64().payload(first))
    assert payload_max - 38 < size <= payload_max


def test_iextp_headers_are_continuous_in_sequence_and_offset():
    messages = list(timed([(50_000, bytes(n % 60 + 1)) for n in range(300)]))
    frames, _ = feed(messages, {"A": Faults()}, framing=IexTp((77,), protocol=0x8003))
    sequence, offset = 1, 0
    for ts, frame in frames:
        version, _, protocol, channel, session, size, count, at, first, sent_ns = unpack_from(
            "<BBHIIHHQQq", frame, 42
        )
        assert (version, protocol, channel, session) == (1, 0x8003, 1, 77)
        assert (first, at, sent_ns) == (sequence, offset, ts)
        assert len(frame) == 42 + 40 + size
        sequence += count
        offset += size
    assert sequence == 301


def test_a_late_packet_is_passed_by_one_to_three_others():
    stream = timed([(200_000, n.to_bytes(4, "big")) for n in range(1, 400)])
    truth = LineTruth()
    line = Line(LINE_A, MoldUDP64(), Faults(reorder=0.2, reorder_max=3), truth)
    order = [
        int.from_bytes(frame[64:68], "big")
        for _, frame in line(Packetizer(MoldUDP64(), ends=0)(stream))
    ]
    assert sorted(order) == list(range(1, 400))
    passed = Counter(
        sum(1 for earlier in order[:at] if earlier > n) for at, n in enumerate(order)
    )  # fmt: skip
    assert set(passed) == {0, 1, 2, 3}
    assert truth.reordered == passed.total() - passed[0] > 30


def test_a_packet_that_none_passes_is_not_reordered():
    truth = LineTruth()
    line = Line(LINE_A, MoldUDP64(), Faults(reorder=1.0), truth)
    assert len(list(line(Packetizer(MoldUDP64(), ends=1)([(10**18, b"alone")])))) == 2
    assert truth.reordered == 0


def test_jitter_wider_than_the_gaps_does_not_reorder():
    stream = timed([(1_000, bytes(1_000)) for _ in range(300)])
    line = Line(LINE_A, MoldUDP64(), Faults(delay_ns=50_000, jitter_ns=40_000), LineTruth())
    sent = [(ts, mold[54:60]) for ts, mold in line(Packetizer(MoldUDP64())(stream))]
    assert sent == sorted(sent)


@pytest.mark.parametrize("name", ["a.pcap", "a.pcapng"])
def test_scapy_reads_the_file(tmp_path, name):
    kind = "pcapng" if name.endswith("ng") else "pcap-ns"
    truth = generate(tmp_path / name, **SMALL, format=kind)
    reader = RawPcapNgReader if kind == "pcapng" else RawPcapReader
    with reader(str(tmp_path / name)) as packets:
        assert sum(1 for _ in packets) == sum(line.sent for line in truth.lines.values())
