"""Lock files, re-locked by the real tools on real merges. A tool that is not here is skipped by name.

Packages are folders of the repository, so no tool needs a registry.
"""

import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from replay import Case, Repository, run, write
from support.size import FULL

from agentq.trunk.resolve import locks

LIBS = ("a", "b", "c", "d", "e", "f", "g")
TOOLS = os.pathsep.join(
    [str(Path(sys.executable).parent), os.environ.get("PATH", ""), os.environ.get("AGENTQ_TEST_TOOLS", "")]
)


@dataclass(frozen=True)
class Tool:
    name: str
    lock: str
    command: str
    manifest: str
    write: Callable[[Sequence[str]], dict[str, str]]


def _npm(libs: Sequence[str]) -> dict[str, str]:
    files = {f"libs/{n}/package.json": json.dumps({"name": f"lib-{n}", "version": "1.0.0"}) + "\n" for n in LIBS}
    wanted = {f"lib-{n}": f"file:libs/{n}" for n in libs}
    files["package.json"] = (
        json.dumps({"name": "p", "version": "1.0.0", "private": True, "dependencies": wanted}, indent=2) + "\n"
    )
    return files


def _project(name: str, more: str = "") -> str:
    return f'[project]\nname = "{name}"\nversion = "1.0.0"\nrequires-python = ">=3.11"\ndescription = ""\n{more}'


def _uv(libs: Sequence[str]) -> dict[str, str]:
    files = {f"libs/{n}/pyproject.toml": _project(f"lib-{n}") for n in LIBS}
    wanted = "dependencies = [\n" + "".join(f'  "lib-{n}",\n' for n in libs) + "]\n\n[tool.uv.sources]\n"
    files["pyproject.toml"] = _project("p", wanted + "".join(f'lib-{n} = {{ path = "libs/{n}" }}\n' for n in LIBS))
    return files


def _poetry(libs: Sequence[str]) -> dict[str, str]:
    build = '\n[build-system]\nrequires = ["poetry-core"]\nbuild-backend = "poetry.core.masonry.api"\n'
    lib = '[tool.poetry]\nname = "lib-{0}"\nversion = "1.0.0"\ndescription = ""\nauthors = []\n\n[tool.poetry.dependencies]\npython = ">=3.11"\n'
    files = {f"libs/{n}/pyproject.toml": lib.format(n) + build for n in LIBS}
    wanted = "\n[tool.poetry]\npackage-mode = false\n\n[tool.poetry.dependencies]\n"
    files["pyproject.toml"] = _project("p", wanted + "".join(f'lib-{n} = {{ path = "libs/{n}" }}\n' for n in libs))
    return files


def _cargo(libs: Sequence[str]) -> dict[str, str]:
    files = {f"libs/{n}/src/lib.rs": "" for n in LIBS} | {"src/lib.rs": ""}
    package = '[package]\nname = "{}"\nversion = "1.0.0"\nedition = "2021"\n\n[dependencies]\n'
    files |= {f"libs/{n}/Cargo.toml": package.format(f"lib-{n}") for n in LIBS}
    files["Cargo.toml"] = package.format("p") + "".join(f'lib-{n} = {{ path = "libs/{n}" }}\n' for n in libs)
    return files


NPM = "npm install --package-lock-only --ignore-scripts --no-audit --no-fund"
ALL = [
    Tool("uv", "uv.lock", "uv lock", "pyproject.toml", _uv),
    Tool("poetry", "poetry.lock", "poetry lock", "pyproject.toml", _poetry),
    Tool("npm", "package-lock.json", NPM, "package.json", _npm),
    Tool("pnpm", "pnpm-lock.yaml", "pnpm install --lockfile-only", "package.json", _npm),
    Tool("yarn", "yarn.lock", "yarn install --ignore-scripts", "package.json", _npm),
    Tool("cargo", "Cargo.lock", "cargo generate-lockfile", "Cargo.toml", _cargo),
]


