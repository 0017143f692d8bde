"""What a careful reader would object to in the figures of one case."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydpdk.bench import statistics
from pydpdk.bench.wires import schedule
from pydpdk.core.hist import POINTS

BEYOND_MIN = 10  # samples above a percentile, for it to be one
STEAL_MAX, OTHERS_MAX = 0.005, 0.05  # shares of the time
SPREAD_MAX, DRIFT_MAX = 0.05, 0.10
BELOW = 0.7  # of a floor: the floor is none, or one of both measured something else
DEAR_ROLES = ("ours", "floor")
Row = dict[str, Any]


def thin(percentiles: dict[str, Any]) -> dict[str, int]:
    """Percentiles with fewer than BEYOND_MIN samples above them -> how many it has."""
    beyond = {
        name: round(percentiles["count"] * (1 - percent / 100)) for name, percent in POINTS.items()
    }
    return {name: count for name, count in beyond.items() if count < BEYOND_MIN}


def case(result: Row) -> list[str]:
    """Of a case of ``run``, or of one of ``against`` with two sides."""
    if "skipped" in result:
        return []
    found = list(_host(result))
    if why := result["facts"].get("unreliable"):
        found.append(f"unreliable: {why}")
    for name in ("engine_preempted", "preempted"):
        if times := result["facts"].get(name):
            found.append(f"{times} times another process took the engine's core: tails are its own")
    if lost := result["facts"].get("lost"):
        found.append(f"{lost} were sent and not received")
    found += _schedule(result["facts"])
    rounds = min((row["rounds"] for row in result["series"] if "rounds" in row), default=None)
    if rounds is not None and rounds < statistics.ROUNDS_MIN:
        found.append(f"{rounds} rounds: fewer than {statistics.ROUNDS_MIN} tell nothing of noise")
    for row in result["series"]:
        found += [f"{row['name']}: {text}" for text in _series(row)]
    return found


def _schedule(facts: Row) -> Iterator[str]:
    unanswered = {name: count for name, count in facts.get("unanswered", {}).items() if count}
    if unanswered:
        names = ", ".join(f"{count} of {name}" for name, count in unanswered.items())
        yield f"ticks were not answered, and are in no figure: {names}"
    if behind := facts.get("generator_behind_ms"):
        times = facts.get("generator_behind_times", 0)
        yield f"the generator was behind its schedule by {behind:,.1f} ms in all, {times:,} times"
    for name, text in facts.get("response_and_service", {}).items():
        if text != schedule.AGREE:
            yield f"{name}: response and service: {text}"


def _host(result: Row) -> Iterator[str]:
    meanwhile = result.get("meanwhile")
    if not meanwhile:
        return
    whole_ms = 1e3 * meanwhile["seconds"]
    steal = max((core["steal_ms"] for core in meanwhile["cores"].values()), default=0.0)
    if steal > STEAL_MAX * whole_ms:
        yield f"the hypervisor took {steal:.0f} ms of {whole_ms:.0f} from a core (steal)"
    if meanwhile["others_ms"] > OTHERS_MAX * whole_ms:
        yield (
            f"others used {meanwhile['others_ms']:.0f} ms of its cores in {whole_ms:.0f} ms: "
            "isolate them (pydpdk doctor --for bench)"
        )


def _series(row: Row) -> Iterator[str]:
    if "changes" in row:
        for change in row["changes"]:
            if change["verdict"] == "too noisy to say" and not change["of"]:
                yield f"too noisy to say: {change['why']}"
        if row["role"] == "floor" and row["changes"][0]["verdict"] in ("slower", "faster"):
            yield "a floor that changed: the builds or the measurement differ, not our code alone"
        return
    figures = row["figures"]
    if len(figures) >= statistics.ROUNDS_MIN and row["role"] in DEAR_ROLES:
        if (share := statistics.spread(figures)) > SPREAD_MAX:
            yield f"rounds lie {share:.0%} about their median: smaller differences mean nothing"
        if abs((drift := statistics.drift(figures)) - 1) > DRIFT_MAX:
            yield f"the last rounds are {drift:.2f} of the first: the host's pace changed"
    if row["role"] == "ours" and row.get("against_role") == "floor" and row["ratio"] < BELOW:
        yield f"{row['ratio']:.2f} of its floor '{row['against']}': they do not do the same"
    for of, percentiles in row.get("percentiles", {}).items():
        if few := thin(percentiles):
            names = ", ".join(f"{name} on {count}" for name, count in few.items())
            yield f"{of}: fewer than {BEYOND_MIN} samples above a point: {names}"
