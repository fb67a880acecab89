"""Heartbeats as data, and what an observer may conclude from them."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentq.core import heartbeat
from agentq.core import queue as transitions
from agentq.core.heartbeat import Beat, Observations, Run, blinded, silent_seconds
from agentq.core.spec import Leader, Queue

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
BEAT = Beat(
    "m-1", "abc", 7, "2026-01-31T12:00:00+00:00", {"instances": 4, "ram_gb": 15.5}, {"s1": Run(3, "test", 1)},
    lane=9, drained=True,
)  # fmt: skip


def observe(
    previous: Observations | None, seen: dict[str, str], now: float, boot: str, *, took: float = 0,
    most: float = float("inf"),
) -> Observations:  # fmt: skip
    """A look that began at `now`."""
    return heartbeat.observe(previous, seen, now, now + took, boot, most)


def test_a_beat_comes_back_as_it_was() -> None:
    assert heartbeat.parse(heartbeat.to_text(BEAT)) == BEAT
    assert "\n" not in heartbeat.to_text(BEAT)


@pytest.mark.parametrize("text", [
    "", "x", "[]", "null", "{}", "[" * 100_000, '{"machine": 1}', '{"runs": 1e400}',
    json.dumps({**json.loads(heartbeat.to_text(BEAT)), "runs": {"s1": 3}}),
    json.dumps({**json.loads(heartbeat.to_text(BEAT)), "lane": -1}),
    json.dumps({**json.loads(heartbeat.to_text(BEAT)), "n": True}),
    json.dumps({**json.loads(heartbeat.to_text(BEAT)), "caps": {"ram_gb": float("nan")}}),
])  # fmt: skip
def test_what_is_no_beat_is_none(text: str) -> None:
    assert heartbeat.parse(text) is None


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*Beat.__dataclass_fields__, "x"]), inner),
))  # fmt: skip
def test_whatever_somebody_pushes_is_a_beat_or_none(data: Any) -> None:
    whole = {**json.loads(heartbeat.to_text(BEAT)), **(data if isinstance(data, dict) else {})}
    found = heartbeat.parse(json.dumps(whole))
    assert found is None or heartbeat.parse(heartbeat.to_text(found)) == found


def test_text_of_a_beat_is_made_safe() -> None:
    evil = json.loads(heartbeat.to_text(BEAT)) | {"machine": "m\x1b[31m\n1", "at": "\u202e" + "x" * 999}
    found = heartbeat.parse(json.dumps(evil))
    assert found is not None and found.machine == "m 1" and found.at == "x" * 200


def test_silence_is_time_unchanged_between_two_looks() -> None:
    seen = observe(None, {"machine:m": "a"}, 100, "boot")
    assert silent_seconds(seen, "machine:m") == 0 and silent_seconds(seen, "machine:x") == 0
    seen = observe(seen, {"machine:m": "a"}, 130, "boot")
    assert silent_seconds(seen, "machine:m") == 30
    seen = observe(seen, {"machine:m": "b"}, 150, "boot")
    assert silent_seconds(seen, "machine:m") == 0
    seen = observe(seen, {"machine:m": "b", "machine:n": ""}, 160, "boot")
    assert silent_seconds(seen, "machine:m") == 10 and silent_seconds(seen, "machine:n") == 0


def test_a_restart_of_the_observer_begins_anew() -> None:
    seen = observe(observe(None, {"k": "a"}, 1000, "boot"), {"k": "a"}, 5000, "boot")
    assert silent_seconds(seen, "k") == 4000
    assert silent_seconds(observe(seen, {"k": "a"}, 6000, "another"), "k") == 0
    # A clock that went back is another clock, whatever the boot id says.
    assert silent_seconds(observe(seen, {"k": "a"}, 10, "boot"), "k") == 0


def test_time_in_which_nothing_could_be_seen_does_not_count() -> None:
    seen = observe(observe(None, {"k": "a"}, 0, "b"), {"k": "a"}, 20, "b")
    seen = observe(blinded(seen), {"k": "a", "new": "x"}, 1020, "b")
    assert silent_seconds(seen, "k") == 20
    assert silent_seconds(observe(seen, {"k": "a"}, 1025, "b"), "k") == 25
    assert blinded(None) is None


def test_a_look_is_as_old_as_its_beginning() -> None:
    """An observer that was stopped in the middle of a look saw nothing meanwhile."""
    seen = observe(observe(None, {"k": "a"}, 0, "b"), {"k": "a"}, 20, "b", took=600)
    assert silent_seconds(seen, "k") == 20
    seen = observe(seen, {"k": "x"}, 630, "b", took=600)
    assert silent_seconds(seen, "k") == 0
    seen = observe(seen, {"k": "x"}, 1240, "b")
    assert silent_seconds(seen, "k") == 10, "it changed before 1230"


def test_time_in_which_nobody_looked_counts_for_little() -> None:
    """The remote may have been away in it, and nobody would know."""
    seen = observe(observe(None, {"k": "a"}, 0, "b", most=75), {"k": "a"}, 30, "b", most=75)
    seen = observe(seen, {"k": "a"}, 1830, "b", most=75)
    assert silent_seconds(seen, "k") == 105
    assert silent_seconds(observe(seen, {"k": "a"}, 1860, "b", most=75), "k") == 135


LOOKS = st.lists(
    st.tuples(st.floats(0.001, 100), st.floats(0, 50), st.sampled_from("ab"), st.booleans()), max_size=30
)


@given(LOOKS, st.floats(1, 200))
def test_silence_never_exceeds_what_was_watched(looks: list[tuple[float, float, str, bool]], most: float) -> None:
    """Against a plain model: the sum of the gaps since the last change that no failed look lies in, each from the
    beginning of a look (or the end of the one that saw the change) to the next one's, and `most` seconds at most."""
    known: Observations | None = None
    now = silence = watched_from = 0.0
    value = ""
    failed = False
    for pause, took, seen, fails in looks:
        now += pause
        if fails:
            known, failed = blinded(known), failed or known is not None
            continue
        if known is not None and seen == value:
            silence += 0.0 if failed else min(now - watched_from, most)
            watched_from = now
        else:
            silence, watched_from = 0.0, now + took
        known, value, failed = observe(known, {"k": seen}, now, "b", took=took, most=most), seen, False
        assert silent_seconds(known, "k") == pytest.approx(silence, abs=1e-6) and silence >= 0
        now += took


