"""What ``pydpdk run`` runs: one TOML file, checked whole before anything starts.

Nothing here opens a device, starts EAL or runs a strategy. The first thing wrong is one UsageError
that names file, line, key, what was found and what is allowed. A ``...Table`` is what may stand in
the file, and :func:`example` the reference made of it; a ``...Plan`` is what became of it.
"""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from ipaddress import AddressValueError, IPv4Address, ip_address
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import inspect
from msgspec.structs import asdict

from pydpdk._core import lib
from pydpdk.core.layout import protocols
from pydpdk.core.toml import File, Key, Table, key, listed, meant
from pydpdk.engine.feed import Endpoint, Feed
from pydpdk.source import eal
from pydpdk.source.source import Description, parse
from pydpdk.trade.limits import RiskConfig
from pydpdk.trade.limits_file import read_config

# --- what msgspec cannot check: each takes a value as it stands in the file ---


def cpus() -> set[int]:
    """CPUs of this host that are on, also those that the scheduler leaves alone."""
    try:
        text = Path("/sys/devices/system/cpu/online").read_text().strip()
    except OSError:
        return set(range(os.cpu_count() or 1))
    ranges = [part.partition("-") for part in text.split(",")]
    return {cpu for low, _, high in ranges for cpu in range(int(low), int(high or low) + 1)}


def _cpu(value: Any) -> int:
    have = cpus()
    if type(value) is not int or value not in have:
        raise ValueError(f"must be a CPU of this host: {', '.join(map(str, sorted(have)))}")
    return value


def _power(low: int, high: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if type(value) is not int or not low <= value <= high or value & (value - 1):
            raise ValueError(f"must be a power of two from {low} to {high}")
        return value

    return read


def _text(check: Callable[[str], Any]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, str):
            raise ValueError("must be a string")
        return check(value)

    return read


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9-]{1,32}", text):
        raise ValueError("must be 1 to 32 of a-z, 0-9 and '-'")
    return text


def _address(text: str) -> str:
    try:
        address = IPv4Address(text)
    except AddressValueError:
        raise ValueError("must be an IPv4 address such as 10.0.0.5") from None
    if address.is_multicast or address.is_loopback or address.is_reserved or int(address) == 0:
        raise ValueError("must be an address that a host can have")
    return str(address)


def _eal_option(text: str) -> str:
    eal.arguments(eal.Options(extra=(text,)))
    return text


def _params(value: Any) -> tuple[str, ...]:
    if not isinstance(value, dict) or not all(
        name.isidentifier() and isinstance(entry, bool | int | Decimal | str)
        for name, entry in value.items()
    ):
        raise ValueError("must be a table of names with a number, a string, true or false each")
    return tuple(f"{name}={entry}" for name, entry in value.items())


# --- the tables: key, type, what it means, an example where there is no default ---
# fmt: off

Name = Annotated[str, key(read=_text(_name))]
Milliseconds = Annotated[int, key(ge=1, le=600_000)]
Megabytes = Annotated[int, key(ge=1, le=1 << 16)]
Many = Annotated[int, key(ge=1, le=1 << 28)]
Protocol = Annotated[str, key(read=_text(lambda text: Feed(text).protocol))]
Line = Annotated[Any, key(read=_text(Endpoint.parse))]
Host = Annotated[str, key(read=_text(lambda text: str(ip_address(text))))]
EalOption = Annotated[str, key(read=_text(_eal_option))]


class RunKeys(Table, frozen=True):
    """What concerns the whole run."""

    name: Annotated[Name, key("required: a-z, 0-9, '-'; names the ring and the run's directory",
                              example='"nasdaq"')]
    on_fallback: Annotated[Literal["fail", "warn", "allow"],
                           key("what a source cannot know or do: fail, warn, allow")] = "warn"
    restart: Annotated[Literal["always", "never"],
                       key("when the engine dies: always, never")] = "always"
    restarts_max: Annotated[int, key("give up after so many ...", ge=0, le=1000)] = 5
    restart_window_s: Annotated[int, key("... within this time", ge=1, le=86_400)] = 60
    ring_slots: Annotated[int, key("records of 64 bytes, a power of two",
                                   read=_power(1 << 14, 1 << 26))] = 1 << 20


