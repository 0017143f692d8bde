"""Latency histograms against numpy over the same samples, and against HdrHistogram's package."""

from __future__ import annotations

import base64
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from hypothesis import given
from hypothesis import strategies as st

from pydpdk._core import lib
from pydpdk.core import hlog
from pydpdk.core.hist import LIMIT, POINTS, Hist
from pydpdk.core.hlog import HistLog, Interval
from pydpdk.errors import DataError, UsageError

VALUES = st.one_of(st.integers(0, 300), st.integers(0, LIMIT - 1))
SAMPLES = st.lists(st.tuples(VALUES, st.integers(1, 50)), min_size=1, max_size=60)
EDGES = [0, 1, 127, 128, 255, 256, 257, 511, 512, LIMIT - 1]


def hist_of(samples: list[tuple[int, int]]) -> Hist:
    made = Hist()
    for value, times in samples:
        made.add(value, times)
    return made


def theirs(samples: list[tuple[int, int]]) -> HdrHistogram:
    made = HdrHistogram(1, LIMIT - 1, lib.HIST_FIGURES)
    for value, times in samples:
        made.record_value(value, times)
    return made


def same(found: HdrHistogram, wanted: HdrHistogram) -> bool:
    points = [0, 50, 90, 99.9, 100]
    return (
        list(found.counts) == list(wanted.counts)
        and found.get_total_count() == wanted.get_total_count()
        and [found.get_value_at_percentile(p) for p in points]
        == [wanted.get_value_at_percentile(p) for p in points]
    )


@given(SAMPLES, st.lists(st.floats(0.01, 100), max_size=5))
def test_percentiles_are_an_exact_sort_within_a_step(samples, more) -> None:
    hist = hist_of(samples)
    values = np.sort(np.repeat(*np.array(samples).T))
    assert (hist.count, hist.max, hist.min) == (len(values), values[-1], values[0])
    assert hist.sum == values.sum()
    found = hist.percentiles()
    assert (found["count"], found["max"]) == (hist.count, hist.max)
    for percent in [*POINTS.values(), *more]:
        exact = int(np.percentile(values, percent, method="inverted_cdf"))
        assert exact <= hist.percentile(percent) <= exact + exact // 128
    assert all(found[name] == hist.percentile(percent) for name, percent in POINTS.items())


@pytest.mark.parametrize("value", [*EDGES, 2**40, 2**64 - 1])
def test_one_sample_is_every_percentile(value: int) -> None:
    assert set(hist_of([(value, 3)]).percentiles().values()) == {3, value}


def test_nothing_added_is_nothing() -> None:
    assert set(hist_of([(5, 0)]).percentiles().values()) == {0}


@given(SAMPLES)
def test_buckets_are_those_of_hdrhistogram(samples) -> None:
    mine, other = hist_of(samples), theirs(samples)
    assert mine.counts.tolist() == list(other.counts)
    for value, _ in samples:
        assert other.get_highest_equivalent_value(value) in (
            lib.hist_highest(i) for i in np.flatnonzero(mine.counts).tolist()
        )


@given(SAMPLES)
def test_the_encoding_goes_to_hdrhistogram_and_back(samples) -> None:
    mine, other = hist_of(samples), theirs(samples)
    assert same(HdrHistogram.decode(mine.encode()), other)
    for text in (mine.encode(), other.encode().decode()):
        back = Hist.decode(text)
        assert back.counts.tolist() == mine.counts.tolist()
        assert back.count == mine.count
        assert 0 <= back.percentile(50) - mine.percentile(50) <= mine.percentile(50) // 128


@given(st.dictionaries(st.integers(0, lib.HIST_BUCKETS - 1), st.integers(1, 2**62), max_size=9))
def test_any_count_is_encoded(counts: dict[int, int]) -> None:
    """Up to nine bytes a count; a run of empty buckets of any length."""
    mine = Hist()
    for bucket, count in counts.items():
        mine.counts[bucket] = count
    assert Hist.decode(mine.encode()).counts.tolist() == mine.counts.tolist()


@given(SAMPLES, SAMPLES)
def test_merged_is_both_and_since_is_what_came_after(first, second) -> None:
    mine = hist_of(first)
    before = mine.copy()
    mine.merge(hist_of(second))
    both = hist_of([*first, *second])
    assert bytes(mine.counts) == bytes(both.counts)
    assert mine.percentiles() == both.percentiles()
    assert (mine.min, mine.sum) == (both.min, both.sum)
    after = mine.since(before)
    assert after.counts.tolist() == hist_of(second).counts.tolist()
    assert (after.count, after.sum) == (hist_of(second).count, hist_of(second).sum)


