"""Records sources to rotating pcapng files (csrc/tape/recorder.h): one thread receives, one writes.

A file is named by the stamp of its first frame and its number. It is written in whole blocks, so
that at any time all but its last block can be read; it is handed to the disk as it grows, and
synced (fsync) when it is finished, not before: what a power cut may take is the file in progress.
"""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any

from pydpdk._core import ffi, lib
from pydpdk.core.closes import Closes
from pydpdk.engine.engine import END, _pin
from pydpdk.engine.flight import SNAPLEN, Flight
from pydpdk.errors import CoreError, PydpdkError, UsageError
from pydpdk.source import opening
from pydpdk.source.kinds import LINK_ETHERNET
from pydpdk.source.source import Source, SourceStats

BUFFER_BYTES = 64 << 20
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class Rotation:
    """When a recording begins another file, what it keeps and when it ends; 0: no such bound.

    ``file_bytes`` and ``file_s`` (between time stamps): of one file. ``keep``: newest files that
    stay. ``frames`` and ``seconds``: of the whole recording. ``snaplen``: bytes kept of a frame.
    """

    file_bytes: int = 0
    file_s: float = 0
    keep: int = 0
    frames: int = 0
    seconds: float = 0
    snaplen: int = SNAPLEN


@dataclass(frozen=True)
class RecordedFile:
    """A finished file: its stamps are ns since the Unix epoch, of its first and last frame."""

    path: str
    frames: int
    bytes: int
    ts_first: int
    ts_last: int


