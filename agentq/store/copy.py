"""agents/queue.json of a clone whose queue is shared: a copy to look at, refreshed and never read.

Invariant: what a person wrote into it is never overwritten; it is set aside under another name.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import Timeout

from agentq.errors import UserError
from agentq.locks import lock
from agentq.store import files

REMEMBERED = 4
LOCK_SECONDS = 2.0  # a convenience waits for nobody who hangs


class WorkingCopy:
    """`path`: the copy; `state`: the clone's machine-local directory, which remembers what agentq wrote."""

    def __init__(self, path: Path, state: Path) -> None:
        self.path = path
        self._state = state

    def refresh(self, newest: Callable[[], bytes]) -> None:
        """Make the copy say what `newest` returns, unless another process is at it and hangs."""
        if self._bytes() != newest() or not self._written():
            with suppress(Timeout), lock(self._state / "locks", "copy", LOCK_SECONDS):
                self._write(newest())

    def check(self, newest: Callable[[], bytes] | None) -> None:
        """Raises UserError, once, when the copy was edited by hand; the edit is set aside then."""
        current = self._bytes()
        if newest and current is not None and self._written() and _digest(current) not in self._written():
            self.refresh(newest)
        mark = self._state / "queue.edited"
        if not mark.exists():
            return
        aside = ""
        with suppress(Timeout), lock(self._state / "locks", "copy", LOCK_SECONDS):
            aside = mark.read_text() if mark.exists() else ""
            mark.unlink(missing_ok=True)
        if aside:
            raise UserError(
                f"{self.path} was edited by hand, but the queue is shared: it is only a copy",
                f"the edit is saved as {aside}; 'agentq add' and 'agentq edit' change the queue",
            )

    def adopt(self) -> None:
        """Take what is there now for something agentq wrote."""
        current = self._bytes()
        if current is not None:
            self._remember(_digest(current))

    def forget(self) -> None:
        """The file is no copy any more."""
        for name in ("queue.copy", "queue.edited"):
            (self._state / name).unlink(missing_ok=True)

    def set_aside(self, word: str) -> Path | None:
        """Keep the file under another name; None when there is none."""
        current = self._bytes()
        if current is None:
            return None
        aside = self.path.with_name(f"queue.{word}-{_digest(current)[:8]}.json")
        files.replace(aside, current)
        return aside

    def _write(self, text: bytes) -> None:
        current, written = self._bytes(), self._written()
        if current != text and current is not None and _digest(current) not in written:
            # Before the first refresh it is what the clone had before it joined.
            aside = self.set_aside("edited" if written else "local")
            if written:
                files.replace(self._state / "queue.edited", str(aside).encode())
        self._remember(_digest(text))  # first: a crash between leaves no copy that seems edited
        if current != text:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            files.replace(self.path, text, durable=False)

    def _remember(self, digest: str) -> None:
        written = [digest, *(one for one in self._written() if one != digest)]
        files.write_json(self._state / "queue.copy", written[:REMEMBERED])

    def _written(self) -> list[str]:
        return files.read_json(self._state / "queue.copy") or []

    def _bytes(self) -> bytes | None:
        try:
            return self.path.read_bytes()
        except OSError:
            return None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
