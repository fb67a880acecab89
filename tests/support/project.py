"""A small real project with a bare origin, and an agent that does what a script in the spec says."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# The agent: runs the spec's own script for its stage, found beside the repository, then commits.
AGENT = """
import os, subprocess, sys
from pathlib import Path
spec, stage, prompt = os.environ["AGENTQ_SPEC"], os.environ["AGENTQ_STAGE"], sys.argv[1]
script = Path(sys.argv[2]) / f"{spec}.{stage}.py"
print(f"agent for {spec} {stage}", flush=True)
def commit(message="work"):
    subprocess.run(["git", "add", "-A"], check=True)
    subprocess.run(["git", "commit", "-qm", message], check=True)
exec(compile(script.read_text(), str(script), "exec"), {"commit": commit, "prompt": prompt, "Path": Path})
"""

RUN_TESTS = """
import sys, runpy
ran = 0
for name in sys.argv[1:]:
    runpy.run_path(name); ran += 1
sys.exit(0 if ran else 5)
"""

RUN_ALL = """
import runpy, sys
from pathlib import Path
sys.path.insert(0, ".")
for path in sorted(Path("checks").glob("*.py")):
    runpy.run_path(str(path))
"""


@dataclass
class Project:
    """`checkout`: the person's repository; `hub`: its origin; `scripts`: what the agent does for each stage."""

    root: Path
    checkout: Path
    hub: Path
    scripts: Path
    specs: list[dict[str, Any]] = field(default_factory=list)

    def git(self, *args: str, cwd: Path | None = None) -> str:
        done = subprocess.run(["git", *args], cwd=cwd or self.checkout, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def agentq(self, *args: str, rc: int | None = 0, **more: Any) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "agentq", *args], cwd=self.checkout, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=120, check=False, **more,
        )  # fmt: skip
        assert rc is None or done.returncode == rc, f"{args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    @property
    def queue(self) -> dict[str, Any]:
        return json.loads((self.checkout / "agents" / "queue.json").read_text())  # type: ignore[no-any-return]

    @property
    def state(self) -> Path:
        return self.checkout / ".git" / "agentq"

    @property
    def workspaces(self) -> Path:
        """Where this repository's workspaces are, below the folder that .machine names."""
        digest = hashlib.sha256(str((self.checkout / ".git").resolve()).encode()).hexdigest()[:8]
        return self.root / "workspaces" / f"checkout-{digest}"

    def write_queue(self, **arrays: Any) -> None:
        (self.checkout / "agents" / "queue.json").write_text(json.dumps(arrays, indent=2) + "\n")

    def add(self, spec_id: str, **fields: Any) -> None:
        """Add a spec whose agent writes a check of `<id>.txt` and then the file; fields override the entry."""
        given = {"files_modified": [f"{spec_id}.txt", f"checks/{spec_id}.py"], **fields}
        queue = self.queue
        queue["ready"].append({"id": spec_id, "title": f"Write {spec_id}", **given})
        self.write_queue(**queue)
        self.write_scripts(spec_id)

    def write_scripts(self, spec_id: str) -> None:
        """What the agent does for the stages of a spec that succeeds."""
        self.script(
            spec_id,
            "test",
            f'''
Path("checks").mkdir(exist_ok=True)
Path("checks/{spec_id}.py").write_text('assert open("{spec_id}.txt").read() == "{spec_id}\\\\n"\\n')
commit()
''',
        )
        self.script(spec_id, "implement", f'Path("{spec_id}.txt").write_text("{spec_id}\\n"); commit()\n')

    def script(self, spec_id: str, stage: str, text: str) -> None:
        (self.scripts / f"{spec_id}.{stage}.py").write_text(text)

    def entry(self, spec_id: str) -> dict[str, Any]:
        for array in ("ready", "in_progress", "completed"):
            for entry in self.queue[array]:
                if entry["id"] == spec_id:
                    return {"array": array, **entry}
        raise AssertionError(f"{spec_id} is nowhere")

    def move_trunk(self, name: str, text: str) -> None:
        """Somebody else pushes a commit that writes `text` to the file `name`."""
        other = self.root / "other"
        if not other.exists():
            self.git("clone", "-q", str(self.hub), str(other))
        self.git("pull", "-q", cwd=other)
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_text(text)
        self.git("add", "-A", cwd=other)
        self.git("commit", "-qm", f"other work on {name}", cwd=other)
        self.git("push", "-q", "origin", "HEAD:main", cwd=other)

    def strays(self, spec_id: str) -> list[int]:
        """Processes that agents of a spec left, whatever their parent."""
        from agentq import process
        from agentq.store.runs import Runs

        return process.strays(f"{Runs(self.state).tag}.{spec_id}.", prefix=True)

    def trunk_files(self) -> list[str]:
        return self.git("ls-tree", "-r", "--name-only", "main", cwd=self.hub).splitlines()

    def landings(self) -> list[str]:
        """Spec ids of the landings on trunk, oldest first, from the trailers."""
        form = "--format=%(trailers:key=Agentq-Spec,valueonly)"
        lines = self.git("log", "--reverse", form, "main", cwd=self.hub).splitlines()
        return [line for line in lines if line]

    def salvaged(self) -> list[str]:
        return self.git("for-each-ref", "--format=%(refname)", "refs/agentq/salvage").splitlines()


