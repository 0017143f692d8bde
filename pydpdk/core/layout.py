"""Layouts by reflection from the compiled C headers: the headers are the schema.

Wire scalars (csrc/wire/scalar.h) become numpy types in their own byte order, so a dtype may
overlay bytes as they came off the wire; ``values`` turns such rows into plain columns. A wire
header that begins a message (member ``h``) is flattened into it.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pydpdk._core import ffi, lib
from pydpdk.errors import UsageError

UNDEF_PRICE = 2**63 - 1
"""The price where there is none, such as the best of an empty side."""

SCALARS: dict[str, Any] = {
    "be16": ">u2",
    "be32": ">u4",
    "be64": ">u8",
    "px4be": ">u4",
    "px8be": ">u8",
    "px4be64": ">u8",
    "ns48be": [("high", ">u2"), ("low", ">u4")],
    "le16": "<u2",
    "le32": "<u4",
    "le64": "<u8",
    "px4le": "<i8",
    "ns64le": "<i8",
    "sec32le": "<u4",
}
PRICE_SCALE = {"px4be": 100_000, "px4le": 100_000, "px8be": 10, "px4be64": 100_000}
"""Wire price times this is a price in 1e-9."""

_SCAPY = {
    "uint8_t": "ByteField",
    "be16": "ShortField",
    "be32": "IntField",
    "be64": "LongField",
    "px4be": "IntField",
    "px8be": "LongField",
    "px4be64": "LongField",
    "le16": "LEShortField",
    "le32": "LEIntField",
    "le64": "LELongField",
    "px4le": "LESignedLongField",
    "ns64le": "LESignedLongField",
    "sec32le": "LEIntField",
}


class Field(NamedTuple):
    """A field of a struct: offset and size in bytes; ``kind`` is its C type."""

    name: str
    offset: int
    size: int
    kind: str


class Message(NamedTuple):
    """A message of a protocol: ``length`` is the specification's, ``struct`` its C struct."""

    name: str
    dtype: np.dtype[Any]
    length: int
    struct: str


@cache
def dtype(struct: str) -> np.dtype[Any]:
    """The dtype of ``struct NAME`` of the C core: same offsets, same size, unions overlap."""
    return _dtype(_struct(struct))


@cache
def fields(struct: str) -> tuple[Field, ...]:
    """Fields of ``struct NAME`` in order, padding left out."""
    return tuple(
        Field(name, offset, ffi.sizeof(kind), str(kind.cname))
        for name, kind, offset in _members(_struct(struct), 0)
    )


@cache
def messages(protocol: str) -> dict[str, Message]:
    """Messages of ``protocol`` ("itch50", ...) by the letter of their type."""
    row = lib.protocol_find(protocol.encode())
    if row == ffi.NULL:
        raise UsageError(f"no protocol {protocol!r}; there are {', '.join(protocols())}")
    prefix = ffi.string(row.prefix).decode()
    found = {}
    for i in range(row.types_count):
        name = ffi.string(row.types[i].name).decode()
        struct = f"{prefix}_{name}"
        found[chr(row.types[i].type)] = Message(name, dtype(struct), row.types[i].length, struct)
    return found


def protocols() -> list[str]:
    """Names of the protocols that this build decodes."""
    return [ffi.string(lib.protocol_at(i).name).decode() for i in range(int(lib.protocol_count()))]


