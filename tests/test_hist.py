"""Latency histograms against numpy over the same samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydpdk._core import lib
from pydpdk.engine import new_hist, percentiles

SAMPLES = st.lists(
    st.tuples(st.one_of(st.integers(0, 100), st.integers(0, 2**40 - 1)), st.integers(1, 50)),
    min_size=1,
    max_size=60,
)


@given(SAMPLES)
def test_percentiles_are_within_a_step_of_the_exact_ones(samples):
    hist = new_hist()
    for value, times in samples:
        lib.hist_add(hist, value, times)
    values = np.repeat(*np.array(samples).T)
    found = percentiles(hist)
    assert (found["count"], found["max"]) == (len(values), values.max())
    assert (hist.min, hist.sum) == (values.min(), values.sum())
    for name, percent in (("p50", 50), ("p90", 90), ("p99", 99), ("p999", 99.9)):
        exact = int(np.percentile(values, percent, method="inverted_cdf"))
        assert exact <= found[name] <= exact + max(exact // 32, 0)


@pytest.mark.parametrize("value", [0, 1, 31, 32, 33, 63, 64, 65, 2**40 - 1, 2**40, 2**64 - 1])
def test_one_sample_is_every_percentile(value):
    hist = new_hist()
    lib.hist_add(hist, value, 3)
    assert set(percentiles(hist).values()) == {3, value}


def test_nothing_added_is_nothing():
    hist = new_hist()
    lib.hist_add(hist, 5, 0)
    assert set(percentiles(hist).values()) == {0}
