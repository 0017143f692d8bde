"""The flight recorder: the last frames of all sources in shared memory (csrc/tape/flight.h).

The receive loop puts every frame; a dump writes those still there as a pcapng capture, at any time
and by any process, also after the loop's process was killed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple, Self

from pydpdk._core import ffi, lib
from pydpdk.core.closes import Closes
from pydpdk.errors import PydpdkError, check

BYTES = 64 << 20
SNAPLEN = int(lib.FLIGHT_SNAPLEN_MAX)


class FlightStats(NamedTuple):
    """Counts since the memory was made; `held` is the bytes of the blocks in it now."""

    frames: int  # ever put
    lost: int  # found no room, or one link type too many
    cut: int  # longer than the snap length
    held: int
    bytes: int
    interfaces: list[str]


class Flight(Closes):
    """A flight recorder's memory; close it, or use it in ``with``.

    Closing leaves a named memory where it is, so that it outlives its writer: see unlink().
    """

    def __init__(self, pointer: Any, name: str | None) -> None:
        self.name = name
        self._pointer = pointer

    @classmethod
    def create(
        cls,
        bytes: int = BYTES,
        name: str | None = None,
        *,
        keep: bool = False,
        snaplen: int = SNAPLEN,
    ) -> Self:
        """The writer's side. ``bytes``: a power of two from 1 MiB, allocated at once.

        ``name``: a file in /dev/shm, None for anonymous memory. ``keep``: frames stay until they
        are released, instead of the newest overwriting the oldest. CoreError: EEXIST, ENOSPC,
        EINVAL, ENOMEM.
        """
        out = ffi.new("struct flight **")
        mode = lib.FLIGHT_KEEP if keep else lib.FLIGHT_LAST
        rc = lib.flight_create(_name(name), max(bytes, 0), mode, max(snaplen, 0), out)
        check(rc, f"cannot make flight recorder {name or '(anonymous)'} of {bytes} bytes")
        return cls(out[0], name)

    @classmethod
    def attach(cls, name: str | None = None, *, fd: int = -1, writer: bool = False) -> Self:
        """By name or by descriptor (which stays the caller's); read-only unless ``writer``.

        A writer goes on where the last one stopped. CoreError: ENOENT, EPROTO (not a flight
        recorder, or of another version), EBUSY (it has a living writer), EBADF, EINVAL.
        """
        if (name is None) == (fd < 0):
            raise ValueError("attach by name or by fd: exactly one of them")
        out = ffi.new("struct flight **")
        rc = lib.flight_attach(_name(name), fd, writer, out)
        check(rc, f"cannot attach to flight recorder {name if name is not None else f'of fd {fd}'}")
        return cls(out[0], name)

    def close(self) -> None:
        """Unmap it. Harmless when repeated; any other use afterwards is an error."""
        pointer, self._pointer = self._pointer, None
        lib.flight_close(pointer or ffi.NULL)

    @property
    def pointer(self) -> Any:
        """The ``struct flight *``, for the loop that writes it."""
        if self._pointer is None:
            raise PydpdkError(f"flight recorder {self.name or '(anonymous)'} is closed here")
        return self._pointer

    @property
    def fd(self) -> int:
        """The descriptor; give it to another process to attach to anonymous memory."""
        return int(lib.flight_fd(self.pointer))

    def unlink(self) -> None:
        """Remove the name; the memory goes when nobody has it open."""
        lib.flight_unlink(self.pointer)

    def source(self, name: str, link: int = 1) -> None:
        """Name the source of the next port number, counted from 0, and its likely link type."""
        check(
            lib.flight_name(self.pointer, os.fsencode(name), link), f"{name}: one source too many"
        )

    def stats(self) -> FlightStats:
        """What the header says now, while frames may be coming in."""
        header = lib.flight_header(self.pointer)
        entries = header.interface[0 : header.interfaces]
        return FlightStats(
            header.frames, header.lost, header.cut, header.head - header.tail, header.bytes,
            [os.fsdecode(ffi.string(entry.name)) for entry in entries],
        )  # fmt: skip

    def dump(self, path: str | Path, since_ns: int = 0) -> int:
        """Write the frames held, oldest first, as a pcapng capture; returns how many.

        ``since_ns``: begin at the first that is stamped so (ns since the Unix epoch) or later.
        Each is whole; those overwritten meanwhile are left out. The file appears under its name
        when it is whole. CoreError: EBADMSG when the memory is damaged, ENOSPC, ENOMEM.
        """
        path = Path(path)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                frames = lib.flight_dump(self.pointer, file.fileno(), since_ns)
                check(frames, f"{path}: cannot dump flight recorder {self.name or '(anonymous)'}")
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        return int(frames)


def _name(name: str | None) -> Any:
    return ffi.NULL if name is None else os.fsencode(name)
