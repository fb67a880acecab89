"""Prove a tree: the verify commands of trunk, on a clean checkout of exactly this tree (reliability facts 18, 19).

A tree that passed under the same commands and in the same environment is not tested again.
"""

import hashlib
import platform
import sys
from pathlib import Path

from agentq.flows.migrate import missing_migration, tool_of
from agentq.flows.outcome import Failed, Interrupted
from agentq.flows.session import Session
from agentq.flows.stages import run_verify_commands
from agentq.store import files


def is_proved(session: Session, tree: str) -> bool:
    """Whether this very tree passed here before."""
    runs, key = session.services.runs, proof_key(session, tree)
    # A file torn by a power cut proves nothing.
    known = files.read_json(runs.state / "proofs" / key) if runs.proved(key) else None
    return isinstance(known, dict) and known.get("tree") == tree


def prove(
    session: Session, commit: str, tree: str, checkout: Path, name: str, *, combined: bool = False
) -> Failed | Interrupted | None:
    """Run the full verify commands on `commit`, checked out at `checkout`; `name` is that of the logs and the
    database branch. None when it passed, which is remembered. `combined`: it holds specs whose migrations were
    made one by one, so what they make together is compared with the definition of the schema."""
    services = session.services
    keep = session.rules.commands.keep
    services.workspaces.prepare(checkout, commit, pristine=True, keep=keep)
    key = proof_key(session, tree)  # of the dev that the branch is made from, or of an earlier one: never a later
    with session.database(name) as branch:
        env = dict(branch.env)
        if failed := _prepare(session, checkout, commit, env, name, always=not keep):
            return failed
        if combined and env and (failed := missing_migration(session, checkout, commit, name)):
            return failed
        started = services.clock.monotonic()
        stopped = run_verify_commands(session, checkout, name, env)
        if stopped:
            return stopped
        seconds = round(services.clock.monotonic() - started, 3)
    session.services.runs.remember_proof(key, {"tree": tree, "spec": session.id, "seconds": seconds})
    session.say("proved", tree=tree, seconds=seconds)
    return None


def _prepare(
    session: Session, checkout: Path, commit: str, env: dict[str, str], name: str, *, always: bool
) -> Failed | Interrupted | None:
    """What comes before the tests. Where there are migrations, they make the schema that lands, not the push."""
    chosen = tool_of(session)
    if chosen is None or not env:
        return session.prepare(checkout, commit, env, name, always=always)
    return session.set_up(checkout, commit, env, f"{name}-setup", always=always) or session.ready(
        chosen.commands(session.id, "0" * 12).upgrade, "migration", checkout, f"{name}-migrate", env
    )


def rules_key(session: Session) -> str:
    """Names how trunk proves: what runs, and this machine's Python and platform."""
    rules = session.rules
    commands = (rules.commands.verify, rules.commands.setup, rules.database.push, rules.migrations)
    return hashlib.sha256(repr((commands, platform.platform(), sys.version)).encode()).hexdigest()[:16]


def proof_key(session: Session, tree: str) -> str:
    """Names a proof: the tree, how it was proved, and the state of the dev database (landing facts,
    "certificate")."""
    environment = (rules_key(session), session.services.databases.head())
    return f"{tree}-{hashlib.sha256(repr(environment).encode()).hexdigest()[:16]}"
