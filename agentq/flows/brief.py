"""What an agent is told: the stage's template with the spec's facts filled in (mission row T15)."""

import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from agentq.core.spec import InProgress, Queue, Spec
from agentq.core.text import clean
from agentq.errors import SpecError

COMPACT_AT = 0.6
MAX_SPEC_BYTES = 1_000_000


@dataclass(frozen=True)
class SpecFile:
    """A spec's own file: TOML front matter between `+++` lines, then the text."""

    front: dict[str, Any]
    text: str


def spec_path(root: Path, spec: Spec) -> Path | None:
    """The file a spec names, or agents/specs/<id>.md if it exists."""
    if spec.spec:
        return root / spec.spec
    default = root / "agents" / "specs" / f"{spec.id}.md"
    return default if default.is_file() else None


def read_spec_file(path: Path, root: Path) -> SpecFile:
    """Raises SpecError with file and line."""
    try:
        if not path.resolve().is_relative_to(root.resolve()):
            raise SpecError(f"{path} lies outside the repository", "a spec file is part of it")
        data = path.read_bytes()
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror}", "a spec names its file with 'spec'") from None
    if len(data) > MAX_SPEC_BYTES:
        raise SpecError(f"{path} is larger than 1 MB", "a spec is a text for one piece of work")
    text = data.decode("utf-8", "replace").replace("\r\n", "\n")
    if not text.startswith("+++\n"):
        return SpecFile({}, text)
    head, mark, body = text[4:].partition("\n+++")
    if not mark:
        raise SpecError(f"{path}:1: the front matter does not end", "close it with a line '+++'")
    try:
        return SpecFile(tomllib.loads(head), body.lstrip("\n"))
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{path}: front matter: {error}", "it is TOML between two '+++' lines") from None


def spec_text(root: Path, spec: Spec) -> str:
    """The words of a spec: its file, else its description."""
    path = spec_path(root, spec)
    text = read_spec_file(path, root).text if path else ""
    return (
        clean("\n\n".join(part.strip() for part in (spec.description or "", text) if part.strip())) or spec.title
    )


def others_in_progress(queue: Queue, spec_id: str) -> str:
    lines = [
        f"{entry.id} ({entry.title}) changes {', '.join(entry.files_modified) or 'files it did not declare'}"
        for entry in queue.in_progress
        if entry.id != spec_id
    ]
    if not lines:
        return "No other spec is in progress."
    return "In progress at the same time, keep off their files: " + "; ".join(lines)


def template(root: Path, stage: str) -> str:
    """The project's own agents/prompts/<stage>.md, else the one that ships."""
    own = root / "agents" / "prompts" / f"{stage}.md"
    if own.is_file():
        return own.read_text(encoding="utf-8", errors="replace")
    return resources.files("agentq").joinpath("prompts", f"{stage}.md").read_text(encoding="utf-8")


def brief(root: Path, stage: str, entry: InProgress, facts: dict[str, str]) -> str:
    """The prompt. Unknown `{names}` in a project's template stay as they are."""
    budget = entry.context_budget
    values = {
        "id": entry.id,
        "title": entry.title,
        "text": spec_text(root, entry),
        "files": ", ".join(entry.files_modified) or "not declared; change as few as possible",
        "budget": f"{budget:,} tokens" if budget else "not estimated",
        "compact_at": f"at {int(budget * COMPACT_AT):,} tokens" if budget else "of your model's window",
        **facts,
    }
    out = template(root, stage)
    for name, value in values.items():
        out = out.replace("{" + name + "}", value)
    return out
