"""Who may land, answers that are lost, and what a landing leaves alone: traps and the pains of other systems, as
mutants of agentq on real repositories (landing facts, "Traps" and "User pains")."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import crash_lane, hosts
from support import project as projects
from support import shared as shared_queues
from support.crash_lane import NAMES, Server, World, closed, services, settled, trunk
from support.hosts import Host
from support.project import Project, run
from support.size import FULL

from agentq.core import lane as rules
from agentq.core import queue as transitions
from agentq.errors import ExternalError
from agentq.flows import lead, recover
from agentq.flows.run import run_spec
from agentq.trunk import git as door
from agentq.trunk.git import Git
from agentq.trunk.mirror import Mirror
from agentq.trunk.push import Answer

# One host takes a part of the way that several take.
MODES = pytest.mark.parametrize("shared", [True, False] if FULL else [True], ids=["shared", "file"][: 1 + FULL])
YES = {"confirm": lambda _spec, _summary: True}


def three(tmp_path: Path, shared: bool = False, config: str = "") -> Project:
    """alpha and beta wait in the lane, gamma is implemented; trunk has moved since."""
    return crash_lane.world(tmp_path, shared=shared, config=config).project


def led(project: Project, made: Any = None) -> Any:
    """gamma's run, which leads the lane."""
    return run_spec(made or services(project), "gamma", **YES)


def frozen(project: Project, made: Any) -> str:
    """gamma's run leads until the lane is frozen, and is stopped then; returns why it is frozen."""
    heard, told = made.observer, []

    def observer(event: str, data: dict[str, Any]) -> None:
        heard(event, data)
        told.extend([data["text"]] if event == "lane-frozen" else [])

    made.observer, made.stop = observer, lambda: "enough" if told else None
    assert led(project, made).ended == "interrupted"
    return str(project.queue["lane"]["frozen"])


# ---------------------------------------------------------------- who may land


def _taken_over_at_the_push(project: Project, made: Any) -> None:
    """In the moment before the push, somebody takes alpha over: its run was dead, a person ran it again."""
    heard, other = made.observer, services(project)

    def observer(event: str, data: dict[str, Any]) -> None:
        heard(event, data)
        if event == "pushing" and "alpha" in data["specs"]:
            other.store.update(lambda queue: transitions.take_over(queue, "alpha", other.claim(2)))

    made.observer = observer


@MODES
def test_a_zombie_does_not_land(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool) -> None:
    """No batch lands a spec whose lease was taken over, however late that was; the others land without it."""
    project = three(tmp_path, shared)
    made = services(project)
    _taken_over_at_the_push(project, made)
    assert led(project, made).ended == "landed"
    assert sorted(project.landings()) == ["beta", "gamma"] and closed(project)
    assert project.entry("alpha")["array"] == "in_progress"
    assert run_spec(services(project), "alpha", **YES).ended == "landed"
    recover.recover(services(project))
    settled(project)


@MODES
def test_the_mutant_without_the_epoch_is_seen_by_the_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    def whoever(queue: Any, epoch: int, landings: Any, now: Any) -> Any:
        for one in landings:
            owner = transitions.running(queue, one.spec).lease.epoch
            queue = transitions.complete(queue, one.spec, owner, one.commit, now, on_trunk=True)
        return queue

    project = three(tmp_path, shared)
    made = services(project)
    _taken_over_at_the_push(project, made)
    monkeypatch.setattr(rules, "land", whoever)
    led(project, made)
    assert not closed(project), "the queue says that the new owner landed what the old one did"


