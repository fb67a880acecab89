"""The branch of the remote that holds the shared queue, and the refs by which machines show that they live.

A small bare repository stands between: every commit of the queue is made in it, on exactly the state it was made
from, and pushed naming that state as the expected one. Invariants (reliability fact 7; landing facts 5, 9): no
two processes ever push the same commit; what a push answered is read from its porcelain line, never guessed.
"""

import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from filelock import Timeout

from agentq.core.text import one_line
from agentq.errors import ExternalError, GitError
from agentq.locks import lock, turn_or_go_on
from agentq.trunk import folder
from agentq.trunk.git import Git, Output, reason

FILE = "queue.json"
OP_TRAILER, NONCE_TRAILER = "Agentq-Op", "Agentq-Nonce"
QUEUE, MACHINES, LOST = "refs/agentq/queue", "refs/agentq/machines", "refs/agentq/lost"
REMEMBERED = 2000  # operations looked for behind a commit that is not known
_EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
_NOBODY = "0" * 40
_LOOSE, _PACKS = 30, 30  # in one of 256 folders: about 8,000 loose objects
_TIDY_SECONDS = 3600.0  # a day of heartbeats is more than that many, and stays
FETCH_SECONDS = 20.0  # for the turn to fetch
# Said before anything was sent: nothing can have changed. Anything else leaves the question open.
_UNREACHABLE = re.compile(
    r"could not resolve|couldn't resolve|connection refused|unreachable|no route to host|connection timed out"
    r"|does not appear to be a git repository|repository .*not found|unable to access|unable to connect"
    r"|could not read (username|password)|authentication failed|permission denied|host key verification",
    re.IGNORECASE,
)
_LOST = ("cannot lock ref", "failed to update ref", "stale info", "fetch first", "non-fast-forward")


class Head(NamedTuple):
    """The newest commit of the branch, '' when the remote has no such branch. `data`: the queue file in it, None
    when there is none; b'' and no `ops` when it is the commit the caller has. `ops`: the operations of the
    commits after that one. `rewritten`: that one is not in the branch any more, and `ops` are all there are."""

    commit: str
    data: bytes | None = b""
    ops: tuple[str, ...] = ()
    rewritten: bool = False


