"""What `agentq work` does for the databases beside its specs: what dead processes left is reaped, the warm pool is
kept full of the present generation."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from agentq.errors import AgentqError
from agentq.flows import branches
from agentq.flows.services import Services

EVERY_SECONDS = 60.0


@contextmanager
def chores(services: Services) -> Iterator[None]:
    """Do them in a thread while the block lasts. A failure is said once, and tried again."""
    if services.databases.name == "none":
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_work, args=(services, over), name="chores", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(EVERY_SECONDS)


def _work(services: Services, over: threading.Event) -> None:
    told = ""
    while not over.is_set():
        try:
            branches.reap(services.databases, services.clock.now())
            services.databases.warm(services.config.machine.warm)
            told = ""
        except AgentqError as error:
            if error.message != told:
                services.say("note", text=f"database branches: {error.message}")
            told = error.message
        over.wait(EVERY_SECONDS)
