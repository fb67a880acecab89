"""Run a spec: claim or resume its lease, then its stages one after the other on this machine (rows T6, T7)."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from agentq.core import heartbeat
from agentq.core import queue as transitions
from agentq.core.lifecycle import STAGES, Stage
from agentq.core.queue import next_stage
from agentq.core.spec import InProgress, Queue
from agentq.core.text import clean
from agentq.errors import ExternalError, Refused, Stale, UserError
from agentq.flows import collide, wip
from agentq.flows.outcome import Failed, Interrupted, Proved, RunReport
from agentq.flows.recover import is_ours, save_all
from agentq.flows.services import Evidence, Services
from agentq.flows.session import Confirm, Session
from agentq.flows.stages import run_stage, spent
from agentq.flows.verify import Declined, verify
from agentq.store.runs import Live


def run_spec(services: Services, spec_id: str, *, last: Stage = "verify", confirm: Confirm) -> RunReport:
    """Run `spec_id` from the stage it is at up to `last`. Raises Refused when a rule forbids it, Stale when
    somebody else has it."""
    entry = transitions.find(services.store.read().queue, spec_id)
    stage = next_stage(entry)
    if STAGES.index(stage) > STAGES.index(last):
        raise Refused(f"'{spec_id}' is past its {last} stage", f"its next stage is {stage}")
    _check_commands(services, entry.tests)
    started = services.clock.monotonic()
    with (
        services.runs.slot(services.config.machine.instances) as instance,
        services.runs.working_on(spec_id),
        _beating(services, spec_id, stage, instance) as watched,
    ):
        lease = _lease(watched, spec_id, instance)
        with _session(watched, lease, instance) as session:
            report = _fenced(session, last, confirm)
    return RunReport(
        report.spec, report.ended, report.stage, report.problem, report.hint, report.landed,
        round(services.clock.monotonic() - started, 2), report.notes, report.why,
    )  # fmt: skip


def _check_commands(services: Services, tests: str) -> None:
    commands = services.config.commands
    if not commands.verify:
        raise UserError(
            "nothing would prove a landing: [commands] verify is empty",
            "name the commands that must pass in agents/config.toml",
        )
    if not commands.test and tests == "required":
        raise UserError(
            "nothing would run the new tests: [commands] test is empty",
            "set it in agents/config.toml, for example 'python -m pytest -q {files}'",
        )


@contextmanager
def _beating(services: Services, spec_id: str, stage: Stage, instance: int) -> Iterator[Services]:
    """Show the other machines that this one lives while the block lasts; the services given stop when it loses
    its lease. Beats before there is a lease, so that none is ever held unwatched. Raises Refused when another
    checkout of this host has the spec, or another host this machine's name."""
    machines = services.machines
    if machines is None:
        yield services
        return
    if pid := machines.elsewhere(spec_id):
        raise Refused(f"'{spec_id}' is busy: process {pid} of this host works on it in another checkout")
    machines.start(spec_id, 0, stage, instance)
    try:
        yield replace(services, stop=lambda: services.stop() or machines.lost())
    finally:
        machines.stop_beating()


def _fenced(session: Session, last: Stage, confirm: Confirm) -> RunReport:
    """The stages. Where machines share the queue, a run whose lease was taken over saves all its unlanded work
    and ends as Stale; the workspace goes, since the spec is another machine's."""
    services, machines = session.services, session.services.machines
    try:
        report = _stages(session, last, confirm)
    except Stale:
        queue = services.store.read().queue
        if machines is not None and heartbeat.taken_over(queue, session.id, session.epoch):
            save_all(services, session.id, "its lease was taken over")
        raise
    lost = machines.lost() if machines else None
    if lost and report.ended != "landed":
        save_all(services, session.id, "its lease was taken over")
        raise Stale(lost, f"what it did is saved under refs/agentq/salvage/{session.id}/")
    return report


def _lease(services: Services, spec_id: str, instance: int) -> InProgress:
    """Our lease on the spec: a new claim, the one we have, or a new epoch for one whose run died or expired. A
    spec of a machine that died begins anew here: its stages are proved on one machine."""
    who = services.claim(instance)

    def change(queue: Queue) -> Queue:
        entry = transitions.find(queue, spec_id)
        if not isinstance(entry, InProgress):
            return transitions.claim(queue, spec_id, who)
        expired = entry.lease.expires <= who.now
        _may_take(services, entry, expired=expired)
        if entry.held:
            raise Refused(f"'{spec_id}' is held", f"'agentq release {spec_id}' lets it go")
        if entry.attention:
            raise Refused(
                f"'{spec_id}' needs you: {entry.attention}", f"'agentq retry {spec_id}' when it is decided"
            )
        if services.machines and not is_ours(services, entry.lease.machine):
            return transitions.claim(transitions.give_back(queue, spec_id, entry.lease.epoch), spec_id, who)
        if expired or transitions.stage_started(entry):
            return transitions.take_over(queue, spec_id, who)
        return queue

    queue = services.store.update(change)
    entry = transitions.running(queue, spec_id)
    services.say("claimed", spec=spec_id, epoch=entry.lease.epoch, status=entry.status, title=entry.title)
    return entry


