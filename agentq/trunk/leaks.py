"""No secret leaves with a change: what an agent adds is read before it is pushed (reliability fact 22).

The message of a landing is made from the spec, never from the agent's commits, so files and their names are what
can carry one.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from agentq.core import redact, secrets
from agentq.core.secrets import Found
from agentq.core.text import one_line
from agentq.errors import GitError
from agentq.trunk.mirror import Change, Mirror

MAX_BLOB = 32_000_000  # bytes of a file that is read; a larger one is no text that a person wrote
BATCH = 64_000_000  # bytes of files that are in memory at a time


@dataclass(frozen=True, slots=True)
class Leak:
    """A credential in a file. line: 0 for one in the file's name."""

    path: str
    found: Found

    def __str__(self) -> str:
        path = redact.in_urls(one_line(self.path))
        return f"{self.found.kind} in {f'{path}:{self.found.line}' if self.found.line else 'the name of a file'}"


def in_change(mirror: Mirror, before: str, after: str, known: Iterable[str] = ()) -> list[Leak]:
    """What `after` adds to `before`, in the order of the files."""
    values, found = tuple(known), []
    changes = [one for one in mirror.changes(before, after) if one.status != "D" and one.mode != "160000"]
    for change in changes:
        found += [Leak(change.path, Found(one.kind, 0, one.shown)) for one in _in_name(change.path, values)]
    for change, old, new in _contents(mirror, changes):
        found += [Leak(change.path, one) for one in secrets.scan_added(old, new, values, path=change.path)]
    return found


def _in_name(path: str, known: tuple[str, ...]) -> list[Found]:
    return [one for part in (path, *path.split("/")) for one in secrets.scan(part, known) if one.sure][:1]


def _contents(mirror: Mirror, changes: Sequence[Change]) -> Iterator[tuple[Change, bytes | None, bytes]]:
    """Each changed file with what it was and what it is; None: it was not there, or is not worth to compare."""
    names = list(dict.fromkeys(sha for one in changes for sha in (one.old, one.new) if sha))
    known = zip(names, mirror.git.sizes(names), strict=True)
    sizes = {name: size[2] for name, size in known if size is not None and size[1] == "blob"}
    batch: list[Change] = []
    total = 0
    for change in changes:
        if sizes.get(change.new, MAX_BLOB + 1) > MAX_BLOB:
            continue
        total += sizes[change.new] + min(sizes.get(change.old, 0), MAX_BLOB)
        batch.append(change)
        if total >= BATCH:
            yield from _read(mirror, batch, sizes)
            batch, total = [], 0
    yield from _read(mirror, batch, sizes)


def _read(
    mirror: Mirror, batch: Sequence[Change], sizes: dict[str, int]
) -> Iterator[tuple[Change, bytes | None, bytes]]:
    shas = {sha for one in batch for sha in (one.old, one.new)}
    wanted = sorted(sha for sha in shas if sizes.get(sha, MAX_BLOB + 1) <= MAX_BLOB)
    data: dict[str, bytes] = {}
    for sha, item in zip(wanted, mirror.git.objects(wanted), strict=True):
        if item is None:
            raise GitError(["cat-file"], 0, f"object {sha[:12]} is missing")
        data[sha] = item[1]
    for change in batch:
        yield change, data.get(change.old), data[change.new]
