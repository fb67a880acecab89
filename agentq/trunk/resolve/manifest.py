"""Manifests: key by key, on the parsed data; the text keeps its form. Proved by parsing it again.

Same key, different values: a person decides.
"""

import json
import re
import tomllib
from typing import Any

from agentq.trunk.resolve import diff3, keyed, proof, tomledit
from agentq.trunk.resolve.base import Answer, Dispute, Doubt, Resolved, Situation, Stopped
from agentq.trunk.resolve.diff3 import Texts

TOML = frozenset({"pyproject.toml", "Cargo.toml", "Pipfile"})
JSON = frozenset({"package.json", "composer.json"})


class Manifest:
    name = "manifest"

    def claims(self, dispute: Dispute, _situation: Situation) -> bool:
        return dispute.kind in ("content", "add/add", "both") and _name(dispute.path) in TOML | JSON

    def resolve(self, dispute: Dispute, _situation: Situation) -> Answer | None:
        try:
            if dispute.base is None:
                raise Doubt("both sides added it")
            texts = diff3.texts(dispute)
            read = _json if _name(dispute.path) in JSON else _toml
            base, trunk, spec = (read(text) for text in (texts.base, texts.trunk, texts.spec))
            if dispute.kind == "both" and _stands(dispute, base, trunk, spec):
                return None
            wanted = _merged(base, trunk, spec)
            result = (_as_json if read is _json else _as_toml)(texts, trunk, wanted)
        except Doubt as doubt:
            return Stopped(dispute.path, self.name, str(doubt))
        content = texts.encode(result)
        if not keyed.equal(read(result), wanted) or proof.markers(content):
            return Stopped(dispute.path, self.name, "its text cannot be changed key by key")
        return Resolved(dispute.path, content, self.name, "merged key by key")


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _merged(base: Any, trunk: Any, spec: Any) -> Any:
    wanted = keyed.merge(base, trunk, spec)
    if odd := keyed.in_two_places(wanted, trunk, spec):
        raise Doubt(f"the sides list {odd!r} in different places")
    return wanted


def _stands(dispute: Dispute, base: Any, trunk: Any, spec: Any) -> bool:
    """Whether git's clean merge of the lines is right. Raises Doubt for what a person must decide."""
    read = _json if _name(dispute.path) in JSON else _toml
    try:
        merged = read((dispute.merged or b"").decode())
    except (Doubt, UnicodeDecodeError):
        return False
    try:
        return keyed.equal(merged, _merged(base, trunk, spec))
    except keyed.Opaque:
        return True  # lists without keys: both changed other lines of one, which git may merge


# ---------------------------------------------------------------- JSON


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Doubt("a key is there twice")
    return found


def _json(text: str) -> Any:
    try:
        data = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise Doubt(f"it is no JSON: {str(error)[:120]}") from None
    if not isinstance(data, dict):
        raise Doubt("it is no JSON object")
    return data


def _as_json(texts: Texts, trunk: Any, wanted: Any) -> str:
    """Written anew, if writing trunk's data gives trunk's text byte for byte."""
    margin = re.search(r"\n([ \t]+)\"", texts.trunk)
    for ascii_only in (False, True):

        def written(data: Any, ascii_only: bool = ascii_only) -> str:
            text = json.dumps(data, indent=margin[1] if margin else None, ensure_ascii=ascii_only) + "\n"
            return text.replace("\n", "\r\n") if texts.crlf else text

        if written(trunk) == texts.trunk:
            return written(wanted)
    raise Doubt("its layout would not be kept")


# ---------------------------------------------------------------- TOML


def _toml(text: str) -> Any:
    try:
        return tomllib.loads(text.replace("\r\n", "\n"))
    except (ValueError, RecursionError) as error:
        raise Doubt(f"it is no TOML: {str(error)[:120]}") from None


def _as_toml(texts: Texts, trunk: Any, wanted: Any) -> str:
    """By lines where the sides only added some, else edited key by key. Comments of both sides stay."""
    candidate = _by_lines(texts)
    if candidate is not None and _right(candidate, wanted):
        return candidate
    before, mine, theirs = (text.replace("\r\n", "\n") for text in (texts.base, texts.trunk, texts.spec))
    result = tomledit.edited(mine, trunk, wanted, theirs)
    lost = _comments(theirs) - _comments(before) - _comments(result)
    if lost:
        raise Doubt(f"a comment would be lost: {min(lost)[:60]}")
    return result.replace("\n", "\r\n") if texts.crlf else result


def _by_lines(texts: Texts) -> str | None:
    lines: list[str] = []
    for chunk in diff3.chunks(texts.base, texts.trunk, texts.spec):
        if chunk.conflict and chunk.base:
            return None
        lines += [*chunk.trunk, *chunk.spec] if chunk.conflict else chunk.clean
    return "".join(lines)


def _right(text: str, wanted: Any) -> bool:
    try:
        return keyed.equal(_toml(text), wanted)
    except Doubt:
        return False


def _comments(text: str) -> set[str]:
    return {line.strip() for line in text.split("\n") if line.lstrip().startswith("#")}
