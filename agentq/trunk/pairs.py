"""Merging many pairs of commits to see which would conflict, without leaving anything in the mirror.

One `git merge-tree --stdin` merges all pairs (0.7 ms each, landing facts). What it writes goes into a directory
of its own, which is removed afterwards: a prediction is made at every commit of every agent.
"""

import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from agentq.core.collisions import Conflicted
from agentq.errors import GitError
from agentq.trunk.git import Git, is_unread, reason
from agentq.trunk.merge import stand_in

TIMEOUT = 60.0  # s; eight specs take 0.03
_SIDE = re.compile(
    r"~[0-9a-f]{40,64}(_\d+)?$"
)  # what git adds to the name of a file that a directory is in the way of


class Outcome(NamedTuple):
    """The tree of one merge, with markers in it where there are `conflicts`."""

    tree: str
    conflicts: tuple[Conflicted, ...]


class Standing(NamedTuple):
    """A commit on top of trunk: `commit` is the one to merge further, itself where it conflicts with trunk.
    `merged`: False where git could not merge it with trunk; nothing is known then."""

    commit: str
    conflicts: tuple[Conflicted, ...] = ()
    merged: bool = True


@contextmanager
def scratch(mirror: Path) -> Iterator[Git]:
    """Git in the bare repository `mirror`; the objects it makes last as long as the block."""
    with tempfile.TemporaryDirectory(prefix="agentq-pairs-", ignore_cleanup_errors=True) as name:
        objects = Path(name)
        (objects / "info").mkdir()
        (objects / "info" / "alternates").write_text(f"{(mirror / 'objects').absolute()}\n")
        yield Git(mirror, {"GIT_OBJECT_DIRECTORY": name})


def merge(git: Git, pairs: Sequence[tuple[str, str]]) -> list[Outcome | None]:
    """The merge of each pair, by trunk's attributes; None where git cannot merge it. Commits without a common
    ancestor are merged too: an agent may begin a history of its own. Raises GitError when git merges nothing at
    all."""
    done: list[Outcome | None] = []
    while len(done) < len(pairs):
        wanted = "".join(f"{one} {other}\n" for one, other in pairs[len(done) :]).encode()
        output = git.ask(
            "-c", f"core.attributesFile={git.directory / 'agentq-attributes'}", "-c", "core.fsync=none",
            "merge-tree", "--stdin", "-z", "--allow-unrelated-histories", stdin=wanted, timeout=TIMEOUT,
        )  # fmt: skip
        if output.rc < 0 or output.rc in (127, 129):  # ended, or never begun: that is no answer about a pair
            hint = "this needs git 2.39 or newer" if output.rc == 129 else ""
            raise GitError(["merge-tree"], output.rc, reason(output.stderr), hint)
        if is_unread(output.stderr):  # of which pair, git does not say
            rest = pairs[len(done) :]
            return [*done, *([None] if len(rest) == 1 else (merge(git, [pair])[0] for pair in rest))]
        done += parse(output.stdout)
        if len(done) < len(pairs):
            done.append(None)  # git ends at the first pair it cannot read
    return done[: len(pairs)]


def parse(out: bytes) -> list[Outcome]:
    """The complete answers in what `merge-tree --stdin -z` printed: status, tree, the conflicted files, an empty
    field, the messages, an empty field; of a clean merge only status, tree, an empty field."""
    fields = iter([field.decode("utf-8", "surrogateescape") for field in out.split(b"\0")])
    found: list[Outcome] = []
    try:
        while next(fields) in ("0", "1"):
            found.append(_one(next(fields), fields))
    except (StopIteration, IndexError, ValueError):  # git was ended in the middle
        pass
    return found


def _one(tree: str, fields: Iterator[str]) -> Outcome:
    stages: dict[str, set[str]] = {}
    while field := next(fields):
        meta, _, path = field.partition("\t")
        stages.setdefault(path, set()).add(meta.split(" ")[2])
    kinds = _kinds(fields) if stages else {}
    conflicts: dict[str, Conflicted] = {}
    for path in (*stages, *kinds):
        kind = kinds.get(path, "contents")
        if kind == "contents" and stages.get(path) == {"2", "3"}:
            kind = "both-added"
        plain = _SIDE.sub("", path)
        conflicts.setdefault(plain, Conflicted(plain, kind))
    return Outcome(tree, tuple(conflicts.values()))


def _kinds(fields: Iterator[str]) -> dict[str, str]:
    """path → kind from the messages: a number of paths, the paths, the type, the text."""
    kinds: dict[str, str] = {}
    while count := next(fields):
        paths = [next(fields) for _ in range(int(count))]
        kind, _text = next(fields), next(fields)
        if kind.startswith("CONFLICT (") and kind.endswith(")"):
            for path in paths:
                kinds.setdefault(path, kind[len("CONFLICT (") : -1])
    return kinds


def stand_on(
    git: Git, trunk: str, commits: Iterable[str], standing: Iterable[str], bases: Mapping[str, str] | None = None
) -> Mapping[str, Standing]:
    """Each of `commits` merged with `trunk`, as a commit on it: two specs are then compared by what they
    themselves change, not by what landed since one of them began. `standing`: those that contain it already.
    `bases`: the trunk commit on which each began; what trunk dropped of it is not the spec's change."""
    known = set(standing)
    found = {commit: Standing(commit) for commit in commits}
    moved = [commit for commit in found if commit not in known]
    dropped = _dropped(git, trunk, {commit: base for commit, base in (bases or {}).items() if commit in moved})
    sides = [stand_in(git, trunk, dropped[commit]) if commit in dropped else trunk for commit in moved]
    merged = merge(git, list(zip(sides, moved, strict=True))) if moved else []
    for commit, outcome in zip(moved, merged, strict=True):
        if outcome is None:
            found[commit] = Standing(commit, merged=False)
        elif outcome.conflicts and commit not in dropped:
            found[commit] = Standing(commit, outcome.conflicts)
        else:  # on the old trunk it would bring back what was dropped; its conflicts are known by their paths
            made = git("commit-tree", "-p", trunk, "-m", "on trunk", outcome.tree)
            found[commit] = Standing(made.text, outcome.conflicts)
    return found


def _dropped(git: Git, trunk: str, bases: Mapping[str, str]) -> dict[str, str]:
    """Those of `bases` (commit → where it began) that a rewritten trunk does not hold any more. Usually there is
    none, and that takes one process. Raises GitError."""
    wanted = {base for base in bases.values() if base and base != trunk}
    if not wanted:
        return {}
    gone = set(git("rev-list", "--ignore-missing", *sorted(wanted), f"^{trunk}").text.split())
    return {
        commit: base
        for commit, base in bases.items()
        if base in gone and git.tells("merge-base", "--is-ancestor", base, commit)
    }
