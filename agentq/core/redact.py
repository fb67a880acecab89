"""Secrets out of what is captured: the password of a database's URL reaches no log (databases fact, "Isolation").

A short password ("dev", "postgres") is an ordinary word: it is hidden in a URL, and left elsewhere.
"""

import re
from collections.abc import Iterable
from urllib.parse import quote, unquote

SHORTEST = 8  # characters of a password that is hidden wherever it stands
HIDDEN = "***"
_IN_URL = re.compile(r"(\w:/{2}[^:/@\s\"']*):([^\s\"']+)@")
_AS_OPTION = re.compile(r"(?i)(\bpassword=)[^&\s\"']+")


def in_urls(text: str) -> str:
    """`text` with the password of every URL in it hidden."""
    return _AS_OPTION.sub(rf"\g<1>{HIDDEN}", _IN_URL.sub(rf"\g<1>:{HIDDEN}@", text))


def passwords(texts: Iterable[str]) -> tuple[str, ...]:
    """The passwords in URLs among `texts`, as written and decoded, longest first; short ones left out."""
    found = [match[2] for text in texts for match in _IN_URL.finditer(text)]
    found += [match[0].partition("=")[2] for text in texts for match in _AS_OPTION.finditer(text)]
    forms = {form for one in found for form in (one, unquote(one), quote(unquote(one), safe=""))}
    return tuple(sorted((form for form in forms if len(form) >= SHORTEST), key=lambda form: (-len(form), form)))


class Redactor:
    """Hides `secrets` in a stream that arrives in pieces, also one that is torn between two of them. Holds back as
    little as could still become a secret."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = [secret.encode("utf-8", "surrogateescape") for secret in secrets if secret]
        self._pattern = re.compile(b"|".join(map(re.escape, sorted(self._secrets, key=len, reverse=True))))
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        """What can be written down so far."""
        data = self._held + piece
        clean = self._pattern.sub(HIDDEN.encode(), data) if self._secrets else data
        keep = self._open(clean)
        self._held = clean[len(clean) - keep :]
        return clean[: len(clean) - keep]

    def flush(self) -> bytes:
        """The rest, when nothing more comes."""
        rest, self._held = self._held, b""
        return rest

    def _open(self, data: bytes) -> int:
        """Length of the longest end of `data` that begins a secret."""
        most = max((len(secret) for secret in self._secrets), default=1) - 1
        for length in range(min(most, len(data)), 0, -1):
            end = data[-length:]
            if any(secret.startswith(end) for secret in self._secrets):
                return length
        return 0
