"""Unlanded work that outlives its host: pushed after every attempt, offered to the next owner, never overwritten by
one that lost its lease."""

from pathlib import Path
from typing import Any

import pytest
from support import hosts
from support import project as projects
from support.hosts import Host

from agentq.core import queue as transitions
from agentq.errors import Stale
from agentq.flows import wip
from agentq.flows.recover import recover, save_all
from agentq.flows.run import run_spec
from agentq.flows.session import Session
from agentq.trunk import offers

WIP = "refs/agentq/wip/alpha"


@pytest.fixture
def pair(tmp_path: Path) -> list[Host]:
    made = hosts.build(tmp_path, "one", "two")
    made[0].put("alpha")
    return made


def run(host: Host, *, last: Any = "verify") -> Any:
    with host.here():
        made = projects.services(host)
        recover(made)
        return run_spec(made, "alpha", last=last, confirm=lambda _id, _summary: True)


def hand_over(giver: Host) -> None:
    """The spec is ready again; its owner is not asked."""
    epoch = giver.entry("alpha")["lease"]["epoch"]
    giver.services().store.update(lambda queue: transitions.give_back(queue, "alpha", epoch))


def test_what_is_proved_and_what_is_not_is_pushed(pair: list[Host]) -> None:
    one, _ = pair
    run(one, last="test")
    there = one.remote_refs(WIP)
    assert set(there) == {f"{WIP}/test"}, "an attempt that ended in a proof leaves nothing unfinished"
    assert one.git("show", f"{WIP}/test:checks/alpha.py", cwd=one.hub).startswith("assert open")
    one.script(
        "alpha", "implement", 'Path("half.txt").write_text("half"); Path("alpha.txt").write_text("bad"); commit()'
    )
    assert run(one).ended == "attention"
    there = one.remote_refs(WIP)
    assert set(there) == {f"{WIP}/test", f"{WIP}/unfinished"}
    assert one.git("show", f"{WIP}/unfinished:half.txt", cwd=one.hub) == "half"
    assert "Stage: implement" in one.git("log", "-1", "--format=%B", f"{WIP}/unfinished", cwd=one.hub)


def test_work_that_carries_a_secret_stays_on_its_machine(pair: list[Host]) -> None:
    one, _ = pair
    run(one, last="test")
    key = "AKIA" + "Q3EGRIS4XY5NZ7PD"
    one.script(
        "alpha", "implement", f'Path("half.txt").write_text("id = {key}\\n"); commit(); raise SystemExit(3)'
    )
    assert run(one).ended == "attention"
    assert set(one.remote_refs(WIP)) == {f"{WIP}/test"}
    mirror = one.workspaces / "mirror.git"
    assert key in one.git("show", f"{WIP}:half.txt", cwd=mirror), "here it is kept"


def test_tests_of_another_machine_are_offered_and_proved_anew(pair: list[Host]) -> None:
    one, two = pair
    one.script("alpha", "test", 'Path("checks/alpha.py").write_text("assert open(\'alpha.txt\')"); commit()')
    run(one, last="test")
    hand_over(one)
    two.script("alpha", "test", """
assert Path("checks/alpha.py").read_text() == "assert open('alpha.txt')", "what the other one wrote is there"
Path("checks/more.py").write_text("assert open('alpha.txt')"); commit()
""")  # fmt: skip
    report = run(two, last="test")
    assert report.ended == "stopped" and any("red as it should be" in note for note in report.notes)
    work = two.services().mirror.work("alpha")["test"]
    assert two.services().mirror.show(work.commit, "checks/more.py")
    assert two.remote_refs(WIP)[f"{WIP}/test"] == work.commit, "the new owner's takes its place"
    assert len(two.salvaged()) == 1, "what was offered is kept for people"


