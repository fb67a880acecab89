"""`agentq next`: the words, the questions, and the short way of --json."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli.terminal import Terminal, document, forty, landed, lease, spec, write
from support import project as projects
from support.project import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return projects.build(tmp_path / "p")


def _chain() -> dict[str, Any]:
    """a → b → c, and d which nothing waits for."""
    ready = [spec("d"), spec("a", estimate_hours=4), spec("b", depends_on=["a"]), spec("c", depends_on=["b"])]
    return {"ready": ready}


def test_in_plain_words(project: Project) -> None:
    write(project, _chain())
    done = project.agentq("next", "--no-input")
    assert done.stdout.splitlines()[:5] == [
        "Next: a", "      Title of a", "  · unlocks 2", "  · on the critical path, 13 h left",
        "  · touches no file in use",
    ]  # fmt: skip
    assert "Or:\n  d  Title of d\n" in done.stdout
    assert project.queue["ready"][0]["id"] == "d", "nothing was started"


@pytest.mark.parametrize(
    ("queue", "words"),
    [
        ({}, "The queue is empty: 'agentq add ID --title …'"),
        ({"completed": [landed("a", 1)], "epoch": 1}, "the one spec is completed"),
        ({"ready": [spec("a")], "paused": "release day"}, "the queue is paused: release day"),
        ({"ready": [spec("a", held="not yet")]}, "1 held. For example a: held: not yet."),
        (
            {"in_progress": [spec("a", status="testing", lease=lease(1), attention="which one?")], "epoch": 1},
            "For example a: needs you: which one?",
        ),
    ],
)
def test_nothing_eligible_says_why_and_is_exit_3(project: Project, queue: dict[str, Any], words: str) -> None:
    write(project, queue)
    assert words in " ".join(project.agentq("next", rc=3).stdout.split())
    found = document(project.agentq("next", "--json", rc=3))
    assert found["schema"] == "agentq/next/v1" and found["pick"] is None


def test_a_stage_command_recommends_for_its_stage_only(project: Project) -> None:
    write(project, {"ready": [spec("a")]})
    done = project.agentq("implement", rc=3)
    assert "No spec that may run is at its implement stage" in done.stdout and "'a'" in done.stdout
    done = project.agentq("test", rc=2)
    assert "Next: a" in done.stdout and "pass --yes" in done.stderr
    assert document(project.agentq("run", "--json", rc=2))["error"]["code"] == "user"


def test_a_batch_is_capped_by_free_instances(tmp_path: Path) -> None:
    project = projects.build(tmp_path / "p", instances=2)
    write(project, {"ready": [spec(name) for name in "abcd"]})
    found = document(project.agentq("next", "-n", "4", "--json"))
    assert [one["id"] for one in found["batch"]] == ["a", "b"]
    assert "These 2 can run together (of 4 asked for)" in project.agentq("next", "-n", "4", "--dry-run").stdout


# ---------------------------------------------------------------- questions


def test_why_skip_and_no(project: Project) -> None:
    write(project, _chain())
    shell = Terminal(project.checkout, "next")
    shell.until("Run 'a'? [Y/n/skip/why]")
    shell.type("what\n")
    shell.until("please answer one of: y, n, skip, why")
    shell.type("w\n")
    shell.until("number 2 in order of arrival")
    shell.type("s\n")
    shell.until("Run 'd'?")
    shell.type("n\n")
    assert shell.end() == 0 and len(project.queue["ready"]) == 4


def test_skipping_all(project: Project) -> None:
    write(project, {"ready": [spec("a")]})
    shell = Terminal(project.checkout, "next")
    shell.type("s\n")
    assert shell.end() == 0 and "nothing else is eligible" in shell.shown


@pytest.mark.parametrize(("key", "code"), [("\x03", 130), ("\x04", 0)])
def test_ctrl_c_and_end_of_input_start_nothing(project: Project, key: str, code: int) -> None:
    write(project, _chain())
    shell = Terminal(project.checkout, "next")
    shell.until("[Y/n/skip/why]")
    assert shell.press(key) == code and len(project.queue["ready"]) == 4
    assert "Traceback" not in shell.shown and shell.shown.endswith("\n")


def test_no_input_asks_nothing_on_a_terminal(project: Project) -> None:
    write(project, _chain())
    shell = Terminal(project.checkout, "next", "--no-input")
    assert shell.end() == 0 and "[Y/n" not in shell.shown and "Next: a" in shell.shown


def test_yes_to_a_batch_runs_exactly_these(project: Project) -> None:
    for name in "abcd":
        project.add(name)
    shell = Terminal(project.checkout, "next", "-n", "2")
    shell.until("Start these 2? They land without asking. [Y/n]")
    shell.type("\n")
    assert shell.end() == 0
    assert sorted(project.landings()) == ["a", "b"] and len(project.queue["ready"]) == 2
    assert "2 landed, 0 did not" in shell.shown


# ---------------------------------------------------------------- the short way


def _queues() -> dict[str, dict[str, Any]]:
    many = forty()
    return {
        "empty": {},
        "chain": _chain(),
        "forty": many,
        "paused": {**many, "paused": "release day"},
        "only paused": {"ready": [spec("a")], "paused": True},
        "attention": {**many, "in_progress": many["in_progress"][:1]},
        "pinned": {"ready": [spec("a"), spec("b", priority=3, tests="none", held=False)]},
    }


@pytest.mark.parametrize("name", list(_queues()))
@pytest.mark.parametrize("more", [[], ["-n", "3"]], ids=["one", "three"])
def test_short_and_long_way_say_the_same(project: Project, name: str, more: list[str]) -> None:
    write(project, _queues()[name])
    (project.state / "queue.valid").unlink(missing_ok=True)
    slow = project.agentq("next", "--json", *more, rc=None)
    assert (project.state / "queue.valid").exists()
    quick = project.agentq("next", "--json", *more, rc=None)
    assert slow.stdout == quick.stdout and slow.returncode == quick.returncode
    assert ("batch" in json.loads(slow.stdout)) == bool(more)


def test_short_and_long_way_on_a_full_machine(tmp_path: Path) -> None:
    from agentq import process
    from agentq.store.runs import Live, Runs

    project = projects.build(tmp_path / "p", instances=1)
    write(
        project, {"ready": [spec("b")], "in_progress": [spec("a", status="testing", lease=lease(1))], "epoch": 1}
    )
    me = process.identity(os.getpid()) or ""
    Runs(project.state).announce(Live("a", "r", "m", me, os.getpid(), 1, 1, "test", "now"))
    slow = project.agentq("next", "--json", "-n", "2", rc=3)
    assert project.agentq("next", "--json", "-n", "2", rc=3).stdout == slow.stdout
    assert document(slow)["blocked"]["kind"] == "machine-full" and document(slow)["batch"] == []


_IMPORTS = """
import json, sys
sys.argv = ["agentq", *json.loads(sys.argv[1])]
from agentq.__main__ import main
try:
    main()
except SystemExit:
    pass
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def _imported(project: Project, *args: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTS, json.dumps(args)], cwd=project.checkout, capture_output=True, text=True,
        check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_import_budget(project: Project) -> None:
    with (project.checkout / "agents" / "config.toml").open("a") as file:
        file.write('[bucket.b]\n[tier.t]\nbucket = "b"\nmodel = "m"\n[route]\ndefault = ["t"]\n')
    write(project, forty())
    project.agentq("status")  # leaves the mark that the queue is valid
    heavy = {"typer", "pydantic", "rich", "git", "networkx", "filelock", "psutil", "anthropic"}
    imported = _imported(project, "next", "--json", "-n", "2")
    assert imported & heavy == set()
    # Nothing of agents, models and money either (they cost more than the whole answer).
    ours = ("agentq.drivers", "agentq.models", "agentq.agent", "agentq.sandbox", "agentq.core.models", "sqlite3")
    assert [name for name in imported if name.startswith(ours)] == []
    assert "agentq.core.model_settings" not in imported
    assert _imported(project, "status") & {"networkx", "git", "anthropic", "psutil"} == set()