def build(root: Path, *, config: str = "", machine: str = "", instances: int = 4) -> Project:
    """A repository with one commit on main, pushed to a bare origin, and an empty queue."""
    root.mkdir(parents=True, exist_ok=True)
    hub, checkout, scripts = root / "hub.git", root / "checkout", root / "scripts"
    scripts.mkdir()
    (scripts / "agent.py").write_text(AGENT)
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(hub)], check=True)
    subprocess.run(["git", "init", "-q", "-b", "main", str(checkout)], check=True)
    project = Project(root, checkout, hub, scripts)
    (checkout / "agents").mkdir()
    (checkout / "checks").mkdir()
    (checkout / "checks" / "base.py").write_text("assert True, 'always'\n")
    (checkout / "shared.txt").write_text("".join(f"line {i}\n" for i in range(30)))
    (checkout / "run_tests.py").write_text(RUN_TESTS)
    (checkout / "run_all.py").write_text(RUN_ALL)
    (checkout / ".gitignore").write_text(".machine\nagents/queue.json\n*.pyc\nignored/\n")
    # Agents of tests leave signs beside the project; what walls do is tested where walls are asked for.
    walls = "" if "[sandbox]" in config else '[sandbox]\nuse = "off"\n'
    agent = json.dumps([sys.executable, str(scripts / "agent.py"), "{prompt_file}", str(scripts)])
    (checkout / "agents" / "config.toml").write_text(
        f"""{config if config.lstrip().startswith("[trunk]") else ""}
[commands]
test = "{sys.executable} run_tests.py {{files}}"
verify = ["{sys.executable} run_all.py"]
{walls}[agent]
command = {agent}
timeout_minutes = 1
timeouts = {{ implementation = 1 }}
{config if not config.lstrip().startswith("[trunk]") else ""}
"""
    )
    (checkout / ".machine").write_text(
        f'name = "host"\ninstances = {instances}\nagent_gb = 0.1\nworkspaces = "{root / "workspaces"}"\n{machine}'
    )
    project.write_queue(ready=[], in_progress=[], completed=[])
    project.git("add", "-A")
    project.git("commit", "-qm", "base")
    project.git("remote", "add", "origin", str(hub))
    project.git("push", "-q", "origin", "main")
    return project


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, **more}


def services(project: Project, **overrides: Any) -> Any:
    """The real services of a project, in this process; events are kept in `services.seen`."""
    from agentq import wiring

    base = wiring.base(project.checkout, overrides)
    seen: list[tuple[str, dict[str, Any]]] = []
    made = wiring.services(base, wiring.recording(lambda event, data: seen.append((event, data))))
    made.seen = seen  # type: ignore[attr-defined]
    return made


def run(project: Project, spec_id: str, *, last: Any = "verify", confirm: Any = None, **overrides: Any) -> Any:
    """Recover, then run a spec in this process; returns its RunReport."""
    from agentq.flows.recover import recover
    from agentq.flows.run import run_spec

    made = services(project, **overrides)
    recover(made)
    return run_spec(made, spec_id, last=last, confirm=confirm or (lambda _id, _summary: True))
