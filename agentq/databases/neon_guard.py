"""What must hold before a branch at Neon is handed out or destroyed. A check raises DatabaseError, or is silent.

Tools have handed out the URL of main (databases facts, Neon), so no answer is taken on trust.
"""

from collections.abc import Iterable
from typing import NoReturn
from urllib.parse import unquote, urlsplit

from agentq.databases.neon_calls import Endpoint, Remote
from agentq.databases.neon_store import NAME, Record, digest
from agentq.errors import DatabaseError


def ours(remote: Remote, record: Record, dev: str) -> None:
    """A branch is the one of a record: below dev, and not dev. `dev` is its name or id in the settings."""
    if remote.name != record.name or not _below(remote, record.parent, dev):
        _refuse(f"Neon answered with {remote.id}, which is not a branch that agentq made of dev", "try again")


def doomed(remote: Remote, parent: str, dev: str) -> None:
    """A branch may be destroyed: agentq gave it its name, and it is below dev and not dev."""
    if not NAME.fullmatch(remote.name) or not _below(remote, parent, dev):
        _refuse(
            f"{remote.id} is not a branch that agentq made of dev", "nothing was destroyed; look at Neon's console"
        )


def _below(remote: Remote, parent: str, dev: str) -> bool:
    is_dev = remote.default or remote.id == parent or dev in (remote.id, remote.name)
    return bool(parent) and remote.parent == parent and not is_dev


def host(url: str, branch: str, endpoints: Iterable[Endpoint]) -> None:
    """A URL leads to one of a branch's own computes."""
    if (urlsplit(url).hostname or "") not in {point.host.lower() for point in endpoints}:
        _refuse(f"Neon's URL for {branch} leads to another branch", "try again; nothing was handed out")


def secret(url: str, record: Record) -> None:
    """A URL names the database of a record, and holds the password that its branch got after it was made: dev's
    would open dev too."""
    parts = urlsplit(url)
    if unquote(parts.path.removeprefix("/")) != record.database:
        _refuse(f"Neon's URL for {record.name} names another database", "check [neon] database")
    if digest(record.id, unquote(parts.password or "")) != record.proof:
        why = "does not hold the password that this branch alone has"
        _refuse(f"Neon's URL for {record.name} {why}", "does the project store passwords? 'agentq doctor' says")


def _refuse(message: str, hint: str) -> NoReturn:
    raise DatabaseError(f"refused: {message}", hint)
