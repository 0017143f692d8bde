"""pydpdk demo: its JSON, its account against what was generated, its words."""

from __future__ import annotations

import pytest

from pydpdk.core.hist import POINTS
from pydpdk.engine.engine import TIMES
from pydpdk.source import eal
from tests.command import call, refused, spawn, well
from tests.recount import books, delivered, packets

MESSAGES = 4000


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    args = ("demo", "--dir", folder, "--messages", MESSAGES, "--source", "pcap", "--json")
    return folder, well(*args).json


def test_every_part_of_the_result_is_there(demo):
    _, result = demo
    assert {"received", "parsed", "dropped"} == result["frames"].keys()
    (session,) = result["sequence"]
    named = {"feed", "session", "first", "last", "delivered", "duplicate", "gaps", "recovered"}
    assert named <= session.keys()
    assert {"instruments", "orders", "levels", "hash"} <= result["books"].keys()
    assert {"sent", "rejected", "filled"} <= result["orders"].keys()
    stages = {*TIMES, "read", "stage", "risk", "send", "tick_to_trade"} - {"stall"}
    assert result["latency_ns"].keys() == stages
    for values in result["latency_ns"].values():
        assert values["count"] > 0
        order = [values[p] for p in (*POINTS, "max")]
        assert order == sorted(order)
    assert (result["unexplained"], result["interrupted"], result["problems"]) == (0, False, [])


def test_the_account_is_that_of_the_generator_and_of_the_file(demo):
    folder, result = demo
    (session,) = result["sequence"]
    truth = result["truth"]
    assert truth["messages"] == MESSAGES
    assert (session["first"], session["last"]) == (1, MESSAGES)
    assert session["delivered"] + session["lost"] == MESSAGES
    assert session["lost"] == truth["lost_on_both"]
    found = packets(folder / "session.pcap")
    assert result["frames"]["received"] == result["frames"]["parsed"] == len(found)
    copies = sum(len(packet.messages) for packet in found)
    assert session["duplicate"] == copies - session["delivered"]
    assert sum(result["messages"].values()) == session["delivered"]


def test_the_books_are_the_naive_ones(demo):
    folder, result = demo
    naive = books(delivered(folder / "session.pcap"))
    assert result["books"]["orders"] == len(naive.orders)
    assert result["books"]["hash"] == f"{naive.hash():016x}"


def test_the_strategy_trades_and_every_order_has_an_end(demo):
    _, result = demo
    orders = result["orders"]
    assert orders["sent"] > 0
    assert orders["filled"] > 0
    assert orders["sent"] == orders["acked"] + sum(orders["rejected"].values())


def test_the_driver_path_gives_the_same(demo, tmp_path):
    if not eal.version():
        pytest.skip("built without DPDK")
    folder, ours = demo
    done = spawn("demo", "--dir", tmp_path, "--messages", MESSAGES, "--json")
    assert done.code == 0, done.err
    result = done.json
    assert result["source"] == f"net_pcap:{tmp_path}/session.pcap"
    same = (folder / "session.pcap").read_bytes(), (tmp_path / "session.pcap").read_bytes()
    assert same[0] == same[1]
    for part in ("frames", "messages", "books"):
        assert result[part] == ours[part]
    assert result["unexplained"] == 0


def test_people_read_the_same_numbers(tmp_path):
    args = ("demo", "--dir", tmp_path, "--messages", MESSAGES, "--source", "pcap")
    out = well(*args).out
    assert f"{MESSAGES:,} messages on two lines" in out
    assert f"{MESSAGES:,} sequences = {MESSAGES:,} delivered + 0 lost; unexplained: 0" in out
    assert "P&L" in out
    assert "…" not in out


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "taken").touch()
    line = refused(1, "demo", "--dir", tmp_path / "taken", "--messages", 2000)
    assert line == f"pydpdk: {tmp_path}/taken: File exists"


def test_too_few_messages():
    assert call("demo", "--messages", 5).code == 2
