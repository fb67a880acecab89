"""`agentq share`, `unshare` and joining, through the command line, from clones on different hosts."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support import shared
from support.project import Project, build

from agentq import process, repository, wiring
from agentq.core import queue
from agentq.errors import Refused
from agentq.flows import share as flow
from agentq.store import files


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = build(tmp_path / "p")
    made.add("one")
    made.add("two")
    return made


@pytest.fixture
def other(project: Project, tmp_path: Path) -> Project:
    """A clone on another host, made before the queue is shared."""
    project.git("clone", "-q", str(project.hub), str(tmp_path / "other"))
    return replace(project, checkout=tmp_path / "other")


def elsewhere(clone: Project, *args: str, rc: int | None = 0) -> "subprocess.CompletedProcess[str]":
    """`agentq` in a clone whose host has a home of its own."""
    home = clone.checkout.with_name(f"home-{clone.checkout.name}")
    home.mkdir(exist_ok=True)
    return clone.agentq(*args, rc=rc, env=_environment(home))


def _environment(home: Path) -> dict[str, str]:
    return {**os.environ, "HOME": str(home), "AGENTQ_MACHINE_NAME": home.name}


def ids(project: Project) -> list[str]:
    return [entry["id"] for entry in project.queue["ready"]]


def test_share_asks_and_shows_first(project: Project) -> None:
    done = project.agentq("share", rc=2)
    assert "2 specs" in done.stdout and "'agentq' on" in done.stdout and "--yes" in done.stderr
    assert not project.git("branch", "--list", "agentq", cwd=project.hub)


def test_every_clone_works_on_it(project: Project, other: Project, tmp_path: Path) -> None:
    answer = json.loads(project.agentq("share", "--yes", "--json").stdout)
    assert answer["schema"] == "agentq/share/v1" and answer["action"] == "create" and answer["specs"] == 2
    project.git("clone", "-q", str(project.hub), str(tmp_path / "fresh"))
    fresh = replace(project, checkout=tmp_path / "fresh")
    elsewhere(fresh, "hold", "one", "--why", "from a fresh clone")
    other.git("fetch", "-q")
    elsewhere(other, "add", "three", "--title", "From an old clone that fetched")
    assert json.loads(project.agentq("show", "one", "--json").stdout)["entry"]["held"] == "from a fresh clone"
    assert ids(project) == ["one", "two", "three"], "the copy follows"
    assert shared.queue_of(project.hub)["ready"][2]["id"] == "three"
    assert json.loads(elsewhere(fresh, "next", "--json").stdout)["pick"]["id"] == "two"
    assert project.git("status", "--porcelain") == ""
    shared.sound(project.hub)


def test_joining_sets_the_own_queue_aside(project: Project, other: Project) -> None:
    project.agentq("share", "--yes")
    (other.checkout / "agents").mkdir(exist_ok=True)
    (other.checkout / "agents" / "queue.json").write_text('{"ready": [{"id": "mine", "title": "Mine"}]}')
    assert "joins" in elsewhere(other, "share", rc=2).stdout
    assert ids(other) == ["mine"]
    done = elsewhere(other, "share", "--yes").stdout
    (aside,) = (other.checkout / "agents").glob("queue.local-*.json")
    assert aside.name in done and "mine" in aside.read_text()
    assert ids(other) == ["one", "two"]
    assert "joined" in elsewhere(other, "share", "--yes").stdout, "once more changes nothing"


def test_a_clone_with_a_queue_of_its_own_decides_itself(project: Project, other: Project) -> None:
    """'git fetch' brought the branch along: nothing is set aside without a word, and nothing is claimed from it."""
    project.agentq("share", "--yes")
    (other.checkout / "agents").mkdir(exist_ok=True)
    file = other.checkout / "agents" / "queue.json"
    file.write_text('{"ready": [{"id": "mine", "title": "Mine"}]}')
    assert json.loads(elsewhere(other, "next", "--json", rc=None).stdout)["pick"]["id"] == "mine"
    other.git("fetch", "-q")
    for args in (("next", "--json"), ("status",), ("add", "x", "--title", "X"), ("run", "mine", "--yes")):
        done = elsewhere(other, *args, rc=1)
        assert "a queue of its own" in done.stdout + done.stderr and "agentq unshare" in done.stdout + done.stderr
    assert ids(other) == ["mine"] and [path.name for path in file.parent.glob("queue*")] == ["queue.json"]
    assert "stays as it is" in elsewhere(other, "unshare", rc=2).stdout
    assert json.loads(elsewhere(other, "unshare", "--yes", "--json").stdout)["action"] == "leave"
    elsewhere(other, "hold", "mine")
    assert ids(other) == ["mine"] and shared.queue_of(project.hub)["ready"][0]["id"] == "one"
    repository.find(other.checkout).shared_mark.unlink()
    assert "joined" in elsewhere(other, "share", "--yes").stdout
    assert ids(other) == ["one", "two"] and "mine" in next(file.parent.glob("queue.local-*.json")).read_text()
    repository.find(other.checkout).shared_mark.unlink()
    elsewhere(other, "status")


def test_a_branch_that_is_no_queue(project: Project) -> None:
    project.git("push", "-q", "origin", "main:agentq")
    done = project.agentq("share", "--yes", rc=1)
    assert "holds no queue.json" in done.stderr and "[shared] branch" in done.stderr
    assert project.agentq("status", rc=None).returncode != 0, "the tracking ref came with the push"
    _name_branch(project, "specs")
    done = project.agentq("share", "--yes", rc=1)
    assert "does not name the branch 'specs'" in done.stderr and "push" in done.stderr
    assert "specs" not in project.git("branch", "--list", cwd=project.hub)
    project.git("commit", "-qam", "name it")
    project.git("push", "-q", "origin", "main")
    project.agentq("share", "--yes")
    assert project.git("show", "specs:queue.json", cwd=project.hub)


def _name_branch(project: Project, name: str) -> None:
    file = project.checkout / "agents" / "config.toml"
    file.write_text(f'{file.read_text()}\n[shared]\nbranch = "{name}"\n')


def test_a_clone_can_leave_a_branch_that_is_no_queue(project: Project) -> None:
    project.git("push", "-q", "origin", "main:agentq")
    assert "agentq unshare" in project.agentq("status", rc=1).stderr
    assert json.loads(project.agentq("unshare", "--yes", "--json").stdout)["action"] == "leave"
    assert "two" in project.agentq("status").stdout and ids(project) == ["one", "two"]
    assert project.git("rev-parse", "agentq", cwd=project.hub) == project.git("rev-parse", "main")


def test_refused_while_runs_are_live(project: Project) -> None:
    project.script("one", "test", "import time; time.sleep(60)")
    run = subprocess.Popen(
        [sys.executable, "-m", "agentq", "run", "one", "--yes"],
        cwd=project.checkout, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while not list((project.state / "live").glob("*.json")):
            assert run.poll() is None
        assert "runs are live here: one" in project.agentq("share", "--yes", rc=1).stderr
    finally:
        run.terminate()
        run.wait(30)


def test_a_tracked_copy_is_told(project: Project) -> None:
    project.git("add", "-f", "agents/queue.json")
    note = json.loads(project.agentq("share", "--yes", "--json").stdout)["notes"][0]
    assert "git rm --cached agents/queue.json" in note


def test_a_hand_edit_is_kept_and_told_once(project: Project) -> None:
    project.agentq("share", "--yes")
    file = project.checkout / "agents" / "queue.json"
    file.write_text(file.read_text().replace("Write two", "By hand"))
    done = project.agentq("status", rc=2)
    (aside,) = file.parent.glob("queue.edited-*.json")
    assert "edited by hand" in done.stderr and aside.name in done.stderr and "By hand" in aside.read_text()
    project.agentq("status")
    assert "Write two" in file.read_text()


def test_offline(project: Project) -> None:
    project.agentq("share", "--yes")
    hidden = project.hub.rename(project.hub.with_name("hidden.git"))
    assert "two" in project.agentq("status").stdout
    done = project.agentq("hold", "two", rc=1)
    assert "cannot be reached" in done.stderr and "nothing was changed" in done.stderr
    hidden.rename(project.hub)
    project.agentq("hold", "two")


def test_unshare_brings_it_back(project: Project, other: Project) -> None:
    before = (project.checkout / "agents" / "queue.json").read_bytes()
    project.agentq("share", "--yes")
    other.git("fetch", "-q")
    elsewhere(other, "status")
    last = project.git("rev-parse", "agentq", cwd=project.hub)
    project.git("fetch", "-q")
    done = project.agentq("unshare", "--yes").stdout
    ref = f"refs/agentq/salvage/queue/{last[:12]}"
    assert ref in done and project.git("rev-parse", ref) == last
    assert (project.checkout / "agents" / "queue.json").read_bytes() == before
    assert "agentq" not in project.git("for-each-ref", "--format=%(refname)", "refs/heads", cwd=project.hub)
    assert repository.find(project.checkout).shared_branch("origin", "agentq") == ""
    project.agentq("add", "three", "--title", "On the file")
    assert ids(project) == ["one", "two", "three"]
    assert "agentq unshare" in elsewhere(other, "status", rc=1).stderr
    done = " ".join(elsewhere(other, "unshare", "--yes").stdout.split())
    assert "its last known copy" in done and "note: the copy was seen" in done
    assert other.queue["epoch"] == 1000, "epochs that were handed out after that do not come again"
    elsewhere(other, "hold", "one")
    assert ids(other) == ["one", "two"]
    project.agentq("share", "--yes")
    assert "joined" in elsewhere(other, "share", "--yes").stdout and ids(other) == ["one", "two", "three"]


def test_unshare_waits_for_other_machines(project: Project, other: Project) -> None:
    project.agentq("share", "--yes")
    other.git("fetch", "-q")
    who = queue.Claim("far", 1, datetime.now(UTC), timedelta(hours=1))
    shared.store(project.hub, project.root / "far").update(lambda state: queue.claim(state, "one", who))
    assert "'one' on far" in project.agentq("unshare", "--yes", rc=1).stderr
    project.agentq("unshare", "--yes", "--force")
    assert project.entry("one")["array"] == "in_progress"


def _plan(project: Project, *, force: bool = False) -> tuple[Any, ...]:
    base = wiring.base(project.checkout, person=False)
    remote = wiring.queue_branch(base.repo, base.config)
    machines = wiring.machines(base)
    return base, remote, machines, flow.plan_unshare(base, remote, machines, force=force)


def test_unshare_refuses_what_was_claimed_after_the_question(project: Project) -> None:
    """By another machine, or by a run of another clone of this one."""
    project.agentq("share", "--yes")
    for machine in ("far", wiring.base(project.checkout).config.machine.name):
        base, remote, machines, plan = _plan(project)
        who = queue.Claim(machine, 1, datetime.now(UTC), timedelta(hours=1))
        base.store.update(lambda state, who=who: queue.claim(state, "one", who))
        if machine != "far":
            owner = process.identity(os.getppid())
            record = {"owner": owner, "machine": machine, "spec": "one", "epoch": 2}
            files.write_json(remote.path.parent / "alive" / "1.json", record)
        with pytest.raises(Refused, match=r"'one' on far|'one' in another clone here"):
            flow.unshare(base, remote, machines, plan, force=False)
        assert project.agentq("unshare", "--yes", rc=1).stderr.count("'one'") == 1
        project.agentq("status")
        if machine == "far":
            base.store.update(lambda state: queue.give_back(state, "one", 1))
    base, remote, machines, plan = _plan(project, force=True)
    flow.unshare(base, remote, machines, plan, force=True)
    assert project.entry("one")["array"] == "in_progress"


def test_replaced_history_is_told_once_to_a_person(project: Project) -> None:
    project.agentq("share", "--yes")
    project.agentq("hold", "one")
    lost = project.git("rev-parse", "agentq", cwd=project.hub)
    project.git("update-ref", "refs/heads/agentq", "agentq~1", cwd=project.hub)
    assert "held" not in json.loads(project.agentq("show", "one", "--json").stdout)["entry"]
    done = project.agentq("status", "--json")
    assert "note: " in done.stderr and lost[:12] in done.stderr and json.loads(done.stdout)
    assert project.agentq("status").stderr == ""
    project.agentq("unshare", "--yes")
    project.agentq("share", "--yes")
    assert project.agentq("status").stderr == "", "a branch that was made anew is no replaced one"


def test_unshare_what_is_not_shared(project: Project) -> None:
    assert "not shared" in project.agentq("unshare", "--yes", rc=1).stderr


def test_doctor_puts_the_last_readable_state_on_top(project: Project) -> None:
    project.agentq("share", "--yes")
    clone = project.root / "somebody"
    project.git("clone", "-q", "-b", "agentq", str(project.hub), str(clone))
    (clone / "queue.json").write_text("{")
    project.git("commit", "-qam", "oops", cwd=clone)
    project.git("push", "-q", cwd=clone)
    assert "'agentq' on" in project.agentq("status", rc=8).stderr
    project.agentq("doctor", "--fix", rc=None)
    assert "two" in project.agentq("status").stdout
    assert [line.split()[1] for line in project.git("log", "--oneline", "agentq", cwd=project.hub).splitlines()][
        1
    ] == "oops"


def test_a_packed_tracking_ref_is_seen(project: Project) -> None:
    project.agentq("share", "--yes")
    project.git("fetch", "-q")
    project.git("pack-refs", "--all")
    repo = repository.find(project.checkout)
    repo.shared_mark.unlink()
    assert repo.shared_branch("origin", "agentq") == "agentq"
    assert repo.shared_branch("origin", "gentq") == repo.shared_branch("up", "agentq") == ""


def test_a_landing_moves_trunk_and_queue_together(project: Project) -> None:
    project.agentq("share", "--yes")
    project.agentq("run", "one", "--yes")
    assert project.landings() == ["one"]
    landed: Any = shared.queue_of(project.hub)
    assert [entry["id"] for entry in landed["completed"]] == ["one"]
    assert landed["completed"][0]["landed"] == project.git("rev-parse", "main", cwd=project.hub)
    shared.sound(project.hub)
