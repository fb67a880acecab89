"""What a project says about itself: its trunk, its commands, its database.

Invariant: only reads. Whatever cannot be read or understood counts as absent, so that `agentq init` never fails
on a project's own files.
"""

import json
import re
import shutil
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentq.databases.sqlite_seal import locate
from agentq.errors import AgentqError, UserError
from agentq.trunk.git import Git, network_config

Which = Callable[[str], str | None]
MAX_BYTES = 1_000_000
ANSWER_SECONDS = 15.0
ENV_FILES = (".env", ".env.local", ".env.development", ".env.example", ".env.sample")


@dataclass(frozen=True)
class Tools:
    """What a project's files say, as shell commands. `test` runs single files where the runner takes them;
    `source` names the file that told."""

    source: str = ""
    setup: str = ""
    test: str = ""
    suite: str = ""
    lint: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()


@dataclass(frozen=True)
class Commands:
    """The section [commands] of a new config.toml. `sources`: the files it was read from."""

    setup: str = ""
    test: str = ""
    verify: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trunk:
    """`remote` is '' when the repository has none; `why` says what the branch was taken from; `current` is the
    branch checked out, '' when HEAD is detached."""

    remote: str
    branch: str
    why: str
    current: str = ""


class Project:
    """Reads files at the top of a checkout; what cannot be read counts as absent."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def has(self, *names: str) -> str:
        """The first of `names` that exists, or ''."""
        return next((name for name in names if (self.root / name).exists()), "")

    def text(self, *names: str) -> str:
        """The files one after another."""
        parts = []
        for name in names:
            with suppress(OSError, ValueError):
                path = self.root / name
                if path.is_file() and path.stat().st_size <= MAX_BYTES:
                    parts.append(path.read_text("utf-8-sig"))
        return "\n".join(parts)

    def table(self, name: str) -> dict[str, Any]:
        """A TOML or JSON file; {} when it is not one."""
        data: Any = {}
        with suppress(ValueError, RecursionError):
            data = (
                json.loads(self.text(name) or "{}") if name.endswith(".json") else tomllib.loads(self.text(name))
            )
        return data if isinstance(data, dict) else {}

    def names(self, *patterns: str) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for glob in patterns for path in self.root.glob(glob))


# ------------------------------------------------------------ commands


def commands(project: Project, which: Which = shutil.which) -> Commands:
    """Setup, test and verify commands of all toolchains found; the first one with tests runs a spec's tests."""
    found = [
        tools for tools in (_python(project, which), _node(project), _cargo(project), _go(project)) if tools.source
    ]
    spare = [_make(project), _tox(project)]
    testers = [tools for tools in found if tools.suite] or [tools for tools in spare if tools.suite][:1]
    linters = [tools for tools in found if tools.lint] or [tools for tools in spare if tools.lint][:1]
    used = [tools for tools in (*found, *spare) if tools.setup or tools in testers or tools in linters]
    return Commands(
        setup=" && ".join(tools.setup for tools in used if tools.setup),
        test=next((tools.test for tools in testers), ""),
        verify=(*(lint for tools in linters for lint in tools.lint), *(tools.suite for tools in testers)),
        keep=tuple(path for tools in used for path in tools.keep),
        sources=tuple(tools.source for tools in used),
    )


