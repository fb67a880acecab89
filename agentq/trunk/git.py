"""THE door to git: nothing else starts it (architecture, decision 10).

Every call is an argument list through GitPython's command layer, with a configuration of our own, a time-out
and its own process group. Invariant: no configuration an agent could have written takes effect, except in a
directory this project has just made itself.
"""

import os
import re
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

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

    def __call__(self, *args: str, timeout: float = TIMEOUT, env: Mapping[str, str] | None = None) -> Output:
        """Run it; raises GitError on a status other than 0."""
        output = self.ask(*args, timeout=timeout, env=env)
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


_AWAY = re.compile(
    r"could not resolve|couldn't resolve|connection (refused|reset|timed out)|unreachable|no route to host"
    r"|unable to connect|operation timed out|no answer within|hung up unexpectedly",
    re.IGNORECASE,
)


def is_away(stderr: str) -> bool:
    """Whether git says that the remote did not answer: it may a little later."""
    return bool(_AWAY.search(stderr))


def reason(stderr: str) -> str:
    """The line of git's message that says why: the first that begins with 'fatal:' or 'error:'."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1] if lines else "")


def network_config(checkout: Path, env: Mapping[str, str]) -> dict[str, str]:
    """What the person configured for reaching their remotes (credentials, proxies, URL rewrites, ssh), as
    environment variables: never in argv, where `ps` would show it."""
    pattern = r"^(credential|url|http)\.|^core\.sshcommand$"
    asked = Git(checkout).ask("config", "-z", "--get-regexp", pattern, env=user_config(env))
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
