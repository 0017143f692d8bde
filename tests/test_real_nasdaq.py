"""Recorded MoldUDP64 through the whole pipeline; what the messages should be, tshark says."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from pydpdk._core import lib
from pydpdk.engine.engine import END
from pydpdk.engine.feed import Endpoint, Feed
from pydpdk.synth.multicast import Channel, Framer
from pydpdk.synth.packetize import MoldUDP64, Packetizer
from pydpdk.tape.pcapfile import CaptureWriter
from tests.dissect import fields, length_prefixed, moldudp64, udp_payloads
from tests.pipeline import SMALL, found_feed, replay

REAL = {
    "Nasdaq.Equities.TotalView.Itch.v5.0.pcap": 8,
    "Nasdaq.Bx.Equities.TotalView.Itch.v5.0.pcap": 2,
}
ZEROED = {
    "Nasdaq.Equities.TotalView.Itch.v5.0.20230822.pcap": 29,
    "Nasdaq.Bx.Equities.TotalView.Itch.v5.0.20230822.pcap": 23,
    "Nasdaq.Psx.Equities.TotalView.Itch.v5.0.20230822.pcap": 20,
}
TYPES = {
    "A": 44, "C": 6, "D": 9, "E": 7, "F": 8, "H": 7, "I": 2, "J": 2, "L": 3, "N": 2, "P": 6,
    "Q": 2, "S": 2, "U": 7, "X": 6, "Y": 6,
}  # fmt: skip
"""Messages of all five files, as published with them."""

LINE = Channel("233.54.12.111", 26477, "198.51.100.1")
FEED = Feed("itch50", (Endpoint(LINE.group, LINE.port),), **SMALL)
NOWHERE = Feed("itch50", (Endpoint("0.0.0.0", 0),), **SMALL)
START = 1_700_000_000 * 10**9


def wrapped(path: Path, payloads: Iterable[bytes]) -> Path:
    """A capture with a frame for each payload, a millisecond apart."""
    frame = Framer(LINE).frame
    with CaptureWriter(path) as capture:
        for n, payload in enumerate(payloads):
            capture.write(START + n * 10**6, frame(payload))
    return path


def letters(messages: Iterable[bytes]) -> dict[str, int]:
    return dict(Counter(chr(message[0]) for message in messages))


# ---- real sequence numbers ----


def test_each_real_packet_joins_a_session_and_is_decoded(
    data: Path, tmp_path: Path, tshark: str
) -> None:
    for name in REAL:
        payloads = udp_payloads(tshark, data / "omi" / name)
        for payload, told in zip(payloads, moldudp64(tshark, payloads), strict=True):
            got = replay(wrapped(tmp_path / "one.pcap", [payload]), [FEED])
            assert got.clean
            assert got.result["messages"] == letters(told.messages)
            (account,) = got.result["sequence"]
            assert account["session"] == told.session == payload[:10].decode()
            assert account["first"] == told.sequence
            assert account["delivered"] == len(told.messages)
            assert (got.events["sequence"] >= told.sequence).all()
            assert got.events["kind"][0] == lib.EVENT_SESSION
            # The session was joined late: nothing that its records say of a book is certain.
            about = got.events[got.events["instrument_id"] > 0]
            assert len(about) >= len(told.messages)
            assert (about["flags"] & lib.FLAG_SUSPECT).all()


def test_samples_far_apart_begin_again_until_two_agree(data: Path) -> None:
    """Sequences less 0xe12f59: 0, far, 0x1a77, far, 1, 0x18, -0x14, far; 38 messages in one."""
    path = data / "omi" / "Nasdaq.Equities.TotalView.Itch.v5.0.pcap"
    got = replay(path, [found_feed(path, "itch50", **SMALL)])
    assert got.clean
    accounts = got.result["sequence"]
    assert [account["first"] - 0xE12F59 for account in accounts] == [
        0, 3_104_269, 0x1A77, 4_251_396, 1,
    ]  # fmt: skip
    assert [account["delivered"] for account in accounts] == [1, 1, 1, 38, 2]
    told = {name: accounts[-1][name] for name in ("last", "received", "late", "untrusted", "lost")}
    assert told == {"last": 0xE12F59 + 0x18, "received": 4, "late": 1, "untrusted": 1, "lost": 22}
    assert got.result["frames"] == {
        "received": 8, "parsed": 7, "dropped": {"drop_untrusted_jump": 1},
    }  # fmt: skip
    assert got.result["messages"] == {"A": 37, "D": 2, "E": 1, "F": 2, "L": 1}


def test_a_gap_that_nothing_fills_is_lost(data: Path) -> None:
    path = data / "omi" / "Nasdaq.Bx.Equities.TotalView.Itch.v5.0.pcap"
    got = replay(path, [found_feed(path, "itch50", **SMALL)])
    assert got.clean
    (account,) = got.result["sequence"]
    assert (account["first"], account["last"]) == (0x18BED5, 0x18BEED)
    assert (account["delivered"], account["lost"], account["declared"]) == (2, 23, 1)
    gaps = got.events[got.events["kind"] == lib.EVENT_GAP]
    assert gaps[["sequence", "order_id"]].tolist() == [(0x18BED6, 23)]


# ---- sequence numbers that were zeroed ----


@pytest.mark.parametrize(("name", "frames"), ZEROED.items(), ids=["nasdaq", "bx", "psx"])
def test_sequence_zero_is_dropped_and_counted(
    data: Path, tshark: str, name: str, frames: int
) -> None:
    path = data / "omi" / name
    got = replay(path, [NOWHERE])
    assert got.clean
    assert got.result["frames"] == {
        "received": frames, "parsed": 0, "dropped": {"drop_sequence": frames},
    }  # fmt: skip
    assert got.result["sequence"] == []
    assert len(got.events) == 0
    options = ("-o", "ip.check_checksum:TRUE")
    bad = sum(row[0] == ["0"] for row in fields(tshark, path, ["ip.checksum.status"], *options))
    assert bad == got.counters["note_ip_checksum"] == frames
    verified = replay(path, [NOWHERE], checksum="verify")
    assert verified.result["frames"]["dropped"] == {"drop_ip_checksum": frames}


def test_all_samples_numbered_anew_are_the_published_messages(
    data: Path, tmp_path: Path, tshark: str
) -> None:
    payloads = [p for name in REAL | ZEROED for p in udp_payloads(tshark, data / "omi" / name)]
    assert len(payloads) == sum((REAL | ZEROED).values())
    sequence, numbered = 1, []
    for payload in payloads:
        numbered.append(struct.pack(">10sQ", b"SAMPLES", sequence) + payload[18:])
        sequence += int.from_bytes(payload[18:20], "big")
    got = replay(wrapped(tmp_path / "all.pcap", numbered), [FEED])
    assert got.clean
    assert got.result["messages"] == TYPES
    assert got.result["sequence"][0]["delivered"] == sequence - 1 == sum(TYPES.values())


# ---- other protocols in the same framing ----


def mold_file(raw: bytes) -> list[bytes]:
    """Payloads that lie back to back: header, then so many length-prefixed messages."""
    payloads, at = [], 0
    while at < len(raw):
        begin, (count,) = at, struct.unpack_from(">H", raw, at + 18)
        at += 20
        for _ in range(count):
            at += 2 + int.from_bytes(raw[at : at + 2], "big")
        payloads.append(raw[begin:at])
    return payloads


def test_another_venues_itch_is_framed_and_counted_but_not_decoded(
    data: Path, tmp_path: Path
) -> None:
    """T 2 is no type of ITCH 5.0; S 1, R 19 and L 19 have other lengths; the last L is cut."""
    payloads = mold_file((data / "nasdaq" / "bist_itch_moldudp64.dat").read_bytes())
    assert len(payloads) == 3
    got = replay(wrapped(tmp_path / "bist.pcap", payloads), [FEED])
    assert got.clean
    assert got.result["frames"] == {"received": 3, "parsed": 3, "dropped": {}}
    (account,) = got.result["sequence"]
    told = {name: account[name] for name in ("session", "first", "last", "received", "cut", "lost")}
    assert told == {"session": "", "first": 1, "last": 41, "received": 41, "cut": 1, "lost": 1}
    names = ("message_unknown", "message_length", "messages_decoded", "block_cut")
    assert [got.counters[name] for name in names] == [2, 38, 0, 1]
    assert got.result["messages"] == {}
    assert account["books"]["instruments"] == account["books"]["levels"] == 0


def test_a_recorded_start_of_day_names_its_instruments(data: Path, tmp_path: Path) -> None:
    raw = (data / "nasdaq" / "itch50_start_of_day_1000.itch").read_bytes()
    messages = length_prefixed(raw)
    framing = MoldUDP64()
    stream = Packetizer(framing)((START + n * 1000, m) for n, m in enumerate(messages))
    path = wrapped(tmp_path / "day.pcap", map(framing.payload, stream))
    symbols: dict[int, str] = {}

    def look(engine: Any) -> None:
        symbols.update(engine.instruments())

    got = replay(path, [FEED], look=look)
    assert got.ends == [END]
    assert got.clean
    assert got.result["messages"] == {"H": 3, "R": 993, "S": 1, "Y": 3}
    directory = {
        int.from_bytes(m[1:3], "big"): m[11:19].decode().rstrip() for m in messages if m[:1] == b"R"
    }
    assert symbols == directory
    assert len(symbols) == 993
    assert not got.result["books"]["suspect"]
