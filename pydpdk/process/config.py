"""What ``pydpdk run`` runs: one TOML file, checked whole before anything starts.

Nothing here opens a device, starts EAL or runs a strategy. The first thing wrong is one UsageError
that names file, line, key, what was found and what is allowed. :func:`example` is the reference.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Any

from pydpdk._core import lib
from pydpdk.engine.feed import Endpoint, Feed
from pydpdk.errors import UsageError
from pydpdk.process import config_file
from pydpdk.process.config_file import File, listed
from pydpdk.process.toml_lines import Path as Key
from pydpdk.source import eal
from pydpdk.source.source import Description, parse
from pydpdk.trade.limits import RiskConfig, read_config


@dataclass(frozen=True)
class Source:
    """A port or capture; sizes in MB of 2**20 bytes."""

    name: str
    device: Description
    rx_ring_mb: int = 64
    mtu: int = 1500
    address: str = ""  # our IPv4 on that port where no kernel owns it
    flight_mb: int = 64  # flight recorder, 0: off


@dataclass(frozen=True)
class FeedPlan:
    """A feed, the core that receives it (None: not pinned) and the names of its sources."""

    feed: Feed
    core: int | None
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Loop:
    """What one receive core does; None is the loop that is not pinned."""

    core: int | None
    feeds: tuple[FeedPlan, ...]
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class Stage:
    """A strategy as ``load_strategy`` takes it, and the loop (by its core) whose ring it reads."""

    strategy: str
    core: int | None
    limits: RiskConfig
    params: tuple[str, ...] = ()  # "name=value", as load_strategy takes them
    policy: str = "skip"  # skip, block
    on_error: str = "freeze"  # freeze, restart
    cpu: int | None = None  # CPU of its process; None: not pinned


@dataclass(frozen=True)
class Config:
    """A whole run."""

    path: Path
    name: str
    sources: tuple[Source, ...]
    feeds: tuple[FeedPlan, ...]
    stages: tuple[Stage, ...]
    eal: eal.Options
    on_fallback: str = "warn"  # fail, warn, allow
    restart: str = "always"  # always, never
    restarts_max: int = 5  # within restart_window_s
    restart_window_s: int = 60
    ring_slots: int = 1 << 20

    def loops(self) -> list[Loop]:
        """One for each core that feeds name, in their order; feeds without one share a loop."""
        made = []
        for core in dict.fromkeys(feed.core for feed in self.feeds):
            feeds = tuple(feed for feed in self.feeds if feed.core == core)
            used = {name for feed in feeds for name in feed.sources}
            made.append(Loop(core, feeds, tuple(s for s in self.sources if s.name in used)))
        return made

    def queues(self, source: str) -> int:
        """Receive queues that a source needs: one for each loop that reads it."""
        return sum(source in [s.name for s in loop.sources] for loop in self.loops())


# --- values: a check gives the value as it is kept; its ValueError says what is allowed ---

Check = Callable[[Any], Any]


def _integer(low: int, high: int, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"must be an integer from {low} to {high}")
    return value


def _power(low: int, high: int, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value & (value - 1):
        raise ValueError(f"must be a power of two from {low} to {high}")
    return _integer(low, high, value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string")
    return value


def _one_of(*words: str) -> Check:
    def check(value: Any) -> str:
        if value not in words:
            raise ValueError(f"must be {listed(words)}{config_file.meant(value, words)}")
        return str(value)

    return check


def _name(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9-]{1,32}", value):
        raise ValueError("must be 1 to 32 of a-z, 0-9 and '-'")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise ValueError("must be an array of strings")
    return tuple(value)


def _params(value: Any) -> tuple[str, ...]:
    if not isinstance(value, dict) or not all(
        name.isidentifier() and isinstance(entry, (bool, int, float, str))
        for name, entry in value.items()
    ):
        raise ValueError("must be a table of names with a number, a string, true or false each")
    return tuple(f"{name}={entry}" for name, entry in value.items())


def _core(value: Any) -> int:
    have = config_file.cpus()
    if isinstance(value, bool) or not isinstance(value, int) or value not in have:
        raise ValueError(f"must be a CPU of this host: {', '.join(map(str, sorted(have)))}")
    return value


def _address(value: Any) -> str:
    try:
        address = IPv4Address(_text(value))
    except AddressValueError:
        raise ValueError("must be an IPv4 address such as 10.0.0.5") from None
    if address.is_multicast or address.is_loopback or address.is_reserved or int(address) == 0:
        raise ValueError("must be an address that a host can have")
    return str(address)


def _hosts(value: Any) -> tuple[str, ...]:
    hosts = _texts(value)
    if len(hosts) > lib.SOURCES_ALLOWED:
        raise ValueError(f"must be at most {lib.SOURCES_ALLOWED} addresses")
    return tuple(Endpoint.parse(f"{f'[{h}]' if ':' in h else h}:1").host for h in hosts)


def _lines(value: Any) -> tuple[Endpoint, ...]:
    lines = tuple(map(Endpoint.parse, _texts(value)))
    if not 1 <= len(lines) <= lib.LINES_MAX:
        raise ValueError("must be one or two lines, A and B")
    return lines


def _eal_option(key: str, value: Any) -> Any:
    """EAL's own module knows what it takes."""
    eal.arguments(eal.Options(**{key: value}))
    return value


