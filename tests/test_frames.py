"""The builders of hostile vectors, right by default: scapy and tshark's view of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.all import IP, UDP, Dot1AD, Dot1Q, Ether

from testbed import frames


@given(payload=st.binary(max_size=300), options=st.binary(max_size=40))
def test_defaults_are_what_scapy_would_compute(payload, options):
    frame = frames.eth(frames.ipv4(frames.udp(payload), options=options))
    packet = Ether(frame)
    assert bytes(packet[UDP].payload) == payload
    del packet[IP].chksum, packet[IP].len, packet[IP].ihl, packet[UDP].chksum, packet[UDP].len
    packet[IP].options = []
    want = frames.eth(frames.ipv4(frames.udp(payload)))
    assert bytes(packet) == want


def test_tags_and_padding():
    frame = frames.eth(
        frames.ipv4(frames.udp(b"x")), vlans=[(frames.QINQ, 5), (frames.VLAN, 141)], pad_to=60
    )
    packet = Ether(frame)
    assert (packet[Dot1AD].vlan, packet[Dot1Q].vlan, packet[IP].len) == (5, 141, 29)
    assert len(frame) == 60


def ip(**lie):
    return frames.eth(frames.ipv4(frames.udp(b"x"), **lie))


def udp(**lie):
    return frames.eth(frames.ipv4(frames.udp(b"x", **lie)))


@pytest.mark.parametrize(
    ("build", "lie", "where", "says"),
    [
        (ip, {"ihl": 4}, 14, b"\x44"),
        (ip, {"version": 5}, 14, b"\x55"),
        (ip, {"total_length": 19}, 16, b"\x00\x13"),
        (ip, {"checksum": 0xBAD}, 24, b"\x0b\xad"),
        (udp, {"length": 7}, 38, b"\x00\x07"),
        (udp, {"checksum": 0}, 40, b"\x00\x00"),
    ],
)
def test_a_lie_is_where_it_was_told_and_the_rest_stays(build, lie, where, says):
    right, wrong = build(), build(**lie)
    assert wrong[where : where + len(says)] == says
    assert right[where : where + len(says)] != says
    changed = {at for at in range(len(right)) if right[at] != wrong[at]}
    assert changed <= {*range(where, where + len(says)), 24, 25, 40, 41}  # and the checksums


def test_a_udp_checksum_of_zero_is_sent_as_all_ones():
    assert frames.udp(frames.udp(b"\0\0")[6:8])[6:8] == b"\xff\xff"


def test_transport_lies():
    assert frames.mold(count=3, messages=[b"abc"], lengths=[9])[18:] == b"\0\3\0\x09abc"
    assert frames.mold(sequence=-1)[10:18] == b"\xff" * 8
    assert frames.iextp(payload_length=7, messages=[b"ab"], tail=b"!")[12:16] == b"\7\0\1\0"
    assert frames.iextp(messages=[b"ab"])[40:] == b"\2\0ab"


@pytest.mark.parametrize(
    ("message", "size"),
    [
        (frames.itch_system(), 12), (frames.itch_directory(), 39), (frames.itch_action(), 25),
        (frames.itch_add(), 36), (frames.itch_add(mpid=b"ABCD"), 40), (frames.itch_execute(), 31),
        (frames.itch_execute(price=1), 36), (frames.itch_cancel(), 23), (frames.itch_delete(), 19),
        (frames.itch_replace(), 35), (frames.itch_trade(), 44),
    ],
)  # fmt: skip
def test_messages_have_the_length_of_the_specification(message, size):
    assert len(message) == size