def test_single_values_may_be_negative_or_an_array() -> None:
    assert Hist.from_values([-5, 7]).percentiles() == hist_of([(0, 1), (7, 1)]).percentiles()
    values = np.array([-1, 1 << 20], np.int64)
    assert (
        Hist.from_values(values).counts.tolist() == Hist.from_values([0, 1 << 20]).counts.tolist()
    )


def test_a_log_is_read_by_hdrhistogram_and_by_us(tmp_path: Path) -> None:
    stages = {"decode": [(30, 5), (4_000, 1)], "ring": [(8, 2)], "empty": []}
    path = tmp_path / "run.hlog"
    with HistLog(path, "made by a test\nin two lines") as log:
        for start in (4_000_000_000.5, 4_000_000_001.5):
            for tag, samples in stages.items():
                log.write(Interval(tag, start, 1.0, hist_of(samples)))
    reader = HistogramLogReader(str(path), HdrHistogram(1, LIMIT - 1, lib.HIST_FIGURES))
    with reader.input_file:
        assert_told(reader, stages)
    back = hlog.read(path)
    assert [(i.tag, i.length_s) for i in back] == [(tag, 1.0) for tag in stages] * 2
    merged = hlog.merge(back)
    assert merged["decode"].counts.tolist() == hist_of(stages["decode"] * 2).counts.tolist()


def assert_told(reader: HistogramLogReader, stages: dict[str, list[tuple[int, int]]]) -> None:
    for start in (4_000_000_000.5, 4_000_000_001.5):
        for tag, samples in stages.items():
            found = reader.get_next_interval_histogram()
            assert found.get_tag() == tag
            assert same(found, theirs(samples))
            assert (found.get_start_time_stamp(), found.get_end_time_stamp()) == (
                start * 1000, (start + 1) * 1000,
            )  # fmt: skip
    assert reader.get_next_interval_histogram() is None


def deflated(plain: bytes) -> str:
    packed = zlib.compress(plain)
    return base64.b64encode(struct.pack(">ii", 0x1C849314, len(packed)) + packed).decode()


def plain(counts: bytes, **other: int) -> bytes:
    fields = {"cookie": 0x1C849313, "length": len(counts), "offset": 0, "figures": 2,
              "lowest": 1, "highest": LIMIT - 1} | other  # fmt: skip
    return struct.pack(">iiiiqqd", *fields.values(), 1.0) + counts


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not an encoded"),
        ("!", "not an encoded"),
        ("\u00e9", "not an encoded"),
        ("HISTFAAAA", "not an encoded"),
        (base64.b64encode(bytes(100)).decode(), "not a deflated"),
        (deflated(b"short"), "not an encoded"),
        (deflated(plain(b"\2", cookie=5)), "of version 2"),
        (deflated(plain(b"\2", length=7)), "of version 2"),
        (deflated(plain(b"\2", figures=3)), "3 figures"),
        (deflated(plain(b"\2", highest=1000)), "to 1000"),
        (deflated(plain(b"\x80")), "cut off"),
        (deflated(plain(b"\2" * 4353)), "more counts"),
        (deflated(plain(b"\xff\xff\xff\xff\x0f\2")), "more counts"),
        (deflated(plain(bytes(10 << 20))), "longer than one can be"),
        (Hist().encode()[:-8], "not a deflated"),
    ],
)
def test_what_is_no_histogram_is_refused(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=says):
        Hist.decode(text)
    path = tmp_path / "bad.hlog"
    path.write_text(f"#[x]\nTag=a,1.0,2.0,3.0,{text}\n")
    with pytest.raises(DataError, match=r"bad\.hlog, line 2: "):
        hlog.read(path)


@pytest.mark.parametrize("line", ["1,2", "Tag=a", "a,b,c,d", "Tag=a,1,2,3"])
def test_a_line_that_is_no_interval_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.hlog"
    path.write_text(f"{hlog.LEGEND}\n\n{line}\n")
    with pytest.raises(DataError, match=r"line 3"):
        hlog.read(path)


def test_files_that_cannot_be_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        hlog.read(tmp_path / "none")
    with pytest.raises(UsageError, match="Is a directory"):
        HistLog(tmp_path)
    with HistLog(tmp_path / "a.hlog") as log, pytest.raises(UsageError, match="cannot be a tag"):
        log.write(Interval("a,b", 0.0, 0.0, Hist()))