def test_an_implementation_of_another_machine_is_offered_and_proved_anew(pair: list[Host]) -> None:
    one, two = pair
    run(one, last="implement")
    hand_over(one)
    two.script("alpha", "test", "commit()")
    two.script("alpha", "implement", """
assert Path("alpha.txt").read_text() == "alpha\\n"
Path("alpha.txt").write_text("alpha\\n"); Path("note.txt").write_text(""); commit()
""")  # fmt: skip
    assert run(two, last="implement").ended == "stopped"
    entry = two.entry("alpha")
    assert entry["status"] == "implemented" and entry["lease"]["machine"] == "two"
    assert entry["stages"]["test"]["attempts"] == 1 == entry["stages"]["implement"]["attempts"]


def test_an_unfinished_attempt_of_another_machine_is_gone_on_with(pair: list[Host]) -> None:
    one, two = pair
    run(one, last="test")
    one.script("alpha", "implement", 'Path("half.txt").write_text("half"); commit(); raise SystemExit(3)')
    assert run(one).ended == "attention"
    hand_over(one)
    two.script("alpha", "test", "commit()")
    two.script("alpha", "implement", """
assert Path("half.txt").read_text() == "half"
Path("half.txt").unlink(); Path("alpha.txt").write_text("alpha\\n"); commit()
""")  # fmt: skip
    assert run(two, last="implement").ended == "stopped"
    assert f"{WIP}/unfinished" not in two.remote_refs(WIP)


def test_what_no_longer_fits_is_set_aside(pair: list[Host]) -> None:
    one, two = pair
    one.script(
        "alpha",
        "test",
        'Path("shared.txt").write_text("mine"); Path("checks/alpha.py").write_text("assert 0"); commit()',
    )
    run(one, last="test")
    hand_over(one)
    one.move_trunk("shared.txt", "trunk's")
    two.script("alpha", "test", """
assert Path("shared.txt").read_text() == "trunk's"
Path("checks/alpha.py").write_text("assert open('alpha.txt')"); commit()
""")  # fmt: skip
    assert run(two, last="test").ended == "stopped"
    assert any("mine" in two.git("show", f"{ref}:shared.txt") for ref in two.salvaged())


def test_whatever_is_offered_stops_nobody(pair: list[Host]) -> None:
    """Anybody who may push can put anything there."""
    one, two = pair
    blob = one.git("hash-object", "-w", "shared.txt")
    one.git("push", "-q", str(one.hub), f"{blob}:{WIP}/unfinished")
    empty = one.git("hash-object", "-t", "tree", "-w", "/dev/null", cwd=one.hub)
    orphan = one.git("commit-tree", "-m", "Stage: implement", empty, cwd=one.hub)
    one.git("update-ref", f"{WIP}/test", orphan, cwd=one.hub)
    one.git("update-ref", f"{WIP}/other/deep", orphan, cwd=one.hub)
    assert run(two).ended == "landed"


def _session(host: Host) -> Session:
    """A session of a run that is under way on `host`: what its process holds in memory."""
    from agentq.flows.services import Evidence
    from agentq.store.runs import Live

    made = host.services()
    entry = transitions.running(made.store.read().queue, "alpha")
    live = Live("alpha", "r", "m", made.owner, 1, entry.lease.epoch, 1, "test", "")
    session = Session(made, entry, live, Evidence(host.root))
    wip.receive(session)
    session.work = made.mirror.work("alpha")
    return session


def test_a_run_that_lost_its_lease_pushes_nothing(pair: list[Host]) -> None:
    one, two = pair
    run(one, last="test")
    zombie = _session(one)
    hand_over(one)
    two.script("alpha", "test", 'Path("checks/more.py").write_text("assert open(\'alpha.txt\')"); commit()')
    run(two, last="test")
    before = two.remote_refs(WIP)
    base = zombie.work["test"].base
    zombie.commit_work("test", base, zombie.services.mirror.tree(base))
    with pytest.raises(Stale):
        wip.publish(zombie)
    assert two.remote_refs(WIP) == before


