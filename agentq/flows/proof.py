"""Prove a tree: the verify commands of trunk, on a clean checkout of exactly this tree (reliability facts 18, 19).

A tree that passed under the same commands and in the same environment is not tested again.
"""

import hashlib
import platform
import sys
from pathlib import Path

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


def prove(session: Session, commit: str, tree: str, checkout: Path, name: str) -> Failed | Interrupted | None:
    """Run the full verify commands on `commit`, checked out at `checkout`; `name` is that of the logs and the
    database branch. None when it passed, which is remembered."""
    services = session.services
    keep = session.rules.commands.keep
    services.workspaces.prepare(checkout, commit, pristine=True, keep=keep)
    branch = session.acquire_database(name)
    try:
        env = dict(branch.env)
        if failed := session.prepare(checkout, commit, env, name, always=not keep):
            return failed
        started = services.clock.monotonic()
        stopped = run_verify_commands(session, checkout, name, env)
        if stopped:
            return stopped
        seconds = round(services.clock.monotonic() - started, 3)
    finally:
        session.release_database(branch)
    remember(session, tree, seconds)
    return None


def remember(session: Session, tree: str, seconds: float) -> None:
    what = {"tree": tree, "spec": session.id, "seconds": seconds}
    session.services.runs.remember_proof(proof_key(session, tree), what)
    session.say("proved", tree=tree, seconds=seconds)


def proof_key(session: Session, tree: str) -> str:
    """Names a proof: the tree, what ran, and what it ran in: this machine's Python and platform, the state of
    the dev database (landing facts, "certificate")."""
    rules = session.rules
    commands = (rules.commands.verify, rules.commands.setup, rules.database.push)
    environment = (platform.platform(), sys.version, session.services.databases.head())
    return f"{tree}-{hashlib.sha256(repr((commands, environment)).encode()).hexdigest()[:16]}"
