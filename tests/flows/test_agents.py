"""Which model does a stage, what it may spend, and what happens when it fails: whole runs, with a driver whose model
does what the test says."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import project as projects
from support import scripted
from support.project import Project
from support.scripted import TASKS, TURNS, Turn, used

from agentq.drivers.base import Window

MODELS = """
[sandbox]
use = "off"
[budget]
tokens = { implementation = 1_000_000 }
%s
[pace]
open_seconds = 0.3
%s
[bucket.first]
protocol = "anthropic"
%s
[bucket.second]
[tier.strong]
bucket = "first"
model = "big"
input = 10
output = 50
strength = 9
[tier.small]
bucket = "second"
model = "little"
input = 1
output = 5
strength = 1
"""
FAILS: dict[str, Any] = {"outcome": "failed", "returncode": 1, "summary": "no"}


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    TURNS.clear()
    TASKS.clear()
    yield
    assert not TURNS, "the agent was asked less often than the test says"


def build(root: Path, budget: str = "", pace: str = "", bucket: str = "", **spec: Any) -> Project:
    project = projects.build(root, config=MODELS % (budget, pace, bucket))
    project.add("alpha", tests="none", **spec)
    return project


def run(project: Project, spec: str = "alpha", **more: Any) -> tuple[Any, list[tuple[str, dict[str, Any]]]]:
    """(report, events) of a run with the scripted driver."""
    from agentq.flows.recover import recover
    from agentq.flows.run import run_spec

    made = projects.services(project, **{"agent.driver": "support.scripted:Scripted", **more})
    recover(made)
    return run_spec(made, spec, confirm=lambda _id, _summary: True), made.seen


def said(seen: list[tuple[str, dict[str, Any]]], event: str) -> list[dict[str, Any]]:
    return [data for name, data in seen if name == event]


def test_the_strongest_tier_works_and_its_cost_lands_with_the_spec(tmp_path: Path) -> None:
    project = build(tmp_path / "p", estimate_hours=8)
    TURNS.append(Turn([used(2000), used(3000)]))
    report, seen = run(project)
    assert report.ended == "landed"
    (started,) = said(seen, "agent-started")
    assert (started["tier"], started["model"]) == ("strong", "big")
    assert TASKS[0].brain.model == "big" and TASKS[0].limits.tokens == 1_000_000
    entry = project.entry("alpha")
    assert (entry["array"], entry["tokens"], entry["cost"]) == ("completed", 5000, 0.05)
    costs = project.agentq("cost", "--by", "model", "--json")
    import json

    (row,) = json.loads(costs.stdout)["rows"]
    assert (row["name"], row["requests"], row["input"], row["dollars"]) == ("m", 2, 5000, 0.05)


def test_an_easy_spec_goes_to_the_cheapest(tmp_path: Path) -> None:
    project = build(tmp_path / "p", title="Fix a typo", estimate_hours=0.1)
    report, seen = run(project)
    assert report.ended == "landed" and said(seen, "agent-started")[0]["tier"] == "small"
    assert "the cheapest tier first" in said(seen, "routed")[0]["text"]


def test_a_model_that_fails_is_followed_by_the_next_of_its_chain(tmp_path: Path) -> None:
    project = build(tmp_path / "p", estimate_hours=8)
    TURNS.append(Turn([used(1000)], works=False, ends={**FAILS, "cause": "overloaded", "status": 529}))
    TURNS.append(Turn([used(1000)]))
    report, seen = run(project)
    assert report.ended == "landed"
    (failed,) = said(seen, "model-failed")
    assert (failed["tier"], failed["cause"]) == ("strong", "overloaded")
    # One failure leaves the breaker closed: the strong tier is asked once more, and does it.
    assert [one["tier"] for one in said(seen, "agent-started")] == ["strong", "strong"]
    entry = project.entry("alpha")
    assert (entry["tokens"], entry["cost"], entry["stages"]["implement"]["attempts"]) == (2000, 0.02, 1)


def test_two_failures_open_the_breaker_and_the_next_tier_goes_on(tmp_path: Path) -> None:
    project = build(tmp_path / "p", estimate_hours=8)
    for _ in range(2):
        TURNS.append(Turn([], works=False, ends={**FAILS, "cause": "rate-limit", "status": 429}))
    TURNS.append(Turn([used(10)]))
    report, seen = run(project, **{"pace.open_seconds": 3600})
    assert report.ended == "landed"
    started = said(seen, "agent-started")
    assert [one["tier"] for one in started] == ["strong", "strong", "small"]
    assert "the breaker of strong is open" in started[-1]["why"]
    project.add("beta", tests="none", estimate_hours=8)
    report, seen = run(project, "beta")
    assert [one["tier"] for one in said(seen, "agent-started")] == ["small"]
    assert "strong                open" in project.agentq("breakers").stdout.replace("  ", "  ")
    assert "closed the breaker of strong" in project.agentq("breakers", "reset").stdout
    project.add("gamma", tests="none", estimate_hours=8)
    report, seen = run(project, "gamma")
    assert [one["tier"] for one in said(seen, "agent-started")] == ["strong"]


def test_a_failed_task_counts_for_nothing(tmp_path: Path) -> None:
    project = build(tmp_path / "p", estimate_hours=8)
    for _ in range(2):
        TURNS.append(Turn([used(10)], works=False, ends={**FAILS}))
    report, seen = run(project)
    assert report.ended == "attention"
    assert [one["tier"] for one in said(seen, "agent-started")] == ["strong", "strong"]
    assert '"closed"' in project.agentq("breakers", "--json").stdout
    assert '"open"' not in project.agentq("breakers", "--json").stdout


def test_a_usage_limit_puts_the_bucket_to_sleep_and_work_goes_on_when_it_resets(tmp_path: Path) -> None:
    project = build(tmp_path / "p")
    begin = time.time()
    for _ in range(2):
        ends = {**FAILS, "cause": "usage-limit", "resets_at": begin + 3, "session": "s-1"}
        TURNS.append(Turn([used(10)], works=False, ends=ends))
    TURNS.append(Turn([used(10)]))
    report, seen = run(project)
    assert report.ended == "landed" and time.time() >= begin + 3
    tiers = [one["tier"] for one in said(seen, "agent-started")]
    assert sorted(tiers[:2]) == ["small", "strong"] and len(tiers) == 3
    (waited,) = said(seen, "model-awaited")
    assert "sleeps: usage-limit" in waited["text"]
    # The same agent goes on with its conversation, and knows what that had used.
    assert [task.session for task in TASKS] == ["", "s-1", "s-1"]
    assert [task.before.usage.total for task in TASKS] == [0, 10, 20]


def test_who_does_not_want_to_wait_is_told_when(tmp_path: Path) -> None:
    project = build(tmp_path / "p")
    for _ in range(2):
        ends = {**FAILS, "cause": "usage-limit", "resets_at": time.time() + 5000}
        TURNS.append(Turn([used(10)], works=False, ends=ends))
    report, _ = run(project, **{"pace.at_limit": "stop"})
    assert (report.ended, report.why) == ("interrupted", "models") and "no model is free before" in report.problem
    entry = project.entry("alpha")
    assert entry["array"] == "in_progress" and not entry.get("failures") and not entry.get("attention")
    assert entry["stages"]["implement"]["tokens"] == 20
    again = project.agentq("run", "alpha", "--yes", rc=1, env=_scripted({"AGENTQ_PACE_AT_LIMIT": "stop"}))
    assert "no model is free before" in again.stdout


def _scripted(more: dict[str, str]) -> dict[str, str]:
    tests = str(Path(__file__).parents[1])
    return projects.environment(AGENTQ_AGENT_DRIVER="support.scripted:Scripted", PYTHONPATH=tests, **more)


def test_a_login_that_is_refused_asks_a_person(tmp_path: Path) -> None:
    project = build(tmp_path / "p")
    for _ in range(2):
        TURNS.append(Turn([], works=False, ends={**FAILS, "cause": "auth", "status": 401}))
    report, _ = run(project)
    assert (report.ended, report.why) == ("interrupted", "credentials")
    assert "first sleeps: auth" in report.problem and "second sleeps: auth" in report.problem
    assert "second sleeps: auth" in project.agentq("run", "alpha", "--yes", rc=4, env=_scripted({})).stdout
    assert "woke first\nwoke second" in project.agentq("breakers", "reset").stdout
    report, _ = run(project)
    assert report.ended == "landed"


def test_work_starts_nothing_more_when_no_model_may_be_asked(tmp_path: Path) -> None:
    project = build(tmp_path / "p")
    for spec in ("beta", "gamma"):
        project.add(spec, tests="none")
    for _ in range(2):
        TURNS.append(Turn([], works=False, ends={**FAILS, "cause": "auth", "status": 401}))
    run(project)
    done = project.agentq("work", "-n", "1", rc=4, env=_scripted({}))
    assert "Nothing more may start: no model may be asked: " in done.stdout
    assert [entry["id"] for entry in project.queue["ready"]] == ["beta", "gamma"]


def test_a_key_that_is_not_there_leaves_a_tier_out(tmp_path: Path) -> None:
    project = build(tmp_path / "p", bucket='key_env = "AGENTQ_TEST_NO_SUCH_KEY"', estimate_hours=8)
    report, seen = run(project)
    assert report.ended == "landed"
    (started,) = said(seen, "agent-started")
    assert started["tier"] == "small" and "AGENTQ_TEST_NO_SUCH_KEY is not set" in started["why"]


def test_the_key_and_the_server_of_a_bucket_reach_its_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = 'key_env = "MY_KEY"\nservers = ["http://127.0.0.1:9", "http://127.0.0.1:10"]'
    project = build(tmp_path / "p", bucket=bucket, estimate_hours=8)
    monkeypatch.setenv("MY_KEY", "very-secret-key-1")
    report, _ = run(project)
    brain = TASKS[0].brain
    assert report.ended == "landed" and brain.key == "very-secret-key-1" and brain.protocol == "anthropic"
    assert brain.base_url in ("http://127.0.0.1:9", "http://127.0.0.1:10")
    assert "very-secret-key-1" not in repr(TASKS[0])


def test_a_budget_stops_the_agent_at_once_with_its_work_saved(tmp_path: Path) -> None:
    project = build(tmp_path / "p", budget="spec_dollars = 0.04", estimate_hours=8)
    TURNS.append(Turn([used(2000), used(2000), used(2000), used(2000)], patient=True))
    report, seen = run(project)
    assert (report.ended, report.why) == ("attention", "budget") and "over budget: spec alpha" in report.problem
    ended = said(seen, "agent-ended")[0]
    # 0.02 each: nothing is asked after the one that leaves no room for another.
    assert (ended["outcome"], ended["cause"], ended["tokens"]) == ("limit", "budget", 4000)
    entry = project.entry("alpha")
    assert entry["stages"]["implement"]["cost"] == pytest.approx(0.04) and "over budget" in entry["attention"]
    mirror = project.workspaces / "mirror.git"
    assert "refs/agentq/wip/alpha" in project.git("for-each-ref", "--format=%(refname)", cwd=mirror).splitlines()
    assert project.agentq("run", "alpha", "--yes", rc=1, env=_scripted({})).stderr.count("needs you")
    project.agentq("retry", "alpha", "--yes", rc=7, env=_scripted({}))


def test_the_tokens_of_one_run_have_a_limit_by_type(tmp_path: Path) -> None:
    project = build(tmp_path / "p", estimate_hours=8)
    TURNS.append(Turn([used(600), used(600)], patient=True))
    report, _ = run(project, **{"budget.tokens": {"implementation": 1000}})
    assert (report.ended, report.why) == ("attention", "budget") and "1,000" in report.problem


def test_the_default_is_the_promised_one(tmp_path: Path) -> None:
    from agentq.config import Config

    assert Config().budget.tokens == {"scan": 8000, "implementation": 10_000, "documentation": 6000}


def test_a_day_has_one_budget_for_all_specs(tmp_path: Path) -> None:
    project = build(tmp_path / "p", budget="day_dollars = 0.05", estimate_hours=8)
    TURNS.append(Turn([used(1000)]))
    report, _ = run(project)
    assert report.ended == "landed"
    project.add("beta", tests="none", estimate_hours=8)
    TURNS.append(Turn([used(4000)], patient=True))
    report, _ = run(project, "beta", **{"pace.at_limit": "stop"})
    # Tomorrow there is money again: nobody has to decide anything, and nothing is charged to the spec.
    assert (report.ended, report.why) == (
        "interrupted",
        "budget",
    ) and "nothing may be spent before 00:00" in report.problem
    beta = project.entry("beta")
    assert (
        beta["array"] == "in_progress"
        and not beta.get("attention")
        and beta["stages"]["implement"]["cost"] == 0.04
    )
    project.add("gamma", tests="none", estimate_hours=8)
    count = len(TASKS)
    report, _ = run(project, "gamma", **{"pace.at_limit": "stop"})
    assert (report.ended, report.why) == ("interrupted", "budget") and len(TASKS) == count


def test_what_other_machines_spent_on_a_spec_counts(tmp_path: Path) -> None:
    project = build(tmp_path / "p", budget="spec_dollars = 0.05", estimate_hours=8)
    TURNS.append(Turn([used(100)], works=False, ends={**FAILS}))
    TURNS.append(Turn([used(100)], works=False, ends={**FAILS}))
    run(project)
    queue = project.queue
    queue["in_progress"][0]["stages"]["implement"]["cost"] = 0.06
    del queue["in_progress"][0]["attention"]
    project.write_queue(**queue)
    report, _ = run(project)
    assert (report.ended, report.why) == ("attention", "budget") and "$0.06 of $0.05 used" in report.problem


def test_a_plan_that_is_well_used_overflows_to_the_next_bucket(tmp_path: Path) -> None:
    project = build(tmp_path / "p", estimate_hours=8)
    TURNS.append(Turn([Window("seven_day", 0.5, time.time() + 86_400), used(10)]))
    report, seen = run(project)
    assert report.ended == "landed" and said(seen, "agent-started")[0]["tier"] == "strong"
    project.add("beta", tests="none", estimate_hours=8)
    report, seen = run(project, "beta")
    (started,) = said(seen, "agent-started")
    assert report.ended == "landed" and started["tier"] == "small"
    assert "the seven-day window is 50% used, over 40%" in started["why"]
    assert "50% used" in project.agentq("budget").stdout


def test_a_conversation_can_be_gone_on_with(tmp_path: Path) -> None:
    project = build(tmp_path / "p")
    for _ in range(2):
        TURNS.append(Turn([], works=False, ends={**FAILS, "session": "talk-7"}))
    run(project)
    shown = project.agentq("attach", "alpha", "--print", env=_scripted({})).stdout
    assert shown.strip().endswith("/ws/alpha && scripted --resume talk-7")
    assert project.agentq("attach", "alpha", rc=2, env=projects.environment(AGENTQ_AGENT_DRIVER="x:Y")).stderr


def test_what_an_attempt_took_counts_however_it_ended(tmp_path: Path) -> None:
    project = build(tmp_path / "p", estimate_hours=8)
    for _ in range(2):
        TURNS.append(Turn([used(1000)], works=False))  # it says that it is done and commits nothing
    report, _ = run(project)
    assert report.ended == "attention" and "committed nothing" in report.problem
    entry = project.entry("alpha")
    assert (entry["stages"]["implement"]["tokens"], entry["stages"]["implement"]["cost"]) == (2000, 0.02)


@pytest.mark.parametrize(("cause", "word"), [("turns", "reached its limit"), ("context", "failed")])
def test_other_limits_are_failures_of_the_attempt(tmp_path: Path, cause: str, word: str) -> None:
    project = build(tmp_path / "p")
    outcome = "limit" if cause == "turns" else "failed"
    for _ in range(2):
        TURNS.append(Turn([used(1)], works=False, ends={**FAILS, "outcome": outcome, "cause": cause}))
    report, _ = run(project)
    assert report.ended == "attention" and word in report.problem and not report.why


def test_without_tiers_the_agents_own_login_is_counted_too(tmp_path: Path) -> None:
    project = projects.build(tmp_path / "p", config='[sandbox]\nuse = "off"\n')
    project.add("alpha", tests="none")
    TURNS.append(Turn([used(70)], ends={"cost": 0.25}))
    report, seen = run(project, **{"agent.model": "own"})
    assert report.ended == "landed" and TASKS[0].brain.model == "own" and TASKS[0].limits.tokens == 10_000
    assert project.entry("alpha")["cost"] == 0.25
    assert "$0.25" in project.agentq("cost").stdout
    assert not said(seen, "routed")


def test_scripted_is_a_driver() -> None:
    from agentq.drivers.base import Driver

    driver: Driver = scripted.Other()
    assert driver.name == "other"
