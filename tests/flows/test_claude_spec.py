"""A spec from ready to landed by the real `claude`, which thinks at a local server: settings, stages and all."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import agents
from support import project as projects
from support.messages_stub import MessagesStub, Reply, Request, fail, shell, together, use, writes
from support.project import Project, run

from agentq import sandbox

KEY = "sk-ant-api03-not-a-real-key"
CHECK = 'assert open("alpha.txt").read() == "alpha\\n"\n'
TESTS, CODE = writes({"checks/alpha.py": CHECK}), writes({"alpha.txt": "alpha\n"})
CONFIG = """
driver = "claude"
[bucket.local]
protocol = "anthropic"
servers = ["URL"]
key_env = "STUB_KEY"
[tier.only]
bucket = "local"
model = "claude-sonnet-4-5"
driver = "claude"
window = 200000
input = 1.0
output = 10.0
[route]
structured = ["only"]
"""


def by_stage(request: Request) -> Reply:
    return (TESTS if "You write the tests" in request.text else CODE)(request)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("PATH", f"{agents.claude().parent}:{os.environ['PATH']}")
    monkeypatch.setenv("STUB_KEY", KEY)
    made = projects.build(tmp_path / "p", config='[sandbox]\nuse = "auto"\n')
    made.add("alpha")
    return made


def land(project: Project, stub: MessagesStub) -> Any:
    """Run the spec with claude as its agent."""
    config = project.checkout / "agents" / "config.toml"
    start = config.read_text().partition("[agent]\n")
    config.write_text(f"{start[0]}[agent]\ntimeout_minutes = 2{CONFIG.replace('URL', stub.url)}")
    return run(project, "alpha")


def test_test_implement_verify_landed(project: Project) -> None:
    with MessagesStub(by_stage) as stub:
        report = land(project, stub)
        assert report.ended == "landed", report
        assert {request.key for request in stub.asked} == {KEY} and len(stub.asked) == 6
    assert project.landings() == ["alpha"] and "alpha.txt" in project.trunk_files()
    assert project.strays("alpha") == []
    stages = project.entry("alpha")["stages"]
    assert [stages[name]["tokens"] for name in ("test", "implement")] == [360, 360], stages
    kept = "".join(path.read_text(errors="replace") for path in project.state.rglob("*") if path.is_file())
    assert KEY not in kept and '"subtype":"success"' in kept


def test_what_it_tries_outside_fails_and_the_honest_work_lands(project: Project) -> None:
    if sandbox.find("auto").mode == "none":
        pytest.skip(sandbox.find("auto").why)
    victim = project.root / "victim"
    victim.write_text("whole")
    ways = [
        f"echo gone > {victim}", "echo '[core]' >> .git/config", "echo 'touch x' > .git/hooks/pre-commit",
        f"echo gone > {project.checkout}/agents/queue.json", f"git push {project.hub} HEAD:main",
        f"git -C {project.checkout} commit --allow-empty -m gone", "(setsid sleep 600 >/dev/null 2>&1 &)",
    ]  # fmt: skip

    def script(request: Request) -> Reply:
        if not request.tools:
            return by_stage(request)
        if not request.tool_results:
            files = [
                use("Write", {"file_path": str(path), "content": "gone"})
                for path in (victim, ".git/hooks/post-commit")
            ]
            return together(shell(request, "; ".join(ways) + "; echo STEP-OK"), *files)
        # The rest of the conversation is that of an honest agent.
        first = next(n for n, message in enumerate(request.messages) if message["role"] == "assistant")
        rest = [*request.messages[:first], *request.messages[first + 2 :]]
        return by_stage(replace(request, body={**request.body, "messages": rest}))

    before = project.git("rev-parse", "HEAD")
    with MessagesStub(script) as stub:
        report = land(project, stub)
    assert report.ended == "landed", report
    assert victim.read_text() == "whole" and project.git("rev-parse", "HEAD") == before
    assert project.git("rev-list", "--count", "main", cwd=project.hub) == "2"
    assert project.strays("alpha") == []


def test_a_refused_key_stops_the_run_and_sleeps_the_bucket(project: Project) -> None:
    with MessagesStub(lambda _request: fail(401, message="invalid x-api-key")) as stub:
        report = land(project, stub)
        assert len(stub.asked) == 2  # claude asks once more
    assert (report.ended, report.why) == ("interrupted", "credentials") and project.landings() == [], report
    assert project.strays("alpha") == []
