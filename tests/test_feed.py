"""How a feed is named, and where its day begins."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydpdk.engine.feed import Endpoint, Feed, midnight_ns
from pydpdk.errors import UsageError

NEW_YORK = ZoneInfo("America/New_York")
ENDPOINTS = st.builds(
    Endpoint, st.ip_addresses().map(str).filter(lambda host: "%" not in host), st.integers(1, 65535)
)


@given(ENDPOINTS)
def test_a_line_is_read_back_as_it_is_written(endpoint):
    assert Endpoint.parse(str(endpoint)) == endpoint


@given(st.sampled_from(["itch50", "deep10", "tops16"]), st.lists(ENDPOINTS, max_size=2))
def test_a_feed_is_read_back_as_it_is_written(protocol, lines):
    feed = Feed(protocol, tuple(lines))
    assert Feed.parse(str(feed)) == feed


@pytest.mark.parametrize("text", ["", "1.2.3.4", "1.2.3:4", "1.2.3.4:", "host:1", "1.2.3.4:x",
                                  "1.2.3.4:0", "1.2.3.4:65536", "1.2.3.4:-1"])  # fmt: skip
def test_what_is_no_line(text):
    with pytest.raises(UsageError, match="line "):
        Endpoint.parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nosuch", "'nosuch' is not one of itch50, tops16, deep10"),
        ("", "'' is not one of"),
        ("itch50@1.1.1.1:1,2.2.2.2:2,3.3.3.3:3", "at most two lines"),
    ],
)
def test_what_is_no_feed(text, words):
    with pytest.raises(UsageError, match=words):
        Feed.parse(text)


def test_the_core_gets_addresses_as_they_are_on_the_wire():
    config = Feed.parse("itch50@233.54.12.111:26477,[ff02::1]:9", gap_timeout_us=7).config()
    a, b, recovery = config.lines
    assert (a.len, a.port, bytes(a.bytes)[:4]) == (4, 26477, bytes([233, 54, 12, 111]))
    assert (b.len, b.port, bytes(b.bytes)) == (16, 9, bytes([255, 2, *[0] * 13, 1]))
    assert recovery.len == 0
    assert (config.arbiter.lines, config.arbiter.gap_timeout_us) == (2, 7)


@pytest.mark.parametrize("day", ["2026-01-05", "2026-07-01", "2026-03-08", "2026-11-01"])
@pytest.mark.parametrize("clock", ["00:00:00", "09:30:00", "23:59:59"])
def test_midnight_is_new_yorks_also_when_clocks_change(day, clock):
    when = datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=NEW_YORK)
    midnight = datetime.fromisoformat(f"{day}T00:00:00").replace(tzinfo=NEW_YORK)
    ts = int(when.timestamp()) * 10**9 + 123
    assert midnight_ns(ts) == int(midnight.timestamp()) * 10**9
