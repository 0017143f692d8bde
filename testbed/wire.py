"""Sees what really crosses a wire: an observer beside the receiver, by a packet socket of its own.

    python -m testbed.wire --interface b0 --idle 1 --json

The kernel writes frames into a ring of equal slots (TPACKET_V2, packet(7)), which numpy reads many
at a time. A frame that finds no free slot is counted by the kernel: ``blind`` is how many crossed
unseen, and only with 0 of them is a report the whole truth. It keeps 40 bytes for each frame.
"""

from __future__ import annotations

import argparse
import json
import mmap
import signal
import socket
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from struct import pack, unpack
from typing import BinaryIO

import numpy as np

from testbed.datagrams import DATAGRAM, HEAD, OTHER, Line, Rows, read, tally

# linux/if_packet.h
SOL_PACKET = 263
PACKET_RX_RING, PACKET_STATISTICS, PACKET_VERSION, PACKET_IGNORE_OUTGOING = 5, 6, 10, 23
TPACKET_V2 = 1
STATUS_KERNEL, STATUS_USER, STATUS_VLAN = 0, 1, 0x10  # VLAN: the kernel took the tag away
ETH_P_ALL = 3
TPACKET2_HDR = np.dtype(
    [("status", "u4"), ("length", "u4"), ("captured", "u4"), ("mac", "u2"), ("net", "u2"),
     ("second", "u4"), ("nanosecond", "u4"), ("vlan", "u2"), ("tpid", "u2"), ("pad", "u4")]
)  # fmt: skip
BLOCK = 1 << 20
HEAD_SLOT, WHOLE_SLOT = 256, 2048  # bytes: for headers alone, for frames of an MTU up to 1,900
PCAP_NS = pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262_144, 1)


@dataclass
class Report:
    """What crossed so far."""

    interface: str
    seen: int  # frames
    blind: int  # frames that crossed while the ring was full
    other: int  # seen, but no datagram of a session
    corrupt: int | None  # wrong UDP checksum; None if only headers were looked at
    cut: int  # frames longer than a slot, when whole ones are looked at
    first_ns: int  # time of the first and the last frame, CLOCK_REALTIME
    last_ns: int
    lines: list[Line] = field(default_factory=list)

    def json(self) -> str:
        return json.dumps(asdict(self), indent=1)


