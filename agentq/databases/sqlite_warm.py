"""Copies of generations that are ready to become branches. A rename claims one, so that only one can.

The name of a copy begins with its generation's, which names dev's head and with it the boot: a copy of another one
is never claimed, and goes with the next sweep.
"""

import re
import secrets
from contextlib import suppress
from pathlib import Path

from agentq.databases.base import Generation
from agentq.databases.sqlite_seal import COPY_LIMIT, SWEEP_WAIT, Generations
from agentq.databases.sqlite_store import Store, failed_os, lay_down, rmtree
from agentq.errors import DatabaseError

FOLDER = "warm"
ATTEMPTS = 5
READY = re.compile(r"(g\d{8}_[0-9a-f]{16})\.[0-9a-f]{8}")


class Warm:
    """`warm/` of a store: directories as branches have them."""

    def __init__(self, store: Store, generations: Generations) -> None:
        self._store = store
        self._generations = generations

    def claim(self, generation: Generation, target: Path) -> bool:
        """Make a copy of `generation` the directory `target`. False when none is ready. OSError."""
        for name in self._of(generation):
            with suppress(FileNotFoundError):  # somebody else was faster
                (self._store.path / FOLDER / name).rename(target)
                return True
        return False

    def keep(self, count: int) -> int:
        """Have `count` of the current generation ready, and no other; how many there are. DatabaseError."""
        with self._store.lock(FOLDER, COPY_LIMIT):
            for _ in range(ATTEMPTS):
                generation = self._generations.seal() if count else None
                try:
                    return self._keep(generation, count)
                except FileNotFoundError:
                    continue  # the generation was pruned under us
                except OSError as exc:
                    raise failed_os("making warm branches", exc) from exc
            return 0

    def _keep(self, generation: Generation | None, count: int) -> int:
        """None: of no generation. The caller holds the lock. OSError."""
        ready = self._of(generation)[:count] if generation else []
        self._remove_all_but(ready)
        if generation is None or not generation.head:  # dev cannot be recognized: none would ever be claimed
            return 0
        for _ in range(count - len(ready)):
            name = f"{generation.id}.{secrets.token_hex(4)}"
            lay_down(self._store.folder(FOLDER) / name, self._generations.path(generation))
        return count

    def sweep(self) -> None:
        """Remove what a crash left and what is not of the current generation; nothing while dev cannot be seen.
        DatabaseError; Busy while some are in the making."""
        if not self._store.listing(FOLDER):
            return
        with self._store.lock(FOLDER, SWEEP_WAIT):
            try:
                current = self._generations.current()
            except DatabaseError:
                return
            try:
                self._remove_all_but(self._of(current) if current else [])
            except OSError as exc:
                raise failed_os("removing warm branches", exc) from exc

    def _of(self, generation: Generation) -> list[str]:
        found = (READY.fullmatch(name) for name in self._store.listing(FOLDER))
        return sorted(m[0] for m in found if m and m[1] == generation.id)

    def _remove_all_but(self, names: list[str]) -> None:
        """Out of the claimers' sight first."""
        for name in set(self._store.listing(FOLDER)) - set(names):
            folder = self._store.path / FOLDER / name
            doomed = folder.with_name(f"{name.removesuffix('.tmp')}.tmp")
            if folder != doomed:
                try:
                    folder.rename(doomed)
                except FileNotFoundError:
                    continue  # claimed
            rmtree(doomed)
