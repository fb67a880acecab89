"""Prediction: which specs in progress will collide, seen at every commit their agents make.

While an agent works, `Watch` looks once a second whether its HEAD moved: a few `lstat`, no process. If it did, a
thread fetches the commit into the mirror and merges it with the newest commit of every other spec in progress and
with trunk. What is found lies in `collisions.json` of the machine-local state, named by the commits: it is shown
only as long as these are the newest. Nothing here ever stops a stage: a failure is one `note`. Uncommitted work is
not looked at.
"""

import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from agentq.config import Config
from agentq.core.collisions import FILE, KEPT_PATHS, TRUNK, Collision, Mechanical, Pair, first, pair_of
from agentq.core.paths import matches_any
from agentq.core.spec import InProgress
from agentq.errors import ConfigError
from agentq.store import files

if TYPE_CHECKING:
    from agentq.flows.services import Base, Services
    from agentq.flows.session import Session
    from agentq.trunk.git import Git
    from agentq.trunk.pairs import Outcome, Standing

    Pairs = Mapping[tuple[str, str], Pair]

EVERY = 1.0  # s between two looks at a workspace
QUEUE_AGE = 10.0  # s a shared queue may be old: who is in progress is no secret worth a trip
TURN_SECONDS = 20.0
END_SECONDS = 10.0  # for the last look when an agent has ended
MIRROR = "mirror.git"  # below the workspaces' folder
_PLACES = tuple(f"refs/agentq/{kind}" for kind in ("heads", "work", "wip", "offered"))
_AGENT_AT_WORK = ("testing", "implementing")


def head_ref(spec_id: str) -> str:
    """The newest commit of a spec's agent. Gone when the spec is no longer in progress."""
    return f"refs/agentq/heads/{spec_id}"


def newest_refs(entry: InProgress) -> list[str]:
    """Where the newest commit of a spec may be, best first."""
    head, work = head_ref(entry.id), f"refs/agentq/work/{entry.id}"
    known = {
        "testing": [head],
        "tests-written": [f"{work}/test", head],
        "implementing": [head, f"{work}/test"],
    }.get(entry.status, [f"{work}/implement", head])
    offered = [f"refs/agentq/offered/{entry.id}/{name}" for name in ("implement", "unfinished", "test")]
    return [*known, f"refs/agentq/wip/{entry.id}", *offered]


def mechanical(config: Config) -> Mechanical:
    """What agentq resolves by itself, by the settings alone."""
    return Mechanical(
        config.commands.lock_files, config.overlap.additive, config.conflicts.generated, _owned(config)
    )


def _owned(config: Config) -> Callable[[str], bool]:
    """Whether a path is the migration tool's. What is wrong with its settings is said by whoever lands."""
    if (settings := config.migrations).tool == "none":
        return lambda _path: False
    from agentq.migrations.tools import tool

    try:
        return tool(settings.tool, settings.files, settings.upgrade, settings.generate, settings.check).owns
    except ConfigError:
        return lambda path: matches_any(settings.files, path)


# ---------------------------------------------------------------- finding them


def refresh(services: "Services", mine: str) -> list[Pair]:
    """Merge the newest commits of all specs in progress, as far as that was not done before, and write down what
    was found. Returns the pairs with `mine` that nobody was told of yet: collisions, and what git cannot merge.
    Raises GitError, StoreError, OSError."""
    from agentq.locks import turn_or_go_on

    state = services.runs.state
    with turn_or_go_on(state / "locks", "collisions", TURN_SECONDS):
        entries = {entry.id: entry for entry in services.store.read(QUEUE_AGE).queue.in_progress}
        trunk, refs = _refs(services.mirror.git)
        _drop_heads(services, refs, entries)
        before = {pair.who: pair for pair in read(state)}
        newest = _newest(services, entries.values(), refs)
        bases = {commit: _began(entries[spec], commit) for spec, commit in newest.items()}
        pairs = _pairs(services.mirror.git, trunk, newest, bases, before) if trunk else []
        pairs, news = _tell(pairs, before, mine, mechanical(services.config))
        if pairs != list(before.values()):
            files.write_json(state / FILE, {"pairs": [pair.to_json() for pair in pairs]})
    return news


