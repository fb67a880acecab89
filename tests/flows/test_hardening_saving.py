"""Saved work, recovery beside live runs, several parents: what once went wrong stays right."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import project as projects
from support.project import Project, run

from agentq.errors import AgentqError
from agentq.flows.recover import give_back, recover
from agentq.flows.wip import salvage
from agentq.trunk.git import Git


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return projects.build(tmp_path / "p")


def _mirror(project: Project) -> Git:
    return Git(project.workspaces / "mirror.git")


def _reachable(project: Project, path: str, content: str) -> bool:
    """Whether any ref of the mirror or of the checkout, at any depth, holds `content` at `path`."""
    for place in (project.workspaces / "mirror.git", project.checkout):
        git = Git(place)
        for sha in git("rev-list", "--all").text.split():
            if git.ask("show", f"{sha}:{path}").text == content:
                return True
    return False


def _interleave(made: Any, action: Callable[[], None]) -> None:
    """Another process does `action` just before this one takes its first spec lock."""
    done: list[int] = []
    for name in ("working_on", "attempt"):
        real = getattr(made.runs, name, None)
        if real is None:
            continue

        @contextmanager
        def later(spec_id: str, real: Any = real) -> Any:
            if not done:
                done.append(1)
                action()
            with real(spec_id) as held:
                yield held

        setattr(made.runs, name, later)


def test_recover_that_read_an_expired_lease_does_not_take_the_work_of_a_new_run(project: Project) -> None:
    project.add("alpha")
    run(project, "alpha", last="test")
    queue = project.queue
    queue["in_progress"][0]["lease"]["expires"] = "2020-01-01T00:00:00Z"
    project.write_queue(**queue)
    made = projects.services(project)
    from agentq.flows.run import run_spec

    # takes the lease over and finishes its stage between recover's reading and its lock
    _interleave(
        made, lambda: run_spec(projects.services(project), "alpha", last="implement", confirm=lambda *_: True)
    )
    recover(made)
    assert project.entry("alpha")["status"] == "implemented"
    report = run(project, "alpha")
    assert report.ended == "landed", report


def test_recover_that_read_an_old_queue_does_not_remove_a_workspace_in_use(project: Project) -> None:
    project.add("alpha")
    (project.workspaces / "ws" / "alpha").mkdir(parents=True)  # what a crash left
    made = projects.services(project)
    from agentq.flows.run import run_spec

    _interleave(
        made, lambda: run_spec(projects.services(project), "alpha", last="implement", confirm=lambda *_: True)
    )
    recover(made)
    report = run(project, "alpha")
    assert report.ended == "landed", report


def test_release_that_read_an_old_lease_changes_nothing(project: Project) -> None:
    project.add("alpha")
    run(project, "alpha", last="test")
    queue = project.queue
    queue["in_progress"][0]["lease"]["expires"] = "2020-01-01T00:00:00Z"
    project.write_queue(**queue)
    made = projects.services(project)
    from agentq.flows.run import run_spec

    _interleave(
        made, lambda: run_spec(projects.services(project), "alpha", last="implement", confirm=lambda *_: True)
    )
    try:
        give_back(made, "alpha")
    except AgentqError:
        report = run(project, "alpha")
        assert report.ended == "landed", report


def test_salvage_never_overwrites_an_older_salvage(project: Project) -> None:
    """A person looks at salvage 1 and deletes it; the next one takes a number that is in use."""
    project.add("alpha")
    run(project, "alpha", last="test")
    made = projects.services(project)
    mirror = made.mirror
    base = mirror.ref("refs/agentq/trunk")
    one, two, three = (mirror.commit_tree(mirror.tree(base), [base], f"work {n}") for n in (1, 2, 3))
    for commit in (one, two):
        salvage(made, "alpha", commit, "test")
    first = next(ref for ref, sha in mirror.refs("refs/agentq/salvage/alpha").items() if sha == one)
    mirror.delete_refs(first)
    salvage(made, "alpha", three, "test")
    assert set(mirror.refs("refs/agentq/salvage/alpha").values()) == {two, three}


def test_salvage_reaches_the_persons_repository_after_the_mirror_was_made_anew(project: Project) -> None:
    """The workspaces folder was deleted: numbers begin again, the fetch into the checkout is refused silently."""
    project.add("alpha")
    for text in ("first", "second"):
        run(project, "alpha", last="test")
        (project.workspaces / "ws" / "alpha" / "draft.txt").write_text(text)
        project.agentq("release", "alpha", "--yes")
        shutil.rmtree(project.workspaces)
    drafts = [
        project.git("show", f"{ref}:draft.txt")
        for ref in project.salvaged()
        if "draft.txt" in project.git("ls-tree", "--name-only", ref)
    ]
    assert sorted(drafts) == ["first", "second"]


def test_what_an_agent_stashed_is_saved(project: Project) -> None:
    """It stashes its work to look at the tests, and its time is over."""
    project.add("alpha")
    project.script(
        "alpha", "implement", """
import subprocess
if "Previous attempt failed" in Path(prompt).read_text():
    raise SystemExit(3)
Path("draft.txt").write_text("hours of work"); subprocess.run(["git", "add", "-A"])
subprocess.run(["git", "stash", "-q"]); raise SystemExit(3)
""",
    )  # fmt: skip
    run(project, "alpha")
    assert _reachable(project, "draft.txt", "hours of work")


def test_what_an_agent_committed_on_another_branch_is_saved(project: Project) -> None:
    project.add("alpha")
    project.script(
        "alpha", "implement", """
