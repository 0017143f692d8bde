"""What holds something until it is closed, as a context manager."""

from __future__ import annotations

from typing import Self


class Closes:
    """Closed at the end of ``with``; a subclass says in close() what that is."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
