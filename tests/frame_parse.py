"""frame_parse of the core, called with Python values."""

from __future__ import annotations

from typing import Any, NamedTuple

from scapy.packet import Packet

from pydpdk._core import ffi, lib


class Datagram(NamedTuple):
    payload: bytes
    src: bytes
    dst: bytes
    sport: int
    dport: int
    vlan: int


def call(packet: Any, policy: int) -> tuple[str, Datagram | None, int]:
    """(counter's name or "ok", datagram, noted bits) of one frame_parse."""
    out = ffi.new("struct datagram *")
    reason = lib.frame_parse(packet, policy, out)
    if reason:
        return ffi.string(lib.counter_name(reason)).decode(), None, 0
    payload = bytes(ffi.buffer(out.payload, out.len))
    src, dst = (bytes(ffi.buffer(at, out.addr_len)) for at in (out.src, out.dst))
    return "ok", Datagram(payload, src, dst, out.sport, out.dport, out.vlan), out.noted


def parse(
    frame: Packet | bytes,
    *,
    wirelen: int | None = None,
    link: int = 1,
    policy: int = lib.CHECKSUM_IGNORE,
    flags: int = 0,
) -> tuple[str, Datagram | None, int]:
    data = bytes(frame)
    keep = ffi.new("uint8_t[]", data)
    lengths = {"caplen": len(data), "wirelen": len(data) if wirelen is None else wirelen}
    packet = ffi.new("struct packet *", {"data": keep, **lengths, "link": link, "flags": flags})
    return call(packet, policy)