def values(struct: str, data: bytes | npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """Plain native columns of wire rows: a list of messages of one struct, back to back.

    ``data`` is bytes, or rows with the fields of ``struct`` (others pass as they are). Prices
    come as int64 in 1e-9 (UNDEF_PRICE when they do not fit), times of day and of the epoch as
    uint64 ns, numbers in native byte order, text as bytes without its padding NULs.
    """
    rows = np.frombuffer(data, dtype(struct)) if isinstance(data, bytes) else data
    kinds = {field.name: field.kind for field in fields(struct)}
    return {name: _native(rows[name], kinds.get(name, "")) for name in rows.dtype.names or ()}


def build(struct: str, **given: Any) -> bytes:
    """Bytes of one wire struct from numbers in wire units and text.

    Fields not given are 0, text is padded with spaces, and ``type`` is the letter of the
    message. A number that does not fit raises OverflowError, an unknown field TypeError.
    """
    if unknown := given.keys() - {field.name for field in fields(struct)}:
        raise TypeError(f"struct {struct} has no field {', '.join(sorted(unknown))}")
    row = np.zeros(1, dtype(struct))
    for field in fields(struct):
        value = given.get(field.name, _default(struct, field))
        if field.kind.startswith("char"):
            text = value.encode() if isinstance(value, str) else bytes(value)
            if len(text) > field.size:
                raise OverflowError(f"{text!r} is longer than {field.name}'s {field.size} bytes")
            value = text.ljust(field.size)
        elif field.kind == "ns48be":
            value = divmod(value, 1 << 32)
        row[0][field.name] = value
    return row.tobytes()


@cache
def scapy_layer(struct: str) -> Any:
    """A scapy Packet class for ``struct NAME``; numbers in wire units (needs scapy)."""
    from scapy import fields as kinds
    from scapy.packet import Packet

    def desc(field: Field) -> Any:
        default = _default(struct, field)
        if field.kind == "ns48be":
            return kinds.BitField(field.name, default, 48)
        if field.kind.startswith("char"):
            return kinds.StrFixedLenField(field.name, b" " * field.size, field.size)
        return getattr(kinds, _SCAPY[field.kind])(field.name, default)

    return type(
        struct, (Packet,), {"name": struct, "fields_desc": [desc(f) for f in fields(struct)]}
    )


def reference(protocol: str) -> str:
    """The messages of ``protocol`` and their fields, as Markdown."""
    parts = []
    for letter, message in messages(protocol).items():
        rows = [
            f"| {f.offset} | {f.size} | `{f.name}` | {f.kind} |" for f in fields(message.struct)
        ]
        head = f"### `{letter}` {message.name} ({message.length} bytes)\n\n"
        parts.append(
            head + "| offset | size | field | type |\n|--:|--:|---|---|\n" + "\n".join(rows) + "\n"
        )
    return "\n".join(parts)


def _native(column: npt.NDArray[Any], kind: str) -> npt.NDArray[Any]:
    if kind == "ns48be":
        high, low = column["high"].astype(np.uint64), column["low"].astype(np.uint64)
        since_midnight: npt.NDArray[Any] = high << np.uint64(32) | low
        return since_midnight
    if kind == "ns64le":
        return column.astype(np.uint64)
    plain = column.astype(column.dtype.newbyteorder("="))
    if kind not in PRICE_SCALE:
        return plain
    scale = PRICE_SCALE[kind]
    fits = (plain <= UNDEF_PRICE // scale) & (plain >= -(UNDEF_PRICE // scale))
    return np.where(fits, plain.astype(np.int64) * scale, UNDEF_PRICE)


@cache
def _letters() -> dict[str, int]:
    """Type bytes by struct."""
    return {m.struct: ord(letter) for p in protocols() for letter, m in messages(p).items()}


def _default(struct: str, field: Field) -> Any:
    if field.name == "type":
        return _letters().get(struct, 0)
    return b"" if field.kind.startswith("char") else 0


def _struct(struct: str) -> Any:
    try:
        ctype = ffi.typeof(f"struct {struct}")
        ffi.sizeof(ctype)
    except ffi.error as error:
        raise UsageError(f"no layout of struct {struct}: {error}") from error
    return ctype


def _dtype(ctype: Any) -> np.dtype[Any]:
    if ctype.cname in SCALARS:
        scalar: np.dtype[Any] = np.dtype(SCALARS[ctype.cname])
        return scalar
    if ctype.kind == "primitive":
        return _primitive(ctype)
    if ctype.kind == "pointer":
        return np.dtype(np.uintp)
    if ctype.kind == "array":
        if ctype.item.cname == "char":
            return np.dtype(f"S{ctype.length}")
        return np.dtype((_dtype(ctype.item), (ctype.length,)))
    members = _members(ctype, 0)
    return np.dtype(
        {
            "names": [name for name, _, _ in members],
            "formats": [_dtype(kind) for _, kind, _ in members],
            "offsets": [offset for _, _, offset in members],
            "itemsize": ffi.sizeof(ctype),
        }
    )


def _members(ctype: Any, base: int) -> list[tuple[str, Any, int]]:
    """Name, type, offset of each member; those of anonymous ones and of ``h`` as its own."""
    found: list[tuple[str, Any, int]] = []
    for name, field in ctype.fields:
        if name in ("", "h"):
            found += _members(field.type, base + field.offset)
        elif not name.startswith("pad"):
            found.append((name, field.type, base + field.offset))
    return found


def _primitive(ctype: Any) -> np.dtype[Any]:
    size = ffi.sizeof(ctype)
    if ctype.cname == "char":
        return np.dtype("S1")
    if ctype.cname in ("float", "double"):
        return np.dtype(f"f{size}")
    signed = int(ffi.cast(ctype, -1)) < 0
    return np.dtype(f"{'i' if signed else 'u'}{size}")
