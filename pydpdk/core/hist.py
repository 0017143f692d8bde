"""Latency histograms: what the core counts (csrc/base/hist.h), and HdrHistogram's encoding of them.

A value is told as the highest of its step, at most 0.8 % above what was recorded. The encoding is
HdrHistogram's V2: counts as zigzag LEB128, a run of empty buckets as one negative number, deflated
(HdrHistogram, "EncodableHistogram"; reference: the Java implementation's encodeIntoByteBuffer).
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterable
from typing import Any, Self

import numpy as np

from pydpdk._core import ffi, lib
from pydpdk.errors import DataError

Counts = np.ndarray[Any, np.dtype[np.uint64]]
POINTS = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9, "p99.99": 99.99}
COOKIE, DEFLATED = 0x1C849303 | 0x10, 0x1C849304 | 0x10
HEADER = struct.Struct(">iiiiqqd")  # cookie, length, offset, figures, lowest, highest, ratio
DEFLATED_HEADER = struct.Struct(">ii")
LIMIT = 1 << lib.HIST_BITS
ENCODED_MAX = 10 * lib.HIST_BUCKETS  # bytes of counts: each takes nine at most
HIGHEST = np.array([lib.hist_highest(i) for i in range(lib.HIST_BUCKETS)], np.uint64)


class Hist:
    """A histogram of times in ns, from 0 to 2**40 - 1; longer ones are counted as that.

    ``pointer`` is the core's ``struct hist``; ``of``: that of another owner, who keeps it alive.
    """

    def __init__(self, of: Any = None) -> None:
        self.pointer = ffi.new("struct hist *") if of is None else of

    @classmethod
    def from_values(cls, values: Iterable[int] | np.ndarray[Any, Any]) -> Self:
        """A histogram of single values in ns; what is below 0 counts as 0."""
        made = cls()
        made.record(values)
        return made

    def add(self, value: int, times: int = 1) -> None:
        """Count ``times`` samples of ``value`` ns."""
        lib.hist_add(self.pointer, value, times)

    def record(self, values: Iterable[int] | np.ndarray[Any, Any]) -> None:
        """Count a sample of each value in ns."""
        signed = np.asarray(values if isinstance(values, np.ndarray) else list(values))
        whole = np.ascontiguousarray(np.maximum(signed, 0), np.uint64)
        lib.hist_add_all(self.pointer, ffi.from_buffer("uint64_t[]", whole), len(whole))

    def merge(self, other: Hist) -> None:
        """Count all samples of another histogram."""
        lib.hist_merge(self.pointer, other.pointer)

    def copy(self) -> Hist:
        """A copy that does not change under its reader: count and buckets agree."""
        made = Hist()
        made.merge(self)
        made.pointer.count = int(made.counts.sum())
        return made

    def since(self, before: Hist) -> Hist:
        """What came after an earlier copy(); its min and max are those of their steps."""
        made = Hist()
        made.counts[:] = self.counts - before.counts
        made._complete()
        made.pointer.sum = self.pointer.sum - before.pointer.sum
        return made

    def _complete(self) -> None:
        """Count, sum, min and max from the buckets."""
        used = np.flatnonzero(self.counts)
        self.pointer.count = int(self.counts.sum())
        self.pointer.sum = int(self.counts @ HIGHEST)
        self.pointer.min = int(HIGHEST[used[0]]) if len(used) else 0
        self.pointer.max = int(HIGHEST[used[-1]]) if len(used) else 0

    @property
    def counts(self) -> Counts:
        """A view of the buckets, which keeps them alive; HIGHEST has the value of each."""
        return np.frombuffer(ffi.buffer(self.pointer), np.uint64)[-lib.HIST_BUCKETS :]

    @property
    def count(self) -> int:
        """How many samples."""
        return int(self.pointer.count)

    @property
    def sum(self) -> int:
        """Of all samples, ns."""
        return int(self.pointer.sum)

    @property
    def max(self) -> int:
        """The longest sample, ns."""
        return int(self.pointer.max)

    @property
    def min(self) -> int:
        """The shortest sample, ns."""
        return int(self.pointer.min)

    def percentile(self, percent: float) -> int:
        """The smallest value in ns that so many of the samples do not exceed; 0 without any."""
        return int(lib.hist_percentile(self.pointer, percent))

    def percentiles(self) -> dict[str, int]:
        """Count, POINTS and max, ns."""
        points = {name: self.percentile(percent) for name, percent in POINTS.items()}
        return {"count": self.count, **points, "max": self.max}

    def encode(self) -> str:
        """The text that HdrHistogram's tools read: base64 of the deflated V2 encoding."""
        counts = _leb128(self.counts)
        header = HEADER.pack(COOKIE, len(counts), 0, lib.HIST_FIGURES, 1, LIMIT - 1, 1.0)
        packed = zlib.compress(header + counts)
        return base64.b64encode(DEFLATED_HEADER.pack(DEFLATED, len(packed)) + packed).decode()

    @classmethod
    def decode(cls, text: str) -> Self:
        """From encode(); sum, min and max are those of the steps.

        DataError for anything else, a histogram of another range or precision included.
        """
        try:
            data = base64.b64decode(text, validate=True)
            cookie, length = DEFLATED_HEADER.unpack_from(data)
            if cookie != DEFLATED or length != len(data) - DEFLATED_HEADER.size:
                raise DataError("not a deflated HdrHistogram of version 2")
            inflate = zlib.decompressobj()
            plain = inflate.decompress(data[DEFLATED_HEADER.size :], HEADER.size + ENCODED_MAX)
            cookie, length, offset, *shape, ratio = HEADER.unpack_from(plain)
        except (ValueError, struct.error, zlib.error) as error:
            raise DataError(f"not an encoded HdrHistogram: {error}") from error
        if cookie != COOKIE or not inflate.eof or length != len(plain) - HEADER.size:
            raise DataError("not an HdrHistogram of version 2, or longer than one can be")
        if shape != [lib.HIST_FIGURES, 1, LIMIT - 1] or offset != 0 or ratio != 1.0:
            raise DataError(
                f"HdrHistogram of {shape[0]} figures from {shape[1]} to {shape[2]}: "
                f"only {lib.HIST_FIGURES} figures from 1 to {LIMIT - 1} are read"
            )
        made = cls()
        _fill(made.counts, plain[HEADER.size :])
        made._complete()
        return made


