"""Rings of 64-byte records in shared memory: one writer, many readers (csrc/ring/ring.h).

A reader chooses its policy. ``block``: the writer never overwrites what this reader has not
released, so its batches are zero-copy views. ``skip``: the writer ignores it, so it copies, and
sees exactly how many records it lost.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Self

import numpy as np

from pydpdk._core import ffi, lib
from pydpdk.core.closes import Closes
from pydpdk.core.event import EVENT, Events
from pydpdk.errors import PydpdkError, check

Policy = Literal["block", "skip"]

SPINS = 2_000  # polls before sleeping: about 0.2 ms
NAP_MIN_S, NAP_MAX_S = 50e-6, 1e-3

_RECORDS = ffi.typeof("struct event[]")
_POLICIES: dict[Policy, int] = {"block": lib.RING_BLOCK, "skip": lib.RING_SKIP}
_NAMES = {number: name for name, number in _POLICIES.items()}


class CursorStats(NamedTuple):
    """One attached reader. ``lag`` counts records published and not yet released."""

    policy: Policy
    pid: int
    read: int
    lost: int
    lag: int


class RingStats(NamedTuple):
    """Counts of records since the ring was made; ``lost`` found no room."""

    written: int
    lost: int
    pid: int
    closed: bool
    readers: list[CursorStats]


class _Handle(Closes):
    """A mapped ring. Views of it stay readable after close(): they keep the mapping alive."""

    def __init__(self, ring: Any, name: str | None) -> None:
        self.name = name
        self._ring = ring
        # The last view that dies unmaps, not close().
        self._slots = ffi.gc(lib.ring_slots(ring), lambda _: lib.ring_close(ring))
        header = lib.ring_header(ring)
        self.slots: int = header.slots
        self.clock: str = ffi.string(header.clock).decode()
        self._writer = lib.ring_writer(ring)
        self._cursors = lib.ring_cursors(ring)

    def close(self) -> None:
        """Leave the ring. Harmless when repeated; any other use afterwards is an error."""
        if self._ring is not None:
            lib.ring_leave(self._ring)
        self._ring = self._writer = self._cursors = self._slots = None

    def _open(self) -> Any:
        if self._ring is None:
            raise PydpdkError(f"ring {self.name or '(anonymous)'} is closed here: open it again")
        return self._ring

    @property
    def pointer(self) -> Any:
        """The ``struct ring *``, for parts of the core that write it."""
        return self._open()

    @property
    def fd(self) -> int:
        """The descriptor; give it to another process to attach an anonymous ring."""
        return int(lib.ring_fd(self._open()))

    def reap(self) -> int:
        """Free the cursors of readers whose process died; returns how many."""
        return int(lib.ring_reap(self._open()))

    @property
    def writer_alive(self) -> bool:
        """Whether a living process holds the writer's line. Without one, nothing comes for now."""
        return bool(lib.ring_written_by(self._open()))

    def stats(self) -> RingStats:
        """What the shared lines say now; readers may be seen halfway through a batch."""
        self._open()
        writer = self._writer
        written = int(writer.written)
        readers = [
            CursorStats(_NAMES[c.policy], c.pid, c.read, c.lost, max(0, written - c.read))
            for c in self._cursors[0 : lib.RING_READERS]
            if c.policy in _NAMES
        ]
        return RingStats(written, int(writer.lost), int(writer.pid), bool(writer.closed), readers)


