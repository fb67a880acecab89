"""`agentq init`: look at a project, propose the files agentq needs, write them after a yes.

Looking only reads; a plan is a value; writing creates files, or appends to .gitignore and AGENTS.md.
Invariant: no file a person wrote is overwritten, nothing is committed, and a second run changes nothing.
"""

import json
import platform
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from agentq import machine
from agentq.config import MACHINE_FILE, host_name
from agentq.core.sections import Machine
from agentq.core.spec import json_schema
from agentq.core.tomltext import dump
from agentq.errors import UserError
from agentq.flows.detect import Commands, Project, Trunk, commands, database, migrations, served, trunk
from agentq.store import files
from agentq.trunk.git import Git

PUSH_SECONDS = 600.0
QUEUE_TEXT = '{\n  "$schema": "./queue.schema.json",\n  "ready": [],\n  "in_progress": [],\n  "completed": []\n}\n'
IGNORED = (MACHINE_FILE, "agents/.queue.json.*")
BEGIN, END = "<!-- agentq -->", "<!-- /agentq -->"
BLOCK = f"""{BEGIN}
## agentq

Work here is cut into specs, which wait in `agents/queue.json` and land on `@BRANCH@` one commit each.

- Change the queue with `agentq add`, `edit`, `hold`, `release`, never by hand while agentq runs. A longer
  text for a spec goes into `agents/specs/<id>.md`.
- `agentq status`, `agentq next --dry-run` and `agentq why ID` only look.
- If `AGENTQ_SPEC` is set, you work on that one spec in a workspace of its own: change only what it declares,
  leave its tests and `agents/` alone, commit, and do not push. agentq proves the commit and lands it.
{END}
"""
_CONFIG = """\
# Policy of agentq for this project: committed, the same on every host. What counts for a landing is the
# version on the trunk. Every setting and its value: agentq config show --origin

[trunk]
@TRUNK@

# Run by a shell at the top of a workspace.
[commands]
@COMMANDS@

# Which agent works: claude, codex, gemini, opencode, aider, builtin (it needs a tier, below), or any command. More
# in docs/agents.md of agentq.
[agent]
@AGENT@
# command = ["my-agent", "--prompt", "{prompt_file}"]
# Variables it may see besides PATH, HOME and the like:
# env = ["MY_AGENT_HOME"]

# What may be spent: what is reached stops an agent at once, with its work saved. 0: no limit.
[budget]
# US dollars: all agents of a day (UTC), and one spec over all its attempts.
day_dollars = 0
spec_dollars = 0
# Tokens of one run of an agent, by type of spec, without what the model's cache holds.
tokens = { scan = 500000, implementation = 2000000, documentation = 500000 }

# Models, where one is not enough: buckets, tiers and routes. See docs/models.md of agentq.
# [bucket.anthropic]
# key_env = "ANTHROPIC_API_KEY"
# [tier.strong]
# bucket = "anthropic"
# model = "…"

@DATABASE@"""


@dataclass(frozen=True)
class Change:
    """One file, relative to the top of the checkout, with its whole new content; `note` says why it is kept."""

    path: str
    action: Literal["create", "append", "update", "keep"]
    data: bytes = b""
    note: str = ""


@dataclass(frozen=True)
class Plan:
    """Everything `init` will do. `hub`: the bare repository to make as `origin`, None when there is a remote."""

    root: Path
    trunk: Trunk
    commands: Commands
    database: str
    changes: tuple[Change, ...]
    hub: Path | None
    notes: tuple[str, ...]

    @property
    def pending(self) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.action != "keep")

    def to_json(self) -> dict[str, Any]:
        changes = [{"path": one.path, "action": one.action, "note": one.note} for one in self.changes]
        return {
            "root": str(self.root), "trunk": asdict(self.trunk), "commands": asdict(self.commands),
            "database": self.database, "changes": changes, "hub": self.hub and str(self.hub),
            "notes": list(self.notes),
        }  # fmt: skip