class QueueBranch:
    """`path`: the bare repository; `url`: the remote; `branch`: the queue's branch there; `network`: the person's
    settings for reaching it; `timeout`: seconds for one trip."""

    def __init__(self, path: Path, url: str, branch: str, network: Mapping[str, str], timeout: float) -> None:
        self.path, self.branch = path, branch
        self.url = url
        self.ref = f"refs/heads/{branch}"
        self.git = Git(path)
        self._network = dict(network)
        self._timeout = timeout

    @property
    def name(self) -> str:
        """For people; without a password."""
        return f"'{self.branch}' on {re.sub(r'://[^/@]*@', '://', self.url)}"

    @property
    def objects(self) -> Path:
        return self.path / "objects"

    def ensure(self) -> None:
        """Make the bare repository if it is missing. Raises ExternalError when that is impossible."""
        if (self.path / "HEAD").exists():
            return
        temporary = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex[:8]}")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            Git(self.path.parent)("init", "--quiet", "--bare", "--template=", str(temporary))
        except (OSError, GitError) as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise ExternalError(f"the shared queue cannot be kept in {self.path.parent}: {error}") from error
        try:
            os.replace(temporary, self.path)
        except OSError:  # another process was first
            shutil.rmtree(temporary, ignore_errors=True)

    # ------------------------------------------------------------ the queue

    def fetch(self, since: str = "") -> Head:
        """Bring the queue and the machines here. `since`: the commit the caller has. Raises ExternalError
        (retryable) when the remote does not answer."""
        output = self._fetch(f"+{self.ref}:{QUEUE}", f"+{MACHINES}/*:{MACHINES}/*")
        if output.rc and "find remote ref" in output.stderr:
            return Head("", None)
        self._expect(output)
        head = self._head(since)
        if head.rewritten:
            self.git("update-ref", _lost(since), since)
        self._tidy()  # now that nothing that counts is without a ref
        return head

    def _head(self, since: str) -> Head:
        wanted = f"{QUEUE}\n{QUEUE}:{FILE}\n".encode()
        found = self._feed("cat-file", "--batch", stdin=wanted).stdout
        line, _, rest = found.partition(b"\n")
        commit, _, size = line.decode().split(" ")
        if commit == since:
            return Head(commit)
        line, _, data = rest[int(size) + 1 :].partition(b"\n")
        words = line.decode("utf-8", "replace").split(" ")
        content = data[: int(words[2])] if words[1:2] == ["blob"] else None
        listed = self._ops(f"{since}...{commit}") if since else None
        rewritten = listed is not None and "<" in listed
        if listed is None or rewritten:
            listed = self._ops(commit)
            if listed is None:
                raise GitError(["log"], 128, f"the commits of {self.name} cannot be read", retryable=True)
        return Head(commit, content, tuple(op for op in listed if op != ">"), rewritten)

    def _ops(self, span: str) -> list[str] | None:
        """For each commit of `span`, newest first, the side it is on ('<' or '>') and its operations. None when a
        commit is not here. Raises GitError when git was ended."""
        form = f"--format=%m %(trailers:key={OP_TRAILER},valueonly,separator=%x20)"
        output = self.git.ask("log", f"--max-count={REMEMBERED}", form, "--end-of-options", span, "--")
        return None if _failed(output) else output.text.split()

    def kept(self, commit: str) -> str:
        """Where a commit is kept that the branch lost, for people."""
        return f"{self.path} as {_lost(commit)}"

    def before(self, commit: str, steps: int) -> bytes | None:
        """The queue so many commits before `commit`, None where there is none. Raises GitError when git was
        ended."""
        output = self.git.ask("cat-file", "blob", f"{commit}~{steps}:{FILE}")
        return None if _failed(output) else output.stdout

    def write(self, data: bytes, parent: str, ops: Iterable[str], title: str = "Change the queue") -> str:
        """A commit with `data` as the queue on top of `parent` ('': none). The nonce makes it a commit of its
        own even if somebody does the same in the same second (landing fact 5)."""
        trailers = [*(f"{OP_TRAILER}: {op}" for op in ops), f"{NONCE_TRAILER}: {uuid.uuid4().hex}"]
        message = "\n".join([title, "", *trailers, ""]).encode()
        stream = b"".join([
            b"blob\nmark :1\n", _data(data),
            b"commit refs/agentq/made\nmark :2\n",
            f"committer agentq <agentq@localhost> {int(time.time())} +0000\n".encode(), _data(message),
            f"from {parent}\n".encode() if parent else b"",
            f"M 100644 :1 {FILE}\n\nget-mark :2\n".encode(),
            f"reset refs/agentq/made\nfrom {_NOBODY}\n\n".encode(),
        ])  # fmt: skip
        return self._feed("fast-import", "--quiet", "--force", stdin=stream).text.strip()

    def push(self, commit: str, expected: str) -> tuple[str, str]:
        """Move the branch from `expected` ('': it must not exist) to `commit`. Returns (outcome, what git said);
        outcomes: 'pushed'; 'moved': the branch is elsewhere; 'refused': the remote says no; 'offline': it was
        not reached; 'unknown': read the branch to learn."""
        return self._push(self.ref, commit, expected)

    def create(self, data: bytes) -> tuple[str, str]:
        """Begin the branch with this queue. Returns (outcome, the commit or what git said)."""
        commit = self.write(data, "", [], "Share the queue")
        outcome, said = self.push(commit, "")
        return outcome, commit if outcome == "pushed" else said

    def delete(self, expected: str) -> tuple[str, str]:
        """Remove the branch if it is still at `expected`; outcomes as those of `push`."""
        return self._push(self.ref, "", expected)

    def keep(self, repository: Path, ref: str) -> None:
        """Bring the branch as it was fetched last into the repository of a person, under `ref`."""
        source = f"+{QUEUE}:{ref}"
        Git(repository)("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", str(self.path), source)

    # ------------------------------------------------------------ machines

    def set_machine(self, name: str, text: str, expected: str) -> tuple[str, str]:
        """Say `text` for a machine, if what it said before is the commit `expected` ('': nothing). Returns
        (outcome, the new commit or what git said); outcomes as those of `push`."""
        nonce = {"GIT_AUTHOR_EMAIL": f"{uuid.uuid4().hex}@localhost"}
        commit = self.git("commit-tree", "-m", text, _EMPTY_TREE, env=nonce).text
        outcome, said = self._push(f"{MACHINES}/{_quoted(name)}", commit, expected)
        return outcome, commit if outcome == "pushed" else said

    def machines(self, *, fetch: bool = True) -> dict[str, tuple[str, str]]:
        """name → (commit, what it said). Without `fetch`: as the last `fetch` of the queue brought them. Raises
        ExternalError (retryable) when the remote does not answer."""
        if fetch:
            self._expect(self._fetch(f"+{MACHINES}/*:{MACHINES}/*"))
        form = "--format=%(refname:lstrip=3)%00%(objectname)%00%(contents)%00"
        words = self.git("for-each-ref", form, MACHINES).text.split("\0")
        rows = zip(words[::3], words[1::3], words[2::3], strict=False)
        return {_unquoted(name.lstrip("\n")): (commit, text.rstrip("\n")) for name, commit, text in rows}

    def drop_machine(self, name: str, expected: str = "") -> tuple[str, str]:
        """Forget a machine; only if it is still at `expected`, when given. Outcomes as those of `push`."""
        return self._push(f"{MACHINES}/{_quoted(name)}", "", expected or None)

    # ------------------------------------------------------------ git

    def _feed(self, *args: str, stdin: bytes) -> Output:
        output = self.git.ask(*args, stdin=stdin)
        if output.rc:
            raise GitError(list(args), output.rc, output.stderr)
        return output

    def _push(self, ref: str, commit: str, expected: str | None) -> tuple[str, str]:
        lease = [] if expected is None else [f"--force-with-lease={ref}:{expected}"]
        output = self.git.ask(
            "push", "--porcelain", "--no-verify", *lease,
            "--end-of-options", self.url, f"{commit}:{ref}", timeout=self._timeout, env=self._network,
        )  # fmt: skip
        line = next((line for line in output.text.splitlines() if line.rstrip().split("\t")[1:2] and
                     line.split("\t")[1].endswith(f":{ref}")), "")  # fmt: skip
        status = line.split("\t")[-1] if line else reason(output.stderr)
        remote = (
            one.removeprefix("remote:").strip() for one in output.stderr.splitlines() if "remote:" in one[:7]
        )
        said = one_line(" ".join(filter(None, [status, *remote])), 300)
        if line.startswith("!"):
            gone = not commit and "remote ref does not exist" in status
            return "moved" if gone or any(word in status for word in _LOST) else "refused", said
        # '=' is no win: the very same commit was there already, pushed by somebody else (landing fact 5).
        wins = ("*",) if expected == "" else ("-",) if not commit else (" ", "+")
        if output.rc == 0 and line:
            return "pushed" if line[0] in wins else "moved", said
        sent = "RPC failed" in output.stderr or output.rc == -1
        return "offline" if not sent and _UNREACHABLE.search(output.stderr) else "unknown", said

    def _fetch(self, *refspecs: str) -> Output:
        with turn_or_go_on(self._locks, "fetch", FETCH_SECONDS) as ours:
            output = self._fetch_once(refspecs)
            if output.rc and "lock" in output.stderr:  # of a git that was killed, or that fetches beside us
                if ours:
                    self._remove_stale_locks()
                output = self._fetch_once(refspecs)
        return output

    def _fetch_once(self, refspecs: Iterable[str]) -> Output:
        return self.git.ask(
            "fetch", "--quiet", "--no-tags", "--prune", "--no-write-fetch-head",
            "--end-of-options", self.url, *refspecs, timeout=self._timeout, env=self._network,
        )  # fmt: skip

    def _expect(self, output: Output) -> None:
        if output.rc:
            why = one_line(reason(output.stderr), 200)
            raise ExternalError(f"the shared queue {self.name} cannot be reached: {why}", retryable=True)

    def _remove_stale_locks(self) -> None:
        """Remove what a git that was killed left. Only under our own lock, and only what no process has open
        (reliability fact 8)."""
        for path in [*self.path.glob("*.lock"), *(self.path / "refs").rglob("*.lock")]:
            if not folder.held(path):
                path.unlink(missing_ok=True)

    def _tidy(self) -> None:
        """Pack what has gathered, and forget what no ref has reached for a day: old heartbeats. What is younger
        may be on its way to a ref."""
        with suppress(OSError, GitError, Timeout), lock(self._locks, "fetch", 0):
            loose, tried = self.objects / "17", self.path / "agentq-tidied"
            if not loose.is_dir() or len(list(loose.iterdir())) <= _LOOSE:
                return
            if tried.exists() and 0 <= time.time() - tried.stat().st_mtime < _TIDY_SECONDS:
                return
            tried.touch()
            packs = len(list((self.objects / "pack").glob("*.pack")))
            self.git("repack", "-q", "-l", "-d", *(["-a"] if packs > _PACKS else []))
            self.git("prune", "--expire=1.day.ago")

    @property
    def _locks(self) -> Path:
        return self.path.parent / "locks"


def _failed(output: Output) -> bool:
    """Whether git says that there is no such thing. A git that was ended says nothing: raises GitError."""
    if output.rc < 0:
        raise GitError(["log"], output.rc, output.stderr, retryable=True)
    return output.rc != 0


def _data(content: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(content), content)


def _lost(commit: str) -> str:
    return f"{LOST}/{commit[:12]}"


def _quoted(name: str) -> str:
    """A machine's name as a part of a ref: 'a..b' and 'a.lock' may not stand there."""
    return name.replace(".", "%2E")


def _unquoted(name: str) -> str:
    return name.replace("%2E", ".")
