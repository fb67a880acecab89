"""What `agentq work` does for the databases beside its specs: what dead processes left is reaped, the warm pool is
kept full of the present generation."""

import threading
from collections.abc import Callable, Iterator
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
        failures = [why for job in (_reap, _warm) if (why := _try(services, job))]
        if (problem := "; ".join(dict.fromkeys(failures))) and problem != told:
            services.say("note", text=f"database branches: {problem}")
        told = problem
        over.wait(EVERY_SECONDS)


def _try(services: Services, job: Callable[[Services], object]) -> str:
    """Why a job failed, or ''. What one cannot do is no reason to leave the other, nor the next minute's."""
    try:
        job(services)
    except AgentqError as error:
        return error.message
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _reap(services: Services) -> None:
    branches.reap(services.databases, services.clock.now())


def _warm(services: Services) -> None:
    services.databases.warm(services.config.machine.warm)
