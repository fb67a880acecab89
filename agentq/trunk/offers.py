"""Unlanded work on the remote, where other hosts find it: `refs/agentq/wip/<spec>/<name>`.

The names hold no epoch, so that whoever has the spec finds the newest work under them. What keeps a run whose
lease was taken over from overwriting it: each ref is pushed with the value it is expected to have.
"""

from collections.abc import Mapping

from agentq.errors import GitError
from agentq.trunk.git import reason
from agentq.trunk.mirror import Mirror
from agentq.trunk.push import FETCH


def _remote(spec_id: str) -> str:
    return f"refs/agentq/wip/{spec_id}/"


def listed(mirror: Mirror, spec_id: str) -> dict[str, str]:
    """name → commit of what is there. Raises GitError when the remote does not answer."""
    prefix = _remote(spec_id)
    asked = ("ls-remote", "--quiet", "--end-of-options", mirror.url, f"{prefix}*")
    output = mirror.reach(*asked, env={"GIT_LITERAL_PATHSPECS": "0"})
    if output.rc:
        raise GitError(["ls-remote"], output.rc, reason(output.stderr))
    pairs = (line.partition("\t") for line in output.text.splitlines())
    return {name.removeprefix(prefix): sha for sha, _, name in pairs if name.startswith(prefix)}


def bring(mirror: Mirror, spec_id: str, found: Mapping[str, str], local: str) -> None:
    """Fetch these (name → commit) into the mirror, below the ref `local`. Raises GitError when one of them moved
    or cannot be had."""
    names = [f"+{_remote(spec_id)}{name}:{local}/{name}" for name in found]
    output = mirror.reach(*FETCH, "--end-of-options", mirror.url, *names)
    if output.rc:
        raise GitError(["fetch"], output.rc, reason(output.stderr))


def push(mirror: Mirror, spec_id: str, changes: Mapping[str, tuple[str, str]]) -> tuple[set[str], str]:
    """Put these there: name → (commit, or '' to remove it; what is expected there, '' for nothing). Returns the
    names that are as wanted now, and what git said of the others."""
    prefix = _remote(spec_id)
    output = mirror.reach(
        "push", "--porcelain", "--no-verify",
        *(f"--force-with-lease={prefix}{name}:{old}" for name, (_, old) in changes.items()),
        "--end-of-options", mirror.url, *(f"{new}:{prefix}{name}" for name, (new, _) in changes.items()),
    )  # fmt: skip
    done, said = set(), "" if output.rc == 0 else reason(output.stderr)
    for line in output.text.splitlines():
        flag, _, rest = line.partition("\t")
        name = rest.partition("\t")[0].rpartition(":")[2].removeprefix(prefix)
        if name in changes and flag in (" ", "+", "*", "-", "="):
            done.add(name)
        elif name in changes:
            said = rest.rpartition("\t")[2]
    return done, said