class Observer:
    """Watches what comes in at an interface of the calling thread's namespace.

    As a context manager; it sees from the moment it is made. ``whole`` frames have their UDP
    checksums verified and are written to the file ``record`` (pcap, nanoseconds) if one is named.
    Raises OSError without the interface or CAP_NET_RAW.
    """

    def __init__(
        self, interface: str, *, megabytes: int = 64, whole: bool = False,
        record: str | Path | None = None,
    ) -> None:  # fmt: skip
        self.interface = interface
        self.whole = whole or record is not None
        slot = WHOLE_SLOT if self.whole else HEAD_SLOT
        self.slots = megabytes * BLOCK // slot
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # deaf until bound
        try:
            self.socket.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
            self.socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            ring = pack("IIII", BLOCK, megabytes, slot, self.slots)
            self.socket.setsockopt(SOL_PACKET, PACKET_RX_RING, ring)
            self._map = mmap.mmap(self.socket.fileno(), megabytes * BLOCK)
            self.socket.bind((interface, ETH_P_ALL))
        except OSError as error:
            self.socket.close()
            raise OSError(error.errno, f"{interface}: {error.strerror}") from None
        self._ring = np.frombuffer(self._map, np.uint8).reshape(self.slots, slot)
        self._heads = self._ring[:, : TPACKET2_HDR.itemsize].view(TPACKET2_HDR)[:, 0]
        self._next = 0
        self.stopped = False
        self._rows = [np.empty(0, DATAGRAM)]
        self._lengths = [np.empty(0, np.int64)]
        self._report = Report(interface, 0, 0, 0, 0 if self.whole else None, 0, 0, 0)
        self._file: BinaryIO | None = Path(record).open("wb") if record else None  # noqa: SIM115
        if self._file:
            self._file.write(PCAP_NS)

    def __enter__(self) -> Observer:
        return self

    def __exit__(self, *_: object) -> None:
        del self._ring, self._heads  # or the map could not be closed
        self._map.close()
        self.socket.close()
        if self._file:
            self._file.close()

    def stop(self, *_: object) -> None:
        """From a signal handler or another thread: watch() returns."""
        self.stopped = True

    def read(self) -> int:
        """Take in what has crossed since the last call; how many frames that was."""
        end = min(self._next + 8192, self.slots)
        ready = self._heads["status"][self._next : end] & STATUS_USER
        count = int(np.argmin(ready)) if not ready.all() else len(ready)
        if count:
            # The kernel sets the status last, and x86 keeps loads in order: the slots are whole.
            slots = slice(self._next, self._next + count)
            self._take(self._heads[slots].copy(), self._ring[slots])
            self._heads["status"][slots] = STATUS_KERNEL
            self._next = (self._next + count) % self.slots
        return count

    def watch(self, idle: float = 0.2, seconds: float = 60.0) -> Report:
        """Read until nothing has crossed for ``idle`` seconds, at most for ``seconds``."""
        now = last = time.monotonic()
        until = now + seconds
        while now < until and now - last < idle and not self.stopped:
            got = self.read()
            now = time.monotonic()
            if got:
                last = now
            else:
                time.sleep(0.001)
        return self.report()

    def report(self) -> Report:
        """All that was taken in so far."""
        report = self._report
        # Reading the statistics clears them; "packets" contains the drops.
        dropped = unpack("II", self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]
        report.blind += dropped
        self._rows = [np.concatenate(self._rows)]
        self._lengths = [np.concatenate(self._lengths)]
        report.other = int((self._rows[0]["protocol"] == OTHER).sum())
        report.lines = tally(self._rows[0], self._lengths[0])
        return report

    def _take(self, heads: Rows, slots: Rows) -> None:
        report, lengths = self._report, heads["length"].astype(np.int64)
        times = heads["second"].astype(np.int64) * 10**9 + heads["nanosecond"]
        report.first_ns = report.first_ns or int(times[0])
        report.last_ns = int(times[-1])
        report.seen += len(heads)
        at = heads["mac"].astype(np.int64)
        columns = np.minimum(at[:, None] + np.arange(HEAD), slots.shape[1] - 1)
        frames = np.take_along_axis(slots, columns, axis=1)
        self._rows.append(read(frames, lengths))
        self._lengths.append(lengths + 4 * (heads["status"] & STATUS_VLAN > 0))
        if self.whole:
            self._whole(slots, heads, times)

    def _whole(self, slots: Rows, heads: Rows, times: Rows) -> None:
        assert self._report.corrupt is not None
        for slot, head, time_ns in zip(slots, heads, times, strict=True):
            frame = slot[head["mac"] :][: head["captured"]].tobytes()
            self._report.corrupt += head["captured"] == head["length"] and not checksum_holds(frame)
            self._report.cut += int(head["captured"] < head["length"])
            if self._file:
                tag = b""
                if head["status"] & STATUS_VLAN:
                    tag = pack(">HH", head["tpid"], head["vlan"])
                second, nanosecond = divmod(int(time_ns), 10**9)
                sizes = len(frame) + len(tag), int(head["length"]) + len(tag)
                record = pack("<IIII", second, nanosecond, *sizes)
                self._file.write(record + frame[:12] + tag + frame[12:])


def checksum_holds(frame: bytes) -> bool:
    """Whether the UDP checksum of an untagged IPv4 frame is right or absent; others pass."""
    if frame[12:14] != b"\x08\x00" or frame[23] != 17:
        return True
    udp = 14 + 4 * (frame[14] & 15)
    length = int.from_bytes(frame[udp + 4 : udp + 6], "big")
    if frame[udp + 6 : udp + 8] == b"\0\0":
        return True
    data = frame[26:34] + pack(">HH", 17, length) + frame[udp : udp + length]
    # 2**16 is 1 modulo 65,535: the residue of the whole is that of the sum of its words.
    return int.from_bytes(data + b"\0" * (len(data) % 2), "big") % 0xFFFF == 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m testbed.wire", description="Count what crosses until SIGINT or SIGTERM."
    )
    parser.add_argument("--interface", required=True)
    parser.add_argument("--idle", type=float, default=1e9, help="end so long after the last frame")
    parser.add_argument("--seconds", type=float, default=1e9, help="end after so long")
    parser.add_argument("--megabytes", type=int, default=64, help="size of the ring")
    parser.add_argument("--whole", action="store_true", help="verify UDP checksums")
    parser.add_argument("--record", help="write what crosses to this pcap file")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args(arguments)
    try:
        with Observer(
            options.interface, megabytes=options.megabytes, whole=options.whole,
            record=options.record,
        ) as observer:  # fmt: skip
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, observer.stop)
            print("watching", options.interface, file=sys.stderr, flush=True)
            observer.watch(options.idle, options.seconds)
            while observer.read():  # what had crossed by then
                pass
            report = observer.report()
    except OSError as error:
        print(f"testbed.wire: {error}", file=sys.stderr)
        return 1
    print(report.json() if options.json else _text(report))
    return 0 if report.blind == 0 else 1


def _text(report: Report) -> str:
    lines = [f"{report.interface}: {report.seen:,} frames, blind to {report.blind:,}"]
    lines += [
        f"{line.destination} {line.session}: {line.packets:,} packets, next {line.next:,}, "
        f"{sum(b - a for a, b in line.missing):,} messages missing, {line.duplicates:,} twice, "
        f"{line.out_of_order:,} out of order"
        for line in report.lines
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
