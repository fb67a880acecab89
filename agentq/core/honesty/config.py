"""What settings files demand of tests, coverage, lint and types; and what in them lets tests out.

Formats with a parser are read by it; of programs and pipelines single lines tell. Only what lowers the bar is a
rule: an option that says nothing about it may change freely.
"""

import configparser
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentq.core import tomltext
from agentq.errors import ConfigError

_INI = re.compile(
    r"(^|/)(pytest\.ini|\.pytest\.ini|tox\.ini|setup\.cfg|mypy\.ini|\.mypy\.ini|\.coveragerc|\.flake8)$"
)
_TOML = re.compile(r"(^|/)(pyproject\.toml|\.?ruff\.toml|\.?pytest\.toml)$")
_JSON = re.compile(
    r"(^|/)(package\.json|tsconfig[\w.-]*\.json|\.eslintrc(\.json)?|jest\.config\.json|\.mocharc\.json|\.nycrc(\.json)?|biome\.jsonc?)$"
)
_TEXT = re.compile(
    r"(^|/)(\.github/workflows/[^/]*\.ya?ml|\.gitlab-ci\.yml|\.circleci/[^/]*|\.ci/.*|azure-pipelines\.yml|Jenkinsfile"
    r"|\.travis\.yml|Makefile|makefile|GNUmakefile|[Jj]ustfile|Taskfile\.ya?ml|noxfile\.py|tasks\.py"
    r"|(jest|vitest|vite|playwright|cypress|karma|wdio|eslint)\.config\.[cm]?[jt]s|\.eslintrc\.([cm]?js|ya?ml)|\.mocharc\.\w+"
    r"|\.pre-commit-config\.yaml)$"
)
_OPTIONS = re.compile(
    r"(--ignore(-glob)?|--deselect|-k|-m|--co|--collect-only|--no-cov|--cov-fail-under|--noconftest|--lf|--last-failed"
    r"|--continue-on-collection-errors|--confcutdir|--rootdir|--exit-zero|--passWithNoTests|--testPathIgnorePatterns"
    r"|--testNamePattern|-t)$"
)
_NEEDED_OPTIONS = re.compile(r"(--strict(-markers|-config)?|--doctest-modules|--cov(=.*)?)$")
_LEVELS = re.compile(r"(^|\.)(fail_under|(lines|branches|functions|statements|per_file))$")
_DEMANDS = re.compile(
    r"(^|\.)(strict|strict_\w+|disallow_\w+|check_untyped_defs|warn_\w+|no_implicit_\w+|xfail_strict|branch"
    r"|noImplicit\w+|strict\w+|noUnused\w+|noUnchecked\w+|noFallthrough\w+|exactOptional\w+|check-coverage|forbidOnly)$"
)
_RELEASES = re.compile(r"(^|\.)(ignore_errors|passWithNoTests|exit[-_]zero|noEmitOnError_off|skipTests|noCheck)$")
_ADDED = re.compile(
    r"(^|\.)(norecursedirs|omit|testPathIgnorePatterns|ignorePatterns|exclude|extend-exclude|collect_ignore"
    r"|modulePathIgnorePatterns|coveragePathIgnorePatterns)$"
)
_ADDED_RULES = re.compile(
    r"(^|\.)(ignore|extend-ignore|per-file-ignores\..*|per_file_ignores|disable_error_code)$"
)
_NARROWED = re.compile(
    r"(^|\.)(testpaths|python_files|python_classes|python_functions|testMatch|testRegex|roots|select|extend-select"
    r"|files|packages)$"
)
_SECTIONS = re.compile(
    r"(^|\.)(pytest|tool:pytest|ini_options|mypy.*|coverage.*|report|run|ruff.*|lint.*|flake8|jest.*|compilerOptions"
    r"|nyc|testenv.*|tox|rules|pyright|basedpyright|thresholds?|global|coverageThreshold|include|exclude)(\.|$)"
)
_WHOLE = re.compile(r"(ALL|[A-Z]{1,4}|all)$")
_SCRIPTS = re.compile(
    r"(pre|post)?(test|lint|check|verify|ci|type|tsc|e2e|cover|validate|unit|spec)", re.IGNORECASE
)
_TOOLS = re.compile(
    r"\b(pytest|unittest|tox|nox|jest|vitest|mocha|playwright|cypress|mypy|pyright|ruff|flake8|pylint|eslint|tsc|rspec|phpunit"
    r"|go test|go vet|cargo test|cargo clippy|gradle\w* test|mvn\w* (?:test|verify)|make (?:test|check|lint|ci)"
    r"|(?:npm|yarn|pnpm|bun)(?: run)? (?:test|lint|check|typecheck|ci)\b)"
)
_NEUTRAL = re.compile(
    r"\|\|\s*(true|:|exit 0|echo)|;\s*(true|exit 0)\s*$|continue-on-error:\s*true|allow_failure:\s*true"
    r"|\bif:\s*(\$\{\{\s*)?false|when:\s*never|--exit-zero|--passWithNoTests|passWithNoTests:\s*true"
    r"|--no-verify|--collect-only|--deselect|--ignore[= ]"
    r"|^\s*set \+e|testPathIgnorePatterns|ignore_outcome\s*=\s*true|sys\.exit\(0\)|os\._exit\("
)
_THRESHOLD = re.compile(
    r"\b(lines|branches|functions|statements|fail_under|--cov-fail-under)['\"]?\s*[:=]\s*(\d+(?:\.\d+)?)"
)
_LINT_RULE = re.compile(r"['\"]([\w@/-]+)['\"]\s*:\s*\[?\s*['\"]?(off|warn|error|[012])\b")
_HOOK = re.compile(r"^\s*-\s*id:\s*(\S+)")
_GRADES = {"off": 0.0, "0": 0.0, "warn": 1.0, "1": 1.0, "error": 2.0, "2": 2.0}
_NOTHING = re.compile(r"\s*(true|:|exit 0|echo\b[^&|;]*)?\s*$")
_USUAL = re.compile(
    r"\W*(node_modules|dist|build|out|coverage|target|vendor|\.git|\.?venv|\.tox|\.nox|\.cache|__pycache__)\b"
)
_COMMENT = re.compile(r"^\s*(#|//)")