class Ring(_Handle):
    """The writer's side; makes the ring and, on close, marks it closed and unlinks its name."""

    def __init__(self, slots: int, name: str | None = None, clock: str = "") -> None:
        """``slots``: a power of two >= 64. ``name``: None for an anonymous ring.

        ``clock`` is the domain of ts_recv ("capture", "tsc", "hardware"). CoreError: EEXIST
        when the name is taken, EINVAL for arguments the core refuses, ENOSPC.
        """
        out = ffi.new("struct ring **")
        named = ffi.NULL if name is None else name.encode()
        rc = lib.ring_create(named, max(slots, 0), clock.encode(), out)
        check(rc, f"cannot make ring {name or '(anonymous)'} of {slots} slots")
        super().__init__(out[0], name)

    @classmethod
    def adopt(cls, name: str | None = None, *, fd: int = -1) -> Self:
        """Write on in a ring that another process made and gave away, after its last record.

        Closing it gives it back, open and named. CoreError: EBUSY when another process writes it;
        else as for a Reader.
        """
        out = ffi.new("struct ring **")
        named = ffi.NULL if name is None else name.encode()
        check(lib.ring_adopt(named, fd, out), f"cannot write ring {name or f'of fd {fd}'}")
        self = cls.__new__(cls)
        _Handle.__init__(self, out[0], name)
        return self

    def give(self) -> None:
        """Give the writer's side away, so that another process may adopt() it."""
        check(lib.ring_give(self._open()), "ring")

    def take(self) -> None:
        """Write again, after the last record that another wrote meanwhile. CoreError: EBUSY."""
        check(lib.ring_take(self._open()), "ring")

    def tell_clock(self, clock: str) -> None:
        """Name in the header the clock that stamps ts_recv.

        CoreError: EBUSY when there are records of another clock.
        """
        check(lib.ring_set_clock(self._open(), clock.encode()), f"ring clock {clock}")
        self.clock = clock

    @property
    def next(self) -> int:
        """Position of the next record, from 0."""
        return int(lib.ring_next(self._open()))

    def last_sequences(self) -> dict[int, int]:
        """Newest sequence of a market record, by feed number, among the records still there."""
        count = min(self.next, self.slots)
        raw = ffi.buffer(self._slots, self.slots * EVENT.itemsize)
        events: Events = np.frombuffer(raw, EVENT)[:count]
        market = (events["kind"] >= lib.EVENT_INSTRUMENT) & (events["kind"] <= lib.EVENT_QUOTE)
        feeds, sequences = events["instrument_id"][market] >> 16, events["sequence"][market]
        return {int(f): int(sequences[feeds == f].max()) for f in np.unique(feeds)}

    def put(self, events: Events) -> int:
        """Write and publish ``events`` (1-d, dtype EVENT); returns how many fitted.

        The others are lost and counted so: look at room() first to wait instead.
        """
        events = np.ascontiguousarray(events)
        known = events.dtype is EVENT or events.dtype == EVENT  # comparing fields takes a while
        if not known or events.ndim != 1:
            raise TypeError(f"need a 1-d array of {EVENT}, not {events.ndim}-d of {events.dtype}")
        records = ffi.from_buffer(_RECORDS, events)
        fitted = int(lib.ring_put_many(self._open(), records, len(events)))
        lib.ring_publish(self._ring)
        return fitted

    def room(self) -> int:
        """Records that surely fit now: at most half the ring."""
        return int(lib.ring_room(self._open()))


