"""Tables out of a replay: events, venue messages, books; as npy, CSV or Parquet."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pydpdk._core import ffi, lib
from pydpdk.core import layout
from pydpdk.errors import DataError, HostError, UsageError
from pydpdk.lockstep.replay import Replay
from pydpdk.lockstep.result import columns, levels

TAP_BYTES = 1 << 24
Array = np.ndarray[Any, Any]


def check_output(path: Path) -> None:
    """Refuse an ending that cannot be written, before any work is done."""
    if path.suffix not in WRITERS:
        raise UsageError(f"{path}: the name must end in one of {', '.join(WRITERS)}")
    if path.suffix == ".parquet":
        _pyarrow()
    if not path.parent.is_dir():
        raise UsageError(f"{path}: folder {path.parent} does not exist")


def export(
    replay: Replay,
    what: str,
    path: Path,
    *,
    depth: int = 10,
    progress: Callable[[int], None] = lambda frames: None,
) -> dict[Path, int]:
    """Run ``replay`` and write ``what``; returns rows by file written. It keeps its events."""
    if what == "messages":
        tables = {
            path.with_name(f"{path.stem}.{name}{path.suffix}"): table
            for name, table in messages(replay, progress).items()
        }
    else:
        replay.run(lambda frames, now: progress(frames))
        tables = {path: replay.events() if what == "events" else levels(replay.engine, depth)}
    for target, table in tables.items():
        write(target, table)
    return {target: len(table) for target, table in tables.items()}


def messages(replay: Replay, progress: Callable[[int], None]) -> dict[str, Array]:
    """Delivered messages by name: ``sequence``, ``ts_recv``, the fields of the venue's struct.

    Fields are plain columns (layout.values): prices in 1e-9, times in ns; ``type`` is a letter.
    Messages of unknown type or wrong length are left out, as by the decoder. DataError when
    one step delivers more than the tap can hold.
    """
    feed = replay.engine.feeds[0]
    types = layout.messages(feed.spec.protocol)
    grows = lib.protocol_find(feed.spec.protocol.encode()).grows
    buffer = np.zeros(TAP_BYTES, np.uint8)
    tap = ffi.new(
        "struct tap *", {"buffer": ffi.from_buffer("uint8_t[]", buffer), "room": TAP_BYTES}
    )
    found: dict[str, list[Array]] = {}
    lib.feed_tap(feed.pointer, tap)
    try:
        more = True
        while more:
            more = replay.cycle()
            if tap.lost:
                raise DataError(f"{tap.lost} messages of one step need over {TAP_BYTES} bytes")
            if tap.used > TAP_BYTES // 2 or not more:
                _sort_out(buffer[: tap.used], types, grows, found)
                tap.used = 0
                progress(replay.engine.counters()["frames_received"])
    finally:
        lib.feed_tap(feed.pointer, ffi.NULL)
    return {name: np.concatenate(parts) for name, parts in sorted(found.items())}


def _sort_out(
    tapped: Array, types: dict[str, Any], grows: bool, found: dict[str, list[Array]]
) -> None:
    """Group tapped messages by type; each group is gathered by one fancy index.

    ``grows``: IEX adds fields at the end of its messages, so a longer one is known by its begin.
    """
    head = layout.dtype("tap_record")
    starts = lib.tap_starts(ffi.from_buffer("uint8_t[]", tapped), len(tapped), ffi.NULL, 0)
    at = np.zeros(starts, np.uint64)
    lib.tap_starts(
        ffi.from_buffer("uint8_t[]", tapped), len(tapped), ffi.from_buffer("uint64_t[]", at), starts
    )
    lengths = _gather(tapped, at, head)["len"]
    at, lengths = at[lengths > 0], lengths[lengths > 0]
    kinds = tapped[at + head.itemsize]
    for letter, kind in types.items():
        fits = lengths >= kind.length if grows else lengths == kind.length
        rows = at[(kinds == ord(letter)) & fits]
        if not len(rows):
            continue
        records = _gather(tapped, rows, head)
        bodies = _gather(tapped, rows + head.itemsize, kind.dtype)
        found.setdefault(kind.name, []).append(
            _table({
                "sequence": records["sequence"],
                "ts_recv": records["ts_recv"],
                **layout.values(kind.struct, bodies),
                "type": np.full(len(rows), letter, "S1"),
            })
        )  # fmt: skip


def _gather(data: Array, at: Array, kind: np.dtype[Any]) -> Array:
    index = at[:, None].astype(np.int64) + np.arange(kind.itemsize)
    return np.ascontiguousarray(data[index]).view(kind)[:, 0]


def _table(parts: dict[str, Array]) -> Array:
    rows = len(next(iter(parts.values())))
    table = np.zeros(rows, [(name, column.dtype) for name, column in parts.items()])
    for name, column in parts.items():
        table[name] = column
    return table


def write(path: Path, table: Array) -> None:
    """Write one table under a temporary name, then rename: a file is whole or absent."""
    part = path.with_name(path.name + ".part")
    try:
        WRITERS[path.suffix](part, table)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _write_npy(path: Path, table: Array) -> None:
    """The format has no overlapping fields: a union's are written side by side."""
    with path.open("wb") as file:
        np.save(file, _table(columns(table)))


def _write_csv(path: Path, table: Array) -> None:
    import csv

    parts = columns(table)
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(parts)
        rows.writerows(zip(*(map(_text, c.tolist()) for c in parts.values()), strict=True))


def _text(value: Any) -> Any:
    return value.rstrip(b" \0").decode("latin-1") if isinstance(value, bytes) else value


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise HostError("Parquet needs pyarrow: pip install 'pydpdk[parquet]'") from None
    return pyarrow


def _write_parquet(path: Path, table: Array) -> None:
    pyarrow = _pyarrow()
    parts = {
        name: pyarrow.array([_text(v) for v in c.tolist()] if c.dtype.kind in "SV" else c)
        for name, c in columns(table).items()
    }
    pyarrow.parquet.write_table(pyarrow.table(parts), path)


WRITERS: dict[str, Callable[[Path, Array], None]] = {
    ".npy": _write_npy,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}
