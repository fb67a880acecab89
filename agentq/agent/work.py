"""One job from its file to its end: builds the parts, runs the loop, and tells how it ended, whatever happens."""

import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import agentq
from agentq import sandbox
from agentq.agent import talk
from agentq.agent import trajectory as trajectories
from agentq.agent.api import Api
from agentq.agent.compact import Compaction
from agentq.agent.confine import Files
from agentq.agent.job import Job
from agentq.agent.limits import Meter
from agentq.agent.loop import Agent, Ended, Stop
from agentq.agent.memory import Memory
from agentq.agent.shell import Shell
from agentq.agent.tools import Tools
from agentq.agent.trajectory import Past, Trajectory
from agentq.core import redact
from agentq.errors import AgentqError

MAX_TASK = 2_000_000  # bytes of a prompt
_KEPT_EVENTS = ("retry", "window", "compacted")  # the others are in the messages

Emit = Callable[[dict[str, Any]], None]
Hold = Callable[[], AbstractContextManager[None]]


def work(
    job: Job, key: str, secrets: Sequence[str], env: Mapping[str, str], emit: Emit, hold: Hold = nullcontext
) -> dict[str, Any]:
    """Do `job` and return its event `result`, which is told, too. env: what tools see, but for keys. emit: takes
    events. hold: see Trajectory. OSError when not even the trajectory can be begun."""
    hidden = secret(key, *secrets, *redact.passwords(env.values()))
    hide = hider(hidden)
    meter, denied = Meter(job), list[str]()
    kept = Trajectory(job.trajectory, hide, hold)

    def hear(event: dict[str, Any]) -> None:
        if event["event"] in _KEPT_EVENTS:
            kept.add("event", **event)
        emit(trajectories.cleaned(event, hide))

    session = str(job.trajectory)
    try:
        kept.add(
            "begin", version=trajectories.VERSION, session=session, spec=job.spec, stage=job.stage, model=job.model
        )
        hear({"event": "began", "session": session, "model": job.model, "version": agentq.__version__})
        ended = _run(job, key, hidden, env, meter, kept, hear, denied)
    except Stop:
        ended = Ended("stopped", "stopped on request")
    except AgentqError as error:
        hint = f" ({error.hint})" if error.hint else ""
        ended = Ended("failed", f"{error.message}{hint}", "request")
    except Exception as error:
        traceback.print_exc()
        ended = Ended("failed", f"the agent itself failed: {error!r}")
    told = {
        "event": "result", **asdict(ended), "usage": asdict(meter.usage),
        "cost": meter.cost if meter.priced else None, "turns": meter.turns, "session": session,
        "denied": list(dict.fromkeys(denied)),
    }  # fmt: skip
    with hold():
        try:
            kept.add("end", **{name: value for name, value in told.items() if name != "event"})
        finally:
            kept.close()
            emit(trajectories.cleaned(told, hide))
    return told


def _run(
    job: Job, key: str, hidden: Sequence[str], env: Mapping[str, str], meter: Meter, kept: Trajectory, hear: Emit,
    denied: list[str],
) -> Ended:  # fmt: skip
    task = _task(job.prompt)
    past = trajectories.load(Path(job.session)) if job.session else Past()
    memory = Memory(**past.memory) if past.memory else Memory(job.spec, job.stage)
    memory.spec, memory.stage, memory.keep = job.spec, job.stage, job.keep
    walls = sandbox.Walls(job.workspace, job.writable, job.readable, job.network, job.reach, job.hidden)
    box = sandbox.find(job.sandbox)  # type: ignore[arg-type]
    files = Files(job.workspace, [one for one in job.writable if one.is_dir()])
    shell = Shell(
        files.workspace, env, job.scratch, wrap=lambda command: box.wrap(command, walls), seconds=job.bash_seconds,
        left=meter.left, alive=lambda: hear({"event": "alive"}), secrets=hidden,
    )  # fmt: skip
    api = Api(job, key, meter, hear)
    try:
        compaction = Compaction(api.window(), job.context_budget)
        tools = Tools(files, shell, memory, hider(hidden), compaction.result_size)
        agent = Agent(job, task, api, tools, memory, meter, compaction, kept, hear)
        agent.denied = denied
        agent.begin(past.messages if past.model == job.model else talk.unthought(past.messages))
        return agent.run()
    finally:
        api.close()


def _task(path: Path) -> str:
    """The prompt. AgentqError when it cannot be used."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TASK + 1)
    except OSError as error:
        raise AgentqError(f"the prompt {path} cannot be read: {error.strerror}") from None
    text = data.decode("utf-8", "replace").strip()
    if not text or len(data) > MAX_TASK:
        raise AgentqError(f"the prompt {path} is {'too long' if text else 'empty'}")
    return text


def secret(*values: str) -> list[str]:
    """Those that have to be hidden. Short ones stay: a local server's key may be any word, and it would be taken
    out of every file the model reads."""
    return [one for one in dict.fromkeys(values) if len(one) >= redact.SHORTEST]


def hider(secrets: Sequence[str]) -> Callable[[str], str]:
    """What takes `secrets` out of a text: as they are, and as JSON writes them."""
    forms = {*secrets, *(json.dumps(one)[1:-1] for one in secrets)}
    ordered = sorted(forms, key=len, reverse=True)

    def hide(text: str) -> str:
        for secret in ordered:
            text = text.replace(secret, redact.HIDDEN)
        return text

    return hide
