"""What others do with the same bytes: a table for each kind of work, a row for each peer.

A peer is measured only where it is installed; docs/peers.md says how, and how to add one. What it
is given, it does whole, and it returns how many packets, messages or values it did: tests hold
that count against ours over the same bytes.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib
import itertools
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pydpdk.bench.loops import ffi, lib
from pydpdk.core import layout
from pydpdk.synth.pack import packer

Work = Callable[[], int]


class Peer(NamedTuple):
    """``module``: a Python module, or what loads something else; None: nothing is needed.

    ``run(module, ...)`` is measured, on what its kind of work is given; it returns a count.
    """

    module: str | Callable[[], Any] | None
    run: Callable[..., int]
    share: int = 1  # a slow one is given that part of the packets: 10 is a tenth

    def load(self) -> Any:
        """What ``run`` is given first; None when it is not installed."""
        if self.module is None:
            return self
        if callable(self.module):
            return self.module()
        try:
            return importlib.import_module(self.module)
        except ImportError:
            return None


def _installed(table: dict[str, Peer]) -> Iterable[tuple[str, Peer, Any]]:
    for name, peer in table.items():
        if (module := peer.load()) is not None:
            yield name, peer, module


def _drain(items: Iterable[Any]) -> int:
    """Consume; returns how many there were."""
    count = 0
    for _ in items:
        count += 1
    return count


# ---- captures: (path, most packets) -> packets ----


def walkers(path: Path, limit: int) -> dict[str, Work]:
    """Walks over a capture; Python ones read the first ``limit`` packets."""
    return {
        name: partial(peer.run, module, path, limit // peer.share)
        for name, peer, module in _installed(WALKERS)
    }


def _walk_dpkt(pcap: Any, path: Path, limit: int) -> int:
    with path.open("rb") as file:
        return _drain(itertools.islice(pcap.UniversalReader(file), limit))


def _walk_scapy(utils: Any, path: Path, limit: int) -> int:
    with path.open("rb") as file:
        return _drain(itertools.islice(utils.RawPcapReader(file), limit))


def _libpcap() -> Any:
    name = ctypes.util.find_library("pcap")
    if name is None:
        return None
    library = ctypes.CDLL(name)
    library.pcap_open_offline.restype = ctypes.c_void_p
    library.pcap_open_offline.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    library.pcap_loop.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    library.pcap_close.argtypes = [ctypes.c_void_p]
    return library


def _walk_libpcap(library: Any, path: Path, limit: int) -> int:
    """The whole capture. The loop and what it calls are C: Python does not slow libpcap down."""
    error = ctypes.create_string_buffer(256)
    capture = library.pcap_open_offline(os.fsencode(path), error)
    if not capture:
        raise RuntimeError(f"libpcap: {error.value.decode()}")
    counted = ctypes.c_uint64()
    callback = int(ffi.cast("uintptr_t", ffi.addressof(lib, "bench_on_pcap")))
    library.pcap_loop(capture, -1, callback, ctypes.addressof(counted))
    library.pcap_close(capture)
    return counted.value


WALKERS = {
    "libpcap": Peer(_libpcap, _walk_libpcap),
    "dpkt (Python)": Peer("dpkt.pcap", _walk_dpkt),
    "scapy (Python)": Peer("scapy.utils", _walk_scapy, share=10),
}


# ---- frames: (list of bytes) -> those with UDP over IPv4 or IPv6 ----


def frame_parsers(packets: Any, count: int) -> dict[str, Work]:
    """Parsers of Ethernet, IP and UDP on the first ``count`` packets."""
    frames = [bytes(ffi.buffer(p.data, p.caplen)) for p in packets[0:count]]
    return {
        name: partial(peer.run, module, frames[: max(count // peer.share, 1)])
        for name, peer, module in _installed(FRAME_PARSERS)
    }


def _parse_dpkt(dpkt: Any, frames: list[bytes]) -> int:
    parse, udp, count = dpkt.ethernet.Ethernet, dpkt.udp.UDP, 0
    for frame in frames:
        count += isinstance(getattr(parse(frame).data, "data", None), udp)
    return count


def _parse_scapy(inet: Any, frames: list[bytes]) -> int:
    parse, udp, count = inet.Ether, inet.UDP, 0
    for frame in frames:
        count += udp in parse(frame)
    return count


FRAME_PARSERS = {
    "dpkt (Python)": Peer("dpkt", _parse_dpkt),
    "scapy (Python)": Peer("scapy.layers.inet", _parse_scapy, share=10),
}


# ---- histograms: (values) -> values ----


def recorders(values: list[int]) -> dict[str, Work]:
    """Histograms that count each value."""
    return {name: partial(peer.run, module, values) for name, peer, module in _installed(RECORDERS)}


def _record_hdr(hdrh: Any, values: list[int]) -> int:
    histogram = hdrh.HdrHistogram(1, 2**40 - 1, 2)
    return _drain(map(histogram.record_value, values))


RECORDERS = {"hdrhistogram (Python)": Peer("hdrh.histogram", _record_hdr)}


# ---- ITCH 5.0, each message behind a 2-byte length: (stream) -> messages ----


def decoders(stream: bytes) -> dict[str, Work]:
    """Decoders of messages in memory; no books."""
    os.environ["ITCH_NO_CPP"] = "1"  # else itchfeed hands over to itchcpp where that is installed
    return {name: partial(peer.run, module, stream) for name, peer, module in _installed(DECODERS)}


def _decode_struct(_: Any, stream: bytes) -> int:
    """What a careful Python programmer writes: one precompiled struct per type."""
    table: list[tuple[int, Any]] = [(-1, None)] * 256
    for letter, message in layout.messages("itch50").items():
        table[ord(letter)] = message.length, packer(message.struct).unpack_from
    at = count = 0
    size = len(stream)
    while at < size:
        length = stream[at] << 8 | stream[at + 1]
        expected, unpack = table[stream[at + 2]]
        if length == expected:
            unpack(stream, at + 2)
            count += 1
        at += 2 + length
    return count


def numpy_rows(stream: bytes) -> dict[str, npt.NDArray[Any]]:
    """By type, the messages as rows in native byte order: numbers in the units of the wire.

    Where messages begin is known only one after another, so that walk stays Python; all else is a
    gather and a conversion a type.
    """
    begins, at, size = [], 0, len(stream)
    while at < size:
        begins.append(at)
        at += 2 + (stream[at] << 8 | stream[at + 1])
    data, starts = np.frombuffer(stream, np.uint8), np.array(begins, np.int64) + 2
    lengths, types = np.diff(starts, append=size + 2) - 2, data[starts]
    found = {}
    for letter, message in layout.messages("itch50").items():
        chosen = starts[(types == ord(letter)) & (lengths == message.length)]
        if len(chosen):
            windows: npt.NDArray[Any] = np.ndarray(
                size - message.length + 1, f"V{message.length}", stream, strides=(1,)
            )
            rows = windows[chosen].view(message.dtype)
            found[letter] = rows.astype(message.dtype.newbyteorder("="))
    return found


def _decode_numpy(_: Any, stream: bytes) -> int:
    return sum(map(len, numpy_rows(stream).values()))


def _decode_package(parser: Any, stream: bytes) -> int:
    """itchfeed and itchcpp have the same interface."""
    return _drain(parser.MessageParser().parse_stream(stream))


DECODERS = {
    "struct (Python, no books)": Peer(None, _decode_struct),
    "numpy (Python, no books)": Peer(None, _decode_numpy),
    "itchfeed (Python, no books)": Peer("itch.parser", _decode_package),
    "itchcpp (C++, objects, no books)": Peer("itchcpp.parser", _decode_package),
}


# ---- the same stream: (stream, messages in it) -> messages, with the books of all instruments ----


def bookkeepers(stream: bytes, count: int) -> dict[str, Work]:
    """Peers that keep the books of all instruments from messages in memory."""
    return {
        name: partial(peer.run, module, stream, count)
        for name, peer, module in _installed(BOOKKEEPERS)
    }


def _keep_itchcpp(book: Any, stream: bytes, count: int) -> int:
    """It tells no count of its own: ``count`` once it has books."""
    manager = book.BookManager()
    manager.process_stream(stream)
    return count if manager.book_count() else 0


BOOKKEEPERS = {"itchcpp (C++, books)": Peer("itchcpp.book", _keep_itchcpp)}
