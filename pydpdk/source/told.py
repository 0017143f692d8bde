"""What a source says of itself: its figures, and what it can and cannot know."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from pydpdk._core import ffi, lib
from pydpdk.errors import check
from pydpdk.source.description import Description
from pydpdk.source.opening import text

CLOCKS = {
    lib.SOURCE_CLOCK_HOST: "host",
    lib.SOURCE_CLOCK_TSC: "tsc",
    lib.SOURCE_CLOCK_HARDWARE: "hardware",
    lib.SOURCE_CLOCK_CAPTURE: "capture",
    lib.SOURCE_CLOCK_KERNEL: "kernel",
}
LOSSES = {
    lib.SOURCE_LOSSES_UNKNOWN: "unknown",
    lib.SOURCE_LOSSES_DEVICE: "device",
    lib.SOURCE_LOSSES_SOCKET: "socket",
    lib.SOURCE_LOSSES_FILE: "file",
}


@dataclass(frozen=True)
class SourceStats:
    """A source's own figures; None where it cannot know.

    ``missed``, ``no_mbuf``, ``errors`` and ``send_errors`` are of all queues of its port together.
    """

    received: int | None  # frames handed to the core
    missed: int | None  # dropped by device or socket for want of room
    no_mbuf: int | None  # times the driver found no mbuf: frames lost or left waiting
    starved: int | None  # empty bursts, one in 64 looked at, that found no mbuf left
    errors: int | None
    oversize: int | None  # frames delivered cut
    sent: int | None  # frames taken by the device
    send_full: int | None  # times that less was sent than asked for want of room
    send_refused: int | None  # frames too long or too short to be sent
    send_errors: int | None  # taken but not sent, as far as the driver tells


@dataclass(frozen=True)
class CaptureInfo:
    """How far a capture was read. Times are ns since the Unix epoch, offsets uncompressed."""

    frames: int
    offset: int
    ts_first: int
    ts_last: int
    ts_regress: int
    skipped: int
    link: int
    precision_ns: int
    error: int
    truncated: int  # 1 when the file ends inside a record
    format: str
    reason: str


def known(description: Description, pointer: Any) -> dict[str, Any]:
    """Of an open ``struct source *``.

    ``clock``: domain of ``ts_recv``: "capture" (the file's), "host" (CLOCK_REALTIME at the
    burst), "tsc" (TSC mapped to UTC at the burst), "hardware" (the device's, mapped to UTC),
    "kernel" (CLOCK_REALTIME when the kernel took the frame). ``losses``: who counts them:
    "device", "socket" (the kernel's for our socket), "file" (it has none), or "unknown".
    ``bypass``: frames do not pass the kernel's network stack; ``copies`` of each before its
    view; ``zero_copy``: of an AF_XDP socket, else None. ``joins``: who holds multicast
    memberships. ``promiscuous``, ``all_multicast``, ``multicast_list``: "accepted", "not asked
    for" or "refused: ...". ``queues`` and ``offloads``: as granted; ``rss``: the device spreads
    what no rule steers. None: has no meaning for this kind.
    """
    kind, told = description.kind, ffi.new("struct source_told *")
    check(lib.source_told(pointer, told), f"{description.spec}: what is known")
    zero_copy = None if told.zero_copy < 0 else bool(told.zero_copy)

    def device(answer: Any) -> Any:
        return answer if told.device else None

    return {
        "spec": description.spec,
        "driver": text(told.driver),
        "mac": device(bytes(told.mac).hex(":")),
        "mtu": device(told.mtu),
        "queues_wanted": told.queues_wanted,
        "queues": told.queues,
        "rss": device(bool(told.rss)),
        "rx_descriptors": device(told.rx_descriptors),
        "tx_descriptors": device(told.tx_descriptors),
        "offloads_wanted": text(told.offloads_wanted).split(),
        "offloads": text(told.offloads).split(),
        "promiscuous": device(_granted(told.promiscuous)),
        "all_multicast": device(_granted(told.all_multicast)),
        "multicast_list": device(_granted(told.multicast_list)),
        "clock": CLOCKS[told.clock],
        "losses": LOSSES[told.losses],
        "truncation": kind.truncation,
        "bypass": kind.bypass,
        "zero_copy": zero_copy,
        "copies": kind.copies - bool(zero_copy),
        "joins": kind.joins,
    }


def values(struct: Any) -> list[Any]:
    """A C struct's members in order, char arrays as str."""
    fields = (getattr(struct, name) for name, _ in ffi.typeof(struct).item.fields)
    return [ffi.string(f).decode() if isinstance(f, ffi.CData) else f for f in fields]


def _granted(code: int) -> str:
    if code < 0:
        return f"refused: {os.strerror(-code)}"
    return "accepted" if code else "not asked for"
