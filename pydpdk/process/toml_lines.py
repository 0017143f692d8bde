"""In which line of a TOML file a key stands: tomllib gives values alone.

The text was read by tomllib before, so it is well formed and the scanner only has to tell where
keys and values begin and end. A path is what leads to a value: ``("feeds", 0, "lines", 1)`` is the
second entry of ``lines`` in the first ``[[feeds]]``.
"""

from __future__ import annotations

import re
import tomllib
from typing import NoReturn

from pydpdk.errors import UsageError

Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"""+'
    r"|'''(?:[^']|'(?!''))*'''+"
    r'|"(?:[^"\\]|\\.)*"'
    r"|'[^']*'",
    flags=re.S,
)
_SCALAR = re.compile(r"[^,\]}#\n]+")


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {}
        self.arrays: dict[Path, int] = {}  # [[tables]] and how many there were
        self._counted, self._line = 0, 1

    def take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            self.lost()
        self.at = found.end()
        return found[0]

    def lost(self) -> NoReturn:
        raise UsageError(f"line {self.line()}: not understood: {self.text[self.at :][:20]!r}")

    def line(self) -> int:
        """The line of the place reached; it never goes back."""
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line

    def skip(self, token: str) -> bool:
        """Go on behind the token, if it stands here."""
        here = self.text.startswith(token, self.at)
        self.at += len(token) * here
        return here

    def note(self, path: Path) -> None:
        """The first time that a path, or a table above it, is named."""
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], self.line())

    def document(self) -> None:
        table: Path = ()
        while self.take(_BLANK) is not None and self.at < len(self.text):
            if self.skip("[["):
                table = self.header(more=True)
            elif self.skip("["):
                table = self.header(more=False)
            else:
                self.pair(table)

    def header(self, more: bool) -> Path:
        """``[a.b]`` or ``[[a.b]]``: a name of an array of tables means its newest."""
        keys, path = self.key(), Path()
        for i, key in enumerate(keys):
            path += (key,)
            if more and i == len(keys) - 1:
                self.arrays[path] = self.arrays.get(path, 0) + 1
            if path in self.arrays:
                path += (self.arrays[path] - 1,)
        self.note(path)
        self.take(re.compile(r"\]\]?"))
        return path

    def pair(self, table: Path) -> None:
        path = table + self.key()
        self.note(path)
        if not self.skip("="):
            self.lost()
        self.take(_SPACE)
        self.value(path)

    def key(self) -> tuple[str, ...]:
        """Dotted, with blanks around and behind it."""
        parts = []
        while True:
            self.take(_SPACE)
            quoted = self.text[self.at : self.at + 1] in ('"', "'")
            raw = self.take(_STRING if quoted else _BARE_KEY)
            parts.append(str(tomllib.loads(f"key = {raw}")["key"]) if quoted else raw)
            self.take(_SPACE)
            if not self.skip("."):
                return tuple(parts)

    def value(self, path: Path) -> None:
        if self.text[self.at : self.at + 1] in ('"', "'"):
            self.take(_STRING)
        elif self.skip("["):
            self.array(path)
        elif self.skip("{"):
            self.inline(path)
        else:
            self.take(_SCALAR)

    def array(self, path: Path) -> None:
        index = 0
        while self.take(_BLANK) is not None and not self.skip("]"):
            self.note((*path, index))
            self.value((*path, index))
            index += 1
            self.take(_BLANK)
            self.skip(",")

    def inline(self, path: Path) -> None:
        while self.take(_SPACE) is not None and not self.skip("}"):
            self.pair(path)
            self.take(_SPACE)
            self.skip(",")


def toml_lines(text: str) -> dict[Path, int]:
    """The line, from 1, of every key, table and array entry of a TOML text that tomllib reads."""
    scanner = _Scanner(text.replace("\r\n", "\n"))
    scanner.document()
    return scanner.lines


def line_of(lines: dict[Path, int], path: Path) -> int:
    """The line of a path, or of the nearest thing above it; 1 for the file."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)