import subprocess
if "Previous attempt failed" in Path(prompt).read_text():
    raise SystemExit(3)
subprocess.run(["git", "checkout", "-qb", "try"]); Path("draft.txt").write_text("hours of work"); commit()
subprocess.run(["git", "checkout", "-q", "-"]); raise SystemExit(3)
""",
    )  # fmt: skip
    run(project, "alpha")
    assert _reachable(project, "draft.txt", "hours of work")


def test_the_implementation_that_is_done_again_is_saved(project: Project) -> None:
    project.add("alpha")
    project.script(
        "alpha",
        "implement",
        'Path("alpha.txt").write_text("alpha\\n"); Path("big.txt").write_text("v1"); commit()',
    )
    run(project, "alpha", confirm=lambda *_: False)
    project.script(
        "alpha",
        "implement",
        'Path("alpha.txt").write_text("alpha\\n"); Path("big.txt").write_text("v2"); commit()',
    )
    project.agentq("retry", "alpha", "--from", "implement", rc=None)
    run(project, "alpha", last="implement")
    assert _reachable(project, "big.txt", "v1")


def test_files_reset_by_an_agent_stay_reset(project: Project) -> None:
    """An attempt that removed everything it made before: the wip of the attempt before comes back."""
    project.add("alpha")
    project.script(
        "alpha", "implement", """
import subprocess
mark = Path(%r); n = int(mark.read_text()) if mark.exists() else 0; mark.write_text(str(n + 1))
if n == 0:
    Path("junk.txt").write_text("junk"); raise SystemExit(3)
if n == 1:
    Path("junk.txt").unlink(); raise SystemExit(3)
assert not Path("junk.txt").exists()
Path("alpha.txt").write_text("alpha\\n"); commit()
""" % str(project.root / "count.txt"),  # noqa: UP031
    )  # fmt: skip
    report = run(project, "alpha", **{"agent.attempts": 4})
    assert report.ended == "landed", report


def test_another_worktree_does_not_clear_away_work_in_progress(project: Project) -> None:
    """Decision 2: the state is shared by every checkout. The queue file is not."""
    project.add("alpha")
    run(project, "alpha", last="implement")
    second = project.root / "second"
    project.git("worktree", "add", "-q", "--detach", str(second))
    (second / "agents" / "queue.json").write_text('{"ready": [], "in_progress": [], "completed": []}')
    shutil.copy(project.checkout / ".machine", second / ".machine")
    done = subprocess.run(
        [sys.executable, "-m", "agentq", "recover"], cwd=second, capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    print(done.stdout, done.stderr)
    report = run(project, "alpha")
    assert report.ended == "landed", report


def test_two_parents_at_once_drain_the_queue(tmp_path: Path) -> None:
    project = projects.build(tmp_path / "p", instances=2)
    ids = [f"s{n}" for n in range(6)]
    for spec_id in ids:
        project.add(spec_id)
    parents = [
        subprocess.Popen(
            [sys.executable, "-m", "agentq", "work", "--json"], cwd=project.checkout, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    said = [parent.communicate(timeout=100)[0] for parent in parents]
    left = [one["id"] for array in ("ready", "in_progress") for one in project.queue[array]]
    for text in said:
        for line in text.splitlines():
            if '"error"' in line or '"ended"' in line:
                print(line[:300])
    assert left == [] and sorted(project.landings()) == ids
    assert all(parent.returncode in (0, 3) for parent in parents), [parent.returncode for parent in parents]


def test_a_run_beside_work_is_no_failure_of_work(tmp_path: Path) -> None:
    project = projects.build(tmp_path / "p", instances=2)
    for spec_id in ("s0", "s1"):
        project.add(spec_id)
    args = {
        "cwd": project.checkout,
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
    }
    parent = subprocess.Popen([sys.executable, "-m", "agentq", "work", "--json"], text=True, **args)  # type: ignore[call-overload]
    other = subprocess.Popen([sys.executable, "-m", "agentq", "run", "s0", "--yes"], text=True, **args)  # type: ignore[call-overload]
    said, said2 = parent.communicate(timeout=100)[0], other.communicate(timeout=100)[0]
    print(said[-1500:], said2[-600:])
    assert sorted(project.landings()) == ["s0", "s1"]
    assert parent.returncode == 0


def test_work_as_process_1_of_a_container(project: Project) -> None:
    project.add("alpha")
    try:
        done = subprocess.run(
            ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-m", "agentq", "work"],
            cwd=project.checkout, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(str(error))
    if "unshare" in done.stderr:
        pytest.skip(done.stderr)
    assert project.landings() == ["alpha"], done.stdout + done.stderr


def test_control_what_an_agent_left_in_its_files_is_saved(project: Project) -> None:
    """The control: the tests above look in the right place."""
    project.add("alpha")
    project.script(
        "alpha", "implement",
        'if "Previous attempt failed" not in Path(prompt).read_text():\n    Path("draft.txt").write_text("hours of work")\n'
        "raise SystemExit(3)\n",
    )  # fmt: skip
    run(project, "alpha")
    assert _reachable(project, "draft.txt", "hours of work")