class Reader(_Handle):
    """A reader, attached by ``name`` or by ``fd`` (which stays the caller's).

    Iterating gives batches until the ring is closed and drained: views that end with the next
    turn for a block reader, copies for a skip reader.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        fd: int = -1,
        policy: Policy = "block",
        from_start: bool = False,
        batch_max: int = 1024,
    ) -> None:
        """``from_start``: begin at the oldest record still there, else at the next one written.

        CoreError: ENOENT (no such ring), EPROTO (not a ring, or built from another event.h),
        EUSERS (too many readers), EBADF, EINVAL.
        """
        if (name is None) == (fd < 0):
            raise ValueError("attach by name or by fd: exactly one of them")
        out = ffi.new("struct ring **")
        named = ffi.NULL if name is None else name.encode()
        rc = lib.ring_attach(named, fd, _POLICIES[policy], from_start, out)
        check(rc, f"cannot attach to ring {name if name is not None else f'of fd {fd}'}")
        super().__init__(out[0], name)
        self.policy: Policy = policy
        self.batch_max = batch_max
        self.lost = 0
        """Records that were overwritten before this reader read them."""
        memory = memoryview(ffi.buffer(self._slots, 2 * self.slots * EVENT.itemsize)).toreadonly()
        self._events: Events = np.frombuffer(memory, EVENT)
        self._stamps = memory.cast("Q")
        self._out = ffi.new("uint64_t *")
        self._space = ffi.new(_RECORDS, batch_max)
        self._taken = 0  # records in the batch that was handed out last
        self._place(lib.ring_next(self._ring))

    def close(self) -> None:
        """Free the cursor. Batches handed out stay mapped but may now be overwritten."""
        super().close()
        self._events = np.empty(0, EVENT)
        self._stamps = memoryview(bytes(8)).cast("Q")
        self._at = self._word = 0

    def _place(self, at: int) -> None:
        """Note the position to read next, and the word that holds its stamp."""
        self._at = at
        self._word = (at & (self.slots - 1)) * (EVENT.itemsize // 8)

    @property
    def position(self) -> int:
        """Position of the record to be read next, from 0."""
        return self._at

    @property
    def lag(self) -> int:
        """Records published and not yet released."""
        return int(lib.ring_lag(self._open()))

    def ready(self) -> bool:
        """Is there anything to read? The cheapest poll: no call into C. False once closed."""
        return bool(self._stamps[self._word] > self._at)

    @property
    def ended(self) -> bool:
        """The writer closed the ring and everything was read."""
        self._open()
        closed = bool(self._writer.closed)  # before the look: nothing comes in between
        return closed and not self.ready()

    def wait(self, timeout_s: float) -> bool:
        """Poll, first in a short spin and then with naps; False at the timeout or at the end."""
        for _ in range(SPINS):
            if self.ready():
                return True
        deadline, nap_s = time.monotonic() + timeout_s, NAP_MIN_S
        while not self.ready():
            left_s = deadline - time.monotonic()
            if left_s <= 0 or self.ended:
                return self.ready()
            time.sleep(min(nap_s, left_s))
            nap_s = min(2 * nap_s, NAP_MAX_S)
        return True

    def batch(self, limit: int | None = None) -> Events:
        """At most ``limit`` new records as a read-only view, valid until release(). Block only.

        The same records come again until they are released.
        """
        if self.policy != "block":
            raise PydpdkError("batch() is for block readers: a skip reader uses copy()")
        limit = self.batch_max if limit is None else limit
        self._taken = lib.ring_peek(self._open(), limit, self._out)
        if self._taken == 0:
            self._note_lost()
        first: int = self._out[0]
        return self._events[first : first + self._taken]

    def release(self, n: int | None = None) -> None:
        """Give the first ``n`` records of the last batch back to the writer; None: all."""
        n = self._taken if n is None else min(n, self._taken)
        lib.ring_release(self._open(), n)
        self._taken -= n
        self._place(self._at + n)

    def copy(self, limit: int | None = None) -> Events:
        """At most ``limit`` (<= batch_max) new records, contiguous; read-only, yours to keep.

        ``lost`` grows by those that were overwritten before the first of them.
        """
        limit = self.batch_max if limit is None else min(limit, self.batch_max)
        self._out[0] = self.lost
        n = lib.ring_copy(self._open(), self._space, limit, self._out)
        self.lost = self._out[0]
        self._place(lib.ring_next(self._ring))
        # Through bytes: numpy copies records with overlapping fields one field at a time.
        return np.frombuffer(ffi.buffer(self._space, n * EVENT.itemsize)[:], EVENT)

    def _note_lost(self) -> None:
        """A block reader loses only if its cursor was corrupted; it must still know."""
        at = lib.ring_next(self._ring)
        self.lost += at - self._at
        self._place(at)

    def __iter__(self) -> Iterator[Events]:
        while not self.ended:
            if not self.wait(timeout_s=1.0):
                continue
            if self.policy == "block":
                yield self.batch()
                self.release()
            else:
                yield self.copy()
