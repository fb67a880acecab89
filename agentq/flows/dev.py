"""dev follows trunk: after a landing, the machine that is configured to applies the canonical migrations to the
development database and seals a new generation (mission row T9; databases fact 2).

Any process of that machine that meets a trunk whose migrations dev has not seen does it; a lock lets one. A
migration that fails stays undone, is said, and is tried again after a while or at the next trunk commit. One that
was stopped has not failed.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from agentq.errors import AgentqError
from agentq.flows.migrate import owned, tool_of
from agentq.flows.outcome import Failed, Interrupted
from agentq.flows.services import Base
from agentq.flows.session import Session
from agentq.store import files

AGAIN = timedelta(minutes=10)
LOOK_SECONDS = 0.5


def follow(session: Session, trunk: str = "") -> None:
    """Bring dev to the migrations of the commit `trunk` ('': the newest), if that is this machine's to do and not
    done."""
    try:
        _follow(session, trunk)
    except (AgentqError, OSError) as error:
        session.say("note", text=f"dev does not follow trunk's migrations: {error}")


def behind(base: Base) -> str:
    """Why the last trunk's migrations were not applied to dev, or ''."""
    return _says(base.runs.state / "dev.json", "problem")


def _follow(session: Session, trunk: str) -> None:
    services, chosen = session.services, tool_of(session)
    wanted = session.rules.migrations.apply_to_dev
    if chosen is None or wanted not in ("*", services.config.machine.name) or services.databases.name == "none":
        return
    trunk = trunk or session.fetch_trunk().commit
    migrations = owned(session, trunk, chosen)
    state = hashlib.sha256(repr(sorted(migrations.items())).encode()).hexdigest()
    record = services.runs.state / "dev.json"
    if not migrations or _says(record, "state") == state:
        return
    with _turn(session) as ours:
        if not ours or _says(record, "state") == state or _is_past(session, trunk, record):
            return
        if _says(record, "failed") == trunk and not _is_due(session, record):
            return
        ended = _apply(session, trunk)
        if isinstance(ended, Failed):
            again = services.clock.now() + AGAIN
            failed = {"failed": trunk, "problem": ended.problem, "again": again.isoformat()}
            files.write_json(record, {**_kept(record), **failed})
            session.say("note", text=f"dev does not follow trunk's migrations: {ended.problem}")
        if ended is not None:
            return
        files.write_json(record, {"state": state, "commit": trunk})
        generation = services.databases.seal()
        session.say("dev-migrated", commit=trunk, generation=generation.id)


@contextmanager
def _turn(session: Session) -> Iterator[bool]:
    """Whether it is ours to migrate dev now; False when this process is asked to stop while another one does."""
    while True:
        with session.services.runs.moving_dev(LOOK_SECONDS) as ours:
            if ours or session.services.stop():
                yield ours
                return


def _is_due(session: Session, record: Path) -> bool:
    """Whether a migration of dev that failed is worth another try."""
    try:
        return session.services.clock.now() >= datetime.fromisoformat(_says(record, "again"))
    except (ValueError, TypeError):
        return True


def _apply(session: Session, trunk: str) -> Failed | Interrupted | None:
    """Apply them from a clean checkout of trunk."""
    services, chosen = session.services, tool_of(session)
    assert chosen is not None
    checkout = services.workspaces.proof_path("dev")
    keep = session.rules.commands.keep
    services.workspaces.prepare(checkout, trunk, pristine=True, keep=keep)
    if failed := session.set_up(checkout, trunk, {}, "dev-setup", always=not keep):
        return failed
    upgrade = chosen.commands("dev", "0" * 12).upgrade
    with services.databases.moving():
        env = dict(services.databases.dev())
        return session.ready(upgrade, "migration of dev", checkout, "dev-migrate", env, walled=False)


def _kept(record: Path) -> dict[str, str]:
    return {name: _says(record, name) for name in ("state", "commit")}


def _is_past(session: Session, trunk: str, record: Path) -> bool:
    """Whether dev has seen a later trunk: migrations are never taken back."""
    seen = _says(record, "commit")
    mirror = session.services.mirror
    return bool(seen) and mirror.has(seen) and mirror.contains(trunk, seen)


def _says(record: Path, what: str) -> str:
    found = files.read_json(record)
    return str(found.get(what, "")) if isinstance(found, dict) else ""
