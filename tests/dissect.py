"""Other people's decoders as oracles: tshark for frames and MoldUDP64, scapy for IEX captures."""

from __future__ import annotations

import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from scapy.utils import RawPcapReader

LINK_RAW, PORT = 101, 26477


class MoldPacket(NamedTuple):
    session: str
    sequence: int
    messages: list[bytes]


def fields(tshark: str, path: Path, names: list[str], *options: str) -> list[list[list[str]]]:
    """Per frame, per field name, every occurrence of its value as tshark prints it."""
    asked = [part for name in names for part in ("-e", name)]
    command = [tshark, "-n", "-r", str(path), *options, "-T", "fields", *asked]
    run = subprocess.run(command, capture_output=True, check=True, text=True)
    rows = [line.split("\t") for line in run.stdout.splitlines()]
    return [[value.split(",") if value else [] for value in row] for row in rows]


def udp_payloads(tshark: str, path: Path) -> list[bytes]:
    """Of every UDP frame of a capture."""
    rows = fields(tshark, path, ["udp.payload"], "-Y", "udp")
    return [bytes.fromhex(payload) for (payload,), *_ in rows]


def moldudp64(tshark: str, payloads: list[bytes]) -> list[MoldPacket]:
    """UDP payloads, whatever their ports were, taken apart by tshark's moldudp64 dissector."""
    with tempfile.NamedTemporaryFile(suffix=".pcap") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, LINK_RAW))
        for payload in payloads:
            size = len(payload) + 28
            file.write(struct.pack("<IIII", 0, 0, size, size))
            file.write(struct.pack(">BxH4xBB10x", 0x45, size, 64, 17))
            file.write(struct.pack(">HHHH", PORT, PORT, size - 20, 0) + payload)
        file.flush()
        names = ["moldudp64.session", "moldudp64.sequence", "moldudp64.msgdata"]
        rows = fields(tshark, Path(file.name), names, "-d", f"udp.port=={PORT},moldudp64")
    return [
        MoldPacket(
            session[0] if session else "", int(sequence[0]), [bytes.fromhex(m) for m in data]
        )
        for session, sequence, data in rows
    ]


def iextp_packets(path: Path) -> Iterator[tuple[int, list[bytes]]]:
    """(sequence of the first message, messages) of each packet of an IEX capture."""
    with RawPcapReader(str(path)) as reader:
        for frame, _ in reader:
            payload = frame[14 + 4 * (frame[14] & 15) + 8 :]  # Ethernet, IPv4, UDP
            count, sequence = struct.unpack_from("<14xH8xQ", payload)
            messages, at = [], 40
            for _ in range(count):
                (length,) = struct.unpack_from("<H", payload, at)
                messages.append(payload[at + 2 : at + 2 + length])
                at += 2 + length
            yield sequence, messages


def length_prefixed(data: bytes) -> list[bytes]:
    """Messages of a raw ITCH file: be16 length, then that many bytes."""
    messages, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from(">H", data, at)
        messages.append(data[at + 2 : at + 2 + length])
        at += 2 + length
    return messages
