"""What works and what does not, for a person."""

from collections.abc import Iterator

from agentq.core.finding import Finding
from agentq.databases import postgres_catalog as catalog
from agentq.databases import postgres_dump, postgres_roles
from agentq.databases.postgres_seal import Generations
from agentq.databases.postgres_server import Server, Session
from agentq.errors import DatabaseError

OLDEST = 130000  # DROP DATABASE … WITH (FORCE)


def findings(server: Server, generations: Generations, kick: bool) -> list[Finding]:
    """Raises nothing. A warning is a finding that is well, with a hint."""
    found: list[Finding] = []
    try:
        with server.session("reaching the database server") as db:
            found += _all(server, generations, kick, db)
    except DatabaseError as exc:
        found.append(Finding(False, exc.message, exc.hint))
    return found


def _all(server: Server, generations: Generations, kick: bool, db: Session) -> Iterator[Finding]:
    name = server.address.name
    version = f"PostgreSQL {db.connection.info.parameter_status('server_version')}"
    if db.version < OLDEST:
        yield Finding(False, f"{version} is too old", "branches need version 13 or newer")
        return
    if db.one("SELECT pg_is_in_recovery()"):
        yield Finding(False, f"{version} is a standby: nothing can be made on it", "name the primary in the URL")
        return
    row = db.rows("SELECT datallowconn, pg_database_size(oid) FROM pg_database WHERE datname = %s", name)
    if not row:
        yield Finding(
            False, f"dev database '{name}' does not exist", "create it with your migrations, or correct the URL"
        )
        return
    yield Finding(True, f"dev database '{name}': {row[0][1] / 1e6:.1f} MB, {version}")
    if not row[0][0]:
        yield _closed(generations, db, name)
    yield from _rights(db, name)
    yield from _sealing(server, db, name, kick)
    yield from _access(server, db, name)
    yield from _leftovers(db)


def _closed(generations: Generations, db: Session, name: str) -> Finding:
    """Opens dev again if we closed it and died."""
    with db.tried("seal") as held:
        if held and generations.is_kicked(db):
            generations.repair(db)
            return Finding(True, f"dev database '{name}' had stayed closed after a crash, and is open again")
        if not held:
            return Finding(True, f"dev database '{name}' is being sealed")
    return Finding(
        False,
        f"dev database '{name}' takes no connections",
        f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true',
    )


def _rights(db: Session, name: str) -> Iterator[Finding]:
    user, superuser, makes, roles, owns = db.rows(
        """SELECT current_user::text, rolsuper, rolcreatedb, rolcreaterole,
                  pg_has_role(current_user, (SELECT datdba FROM pg_database WHERE datname = %s), 'USAGE')
           FROM pg_roles WHERE rolname = current_user""",
        name,
    )[0]
    lacks = [word for word, has in (("CREATEDB", makes), ("CREATEROLE", roles)) if not has]
    if superuser:
        yield Finding(True, f"role '{user}' is a superuser")
    elif lacks:
        yield Finding(
            False, f"role '{user}' lacks {' and '.join(lacks)}", f'ALTER ROLE "{user}" {" ".join(lacks)}'
        )
    elif not owns:
        hint = f'connect as its owner, or GRANT the owner\'s role to "{user}"'
        yield Finding(False, f"role '{user}' does not own dev database '{name}'", hint)
    else:
        yield Finding(True, f"role '{user}' can make databases and roles, and owns dev")
    if not superuser and not db.one("SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')"):
        text = "others' sessions cannot be seen: while they are in dev, every branch is copied from dev anew"
        yield Finding(True, text, f'GRANT pg_read_all_stats TO "{user}"')


def _sealing(server: Server, db: Session, name: str, kick: bool) -> Iterator[Finding]:
    count = len(catalog.users(db, name))
    using = (
        f"dev is in use by {count} session{'' if count == 1 else 's'}" if count else "nobody is connected to dev"
    )
    if kick:
        yield Finding(True, f"{using}: sealing ends all sessions there are")
        return
    try:
        programs = postgres_dump.tools(db, server.local())
    except DatabaseError as exc:
        yield Finding(not count, f"{using}: {exc.message}", exc.hint)
        return
    version = postgres_dump.version(str(programs / "pg_dump"))
    how = f"sealing takes pg_dump {version}" if count else f"sealing copies its files; else pg_dump {version}"
    yield Finding(True, f"{using}: {how}")


def _access(server: Server, db: Session, name: str) -> Iterator[Finding]:
    """What a branch's role could do beside its branch."""
    if server.asks_no_password():
        text = "the server lets anyone on this address in without a password: an agent could log in as any role"
        yield Finding(True, text, "ask for passwords in pg_hba.conf (scram-sha-256)")
    if db.one("SELECT has_database_privilege('public', oid, 'CONNECT') FROM pg_database WHERE datname = %s", name):
        text = f"every role may connect to dev database '{name}', those of branches too; its tables stay closed"
        hint = f'REVOKE CONNECT ON DATABASE "{name}" FROM PUBLIC; before, grant it to the roles that need it'
        yield Finding(True, text, hint)


def _leftovers(db: Session) -> Iterator[Finding]:
    unfinished = [one.name for one in catalog.entries(db, "t_") if not _busy(db, one.name)]
    orphans = postgres_roles.orphans(db)
    if unfinished or orphans:
        text = f"left by a crash: {len(unfinished)} unfinished databases, {len(orphans)} roles"
        yield Finding(True, text, "the next run removes them")


def _busy(db: Session, name: str) -> bool:
    with db.tried(name) as held:
        return not held
