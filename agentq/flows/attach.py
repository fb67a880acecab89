"""`agentq attach`: a person goes on with the conversation an agent had about a spec, where the agent can."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agentq.drivers.base import Driver
from agentq.errors import Refused, UserError
from agentq.flows.services import Base


@dataclass(frozen=True)
class Conversation:
    """The newest conversation about a spec: of which driver, its id there, and the command that opens it."""

    spec: str
    driver: str
    session: str
    workspace: Path
    command: list[str]


def conversation(base: Base, spec_id: str, driver: Callable[[str], Driver]) -> Conversation:
    """Raises Refused while the agent still works, UserError where there is no conversation to go on with."""
    if not base.runs.is_free(spec_id):
        raise Refused(f"an agent works on '{spec_id}' right now", f"'agentq logs -f {spec_id}' shows what it does")
    ended = [event for event in base.runs.events(spec_id) if event.get("event") == "agent-ended"]
    told = next((event for event in reversed(ended) if event.get("session") and event.get("driver")), None)
    if told is None:
        raise UserError(
            f"no agent of '{spec_id}' left a conversation", f"'agentq logs {spec_id}' shows what there is"
        )
    name, session = str(told["driver"]), str(told["session"])
    command = driver(name).attach(session)
    if not command:
        raise UserError(f"{name} cannot go on with a conversation", f"'agentq logs {spec_id}' shows it")
    workspace = base.workspaces / "ws" / spec_id
    if not workspace.is_dir():
        raise UserError(f"the workspace of '{spec_id}' is gone", f"'agentq logs {spec_id}' shows what there was")
    return Conversation(spec_id, name, session, workspace, command)
