"""What the looking commands show, gathered as data."""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agentq.core import queue as transitions
from agentq.core.board import Board, of_queue
from agentq.core.collisions import FILE, Collision
from agentq.core.graph import critical_path
from agentq.core.schedule import Advice, figures
from agentq.core.spec import Completed, InProgress, Queue, Spec, to_json
from agentq.core.text import clean
from agentq.errors import UserError
from agentq.flows.heart import Machines, View
from agentq.flows.services import Base, Services
from agentq.store.runs import Live, Runs


@dataclass(frozen=True)
class Row:
    """One spec for the status table. Hours are wall clock since its claim (until it landed), and the estimate.
    `text` says why it is where it is; `reason` is the same as data, if a rule of the scheduler says so."""

    id: str
    title: str
    array: str
    status: str
    elapsed_hours: float | None
    estimate_hours: float | None
    text: str = ""
    reason: dict[str, Any] | None = None
    machine: str = ""
    landed: str = ""
    landed_at: str = ""

    @property
    def kind(self) -> str:
        """The kind of the reason; 'next' for the recommended one."""
        return "next" if self.text == NEXT else str(self.reason["kind"]) if self.reason else ""


NEXT = "next"


@dataclass(frozen=True)
class Status:
    """`machines`: those that share the queue; `age`: seconds since it was seen where it lives, 0 for now.
    `collisions`: specs in progress that would conflict, also those whose conflict resolves itself."""

    rows: tuple[Row, ...]
    paused: bool | str
    machine: str
    instances: int
    live: tuple[Live, ...]
    machines: tuple[View, ...] = ()
    age: float = 0.0
    collisions: tuple[Collision, ...] = ()

    def to_json(self) -> dict[str, Any]:
        arrays: dict[str, list[dict[str, Any]]] = {"ready": [], "in_progress": [], "completed": []}
        for row in self.rows:
            arrays[row.array].append({k: v for k, v in asdict(row).items() if k != "array"})
        return {
            **arrays, "paused": self.paused, "machine": self.machine, "instances": self.instances,
            "live": [asdict(live) for live in self.live],
            "machines": [one.to_json() for one in self.machines], "age_seconds": round(self.age, 1),
            "collisions": [one.to_json() for one in self.collisions],
        }  # fmt: skip


def status_rows(base: Base, machines: Machines | None = None) -> Status:
    if machines:
        machines.observe()
    snapshot = base.store.read()
    queue = snapshot.queue
    situation = base.look()
    advice = situation.advice()
    now = datetime.now(UTC)
    live = base.runs.live()
    rows = [_running_row(entry, advice, live, now) for entry in queue.in_progress]
    order = {one.id: index for index, one in enumerate(advice.ranked)}
    ready = sorted(queue.ready, key=lambda spec: order.get(spec.id, len(order)))
    rows += [_ready_row(spec, advice) for spec in ready]
    rows += [_completed_row(entry) for entry in queue.completed]
    machine = base.config.machine
    return Status(
        tuple(rows), queue.paused, machine.name, machine.instances, tuple(live.values()),
        tuple(machines.views(queue)) if machines else (), snapshot.age,
        tuple(_collisions(base, queue, situation.board)),
    )  # fmt: skip


def _collisions(base: Base, queue: Queue, board: Board) -> list[Collision]:
    if not (base.runs.state / FILE).exists():
        return []
    from agentq.flows import collide

    return collide.shown(base, queue.in_progress, lambda: figures(board).unblocks)


def _said_to(spec_id: str, collisions: list[Collision]) -> list[dict[str, Any]]:
    return [{**one.to_json(), "text": one.said_to(spec_id)} for one in collisions if one.concerns(spec_id)]


def _running_row(entry: InProgress, advice: Advice, live: dict[str, Live], now: datetime) -> Row:
    elapsed = max((now - entry.lease.acquired).total_seconds(), 0.0) / 3600
    reason = advice.reason(entry.id)
    if entry.id in live:
        text = f"attempt {entry.failures + 1}, after: {entry.problem}" if entry.failures else ""
    elif entry.problem and not entry.attention:
        text = f"failed: {entry.problem}"
    else:
        text = reason.text if reason else "next: goes on where it stopped"
    return Row(
        entry.id, entry.title, "in_progress", entry.status, round(elapsed, 4), entry.estimate_hours, clean(text),
        reason.to_json() if reason else None, entry.lease.machine,
    )  # fmt: skip


def _ready_row(spec: Spec, advice: Advice) -> Row:
    reason = advice.reason(spec.id)
    text = clean(reason.text) if reason else NEXT
    return Row(
        spec.id, spec.title, "ready", "ready", None, spec.estimate_hours, text,
        reason.to_json() if reason else None,
    )  # fmt: skip


