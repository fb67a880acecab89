"""The calls of Neon's API that database branches need, as values. Every change waits for its operations.

Names and shapes are those of Neon's OpenAPI document (`public-v2-for-users.gen.yaml`), which the tests hold each
request and each answer against.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from agentq.core.text import one_line
from agentq.databases.neon_api import Lost, NeonApi
from agentq.errors import DatabaseError

POLL = (0.1, 1.0)  # s: the first pause between two looks at an operation, and the longest
OPERATION = 180.0  # s one operation may take; a failed one is tried again by Neon until then
PAGE = 100
CREATES = 4  # tries of a creation whose answers were lost
DONE = ("finished", "skipped")
MARKS = ("id", "current_state", "state_changed_at", "last_reset_at", "restored_from", "written_data_bytes")


@dataclass(frozen=True)
class Remote:
    """A branch at Neon. `parent` is "" for a root; `marks` change when Neon itself replaces its content."""

    id: str
    name: str
    parent: str
    default: bool
    expires: bool
    marks: str


@dataclass(frozen=True)
class Endpoint:
    """A compute of a branch. `still`: it does not run, and `marks` say since when."""

    host: str
    writes: bool
    still: bool
    marks: str


@dataclass(frozen=True)
class Project:
    """`branches` is how many it may have, 0 where Neon does not say."""

    version: int
    stores_passwords: bool
    branches: int


class NeonCalls:
    def __init__(self, api: NeonApi) -> None:
        self._api = api

    def project(self) -> Project:
        body = self._api.send("GET", "").body
        with _reading():
            project = body["project"]
            limit = project.get("owner", {}).get("branches_limit", 0)
            return Project(int(project["pg_version"]), bool(project["store_passwords"]), int(limit))

    def count(self) -> int:
        """How many branches the project has."""
        body = self._api.send("GET", "/branches/count").body
        with _reading():
            return int(body["count"])

    def branches(self, search: str) -> list[Remote]:
        """Those whose name or id holds `search`."""
        found: dict[str, Remote] = {}
        query = {"search": search, "limit": str(PAGE)}
        while True:
            body = self._api.send("GET", "/branches", query).body
            with _reading():
                page = [_remote(item) for item in body["branches"]]
                cursor = str(body.get("pagination", {}).get("next", ""))
            news = {branch.id: branch for branch in page if branch.id not in found}
            found |= news
            if not news or not cursor or len(page) < PAGE:
                return list(found.values())
            query["cursor"] = cursor

    def named(self, name: str) -> list[Remote]:
        """Those with exactly this name."""
        return [branch for branch in self.branches(name) if branch.name == name]

    def create(self, name: str, parent: str, expires_at: datetime) -> Remote:
        """The one branch called `name`, with a compute that runs.

        The name, which nobody else uses, makes this repeatable: after a lost answer, and when Neon says that the
        name is taken (409), the branch of that name is the one this asked for.
        """
        body = {
            "branch": {"parent_id": parent, "name": name, "expires_at": _seconds(expires_at)},
            "endpoints": [{"type": "read_write"}],
        }
        for _ in range(CREATES):
            try:
                reply = self._api.send("POST", "/branches", None, body, accept=(409,), twice=False)
            except Lost:
                reply = None
            if reply is not None and reply.status != 409:
                with _reading():
                    made = _remote(reply.body["branch"])
                self._wait(reply.body)
                return made
            if same := self.named(name):
                self._settle(same[0].id)
                return same[0]
            if reply is not None:
                raise DatabaseError(f"Neon refused to make {name}: it conflicts with something", "try again")
        raise DatabaseError("Neon's answers to a new branch were lost", "try again", retryable=True)

    def get(self, branch: str) -> Remote | None:
        reply = self._api.send("GET", f"/branches/{branch}", accept=(404,))
        if reply.status == 404:
            return None
        with _reading():
            return _remote(reply.body["branch"])

    def update(self, branch: str, name: str, expires_at: datetime) -> bool:
        """Give it a name and an end; False when it is gone."""
        body = {"branch": {"name": name, "expires_at": _seconds(expires_at)}}
        reply = self._api.send("PATCH", f"/branches/{branch}", None, body, accept=(404,))
        self._wait(reply.body)
        return reply.status != 404

    def delete(self, branch: str) -> None:
        """Destroy it; Neon ends the rest behind our back. 204 with an empty body and 404: it was gone already."""
        self._api.send("DELETE", f"/branches/{branch}", accept=(404,))

    def endpoints(self, branch: str) -> list[Endpoint]:
        body = self._api.send("GET", f"/branches/{branch}/endpoints").body
        with _reading():
            return [_endpoint(item) for item in body["endpoints"] if item["branch_id"] == branch]

    def uri(self, branch: str, database: str, role: str) -> str:
        """A secret. Whose it is must be checked: tools were handed another branch's (databases facts, Neon)."""
        query = {"branch_id": branch, "database_name": database, "role_name": role, "pooled": "false"}
        body = self._api.send("GET", "/connection_uri", query).body
        with _reading():
            return str(body["uri"])

    def new_password(self, branch: str, role: str) -> str:
        """The password the role has on this branch alone from now on: a secret."""
        path = f"/branches/{branch}/roles/{quote(role, safe='')}/reset_password"
        body = self._api.send("POST", path).body
        self._wait(body)
        with _reading():
            return str(body["role"]["password"])

    def create_database(self, branch: str, name: str, owner: str) -> None:
        """A new database on a branch. `name` is used by nobody else: 409 means that an answer was lost."""
        body = {"database": {"name": name, "owner_name": owner}}
        reply = self._api.send("POST", f"/branches/{branch}/databases", None, body, accept=(409,))
        if reply.status == 409:
            self._settle(branch)
        self._wait(reply.body)

    def databases(self, branch: str) -> list[str]:
        body = self._api.send("GET", f"/branches/{branch}/databases").body
        with _reading():
            return [str(item["name"]) for item in body["databases"]]

    def roles(self, branch: str) -> list[str]:
        """The roles that can log in and are not the system's."""
        body = self._api.send("GET", f"/branches/{branch}/roles").body
        with _reading():
            return [
                str(item["name"])
                for item in body["roles"]
                if not item.get("protected") and item.get("authentication_method") != "no_login"
            ]

    def _wait(self, body: Mapping[str, Any]) -> None:
        """Until the operations that a change started are done."""
        with _reading():
            pending = [str(item["id"]) for item in _pending(body.get("operations", []))]
        for operation in pending:
            self._finish(operation)

    def _settle(self, branch: str) -> None:
        """Until no operation of a branch is under way, for changes whose answer was lost."""
        body = self._api.send("GET", "/operations", {"limit": str(PAGE)}).body
        with _reading():
            of_branch = [item for item in body["operations"] if item.get("branch_id") == branch]
        self._wait({"operations": of_branch})

    def _finish(self, operation: str) -> None:
        """'failed' and 'error' are no end: Neon tries again (databases facts, Neon). The deadline is one."""
        timing = self._api.timing
        end, (pause, longest) = timing.clock() + OPERATION, POLL
        while True:
            body = self._api.send("GET", f"/operations/{operation}").body
            with _reading():
                found = body["operation"]
                status, action = str(found["status"]), str(found["action"])
            if status in DONE:
                return
            why = one_line(str(found.get("error", "")), 120)
            if status == "cancelled":
                raise DatabaseError(f"Neon cancelled {action}", "try again", retryable=True)
            if timing.clock() >= end:
                text = f"Neon's {action} took more than {OPERATION:.0f} s: {status}"
                raise DatabaseError(text + (f" ({why})" if why else ""), "try again later", retryable=True)
            timing.sleep(pause)
            pause = min(2 * pause, longest)


