"""The arbiter against a model: each sequence once, in order, every gap known, accounts closed."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pydpdk._core import ffi, lib
from pydpdk.core import counters

US = 1000


def body(sequence: int) -> bytes:
    """The bytes that sequence carries on every honest line."""
    return struct.pack(">Q", sequence) + b"m" * (sequence % 7)


@dataclass
class Arbiter:
    """A real arbiter with Python as its sink."""

    lines: int = 2
    window: int = 64
    timeout_us: int = 1000
    window_bytes: int = 1 << 17
    compare: int = 1
    delivered: list[tuple[int, bytes, int]] = field(default_factory=list)
    gaps: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.counters = ffi.new("struct counters *")
        self._messages = ffi.callback(
            "void(void *, const struct message *, unsigned)", self._on_messages
        )
        self._gap = ffi.callback("void(void *, uint64_t, uint64_t, uint64_t)", self._on_gap)
        sink = ffi.new("struct arbiter_sink *", {"messages": self._messages, "gap": self._gap})
        config = {
            "lines": self.lines,
            "window": self.window,
            "window_bytes": self.window_bytes,
            "gap_timeout_us": self.timeout_us,
            "compare": self.compare,
        }
        out = ffi.new("struct arbiter **")
        assert (
            lib.arbiter_create(
                ffi.new("struct arbiter_config *", config), self.counters, sink[0], out
            )
            == 0
        )
        self.pointer = ffi.gc(out[0], lib.arbiter_destroy)

    def _on_messages(self, context: Any, messages: Any, count: int) -> None:
        for i in range(count):
            m = messages[i]
            self.delivered.append((m.sequence, bytes(ffi.buffer(m.data, m.len)), m.ts_recv))

    def _on_gap(self, context: Any, sequence: int, count: int, ts: int) -> None:
        self.gaps.append((sequence, count))

    def begin(self, first: int = 1, ts: int = 0) -> None:
        lib.arbiter_begin(self.pointer, b"SESSION001", first, ts)

    def span(
        self,
        line: int,
        sequence: int,
        count: int,
        ts: int = 0,
        messages: list[bytes] | None = None,
        blocks: bytes | None = None,
    ) -> str:
        """Feed one packet; the reason it was dropped for, or ""."""
        if blocks is None:
            bodies = (
                messages if messages is not None else [body(sequence + i) for i in range(count)]
            )
            blocks = b"".join(struct.pack(">H", len(b)) + b for b in bodies)
        data = ffi.new("uint8_t[]", blocks or b"\0")
        span = ffi.new(
            "struct span *",
            {
                "sequence": sequence,
                "count": count,
                "blocks": data,
                "len": len(blocks),
                "prefix": {"len": 2},
            },
        )
        reason = lib.arbiter_span(self.pointer, line, span, ts, ts)
        lib.arbiter_flush(self.pointer)  # the packet's bytes end here
        return counters.NAMES[reason] if reason else ""

    def clock(self, ts: int) -> None:
        lib.arbiter_clock(self.pointer, ts)
        lib.arbiter_flush(self.pointer)

    def finish(self, ts: int = 10**12) -> None:
        lib.arbiter_finish(self.pointer, ts)

    @property
    def ledger(self) -> Any:
        return lib.arbiter_ledger(self.pointer)

    def line(self, index: int) -> Any:
        return lib.arbiter_lines(self.pointer)[index]

    def count(self, name: str) -> int:
        return int(counters.read(self.counters)[name])

    @property
    def sequences(self) -> list[int]:
        return [sequence for sequence, _, _ in self.delivered]

    def check(self) -> None:
        """What must hold at any end: order, once, honest bytes, closed accounts."""
        ledger = self.ledger
        assert self.sequences == sorted(set(self.sequences))
        assert all(data == body(sequence) for sequence, data, _ in self.delivered)
        assert ledger.delivered == len(self.delivered)
        assert ledger.lost == sum(count for _, count in self.gaps)
        assert ledger.next - ledger.first == ledger.delivered + ledger.lost
        assert ledger.received == (
            ledger.delivered + ledger.duplicate + ledger.late + ledger.cut + ledger.untrusted
        )
        assert ledger.gaps_detected == ledger.gaps_healed + ledger.gaps_declared
        lost = {s for first, n in self.gaps for s in range(first, first + n)}
        assert lost.isdisjoint(self.sequences)


@pytest.fixture
def arbiter() -> Arbiter:
    made = Arbiter()
    made.begin()
    return made


Packet = tuple[int, int, int]  # line, first, count


@st.composite
def arrivals(draw: st.DrawFn) -> list[Packet]:
    """One stream cut differently on two lines, each with loss, copies and disorder."""
    total = draw(st.integers(1, 60))
    packets: list[tuple[float, Packet]] = []
    for line in (0, 1):
        first = 1
        while first <= total:
            count = draw(st.integers(1, 6))
            count = min(count, total + 1 - first)
            fate = draw(st.sampled_from(["ok", "ok", "ok", "lost", "twice", "late"]))
            at = first + draw(st.floats(0, 1)) + 3 * line
            if fate != "lost":
                packets.append((at + (8 if fate == "late" else 0), (line, first, count)))
            if fate == "twice":
                packets.append((at + draw(st.floats(0, 9)), (line, first, count)))
            first += count
    return [packet for _, packet in sorted(packets)]


@settings(max_examples=300)
@given(arrivals())
def test_lines_merge_to_everything_that_any_of_them_carried(packets: list[Packet]) -> None:
    arbiter = Arbiter(window=128)
    arbiter.begin()
    for line, first, count in packets:
        arbiter.span(line, first, count)
    arbiter.finish()
    arbiter.check()
    seen = {s for _, first, count in packets for s in range(first, first + count)}
    assert arbiter.sequences == sorted(seen)
    missing = set(range(1, max(seen, default=0) + 1)) - seen
    assert {s for first, n in arbiter.gaps for s in range(first, first + n)} == missing
    assert arbiter.ledger.received == sum(count for _, _, count in packets)


@settings(max_examples=200)
@given(arrivals(), st.sampled_from([1, 4, 16]), st.integers(1, 40))
def test_accounts_close_when_window_and_time_are_short(
    packets: list[Packet], window: int, timeout_us: int
) -> None:
    arbiter = Arbiter(window=window, timeout_us=timeout_us)
    arbiter.begin()
    for i, (line, first, count) in enumerate(packets):
        arbiter.clock(i * 5 * US)
        arbiter.span(line, first, count, ts=i * 5 * US)
    arbiter.finish()
    arbiter.check()


def test_u39_a_heartbeat_tells_of_a_gap(arbiter: Arbiter) -> None:
    arbiter.span(0, 1, 3)
    arbiter.span(0, 4, 0, ts=5 * US)
    assert arbiter.ledger.gaps_detected == 0
    arbiter.span(0, 2, 0, ts=5 * US)
    assert arbiter.ledger.gaps_detected == 0
    arbiter.span(0, 6, 0, ts=10 * US)
    assert arbiter.ledger.gaps_detected == 1
    arbiter.clock(1009 * US)
    assert arbiter.gaps == []
    arbiter.clock(1010 * US)
    assert arbiter.gaps == [(4, 2)]
    arbiter.span(0, 6, 1)
    assert arbiter.sequences == [1, 2, 3, 6]
    arbiter.check()


@pytest.mark.parametrize("missing", [1, 10, 63])
def test_u43_a_gap_waits_for_the_other_line_then_is_declared(missing: int) -> None:
    for healed in (True, False):
        arbiter = Arbiter()
        arbiter.begin()
        arbiter.span(0, 1, 1)
        arbiter.span(0, 2 + missing, 1, ts=100 * US)
        assert arbiter.sequences == [1]
        arbiter.clock(1099 * US)
        if healed:
            arbiter.span(1, 2, missing, ts=1099 * US)
        arbiter.clock(1100 * US)
        assert arbiter.gaps == ([] if healed else [(2, missing)])
        assert arbiter.ledger.gaps_healed == healed
        assert arbiter.sequences[-1] == 2 + missing
        assert arbiter.line(0).losses == missing
        assert arbiter.line(0).healed == (missing if healed else 0)
        arbiter.check()


@pytest.mark.parametrize("jump", [10**6, 2**63])
def test_a60_a_jump_is_not_believed_alone(arbiter: Arbiter, jump: int) -> None:
    arbiter.span(0, 1, 2)
    assert arbiter.span(0, jump, 2, ts=10 * US) == "drop_untrusted_jump"
    assert arbiter.span(0, 3, 2, ts=20 * US) == ""
    arbiter.finish()
    assert arbiter.sequences == [1, 2, 3, 4]
    assert arbiter.gaps == []
    assert arbiter.ledger.untrusted == 2
    arbiter.check()


def test_a60_the_other_line_confirms_a_jump(arbiter: Arbiter) -> None:
    arbiter.span(0, 1, 2)
    arbiter.span(0, 1_000_000, 2)
    assert arbiter.span(1, 1_000_000, 2) == ""
    assert arbiter.gaps == [(3, 999_997)]
    assert arbiter.sequences == [1, 2, 1_000_000, 1_000_001]
    arbiter.check()


def test_a60_time_confirms_a_jump_on_a_single_line() -> None:
    arbiter = Arbiter(lines=1)
    arbiter.begin()
    arbiter.span(0, 1, 1)
    assert arbiter.span(0, 5000, 1, ts=1000 * US) == "drop_untrusted_jump"
    assert arbiter.span(0, 5001, 1, ts=1999 * US) == "drop_untrusted_jump"
    assert arbiter.span(0, 5002, 1, ts=2000 * US) == ""
    assert arbiter.gaps == [(2, 5000)]
    arbiter.check()


@pytest.mark.parametrize("sequence", [0, 2**64 - 2])
def test_u47_zero_and_wrap_are_refused(arbiter: Arbiter, sequence: int) -> None:
    assert arbiter.span(0, sequence, 3, messages=[b"m"] * 3) == "drop_sequence"
    assert arbiter.ledger.received == 0
    arbiter.check()


def test_u44_reorder_beyond_the_window_gives_the_gap_up() -> None:
    arbiter = Arbiter(lines=1, window=8)
    arbiter.begin()
    arbiter.span(0, 1, 1)
    arbiter.span(0, 3, 7)
    assert arbiter.gaps == []
    arbiter.span(0, 10, 1)
    assert arbiter.gaps == [(2, 1)]
    assert arbiter.span(0, 2, 1) == ""
    assert arbiter.ledger.late == 1
    assert arbiter.sequences == [1, *range(3, 11)]
    arbiter.check()


def test_u46_only_the_new_tail_of_an_overlap_is_delivered(arbiter: Arbiter) -> None:
    arbiter.span(0, 1, 4)
    arbiter.span(1, 3, 4)
    assert arbiter.sequences == [1, 2, 3, 4, 5, 6]
    assert arbiter.ledger.duplicate == 2
    arbiter.check()


def test_u36_a_packet_that_ends_early_delivers_its_whole_messages(arbiter: Arbiter) -> None:
    whole = b"".join(struct.pack(">H", len(body(i))) + body(i) for i in (1, 2))
    for cut in (b"", b"\0", struct.pack(">H", 9) + b"12345678", struct.pack(">H", 65535)):
        arbiter.begin()
        arbiter.delivered.clear()
        arbiter.span(0, 1, 3, blocks=whole + cut)
        assert arbiter.sequences == [1, 2]
        assert arbiter.ledger.cut == 1
    assert arbiter.count("block_cut") == 4


def test_u37_trailing_bytes_are_counted(arbiter: Arbiter) -> None:
    arbiter.span(0, 1, 1, blocks=struct.pack(">H", len(body(1))) + body(1) + b"xyz")
    assert arbiter.sequences == [1]
    assert arbiter.count("session_trailing") == 1


def test_u38_an_empty_block_is_a_message(arbiter: Arbiter) -> None:
    arbiter.span(0, 1, 2, messages=[b"", body(2)])
    assert [data for _, data, _ in arbiter.delivered] == [b"", body(2)]


def test_u52_a_message_of_64_kib_can_wait_its_turn(arbiter: Arbiter) -> None:
    big = b"x" * 65_000
    arbiter.span(0, 2, 1, messages=[big])
    arbiter.span(0, 1, 1)
    assert [data for _, data, _ in arbiter.delivered] == [body(1), big]


def test_a55_to_a57_loss_on_one_line_is_healed_and_on_both_is_one_gap(arbiter: Arbiter) -> None:
    for sequence in range(1, 31):
        if sequence % 3:
            arbiter.span(0, sequence, 1)
        if sequence % 3 != 1 or sequence % 2:
            arbiter.span(1, sequence, 1)
    arbiter.finish()
    assert arbiter.gaps == []
    arbiter.span(0, 33, 1)
    arbiter.span(1, 33, 1)
    arbiter.finish()
    assert arbiter.line(0).healed == 10
    assert arbiter.gaps == [(31, 2)]
    assert arbiter.ledger.gaps_declared == 1
    arbiter.check()


def test_a59_different_bytes_are_counted_and_the_first_kept(arbiter: Arbiter) -> None:
    arbiter.span(0, 1, 2)
    arbiter.span(1, 1, 2, messages=[body(1), b"forged"])
    assert arbiter.count("ab_mismatch") == 1
    assert arbiter.gaps == [(2, 0)]
    assert [data for _, data, _ in arbiter.delivered] == [body(1), body(2)]


@pytest.mark.parametrize("count", [2, 3, 9])
def test_a59_one_wrong_bit_anywhere_in_a_packet_is_one_mismatch(count: int) -> None:
    bits = [
        (message, at, bit)
        for message in range(count)
        for at in range(len(body(1 + message)))
        for bit in range(8)
    ]
    arbiter = Arbiter()
    arbiter.begin()
    arbiter.span(0, 1, count)
    for i, (message, at, bit) in enumerate(bits):
        messages = [bytearray(body(1 + m)) for m in range(count)]
        messages[message][at] ^= 1 << bit
        arbiter.span(1, 1, count, messages=[bytes(m) for m in messages])
        arbiter.span(1, 1, count)
        assert arbiter.count("ab_mismatch") == i + 1
        assert arbiter.gaps[i] == (1 + message, 0)
    assert arbiter.ledger.duplicate == 2 * len(bits) * count


def test_a62_a_slow_line_costs_no_memory_and_is_seen_as_slow(arbiter: Arbiter) -> None:
    for sequence in range(1, 40_000):
        arbiter.span(0, sequence, 1, ts=sequence * US)
        if sequence > 30_000:
            arbiter.span(1, sequence - 30_000, 1, ts=sequence * US)
    assert arbiter.ledger.delivered == 39_999
    assert arbiter.line(0).leads == 9_999
    assert arbiter.line(0).lead_ns_max == 30_000 * US
    arbiter.check()


def test_late_messages_are_not_copies(arbiter: Arbiter) -> None:
    arbiter.begin(first=10)
    arbiter.span(0, 10, 1)
    arbiter.span(0, 12, 1, ts=5 * US)
    arbiter.clock(5000 * US)
    arbiter.span(1, 9, 4, ts=5001 * US)
    assert (arbiter.ledger.late, arbiter.ledger.duplicate) == (2, 2)
    arbiter.check()


def test_deadline_is_told_in_record_time(arbiter: Arbiter) -> None:
    assert lib.arbiter_deadline_us(arbiter.pointer) == 2**64 - 1
    arbiter.span(0, 2, 1, ts=7_999)
    assert lib.arbiter_deadline_us(arbiter.pointer) == 7 + 1000


def test_bad_configuration_is_refused() -> None:
    for wrong in ({"lines": 0}, {"lines": 3}, {"window": 100}, {"window_bytes": 1 << 10}):
        config = {"lines": 1, "window": 64, "window_bytes": 1 << 17} | wrong
        sink = ffi.new("struct arbiter_sink *")[0]
        out = ffi.new("struct arbiter **")
        assert (
            lib.arbiter_create(
                ffi.new("struct arbiter_config *", config), ffi.new("struct counters *"), sink, out
            )
            < 0
        )


# --- the recovery line: what was asked for again ---

RECOVERY = lib.LINE_RECOVERY


def test_a_recovery_line_heals_what_both_lost_and_has_figures_of_its_own() -> None:
    arbiter = Arbiter(timeout_us=10**6)
    arbiter.begin()
    for line in (0, 1):
        arbiter.span(line, 1, 2, ts=line * US)
        arbiter.span(line, 5, 2, ts=(2 + line) * US)
    assert arbiter.sequences == [1, 2]
    arbiter.span(RECOVERY, 4, 1, ts=5 * US)  # an answer may come in pieces, in any order
    arbiter.span(RECOVERY, 3, 1, ts=6 * US)
    assert arbiter.sequences == [1, 2, 3, 4, 5, 6]
    assert (arbiter.ledger.gaps_healed, arbiter.ledger.lost) == (1, 0)
    recovered = arbiter.line(RECOVERY)
    assert (recovered.packets, recovered.messages, recovered.wins) == (2, 2, 2)
    assert (recovered.losses, recovered.healed, recovered.leads) == (0, 0, 0)
    for line in (0, 1):
        assert (arbiter.line(line).losses, arbiter.line(line).healed) == (2, 2)
        assert arbiter.line(line).packets == 2
    arbiter.check()


def test_a_copy_by_the_recovery_line_is_a_duplicate_compared_like_any(arbiter: Arbiter) -> None:
    arbiter.span(0, 1, 2)
    arbiter.span(RECOVERY, 1, 2, ts=3 * US)
    assert (arbiter.ledger.duplicate, arbiter.count("ab_mismatch")) == (2, 0)
    arbiter.span(RECOVERY, 1, 1, messages=[b"other bytes"])
    assert arbiter.count("ab_mismatch") == 1
    assert [arbiter.line(line).leads for line in range(lib.LINES_ALL)] == [0, 0, 0]


def test_a_recovery_line_is_no_witness_to_a_jump(arbiter: Arbiter) -> None:
    arbiter.span(0, 1, 1)
    assert arbiter.span(0, 1_000_000, 1, ts=US) == "drop_untrusted_jump"
    assert arbiter.span(RECOVERY, 1_000_001, 1, ts=2 * US) == "drop_untrusted_jump"
    assert arbiter.span(1, 1_000_001, 1, ts=2 * US) == ""  # another line is
