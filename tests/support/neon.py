"""A Neon that runs here: a server of the API's part that agentq uses, with state, and faults on demand.

Branches hold content: each database is an SQLite file, copied when a branch is made, and reached through the URL that
was handed out, with its password, as through Neon's proxy (`NeonServer.open`). What PostgreSQL itself does is not part
of this. Time is counted in requests: each one brings the operations under way forward.

Every request and every response is held against Neon's own document; `NeonServer.violations` says what does not fit.
"""

import random
import re
import shutil
import sqlite3
import threading
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from support.accounts import make_accounts
from support.neon_document import BASE, Checker
from support.neon_http import KEY, PROJECT, Answer, error, handler
from support.neon_shapes import DEV, FakeBranch, Operation, Shapes

DATABASE, ROLE = "neondb", "neondb_owner"

STRANGE: dict[str, Any] = {"html": "<html>", "list": [1], "other shape": {"branches": [{"id": 1}]}}


@dataclass
class Fault:
    """Happens to the next `times` requests that match: `where` is a pattern for "METHOD /path"."""

    kind: str
    where: str
    times: int = 1
    after: int = 0  # requests that match and are left alone first


@dataclass
class NeonServer(Shapes):
    """`url` is the base address. `log` holds (method, path, status) of each request; 0: no answer was sent."""

    folder: Path
    checker: Checker
    now: datetime
    ticks: int = 2  # requests an operation takes
    roles: tuple[str, ...] = (ROLE,)
    stores_passwords: bool = True
    branches_limit: int = 5000
    retry_after: str = "2"
    headers_seen: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lock = threading.RLock()
        self.branches: dict[str, FakeBranch] = {}
        self.operations: dict[str, Operation] = {}
        self.faults: list[Fault] = []
        self.storm: random.Random | None = None
        self.violations: list[str] = []
        self.watch: Callable[[int], None] = lambda count: None  # called before each request is looked at
        self.log: list[tuple[str, str, int]] = []
        self.made: list[str] = []  # names of all branches ever made
        self.serial = 0
        passwords = {role: f"dev-{role}-{uuid.uuid4().hex}" for role in self.roles}
        home = self.folder / DEV
        home.mkdir(parents=True)
        self.branches[DEV] = FakeBranch(DEV, "main", "", home, passwords, "ep-main-000001", [DATABASE])
        self.dev_passwords = frozenset(passwords.values())
        make_accounts(home / DATABASE, "delete")
        with closing(sqlite3.connect(home / DATABASE)) as db:
            db.execute("CREATE TABLE rows (n INTEGER PRIMARY KEY)")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}{BASE}"

    def __enter__(self) -> "NeonServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    # What a test does

    @property
    def dev(self) -> FakeBranch:
        return self.branches[DEV]

    def fail(self, kind: str, where: str, times: int = 1, after: int = 0) -> None:
        self.faults.append(Fault(kind, where, times, after))

    def left(self) -> list[str]:
        """The names of all branches but dev."""
        with self.lock:
            return sorted(branch.name for branch in self.branches.values() if branch.id != DEV)

    def dev_url(self) -> str:
        return self._uri(self.dev, DATABASE, ROLE)

    def open(self, url: str) -> Path:
        """The file behind a URL, as through the proxy: by host, role, password and database."""
        parts = urlsplit(url)
        with self.lock:
            branch = next((b for b in self.branches.values() if b.host == parts.hostname), None)
            if branch is None:
                raise ConnectionError("no such endpoint")
            if branch.passwords.get(unquote(parts.username or "")) != unquote(parts.password or ""):
                raise PermissionError("password authentication failed")
            name = parts.path.removeprefix("/")
            if name not in branch.databases:
                raise FileNotFoundError(f"database {name} does not exist")
            if not branch.active:  # it wakes up, and is suspended when nobody is connected
                branch.suspended_at = self._tick()
            return branch.folder / name

    def pass_time(self, span: timedelta) -> None:
        """Later; what has expired is gone."""
        with self.lock:
            self.now += span
            for branch in list(self.branches.values()):
                if branch.expires_at and datetime.fromisoformat(branch.expires_at) <= self.now:
                    self._delete(branch)

    # The API

    def handle(self, method: str, path: str, query: dict[str, str], body: Any) -> Answer:
        with self.lock:
            self.watch(len(self.log))
            for operation in self.operations.values():
                operation.ticks -= 1
            fault = self._fault(f"{method} {path}")
            if fault in ("423", "503", "429", "500"):
                headers = {"Retry-After": self.retry_after} if fault == "429" else {}
                return Answer(int(fault), error(f"injected {fault} for {KEY} at postgresql://a:pw@h/d"), headers)
            if fault in STRANGE:
                return Answer(200, STRANGE[fault])
            if fault == "dropped":
                return Answer(0)
            try:
                status, answer = self._route(method, path, query, body, fault)
                reply = Answer(status, answer)
            except Answer as refusal:
                reply = refusal
            return Answer(0) if fault == "lost" else reply

    def _route(self, method: str, path: str, query: dict[str, str], body: Any, fault: str) -> tuple[int, Any]:
        if method in ("POST", "PATCH", "DELETE") and any(op.status != "finished" for op in self._running()):
            raise Answer(
                423, error("project already has running operations, scheduling of new ones is prohibited")
            )
        for verb, pattern, call in _ROUTES:
            found = re.fullmatch(f"/projects/{PROJECT}{pattern}", path)
            if verb == method and found:
                return call(self, *map(unquote, found.groups()), query=query, body=body, fault=fault)  # type: ignore[no-any-return]
        raise Answer(404, error("not found"))

    def _running(self) -> list[Operation]:
        return [op for op in self.operations.values() if op.status not in ("finished", "cancelled")]

    def _fault(self, what: str) -> str:
        for fault in self.faults:
            if fault.times and re.fullmatch(fault.where, what):
                if fault.after:
                    fault.after -= 1
                else:
                    fault.times -= 1
                    return fault.kind
        if self.storm and self.storm.random() < 0.25:
            kinds = ["423", "503", "429", "dropped", "lost", "slow", "failed"]
            return self.storm.choice([*kinds, "500"] if what.startswith("GET") else kinds)
        return ""

    def project(self, **_: Any) -> tuple[int, Any]:
        return 200, {"project": self._project(self.stores_passwords, self.branches_limit)}

    def count(self, **_: Any) -> tuple[int, Any]:
        return 200, {"count": len(self.branches)}

    def list_branches(self, query: dict[str, str], fault: str = "", **_: Any) -> tuple[int, Any]:
        search, limit = query.get("search", ""), int(query.get("limit", "100"))
        found = [b for b in self.branches.values() if fault != "blind" and (search in b.name or search in b.id)]
        start = int(query.get("cursor", "0"))
        page = found[start : start + limit]
        more = {"next": str(start + limit)} if page else {}
        return 200, {"branches": [self._branch(b) for b in page], "annotations": {}, "pagination": more}

    def create_branch(self, body: Any, fault: str, **_: Any) -> tuple[int, Any]:
        asked = body["branch"]
        parent = self._get(asked["parent_id"])
        if fault == "409" or any(b.name == asked["name"] for b in self.branches.values()):
            raise Answer(409, error("branch name already exists"))
        if parent.expires_at:
            raise Answer(422, error("cannot create a child of a branch that expires"))
        self._check_end(asked.get("expires_at", ""))
        self.serial += 1
        made = FakeBranch(
            f"br-fake-{self.serial:06d}", asked["name"], parent.id, self.folder / f"br-{self.serial}",
            dict(parent.passwords), f"ep-fake-{self.serial:06d}", list(parent.databases), asked.get("expires_at", ""),
            active=bool(body.get("endpoints")),
        )  # fmt: skip
        made.folder.mkdir()
        for name in parent.databases:
            with (
                closing(sqlite3.connect(parent.folder / name)) as old,
                closing(sqlite3.connect(made.folder / name)) as new,
            ):
                old.backup(new)
        self.branches[made.id] = made
        self.made.append(made.name)
        operations = [self._start(made, action, fault) for action in ("create_branch", "start_compute")]
        shown = self._branch(self.dev if fault == "main" else made)
        uri = self._uri(made, DATABASE, ROLE)
        return 201, {
            "branch": shown, "endpoints": [self._endpoint(made)], "operations": operations,
            "roles": [self._role(made, name, True) for name in made.passwords],
            "databases": [self._database(made, name) for name in made.databases],
            "connection_uris": [{"connection_uri": uri, "connection_parameters": {
                "database": DATABASE, "role": ROLE, "password": made.passwords[ROLE], "host": made.host, "pooler_host": made.host}}],
        }  # fmt: skip

    def get_branch(self, branch: str, **_: Any) -> tuple[int, Any]:
        found = self._get(branch)
        return 200, {
            "branch": self._branch(found),
            "annotation": {"object": {"type": "console/branch", "id": branch}, "value": {}},
        }

    def patch_branch(self, branch: str, body: Any, **_: Any) -> tuple[int, Any]:
        found, asked = self._get(branch), body["branch"]
        if any(b.name == asked.get("name") and b is not found for b in self.branches.values()):
            raise Answer(409, error("branch name already exists"))
        self._check_end(asked.get("expires_at", ""))
        found.name, found.expires_at = asked.get("name", found.name), asked.get("expires_at", found.expires_at)
        return 200, {"branch": self._branch(found), "operations": []}

    def delete_branch(self, branch: str, fault: str, **_: Any) -> tuple[int, Any]:
        found = self.branches.get(branch)
        if found is None:
            return 204, None
        if found.id == DEV:
            raise Answer(422, error("cannot delete the root branch"))
        self._delete(found)
        operations = [self._start(found, action, fault) for action in ("suspend_compute", "delete_timeline")]
        return 200, {"branch": self._branch(found), "operations": operations}

    def list_endpoints(self, branch: str, **_: Any) -> tuple[int, Any]:
        return 200, {"endpoints": [self._endpoint(self._get(branch))]}

    def list_roles(self, branch: str, **_: Any) -> tuple[int, Any]:
        found = self._get(branch)
        system = {"branch_id": branch, "name": "web_access", "protected": True} | self._dates()
        return 200, {"roles": [system, *(self._role(found, name, False) for name in found.passwords)]}

    def list_databases(self, branch: str, **_: Any) -> tuple[int, Any]:
        found = self._get(branch)
        return 200, {"databases": [self._database(found, name) for name in found.databases]}

    def create_database(self, branch: str, body: Any, fault: str, **_: Any) -> tuple[int, Any]:
        found, asked = self._get(branch), body["database"]
        if asked["name"] in found.databases:
            raise Answer(409, error("database already exists"))
        assert asked["owner_name"] in found.passwords
        found.databases.append(asked["name"])
        sqlite3.connect(found.folder / asked["name"]).close()
        return 201, {
            "database": self._database(found, asked["name"]),
            "operations": [self._start(found, "apply_config", fault)],
        }

    def reset_password(self, branch: str, role: str, fault: str, **_: Any) -> tuple[int, Any]:
        found = self._get(branch)
        if role not in found.passwords:
            raise Answer(404, error("role not found"))
        new = f"pw/{uuid.uuid4().hex}"
        answer = {"branch_id": branch, "name": role, "password": new} | self._dates()
        if fault != "old password":
            found.passwords[role] = new
        return 200, {"role": answer, "operations": [self._start(found, "apply_config", fault)]}

    def connection_uri(self, query: dict[str, str], fault: str, **_: Any) -> tuple[int, Any]:
        branch = self.dev if fault == "main" else self._get(query.get("branch_id", DEV))
        database = "another" if fault == "database" else query["database_name"]
        known = query["role_name"] in branch.passwords and query["database_name"] in branch.databases
        if not known and not fault:
            raise Answer(404, error("role or database not found"))
        uri = self._uri(branch, database, query["role_name"])
        return 200, {"uri": uri.replace(branch.host, "ep-else.neon.test") if fault == "host" else uri}

    def get_operation(self, operation: str, **_: Any) -> tuple[int, Any]:
        return 200, {"operation": self._operation(self.operations[operation])}

    def list_operations(self, **_: Any) -> tuple[int, Any]:
        newest = list(reversed(self.operations.values()))
        return 200, {"operations": [self._operation(op) for op in newest[:100]]}

    # Parts

    def _get(self, branch: str) -> FakeBranch:
        if branch not in self.branches:
            raise Answer(404, error("branch not found"))
        return self.branches[branch]

    def _check_end(self, text: str) -> None:
        if not text:
            return
        if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text):
            raise Answer(400, error("expires_at: whole seconds, please"))
        if not self.now < datetime.fromisoformat(text) <= self.now + timedelta(days=30):
            raise Answer(400, error("expires_at is not within 30 days"))

    def _start(self, branch: FakeBranch, action: str, fault: str) -> dict[str, Any]:
        ticks = {"slow": 12, "failed": 8, "never": 10**6}.get(fault, self.ticks)
        operation = Operation(str(uuid.uuid4()), branch.id, action, ticks, fault == "failed", fault == "cancelled")
        self.operations[operation.id] = operation
        return self._operation(operation)

    def _delete(self, branch: FakeBranch) -> None:
        del self.branches[branch.id]
        shutil.rmtree(branch.folder)

    def _tick(self) -> int:
        self.serial += 1
        return self.serial

    def _uri(self, branch: FakeBranch, database: str, role: str) -> str:
        user, secret = quote(role, safe=""), quote(branch.passwords[role], safe="")
        return f"postgresql://{user}:{secret}@{branch.host}/{database}?sslmode=require"


_ROUTES: list[tuple[str, str, Any]] = [
    ("GET", "", NeonServer.project),
    ("GET", "/branches/count", NeonServer.count),
    ("GET", "/branches", NeonServer.list_branches),
    ("POST", "/branches", NeonServer.create_branch),
    ("GET", "/branches/([^/]+)", NeonServer.get_branch),
    ("PATCH", "/branches/([^/]+)", NeonServer.patch_branch),
    ("DELETE", "/branches/([^/]+)", NeonServer.delete_branch),
    ("GET", "/branches/([^/]+)/endpoints", NeonServer.list_endpoints),
    ("GET", "/branches/([^/]+)/roles", NeonServer.list_roles),
    ("GET", "/branches/([^/]+)/databases", NeonServer.list_databases),
    ("POST", "/branches/([^/]+)/databases", NeonServer.create_database),
    ("POST", "/branches/([^/]+)/roles/([^/]+)/reset_password", NeonServer.reset_password),
    ("GET", "/connection_uri", NeonServer.connection_uri),
    ("GET", "/operations", NeonServer.list_operations),
    ("GET", "/operations/([^/]+)", NeonServer.get_operation),
]
