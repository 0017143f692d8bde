"""Comparisons, gates, warnings and files of results, on figures that are made up."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pydpdk.bench import compare, report, run, warn
from pydpdk.bench.compare import Gate
from pydpdk.bench.wires import schedule
from pydpdk.core.hist import Hist
from pydpdk.errors import UsageError
from tests.bench_results import case, check, noisy, result, tailed
from tests.command import call, refused

OLD = result(case(noisy(20, 1)))
SLOWER = result(case(noisy(24, 2)))
SAME = result(case(noisy(20, 3)))
HISTS = {of: Hist.from_values([1000] * 9) for of in (schedule.SERVICE, schedule.RESPONSE)}
Put = Any


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Writes a result to a file of that name."""

    def write(name: str, made: dict[str, Any]) -> Path:
        report.write(made, tmp_path / name)
        return tmp_path / name

    return write


def verdicts(old: dict[str, Any], new: dict[str, Any]) -> dict[tuple[str, str, str], str]:
    made = compare.compare(old, new)
    check(made)
    return {
        (row["name"], change["of"], change["point"]): change["verdict"]
        for one in made["cases"]
        for row in one["series"]
        for change in row["changes"]
    }


def test_a_change_is_found_and_the_floor_stands() -> None:
    found = verdicts(OLD, SLOWER)
    assert found == {("ours", "", "median"): "slower", ("floor", "", "median"): "no change seen"}
    assert verdicts(SLOWER, OLD)["ours", "", "median"] == "faster"
    assert verdicts(OLD, SAME)["ours", "", "median"] == "no change seen"


def test_a_longer_tail_is_seen_where_the_median_is_not() -> None:
    old = result(case(noisy(1000, 1), tailed(10_000, 1)))
    new = result(case(noisy(1000, 2), tailed(15_000, 2)))
    found = verdicts(old, new)
    assert found["ours", "", "median"] == found["ours", "sent", "p50"] == "no change seen"
    assert found["ours", "sent", "p99"] == found["ours", "sent", "max"] == "slower"


@pytest.mark.parametrize(
    ("limits", "code"),
    [(["median:10%"], 5), (["median:30%"], 0), (["p99:10%"], 5), (["max:50%", "p50:15%"], 5),
     ([], 0)],
)  # fmt: skip
def test_gate_fails_beyond_its_limit(put: Put, limits: list[str], code: int) -> None:
    options = [word for limit in limits for word in ("--fail-on", limit)]
    done = call("bench", "compare", put("a", OLD), put("b", SLOWER), *options)
    assert done.code == code
    failed = [line for line in done.err.splitlines() if line.startswith("failed: ")]
    assert len(failed) == (1 if code else 0)
    if code:
        assert "way: ours: median +" in failed[0]
        assert "limit +" in failed[0]
    assert "not paired" in done.out


def test_gate_takes_the_point_of_a_distribution(put: Put) -> None:
    old = put("a", result(case(noisy(1000, 1), tailed(10_000, 1))))
    new = put("b", result(case(noisy(1000, 2), tailed(15_000, 2))))
    done = call("bench", "compare", old, new, "--fail-on", "p99:20%", "--fail-on", "p50:1%")
    assert done.code == 5
    assert [line for line in done.err.splitlines() if "p99" in line] == done.err.splitlines()
    assert call("bench", "compare", old, new, "--fail-on", "median:1%").code == 0


def test_gate_does_not_fail_on_noise(put: Put) -> None:
    old, new = put("a", result(case(noisy(20, 1, 0.5)))), put("b", result(case(noisy(30, 9, 0.5))))
    done = call("bench", "compare", old, new, "--fail-on", "median:1%", "--json")
    change = done.json["cases"][0]["series"][1]["changes"][0]
    assert change["ratio"] > 1.01
    assert (done.code, change["verdict"]) == (0, "too noisy to say")