def _completed_row(entry: Completed) -> Row:
    hours = max((entry.landed_at - entry.claimed_at).total_seconds(), 0.0) / 3600
    return Row(
        entry.id, entry.title, "completed", "complete", round(hours, 4), entry.estimate_hours,
        f"landed {entry.landed[:10]}", None, entry.machine, entry.landed, f"{entry.landed_at:%Y-%m-%dT%H:%M:%SZ}",
    )  # fmt: skip


def details(base: Base, spec_id: str) -> dict[str, Any]:
    """The entry, its place, its runs and what they reported."""
    queue = base.store.read().queue
    entry = transitions.find(queue, spec_id)
    array = (
        "completed"
        if isinstance(entry, Completed)
        else "in_progress"
        if isinstance(entry, InProgress)
        else "ready"
    )
    dependents = [s.id for s in (*queue.ready, *queue.in_progress) if spec_id in s.depends_on]
    events = base.runs.events(spec_id)
    situation = base.look()
    reason = situation.advice().reason(spec_id)
    collisions = _collisions(base, queue, situation.board)
    workspace = base.workspaces / "ws" / spec_id
    return {
        "id": spec_id, "array": array, "entry": to_json(entry), "unblocks": dependents,
        "reason": reason.to_json() if reason else None,
        "runs": [str(folder) for folder in base.runs.folders(spec_id)],
        "logs": [str(log) for log in base.runs.transcripts(spec_id)],
        "events": events[-200:],
        "resolved": _resolved(base, entry, events),
        "workspace": str(workspace) if workspace.is_dir() else "",
        "collisions": _said_to(spec_id, collisions),
    }  # fmt: skip


def _resolved(base: Base, entry: Spec, events: list[dict[str, Any]]) -> list[str]:
    """The conflicts that rules resolved, as CLASS: PATH: what the landed commit says, else what the runs said."""
    said = [f"{one['rule']}: {one['path']}" for one in events if one["event"] == "resolved"]
    if isinstance(entry, Completed):
        from agentq.flows.session import resolved_in
        from agentq.trunk.git import Git

        mirror = base.workspaces / "mirror.git"
        git = Git(mirror if mirror.is_dir() else base.repo.root)
        found = git.ask("log", "-1", "--format=%B", "--end-of-options", entry.landed)
        said = resolved_in(found.text) if not found.rc else said
    return [clean(line) for line in dict.fromkeys(said)]


def explain(base: Base, spec_id: str) -> dict[str, Any]:
    """The reason a spec is or is not next, the figures behind it, and `chain`: each spec it waits for,
    however far away, with that one's own reason (nearest first)."""
    queue = base.store.read().queue
    entry = transitions.find(queue, spec_id)
    if isinstance(entry, Completed):
        return {
            "id": spec_id, "answer": f"it landed as {entry.landed[:10]}", "reason": None, "hint": "",
            "rationale": [],
        }  # fmt: skip
    situation = base.look()
    advice = situation.advice()
    reason = advice.reason(spec_id)
    candidate = next((one for one in advice.ranked if one.id == spec_id), None)
    numbers = figures(situation.board)
    return {
        "id": spec_id,
        "answer": clean(reason.text) if reason else "it is next",
        "reason": reason.to_json() if reason else None,
        "hint": _HINTS.get(reason.kind, "").format(id=spec_id) if reason else "",
        "rationale": situation.in_words()(candidate) if candidate else [],
        "unblocks": numbers.unblocks[spec_id],
        "critical_hours": round(numbers.critical[spec_id], 2),
        "chain": _chain(situation.board, spec_id, advice),
        "collisions": _said_to(spec_id, _collisions(base, queue, situation.board)),
    }


_HINTS = {
    "held": "'agentq release {id}' lets it go",
    "attention": "'agentq show {id}' tells more; 'agentq retry {id}' when it is decided",
    "paused": "'agentq resume' allows new claims",
    "drained": "'agentq machine drain --undo' ends that",
    "running": "'agentq logs {id} -f' shows what it does",
}
CHAIN_LIMIT = 200


def _chain(board: Board, spec_id: str, advice: Advice) -> list[dict[str, Any]]:
    nodes = {node.id: node for node in (*board.ready, *board.in_progress)}
    found: list[dict[str, Any]] = []
    seen, frontier = {spec_id}, deque(need for need in nodes[spec_id].depends_on if need in nodes)
    while frontier and len(found) < CHAIN_LIMIT:
        need = frontier.popleft()
        if need in seen:
            continue
        seen.add(need)
        reason = advice.reason(need)
        text = clean(reason.text) if reason else "it is next"
        found.append({"id": need, "text": text, "reason": reason.to_json() if reason else None})
        frontier += [other for other in nodes[need].depends_on if other in nodes]
    return found


