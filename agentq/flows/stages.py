"""The test and the implement stage: workspace, database branch, agent, proof, commit (mission rows T6–T8).

The proofs are ours, never the agent's word: tests must be red before there is code, and are put back before
they run afterwards; the tree that is proved is the tree that goes on.
"""

import os
from dataclasses import replace
from pathlib import Path

from agentq.core import queue as transitions
from agentq.core.lifecycle import Stage
from agentq.core.overlap import clashes
from agentq.core.paths import matches_any
from agentq.core.text import clean, plural
from agentq.drivers.base import AgentResult
from agentq.errors import DriverError, GitError, Refused
from agentq.flows import agents, dev, honest, leaks, migrate
from agentq.flows.outcome import Failed, Interrupted, Proved, StageOutcome
from agentq.flows.prepare import prepare_workspace
from agentq.flows.session import Session, quoted, shown
from agentq.flows.wip import publish
from agentq.trunk import folder
from agentq.trunk.mirror import Change


def run_stage(session: Session, stage: Stage) -> StageOutcome:
    """Run the test or the implement stage once."""
    trunk = session.fetch_trunk().commit
    dev.follow(session, trunk)
    if stage == "test" and session.entry.tests == "none":
        return Proved(("this spec has no tests of its own",))
    start = prepare_workspace(session, stage, trunk)
    if not isinstance(start, str):
        return start
    empty = session.rules.database.start == "empty"
    with session.database(stage, empty=empty) as branch:
        env = dict(branch.env)
        if failed := session.prepare(session.workspace, start, env):
            return failed
        result = agents.run_agent(session, stage, branch, _locked(session))
        _save(session, stage, start)
        if not isinstance(result, AgentResult):
            return result
        tree = _judge(session, start, result)
    if not isinstance(tree, str):
        return _charged(tree, result)
    # What the agent did to its own database proves nothing: the proof has a fresh one.
    with session.database(f"{stage}-proof", empty=empty) as branch:
        env = dict(branch.env)
        if env and (failed := session.push_schema(session.workspace, env, f"{stage}-proof-push")):
            return failed
        proof = _prove_tests if stage == "test" else _prove_code
        proved = proof(session, trunk, tree, env)
    if isinstance(proved, Proved):
        session.services.mirror.delete_refs(session.wip_ref)
    return _charged(proved, result)


def _charged(outcome: StageOutcome, result: AgentResult) -> StageOutcome:
    """An outcome with what the agent took, however its work ended."""
    return replace(outcome, tokens=result.tokens, cost=result.cost or 0.0)


def _save(session: Session, stage: Stage, start: str) -> None:
    """Keep what an agent left, however it ended."""
    session.check_lease()
    if folder.is_real(session.workspace) and not os.access(session.workspace, os.R_OK | os.W_OK | os.X_OK):
        folder.unlock(session.workspace)
    session.save_wip(start, stage)
    session.save_branches(start)
    publish(session)


def _judge(session: Session, start: str, result: AgentResult) -> str | Failed | Interrupted:
    """The tree to prove, if the agent ended as one ends that is content."""
    if result.outcome == "stopped":
        return Interrupted(session.services.stop() or "stopped")
    if result.outcome == "limit" and result.cause == "budget":
        return agents.over_budget(session.id, result.summary)
    if result.outcome == "missing":
        raise DriverError(
            f"the agent cannot be started: {result.summary}", "check [agent] command; 'agentq doctor'"
        )
    if result.outcome != "done":
        said = f": {result.summary}" if result.summary else ""
        why = {
            "timeout": "ran out of time",
            "silent": "said nothing for too long",
            "limit": "reached its limit",
            "output-limit": "printed too much",
        }.get(result.outcome, f"failed (exit status {result.returncode})")
        return Failed(f"the agent {why}{said}", f"'agentq logs {session.id}'")
    return _committed_tree(session, start)


