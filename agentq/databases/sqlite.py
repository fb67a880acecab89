"""Branches of an SQLite file. One directory holds everything:

    generations/gNNNNNNNN_HEAD.db   sealed copies of dev, 0444, the newest last; `tmp_*` are unfinished
    branches/NAME/data.db           a branch, in a directory of its own with the logs SQLite puts beside it;
                                    NAME begins with `b`, or with `e` if it was made without content
    branches/NAME.json              whose it is; written before the data, removed after it
    branches/NAME.tmp/              unfinished, or half destroyed
    warm/gNNNNNNNN_HEAD.HEX/data.db a copy of a generation that is ready to become a branch; `.tmp` as above
    locks/                          0700; files that are never removed

A rename makes each complete, and a warm copy a branch, so a crash leaves only what `reap` can tell from the
whole.
Nothing is synced: after a power cut none is trusted, because all name the boot that wrote them.
"""

import json
import re
import secrets
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from datetime import datetime, timedelta
from pathlib import Path

from agentq.core.finding import Finding
from agentq.databases import sqlite_copy
from agentq.databases.base import EMPTY, Branch, Generation, command_key
from agentq.databases.sqlite_seal import COPY_LIMIT, SWEEP_WAIT, Generations, locate
from agentq.databases.sqlite_store import DATA, Busy, Store, failed_os, lay_down, rmtree
from agentq.databases.sqlite_warm import ATTEMPTS, Warm
from agentq.errors import DatabaseError

BRANCH = re.compile(r"([be][0-9a-f]{12}_[0-9a-f]{8})(\.json|\.json\.tmp|\.tmp)?")


