"""An agent for one stage: what it is told, which model thinks, what it may spend, and what is done when the
model fails it (mission rows T15, P5, P6, N6–N8).

Invariant: nothing is started that a budget, a breaker or a sleeping bucket forbids.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from agentq.core.budget import Denied
from agentq.core.lifecycle import Stage
from agentq.core.models import Tier
from agentq.core.text import one_line
from agentq.core.usage import Usage
from agentq.databases.base import Branch, places
from agentq.drivers.base import (
    AgentResult,
    AgentTask,
    Brain,
    Event,
    Limits,
    Retried,
    Spent,
    UsedTokens,
    Window,
)
from agentq.flows import brief, collide
from agentq.flows.outcome import Failed, Interrupted
from agentq.flows.services import Services, Thinking
from agentq.flows.session import Session, shown
from agentq.models.buckets import Buckets
from agentq.models.choose import NEUTRAL, Chosen, Over, failed, frees
from agentq.models.ledger import Ledger, Want
from agentq.trunk.mirror import Change

LEAST_TIME = 60.0  # s an agent gets that takes over when the time of its stage is nearly over
LOOK = 30.0  # s between looks at whether a model is free again


def run_agent(
    session: Session, stage: Stage, branch: Branch, tests: list[Change]
) -> AgentResult | Failed | Interrupted:
    """Let an agent work at `stage`. tests: the locked ones. When its model fails it, the next of the chain goes on
    with what is there; what is returned counts all of them."""
    thinking, task = session.services.thinking, _task(session, stage, branch, tests)
    session.routed = session.routed or thinking.route(session.entry, _words(session))
    (chain, why), took = session.routed, Took()
    if why:
        session.say("routed", stage=stage, tiers=[tier.name for tier in chain], text=why)
    while True:
        chosen = _choose(session, chain, stage)
        if not isinstance(chosen, Chosen):
            return replace(chosen, tokens=took.usage.total, cost=took.cost)
        result, spent = _once(session, _for(task, chosen, took, thinking), chosen)
        took.add(result, chosen.tier)
        if not failed(result.cause) and not (spent and frees(spent)):
            return replace(result, usage=took.usage, cost=took.cost, seconds=round(took.seconds, 1))
        session.say(
            "model-failed", stage=stage, tier=chosen.tier.name, cause=result.cause, text=result.summary,
            resets=result.resets_at,
        )  # fmt: skip


@dataclass
class Took:
    """What the runs of one stage took together, and the conversation that the next one may go on with."""

    usage: Usage = field(default_factory=Usage)
    cost: float = 0.0
    seconds: float = 0.0
    conversation: str = ""
    driver: str = ""
    before: Spent = field(default_factory=Spent)

    def add(self, result: AgentResult, tier: Tier) -> None:
        same = self.driver == tier.driver and bool(result.session) and self.conversation == result.session
        earlier = self.before if same else Spent()
        cost = None if result.cost is None else (earlier.cost or 0.0) + result.cost
        self.before = Spent(earlier.usage + result.usage, cost)
        self.conversation, self.driver = result.session, tier.driver
        self.usage, self.seconds = self.usage + result.usage, self.seconds + result.seconds
        self.cost += tier.price.of(result.usage) if result.cost is None else result.cost


def _for(task: AgentTask, chosen: Chosen, took: Took, thinking: Thinking) -> AgentTask:
    """The task for one tier: its brain, what is left of the time, the conversation if it is the same agent's."""
    tier, limits = chosen.tier, task.limits
    bucket = thinking.bucket(tier)
    goes_on = bool(took.conversation) and took.driver == tier.driver
    return replace(
        task,
        brain=Brain(tier.model, bucket.protocol, chosen.server, thinking.key(bucket), tier.window),
        limits=replace(
            limits, timeout=max(LEAST_TIME, limits.timeout - took.seconds), tokens=chosen.reservation.tokens,
            cost=thinking.chooser.dollars_left(chosen),
        ),
        session=took.conversation if goes_on else "", before=took.before if goes_on else Spent(),
    )  # fmt: skip


def _once(session: Session, task: AgentTask, chosen: Chosen) -> tuple[AgentResult, Denied | None]:
    """One run of one agent; charged while it runs, and ended at once when a budget is used up: which one."""
    services, tier = session.services, chosen.tier
    driver = services.thinking.driver(tier) or services.driver
    if driver.gated:
        chosen, account = services.thinking.chooser.handed_over(chosen)
        task = replace(task, account=account)
    bill = Bill(services.thinking.chooser.ledger, chosen)
    session.say(
        "agent-started", stage=task.stage, transcript=str(task.transcript), driver=driver.name, tier=tier.name,
        model=tier.model, why=chosen.why,
    )  # fmt: skip

    def hear(event: Event) -> None:
        if not bill.arrived:
            bill.arrive(services.thinking.chooser.gate.buckets)
        if isinstance(event, UsedTokens):
            bill.enter(event)
        elif isinstance(event, Retried):
            session.say("model-retried", status=event.status, text=one_line(event.message, 200))
        elif isinstance(event, Window):
            services.thinking.chooser.gate.buckets.note_windows(tier.bucket, [event])

    result: AgentResult | None = None
    try:
        with collide.watching(session) as tick:
            result = driver.run(task, stop=lambda: services.stop() or bill.why or None, tick=tick, hear=hear)
    finally:
        if result is not None:
            bill.settle(result)
        services.thinking.chooser.done(
            chosen, result.cause if result else NEUTRAL, resets_at=result.resets_at if result else 0
        )
    if result.outcome == "stopped" and bill.over and not services.stop():
        result = replace(result, outcome="limit", cause="budget", summary=bill.why)
    session.say(
        "agent-ended", stage=task.stage, outcome=result.outcome, summary=result.summary, cause=result.cause,
        seconds=round(result.seconds, 1), leftovers=result.leftovers, tokens=result.tokens, cost=result.cost,
        turns=result.turns, session=result.session, driver=tier.driver or services.config.agent.driver,
        tier=tier.name, denied=list(result.denied),
    )  # fmt: skip
    if result.cause != "budget":
        return result, None
    return result, bill.over or services.thinking.chooser.full(chosen)


