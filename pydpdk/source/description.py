"""What a source string says, and what is known of its kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydpdk.source.eal import Options
from pydpdk.source.requirements import Shape, Wish, plain_shape


@dataclass(frozen=True)
class Kind:
    """One kind of source: what can be known about it, and how one is opened."""

    prefix: str
    driver: str  # DPDK's name of it; "" is not a vdev
    argument: str  # what stands behind the prefix
    key: str  # of the device argument that carries it; "" when it is the device arguments
    check: Callable[[str], None]  # refuses an argument before anything is opened
    open: Callable[[Description, Wish], list[Any]]  # a struct source * for each queue granted
    losses: str  # "counted", "by the socket" (see :meth:`Source.known`) or "unknown"
    stamps: str  # where ts_recv comes from, and its precision
    truncation: str  # what happens to frames that do not fit
    bypass: bool  # frames never pass the kernel's network stack
    copies: int  # of a frame before its view, the kernel's included
    joins: str  # who holds multicast memberships: "kernel", "own" (IGMP of ours) or "none"
    file: bool = False  # the argument names a capture
    ends: bool = False
    linger_s: float = 0.0  # a sender stays so long: what the peer has not taken dies with us
    waits: bool = False  # frames wait for a slow reader, or are lost where that is counted
    stamped: bool = False  # the driver stamps frames in UTC
    makes: bool = False  # the driver makes its interface, whose MAC is the kernel's on its side
    interface_mtu: bool = False  # its MTU is the interface's, whatever is asked for
    ring: bool = False  # frames come through a socket's ring of rx_ring_mb a queue
    xdp: bool = False  # its socket takes all frames of a queue from the kernel, ARP and IGMP too
    locks: str = ""  # in memory, as RLIMIT_MEMLOCK counts it: "ring", "pools" or "memory" (EAL's)
    capabilities: tuple[str, ...] = ()  # CAP_* needed, the one looked for beforehand first
    hint: str = ""  # what mends it when DPDK does not open the device
    shape: Callable[[str, Wish], Shape] = plain_shape
    eal: Callable[[str], Options] | None = lambda _: Options()  # its needs; None: none of DPDK

    @property
    def dpdk(self) -> bool:
        """Whether a DPDK driver is behind it."""
        return self.eal is not None

    @property
    def needs(self) -> tuple[str, ...]:
        """All CAP_*; CAP_IPC_LOCK only where the limit of locked memory is too low."""
        return (*self.capabilities, *(("CAP_IPC_LOCK",) if self.locks else ()))


@dataclass(frozen=True)
class Description:
    """A parsed source string: `argument` is checked only when the source is opened."""

    spec: str
    kind: Kind
    argument: str
    vdev: str = ""  # the raw string, when it was one

    @property
    def ends(self) -> bool:
        """Whether frames come to an end by themselves."""
        endless = "rx_pcap=" not in self.vdev or "infinite_rx=1" in self.vdev
        return self.kind.ends and not (self.vdev and endless)

    @property
    def interface(self) -> str:
        """The kernel interface that frames come from, "" when there is none."""
        return self.argument if self.kind.key == "iface" else ""

    @property
    def eal_options(self) -> Options:
        """What EAL must be started with for this source."""
        return self.kind.eal(self.argument) if self.kind.eal else Options()
