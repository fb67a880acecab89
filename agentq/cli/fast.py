"""The short way of `agentq next --json`: answers before typer and pydantic would be imported.

It is taken only when the queue's exact bytes were validated before (the store leaves a mark); everything else
goes the long way, with the same decision and the same output.
"""

import hashlib
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentq.core.reasons import Reason
from agentq.core.schedule import Advice, Candidate
from agentq.errors import ExitCode

if TYPE_CHECKING:
    from agentq.flows.advise import Situation

ALTERNATIVES = 2
SHOWN_HELD = 50
MAX_BATCH = 256


def serves(arguments: list[str]) -> bool:
    """Whether these arguments are exactly `next --json`, with or without `--no-input` and `-n N`."""
    if arguments[:1] != ["next"] or "--json" not in arguments:
        return False
    rest = [word for word in arguments[1:] if word not in ("--json", "--no-input")]
    if not rest:
        return True
    return len(rest) == 2 and rest[0] == "-n" and rest[1].isdecimal() and 0 < int(rest[1]) <= MAX_BATCH


def next_json(arguments: list[str]) -> int | None:
    """Print the recommendation; the exit code, or None when the long way must be taken."""
    import gc

    from agentq import config as settings
    from agentq import machine, repository
    from agentq.core import board
    from agentq.flows.advise import situation
    from agentq.store.runs import Runs

    gc.disable()  # a third of the time at 100,000 specs, and the process ends right after
    repo = repository.find(Path.cwd())
    try:
        data = repo.queue_file.read_bytes()
        mark = (repo.state / "queue.valid").read_text()
    except OSError:
        return None
    if hashlib.sha256(data).hexdigest() != mark:
        return None
    config = settings.load(repo.root, dict(os.environ), {}, models=False)
    where = config.trunk.remote, config.shared.branch
    if repo.shared_branch(*where) or repo.undecided(*where):
        return None  # the file is only a copy, or nobody knows
    seen = board.of_json(json.loads(data), config.schedule.default_hours)
    found = situation(seen, config, Runs(repo.state), machine.available_gb(), time.monotonic)
    count = int(arguments[arguments.index("-n") + 1]) if "-n" in arguments else 1
    answer, code = answer_json(found, found.advice(), count)
    print(json.dumps(answer, ensure_ascii=False))
    return code


def answer_json(found: "Situation", advice: Advice, count: int = 1) -> tuple[dict[str, Any], int]:
    """The document agentq/next/v1 and the exit code that goes with it. `batch` is in it when `count` is
    more than one."""
    pick = advice.pick
    words = found.in_words()
    counts: dict[str, int] = {}
    for reason in advice.held.values():
        counts[reason.kind] = counts.get(reason.kind, 0) + 1

    def shown(one: Candidate) -> dict[str, Any]:
        # A queue may say 4 where the models say 4.0.
        numbers = {"critical_hours": round(float(one.critical_hours), 3), "hours": float(one.hours)}
        return {**one.to_json(), **numbers, "rationale": words(one)}

    answer: dict[str, Any] = {
        "schema": "agentq/next/v1",
        "pick": shown(pick) if pick else None,
        "alternatives": [shown(one) for one in advice.ranked[1 : 1 + ALTERNATIVES]] if pick else [],
        "eligible": len(advice.ranked),
        "blocked": _reason(advice.blocked),
        "held_counts": counts,
        "held": {spec_id: reason.to_json() for spec_id, reason in list(advice.held.items())[:SHOWN_HELD]},
    }
    if count > 1:
        answer["batch"] = [shown(one) for one in found.batch(count)] if pick else []
    return answer, ExitCode.OK if pick else ExitCode.NOTHING


def _reason(reason: Reason | None) -> dict[str, Any] | None:
    return reason.to_json() if reason else None