def _python(project: Project, which: Which) -> Tools:
    pyproject = project.text("pyproject.toml")
    tests = project.names("test_*.py", "tests/**/test*.py", "test/**/test*.py")[:50]
    source = project.has("pyproject.toml", "setup.py", "setup.cfg", "requirements.txt", "pytest.ini")
    if not source and not tests:
        return Tools()
    setup, run = "", "PYTHONPATH=src " if project.names("src/*/__init__.py") else ""
    if project.has("uv.lock"):
        setup, run = "uv sync" + _extra(project), "uv run "
    elif project.has("poetry.lock"):
        setup, run = "poetry install", "poetry run "
    python = run + ("python" if which("python") or setup else "python3")
    declared = "\n".join((pyproject, project.text(*project.names("*requirements*.txt", "requirements/*.txt"))))
    settings = project.text("setup.cfg", "tox.ini")
    lint = (
        [f"{python} -m ruff check ."]
        if "[tool.ruff" in pyproject or project.has("ruff.toml", ".ruff.toml")
        else []
    )
    if "[flake8]" in settings or project.has(".flake8"):
        lint.append(f"{python} -m flake8")
    if re.search(r"^\[tool\.mypy\](?:\n(?!\[).*)*?\n(?:files|packages)\s*=", pyproject, re.MULTILINE):
        lint.append(f"{python} -m mypy")
    test = suite = ""
    pytest = re.search(r"^[^#\n]*\bpytest\b", declared, re.MULTILINE) or "[tool:pytest]" in settings
    if pytest or "[pytest]" in settings or project.has("pytest.ini", "conftest.py", "tests/conftest.py"):
        test, suite = f"{python} -m pytest -q {{files}}", f"{python} -m pytest -q"
    elif "unittest" in project.text(*tests):
        where = "" if project.has("tests/__init__.py") or not project.has("tests") else " -s tests"
        test, suite = f"{python} -m unittest -q {{files}}", f"{python} -m unittest discover -q{where}"
    elif tests and not project.has("tox.ini"):
        test, suite = f"{python} -m pytest -q {{files}}", f"{python} -m pytest -q"
    keep = (".venv",) if setup.startswith("uv") else ()
    return Tools(source or tests[0], setup, test, suite, tuple(lint), keep)


def _extra(project: Project) -> str:
    """The option for the optional dependencies that bring pytest, where an extra does."""
    table = project.table("pyproject.toml").get("project")
    extras = table.get("optional-dependencies") if isinstance(table, dict) else None
    for name, wanted in (extras if isinstance(extras, dict) else {}).items():
        if isinstance(wanted, list) and any(re.match(r"pytest\b", str(one)) for one in wanted):
            return f" --extra {name}"
    return ""


# Lock file, what installs it, what runs a script, what stands between a script and its arguments.
_NODE = (
    ("pnpm-lock.yaml", "pnpm install --frozen-lockfile", "pnpm run", " "),
    ("yarn.lock", "yarn install --frozen-lockfile", "yarn run", " "),
    ("bun.lock", "bun install --frozen-lockfile", "bun run", " "),
    ("bun.lockb", "bun install --frozen-lockfile", "bun run", " "),
    ("package-lock.json", "npm ci", "npm run", " -- "),
    ("npm-shrinkwrap.json", "npm ci", "npm run", " -- "),
    ("package.json", "npm install", "npm run", " -- "),
)
_TAKES_FILES = re.compile(r"(?:[A-Z_]+=\S+ |cross-env |npx )*(?:vitest|jest|mocha|ava|tap|node --test)\b[^&|;]*")


def _node(project: Project) -> Tools:
    package = project.table("package.json")
    if not package:
        return Tools()
    raw = package.get("scripts")
    scripts: Mapping[str, Any] = raw if isinstance(raw, dict) else {}
    lock, setup, run, between = next(row for row in _NODE if project.has(row[0]))
    if lock == "yarn.lock" and project.has(".yarnrc.yml"):
        setup = "yarn install --immutable"
    if lock == "package.json" and not (package.get("dependencies") or package.get("devDependencies")):
        setup = ""
    script = str(scripts.get("test") or "")
    # npm init writes a test script that only fails.
    suite = f"{run} test" if script and "no test specified" not in script else ""
    test = f"{suite}{between}{{files}}" if suite and _TAKES_FILES.fullmatch(script) else suite
    lint = (f"{run} lint",) if scripts.get("lint") else ()
    return Tools("package.json", setup, test, suite, lint, ("node_modules",) if setup else ())


def _cargo(project: Project) -> Tools:
    return Tools("Cargo.toml", "", "cargo test", "cargo test") if project.has("Cargo.toml") else Tools()


def _go(project: Project) -> Tools:
    if not project.has("go.mod"):
        return Tools()
    return Tools("go.mod", "go mod download", "go test ./...", "go test ./...", ("go vet ./...",))


def _make(project: Project) -> Tools:
    name = project.has("GNUmakefile", "Makefile", "makefile")
    targets = set(re.findall(r"^([\w.-]+)[ \t]*::?(?!=)", project.text(name), re.MULTILINE)) if name else set()
    test, lint = ("make test" if "test" in targets else ""), (("make lint",) if "lint" in targets else ())
    return Tools(name if test or lint else "", "", test, test, lint)


