"""The host's own bare copy of the repository: every decision about content is made here, never in a directory
an agent can write (architecture, decisions 3 and 4).

A spec's work is kept as one commit on the trunk commit it stands on, so rebasing it is one three-way merge of
trees (`git merge-tree`), without a checkout. Refs: `refs/agentq/trunk`, `refs/agentq/work/<spec>/<stage>`,
`refs/agentq/wip/<spec>`, `refs/agentq/salvage/<spec>/<n>`.
"""

import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentq.core import attributes
from agentq.core.text import clean
from agentq.errors import ExternalError, GitError, Refused
from agentq.locks import lock
from agentq.trunk import folder
from agentq.trunk.git import Git, Output, is_away, object_id, reason
from agentq.trunk.intake import Intake
from agentq.trunk.merge import Conflict as Conflict  # noqa: PLC0414 - the flows take it from here
from agentq.trunk.merge import Merged as Merged  # noqa: PLC0414
from agentq.trunk.merge import disputes, merge
from agentq.trunk.push import FETCH, Delivery
from agentq.trunk.resolve.base import Dispute, Situation

TRUNK = "refs/agentq/trunk"
WATCHED = "refs/agentq/watched"
_SHADES = {"+": 32, "-": 31, "@": 36}
SPEC_TRAILER, EPOCH_TRAILER, RESOLVED_TRAILER = "Agentq-Spec", "Agentq-Epoch", "Agentq-Resolved"


@dataclass(frozen=True)
class Trunk:
    """The newest trunk commit, its tree, and the files asked for (None where it has none)."""

    commit: str
    tree: str
    files: Mapping[str, bytes | None]


@dataclass(frozen=True)
class Work:
    """What a stage proved, as one commit on the trunk commit it stands on. `resolved`: a line for each conflict
    that a rule settled on the way."""

    commit: str
    base: str
    tree: str
    resolved: tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """One path that differs between two trees. `status`: A, M, D or T; blobs are '' where absent."""

    path: str
    status: str
    old: str
    new: str
    mode: str


