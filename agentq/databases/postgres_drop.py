"""The end of databases and roles, whatever their users left on the server.

Nothing here connects to an agent's database as the URL's role: what an agent put there would run with its rights.
"""

import secrets
from contextlib import suppress
from time import monotonic, sleep

from psycopg import errors

from agentq.databases.postgres_address import is_an_agents
from agentq.databases.postgres_catalog import renamed
from agentq.databases.postgres_roles import ensure_member, with_password
from agentq.databases.postgres_server import Server, Session, literal, q
from agentq.errors import DatabaseError

LEAVE = 5.0  # s for sessions that were ended
TRIES = 4


def drop(server: Server, db: Session, name: str) -> None:
    """A database of ours and its role, also while they are in use. One that is gone is no error. DatabaseError
    when something keeps them: then the role may not log in any more."""
    kind, _ = db.names.parse(name) or ("", "")
    with db.locked("drop"):  # each makes the server write everything out: one at a time
        if kind == "w":
            name = _taken(db, name)
        if db.rows("SELECT FROM pg_database WHERE datname = %s", name):
            _drop(server, db, name)
        if name and not _in_use(db, db.names.role(name)):
            drop_role(server, db, db.names.role(name))


def _taken(db: Session, name: str) -> str:
    """One kept ready, renamed: that decides between us and a command that claims it. "" when it was claimed."""
    dying = f"{db.names.prefix}t_{name[-8:]}"
    for attempt in range(TRIES):
        try:
            db.run(renamed(name, dying))
            return dying
        except errors.InvalidCatalogName:
            return ""
        except errors.ObjectInUse:
            if attempt == TRIES - 1:
                raise
            _end_sessions(db, "datname", name)
    return ""


def _drop(server: Server, db: Session, name: str) -> None:
    role = db.names.role(name)
    disable(db, role)
    if db.rows("SELECT FROM pg_database WHERE datname = %s AND datistemplate", name):
        db.run(q("ALTER DATABASE {} IS_TEMPLATE false", name))
    for attempt in range(TRIES):
        try:
            db.slow(q("DROP DATABASE IF EXISTS {} WITH (FORCE)", name))
            return
        except errors.ObjectInUse:
            if attempt == TRIES - 1:
                raise
            _forget_prepared(server, db, role, name)


def _in_use(db: Session, role: str) -> bool:
    """Whether a database carries the role's token."""
    return bool(
        db.rows(
            "SELECT FROM pg_database WHERE starts_with(datname::text, %s) AND right(datname::text, 8) = %s",
            *(db.names.prefix, role[-8:]),
        )
    )


def disable(db: Session, role: str) -> None:
    """Nobody works as `role` any more, in any database."""
    if db.rows("SELECT FROM pg_roles WHERE rolname = %s AND rolcanlogin", role):
        db.run(q("ALTER ROLE {} NOLOGIN", role))
    _end_sessions(db, "usename", role)


def _end_sessions(db: Session, column: str, value: str) -> None:
    """And wait until they have left."""
    deadline = monotonic() + LEAVE
    ours = q("FROM pg_stat_activity WHERE {} = {} AND pid <> pg_backend_pid()", column, literal(value))
    if not db.rows(q("SELECT pg_terminate_backend(pid) {}", ours)):
        return
    while monotonic() < deadline and db.rows(q("SELECT {}", ours)):
        sleep(0.002)


def _forget_prepared(server: Server, db: Session, role: str, database: str = "") -> None:
    """Roll back what was prepared by `role`, or in `database`, and left: as that role, which may do so and gains
    nothing by it. DatabaseError when it was somebody else."""
    found = db.rows(
        """SELECT p.database, p.gid, p.owner FROM pg_prepared_xacts p
           WHERE p.database = %s OR p.owner = %s ORDER BY p.database""",
        *(database, role),
    )
    for place, gid, owner in found:
        try:
            if owner not in (role, db.group):
                raise errors.InsufficientPrivilege("it is nobody's who works in this database")
            _roll_back(server, db, role, place, gid, owner)
        except (DatabaseError, errors.Error) as exc:
            why = exc.message if isinstance(exc, DatabaseError) else str(exc)
            text = f"the prepared transaction '{gid}' of role '{owner}' keeps database '{place}': {why}"
            raise DatabaseError(text, f"in that database, as that role: ROLLBACK PREPARED '{gid}'") from exc


