"""The one place that hands the C headers to cffi: their text is the cdef."""

import os
import re
from pathlib import Path

import cffi

HERE = Path(os.environ.get("CSRC", Path(__file__).parent))


def cdef(header: str) -> str:
    """The declarations of a header: preprocessor lines (with their continuations) removed."""
    text = (HERE / header).read_text()
    return re.sub(r"^[ \t]*#(?:.*\\\n)*.*$", "", text, flags=re.M)


core, benches = (os.environ.get(name, "").split() for name in ("CDEF_HEADERS", "BENCH_HEADERS"))


def module(name: str, headers: list[str], shared: cffi.FFI | None = None) -> cffi.FFI:
    """An extension of these headers; the types of the core's are ``shared`` with it."""
    made = cffi.FFI()
    if shared:
        made.include(shared)
    for header in headers:
        made.cdef(cdef(header))
    made.set_source(name, "\n".join(f'#include "{header}"' for header in [*core, *benches]))
    return made


ffibuilder = module("pydpdk._core", core)
if benches:
    ffibuilder = module("pydpdk.bench._bench", benches, ffibuilder)
