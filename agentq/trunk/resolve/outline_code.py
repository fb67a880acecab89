"""The outline of languages with brackets, without a parser: a line belongs to the lines whose brackets are open.

Invariant: a text whose brackets do not match is refused, so a regular expression or a template that this reader
takes for brackets stops a resolution, and never lets a wrong one through.
"""

import re

from agentq.trunk.resolve.base import Doubt
from agentq.trunk.resolve.outline import Outline, Scope

_LANGUAGES = (
    "ts tsx js jsx mjs cjs mts cts go rs java kt c h cc cpp hpp cs php swift prisma graphql proto dart scala"
)
BRACES = frozenset(_LANGUAGES.split())
_SKIPPED = re.compile(
    r"/\*.*?\*/|//[^\n]*"
    r'|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|`(?:\\.|[^`\\])*`',
    re.DOTALL,
)
_SKIPPED_SQL = re.compile(r"/\*.*?\*/|--[^\n]*|'(?:''|[^'])*'|\$\$.*?\$\$|\"[^\"\n]*\"", re.DOTALL)
_SKIPPED_CSS = re.compile(r"/\*.*?\*/|\"[^\"\n]*\"|'[^'\n]*'", re.DOTALL)
_PAIRS = {")": "(", "]": "[", "}": "{"}
_OPENERS = frozenset(_PAIRS.values())
_CLOSERS = re.compile(r"[\])};,\s]*")
_WORDS = (
    "function*?|class|interface|type|enum|const|let|var|namespace|module|struct|trait|fn|func|def|message|service"
    "|model|rpc|object|val|union|input|scalar"
)
_MODIFIERS = re.compile(
    r"(?:(?:export|default|declare|async|abstract|public|private|protected|internal|static|readonly|override|pub|final)\s+)+"
)
_DEFINED = re.compile(rf"(?:{_WORDS})\s+((?:\([^)]*\)\s*)?[\w$]+)")
_METHOD = re.compile(
    r"(?!(?:if|for|while|switch|catch|else|do|try|return|match)\b)(?:[\w<>\[\],.?*&:]+\s+)*([\w$]+)\s*(?:<[^>]*>)?\([^;]*\{$"
)
_TAG = re.compile(r"<(\w+)\b[^>]*?\b(?:path|key|id|name)=(\"[^\"]*\"|'[^']*')")
_KEY = re.compile(r"[\"']?([\w$./@-]+)[\"']?\??\s*[:=](?![=>:])")
_NUMBERED = re.compile(r"=\s*(\d+|\"[^\"]*\"|'[^']*')\s*[,;]?$")
_FLOW = re.compile(
    r"(return|throw|if|for|while|switch|case|break|continue|try|do|yield|defer|go|goto|match|loop)\b"
    r"|[\w.$\[\]]+\s*([-+*/%|&^]|\*\*|<<|>>|\?\?)?=(?![=>]).*(?<!,)$|[\w.$]+(\+\+|--)"
)
_CALL = re.compile(r"([\w$.]+)\(\s*(\"[^\"]*\"|'[^']*'|`[^`]*`)")
_FROM = re.compile(r"(import|export)\s+(?:type\s+)?(.*?)\s*from\s*[\"']([^\"']+)[\"'];?$")
_LISTED = re.compile(r"(?:type\s+)?([\w$*]+)(?:\s+as\s+([\w$]+))?")


def read_braces(text: str) -> Outline:
    """TypeScript, JavaScript, Go and their like."""
    found = Outline()
    for _, scope, line in scoped(text):
        if _FROM.match(line):
            _from(scope, line, found)
            continue
        if scope and re.match(r"import\b", scope[-1]):
            found.add(scope, "import", line.rstrip(","), _imported(line))
            continue
        bare = _MODIFIERS.sub("", line, count=1) if _MODIFIERS.match(line) else line
        defined = _DEFINED.match(bare)
        name = defined[1] if defined else _named(bare)
        kind = "definition" if defined else "flow" if _FLOW.match(line) else "line"
        found.add(scope, kind, line, name)
        if scope and not defined and (value := _NUMBERED.search(line)):
            found.names[((*scope, "values"), value[1])] += 1
    return found


def _named(line: str) -> str:
    """What a line that is no definition names: a registration, a tag, a method, a key."""
    if found := _CALL.match(line) or _TAG.match(line):
        return f"{found[1]}({found[2]})"
    found = _METHOD.match(line) or _KEY.match(line)
    return found[1] if found else ""


