"""Secrets out of what is captured: the password of a database's URL reaches no log (databases fact, "Isolation").

A short password ("dev", "postgres") is an ordinary word: it is hidden in a URL, and left elsewhere.
"""

import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus, unquote

SHORTEST = 8  # characters of a password that is hidden wherever it stands
HIDDEN = "***"
_WHOLE_URL = re.compile(r"\w[\w+.-]*://[^:/@\s]*:([^\s]+)@[^@\s]*")  # a password here may hold quotes
_IN_URL = re.compile(r"(\w:/{2}[^:/@\s\"']*):([^\s\"']+)@")
# password=x, PGPASSWORD='x y', password = x, "password": "x"
_AS_OPTION = re.compile(
    r"""(?i)(\b\w*password\s*=\s*|"\w*password"\s*:\s*(?="))("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^&\s"',;]+)"""
)


def in_urls(text: str) -> str:
    """`text` with the password of every URL in it hidden."""
    return _AS_OPTION.sub(rf"\g<1>{HIDDEN}", _IN_URL.sub(rf"\g<1>:{HIDDEN}@", text))


def passwords(texts: Iterable[str]) -> tuple[str, ...]:
    """The passwords in URLs among `texts`, as written and decoded, longest first; short ones left out."""
    known = list(texts)
    found = [match[2] for text in known for match in _IN_URL.finditer(text)]
    found += [match[1] for text in known if (match := _WHOLE_URL.fullmatch(text))]
    found += [_bare(match[2]) for text in known for match in _AS_OPTION.finditer(text)]
    forms = {form for one in found for form in _written(one)}
    return tuple(sorted((form for form in forms if len(form) >= SHORTEST), key=lambda form: (-len(form), form)))


def _bare(value: str) -> str:
    """A value without the quotes around it."""
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value[:1] in "\"'" else value


def _written(password: str) -> set[str]:
    """The ways programs write a password: as it was given, plain, and encoded for a URL."""
    plain = unquote(password)
    return {password, plain, quote(plain, safe=""), quote(plain), quote_plus(plain)}


def without(text: str, secrets: Iterable[str]) -> str:
    """`text` with every one of `secrets` hidden, and the passwords of the URLs in it."""
    known = sorted({secret for secret in secrets if secret}, key=lambda secret: (-len(secret), secret))
    return in_urls(re.sub("|".join(map(re.escape, known)), HIDDEN, text) if known else text)


class Redactor:
    """Hides `secrets` in a stream that arrives in pieces, also one that is torn between two of them. Holds back as
    little as could still become a secret."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = {secret.encode("utf-8", "surrogateescape") for secret in secrets if secret}
        self._secrets = sorted(known, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, self._secrets)))
        self._first = re.compile(b"[" + b"".join(sorted({re.escape(secret[:1]) for secret in known})) + b"]")
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        """What can be written down so far."""
        data = self._held + piece
        # To look for each alone is six times as fast as to look for all at once.
        there = any(secret in data for secret in self._secrets)
        clean = self._pattern.sub(HIDDEN.encode(), data) if there else data
        keep = self._open(clean)
        self._held = clean[len(clean) - keep :]
        return clean[: len(clean) - keep]

    def flush(self) -> bytes:
        """The rest, when nothing more comes."""
        rest, self._held = self._held, b""
        return rest

    def _open(self, data: bytes) -> int:
        """Length of the longest end of `data` that begins a secret."""
        if not self._secrets:
            return 0
        for match in self._first.finditer(data, max(0, len(data) - len(self._secrets[0]) + 1)):
            end = data[match.start() :]
            if any(secret.startswith(end) for secret in self._secrets):
                return len(end)
        return 0
