"""An agent of the driver `command`, and the proofs of what it wrote, inside the walls; wherever things are installed."""

import json
import sys
from pathlib import Path

import pytest
from support import project as projects
from support.project import Project

from agentq.flows.run import run_spec
from agentq.sandbox import find

pytestmark = pytest.mark.skipif(find("auto").mode == "none", reason="no bubblewrap works here")

# Its proof tries to leave a sign outside, too.
AGENT = """
import subprocess, sys
from pathlib import Path
assert "alpha" in Path(sys.argv[1]).read_text()
Path("alpha.txt").write_text("alpha\\n")
Path("checks/alpha.py").write_text({check!r})
Path({outside!r}).write_text("by the agent")
subprocess.run(["git", "add", "-A"], check=True)
subprocess.run(["git", "commit", "-qm", "work"], check=True)
"""
CHECK = """
from pathlib import Path
try:
    Path({outside!r}).write_text("by its test")
except OSError:
    pass
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """The agent's program lies below /tmp, which is hidden inside: it is seen because the command names it."""
    made = projects.build(tmp_path / "p", config='[sandbox]\nuse = "required"\n')
    outside = str(tmp_path / "outside")
    script = tmp_path / "agent.py"
    script.write_text(AGENT.format(check=CHECK.format(outside=outside), outside=outside))
    config = made.checkout / "agents" / "config.toml"
    line = next(one for one in config.read_text().splitlines() if one.startswith("command = "))
    command = json.dumps([sys.executable, str(script), "{prompt_file}"])
    config.write_text(config.read_text().replace(line, f"command = {command}"))
    made.add("alpha", tests="none")
    return made


def run(project: Project, **settings: str) -> str:
    made = projects.services(project, **settings)
    return run_spec(made, "alpha", confirm=lambda _id, _summary: True).ended


def test_it_works_and_lands_and_leaves_nothing_outside(project: Project) -> None:
    assert run(project) == "landed"
    # It may write to its own /tmp, which nobody else sees.
    assert not (project.root.parent / "outside").exists()


def test_who_says_so_proves_without_walls(project: Project) -> None:
    assert run(project, **{"sandbox.commands": "off"}) == "landed"
    assert (project.root.parent / "outside").read_text() == "by its test"


def test_and_without_any(project: Project) -> None:
    assert run(project, **{"sandbox.use": "off", "sandbox.commands": "on"}) == "landed"
    assert (project.root.parent / "outside").exists()


def test_walls_that_cannot_be_made_are_no_red_test(project: Project) -> None:
    """125 is what the sandbox says then; a test that cannot start must not count as one that fails."""
    from dataclasses import replace

    from agentq.errors import ExternalError

    made = projects.services(project)
    broken = replace(made, wall=lambda command, _cwd, _folders: ["/bin/sh", "-c", "echo no walls; exit 125"])
    with pytest.raises(ExternalError, match=r"the sandbox could not be made: no walls"):
        run_spec(broken, "alpha", confirm=lambda _id, _summary: True)
