"""Put a spec's work on top of another commit: git merges, the conflict classes resolve what is safe, the rest
stops and asks a person (mission row T11, landing facts).

Invariants: every automatic resolution is said with its rule; what a command made is named, so that the merge
identity can be checked without it; migrations are never merged as text.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agentq.core.lifecycle import Stage
from agentq.core.spec import InProgress, Spec
from agentq.core.text import clean, one_line
from agentq.errors import SpecError
from agentq.flows import migrate
from agentq.flows.brief import spec_text
from agentq.flows.outcome import Failed, Interrupted
from agentq.flows.session import Session, shown
from agentq.migrations.base import Impossible, Tool
from agentq.trunk import merge as merges
from agentq.trunk.merge import Merged
from agentq.trunk.resolve import report, table
from agentq.trunk.resolve.base import Answer, Dispute, Rerun, Resolved, Situation, Stopped
from agentq.trunk.resolve.rerun import carry_out, format_imports

MOST_PATHS = 20  # that are looked up one by one


@dataclass(frozen=True)
class Plan:
    """A merge as far as values can tell: the same commits give the same plan. `tree` lacks what `reruns` make.
    `stale`: the work brings migrations that were made for another trunk; generated ones are left out of `tree`."""

    merged: Merged
    tree: str
    answers: Mapping[str, Answer]
    asked: Mapping[str, Dispute]
    stale: bool = False

    @property
    def stopped(self) -> list[Stopped]:
        answered = [one for one in self.answers.values() if isinstance(one, Stopped)]
        missing = [one.path for one in self.merged.conflicts if one.path not in self.answers]
        return answered + [Stopped(path, "same lines", "no rule is safe for it") for path in missing]

    @property
    def resolved(self) -> tuple[str, ...]:
        settled = [one for one in self.answers.values() if isinstance(one, Resolved | Rerun)]
        return tuple(one_line(f"{one.rule}: {one.path}", 200) for one in settled)

    @property
    def reruns(self) -> list[Rerun]:
        return [one for one in self.answers.values() if isinstance(one, Rerun)]


@dataclass(frozen=True)
class Placed:
    """The work of a spec on another commit. `made`: the paths whose content a command gave; `resolved`: a line for
    each conflict that a rule settled."""

    tree: str
    made: frozenset[str] = frozenset()
    stale: bool = False
    resolved: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unresolved:
    """What a person must decide."""

    plan: Plan
    stopped: tuple[Stopped, ...] = field(default=())


def place(
    session: Session, entry: InProgress, work: str, onto: str, checkout: Path
) -> Placed | Unresolved | Failed | Interrupted:
    """The work of the commit `work` (its difference to its parent) on `onto`. Raises GitError."""
    made = plan(session, entry, work, onto)
    if isinstance(made, Failed):
        return made
    if made.stopped:
        return Unresolved(made, tuple(made.stopped))
    for answer in made.answers.values():
        if isinstance(answer, Resolved | Rerun):
            session.say("resolved", of=entry.id, path=answer.path, rule=answer.rule, text=answer.said)
    formats = session.rules.conflicts.format and any(
        getattr(one, "format", False) for one in made.answers.values()
    )
    if not made.reruns and not formats:
        return Placed(made.tree, frozenset(), made.stale, made.resolved)
    return _carry_out(session, entry, made, onto, checkout)


def rebase_work(session: Session, trunk: str, stages: Sequence[Stage]) -> Failed | Interrupted | None:
    """Put what `stages` proved on top of `trunk`."""
    checkout = session.services.workspaces.proof_path(str(session.live.instance))
    for stage in stages:
        work = session.work.get(stage)
        if work is None or work.base == trunk:
            continue
        placed = place(session, session.entry, work.commit, trunk, checkout)
        if isinstance(placed, Unresolved):
            return stop(session, placed, stage, trunk)
        if not isinstance(placed, Placed):
            return placed
        session.commit_work(stage, trunk, placed.tree, [*work.resolved, *placed.resolved])
    return None


def plan(session: Session, entry: InProgress, work: str, onto: str) -> Plan | Failed:
    """The merge by values alone."""
    mirror, tool = session.services.mirror, migrate.tool_of(session)
    merged = mirror.rebase(work, onto)
    rules = session.rules
    situation = Situation(
        additive=rules.overlap.additive, generated=rules.conflicts.generated,
        regenerate=rules.conflicts.regenerate, migration=tool.owns if tool else _nothing,
    )  # fmt: skip
    asked = merges.disputes(mirror.git, merged, onto, work, situation)
    answers = {one.path: one for one in table.decide(asked, situation)}
    changed = {one.path: one.content for one in answers.values() if isinstance(one, Resolved)}
    changed |= {one.path: one.trunk for one in answers.values() if isinstance(one, Rerun)}
    tree, stale = mirror.put(merged.tree, changed), False
    if tool is not None:
        carried = _migrations(session, entry, tool, work, onto, tree)
        if isinstance(carried, Failed):
            return carried
        tree, stale = carried
    return Plan(merged, tree, answers, {one.path: one for one in asked}, stale)


def _nothing(_path: str) -> bool:
    return False


def _migrations(
    session: Session, entry: InProgress, tool: Tool, work: str, onto: str, tree: str
) -> tuple[str, bool] | Failed:
    """`tree` with `onto`'s migrations as they are, unless they are those the work was made for; handwritten ones
    are put behind them. And whether the work has any, which are to be made or proved anew."""
    mirror = session.services.mirror
    base, ours, theirs = (migrate.owned(session, one, tool) for one in (f"{work}^", work, onto))
    if theirs == base:
        return tree, False
    wanted: dict[str, bytes | None] = dict(theirs)
    if entry.migration == "handwritten" and ours != base:
        placed = tool.rebase(theirs, ours, base)
        if isinstance(placed, Impossible):
            return Failed(
                f"the handwritten migration cannot follow trunk's: {placed.why}", placed.hint, placed.why
            )
        wanted |= placed
    present = migrate.owned(session, tree, tool)
    changes = {path: None for path in present if path not in wanted} | {
        path: data for path, data in wanted.items() if present.get(path) != data
    }
    return mirror.put(tree, changes), ours != base


def _carry_out(
    session: Session, entry: InProgress, made: Plan, onto: str, checkout: Path
) -> Placed | Unresolved | Failed | Interrupted:
    """Let commands make what values cannot, in a clean checkout."""
    mirror, keep = session.services.mirror, session.rules.commands.keep
    commit = mirror.commit_tree(made.tree, [onto], f"{entry.id}: merged")
    session.services.workspaces.prepare(checkout, commit, pristine=True, keep=keep)
    stops: list[Interrupted] = []

    def run(command: str) -> int:
        ended = session.command(command, checkout, "resolve", {}, walled=False)
        if ended.kind == "stopped":
            stops.append(Interrupted("stopped while a conflict was resolved"))
        return (ended.returncode or 0) if ended.kind == "exited" else 1

    form = session.rules.conflicts.format
    answers = carry_out(made.reruns, checkout, run)
    answers += format_imports(list(made.answers.values()), form, checkout, run)
    if stops:
        return stops[0]
    if stopped := tuple(one for one in answers if isinstance(one, Stopped)):
        return Unresolved(made, stopped)
    contents = {one.path: one.content for one in answers if isinstance(one, Resolved)}
    return Placed(mirror.put(made.tree, contents), frozenset(contents), made.stale, made.resolved)


# ---------------------------------------------------------------- for people


def stop(session: Session, unresolved: Unresolved, stage: str, trunk: str) -> Failed:
    """Write base, trunk's and the spec's version down for the person, with why each path stopped."""
    versions = session.evidence.folder / "conflict"
    for one in unresolved.stopped:
        _write_versions(versions, unresolved.plan, one.path)
    paths = [one.path for one in unresolved.stopped]
    landed = _landed_since(session, trunk, paths[:100])
    with_whom = f" (changed on trunk by {', '.join(landed)})" if landed else ""
    problem = f"conflicts with trunk in {shown(paths)}{with_whom}"
    why = [f"{one.path}: {one.rule}: {one.why}" for one in unresolved.stopped]
    session.say("conflict", stage=stage, paths=paths, folder=str(versions), why=why)
    _tell(versions, session, unresolved.stopped, trunk)
    hint = f"base, trunk's and the spec's versions are in {versions}; decide, then 'agentq retry {session.id}'"
    return Failed(problem, hint, attention=f"{problem}; versions in {versions}")


def _write_versions(target_folder: Path, made: Plan, path: str) -> None:
    dispute = made.asked.get(path)
    for name in ("base", "trunk", "spec"):
        data = getattr(dispute, name) if dispute else None
        if data is not None:
            *parents, last = Path(path).parts
            target = target_folder.joinpath(name, *(part[:60] for part in parents), _short(last))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)


def _short(name: str) -> str:
    """A file name with room for a suffix."""
    if len(os.fsencode(name)) <= 200:
        return name
    return f"{name[:60]}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:12]}"


def _landed_since(session: Session, trunk: str, paths: Sequence[str]) -> list[str]:
    """Specs whose landing touched `paths` since our work began, newest first."""
    base = session.entry.base
    if not base:
        return []
    form = "--format=%(trailers:key=Agentq-Spec,valueonly,separator=%x2C)"
    out = session.services.mirror.git.ask("log", form, f"{base}..{trunk}", "--", *paths).text
    return list(dict.fromkeys(line.strip() for line in out.splitlines() if line.strip()))[:3]


def _tell(folder: Path, session: Session, stopped: Sequence[Stopped], trunk: str) -> None:
    """README.txt: each path with its class and why, a suggested order. Beside it the words of the specs."""
    landed = {one.path: _landed_since(session, trunk, [one.path]) for one in stopped[:MOST_PATHS]}
    lines = [f"{session.id} does not fit on trunk.", ""]
    lines += [f"- {line}" for line in report.stopped(stopped, landed, session.id)]
    lines += [
        "", f"What is on trunk stays; '{session.id}' is done again on top of it: "
        f"'agentq retry {session.id} --from implement'.",
    ]  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "README.txt", "\n".join(lines))
    done = {entry.id: entry for entry in session.services.store.read().queue.completed}
    names = dict.fromkeys(name for some in landed.values() for name in some)
    for spec in (session.entry, *(done[name] for name in names if name in done)):
        _write(folder / "specs" / f"{spec.id}.md", f"# {spec.title}\n\n{_words(session, spec)}")


def _words(session: Session, spec: Spec) -> str:
    try:
        return spec_text(session.services.repo.root, spec)
    except SpecError as error:
        return spec.description or error.message


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(clean(text) + "\n", encoding="utf-8", errors="replace")