def make_hub(root: Path, hub: Path, branch: str) -> None:
    """Make a bare repository at `hub`, push the trunk there, then name it `origin`. A step that fails leaves
    no remote behind, so that the next run begins again. Raises UserError, GitError."""
    git = Git(root)
    if hub.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{hub} lies inside the checkout", "name a folder outside: --hub PATH")
    if hub.exists() and not hub.is_dir():
        raise UserError(f"{hub} is a file", "name another folder: --hub PATH")
    ref = f"refs/heads/{branch}"
    ours = f"{git('rev-parse', '--verify', ref).text} {ref}"
    if not hub.exists() or not any(hub.iterdir()):
        hub.parent.mkdir(parents=True, exist_ok=True)
        git("init", "--quiet", "--bare", "--template=", str(hub))
    elif not (hub / "HEAD").is_file() or not (hub / "objects").is_dir():
        raise UserError(f"{hub} exists and is not a bare repository", "name another folder: --hub PATH")
    elif Git(hub)("for-each-ref", "--format=%(objectname) %(refname)").text not in ("", ours):
        raise UserError(
            f"{hub} already holds other work", f"name another folder, or 'git remote add origin {hub}'"
        )
    Git(hub)("symbolic-ref", "HEAD", ref)
    git("push", "--quiet", "--no-verify", str(hub), f"{ref}:{ref}", timeout=PUSH_SECONDS)
    git("remote", "add", "origin", str(hub))
    git("fetch", "--quiet", "--no-write-fetch-head", "origin")


# ------------------------------------------------------------ the plan


@dataclass(frozen=True)
class Host:
    """This host, the limits computed for it, and the `.machine` that says so."""

    hardware: machine.Hardware
    proposal: machine.MachineProposal
    text: str

    @property
    def reason(self) -> str:
        """Why there are so many instances."""
        lines = self.text.splitlines()
        return next(line for line in lines if line.startswith("# Agents that may work")).partition(". ")[2]


def host(folder: Path, known: Machine | None = None) -> Host:
    """Look at this host. `folder`: where workspaces go; `known`: settings whose name, type and folder stay."""
    known = known or Machine()
    hardware = machine.detect(folder)
    proposal = machine.propose(hardware)
    kind = known.type or host_name(f"{sys.platform}-{platform.machine()}")
    name = known.name or host_name(platform.node())
    return Host(hardware, proposal, machine.render(proposal, name, kind, known.workspaces))


def plan(root: Path, workspaces: Path, env: Mapping[str, str], branch: str = "", hub: Path | None = None) -> Plan:
    """What `init` would do below `root`, the top of a checkout. `workspaces`: where they will go; `hub`: asked
    for by the person. Changes nothing. Raises UserError."""
    project, git = Project(root), Git(root)
    found = trunk(git, branch, env)
    if found.remote and hub is not None:
        url = git.ask("remote", "get-url", found.remote).text
        if (root / url).resolve() != hub.resolve():
            raise UserError(f"the repository already has the remote '{found.remote}' ({url})", "leave out --hub")
    told, (variable, url), (tool, push) = commands(project), database(project), migrations(project)
    provider = "sqlite" if url else ""
    if not url and (variable := served(project)):
        provider, url = "postgres", f"the URL in {variable}"
    texts = {
        "agents/config.toml": config_text(
            found,
            told,
            variable,
            url if provider == "sqlite" else "",
            provider,
            tool,
            push,
            next(iter(installed(env)), ""),
        ),
        "agents/queue.json": QUEUE_TEXT,
        "agents/queue.schema.json": schema_text(),
        MACHINE_FILE: "" if project.has(MACHINE_FILE) else host(workspaces).text,
    }
    changes = (
        *(_created(root, path, text.encode()) for path, text in texts.items()),
        _ignored(root),
        _block(root, BLOCK.replace("@BRANCH@", found.branch).encode()),
    )
    where = None if found.remote else hub or root.parent / f"{root.name}-hub.git"
    return Plan(
        root, found, told, url, changes, where, tuple(_notes(git, told, changes, next(iter(installed(env)), "")))
    )


