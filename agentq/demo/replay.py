"""The agent of the demo: replays prepared changes in the workspace it is started in. No model is asked.

    python -I replay.py [--pace FACTOR] [--data FOLDER] PROMPT_FILE

Environment: AGENTQ_SPEC, AGENTQ_STAGE (test | implement), AGENTQ_RUN; DATABASE_URL (sqlite:///…) may be
missing. Exit status: 0 done, 1 a prepared change does not fit the workspace, 2 wrong usage.

Stands alone (standard library only): it runs isolated from the package it is shipped in. What was applied
already is passed over, so it can run again over the files of an attempt that was interrupted or failed.
"""

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parent / "data"
SUFFIX = ".txt"  # prepared files end in it, so that no tool takes them for sources of agentq
STAGES = ("test", "implement")
FAILED = "Previous attempt failed:"
NAME, EMAIL = "Replay Agent", "replay@example.invalid"
AUTHOR = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", NAME), ("EMAIL", EMAIL))
}
SHORTEST, LONGEST = 0.8, 2.0  # seconds a stage takes at pace 1
SECONDS_PER_HOUR = 0.4  # of the spec's estimate, within these bounds
DEFAULT_HOURS = 3.0


class Unfit(Exception):
    """A prepared change cannot be applied; the message says which and why."""


@dataclass(frozen=True)
class Change:
    """What one stage of a spec does. `steps` are the tables of change.toml in their order, files first."""

    folder: Path
    message: str
    reads: list[str]
    steps: list[dict[str, Any]]
    hours: float

    @property
    def lines(self) -> int:
        """How many lines `work` prints; each is a pause."""
        return len(self.reads) + len(self.steps) + 2


def load(data: Path, spec: str, stage: str, *, retry: bool) -> Change:
    """The prepared change of a stage; `retry`: an attempt has failed before. Unfit if there is none."""
    folder = data / "changes" / spec
    if not spec or "/" in spec or not (folder / "change.toml").is_file():
        raise Unfit(f"no changes are prepared for the spec '{spec}'")
    table = tomllib.loads((folder / "change.toml").read_text(encoding="utf-8"))
    first = stage == "implement" and not retry and "first_attempt" in table
    part = table.get("first_attempt" if first else stage)
    if part is None:
        raise Unfit(f"no changes are prepared for the stage '{stage}' of '{spec}'")
    files = [{"file": one, "from": one} if isinstance(one, str) else one for one in part.get("new", [])]
    message = f"{spec}: {'tests' if stage == 'test' else table['message']}"
    return Change(folder, message, table["reads"], [*files, *part.get("edit", [])], estimate(data, spec))


def estimate(data: Path, spec: str) -> float:
    """Hours, from the prepared queue."""
    queue = json.loads((data / "project" / "agents" / f"queue.json{SUFFIX}").read_text(encoding="utf-8"))
    hours = (entry.get("estimate_hours", DEFAULT_HOURS) for entry in queue["ready"] if entry["id"] == spec)
    return float(next(hours, DEFAULT_HOURS))


def apply(change: Change, step: dict[str, Any], workspace: Path) -> str:
    """Carry out one step; returns what was done, in words. Raises Unfit."""
    name = step["file"]
    target = workspace / name
    if "from" in step:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((change.folder / (step["from"] + SUFFIX)).read_bytes())
        return f"writing {name}"
    if not target.is_file():
        raise Unfit(f"{name} is missing")
    old = target.read_text(encoding="utf-8")
    new = inserted(old, step, name) if "after" in step else replaced(old, step, name)
    if new == old:
        return f"editing {name}: is as it should be"
    target.write_text(new, encoding="utf-8")
    return f"editing {name}"


def inserted(old: str, step: dict[str, Any], name: str) -> str:
    """`old` with the text of the step behind its anchor, a whole line that must stand there once."""
    anchor, text = step["after"] + "\n", step["insert"]
    lines = old.splitlines(keepends=True)
    places = [index for index, line in enumerate(lines) if line == anchor]
    if len(places) != 1:
        raise Unfit(f"{name}: the line '{step['after'].strip()}' stands there {len(places)} times, not once")
    head, tail = "".join(lines[: places[0] + 1]), "".join(lines[places[0] + 1 :])
    return old if tail.startswith(text) else head + text + tail