class SqliteDatabases:
    """Satisfies `Databases` for the SQLite file at `url`.

    `root` anchors relative paths. `store`, made on first use with mode 0700, holds generations and branches.
    `env` is the variable that carries a branch's URL. `patience` is how many seconds to wait for dev's locks.
    """

    name = "sqlite"

    def __init__(
        self, url: str, root: Path, store: Path, env: str = "DATABASE_URL", patience: float = 5.0
    ) -> None:
        self._dev = locate(url, root)
        self._store = Store(store)
        self._generations = Generations(self._dev, self._store, patience)
        self._warm = Warm(self._store, self._generations)
        self._env = env

    def head(self) -> str:
        return self._generations.head()

    def seal(self) -> Generation:
        return self._generations.seal()

    def dev(self) -> Mapping[str, str]:
        return {self._env: self._dev.at(self._dev.path)}

    def moving(self) -> AbstractContextManager[None]:
        return self._generations.moving()

    def acquire(self, command_id: str, ttl: timedelta, now: datetime, owner: str) -> Branch:
        """See `Databases`. A repeat takes the branch over for its owner and never shortens its life.

        A branch that has expired, or was written before the machine last started, is replaced by a fresh one.
        """
        return self._take("b", command_id, ttl, now, owner)

    def empty(self, command_id: str, ttl: timedelta, now: datetime, owner: str) -> Branch:
        return self._take("e", command_id, ttl, now, owner)

    def warm(self, count: int) -> int:
        return self._warm.keep(count)

    def _take(self, kind: str, command_id: str, ttl: timedelta, now: datetime, owner: str) -> Branch:
        """`kind`: b for a copy of dev, e for one without content."""
        key = command_key(command_id)
        with self._store.lock(f"branch_{key[0]}", COPY_LIMIT):
            for name in self._names(f"{kind}{key}_"):
                meta = self._meta(name) if self._whole(name) else None
                if meta and meta["boot"] == sqlite_copy.boot_id() and _expiry(meta) > now:
                    meta |= {"owner": owner, "expires_at": max(_expiry(meta), now + ttl).isoformat()}
                    self._write_meta(name, meta)
                    return self._branch(name, meta)
                self._remove(name)
            return self._make(f"{kind}{key}_{secrets.token_hex(4)}", command_id, now + ttl, owner)

    def _make(self, name: str, command_id: str, expires_at: datetime, owner: str) -> Branch:
        """A fresh branch. The caller holds its lock."""
        for _ in range(ATTEMPTS):
            generation = Generation(EMPTY, "") if name[0] == "e" else self.seal()
            meta = {
                "command_id": command_id,
                "owner": owner,
                "generation": generation.id,
                "expires_at": expires_at.isoformat(),
                "boot": sqlite_copy.boot_id(),
            }
            try:
                self._write_meta(name, meta)
                if self._fill(name, generation):
                    meta["warm"] = "yes"
                    self._write_meta(name, meta)
                return self._branch(name, meta)
            except FileNotFoundError:
                self._remove(name)  # the generation was pruned under us
            except OSError as exc:
                self._remove(name)
                raise failed_os("making a branch", exc) from exc
            except BaseException:
                self._remove(name)
                raise
        raise DatabaseError("dev changes faster than it can be copied", "try again", retryable=True)

    def _fill(self, name: str, generation: Generation) -> bool:
        """Whether a warm copy was claimed for it. FileNotFoundError when the generation is gone; OSError."""
        folder = self._store.folder("branches") / name
        if generation.id == EMPTY:
            lay_down(folder, None)
            return False
        if self._warm.claim(generation, folder):
            return True
        lay_down(folder, self._generations.path(generation))
        return False

    def release(self, branch_id: str) -> None:
        found = BRANCH.fullmatch(branch_id)
        if found is None or found[2]:
            return
        with self._store.lock(f"branch_{branch_id[1]}", COPY_LIMIT):
            self._remove(branch_id)

    def branches(self) -> list[Branch]:
        metas = ((name, self._meta(name)) for name in self._names() if self._whole(name))
        return [self._branch(name, meta) for name, meta in metas if meta]

    def reap(self, now: datetime, alive: Callable[[str], bool]) -> list[str]:
        """See `Databases`. What another process is working on right now is left for the next time.

        A branch that cannot be removed does not keep the others: DatabaseError comes after all were tried.
        """
        removed: list[str] = []
        failure: DatabaseError | None = None
        for name in self._names():
            try:
                with self._store.lock(f"branch_{name[1]}", SWEEP_WAIT):
                    if name in self._names() and not self._wanted(name, now, alive):
                        self._remove(name)
                        removed.append(name)
            except Busy:
                continue
            except DatabaseError as exc:
                failure = failure or exc
        for sweep in (self._generations.sweep, self._warm.sweep):
            try:
                sweep()
            except Busy:
                continue
            except DatabaseError as exc:
                failure = failure or exc
        if failure:
            raise failure
        return removed

    def _wanted(self, name: str, now: datetime, alive: Callable[[str], bool]) -> bool:
        """Whether a branch stays; an unfinished one does not: its lock is ours, so its maker is gone."""
        meta = self._meta(name)
        if meta is None or not self._whole(name):
            return False
        (self._store.path / "branches" / f"{name}.json.tmp").unlink(missing_ok=True)
        return _expiry(meta) > now and alive(meta["owner"])

    def _branch(self, name: str, meta: dict[str, str]) -> Branch:
        folder = self._store.path / "branches" / name
        url = self._dev.at(folder / DATA)
        return Branch(
            name, name, meta["generation"], url, {self._env: url}, _expiry(meta), meta["owner"], "warm" in meta,
            folder,
        )  # fmt: skip

    def _names(self, prefix: str = "") -> list[str]:
        """Branches of which anything at all exists."""
        found = (BRANCH.fullmatch(name) for name in self._store.listing("branches") if name.startswith(prefix))
        return sorted({m[1] for m in found if m})

    def _whole(self, name: str) -> bool:
        return (self._store.path / "branches" / name).is_dir()

    def _meta(self, name: str) -> dict[str, str] | None:
        """None when absent or unreadable: then nobody can own the branch."""
        try:
            meta: dict[str, str] = json.loads((self._store.path / "branches" / f"{name}.json").read_bytes())
            _ = meta["owner"], meta["generation"], meta["boot"], _expiry(meta)
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return meta

    def _write_meta(self, name: str, meta: dict[str, str]) -> None:
        path = self._store.folder("branches") / f"{name}.json"
        temporary = path.with_name(f"{name}.json.tmp")
        temporary.write_text(json.dumps(meta))
        temporary.rename(path)

    def _remove(self, name: str) -> None:
        """Out of sight first, its owner's name last. The caller holds its lock. DatabaseError."""
        folder = self._store.path / "branches" / name
        doomed = folder.with_name(f"{name}.tmp")
        try:
            rmtree(doomed)
            with suppress(FileNotFoundError):
                folder.rename(doomed)
                rmtree(doomed)
            for suffix in (".json.tmp", ".json"):
                folder.with_name(name + suffix).unlink(missing_ok=True)
        except OSError as exc:
            raise failed_os(f"removing branch {name}", exc) from exc

    def doctor(self) -> list[Finding]:
        try:
            journal, size = self._generations.probe()
        except DatabaseError as exc:
            return [Finding(False, exc.message, exc.hint)]
        dev = Finding(True, f"dev database {self._dev.path}: {size / 1e6:.1f} MB, journal mode {journal}")
        place = f"branch store {self._store.path}"
        try:
            free = shutil.disk_usage(self._store.folder("branches")).free
            shares = self._generations.shares_blocks()
        except (OSError, DatabaseError) as exc:
            return [dev, Finding(False, f"{place}: {exc}", "make it a directory you can write")]
        how = "copies share blocks" if shares else "copies take their full size"
        room = shares or free > 3 * size
        text = f"{place}: {free / 1e6:.0f} MB free, {how}"
        return [dev, Finding(room, text, "" if room else "free some space, or move the store")]


def _expiry(meta: dict[str, str]) -> datetime:
    return datetime.fromisoformat(meta["expires_at"])