def _may_take(services: Services, entry: InProgress, *, expired: bool) -> None:
    """Raises Refused when another machine has the spec. Where machines share the queue, no clock of ours says
    that another one's lease is over: its heartbeat stands still, or a person takes the spec (reliability fact
    11)."""
    lease, machines = entry.lease, services.machines
    if is_ours(services, lease.machine):
        return
    if machines is not None and not machines.dead(lease.machine):
        raise Refused(
            f"'{entry.id}' belongs to {lease.machine}, whose heartbeat stood still for "
            f"{machines.silent(lease.machine):.0f} s",
            f"it is free when that machine is dead; 'agentq steal {entry.id}' takes it now",
        )
    if machines is None and not expired:
        raise Refused(
            f"'{entry.id}' belongs to {lease.machine} until {lease.expires:%Y-%m-%d %H:%M} UTC",
            "its stages run on one machine",
        )


@contextmanager
def _session(services: Services, entry: InProgress, instance: int) -> Iterator[Session]:
    """A session with its evidence folder, announced while it lasts."""
    now = services.clock.now()
    folder = services.runs.new_folder(entry.id, now)
    live = Live(
        spec=entry.id, run=folder.name, marker=services.runs.marker(entry.id, entry.lease.epoch, folder.name),
        owner=services.owner, pid=os.getpid(), epoch=entry.lease.epoch, instance=instance,
        stage=next_stage(entry), since=now.isoformat(timespec="seconds"),
    )  # fmt: skip
    services.runs.announce(live)
    services.say("evidence", spec=entry.id, folder=str(folder), instance=instance)
    if services.unwalled:
        services.say("unwalled", spec=entry.id, text=services.unwalled)
    session = Session(services, entry, live, Evidence(folder))
    try:
        _tell(session, live.stage)
        wip.receive(session)
        yield session
    finally:
        services.runs.withdraw(entry.id)


def _tell(session: Session, stage: str) -> None:
    """Let the heartbeat say what is done here."""
    if session.services.machines:
        session.services.machines.start(session.id, session.epoch, stage, session.live.instance)


def _stages(session: Session, last: Stage, confirm: Confirm) -> RunReport:
    notes: list[str] = []
    while True:
        stage = next_stage(session.entry)
        outcome, seconds = _attempt(session, stage, confirm)
        if isinstance(outcome, Declined):
            return RunReport(session.id, "declined", stage, "you said no; nothing was pushed")
        if isinstance(outcome, Interrupted):
            spent(session, outcome, stage, seconds)
            hint = outcome.hint or f"'agentq run {session.id}' goes on"
            return RunReport(session.id, "interrupted", stage, outcome.reason, hint, why=outcome.why)
        if isinstance(outcome, Proved) and outcome.landed:
            return RunReport(session.id, "landed", stage, landed=outcome.landed, notes=tuple(notes))
        spent(session, outcome, stage, seconds)
        collide.after_stage(session)
        if isinstance(outcome, Failed):
            outcome = replace(outcome, problem=clean(outcome.problem), hint=clean(outcome.hint))
            session.say("stage-failed", stage=stage, problem=outcome.problem, hint=outcome.hint)
            if session.entry.attention:
                hint = outcome.hint or f"'agentq show {session.id}'"
                return RunReport(
                    session.id, "attention", stage, outcome.problem, hint, notes=tuple(notes), why=outcome.why
                )
            if session.services.stop():
                return RunReport(session.id, "interrupted", stage, outcome.problem, f"'agentq run {session.id}'")
            continue
        notes += outcome.notes
        session.say("stage-proved", stage=stage, notes=list(outcome.notes), seconds=round(seconds, 1))
        if stage == last:
            return RunReport(session.id, "stopped", stage, notes=tuple(notes))


def _attempt(
    session: Session, stage: Stage, confirm: Confirm
) -> tuple[Proved | Failed | Interrupted | Declined, float]:
    """One attempt at one stage, and the seconds it took."""
    services = session.services
    started = session.began = services.clock.monotonic()
    now = services.clock.now()
    session.update(
        lambda queue: transitions.begin(queue, session.id, session.epoch, stage, now, services.lease_ttl)
    )
    session.live = services.runs.update(session.live, stage=stage, since=now.isoformat(timespec="seconds"))
    _tell(session, stage)
    session.say("stage-started", stage=stage, attempt=session.entry.failures + 1, status=session.entry.status)
    try:
        outcome = verify(session, confirm) if stage == "verify" else run_stage(session, stage)
        if stage != "verify":
            wip.publish(session)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "free some disk space" if full else "see to it; nothing is lost"
        raise ExternalError(
            f"{place}{error.strerror or error}", f"{hint}, then 'agentq run {session.id}' goes on"
        ) from error
    return outcome, services.clock.monotonic() - started