class EalTable(Table, frozen=True):
    hugepages: Annotated[bool, key("pci: sources need them")] = eal.Options.hugepages
    memory_mb: Annotated[int, key("2**20 bytes", ge=64, le=1 << 20)] = eal.Options.memory_mb
    extra: Annotated[tuple[EalOption, ...],
                     key('further EAL options: "--name" or "--name=value"',
                         wanted="an array of strings")] = eal.Options.extra


class SourceTable(Table, frozen=True):
    """A port or capture; sizes are in MB of 2**20 bytes."""

    device: Annotated[Any, key("required: af_packet:, af_xdp:, tap:, memif:, pci:, pcap:FILE ...",
                               read=_text(parse), example='"af_packet:eth1"')]
    rx_ring_mb: Annotated[Megabytes, key("receive ring, where the driver has one of its own")] = 64
    mtu: Annotated[int, key("bytes of the longest IP packet", ge=68, le=9_600)] = 1500
    address: Annotated[str, key("our IPv4 on that port where no kernel owns it; no default",
                                read=_text(_address), example='"10.0.0.5"')] = ""
    flight_mb: Annotated[int, key("last frames kept for the flight recorder, 0: off",
                                  ge=0, le=1 << 16)] = 64


class FeedTable(Table, frozen=True):
    name: Annotated[Name, key("required, each its own", example='"itch"')]
    protocol: Annotated[Protocol, key(f"required: {', '.join(protocols())}", example='"itch50"')]
    lines: Annotated[tuple[Line, ...], key(
        "required: ADDRESS:PORT of line A, and of line B", min_length=1, max_length=lib.LINES_MAX,
        wanted="an array of one or two lines, A and B",
        example='["233.54.12.111:26477", "233.49.196.111:26477"]')]
    core: Annotated[int | None, key("CPU that receives it; absent: a loop that is not pinned",
                                    read=_cpu, example="0")] = None
    sources: Annotated[tuple[str, ...] | None, key(
        "absent: all", wanted="an array of names of sources", example='["a", "b"]')] = None
    allowed: Annotated[tuple[Host, ...], key(
        "addresses that may send it, at most four; empty: any", max_length=lib.SOURCES_ALLOWED,
        wanted=f"an array of at most {lib.SOURCES_ALLOWED} addresses")] = Feed.allowed
    window: Annotated[int, key("messages that may wait for a gap, a power of two",
                               read=_power(2, 1 << 20))] = Feed.window
    gap_timeout_ms: Annotated[int, key("after that long a gap is given up",
                                       ge=0, le=600_000)] = Feed.gap_timeout_us // 1000
    stale_line_ms: Annotated[Milliseconds, key("a line that is silent for longer is stale")
                             ] = Feed.stale_line_us // 1000
    stale_feed_ms: Annotated[Milliseconds, key("likewise the feed")] = Feed.stale_feed_us // 1000
    orders_max: Annotated[Many, key("resting at once, all instruments")] = Feed.orders_max
    levels_max: Annotated[Many, key("price levels at once, all instruments")] = Feed.levels_max
    compare: Annotated[bool, key("a message that came on both lines is compared")] = Feed.compare


class StageTable(Table, frozen=True):
    strategy: Annotated[str, key("required: file.py:Class, from where this file lies",
                                 example='"apps/spread.py:Spread"')]
    params: Annotated[Any, key("arguments of its constructor; no default",
                               read=_params, example="{ size = 100 }")] = ()
    core: Annotated[int | None, key(
        "reads the ring of that receive core; absent: of the first feed's",
        read=_cpu, example="0")] = None
    policy: Annotated[Literal["skip", "block"], key(
        "skip: never slows the engine down; block: never loses a record")] = "skip"
    on_error: Annotated[Literal["freeze", "restart"],
                        key("a strategy that raised: freeze, restart")] = "freeze"
    cpu: Annotated[int | None, key("CPU of its process; absent: not pinned",
                                   read=_cpu, example="1")] = None
    limits: Annotated[Any, key(
        'docs/risk.md has all; or a file of these tables: "limits.toml"',
        example="{ account = { rate_max = 500 }, default = { order_size_max = 500 } }")] = None


