"""The ways in of a run: ports opened, queues steered, groups joined, and what each cannot do.

Asked for is what the configuration needs: a queue for each loop that reads a source, the groups
of its feeds. What a device does not grant is done in software where that is possible: loops that
would share a queue become one, whose routes tell the feeds apart.
"""

from __future__ import annotations

import fcntl
import ipaddress
import random
import socket
import struct
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from pydpdk._core import ffi, lib
from pydpdk.core.closes import Closes
from pydpdk.core.utc import Utc
from pydpdk.errors import HostError, UsageError, check
from pydpdk.process.config import Config, FeedPlan
from pydpdk.source import eal
from pydpdk.source.source import Source, open_port, open_source

REFRESH_NS = 60_000_000_000
ALL_SYSTEMS = "224.0.0.1"  # where general queries go: RFC 3376 section 4.1.12
IP_ADD_MEMBERSHIP = 35  # with struct ip_mreqn: ip(7)
SIOCGIFADDR = 0x8915  # netdevice(7)


@dataclass
class Way:
    """One source of the configuration, open: a `Source` for each queue."""

    name: str
    sources: list[Source]
    known: dict[str, Any]
    address: str = ""
    groups: list[str] = field(default_factory=list)
    membership: str = "none needed"
    steering: list[dict[str, str]] = field(default_factory=list)
    fallbacks: list[str] = field(default_factory=list)

    @property
    def speaks(self) -> bool:
        """Whether we must answer ARP, echo and IGMP queries: nobody else sees them.

        An AF_XDP socket takes every frame of its queue from the kernel, these too.
        """
        return bool(self.known["joins"] == "own" or self.sources[0].description.kind.xdp)

    def told(self) -> dict[str, Any]:
        """For people and for the run's record."""
        return {
            "source": self.name,
            **self.known,
            "groups": self.groups,
            "membership": self.membership,
            "steering": self.steering,
            "fallbacks": self.fallbacks,
        }


@dataclass
class Reception:
    """What one core does: its feeds, and the queues that it reads."""

    core: int | None
    feeds: tuple[FeedPlan, ...]
    lanes: list[tuple[Way, Source]]


