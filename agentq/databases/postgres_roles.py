"""Who may do what. Every branch has a role of its own that may log in there and nowhere else.

What is in a branch belongs to one role for all of dev's branches, the group: it may log in nowhere, owns no
database and nothing outside of branches, and every branch's role is a member and works as it. So a copy needs no
change to become somebody's. The admin stays the owner of the database itself: its users cannot drop or rename it,
nor open it to others.
"""

import re
from contextlib import suppress
from hashlib import sha256
from hmac import HMAC

from psycopg import errors, sql

from agentq.databases.postgres_server import Server, Session, Statement, literal, many, q

CONNECTIONS = 100  # of one branch's role
_LISTS = ("search_path", "temp_tablespaces", "session_preload_libraries", "local_preload_libraries")

# Members of extensions stay as they are. So do event triggers, foreign data wrappers, languages and
# publications, some of which only a superuser may own. What belongs to a table follows it. What initdb made has an
# oid below 16384; of that, the schema public (2200) goes along.
OWNED = """
WITH member AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e'),
part AS (SELECT classid, objid FROM pg_depend WHERE deptype IN ('a', 'i') AND refclassid = 'pg_class'::regclass),
mine AS (SELECT oid FROM pg_roles WHERE rolname = %s),
owned (classid, oid, owner, text) AS (
  SELECT 'pg_namespace'::regclass, oid, nspowner, format('SCHEMA %%I', nspname) FROM pg_namespace
    WHERE nspname !~ '^pg_(toast_)?temp'
  UNION ALL SELECT 'pg_class'::regclass, oid, relowner, format('TABLE %%s', oid::regclass) FROM pg_class c
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND relpersistence <> 't'
      AND NOT (relkind = 'S' AND EXISTS (SELECT FROM part WHERE classid = 'pg_class'::regclass AND objid = c.oid))
  UNION ALL SELECT 'pg_type'::regclass, t.oid, typowner, format('TYPE %%s', format_type(t.oid, NULL))
    FROM pg_type t LEFT JOIN pg_class c ON c.oid = typrelid
    WHERE typtype IN ('e', 'd', 'r') OR typtype = 'c' AND c.relkind = 'c' OR typtype = 'b' AND typelem = 0
  UNION ALL SELECT 'pg_proc'::regclass, oid, proowner, format('ROUTINE %%s', oid::regprocedure) FROM pg_proc
  UNION ALL SELECT 'pg_operator'::regclass, oid, oprowner, format('OPERATOR %%s', oid::regoperator)
    FROM pg_operator
  UNION ALL SELECT 'pg_opclass'::regclass, o.oid, opcowner,
      format('OPERATOR CLASS %%I.%%I USING %%I', nspname, opcname, amname)
    FROM pg_opclass o JOIN pg_namespace n ON n.oid = opcnamespace JOIN pg_am a ON a.oid = opcmethod
  UNION ALL SELECT 'pg_opfamily'::regclass, o.oid, opfowner,
      format('OPERATOR FAMILY %%I.%%I USING %%I', nspname, opfname, amname)
    FROM pg_opfamily o JOIN pg_namespace n ON n.oid = opfnamespace JOIN pg_am a ON a.oid = opfmethod
  UNION ALL SELECT 'pg_collation'::regclass, c.oid, collowner, format('COLLATION %%I.%%I', nspname, collname)
    FROM pg_collation c JOIN pg_namespace n ON n.oid = collnamespace
  UNION ALL SELECT 'pg_conversion'::regclass, c.oid, conowner, format('CONVERSION %%I.%%I', nspname, conname)
    FROM pg_conversion c JOIN pg_namespace n ON n.oid = connamespace
  UNION ALL SELECT 'pg_ts_config'::regclass, oid, cfgowner,
      format('TEXT SEARCH CONFIGURATION %%s', oid::regconfig) FROM pg_ts_config
  UNION ALL SELECT 'pg_ts_dict'::regclass, oid, dictowner,
      format('TEXT SEARCH DICTIONARY %%s', oid::regdictionary) FROM pg_ts_dict
  UNION ALL SELECT 'pg_statistic_ext'::regclass, s.oid, stxowner, format('STATISTICS %%I.%%I', nspname, stxname)
    FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = stxnamespace
  UNION ALL SELECT 'pg_foreign_server'::regclass, oid, srvowner, format('SERVER %%I', srvname)
    FROM pg_foreign_server
  UNION ALL SELECT 'pg_largeobject'::regclass, oid, lomowner, format('LARGE OBJECT %%s', oid)
    FROM pg_largeobject_metadata
)
SELECT text FROM owned o
WHERE (oid >= 16384 OR oid = 2200 OR classid = 'pg_largeobject'::regclass) AND owner NOT IN (SELECT oid FROM mine)
  AND NOT EXISTS (SELECT FROM member m WHERE m.classid = o.classid AND m.objid = o.oid)
"""