AGENTS = ("claude", "codex", "gemini", "opencode", "aider")


def installed(env: Mapping[str, str]) -> list[str]:
    """The known agents on the PATH."""
    return [name for name in AGENTS if shutil.which(name, path=env.get("PATH"))]


def _notes(git: Git, told: Commands, changes: tuple[Change, ...], agent: str) -> list[str]:
    if changes[0].action == "keep":
        return []
    notes = []
    if not told.verify:
        notes.append("no test command was found: set [commands] test and verify in agents/config.toml")
    elif "{files}" not in told.test:
        notes.append("the test command takes no files: every test stage will run the whole suite")
    if not agent:
        notes.append(
            "choose an agent: none is on the PATH; set driver or command in [agent] of agents/config.toml"
        )
    if _ignores(git, "agents/queue.json"):
        notes.append("git ignores agents/: take the rule out of .gitignore, agentq needs these files committed")
    # What commands leave behind would count as an agent's uncommitted work. uv ignores its .venv itself.
    ran = " ".join(told.verify)
    left = {"__pycache__": "python" in ran, "node_modules": "node_modules" in told.keep, "target": "cargo" in ran}
    for folder in (name for name, is_left in left.items() if is_left):
        if not _ignores(git, f"{folder}/x"):
            notes.append(f"git does not ignore {folder}: add '{folder}/' to .gitignore before agents work")
    return notes


def _ignores(git: Git, path: str) -> bool:
    # check-ignore refuses to run with literal pathspecs.
    return git.ask("check-ignore", "--quiet", path, env={"GIT_LITERAL_PATHSPECS": "0"}).rc == 0


def config_text(
    found: Trunk, told: Commands, variable: str, url: str, provider: str = "sqlite", tool: str = "",
    push: str = "", agent: str = "",
) -> str:  # fmt: skip
    """A first agents/config.toml: what differs from the defaults, or matters. agent: one that is there."""
    remote = [f"remote = {dump(found.remote)}"] if found.remote not in ("", "origin") else []
    rows = [("Prepares a fresh workspace.", "setup", told.setup)] if told.setup else []
    about = "Runs a spec's own tests" + ("; {files} becomes their paths." if "{files}" in told.test else ".")
    lines = [
        part
        for doc, key, value in (*rows, (about, "test", told.test))
        for part in (f"# {doc}", f"{key} = {dump(value)}")
    ]
    lines += ["# All must pass in a clean checkout before a spec lands.", f"verify = {dump(told.verify)}"]
    if told.keep:
        lines += ["# Ignored paths kept in the clean checkout, to save time.", f"keep = {dump(told.keep)}"]
    base = _database_lines(variable, url, provider, tool, push)
    parts = {
        "@TRUNK@": "\n".join([*remote, f"branch = {dump(found.branch)}"]),
        "@COMMANDS@": "\n".join(lines),
        "@AGENT@": f"driver = {dump(agent)}" if agent else '# driver = "claude"',
        "@DATABASE@": "\n".join(base) + "\n"
        if base
        else "# No database was found. For SQLite: [database], provider, url\n",
    }
    return re.sub("|".join(parts), lambda match: parts[match[0]], _CONFIG)


def _database_lines(variable: str, url: str, provider: str, tool: str, push: str) -> list[str]:
    """[database] and [migrations]; none without a database."""
    if not (url or provider == "postgres"):
        return []
    lines = ["# Each stage gets a database branch of its own; see docs/databases.md of agentq.", "[database]"]
    lines.append(f"provider = {dump(provider)}")
    lines.append(
        f"url = {dump(url)}" if url else f"# Its URL is taken from {variable} in agentq's own environment."
    )
    if variable not in ("", "DATABASE_URL"):
        lines.append(f"env = {dump(variable)}")
    if tool:
        lines.append("# Brings a database to the definition of the schema, without migrations.")
        lines.append(f"push = {dump(push)}" if push else 'push = ""')
        if tool in ("alembic", "django"):
            lines.append("# A push that only creates tables begins with an empty database.")
            lines.append('start = "empty"')
        lines += ["", "# Migrations are generated at the landing, never by an agent.", "[migrations]"]
        lines.append(f"tool = {dump(tool)}")
    return lines


