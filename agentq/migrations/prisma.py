"""Prisma 7: a folder for each migration, in the order of the times their names begin with."""

import re

from agentq.migrations import numbered
from agentq.migrations.base import Adapter, Commands, Files, Impossible

_LOCK = "migration_lock.toml"
_SQL = "migration.sql"
_PROVIDER = re.compile(r'^[ \t]*provider[ \t]*=[ \t]*"(\w+)"[ \t\r]*$', re.MULTILINE)
_COMMENT = re.compile(rb"--[^\n]*|/\*.*?\*/|\s", re.DOTALL)
_DIFF = "npx prisma migrate diff --from-migrations prisma/migrations --to-schema prisma/schema.prisma"


class Prisma(Adapter):
    """`migrate diff` needs `shadowDatabaseUrl` in prisma.config.ts. Prisma wants a person's consent before it
    destroys something; agentq does not give it, and works on fresh branches."""

    name = "prisma"
    bookkeeping = frozenset({"_prisma_migrations"})
    usual = ("prisma/migrations/**",)
    defaults = Commands(
        upgrade="npx prisma migrate deploy",
        generate='to="prisma/migrations/$(date -u +%Y%m%d%H%M%S)_"{name} && mkdir -p "$to" && '
        f'{_DIFF} --script --output "$to/{_SQL}"',
        check=f"{_DIFF} --exit-code",
    )

    def owns(self, path: str) -> bool:
        return path.endswith((".sql", f"/{_LOCK}")) and super().owns(path)

    def clash(self, files: Files) -> str:
        for folder, names in numbered.folders(files).items():
            inside = numbered.place(f"{folder}/{_SQL}")
            if inside and not inside.folder.startswith(folder) and _SQL not in names:
                return f"{folder} has no {_SQL}"
        for path, data in sorted(files.items()):
            if path.endswith(f"/{_LOCK}") and len(_PROVIDER.findall(data.decode("utf-8", "replace"))) != 1:
                return f"{path} does not name one provider"
        return numbered.clash(files)

    def _meant(self, new: Files, output: str, before: Files, after: Files) -> Files | Impossible:  # noqa: ARG002
        idle = {
            path.rpartition("/")[0] for path in new if path.endswith(_SQL) and not _COMMENT.sub(b"", new[path])
        }
        kept = {path: data for path, data in new.items() if path.rpartition("/")[0] not in idle}
        # The clock of the host that ran the command may be behind that of the one before.
        return numbered.moved(before, kept)

    def _moved(self, trunk: Files, ours: Files, own: Files) -> Files | Impossible:  # noqa: ARG002
        return numbered.moved(trunk, own)
