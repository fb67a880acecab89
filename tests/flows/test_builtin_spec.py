"""A spec from ready to landed by the built-in agent, which thinks at a local server: settings, wiring and all."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import project as projects
from support.messages_stub import MessagesStub, Reply, Request, together, use, writes
from support.project import Project

from agentq.flows.run import run_spec

KEY = "sk-test-0123456789abcdef"
CHECK = 'assert open("alpha.txt").read() == "alpha\\n"\n'
STAGES = {"test": {"checks/alpha.py": CHECK}, "implement": {"alpha.txt": "alpha\n"}}
CONFIG = """
driver = "builtin"
[sandbox]
use = "auto"
[bucket.local]
protocol = "anthropic"
servers = ["URL"]
key_env = "STUB_KEY"
[tier.only]
bucket = "local"
model = "claude-sonnet-5-5"
driver = "builtin"
window = 200000
input = 1.0
output = 10.0
[route]
structured = ["only"]
"""


def script(victim: Path) -> Callable[[Request], Reply]:
    """First what no agent should do, then the honest work of the stage."""
    tries = f"echo '[core]' >> .git/config; echo x > .git/hooks/pre-commit; echo gone > {victim}; exit 0"
    bad = [("write", {"file_path": str(victim), "content": "gone"})]
    if shutil.which("bwrap"):
        bad.append(("bash", {"command": tries}))

    def reply(request: Request) -> Reply:
        if not request.tool_results:
            return together(*(use(name, given) for name, given in bad))
        stage = "test" if "stage test" in request.system else "implement"
        rest = {"messages": [{"role": "user", "content": request.tool_results[len(bad) :] or "go"}]}
        seen = replace(request, body={**rest, "tools": request.tools})
        return writes(STAGES[stage], then=f"{stage} done")(seen)

    return reply


def land(project: Project, stub: MessagesStub) -> tuple[Any, Any]:
    """The report of a run with the built-in agent, and its events."""
    config = project.checkout / "agents" / "config.toml"
    start = config.read_text().partition("[agent]\n")[0].replace('[sandbox]\nuse = "off"\n', "")
    config.write_text(f"{start}[agent]\ntimeout_minutes = 2{CONFIG.replace('URL', stub.url)}")
    made = projects.services(project)
    return run_spec(made, "alpha", last="verify", confirm=lambda _id, _summary: True), made.seen


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("STUB_KEY", KEY)
    made = projects.build(tmp_path / "p")
    made.add("alpha")
    return made


def test_test_implement_verify_landed(project: Project) -> None:
    victim = project.root / "victim"
    victim.write_text("whole")
    with MessagesStub(script(victim)) as stub:
        report, seen = land(project, stub)
        assert report.ended == "landed", report
        assert {"alpha" in request.text for request in stub.asked} == {True} and len(stub.asked) == 8
        assert {request.key for request in stub.asked} == {KEY}
    assert project.landings() == ["alpha"] and "alpha.txt" in project.trunk_files()
    assert victim.read_text() == "whole"
    ended = [data for event, data in seen if event == "agent-ended"]
    assert [(data["outcome"], data["summary"], data["turns"]) for data in ended] == [
        ("done", "test done", 4),
        ("done", "implement done", 4),
    ]
    assert [(data["tokens"], data["denied"]) for data in ended] == [(480, ["write"])] * 2
    assert [data["cost"] for data in ended] == [pytest.approx(0.0012)] * 2
    assert all(Path(data["session"]).is_file() for data in ended)
    assert project.strays("alpha") == []
    kept = "".join(path.read_text(errors="replace") for path in project.state.rglob("*") if path.is_file())
    assert KEY not in kept
