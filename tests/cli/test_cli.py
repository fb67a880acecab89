"""Every command as a process: words, exit codes, JSON shapes, errors, completion."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from cli.terminal import ESCAPE, document, forty, landed, lease, spec, write
from support import project as projects
from support.project import Project

from agentq.cli.app import app


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return projects.build(tmp_path / "p")


def _error(project: Project, *args: str, rc: int) -> dict[str, Any]:
    """The same error as text and as JSON."""
    told = project.agentq(*args, rc=rc).stderr
    found = document(project.agentq(*args, "--json", rc=rc))
    assert found["schema"] == "agentq/error/v1"
    assert set(found["error"]) == {"code", "message", "hint", "retryable"}
    assert f"error: {found['error']['message']}\n" in told
    assert not found["error"]["hint"] or f"hint: {found['error']['hint']}" in told
    return dict(found["error"])


# ---------------------------------------------------------------- the command line


def _commands() -> dict[str, Any]:
    root: Any = typer.main.get_command(app)
    found = {}
    for name, command in root.commands.items():
        below = getattr(command, "commands", None)
        found.update({f"{name} {sub}": one for sub, one in below.items()} if below else {name: command})
    return found


def test_every_command_and_every_option_is_explained() -> None:
    commands = _commands()
    assert len(commands) > 25
    for name, command in commands.items():
        assert command.help and command.help.rstrip().endswith("."), name
        for parameter in command.params:
            assert getattr(parameter, "hidden", False) or parameter.help, f"{name} {parameter.name}"


def test_where_a_question_may_come_it_can_be_refused() -> None:
    for name, command in _commands().items():
        options = {option for parameter in command.params for option in parameter.opts}
        assert ("--yes" in options) == ("--no-input" in options), name
        if name not in ("schema", "demo"):
            assert "--json" in options, name


def test_without_a_command_the_help_is_shown(project: Project) -> None:
    done = project.agentq(rc=2)
    assert "Usage: agentq" in done.stdout and "recommend" in done.stdout.lower()
    assert "Usage: agentq machine" in project.agentq("machine", rc=2).stdout
    assert project.agentq("--version").stdout.startswith("agentq ")
    assert "--dry-run" in project.agentq("next", "-h").stdout


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (["statsu"], "there is no command 'statsu'", "did you mean 'status'?"),
        (["machine", "sho"], "there is no command 'sho'", "did you mean 'show'?"),
        (["next", "--dry-rum"], "there is no option '--dry-rum'", "did you mean '--dry-run'?"),
        (["why"], "Missing argument 'ID'", "'agentq why --help' shows how"),
        (["next", "-n", "0"], "Invalid value for '-n'", "'agentq next --help'"),
        (["why", "pag"], "there is no spec 'pag'", "did you mean 'page'?"),
        (["run", "page", "--stop-after", "lunch"], "there is no such stage", "test, implement, verify"),
        (["graph", "--format", "png"], "there is no such form", "forms: text, dot, mermaid, svg"),
    ],
)
def test_a_wrong_command_line_is_exit_2(project: Project, args: list[str], message: str, hint: str) -> None:
    write(project, {"ready": [spec("page")]})
    error = _error(project, *args, rc=2)
    assert message in error["message"] and hint in error["hint"] and error["code"] == "user"


@pytest.mark.parametrize(
    ("queue", "code", "words"),
    [
        ({"ready": [spec("a", depends_on=["b"]), spec("b", depends_on=["a"])]}, "cycle", "a → b → a"),
        ({"ready": [spec("a", titel="x")]}, "queue", "titel"),
        ({"ready": [spec("a"), spec("a")]}, "queue", "again in ready"),
    ],
)
def test_a_queue_that_cannot_be_used_is_exit_8(
    project: Project, queue: dict[str, Any], code: str, words: str
) -> None:
    write(project, queue)
    for command in ("status", "next", "graph"):
        error = _error(project, command, rc=8)
        assert error["code"] == code and words in error["message"] and "queue.json:" in error["message"]


def test_a_reader_that_leaves_early_is_no_error(project: Project) -> None:
    write(project, forty())
    for command in ("status --all", "next --json", "graph", "show page-01 --json"):
        line = f"{sys.executable} -m agentq {command} | head -c 5; exit ${{PIPESTATUS[0]}}"
        done = subprocess.run(
            ["bash", "-c", line], cwd=project.checkout, capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr, len(done.stdout)) == (0, "", 5), command


def _complete(project: Project, line: str) -> list[str]:
    words = line.split(" ")
    env = {"_AGENTQ_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        [str(Path(sys.executable).parent / "agentq")], cwd=project.checkout, capture_output=True, text=True,
        env={**os.environ, **env}, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


def test_completion(project: Project) -> None:
    write(project, forty())
    assert (
        "_AGENTQ_COMPLETE" in project.agentq("--show-completion", env={**os.environ, "SHELL": "/bin/bash"}).stdout
    )
    assert _complete(project, "agentq sta") == ["status"]
    assert _complete(project, "agentq why page-0") == [f"page-0{n}" for n in range(10)]
    assert _complete(project, "agentq show ba") == ["base"] and _complete(project, "agentq run ba") == []
    assert _complete(project, "agentq retry ") == ["stuck", "begun", "away"]
    assert _complete(project, "agentq add x --depends-on st") == ["stuck"]
    assert _complete(project, "agentq run page-01 --stop-after i") == ["implement"]
    (project.checkout / "agents" / "queue.json").write_text("{ broken")
    assert _complete(project, "agentq why pa") == []


# ---------------------------------------------------------------- looking


def test_status_as_data(project: Project) -> None:
    write(project, forty())
    found = document(project.agentq("status", "--json"))
    assert found["schema"] == "agentq/status/v1" and len(found["ready"]) == 40
    rows = {row["id"]: row for row in (*found["ready"], *found["in_progress"], *found["completed"])}
    assert rows["stuck"]["reason"]["kind"] == "attention" and rows["stuck"]["machine"] == "host"
    assert rows["page-00"]["reason"]["with_spec"] == "stuck"
    assert rows["page-04"]["reason"] == {
        "kind": "held", "why": forty()["ready"][4]["held"], "text": rows["page-04"]["text"],
    }  # fmt: skip
    assert rows["page-01"]["reason"]["waits_for"] == ["page-00"] and rows["begun"]["reason"] is None
    assert rows["base"]["landed"] == "a" * 40 and rows["base"]["elapsed_hours"] == 2.5


@pytest.mark.parametrize("columns", [60, 80, 100, 160])
def test_status_fits_and_says_what_needs_a_person(project: Project, columns: int) -> None:
    write(project, forty())
    text = project.agentq("status", env={**os.environ, "COLUMNS": str(columns)}).stdout
    assert max(map(len, text.splitlines())) <= columns and ESCAPE not in text
    assert text.count("REASON") == 2 and "page-38" not in text and "… and 20 more" in text
    assert "1 needs you: stuck." in " ".join(text.split()) and "0 of 4 instances at work" in text
    everything = project.agentq("status", "--all", env={**os.environ, "COLUMNS": str(columns)}).stdout
    assert "page-38" in everything


def test_status_of_empty_paused_and_done(project: Project) -> None:
    assert "The queue is empty: 'agentq add ID --title …' adds a spec." in project.agentq("status").stdout
    write(project, {"ready": [spec("a")], "paused": "lunch"})
    assert "Paused: lunch. 'agentq resume' allows new claims." in project.agentq("status").stdout
    write(project, {"completed": [landed("a", 1), landed("b", 2)], "epoch": 2})
    text = project.agentq("status").stdout
    assert "all 2 specs are completed" in text and "2026-01-01 12:30" in text and "aaaaaaaaaa" in text


def test_why(project: Project) -> None:
    write(project, forty())
    found = document(project.agentq("why", "page-10", "--json"))
    assert found["schema"] == "agentq/why/v1" and found["reason"]["kind"] == "dependency"
    chain = {one["id"]: one["reason"]["kind"] for one in found["chain"]}
    assert chain == {
        "page-04": "held", "page-06": "behind", "page-08": "dependency", "page-00": "files", "page-02": "dependency",
    }  # fmt: skip
    text = project.agentq("why", "page-10").stdout
    assert text.startswith("page-10: waits for page-04, page-06, page-08\n")
    assert "Through page-08, page-02 it waits for:" in text and "  · page-00: stuck is changing src/a/" in text
    assert "'agentq release page-04' lets it go" in project.agentq("why", "page-04").stdout
    assert "'agentq retry stuck' when it is decided" in " ".join(project.agentq("why", "stuck").stdout.split())
    assert project.agentq("why", "base").stdout == "base: it landed as aaaaaaaaaa\n"
    assert "it is next" in project.agentq("why", "begun").stdout


def test_show_and_graph(project: Project) -> None:
    write(project, forty())
    found = document(project.agentq("show", "stuck", "--json"))
    assert found["schema"] == "agentq/show/v1" and found["reason"]["kind"] == "attention"
    text = project.agentq("show", "stuck", env={**os.environ, "COLUMNS": "80"}).stdout
    assert "host, #1, epoch 2, until 2099-01-01 10:00" in text and max(map(len, text.splitlines())) <= 80
    assert "estimate hours  2.5 h" in project.agentq("show", "page-01").stdout
    found = document(project.agentq("graph", "--json"))
    assert found["schema"] == "agentq/graph/v1" and ["page-00", "page-01"] in found["edges"]
    text = project.agentq("graph").stdout
    assert "critical path" in text and max(map(len, text.splitlines())) <= 80
    assert "wrote out.svg" in project.agentq("graph", "--format", "svg", "-o", "out.svg").stdout
    assert (project.checkout / "out.svg").read_text().endswith("</svg>\n")
    assert "not written" in project.agentq("graph", "-o", "no/such/folder", rc=2).stderr


def test_logs_and_diff(project: Project) -> None:
    project.add("a")
    assert "no logs yet" in _error(project, "logs", "a", rc=2)["message"]
    assert document(project.agentq("logs", "a", "--list", "--json"))["logs"] == []
    assert "has changed nothing yet" in _error(project, "diff", "a", rc=2)["message"]
    project.agentq("run", "a", "--yes")
    found = document(project.agentq("logs", "a", "--json"))
    assert found["schema"] == "agentq/logs/v1" and found["log"] == found["logs"][-1]
    assert document(project.agentq("logs", "a", "--list", "--json"))["logs"] == found["logs"]
    assert project.agentq("logs", "a").stdout.startswith(f"== {Path(found['log']).name}\n")
    pieces = [json.loads(line) for line in project.agentq("logs", "a", "-f", "--json").stdout.splitlines()]
    assert {piece["schema"] for piece in pieces} == {"agentq/log-text/v1"}
    found = document(project.agentq("diff", "a", "--json"))
    assert found["schema"] == "agentq/diff/v1" and found["state"] == "landed" and "+a\n" in found["diff"]
    assert "2 files changed" in project.agentq("diff", "a", "--stat").stdout
    found = document(project.agentq("show", "a", "--json"))
    assert found["array"] == "completed" and found["logs"] and found["events"]
    assert "landed as" in project.agentq("show", "a").stdout


# ---------------------------------------------------------------- changing the queue


def test_add_edit_hold_release_remove(project: Project) -> None:
    made = document(project.agentq("add", "a", "--title", "A", "--files", "a.py", "--estimate", "2", "--json"))
    assert made == {"schema": "agentq/change/v1", "id": "a", "done": "added 'a'"}
    assert _error(project, "add", "a", "--title", "B", rc=8)["code"] == "queue"
    assert "'agentq edit --help'" in _error(project, "edit", "a", rc=2)["hint"]
    assert project.agentq("edit", "a", "--priority", "3", "--clear", "estimate_hours").stdout == (
        "changed 'a': priority, estimate_hours\n"
    )
    assert project.entry("a")["priority"] == 3 and "estimate_hours" not in project.entry("a")
    assert project.agentq("hold", "a", "--why", "later").stdout == "held 'a'\n"
    assert "'a' is held" in _error(project, "run", "a", rc=1)["message"]
    assert document(project.agentq("release", "a", "--json"))["done"] == "released 'a'"
    assert "pass --yes" in _error(project, "remove", "a", rc=2)["hint"]
    assert document(project.agentq("remove", "a", "--yes", "--json"))["done"] == "removed 'a'"
    assert project.queue["ready"] == []


def test_pause_and_resume(project: Project) -> None:
    assert document(project.agentq("pause", "--why", "x", "--json"))["schema"] == "agentq/change/v1"
    assert project.queue["paused"] == "x"
    assert project.agentq("resume").stdout == "resumed\n" and not project.queue["paused"]


def test_edit_of_a_running_spec_knows_the_additive_files(tmp_path: Path) -> None:
    project = projects.build(tmp_path / "p", config='[overlap]\nadditive = ["routes.txt"]\n')
    (project.checkout / "routes.txt").write_text("")
    running = [
        spec("a", status="testing", lease=lease(1), files_modified=["routes.txt"]),
        spec("b", status="testing", lease=lease(2), files_modified=["b.txt"]),
        spec("c", status="testing", lease=lease(3), files_modified=["c.txt"]),
    ]
    write(project, {"in_progress": running, "epoch": 3})
    project.agentq("edit", "b", "--files", "routes.txt", "--files", "b.txt")
    assert "would overlap with 'c'" in _error(project, "edit", "b", "--files", "c.txt", rc=1)["message"]


# ---------------------------------------------------------------- starting work


def test_run_of_a_spec_that_cannot(project: Project) -> None:
    queue = forty()
    queue["ready"][0]["id"] = "page-00"
    write(project, queue)
    assert "is completed; it landed as" in _error(project, "run", "base", "--yes", rc=1)["message"]
    assert "there is no spec" in _error(project, "run", "nix", "--yes", rc=2)["message"]
    for spec_id, words in {
        "page-04": "is held", "page-01": "waits for page-00", "page-00": "overlaps with 'stuck'",
        "stuck": "needs you", "away": "belongs to mac-mini",
    }.items():  # fmt: skip
        assert words in project.agentq("run", spec_id, "--yes", rc=1).stderr
    assert "its next stage is implement" in _error(project, "test", "begun", rc=1)["hint"]


def test_retry_of_a_spec_that_is_fine(project: Project) -> None:
    write(project, forty())
    assert "is completed" in _error(project, "retry", "base", rc=1)["message"]
    assert "has not been started" in _error(project, "retry", "page-01", rc=1)["message"]
    error = _error(project, "retry", "begun", rc=1)
    assert "has not failed" in error["message"] and "'agentq run begun'" in error["hint"]
    assert document(project.agentq("retry", "stuck", "--json")) == {
        "schema": "agentq/change/v1", "id": "stuck", "done": "'stuck' may run again",
    }  # fmt: skip
    assert "attention" not in project.entry("stuck")


def test_a_run_that_nobody_can_confirm_pushes_nothing(project: Project) -> None:
    project.add("a")
    done = project.agentq("run", "a", rc=2)
    assert "was not pushed: nobody could be asked" in done.stderr and "'agentq verify a --yes'" in done.stderr
    assert project.landings() == []
    lines = [json.loads(line) for line in project.agentq("verify", "a", "--yes", "--json").stdout.splitlines()]
    assert lines[-1]["schema"] == "agentq/run/v1" and lines[-1]["ended"] == "landed"
    assert project.landings() == ["a"]


def test_work_without_anything_to_do_explains(project: Project) -> None:
    assert "Nothing is left to do: the queue is empty." in project.agentq("work", rc=3).stdout
    write(
        project,
        {"completed": [landed("x", 1)], "ready": [spec("a", held="no"), spec("b", depends_on=["a"])], "epoch": 1},
    )
    text = project.agentq("work", rc=3).stdout
    assert "Nothing could start:" in text and "a waits: held: no" in text and "b waits: waits for a" in text
    found = document(project.agentq("work", "--json", rc=3))
    assert found["schema"] == "agentq/work/v1" and found["waiting"]["a"]["kind"] == "held"
    assert found["ended"] == [] and found["blocked"] is None and found["interrupted"] is False
    project.agentq("release", "a")
    project.agentq("pause")
    assert "Nothing more may start: the queue is paused." in project.agentq("work", rc=3).stdout
    lines = project.agentq("work", "--json", rc=3).stdout.splitlines()
    assert json.loads(lines[-1])["blocked"]["kind"] == "paused"


def test_recover_with_nothing_to_settle(project: Project) -> None:
    assert project.agentq("recover").stdout == "nothing to settle\n"
    assert document(project.agentq("recover", "--json")) == {"schema": "agentq/recover/v1", "settled": []}


def test_the_demo_refuses_a_folder_that_is_not_empty(project: Project) -> None:
    done = project.agentq("demo", str(project.checkout), rc=2)
    assert "is not empty" in done.stderr and "name a folder" in done.stderr