class RunTable(RunKeys, frozen=True, kw_only=True):
    """A whole file."""

    sources: Annotated[dict[str, Any], key(wanted="a table of at least one source")]
    feeds: Annotated[tuple[FeedTable, ...], key(
        min_length=1, max_length=lib.FEEDS_MAX,
        wanted=f"an array of tables: [[feeds]], 1 to {lib.FEEDS_MAX}")]
    stages: Annotated[tuple[StageTable, ...], key(wanted="an array of tables: [[stages]]")] = ()
    eal: EalTable = EalTable()


# fmt: on
# --- the plans ---


class SourcePlan(SourceTable, frozen=True, kw_only=True):
    """A source, its name and what it is."""

    name: str
    device: Description


@dataclass(frozen=True)
class FeedPlan:
    """A feed, the core that receives it (None: not pinned) and the names of its sources."""

    feed: Feed
    core: int | None
    sources: tuple[str, ...]


@dataclass(frozen=True)
class LoopPlan:
    """What one receive core does; None is the loop that is not pinned."""

    core: int | None
    feeds: tuple[FeedPlan, ...]
    sources: tuple[SourcePlan, ...]


class StagePlan(StageTable, frozen=True, kw_only=True):
    """A strategy as ``load_strategy`` takes it, and the loop (by its core) whose ring it reads."""

    limits: RiskConfig
    params: tuple[str, ...]  # "name=value", as load_strategy takes them


class Config(RunKeys, frozen=True, kw_only=True):
    """A whole run."""

    path: Path
    sources: tuple[SourcePlan, ...]
    feeds: tuple[FeedPlan, ...]
    stages: tuple[StagePlan, ...]
    eal: eal.Options

    def loops(self) -> list[LoopPlan]:
        """A loop for each core that feeds name, in their order; feeds without one share a loop."""
        made = []
        for core in dict.fromkeys(feed.core for feed in self.feeds):
            feeds = tuple(feed for feed in self.feeds if feed.core == core)
            used = {name for feed in feeds for name in feed.sources}
            made.append(LoopPlan(core, feeds, tuple(s for s in self.sources if s.name in used)))
        return made

    def queues(self, source: str) -> int:
        """Receive queues that a source needs: one for each loop that reads it."""
        return sum(source in [s.name for s in loop.sources] for loop in self.loops())


def load(path: str | Path) -> Config:
    """Read and check a configuration. UsageError names file, line, key and what is allowed."""
    file = File.read(Path(path))
    table = file.convert(RunTable, file.tables)
    sources = _sources(file, table.sources)
    feeds = tuple(_feed(file, i, feed, sources) for i, feed in enumerate(table.feeds))
    _feeds_differ(file, feeds)
    stages = tuple(_stage(file, i, stage, feeds) for i, stage in enumerate(table.stages))
    pci = tuple(address for s in sources for address in s.device.eal_options.pci)
    config = Config(
        path=file.path, sources=sources, feeds=feeds, stages=stages,
        eal=eal.Options(pci=pci, **asdict(table.eal)),
        **{name: getattr(table, name) for name in RunKeys.__struct_fields__},
    )  # fmt: skip
    _together(file, config)
    return config


def _sources(file: File, tables: dict[str, Any]) -> tuple[SourcePlan, ...]:
    made: dict[str, SourcePlan] = {}
    for name, given in tables.items():
        at: Key = ("sources", name)
        with file.blaming(at, name):
            _name(name)
        table = {"device": given} if isinstance(given, str) else given
        plan = SourcePlan(name=name, **asdict(file.convert(SourceTable, table, at)))
        for other in made.values():
            if other.device.spec == plan.device.spec:
                file.refuse(at, f"{plan.device.spec} is the device of source {other.name} already")
        made[name] = plan
    if not 1 <= len(made) <= lib.SOURCES_MAX:
        file.refuse(("sources",), f"{len(made)} sources: must be 1 to {lib.SOURCES_MAX}")
    return tuple(made.values())