def read(state: Path) -> list[Pair]:
    """What was found last; empty when there is nothing, or nothing that can be read: it is made anew then."""
    data = files.read_json(state / FILE)
    listed = data.get("pairs") if isinstance(data, dict) else None
    found = map(pair_of, listed) if isinstance(listed, list) else ()
    return [pair for pair in found if pair is not None]


def _refs(git: "Git") -> tuple[str, dict[str, str]]:
    """(trunk, ref → commit of all that is in progress). A ref may name anything an agent made: commits count."""
    out = git("for-each-ref", "--format=%(objecttype) %(objectname) %(refname)", "refs/agentq/trunk", *_PLACES)
    lines = (line.split(" ", 2) for line in out.text.splitlines())
    refs = {name: sha for kind, sha, name in lines if kind == "commit"}
    return refs.pop("refs/agentq/trunk", ""), refs


def _drop_heads(services: "Services", refs: dict[str, str], entries: Mapping[str, InProgress]) -> None:
    """Forget the heads of specs that are not in progress any more."""
    kept = {*entries, *services.runs.live()}
    gone = [ref for ref in refs if ref.startswith(head_ref("")) and ref.removeprefix(head_ref("")) not in kept]
    if gone:
        services.mirror.delete_refs(*gone)


def _newest(services: "Services", entries: Iterable[InProgress], refs: Mapping[str, str]) -> dict[str, str]:
    """spec → its newest commit that is known here. Of another host's spec that is what it published for the lane,
    if this host needed it before: nothing is fetched for a prediction."""
    found = {}
    for entry in entries:
        known = next((refs[ref] for ref in newest_refs(entry) if ref in refs), "")
        if not known and entry.place and services.mirror.has(entry.place.work):
            known = entry.place.work
        if known:
            found[entry.id] = known
    return dict(sorted(found.items()))


def _began(entry: InProgress, commit: str) -> str:
    """The trunk commit that `commit` of a spec began on, as far as the queue knows; ''."""
    return entry.place.base if entry.place and entry.place.work == commit else entry.base or ""


def _pairs(
    git: "Git", trunk: str, newest: Mapping[str, str], bases: Mapping[str, str], before: "Pairs"
) -> list[Pair]:
    """Every pair of specs, and each spec with trunk. What was merged before is not merged again."""
    from agentq.trunk import pairs

    wanted = [Pair(spec, TRUNK, (commit, trunk), trunk) for spec, commit in newest.items()]
    wanted += [Pair(a, b, (newest[a], newest[b]), trunk) for a, b in combinations(newest, 2)]
    missing = [pair for pair in wanted if not _same(before.get(pair.who), pair)]
    found: dict[tuple[str, str], Pair] = {}
    if missing:
        commits = list(dict.fromkeys(newest[spec] for pair in missing for spec in pair.who if spec))
        with pairs.scratch(git.directory) as scratch:
            on_trunk = pairs.stand_on(scratch, trunk, commits, _standing(git, trunk), bases)
            both = [pair for pair in missing if pair.other]
            merged = pairs.merge(scratch, [tuple(on_trunk[one].commit for one in pair.commits) for pair in both])  # type: ignore[misc]
        outcomes = {pair.who: outcome for pair, outcome in zip(both, merged, strict=True)}
        for pair in missing:
            stands = [on_trunk[commit] for commit in pair.commits if commit in on_trunk]
            found[pair.who] = _found(pair, stands, outcomes.get(pair.who))
    return [found.get(pair.who) or before[pair.who] for pair in wanted]


def _found(pair: Pair, stands: Sequence["Standing"], outcome: "Outcome | None") -> Pair:
    """`pair` with what the merges say. `stands`: its commits on trunk; `outcome`: of the two with each other."""
    conflicts = [one for stand in stands for one in stand.conflicts]
    if not all(stand.merged for stand in stands) or (pair.other and outcome is None):
        return replace(pair, merged=False)
    if outcome is not None:
        apart = {one.path for one in conflicts}
        conflicts = [one for one in outcome.conflicts if one.path not in apart]
    return replace(pair, paths=tuple(conflicts[:KEPT_PATHS]), count=len(conflicts))