def test_gate_fails_where_it_cannot_tell(put: Put) -> None:
    def failed(old: dict[str, Any], new: dict[str, Any], *gates: str) -> list[str]:
        options = [word for gate in gates for word in ("--fail-on", gate)]
        done = call("bench", "compare", put("a", old), put("b", new), *options)
        assert done.code == (5 if done.err else 0)
        return [line.removeprefix("failed: ") for line in done.err.splitlines()]

    kept, more = case(noisy(20, 2)), case(noisy(20, 4), name="more")
    skipped = run.skipped("more", "no room")
    both = result(kept, more)
    assert failed(both, result(kept, skipped), "median:5%") == [
        "more: skipped in the new result: no room"
    ]
    assert failed(result(kept, skipped), both, "median:5%") == [
        "more: skipped in the old result: no room"
    ]
    assert failed(both, result(kept), "median:5%") == ["more: not in the new result"]
    assert failed(result(kept, skipped), result(kept, skipped), "median:5%") == []
    lost = copy.deepcopy(more)
    lost["series"] = [row for row in lost["series"] if row["role"] == "floor"]
    assert failed(both, result(kept, lost), "median:5%", "p99:5%") == [
        "more: ours: only the old build has it"
    ]
    nothing = result(skipped)
    assert failed(nothing, nothing, "p99:5%") == ["p99: nothing of ours has it on both sides"]
    assert failed(both, result(kept)) == []


def test_a_higher_rate_is_better_and_a_longer_time_is_not(put: Put) -> None:
    def rates(figure: float, ns: int, seed: int) -> dict[str, Any]:
        one = case(noisy(figure, seed), tailed(ns, seed))
        return result(one | {"better": "higher", "unit": "packets/s"})

    fast, slow, late = rates(1000, 10_000, 1), rates(700, 10_000, 2), rates(1000, 15_000, 3)
    assert verdicts(fast, slow)["ours", "", "median"] == "slower"
    assert verdicts(slow, fast)["ours", "", "median"] == "faster"
    assert verdicts(fast, late)["ours", "sent", "p99"] == "slower"
    a, b = put("fast", fast), put("slow", slow)
    assert call("bench", "compare", a, b, "--fail-on", "median:30%").code == 5  # a factor of 1.43
    assert call("bench", "compare", a, b, "--fail-on", "median:60%").code == 0
    assert call("bench", "compare", b, a, "--fail-on", "median:1%").code == 0


def test_what_was_not_the_same_is_told() -> None:
    new = result(case(noisy(20, 3)), kernel="6.2", flags="-O2") | {"rounds": 7}
    told = compare.compare(OLD, new)["warnings"]
    for part in ("host: kernel was '6.1', is '6.2'", "build: flags was '-O3'", "rounds: was 10"):
        assert any(part in text for text in told), part
    assert len(compare.compare(OLD, SAME)["warnings"]) == 1


def test_cases_of_one_side_are_named() -> None:
    told = compare.compare(OLD, result(case(noisy(1, 1), name="other")))
    check(told)
    assert [case["series"] for case in told["cases"]] == [[], []]
    assert "other: not in the old result" in told["warnings"]
    assert "way: not in the new result" in told["warnings"]


@pytest.mark.parametrize("text", ["p99", "p99:10", "speed:1%", "p99:-1%", "p99:x%", ""])
def test_gate_that_is_none_is_refused(text: str, put: Put) -> None:
    with pytest.raises(UsageError, match="--fail-on"):
        Gate.parse(text)
    refused(2, "bench", "compare", put("a", OLD), put("b", SAME), "--fail-on", text)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": "pydpdk.bench/9"}', "\0"])
def test_a_file_that_is_no_result_is_a_data_error(text: str, put: Put, tmp_path: Path) -> None:
    (tmp_path / "b").write_text(text)
    assert "b: no " in refused(4, "bench", "compare", put("a", OLD), tmp_path / "b")
    refused(2, "bench", "compare", put("a", OLD), tmp_path / "absent")


def test_a_comparison_cannot_be_compared(put: Put) -> None:
    made = put("b", compare.compare(OLD, SAME))
    assert f"{made}: a report of kind 'compare'" in refused(4, "bench", "compare", made, made)


