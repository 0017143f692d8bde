"""Instructions per packet, message or record of the core's hot parts: figures that do not wobble.

The core without DPDK and tests/c/instructions.c, built with the core's own flags, run under
callgrind over small sessions generated from a fixed seed. A part is counted alone, its input
already made. The same code and compiler on one host give the same counts every time; another
compiler gives others, so a baseline names its own, and another libc may, where its memcpy is
called. Counts say nothing of caches: a prefetch costs instructions and saves time, so a count that
rose is work that was added, not proof that it got slower.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from pydpdk.bench.data import LINES
from pydpdk.bench.loops import ffi, lib
from pydpdk.errors import HostError
from pydpdk.synth import gen
from pydpdk.synth.pack import packer
from pydpdk.synth.packetize import IexTp
from pydpdk.synth.two_lines import Faults
from pydpdk.tape.pcapfile import CaptureWriter

ROOT = Path(__file__).parents[2]
DRIVER = ROOT / "tests" / "c" / "instructions.c"
BASELINE = Path(__file__).with_suffix(".json")
TOLERANCE = 0.03  # above its baseline, a count is too high
UPDATE = "pydpdk bench instructions --update"
MESSAGES, INSTRUMENTS, LIVE_ORDERS = 20_000, 50, 4_000
DEEP, SYMBOLS, DEPTH = 0x8004, 50, 20
MIDDLE, TICK = 100_0000, 100  # 1e-4 of the currency
START_NS, GAP_NS = 1_700_000_000 * 10**9, 20_000
BUILDERS = 2  # compilers at once

# libc picks its memcpy by the processor; without these features all hosts get the same one.
# Symbols are bound at the start: bound on first use, they would count for the part that uses them.
NEWER = ("AVX2", "AVX512F", "AVX512VL", "AVX_Fast_Unaligned_Load", "ERMS", "FSRM")
ENVIRONMENT = {
    "GLIBC_TUNABLES": f"glibc.cpu.hwcaps={','.join('-' + feature for feature in NEWER)}",
    "LD_BIND_NOW": "1",
}
COUNT = re.compile(r"^desc: Trigger: Client Request: (.+?)$.*?^totals: (\d+)$", re.M | re.S)


class Count(NamedTuple):
    """Instructions of one ``unit`` of a part; ``before``: the baseline's, if it has one."""

    part: str
    unit: str
    instructions: float
    before: float | None

    @property
    def change(self) -> float | None:
        """0.03 is 3 % above the baseline."""
        return self.instructions / self.before - 1 if self.before else None

    @property
    def too_high(self) -> bool:
        """Whether this is a regression."""
        return self.change is not None and self.change > TOLERANCE


class Counts(NamedTuple):
    """What one run found. ``incomparable``: why there is no baseline to hold it against, or ""."""

    compiler: str
    flags: str
    parts: list[Count]
    incomparable: str

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        parts = [
            part._asdict() | {"change": part.change, "too_high": part.too_high}
            for part in self.parts
        ]
        return self._asdict() | {"tolerance": TOLERANCE, "parts": parts}

    def too_high(self) -> list[str]:
        """A line for each part above its baseline, and what to do about it."""
        lines = [
            f"{count.part}: {count.instructions:.1f} instructions a {count.unit}, baseline "
            f"{count.before:.1f} ({count.change:+.1%})"
            for count in self.parts
            if count.too_high
        ]
        return [*lines, f"take that work out again, or accept it: {UPDATE}"] if lines else []


def update(counts: Counts) -> None:
    """Make these counts the baseline."""
    parts = {count.part: round(count.instructions, 2) for count in counts.parts}
    kept = {"compiler": counts.compiler, "flags": counts.flags, "parts": parts}
    BASELINE.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def missing() -> str:
    """What this host lacks to count, and what mends it; "" when nothing."""
    if not DRIVER.exists():
        return f"{DRIVER} is missing: counting needs the source tree, run it in a clone"
    if not all(shutil.which(tool) for tool in ("valgrind", *compiler())):
        return "counting needs a C compiler and valgrind: apt-get install build-essential valgrind"
    return ""


def compiler() -> list[str]:
    """As meson finds it."""
    return shlex.split(os.environ.get("CC", "cc"))


