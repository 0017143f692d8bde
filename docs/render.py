"""The reference pages in docs/: written heads, then what the core and the docstrings say.

    python docs/render.py [FOLDER]

writes everything below MARK of each page anew.
"""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydpdk
from pydpdk.core import counters, layout
from pydpdk.trade import risk

MARK = "<!-- From here on made by: python docs/render.py -->\n"


def _wire() -> str:
    return "\n".join(f"## {name}\n\n{layout.reference(name)}" for name in layout.protocols())


# --- the public names ---

GROUPS = {
    "Replay": ("replay", "Result", "Replay", "Hist"),
    "Live": ("run",),
    "Strategies": (
        "Stage", "Orders", "Event", "Quote", "Events", "EVENT", "KINDS", "BID", "ASK",
        "UNDEF_PRICE",
    ),
    "Risk": ("RiskConfig", "Limits", "AccountLimits", "Risk"),
    "The parts": ("Feed", "open_source", "Engine", "Books", "Ring", "Reader", "Instruments"),
    "Errors": (
        "PydpdkError", "UsageError", "HostError", "DataError", "BrokenSourceError", "CoreError",
        "StageError", "OrderLimitError",
    ),
    "Version": ("__version__",),
}  # fmt: skip
WIDTH = 96
BRACKETS = re.compile(r"\[(?:[^][]|\[[^][]*\])*\]")


class Raw(str):
    """An annotation as it was written: inspect would quote it."""

    __slots__ = ()
    __repr__ = str.__str__


def reference() -> str:
    """Every name of ``import pydpdk``, by its signature and docstrings, as Markdown."""
    return "\n\n".join(
        "\n\n".join([f"## {title}", *(_entry(name) for name in names)])
        for title, names in GROUPS.items()
    )


def _entry(name: str) -> str:
    thing = getattr(pydpdk, name)
    if inspect.isclass(thing):
        parts = [_call(name, thing), inspect.getdoc(thing) or "", *_init_doc(thing)]
        parts += _attributes(thing)
        parts += [f"#### `{call}`\n\n{doc}" for call, doc in _members(thing)]
    elif inspect.isfunction(thing):
        parts = [_call(name, thing), inspect.getdoc(thing) or ""]
    else:
        parts = [_constant(name, thing)]
    return "\n\n".join([f"### {name}", *filter(None, parts)])


def _call(name: str, thing: Any) -> str:
    made = inspect.isclass(thing) and not hasattr(thing, "_fields")
    if made and not _ours(thing, "__init__"):
        return ""
    return _block(name + _signature(thing))


def _block(text: str) -> str:
    """Code, broken between parameters only."""
    text = BRACKETS.sub(lambda found: found[0].replace(" ", "\0"), text)
    for joint in (": ", " = ", " | ", " -> "):
        text = text.replace(joint, joint.replace(" ", "\0"))
    filled = textwrap.fill(text, WIDTH, subsequent_indent="    ", break_on_hyphens=False)
    return f"```text\n{filled}\n```".replace("\0", " ")


def _signature(thing: Any, bound: bool = False) -> str:
    signature = inspect.signature(thing)
    parameters = list(signature.parameters.values())[int(bound) :]
    return str(
        signature.replace(
            parameters=[p.replace(annotation=_raw(p.annotation)) for p in parameters],
            return_annotation=signature.empty
            if inspect.isclass(thing)
            else _raw(signature.return_annotation),
        )
    )


def _raw(annotation: Any) -> Any:
    annotation = getattr(annotation, "__forward_arg__", annotation)
    return Raw(annotation) if isinstance(annotation, str) else annotation


def _ours(cls: type, name: str) -> Any:
    """A member as this package defines it, else None."""
    for base in cls.__mro__:
        if base.__module__.startswith("pydpdk") and name in vars(base):
            return vars(base)[name]
    return None


def _init_doc(cls: type) -> list[str]:
    doc = getattr(_ours(cls, "__init__"), "__doc__", None)
    return [inspect.cleandoc(doc)] if doc else []


def _members(cls: type) -> Iterator[tuple[str, str]]:
    """Call and docstring of each public member, in the order they are written in."""
    names = [n for base in reversed(cls.__mro__) if base.__module__.startswith("pydpdk")
             for n in vars(base)]  # fmt: skip
    for name in dict.fromkeys(n for n in names if not n.startswith("_")):
        member = _ours(cls, name)
        if isinstance(member, property | functools.cached_property):
            yield name, inspect.getdoc(member) or ""
        elif isinstance(member, classmethod):
            yield f"{cls.__name__}.{name}{_signature(member.__func__, True)}", _doc(member)
        elif inspect.isfunction(member):
            yield f"{name}{_signature(member, True)}", _doc(member)


def _doc(member: Any) -> str:
    return inspect.cleandoc(member.__doc__ or "")


def _attributes(cls: type) -> list[str]:
    """What the strings below attributes say, in the class and in its ``__init__``."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    bodies = [tree.body, *(node.body for node in functions if node.name == "__init__")]
    told = [f"- `{name}`: {doc}" for body in bodies for name, doc in _below(body).items()]
    return ["\n".join(told)] if told else []


def _below(body: list[ast.stmt]) -> dict[str, str]:
    """Docstrings of assignments: the strings that stand below them."""
    found = {}
    for node, below in itertools.pairwise(body):
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        name = getattr(target, "attr", getattr(target, "id", ""))
        if name and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found[name] = " ".join(str(below.value.value).split())
    return found


def _constant(name: str, value: Any) -> str:
    if name == "__version__":
        return "The version, as text."
    module = sys.modules[pydpdk._MODULES[name]]
    doc = _below(ast.parse(inspect.getsource(module)).body).get(name, "")
    if not isinstance(value, int | dict):
        return doc
    return f"{_block(f'{name} = {value}')}\n\n{doc}"


PAGES: dict[str, Callable[[], str]] = {
    "counters.md": counters.table,
    "reference.md": reference,
    "risk.md": risk.reject_table,
    "wire.md": _wire,
}


def page(name: str, text: str) -> str:
    """The page ``text`` with its tables as this build has them."""
    head, _, _ = text.partition(MARK)
    return f"{head}{MARK}\n{PAGES[name]().rstrip()}\n"


def main(folder: Path) -> None:
    """Refresh every page in ``folder``."""
    for name in PAGES:
        path = folder / name
        path.write_text(page(name, path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(Path(*sys.argv[1:] or ["docs"]))
