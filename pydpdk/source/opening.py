"""How a source of each kind is opened: from a description to ``struct source *``.

Each gets a checked description and a wish, EAL running where its kind needs it, and returns a
pointer for each queue granted. Errors: UsageError, HostError, DataError.
"""

from __future__ import annotations

import itertools
import os
import re
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydpdk._core import ffi, lib
from pydpdk.errors import DataError, HostError, UsageError
from pydpdk.source import eal
from pydpdk.source.description import Description
from pydpdk.source.requirements import Shape, Wish

HEADROOM = 128  # RTE_PKTMBUF_HEADROOM
POOL_BYTES = 16 << 20  # of one queue's mbufs
DESCRIPTORS = 1024  # of a queue, for receiving; for sending half as many


def new_reason() -> Any:
    """Room for what the core says."""
    return ffi.new("char[]", lib.REASON_SIZE)


def text(chars: Any) -> str:
    """Of a char array of the core."""
    return str(ffi.string(chars).decode(errors="replace"))


def capture(description: Description, _: Wish) -> list[Any]:
    """A file, by our own reader."""
    return [open_capture(description.argument, description.spec)]


def open_capture(path: str, spec: str) -> Any:
    """Of a path; DataError names it ``spec``."""
    out, reason = ffi.new("struct source **"), new_reason()
    if lib.capture_open(os.fsencode(path), out, reason) < 0:
        raise DataError(f"{spec}: {text(reason)}")
    return out[0]


def link_type(path: str) -> int:
    """Of a capture's first frame; -1 when it has none."""
    source = open_capture(path, path)
    try:  # a pcapng file may name it only before a frame
        source.burst(source, ffi.new("struct packet[]", 1), 1)
        return int(lib.capture_info(source).link)
    finally:
        lib.source_close(source)


def packet_socket(description: Description, wish: Wish) -> list[Any]:
    """A kernel interface, without DPDK; one queue whatever is wished for."""
    out, reason = ffi.new("struct source **"), new_reason()
    shape = description.kind.shape(description.argument, wish)
    name = ffi.new("char[]", os.fsencode(shape.interface))
    config = ffi.new(
        "struct tpacket_config *",
        {
            "interface": name,
            "clock": wish.clock.pointer if wish.clock else ffi.NULL,
            "ring_mb": wish.rx_ring_mb,
            "mtu": shape.mtu,
            "promiscuous": wish.promiscuous,
        },
    )
    if lib.tpacket_open(config, out, reason) < 0:
        raise HostError(f"{description.spec}: {text(reason)}")
    return [out[0]]


def port(description: Description, wish: Wish) -> list[Any]:
    """A DPDK port."""
    if not 1 <= wish.queues <= lib.PORT_QUEUES_MAX:
        most = lib.PORT_QUEUES_MAX
        raise UsageError(f"{description.spec}: queues={wish.queues}: a port has 1 to {most}")
    out, reason = ffi.new("struct source *[]", wish.queues), new_reason()
    with ExitStack() as until_open:
        devargs, shape = _devargs(description, wish, until_open)
        names = devargs, devargs.partition(",")[0], shape.interface
        keep = [ffi.new("char[]", os.fsencode(name)) for name in names]
        config = _config(shape)
        config.devargs, config.name, config.interface = keep
        config.clock = wish.clock.pointer if wish.clock else ffi.NULL
        config.queues = wish.queues
        config.cut_at = shape.cut_at
        config.flags = _flags(description) | wish.promiscuous * lib.PORT_PROMISCUOUS
        rc = lib.port_open(config, out, reason)
    if rc < 0:
        hint = description.kind.hint and f" ({description.kind.hint})"
        raise HostError(f"{description.spec}: DPDK did not open {devargs}: {text(reason)}{hint}")
    return list(out[0:rc])


def queue_bytes(mtu: int) -> int:
    """Bytes of EAL's memory that the pools of one queue take; 0 in a build without DPDK."""
    return int(lib.port_queue_bytes(_config(Shape(mtu=mtu)))) if eal.version() else 0


def _config(shape: Shape) -> Any:
    """Sizes of a queue."""
    return ffi.new(
        "struct port_config *",
        {
            "mbufs": POOL_BYTES // shape.mbuf,
            "mbuf_size": shape.mbuf + HEADROOM,
            "rx_descriptors": DESCRIPTORS,
            "tx_descriptors": DESCRIPTORS // 2,
            "mtu": shape.mtu,
        },
    )


def _flags(description: Description) -> int:
    kind = description.kind
    return int(
        description.ends * lib.PORT_ENDS
        | (kind.losses != "counted") * lib.PORT_BLIND
        | kind.stamped * lib.PORT_STAMPS
    )


_numbers = itertools.count()  # vdev names must differ within a process


def _devargs(description: Description, wish: Wish, until_open: ExitStack) -> tuple[str, Shape]:
    kind, argument = description.kind, description.argument
    shape = kind.shape(argument, wish)
    if description.vdev:  # has arguments of its own
        return description.vdev, replace(shape, more="", cut_at=0)
    if not kind.driver:  # the argument is the device
        return argument, shape
    if kind.file:
        argument = _plain_path(argument, until_open)
    own = f"{kind.key}={argument}" if kind.key else argument
    return f"{kind.driver}{next(_numbers)},{own}{shape.more}".rstrip(","), shape


def _plain_path(name: str, until_open: ExitStack) -> str:
    """The file under a name that device arguments can carry: no comma, space, bracket...

    From DPDK 24.11 on they have 127 bytes in all.
    """
    path = Path(name).absolute()
    if re.fullmatch(r"[\w./+-]{1,80}", str(path), flags=re.A):
        return str(path)
    link = Path(until_open.enter_context(tempfile.TemporaryDirectory(prefix="pydpdk-")), "capture")
    link.symlink_to(path)
    return str(link)
