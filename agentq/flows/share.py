"""`agentq share` and `unshare`: the queue moves to a branch of the remote, and back.

Invariant: nothing is ever lost. A file that is no longer the queue is set aside, the last commit of a branch that
is removed stays under refs/agentq/salvage/queue/ in the person's repository.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from agentq.config import POLICY_FILE, policy
from agentq.core.sections import Shared
from agentq.core.spec import Queue
from agentq.core.text import ago, plural
from agentq.errors import ExternalError, Refused
from agentq.flows.heart import Machines
from agentq.flows.services import Base
from agentq.locks import lock
from agentq.store import files
from agentq.store.copy import WorkingCopy
from agentq.store.shared import SharedStore
from agentq.store.sight import renewed
from agentq.trunk.branch import QueueBranch
from agentq.trunk.git import Git

TRIES = 5


@dataclass(frozen=True)
class Plan:
    """What will be done. 'create': the file becomes the branch; 'join': the branch is there already; 'take':
    the branch becomes the file; 'adopt': the branch is gone, its last known copy becomes the file; 'leave': the
    branch stays as it is, and the file is the queue. `specs` is how many the queue has afterwards."""

    action: Literal["create", "join", "take", "adopt", "leave"]
    branch: str
    where: str
    specs: int
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def plan_share(base: Base, remote: QueueBranch) -> Plan:
    """Raises Refused while runs are live, when the branch is not a queue's or when other clones would not find
    it; QueueCorrupt, ExternalError."""
    _nobody_works(base)
    _check_named(base, remote.branch)
    head = remote.fetch()
    notes = tuple(_tracked(base))
    if not head.commit:
        queue = base.store.read().queue
        return Plan("create", remote.branch, remote.name, _count(queue), notes)
    if head.data is None:
        raise Refused(
            f"the branch {remote.name} is there and holds no queue.json",
            "set [shared] branch in agents/config.toml to a name that is free",
        )
    queue = SharedStore(remote, remote.path.parent).read().queue
    return Plan("join", remote.branch, remote.name, _count(queue), notes)


def share(base: Base, remote: QueueBranch, plan: Plan) -> list[str]:
    """Do what was planned; lines about what was done. Raises ExternalError, and Refused when others changed the
    remote in between."""
    repo = base.repo
    copy = WorkingCopy(repo.queue_file, repo.state)
    before = set(repo.queue_file.parent.glob("queue.local-*.json"))
    with lock(repo.state / "locks", "queue"):  # nobody changes the file while it stops being the queue
        if plan.action == "create":
            base.store.read()
            text = repo.queue_file.read_bytes()
            outcome, said = remote.create(text)
            if outcome == "moved":
                raise Refused(f"somebody else made {remote.name} meanwhile", "'agentq share' again joins it")
            if outcome != "pushed":
                raise ExternalError(f"{remote.name} was not made: {said}", retryable=outcome != "refused")
            SharedStore(remote, remote.path.parent).begin(said, text)
            copy.adopt()
        files.write_json(repo.shared_mark, {"branch": remote.branch}, durable=True)
    SharedStore(remote, remote.path.parent, copy).read()
    done = "joined" if plan.action == "join" else "shared as"
    lines = [f"{done} {remote.name}: {plural(plan.specs, 'spec')}; {repo.queue_file.name} is a copy now"]
    for path in sorted(set(repo.queue_file.parent.glob("queue.local-*.json")) - before):
        lines.append(f"the queue this clone had is set aside as {path}")
    return lines


def plan_unshare(base: Base, remote: QueueBranch, machines: Machines | None, *, force: bool) -> Plan:
    """Raises Refused while runs are live here or, without `force`, specs are in progress elsewhere."""
    store = base.store
    if base.repo.undecided(base.config.trunk.remote, remote.branch):
        return Plan("leave", remote.branch, remote.name, _count(store.read().queue))
    if not isinstance(store, SharedStore):
        raise Refused("the queue is not shared", "'agentq share' shares it")
    _nobody_works(base)
    head = remote.fetch()
    if head.commit and head.data is None:
        return Plan("leave", remote.branch, remote.name, 0)
    if not head.commit:
        last = store.last()
        note = f"the copy was seen {ago(last.age)}: what other machines did after that is not in it"
        return Plan("adopt", remote.branch, remote.name, _count(last.queue), (note,))
    queue = store.read().queue
    _check_rest(queue, base, machines, force=force)
    return Plan("take", remote.branch, remote.name, _count(queue))


def unshare(base: Base, remote: QueueBranch, machines: Machines | None, plan: Plan, *, force: bool) -> list[str]:
    """Do what was planned; lines about what was done. The file is the queue before the branch goes, so a crash
    between leaves one of them. Raises ExternalError; Refused when the branch keeps moving, and as the plan does
    for what began since."""
    repo, store = base.repo, base.store
    if plan.action == "leave":
        files.write_json(repo.shared_mark, {"branch": ""}, durable=True)
        return [f"this clone does not look for a queue in {remote.name} any more"]
    assert isinstance(store, SharedStore)
    copy = WorkingCopy(repo.queue_file, repo.state)
    lines = []
    for _ in range(TRIES):
        commit, document = store.commit_and_document(fresh=plan.action == "take")
        if plan.action == "take":
            _check_rest(document.queue, base, machines, force=force)
        text = document.text.encode() if plan.action == "take" else renewed(document)
        files.replace(repo.queue_file, text)
        copy.adopt()
        ref = f"refs/agentq/salvage/queue/{commit[:12]}"
        remote.keep(repo.common, ref)
        outcome, said = remote.delete(commit) if plan.action == "take" else ("pushed", "")
        if outcome == "pushed":
            break
        if outcome != "moved":
            raise ExternalError(f"{remote.name} was not removed: {said}", retryable=outcome != "refused")
    else:
        raise Refused(f"{remote.name} is changed all the time", "'agentq pause' first")
    files.write_json(repo.shared_mark, {"branch": ""}, durable=True)
    copy.forget()
    Git(repo.common).ask("update-ref", "-d", f"refs/remotes/{base.config.trunk.remote}/{remote.branch}")
    if plan.action == "take":
        lines.append(f"removed {remote.name}; its last commit is kept as {ref}")
    return [*lines, f"{repo.queue_file} is the queue again: {plural(plan.specs, 'spec')}"]


def _nobody_works(base: Base) -> None:
    live = sorted(base.runs.live())
    if live:
        raise Refused(f"runs are live here: {', '.join(live)}", "wait for them, or stop them with Ctrl-C")


def _check_rest(queue: Queue, base: Base, machines: Machines | None, *, force: bool) -> None:
    """Raises Refused while runs are live here or, without `force`, specs are in progress on other machines or in
    other clones of this one."""
    _nobody_works(base)
    if force:
        return
    here = base.config.machine.name
    leases = {entry.id: entry.lease.machine for entry in queue.in_progress}
    found = [f"'{spec}' on {machine}" for spec, machine in leases.items() if machine != here]
    if machines is not None:
        found += [f"'{spec}' in another clone here" for spec in leases if machines.elsewhere(spec)]
    if found:
        raise Refused(f"specs are in progress elsewhere: {', '.join(found)}", "wait for them, or pass --force")


def _check_named(base: Base, branch: str) -> None:
    """Clones that do not share the queue learn from trunk's settings which branch would hold it."""
    if branch == Shared.branch:
        return
    trunk = f"refs/remotes/{base.config.trunk.remote}/{base.config.trunk.branch}"
    found = Git(base.repo.root).ask("cat-file", "blob", f"{trunk}:{POLICY_FILE}")
    text = "" if found.rc else found.stdout.decode("utf-8", "replace")
    if policy(text, f"{POLICY_FILE} on trunk").shared.branch != branch:
        raise Refused(
            f"trunk's {POLICY_FILE} does not name the branch '{branch}': other clones read it there",
            "set [shared] branch in it, commit and push it first; if it is there, 'git fetch'",
        )


def _tracked(base: Base) -> list[str]:
    path = _inside(base.repo.queue_file, base.repo.root)
    if Git(base.repo.root).ask("ls-files", "--error-unmatch", "--", path).rc:
        return []
    return [
        f"{path} is tracked by git, and a copy is not worth a history: 'git rm --cached {path}', put it into "
        ".gitignore, and commit both"
    ]


def _inside(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _count(queue: Queue) -> int:
    return len(queue.ready) + len(queue.in_progress) + len(queue.completed)
