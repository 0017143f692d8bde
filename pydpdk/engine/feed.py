"""A feed as the user names it: protocol, lines, limits."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from pydpdk._core import ffi, lib
from pydpdk.core.layout import protocols
from pydpdk.errors import UsageError

VENUE_TZ = ZoneInfo("America/New_York")


@dataclass(frozen=True)
class Endpoint:
    """One line's destination: a group address and a UDP port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """``233.54.12.111:26477`` or ``[ff02::1]:26477``."""
        host, colon, port = text.rpartition(":")
        try:
            address = ipaddress.ip_address(host.strip("[]"))
            number = int(port)
        except ValueError:
            raise UsageError(
                f"line {text!r}: expected ADDRESS:PORT such as 233.54.12.111:26477"
            ) from None
        if not colon or not 0 < number < 65536:
            raise UsageError(f"line {text!r}: port must be 1..65535")
        return cls(str(address), number)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Feed:
    """What one feed is made of; the defaults suit a replay of a busy US equities feed.

    ``lines`` are one or two destinations, A first. ``window`` (messages, a power of two) and
    ``gap_timeout_us`` (record clock) bound how long a gap may wait for the other line.
    ``orders_max`` and ``levels_max`` size the books. ``midnight_ns`` is the midnight that
    ITCH time stamps count from, in ns since the Unix epoch.
    """

    protocol: str
    lines: tuple[Endpoint, ...] = ()
    allowed: tuple[str, ...] = ()
    window: int = 4096
    window_bytes: int = 1 << 21
    gap_timeout_us: int = 10_000
    stale_line_us: int = 1_500_000
    stale_feed_us: int = 15_000_000
    compare: bool = True
    orders_max: int = 1 << 21
    levels_max: int = 1 << 22
    seed: int = 0
    midnight_ns: int = 0
    name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if self.protocol not in protocols():
            raise UsageError(f"protocol {self.protocol!r} is not one of {', '.join(protocols())}")
        if len(self.lines) > lib.LINES_MAX:
            raise UsageError(f"feed {self.protocol}: at most two lines, A and B")

    @classmethod
    def parse(cls, text: str, **options: Any) -> Feed:
        """``PROTOCOL`` or ``PROTOCOL@A_ADDRESS:PORT[,B_ADDRESS:PORT]``."""
        protocol, _, lines = text.partition("@")
        return cls(
            protocol=protocol,
            lines=tuple(Endpoint.parse(line) for line in lines.split(",") if line),
            **options,
        )

    def __str__(self) -> str:
        return f"{self.protocol}@{','.join(map(str, self.lines))}"

    def config(self) -> Any:
        """The ``struct feed_config`` of this feed."""
        config = ffi.new("struct feed_config *")
        config.protocol = self.protocol.encode()
        for i, line in enumerate(self.lines):
            _address(config.lines[i], line.host, line.port)
        for i, host in enumerate(self.allowed):
            _address(config.allowed[i], host, 0)
        config.arbiter = {
            "lines": len(self.lines),
            "window": self.window,
            "window_bytes": self.window_bytes,
            "gap_timeout_us": self.gap_timeout_us,
            "stale_line_us": self.stale_line_us,
            "stale_feed_us": self.stale_feed_us,
            "compare": int(self.compare),
        }
        config.books = {
            "orders_max": self.orders_max,
            "levels_max": self.levels_max,
            "seed": self.seed,
        }
        config.midnight_ns = self.midnight_ns
        return config


def _address(target: Any, host: str, port: int) -> None:
    packed = ipaddress.ip_address(host).packed
    target.len = len(packed)
    target.port = port
    ffi.memmove(target.bytes, packed, len(packed))


def midnight_ns(ts_ns: int, tz: ZoneInfo = VENUE_TZ) -> int:
    """Midnight before ``ts_ns`` (ns since the Unix epoch) at the venue, in the same unit."""
    day = datetime.fromtimestamp(ts_ns // 1_000_000_000, tz)
    return int(day.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()) * 1_000_000_000


def session_name(framing: Any, raw: Any) -> str:
    """A session's id as people write it: the venue's text, or hexadecimal where it has none."""
    name = bytes(ffi.buffer(raw, lib.SESSION_ID))
    return name.rstrip(b" \0").decode("latin-1") if framing.text else name[:8].hex()
