"""Bringing commits to the remote and from it: trunk, alone or with the queue, and what hosts show each other."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from agentq.core.text import one_line
from agentq.errors import GitError
from agentq.trunk.git import Git, Output, object_id, reason

_STALE = ("stale info", "fetch first", "non-fast-forward", "cannot lock ref", "failed to update ref")
_NO_REPORT = "[remote failure]"  # it hung up before it said what it did
_LOST_TOGETHER = "atomic transaction failed"  # which ref was at fault stands in what the remote said beside it
FETCH = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head")
_CANNOT = "does not support --atomic"
_ABSENT = "couldn't find remote ref"  # the door asks git for English


class Answer(NamedTuple):
    """`outcome`: 'landed', 'moved', 'queue-moved', 'refused' or 'unknown' (read the refs to learn)."""

    outcome: str
    said: str


class QueueRef(Protocol):
    """What moves a shared queue along with trunk; its objects lie in the directory `objects`."""

    @property
    def ref(self) -> str: ...
    @property
    def commit(self) -> str: ...
    @property
    def expected(self) -> str: ...
    @property
    def objects(self) -> Path: ...


class Delivery:
    """The part of the mirror that pushes, and fetches what is not trunk."""

    git: Git
    url: str
    branch: str
    _network: dict[str, str]
    _timeout: float

    def reach(self, *args: str, env: Mapping[str, str] | None = None) -> Output:
        """Run a git command that speaks with the remote, with the person's settings for the network."""
        return self.git.ask(*args, timeout=self._timeout, env={**self._network, **(env or {})})

    def push(self, commit: str, expected: str, marker: str = "", also: QueueRef | None = None) -> Answer:
        """Move trunk from `expected` to `commit`, and the shared queue with it in one atomic push if `also` says
        so. `marker` names the run in the environment of the push, so that it is found if we are killed."""
        ref = f"refs/heads/{self.branch}"
        moves = [(ref, commit, expected), *([(also.ref, also.commit, also.expected)] if also else [])]
        env = {"AGENTQ_RUN": marker} if marker else {}
        if also:
            env["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = str(also.objects)
        output = self.reach(
            "push", "--porcelain", "--no-verify", *(["--atomic"] if also else []),
            *(f"--force-with-lease={name}:{old}" for name, _, old in moves),
            "--end-of-options", self.url, *(f"{new}:{name}" for name, new, _ in moves), env=env,
        )  # fmt: skip
        return understand(output, ref, also.ref if also else "")

    def publish(self, commits: Mapping[str, str]) -> str:
        """Put commits (full ref name on the remote → commit) where other hosts find them; '' or why not."""
        refs = (f"{commit}:{name}" for name, commit in commits.items())
        output = self.reach("push", "--quiet", "--no-verify", "--force", "--end-of-options", self.url, *refs)
        return reason(output.stderr) or "the push failed" if output.rc else ""

    def obtain(self, commit: str, ref: str) -> bool:
        """Whether `commit` is here; if not, it is looked for below the remote's `ref`. Raises GitError (retryable)
        when the remote does not answer: only what it says is not there is not there."""
        return self.has(commit) or (bool(self.fetch_ref(ref)) and self.has(commit))

    def has(self, commit: str) -> bool:
        """Whether `commit` names a commit that is here. Raises GitError when git cannot say."""
        return bool(commit) and self.git.sizes([f"{commit}^{{commit}}"]) != [None]

    def fetch_ref(self, ref: str) -> str:
        """The object that `ref` names on the remote, brought here; '' if the remote says there is none. Raises
        GitError (retryable) on anything else it may say."""
        own = f"refs/agentq/obtained/{ref.removeprefix('refs/agentq/')}"
        output = self.reach(*FETCH, "--end-of-options", self.url, f"+{ref}:{own}")
        if output.rc and _ABSENT in output.stderr:
            return ""
        if output.rc:
            raise GitError(["fetch"], output.rc, reason(output.stderr), retryable=True)
        return object_id(self.git("rev-parse", "--verify", "--quiet", own))


def understand(output: Output, trunk: str, queue: str = "") -> Answer:
    """The answer to a push of the ref `trunk`, and with it of `queue`, from its porcelain lines."""
    lines = {ref: _line(output, ref) for ref in (trunk, queue) if ref}
    told = {ref: line.split("\t")[-1] for ref, line in lines.items() if line}
    remote = [
        line.removeprefix("remote:").strip() for line in output.stderr.splitlines() if line.startswith("remote:")
    ]
    status = told.get(trunk) or reason(output.stderr) or "git push ended without an answer"
    said = one_line(" ".join([status, *filter(None, remote)]), 300)
    flags = {ref: line[:1] for ref, line in lines.items()}
    if output.rc == 0 and all(flag in (" ", "*", "=") and flag for flag in flags.values()):
        return Answer("landed", said)
    if _CANNOT in output.stderr:
        return Answer("refused", said)
    rejected = {ref: told[ref] for ref, flag in flags.items() if flag == "!"}
    return Answer(_rejection(rejected, trunk, queue, " ".join(remote)), said)


def _rejection(rejected: Mapping[str, str], trunk: str, queue: str, remote: str) -> str:
    if any(_NO_REPORT in status for status in rejected.values()):
        return "unknown"
    if _LOST_TOGETHER in rejected.get(trunk, "") and (_is_stale(remote) or not remote):
        return "queue-moved" if f"'{queue}'" in remote and f"'{trunk}'" not in remote else "moved"
    if _is_stale(rejected.get(trunk, "")):
        return "moved"
    if _is_stale(rejected.get(queue, "")):
        return "queue-moved"
    return "refused" if rejected else "unknown"


def _is_stale(status: str) -> bool:
    return any(words in status for words in _STALE)


def _line(output: Output, ref: str) -> str:
    """The porcelain line about `ref`, '' if there is none."""
    lines = (line for line in output.text.splitlines() if line.count("\t") >= 2)
    return next((line for line in lines if line.split("\t")[1].endswith(f":{ref}")), "")