@contextmanager
def _reading() -> Iterator[None]:
    """Turns an answer of another shape than the document's into words; never shows what it held."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        what = f"lacks {exc}" if isinstance(exc, KeyError) else "has an unknown form"
        raise DatabaseError(f"Neon's answer {what}", "is [neon] api the right address?") from None


def _pending(operations: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [item for item in operations if item["status"] not in DONE]


def _remote(item: Mapping[str, Any]) -> Remote:
    return Remote(
        id=str(item["id"]),
        name=str(item["name"]),
        parent=str(item.get("parent_id", "")),
        default=bool(item["default"]),
        expires=bool(item.get("expires_at")),
        marks=" ".join(str(item.get(name, "")) for name in MARKS),
    )


def _endpoint(item: Mapping[str, Any]) -> Endpoint:
    idle = item["current_state"] == "idle" and item.get("pending_state") in (None, "idle")
    marks = " ".join(str(item.get(name, "")) for name in ("id", "started_at", "suspended_at", "last_active"))
    return Endpoint(
        str(item["host"]), item["type"] == "read_write", idle and bool(item.get("suspended_at")), marks
    )


def _seconds(moment: datetime) -> str:
    """As Neon takes it: whole seconds, never earlier than promised."""
    moment = moment.astimezone(UTC)
    whole = moment.replace(microsecond=0)
    return (whole + timedelta(seconds=moment > whole)).strftime("%Y-%m-%dT%H:%M:%SZ")