def _feed(file: File, i: int, table: FeedTable, sources: tuple[SourcePlan, ...]) -> FeedPlan:
    at, names = ("feeds", i, "sources"), [source.name for source in sources]
    chosen = tuple(names) if table.sources is None else table.sources
    if not chosen:
        file.refuse(at, "[]: must name a source; leave the key out for all")
    for j, name in enumerate(chosen):
        if name not in names:
            file.refuse((*at, j), f"{name!r} is no source: {listed(names)}{meant(name, names)}")
        if name in chosen[:j]:
            file.refuse((*at, j), f"{name!r} is named twice")
    values = asdict(table)
    for name in ("gap_timeout", "stale_line", "stale_feed"):
        values[f"{name}_us"] = 1000 * values.pop(f"{name}_ms")
    del values["core"], values["sources"]
    return FeedPlan(Feed(**values), table.core, chosen)


def _feeds_differ(file: File, feeds: tuple[FeedPlan, ...]) -> None:
    names: set[str] = set()
    lines: dict[Endpoint, str] = {}
    for i, plan in enumerate(feeds):
        if plan.feed.name in names:
            file.refuse(("feeds", i, "name"), f"{plan.feed.name!r} is the name of a feed already")
        names.add(plan.feed.name)
        for j, line in enumerate(plan.feed.lines):
            if line in lines:
                file.refuse(
                    ("feeds", i, "lines", j), f"{line} is a line of feed {lines[line]} already"
                )
            lines[line] = plan.feed.name


def _stage(file: File, i: int, table: StageTable, feeds: tuple[FeedPlan, ...]) -> StagePlan:
    at: Key = ("stages", i)
    with file.blaming((*at, "strategy"), table.strategy):
        strategy = _strategy(file.path.parent, table.strategy)
    limits = _limits(file, (*at, "limits"), table.limits)
    cores = list(dict.fromkeys(feed.core for feed in feeds))
    if table.core is not None and table.core not in cores:
        pinned = listed([str(core) for core in cores if core is not None]) or "none"
        file.refuse((*at, "core"), f"{table.core}: no feed is received there; cores: {pinned}")
    core = cores[0] if table.core is None else table.core
    return StagePlan(**asdict(table) | {"strategy": strategy, "limits": limits, "core": core})


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
        raise ValueError(f"{path} has no class {cls}{meant(cls, names)}")
    return f"{path}:{cls}"


def _names(tree: ast.Module) -> Iterator[str]:
    """The names that a module's own lines define or import."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _limits(file: File, at: Key, given: Any) -> RiskConfig:
    """Limits from a table, or from a file with the same tables."""
    given = {} if given is None else given
    if isinstance(given, str):
        with file.blaming(at, given):
            file, at = File.read(file.path.parent / given), ()
            given = file.tables
    if not isinstance(given, dict):
        file.refuse(at, f"{given!r}: must be a table, or the name of a file")
    return read_config(file, given, at)


def _together(file: File, config: Config) -> None:
    """Refuse what is wrong only in the whole: one part against another."""
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
    parts = [
        ["# pydpdk run CONFIG.toml: a line with a value shows the default, if the key has one."],
        _keys(RunKeys),
        ["\n[eal]                           # DPDK's environment layer"],
        _keys(EalTable),
        ['\n[sources.a]                     # or in short, under [sources]: a = "af_packet:eth1"'],
        _keys(SourceTable),
        ['\n[sources.b]\ndevice = "af_packet:eth2"'],
        ["\n[[feeds]]                       # at least one"],
        _keys(FeedTable),
        ["\n[[stages]]                      # any number"],
        _keys(StageTable),
    ]
    return "\n".join(chain(*parts)) + "\n"


def _keys(table: type[Table]) -> Iterator[str]:
    """A line for each key: its example or default, and its meaning."""
    node = inspect.type_info(table)
    assert isinstance(node, inspect.StructType)
    for field in node.fields:
        assert isinstance(field.type, inspect.Metadata)
        value = (field.type.extra or {}).get("example") or json.dumps(field.default)
        line = f"{field.encode_name} = {value}"
        meaning = f"# {(field.type.extra_json_schema or {})['description']}"
        yield f"{line:<31} {meaning}" if len(line) < 40 else f"{meaning}:\n{line}"
