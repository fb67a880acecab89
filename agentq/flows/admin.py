"""Adding and editing specs for a person, with what the spec's own file says; draining machines."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agentq.core import queue as transitions
from agentq.core.spec import Queue, Spec
from agentq.core.text import did_you_mean, plural
from agentq.errors import QueueError, Refused, SpecError, UserError
from agentq.flows.brief import read_spec_file
from agentq.store.base import QueueStore


def add_spec(store: QueueStore, root: Path, spec_id: str, given: dict[str, Any]) -> Queue:
    """Add a spec; its file's front matter counts where no option was given, a first heading as the title."""
    known = root / "agents" / "specs" / f"{spec_id}.md"
    named = root / given["spec"] if given.get("spec") else known if known.is_file() else None
    front: dict[str, Any] = {}
    if named is not None:
        file = read_spec_file(named, root)
        unknown = [key for key in file.front if key not in Spec.model_fields]
        if unknown:
            raise SpecError(f"{named}: unknown key '{unknown[0]}'", did_you_mean(unknown[0], Spec.model_fields))
        front = {key: value for key, value in file.front.items() if key != "id"}
        heading = next((line[2:].strip() for line in file.text.splitlines() if line.startswith("# ")), "")
        if heading:
            front.setdefault("title", heading)
    spec = _spec({"id": spec_id, **front, **given})
    return store.update(lambda queue: transitions.add(queue, spec))


def edit_spec(
    store: QueueStore, spec_id: str, given: dict[str, Any], clear: list[str], additive: tuple[str, ...]
) -> Queue:
    """Change or clear fields. `additive`: globs of files that any number of specs may change at once. Raises
    UserError when there is nothing to change or a field is unknown."""
    for name in clear:
        if name not in Spec.model_fields or name in ("id", "title"):
            raise UserError(f"'{name}' cannot be cleared", did_you_mean(name, Spec.model_fields))
    changes = {**given, **{name: Spec.model_fields[name].get_default() for name in clear}}
    if not changes:
        raise UserError("nothing to change", "'agentq edit --help' lists the fields")
    return store.update(lambda queue: transitions.edit(queue, spec_id, changes, additive))


def _spec(data: dict[str, Any]) -> Spec:
    try:
        return Spec.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(step) for step in first["loc"])
        if first["type"] == "missing":
            raise QueueError(f"'{field}' is missing", "give --title, or a spec file with a heading") from None
        hint = "ids match [a-z0-9][a-z0-9-]{0,63}" if field == "id" else ""
        raise QueueError(f"{field}: {first['msg'].removeprefix('Value error, ')}", hint) from None


def drain(store: QueueStore, name: str, known: set[str], *, undo: bool) -> str:
    """`name` claims nothing more, or may again; a line about it. `known`: machines that are there beside those
    the queue names. Raises UserError for a name nobody has, Refused when there is nothing to undo."""
    queue = store.read().queue
    has = [entry.id for entry in queue.in_progress if entry.lease.machine == name]
    known |= {entry.lease.machine for entry in queue.in_progress}
    if undo and name not in queue.drained:
        raise Refused(f"'{name}' is not drained")
    if not undo and name not in known:
        hint = did_you_mean(name, known) or f"known: {', '.join(sorted(known))}"
        raise UserError(f"there is no machine '{name}'", hint)
    store.update(lambda queue: transitions.drain(queue, name, undo=undo))
    if undo:
        return f"'{name}' may claim specs again"
    left = f"; it still has {plural(len(has), 'spec')}: {', '.join(has[:5])}" if has else ""
    return f"'{name}' claims nothing more{left}"