def replaced(old: str, step: dict[str, Any], name: str) -> str:
    """`old` with an exact text, that must stand there once, replaced."""
    text, by = step["replace"], step["by"]
    if by in old:
        return old
    if old.count(text) != 1:
        first = text.strip().splitlines()[0]
        raise Unfit(f"{name}: the text beginning '{first}' stands there {old.count(text)} times, not once")
    return old.replace(text, by)


def look_at_database(url: str, mark: str) -> str:
    """Count the notes and add one, as an agent that tries things out would. `mark` is its title."""
    if not url:
        return "no database branch was given"
    path = url.partition(":///")[2]
    if not Path(path).is_file():
        raise Unfit("DATABASE_URL does not name an SQLite file that exists")
    with closing(sqlite3.connect(path, timeout=10)) as db, db:
        before = db.execute("SELECT count(*) FROM notes").fetchone()[0]
        db.execute(
            "INSERT INTO notes (title, body, created) VALUES (?, 'scratch', '2000-01-01T00:00:00')", (mark,)
        )
        after = db.execute("SELECT count(*) FROM notes").fetchone()[0]
    return f"database branch {Path(path).name}: {before} notes, {after} with a scratch note of mine"


def commit(workspace: Path, message: str) -> str:
    """Commit everything; returns what git says of it in one line. Raises Unfit with git's words."""
    git(workspace, "add", "-A")
    if not git(workspace, "status", "--porcelain"):
        return "nothing to commit: everything is in place already"
    git(workspace, "-c", "commit.gpgSign=false", "commit", "--quiet", "-m", message)
    return "committed " + git(workspace, "log", "-1", "--format=%h %s")


def git(workspace: Path, *args: str) -> str:
    # Variables, not -c user.name: they win over whatever the surroundings say of the author.
    env = {**os.environ, **AUTHOR}
    done = subprocess.run(["git", *args], cwd=workspace, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unfit(f"git {' '.join(args)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout.strip()


def work(change: Change, workspace: Path, url: str, mark: str) -> Iterator[str]:
    """Do it step by step, with a line about each; raises Unfit where it cannot go on."""
    yield look_at_database(url, mark)
    for name in change.reads:
        if not (workspace / name).is_file():
            raise Unfit(f"{name} is missing")
        lines = len((workspace / name).read_text(encoding="utf-8").splitlines())
        yield f"reading {name} ({lines} lines)"
    for step in change.steps:
        yield apply(change, step, workspace)
    yield commit(workspace, change.message)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="replay", description="Replays prepared changes.")
    parser.add_argument("prompt_file", type=Path)
    parser.add_argument("--pace", type=float, default=1.0, help="factor on all pauses; 0: none")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the prepared changes")
    args = parser.parse_args(argv)
    spec, stage = os.environ.get("AGENTQ_SPEC", ""), os.environ.get("AGENTQ_STAGE", "")
    say("replay agent: this is a replay of prepared changes, not a model")
    if stage not in STAGES:
        print(f"replay: AGENTQ_STAGE is '{stage}', not one of {', '.join(STAGES)}", file=sys.stderr)
        return 2
    try:
        prompt = args.prompt_file.read_text(encoding="utf-8")
        problems = [line[len(FAILED) :].strip() for line in prompt.splitlines() if line.startswith(FAILED)]
        change = load(args.data, spec, stage, retry=bool(problems))
        say(f"spec {spec}, stage {stage}" + (f"; the last attempt failed: {problems[0]}" if problems else ""))
        pause = args.pace * min(max(change.hours * SECONDS_PER_HOUR, SHORTEST), LONGEST) / change.lines
        mark = f"scratch note of {spec}, {stage}, run {os.environ.get('AGENTQ_RUN', '?')}"
        for line in work(change, Path.cwd(), os.environ.get("DATABASE_URL", ""), mark):
            say(line)
            time.sleep(pause)
    except (Unfit, OSError, sqlite3.Error) as error:
        print(f"replay: {error}", file=sys.stderr)
        return 1
    return 0


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
