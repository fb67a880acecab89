"""`python -P -m agentq.agent JOB`: do the job of that file (`agentq.agent.job`) and tell about it on stdout.

The key comes in AGENTQ_AGENT_KEY, other secret values in AGENTQ_AGENT_SECRETS (a JSON list). Both are wiped from
the environment before anything else happens: no tool, and nobody who looks at this process from outside, finds
them.

stdout: one JSON object a line. usage: input, output, cache_read, cache_write.

    {"event": "began", "session", "model", "version"}
    {"event": "said", "text"}
    {"event": "tool", "name", "detail"}
    {"event": "answer", "usage", "model"}                  one answer of the model is complete
    {"event": "window", "name", "utilization", "resets_at", "status"}
    {"event": "retry", "status", "attempt", "delay", "message"}
    {"event": "compacted", "tokens", "window"}
    {"event": "alive"}                                     something still happens
    {"event": "result", "outcome", "cause", "summary", "status", "resets_at", "usage", "cost", "turns", "session",
     "denied"}                                             always the last one

Exit status: 0 done, 1 failed, 2 the job cannot be used, 3 a limit is reached, 143 stopped (SIGTERM, SIGINT,
SIGHUP)."""

import ctypes
import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

KEY, SECRETS = "AGENTQ_AGENT_KEY", "AGENTQ_AGENT_SECRETS"
CODES = {"done": 0, "limit": 3, "timeout": 3, "stopped": 143}
# The SDK would take its own settings from these.
_OF_THE_SDK = re.compile(r"ANTHROPIC_.*")


class Signals:
    """Turns the first request to end into Stop, raised where the program is; not inside `held`."""

    def __init__(self) -> None:
        self._held, self._asked, self._told = 0, False, False

    def listen(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._heard)

    @contextmanager
    def held(self) -> Iterator[None]:
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            self._tell()

    def _heard(self, _number: int, _frame: object) -> None:
        self._asked = True
        self._tell()

    def _tell(self) -> None:
        from agentq.agent.loop import Stop

        if self._asked and not self._told and not self._held:
            self._told = True
            raise Stop


def take(name: str) -> str:
    """The value of a variable, which is gone afterwards, also from /proc: only there its old bytes would stay."""
    value = os.environ.get(name, "")
    if value:
        find = ctypes.CDLL(None).getenv
        find.restype, find.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
        place = find(name.encode())
        if place:
            ctypes.memset(place, ord("*"), len(os.fsencode(value)))
    os.environ.pop(name, None)
    return value


def emit(event: dict[str, Any]) -> None:
    # Whoever listened is gone: the work is on disk.
    with suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()


def main(argv: list[str]) -> int:
    key, secrets = take(KEY), take(SECRETS)
    for name in [name for name in os.environ if _OF_THE_SDK.fullmatch(name)]:
        take(name)
    from agentq.agent import job as jobs
    from agentq.agent.loop import Stop
    from agentq.errors import AgentqError

    signals = Signals()
    try:
        signals.listen()
        if len(argv) != 1:
            raise AgentqError("usage: python -P -m agentq.agent JOB")
        job = jobs.load(Path(argv[0]))
        from agentq.agent.work import work

        result = work(job, key, json.loads(secrets or "[]"), dict(os.environ), emit, signals.held)
    except Stop:
        return CODES["stopped"]
    except (AgentqError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return CODES.get(result["outcome"], 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