def _target(root: Path, path: str) -> Path:
    """Where a file really is. Raises UserError when it lies outside, or below something that is no folder."""
    target = (root / path).resolve()
    if not target.is_relative_to(root.resolve()):
        raise UserError(f"{path} leads out of the repository", "replace the symbolic link by a file or folder")
    if target.parent.exists() and not target.parent.is_dir():
        raise UserError(f"{target.parent} is a file", "agentq keeps its files in a folder of that name")
    return target


def _created(root: Path, path: str, data: bytes) -> Change:
    target = _target(root, path)
    if not target.exists():
        return Change(path, "create", data)
    differs = path.endswith(".schema.json") and target.is_file() and target.read_bytes() != data
    return Change(
        path,
        "keep",
        note="'agentq schema --write agents/queue.schema.json' brings it up to date" if differs else "",
    )


def _ignored(root: Path) -> Change:
    target = _target(root, ".gitignore")
    before = target.read_bytes() if target.exists() else b""
    known = {line.strip().lstrip(b"/") for line in before.splitlines()}
    missing = [rule for rule in IGNORED if rule.encode() not in known]
    if not missing:
        return Change(".gitignore", "keep")
    added = "".join(f"{line}\n" for line in ("# agentq", *missing)).encode()
    return Change(".gitignore", "append" if before else "create", _joined(before, added))


def _block(root: Path, block: bytes) -> Change:
    """AGENTS.md with our block: appended, or brought up to date between its markers."""
    target = _target(root, "AGENTS.md")
    before = target.read_bytes() if target.exists() else b""
    if b"\r\n" in before:
        block = block.replace(b"\n", b"\r\n")
    head, begin, rest = before.partition(BEGIN.encode())
    _, end, tail = rest.partition(END.encode())
    if begin and not end:
        return Change("AGENTS.md", "keep", note=f"it has '{BEGIN}' without '{END}'")
    if begin:
        after = head + block.rstrip() + tail
        return Change("AGENTS.md", "keep") if after == before else Change("AGENTS.md", "update", after)
    return Change("AGENTS.md", "append" if before else "create", _joined(before, block))


def _joined(before: bytes, added: bytes) -> bytes:
    line = b"\r\n" if b"\r\n" in before else b"\n"
    if line == b"\r\n" and b"\r\n" not in added:
        added = added.replace(b"\n", b"\r\n")
    gap = line if before.endswith(b"\n") else line * 2
    return before + (gap if before else b"") + added


def apply(made: Plan) -> list[str]:
    """Write the plan's files; returns their paths. A file that appeared meanwhile is left alone."""
    written = []
    for change in made.pending:
        target = _target(made.root, change.path)
        if change.action == "create" and target.exists():
            continue
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            files.replace(target, change.data)
        except OSError as error:
            raise UserError(
                f"{change.path} cannot be written: {error.strerror}", "then run 'agentq init' again"
            ) from None
        written.append(change.path)
    return written


def write_machine(root: Path, text: str) -> None:
    """Write `.machine`. Raises UserError."""
    try:
        files.replace(_target(root, MACHINE_FILE), text.encode())
    except OSError as error:
        raise UserError(f"{MACHINE_FILE} cannot be written: {error.strerror}") from None


def schema_text() -> str:
    """The JSON Schema of the queue as it is published."""
    return json.dumps(json_schema(), indent=2) + "\n"


def write_schema(path: Path) -> None:
    """Write the schema to `path`, replacing what is there. Raises UserError."""
    try:
        files.replace(path, schema_text().encode())
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}", "its folder must exist") from None
