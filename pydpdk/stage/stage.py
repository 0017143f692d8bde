"""Strategies: one class, written per event or per batch, that turns records into orders.

A handler is a method named after a record kind of csrc/event.h: ``on_quote`` for EVENT_QUOTE,
``on_fill`` for EVENT_FILL and so on (HANDLERS lists them). Only kinds with a handler are looked
at. A class that defines ``on_batch`` gets whole batches instead, and its ``on_*`` are not called.
Both styles see the same records in the same order, so the same logic gives the same orders.
"""

from __future__ import annotations

import inspect
import io
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import compress
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from pydpdk._core import lib
from pydpdk.core.event import ASK, BID, EVENT, KINDS, Event, Events, Quote, layout_struct
from pydpdk.core.layout import UNDEF_PRICE
from pydpdk.errors import DataError, PydpdkError, UsageError
from pydpdk.stage.orders import OrderLimitError, Orders

__all__ = [
    "ASK", "BID", "EVENT", "HANDLERS", "KINDS", "UNDEF_PRICE", "Event", "Events",
    "OrderLimitError", "Orders", "Quote", "Runner", "Stage", "StageError", "load_strategy",
]  # fmt: skip

HANDLERS: dict[str, int] = {f"on_{name.lower()}": value for name, value in KINDS.items()}
KIND_AT: int = EVENT.fields["kind"][1]  # type: ignore[index]
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class StageError(PydpdkError):
    """A strategy raised. ``index``: the event within the batch, None when it was on_batch."""

    def __init__(self, stage: object, index: int | None, error: Exception) -> None:
        where = "on_batch" if index is None else f"event {index} of its batch"
        name = type(stage).__name__
        super().__init__(f"strategy {name} raised {type(error).__name__} at {where}: {error}")
        self.index = index
        self.traceback = "".join(traceback.format_exception(error))


