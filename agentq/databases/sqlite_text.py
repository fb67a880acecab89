"""The text of SQLite's CREATE statements in a normal form. It holds what no pragma tells: CHECK, COLLATE, deferred
foreign keys, expressions of generated columns and of indexes, partial indexes.

SQLite keeps the text up to date: ALTER TABLE rewrites it. White space, comments, the way of quoting and the case
of names do not count.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

# Everything above ASCII is a letter to SQLite, and no space.
_TOKEN = re.compile(
    r"""(?P<space>[ \t\n\f\r]+|--[^\n]*|/\*.*?(?:\*/|\Z))
    |(?P<string>[xX]?'(?:[^']|'')*')
    |(?P<name>"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\])
    |(?P<number>0[xX][0-9a-fA-F]+|(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    |(?P<word>[A-Za-z_\x80-\U0010ffff][\w$\x80-\U0010ffff]*)
    |(?P<sign>\|\||<<|>>|<=|>=|<>|!=|==|->>|->|.)""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
_SAME = {"<>": "!=", "==": "="}


class Token(NamedTuple):
    """`kind`: string, name (quoted), number, word, sign. `text` is in the normal form."""

    kind: str
    text: str


Tokens = Sequence[Token]


def fold(name: str) -> str:
    """As SQLite compares names: ASCII alone knows no case."""
    return re.sub("[A-Z]+", lambda found: found[0].lower(), name)


def tokens(sql: str) -> list[Token]:
    found = ((match.lastgroup or "", match[0]) for match in _TOKEN.finditer(sql))
    return [Token(kind, _normal(kind, text)) for kind, text in found if kind != "space"]


def _normal(kind: str, text: str) -> str:
    if kind == "name":
        inner = text[1:-1] if text[0] == "[" else text[1:-1].replace(text[0] * 2, text[0])
        inner = fold(inner)
        return inner if _PLAIN.fullmatch(inner) else '"' + inner.replace('"', '""') + '"'
    if kind == "string":
        return text if text[0] == "'" else text.lower()
    return _SAME.get(text, text) if kind == "sign" else fold(text)


def normal(sql: str) -> str:
    """An expression, or the rest of a statement, in the normal form."""
    return shown(tokens(sql))


def shown(found: Tokens) -> str:
    """Tokens as text, without parentheses around the whole."""
    while found and found[0].text == "(" and _end(found, 0) == len(found) - 1:
        found = found[1:-1]
    text, before = "", "("
    for token in found:
        text += token.text if before in "(." or token.text in "(),." else f" {token.text}"
        before = token.text
    return text.rstrip(";")


def _end(found: Tokens, start: int) -> int:
    """Where the parenthesis that opens at `start` closes."""
    depth = 0
    for index in range(start, len(found)):
        depth += (found[index] == ("sign", "(")) - (found[index] == ("sign", ")"))
        if not depth:
            return index
    return len(found)


def _split(found: Tokens) -> Iterator[Tokens]:
    """At the commas outside parentheses."""
    start = depth = 0
    for index, token in enumerate(found):
        depth += (token == ("sign", "(")) - (token == ("sign", ")"))
        if token == ("sign", ",") and not depth:
            yield found[start:index]
            start = index + 1
    yield found[start:]


def _body(found: Tokens) -> tuple[Tokens, Tokens]:
    """What the first parentheses hold, and what comes after them."""
    start = next((index for index, token in enumerate(found) if token == ("sign", "(")), len(found))
    end = _end(found, start)
    return found[start + 1 : end], found[end + 1 :]


@dataclass
class TableText:
    """`collations`, `generated`: folded name of a column → collation, expression. `deferred`: one for each foreign
    key, as they stand in the text. `options`: STRICT and the like, and what ON CONFLICT says."""

    collations: dict[str, str] = field(default_factory=dict)
    generated: dict[str, str] = field(default_factory=dict)
    checks: list[str] = field(default_factory=list)
    deferred: list[bool] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    autoincrement: bool = False


def table(sql: str) -> TableText:
    """Of a CREATE TABLE that SQLite accepted."""
    body, after = _body(tokens(sql))
    made = TableText(options=sorted(shown(option) for option in _split(after) if option))
    for part in _split(body):
        if part:
            constraint = part[0].kind == "word" and part[0].text in _CONSTRAINTS
            _read(made, part if constraint else part[1:], "" if constraint else _bare(part[0]))
    return made


_CONSTRAINTS = {"constraint", "primary", "unique", "check", "foreign"}


def _bare(token: Token) -> str:
    """The name a token stands for, folded."""
    text = token.text
    return text[1:-1].replace(text[0] * 2, text[0]) if text[:1] in ("'", '"') else text


def _read(made: TableText, part: Tokens, column: str) -> None:
    """One column or constraint, without the column's name, into `made`."""
    index, last = 0, ""
    while index < len(part):
        word = part[index].text if part[index].kind in ("word", "sign") else ""
        after = [token.text for token in part[index + 1 : index + 3]]
        if word == "(":
            index = _end(part, index)
        elif word == "constraint":
            index += 1  # its name
        elif word in ("check", "as") and after[:1] == ["("]:
            end = _end(part, index + 1)
            inner = shown(part[index + 1 : end + 1])
            made.checks.append(inner) if word == "check" else made.generated.update({column: inner})
            index, last = end, word
        elif word == "collate" and column:
            made.collations[column] = after[0]
        elif word == "autoincrement":
            made.autoincrement = True
        elif word == "references":
            made.deferred.append(False)
        elif word == "deferrable" and after == ["initially", "deferred"] and part[index - 1].text != "not":
            made.deferred[-1] = True
        elif word == "on" and after[:1] == ["conflict"] and after[1] != "abort":
            made.options.append(f"{column} {last} on conflict {after[1]}".strip())
        elif word in ("primary", "unique", "null"):
            last = word
        index += 1


@dataclass(frozen=True)
class IndexText:
    """`terms`: what is indexed, without its order. `where`: "" for all rows."""

    terms: tuple[str, ...]
    where: str


def index(sql: str) -> IndexText:
    """Of a CREATE INDEX that SQLite accepted."""
    body, after = _body(tokens(sql))
    terms = []
    for term in _split(body):
        ordered = term[-1].kind == "word" and term[-1].text in ("asc", "desc")
        terms.append(shown(term[:-1] if ordered else term))
    return IndexText(tuple(terms), shown(after[1:]))


def definition(sql: str, kind: str) -> str:
    """What comes after the name in a CREATE VIEW, TRIGGER or VIRTUAL TABLE. `kind`: view, trigger, table."""
    found = tokens(sql)
    return shown(found[found.index(Token("word", kind)) + 2 :])