class Ways(Closes):
    """All ways in of a configuration; closing it closes those that no engine took over."""

    def __init__(self, config: Config, clock: Utc | None) -> None:
        """``clock`` stamps what comes in live; None when all sources are captures."""
        self._stack = ExitStack()
        self.config = config
        try:
            self.ways = {s.name: self._open(s, clock) for s in config.sources if self._used(s)}
            self.receptions = self._receptions()
            for way in self.ways.values():
                self._join(way)
                way.fallbacks += _fallbacks(way)
            self._one_clock()
        except BaseException:
            self.close()
            raise

    def _used(self, source: Any) -> bool:
        return self.config.queues(source.name) > 0

    def _open(self, plan: Any, clock: Utc | None) -> Way:
        queues = self.config.queues(plan.name)
        if plan.device.kind.dpdk:
            if eal.started() is None:
                eal.start(self._eal())
            mtu = None if plan.device.kind.interface_mtu else plan.mtu
            sources = open_port(
                plan.device.spec, queues, eal.started(),
                mtu=mtu, rx_ring_mb=plan.rx_ring_mb, clock=clock,
            )  # fmt: skip
        else:
            spec, size = plan.device.spec, plan.rx_ring_mb
            sources = [open_source(spec, mtu=plan.mtu, rx_ring_mb=size, clock=clock)]
        for source in sources:
            self._stack.callback(source.close)
        return Way(plan.name, sources, sources[0].known(), plan.address)

    def _eal(self) -> eal.Options:
        """One start for all sources."""
        return self.config.eal

    def _receptions(self) -> list[Reception]:
        """One for each loop, or fewer where a source has not a queue for each."""
        loops = self.config.loops()
        shares = {
            way.name: [i for i, loop in enumerate(loops) if way.name in _names(loop)]
            for way in self.ways.values()
        }
        merged = list(range(len(loops)))  # loop -> the loop that does its work
        for name, users in shares.items():
            if len(users) > 1 and not self._steer(self.ways[name], [loops[i] for i in users]):
                first = min(merged[i] for i in users)
                gone = {merged[i] for i in users}
                merged = [first if m in gone else m for m in merged]
        made = []
        for first in dict.fromkeys(merged):
            members = [loops[i] for i, m in enumerate(merged) if m == first]
            feeds = tuple(feed for loop in members for feed in loop.feeds)
            made.append(Reception(loops[first].core, feeds, self._lanes(members, shares)))
        return made

    def _lanes(self, members: Sequence[Any], shares: dict[str, list[int]]) -> list[Any]:
        """The queues that these loops read: of a source that only they use, all."""
        lanes, loops = [], self.config.loops()
        for way in self.ways.values():
            users = [loops[i] for i in shares[way.name]]
            if all(user in members for user in users) and users:
                lanes += [(way, source) for source in way.sources]
            else:
                at = [i for i, user in enumerate(users) if user in members]
                lanes += [(way, way.sources[i]) for i in at]
        if len(lanes) > lib.SOURCES_MAX:
            raise UsageError(f"{len(lanes)} queues for one core: at most {lib.SOURCES_MAX}")
        return lanes

    def _steer(self, way: Way, loops: Sequence[Any]) -> bool:
        """Each loop's lines to a queue of its own; False when it must be done in software."""
        enough = len(way.sources) == len(loops)
        if not enough:
            way.fallbacks.append(
                f"{len(loops)} queues asked for, {len(way.sources)} granted:"
                " feeds are told apart in software, on one core"
            )
        for queue, loop in enumerate(loops):
            for plan in loop.feeds:
                for line in plan.feed.lines:
                    answer = "no queue"
                    if enough:
                        answer = way.sources[queue].steer(line.host, line.port)
                    done = "device" if answer == "accepted" else "software"
                    way.steering.append(
                        {"line": str(line), "queue": str(queue), "device": answer, "done": done}
                    )
        refused = [row for row in way.steering if row["done"] == "software"]
        if enough and refused:
            way.fallbacks.append(
                f"steering of {refused[0]['line']} {refused[0]['device']}:"
                " feeds are told apart in software, on one core"
            )
        return not refused

    def _join(self, way: Way) -> None:
        """Has the frames of all groups of the feeds that read this source come in."""
        groups = [
            line.host
            for plan in self.config.feeds
            if way.name in plan.sources
            for line in plan.feed.lines
            if ipaddress.ip_address(line.host).is_multicast
        ]
        way.groups = list(dict.fromkeys(groups))
        if not way.groups or way.known["joins"] == "none":
            return
        if way.known["joins"] == "kernel":
            self._stack.enter_context(kernel_membership(way.sources[0], way.groups))
            way.membership = "kernel socket"
            if way.speaks:
                way.membership += ", and IGMP of ours for queries that the kernel does not see"
            return
        heard = [ALL_SYSTEMS, *way.groups]  # RFC 3376 section 6: the first is never reported
        told = way.sources[0].groups([multicast_mac(group) for group in heard])
        way.membership = f"IGMP of ours; filter: {told}"
        way.known |= {key: way.sources[0].known()[key] for key in FILTERS}
        if told in ("all-multicast", "promiscuous"):
            way.fallbacks.append(f"multicast filter: {told}, as the device took no list")

    def _one_clock(self) -> None:
        clocks = {way.name: way.known["clock"] for way in self.ways.values()}
        if len({clock == "capture" for clock in clocks.values()}) > 1:
            raise UsageError(f"captures and live sources in one run: {clocks}")
        for reception in self.receptions:
            stamps = {way.known["clock"] for way, _ in reception.lanes}
            if len(stamps) > 1:
                raise UsageError(
                    f"the sources of one loop stamp by different clocks: {clocks}; "
                    "give each a loop (core) of its own"
                )

    def fallbacks(self) -> list[str]:
        """What was asked for and is done otherwise, or cannot be known."""
        return [f"{way.name}: {text}" for way in self.ways.values() for text in way.fallbacks]

    def told(self) -> list[dict[str, Any]]:
        """Of every way in, for people and for the run's record."""
        return [way.told() for way in self.ways.values()]

    def judge(self) -> None:
        """HostError when the configuration wants no fallback and there is one."""
        found = self.fallbacks()
        if found and self.config.on_fallback == "fail":
            raise HostError("on_fallback = fail: " + "; ".join(found))

    def close(self) -> None:
        """Leaves groups held by the kernel, closes sources."""
        self._stack.close()


