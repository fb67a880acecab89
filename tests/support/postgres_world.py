"""A PostgreSQL dev for the contract of databases and for tests of the provider."""

from pathlib import Path

import psycopg
from contracts.databases import World
from psycopg import sql
from support.accounts import ACCOUNTS, EACH, python
from support.postgres import Server

from agentq.databases.postgres import PostgresDatabases
from agentq.databases.postgres_address import Names
from agentq.databases.postgres_adopt import OWNED

TRANSFERS = """
import random, sys
import psycopg
with psycopg.connect(sys.argv[1], autocommit=True) as db:
    while True:
        one, two = random.sample(range(int(sys.argv[2])), 2)
        with db.transaction():
            db.execute("UPDATE accounts SET money = money - 1 WHERE id = %s", (min(one, two),))
            db.execute("UPDATE accounts SET money = money + 1 WHERE id = %s", (max(one, two),))
"""


def rows(url: str, query: str) -> list[tuple[object, ...]]:
    """Of the last statement, [] when it has none."""
    with psycopg.connect(url, autocommit=True) as db:
        done = db.execute(query)  # type: ignore[arg-type]
        return done.fetchall() if done.description else []


class PostgresWorld(World):
    """`server` may be shared with other worlds. `seal`: as configured."""

    def __init__(self, server: Server, folder: Path, seal: str = "dump", url: str = "") -> None:
        self.server, self.seal, self.store = server, seal, folder / "store"
        self.name = server.create()
        self.names = Names.of(self.name)
        self.url = url.format(self.name) or server.url(self.name)
        self.databases: PostgresDatabases = PostgresDatabases(self.url, self.store, seal=seal)  # type: ignore[arg-type]
        rows(
            server.url(self.name),
            "CREATE TABLE rows (n serial PRIMARY KEY);"
            f"CREATE TABLE accounts AS SELECT n AS id, {EACH} AS money FROM generate_series(0, {ACCOUNTS - 1}) n;"
            "ALTER TABLE accounts ADD PRIMARY KEY (id)",
        )

    def add(self, url: str) -> None:
        rows(url, "INSERT INTO rows DEFAULT VALUES")

    def count(self, url: str) -> int:
        return int(str(rows(url, "SELECT count(*) FROM rows")[0][0]))

    def tables(self, url: str) -> list[str]:
        return [str(name) for (name,) in rows(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]

    def create(self, url: str) -> None:
        rows(url, "CREATE TABLE rows (n serial PRIMARY KEY)")

    def sound(self, url: str) -> bool:
        return rows(url, "SELECT count(*), sum(money) FROM accounts") == [(ACCOUNTS, ACCOUNTS * EACH)]

    def leftovers(self) -> list[str]:
        return [name for name in self.everything() if not name.startswith(f"{self.names.prefix}g")]

    def everything(self) -> list[str]:
        """Databases and roles made for this dev, without the group and the home."""
        found = self.server.run(
            "SELECT datname FROM pg_database UNION ALL SELECT rolname FROM pg_roles ORDER BY 1", "postgres"
        )
        mine = [str(name) for (name,) in found if str(name).startswith(self.names.prefix)]
        return [name for name in mine if name not in (self.names.group, self.names.home)]

    def source(self) -> str:
        return (
            "from pathlib import Path\nfrom agentq.databases.postgres import PostgresDatabases\n"
            f"databases = PostgresDatabases({self.url!r}, Path({str(self.store)!r}), seal={self.seal!r})\n"
        )

    def writer(self) -> list[str]:
        return python(TRANSFERS, self.url, ACCOUNTS)

    def naive(self) -> bool | None:
        """A copy of one half after the other."""
        with psycopg.connect(self.url, autocommit=True) as db:
            halves = [
                db.execute("SELECT sum(money) FROM accounts WHERE mod(id, 2) = %s", (n,)).fetchone()
                for n in (0, 1)
            ]
        return sum(int(half[0]) for half in halves if half) == ACCOUNTS * EACH

    def destroy(self) -> None:
        """Everything of this dev, with the server as it was before."""
        with self.server.connect() as db:
            db.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(self.names.home)))
            for name in [*self.everything(), self.name]:  # nobody works there any more
                if name == self.name or (self.names.parse(name) and f"{self.names.prefix}r_" not in name):
                    db.execute("UPDATE pg_database SET datistemplate = false WHERE datname = %s", (name,))
                    db.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            for name in [*self.everything(), self.names.group]:
                db.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))


def owned_world(server: Server, folder: Path, content: str = "", seal: str = "dump") -> PostgresWorld:
    """As recommended: the URL's role is dev's owner, with CREATEDB and CREATEROLE, and no superuser. `content` is
    made in dev, and all of it is given to the role; nobody may REASSIGN what the first superuser owns."""
    server.run(
        "DO $$ BEGIN CREATE ROLE app LOGIN CREATEDB CREATEROLE PASSWORD 'app/pw';"
        " EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    )
    world = PostgresWorld(server, folder, seal, server.url("{}", "app", "app/pw"))
    server.run(f"ALTER DATABASE {world.name} OWNER TO app")
    with psycopg.connect(server.url(world.name), autocommit=True) as db:
        db.execute(content or "SELECT 1")  # type: ignore[arg-type]
        for (text,) in db.execute(OWNED, ("app",)).fetchall():
            db.execute(f"ALTER {text} OWNER TO app")
    return world
