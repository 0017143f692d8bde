"""From captures to feeds: which streams are whose, and when the user must choose."""

from __future__ import annotations

import pytest

from pydpdk.engine.feed import Endpoint, Feed, midnight_ns
from pydpdk.engine.survey import Stream, Survey, check_lines, joined, resolve, survey
from pydpdk.errors import DataError, UsageError
from pydpdk.source.source import open_source
from pydpdk.synth.gen import generate

NOON = 1_767_632_400 * 10**9
A, B, C = (Endpoint(f"233.0.0.{i}", 26400 + i) for i in (1, 2, 3))


def stream(endpoint, session="S1", protocol="itch50", messages=10, ts_first=NOON):
    fields = {"messages": messages, "ts_first": ts_first}
    return Stream(endpoint, "moldudp64", protocol, session, 0, fields)


def seen(*streams, ts_first=NOON, lost=0):
    return Survey(streams, {}, ts_first, ts_first + 1, lost, 0)


def test_the_two_lines_of_a_session_are_a_and_b():
    feed = resolve(Feed("itch50"), seen(stream(A), stream(C, protocol=None), stream(B)))
    assert feed.lines == (A, B)
    assert feed.midnight_ns == midnight_ns(NOON)


def test_what_the_user_named_stays():
    named = Feed("itch50", (C,), midnight_ns=5)
    assert resolve(named, seen(stream(A))) == named


@pytest.mark.parametrize(
    "streams",
    [(stream(A), stream(B), stream(C)), (stream(A), stream(B, session="S2"))],
    ids=["three lines", "two sessions"],
)
def test_more_than_one_feed_needs_a_choice(streams):
    with pytest.raises(UsageError, match="several itch50 streams") as error:
        resolve(Feed("itch50"), seen(*streams))
    for one in streams:
        assert f"--feed itch50@{one.endpoint}   session '{one.session}'" in str(error.value)


def test_streams_without_messages_count_only_when_there_are_no_others():
    idle = stream(B, messages=0)
    assert resolve(Feed("itch50"), seen(stream(A), idle)).lines == (A,)
    assert resolve(Feed("itch50"), seen(idle)).lines == (B,)


def test_none_at_all_is_told_with_what_there_is():
    others = [stream(Endpoint("233.0.1.1", port), protocol=None) for port in range(1, 20)]
    with pytest.raises(DataError, match=r"233.0.1.1:1 \(moldudp64\), .* 11 more$"):
        resolve(Feed("itch50"), seen(*others))
    with pytest.raises(DataError, match="it has: no UDP"):
        resolve(Feed("itch50"), seen())


def test_named_lines_of_which_a_capture_has_none():
    check_lines(Feed("itch50", (A, C)), seen(stream(A)))
    with pytest.raises(DataError, match=r"nothing for itch50@233\.0\.0\.3:26403"):
        check_lines(Feed("itch50", (C,)), seen(stream(A)))
    check_lines(Feed("itch50", (C,)), seen(stream(A), lost=1))  # the survey did not see all


def test_captures_are_joined_in_order_of_time():
    early = seen(stream(B, ts_first=NOON), stream(A, ts_first=NOON + 5))
    late = seen(stream(A, session="S2", ts_first=NOON + 50), ts_first=NOON + 50)
    for surveys in ([early, late], [late, early]):
        both = joined(surveys)
        assert [(s.endpoint, s.session) for s in both.streams] == [(B, "S1"), (A, "S1")]
        assert (both.ts_first, both.ts_last) == (NOON, NOON + 51)
    assert joined([seen(ts_first=0), early]).ts_first == NOON


def test_sessions_and_jumps_are_counted(tmp_path):
    path = tmp_path / "two.pcap"
    sessions = ((b"MORNING", 1), (b"AFTERNOON", 1500))
    truth = generate(path, messages=3000, instruments=5, sessions=sessions, gaps=((200, 40),))
    with open_source(f"pcap:{path}") as source:
        found = survey(source)
    assert len(found.streams) == 2
    for one in found.streams:
        fields = one.fields
        assert (one.protocol, one.session, fields["sessions"]) == ("itch50", "AFTERNOON", 2)
        assert (fields["first"], fields["next"]) == (1, truth.last_sequence + 1)
        assert fields["lost"] == len(truth.lost_on_both) >= 40
        assert fields["gaps"] == 1
        assert fields["not_framed"] == fields["behind"] == 0


def test_progress_is_told_to_the_end(tmp_path):
    path = tmp_path / "x.pcap"
    truth = generate(path, messages=1000, instruments=5)
    told = []
    with open_source(f"pcap:{path}") as source:
        survey(source, told.append)
    assert told[-1] == sum(line.sent for line in truth.lines.values())