MS_MAX = 600_000
MB_MAX = 1 << 16
TOP: dict[str, Check] = {
    "name": _name,
    "on_fallback": _one_of("fail", "warn", "allow"),
    "restart": _one_of("always", "never"),
    "restarts_max": partial(_integer, 0, 1000),
    "restart_window_s": partial(_integer, 1, 86_400),
    "ring_slots": partial(_power, 1 << 14, 1 << 26),
}
EAL: dict[str, Check] = {
    "hugepages": _flag,
    "memory_mb": lambda value: _eal_option("memory_mb", _integer(64, 1 << 20, value)),
    "extra": lambda value: _eal_option("extra", _texts(value)),
}
SOURCE: dict[str, Check] = {
    "device": lambda value: parse(_text(value)),
    "rx_ring_mb": partial(_integer, 1, MB_MAX),
    "mtu": partial(_integer, 68, 9_600),
    "address": _address,
    "flight_mb": partial(_integer, 0, MB_MAX),
}
FEED: dict[str, Check] = {
    "name": _name,
    "protocol": lambda value: Feed(_text(value)).protocol,
    "lines": _lines,
    "core": _core,
    "sources": _texts,
    "allowed": _hosts,
    "window": partial(_power, 2, 1 << 20),
    "gap_timeout_ms": partial(_integer, 0, MS_MAX),
    "stale_line_ms": partial(_integer, 1, MS_MAX),
    "stale_feed_ms": partial(_integer, 1, MS_MAX),
    "orders_max": partial(_integer, 1, 1 << 28),
    "levels_max": partial(_integer, 1, 1 << 28),
    "compare": _flag,
}
STAGE: dict[str, Check] = {
    "strategy": _text,
    "params": _params,
    "core": _core,
    "limits": lambda value: value,
    "policy": _one_of("skip", "block"),
    "on_error": _one_of("freeze", "restart"),
    "cpu": _core,
}


# --- tables ---


def load(path: str | Path) -> Config:
    """Read and check a configuration. UsageError names file, line, key and what is allowed."""
    file = File.read(Path(path))
    top = file.keys(file.tables, (), (*TOP, "eal", "sources", "feeds", "stages"), ("name",))
    kept = _values(file, {k: v for k, v in top.items() if k in TOP}, (), TOP)
    sources = _sources(file, top)
    feeds = tuple(_feed(file, *entry, sources) for entry in file.array(top, "feeds"))
    _feeds_differ(file, feeds)
    stages = tuple(_stage(file, *entry, feeds) for entry in file.array(top, "stages"))
    options = _values(file, file.keys(top.get("eal", {}), ("eal",), tuple(EAL)), ("eal",), EAL)
    pci = tuple(address for s in sources for address in s.device.eal_options.pci)
    config = Config(
        path=Path(path), sources=sources, feeds=feeds, stages=stages,
        eal=eal.Options(pci=pci, **options), **kept,
    )  # fmt: skip
    _together(file, config)
    return config


def _values(
    file: File, table: Mapping[str, Any], at: Key, checks: Mapping[str, Check]
) -> dict[str, Any]:
    kept = {}
    for key, value in table.items():
        with file.blaming((*at, key), value):
            kept[key] = checks[key](value)
    return kept


