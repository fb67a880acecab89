"""Single rules of the queue's transitions that the stateful test does not look at closely."""

from datetime import UTC, datetime, timedelta

import pytest

from agentq.core import queue
from agentq.core.queue import Claim
from agentq.core.spec import Queue, Spec
from agentq.errors import AgentqError, CycleError, QueueError, Refused, Stale

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
TTL = timedelta(minutes=30)


def in_verify() -> Queue:
    """One spec 'a' verifying under epoch 1."""
    q = queue.add(Queue(), Spec(id="a", title="A"))
    q = queue.claim(q, "a", Claim("host", 1, NOW, TTL))
    for stage in ("test", "implement"):
        q = queue.finish(queue.begin(q, "a", 1, stage, NOW, TTL), "a", 1, stage, 60.0, 10, 0.25)  # type: ignore[arg-type]
    return queue.begin(q, "a", 1, "verify", NOW, TTL)


def test_completing_moves_the_entry_and_adds_up_what_it_took():
    done = queue.complete(in_verify(), "a", 1, "c" * 40, NOW, seconds=5.0)
    assert [entry.id for entry in done.in_progress] == []
    entry = done.completed[0]
    assert (entry.tokens, entry.cost, entry.stages["verify"].seconds) == (20, 0.5, 5.0)
    assert (entry.machine, entry.epoch, entry.landed) == ("host", 1, "c" * 40)


def test_completing_twice_changes_nothing_and_another_landing_is_stale():
    done = queue.complete(in_verify(), "a", 1, "c" * 40, NOW)
    assert queue.complete(done, "a", 1, "c" * 40, NOW) is done
    with pytest.raises(Stale):
        queue.complete(done, "a", 1, "d" * 40, NOW)


def test_an_old_owner_is_told_that_it_lost():
    taken = queue.take_over(in_verify(), "a", Claim("other", 2, NOW, TTL))
    with pytest.raises(Stale, match="no longer leased under epoch 1"):
        queue.complete(taken, "a", 1, "c" * 40, NOW)


def test_agent_text_is_cleaned_and_cut_before_it_is_kept():
    failed = queue.fail(in_verify(), "a", 1, "verify", "\x1b[31mred\x00" + "x" * 5000, attention="why\u202e?")
    entry = failed.in_progress[0]
    assert (entry.problem or "").startswith("redxxx") and len(entry.problem or "") == queue.NOTE_LIMIT
    assert entry.attention == "why?"


@pytest.mark.parametrize("bad", [{"seconds": float("inf")}, {"tokens": -30}, {"cost": -3.0}])
def test_a_bad_figure_never_reaches_the_queue(bad):
    with pytest.raises(QueueError, match="stages"):
        queue.fail(in_verify(), "a", 1, "verify", "no", **bad)


def test_find_suggests_the_nearest_id():
    with pytest.raises(AgentqError) as caught:
        queue.find(in_verify(), "zzzz")
    assert caught.value.hint == "'agentq status' lists the specs"
    q = queue.add(Queue(), Spec(id="auth-core", title="A"))
    with pytest.raises(AgentqError) as caught:
        queue.find(q, "auth-cor")
    assert caught.value.hint == "did you mean 'auth-core'?"


def test_next_stage_follows_the_status():
    q = in_verify()
    assert queue.next_stage(q.in_progress[0]) == "verify"
    assert queue.stage_started(q.in_progress[0])
    assert queue.next_stage(Spec(id="b", title="B")) == "test"
    with pytest.raises(Refused, match="landed as cccccccccc"):
        queue.next_stage(queue.complete(q, "a", 1, "c" * 40, NOW).completed[0])


@pytest.mark.parametrize("why", ["\x1b[2J", "x" * 201])
def test_a_bad_word_for_a_pause_is_refused(why):
    with pytest.raises(QueueError, match="paused: "):
        queue.pause(Queue(), why)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"id": "b"}, Refused, "an id is for good"),
        ({"lease": None}, QueueError, "unknown key 'lease'"),
        ({"status": "verifying"}, QueueError, "unknown key 'status'"),
        ({"title": ""}, QueueError, "title: should have at least 1 character"),
        ({"priority": 1.5}, QueueError, "priority: should be a valid integer"),
        ({"held": 3}, QueueError, "held: should be true, false or a text that says why"),
        ({"files_modified": ["../up"]}, QueueError, "files_modified.0: a path stays inside"),
        ({"depends_on": ["nobody"]}, QueueError, "'a' depends on 'nobody', which is not in the queue"),
        ({"depends_on": ["a"]}, QueueError, "'a' depends on itself"),
    ],
)
def test_what_an_edit_refuses(changes, error, message):
    q = in_verify()
    q = queue.add(q, Spec(id="b", title="B"))
    with pytest.raises(error) as caught:
        queue.edit(q, "a", changes)
    assert caught.value.message.startswith(message)


def test_an_edit_of_a_running_spec_obeys_the_rules_of_its_claim():
    q = queue.add(queue.add(Queue(), Spec(id="a", title="A")), Spec(id="b", title="B", files_modified=("x.py",)))
    for spec_id in ("a", "b"):
        q = queue.claim(q, spec_id, Claim("host", 1, NOW, TTL))
    with pytest.raises(Refused, match=r"would overlap with 'b' in x\.py"):
        queue.edit(q, "a", {"files_modified": ["x.py"]})
    assert queue.edit(q, "a", {"files_modified": ["x.py"]}, ("x.py",)).in_progress[0].files_modified == ("x.py",)
    with pytest.raises(Refused, match="in progress and cannot wait for b"):
        queue.edit(q, "a", {"depends_on": ["b"]})


def test_an_edit_that_closes_a_circle_is_refused():
    q = queue.add(queue.add(Queue(), Spec(id="a", title="A")), Spec(id="b", title="B", depends_on=("a",)))
    with pytest.raises(CycleError) as caught:
        queue.edit(q, "a", {"depends_on": ["b"]})
    assert sorted(caught.value.cycle[1:]) == ["a", "b"]


def test_times_are_kept_as_they_are_written():
    who = Claim("host", 1, NOW + timedelta(microseconds=999_999), TTL)
    lease = queue.claim(queue.add(Queue(), Spec(id="a", title="A")), "a", who).in_progress[0].lease
    assert lease.acquired == NOW and lease.expires == NOW + TTL
