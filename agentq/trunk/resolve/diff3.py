"""Three versions of a text as chunks: what both left, what one side changed, where both did.

Invariant: the trunk parts of all chunks are trunk's text, the spec parts the spec's, the base parts the base's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from agentq.trunk.resolve.base import Dispute, Doubt

MOST = 4_000_000  # pairs of lines to compare
Lines = Sequence[str]


@dataclass(frozen=True)
class Chunk:
    """Lines, each with its line end. A conflict has three different parts; git would stop there."""

    base: Lines
    trunk: Lines
    spec: Lines

    @property
    def conflict(self) -> bool:
        return self.base not in (self.trunk, self.spec) and self.trunk != self.spec

    @property
    def clean(self) -> Lines:
        """The merge of a chunk that is no conflict."""
        return self.spec if self.trunk == self.base else self.trunk


@dataclass(frozen=True)
class Texts:
    """The versions of a path as text. A missing base is empty; every text ends its last line. `open`: whether the
    merged text does not, `crlf`: how its lines end."""

    base: str
    trunk: str
    spec: str
    open: bool
    crlf: bool

    def encode(self, text: str) -> bytes:
        end = "\r\n" if self.crlf else "\n"
        return (text.removesuffix(end) if self.open else text).encode()


def texts(dispute: Dispute) -> Texts:
    """Raises Doubt for what is not text, or mixes line ends."""
    if dispute.trunk is None or dispute.spec is None:
        raise Doubt("one side deleted it")
    decoded = []
    for content in (dispute.base or b"", dispute.trunk, dispute.spec):
        if b"\0" in content:
            raise Doubt("it is binary")
        try:
            decoded.append(content.decode())
        except UnicodeDecodeError:
            raise Doubt("it is not UTF-8") from None
    crlf = [_crlf(text) for text in decoded if text]
    if None in crlf or len(set(crlf)) > 1:
        raise Doubt("its versions differ in how lines end")
    windows = bool(crlf and crlf[0])
    opened = [bool(text) and not text.endswith("\n") for text in decoded]
    end = "\r\n" if windows else "\n"
    base, trunk, spec = (text + end if is_open else text for text, is_open in zip(decoded, opened, strict=True))
    return Texts(base, trunk, spec, opened[2] if opened[1] == opened[0] else opened[1], windows)


def _crlf(text: str) -> bool | None:
    """Whether the lines end in CRLF; None if only some do."""
    ends = text.count("\r\n")
    return None if text.count("\r") != ends or ends not in (0, text.count("\n")) else ends > 0


def chunks(base: str, trunk: str, spec: str) -> list[Chunk]:
    """Raises Doubt where too much changed to compare it."""
    b, t, s = (text.splitlines(keepends=True) if _plain(text) else _split(text) for text in (base, trunk, spec))
    in_trunk, in_spec = _matches(b, t), _matches(b, s)
    found: list[Chunk] = []
    i = j = k = 0
    for anchor in [*sorted(in_trunk.keys() & in_spec.keys()), None]:
        x, y, z = (len(b), len(t), len(s)) if anchor is None else (anchor, in_trunk[anchor], in_spec[anchor])
        if (x, y, z) != (i, j, k):
            found.append(Chunk(b[i:x], t[j:y], s[k:z]))
        if anchor is not None:
            found.append(Chunk(b[x : x + 1], t[y : y + 1], s[z : z + 1]))
        i, j, k = x + 1, y + 1, z + 1
    return found


def _plain(text: str) -> bool:
    return len(text.splitlines()) == text.count("\n")


def _split(text: str) -> list[str]:
    """Lines as git counts them: a form feed or U+2028 ends none."""
    parts = text.split("\n")
    return [part + "\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _matches(base: Lines, side: Lines) -> dict[int, int]:
    """Line of base → the line of the side that is the same one. What is equal at both ends is equal, as in git."""
    shorter = min(len(base), len(side))
    head = next((n for n in range(shorter) if base[n] != side[n]), shorter)
    tail = next((n for n in range(shorter - head) if base[-1 - n] != side[-1 - n]), shorter - head)
    middle = (base[head : len(base) - tail], side[head : len(side) - tail])
    if len(middle[0]) * len(middle[1]) > MOST:
        raise Doubt("too much of it changed")
    blocks = SequenceMatcher(None, *middle, autojunk=False).get_matching_blocks()
    found = {n: n for n in range(head)}
    found |= {head + block.a + n: head + block.b + n for block in blocks for n in range(block.size)}
    return found | {len(base) - 1 - n: len(side) - 1 - n for n in range(tail)}
