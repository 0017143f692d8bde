"""Two builds in turn, on sides that are made up: what the parent makes of what it is told.

A side is the worker's own ``Bench`` behind its JSON, in this process, on a case whose figures are
given.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self
from unittest.mock import Mock

import pytest

from pydpdk.bench import compare, data, versus, worker
from pydpdk.bench.compare import Gate
from pydpdk.bench.measure import Case, Series
from pydpdk.bench.trees import Build
from pydpdk.bench.versus import Pair
from pydpdk.errors import DataError, HostError, UsageError

pytestmark = pytest.mark.live

MARKET = data.Market(data.QUICK, Path("none"), Path("none"), [0])
CASE, ROUNDS = "way", 6
Made = Callable[[], Case]


class Fake(worker.Bench):
    """A side of the build with that label; ``cases``: what each label measures.

    One whose case raises DataError is gone, as a process that crashed.
    """

    cases: ClassVar[dict[str, Made]] = {}

    def __init__(self, build: Build, cores: list[int]) -> None:
        super().__init__(cores)
        self.build = build
        self.alive = True

    def ask(self, do: str, **arguments: Any) -> Any:
        @contextmanager
        def made(market: data.Market) -> Iterator[Case]:
            yield self.cases[self.build.label]()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(worker, "CASES", {CASE: made})
            assert self.alive, "nothing is asked of who is gone"
            try:
                answer = getattr(self, do)(**json.loads(json.dumps(arguments)))
            except DataError:
                self.alive = False
                raise HostError("it ended") from None
            except HostError as error:
                raise versus.Refused(str(error)) from error
        return json.loads(json.dumps(answer))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


@pytest.fixture
def sides(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Made]]:
    """What ``old`` and ``new`` measure."""
    monkeypatch.setattr(Fake, "cases", {})
    monkeypatch.setattr(versus, "Side", Fake)
    monkeypatch.setattr(versus, "TURNS", 2)
    yield Fake.cases
    gc.enable()


def pair(keep: bool = True) -> Pair:
    return Pair(Build("old", "none"), Build("new", "none"), MARKET, keep)


def test_the_same_files_are_refused_but_as_self(sides: dict[str, Made]) -> None:
    with pytest.raises(UsageError, match="--against self"):
        pair().must_differ()


def test_who_begins_changes_and_every_turn_has_a_partner(
    sides: dict[str, Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, str]] = []
    ask = Fake.ask

    def listen(side: Fake, do: str, **arguments: Any) -> Any:
        told.append((side.build.label, do))
        return ask(side, do, **arguments)

    monkeypatch.setattr(Fake, "ask", listen)
    monkeypatch.setattr(versus, "TURNS", 3)
    monkeypatch.setattr(versus, "ROUND_S", 1e9)
    sides |= {"old": partial(rate, 5.0), "new": partial(rate, 5.0)}
    pair().measure(CASE, 2)
    turns = "".join(label[0] for label, do in told if do == "turn")
    assert turns == "onnoon" + "noonno" + "onnoon"


def rate(*turns: float) -> Case:
    """Of packets a second: these, over and over."""
    figures = iter(turns * 100)
    series = Series("ours", "ours", lambda: next(figures))
    return Case(CASE, "s", [series], unit="packets", better="higher")


def failed(found: dict[str, Any], *limits: str) -> list[str]:
    return compare.failures({"cases": [found]}, [Gate.parse(limit) for limit in limits])


def test_half_the_rate_is_slower_and_fails_the_gate(sides: dict[str, Made]) -> None:
    sides |= {"old": partial(rate, 1000.0), "new": partial(rate, 500.0)}
    found = pair().measure(CASE, ROUNDS)
    assert found["better"] == "higher"
    assert found["series"][0]["changes"][0]["verdict"] == "slower"
    assert len(failed(found, "median:5%")) == 1
    sides |= {"old": partial(rate, 500.0), "new": partial(rate, 1000.0)}
    found = pair().measure(CASE, ROUNDS)
    assert found["series"][0]["changes"][0]["verdict"] == "faster"
    assert failed(found, "median:5%") == []


def test_the_best_turn_of_a_rate_is_its_highest(sides: dict[str, Made]) -> None:
    sides |= {"old": partial(rate, 1000.0, 10.0), "new": partial(rate, 20.0, 900.0)}
    (row,) = pair().measure(CASE, ROUNDS)["series"]
    assert set(row["old"]["figures"]) == {1000.0}
    assert set(row["new"]["figures"]) == {900.0}


def test_a_case_or_series_that_one_side_lacks_fails_the_gate(sides: dict[str, Made]) -> None:
    def none() -> Case:
        raise HostError("no room")

    def two() -> Case:
        made = rate(5.0)
        made.series.append(Series("more", "ours", lambda: 1.0))
        return made

    one = partial(rate, 5.0)
    sides |= {"old": one, "new": none}
    assert failed(pair().measure(CASE, ROUNDS), "median:5%")[0] == "way: new: no room"
    sides |= {"old": none, "new": none}
    (line,) = failed(pair().measure(CASE, ROUNDS), "median:5%")
    assert line == "median: nothing of ours has it on both sides"
    sides |= {"old": two, "new": one}
    found = pair().measure(CASE, ROUNDS)
    assert failed(found, "median:5%") == ["way: more: only the old build has it"]
    assert failed(found) == []
    sides |= {"old": two, "new": two}
    assert failed(pair().measure(CASE, ROUNDS), "median:5%") == []


@pytest.mark.parametrize("keep", [True, False])
def test_a_side_that_dies_costs_its_case_alone(sides: dict[str, Made], keep: bool) -> None:
    def dies() -> Case:
        return Case(CASE, "s", [Series("ours", "ours", Mock(side_effect=DataError))])

    sides |= {"old": partial(rate, 5.0), "new": dies}
    both = pair(keep)
    found = both.measure(CASE, ROUNDS)
    assert found["skipped"] == "it ended"
    assert failed(found, "median:5%")[0] == "way: it ended"
    sides["new"] = partial(rate, 5.0)
    assert both.measure(CASE, ROUNDS)["series"][0]["new"]["rounds"] == ROUNDS


def test_series_that_come_and_go_are_refused(sides: dict[str, Made]) -> None:
    """Else the figures of one would count as its neighbour's."""
    opened = 0

    def comes_and_goes() -> Case:
        nonlocal opened
        opened += 1
        series = [Series(name, "ours", lambda: 5.0) for name in ("first", "second")]
        return Case(CASE, "s", series[opened > 4 :])

    sides |= {"old": comes_and_goes, "new": comes_and_goes}
    said = pair(keep=False).measure(CASE, ROUNDS)["skipped"]
    assert "first, second, then second" in said