def _leb128(counts: Counts) -> bytes:
    """Zigzag LEB128 of each count up to the last that is not 0; n zeros in a row are -n."""
    out = bytearray()
    used, at = np.flatnonzero(counts).tolist(), 0
    for index in used:
        if index > at:
            _put(out, 2 * (index - at) - 1)
        _put(out, 2 * int(counts[index]))
        at = index + 1
    return bytes(out)


def _put(out: bytearray, zigzag: int) -> None:
    """Seven bits a byte, but for a ninth byte that has eight."""
    for _ in range(8):
        if zigzag < 0x80:
            out.append(zigzag)
            return
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    out.append(zigzag)


def _fill(counts: Counts, data: bytes) -> None:
    bucket = at = 0
    while at < len(data):
        zigzag = shift = 0
        while True:
            if at == len(data):
                raise DataError("encoded HdrHistogram: its last count is cut off")
            byte = data[at]
            at += 1
            last = shift == 56 or byte < 0x80
            zigzag |= (byte if last else byte & 0x7F) << shift
            shift += 7
            if last:
                break
        if zigzag & 1:
            bucket += (zigzag + 1) >> 1
            continue
        if bucket >= len(counts):
            raise DataError("encoded HdrHistogram: more counts than its range has")
        counts[bucket] = zigzag >> 1
        bucket += 1
