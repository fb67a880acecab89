"""THE door to git: nothing else starts it (architecture, decision 10).

Every call is an argument list through GitPython's command layer, with a configuration of our own, a time-out
and its own process group. Invariant: no configuration an agent could have written takes effect, except in a
directory this project has just made itself.
"""

import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agentq.core.text import one_line
from agentq.errors import GitError

TIMEOUT = 120.0
_CONFIG = (
    "core.hooksPath=/dev/null", "core.fsmonitor=false", "core.fsync=committed", "core.untrackedCache=false",
    "core.quotePath=false", "core.attributesFile=/dev/null", "core.excludesFile=/dev/null",
    "gc.auto=0", "maintenance.auto=false", "commit.gpgSign=false", "tag.gpgSign=false",
    "rerere.enabled=false", "advice.detachedHead=false", "advice.addEmbeddedRepo=false",
    "submodule.recurse=false", "protocol.ext.allow=never", "safe.directory=*",
)  # fmt: skip
ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "file:https:http:ssh:git", "GIT_OPTIONAL_LOCKS": "0", "GIT_LITERAL_PATHSPECS": "1",
    "GIT_ATTR_NOSYSTEM": "1", "GIT_ASKPASS": "", "SSH_ASKPASS": "",
}  # fmt: skip
IDENTITY = {
    "GIT_AUTHOR_NAME": "agentq", "GIT_AUTHOR_EMAIL": "agentq@localhost",
    "GIT_COMMITTER_NAME": "agentq", "GIT_COMMITTER_EMAIL": "agentq@localhost",
}  # fmt: skip


@dataclass(frozen=True)
class Output:
    """What a git command answered. `rc` -1: it did not end in time and was killed."""

    rc: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout.decode("utf-8", "surrogateescape").rstrip("\n")

    @property
    def fields(self) -> list[str]:
        """NUL-separated output as a list."""
        return [piece.decode("utf-8", "surrogateescape") for piece in self.stdout.split(b"\0") if piece]


