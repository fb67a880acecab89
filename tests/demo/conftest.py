"""The demo project, and a bench that does by hand what agentq does: workspaces, branches, landings."""

import os
import shutil
import subprocess
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agentq.core import overlap
from agentq.core.document import Reader
from agentq.core.spec import Spec
from agentq.demo import project

FAILED = "Previous attempt failed: 2 tests failed"


@dataclass
class Bench:
    demo: project.Demo
    env: dict[str, str]
    specs: dict[str, Spec] = field(default_factory=dict)

    def __post_init__(self) -> None:
        queue = Reader().parse((self.demo.checkout / "agents" / "queue.json").read_text()).queue
        self.specs = {spec.id: spec for spec in queue.ready}

    @property
    def config(self) -> dict[str, dict[str, object]]:
        return tomllib.loads((self.demo.checkout / "agents" / "config.toml").read_text())

    def clashes(self, one: str, other: str) -> list[str]:
        additive = tuple(self.config["overlap"]["additive"])
        return overlap.clashes(self.specs[one].files_modified, self.specs[other].files_modified, additive)

    def run(self, argv: list[str], cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv, cwd=cwd, env={**self.env, **env}, capture_output=True, text=True, timeout=60, check=False
        )

    def git(self, *args: str, cwd: Path | None = None) -> str:
        done = self.run(["git", *args], cwd or self.demo.hub)
        assert done.returncode == 0, f"git {args}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def workspace(self, path: Path, commit: str) -> Path:
        self.git("clone", "-q", "--shared", "--no-checkout", str(self.demo.hub), str(path))
        self.git("checkout", "-q", "--detach", commit, cwd=path)
        return path

    def branch(self, path: Path) -> str:
        """The URL of a new database branch."""
        shutil.copyfile(self.demo.checkout / "data" / "dev.db", path)
        return f"sqlite:///{path}"

    def replay(
        self, workspace: Path, spec: str, stage: str, *, prompt: str = "Do it.\n", url: str = ""
    ) -> subprocess.CompletedProcess[str]:
        file = workspace.with_name(workspace.name + ".prompt.md")
        file.write_text(prompt)
        command = [part.replace("{prompt_file}", str(file)) for part in self.config["agent"]["command"]]
        env = {"AGENTQ_SPEC": spec, "AGENTQ_STAGE": stage, "AGENTQ_RUN": "7"}
        return self.run(command, workspace, **env, DATABASE_URL=url)

    def played(self, workspace: Path, spec: str) -> str:
        """Both stages, the second one as after a failed attempt; the commit they end in."""
        for stage in ("test", "implement") if self.specs[spec].tests == "required" else ("implement",):
            done = self.replay(workspace, spec, stage, prompt=FAILED + "\n")
            assert done.returncode == 0, done.stderr
        return self.git("rev-parse", "HEAD", cwd=workspace)

    def migrate(self, workspace: Path, url: str, *args: str) -> subprocess.CompletedProcess[str]:
        """A command of the project's own migration tool."""
        return self.run(["python3", "-m", "notes.migrate", *args], workspace, DATABASE_URL=url)

    def pushed(self, workspace: Path, url: str) -> None:
        """The branch with the schema of the workspace, as every stage is given it."""
        if url:
            done = self.migrate(workspace, url, "push")
            assert done.returncode == 0, done.stderr

    def tests(self, workspace: Path, url: str, files: str = "") -> subprocess.CompletedProcess[str]:
        self.pushed(workspace, url)
        command = str(self.config["commands"]["test"]).replace("{files}", files)
        return self.run(["sh", "-c", command], workspace, DATABASE_URL=url)

    def verified(self, workspace: Path, url: str) -> None:
        self.pushed(workspace, url)
        for command in self.config["commands"]["verify"]:
            done = self.run(["sh", "-c", command], workspace, DATABASE_URL=url)
            assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"

    def tree(self, ours: str, base: str, theirs: str) -> tuple[int, str]:
        """Three-way merge of trees without a checkout: (0 clean | 1 conflict, tree id or what git says)."""
        parent = self.git("commit-tree", "-m", "base", f"{base}^{{tree}}")
        sides = [self.git("commit-tree", "-m", "side", "-p", parent, f"{one}^{{tree}}") for one in (ours, theirs)]
        done = self.run(["git", "merge-tree", "--write-tree", *sides], self.demo.hub)
        return done.returncode, done.stdout.strip()


@pytest.fixture(scope="session")
def git_env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("home")
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "GIT_CONFIG_GLOBAL": "/dev/null"}
    for role in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{role}_NAME": "Tester", f"GIT_{role}_EMAIL": "tester@example.invalid"}
    return env


@pytest.fixture
def bench(tmp_path: Path, git_env: dict[str, str]) -> Bench:
    """A demo for one test, to do with it what it likes."""
    return Bench(project.build(tmp_path / "demo", pace=0), git_env)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, git_env: dict[str, str]) -> Bench:
    """A demo for tests that leave its checkout and its trunk alone."""
    return Bench(project.build(tmp_path_factory.mktemp("shared") / "demo", pace=0), git_env)


@dataclass
class Prepared:
    """Every spec worked on once, from the oldest trunk it may start from."""

    bench: Bench
    folder: Path
    results: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)

    def result(self, spec: str, behind: str = "") -> tuple[str, str]:
        """(base, head) as commits in the hub. `behind`: a spec without which it could start, but which it
        clashes with and which landed before."""
        if (spec, behind) not in self.results:
            needs = self._needs(spec) | ({behind, *self._needs(behind)} if behind else set())
            base = self.landed([one for one in self.bench.specs if one in needs])
            workspace = self.bench.workspace(self.folder / f"ws-{spec}-{behind}", base)
            head = self.bench.played(workspace, spec)
            self.bench.git("fetch", "-q", str(workspace), head)
            self.results[spec, behind] = base, head
        return self.results[spec, behind]

    def landed(self, order: list[str]) -> str:
        """The trunk after these specs landed in this order, each one rebased by a merge of trees alone."""
        trunk = self.bench.git("rev-parse", "main")
        for place, spec in enumerate(order):
            clashing = [one for one in order[:place] if self.bench.clashes(one, spec)]
            base, head = self.result(spec, *clashing)
            rc, tree = self.bench.tree(trunk, base, head)
            assert rc == 0, f"{spec} after {order[:place]}: {tree}"
            trunk = self.bench.git("commit-tree", "-m", spec, "-p", trunk, tree)
        return trunk

    def _needs(self, spec: str) -> set[str]:
        needs = set(self.bench.specs[spec].depends_on)
        return needs.union(*(self._needs(need) for need in needs))


@pytest.fixture(scope="session")
def prepared(shared: Bench, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return Prepared(shared, tmp_path_factory.mktemp("prepared"))
