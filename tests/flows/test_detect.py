"""What real project layouts and real repositories say about themselves."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from agentq.errors import UserError
from agentq.flows import detect
from agentq.flows.detect import Commands, Project
from agentq.trunk.git import Git

Layout = Mapping[str, str]


def git(root: Path, *args: str) -> str:
    done = subprocess.run(["git", *args], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def write(root: Path, layout: Layout) -> None:
    for name, text in layout.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def repository(root: Path, layout: Layout | None = None, branch: str = "main") -> Path:
    root.mkdir(parents=True)
    git(root, "init", "-q", "-b", branch)
    write(root, layout or {"README": "hello\n"})
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")
    return root


def cloned(tmp_path: Path, branch: str = "main") -> Path:
    source = repository(tmp_path / "source", branch=branch)
    git(tmp_path, "clone", "-q", "--bare", str(source), "hub.git")
    git(tmp_path, "clone", "-q", "hub.git", "checkout")
    return tmp_path / "checkout"


def everywhere(name: str) -> str | None:
    return f"/usr/bin/{name}"


def without_python(name: str) -> str | None:
    return None if name == "python" else f"/usr/bin/{name}"


TEST_FILE = {"tests/test_one.py": "def test_one():\n    pass\n"}
VITEST = '{"scripts": {"test": "vitest run", "lint": "eslint ."}, "devDependencies": {"vitest": "1"}}'
PYTEST = "python -m pytest -q"
LAYOUTS: dict[str, tuple[Layout, Commands]] = {
    "pytest in pyproject": (
        {"pyproject.toml": '[project]\nname = "x"\n[tool.pytest.ini_options]\n[tool.ruff]\n'},
        Commands("", f"{PYTEST} {{files}}", ("python -m ruff check .", PYTEST), (), ("pyproject.toml",)),
    ),
    "pytest as a requirement, mypy with files": (
        {"requirements-dev.txt": "pytest>=8\n", "pyproject.toml": '[tool.mypy]\nstrict = true\nfiles = ["x"]\n'},
        Commands("", f"{PYTEST} {{files}}", ("python -m mypy", PYTEST), (), ("pyproject.toml",)),
    ),
    "mypy without files is not run": (
        {
            "pyproject.toml": '[tool.mypy]\nstrict = true\n[tool.other]\nfiles = ["x"]\n',
            "pytest.ini": "[pytest]\n",
        },
        Commands("", f"{PYTEST} {{files}}", (PYTEST,), (), ("pyproject.toml",)),
    ),
    "a commented requirement does not count": (
        {"requirements.txt": "# pytest\nflask\n"},
        Commands(),
    ),
    "flake8 in setup.cfg": (
        {"setup.cfg": "[flake8]\n[tool:pytest]\n"},
        Commands("", f"{PYTEST} {{files}}", ("python -m flake8", PYTEST), (), ("setup.cfg",)),
    ),
    "plain test functions mean pytest": (
        TEST_FILE,
        Commands("", f"{PYTEST} {{files}}", (PYTEST,), (), ("tests/test_one.py",)),
    ),
    "src layout tests the workspace, not what is installed": (
        {"pyproject.toml": "[tool.pytest.ini_options]\n", "src/pack/__init__.py": ""},
        Commands("", f"PYTHONPATH=src {PYTEST} {{files}}", (f"PYTHONPATH=src {PYTEST}",), (), ("pyproject.toml",)),
    ),
    "unittest": (
        {"setup.py": "", "tests/test_a.py": "import unittest\n"},
        Commands(
            "",
            "python -m unittest -q {files}",
            ("python -m unittest discover -q -s tests",),
            (),
            ("setup.py",),
        ),
    ),
    "unittest in a package": (
        {"tests/__init__.py": "", "tests/test_a.py": "from unittest import TestCase\n"},
        Commands(
            "", "python -m unittest -q {files}", ("python -m unittest discover -q",), (), ("tests/test_a.py",)
        ),
    ),
    "uv with an extra": (
        {
            "uv.lock": "",
            "pyproject.toml": '[project]\nname = "x"\n[project.optional-dependencies]\ndev = ["pytest>=8"]\n',
        },
        Commands(
            "uv sync --extra dev",
            f"uv run {PYTEST} {{files}}",
            (f"uv run {PYTEST}",),
            (".venv",),
            ("pyproject.toml",),
        ),
    ),
    "poetry": (
        {"poetry.lock": "", "pyproject.toml": "[tool.poetry]\n[tool.pytest.ini_options]\n"},
        Commands(
            "poetry install", f"poetry run {PYTEST} {{files}}", (f"poetry run {PYTEST}",), (), ("pyproject.toml",)
        ),
    ),
    "npm": (
        {"package.json": VITEST, "package-lock.json": "{}"},
        Commands(
            "npm ci",
            "npm run test -- {files}",
            ("npm run lint", "npm run test"),
            ("node_modules",),
            ("package.json",),
        ),
    ),
    "pnpm": (
        {"package.json": VITEST, "pnpm-lock.yaml": ""},
        Commands(
            "pnpm install --frozen-lockfile",
            "pnpm run test {files}",
            ("pnpm run lint", "pnpm run test"),
            ("node_modules",),
            ("package.json",),
        ),
    ),
    "yarn 4": (
        {"package.json": '{"scripts": {"test": "jest"}}', "yarn.lock": "", ".yarnrc.yml": ""},
        Commands(
            "yarn install --immutable",
            "yarn run test {files}",
            ("yarn run test",),
            ("node_modules",),
            ("package.json",),
        ),
    ),
    "a chained npm script takes no files": (
        {"package.json": '{"scripts": {"test": "jest && node other.js"}}'},
        Commands("", "npm run test", ("npm run test",), (), ("package.json",)),
    ),
    "npm's placeholder is no test": (
        {"package.json": '{"scripts": {"test": "echo \\"Error: no test specified\\" && exit 1"}}'},
        Commands(),
    ),
    "package.json that is no JSON": ({"package.json": "{"}, Commands()),
    "pyproject that is no TOML": (
        {"pyproject.toml": "[[[", "uv.lock": ""},
        Commands("uv sync", "", (), (".venv",), ("pyproject.toml",)),
    ),
    "cargo": ({"Cargo.toml": "[package]\n"}, Commands("", "cargo test", ("cargo test",), (), ("Cargo.toml",))),
    "go": (
        {"go.mod": "module x\n"},
        Commands("go mod download", "go test ./...", ("go vet ./...", "go test ./..."), (), ("go.mod",)),
    ),
    "make": (
        {"Makefile": "CC := gcc\ntest: build\n\ttrue\nlint:\n\ttrue\n"},
        Commands("", "make test", ("make lint", "make test"), (), ("Makefile",)),
    ),
    "a make variable is no target": ({"Makefile": "test := 1\nlint = 2\n"}, Commands()),
    "make lints what pytest tests": (
        {"pyproject.toml": "[tool.pytest.ini_options]\n", "Makefile": "lint:\n\ttrue\ntest:\n\ttrue\n"},
        Commands("", f"{PYTEST} {{files}}", ("make lint", PYTEST), (), ("pyproject.toml", "Makefile")),
    ),
    "tox": (
        {"tox.ini": "[testenv]\ncommands = nose {posargs}\n", "Makefile": "lint:\n\ttrue\n"},
        Commands("", "tox -q -- {files}", ("make lint", "tox -q"), (), ("Makefile", "tox.ini")),
    ),
    "tox without posargs": ({"tox.ini": "[testenv]\n"}, Commands("", "tox -q", ("tox -q",), (), ("tox.ini",))),
    "two languages": (
        {"pyproject.toml": "[tool.pytest.ini_options]\n", "package.json": VITEST, "package-lock.json": "{}"},
        Commands(
            "npm ci",
            f"{PYTEST} {{files}}",
            ("npm run lint", PYTEST, "npm run test"),
            ("node_modules",),
            ("pyproject.toml", "package.json"),
        ),
    ),
    "nothing": ({"README": ""}, Commands()),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_commands_of_a_layout(tmp_path: Path, name: str) -> None:
    layout, expected = LAYOUTS[name]
    write(tmp_path, layout)
    assert detect.commands(Project(tmp_path), everywhere) == expected


def test_python3_where_there_is_no_python(tmp_path: Path) -> None:
    write(tmp_path, TEST_FILE)
    assert detect.commands(Project(tmp_path), without_python).test == "python3 -m pytest -q {files}"


def test_detected_pytest_command_runs_the_named_file(tmp_path: Path) -> None:
    write(tmp_path, {**TEST_FILE, "tests/test_two.py": "def test_two():\n    assert False\n"})
    told = detect.commands(Project(tmp_path), everywhere)
    command = told.test.replace("python", sys.executable, 1).replace("{files}", "tests/test_one.py")
    assert subprocess.run(command, shell=True, cwd=tmp_path, check=False, capture_output=True).returncode == 0
    suite = told.verify[-1].replace("python", sys.executable, 1)
    assert subprocess.run(suite, shell=True, cwd=tmp_path, check=False, capture_output=True).returncode == 1


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ({".env": "DATABASE_URL=sqlite:///data/dev.db\n"}, ("DATABASE_URL", "sqlite:///data/dev.db")),
        ({".env.example": "export DATABASE_URL='sqlite:///./dev.db'\n"}, ("DATABASE_URL", "sqlite:///dev.db")),
        ({".env": "A_URL=sqlite:///a.db\nDATABASE_URL=sqlite:///b.db"}, ("DATABASE_URL", "sqlite:///b.db")),
        ({".env": "APP_DB=sqlite:///a.db # dev\n"}, ("APP_DB", "sqlite:///a.db")),
        ({".env": "DATABASE_URL=sqlite://:memory:\n", ".env.example": ""}, ("", "")),
        ({".env": "DATABASE_URL=sqlite:///:memory:\n"}, ("", "")),
        ({".env": "# DATABASE_URL=sqlite:///a.db\nDATABASE_URL=postgres://u:p@h/x\n"}, ("", "")),
        ({".env": "DATABASE_URL=sqlite:////elsewhere/dev.db\n"}, ("DATABASE_URL", "sqlite:////elsewhere/dev.db")),
        ({}, ("", "")),
    ],
)
def test_database_of_an_env_file(tmp_path: Path, layout: Layout, expected: tuple[str, str]) -> None:
    write(tmp_path, layout)
    assert detect.database(Project(tmp_path)) == expected


def test_database_inside_the_checkout_becomes_relative(tmp_path: Path) -> None:
    write(tmp_path, {".env": f"DATABASE_URL=sqlite:///{tmp_path}/data/dev.db\n"})
    assert detect.database(Project(tmp_path)) == ("DATABASE_URL", "sqlite:///data/dev.db")


# ------------------------------------------------------------ trunk


def found(root: Path, wanted: str = "") -> tuple[str, str]:
    trunk = detect.trunk(Git(root), wanted, os.environ)
    return trunk.remote, trunk.branch


def test_trunk_is_the_default_branch_of_the_remote(tmp_path: Path) -> None:
    root = cloned(tmp_path, "develop")
    git(root, "switch", "-q", "-c", "feature")
    assert found(root) == ("origin", "develop")


def test_trunk_is_asked_of_a_remote_that_was_added_by_hand(tmp_path: Path) -> None:
    root = cloned(tmp_path, "develop")
    git(root, "remote", "set-head", "origin", "--delete")
    git(root, "switch", "-q", "-c", "feature")
    assert found(root) == ("origin", "develop")


def test_trunk_without_a_remote_is_the_current_branch(tmp_path: Path) -> None:
    assert found(repository(tmp_path / "x", branch="stable")) == ("", "stable")


def test_trunk_of_a_remote_that_is_not_called_origin(tmp_path: Path) -> None:
    root = cloned(tmp_path)
    git(root, "remote", "rename", "origin", "upstream")
    assert found(root) == ("upstream", "main")


def test_trunk_of_a_remote_that_does_not_answer(tmp_path: Path) -> None:
    root = repository(tmp_path / "x")
    git(root, "remote", "add", "origin", str(tmp_path / "gone.git"))
    assert found(root) == ("origin", "main")


def test_trunk_on_a_detached_head(tmp_path: Path) -> None:
    root = repository(tmp_path / "x", branch="master")
    git(root, "checkout", "-q", "--detach")
    assert found(root) == ("", "master")
    git(root, "branch", "-q", "-m", "master", "other")
    with pytest.raises(UserError) as told:
        found(root)
    assert "detached" in told.value.message and "--branch" in told.value.hint
    assert found(root, "other") == ("", "other")


def test_a_branch_that_was_named_must_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no branch 'nope'"):
        found(repository(tmp_path / "x"), "nope")


def test_a_repository_without_a_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    with pytest.raises(UserError) as told:
        found(tmp_path)
    assert "no commit" in told.value.message and "git commit" in told.value.hint
