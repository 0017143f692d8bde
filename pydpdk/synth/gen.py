"""A capture of a synthetic feed: market, packets, two lines, file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from itertools import tee
from math import isfinite
from operator import itemgetter
from pathlib import Path
from typing import Any

from pydpdk.errors import UsageError
from pydpdk.synth.market import Market, epoch_ns
from pydpdk.synth.multicast import Channel
from pydpdk.synth.packetize import Framing, MoldUDP64, Packet, Packetizer
from pydpdk.synth.two_lines import LINE_A, LINE_B, Faults, Line, LineTruth, Truth
from pydpdk.tape.pcapfile import CaptureWriter, Format

Messages = Iterable[tuple[int, bytes]]
CHANNELS = {"A": LINE_A, "B": LINE_B}


def feed(
    messages: Messages,
    faults: dict[str, Faults],
    *,
    framing: Framing,
    channels: dict[str, Channel] | None = None,
    starts: tuple[int, ...] = (),
    repacketize: bool = False,
    seed: int = 1,
    **packetizer: Any,
) -> tuple[Iterator[tuple[int, bytes]], Truth]:
    """The frames of all lines named in ``faults``, merged by time, and what was done to them.

    ``starts`` are the positions where the later sessions of ``framing`` begin. Lines send the
    same packets, unless ``repacketize`` cuts those of every line but the first differently.
    Other keywords go to Packetizer. The truth is whole once the frames are exhausted.
    """
    names = [n.decode().rstrip() if isinstance(n, bytes) else n for n in framing.sessions]
    truth = Truth(
        list(zip(names, (1, *starts), strict=True)), {name: LineTruth() for name in faults}
    )

    def packets(source: Messages, cut: str) -> Iterator[Packet]:
        seeded = f"{seed} packets {cut}"
        return Packetizer(framing, seed=seeded, starts=starts, **packetizer)(source)

    copies: Iterable[Iterable[Packet]]
    counted = _count(messages, truth)
    if repacketize:
        copies = map(packets, tee(counted, len(faults)), faults)
    else:
        copies = tee(packets(counted, ""), len(faults))
    lines = [
        Line((channels or CHANNELS)[name], framing, bad, truth.lines[name], f"{seed} line {name}")(
            copy
        )
        for (name, bad), copy in zip(faults.items(), copies, strict=True)
    ]
    return _closing(merge(*lines, key=itemgetter(0)), truth), truth


def _closing(frames: Iterable[tuple[int, bytes]], truth: Truth) -> Iterator[tuple[int, bytes]]:
    yield from frames
    truth.close()


def _count(messages: Messages, truth: Truth) -> Iterator[tuple[int, bytes]]:
    for message in messages:
        truth.messages += 1
        yield message


def generate(
    path: str | Path,
    *,
    seed: int = 1,
    messages: int = 100_000,
    instruments: int = 100,
    live_orders: int | None = None,
    rate: float = 50_000.0,
    loss: float = 0.0,
    dup: float = 0.0,
    reorder: float = 0.0,
    skew_us: float = 5.0,
    jitter_us: float = 2.0,
    lines: str = "AB",
    gaps: tuple[tuple[int, int], ...] = (),
    poison: tuple[tuple[int, int], ...] = (),
    sessions: tuple[tuple[bytes, int], ...] = ((b"SYNTH00001", 1),),
    repacketize: bool = False,
    format: Format = "pcap-ns",
    start: str | int = "2026-01-05T09:30:00 America/New_York",
    progress: Callable[[int], None] | None = None,
) -> Truth:
    """Write a capture of a synthetic ITCH 5.0 day over MoldUDP64; the same arguments, same bytes.

    ``loss``, ``dup`` and ``reorder`` are probabilities per packet and line; line B arrives
    ``skew_us`` +- ``jitter_us`` behind A (negative: A behind B). ``gaps`` (position, count) are
    lost on every line, ``poison`` (position, jump) strikes the first; ``sessions`` are (name,
    position of the first message). ``start`` is New York time or nanoseconds since the epoch.
    ``progress`` is told the messages so far. Raises UsageError before it writes.
    """
    _check(lines, loss=loss, dup=dup, reorder=reorder)
    if not (isfinite(skew_us) and isfinite(jitter_us)):
        raise UsageError(f"skew_us is {skew_us}, jitter_us {jitter_us}: both must be finite")
    start_ns = epoch_ns(start) if isinstance(start, str) else start
    market = Market(seed, instruments, messages, start_ns, live_orders=live_orders, rate=rate)
    late_us = {"A": max(-skew_us, 0.0), "B": max(skew_us, 0.0)}
    faults = {
        name: Faults(
            loss, dup, reorder, delay_ns=round(late_us[name] * 1000),
            jitter_ns=round(jitter_us * 1000) if late_us[name] else 0,
            gaps=gaps, poison=poison if name == lines[0] else (),
        )
        for name in lines
    }  # fmt: skip
    names, starts = zip(*sessions, strict=True)
    frames, truth = feed(
        _told(market, progress), faults, framing=MoldUDP64(names), starts=starts[1:],
        repacketize=repacketize, seed=seed,
    )  # fmt: skip
    with CaptureWriter(path, format) as capture:
        for ts_ns, frame in frames:
            capture.write(ts_ns, frame)
    return truth


def _check(lines: str, **probabilities: float) -> None:
    if lines not in ("A", "B", "AB"):
        raise UsageError(f"lines is {lines!r}, not A, B or AB")
    for name, value in probabilities.items():
        if not 0 <= value <= 1:
            raise UsageError(f"{name} is {value}: a probability lies between 0 and 1")


def _told(market: Market, progress: Callable[[int], None] | None) -> Messages:
    done = 0
    for times, messages in market.chunks():
        yield from zip(times, messages, strict=True)
        done += len(messages)
        if progress:
            progress(done)