FOLLOW_SECONDS = 0.2


def follow_logs(runs: Runs, spec_id: str, lines: int, *, follow: bool) -> Iterator[tuple[str, str]]:
    """(log, text) of the last `lines` of the newest log, cleaned; with `follow` also of what is written from
    then on, newer logs included, until no process works on the spec."""
    from agentq import capture

    current = runs.transcripts(spec_id)[-1]
    shown = {current}
    offset = current.stat().st_size
    yield str(current), capture.tail(current, lines=lines)
    while follow:
        ended = spec_id not in runs.live()
        with current.open("rb") as file:
            file.seek(offset)
            data = file.read(1 << 20)
        newer = [log for log in runs.transcripts(spec_id) if log not in shown and _later(log, current)]
        if not (ended or newer):
            data = data[: data.rfind(b"\n") + 1]  # the rest of a line comes with its end
        offset += len(data)
        if data:
            yield str(current), clean(data.decode("utf-8", "replace")).rstrip("\n")
        elif newer:
            current, offset = newer[0], 0
            shown.add(current)
        elif ended:
            return
        else:
            time.sleep(FOLLOW_SECONDS)


def _later(log: Path, than: Path) -> bool:
    return log.stat().st_mtime_ns > than.stat().st_mtime_ns


@dataclass(frozen=True)
class Change:
    """What a spec changed. `state`: landed, proved (committed by its agent) or workspace (as it is now)."""

    state: str
    before: str
    after: str
    text: str

    def to_json(self) -> dict[str, Any]:
        return {"state": self.state, "before": self.before, "after": self.after, "diff": self.text}


def diff_of(services: Services, spec_id: str, *, stat: bool, color: bool) -> Change:
    """The change of a spec. Raises UserError when there is none yet."""
    mirror = services.mirror
    state, before, after = _ends(services, spec_id)
    return Change(state, before, after, mirror.diff(before, after, stat=stat, color=color))


def _ends(services: Services, spec_id: str) -> tuple[str, str, str]:
    """(state, before, after) as names git knows in the mirror."""
    mirror = services.mirror
    entry = transitions.find(services.store.read().queue, spec_id)
    if isinstance(entry, Completed):
        if not mirror.ref("refs/agentq/trunk") or mirror.git.ask("cat-file", "-e", entry.landed).rc:
            mirror.fetch()
        return "landed", f"{entry.landed}^", entry.landed
    work = mirror.refs(f"refs/agentq/work/{spec_id}")
    commit = work.get(f"refs/agentq/work/{spec_id}/implement") or work.get(f"refs/agentq/work/{spec_id}/test")
    start = f"{commit}^" if commit else mirror.ref("refs/agentq/trunk")
    workspace = services.workspaces.path(spec_id)
    if workspace.is_dir() and start:
        tree = mirror.snapshot(workspace, start, services.workspaces.index_of(workspace))
        return "workspace", mirror.tree(start), tree
    if not commit:
        raise UserError(f"'{spec_id}' has changed nothing yet", f"'agentq run {spec_id}' starts it")
    return "proved", start, commit


@dataclass(frozen=True)
class GraphText:
    text: str
    data: dict[str, Any] = field(default_factory=dict)


def graph_of(base: Base, form: str, *, completed: bool) -> GraphText:
    """The dependency graph in one of the forms of core/picture.py."""
    from agentq.core import picture

    forms = {"text": picture.text, "dot": picture.dot, "mermaid": picture.mermaid, "svg": picture.svg}
    if form not in forms:
        raise UserError(f"--format {form}: there is no such form", f"forms: {', '.join(forms)}")
    queue = base.store.read().queue
    board = of_queue(queue, base.config.schedule.default_hours)
    landed = {entry.id: entry for entry in queue.completed} if completed else {}
    drawn = picture.of_board(board, landed)
    nodes = (*board.in_progress, *board.ready)
    path = critical_path({n.id: n.depends_on for n in nodes}, {n.id: n.hours for n in nodes})
    total = sum(node.hours for node in nodes if node.id in path)
    data = {
        "nodes": [{"id": n.id, "title": n.title, "status": n.status, "hours": n.hours} for n in nodes],
        "edges": [list(edge) for edge in drawn.edges],
        "critical_path": list(path), "critical_hours": round(total, 2),
    }  # fmt: skip
    if form == "text" and not drawn.nodes:
        more = "'agentq graph --completed' shows what landed" if queue.completed else "the queue is empty"
        return GraphText(f"Nothing is left to draw: {more}.\n", data)
    return GraphText(forms[form](drawn), data)
