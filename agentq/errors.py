"""Every error a person can meet, and its exit code.

    AgentqError(message, hint)
    ├ UserError        what the person wrote cannot be used
    │ ├ ConfigError    a file of settings, with its key and line
    │ ├ QueueError     agents/queue.json, with the path inside it
    │ │ └ CycleError   a dependency cycle, as a path
    │ └ SpecError      a spec's own file
    ├ Refused          a rule says no: not owner, paused, machine full
    │ └ Stale          the lease was taken over, or the state moved: read again
    └ ExternalError    something outside failed; `retryable` only if the adapter says so
      ├ GitError       cmd, rc, stderr
      ├ DatabaseError
      ├ DriverError
      ├ StoreError     the queue could not be written; the old state stands
      └ QueueCorrupt   the queue file cannot be read; never taken for empty

Only `agentq.__main__.main` turns one into an exit. Messages are for people: what failed and why; the hint
says what to do next.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's exit status means (documented in docs/cli.md)."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NOTHING = 3
    CREDENTIALS = 4
    STALE = 5
    VERIFY = 6
    BUDGET = 7
    INVALID = 8
    BUG = 70
    INTERRUPTED = 130


class AgentqError(Exception):
    """Base of all expected errors. `code` is the stable word printed by --json."""

    code = "error"
    exit_code = ExitCode.ERROR
    retryable = False

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UserError(AgentqError):
    code = "user"
    exit_code = ExitCode.USAGE


class ConfigError(UserError):
    """A setting that cannot be used. `line` is 1-based, 0 when unknown."""

    code = "config"

    def __init__(self, file: str, key: str, why: str, hint: str = "", line: int = 0) -> None:
        place = f"{file}:{line}" if line else file
        super().__init__(f"{place}: {key}: {why}" if key else f"{place}: {why}", hint)
        self.file, self.key, self.line = file, key, line


class QueueError(UserError):
    """A queue that cannot be used. `line` and `column` are 1-based, 0 when unknown."""

    code = "queue"
    exit_code = ExitCode.INVALID

    def __init__(self, why: str, hint: str = "", *, path: str = "", line: int = 0, column: int = 0) -> None:
        super().__init__(why, hint)
        self.path, self.line, self.column = path, line, column


class CycleError(QueueError):
    """Specs that wait for each other. `cycle` lists ids, the first repeated at the end."""

    code = "cycle"

    def __init__(self, cycle: list[str], **place: int) -> None:
        super().__init__(
            "dependency cycle: " + " → ".join(cycle),
            "remove one of these depends_on entries",
            **place,  # type: ignore[arg-type]
        )
        self.cycle = cycle


class SpecError(UserError):
    code = "spec"
    exit_code = ExitCode.INVALID


class Refused(AgentqError):
    code = "refused"


class Stale(Refused):
    code = "stale"
    exit_code = ExitCode.STALE
    retryable = True


class ExternalError(AgentqError):
    code = "external"

    def __init__(self, message: str, hint: str = "", *, retryable: bool = False) -> None:
        super().__init__(message, hint)
        self.retryable = retryable


class GitError(ExternalError):
    code = "git"

    def __init__(self, cmd: list[str], rc: int, stderr: str, hint: str = "", *, retryable: bool = False) -> None:
        last = [line for line in stderr.strip().splitlines() if line.strip()]
        why = last[-1] if last else f"exit status {rc}"
        super().__init__(f"git {cmd[0] if cmd else ''}: {why}", hint, retryable=retryable)
        self.cmd, self.rc, self.stderr = cmd, rc, stderr


class DatabaseError(ExternalError):
    code = "database"


class DriverError(ExternalError):
    code = "driver"


class StoreError(ExternalError):
    code = "store"


class QueueCorrupt(ExternalError):
    code = "queue-corrupt"
    exit_code = ExitCode.INVALID