def count(csrc: Path = ROOT / "csrc") -> Counts:
    """Build the core in ``csrc``, run its parts and count. HostError when that cannot be done."""
    if lacks := missing():
        raise HostError(lacks)
    flags = ffi.string(lib.bench_flags()).decode()
    with TemporaryDirectory(prefix="pydpdk-counts-") as name:
        folder = Path(name)
        program = _build(folder, csrc, flags.split())
        built_by, units, totals = _run(folder, program, _sessions(folder))
    before = json.loads(BASELINE.read_text(encoding="utf-8"))
    here, there = f"{built_by} {flags}", f"{before['compiler']} {before['flags']}"
    known = before["parts"] if here == there else {}
    parts = [
        Count(part, unit, totals[part] / many, known.get(part))
        for part, (unit, many) in units.items()
    ]
    differs = "" if known else f"the baseline is of {there}, this is {here}"
    return Counts(built_by, flags, parts, differs)


def _build(folder: Path, csrc: Path, flags: list[str]) -> Path:
    """Objects as meson's: only DPDK's files are left out, as in a build without it."""
    sources = [path for path in sorted(csrc.rglob("*.c")) if path.parent.name != "dpdk"]
    options = ["-std=gnu11", *flags, "-fPIC", "-fvisibility=hidden", "-DNDEBUG", f"-I{csrc}", "-c"]
    folder_of = {path: folder / path.parent.name for path in [*sources, DRIVER]}
    for place in set(folder_of.values()):  # rooms may have files of one name
        place.mkdir(exist_ok=True)
    with ThreadPoolExecutor(BUILDERS) as pool:
        for done in pool.map(
            lambda path: subprocess.run(
                [*compiler(), *options, path], cwd=folder_of[path], capture_output=True
            ),
            folder_of,
        ):
            if done.returncode:
                raise HostError(f"the core does not build for counting:\n{done.stderr.decode()}")
    program = folder / "instructions"
    objects = sorted(folder.glob("*/*.o"))
    _command(*compiler(), *objects, "-lz", "-lzstd", "-lpthread", "-o", program)
    return program


def _run(
    folder: Path, program: Path, sessions: list[Path]
) -> tuple[str, dict[str, tuple[str, int]], dict[str, int]]:
    """Compiler, (unit, how many) and instructions by part."""
    out = folder / "callgrind.out"
    lines = [text for line in LINES for text in (line.host, str(line.port))]
    compiler, *rows = _command(
        "valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no", "--combine-dumps=yes",
        f"--callgrind-out-file={out}", program, *sessions, *lines,
    ).splitlines()  # fmt: skip
    split = [row.split("\t") for row in rows]
    units = {part: (unit, int(many)) for part, unit, many in split}
    totals = {part: int(total) for part, total in COUNT.findall(out.read_text())}
    return compiler, units, totals


def _command(*words: str | Path) -> str:
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | ENVIRONMENT)
    if done.returncode:
        raise HostError(f"{words[0]} failed while counting instructions: {done.stderr.strip()}")
    return done.stdout


# ---- input ----


def _sessions(folder: Path) -> list[Path]:
    itch, iex = folder / "itch.pcap", folder / "iex.pcap"
    gen.generate(itch, messages=MESSAGES, instruments=INSTRUMENTS, live_orders=LIVE_ORDERS)
    frames, _ = gen.feed(_deep(), {"A": Faults()}, framing=IexTp(protocol=DEEP))
    with CaptureWriter(iex) as capture:
        for ts_ns, frame in frames:
            capture.write(ts_ns, frame)
    return [itch, iex]


def _deep() -> Iterator[tuple[int, bytes]]:
    """DEEP 1.0: levels that come, change and go near a middle, and a trade now and then."""
    random = Random(1)
    level = {"8": packer("iex_buy_level_update"), "5": packer("iex_sell_level_update")}
    trade = packer("iex_trade_report")
    symbols = [f"SYM{i:<5}".encode() for i in range(SYMBOLS)]
    sizes: dict[tuple[bytes, str, int], int] = {}
    for i in range(MESSAGES):
        now, symbol, side = START_NS + i * GAP_NS, random.choice(symbols), random.choice("85")
        if random.random() < 0.1:
            yield now, trade.pack(ord("T"), 0, now, symbol, 100, MIDDLE, i)
            continue
        off = min(int(random.expovariate(0.3)), DEPTH)
        price = MIDDLE + TICK * (1 + off if side == "5" else -1 - off)
        gone = sizes.get((symbol, side, price), 0) and random.random() < 0.4
        size = 0 if gone else random.randrange(100, 10_000, 100)
        sizes[symbol, side, price] = size
        complete = random.random() < 0.8
        yield now, level[side].pack(ord(side), complete, now, symbol, size, price)
