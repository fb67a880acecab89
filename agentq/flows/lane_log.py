"""The log of a test run that ejected a spec: its leader leaves it where the spec's owner finds it."""

from pathlib import Path

from agentq.flows.chain import published
from agentq.flows.session import Session

MOST_BYTES = 1_000_000
NAME = "lane.log"


def _ref(spec_id: str) -> str:
    return f"refs/agentq/log/{spec_id}"


def keep(session: Session, spec_id: str, log: Path) -> None:
    """Leave the end of `log` for the owner of a spec, on this host or another."""
    mirror = session.services.mirror
    try:
        data = log.read_bytes()[-MOST_BYTES:]
    except OSError:
        return
    commit = mirror.commit_file(NAME, data, f"{spec_id}: what the lane saw")
    mirror.set_ref(_ref(spec_id), commit)
    if session.services.store.shared:
        mirror.publish({published(spec_id, "log"): commit})


def take(session: Session) -> Path | None:
    """The log of the run that ejected our spec, copied into our own evidence; None if there is none."""
    mirror = session.services.mirror
    commit = mirror.ref(_ref(session.id))
    if not commit and session.services.store.shared:
        commit = mirror.fetch_ref(published(session.id, "log"))
    data = mirror.show(commit, NAME) if commit else None
    if data is None:
        return None
    log = session.evidence.log("lane")
    log.write_bytes(data)
    mirror.delete_refs(_ref(session.id))
    return log
