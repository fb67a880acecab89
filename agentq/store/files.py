"""Small files that survive crashes. Invariant: a reader sees the old content or the new, never a part."""

import errno
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from agentq.errors import StoreError


def replace(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Put `data` at `path` atomically; `durable` waits for the disk, the directory entry included (reliability
    fact 2). Raises OSError; then `path` holds the old content or, if only the last sync failed, the new."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, _mode(path))
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(path.parent)


def not_changed(path: Path, error: OSError) -> StoreError:
    """What to tell a person when `replace` failed."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    hint = "free some disk space and run the command again" if full else "run the command again"
    return StoreError(f"{path}: not changed ({error.strerror})", hint, retryable=True)


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode & 0o777
    except OSError:
        return 0o644


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(path: Path) -> None:
    """Remove the temporary files that killed writers of `path` left. Only under the writers' lock."""
    for stale in path.parent.glob(f".{path.name}.*.tmp"):
        with suppress(OSError):
            stale.unlink()


def write_json(path: Path, data: Any, *, durable: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, json.dumps(data, indent=1, default=str).encode(), durable=durable)


def read_json(path: Path) -> Any:
    """The content, or None when the file is missing or torn."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