def _committed_tree(session: Session, start: str) -> str | Failed:
    """The tree the agent leaves, if it is committed and differs from where it started."""
    mirror, services = session.services.mirror, session.services
    index = services.workspaces.index_of(session.workspace)
    if not folder.is_real(session.workspace):
        return Failed("the agent removed its workspace", f"'agentq logs {session.id}' shows what it did")
    try:
        files = mirror.snapshot(session.workspace, start, index)
    except GitError as error:
        problem = f"the files of the workspace cannot be saved: {clean(error.message)}"
        hint = f"they stay in {session.workspace}; put it right there, then 'agentq retry {session.id}'"
        return Failed(problem, hint, attention=problem)
    if services.config.agent.commit == "agent":
        try:
            head = mirror.import_head(session.workspace, f"refs/agentq/import/{session.id}")
        except Refused as error:
            return Failed(error.message, "its files are kept; 'agentq retry' gives it a fresh repository")
        left = mirror.changes(mirror.tree(head), files)
        if left:
            names = shown([change.path for change in left], 3)
            return Failed(
                f"the agent left {plural(len(left), 'uncommitted file')}: {names}",
                'the agent has to commit, or set [agent] commit = "auto"',
            )
    if files == mirror.tree(start):
        return Failed("the agent committed nothing", f"'agentq logs {session.id}' shows what it did")
    return files


def _locked(session: Session) -> list[Change]:
    """What the test stage changed: nobody may change it afterwards."""
    work = session.work.get("test")
    return session.services.mirror.changes(work.base, work.commit) if work else []


def _prove_tests(session: Session, trunk: str, tree: str, env: dict[str, str]) -> StageOutcome:
    """The new tests run and fail on the code as it is."""
    mirror, rules = session.services.mirror, session.rules.commands
    accepted = _without_migrations(session, "test", trunk, tree)
    if isinstance(accepted, Failed):
        return accepted
    tree, notes = accepted
    changes = mirror.changes(mirror.tree(trunk), tree)
    if failed := _check_paths(session, changes, locked=(), code=False) or leaks.check(session, trunk, tree):
        return failed
    weaker = honest.check(session, trunk, tree, "test")
    if isinstance(weaker, Failed):
        return weaker
    notes += weaker
    files = [change.path for change in changes if change.status != "D"]
    tests = [path for path in files if matches_any(rules.test_files, path)] or files
    command = rules.test.replace("{files}", quoted(tests))
    outcome = session.command(command, session.workspace, "test-proof", env)
    if outcome.kind == "stopped":
        return Interrupted("stopped while its tests ran")
    if outcome.kind != "exited" or outcome.returncode in rules.test_not_run:
        return Failed(f"the new tests did not run: {session.last_words(outcome)}", f"it ran: {command}")
    if outcome.returncode == 0:
        problem = "the new tests pass before anything is implemented"
        hint = 'they may test nothing; or set tests = "none" if this spec needs no tests'
        return Failed(problem, hint, attention=problem)
    session.commit_work("test", trunk, tree)
    red = f"red as it should be: {session.last_words(outcome)}"
    return Proved((*notes, red, *_undeclared(session, changes, ())))


def _prove_code(session: Session, trunk: str, tree: str, env: dict[str, str]) -> StageOutcome:
    """With the locked tests put back, the verify commands pass and the changed files are the declared ones."""
    mirror = session.services.mirror
    accepted = _without_migrations(session, "implement", trunk, tree)
    if isinstance(accepted, Failed):
        return accepted
    tree, notes = accepted
    tests = _locked(session)
    touched = _tampered(mirror.changes(mirror.tree(trunk), tree), tests)
    if touched:
        tree = mirror.patch_tree(tree, touched)
        back = [change.path for change in touched if change.new]
        session.services.workspaces.restore_files(session.workspace, session.work["test"].commit, back)
        for change in touched:
            if not change.new:
                folder.remove_below(session.workspace, change.path)
        notes.append(f"put {plural(len(touched), 'locked test file')} back: {shown([c.path for c in touched])}")
        session.say("tests-restored", paths=[change.path for change in touched])
    changes = mirror.changes(mirror.tree(trunk), tree)
    if {change.path for change in changes} <= {change.path for change in tests} and tests:
        return Failed("the agent changed nothing but the tests", f"'agentq logs {session.id}'")
    if failed := _check_paths(session, changes, tuple(change.path for change in tests), code=True) or leaks.check(
        session, trunk, tree
    ):
        return failed
    weaker = honest.check(session, trunk, tree, "implement")
    if isinstance(weaker, Failed):
        return weaker
    notes += weaker
    failed_or_stopped = run_verify_commands(session, session.workspace, "proof", env)
    if failed_or_stopped:
        return failed_or_stopped
    tested = session.work.get("test")
    session.commit_work("implement", trunk, tree, tested.resolved if tested else ())
    return Proved((*notes, *_undeclared(session, changes, tuple(change.path for change in tests))))