@MODES
def test_a_leader_that_was_replaced_lands_nothing(tmp_path: Path, shared: bool) -> None:
    """One leader an epoch: who is replaced in the moment before its push pushes nothing under its old epoch."""
    project = three(tmp_path, shared)
    made, other = services(project), services(project)
    heard, replaced = made.observer, []

    def observer(event: str, data: dict[str, Any]) -> None:
        heard(event, data)
        if event == "pushing" and not replaced:
            over = other.store.read().queue.lane.leader.epoch
            queue = other.store.update(lambda queue: rules.lead(queue, "else", other.clock.now(), over=over))
            replaced.append(queue.lane.leader.epoch)
            other.store.update(lambda queue: rules.resign(queue, replaced[0]))

    made.observer = observer
    push = Mirror.push
    tried: list[str] = []
    made.mirror.push = lambda *args, **more: (tried.append(args[0]), push(made.mirror, *args, **more))[1]
    assert led(project, made).ended == "landed" and len(replaced) == 1
    assert len(tried) == 1, "only the push of the second leadership"
    recover.recover(services(project))
    settled(project)


@pytest.mark.parametrize("newest_first", [False, True], ids=["as it is", "mutant"])
def test_first_in_first_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, newest_first: bool) -> None:
    """Whoever waits longest lands first (gascity-packs#272). One at a time, so that the order shows."""
    project = three(tmp_path, config="[lane]\nbatch = 1\n")
    waiting = rules.waiting
    if newest_first:
        monkeypatch.setattr(rules, "waiting", lambda queue: waiting(queue)[::-1])
    assert led(project).ended == "landed"
    first = project.landings()[0]
    assert first == ("gamma" if newest_first else "alpha")
    assert newest_first or project.landings() == list(NAMES)


# ---------------------------------------------------------------- answers that are lost


def _silent(made: Any, *, arrives: bool, times: int = 1) -> list[str]:
    """The next pushes of trunk are answered by nobody."""
    push, pushes = made.mirror.push, []

    def silent(*args: Any, **more: Any) -> Answer:
        pushes.append(args[0])
        if len(pushes) > times:
            return push(*args, **more)  # type: ignore[no-any-return]
        if arrives:
            push(*args, **more)
        return Answer("unknown", "no answer")

    made.mirror.push = silent
    return pushes


@MODES
def test_an_answer_that_is_lost_is_looked_up(tmp_path: Path, shared: bool) -> None:
    """Trap 9: applied."""
    project = three(tmp_path, shared)
    made = services(project)
    pushes = _silent(made, arrives=True)
    assert led(project, made).ended == "landed" and len(pushes) == 1
    recover.recover(services(project))
    settled(project)


def test_the_mutant_that_does_not_look_is_seen_by_the_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = three(tmp_path)
    made = services(project)
    _silent(made, arrives=True, times=9)
    monkeypatch.setattr(lead._Leader, "_ask_trunk", lambda *_: "refused")
    frozen(project, made)
    assert not closed(project), "on trunk, and a person is asked about it"


def test_a_shared_queue_that_is_out_of_reach_after_the_push(tmp_path: Path) -> None:
    """Nobody answers the push, and nobody the question after it. Later all is as it should be."""
    project = three(tmp_path, shared=True)
    made = services(project)
    _silent(made, arrives=True)
    look, land = made.store._sight.look, made.store._land_once

    def once(*args: Any) -> Any:
        def away(_since: float) -> Any:
            made.store._sight.look = look
            raise ExternalError("away", retryable=True)

        push = args[1]

        def then_away(move: Any) -> Any:
            answer = push(move)
            made.store._sight.look = away
            return answer

        return land(args[0], then_away)

    made.store._land_once = once
    assert led(project, made).ended == "landed"
    recover.recover(services(project))
    settled(project)


@pytest.mark.parametrize("mutant", [False, True], ids=["as it is", "mutant"])
def test_landed_but_not_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutant: bool) -> None:
    """gastown#2321. The leader dies between its push and the queue: looking after it is enough to close all."""
    world: World = crash_lane.world(tmp_path, shared=False)
    server = Server(tmp_path)
    names = server("lead", world.project, "gamma")[1].splitlines()
    project = world.again()
    assert server("lead", project, "gamma", names.index("after git push") + 1)[0] == -9
    server.close()
    assert project.landings() == list(NAMES) and not closed(project)
    if mutant:
        monkeypatch.setattr(recover, "settle_pushes", lambda _services: [])
    recover.recover(services(project))
    assert closed(project) is not mutant


