"""The `.gitattributes` files of a tree as one file for `core.attributesFile`.

git 2.39 reads none of them when it merges in a bare repository (landing fact 7). One file means the same if its
lines come from the top down: the last line that matches decides, as a deeper file does.
"""

import re
from collections.abc import Mapping

NAME = ".gitattributes"
_UNION = re.compile(rb"\bmerge=union\b")
_LINE = re.compile(rb'[ \t\r]*(?:"((?:[^"\\]|\\.)*)"|([^ \t\r]+))(.*)', re.DOTALL)
_SPECIAL = re.compile(rb"[][*?\\]")


def compiled(files: Mapping[str, bytes]) -> bytes:
    """`files`: path of each `.gitattributes` (from the tree's top, `/` between segments) → its content.
    `merge=union` becomes an ordinary merge: it never stops, whatever both sides did (landing fact 4)."""
    lines: list[bytes] = []
    for path in sorted(files, key=lambda path: path.count("/")):
        folder = path[: -len(NAME)].encode("utf-8", "surrogateescape")
        for line in files[path].removeprefix(b"\xef\xbb\xbf").split(b"\n"):
            lines += [_below(folder, line) if folder else line]
    return _UNION.sub(b"merge", b"".join(line + b"\n" for line in lines if line.strip()))


def _below(folder: bytes, line: bytes) -> bytes:
    """A line of the file in `folder` (`a/b/`) as it reads at the top; b'' for what means nothing down there."""
    found = _LINE.fullmatch(line)
    if found is None or (found[2] is not None and found[2].startswith(b"#")):
        return b""
    pattern = _quoted(found[2]) if found[1] is None else found[1]
    if pattern.startswith((b"!", b"[attr]")):
        return b""
    depth = b"" if b"/" in pattern.rstrip(b"/") else b"**/"  # without a slash: a name, however deep
    where = _quoted(_SPECIAL.sub(rb"\\\g<0>", folder))
    return b'"' + where + depth + pattern.removeprefix(b"/") + b'"' + found[3]


def _quoted(text: bytes) -> bytes:
    return text.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
