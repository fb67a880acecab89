"""What makes a copy of dev the agents' own: everything in it belongs to the group, and nothing in it acts with the
rights of anybody else."""

from contextlib import suppress

from psycopg import errors, sql

from agentq.databases.postgres_server import Server, Session, many, q

# Members of extensions stay as they are. So do foreign servers, whose owner may direct them elsewhere; foreign
# data wrappers, languages and publications, some of which only a superuser may own; routines of languages that
# reach out of the database, whose owner may call them, whoever else may not; and functions of event triggers,
# which run at others' logins. What belongs to a table follows it. What initdb made has an oid below 16384; of
# that, the schema public (2200) goes along.
OWNED = """
WITH member AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e'),
part AS (SELECT classid, objid FROM pg_depend WHERE deptype IN ('a', 'i') AND refclassid = 'pg_class'::regclass),
mine AS (SELECT oid FROM pg_roles WHERE rolname = %s),
owned (classid, oid, owner, text) AS (
  SELECT 'pg_namespace'::regclass, oid, nspowner, format('SCHEMA %%I', nspname) FROM pg_namespace
    WHERE nspname !~ '^pg_(toast_)?temp'
  UNION ALL SELECT 'pg_class'::regclass, oid, relowner,
      format('%%s %%s', CASE relkind WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END, oid::regclass) FROM pg_class c
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND relpersistence <> 't'
      AND NOT (relkind = 'S' AND EXISTS (SELECT FROM part WHERE classid = 'pg_class'::regclass AND objid = c.oid))
  UNION ALL SELECT 'pg_type'::regclass, t.oid, typowner, format('TYPE %%s', format_type(t.oid, NULL))
    FROM pg_type t LEFT JOIN pg_class c ON c.oid = typrelid
    WHERE typtype IN ('e', 'd', 'r') OR typtype = 'c' AND c.relkind = 'c' OR typtype = 'b' AND typelem = 0
  UNION ALL SELECT 'pg_proc'::regclass, oid, proowner, format('ROUTINE %%s', oid::regprocedure) FROM pg_proc
    WHERE prokind = 'a' OR prorettype <> 'event_trigger'::regtype
      AND prolang IN (SELECT oid FROM pg_language WHERE lanpltrusted OR lanname = 'sql')
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
  UNION ALL SELECT 'pg_largeobject'::regclass, oid, lomowner, format('LARGE OBJECT %%s', oid)
    FROM pg_largeobject_metadata
)
SELECT text FROM owned o
WHERE (oid >= 16384 OR oid = 2200 OR classid = 'pg_largeobject'::regclass) AND owner NOT IN (SELECT oid FROM mine)
  AND NOT EXISTS (SELECT FROM member m WHERE m.classid = o.classid AND m.objid = o.oid)
"""

# What would still act for its owner, where agents own everything around it: not adopted, and SECURITY DEFINER.
_ACTING = """
SELECT format('%s', oid::regprocedure) FROM pg_proc p
WHERE oid >= 16384 AND prosecdef
  AND (prorettype = 'event_trigger'::regtype OR prolang NOT IN (SELECT oid FROM pg_language WHERE lanpltrusted))
  AND NOT EXISTS (SELECT FROM pg_depend WHERE deptype = 'e' AND classid = 'pg_proc'::regclass AND objid = p.oid)
"""


def adopt(inside: Session) -> None:
    """Give everything in a database to the group."""
    mapped = _disarm(inside)
    found = [text for (text,) in inside.rows(OWNED, inside.group)]
    found = [text for text in found if not (mapped and text.startswith("FOREIGN TABLE"))]
    for some in many([q("ALTER {} OWNER TO {}", sql.SQL(text), inside.group) for text in found]):
        inside.run(*some)


def _disarm(inside: Session) -> bool:
    """Take out what would act for others, as far as we may: event triggers, logins at other servers, routines with
    their owner's rights. Gives whether logins are left."""
    if inside.superuser:
        triggers = inside.rows(
            """SELECT evtname FROM pg_event_trigger t WHERE NOT EXISTS (
                 SELECT FROM pg_depend
                 WHERE deptype = 'e' AND classid = 'pg_event_trigger'::regclass AND objid = t.oid)"""
        )
        for (name,) in triggers:
            inside.run(q("DROP EVENT TRIGGER {}", name))
    for (text,) in inside.rows(_ACTING):
        with suppress(errors.InsufficientPrivilege):  # `doctor` names it
            inside.run(q("ALTER ROUTINE {} SECURITY INVOKER", sql.SQL(text)))
    left = False
    for server, user in inside.rows(
        "SELECT srvname, CASE umuser WHEN 0 THEN NULL ELSE usename END FROM pg_user_mappings"
    ):
        try:
            who = q("{}", user) if user else q("PUBLIC")
            inside.run(q("DROP USER MAPPING FOR {} SERVER {}", who, server))
        except errors.InsufficientPrivilege:
            left = True
    return left


def acting(inside: Session) -> list[str]:
    """The routines that go on acting for others in a copy, because we may not change them."""
    owned = "AND NOT pg_has_role(proowner, 'USAGE')"
    return [text for (text,) in inside.rows(q("{} {}", sql.SQL(_ACTING), sql.SQL(owned)))]


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
