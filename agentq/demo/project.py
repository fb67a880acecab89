"""Makes the project `agentq demo` runs on: a small notes service, its origin, its dev database, twelve specs.

Everything is laid out below data/: `project/` is the first commit, `changes/<spec>/` what the replay agent
will do, `notes.toml` the rows of the dev database. Files there end in `.txt`, which `build` strips, so that
no tool takes them for sources of agentq. Invariant: nothing outside the given folder is written, and no
personal or system configuration of git has a say.
"""

import json
import shutil
import sqlite3
import sys
import tomllib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agentq.demo import schema
from agentq.demo.replay import DATA, SUFFIX
from agentq.errors import UserError
from agentq.trunk.git import Git

REPLAY = Path(__file__).resolve().parent / "replay.py"
FIRST_NOTE = datetime(2024, 1, 1, 8, tzinfo=UTC)
BETWEEN_NOTES = timedelta(hours=31)
_AGENT = "@AGENT@"
_DOT = "dot-"


@dataclass(frozen=True)
class Demo:
    """`hub`: the bare origin; `checkout`: a clone of it, agents/queue.json and data/dev.db included; `specs`:
    ids in the order of the queue."""

    folder: Path
    checkout: Path
    hub: Path
    specs: list[str]

    @property
    def dev_url(self) -> str:
        return f"sqlite:///{self.checkout / 'data' / 'dev.db'}"


def build(folder: Path, *, pace: float = 1.0, python: str = sys.executable) -> Demo:
    """Make the demo in `folder`, which must be empty or absent. `pace`: factor on the replay agent's pauses,
    0 for none; `python`: the interpreter it runs with. Raises UserError, GitError, DatabaseError."""
    folder = folder.expanduser().resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not empty", "name a folder that does not exist yet")
    folder.mkdir(parents=True, exist_ok=True)
    hub, checkout = folder / "hub.git", folder / "notes"
    git = Git(folder)
    git("init", "--quiet", "--bare", "--template=", "--initial-branch=main", str(hub))
    git("clone", "--quiet", "--template=", str(hub), str(checkout))
    _write_project(checkout, [python, "-I", str(REPLAY), "--pace", f"{pace:g}", "{prompt_file}"])
    queue = json.loads((checkout / "agents" / "queue.json").read_text(encoding="utf-8"))
    demo = Demo(folder, checkout, hub, [entry["id"] for entry in queue["ready"]])
    _fill(demo, python)
    _first_commit(Git(checkout))
    return demo


def _write_project(checkout: Path, agent: list[str]) -> None:
    source = DATA / "project"
    for file in sorted(source.rglob(f"*{SUFFIX}")):
        name = file.name.removesuffix(SUFFIX)
        name = "." + name.removeprefix(_DOT) if name.startswith(_DOT) else name
        target = checkout / file.relative_to(source).with_name(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    config = checkout / "agents" / "config.toml"
    # A JSON list of texts is a TOML list of texts, as long as no character is escaped as a surrogate pair.
    command = json.dumps(agent, ensure_ascii=False)
    config.write_text(config.read_text(encoding="utf-8").replace(_AGENT, command), encoding="utf-8")


def _fill(demo: Demo, python: str) -> None:
    """A new dev database, made by the project's migrations, with the notes of notes.toml."""
    folder = demo.checkout / "data"
    folder.mkdir()
    schema.migrate(demo.checkout, "upgrade", demo.dev_url, python)
    with closing(sqlite3.connect(folder / "dev.db")) as db, db:
        db.executemany("INSERT INTO notes (title, body, created) VALUES (?, ?, ?)", _rows())


def _rows() -> Iterator[tuple[str, str, str]]:
    """(title, body, ISO time in UTC) of every note, oldest first."""
    table = tomllib.loads((DATA / "notes.toml").read_text(encoding="utf-8"))
    subjects = table["subjects"]
    texts = [
        [text.format(subject=subject, next=subjects[(place + 1) % len(subjects)]) for text in errand]
        for errand in table["errands"]
        for place, subject in enumerate(subjects)
    ]
    for place, (title, body) in enumerate(texts):
        yield title, body, (FIRST_NOTE + place * BETWEEN_NOTES).isoformat(timespec="microseconds")


def _first_commit(git: Git) -> None:
    git("checkout", "--quiet", "-B", "main")
    git("add", "-A")
    git("commit", "--quiet", "-m", "A notes service over SQLite, and what agentq shall make of it")
    git("push", "--quiet", "--set-upstream", "origin", "main")
