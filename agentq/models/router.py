"""The router (mission rows P5, P11, N6): `agentq.core.routes`, the weights that ship, and a model to ask."""

import json
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path

from agentq.core.models import Models
from agentq.core.routes import decide as routing
from agentq.core.routes import opinion
from agentq.core.routes.classify import Classifier, from_json
from agentq.core.routes.decide import Routed
from agentq.core.routes.size import Hints
from agentq.core.text import one_line
from agentq.errors import AgentqError

WEIGHTS = Path(__file__).with_name("classifier.json")
TIMEOUT = 20.0  # s: so long a decision may wait for a model

Ask = Callable[[str], str]  # a prompt → the model's answer; whatever it raises counts as no answer


@cache
def classifier() -> Classifier:
    """The classifier that ships, read once a process, when it is first needed."""
    return from_json(json.loads(WEIGHTS.read_text(encoding="utf-8")))


def route(
    text: str,
    models: Models,
    *,
    type: str | None = None,
    kind: str | None = None,
    hints: Hints = Hints(),
    ask: Ask | None = None,
    timeout: float = TIMEOUT,
) -> Routed:
    """Which worker, which tiers, how many at once, for a spec's title and description, and why.

    type, kind: given, not guessed; `hard-review` and whatever else is explicit is chosen only so. ask: a model,
    asked once and only when keywords and classifier are both unsure; without one, or if it fails or takes longer
    than `timeout` seconds, the safe choice is made, and the reasons say so. UserError: no such kind, or no tiers
    for it.
    """
    consult = (lambda said: _consult(said, ask, timeout)) if ask else None
    return routing.decide(
        text, models=models, classify=classifier(), type=type, kind=kind, hints=hints, consult=consult
    )


def _consult(text: str, ask: Ask, timeout: float) -> opinion.Opinion | str:
    """The model's opinion, or why there is none."""
    said = _ask(ask, opinion.question(text), timeout)
    if not said:
        return f"the model that was asked did not answer in {timeout:g} s"
    answer = said[0]
    if isinstance(answer, AgentqError):
        return f"the model could not be asked ({one_line(answer.message, 120)})"
    if isinstance(answer, BaseException):
        return f"the model could not be asked ({type(answer).__name__})"
    if not isinstance(answer, str):
        return "the model that was asked answered no text"
    try:
        return opinion.parse(answer)
    except ValueError as error:
        why = "it is not JSON" if isinstance(error, json.JSONDecodeError) else str(error)
        return f"the answer of the model that was asked cannot be used: {why}"


def _ask(ask: Ask, prompt: str, timeout: float) -> list[object]:
    """What `ask` returns or raises, as the only item; [] if it does neither in time. Its thread is then left
    behind and ends with the process at the latest: `ask` has limits of its own."""
    said: list[object] = []

    def run() -> None:
        try:
            said.append(ask(prompt))
        except BaseException as error:  # a client may raise anything; a route must come of it
            said.append(error)

    thread = threading.Thread(target=run, name="agentq-route", daemon=True)
    thread.start()
    thread.join(timeout)
    return list(said)