def _sources(file: File, top: Mapping[str, Any]) -> tuple[Source, ...]:
    tables = file.table(top.get("sources"), ("sources",), "a table of at least one source")
    made: dict[str, Source] = {}
    for name, given in tables.items():
        at: Key = ("sources", name)
        with file.blaming(at, name):
            _name(name)
        if isinstance(given, str):
            values = _values(file, {name: given}, ("sources",), {name: SOURCE["device"]})
            values = {"device": values[name]}
        else:
            values = _values(file, file.keys(given, at, tuple(SOURCE), ("device",)), at, SOURCE)
        for other in made.values():
            if other.device.spec == values["device"].spec:
                file.refuse(at, f"{other.device.spec} is the device of source {other.name} already")
        made[name] = Source(name, **values)
    if not 1 <= len(made) <= lib.SOURCES_MAX:
        file.refuse(("sources",), f"{len(made)} sources: must be 1 to {lib.SOURCES_MAX}")
    return tuple(made.values())


def _feed(file: File, at: Key, given: Any, sources: tuple[Source, ...]) -> FeedPlan:
    table = file.keys(given, at, tuple(FEED), ("name", "protocol", "lines"))
    values = _values(file, table, at, FEED)
    core, names = values.pop("core", None), [source.name for source in sources]
    chosen = values.pop("sources", tuple(names))
    if not chosen:
        file.refuse((*at, "sources"), "[]: must name a source; leave the key out for all")
    for i, name in enumerate(chosen):
        if name not in names:
            hint = config_file.meant(name, names)
            file.refuse((*at, "sources", i), f"{name!r} is no source: {listed(names)}{hint}")
        if name in chosen[:i]:
            file.refuse((*at, "sources", i), f"{name!r} is named twice")
    for key in ("gap_timeout", "stale_line", "stale_feed"):
        if f"{key}_ms" in values:
            values[f"{key}_us"] = 1000 * values.pop(f"{key}_ms")
    return FeedPlan(Feed(**values), core, chosen)


def _feeds_differ(file: File, feeds: tuple[FeedPlan, ...]) -> None:
    if not 1 <= len(feeds) <= lib.FEEDS_MAX:
        file.refuse(("feeds",), f"{len(feeds)} [[feeds]]: must be 1 to {lib.FEEDS_MAX}")
    names: dict[str, int] = {}
    lines: dict[Endpoint, str] = {}
    for i, plan in enumerate(feeds):
        if plan.feed.name in names:
            file.refuse(("feeds", i, "name"), f"{plan.feed.name!r} is the name of a feed already")
        names[plan.feed.name] = i
        for j, line in enumerate(plan.feed.lines):
            if line in lines:
                file.refuse(
                    ("feeds", i, "lines", j), f"{line} is a line of feed {lines[line]} already"
                )
            lines[line] = plan.feed.name


def _stage(file: File, at: Key, given: Any, feeds: tuple[FeedPlan, ...]) -> Stage:
    table = file.keys(given, at, tuple(STAGE), ("strategy",))
    values = _values(file, table, at, STAGE)
    with file.blaming((*at, "strategy"), values["strategy"]):
        values["strategy"] = _strategy(file.path.parent, values["strategy"])
    values["limits"] = _limits(file, (*at, "limits"), values.get("limits", {}))
    cores = list(dict.fromkeys(feed.core for feed in feeds))
    if "core" in values and values["core"] not in cores:
        pinned = listed([str(core) for core in cores if core is not None]) or "none"
        file.refuse((*at, "core"), f"{values['core']}: no feed is received there; cores: {pinned}")
    values.setdefault("core", cores[0])
    return Stage(**values)


def _strategy(folder: Path, spec: str) -> str:
    """The strategy with its path made whole; its file is read, not run."""
    name, _, cls = spec.rpartition(":")
    if not name or not cls.isidentifier():
        raise ValueError("must be file.py:Class")
    path = folder / name
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise ValueError(f"{path}{line}: {error}") from None
    names = list(_names(tree))
    if cls not in names and "*" not in names:
        raise ValueError(f"{path} has no class {cls}{config_file.meant(cls, names)}")
    return f"{path}:{cls}"


