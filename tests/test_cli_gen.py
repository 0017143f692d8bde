"""pydpdk gen: the same bytes each time, and a truth that the file bears out."""

from __future__ import annotations

import pytest

from tests.command import refused, well
from tests.recount import delivered, packets

FAULTY = ("--loss", 0.1, "--dup", 0.05, "--reorder", 0.05, "--instruments", 20)


def make(path, *args, messages=3000):
    return well("gen", path, "--messages", messages, *args, "--json").json


def test_the_same_options_give_the_same_bytes(tmp_path):
    files = [tmp_path / name for name in ("a.pcap", "b.pcap", "c.pcap")]
    told = [
        make(path, *FAULTY, "--seed", seed) for path, seed in zip(files, (5, 5, 6), strict=True)
    ]
    contents = [path.read_bytes() for path in files]
    assert contents[0] == contents[1] != contents[2]
    assert {**told[0], "file": ""} == {**told[1], "file": ""} != {**told[2], "file": ""}


def test_the_truth_is_what_the_file_has(tmp_path):
    path = tmp_path / "day.pcap"
    truth = make(path, *FAULTY)
    found = packets(path)
    assert truth["messages"] == truth["last_sequence"] == 3000
    assert sum(line["sent"] for line in truth["lines"].values()) == len(found)
    missing = sorted(set(range(1, 3001)) - delivered(path).keys())
    assert truth["lost_on_both"] == missing != []


def test_people_read_it_too(tmp_path):
    out = well("gen", tmp_path / "x.pcap", "--messages", 1000, "--instruments", 5).out
    assert "1,000 messages, 0 lost on both lines" in out
    assert "line A: " in out
    assert "line B: " in out


def test_one_line_alone(tmp_path):
    path = tmp_path / "a.pcap"
    assert list(make(path, "--lines", "A", "--instruments", 5)["lines"]) == ["A"]
    assert {packet.line for packet in packets(path)} == {"233.54.12.111:26477"}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--loss", 1.5], "--loss"),
        (["--loss", "nan"], "loss is nan"),
        (["--skew-us", "nan"], "skew_us is nan"),
        (["--skew-us", "inf"], "skew_us is inf"),
        (["--messages", 0], "--messages"),
        (["--messages", 10], "ask for more messages"),
        (["--instruments", 70000], "--instruments"),
        (["--lines", "C"], "--lines"),
    ],
)
def test_what_cannot_be_made_is_refused(tmp_path, args, words):
    assert words in refused(2, "gen", tmp_path / "x.pcap", *args)
    assert not list(tmp_path.iterdir())


def test_a_place_that_does_not_exist(tmp_path):
    where = tmp_path / "no" / "x.pcap"
    line = refused(1, "gen", where, "--messages", 1000, "--instruments", 5)
    assert "No such file or directory" in line
