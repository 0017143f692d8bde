"""numpy dtypes by reflection from the compiled C headers: the headers are the schema."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from pydpdk._core import ffi

UNDEF_PRICE = 2**63 - 1


@cache
def dtype(struct: str) -> np.dtype[Any]:
    """The dtype of ``struct NAME`` of the C core: same offsets, same size, unions overlap."""
    return _dtype(ffi.typeof(f"struct {struct}"))


def _dtype(ctype: Any) -> np.dtype[Any]:
    if ctype.kind == "primitive":
        return _primitive(ctype)
    if ctype.kind == "pointer":
        return np.dtype(np.uintp)
    if ctype.kind == "array":
        if ctype.item.cname == "char":
            return np.dtype(f"S{ctype.length}")
        return np.dtype((_dtype(ctype.item), (ctype.length,)))
    fields: dict[str, tuple[np.dtype[Any], int]] = {}
    _collect(ctype, 0, fields)
    return np.dtype({
        "names": list(fields),
        "formats": [kind for kind, _ in fields.values()],
        "offsets": [offset for _, offset in fields.values()],
        "itemsize": ffi.sizeof(ctype),
    })


def _collect(ctype: Any, base: int, fields: dict[str, tuple[np.dtype[Any], int]]) -> None:
    """Add the fields of a struct or union; those of anonymous members as if they were its own."""
    for name, field in ctype.fields:
        if not name:
            _collect(field.type, base + field.offset, fields)
        elif not name.startswith("pad"):
            fields[name] = (_dtype(field.type), base + field.offset)


def _primitive(ctype: Any) -> np.dtype[Any]:
    size = ffi.sizeof(ctype)
    if ctype.cname == "char":
        return np.dtype("S1")
    if ctype.cname in ("float", "double"):
        return np.dtype(f"f{size}")
    signed = int(ffi.cast(ctype, -1)) < 0
    return np.dtype(f"{'i' if signed else 'u'}{size}")