@dataclass(frozen=True)
class Rule:
    """One demand of a settings file, or one hole in it. `level`: lower is worse; `loosens`: it lets something out,
    so a new one is found; `needed`: a missing one is found; `narrows`: of the parts it names none may go, nor may
    it come; `notes`: worth showing only. `said`: for people."""

    name: str
    text: str
    said: str
    line: int = 0
    level: float | None = None
    loosens: bool = False
    needed: bool = False
    narrows: tuple[str, ...] = ()
    notes: bool = False


def rules_of(path: str, data: bytes, commands: Sequence[str] = ()) -> list[Rule] | None:
    """The rules of a settings file; None if it is none, or cannot be read. `commands`: those that verify; the
    files that they name count, too."""
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
        if _TOML.search(path):
            values, places = tomltext.parse(text, path)
            return list(_flat_rules(_flat(values), {".".join(key): line for key, line in places.items()}))
        if _INI.search(path):
            return list(_flat_rules(_ini(text), {}))
        if _JSON.search(path):
            named = " ".join(commands)
            return list(_json_rules(path, json.loads(_bare_json(text)), named))
    except (UnicodeDecodeError, ConfigError, configparser.Error, ValueError, RecursionError):
        return None
    return list(_line_rules(text, make="akefile" in path)) if is_settings(path, commands) else None


def is_settings(path: str, commands: Sequence[str] = ()) -> bool:
    """Whether a file steers tests, coverage, lint or types: by its name, or because a command names it."""
    if any(kind.search(path) for kind in (_TOML, _INI, _JSON, _TEXT)):
        return True
    named = re.compile(rf"(^|[\s/'\"=]){re.escape(path)}($|[\s'\":;])")
    return any(named.search(command) for command in commands)


# ---------------------------------------------------------------- data


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        found: dict[str, Any] = {}
        for key, inner in value.items():
            found |= _flat(inner, f"{prefix}.{key}" if prefix else str(key))
        return found
    if isinstance(value, list) and any(isinstance(one, dict) for one in value):
        found = {}
        for number, inner in enumerate(value):
            name = inner.get("module") or inner.get("name") or number if isinstance(inner, dict) else number
            found |= _flat(inner, f"{prefix}.{name if isinstance(name, str) else number}")
        return found
    return {prefix: value}


def _ini(text: str) -> dict[str, Any]:
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return {
        f"{section}.{key}": value or "" for section in parser.sections() for key, value in parser[section].items()
    }