def ensure_group(db: Session) -> None:
    """Make the group, and us a member. The caller holds a lock."""
    known = bool(db.rows("SELECT FROM pg_roles WHERE rolname = %s", db.group))
    made = [] if known else [q("CREATE ROLE {} NOLOGIN", db.group)]
    member = known and db.one("SELECT pg_has_role(%s, 'USAGE')", db.group)
    if statements := made + ([] if member else _join(db, db.group)):
        db.run(*statements)


def _join(db: Session, role: str) -> list[Statement]:
    """Make us a member of `role`: only then may we give it things and end its sessions. A superuser needs not."""
    if db.superuser:
        return []
    if db.version < 160000:
        return [q("GRANT {} TO CURRENT_USER", role)]
    return [q("GRANT {} TO CURRENT_USER WITH INHERIT TRUE, SET TRUE", role)]


def adopt(inside: Session) -> None:
    """Give everything in a database to the group."""
    found = inside.rows(OWNED, inside.group)
    statements = [q("ALTER {} OWNER TO {}", sql.SQL(text), inside.group) for (text,) in found]
    for some in many(statements):
        inside.run(*some)


def password(secret: bytes, role: str) -> str:
    """Of a branch's role: the same whenever it is asked for."""
    return HMAC(secret, role.encode(), sha256).hexdigest()[:40]


def set_password(db: Session, role: str, secret: bytes) -> Statement:
    """Encrypted here, so that it is in no log of the server."""
    encrypted = db.connection.pgconn.encrypt_password(
        password(secret, role).encode(), role.encode(), b"scram-sha-256"
    ).decode()
    return q("ALTER ROLE {} PASSWORD {}", role, literal(encrypted))


def open_to(db: Session, database: str, role: str, secret: bytes) -> list[Statement]:
    """What makes `role`, and lets it and nobody else into `database`, which takes no connections yet."""
    return [
        q(
            "CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
            " CONNECTION LIMIT {} IN ROLE {}",
            role, literal(CONNECTIONS), db.group,
        ),
        set_password(db, role, secret),
        *_join(db, role),
        q("ALTER ROLE {} IN DATABASE {} SET role = {}", role, database, literal(db.group)),
        *closed(database),
        q("GRANT CREATE, TEMPORARY ON DATABASE {} TO {}", database, db.group),
        q("GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {} TO {}", database, role),
        q("ALTER DATABASE {} ALLOW_CONNECTIONS true", database),
    ]  # fmt: skip


def closed(database: str) -> list[Statement]:
    return [q("REVOKE ALL ON DATABASE {} FROM PUBLIC", database)]


def settings(db: Session, database: str, wanted: list[list[str]]) -> None:
    """`ALTER DATABASE … SET`, which copies lack. One that only a superuser may set is left out."""
    for name, value in wanted:
        try:
            db.run(q("ALTER DATABASE {} SET {} TO {}", database, _quoted(name), _values(name, value)))
        except errors.InsufficientPrivilege:
            continue


def _quoted(name: str) -> Statement:
    return sql.Composed([sql.SQL(".").join(sql.Identifier(part) for part in name.split("."))])


def _values(name: str, value: str) -> sql.Composable:
    """Lists of names are kept as they would be written; everything else as it is."""
    if name not in _LISTS:
        return literal(value)
    parts = re.findall(r'"((?:[^"]|"")*)"|([^",\s]+)', value)
    return sql.SQL(", ").join(literal((quoted or plain).replace('""', '"')) for quoted, plain in parts)


def orphans(db: Session) -> list[str]:
    """Roles of ours without their database. A role is made together with its database's name, so what is alone in
    one look at both was left by a crash. The caller holds the lock for dropping."""
    found = db.rows(
        """SELECT rolname FROM pg_roles WHERE starts_with(rolname::text, %s)
             AND NOT EXISTS (SELECT FROM pg_database WHERE starts_with(datname::text, %s)
                             AND right(datname::text, 8) = right(rolname::text, 8))""",
        *(f"{db.names.prefix}r_", db.names.prefix),
    )
    return [name for (name,) in found]


def furnish(server: Server, database: str) -> None:
    """What a database without content has of dev's: extensions that only an administrator may create."""
    with server.session("reading dev's extensions", server.address.name) as dev:
        wanted = dev.rows(
            """SELECT e.extname, n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
               WHERE NOT EXISTS (SELECT FROM pg_available_extension_versions v
                                 WHERE v.name = e.extname AND v.version = e.extversion AND v.trusted)
               ORDER BY e.oid"""
        )
    with server.session("making an empty database", database) as inside:
        for name, schema in wanted:
            if schema != "pg_catalog":
                inside.run(q("CREATE SCHEMA IF NOT EXISTS {}", schema))
            with suppress(errors.InsufficientPrivilege):  # we are no such administrator; they may do without
                inside.run(q("CREATE EXTENSION IF NOT EXISTS {} SCHEMA {} CASCADE", name, schema))
        adopt(inside)
