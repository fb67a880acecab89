"""What a person sees on a real terminal: the live view, styles, Ctrl-C."""

import re
from pathlib import Path

import pytest
from cli.terminal import ESCAPE, Terminal, forty, write
from support import project as projects
from support.project import Project

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return projects.build(tmp_path / "p")


def _gate(project: Project, spec_id: str) -> Path:
    """Let the agent say a long line and then wait for the file returned."""
    go = project.root / "go"
    wait = f"""
import time
print("reading " + "every file of the project, " * 10, flush=True)
while not Path({str(go)!r}).exists(): time.sleep(0.02)
"""
    project.script(spec_id, "test", wait + (project.scripts / f"{spec_id}.test.py").read_text())
    return go


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"NO_COLOR": "", "TERM": "dumb"}])
@pytest.mark.parametrize("command", ["status", "next --dry-run", "why stuck", "show stuck", "graph", "doctor"])
def test_no_escape_without_colour(project: Project, command: str, env: dict[str, str]) -> None:
    write(project, forty())
    shell = Terminal(project.checkout, *command.split(), **env)
    shell.end()
    assert (ESCAPE not in shell.shown and max(map(len, shell.lines)) <= 80) or command == "doctor"


def test_colour_on_a_terminal(project: Project) -> None:
    write(project, forty())
    shell = Terminal(project.checkout, "status", NO_COLOR="")
    assert shell.end() == 0 and COLOUR.search(shell.shown) and max(map(len, shell.lines)) <= 80


def test_the_live_view(project: Project) -> None:
    for name in ("alpha", "beta"):
        project.add(name)
    go = _gate(project, "alpha")
    shell = Terminal(project.checkout, "work", "-n", "2", NO_COLOR="1")
    shell.until("reading every file")
    shell.until("beta   landed as")
    shell.until("1 at work, 1 landed, 0 to go. Ctrl-C: finish these, then stop.")
    go.touch()
    assert shell.end() == 0 and project.landings() == ["beta", "alpha"]
    assert not COLOUR.search(shell.shown), "the cursor moves, but nothing is coloured"
    assert max(map(len, shell.lines)) <= 80
    assert {"SPEC   STAGE           TIME  LAST LINE", "2 landed, 0 did not"} <= {
        line.strip() for line in shell.lines
    }
    row = next(line for line in shell.lines if line.startswith("alpha") and "reading" in line)
    assert re.fullmatch(r"alpha  test           +\d:\d\d  reading every file of the project, .*…", row), row
    assert shell.shown.count("\x1b[?25l") == shell.shown.count("\x1b[?25h") == 1, "the cursor is back"


def test_a_dumb_terminal_gets_short_lines(project: Project) -> None:
    project.add("a")
    shell = Terminal(project.checkout, "work", TERM="dumb")
    assert shell.end() == 0 and ESCAPE not in shell.shown and "LAST LINE" not in shell.shown
    assert max(map(len, shell.lines)) <= 80
    assert any(re.match(r" +0:\d\d  a     landed as [0-9a-f]{10} after", line) for line in shell.lines)


def test_ctrl_c_once_finishes_and_says_what_twice_does(project: Project) -> None:
    for name in "ab":
        project.add(name)
    go = _gate(project, "a")
    shell = Terminal(project.checkout, "work", "-n", "1", NO_COLOR="1")
    shell.until("reading every file")
    shell.type("\x03")
    shell.until("Stopping when this spec is done; Ctrl-C again ends them, work is saved")
    go.touch()
    assert shell.end() == 130 and project.landings() == ["a"]
    assert "stopped on request; 'agentq work' goes on" in shell.shown


def test_ctrl_c_twice_ends_the_agents(project: Project) -> None:
    project.add("a")
    _gate(project, "a")
    shell = Terminal(project.checkout, "work", NO_COLOR="1")
    shell.until("reading every file")
    shell.type("\x03")
    shell.until("Stopping when")
    shell.type("\x03")
    shell.until("Ending the agents; their work is saved")
    assert shell.end() == 130 and project.entry("a")["status"] == "testing"


def test_following_a_log(project: Project) -> None:
    project.add("a")
    go = _gate(project, "a")
    work = Terminal(project.checkout, "work", NO_COLOR="1")
    work.until("reading every file")
    shell = Terminal(project.checkout, "logs", "-f", "a")
    shell.until("== test-1.log\nagent for a test\nreading every file")
    go.touch()
    shell.until("agent for a implement")
    assert work.end() == 0 and shell.end() == 0
    assert shell.shown.count("agent for a implement") == 1 and shell.shown.count("agent for a test") == 1


def test_ctrl_c_leaves_following_without_a_word(project: Project) -> None:
    project.add("a")
    go = _gate(project, "a")
    work = Terminal(project.checkout, "work", NO_COLOR="1")
    work.until("reading every file")
    shell = Terminal(project.checkout, "logs", "-f", "a")
    shell.until("reading every file")
    shell.type("\x03")
    assert shell.end() == 130 and "error" not in shell.shown
    go.touch()
    assert work.end() == 0


def test_questions_before_a_push_and_a_removal(project: Project) -> None:
    project.add("a")
    shell = Terminal(project.checkout, "run", "a")
    shell.until("Push 'a' to main? [Y/n]")
    shell.type("n\n")
    assert shell.end() == 0 and project.landings() == []
    project.add("b")
    shell = Terminal(project.checkout, "remove", "b")
    shell.until("Remove 'b' from the queue? [y/N]")
    shell.type("\n")
    assert shell.end() == 2 and "nothing was changed" in shell.shown and project.entry("b")
    shell = Terminal(project.checkout, "remove", "b")
    shell.type("y\n")
    assert shell.end() == 0 and "removed 'b'" in shell.shown
