"""The benchmark's own extension: ``ffi`` knows the core's types too, ``lib`` its functions."""

from __future__ import annotations

from pydpdk.errors import HostError

try:
    from pydpdk.bench._bench import ffi, lib
except ModuleNotFoundError as error:
    raise HostError(
        "pydpdk was built without its benchmarks: build it with -Dbench=enabled"
    ) from error

__all__ = ["ffi", "lib"]
