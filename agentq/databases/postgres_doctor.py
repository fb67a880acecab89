"""What works and what does not, for a person."""

from collections.abc import Iterator

from agentq.core.finding import Finding
from agentq.databases import postgres_adopt, postgres_drop, postgres_dump
from agentq.databases import postgres_catalog as catalog
from agentq.databases.postgres_seal import Generations
from agentq.databases.postgres_server import Server, Session
from agentq.errors import DatabaseError

OLDEST = 130000  # DROP DATABASE … WITH (FORCE)
_AS_WHOM = "restoring a dump calls functions of dev as the URL's role: whoever may make some there can act as it"


def findings(server: Server, generations: Generations, kick: bool) -> list[Finding]:
    """Raises nothing. A warning is a finding that is well, with a hint."""
    found: list[Finding] = []
    try:
        with server.session("reaching the database server", make=False) as db:
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
    yield from _access(server, db)
    if row[0][0]:
        with server.session(f"looking into dev database '{name}'", name) as dev:
            yield from _inside(dev, name)
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
    hint = "" if db.superuser else _AS_WHOM
    yield Finding(True, f"{using}: {how}", hint)


def _access(server: Server, db: Session) -> Iterator[Finding]:
    """What a branch's role could do beside its branch."""
    if server.asks_no_password():
        text = "the server lets anyone on this address in without a password: an agent could log in as any role"
        yield Finding(True, text, "ask for passwords in pg_hba.conf (scram-sha-256)")
    yield from _open_to_all(db)


def _open_to_all(db: Session) -> Iterator[Finding]:
    """Where a branch's role can go, as everybody can."""
    found = db.rows(
        """SELECT datname FROM pg_database
           WHERE datallowconn AND has_database_privilege('public', oid, 'CONNECT') ORDER BY datname"""
    )
    if found:
        names = ", ".join(f"'{name}'" for (name,) in found)
        text = f"every role may connect to {names}, those of branches too: what PUBLIC may do there, agents may"
        hint = "; ".join(f'REVOKE CONNECT ON DATABASE "{name}" FROM PUBLIC' for (name,) in found)
        yield Finding(True, text, f"{hint}; before, grant it to the roles that need it")


def _inside(dev: Session, name: str) -> Iterator[Finding]:
    """What is in dev that agents could use."""
    schemas = [
        schema
        for (schema,) in dev.rows(
            """SELECT nspname FROM pg_namespace
               WHERE nspname !~ '^pg_(toast_)?temp_' AND has_schema_privilege('public', oid, 'CREATE')
               ORDER BY nspname"""
        )
    ]
    if schemas and dev.one("SELECT has_database_privilege('public', current_database(), 'CONNECT')"):
        text = (
            f"agents can put functions into dev database '{name}', which others call there with their own rights:"
        )
        text += f" PUBLIC may connect, and create in schema {', '.join(schemas)}"
        hint = f'REVOKE CONNECT ON DATABASE "{name}" FROM PUBLIC; or '
        hint += "; ".join(f'REVOKE CREATE ON SCHEMA "{schema}" FROM PUBLIC' for schema in schemas)
        yield Finding(False, text, hint)
    servers = [server for (server,) in dev.rows("SELECT srvname FROM pg_foreign_server ORDER BY 1")]
    if servers:
        text = f"dev has foreign servers ({', '.join(servers)}): what a branch reaches through them is no branch"
        hint = "copies lack the logins there (user mappings)"
        hint += (
            "" if dev.superuser else ", as far as the URL's role owns the servers; else foreign tables stay closed"
        )
        yield Finding(True, text, hint)
    if acting := postgres_adopt.acting(dev):
        text = f"in a branch, too, these act with the rights of an owner whom agents are not: {', '.join(acting)}"
        yield Finding(True, text, "a superuser's URL takes that from the copies: ALTER ROUTINE … SECURITY INVOKER")


def _leftovers(db: Session) -> Iterator[Finding]:
    unfinished = [one.name for one in catalog.entries(db, "t_") if not _busy(db, one.name)]
    orphans = postgres_drop.orphans(db)
    kept = [role for role in orphans if postgres_drop.is_kept(db, role)]
    if unfinished or len(orphans) > len(kept):
        text = f"left by a crash: {len(unfinished)} unfinished databases, {len(orphans) - len(kept)} roles"
        yield Finding(True, text, "the next run removes them")
    for role in kept:
        yield Finding(True, postgres_drop.kept(db, role), postgres_drop.freeing(db, role))


def _busy(db: Session, name: str) -> bool:
    with db.tried(name) as held:
        return not held
