"""Writes captures: classic pcap in micro- or nanoseconds, or pcapng in nanoseconds.

The same frames give the same bytes: no host name, no clock, and gzip without a time. The file
appears under its name only when it is whole.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from struct import Struct
from types import TracebackType
from typing import IO, Literal, Self

from pydpdk.errors import UsageError

Format = Literal["pcap-ns", "pcap-us", "pcapng"]
FORMATS: tuple[Format, ...] = ("pcap-ns", "pcap-us", "pcapng")
ETHERNET = 1  # LINKTYPE_ETHERNET
SNAPLEN = 262_144
BUFFER_BYTES = 1 << 20
MAGIC = {"pcap-us": 0xA1B2C3D4, "pcap-ns": 0xA1B23C4D}
UNIT_NS = {"pcap-us": 1000, "pcap-ns": 1}


class CaptureWriter:
    """A capture file of Ethernet frames, as a context manager.

    ``format`` is one of FORMATS; ``byteorder`` that of the file's numbers; a path that ends in
    ``.gz`` is compressed. Leaving the block without an exception renames the finished file into
    place; with one, nothing is left behind. Raises UsageError for what it cannot write.
    """

    def __init__(
        self,
        path: str | Path,
        format: Format = "pcap-ns",
        *,
        byteorder: Literal["little", "big"] = "little",
        linktype: int = ETHERNET,
    ) -> None:
        self.path = Path(path)
        if format not in FORMATS:
            raise UsageError(f"capture format {format!r} is none of {', '.join(FORMATS)}")
        if self.path.suffix == ".zst":
            raise UsageError(f"{path}: zstd is not written here; name it .gz, or run zstd on it")
        self.format = format
        self.linktype = linktype
        self.frames = 0
        self._order = "<" if byteorder == "little" else ">"
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        self._record = self._pcapng_record() if format == "pcapng" else self._pcap_record()
        self._parts: list[bytes] = []
        self._held = 0

    def __enter__(self) -> Self:
        self._file: IO[bytes] = open(self._temporary, "wb")
        self._out: IO[bytes] = self._file
        if self.path.suffix == ".gz":
            # The name in a gzip header would be that of the temporary file.
            self._out = gzip.GzipFile("", "wb", compresslevel=6, fileobj=self._file, mtime=0)  # type: ignore[assignment]
        self._parts.append(self._header())
        return self

    def write(self, ts_ns: int, frame: bytes) -> None:
        """Append a frame received ``ts_ns`` nanoseconds after the Unix epoch."""
        self._parts += self._record(ts_ns, frame)
        self.frames += 1
        self._held += len(frame)
        if self._held >= BUFFER_BYTES:
            self._flush()

    def _flush(self) -> None:
        self._out.write(b"".join(self._parts))
        self._parts.clear()
        self._held = 0

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        done = False
        try:
            if kind is None:
                self._flush()
            if self._out is not self._file:
                self._out.close()
            self._file.close()
            done = kind is None
        finally:
            if done:
                os.replace(self._temporary, self.path)
            else:
                self._file.close()
                with suppress(FileNotFoundError):
                    self._temporary.unlink()

    def _header(self) -> bytes:
        pack = self._pack
        if self.format != "pcapng":
            return pack("IHHiIII", MAGIC[self.format], 2, 4, 0, 0, SNAPLEN, self.linktype)
        section = pack("IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
        # if_tsresol (option 9) 9: units of 1e-9 s; then the end of options.
        options = pack("HHB3xHH", 9, 1, 9, 0, 0)
        interface = pack("IIHHI", 1, 32, self.linktype, 0, SNAPLEN)
        return section + interface + options + pack("I", 32)

    def _pack(self, format: str, *values: int) -> bytes:
        return Struct(self._order + format).pack(*values)

    def _pcap_record(self) -> Callable[[int, bytes], tuple[bytes, ...]]:
        head = Struct(self._order + "IIII").pack
        unit = UNIT_NS[self.format]

        def record(ts_ns: int, frame: bytes) -> tuple[bytes, ...]:
            seconds, nanoseconds = divmod(ts_ns, 1_000_000_000)
            size = len(frame)
            return head(seconds, nanoseconds // unit, size, size), frame

        return record

    def _pcapng_record(self) -> Callable[[int, bytes], tuple[bytes, ...]]:
        """Enhanced packet blocks of interface 0."""
        head = Struct(self._order + "IIIIIII").pack
        tail = Struct(self._order + "I").pack

        def record(ts_ns: int, frame: bytes) -> tuple[bytes, ...]:
            size = len(frame)
            fill = -size % 4
            total = 32 + size + fill
            packed = head(6, total, 0, ts_ns >> 32, ts_ns & 0xFFFFFFFF, size, size)
            return packed, frame, bytes(fill), tail(total)

        return record