def _roll_back(server: Server, db: Session, role: str, database: str, gid: str, owner: str) -> None:
    password = secrets.token_hex(20)
    db.run(with_password(db, role, password))
    try:
        with server.as_role("ending a prepared transaction", database, role, password) as inside:
            inside.run(q("SET ROLE {}", owner))
            with suppress(errors.UndefinedObject):  # another was faster
                inside.run(q("ROLLBACK PREPARED {}", literal(gid)))
    finally:
        disable(db, role)


# ---------------------------------------------------------------- roles


def drop_role(server: Server, db: Session, role: str) -> None:
    """One that is gone is no error. DatabaseError when something keeps it: then it may not log in any more."""
    if not db.rows("SELECT FROM pg_roles WHERE rolname = %s", role):
        return
    disable(db, role)
    _forget_prepared(server, db, role)
    for attempt in range(2):
        try:
            db.run(q("DROP ROLE IF EXISTS {}", role))
            return
        except errors.DependentObjectsStillExist as exc:
            if attempt:
                raise DatabaseError(kept(db, role), freeing(db, role)) from exc
            _disown(server, db, role)


def _disown(server: Server, db: Session, role: str) -> None:
    """Drop what `role` owns, and its rights, wherever we may. Not in agents' databases, which end soon."""
    with suppress(errors.InsufficientPrivilege):
        ensure_member(db, role)
    for place in _places(db, role):
        with suppress(DatabaseError, errors.Error):
            if not place:
                db.run(q("DROP OWNED BY {}", role))
            elif not is_an_agents(place):
                with server.session(f"dropping what role '{role}' left", place) as inside:
                    inside.run(q("DROP OWNED BY {}", role))


def _places(db: Session, role: str) -> list[str]:
    """The databases where something belongs to `role` or it was granted something; "" for the server itself."""
    found = db.rows(
        """SELECT DISTINCT coalesce(d.datname, '')
           FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid LEFT JOIN pg_database d ON d.oid = s.dbid
           WHERE s.refclassid = 'pg_authid'::regclass AND r.rolname = %s ORDER BY 1""",
        role,
    )
    return [place for (place,) in found]


def is_kept(db: Session, role: str) -> bool:
    """Whether something keeps an orphan: the rest goes the next time."""
    return bool(_places(db, role))


def kept(db: Session, role: str) -> str:
    places = ", ".join(f"'{place}'" if place else "the whole server" for place in _places(db, role))
    text = f"role '{role}' of a branch that is gone may not log in, and cannot be dropped"
    return f"{text}: it has something in {places}"


def freeing(db: Session, role: str) -> str:
    """What to do about it. What it has in a branch ends with the branch."""
    there = [place for place in _places(db, role) if not is_an_agents(place)]
    where = " and ".join(f"'{place}'" for place in there if place) or "any database"
    return f'in {where}, as a superuser: DROP OWNED BY "{role}"' if there else "it goes when that branch does"


def orphans(db: Session) -> list[str]:
    """Roles of ours without their database. A role is made together with its database's name, so what is alone in
    one look at both was left by a crash, or by `drop`. The caller holds the lock for dropping."""
    found = db.rows(
        """SELECT rolname FROM pg_roles WHERE starts_with(rolname::text, %s)
             AND NOT EXISTS (SELECT FROM pg_database WHERE starts_with(datname::text, %s)
                             AND right(datname::text, 8) = right(rolname::text, 8))""",
        *(f"{db.names.prefix}r_", db.names.prefix),
    )
    return [name for (name,) in found]


def sweep_roles(server: Server, db: Session) -> None:
    """Drop those that can be. What keeps the others was said when their database ended; `doctor` says it again."""
    with db.locked("drop"):
        for role in orphans(db):
            with suppress(DatabaseError, errors.LockNotAvailable, errors.InsufficientPrivilege):
                drop_role(server, db, role)
