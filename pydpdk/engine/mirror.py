"""A feed's books rebuilt from its records, where the engine's own are in another process."""

from __future__ import annotations

from typing import Any

from pydpdk._core import ffi, lib
from pydpdk.core.books import Books
from pydpdk.core.closes import Closes
from pydpdk.core.event import Events, records
from pydpdk.engine.feed import Feed
from pydpdk.errors import check

QUOTES_ONLY = {"tops16"}  # protocols whose books are their quotes


class Mirror(Closes):
    """The books of feed number ``index``, made of memory like the engine's own."""

    def __init__(self, feed: Feed, index: int = 0) -> None:
        """CoreError: ENOMEM, EINVAL."""
        config = ffi.new(
            "struct books_config *",
            {"orders_max": feed.orders_max, "levels_max": feed.levels_max, "seed": feed.seed},
        )
        out = ffi.new("struct mirror **")
        quotes_only = feed.protocol in QUOTES_ONLY
        check(lib.mirror_create(config, index, quotes_only, out), f"mirror of {feed}")
        self._mirror = ffi.gc(out[0], lib.mirror_destroy)
        self.index = index
        self.books = Books(lib.mirror_books(self._mirror))

    def apply(self, events: Events, lost: int = 0) -> None:
        """Take in records of the ring, in order; ``lost`` of them are missing before the first."""
        lib.mirror_apply(self._mirror, records(events), len(events), lost)

    @property
    def gaps(self) -> Any:
        """``const uint32_t *`` on the gap count: books whose epoch is older are suspect."""
        return lib.mirror_gaps(self._mirror)

    @property
    def stats(self) -> dict[str, int]:
        """``records`` applied, ``refused`` (did not fit: a fault), ``breaks`` in the stream."""
        stats = lib.mirror_stats(self._mirror)
        return {name: int(getattr(stats, name)) for name in ("records", "refused", "breaks")}

    def close(self) -> None:
        """Let go of the books. Views of them die with the last holder."""
        self.books.close()