class Recorder(Closes):
    """A running recording; use it in ``with``, and join() it. The sources stay the caller's.

    ``prefix``: the start of every file's path. ``buffer_bytes``: of the memory between the two
    threads, a power of two. Errors: UsageError, HostError (that core), CoreError (no memory),
    OSError (a directory that cannot be written).
    """

    def __init__(
        self,
        sources: Sequence[Source],
        prefix: str | Path,
        rotation: Rotation = Rotation(),
        *,
        buffer_bytes: int = BUFFER_BYTES,
        core: int | None = None,
    ) -> None:
        if not 0 < len(sources) <= lib.RECORDER_SOURCES_MAX:
            raise UsageError(
                f"{len(sources)} sources: 1 to {lib.RECORDER_SOURCES_MAX} are recorded"
            )
        self.sources, self.rotation = sources, rotation
        self.prefix = Path(prefix)
        tempfile.TemporaryFile(dir=self.prefix.parent).close()  # now, not at the first frame
        self.files: deque[RecordedFile] = deque()
        self.removed = 0
        self._written = self._bytes = 0  # of finished files
        self._file = ffi.new("struct recorder_file *")
        self._errors: list[Exception] = []
        self._core = core
        self._flight = Flight.create(buffer_bytes, keep=True, snaplen=rotation.snaplen)
        self._shared = self._share()
        self._begun = time.monotonic()
        self._threads = [
            Thread(target=self._receive, name="pydpdk-receive", daemon=True),
            Thread(target=self._write, name="pydpdk-write", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _share(self) -> Any:
        shared = ffi.new("struct recorder *")
        shared.frames_max = self.rotation.frames
        shared.ns_max = round(self.rotation.seconds * 1e9)
        shared.sources = len(self.sources)
        for i, source in enumerate(self.sources):
            shared.source[i] = source.pointer
            shared.patient[i] = source.description.kind.waits
            self._flight.source(source.spec, link_type(source))
        return shared

    def close(self) -> None:
        """End it, wait for its threads, let go of its memory."""
        self.stop()
        for thread in self._threads:
            thread.join()
        self._flight.close()

    @property
    def frames(self) -> int:
        """Frames received so far."""
        return int(self._shared.frames)

    def stop(self) -> None:
        """Receive no more; what was received is still written. See join()."""
        self._shared.stop = max(self._shared.stop, lib.RECORDER_END)

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; False at the timeout. See errors, and result()."""
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                return False
        return True

    @property
    def errors(self) -> list[Exception]:
        """What ended it early: a full file system, or HostError for a core that it may not use.

        A source that broke is told by result().
        """
        return self._errors

    def _receive(self) -> None:
        try:
            _pin(self._core)
            lib.recorder_run(self._shared, self._flight.pointer)
        except Exception as error:
            self._errors.append(error)
            lib.flight_end(self._flight.pointer)

    def _write(self) -> None:
        ts = ffi.new("uint64_t *")
        try:
            while lib.recorder_wait(self._flight.pointer, ts) > 0:
                if not self._write_file(ts[0]):
                    break
        except (OSError, PydpdkError) as error:
            self._errors.append(error)
            self._shared.stop = lib.RECORDER_FAILED

    def _path(self, ts: int) -> Path:
        seconds, ns = divmod(ts, 1_000_000_000)
        when = f"{datetime.fromtimestamp(seconds, UTC):%Y%m%dT%H%M%S}.{ns:09}Z"
        number = self.removed + len(self.files) + 1
        return self.prefix.with_name(f"{self.prefix.name}-{when}-{number:06}.pcapng")

    def _write_file(self, ts: int) -> bool:
        """Write one file; returns whether there is more to write."""
        path = self._path(ts)
        file = self._file
        file.bytes = file.frames = file.interfaces = 0
        file.bytes_max = self.rotation.file_bytes
        file.ns_max = round(self.rotation.file_s * 1e9)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            rc = lib.recorder_write(self._flight.pointer, file, fd)
            self._finish(path, fd)
        finally:
            os.close(fd)
        if rc < 0:
            raise self._failed(path, -rc)
        return bool(rc)

    def _finish(self, path: Path, fd: int) -> None:
        file = self._file
        if file.frames == 0:
            path.unlink()
            return
        done = RecordedFile(str(path), file.frames, file.bytes, file.ts_first, file.ts_last)
        file.frames = file.bytes = 0
        self._written += done.frames
        self._bytes += done.bytes
        self.files.append(done)
        os.fsync(fd)
        while self.rotation.keep and len(self.files) > self.rotation.keep:
            os.unlink(self.files.popleft().path)
            self.removed += 1

    def _failed(self, path: Path, code: int) -> PydpdkError:
        if code not in NO_SPACE:
            return CoreError(code, f"{path}: cannot write")
        return PydpdkError(
            f"{path}: {os.strerror(code)}: recording stopped, what was written is kept;"
            f" see df -h {path.parent} and ulimit -f, or record less: --rotate-mb with --keep"
        )

    def result(self) -> dict[str, Any]:
        """The summary so far; None is unknown. Frames received = written + lost + unwritten."""
        stats = self._flight.stats()
        sources = [self._source_result(i) for i in range(len(self.sources))]
        received = sum(source["received"] for source in sources)
        file = self._file
        written = self._written + file.frames
        left = stats.frames - written
        return {
            "received": received,
            "written": written,
            "bytes": self._bytes + file.bytes,
            "lost": stats.lost,
            "unwritten": left,
            "unexplained": received - stats.frames - stats.lost,
            "cut": stats.cut,
            "missed": total(source["missed"] for source in sources),
            "seconds": round(time.monotonic() - self._begun, 3),
            "sources": sources,
            "files": [asdict(file) for file in self.files],
            "files_removed": self.removed,
        }

    def _source_result(self, index: int) -> dict[str, Any]:
        source = self.sources[index]
        stats, error = source.stats(), int(self._shared.error[index])
        missed = total(_losses(stats, source))
        return {
            "source": source.spec,
            "received": int(self._shared.received[index]),
            "missed": missed,
            "problem": source.problem() or os.strerror(-error) if error not in (0, END) else "",
        }


def _losses(stats: SourceStats, source: Source) -> tuple[int | None, ...]:
    """The counts of lost frames. Without an mbuf a device loses the frame, a socket keeps it."""
    if source.known()["losses"] == "socket":
        return (stats.missed,)
    return stats.missed, stats.no_mbuf, stats.errors


def total(figures: Any) -> int | None:
    """The sum of the counts; None when one is unknown."""
    known = list(figures)
    return None if None in known else sum(known)


def link_type(source: Source) -> int:
    """The link type of a capture's first frame; Ethernet for a port."""
    link = opening.link_type(source.description.argument) if source.capture_info() else -1
    return link if link >= 0 else LINK_ETHERNET