@dataclass
class Bill:
    """Charges of one run. `over`: the budget that is used up, once one is."""

    ledger: Ledger
    chosen: Chosen
    over: Denied | None = None
    usage: Usage = field(default_factory=Usage)
    cost: float = 0.0
    arrived: bool = False

    def arrive(self, buckets: Buckets) -> None:
        """The first word of the agent: its request is at the server, and counts as one of the past from now on."""
        self.arrived = True
        if self.chosen.entry is not None:
            buckets.arrived(self.chosen.entry.seat)

    @property
    def why(self) -> str:
        return f"over budget: {self.over.reason}" if self.over else ""

    def enter(self, event: UsedTokens) -> None:
        self._charge(event.usage, self.chosen.tier.price.of(event.usage), event.model)

    def settle(self, result: AgentResult) -> None:
        """What the agent tells only at its end: tokens it told of in no event, a price we do not know."""
        rest = result.usage - self.usage
        cost = self.chosen.tier.price.of(rest)
        if result.cost is not None and not self.chosen.tier.price.known:
            cost = max(0.0, result.cost - self.cost)
        if rest.total or cost:
            self._charge(rest, cost, self.chosen.tier.model, requests=1 if rest.total else 0)

    def _charge(self, usage: Usage, dollars: float, model: str, requests: int = 1) -> None:
        chosen = self.chosen
        self.usage, self.cost = self.usage + usage, self.cost + dollars
        if chosen.entry is None:
            return  # its agent charges its requests itself
        left = self.ledger.charge(
            chosen.reservation, usage, chosen.tier.price, requests, model=model, seat=chosen.entry.seat,
            dollars=dollars,
        )  # fmt: skip
        self.over = left.stop or self.over


def _choose(session: Session, chain: Sequence[Tier], stage: Stage) -> Chosen | Failed | Interrupted:
    """The tier that works, waiting for one where that is asked for."""
    services, entry = session.services, session.entry
    if over := _spent_elsewhere(session):
        return over
    want = Want(services.workspaces.root.name, entry.id, entry.type, stage, "", "", services.owner)
    told = ""
    while True:
        found = services.thinking.chooser.choose(chain, want)
        if isinstance(found, Chosen):
            return found
        if isinstance(found, Over):
            return over_budget(session.id, found.denied.reason)
        why = "; ".join(found.reasons)
        if found.until is None:
            hint = "see to it, then 'agentq breakers reset' and 'agentq run' go on"
            return Interrupted(f"no model may be asked: {why}", hint, why="credentials")
        if services.config.pace.at_limit == "stop":
            hint = f"'agentq run {entry.id}' goes on then; [pace] at_limit = \"wait\" waits for it"
            said = (
                f"nothing may be spent before {found.until:%H:%M} UTC: {why}"
                if found.budget
                else (f"no model is free before {found.until:%H:%M} UTC: {why}")
            )
            return Interrupted(said, hint, why="budget" if found.budget else "models")
        if why != told:
            session.say("model-awaited", stage=stage, until=f"{found.until:%Y-%m-%d %H:%M:%S}", text=why)
            told = why
        if stopped := _wait(services, found.until):
            return Interrupted(stopped)


def _wait(services: Services, until: datetime) -> str:
    """Until then, or until a reason to stop; never longer than LOOK seconds, since a person may have helped."""
    end = services.clock.monotonic() + min(LOOK, max(0.05, (until - services.clock.now()).total_seconds()))
    while (left := end - services.clock.monotonic()) > 0:
        if why := services.stop():
            return why
        time.sleep(min(0.2, left))
    return ""


def _spent_elsewhere(session: Session) -> Failed | None:
    """A spec's budget counts what other machines spent on it, too: that travels with the queue."""
    limit, entry = session.services.config.budget.spec_dollars, session.entry
    cost = sum(record.cost for record in entry.stages.values())
    if not limit or cost < limit:
        return None
    return over_budget(entry.id, f"spec {entry.id}: ${cost:,.2f} of ${limit:,.2f} used")


def over_budget(spec_id: str, why: str) -> Failed:
    """A budget is used up: a person decides."""
    problem = f"over budget: {why.removeprefix('over budget: ')}"
    hint = f"raise [budget] in agents/config.toml, then 'agentq retry {spec_id}'"
    return Failed(problem, hint, attention=problem, why="budget")


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
        limits=Limits(
            config.agent.timeout_for(entry.type), config.agent.silence_minutes * 60, config.agent.turns
        ),
        secrets=services.secrets, context_budget=entry.context_budget or 0, keep=_keep(session, stage),
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


def _words(session: Session) -> str:
    """What the router reads."""
    title, text = session.entry.title, brief.spec_text(session.services.repo.root, session.entry)
    return title if text == title else f"{title}\n\n{text}"


def _keep(session: Session, stage: Stage) -> str:
    """What a compaction must not lose (mission row T15)."""
    entry = session.entry
    return (
        f"You work on spec {entry.id} ({entry.title}), stage {stage}. When your context is compacted, keep: the "
        "spec id, the current task, which tests pass and which fail, files modified, decisions made and why."
    )
