"""What others do with the same bytes. Each peer is measured only where it is installed.

``pip install pydpdk[bench]`` brings those of PyPI; libpcap is taken from the system.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydpdk import layout
from pydpdk._core import ffi, lib
from pydpdk.pack import packer

Work = Callable[[], int]


def _module(name: str) -> Any:
    """A package, or None when it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


# ---- captures and frames ----


def walkers(path: Path, limit: int) -> dict[str, Work]:
    """Walks over a capture; Python ones read the first ``limit`` packets."""
    found: dict[str, Work] = {}
    if libpcap := _libpcap():
        found["libpcap"] = lambda: _walk_libpcap(libpcap, path)
    if dpkt := _module("dpkt"):
        found["dpkt (Python)"] = lambda: _walk(dpkt.pcap.UniversalReader, path, limit)
    if scapy := _module("scapy.utils"):
        found["scapy (Python)"] = lambda: _walk(scapy.RawPcapReader, path, limit // 10)
    return found


def _walk(reader: Callable[[Any], Any], path: Path, limit: int) -> int:
    with path.open("rb") as file:
        return _drain(itertools.islice(reader(file), limit))


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


def _walk_libpcap(library: Any, path: Path) -> int:
    """The loop and what it calls are C: libpcap is not slowed down by Python."""
    error = ctypes.create_string_buffer(256)
    capture = library.pcap_open_offline(os.fsencode(path), error)
    if not capture:
        raise RuntimeError(f"libpcap: {error.value.decode()}")
    counted = ctypes.c_uint64()
    callback = int(ffi.cast("uintptr_t", ffi.addressof(lib, "bench_on_pcap")))
    library.pcap_loop(capture, -1, callback, ctypes.addressof(counted))
    library.pcap_close(capture)
    return counted.value


def frame_parsers(packets: Any, count: int) -> dict[str, Work]:
    """Parsers of Ethernet, IPv4 and UDP on the first ``count`` packets."""
    dpkt = _module("dpkt")
    frames = [bytes(ffi.buffer(p.data, p.caplen)) for p in packets[0:count]]
    if dpkt is None:
        return {}
    return {"dpkt (Python)": lambda: _drain(map(dpkt.ethernet.Ethernet, frames))}


# ---- histograms ----


def recorders(values: list[int]) -> dict[str, Work]:
    """Histograms that count each value."""
    hdr = _module("hdrh.histogram")
    if hdr is None:
        return {}
    histogram = hdr.HdrHistogram(1, 2**40 - 1, 2)
    return {"hdrhistogram (Python)": lambda: _drain(map(histogram.record_value, values))}


# ---- ITCH 5.0 messages ----


def decoders(stream: bytes) -> dict[str, Work]:
    """Decoders of messages in memory, each behind a 2-byte length; no books."""
    found: dict[str, Work] = {"struct (Python, no books)": lambda: _decode(stream)}
    os.environ["ITCH_NO_CPP"] = "1"  # else itchfeed hands over to itchcpp where that is installed
    if itch := _module("itch.parser"):
        found["itchfeed (Python, no books)"] = lambda: _drain(
            itch.MessageParser().parse_stream(stream)
        )
    if itchcpp := _module("itchcpp.parser"):
        found["itchcpp (C++, objects, no books)"] = lambda: _drain(
            itchcpp.MessageParser().parse_stream(stream)
        )
    return found


def bookkeepers(stream: bytes, count: int) -> dict[str, Work]:
    """Peers that keep the books of all instruments from messages in memory."""
    itchcpp = _module("itchcpp.book")
    if itchcpp is None:
        return {}

    def keep() -> int:
        itchcpp.BookManager().process_stream(stream)
        return count

    return {"itchcpp (C++, books)": keep}


def _drain(items: Iterator[Any]) -> int:
    """Consume; returns how many there were."""
    count = 0
    for _ in items:
        count += 1
    return count


def _unpackers() -> list[Callable[[bytes, int], tuple[Any, ...]] | None]:
    """By type byte, what turns a message into a tuple of its fields."""
    table: list[Callable[[bytes, int], tuple[Any, ...]] | None] = [None] * 256
    for letter, message in layout.messages("itch50").items():
        table[ord(letter)] = packer(message.struct).unpack_from
    return table


def _decode(stream: bytes) -> int:
    """What a careful Python programmer writes: one precompiled struct per type."""
    table = _unpackers()
    at = count = 0
    size = len(stream)
    while at < size:
        unpack = table[stream[at + 2]]
        if unpack is not None:
            unpack(stream, at + 2)
        at += 2 + (stream[at] << 8 | stream[at + 1])
        count += 1
    return count