def parts(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every member and element."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield (*where, key)
        if isinstance(value[key], dict | list):
            yield from parts(value[key], (*where, key))


def test_a_result_with_a_broken_member_is_a_data_error_that_names_it(put: Put) -> None:
    """Every member in turn taken away, or of another type: compared all the same, or refused."""
    few = case(noisy(1000, 1), tailed(10_000, 1))
    for row in few["series"]:
        row["figures"] = row["figures"][:1]
        row["points"] = {"sent": {"p99": [1.0]}} if "points" in row else {}
        row.pop("hists", None)
    good = result(few, run.skipped("more", "no room"))
    old, refusals = put("a", good), set()
    for *place, last in parts(good):
        for broken in (None, {}, True, "take away"):
            made = copy.deepcopy(good)
            within = made
            for key in place:
                within = within[key]
            within[last] = broken
            if broken == "take away":
                del within[last]
            new = put("b", made)
            done = call("bench", "compare", old, new, "--fail-on", "p99:1%")
            assert done.code in (0, 4, 5), (place, last, broken)
            shown = call("bench", "report", new)
            assert shown.code == done.code % 5, (place, last, broken)
            if done.code == 4:
                assert done.err.count(str(new)) == done.err.count("\n") == 1
                named = str(last) in done.err or "[...]" in done.err  # a table's keys are not
                assert named, done.err
                refusals.add(last)
    assert {"rounds", "cases", "host", "name", "median", "figures", "p99", "skipped"} <= refusals
    bare = put("b", {"schema": report.SCHEMA, "kind": "run"})
    assert "missing required field `created`" in refused(4, "bench", "compare", bare, old)


def told(row: dict[str, Any], **more: Any) -> str:
    return "\n".join(warn.case(row | more))


def test_a_point_on_few_samples_is_named() -> None:
    made = case(noisy(1000, 1), tailed(10_000, 1))
    assert "p99.99 on 2" in told(made)
    assert "p99.9 on" not in told(made)
    few = case(noisy(1000, 1), [[1000] * 50] * 10)
    assert "p99 on 5, p99.9 on 0, p99.99 on 0" in told(few)


def test_rounds_that_lie_apart_drift_or_are_few_are_named() -> None:
    assert told(case(noisy(20, 1))) == ""
    assert "about their median" in told(case(noisy(20, 1, 0.3)))
    assert "pace changed" in told(case([20.0] * 5 + [25.0] * 5))
    assert "3 rounds" in told(case([20.0] * 3))
    assert "of its floor" in told(case([0.5] * 10))


def test_what_the_host_did_meanwhile_is_named() -> None:
    quiet = {"steal_ms": 0.0, "interrupt_ms": 0.0, "interrupts": 9}
    meanwhile = {"seconds": 10.0, "others_ms": 10.0, "preempted": 0, "cores": {"1": quiet}}
    made = case(noisy(20, 1)) | {"meanwhile": meanwhile}
    assert told(made) == ""
    stolen = meanwhile | {"cores": {"0": quiet, "1": quiet | {"steal_ms": 90.0}}}
    assert "steal" in told(made, meanwhile=stolen)
    assert "others used" in told(made, meanwhile=meanwhile | {"others_ms": 900.0})
    assert "unreliable: why" in told(made, facts={"unreliable": "why"})
    assert "took the engine's core" in told(made, facts={"engine_preempted": 3})


def test_what_a_schedule_hides_is_named() -> None:
    made = case(noisy(20, 1))
    quiet = {
        "unanswered": {"sockets": 0, "memif": 0}, "generator_behind_ms": 0.0,
        "generator_behind_times": 0, "response_and_service": {"ours": schedule.differ(HISTS)},
    }  # fmt: skip
    assert told(made, facts=quiet) == ""
    assert told(made, facts=quiet | {"unanswered": {"sockets": 0, "memif": 3}}) == (
        "ticks were not answered, and are in no figure: 3 of memif"
    )
    late = {"generator_behind_ms": 2.25, "generator_behind_times": 1}
    assert "behind its schedule by 2.2 ms in all, 1 times" in told(made, facts=quiet | late)
    apart = schedule.differ(HISTS | {schedule.RESPONSE: Hist.from_values([5000] * 9)})
    assert told(made, facts=quiet | {"response_and_service": {"ours": apart}}) == (
        f"ours: response and service: {apart}"
    )
    assert "of response 5" in apart


def test_results_survive_their_file(put: Put) -> None:
    assert report.read(put("a", OLD)) == json.loads(json.dumps(OLD))
