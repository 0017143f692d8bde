"""Where a frame of the live benchmarks carries its times, and the frames themselves.

A MoldUDP64 packet with one ITCH add order, from the start of an untagged Ethernet frame. The order
reference is the time it was sent (CLOCK_MONOTONIC, ns), the shares how long after it was due that
was, plus 1. A frame of a load also deletes the order, so that books stay empty.
"""

from __future__ import annotations

from typing import Any

from pydpdk.bench.data import LINES
from pydpdk.errors import HostError

SEQUENCE_AT, SENT_AT, LATE_AT, PRICE_AT = 52, 75, 84, 96
AGAIN_AT = 113  # the order reference of the delete that follows
HEADERS = 42  # Ethernet, IPv4, UDP
OPENING = 3  # messages


def add() -> str:
    """A frame of one add order, as all here in hexadecimal."""
    return _frame(1, frames().itch_add())


def add_and_delete() -> str:
    return _frame(1, frames().itch_add(), frames().itch_delete())


def opening(sequence: int) -> str:
    """The messages that a session begins with."""
    of = frames()
    return _frame(sequence, of.itch_system(), of.itch_directory(), of.itch_action())


def end(sequence: int) -> str:
    """A message that is no order."""
    return _frame(sequence, frames().itch_system())


def frames() -> Any:
    """Builders of frames, which are of the source tree."""
    try:
        from testbed import frames
    except ImportError as error:
        raise HostError(f"{error}: pip install 'pydpdk[testbed]'") from error
    return frames


def _frame(sequence: int, *messages: bytes) -> str:
    """A packet of the first line without a UDP checksum, since it is changed later."""
    of, line = frames(), LINES[0]
    packet = of.mold(sequence=sequence, messages=messages)
    frame = of.datagram(packet, src="10.77.0.1", dst=line.host, dst_port=line.port, checksum=0)
    return str(frame.hex())


def of_payload(payload: bytearray) -> tuple[int, int]:
    """Sent and late, as a record of the same message has them; the headers are gone."""
    sent, late = SENT_AT - HEADERS, LATE_AT - HEADERS
    return (
        int.from_bytes(payload[sent : sent + 8], "big"),
        int.from_bytes(payload[late : late + 4], "big"),
    )
