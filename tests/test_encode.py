"""An order as an OUCH 5.0 Enter Order in a datagram: against struct, scapy and tshark."""

from __future__ import annotations

import errno
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydpdk._core import ffi, lib
from pydpdk.core.event import records
from pydpdk.core.layout import UNDEF_PRICE, dtype
from pydpdk.stage.orders import Orders
from pydpdk.tape.pcapfile import CaptureWriter

# OUCH 5.0, 2.1 Enter Order, spelled out from the specification's table of offsets and lengths.
ENTER_ORDER = struct.Struct(">c I c I 8s Q c c c c c 14s H")
ROUTE = {
    "dst_mac": list(b"\x01\x00\x5e\x4d\x00\x01"), "src_mac": list(b"\x02\x00\x00\x00\x00\x07"),
    "dst": [239, 77, 0, 1], "src": [10, 77, 1, 2], "dport": 26_500, "sport": 26_501,
    "display": b"Y", "capacity": b"P", "cl_ord_id": b"PYDPDK        ",
}  # fmt: skip
SYMBOLS = {3: b"ZVZZT   ", (1 << 16) + 7: b"ABCDEFGH"}
SYMBOL_OF = np.zeros(2 << 16, np.uint64)
for instrument, symbol in SYMBOLS.items():
    SYMBOL_OF[instrument] = int.from_bytes(symbol, "little")


@pytest.fixture(scope="module")
def encoder() -> Any:
    made = ffi.new("struct encoder *")
    held = ffi.from_buffer("uint64_t[]", SYMBOL_OF)
    lib.encoder_init(made, ffi.new("struct order_route *", ROUTE), held, len(SYMBOL_OF))
    return made


def encode(encoder: Any, orders: Any) -> tuple[int, bytes]:
    out = ffi.new("uint8_t[]", lib.ENCODE_LEN)
    rc = lib.encode_order(encoder, records(orders), out)
    return rc, bytes(ffi.buffer(out))


def order(**fields: Any) -> Any:
    issued = Orders()
    issued.begin(1)
    issued.buy(3, 1_000_000_000, 100)
    one = issued.records.copy()
    for name, value in fields.items():
        one[name] = value
    return one


@given(
    instrument=st.sampled_from(sorted(SYMBOLS)),
    buys=st.booleans(),
    price=st.integers(1, lib.OUCH50_PRICE_MAX),
    size=st.integers(1, lib.OUCH50_QUANTITY_MAX - 1),
    order_id=st.integers(0, 2**32 - 1),
    ioc=st.booleans(),
)
def test_every_field_is_where_the_specification_has_it(
    encoder: Any, instrument: int, buys: bool, price: int, size: int, order_id: int, ioc: bool
) -> None:
    issued = Orders(first_id=order_id)
    issued.begin(1)
    (issued.buy if buys else issued.sell)(instrument, price * 100_000, size, ioc=ioc)
    rc, frame = encode(encoder, issued.records)
    assert rc == 0
    assert len(frame) == 42 + ENTER_ORDER.size == 42 + 47
    assert ENTER_ORDER.unpack(frame[42:]) == (
        b"O", order_id, b"B" if buys else b"S", size, SYMBOLS[instrument], price,
        b"3" if ioc else b"0", b"Y", b"P", b"N", b"N", b"PYDPDK        ", 0,
    )  # fmt: skip
    assert [f[0] for f in dtype("ouch50_enter_order").descr][:2] == ["type", "user_ref_num"]
    row = np.frombuffer(frame[42:], dtype("ouch50_enter_order"))[0]
    assert (int(row["price"]), int(row["quantity"])) == (price, size)
    scapy = pytest.importorskip("scapy.layers.inet")
    ethernet = pytest.importorskip("scapy.layers.l2").Ether(frame)
    assert (ethernet.dst, ethernet.src) == ("01:00:5e:4d:00:01", "02:00:00:00:00:07")
    ip, udp = ethernet[scapy.IP], ethernet[scapy.UDP]
    assert (ip.dst, ip.src, ip.flags, ip.ttl) == ("239.77.0.1", "10.77.1.2", "DF", 64)
    assert (udp.dport, udp.sport, udp.len) == (26_500, 26_501, 55)
    told = ip.chksum, udp.chksum
    del ip.chksum, udp.chksum
    again = type(ethernet)(bytes(ethernet))
    assert told == (again[scapy.IP].chksum, again[scapy.UDP].chksum)


def test_tshark_finds_nothing_wrong(encoder: Any, tmp_path: Path) -> None:
    if (tshark := shutil.which("tshark")) is None:
        pytest.skip("tshark is not installed: apt install tshark")
    path = tmp_path / "orders.pcap"
    with CaptureWriter(path) as out:
        for i in range(200):
            out.write(i, encode(encoder, order(order_id=i, size=1 + 7 * i))[1])
    checked = subprocess.run(
        [tshark, "-r", path, "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-T",
         "fields", "-e", "ip.checksum.status", "-e", "udp.checksum.status", "-e", "udp.dstport"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert checked.stdout.splitlines() == ["1\t1\t26500"] * 200


def test_a_checksum_that_comes_to_nothing_is_sent_as_ones(encoder: Any) -> None:
    """RFC 768: 0 says that there is none. One id in 65,536 gives it."""
    found = 0
    for order_id in range(1 << 16):
        frame = encode(encoder, order(order_id=order_id))[1]
        assert frame[40:42] != b"\0\0"
        found += frame[40:42] == b"\xff\xff"
    assert found == 1


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"kind": lib.EVENT_ORDER_CANCEL}, errno.EINVAL),
        ({"side": lib.SIDE_NONE}, errno.EINVAL),
        ({"instrument_id": 4}, errno.ENOENT),
        ({"instrument_id": 2 << 16}, errno.ENOENT),
        ({"order_id": 2**32}, errno.ERANGE),
        ({"size": 0}, errno.ERANGE),
        ({"size": 1_000_000}, errno.ERANGE),
        ({"price": 0}, errno.ERANGE),
        ({"price": -100_000}, errno.ERANGE),
        ({"price": 1_000_000_001}, errno.ERANGE),
        ({"price": 199_999_990_000_000 + 100_000}, errno.ERANGE),
        ({"price": UNDEF_PRICE}, errno.ERANGE),
    ],
)
def test_what_ouch_cannot_say_is_refused(encoder: Any, fields: Any, code: int) -> None:
    rc, frame = encode(encoder, order(**fields))
    assert rc == -code
    assert frame == bytes(len(frame))
