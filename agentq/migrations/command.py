"""Any other tool: the project's own commands, and files whose names begin with a number or a time."""

from agentq.migrations import numbered
from agentq.migrations.base import Adapter, Files, Impossible


class Command(Adapter):
    """`files` and all three commands come from the settings."""

    name = "command"
    # What the tools that work like this call their own tables.
    bookkeeping = frozenset(
        {
            *("schema_migrations", "ar_internal_metadata", "flyway_schema_history", "goose_db_version"),
            *("_sqlx_migrations", "knex_migrations", "knex_migrations_lock", "__diesel_schema_migrations"),
            *("atlas_schema_revisions", "atlas_schema_revisions.atlas_schema_revisions", "pgmigrations"),
            *("databasechangelog", "databasechangeloglock", "refinery_schema_history", "_migrations"),
        }
    )

    def clash(self, files: Files) -> str:
        return numbered.clash(files)

    def _meant(self, new: Files, output: str, before: Files, after: Files) -> Files | Impossible:  # noqa: ARG002
        return numbered.moved(before, {path: data for path, data in new.items() if data.strip()})

    def _moved(self, trunk: Files, ours: Files, own: Files) -> Files | Impossible:  # noqa: ARG002
        return numbered.moved(trunk, own)
