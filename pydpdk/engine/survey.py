"""What is in a capture: destinations, framing, sessions, gaps; and the feeds to subscribe."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydpdk._core import ffi, lib
from pydpdk.core import counters, layout
from pydpdk.engine.feed import Endpoint, Feed, midnight_ns, session_name
from pydpdk.errors import DataError, UsageError
from pydpdk.source.source import Source, capture_path, open_source


@dataclass(frozen=True)
class Stream:
    """One destination of a capture and what its packets say of themselves."""

    endpoint: Endpoint
    framing: str
    protocol: str | None
    session: str
    vlan: int
    fields: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "destination": str(self.endpoint),
            "framing": self.framing,
            "protocol": self.protocol,
            "session": self.session,
            "vlan": self.vlan,
            **self.fields,
        }


@dataclass(frozen=True)
class Survey:
    """All streams of one capture, in order of appearance, and the fate of its frames."""

    streams: tuple[Stream, ...]
    counters: dict[str, int]
    ts_first: int
    ts_last: int
    streams_lost: int
    error: int

    def candidates(self, protocol: str) -> list[Stream]:
        """Streams that speak ``protocol``."""
        return [stream for stream in self.streams if stream.protocol == protocol]

    def contents(self) -> str:
        """Destinations and what they speak, the first few of them, on one line."""
        told = [f"{s.endpoint} ({s.protocol or s.framing})" for s in self.streams[:8]]
        more = len(self.streams) - len(told)
        return ", ".join(told + [f"{more} more"] * (more > 0)) or "no UDP"


def survey(source: Source, progress: Callable[[int], None] | None = None) -> Survey:
    """Read ``source`` to its end. ``progress`` is called with the frames read so far."""
    state = ffi.new("struct survey *")
    rc = 1
    while rc > 0:
        rc = lib.survey_step(state, source.pointer, 1 << 16)
        if progress:
            progress(state.counters.value[0])
    return Survey(
        streams=tuple(_stream(state.stream[i]) for i in range(state.streams)),
        counters=counters.read(ffi.addressof(state, "counters")),
        ts_first=state.ts_first,
        ts_last=state.ts_last,
        streams_lost=state.streams_lost,
        error=rc,
    )


def _stream(stream: Any) -> Stream:
    address = ipaddress.ip_address(bytes(ffi.buffer(stream.dst, stream.addr_len)))
    framing = lib.framing_at(stream.framing)
    names = (
        "packets",
        "bytes",
        "messages",
        "heartbeats",
        "sessions",
        "first",
        "next",
        "gaps",
        "lost",
        "behind",
        "not_framed",
        "ts_first",
        "ts_last",
    )
    return Stream(
        endpoint=Endpoint(str(address), stream.port),
        framing=ffi.string(framing.name).decode() if framing else "unknown",
        protocol=_protocol(stream),
        session=session_name(framing, stream.session) if framing else "",
        vlan=stream.vlan,
        fields={name: getattr(stream, name) for name in names},
    )


def _protocol(stream: Any) -> str | None:
    """The protocol whose framing, id and message lengths fit; None when none does."""
    for i in range(lib.protocol_count()):
        row = lib.protocol_at(i)
        name = str(ffi.string(row.name).decode())
        if row.framing != lib.framing_at(stream.framing) or row.variant != stream.variant:
            continue
        known = layout.messages(name).get(chr(stream.type))
        if row.variant or stream.type == 0 or (known and known.length == stream.length):
            return name
    return None


def joined(surveys: Sequence[Survey]) -> Survey:
    """Several captures as one: the earliest stream of each destination, in order of time."""
    first: dict[Endpoint, Stream] = {}
    streams = (stream for found in surveys for stream in found.streams)
    for stream in sorted(streams, key=lambda stream: stream.fields["ts_first"]):
        first.setdefault(stream.endpoint, stream)
    return replace(
        surveys[0],
        streams=tuple(first.values()),
        ts_first=min((found.ts_first for found in surveys if found.ts_first), default=0),
        ts_last=max(found.ts_last for found in surveys),
    )


def find_feeds(
    feeds: Sequence[Feed] | None,
    specs: Sequence[str],
    progress: Callable[[int], None] | None = None,
) -> list[Feed]:
    """``feeds`` with what they leave open, as the captures among the sources tell it.

    None: one for each protocol that is spoken there. DataError when there is nothing for a feed,
    UsageError when its lines are not clear.
    """
    surveys = []
    for path in filter(None, map(capture_path, specs)):
        with open_source(f"pcap:{path}") as source:
            surveys.append(survey(source, progress))
    if not surveys:
        if feeds is None:
            raise UsageError(f"{', '.join(specs)}: not a capture; name its feeds and their lines")
        return list(feeds)
    found = joined(surveys)
    if feeds is None:
        spoken = dict.fromkeys(s.protocol for s in found.streams)
        feeds = [Feed(protocol) for protocol in spoken if protocol]
        if not feeds:
            raise DataError(f"no feed is known in this capture; it has: {found.contents()}")
    if len(surveys) == len(specs):
        for feed in feeds:
            check_lines(feed, found)
    return [resolve(feed, found) for feed in feeds]


def check_lines(feed: Feed, found: Survey) -> None:
    """Refuse lines of which a capture has none: it would be replayed into nothing."""
    seen = {stream.endpoint for stream in found.streams}
    if feed.lines and not seen.intersection(feed.lines) and not found.streams_lost:
        raise DataError(f"nothing for {feed} in this capture; it has: {found.contents()}")


def resolve(feed: Feed, found: Survey) -> Feed:
    """``feed`` with what a capture can tell: its lines when none were named, its midnight."""
    lines = feed.lines
    if not lines:
        candidates = found.candidates(feed.protocol)
        streams = [s for s in candidates if s.fields["messages"]] or candidates
        if not streams:
            raise DataError(
                f"no {feed.protocol} stream in this capture; it has: {found.contents()}"
            )
        if len(streams) > lib.LINES_MAX or len({s.session for s in streams}) > 1:
            choices = "\n".join(
                f"  --feed {feed.protocol}@{s.endpoint}   session {s.session!r}, "
                f"{s.fields['messages']} messages"
                for s in streams
            )
            raise UsageError(
                f"several {feed.protocol} streams in this capture; choose one, or the two lines "
                f"of one feed as {feed.protocol}@A,B:\n{choices}"
            )
        lines = tuple(stream.endpoint for stream in streams)
    midnight = feed.midnight_ns or (midnight_ns(found.ts_first) if found.ts_first else 0)
    return replace(feed, lines=lines, midnight_ns=midnight)
