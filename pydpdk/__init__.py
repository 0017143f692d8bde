"""A market-data appliance: captures and ports in, books and orders out.

What stands here is imported when it is first used, so that ``import pydpdk`` is quick; its types
are in ``__init__.pyi``.
"""

from __future__ import annotations

import importlib

_PLACES = {
    "core.books": ("Books",),
    "core.event": ("ASK", "BID", "EVENT", "KINDS", "Event", "Events", "Quote"),
    "core.hist": ("Hist",),
    "core.instruments": ("Instruments",),
    "core.layout": ("UNDEF_PRICE",),
    "core.ring": ("Reader", "Ring"),
    "engine.engine": ("Engine",),
    "engine.feed": ("Feed",),
    "errors": ("CoreError", "DataError", "HostError", "PydpdkError", "UsageError"),
    "lockstep.replay": ("BrokenSourceError", "Replay", "replay"),
    "lockstep.result": ("Result",),
    "process.supervisor": ("run",),
    "source.source": ("open_source",),
    "stage.orders": ("OrderLimitError", "Orders"),
    "stage.stage": ("Stage", "StageError"),
    "trade.limits": ("AccountLimits", "Limits", "RiskConfig"),
    "trade.risk": ("Risk",),
}
_MODULES = {name: f"pydpdk.{place}" for place, names in _PLACES.items() for name in names}
__all__ = sorted([*_MODULES, "__version__"])


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        found: object = version("pydpdk")
    elif name in _MODULES:
        found = getattr(importlib.import_module(_MODULES[name]), name)
    else:
        raise AttributeError(f"module 'pydpdk' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
