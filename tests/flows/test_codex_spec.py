"""A spec from ready to landed by the real `codex`, which thinks at a local server: settings, wiring and all."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import project as projects
from support.agents import codex
from support.project import Project, run
from support.responses_format import Reply, Request
from support.responses_stub import ResponsesStub, fail, shell, writes

KEY = "sk-stub-0123456789abcdef"
CHECK = 'assert open("alpha.txt").read() == "alpha\\n"\n'
TESTS, CODE = writes({"checks/alpha.py": CHECK}), writes({"alpha.txt": "alpha\n"})
CONFIG = """
driver = "codex"
[bucket.local]
protocol = "openai"
servers = ["URL"]
key_env = "STUB_KEY"
[tier.only]
bucket = "local"
model = "stub-model"
driver = "codex"
window = 200000
input = 1.0
output = 10.0
[route]
structured = ["only"]
"""
Land = Callable[[ResponsesStub], Any]


def by_stage(request: Request) -> Reply:
    return (TESTS if "You write the tests" in request.text else CODE)(request)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("PATH", f"{codex().parent}:{os.environ['PATH']}")
    monkeypatch.setenv("STUB_KEY", KEY)
    made = projects.build(tmp_path / "p")
    made.add("alpha")
    return made


def land(project: Project, stub: ResponsesStub) -> Any:
    """Run the spec with codex as its agent."""
    config = project.checkout / "agents" / "config.toml"
    start = config.read_text().partition("[agent]\n")
    config.write_text(f"{start[0]}[agent]\ntimeout_minutes = 2{CONFIG.replace('URL', stub.url)}")
    return run(project, "alpha")


def test_test_implement_verify_landed(project: Project) -> None:
    with ResponsesStub(by_stage) as stub:
        report = land(project, stub)
        assert report.ended == "landed", report
        assert {request.key for request in stub.asked} == {KEY} and len(stub.asked) == 6
    assert project.landings() == ["alpha"] and "alpha.txt" in project.trunk_files()
    assert project.strays("alpha") == []
    stages = project.entry("alpha")["stages"]
    # 3 answers: 60 new tokens, 40 from the cache, 20 out each, at $1 and $10 for a million
    assert [stages[name]["tokens"] for name in ("test", "implement")] == [360, 360], stages
    kept = "".join(path.read_text(errors="replace") for path in project.state.rglob("*") if path.is_file())
    assert KEY not in kept and "turn.completed" in kept


def test_what_it_tries_outside_fails_and_the_honest_work_lands(project: Project) -> None:
    victim = project.root / "victim"
    victim.write_text("whole")
    ways = [
        f"echo gone > {victim}", "echo '[core]' >> .git/config", "echo 'touch x' > .git/hooks/pre-commit",
        f"echo gone > {project.checkout}/agents/queue.json", f"git push {project.hub} HEAD:main",
        f"git -C {project.checkout} commit --allow-empty -m gone", "(setsid sleep 600 >/dev/null 2>&1 &)",
    ]  # fmt: skip

    def script(request: Request) -> Reply:
        if len(request.tool_results) < 1:
            return shell(request, "; ".join(ways) + "; echo STEP-OK")
        rest = [item for item in request.input if item.get("type") != "function_call_output"]
        later = [item for item in request.input if item.get("type") == "function_call_output"][1:]
        return by_stage(Request("POST", request.path, {}, {**request.body, "input": [*rest, *later]}))

    before = project.git("rev-parse", "HEAD")
    with ResponsesStub(script) as stub:
        report = land(project, stub)
    assert report.ended == "landed", report
    assert victim.read_text() == "whole" and project.git("rev-parse", "HEAD") == before
    assert project.git("rev-list", "--count", "main", cwd=project.hub) == "2"
    assert project.strays("alpha") == []


def test_a_refused_key_stops_the_run_and_sleeps_the_bucket(project: Project) -> None:
    with ResponsesStub(lambda _request: fail(401, "Incorrect API key provided")) as stub:
        report = land(project, stub)
        assert len(stub.asked) == 2
    assert (report.ended, report.why) == ("interrupted", "credentials") and project.landings() == [], report
    assert project.strays("alpha") == []