@pytest.fixture(params=ALL, ids=lambda tool: tool.name)
def tool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Tool:
    found: Tool = request.param
    if shutil.which(found.name, path=TOOLS) is None:
        pytest.skip(f"{found.name} is not installed here")
    if found.name == "poetry" and not FULL:
        pytest.skip("poetry takes long: AGENTQ_TEST_FULL=1 runs it")
    monkeypatch.setenv("PATH", TOOLS)
    if found.name == "cargo":
        monkeypatch.setenv("RUSTUP_HOME", os.environ.get("RUSTUP_HOME", str(Path(shutil.which("cargo", path=TOOLS) or "").parents[2] / ".rustup")))  # fmt: skip
    return found


def locked(tool: Tool, libs: Sequence[str], tmp_path: Path) -> dict[str, str]:
    """A tree whose lock file the tool has just written."""
    folder = tmp_path / f"made-{'-'.join(libs)}"
    files = tool.write(libs)
    write(folder, {path: content.encode() for path, content in files.items()})
    assert run(tool.command, folder) == 0
    return {**files, tool.lock: (folder / tool.lock).read_text()}


def holds(tool: Tool, libs: Sequence[str]) -> Callable[[bytes], bool]:
    """Whether a lock file pins exactly these packages (where the tool writes down folders at all)."""

    def right(content: bytes) -> bool:
        names = {name.removeprefix("libs/") for name, _ in locks.pins(tool.lock, content)}
        return {name.removeprefix("lib-") for name in names} - {"p"} == set(libs)

    return right


def test_lock_files(tool: Tool, tmp_path: Path) -> None:
    made = {libs: locked(tool, libs, tmp_path) for libs in ("d", "bd", "df", "bdf")[: 4 if FULL else 3]}
    repository, kind = Repository(tmp_path), f"lock file: {tool.name}"
    minus = {**made["bd"], ".gitattributes": f"{tool.lock} -merge\n"}
    stale = {**made["df"], tool.lock: made["d"][tool.lock]}
    gone = {path: text for path, text in made["df"].items() if path != tool.lock}
    cases = [
        Case(kind, "both add one", made["d"], made["bd"], made["df"], {tool.lock: holds(tool, "bdf")}),
        Case(kind, "both add one, marked -merge", {**made["d"], ".gitattributes": minus[".gitattributes"]}, minus,
             {**made["df"], ".gitattributes": minus[".gitattributes"]}, {tool.lock: holds(tool, "bdf")}),
        Case(kind, "the spec forgot its lock file", made["d"], made["bd"], stale, {tool.lock: holds(tool, "bdf")}),
        Case(kind, "one adds, one removes", made["bd"], made["d"], made.get("bdf", {}), {tool.lock: holds(tool, "df")}),
        Case(kind, "the manifest's conflict is open", made["d"], _pinned(tool, made["bd"], "1"), _pinned(tool, made["df"], "2")),
        Case(kind, "one side deleted it", made["d"], made["bd"], gone),
        Case(kind, "the merged manifest cannot be locked", made["d"], made["bd"], {**made["df"], f"libs/f/{tool.manifest}": "no manifest {"}),
    ]  # fmt: skip
    seen: Counter[str] = Counter()
    for number, one in enumerate(cases if FULL else cases[::4] + cases[-1:]):
        outcome = repository.replay(one, tmp_path / f"checkout-{number}")
        print(f"{kind}: {one.name}: {outcome.verdict} {outcome.why}")
        seen[outcome.verdict if one.want else f"must stop: {outcome.verdict}"] += 1
    assert not seen["wrong"] and not seen["must stop: wrong"]
    assert not seen["stopped"], "every automatic case is resolved"


def _pinned(tool: Tool, files: dict[str, str], version: str) -> dict[str, str]:
    """The manifest with a change that the other side makes differently."""
    manifest = files[tool.manifest]
    return {**files, tool.manifest: manifest.replace('"1.0.0"', f'"{version}.0.1"', 1)}
