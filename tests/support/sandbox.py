"""The environment tests and the processes they start run in."""

from collections.abc import Mapping
from pathlib import Path


def clean_environment(before: Mapping[str, str], home: Path) -> dict[str, str]:
    """`before` without settings of git and agentq, with `home` as home and a fixed author."""
    kept = {
        name: value
        for name, value in before.items()
        if not name.startswith(("GIT_", "AGENTQ_", "XDG_")) or name.startswith("AGENTQ_TEST_")
    }
    return {
        **kept,
        "HOME": str(home),
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "Test", "GIT_AUTHOR_EMAIL": "test@example.invalid",
        "GIT_COMMITTER_NAME": "Test", "GIT_COMMITTER_EMAIL": "test@example.invalid",
        "NO_COLOR": "1", "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