FILTERS = ("promiscuous", "all_multicast", "multicast_list")


def _names(loop: Any) -> list[str]:
    return [source.name for source in loop.sources]


def _fallbacks(way: Way) -> list[str]:
    """What this kind of path lacks, beside what was refused."""
    known = way.known
    found: list[str] = []
    if known["clock"] == "capture":
        return found
    if not known["bypass"]:
        found.append("frames pass the kernel: this path does not bypass it")
    if known["losses"] == "unknown":
        found.append("losses on the way are not counted: sequence numbers alone tell of them")
    if known["zero_copy"] is False:
        found.append("AF_XDP without zero copy: each frame is copied")
    return found


def multicast_mac(group: str) -> bytes:
    """RFC 1112 section 6.4, RFC 2464 section 7."""
    packed = ipaddress.ip_address(group).packed
    if len(packed) == 4:
        return bytes([0x01, 0x00, 0x5E, packed[1] & 0x7F, *packed[2:]])
    return b"\x33\x33" + packed[-4:]


def kernel_membership(source: Source, groups: Sequence[str]) -> ExitStack:
    """Sockets that hold the groups on the source's interface until they are closed.

    The kernel sends the IGMP or MLD, answers queries and opens the card's filter.
    """
    name = source.description.interface
    index = socket.if_nametoindex(name)
    held = ExitStack()
    for group in groups:
        address = ipaddress.ip_address(group)
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        holder = held.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        try:
            if address.version == 4:  # struct ip_mreqn: group, local address, index
                request = struct.pack("=4s4sI", address.packed, bytes(4), index)
                holder.setsockopt(socket.IPPROTO_IP, IP_ADD_MEMBERSHIP, request)
            else:
                request = struct.pack("=16sI", address.packed, index)
                holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
        except OSError as error:
            held.close()
            raise HostError(
                f"{source.spec}: cannot join {group} on {name}: {error.strerror}; "
                f"the interface must be up: ip link set {name} up"
            ) from error
    return held


def interface_address(name: str) -> str:
    """The first IPv4 address of a kernel interface; "" when it has none (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16s24x", name.encode()[:15])
        try:
            answer = fcntl.ioctl(probe, SIOCGIFADDR, request)
        except OSError:
            return ""
    return str(ipaddress.IPv4Address(answer[20:24]))


class Answerer:
    """A ``struct answer`` for a source of ours alone: ARP, ICMP echo, IGMP for its groups."""

    def __init__(self, way: Way) -> None:
        interface = way.sources[0].description.interface
        address = ipaddress.IPv4Address(way.address or interface_address(interface) or 0)
        mac = bytearray.fromhex(way.known["mac"].replace(":", ""))
        if way.sources[0].description.kind.makes:
            mac[5] ^= 1  # the port's own is that of the kernel on the other side
        config = ffi.new(
            "struct answer_config *",
            {
                "mac": list(mac),
                "ip_be": int.from_bytes(address.packed, "little"),
                "seed": random.getrandbits(64),
                "refresh_ns": REFRESH_NS,
            },
        )
        out = ffi.new("struct answer **")
        check(lib.answer_create(config, out), f"answers of {way.name}")
        self.pointer = ffi.gc(out[0], lib.answer_destroy)
        self._groups = [
            int.from_bytes(ipaddress.ip_address(group).packed, "little")
            for group in way.groups
            if ipaddress.ip_address(group).version == 4
        ]
        for group in self._groups:
            check(lib.answer_join(self.pointer, group), f"groups of {way.name}")

    def leave(self) -> None:
        """All groups; the engine's farewell says so on the wire."""
        for group in self._groups:
            lib.answer_leave(self.pointer, group)

    def stats(self) -> dict[str, int]:
        """Of what was asked and answered."""
        out = ffi.new("struct answer_stats *")
        lib.answer_stats(self.pointer, out)
        return {name: int(getattr(out, name)) for name, _ in ffi.typeof(out).item.fields}