class Stage:
    """Base of strategies.

    A strategy defines ``on_quote(self, quote, orders)``, ``on_fill(self, fill, orders)`` and so
    on: one method for each kind of record (KINDS) that it wants, named after it in small letters;
    it gets a Quote, else an Event, and Orders. Or it defines ``on_batch(self, events, orders)``
    and gets all records of a batch at once, as a read-only numpy view of dtype EVENT that is
    valid during the call. Both see the same records in the same order.

    ``state = {"field": "dtype" or ("dtype", shape)}`` declares everything that must survive a
    restart: ``self.state`` is one numpy record of these fields, zero at first.
    """

    state: Any = None
    state_dtype: ClassVar[np.dtype[Any]] = np.dtype([])

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in vars(cls):
            if name.startswith("on_") and name not in {"on_batch", *HANDLERS}:
                known = ", ".join(HANDLERS)
                raise TypeError(f"{cls.__name__}.{name} is no handler; on_batch or one of: {known}")
        if isinstance(cls.state, dict):
            cls.state_dtype = _state_dtype(cls.__name__, cls.state)

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Any:
        self = super().__new__(cls)
        self.state = np.zeros(1, cls.state_dtype)[0]
        return self

    def save(self) -> bytes:
        """The state with its declaration."""
        out = io.BytesIO()
        np.save(out, np.array(self.state, self.state_dtype), allow_pickle=False)
        return out.getvalue()

    def load(self, saved: bytes) -> None:
        """Take over a saved state. DataError when it isn't one, or was declared otherwise."""
        try:
            state = np.load(io.BytesIO(saved), allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise DataError(f"not a saved state of {type(self).__name__}: {error}") from error
        if state.shape != () or state.dtype != self.state_dtype:
            raise DataError(
                f"the saved state has fields {state.dtype}, {type(self).__name__} declares "
                f"{self.state_dtype}"
            )
        self.state = state.reshape(1)[0]

    def state_differs(self, other: Stage) -> list[str]:
        """The fields in which two states differ; [] when they are the same, byte for byte."""
        if self.state_dtype != other.state_dtype:
            return sorted({*(self.state_dtype.names or ()), *(other.state_dtype.names or ())})
        names = self.state_dtype.names or ()
        return [n for n in names if self.state[n].tobytes() != other.state[n].tobytes()]


def _state_dtype(owner: str, fields: dict[str, Any]) -> np.dtype[Any]:
    try:
        declared = np.dtype([
            (name, *spec) if isinstance(spec, tuple) else (name, spec)
            for name, spec in fields.items()
        ])  # fmt: skip
    except (TypeError, ValueError) as error:
        raise TypeError(f"{owner}.state: {error}") from error
    if declared.hasobject:
        raise TypeError(f"{owner}.state: Python objects cannot be saved")
    return declared


_Dispatch = tuple[Callable[..., None], Callable[..., Any], Callable[..., Any]]


class Runner:
    """Drives one strategy: batches of records in, records of orders out."""

    def __init__(self, stage: Stage, orders: Orders | None = None) -> None:
        self.stage = stage
        self.orders = orders or Orders()
        self._batch: Callable[[Events, Orders], None] | None = getattr(stage, "on_batch", None)
        self._table: list[_Dispatch | None] = [None] * 256
        for name, kind in HANDLERS.items():
            if (handler := getattr(stage, name, None)) is not None:
                record = Quote if kind == lib.EVENT_QUOTE else Event
                make = partial(tuple.__new__, record)
                self._table[kind] = (handler, make, layout_struct(record._fields).unpack_from)
        self._wanted = bytes(entry is not None for entry in self._table)

    def run(self, events: Events, now: int | None = None) -> Events:
        """The orders that ``events`` (1-d, dtype EVENT) cause; valid until the next run.

        ``now``: the record time of the orders, ns; None takes the last event's ``ts_recv``.
        StageError when the strategy raises; what it issued in this batch is then dropped.
        """
        if now is None:
            now = int(events["ts_recv"][-1]) if len(events) else self.orders.now
        self.orders.begin(now)
        try:
            if self._batch is None:
                self._each(events)
            elif len(events):
                self._whole(self._batch, events)
        except StageError:
            self.orders.begin(now)
            raise
        return self.orders.records

    def _whole(self, on_batch: Callable[[Events, Orders], None], events: Events) -> None:
        if events.flags.writeable:
            events = events.view()
            events.flags.writeable = False
        try:
            on_batch(events, self.orders)
        except Exception as error:
            raise StageError(self.stage, None, error) from error

    def _each(self, events: Events) -> None:
        raw = events.tobytes()
        kinds = raw[KIND_AT :: EVENT.itemsize]
        orders, table, size, index = self.orders, self._table, EVENT.itemsize, 0
        try:
            for index in compress(range(len(kinds)), kinds.translate(self._wanted)):
                handler, make, unpack = table[kinds[index]]  # type: ignore[misc]
                handler(make(unpack(raw, index * size)), orders)
        except Exception as error:
            raise StageError(self.stage, index, error) from error


def load_strategy(spec: str, params: Mapping[str, Any] | Iterable[str] = ()) -> Stage:
    """The strategy of ``"file.py:Class"``, made with ``params``: see arguments().

    UsageError for whatever is wrong with spec, file, class or parameters; it says which.
    """
    path, _, name = spec.rpartition(":")
    if not path or not name.isidentifier():
        raise UsageError(f"strategy {spec!r}: write it as file.py:Class")
    module = _module(Path(path))
    cls = getattr(module, name, None)
    if not (isinstance(cls, type) and issubclass(cls, Stage)):
        have = [n for n, v in vars(module).items() if _is_strategy(v, module)]
        listed = ", ".join(have) or "none"
        raise UsageError(f"{path} has no strategy {name}: the subclasses of Stage in it: {listed}")
    given = arguments(spec, cls, params)
    try:
        made: Stage = cls(**given)
    except Exception as error:
        raise UsageError(f"{spec}: {_raised(error, path)}") from error
    return made


def _is_strategy(value: object, module: ModuleType) -> bool:
    return (
        isinstance(value, type) and issubclass(value, Stage) and value.__module__ == module.__name__
    )


def _module(path: Path) -> ModuleType:
    """Run a file as a module of its own. Nothing is cached: a changed file loads anew."""
    try:
        source = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read strategy file {path}: {error.strerror}") from error
    module = sys.modules[f"strategy {path}"] = ModuleType(f"strategy {path}")
    module.__file__ = str(path)
    try:
        exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise UsageError(f"{path}, line {line or '?'}: {error}") from error
    except Exception as error:
        raise UsageError(_raised(error, str(path))) from error
    return module


def _raised(error: Exception, path: str) -> str:
    """Type, message and the deepest line of the file that led to it."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [str(f.lineno) for f in frames if f.filename == path]
    where = f"{path}, line {lines[-1]}: " if lines else ""
    return f"{where}{type(error).__name__}: {error}"


def arguments(
    spec: str, cls: type[Stage], params: Mapping[str, Any] | Iterable[str]
) -> dict[str, Any]:
    """The arguments of a strategy's class: by name, or of the form ``"name=value"``.

    Such texts are converted to the type that the constructor annotates: int, float, bool or str.
    UsageError, which begins with ``spec``, for what does not fit.
    """
    if isinstance(params, Mapping):
        return dict(params)
    known = inspect.signature(cls.__init__, eval_str=True).parameters
    takes = [n for n, p in known.items() if p.kind in NAMED and n != "self"]
    given = {}
    for param in params:
        name, equals, text = param.partition("=")
        if not equals or name not in takes:
            listed = ", ".join(takes) or "none"
            raise UsageError(f"{spec}: no parameter {param!r}; name=value with one of: {listed}")
        try:
            given[name] = _convert(text, known[name].annotation)
        except ValueError as error:
            wanted = known[name].annotation.__name__
            raise UsageError(f"{spec}: {name}={text!r} is not of type {wanted}") from error
    return given


def _convert(text: str, kind: Any) -> Any:
    if kind is bool:
        words = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
        if text.lower() not in words:
            raise ValueError(text)
        return words[text.lower()]
    return kind(text) if kind in (int, float) else text