def _tox(project: Project) -> Tools:
    if not project.has("tox.ini"):
        return Tools()
    files = " -- {files}" if "{posargs" in project.text("tox.ini") else ""
    return Tools("tox.ini", "", f"tox -q{files}", "tox -q")


def database(project: Project) -> tuple[str, str]:
    """(variable, url) of an SQLite database named in an .env file, paths inside the checkout made relative;
    ('', '') when there is none."""
    line = re.compile(
        r"^[ \t]*(?:export[ \t]+)?([A-Za-z_]\w*)[ \t]*=[ \t]*([\"']?)(sqlite3?(?:\+\w+)?:[^\"'\s]+)\2",
        re.MULTILINE,
    )
    for name in ENV_FILES:
        for variable, _, url in sorted(line.findall(project.text(name)), key=lambda row: row[0] != "DATABASE_URL"):
            with suppress(AgentqError):
                place = locate(url, project.root)
                inside = place.path.is_relative_to(project.root)
                return variable, place.at(place.path.relative_to(project.root)) if inside else url
    return "", ""


def served(project: Project) -> str:
    """The variable of an .env file that names a PostgreSQL database, or ''. Its URL is a secret and not read."""
    line = re.compile(
        r"^[ \t]*(?:export[ \t]+)?([A-Za-z_]\w*)[ \t]*=[ \t]*[\"']?postgres(?:ql)?(?:\+\w+)?://", re.MULTILINE
    )
    found = line.findall(project.text(*ENV_FILES))
    return "DATABASE_URL" if "DATABASE_URL" in found else next(iter(found), "")


def migrations(project: Project) -> tuple[str, str]:
    """(tool, its schema push) of [migrations]; ('', '') where none is known by its files."""
    known = (
        (project.has("alembic.ini"), "alembic", ""),
        (project.has("manage.py") and project.names("*/migrations/__init__.py"), "django", ""),
        (project.names("drizzle.config.*"), "drizzle", "npx drizzle-kit push --force"),
        (project.has("prisma/schema.prisma"), "prisma", "npx prisma db push"),
    )
    return next(((tool, push) for found, tool, push in known if found), ("", ""))


# ------------------------------------------------------------ trunk


def trunk(git: Git, wanted: str, env: Mapping[str, str]) -> Trunk:
    """The remote and the branch to land on; `wanted`: a branch the person named. Raises UserError."""
    if git.ask("rev-parse", "--verify", "--quiet", "HEAD^{commit}").rc:
        raise UserError(
            "the repository has no commit yet", "git add -A && git commit -m 'First commit', then 'agentq init'"
        )
    remotes = git.ask("remote").text.split()
    current = git.ask("symbolic-ref", "--quiet", "--short", "HEAD").text
    tracked = git.ask("config", f"branch.{current}.remote").text if current else ""
    remote = next((name for name in ("origin", tracked, *remotes) if name in remotes), "")
    prefix = f"refs/remotes/{remote}/" if remote else "refs/heads/"

    def exists(branch: str) -> bool:
        return any(
            not git.ask("rev-parse", "--verify", "--quiet", where + branch).rc for where in (prefix, "refs/heads/")
        )

    if wanted:
        if not exists(wanted):
            raise UserError(f"there is no branch '{wanted}'", "'git branch --all' lists them")
        return Trunk(remote, wanted, "as asked", current)
    if remote and (head := _remote_head(git, remote, env)):
        return Trunk(remote, head, f"the default branch of '{remote}'", current)
    for branch in filter(None, (current, "main", "master")):
        if exists(branch):
            return Trunk(remote, branch, "the current branch" if branch == current else "by its name", current)
    raise UserError(
        "HEAD is detached, and there is no branch main or master", "name the trunk: agentq init --branch NAME"
    )


def _remote_head(git: Git, remote: str, env: Mapping[str, str]) -> str:
    """The remote's default branch: as this checkout remembers it, else as the remote says."""
    prefix = f"refs/remotes/{remote}/"
    known = git.ask("symbolic-ref", "--quiet", prefix + "HEAD").text
    if known.startswith(prefix) and not git.ask("rev-parse", "--verify", "--quiet", known).rc:
        return known.removeprefix(prefix)
    network = network_config(git.directory, env)
    said = git.ask("ls-remote", "--symref", remote, "HEAD", timeout=ANSWER_SECONDS, env=network).text
    found = re.match(r"ref: refs/heads/(\S+)\tHEAD", said)
    return found[1] if found else ""