def test_objects_and_refs_are_on_disk_before_anybody_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 10: core.fsync=committed for all that agentq's door writes; git's default syncs neither."""

    def synced(name: str) -> dict[str, int]:
        git, found = Git(project.workspaces / "mirror.git"), {}
        calls = {"hash-object": ["-w", "--stdin"], "update-ref": [f"refs/agentq/{name}", trunk(project)]}
        for command, args in calls.items():
            trace = tmp_path / f"{name}-{command}"
            out = git.ask(command, *args, stdin=name.encode(), env={"GIT_TRACE2_EVENT": str(trace)})
            assert out.rc == 0, out
            rows = [row for row in trace.read_text().splitlines() if '"fsync/hardware-flush"' in row]
            found[command] = sum(int(row.rpartition('"value":"')[2].split('"')[0]) for row in rows)
        return found

    project = projects.build(tmp_path / "p")
    services(project).mirror.fetch()
    assert min(synced("one").values()) >= 1
    monkeypatch.setattr(door, "_CONFIG", tuple(one for one in door._CONFIG if "fsync" not in one))
    assert min(synced("two").values()) == 0


# ---------------------------------------------------------------- around the landing


@MODES
def test_main_is_checked_out_on_the_hub(tmp_path: Path, shared: bool) -> None:
    """gascity#1913: git refuses such pushes. A clear word for a person, once and not of each spec; nothing is
    lost."""
    project = three(tmp_path, shared)
    project.git("config", "core.bare", "false", cwd=project.hub)
    project.git("--git-dir", str(project.hub), "config", "core.worktree", str(tmp_path))
    before, made = trunk(project), services(project)
    pushes = _silent(made, arrives=False, times=0)
    assert "branch is currently checked out" in frozen(project, made)
    assert trunk(project) == before and len(pushes) == 3
    assert all(project.entry(name)["array"] == "in_progress" for name in NAMES)
    assert [name for name in NAMES if "attention" in project.entry(name)] == ["alpha"]
    assert "branch is currently checked out" in project.entry("alpha")["attention"]
    project.git("--git-dir", str(project.hub), "config", "--unset", "core.worktree")
    project.git("--git-dir", str(project.hub), "config", "core.bare", "true")
    services(project).store.update(rules.thaw)
    for name in NAMES:
        made = services(project)
        if project.entry(name)["array"] != "completed":
            if "attention" in project.entry(name):
                recover.forgive(made, name)
            assert run_spec(made, name, **YES).ended == "landed"
    recover.recover(services(project))
    settled(project)


def test_a_hub_that_cannot_push_atomically_is_a_clear_error(tmp_path: Path) -> None:
    """A shared queue needs it: no loop, no 'trunk moved'."""
    project = three(tmp_path, shared=True)
    project.git("config", "receive.advertiseAtomic", "false", cwd=project.hub)
    before, made = trunk(project), services(project)
    pushes = _silent(made, arrives=False, times=0)
    assert "does not support --atomic push" in frozen(project, made)
    assert trunk(project) == before and len(pushes) == 3


def test_a_landing_leaves_the_persons_checkout_alone(tmp_path: Path) -> None:
    """gastown#3604: staged, unstaged and new files, branches and the index stay as they were."""
    project = three(tmp_path)
    checkout = project.checkout
    (checkout / "shared.txt").write_text("half done\n")
    (checkout / "new.txt").write_text("new\n")
    (checkout / "staged.txt").write_text("staged\n")
    project.git("add", "staged.txt")
    (checkout / "alpha.txt").write_text("mine, of the same name as what lands\n")

    def seen() -> tuple[Any, ...]:
        index = (checkout / ".git" / "index").read_bytes()
        refs = project.git("for-each-ref", "refs/heads", "refs/remotes", "refs/tags", "refs/stash")
        files = {path.name: path.read_bytes() for path in checkout.iterdir() if path.is_file()}
        return project.git("status", "--porcelain=v2", "--branch"), index, refs, files

    seen()
    before = seen()
    assert led(project).ended == "landed" and project.landings() == list(NAMES)
    assert seen() == before