def test_observations_survive_a_file() -> None:
    seen = observe(None, {"k": "a"}, 1.5, "boot")
    assert heartbeat.from_json(json.loads(json.dumps(heartbeat.to_json(seen)))) == seen
    for torn in (None, [], {}, {"boot": "b", "at": "x", "seen": {}, "blind": False}, {"seen": {"k": 1}}):
        assert heartbeat.from_json(torn) is None


def _queue() -> Queue:
    queue = Queue.model_validate({"ready": [{"id": "s1", "title": "S"}]})
    from datetime import timedelta

    return transitions.claim(queue, "s1", transitions.Claim("m-1", 1, NOW, timedelta(hours=1)))


def test_what_is_watched() -> None:
    queue = _queue()
    assert heartbeat.watched({}, queue, None) == {"machine:m-1": ""}
    beats = {"m-1": ("c1", BEAT), "m-2": ("c2", None)}
    assert heartbeat.watched(beats, queue, None) == {"machine:m-1": "c1", "machine:m-2": "c2"}


def test_a_lane_stands_still_when_its_machine_no_longer_lists_it() -> None:
    leader = Leader(machine="m-1", epoch=9, since=NOW)
    queue = _queue()
    queue = queue.model_copy(update={"lane": queue.lane.model_copy(update={"leader": leader})})
    beats: dict[str, tuple[str, Beat | None]] = {"m-1": ("c1", BEAT)}
    seen = observe(None, heartbeat.watched(beats, queue, None), 0, "b")
    assert seen.seen["lane:9"].value == "c1"
    other = Beat("m-1", "abc", 8, lane=0, runs=BEAT.runs)
    for now, sha in ((10, "c2"), (20, "c3")):
        seen = observe(seen, heartbeat.watched({"m-1": (sha, other)}, queue, seen), now, "b")
    assert silent_seconds(seen, "machine:m-1") == 0 and silent_seconds(seen, "lane:9") == 20
    assert heartbeat.watched({}, queue, None)["lane:9"] == ""


def test_taken_over() -> None:
    queue = _queue()
    assert not heartbeat.taken_over(queue, "s1", 1)
    assert heartbeat.taken_over(queue, "s1", 2)
    back = transitions.give_back(queue, "s1", 1)
    assert heartbeat.taken_over(back, "s1", 1)
    landed = transitions.complete(queue, "s1", 1, "a" * 40, NOW, on_trunk=True)
    assert not heartbeat.taken_over(landed, "s1", 1), "it landed: whoever wrote that down"