def _names(tree: ast.Module) -> Iterator[str]:
    """What a module's own lines define or import."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _limits(file: File, at: Key, given: Any) -> RiskConfig:
    """A table, or the name of a file with the same tables."""
    if isinstance(given, str):
        with file.blaming(at, given):
            file, at = File.read(file.path.parent / given), ()
            given = file.tables
    tables = file.table(given, at, "a table, or the name of a file")
    try:
        return read_config("limits", tables)
    except UsageError:
        for key, alone in config_file.leaves(tables):  # the first that is wrong by itself
            with file.blaming((*at, *key), None):
                read_config("limits", alone)
        raise


def _together(file: File, config: Config) -> None:
    """What only the whole can tell."""
    receiving = {feed.core: feed.feed.name for feed in config.feeds if feed.core is not None}
    for i, stage in enumerate(config.stages):
        if stage.cpu in receiving:
            feed = receiving[stage.cpu]
            file.refuse(("stages", i, "cpu"), f"{stage.cpu}: feed {feed} is received there")
    if config.eal.pci and not config.eal.hugepages:
        file.refuse(("eal", "hugepages"), "false: must be true for a pci: source")
    for source in config.sources:
        if not source.device.kind.dpdk and (loops := config.queues(source.name)) > 1:
            at: Key = ("sources", source.name)
            file.refuse(at, f"a capture has one queue, and {loops} loops (feeds' cores) want one")


def example() -> str:
    """A whole configuration with every key, commented."""
    return EXAMPLE


EXAMPLE = """\
# pydpdk run CONFIG.toml: a line with a value shows the default, if the key has one.
name = "nasdaq"                 # required: a-z, 0-9, '-'; names the ring and the run's directory
on_fallback = "warn"            # what a source cannot know or do: fail, warn, allow
restart = "always"              # when the engine dies: always, never
restarts_max = 5                # give up after so many ...
restart_window_s = 60           # ... within this time
ring_slots = 1048576            # records of 64 bytes, a power of two

[eal]                           # DPDK's environment layer
hugepages = false               # pci: sources need them
memory_mb = 512
extra = []                      # further EAL options: "--name" or "--name=value"

[sources.a]                     # at least one; or in short, under [sources]: a = "af_packet:eth1"
device = "af_packet:eth1"       # required: af_packet:, af_xdp:, tap:, memif:, pci:, pcap:FILE ...
rx_ring_mb = 64                 # receive ring, where the driver has one of its own
mtu = 1500
address = "10.0.0.5"            # our IPv4 on that port where no kernel owns it; no default
flight_mb = 64                  # last frames kept for the flight recorder, 0: off

[sources.b]
device = "af_packet:eth2"

[[feeds]]                       # at least one
name = "itch"                   # required, each its own
protocol = "itch50"             # required: itch50, tops16, deep10
lines = [                       # required: ADDRESS:PORT of line A, and of line B
    "233.54.12.111:26477",
    "233.49.196.111:26477",
]
core = 0                        # CPU that receives it; absent: a loop that is not pinned
sources = ["a", "b"]            # absent: all
allowed = []                    # addresses that may send it, at most four; empty: any
window = 4096                   # messages that may wait for a gap, a power of two
gap_timeout_ms = 10             # after that long a gap is given up
stale_line_ms = 1500            # a line that is silent for longer is stale
stale_feed_ms = 15000           # likewise the feed
orders_max = 2097152            # resting at once, all instruments
levels_max = 4194304
compare = true                  # a message that came on both lines is compared

[[stages]]                      # any number
strategy = "apps/spread.py:Spread"      # required: file.py:Class, from where this file lies
params = { size = 100 }         # arguments of its constructor; no default
core = 0                        # reads the ring of that receive core; absent: of the first feed's
policy = "skip"                 # skip: never slows the engine down; block: never loses a record
on_error = "freeze"             # a strategy that raised: freeze, restart
cpu = 1                         # CPU of its process; absent: not pinned

[stages.limits]                 # or: limits = "limits.toml", with the tables below
account = { rate_max = 500, rate_window_ms = 1000, open_max = 2000 }
default = { order_size_max = 500, order_value_max = 100000, position_max = 5000 }
"""