def _from(scope: Scope, line: str, found: Outline) -> None:
    """`import … from` and `export … from`: one item for each name, so that `{ a }` and `{ b }` can become one."""
    match = _FROM.match(line)
    assert match is not None
    word, what, module = match.groups()
    for name, bound in js_names(what):
        found.add(
            scope, "import", f"{word} {name} as {bound} from {module}", f"{word} {bound}" if bound != "*" else ""
        )


def js_names(what: str) -> list[tuple[str, str]]:
    """(name in the module, name here) of `D, { a as b }` or `* as ns`; a default import is `default`."""
    outside, _, rest = what.partition("{")
    inside = rest.partition("}")[0]
    found = []
    for part in outside.split(","):
        words = part.split()
        if words:
            found.append(("*", words[-1]) if words[0] == "*" else ("default", words[-1]))
    for part in inside.split(","):
        if match := _LISTED.fullmatch(part.strip()):
            found.append((match[1], match[2] or match[1]))
    return found


def _imported(line: str) -> str:
    """The name that one line inside an import block binds, of JavaScript or Go."""
    if quoted := re.match(r"(?:([\w.]+)\s+)?\"([^\"]+)\"", line):
        return quoted[1] or quoted[2].rsplit("/", 1)[-1]
    listed = _LISTED.fullmatch(line.rstrip(",").strip())
    return (listed[2] or listed[1]) if listed else ""


def read_css(text: str) -> Outline:
    found = Outline()
    for _, scope, line in scoped(text, _SKIPPED_CSS):
        key = _KEY.match(line)
        header = line.rstrip("{ ") if line.endswith("{") else ""
        found.add(scope, "line", line, header or (key[1] if key and scope else ""))
    return found


_CREATED = re.compile(
    r"create\s+(?:or\s+replace\s+)?(?:unique\s+)?(\w+)\s+(?:if\s+not\s+exists\s+)?([\w.\"]+)"
    r"|alter\s+table\s+([\w.\"]+)\s+add\s+(?:column\s+)?([\w\"]+)",
    re.IGNORECASE,
)
_SQL_FLOW = re.compile(
    r"(and|or|where|select|from|(left|inner|outer|right|full|cross)?\s*join|on|set|group|order|having|union|begin|commit"
    r"|update|delete|drop|truncate|if|end|return)\b", re.IGNORECASE,
)  # fmt: skip
_INSERTED = re.compile(r"insert\s+into\s+([\w.\"]+).*?values\s*\(\s*([^,)]+)", re.IGNORECASE)


def read_sql(text: str) -> Outline:
    found = Outline()
    for _, scope, line in scoped(text, _SKIPPED_SQL):
        created, inserted = _CREATED.match(line), _INSERTED.match(line)
        row = re.match(r"\(\s*([^,)]+)", line)
        name = ""
        if created:
            name = " ".join(part for part in created.groups() if part).lower()
        elif inserted:
            name = f"row {inserted[2]} of {inserted[1]}".lower()
        elif row:
            name = f"row {row[1]}"
        elif scope and (column := re.match(r"[\"']?(\w+)", line)):
            name = column[1].lower()
        found.add(scope, "flow" if _SQL_FLOW.match(line) else "line", line, name)
    return found


def scoped(text: str, skipped: re.Pattern[str] = _SKIPPED) -> list[tuple[int, Scope, str]]:
    """(line number from 0, scope, stripped line) of each line that is more than closing brackets. Raises Doubt."""
    bare = _bare(text, skipped)
    stack: list[tuple[str, str]] = []
    found = []
    for number, (line, rest) in enumerate(zip(text.split("\n"), bare.split("\n"), strict=True)):
        stripped, marks = line.strip(), rest.strip()
        scope, lowest = tuple(header for _, header in stack), len(stack)
        for mark in marks:
            if mark in _OPENERS:
                stack.append((mark, stripped))
            elif mark in _PAIRS:
                if not stack or stack.pop()[0] != _PAIRS[mark]:
                    raise Doubt("its brackets do not match")
                lowest = min(lowest, len(stack))
        if stripped and not (marks and _CLOSERS.fullmatch(marks)):
            found.append((number, scope[:lowest] if marks[:1] in _PAIRS else scope, stripped))
    if stack:
        raise Doubt("its brackets do not match")
    return found


def _bare(text: str, skipped: re.Pattern[str]) -> str:
    """`text` with blanks for its comments and strings."""
    return skipped.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def open_bracket(text: str) -> str:
    """The innermost bracket that is open at the end of `text`, or ''."""
    stack: list[str] = []
    for mark in _bare(text, _SKIPPED):
        if mark in _OPENERS:
            stack.append(mark)
        elif mark in _PAIRS and stack:
            stack.pop()
    return stack[-1] if stack else ""