def test_a_late_push_of_an_old_owner_is_rejected_by_what_it_expects(pair: list[Host]) -> None:
    """The lease was lost after it was asked: the expected value is what is left to stop the push."""
    one, two = pair
    run(one, last="test")
    zombie = _session(one)
    hand_over(one)
    two.script("alpha", "test", 'Path("checks/more.py").write_text("assert open(\'alpha.txt\')"); commit()')
    run(two, last="test")
    owner, before = _session(two), two.remote_refs(WIP)
    mirror, work = zombie.services.mirror, zombie.work["test"]
    late = mirror.commit_tree(mirror.tree(work.base), [work.base], "late")
    done, said = offers.push(mirror, "alpha", {"test": (late, zombie.remote["test"]), "implement": (late, "")})
    assert done == {"implement"} and "stale" in said
    assert two.remote_refs(WIP)[f"{WIP}/test"] == before[f"{WIP}/test"]
    owner.commit_work("implement", work.base, owner.work["test"].tree)
    wip.publish(owner)
    theirs = owner.work["implement"].commit
    assert two.remote_refs(WIP)[f"{WIP}/implement"] == theirs, "what slipped in gives way to the owner"


def test_a_push_that_fails_is_a_note(pair: list[Host]) -> None:
    one, _ = pair
    hook = one.hub / "hooks" / "update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text('#!/bin/sh\ncase "$1" in refs/agentq/wip/*) echo "no wip here" >&2; exit 1;; esac\n')
    hook.chmod(0o755)
    with one.here():
        made = projects.services(one)
        report = run_spec(made, "alpha", last="test", confirm=lambda _id, _summary: True)
    assert report.ended == "stopped"
    notes = [data["text"] for event, data in made.seen if event == "note"]
    assert any("could not be pushed for other machines" in text for text in notes)
    hook.unlink()
    assert run(one, last="implement").ended == "stopped"
    assert {f"{WIP}/test", f"{WIP}/implement"} <= set(one.remote_refs(WIP)), "the next attempt pushes it again"


def test_our_own_work_is_not_offered_to_us(pair: list[Host]) -> None:
    one, _ = pair
    run(one, last="test")
    run(one, last="implement")
    assert one.salvaged() == [] and one.services().mirror.refs("refs/agentq/offered") == {}


def test_what_a_person_gave_back_begins_anew(pair: list[Host]) -> None:
    one, two = pair
    run(one, last="test")
    one.agentq("release", "alpha", "--yes")
    assert one.remote_refs(WIP) == {} and len(one.salvaged()) == 1
    two.script(
        "alpha",
        "test",
        'assert not Path("checks/alpha.py").exists()\n' + (two.scripts / "alpha.test.py").read_text(),
    )
    assert run(two).ended == "landed"


def test_after_the_landing_nothing_is_left(pair: list[Host]) -> None:
    one, two = pair
    run(one, last="test")
    hand_over(one)
    assert run(two).ended == "landed"
    made = two.services()
    wip.drop(made, "alpha")
    assert two.remote_refs(WIP) == {}
    assert made.mirror.refs("refs/agentq/offered") == made.mirror.refs("refs/agentq/pushed") == {}


def test_salvage_of_a_lost_spec_keeps_everything(pair: list[Host]) -> None:
    one, _ = pair
    run(one, last="test")
    (one.workspaces / "ws" / "alpha" / "draft.txt").write_text("by hand")
    hand_over(one)
    save_all(one.services(), "alpha", "its lease was taken over")
    kept = [one.git("ls-tree", "-r", "--name-only", ref).split() for ref in one.salvaged()]
    assert any("draft.txt" in names for names in kept) and any("checks/alpha.py" in names for names in kept)
    assert not (one.workspaces / "ws" / "alpha").exists()


def test_a_queue_of_one_host_pushes_nothing(tmp_path: Path) -> None:
    project = projects.build(tmp_path / "p")
    project.add("alpha")
    projects.run(project, "alpha", last="implement")
    assert project.git("for-each-ref", "refs/agentq", cwd=project.hub) == ""