def _without_migrations(session: Session, stage: Stage, trunk: str, tree: str) -> tuple[str, list[str]] | Failed:
    """The tree without migrations that are not the agent's to write, in the workspace, too (mission row T9)."""
    accepted = migrate.accept(session, stage, trunk, tree)
    if isinstance(accepted, Failed):
        return accepted
    tree, paths = accepted
    if not paths:
        return tree, []
    mirror = session.services.mirror
    commit = mirror.commit_tree(tree, [trunk], f"{session.id}: {stage} without migrations")
    there = set(mirror.files(tree))
    session.services.workspaces.restore_files(session.workspace, commit, [p for p in paths if p in there])
    for path in paths:
        if path not in there:
            folder.remove_below(session.workspace, path)
    session.say("migrations-left-out", paths=list(paths))
    return tree, [f"left out {plural(len(paths), 'migration file')} of the agent's: {shown(paths)}"]


def _tampered(changes: list[Change], tests: list[Change]) -> list[Change]:
    """The locked test changes that `changes` no longer contain as they were."""
    now = {change.path: (change.new, change.mode) for change in changes}
    return [test for test in tests if now.get(test.path, (test.old, "")) != (test.new, test.mode)]


def run_verify_commands(
    session: Session, cwd: Path, name: str, env: dict[str, str]
) -> Failed | Interrupted | None:
    """All of [commands] verify, in order; the first that fails ends it."""
    if not session.rules.commands.verify:
        problem = "agents/config.toml on trunk names no verify commands: nothing would prove a landing"
        return Failed(problem, "land a config that names them", attention=problem)
    for command in session.rules.commands.verify:
        outcome = session.command(command, cwd, name, env)
        if outcome.kind == "stopped":
            return Interrupted("stopped while its tests ran")
        if outcome.kind != "exited" or outcome.returncode:
            return Failed(f"'{command}' failed: {session.last_words(outcome)}", f"'agentq logs {session.id}'")
    return None


def _check_paths(session: Session, changes: list[Change], locked: tuple[str, ...], *, code: bool) -> Failed | None:
    """Stop on files nobody may change here: the queue, verification itself, another spec's files."""
    if failed := honest.out_of_bounds(session, changes, locked, "implement" if code else "test"):
        return failed
    declared = session.entry.files_modified
    strangers = [c.path for c in changes if c.path not in locked and not matches_any(declared, c.path)]
    queue = session.services.store.read().queue
    additive = session.services.config.overlap.additive
    for other in queue.in_progress:
        if other.id == session.id:
            continue
        clash = clashes(strangers, other.files_modified, additive)
        if clash:
            problem = f"changed {shown(clash[:1])}, which it did not declare and {other.id} is changing"
            hint = f"wait for {other.id} to land and 'agentq retry {session.id}', or declare the file"
            return Failed(problem, hint, attention=problem)
    return None


def _undeclared(session: Session, changes: list[Change], locked: tuple[str, ...]) -> tuple[str, ...]:
    strangers = [
        c.path for c in changes if c.path not in locked and not matches_any(session.entry.files_modified, c.path)
    ]
    if not strangers or not session.entry.files_modified:
        return ()
    return (f"changed files it did not declare: {shown(strangers)}",)


def spent(session: Session, outcome: StageOutcome, stage: Stage, seconds: float) -> None:
    """Write a stage's outcome into the queue."""
    services = session.services
    if isinstance(outcome, Proved) and not outcome.landed:
        session.update(
            lambda queue: transitions.finish(
                queue, session.id, session.epoch, stage, seconds, outcome.tokens, outcome.cost
            )
        )
    elif isinstance(outcome, Failed) and outcome.charged:
        session.refresh(services.store.read().queue)
    elif isinstance(outcome, Interrupted) and (outcome.tokens or outcome.cost):
        session.update(
            lambda queue: transitions.account(
                queue, session.id, session.epoch, stage, outcome.tokens, outcome.cost
            )
        )
    elif isinstance(outcome, Failed):
        session.update(
            lambda queue: transitions.fail(
                queue, session.id, session.epoch, stage, outcome.problem, seconds=seconds, tokens=outcome.tokens,
                cost=outcome.cost, attention=outcome.attention, allowed=services.config.agent.attempts,
            )
        )  # fmt: skip