def _bare_json(text: str) -> str:
    """JSON without comments and trailing commas: what the tools read it as."""
    bare = re.sub(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', lambda found: found[1] or "", text, flags=re.DOTALL)
    return re.sub(r",(\s*[\]}])", r"\1", bare) or "{}"


def _json_rules(path: str, values: Any, commands: str) -> Iterator[Rule]:
    flat = _flat(values)
    if path.endswith("package.json"):
        for key, value in flat.items():
            name = key.removeprefix("scripts.")
            called = re.search(rf"\b(npm|yarn|pnpm|bun)( run)? {re.escape(name)}\b", commands)
            if key.startswith("scripts.") and (_SCRIPTS.match(name) or called):
                said = f'the script "{name}", which was: {str(value)[:80]}'
                yield Rule(key, str(value), said, needed=not _NOTHING.match(str(value)))
    yield from _flat_rules(flat, {})
    for key, value in flat.items():
        grade = _GRADES.get(str(value))
        parts = key.split(".rules.")
        if len(parts) == 2 or key.startswith("rules."):
            name = parts[-1].removeprefix("rules.")
            first = value[0] if isinstance(value, list) and value else value
            grade = _GRADES.get(str(first))
            if grade is not None:
                yield from _lint_rule(name, grade, 0)


def _lint_rule(name: str, grade: float, line: int) -> Iterator[Rule]:
    yield Rule(
        f"the lint rule {name}", str(grade), f"the lint rule {name} is off", line, grade, loosens=grade == 0
    )


def _flat_rules(values: Mapping[str, Any], lines: Mapping[str, int]) -> Iterator[Rule]:
    for key, value in values.items():
        line = lines.get(key, 0)
        last = key.rsplit(".", 1)[-1]
        if last in ("addopts", "commands", "command"):
            yield from _options(key, value, line)
        if last == "filterwarnings":
            kept = [one for one in _parts(value) if one.split(":")[0] == "error"]
            yield from (
                Rule(f"{key} {one}", one, f"warnings are errors ({one})", line, needed=True) for one in kept
            )
        if not _SECTIONS.search(key):
            continue
        yield from _value_rules(key, value, line)


def _value_rules(key: str, value: Any, line: int) -> Iterator[Rule]:
    said = f"{key} = {str(value)[:60]}"
    number = _number(value)
    if _LEVELS.search(key) and number is not None:
        yield Rule(key, str(value), said, line, number, needed=number > 0)
    elif _DEMANDS.search(key) and (known := _truth(value)) is not None:
        yield Rule(key, str(value), said, line, float(known), needed=known)
    elif _RELEASES.search(key) and _truth(value):
        yield Rule(key, "true", said, line, loosens=True)
    elif _ADDED.search(key):
        for one in _parts(value):
            if not _USUAL.match(one):
                yield Rule(f"{key} {one}", one, f"{key} leaves out {one}", line, loosens=True)
    elif _ADDED_RULES.search(key):
        for one in _parts(value):
            whole = bool(_WHOLE.match(one.split(":")[-1].strip())) and "per" not in key
            yield Rule(f"{key} {one}", one, f"{key} leaves out {one}", line, loosens=True, notes=not whole)
    elif _NARROWED.search(key):
        yield Rule(key, str(value), f"{key} names {str(value)[:60]}", line, narrows=tuple(_parts(value)))


def _options(key: str, value: Any, line: int) -> Iterator[Rule]:
    """Options of pytest and its like that leave tests out, or demand something."""
    words = _words(value)
    for at, word in enumerate(words):
        name, _, given = word.partition("=")
        if not given and at + 1 < len(words):
            given = words[at + 1]
        if name == "--cov-fail-under":
            yield Rule(name, given, f"{name}={given}", line, _number(given), needed=True)
        elif _OPTIONS.match(name) and not (
            name == "-m" and given in ("pytest", "unittest", "build", "pip", "mypy")
        ):
            yield Rule(f"{key} {name} {given}", given, f"{key} has {name} {given}", line, loosens=True)
        elif name == "-p" and given:
            yield Rule(f"{key} -p {given}", given, f"{key} has -p {given}", line, loosens=True)
        elif _NEEDED_OPTIONS.match(word):
            yield Rule(f"{key} {name}", name, f"{key} has {name}", line, needed=True)


def _words(value: Any) -> list[str]:
    text = value if isinstance(value, str) else " ".join(map(str, value)) if isinstance(value, list) else ""
    try:
        return shlex.split(text, comments=True)
    except ValueError:
        return text.split()


def _parts(value: Any) -> Iterable[str]:
    if isinstance(value, list):
        return [str(one) for one in value]
    return [one for one in re.split(r"[\s,]+", str(value)) if one]


def _number(value: Any) -> float | None:
    try:
        return float(value) if not isinstance(value, bool | list) else None
    except (TypeError, ValueError, OverflowError):
        return None


def _truth(value: Any) -> bool | None:
    known = {
        "true": True,
        "1": True,
        "yes": True,
        "on": True,
        "false": False,
        "0": False,
        "no": False,
        "off": False,
    }
    return known.get(str(value).strip().lower())


# ---------------------------------------------------------------- lines


def _line_rules(text: str, *, make: bool) -> Iterator[Rule]:
    """Of programs and pipelines: lines that swallow failures, and how often each tool runs."""
    runs: dict[str, list[int]] = {}
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or _COMMENT.match(raw) or len(line) > 2000:
            continue
        silent = make and re.match(r"\t[@+]*-", raw) and _TOOLS.search(raw)
        if silent or _NEUTRAL.search(line):
            yield Rule(line, line, f"a failure is swallowed: {line[:100]}", number, loosens=True)
        for tool in _TOOLS.finditer(line):
            runs.setdefault(tool[1], []).append(number)
        for level in _THRESHOLD.finditer(line):
            yield Rule(level[1], level[2], f"{level[1]} = {level[2]}", number, float(level[2]), needed=True)
        for lint in _LINT_RULE.finditer(line):
            yield from _lint_rule(lint[1], _GRADES[lint[2]], number)
        if hook := _HOOK.match(raw):
            yield Rule(f"hook {hook[1]}", hook[1], f"the hook {hook[1]}", number, needed=True)
    for name, places in runs.items():
        many = float(len(places))
        yield Rule(f"runs of {name}", str(many), f"'{name}' runs", places[0], many, needed=True)