def _standing(git: "Git", trunk: str) -> set[str]:
    """Commits of refs that contain trunk."""
    return set(git("for-each-ref", f"--contains={trunk}", "--format=%(objectname)", *_PLACES).text.split())


def _same(known: Pair | None, pair: Pair) -> bool:
    return known is not None and known.merged and (known.commits, known.trunk) == (pair.commits, pair.trunk)


def _tell(pairs: Sequence[Pair], before: "Pairs", mine: str, rules: Mechanical) -> tuple[list[Pair], list[Pair]]:
    """The pairs with `said` set right, and those that a run of `mine` tells of now. A collision is said once, by
    whoever of the two sees it first, and again only after it was gone. So is what git cannot merge."""
    told: list[Pair] = []
    news: list[Pair] = []
    for pair in pairs:
        said = False
        if not pair.merged or rules.alarming(pair):
            last = before.get(pair.who)
            said = last is not None and last.said and last.merged == pair.merged
            if not said and mine in pair.who:
                said = True
                if pair.merged or all(one.merged for one in news):  # one note, not one for each pair
                    news.append(pair)
        told.append(pair if pair.said == said else replace(pair, said=said))
    return told, news


# ---------------------------------------------------------------- while an agent works


class Watch:
    """Called often while an agent works: costs a few `lstat` a second and never raises. Everything else is done by
    one thread at a time; what it found is said here, by the thread that says everything of a run."""

    def __init__(self, session: "Session", every: float = EVERY) -> None:
        self._session, self._every = session, every
        self._git, self._mirror = session.workspace / ".git", session.services.mirror.path
        self._seen = self._marks()
        self._head = ""
        self._due = 0.0
        self._thread: threading.Thread | None = None
        self._found: SimpleQueue[Pair | str] = SimpleQueue()
        self._failed = False

    def __call__(self) -> None:
        try:
            self._say()
            now = time.monotonic()
            if now >= self._due:
                self._due = now + self._every
                self._look()
        except Exception as error:  # the agent's supervision goes on whatever happens here
            self._failure(error)

    def end(self) -> None:
        """The agent ended: see its last commit, and say what was found."""
        deadline = time.monotonic() + END_SECONDS
        with suppress(Exception):
            for _ in range(2):  # the second for what it committed during the first
                self._look()
                if self._thread is not None:
                    self._thread.join(max(deadline - time.monotonic(), 0))
            self._say()

    def _look(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        marks = self._marks()
        if marks == self._seen:
            return
        moved = marks[0] != self._seen[0]
        self._seen = marks
        self._thread = threading.Thread(target=self._work, args=(moved,), name="collide", daemon=True)
        self._thread.start()

    def _marks(self) -> tuple[object, object]:
        """What changes when the agent commits, and when trunk or what is proved of any spec does."""
        own = [_mark(self._git / name) for name in ("HEAD", "logs/HEAD", "refs/heads", "packed-refs")]
        refs, others = self._mirror / "refs" / "agentq", []
        with suppress(OSError), os.scandir(refs / "work") as specs:
            others = sorted((one.name, _mark(Path(one.path))) for one in specs)
        return own, (_mark(refs / "trunk"), others)

    def _work(self, moved: bool) -> None:
        try:
            if moved and not self._imported():
                return
            for pair in refresh(self._session.services, self._session.id):
                self._found.put(pair)
        except Exception as error:
            self._found.put(_why(error))

    def _imported(self) -> bool:
        """Fetch what HEAD points to; whether it is another commit than before. The agent's repository is only
        fetched from, and not if it is not the directory agentq made."""
        from agentq.trunk import folder

        if not (folder.is_real(self._session.workspace) and folder.is_real(self._git)):
            return False
        if not stat.S_ISREG(os.lstat(self._git / "HEAD").st_mode):  # reading a pipe would never end
            return False
        mirror, spec_id = self._session.services.mirror, self._session.id
        head = mirror.import_head(self._session.workspace, head_ref(spec_id))
        changed, self._head = head != self._head, head
        return changed

    def _say(self) -> None:
        while not self._found.empty():
            found = self._found.get_nowait()
            if isinstance(found, Pair):
                say(self._session, found)
            else:
                self._failure(found)

    def _failure(self, problem: Any) -> None:
        if not self._failed:
            self._failed = True
            with suppress(Exception):
                text = problem if isinstance(problem, str) else _why(problem)
                self._session.say("note", text=text)


@contextmanager
def watching(session: "Session") -> Iterator[Callable[[], None]]:
    """What a driver calls as `tick` while an agent works."""
    watch = Watch(session)
    try:
        yield watch
    finally:
        watch.end()


def after_stage(session: "Session") -> None:
    """What a stage proved is the newest of its spec: compare it. A failure is a note."""
    try:
        for pair in refresh(session.services, session.id):
            say(session, pair)
    except Exception as error:  # a stage never fails for this
        session.say("note", text=_why(error))


def say(session: "Session", pair: Pair) -> None:
    """Event `collision`: `other` is '' for trunk; `count`: of all paths. A note for what git cannot merge."""
    other = pair.other if pair.spec == session.id else pair.spec
    if not pair.merged:
        session.say(
            "note", text=f"whether it collides with {other or 'trunk'} is not known: git cannot merge them"
        )
        return
    paths = mechanical(session.services.config).alarming(pair)
    session.say("collision", other=other, paths=paths[:5], count=pair.count)


def _why(error: Exception) -> str:
    said = getattr(error, "message", "") or str(error) or type(error).__name__
    return f"collisions with other specs are not predicted: {said}"


def _mark(path: Path) -> tuple[int, int, int] | None:
    try:
        seen = os.lstat(path)
    except OSError:
        return None
    return seen.st_mtime_ns, seen.st_size, seen.st_ino


# ---------------------------------------------------------------- showing them


def shown(
    base: "Base", entries: Sequence[InProgress], unblocks: Callable[[], Mapping[str, int]]
) -> list[Collision]:
    """The collisions that still count: both specs are in progress, and nothing newer is known of them. Those that
    resolve themselves are last. Starts no process."""
    pairs = [pair for pair in read(base.runs.state) if pair.paths]
    if not pairs:
        return []
    known = {entry.id: entry for entry in entries}
    rules, freed, mirror = mechanical(base.config), unblocks(), base.workspaces / MIRROR
    found = []
    for pair in pairs:
        if not _counts(pair, known, mirror):
            continue
        who, why = first(known[pair.spec], known[pair.other], freed) if pair.other else ("", "")
        found.append(Collision(pair, tuple(rules.alarming(pair)), who, why))
    return sorted(found, key=lambda one: (not one.alarming, one.pair.other == TRUNK))


def _counts(pair: Pair, known: Mapping[str, InProgress], mirror: Path) -> bool:
    if pair.other == TRUNK:
        there = pair.trunk == _read_ref(mirror, "refs/agentq/trunk")
        return there and pair.spec in known and pair.commits[0] in _current(known[pair.spec], mirror)
    return all(
        spec in known and commit in _current(known[spec], mirror)
        for spec, commit in zip(pair.who, pair.commits, strict=True)
    )


def _current(entry: InProgress, mirror: Path) -> set[str]:
    """The newest commit of a spec. Its agent's last one too, as long as no agent works on it: what was proved is
    the same work, in a commit of agentq's."""
    newest = next((sha for ref in newest_refs(entry) if (sha := _read_ref(mirror, ref))), "")
    if not newest and entry.place:
        return {entry.place.work}
    return {newest} if entry.status in _AGENT_AT_WORK else {newest, _read_ref(mirror, head_ref(entry.id))}


def _read_ref(mirror: Path, name: str) -> str:
    """The commit of a ref in a bare repository, without git; '' if there is none."""
    with suppress(OSError, ValueError):
        return (mirror / name).read_text(encoding="ascii").strip()
    with suppress(OSError):
        for line in (mirror / "packed-refs").read_text(errors="replace").splitlines():
            sha, _, packed = line.partition(" ")
            if packed == name:
                return sha
    return ""