class Git:
    """git in one directory. `env` is added to every call (GIT_DIR, GIT_WORK_TREE, …)."""

    def __init__(self, directory: Path, env: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self._env = {**ENVIRONMENT, **IDENTITY, **(env or {})}

    def __call__(
        self, *args: str, timeout: float = TIMEOUT, stdin: bytes = b"", env: Mapping[str, str] | None = None
    ) -> Output:
        """Run it; raises GitError on a status other than 0."""
        output = self.ask(*args, timeout=timeout, stdin=stdin, env=env)
        if output.rc:
            raise GitError(list(args), output.rc, output.stderr)
        return output

    def ask(
        self, *args: str, timeout: float = TIMEOUT, stdin: bytes = b"", env: Mapping[str, str] | None = None
    ) -> Output:
        """Run it and return whatever it answered. Raises GitError if git cannot be started."""
        import git

        # GitPython falls back to its own directory when this one is gone or closed: `-C` does not.
        place = ["-C", str(self.directory.absolute())]
        command = ["git", *place, *(part for setting in _CONFIG for part in ("-c", setting)), *args]
        try:
            process = git.Git(str(self.directory)).execute(
                command,
                istream=subprocess.PIPE,
                as_process=True,
                env={**self._env, **(env or {})},
                start_new_session=True,
            )
        except (git.GitCommandNotFound, OSError) as error:
            raise GitError(
                list(args), 127, f"git cannot be started: {error}", "install git 2.38 or newer"
            ) from None
        # GitPython's wrapper raises for a killed process; what we want to know is only how it ended.
        child = process.proc
        assert child is not None
        try:
            stdout, stderr = child.communicate(stdin or None, timeout=timeout)
            rc = child.returncode
        except subprocess.TimeoutExpired:
            rc, stdout, stderr = -1, b"", f"no answer within {timeout:.0f} s".encode()
            with suppress(OSError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        except BaseException:
            with suppress(OSError):
                os.killpg(child.pid, signal.SIGKILL)
            raise
        return Output(rc, stdout or b"", (stderr or b"").decode("utf-8", "replace"))

    def tells(self, *args: str) -> bool:
        """The answer of a question that git answers with its status: 0 yes, 1 no. Raises GitError on any other:
        nothing is known then."""
        output = self.ask(*args)
        if output.rc not in (0, 1):
            raise GitError(list(args), output.rc, output.stderr)
        return output.rc == 0

    def sizes(self, names: Sequence[str]) -> list[tuple[str, str, int] | None]:
        """(id, type, bytes) of each named object; None where there is none. Raises GitError."""
        lines = self._batch("--batch-check", names).decode("utf-8", "surrogateescape").split("\n")
        found = [_header(line, name) for line, name in zip(lines, names, strict=False)]
        if len(found) < len(names):
            raise GitError(["cat-file"], 0, "the answer ends in the middle")
        return found

    def objects(self, names: Sequence[str]) -> list[tuple[str, bytes] | None]:
        """(id, content) of each named object in one call; None where there is none. Raises GitError: what cannot
        be read is not taken for missing."""
        out = self._batch("--batch", names)
        found: list[tuple[str, bytes] | None] = []
        place = 0
        for name in names:
            end = out.find(b"\n", place)
            head = _header(out[place : max(end, place)].decode("utf-8", "surrogateescape"), name)
            place = end + 1
            if head is None:
                found.append(None)
                continue
            sha, _, size = head
            if len(out) <= place + size:
                raise GitError(["cat-file"], 0, "the answer ends in the middle")
            found.append((sha, out[place : place + size]))
            place += size + 1
        return found

    def _batch(self, how: str, names: Sequence[str]) -> bytes:
        asked = "".join(f"{name}\n" for name in names).encode("utf-8", "surrogateescape")
        return self("cat-file", how, stdin=asked).stdout if names else b""


def _header(line: str, name: str) -> tuple[str, str, int] | None:
    """What `cat-file` says of an object before its content; None if it says that there is none."""
    if line == f"{name} missing":
        return None
    words = line.split(" ")
    if len(words) != 3 or not words[2].isdigit():
        raise GitError(["cat-file"], 0, f"'{one_line(name, 80)}' cannot be read: {one_line(line, 80)}")
    return words[0], words[1], int(words[2])


_AWAY = re.compile(
    r"could not resolve|couldn't resolve|connection (refused|reset|timed out|(was )?(closed|aborted))|unreachable"
    r"|no route to host|unable to connect|failed to connect|timed out|no answer within|hung up unexpectedly"
    r"|returned error: (408|429|5\d\d)|early eof|rpc failed|unexpected disconnect|disconnected while"
    r"|(tls|ssl)\b.*(recv|send|read|write|connect|handshake|reset|terminated|eof)|(recv|send) failure"
    r"|empty reply|broken pipe|internal server error",
    re.IGNORECASE,
)
_OBJECT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


def object_id(output: Output) -> str:
    """The id that git printed. Raises GitError when it is none: an empty one would read as a deletion."""
    if not _OBJECT.fullmatch(output.text):
        raise GitError(["hash-object"], output.rc, f"no object was made: '{one_line(output.text, 80)}'")
    return output.text


def is_away(stderr: str) -> bool:
    """Whether git says that the remote did not answer: it may a little later."""
    return bool(_AWAY.search(stderr))


def is_unread(stderr: str) -> bool:
    """Whether git could not read an object. `merge-tree` takes a tree that is missing for an empty one then, and
    says that all went well (git 2.39)."""
    return any(line.startswith("error:") for line in stderr.splitlines())


def reason(stderr: str) -> str:
    """The line of git's message that says why: the first that begins with 'fatal:' or 'error:'."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1] if lines else "")


def network_config(checkout: Path, env: Mapping[str, str]) -> dict[str, str]:
    """What the person configured for reaching their remotes (credentials, proxies, URL rewrites, ssh), as
    environment variables: never in argv, where `ps` would show it."""
    pattern = r"^(credential|url|http)\.|^core\.sshcommand$"
    asked = Git(checkout).ask("config", "-z", "--get-regexp", pattern, env=user_config(env))
    if asked.rc < 0:  # without them the remote may be another one
        raise GitError(["config"], asked.rc, asked.stderr)
    out: dict[str, str] = {}
    count = 0
    for item in asked.fields:
        key, _, value = item.partition("\n")
        out[f"GIT_CONFIG_KEY_{count}"], out[f"GIT_CONFIG_VALUE_{count}"] = key, value
        count += 1
    if count:
        out["GIT_CONFIG_COUNT"] = str(count)
    return out


def user_config(env: Mapping[str, str]) -> dict[str, str]:
    """Variables that let git read the person's own configuration, for the few questions that are about it."""
    home = Path(env.get("HOME", "/nonexistent"))
    plain = home / ".gitconfig"
    other = Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "git" / "config"
    path = env.get("GIT_CONFIG_GLOBAL") or str(plain if plain.exists() or not other.exists() else other)
    return {"GIT_CONFIG_GLOBAL": path, "GIT_CONFIG_NOSYSTEM": "0"}
