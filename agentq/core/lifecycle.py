"""The life of a spec, as a table (mission row T6).

    ready → testing → tests-written → implementing → implemented → verifying → complete

Invariant: `after` looks the event up and raises on anything the table does not hold; nothing else decides
what follows what. A stage that fails or is interrupted stays where it is: its event is simply `begin` again.
"""

from typing import Literal, get_args

from agentq.errors import Refused

Stage = Literal["test", "implement", "verify"]
Status = Literal["testing", "tests-written", "implementing", "implemented", "verifying"]
Event = Literal["begin", "finish", "reopen"]

STAGES: tuple[Stage, ...] = get_args(Stage)
STATUSES: tuple[Status, ...] = get_args(Status)
READY = "ready"

ACTIVE: dict[Stage, Status] = {"test": "testing", "implement": "implementing", "verify": "verifying"}
NEXT_STAGE: dict[str, Stage] = {
    READY: "test",
    "testing": "test",
    "tests-written": "implement",
    "implementing": "implement",
    "implemented": "verify",
    "verifying": "verify",
}

# (status, event, stage) → status. Finishing verify is not here: only a landing completes a spec.
TABLE: dict[tuple[str, Event, Stage], Status] = {
    (READY, "begin", "test"): "testing",
    ("testing", "begin", "test"): "testing",
    ("testing", "finish", "test"): "tests-written",
    ("tests-written", "begin", "implement"): "implementing",
    ("implementing", "begin", "implement"): "implementing",
    ("implementing", "finish", "implement"): "implemented",
    ("implemented", "begin", "verify"): "verifying",
    ("verifying", "begin", "verify"): "verifying",
    # a person sends it back: the proof failed against what trunk has become
    ("implemented", "reopen", "implement"): "tests-written",
    ("verifying", "reopen", "implement"): "tests-written",
}


def after(status: str, event: Event, stage: Stage) -> Status:
    """The status that follows. Raises `Refused` on an illegal event, naming what is possible."""
    found = TABLE.get((status, event, stage))
    if found is None:
        wanted = NEXT_STAGE.get(status)
        hint = f"its next stage is {wanted}" if wanted else "it is complete"
        raise Refused(f"a spec that is {status} cannot {event} its {stage} stage", hint)
    return found
