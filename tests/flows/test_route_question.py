"""The router's third layer in a run: a real model call by the real client, against a server of the test."""

import json
from pathlib import Path
from typing import Any

from support import project as projects
from support.messages_stub import MessagesStub, always, fail, say
from support.project import Project
from support.scripted import TURNS

# What words and classifier are unsure about (`agentq route` says so).
VAGUE = "Something with the reports"


def build(root: Path, url: str, budget: str = "") -> Project:
    config = f"""
[sandbox]
use = "off"
[budget]
tokens = {{}}
{budget}
[bucket.here]
servers = ["{url}"]
[tier.strong]
bucket = "here"
model = "big"
strength = 9
[tier.small]
bucket = "here"
model = "little"
input = 1
output = 5
[route]
default = ["strong", "small"]
router = ["small"]
"""
    project = projects.build(root, config=config)
    project.add("alpha", tests="none", title=VAGUE)
    return project


def routed(project: Project) -> tuple[str, str]:
    """(how the run ended, why its tiers are what they are)."""
    from agentq.flows.run import run_spec

    TURNS.clear()
    made = projects.services(project, **{"agent.driver": "support.scripted:Scripted"})
    report = run_spec(made, "alpha", confirm=lambda _id, _summary: True)
    seen: list[tuple[str, dict[str, Any]]] = made.seen
    return report.ended, next(data["text"] for event, data in seen if event == "routed")


def test_the_text_is_vague(tmp_path: Path) -> None:
    project = build(tmp_path / "p", "http://127.0.0.1:9")
    told = json.loads(project.agentq("route", VAGUE, "--type", "implementation", "--json").stdout)
    assert told["confidence"] <= 0.6 and told["strategy"] == "safe"


def test_a_model_is_asked_and_its_answer_counts(tmp_path: Path) -> None:
    answer = {"type": "implementation", "kind": "planning", "complexity": 2, "confidence": 0.9}
    with MessagesStub(always(say(json.dumps(answer)))) as stub:
        project = build(tmp_path / "p", stub.url)
        ended, why = routed(project)

        (asked,) = stub.requests
    assert ended == "landed" and "a model was asked and says implementation, planning (90% sure)" in why
    assert asked.body["model"] == "little" and VAGUE in json.dumps(asked.body["messages"])
    (row,) = json.loads(project.agentq("cost", "--by", "stage", "--json").stdout)["rows"]
    assert (row["name"], row["requests"]) == ("route", 1) and row["tokens"] > 0


def test_one_that_fails_is_not_waited_for(tmp_path: Path) -> None:
    with MessagesStub(always(fail(529))) as stub:
        project = build(tmp_path / "p", stub.url)
        ended, why = routed(project)
        assert len(stub.requests) == 1
    assert ended == "landed" and "could not be asked" in why and "the safe choice is made" in why
    breakers = json.loads(project.agentq("breakers", "--json").stdout)["breakers"]
    assert {one["tier"]: one["failures"] for one in breakers} == {"strong": 0, "small": 1}
