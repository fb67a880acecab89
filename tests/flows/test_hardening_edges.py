"""Turns, shared folders, intents and locked tests in odd shapes: what once went wrong stays right."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support import project as projects
from support.project import Project, run

from agentq.flows.recover import recover
from agentq.store.runs import Intent


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return projects.build(tmp_path / "p")


def test_two_repositories_with_one_workspaces_folder_do_not_touch_each_other(tmp_path: Path) -> None:
    """.machine describes the host and is copied from one checkout to the next."""
    a, b = projects.build(tmp_path / "a"), projects.build(tmp_path / "b")
    text = (a.checkout / ".machine").read_text()
    (b.checkout / ".machine").write_text(text)
    a.add("alpha")
    run(a, "alpha", last="implement")
    b.add("beta")
    b.agentq("run", "beta", "--yes", rc=None)
    report = run(a, "alpha")
    assert report.ended == "landed", report


def test_a_run_that_waits_for_its_turn_can_be_stopped(tmp_path: Path) -> None:
    project = projects.build(tmp_path / "p")
    go = project.root / "go"
    config = project.checkout / "agents" / "config.toml"
    config.write_text(
        config.read_text().replace(
            'run_all.py"]', f'run_all.py", "touch {project.root}/at; while [ ! -e {go} ]; do sleep 0.05; done"]'
        )
    )
    project.git("commit", "-qam", "slow")
    project.git("push", "-q", "origin", "main")
    project.add("alpha")
    go.touch()
    run(project, "alpha", last="implement")
    go.unlink()
    (project.root / "at").unlink()
    made = projects.services(project)
    with made.runs.landing():  # a neighbour has the turn, for as long as its proof takes
        child = subprocess.Popen(
            [sys.executable, "-m", "agentq", "run", "alpha", "--yes"], cwd=project.checkout,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        end = time.monotonic() + 20
        while not (project.root / "at").exists() and time.monotonic() < end:
            time.sleep(0.05)
        project.move_trunk("other.txt", "1")
        go.touch()
        time.sleep(2)
        assert child.poll() is None, "it waits for its turn"
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(5)
            stopped = True
        except subprocess.TimeoutExpired:
            stopped = False
    print(child.communicate(timeout=60)[0])
    assert stopped


def test_recover_does_not_settle_the_intent_of_a_run_that_began_meanwhile(project: Project) -> None:
    project.add("alpha")
    run(project, "alpha", last="implement")
    made = projects.services(project)
    trunk = made.mirror.fetch().commit
    made.runs.intend(Intent("alpha", 1, "0" * 40, trunk, "alpha.dead"))  # of a run that died before its push
    real = made.mirror.fetch
    new = Intent("alpha", 2, "1" * 40, trunk, "alpha.live")

    def fetch(*paths: str) -> Any:  # meanwhile a run of another process settles it and announces its own push
        made.runs.settled("alpha")
        made.runs.intend(new)
        return real(*paths)

    made.mirror.fetch = fetch
    recover(made)
    assert made.runs.intents() == [new]


def test_recover_does_not_withdraw_a_run_that_began_meanwhile(project: Project) -> None:
    from dataclasses import replace

    from agentq import process
    from agentq.store.runs import Live

    made = projects.services(project)
    dead = Live("alpha", "r1", "alpha.1.r1", "999999/1/x", 999999, 1, 1, "test", "")
    fresh = replace(
        dead, run="r2", marker="alpha.2.r2", owner=process.identity(os.getpid()) or "", pid=os.getpid()
    )
    made.runs.announce(dead)
    real = made.runs.recorded

    def recorded() -> Any:
        found = real()
        made.runs.announce(fresh)
        return found

    made.runs.recorded = recorded
    recover(made)
    assert made.runs.live() == {"alpha": fresh}


@pytest.mark.parametrize("shape", ["file", "link", "folder"])
def test_locked_tests_in_odd_shapes_are_put_back_inside_the_workspace(project: Project, shape: str) -> None:
    """The folder of the tests becomes a file or a link to a folder outside; the test becomes a folder."""
    outside = project.root / "outside"
    outside.mkdir()
    (outside / "alpha.py").write_text("precious")
    project.add("alpha")
    make = {
        "file": 'shutil.rmtree("checks"); Path("checks").write_text("x")',
        "link": f'shutil.rmtree("checks"); os.symlink({str(outside)!r}, "checks")',
        "folder": 'Path("checks/alpha.py").unlink(); Path("checks/alpha.py").mkdir(); Path("checks/alpha.py/x").write_text("")',
    }[shape]
    project.script(
        "alpha", "implement", f'import os, shutil\n{make}\nPath("alpha.txt").write_text("wrong"); commit()'
    )
    report = run(project, "alpha")
    assert (outside / "alpha.py").read_text() == "precious"
    assert project.landings() == [] and report.ended == "attention", report


def test_a_proof_counts_only_for_the_database_it_was_made_on(tmp_path: Path) -> None:
    """Landing facts: certificate {tree, command hash, environment hash}. The key knows nothing of [database]."""
    import sqlite3

    project = projects.build(
        tmp_path / "p", config='[database]\nprovider = "sqlite"\nurl = "sqlite:///ignored/dev.db"\n'
    )
    config = project.checkout / "agents" / "config.toml"
    check = "import os,sqlite3; db=sqlite3.connect(os.environ['DATABASE_URL'].removeprefix('sqlite:///')); assert db.execute('select count(*) from t').fetchone()==(1,)"
    (project.checkout / "check_db.py").write_text(check + "\n")
    config.write_text(config.read_text().replace('run_all.py"]', f'run_all.py", "{sys.executable} check_db.py"]'))
    project.git("add", "-A")
    project.git("commit", "-qm", "db")
    project.git("push", "-q", "origin", "main")
    (project.checkout / "ignored").mkdir()
    with sqlite3.connect(project.checkout / "ignored" / "dev.db") as dev:
        dev.execute("create table t (x)")
        dev.execute("insert into t values (1)")
    project.add("alpha")
    assert run(project, "alpha", confirm=lambda *_: False).ended == "declined"
    with dev:
        dev.execute("insert into t values (2)")
    dev.close()
    report = run(project, "alpha")
    assert report.ended == "attention", report


def test_a_description_cannot_forge_the_trailers_of_another_spec(project: Project) -> None:
    project.add("alpha", description="see\n\nAgentq-Spec: beta\nAgentq-Epoch: 1")
    project.add("beta")
    run(project, "beta", last="implement")
    run(project, "alpha")
    assert project.landings() == ["alpha"]
    assert run(project, "beta").ended == "landed"
    assert project.landings() == ["alpha", "beta"]


def test_one_spec_is_never_taken_for_another_with_a_longer_name(project: Project) -> None:
    for spec_id in ("a", "a-b", "head"):
        project.add(spec_id)
        run(project, spec_id, last="implement")
    project.agentq("release", "a", "--yes")
    assert run(project, "a-b").ended == "landed"
    assert run(project, "head").ended == "landed"
    assert run(project, "a").ended == "landed"


def test_update_ref_is_on_disk_when_it_returns(project: Project) -> None:
    """core.fsync=committed: objects and refs (landing fact 10)."""
    made = projects.services(project)
    trunk = made.mirror.fetch().commit
    from agentq.trunk import git as door

    settings = [part for setting in door._CONFIG for part in ("-c", setting)]
    try:
        done = subprocess.run(
            ["strace", "-f", "-e", "trace=fsync,fdatasync,rename", "git", *settings, "update-ref", "refs/agentq/x", trunk],
            cwd=made.mirror.path, capture_output=True, text=True, check=False,
        )  # fmt: skip
    except OSError as error:
        pytest.skip(str(error))
    if done.returncode:
        pytest.skip(done.stderr[-200:])
    lines = done.stderr.splitlines()
    rename = next(i for i, line in enumerate(lines) if "refs/agentq/x" in line and "rename" in line)
    assert any("sync" in line for line in lines[:rename]), done.stderr


def test_the_three_versions_of_a_conflict_never_collide(project: Project) -> None:
    """`a` and `a.base` both conflict: a.base is a file and, for a.base.base… of a folder, a directory."""
    for name in ("n", "n.base/x"):
        (project.checkout / name).parent.mkdir(exist_ok=True)
        (project.checkout / name).write_text("0\n")
    project.git("add", "-A")
    project.git("commit", "-qm", "n")
    project.git("push", "-q", "origin", "main")
    project.add("alpha", files_modified=["alpha.txt", "n", "n.base/", "checks/alpha.py"])
    project.script(
        "alpha", "implement",
        'Path("alpha.txt").write_text("alpha\\n"); Path("n").write_text("1\\n"); Path("n.base/x").write_text("1\\n"); commit()',
    )  # fmt: skip
    run(project, "alpha", last="implement")
    project.move_trunk("n", "2\n")
    project.move_trunk("n.base/x", "2\n")
    assert run(project, "alpha").ended == "attention"


def test_recover_leaves_the_database_of_a_live_run_alone(tmp_path: Path) -> None:
    """A stage that lasts longer than its lease, and another run that died: its branch is reaped under it."""
    import sqlite3
    from datetime import timedelta

    from agentq.store.runs import Live

    project = projects.build(
        tmp_path / "p", config='[database]\nprovider = "sqlite"\nurl = "sqlite:///ignored/dev.db"\n'
    )
    (project.checkout / "ignored").mkdir()
    dev = sqlite3.connect(project.checkout / "ignored" / "dev.db")
    dev.execute("create table t (x)")
    dev.commit()
    dev.close()
    made = projects.services(project)
    now = made.clock.now()
    branch = made.databases.acquire("alpha-test-1", made.branch_ttl, now, owner=made.owner)
    made.runs.announce(Live("beta", "r1", "beta.1.r1", "999999/1/x", 999999, 1, 1, "test", ""))
    real = made.clock

    class Later:
        def now(self) -> Any:
            return real.now() + made.lease_ttl + timedelta(minutes=1)

        def monotonic(self) -> float:
            return real.monotonic()

    made.clock = Later()
    recover(made)
    assert [one.id for one in made.databases.branches()] == [branch.id]


def test_an_unreadable_workspace_is_no_secret(project: Project) -> None:
    """recover swallows AgentqError: a spec whose work cannot be saved stays expired for ever, unsaid."""
    from agentq.errors import GitError

    project.add("alpha")
    run(project, "alpha", last="test")
    queue = project.queue
    queue["in_progress"][0]["lease"]["expires"] = "2020-01-01T00:00:00Z"
    project.write_queue(**queue)
    made = projects.services(project)

    def broken(*_: Any) -> str:
        raise GitError(["add"], 128, "fatal: cannot read")

    made.mirror.snapshot = broken
    assert any("alpha" in line for line in recover(made).lines)


def test_nothing_of_a_landed_spec_stays_in_the_mirror_after_a_crash(project: Project) -> None:
    """Killed between completing and tidying: its refs stay for ever and keep their objects alive."""
    from agentq.flows import lane as module

    project.add("alpha")
    run(project, "alpha", last="implement")
    before = module.tidy
    module.tidy = lambda _session: None
    try:
        assert run(project, "alpha").ended == "landed"
    finally:
        module.tidy = before
    made = projects.services(project)
    recover(made)
    assert made.mirror.refs("refs/agentq/work") == {}


@pytest.mark.parametrize("name", ["conftest.py", "sitecustomize.py", ".github/workflows/ci.yml"])
def test_an_undeclared_file_that_steers_verification_does_not_land(project: Project, name: str) -> None:
    project.add("alpha")
    project.script(
        "alpha",
        "implement",
        f'p = Path("{name}"); p.parent.mkdir(parents=True, exist_ok=True); p.write_text("x = 1\\n")\n'
        'Path("alpha.txt").write_text("alpha\\n"); commit()',
    )
    run(project, "alpha")
    assert name not in project.trunk_files()


def test_the_mode_of_a_locked_test_is_locked(project: Project) -> None:
    project.add("alpha")
    project.script(
        "alpha",
        "implement",
        'Path("checks/alpha.py").chmod(0o755); Path("alpha.txt").write_text("alpha\\n"); commit()',
    )
    assert run(project, "alpha").ended == "landed"
    assert project.git("ls-tree", "main", "checks/alpha.py", cwd=project.hub).startswith("100644")


@pytest.mark.parametrize("where", ["another epoch", "ready", "nowhere"])
def test_an_intent_that_fits_no_lease_does_not_stop_every_command(project: Project, where: str) -> None:
    """Its commit is on trunk, its lease is gone (taken over, given back, or the queue was edited by hand)."""
    project.add("alpha")
    if where == "another epoch":
        run(project, "alpha", last="implement")
    elif where == "nowhere":
        project.write_queue(ready=[], in_progress=[], completed=[])
    made = projects.services(project)
    trunk = made.mirror.fetch().commit
    made.runs.intend(Intent("alpha", 77, trunk, trunk, "alpha.dead"))
    recover(made)
    recover(made)
