"""Frames for tests, right by default and wrong wherever a keyword says so.

Nothing here comes from pydpdk: these builders are the second opinion on its parsers. Lengths and
checksums are computed unless given, so ``udp(data, length=7)`` is a frame with one lie in it::

    eth(ipv4(udp(mold(b"S", 1, [itch_add()])), checksum=0xBAD))
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from struct import pack

IPV4, IPV6, VLAN, QINQ = 0x0800, 0x86DD, 0x8100, 0x88A8
SOURCE, GROUP = "198.51.100.1", "233.54.12.111"
SOURCE6, GROUP6 = "fd00::1", "ff15::42"


def checksum(data: bytes) -> int:
    """RFC 1071, word by word."""
    data += b"\0" * (len(data) % 2)
    total = sum(data[i] << 8 | data[i + 1] for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def eth(
    payload: bytes = b"",
    *,
    ethertype: int = IPV4,
    vlans: Sequence[tuple[int, int]] = (),
    dst: bytes = b"\x01\x00\x5e\x36\x0c\x6f",
    src: bytes = b"\x02\x00\x00\x00\x00\x01",
    pad_to: int = 0,
    fcs: bytes = b"",
) -> bytes:
    """An Ethernet II frame; ``vlans`` are (TPID, TCI) from the outermost, ``fcs`` comes last."""
    tags = b"".join(pack(">HH", tpid, tci) for tpid, tci in vlans)
    return (dst + src + tags + pack(">H", ethertype) + payload).ljust(pad_to, b"\0") + fcs


def ipv4(
    payload: bytes = b"",
    *,
    src: str = SOURCE,
    dst: str = GROUP,
    protocol: int = 17,
    ttl: int = 16,
    identification: int = 1,
    flags: int = 2,
    offset: int = 0,
    options: bytes = b"",
    version: int = 4,
    ihl: int | None = None,
    tos: int = 0,
    total_length: int | None = None,
    checksum: int | None = None,
) -> bytes:
    """An IPv4 packet; ``offset`` of a fragment in units of 8 bytes, ``flags`` 1 more, 2 don't."""
    ihl = 5 + (len(options) + 3) // 4 if ihl is None else ihl
    options = options.ljust((len(options) + 3) // 4 * 4, b"\0")
    if total_length is None:
        total_length = 20 + len(options) + len(payload)
    head = pack(
        ">BBHHHBB", (version & 15) << 4 | ihl & 15, tos, total_length & 0xFFFF, identification,
        (flags & 7) << 13 | offset & 0x1FFF, ttl, protocol,
    )  # fmt: skip
    tail = ip_address(src).packed + ip_address(dst).packed + options
    if checksum is None:
        checksum = _checksum(head + b"\0\0" + tail)
    return head + pack(">H", checksum) + tail + payload


_checksum = checksum  # the builders have a keyword of that name


def ipv6(
    payload: bytes = b"",
    *,
    src: str = SOURCE6,
    dst: str = GROUP6,
    next_header: int = 17,
    hops: int = 16,
    version: int = 6,
    payload_length: int | None = None,
) -> bytes:
    """An IPv6 packet; extension headers are part of ``payload``, see extension()."""
    length = len(payload) if payload_length is None else payload_length
    head = pack(">IHBB", (version & 15) << 28, length, next_header, hops)
    return head + ip_address(src).packed + ip_address(dst).packed + payload


def extension(
    next_header: int, body: bytes = b"\x01\x04\0\0\0\0", length: int | None = None
) -> bytes:
    """An IPv6 extension header: by default one of padding options alone."""
    length = (len(body) + 2) // 8 - 1 if length is None else length
    return pack(">BB", next_header, length) + body


def udp(
    payload: bytes = b"",
    *,
    src_port: int = 49_000,
    dst_port: int = 26_477,
    src: str = SOURCE,
    dst: str = GROUP,
    length: int | None = None,
    checksum: int | None = None,
) -> bytes:
    """A UDP datagram; ``src`` and ``dst`` are for the pseudo header, ``checksum`` 0 is none."""
    real = 8 + len(payload)
    length = real if length is None else length
    if checksum is None:
        # RFC 768 and RFC 8200 8.1: the sums are the same, for the upper halves are 0.
        pseudo = ip_address(src).packed + ip_address(dst).packed + pack(">HH", 17, length)
        head = pack(">HHHH", src_port, dst_port, length, 0)
        checksum = _checksum(pseudo + head + payload) or 0xFFFF
    return pack(">HHHH", src_port, dst_port, length, checksum) + payload


def datagram(payload: bytes, *, src: str = SOURCE, dst: str = GROUP, **ports: int) -> bytes:
    """A whole right frame around a UDP payload; the MAC follows the group."""
    mac = b"\x01\x00\x5e" + (int(ip_address(dst)) & 0x7FFFFF).to_bytes(3, "big")
    return eth(ipv4(udp(payload, src=src, dst=dst, **ports), src=src, dst=dst), dst=mac)


def _blocks(order: str, messages: Sequence[bytes], lengths: Sequence[int] | None) -> bytes:
    sizes = [len(message) for message in messages] if lengths is None else lengths
    return b"".join(
        pack(f"{order}H", size) + message for size, message in zip(sizes, messages, strict=True)
    )


def mold(
    session: bytes = b"SYNTH00001",
    sequence: int = 1,
    messages: Sequence[bytes] = (),
    count: int | None = None,
    lengths: Sequence[int] | None = None,
    tail: bytes = b"",
) -> bytes:
    """A MoldUDP64 packet; ``count`` 0 and no message is a heartbeat, 0xFFFF the end."""
    count = len(messages) if count is None else count
    sequence %= 1 << 64
    head = pack(">10sQH", session.ljust(10), sequence, count)
    return head + _blocks(">", messages, lengths) + tail


def iextp(
    session: int = 1,
    sequence: int = 1,
    messages: Sequence[bytes] = (),
    *,
    offset: int = 0,
    count: int | None = None,
    lengths: Sequence[int] | None = None,
    payload_length: int | None = None,
    version: int = 1,
    protocol: int = 0x8004,
    channel: int = 1,
    send_time_ns: int = 0,
    tail: bytes = b"",
) -> bytes:
    """An IEX-TP packet; without messages a heartbeat."""
    blocks = _blocks("<", messages, lengths)
    return pack(
        "<BBHIIHHQQq", version, 0, protocol, channel, session,
        len(blocks) if payload_length is None else payload_length,
        len(messages) if count is None else count,
        offset, sequence % (1 << 64), send_time_ns,
    ) + blocks + tail  # fmt: skip


def itch(
    kind: bytes, body: bytes = b"", *, locate: int = 1, tracking: int = 0, ts: int = 0
) -> bytes:
    """Any ITCH 5.0 message; ``ts`` in nanoseconds since midnight New York."""
    return kind + pack(">HH", locate, tracking) + ts.to_bytes(6, "big") + body


def itch_system(event: bytes = b"O", **header: int) -> bytes:
    return itch(b"S", event, **{"locate": 0, **header})


def itch_directory(stock: bytes = b"TEST", round_lot: int = 100, **header: int) -> bytes:
    body = pack(">8s2sI", stock.ljust(8), b"QN", round_lot) + b"NCZ PNN1N" + pack(">Ic", 0, b"N")
    return itch(b"R", body, **header)


def itch_action(stock: bytes = b"TEST", state: bytes = b"T", **header: int) -> bytes:
    return itch(b"H", stock.ljust(8) + state + b"     ", **header)


def itch_add(
    reference: int = 1,
    side: bytes = b"B",
    shares: int = 100,
    price: int = 1_000_000,
    *,
    stock: bytes = b"TEST",
    mpid: bytes | None = None,
    **header: int,
) -> bytes:
    """A, or F with an ``mpid``; ``price`` in units of 1e-4."""
    body = pack(">QcI8sI", reference, side, shares, stock.ljust(8), price)
    return itch(b"A" if mpid is None else b"F", body + (mpid or b""), **header)


def itch_execute(
    reference: int = 1,
    shares: int = 100,
    match: int = 1,
    *,
    price: int | None = None,
    printable: bytes = b"Y",
    **header: int,
) -> bytes:
    """E, or C with a ``price``."""
    body = pack(">QIQ", reference, shares, match)
    if price is None:
        return itch(b"E", body, **header)
    return itch(b"C", body + printable + pack(">I", price), **header)


def itch_cancel(reference: int = 1, shares: int = 50, **header: int) -> bytes:
    return itch(b"X", pack(">QI", reference, shares), **header)


def itch_delete(reference: int = 1, **header: int) -> bytes:
    return itch(b"D", pack(">Q", reference), **header)


def itch_replace(
    old: int = 1, new: int = 2, shares: int = 100, price: int = 1_000_000, **header: int
) -> bytes:
    return itch(b"U", pack(">QQII", old, new, shares, price), **header)


def itch_trade(
    shares: int = 100,
    price: int = 1_000_000,
    match: int = 1,
    *,
    stock: bytes = b"TEST",
    **header: int,
) -> bytes:
    body = pack(">QcI8sIQ", 0, b"B", shares, stock.ljust(8), price, match)
    return itch(b"P", body, **header)
