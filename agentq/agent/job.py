"""What the agent is told to do: one JSON file, written by `agentq.drivers.builtin`. It holds no secret."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from agentq.core.usage import Price
from agentq.errors import UserError

SECONDS_BASH = 600.0


@dataclass(frozen=True)
class Job:
    """The names are those of the file; every field but the first six may be missing there.

    trajectory: file that takes the conversation; scratch: file for a command's output while it runs. session:
    path of the trajectory of a conversation to go on with. keep: what no compaction may lose. network,
    writable, readable, hidden, reach: as in `agentq.sandbox.Walls`; sandbox: auto, required or off. window:
    tokens of context, 0: ask the server. context_budget: tokens after which to compact early, 0: none. seconds,
    turns, tokens, cost: limits, 0 is none; cost in US dollars by `price`. max_tokens: of one answer. retries:
    of one request; retry_cap: seconds the server may let it wait. idle: seconds without a byte of an answer.
    cache: whether to mark what the server may cache; None: only for Anthropic's own. account: what each request
    is asked of and charged to (`agentq.models.account`), '': nothing.
    """

    spec: str
    stage: str
    model: str
    prompt: Path
    workspace: Path
    trajectory: Path
    base_url: str = ""
    scratch: Path = Path()
    session: str = ""
    keep: str = ""
    network: bool = False
    writable: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    reach: tuple[tuple[str, int], ...] = ()
    sandbox: str = "auto"
    window: int = 0
    context_budget: int = 0
    seconds: float = 0.0
    turns: int = 0
    tokens: int = 0
    cost: float = 0.0
    price: Price = field(default_factory=Price)
    max_tokens: int = 32_000
    retries: int = 3
    retry_cap: float = 60.0
    idle: float = 300.0
    cache: bool | None = None
    bash_seconds: float = SECONDS_BASH
    account: str = ""


def load(path: Path) -> Job:
    """Raises UserError for a file that is not a job."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return parse(found)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", "the job file is written by agentq") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is not a job: {error}", "it is written by agentq, of the same version") from None


def parse(found: Mapping[str, Any]) -> Job:
    """Raises ValueError or TypeError for values that are none of a job's."""
    unknown = set(found) - {one.name for one in fields(Job)}
    if unknown:
        raise ValueError(f"unknown {', '.join(sorted(unknown))}")
    given = dict(found)
    for name in ("prompt", "workspace", "trajectory", "scratch"):
        if name in given:
            given[name] = Path(given[name])
    for name in ("writable", "readable", "hidden"):
        given[name] = tuple(Path(one) for one in given.get(name, ()))
    given["reach"] = tuple((str(host), int(port)) for host, port in given.get("reach", ()))
    given["price"] = Price(**given.get("price", {}))
    given.setdefault("scratch", Path(f"{given['trajectory']}.tool") if "trajectory" in given else Path())
    job = Job(**given)
    if job.sandbox not in ("auto", "required", "off"):
        raise ValueError(f"sandbox '{job.sandbox}'")
    return job
