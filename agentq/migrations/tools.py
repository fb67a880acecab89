"""The migration tools by name, as [migrations] names them."""

from importlib import import_module

from agentq.config import POLICY_FILE
from agentq.errors import ConfigError
from agentq.migrations.base import Adapter, Commands, Tool

_CLASSES = {
    "alembic": "Alembic", "django": "Django", "drizzle": "Drizzle", "prisma": "Prisma", "command": "Command",
}  # fmt: skip


def tool(name: str, files: tuple[str, ...] = (), upgrade: str = "", generate: str = "", check: str = "") -> Tool:
    """The tool `name` (sections.TOOLS but "none"), with the files and commands given in the place of its own.
    Raises ConfigError for `command` without its files and commands."""
    made: type[Adapter] = getattr(import_module(f"agentq.migrations.{name}"), _CLASSES[name])
    adapter = made(files, Commands(upgrade, generate, check))
    for key, value in {"files": adapter.files, **vars(adapter.templates)}.items():
        if not value:
            raise ConfigError(POLICY_FILE, f"migrations.{key}", "not set", f"the tool '{name}' needs it")
    return adapter
