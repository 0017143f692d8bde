"""The host's end of an emulated NIC: one UDP datagram on loopback is one Ethernet frame.

QEMU's ``-netdev dgram`` reads frames from one UDP socket and writes to it what the NIC sends. Both
sockets are made here and connected to each other, so the kernel picks free ports, nobody else's
datagram gets in, and QEMU inherits an open socket instead of a number that another may take.

UDP drops in silence when the reader's buffer is full, so both ends get a large one: QEMU reads a
frame only when the NIC has room for it, and until then the buffer is the wire.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Self

BUFFER_BYTES = 8 << 20  # asked for; an ordinary user gets net.core.rmem_max
SO_RCVBUFFORCE = 33  # asm-generic/socket.h: beyond net.core.rmem_max, for root
FRAME_MAX = 65_507  # bytes of one UDP datagram over IPv4


def _socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    with suppress(PermissionError):
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    sock.bind(("127.0.0.1", 0))
    return sock


class Wire:
    """A cable: tests hold this end, QEMU inherits the file descriptor of `far`."""

    def __init__(self) -> None:
        self._near, self.far = _socket(), _socket()
        self._near.connect(self.far.getsockname())
        self.far.connect(self._near.getsockname())

    def send(self, frames: Iterable[bytes], pps: float | None = None) -> int:
        """Send whole frames, without FCS, at most `pps` a second (None: a burst); how many.

        OSError when QEMU is gone or a frame is longer than FRAME_MAX.
        """
        start, count = time.monotonic(), 0
        for count, frame in enumerate(frames, 1):
            self._near.send(frame)
            if pps is not None:
                time.sleep(max(0.0, start + count / pps - time.monotonic()))
        return count

    def receive(self, timeout: float) -> bytes | None:
        """The next frame that the guest sent, or None after `timeout` seconds."""
        self._near.settimeout(max(timeout, 1e-6))
        try:
            return self._near.recv(FRAME_MAX)
        except TimeoutError:
            return None

    def collect(self, count: int, timeout: float) -> list[bytes]:
        """Frames as they come: `count` of them, or those of `timeout` seconds."""
        frames: list[bytes] = []
        until = time.monotonic() + timeout
        while len(frames) < count:
            frame = self.receive(until - time.monotonic())
            if frame is None:
                break
            frames.append(frame)
        return frames

    def close(self) -> None:
        self._near.close()
        self.far.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
