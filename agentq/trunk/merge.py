"""The three-way merge, without a checkout: what git merges, and every path it cannot, with its kind.

A spec's work is one commit on the trunk commit it stands on, so a rebase is one `git merge-tree`. Its base is that
trunk commit and no other, also when trunk was rewritten and does not hold it any more: what a person took back
stays away. Clean is not always right: `disputes` also brings up what both sides changed and git merged, for the
classes that know better (landing fact, trap 2).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentq.errors import GitError
from agentq.trunk.git import Git, is_unread
from agentq.trunk.resolve.base import Dispute, Kind, Situation
from agentq.trunk.resolve.table import suspects

MAX_BYTES = 8 * 1024 * 1024  # a version larger than that is nothing to resolve by rules
_GONE = ("", "")
_SUBMODULE = "160000"
_FIXED = {"GIT_AUTHOR_DATE": "@1000000000 +0000", "GIT_COMMITTER_DATE": "@1000000000 +0000"}


@dataclass(frozen=True)
class Conflict:
    """A path that cannot be merged. Blob ids and modes of base, trunk's and spec's version, '' where absent."""

    path: str
    base: str = ""
    trunk: str = ""
    spec: str = ""
    kind: Kind = "other"
    modes: tuple[str, str, str] = ("", "", "")


@dataclass(frozen=True)
class Merged:
    """A rebase by merge: the resulting tree, and the conflicts in it. With conflicts the tree holds markers.
    `base`: the commit whose difference to the work was merged."""

    tree: str
    conflicts: tuple[Conflict, ...] = ()
    message: str = ""
    base: str = ""


def merge(git: Git, attributes: Path, onto: str, work: str) -> Merged:
    """Merge the difference of the commit `work` to its first parent into `onto`; `attributes`: what stands in for
    the tree's `.gitattributes`. Raises GitError."""
    base, side = f"{work}^", onto
    # Where `onto` holds the base, it is the one merge base: all that both hold is in the history of the base.
    if not git.tells("merge-base", "--is-ancestor", base, onto):
        side = stand_in(git, onto, base)
    settings = ("-c", f"core.attributesFile={attributes}")
    output = git.ask(*settings, "merge-tree", "--write-tree", "-z", "--end-of-options", side, work)
    head, _, rest = output.stdout.partition(b"\0")
    # 1 without a tree: there is nothing to merge by that name
    if output.rc not in (0, 1) or not head or is_unread(output.stderr):
        raise GitError(["merge-tree"], output.rc, output.stderr)
    if output.rc == 0:
        return Merged(head.decode(), base=base)
    listed, _, informed = rest.partition(b"\0\0")
    messages = _messages(informed)
    conflicts = _conflicts(listed, messages) or (Conflict("?"),)
    said = [text for _, kind, text in messages if kind.startswith("CONFLICT")]
    return Merged(head.decode(), conflicts, "\n".join(said).replace(side, onto), base)


def stand_in(git: Git, onto: str, base: str) -> str:
    """The tree of `onto` as a commit on `base`, so that a merge with what also stands on `base` has this very base
    (git 2.38 cannot be told one). The same for the same trees. Raises GitError."""
    return git("commit-tree", "-p", base, "-m", "stands in for a merge", f"{onto}^{{tree}}", env=_FIXED).text


def _messages(informed: bytes) -> list[tuple[list[str], str, str]]:
    """(paths, stable type, text for people) of each message."""
    words = [piece.decode("utf-8", "surrogateescape") for piece in informed.split(b"\0")]
    found = []
    place = 0
    while place < len(words) and words[place].isdigit():
        end = place + 1 + int(words[place])
        if end + 1 >= len(words):
            break
        found.append((words[place + 1 : end], words[end], words[end + 1].strip()))
        place = end + 2
    return found


def _conflicts(listed: bytes, messages: Sequence[tuple[list[str], str, str]]) -> tuple[Conflict, ...]:
    sides: dict[str, dict[int, tuple[str, str]]] = {}
    for item in listed.split(b"\0"):
        meta, _, raw = item.partition(b"\t")
        if raw:
            mode, blob, side = meta.decode().split(" ")
            sides.setdefault(raw.decode("utf-8", "surrogateescape"), {})[int(side)] = (mode, blob)
    said: dict[str, set[str]] = {}
    for paths, kind, _ in messages:
        for path in paths if kind.startswith("CONFLICT") else ():
            said.setdefault(path, set()).add(kind)
    return tuple(
        _conflict(path, [found.get(side, _GONE) for side in (1, 2, 3)], said.get(path, set()))
        for path, found in sides.items()
    )


