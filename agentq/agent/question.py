"""One question to a model and its answer in words, without tools: the router's third layer (mission row P5)."""

from pathlib import Path
from typing import Any

from agentq.agent.api import Api
from agentq.agent.job import Job
from agentq.agent.limits import Meter
from agentq.core.usage import Price, Usage

MOST = 500  # tokens of the answer
SECONDS = 20.0


def answer(prompt: str, model: str, base_url: str, key: str, price: Price) -> tuple[str, Usage]:
    """The answer, and what it took. Asks once: a route is not worth waiting for. Raises ApiError, and
    LimitReached after SECONDS."""
    nowhere = Path("/dev/null")
    job = Job("", "", model, nowhere, nowhere, nowhere, base_url=base_url, seconds=SECONDS, retries=0, price=price)
    meter = Meter(job)
    api = Api(job, key, meter, _ignore)
    try:
        body: dict[str, Any] = {
            "messages": [{"role": "user", "content": [{"type": "text", "text": prompt}]}], "max_tokens": MOST,
        }  # fmt: skip
        return api.ask(body).text, meter.usage
    finally:
        api.close()


def _ignore(_event: dict[str, Any]) -> None:
    """Windows and retries of one question tell nothing that matters."""
