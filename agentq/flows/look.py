"""What the looking commands show, gathered as data."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from agentq.core import queue as transitions
from agentq.core.board import Board, of_queue
from agentq.core.graph import critical_path
from agentq.core.schedule import Advice, figures
from agentq.core.spec import Completed, InProgress, Spec, to_json
from agentq.core.text import clean
from agentq.errors import UserError
from agentq.flows.services import Base, Services
from agentq.store.runs import Live, Runs


@dataclass(frozen=True)
class Row:
    """One spec for the status table. Hours are wall clock since its claim, and the estimate."""

    id: str
    title: str
    array: str
    status: str
    elapsed_hours: float | None
    estimate_hours: float | None
    reason: str
    reason_kind: str = ""


@dataclass(frozen=True)
class Status:
    rows: tuple[Row, ...]
    paused: bool | str
    machine: str
    instances: int
    live: tuple[Live, ...]
    collisions: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        arrays: dict[str, list[dict[str, Any]]] = {"ready": [], "in_progress": [], "completed": []}
        for row in self.rows:
            arrays[row.array].append({k: v for k, v in asdict(row).items() if k != "array"})
        return {
            **arrays, "paused": self.paused, "machine": self.machine, "instances": self.instances,
            "live": [asdict(live) for live in self.live],
        }  # fmt: skip


def status_rows(base: Base) -> Status:
    situation = base.look()
    advice = situation.advice()
    queue = base.store.read().queue
    now = datetime.now(UTC)
    live = base.runs.live()
    rows = [_running_row(entry, advice, live, now) for entry in queue.in_progress]
    order = {one.id: index for index, one in enumerate(advice.ranked)}
    ready = sorted(queue.ready, key=lambda spec: order.get(spec.id, len(order)))
    rows += [_ready_row(spec, advice) for spec in ready]
    rows += [_completed_row(entry) for entry in queue.completed]
    machine = base.config.machine
    return Status(tuple(rows), queue.paused, machine.name, machine.instances, tuple(live.values()))


def _running_row(entry: InProgress, advice: Advice, live: dict[str, Live], now: datetime) -> Row:
    elapsed = (now - entry.lease.acquired).total_seconds() / 3600
    reason = advice.reason(entry.id)
    text = reason.text if reason else "waits for 'agentq run'"
    if entry.id in live:
        text = f"attempt {entry.failures + 1}" if entry.failures else ""
    if entry.problem and entry.id not in live and not entry.attention:
        text = f"failed: {entry.problem}"
    kind = reason.kind if reason else ""
    return Row(
        entry.id, entry.title, "in_progress", entry.status, elapsed, entry.estimate_hours, clean(text), kind
    )


def _ready_row(spec: Spec, advice: Advice) -> Row:
    reason = advice.reason(spec.id)
    text, kind = (reason.text, reason.kind) if reason else ("next", "next")
    return Row(spec.id, spec.title, "ready", "ready", None, spec.estimate_hours, clean(text), kind)


def _completed_row(entry: Completed) -> Row:
    hours = (entry.landed_at - entry.claimed_at).total_seconds() / 3600
    return Row(
        entry.id,
        entry.title,
        "completed",
        "complete",
        hours,
        entry.estimate_hours,
        f"landed {entry.landed[:10]}",
    )


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
    workspace = base.workspaces / "ws" / spec_id
    return {
        "id": spec_id, "array": array, "entry": to_json(entry), "unblocks": dependents,
        "runs": [str(folder) for folder in base.runs.folders(spec_id)],
        "logs": [str(log) for log in base.runs.transcripts(spec_id)],
        "events": events[-200:],
        "workspace": str(workspace) if workspace.is_dir() else "",
    }  # fmt: skip


def explain(base: Base, spec_id: str) -> dict[str, Any]:
    """The reason a spec is or is not next, and the figures behind it."""
    queue = base.store.read().queue
    entry = transitions.find(queue, spec_id)
    if isinstance(entry, Completed):
        return {"id": spec_id, "answer": f"it landed as {entry.landed[:10]}", "reason": None, "rationale": []}
    situation = base.look()
    advice = situation.advice()
    reason = advice.reason(spec_id)
    candidate = next((one for one in advice.ranked if one.id == spec_id), None)
    numbers = figures(situation.board)
    return {
        "id": spec_id,
        "answer": reason.text if reason else "it is next",
        "reason": reason.to_json() if reason else None,
        "rationale": candidate.rationale() if candidate else [],
        "unblocks": numbers.unblocks[spec_id],
        "critical_hours": round(numbers.critical[spec_id], 2),
        "chain": _chain(situation.board, spec_id, advice),
    }


def _chain(board: Board, spec_id: str, advice: Advice) -> list[str]:
    """For a spec that waits: each spec it transitively waits for with that one's own reason, nearest first."""
    nodes = {node.id: node for node in (*board.ready, *board.in_progress)}
    lines: list[str] = []
    seen, frontier = {spec_id}, [need for need in nodes[spec_id].depends_on if need in nodes]
    while frontier and len(lines) < 20:
        need = frontier.pop(0)
        if need in seen:
            continue
        seen.add(need)
        reason = advice.reason(need)
        lines.append(f"{need}: {reason.text if reason else 'it is next'}")
        frontier += [other for other in nodes[need].depends_on if other in nodes]
    return lines


FOLLOW_SECONDS = 0.2


def follow_logs(runs: Runs, spec_id: str, lines: int, *, follow: bool) -> Iterator[str]:
    """The last `lines` of the newest log, cleaned; with `follow` also what is written from then on, newer logs
    included, until no process works on the spec."""
    from agentq import process

    current = runs.transcripts(spec_id)[-1]
    yield f"== {current.name}"
    yield process.tail(current, lines=lines)
    offset = current.stat().st_size
    while follow:
        ended = spec_id not in runs.live()
        newest = runs.transcripts(spec_id)[-1]
        with current.open("rb") as file:
            file.seek(offset)
            data = file.read(1 << 20)
        offset += len(data)
        if data:
            yield clean(data.decode("utf-8", "replace")).rstrip("\n")
        elif newest != current:
            current, offset = newest, 0
            yield f"== {current.name}"
        elif ended:
            return
        else:
            time.sleep(FOLLOW_SECONDS)


def diff_of(services: Services, spec_id: str, *, stat: bool, color: bool) -> str:
    """The change of a spec as text. Raises UserError when there is none yet."""
    mirror = services.mirror
    entry = transitions.find(services.store.read().queue, spec_id)
    if isinstance(entry, Completed):
        if not mirror.ref("refs/agentq/trunk") or mirror.git.ask("cat-file", "-e", entry.landed).rc:
            mirror.fetch()
        return mirror.diff(f"{entry.landed}^", entry.landed, stat=stat, color=color)
    work = mirror.refs(f"refs/agentq/work/{spec_id}")
    commit = work.get(f"refs/agentq/work/{spec_id}/implement") or work.get(f"refs/agentq/work/{spec_id}/test")
    start = f"{commit}^" if commit else mirror.ref("refs/agentq/trunk")
    workspace = services.workspaces.path(spec_id)
    if workspace.is_dir() and start:
        tree = mirror.snapshot(workspace, start, services.workspaces.index_of(workspace))
        return mirror.diff(mirror.tree(start), tree, stat=stat, color=color)
    if not commit:
        raise UserError(f"'{spec_id}' has changed nothing yet", f"'agentq run {spec_id}' starts it")
    return mirror.diff(start, commit, stat=stat, color=color)


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
    return GraphText(forms[form](drawn), data)
