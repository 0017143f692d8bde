"""The search finds the edge of a device that has one, and trusts no single trial."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from pydpdk.bench.wires.search import Edge, Search, find

loads = st.integers(1, 10_000_000)


@given(capacity=loads, start=loads, factor=st.integers(2, 8), resolution=st.floats(0.001, 0.5))
def test_the_edge_of_a_device_is_found(
    capacity: int, start: int, factor: int, resolution: float
) -> None:
    tried: list[int] = []

    def passes(load: int) -> bool:
        tried.append(load)
        return load <= capacity

    search = Search(start, 10_000_000, factor, resolution)
    edge = find(passes, search)
    assert edge.highest <= capacity
    if edge.failed is None:
        assert edge.highest == search.ceiling
    else:
        assert edge.failed > capacity
        assert edge.failed - edge.highest <= max(1, edge.failed * resolution)
    assert tried.count(edge.highest) == (search.confirm + 1 if edge.highest else 0)
    assert len(tried) <= 2 + math.log(1e7, factor) + math.log2(1e7) + search.confirm


def test_a_device_that_always_loses_has_no_edge() -> None:
    tried: list[int] = []
    assert find(lambda load: bool(tried.append(load)), Search(1_000, 8_000)) == Edge(0, 1)
    assert len(tried) < 15


@given(answers=st.lists(st.booleans(), min_size=200, max_size=200), confirm=st.integers(1, 4))
def test_a_result_passed_each_time_and_lies_below_all_that_failed(
    answers: list[bool], confirm: int
) -> None:
    told: list[tuple[int, bool]] = []
    answer = iter(answers)

    def passes(load: int) -> bool:
        told.append((load, load <= 50_000 and next(answer, False)))
        return told[-1][1]

    edge = find(passes, Search(1_000, 1_000_000, confirm=confirm))
    failed = [load for load, passed in told if not passed]
    assert not failed or edge.highest < min(failed)
    assert len(told) < 100
    if edge.highest:
        passed = [passed for load, passed in told if load == edge.highest]
        assert all(passed)
        assert len(passed) > confirm * edge.confirmed


def test_nothing_is_tried_below_a_floor() -> None:
    tried: list[int] = []
    edge = find(lambda load: bool(tried.append(load)), Search(1_000, 8_000, floor=100))
    assert edge.highest == 0
    assert min(tried) > 100 / 2
