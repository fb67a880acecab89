"""The pages for people: generated ones are up to date, links resolve, commands exist, modules are all named."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from agentq.cli import docs
from agentq.cli.app import app
from agentq.errors import ExitCode

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND: Any = typer.main.get_command(app)
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def _prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def _anchors(page: Path) -> set[str]:
    """Anchors of the headings, as GitHub names them."""
    heads = re.findall(r"^#+ (.+)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def _commands(page: Path) -> list[str]:
    """What the page tells people to type: lines of `sh` blocks, and code in the text that begins with agentq."""
    blocks = [body for kind, body in _FENCE.findall(page.read_text(encoding="utf-8")) if kind == "sh"]
    typed = [line.strip().removeprefix("$ ") for body in blocks for line in body.splitlines()]
    return [line for line in (*typed, *_CODE.findall(_prose(page))) if line.split(" ")[0] == "agentq"]


def _why_wrong(line: str) -> str:
    """Why `line` is no command of agentq, or ''. It is parsed as it would be, and not run."""
    words = shlex.split(line, comments=True)[1:]
    command: Any = COMMAND
    name = "agentq"
    while hasattr(command, "commands"):
        own = {option for parameter in command.params for option in parameter.opts} | {"-h", "--help"}
        while words and words[0] in own:
            words = words[1:]
        if not words:
            return ""
        if words[0] not in command.commands:
            return f"'{name}' has no command '{words[0]}'"
        name, command, words = f"{name} {words[0]}", command.commands[words[0]], words[1:]
    if not words:  # only its name is mentioned
        return ""
    try:
        command.make_context(name, words)
    except typer.Exit:
        return ""
    except Exception as error:
        return str(getattr(error, "message", "") or error) or type(error).__name__
    return ""


def test_commands_page_is_what_the_commands_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert docs.main(["--check"]) == ExitCode.OK, capsys.readouterr().err


def test_check_notices_a_page_that_is_not(tmp_path: Path) -> None:
    page = tmp_path / "cli.md"
    assert docs.main(["--check"], page) == ExitCode.ERROR
    assert docs.main([], page) == ExitCode.OK
    assert docs.main(["--check"], page) == ExitCode.OK
    page.write_text(page.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert docs.main(["--check"], page) == ExitCode.ERROR
    assert docs.main(["--chekc"], page) == ExitCode.USAGE


def test_commands_page_does_not_depend_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = docs.page()
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "dumb")
    assert docs.page() == wide


def test_every_exit_code_is_explained() -> None:
    assert list(docs.EXITS) == list(ExitCode)


def test_every_schema_is_documented() -> None:
    """Of those in the sources of the commands, and for exactly the commands that have --json."""
    sources = [path for path in (ROOT / "agentq" / "cli").glob("*.py") if path.name != "docs.py"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in (*sources, ROOT / "agentq" / "__main__.py"))
    used = set(re.findall(r'emit\(\s*"([a-z-]+)"', text)) | set(re.findall(r'"agentq/([a-z-]+)/v1"', text))
    assert used == {schema for schema, _ in docs.SCHEMAS.values()} | {"log-text", "error"}
    assert all(f"agentq/{schema}/v1" in docs.page() for schema in used)
    with_json = {name for name, command in docs.commands() if any("--json" in one.opts for one in command.params)}
    assert with_json == set(docs.SCHEMAS)


@each_page
def test_links_resolve(page: Path) -> None:
    wrong = []
    for link in _LINK.findall(_prose(page)):
        target, _, anchor = link.partition("#")
        assert "://" not in target, "these pages point to nothing outside the project"
        file = (page.parent / target).resolve() if target else page
        if not file.is_relative_to(ROOT) or not file.exists() or (anchor and anchor not in _anchors(file)):
            wrong.append(link)
    assert wrong == []


@each_page
def test_commands_exist(page: Path) -> None:
    wrong = {line: why for line in _commands(page) if (why := _why_wrong(line))}
    assert wrong == {}


@pytest.mark.parametrize("line", ["nxt", "next --fast", "machine sho", "show --json", "show a b", "next -n many"])
def test_wrong_commands_are_noticed(line: str) -> None:
    assert _why_wrong(f"agentq {line}")


def test_right_commands_are_not() -> None:
    assert not _why_wrong("agentq --debug run cart --yes  # with a comment")


def test_code_map_names_every_module_and_no_other() -> None:
    package = ROOT / "agentq"
    modules = {str(path.relative_to(package)) for path in package.rglob("*.py") if path.name != "__init__.py"}
    table = ARCHITECTURE.partition("## Code map")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([\w/]+\.py)` \|", table, re.MULTILINE)
    assert sorted(rows) == sorted(modules)


def test_paths_named_in_the_architecture_exist() -> None:
    named = {code for code in _CODE.findall(ARCHITECTURE) if re.fullmatch(r"[\w./-]+(\.py|\.txt|/)", code)}
    places = (ROOT, ROOT / "agentq", ROOT / "agents")
    missing = [name for name in sorted(named) if not any((place / name).exists() for place in places)]
    assert [name for name in missing if not name.startswith("refs/")] == []


def test_layers_shown_are_those_that_are_checked() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    shown = ARCHITECTURE.partition("## Layers")[2].partition("```text\n")[2].partition("```")[0]
    assert shown.split("\n")[:-1] == [layer.replace("agentq.", "") for layer in contract]


def test_dependencies_are_all_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {re.split(r"[<>=]", one)[0] for one in project["dependencies"]}
    rows = ARCHITECTURE.partition("## Dependencies")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| ([a-z]+) \|", rows, re.MULTILINE)) == wanted
    unexplained = [
        one for one in project["optional-dependencies"]["dev"] if re.split(r"[<>=]", one)[0] not in rows
    ]
    assert unexplained == []
