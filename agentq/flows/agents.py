"""An agent for one stage: what it is told, which model thinks, what it may spend, and what is done when the
model fails it (mission rows T15, P5, P6, N6–N8).

Invariant: nothing is started that a budget, a breaker or a sleeping bucket forbids.
"""

from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from agentq.core.lifecycle import Stage
from agentq.core.text import one_line
from agentq.databases.base import Branch
from agentq.drivers.base import (
    AgentResult,
    AgentTask,
    Brain,
    Event,
    Limits,
    Retried,
    Window,
)
from agentq.flows import brief, collide
from agentq.flows.outcome import Failed, Interrupted
from agentq.flows.session import Session, shown
from agentq.trunk.mirror import Change

_PORTS = {"postgres": 5432, "postgresql": 5432, "mysql": 3306, "mariadb": 3306, "redis": 6379}


def run_agent(
    session: Session, stage: Stage, branch: Branch, tests: list[Change]
) -> AgentResult | Failed | Interrupted:
    """Let an agent work at `stage`. tests: the locked ones."""
    services = session.services
    task = _task(session, stage, branch, tests)
    session.say("agent-started", stage=stage, transcript=str(task.transcript))

    def hear(event: Event) -> None:
        if isinstance(event, Retried):
            session.say("model-retried", status=event.status, text=one_line(event.message, 200))
        elif isinstance(event, Window):
            session.say("model-window", window=event.name, used=event.utilization, resets=event.resets_at)

    with collide.watching(session) as tick:
        result = services.driver.run(task, stop=services.stop, tick=tick, hear=hear)
    session.say(
        "agent-ended", stage=stage, outcome=result.outcome, summary=result.summary, cause=result.cause,
        seconds=round(result.seconds, 1), leftovers=result.leftovers, tokens=result.tokens, cost=result.cost,
        turns=result.turns, session=result.session, driver=services.driver.name, denied=list(result.denied),
    )  # fmt: skip
    return result


def _task(session: Session, stage: Stage, branch: Branch, tests: list[Change]) -> AgentTask:
    services, entry, config = session.services, session.entry, session.services.config
    prompt = session.evidence.folder / f"{stage}-prompt.md"
    prompt.write_text(_told(session, stage, branch, tests), encoding="utf-8", errors="replace")
    transcript = session.evidence.log(stage)
    session.live = services.runs.update(session.live, stage=stage, transcript=str(transcript))
    folders, reach = places(branch)
    return AgentTask(
        spec_id=entry.id, stage=stage, run_id=session.live.marker, workspace=session.workspace,
        prompt_file=prompt, transcript=transcript,
        env={**session.environment(branch.env), "AGENTQ_STAGE": stage},
        brain=Brain(config.agent.model),
        limits=Limits(
            config.agent.timeout_for(entry.type), config.agent.silence_minutes * 60, config.agent.turns
        ),
        context_budget=entry.context_budget or 0, keep=_keep(session, stage),
        network=entry.network or config.sandbox.network == "on", writable=folders, reach=reach,
    )  # fmt: skip


def _told(session: Session, stage: Stage, branch: Branch, tests: list[Change]) -> str:
    services, entry, rules = session.services, session.entry, session.rules
    facts = {
        "others": brief.others_in_progress(services.store.read().queue, entry.id),
        "test_command": rules.commands.test or "not configured",
        "verify_commands": "; ".join(rules.commands.verify),
        "tests": shown([change.path for change in tests], 200) or "none",
        "commit_rule": "Commit your work with git when it is done and leave nothing uncommitted."
        if services.config.agent.commit == "agent"
        else "Leave your work in the files; it is committed for you.",
        "database_env": rules.database.env if branch.env else "(no database)",
        "previous": f"\nPrevious attempt failed: {entry.problem}\n" if entry.problem else "",
    }
    return brief.brief(services.repo.root, stage, entry, facts)


def _keep(session: Session, stage: Stage) -> str:
    """What a compaction must not lose (mission row T15)."""
    entry = session.entry
    return (
        f"You work on spec {entry.id} ({entry.title}), stage {stage}. When your context is compacted, keep: the "
        "spec id, the current task, which tests pass and which fail, files modified, decisions made and why."
    )


def places(branch: Branch) -> tuple[tuple[Path, ...], tuple[tuple[str, int], ...]]:
    """(folders, addresses) an agent needs for its database branch: where its files or its socket are, or where it
    listens."""
    if branch.folder is not None:
        return (branch.folder,), ()
    try:
        url = urlsplit(branch.url)
        host = unquote(parse_qs(url.query).get("host", [url.hostname or ""])[0])
        port = url.port or _PORTS.get(url.scheme.partition("+")[0], 0)
    except ValueError:
        return (), ()
    if host.startswith("/"):
        return (Path(host),), ()
    return (), (((host, port),) if host and port else ())
