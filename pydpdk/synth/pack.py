"""Writers of wire structs by reflection: the C header is the only place that knows the layout.

Where layout.dtype reads many messages at once, a ``struct.Struct`` writes one, and fastest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from struct import Struct
from typing import Any

from pydpdk._core import ffi

# The wire scalars of csrc/wire/scalar.h; a number is given in the unit of the wire.
CODES = {
    "be16": "H", "be32": "I", "be64": "Q", "px4be": "I", "px8be": "Q", "px4be64": "Q",
    "le16": "H", "le32": "I", "le64": "Q", "px4le": "q", "ns64le": "q", "sec32le": "I",
    "uint8_t": "B", "char": "c",
}  # fmt: skip


@cache
def packer(struct: str) -> Struct:
    """A Struct with the members of ``struct NAME`` in order, those of its header first.

    struct has no 48-bit number. A be16 before an ns48be, ITCH's tracking number and timestamp,
    is one number of 64 bits with them: the time itself when the tracking number is 0.
    """
    ctype = ffi.typeof(f"struct {struct}")
    scalars = ",".join(_scalars(ctype)).replace("be16,ns48be", "be64").split(",")
    little = any("le" in scalar for scalar in scalars)
    packed = Struct("<>"[not little] + "".join(CODES.get(scalar, scalar) for scalar in scalars))
    assert packed.size == ffi.sizeof(ctype)
    return packed


def itch50(kind: str, name: str) -> Callable[..., bytes]:
    """A function that packs the ITCH 5.0 message ``kind``: (locate, time, members...) -> bytes."""
    return partial(packer(f"itch50_{name}").pack, ord(kind))


def _scalars(ctype: Any) -> Iterator[str]:
    """The scalars of a struct in order: a name of CODES, ns48be, or struct's code of an array."""
    for _, field in ctype.fields:
        kind = field.type
        if kind.kind == "array":
            yield f"{kind.length}s"
        elif kind.kind == "struct" and kind.cname.startswith("struct "):
            yield from _scalars(kind)
        else:
            yield kind.cname
