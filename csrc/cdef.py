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


ffibuilder = cffi.FFI()
headers = os.environ["CDEF_HEADERS"].split()
for name in headers:
    ffibuilder.cdef(cdef(name))
ffibuilder.set_source("pydpdk._core", "\n".join(f'#include "{name}"' for name in headers))
