"""Runs the commands of the provider `command`. What they print may be a secret: it goes into files of mode 0600
that are removed at once. What a message tells of it was cleared of URLs and passwords."""

import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from agentq import process
from agentq.core import redact
from agentq.core.finding import Finding
from agentq.core.text import has_unsafe, one_line
from agentq.errors import DatabaseError

TIME_LIMIT = 600.0  # s for one command
LONGEST = 8192  # characters of a URL
# The URL is on stdout alone, so that a warning on stderr is never taken for one.
SCRIPT = 'eval "$1" > "$2"'
_STARTS = re.compile(r"[A-Za-z][\w+.-]*:\S|/")
_URL = re.compile(r"\w[\w+.-]*://\S+")
_SECRET = re.compile(r"(?i)\b(\w*(?:passw\w*|pwd|secret|token|key)\w*['\"]?\s*[=:]\s*)(?:\"[^\"]*\"|'[^']*'|\S+)")
_LOGIN = re.compile(r"(?i)((?:authorization:\s*\w+|\bbearer|(?<!\S)(?:-u|--user))[\s=]+)\S+")


class Runner:
    """Runs commands in `root`. `env`: the variable that carries a URL; `url`: dev's."""

    def __init__(self, root: Path, env: str, url: str) -> None:
        self.root = root
        self._env = env
        self._url = url

    @staticmethod
    def marker(name: str) -> str:
        """Under which the processes of the branch `name` run."""
        return f"database-{name}"

    def run(self, what: str, command: str, name: str, folder: Path) -> str:
        """The last line on stdout of `command` for the database `name`. `folder`, private, takes what it prints.
        DatabaseError when it fails."""
        printed, said = (folder / f"{name}.{suffix}" for suffix in ("out", "err"))
        try:
            for path in (printed, said):
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
            outcome = process.run(
                ["/bin/sh", "-c", SCRIPT, "sh", command.replace("{name}", name), str(printed)],
                cwd=self.root, env=self._environment(what, name), output=said,
                marker=self.marker(name), timeout=TIME_LIMIT,
            )  # fmt: skip
            last = _last_line(printed)
        except OSError as exc:
            raise DatabaseError(f"[database] {what} for {name} could not be run: {exc}") from exc
        finally:
            for path in (printed, said):
                with suppress(OSError):
                    path.unlink(missing_ok=True)
        if outcome.kind != "exited" or outcome.returncode:
            how = outcome.reason or f"exit status {outcome.returncode}"
            words = self._safe(one_line(outcome.tail, 300), last)
            raise DatabaseError(
                f"[database] {what} for {name} failed ({how}){': ' + words if words else ''}",
                f"run it by hand, with {name} for {{name}}",
                retryable=outcome.kind == "timeout",
            )
        return last

    def _environment(self, what: str, name: str) -> dict[str, str]:
        env = process.clean_env(("*",), {"AGENTQ_DATABASE": name})
        for holds_dev in (self._env, "AGENTQ_DATABASE_URL"):
            env.pop(holds_dev, None)
        if what == "create" and self._url:
            env[self._env] = self._url
        return env

    def _safe(self, words: str, last: str) -> str:
        """`words` without secrets: whole URLs, and what a shell that traces its commands tells."""
        for secret in (last, self._url, *redact.passwords((last, self._url))):
            words = words.replace(secret, redact.HIDDEN) if secret else words
        hidden = rf"\g<1>{redact.HIDDEN}"
        return _LOGIN.sub(hidden, _SECRET.sub(hidden, _URL.sub(redact.HIDDEN, words)))


def _last_line(path: Path) -> str:
    """The last line that is not blank. "" when there is none, or it is nothing a program takes for a URL or a
    path."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 4 * LONGEST))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    last = next((line for line in reversed(lines) if line), "")
    return "" if has_unsafe(last) or len(last) > LONGEST or not _STARTS.match(last) else last


def findings(commands: Mapping[str, str], root: Path) -> list[Finding]:
    """Whether the commands can be started."""
    found = []
    for what, command in commands.items():
        if not command and what == "locate":
            continue
        if not command and what == "create_empty":
            found.append(Finding(True, "[database] create_empty is empty: migrations cannot be proved"))
        elif not command:
            found.append(Finding(False, f"[database] {what} is empty", "the provider 'command' needs it"))
        else:
            found.append(_finding(what, command, root))
    return found


def _finding(what: str, command: str, root: Path) -> Finding:
    try:
        words = [word for word in shlex.split(command) if not re.match(r"\w+=", word)]
    except ValueError:
        return Finding(False, f"[database] {what} is no command: a quote is not closed", "correct it")
    first = words[0] if words else ""
    if not re.fullmatch(r"[\w./+-]+", first):
        return Finding(True, f"[database] {what}: not looked into")
    known = subprocess.run(
        ["/bin/sh", "-c", 'command -v -- "$1"', "sh", first],
        cwd=root,
        capture_output=True,
        check=False,
        timeout=10,
    )
    if known.returncode:
        return Finding(
            False, f"[database] {what}: there is no program '{first}'", "install it, or correct the command"
        )
    return Finding(True, f"[database] {what}: {first}")