def _conflict(path: str, versions: Sequence[tuple[str, str]], said: Iterable[str] = ()) -> Conflict:
    base, trunk, spec = versions
    modes = (base[0], trunk[0], spec[0])
    return Conflict(path, base[1], trunk[1], spec[1], _kind(modes, " ".join(said)), modes)


def _kind(modes: tuple[str, str, str], said: str) -> Kind:
    """What kind of conflict it is, from the modes of base, trunk and spec and the types of git's messages."""
    base, trunk, spec = modes
    merged = {trunk, spec} - {base, ""}
    table: tuple[tuple[bool, Kind], ...] = (
        (_SUBMODULE in modes or "submodule" in said, "submodule"),
        ("120000" in modes, "symlink"),
        ("file/directory" in said, "file/directory"),
        ("rename" in said or "file location" in said or "file rename" in said, "rename"),
        ("distinct" in said, "mode"),
        (not trunk or not spec, "modify/delete"),
        (trunk != spec and len(merged) == 2, "mode"),
        ("binary" in said, "binary"),
        (not base, "add/add"),
        ("contents" in said or not said, "content"),
    )
    return next((kind for holds, kind in table if holds), "other")


# ---------------------------------------------------------------- what the classes are asked


def disputes(git: Git, merged: Merged, trunk: str, spec: str, situation: Situation) -> list[Dispute]:
    """What the classes are asked about: every conflict, then what merged cleanly and is to be doubted. `trunk`,
    `spec`: the commits that were merged. Raises GitError."""
    asked = list(merged.conflicts)
    if base := merged.base:
        known = {conflict.path for conflict in asked}
        wanted = suspects(changed(git, base, trunk), changed(git, base, spec), situation)
        sides = [_entries(git, commit, wanted) for commit in (base, trunk, spec, merged.tree)]
        for path in wanted:
            versions = [side.get(path, _GONE) for side in sides]
            if path not in known and any(sha for _, sha in versions[1:3]):
                conflict = _conflict(path, versions[:3])
                asked.append(Conflict(path, conflict.base, conflict.trunk, conflict.spec, "both", conflict.modes))
    found = _entries(git, merged.tree, [conflict.path for conflict in asked])
    return _loaded(git, asked, {path: sha for path, (mode, sha) in found.items() if mode != _SUBMODULE})


def changed(git: Git, before: str, after: str) -> set[str]:
    """The paths that differ between two commits."""
    names = git("diff-tree", "-r", "-z", "--no-renames", "--name-only", "--end-of-options", before, after).fields
    return set(names)


def _entries(git: Git, tree: str, paths: Sequence[str]) -> dict[str, tuple[str, str]]:
    """path → (mode, object id) of those of `paths` that `tree` has as files, links or submodules."""
    found = {}
    for start in range(0, len(paths), 500):
        some = paths[start : start + 500]
        for line in git("ls-tree", "-r", "-z", "--full-tree", tree, "--", *some).fields:
            meta, _, path = line.partition("\t")
            mode, _, sha = meta.split(" ")
            found[path] = (mode, sha)
    return {path: found[path] for path in paths if path in found}


def _loaded(git: Git, conflicts: Sequence[Conflict], clean: dict[str, str]) -> list[Dispute]:
    sides = ((zip(one.modes, (one.base, one.trunk, one.spec), strict=True)) for one in conflicts)
    wanted = {sha for side in sides for mode, sha in side if sha and mode != _SUBMODULE}
    contents = _contents(git, sorted(wanted | set(clean.values())))
    found = []
    for one in conflicts:
        shas = (one.base, one.trunk, one.spec)
        base, trunk, spec = (contents.get(sha) for sha in shas)
        large = any(sha and sha not in contents for sha in shas)
        kind: Kind = "other" if large and one.kind != "submodule" else one.kind
        found.append(Dispute(one.path, kind, base, trunk, spec, one.modes, contents.get(clean.get(one.path, ""))))
    return found


def _contents(git: Git, shas: Sequence[str]) -> dict[str, bytes]:
    """The content of each blob that is not too large to be looked at. Raises GitError when one cannot be read."""
    sizes = dict(zip(shas, git.sizes(shas), strict=True))
    small = [sha for sha, one in sizes.items() if one and one[1] == "blob" and one[2] <= MAX_BYTES]
    contents = dict(zip(small, git.objects(small), strict=True))
    if gone := [sha for sha in shas if sizes[sha] is None] + [sha for sha, one in contents.items() if one is None]:
        raise GitError(["cat-file"], 0, f"object {gone[0]} is missing")
    return {sha: one[1] for sha, one in contents.items() if one}
