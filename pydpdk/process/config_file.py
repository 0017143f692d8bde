"""A TOML file as its reader needs it: tables, the line of each key, and refusals that name both."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from pydpdk.errors import UsageError
from pydpdk.process.toml_lines import Path as Key
from pydpdk.process.toml_lines import line_of, toml_lines

SHOWN = 60  # characters of a wrong value


def listed(words: Sequence[str]) -> str:
    """``a, b or c``."""
    return " or ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def meant(word: Any, words: Sequence[str]) -> str:
    """A question, if one of the words looks like this one; else ""."""
    close = get_close_matches(word, words, 1) if isinstance(word, str) else []
    return f" (did you mean {close[0]!r}?)" if close else ""


def cpus() -> set[int]:
    """CPUs of this host that are on, also those that the scheduler leaves alone."""
    try:
        text = Path("/sys/devices/system/cpu/online").read_text().strip()
    except OSError:
        return set(range(os.cpu_count() or 1))
    ranges = [part.partition("-") for part in text.split(",")]
    return {cpu for low, _, high in ranges for cpu in range(int(low), int(high or low) + 1)}


def leaves(tables: Mapping[str, Any]) -> Iterator[tuple[Key, dict[str, Any]]]:
    """Every value's path, and the tables with that value alone."""
    for key, value in tables.items():
        inner = leaves(value) if isinstance(value, Mapping) and value else [((), value)]
        for path, alone in inner:
            yield (key, *path), {key: alone}


def shown(key: Key) -> str:
    """``feeds[0].lines[1]``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key)
    return text.removeprefix(".")


@dataclass(frozen=True)
class File:
    """What stands in a TOML file, and where. Floats are Decimal."""

    path: Path
    tables: dict[str, Any]
    lines: dict[Key, int]

    @classmethod
    def read(cls, path: Path) -> File:
        """UsageError when it cannot be read or is not TOML."""
        try:
            text = path.read_bytes().decode()
            tables = tomllib.loads(text, parse_float=Decimal)
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise UsageError(f"{path}, line {line}: not UTF-8: {error.reason}") from error
        except (tomllib.TOMLDecodeError, InvalidOperation, RecursionError, ValueError) as error:
            found = re.search(r"at line (\d+)", str(error))
            line = int(found[1]) if found else text.count("\n") + 1
            raise UsageError(f"{path}, line {line}: not TOML: {error}") from error
        return cls(path, tables, toml_lines(text))

    def refuse(self, key: Key, why: str) -> NoReturn:
        """One error, with the line of the key or of the nearest table above it."""
        what = f"{shown(key)}: " if key else ""
        raise UsageError(f"{self.path}, line {line_of(self.lines, key)}: {what}{why}")

    @contextmanager
    def blaming(self, key: Key, value: Any) -> Iterator[None]:
        """Errors of a check become this file's: key, what was found, what is allowed."""
        try:
            yield
        except (ValueError, UsageError) as error:
            why = str(error)
            named = value is None or (isinstance(value, str) and repr(value) in why)
            self.refuse(key, why if named else f"{_short(value)}: {why}")

    def table(self, value: Any, key: Key, wanted: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.refuse(key, f"{'missing' if value is None else _short(value)}: must be {wanted}")
        return value

    def keys(
        self, value: Any, key: Key, known: Sequence[str], required: Sequence[str] = ()
    ) -> dict[str, Any]:
        """A table that has only known keys, and all that are required."""
        table = self.table(value, key, "a table")
        for name in table:
            if name not in known:
                hint = meant(name, known)
                self.refuse((*key, name), f"unknown key{hint}; known: {', '.join(known)}")
        for name in required:
            if name not in table:
                self.refuse(key, f"the key {name!r} is missing")
        return table

    def array(self, top: Mapping[str, Any], name: str) -> list[tuple[Key, Any]]:
        """Path and content of each ``[[name]]``."""
        value = top.get(name, [])
        if not isinstance(value, list):
            self.refuse((name,), f"must be an array of tables: [[{name}]]")
        return [((name, i), entry) for i, entry in enumerate(value)]


def _short(value: Any) -> str:
    text = repr(value) if not isinstance(value, Decimal) else str(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