class Mirror(Intake, Delivery):
    """`path`: the bare repository; `url`: the remote; `branch`: the trunk's name there; `network`: the person's
    settings for reaching it; `watch`: a branch that must not be there, because it would hold the real queue."""

    def __init__(
        self, path: Path, url: str, branch: str, network: Mapping[str, str], timeout: float, watch: str = ""
    ) -> None:
        self._watch = watch
        self.path, self.url, self.branch = path, url, branch
        self.git = Git(path)
        self._network = dict(network)
        self._timeout = timeout
        self._known_attributes: dict[str, bytes] = {}

    def ensure(self) -> None:
        """Make the bare repository if it is missing; complete once it has its name. Raises ExternalError when
        the workspaces' directory cannot be written."""
        if (self.path / "HEAD").exists():
            return
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            Git(self.path.parent)("init", "--quiet", "--bare", "--template=", str(temporary))
            (temporary / "agentq-id").write_text(uuid.uuid4().hex)
        except (OSError, GitError) as error:
            shutil.rmtree(temporary, ignore_errors=True)
            why = reason(error.stderr) if isinstance(error, GitError) else error.strerror or str(error)
            raise ExternalError(
                f"workspaces cannot be made in {self.path.parent}: {why}",
                "make room and let yourself write there, or set 'workspaces' in .machine",
            ) from error
        try:
            os.replace(temporary, self.path)
        except OSError:  # another process was first
            shutil.rmtree(temporary, ignore_errors=True)

    def identity(self) -> str:
        """A word for this very mirror: another one if it was deleted and made again."""
        try:
            return (self.path / "agentq-id").read_text()
        except OSError:
            return ""

    # ------------------------------------------------------------ trunk

    def fetch(self, *paths: str) -> Trunk:
        """Bring trunk here; returns its newest commit and the content of `paths` in it. Raises GitError when the
        remote or the branch is missing."""
        with lock(self.path / "agentq-locks", "fetch"):
            output = self._fetch_once()
            if output.rc and self._remove_stale_lock():
                output = self._fetch_once()
            if output.rc:
                why, hint = reason(output.stderr), self._fetch_hint(output.stderr)
                raise GitError(["fetch"], output.rc, why, hint, retryable=is_away(output.stderr))
            files = (f"{TRUNK}:{path}" for path in paths)
            commit, tree, watched, *found = self.git.objects([TRUNK, f"{TRUNK}^{{tree}}", WATCHED, *files])
            if commit is None or tree is None:
                raise GitError(["cat-file"], 1, f"{TRUNK} cannot be read")
            self._write_attributes(commit[0], tree[0])
            if self._watch and watched:
                raise Refused(
                    f"the queue is shared on branch '{self._watch}' of the remote, and this clone does not use it",
                    "'agentq share' joins it; nothing here is lost",
                )
        content = {path: item[1] if item else None for path, item in zip(paths, found, strict=True)}
        return Trunk(commit[0], tree[0], content)

    def _fetch_once(self) -> Output:
        # A pattern, because a branch that is not there must not fail the fetch.
        watched = [f"+refs/heads/{self._watch}*:{WATCHED}*"] if self._watch else []
        prune = ["--prune"] if watched else []
        wanted = [f"+refs/heads/{self.branch}:{TRUNK}", *watched]
        return self.reach(*FETCH, *prune, "--end-of-options", self.url, *wanted)

    def _remove_stale_lock(self) -> bool:
        """Whether a git that was killed had left trunk's ref locked. Only under our own lock, and only if no
        process has the file open (reliability fact 8)."""
        stale = self.path / f"{TRUNK}.lock"
        if not stale.exists() or folder.held(stale):
            return False
        stale.unlink(missing_ok=True)
        return True

    def _fetch_hint(self, stderr: str) -> str:
        where = re.sub(r"://[^/@]*@", "://", self.url)  # no password on a screen
        if "remote ref" in stderr:
            return f"push a branch '{self.branch}' to {where}, or set [trunk] branch in agents/config.toml"
        return f"run the command again when {where} answers; nothing is lost. 'agentq doctor' checks it"

    def _write_attributes(self, commit: str, tree: str) -> None:
        """The attributes of trunk's tree for predictions. The first line names the tree they were read from."""
        stamp, place = f"# {tree}\n".encode(), self.path / "agentq-attributes"
        try:
            first, _, text = place.read_bytes().partition(b"\n")
        except FileNotFoundError:
            first = text = b""
        if first + b"\n" != stamp:
            text = self._attributes(tree)
            _replace(place, stamp + text)
        self._known_attributes[commit] = text

    def _attributes(self, tree: str) -> bytes:
        return attributes.compiled(self.read(tree, lambda path: path.rsplit("/", 1)[-1] == attributes.NAME))

    def _attributes_of(self, onto: str) -> Path:
        """A file with the attributes of a commit's tree. Its name is that of its content: whatever other processes
        fetch meanwhile, the same merge is made by the same attributes."""
        if onto not in self._known_attributes:
            self._known_attributes[onto] = self._attributes(onto)
        text = self._known_attributes[onto]
        place = self.path / "attributes" / hashlib.sha256(text).hexdigest()[:32]
        if not place.exists():
            place.parent.mkdir(exist_ok=True)
            _replace(place, text)
        return place

    def work(self, spec_id: str) -> dict[str, Work]:
        """What the stages of a spec proved so far: stage → its commit."""
        resolved = f"%(contents:trailers:key={RESOLVED_TRAILER},valueonly,separator=%x1f)"
        form = f"--format=%(refname:lstrip=4) %(objectname) %(parent) %(tree) {resolved}"
        found = {}
        for line in self.git("for-each-ref", form, f"refs/agentq/work/{spec_id}/").text.split("\n"):
            if line:
                stage, commit, parent, tree, *said = line.split(" ", 4)
                found[stage] = Work(commit, parent, tree, tuple(filter(None, "".join(said).split("\x1f"))))
        return found

    def commit(self, name: str) -> str:
        """The commit a ref or a sha names. Raises GitError when there is none."""
        return self.git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}").text

    def ref(self, name: str) -> str:
        """The object a full ref name points to, or ''. Raises GitError when git cannot say."""
        asked = ("rev-parse", "--verify", "--quiet", "--end-of-options", name)
        output = self.git.ask(*asked)
        if output.rc not in (0, 1):
            raise GitError(list(asked), output.rc, output.stderr)
        return output.text

    def set_ref(self, name: str, target: str) -> None:
        self.git("update-ref", "--end-of-options", name, target)

    def delete_refs(self, *prefixes: str) -> None:
        """Delete every ref that is, or lies below, one of `prefixes`."""
        names = self.git("for-each-ref", "--format=%(refname)", *prefixes).text.split()
        commands = "".join(f"delete {name}\n" for name in names)
        if commands:
            self.git.ask("update-ref", "--stdin", stdin=commands.encode())

    def refs(self, prefix: str) -> dict[str, str]:
        lines = self.git("for-each-ref", "--format=%(objectname) %(refname)", prefix).text.splitlines()
        return {name: sha for sha, _, name in (line.partition(" ") for line in lines)}

    def contains(self, commit: str, trunk: str = TRUNK) -> bool:
        """Whether `trunk` holds `commit`; not if one of them is not here. Raises GitError when git cannot say."""
        try:
            return self.git.tells("merge-base", "--is-ancestor", commit, trunk)
        except GitError:
            if self.has(commit) and self.has(trunk):
                raise
            return False

    def landing(self, spec_id: str, since: str) -> str:
        """The newest trunk commit after `since` whose trailers name this spec, or '' (also if `since` is gone).
        Raises GitError when git cannot say: what landed would be done again."""
        form = f"--format=%H %(trailers:key={SPEC_TRAILER},valueonly,separator=%x2C)"
        asked = ("log", "--first-parent", form, f"--grep=^{SPEC_TRAILER}: {spec_id}$", f"{since}..{TRUNK}")
        output = self.git.ask(*asked)
        if output.rc and self.has(since):
            raise GitError(list(asked), output.rc, output.stderr)
        for line in output.text.splitlines() if not output.rc else ():
            sha, _, named = line.partition(" ")
            if named == spec_id:
                return sha
        return ""

    # ------------------------------------------------------------ content

    def tree(self, commit: str) -> str:
        return self.git("rev-parse", "--verify", "--end-of-options", f"{commit}^{{tree}}").text

    def show(self, commit: str, path: str) -> bytes | None:
        """The content of a file in a commit, or None. Raises GitError when it cannot be read."""
        name = f"{commit}:{path}"
        (found,) = self.git.sizes([name])
        return self.blob(found[0]) if found and found[1] == "blob" else None

    def blob(self, sha: str) -> bytes:
        return self.git("cat-file", "blob", sha).stdout if sha else b""

    def files(self, commit: str) -> list[str]:
        return self.git("ls-tree", "-r", "-z", "--name-only", "--end-of-options", commit).fields

    def blobs(self, commit: str, names: Sequence[str]) -> dict[str, str]:
        """path → blob id for every file of the tree whose last segment is in `names`."""
        found = {}
        for line in self.git("ls-tree", "-r", "-z", "--end-of-options", commit).fields:
            meta, _, path = line.partition("\t")
            if path.rsplit("/", 1)[-1] in names:
                found[path] = meta.split(" ")[2]
        return found

    def read(self, commit: str, wanted: Callable[[str], bool]) -> dict[str, bytes]:
        """path → content of the files of a commit or tree whose path is `wanted`; a submodule is no file. Raises
        GitError when one of them cannot be read."""
        names = {}
        for line in self.git("ls-tree", "-r", "-z", "--end-of-options", commit).fields:
            meta, _, path = line.partition("\t")
            if wanted(path) and not meta.startswith("160000"):
                names[path] = meta.split(" ")[2]
        found = self.git.objects(list(names.values()))
        if None in found:
            raise GitError(["cat-file"], 0, f"objects of {commit[:12]} are missing")
        return {path: one[1] for path, one in zip(names, found, strict=True) if one}

    def put(self, tree: str, contents: Mapping[str, bytes | None]) -> str:
        """`tree` with these files: their content, or None for a file that is not there. What exists keeps its
        mode."""
        if not contents:
            return tree
        listed = self.git("ls-tree", "-r", "-z", "--end-of-options", tree).fields
        modes = {path: meta.split(" ")[0] for meta, _, path in (line.partition("\t") for line in listed)}
        made = []
        for path, data in contents.items():
            blob = "" if data is None else self._blob(data)
            made.append(Change(path, "M", "", blob, modes.get(path, "100644")))
        return self.patch_tree(tree, made)

    def _blob(self, data: bytes) -> str:
        return object_id(self.git("hash-object", "-w", "--stdin", stdin=data))

    def changes(self, before: str, after: str) -> list[Change]:
        out = self.git("diff-tree", "-r", "-z", "--no-renames", "--no-ext-diff", before, after).fields
        found = []
        for meta, path in zip(out[::2], out[1::2], strict=True):
            _, mode, old, new, status = meta.split(" ")
            found.append(Change(path, status[0], old.strip("0") and old, new.strip("0") and new, mode))
        return found

    def diff(self, before: str, after: str, *, stat: bool = False, color: bool = False) -> str:
        """The change as text that is safe to show; `stat` for the summary alone."""
        form = ["--stat=76"] if stat else ["--patch"]
        text = clean(
            self.git("diff-tree", "-r", "--no-color", "--no-ext-diff", "--no-textconv", *form, before, after).text
        )
        if not color or stat:
            return text
        lines = (
            f"\x1b[{_SHADES[line[0]]}m{line}\x1b[m" if line[:1] in _SHADES else line for line in text.split("\n")
        )
        return "\n".join(lines)

    def commit_tree(
        self, tree: str, parents: Sequence[str], message: str, env: Mapping[str, str] | None = None
    ) -> str:
        """A commit. `env`: its author, committer and times as git's environment variables; without times, now."""
        args = [part for parent in parents for part in ("-p", parent)]
        text = message if message.endswith("\n") else f"{message}\n"
        # Not in argv: the message has a line for each resolved conflict.
        return object_id(self.git("commit-tree", *args, tree, stdin=os.fsencode(text), env=env))

    def patch_tree(self, tree: str, changes: Sequence[Change]) -> str:
        """`tree` with the `new` side of `changes` put in (a deletion where it is '')."""
        index = self.path / f"agentq-index-{os.getpid()}-{tree[:12]}"
        env = {"GIT_INDEX_FILE": str(index)}
        try:
            self.git("read-tree", tree, env=env)
            lines = b"".join(
                f"{change.mode if change.new else '0'} {change.new or '0' * 40}\t{change.path}".encode(
                    "utf-8", "surrogateescape"
                )
                + b"\0"
                for change in changes
            )
            output = self.git.ask(
                "update-index", "-z", "--add", "--remove", "--replace", "--index-info", stdin=lines, env=env
            )
            if output.rc:
                raise GitError(["update-index"], output.rc, output.stderr)
            return object_id(self.git("write-tree", env=env))
        finally:
            index.unlink(missing_ok=True)

    def rebase(self, work: str, onto: str) -> Merged:
        """The work of one commit (its difference to its parent) on top of `onto`, also if `onto` does not hold
        that parent any more. A clean merge only: what touches the same lines is a conflict for a person (mission
        row T11). Raises GitError."""
        return merge(self.git, self._attributes_of(onto), onto, work)

    def disputes(self, merged: Merged, work: str, onto: str, situation: Situation) -> list[Dispute]:
        """What the classes of conflicts are asked about a rebase: its conflicts, and what git may have merged
        wrongly."""
        return disputes(self.git, merged, onto, work, situation)

    # ------------------------------------------------------------ landing

    def commit_file(self, name: str, data: bytes, message: str) -> str:
        """A commit without parents that holds one file."""
        tree = object_id(self.git("mktree", stdin=f"100644 blob {self._blob(data)}\t{name}\n".encode()))
        return self.commit_tree(tree, [], message)

    def message(self, commit: str, onto: str = "") -> tuple[str, dict[str, str]]:
        """The message of a commit, and its author as git's environment variables. With `onto`, the commit it is to
        be made again on, also the time: the later one of the two, so that whoever makes it makes the same commit,
        and time never runs backwards along trunk."""
        shown = ("log", "--no-walk=unsorted", "-z", "--format=%an%x00%ae%x00%at %ct%x00%B")
        words = self.git(*shown, commit, *([onto] if onto else [])).text.split("\0")
        name, email, times, body = words[:4]
        author = {"GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": email}
        if onto:
            authored, *committed = map(int, (*times.split(" "), words[-3].split(" ")[1]))
            author |= {"GIT_AUTHOR_DATE": f"@{authored} +0000", "GIT_COMMITTER_DATE": f"@{max(committed)} +0000"}
        return body.rstrip("\n"), author


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}")
    temporary.write_bytes(data)
    os.replace(temporary, path)