@pytest.mark.parametrize(
    ("stage", "script"),
    [
        ("test", "pass\n"),
        ("test", 'Path("alpha.txt").write_text("alpha\\n"); commit()\n'),
        ("implement", "pass\n"),
        ("implement", 'Path("checks/alpha.py").write_text("pass\\n"); commit()\n'),
    ],
    ids=["no tests", "code for tests", "no commit", "only tests"],
)
def test_done_is_not_what_the_agent_says(tmp_path: Path, stage: str, script: str) -> None:
    """gastown#3588: it ends with status 0 and has nothing to show: it never gets to the lane."""
    project = projects.build(tmp_path / "p")
    project.add("alpha")
    project.script("alpha", stage, script)
    assert run(project, "alpha").ended == "attention"
    entry = project.entry("alpha")
    assert project.landings() == [] and "place" not in entry and entry["status"] in ("testing", "implementing")


def test_work_that_adds_nothing_does_not_land(tmp_path: Path) -> None:
    """Somebody else pushed the very same change: no empty commit in the spec's name."""
    project = three(tmp_path)
    made = services(project)
    place = next(one for one in made.store.read().queue.in_progress if one.id == "alpha").place
    for name in ("alpha.txt", "checks/alpha.py", "shared.txt"):
        project.move_trunk(name, made.mirror.show(place.work, name).decode())
    assert led(project).ended == "landed" and project.landings() == ["beta", "gamma"]
    report = run(project, "alpha")
    assert report.ended == "attention" and "nothing to land" in report.problem


# ---------------------------------------------------------------- only the queue moves


def _counting(host: Host) -> Path:
    """Each run of the verify command leaves a line."""
    log = host.root / "runs.log"
    text = f"with open({str(log)!r}, 'a') as file:\n    file.write('run\\n')\n{projects.RUN_ALL}"
    host.move_trunk("run_all.py", text)
    return log


@contextmanager
def _adding(hub: Path, far: Path) -> Iterator[list[str]]:
    """Another host adds specs as long as the block lasts, and rests three times as long as each took it."""
    store, done, added = shared_queues.store(hub, far), threading.Event(), list[str]()

    def add() -> None:
        while not done.is_set():
            began = time.monotonic()
            store.update(shared_queues.Adding(f"far{len(added)}"))
            added.append(f"far{len(added)}")
            done.wait(3 * (time.monotonic() - began))

    thread = threading.Thread(target=add)
    thread.start()
    try:
        yield added
    finally:
        done.set()
        thread.join()


def test_while_only_the_queue_moves_a_landing_costs_no_further_run(tmp_path: Path) -> None:
    """Another clone adds specs all the time: the queue's commit is made anew, nothing is tested again."""
    host = hosts.build(tmp_path, "one")[0]
    log = _counting(host)
    host.put("alpha")
    crash_lane.up_to(host, "alpha", "implement")
    before, made = len(log.read_text().splitlines()), host.services()
    outcomes: list[str] = []
    push, other = made.mirror.push, shared_queues.store(host.hub, tmp_path / "near")

    def watched(*args: Any, **more: Any) -> Answer:
        if len(outcomes) < 3:  # so often it is certain to be overtaken
            other.update(lambda queue: transitions.drain(queue, f"machine{len(outcomes)}"))
        answer = push(*args, **more)
        outcomes.append(answer.outcome)
        return answer  # type: ignore[no-any-return]

    made.mirror.push = watched
    with _adding(host.hub, tmp_path / "far") as added:
        hosts.until(lambda: added)
        assert run_spec(made, "alpha", **YES).ended == "landed"
    print(f"{outcomes.count('queue-moved')} times overtaken, {len(added)} specs added")
    assert outcomes[-1] == "landed" and set(outcomes[:-1]) == {"queue-moved"} and len(outcomes) > 3
    assert len(log.read_text().splitlines()) == before + 1, "the one before the lane"
    assert closed(host) and len(host.queue["ready"]) == len(added)
