"""TOML files read into msgspec structs: what is wrong is refused with file, line and key.

A table is a class derived from :class:`Table`; its annotations are all there is to check. msgspec
checks types, ranges, patterns and words; what it cannot know, a function does that the annotation
names (:func:`key`, ``read``). msgspec is slow to import, so only what reads files imports this.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from itertools import product
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec
from msgspec import inspect

from pydpdk.errors import UsageError

Key = tuple[str | int, ...]
"""What leads to a value: ``("feeds", 0, "lines", 1)``."""
T = TypeVar("T")
SHOWN = 60  # characters of a wrong value


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A TOML table: a field for each key."""


def key(
    meaning: str = "",
    *,
    read: Callable[[Any], Any] | None = None,
    wanted: str | None = None,
    example: str | None = None,
    **limits: Any,
) -> msgspec.Meta:
    """What an annotation says of a key: ``Annotated[int, key("bytes", ge=68)]``.

    `read` takes the value as it stands in the file and gives the field's, or raises ValueError or
    UsageError with what is allowed. `wanted`: the same in words where msgspec checks it. `example`:
    TOML text. `limits`: msgspec's own, such as ge, le, pattern, min_length.
    """
    extra = {name: v for name, v in {"read": read, "example": example}.items() if v is not None}
    return msgspec.Meta(title=wanted, description=meaning or None, extra=extra, **limits)


def listed(words: Sequence[str]) -> str:
    """``a, b or c``."""
    return " or ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def meant(word: Any, words: Sequence[str]) -> str:
    """A question, if one of the words looks like this one; else ""."""
    close = get_close_matches(word, words, 1) if isinstance(word, str) else []
    return f" (did you mean {close[0]!r}?)" if close else ""


@dataclass(frozen=True)
class File:
    """The content of a TOML file; floats are Decimal."""

    path: Path
    text: str
    tables: dict[str, Any]

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
        return cls(path, text, tables)

    def refuse(self, key: Key, why: str) -> NoReturn:
        """One error, with the line of the key or of the nearest table above it."""
        parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in key]
        what = "".join(parts).removeprefix(".") + ": " if key else ""
        raise UsageError(f"{self.path}, line {line_of(self.text, key)}: {what}{why}")

    @contextmanager
    def blaming(self, key: Key, value: Any) -> Iterator[None]:
        """Errors of a check become this file's: key, what was found, what is allowed."""
        try:
            yield
        except (ValueError, UsageError) as error:
            why = str(error)
            named = isinstance(value, str) and repr(value) in why
            self.refuse(key, why if named else f"{_short(value)}: {why}")

    def convert(self, kind: type[T], value: Any, key: Key = ()) -> T:
        """The value at `key` as `kind`, a Table. UsageError for the first thing that is wrong.

        msgspec does not tell which entry of a dictionary is wrong: convert them one by one.
        """
        node = inspect.type_info(kind)
        try:
            return msgspec.convert(self._read(node, value, key), kind)
        except msgspec.ValidationError as error:
            path = re.search(r" - at `\$(.*)`$", str(error))
            for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", path[1] if path else ""):
                part = name or int(index)
                node, value, key = _inner(node, part), value[part], (*key, part)
            self._explain(node, value, key)

    def _read(self, node: inspect.Type, value: Any, key: Key) -> Any:
        """The value after every ``read`` that the annotations name."""
        if isinstance(node, inspect.Metadata) and (read := (node.extra or {}).get("read")):
            with self.blaming(key, value):
                return read(value)
        node = _bare(node)
        if isinstance(node, inspect.StructType) and isinstance(value, dict):
            types = {field.encode_name: field.type for field in node.fields}
            return {
                name: self._read(types.get(name, inspect.AnyType()), entry, (*key, name))
                for name, entry in value.items()
            }
        if isinstance(node, inspect.VarTupleType) and isinstance(value, list):
            return [self._read(node.item_type, entry, (*key, i)) for i, entry in enumerate(value)]
        return value

    def _explain(self, node: inspect.Type, value: Any, key: Key) -> NoReturn:
        """Refuse a value that msgspec refused, in the words of this file."""
        if isinstance(table := _bare(node), inspect.StructType) and isinstance(value, dict):
            known = [field.encode_name for field in table.fields]
            for name in value:
                if name not in known:
                    hint = meant(name, known)
                    self.refuse((*key, name), f"unknown key{hint}; known: {', '.join(known)}")
            missing = [f.encode_name for f in table.fields if f.required]
            name = next(name for name in missing if name not in value)
            self.refuse(key, f"the key {name!r} is missing")
        self.refuse(key, f"{_short(value)}: must be {_wanted(node, value)}")


def _bare(node: inspect.Type) -> inspect.Type:
    return node.type if isinstance(node, inspect.Metadata) else node


def _inner(node: inspect.Type, part: str | int) -> inspect.Type:
    """The type of a field or an entry."""
    node = _bare(node)
    if isinstance(node, inspect.StructType):
        return next(field.type for field in node.fields if field.encode_name == part)
    return node.item_type if isinstance(node, inspect.VarTupleType) else inspect.AnyType()


def _wanted(node: inspect.Type, value: Any) -> str:
    """What an annotation allows, in words; `value` is what was found."""
    if isinstance(node, inspect.Metadata):
        return (node.extra_json_schema or {}).get("title") or _wanted(node.type, value)
    match node:
        case inspect.IntType(ge=int(), le=int()):
            return f"an integer from {node.ge} to {node.le}"
        case inspect.LiteralType():
            words = list(map(str, node.values))
            return listed(words) + meant(value, words)
        case inspect.BoolType():
            return "true or false"
        case inspect.VarTupleType():
            return "an array"
        case inspect.StructType() | inspect.DictType():
            return "a table"
    return "an integer" if isinstance(node, inspect.IntType) else "a string"


def _short(value: Any) -> str:
    text = repr(value) if not isinstance(value, Decimal) else str(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


# --- lines: tomllib tells none, but a key stands where the text up to there first has it ---

_CLOSINGS = ["".join(marks) for n in range(4) for marks in product("]}", repeat=n)]


def line_of(text: str, key: Key) -> int:
    """The line of a key in well-formed TOML, or of the nearest thing above it; 1 for the file.

    What stands behind a string of several lines in the same array counts as part of that string.
    """
    lines = text.split("\n")
    whole = _head(lines, len(lines))
    while key and not _has(whole, key):
        key = key[:-1]
    if not key:
        return 1
    low, high = 0, len(lines)  # so many first lines do not have it, and have it
    while True:
        middle = (low + high) // 2
        for n in (*range(middle, low, -1), *range(middle + 1, high)):
            if (head := _head(lines, n)) is not None:
                low, high = (low, n) if _has(head, key) else (n, high)
                break
        else:
            return low + 1


def _head(lines: list[str], n: int) -> Any:
    """The first lines as tables; an array that goes on behind them is closed. None: in a string."""
    text = "\n".join(lines[:n]) + "\n"
    for closing in _CLOSINGS:
        try:
            return tomllib.loads(text + closing)
        except tomllib.TOMLDecodeError:
            continue
    return None


def _has(value: Any, key: Key) -> bool:
    for part in key:
        try:
            value = value[part]
        except (LookupError, TypeError):
            return False
    return True
