"""The port of a conflict class: classify, resolve, prove (landing facts, "Resolution table").

A class is asked about one path at a time, as values; it touches neither files nor git. What needs a command (a
lock file, a generated file) says which, and the flow runs it in a clean checkout.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

Kind = Literal[
    "content", "add/add", "modify/delete", "rename", "file/directory", "mode", "submodule", "symlink", "binary",
    "both", "other",
]  # fmt: skip


@dataclass(frozen=True)
class Dispute:
    """One path that both sides changed; `base`, `trunk`, `spec`: its versions, None where there is none.

    `kind`: what git said; "both": git merged it cleanly, and it is asked about because clean is not right for its
    class (landing fact, trap 2). `merged`: what git made of it, with markers where it is a conflict. `modes`: of
    base, trunk and spec, '' where absent."""

    path: str
    kind: Kind
    base: bytes | None
    trunk: bytes | None
    spec: bytes | None
    modes: tuple[str, str, str] = ("100644", "100644", "100644")
    merged: bytes | None = None

    @property
    def mode(self) -> str:
        """The mode of the merged file: that of the side that changed it."""
        base, trunk, spec = self.modes
        return (spec if trunk in (base, "") else trunk) or trunk


@dataclass(frozen=True)
class Resolved:
    """The whole new content of a path; None: it is gone. `rule`: the class that did it; `said`: what it did, for
    people. `format`: import blocks were merged, so `[conflicts] format` is to run on it."""

    path: str
    content: bytes | None
    rule: str
    said: str
    mode: str = "100644"
    format: bool = False


@dataclass(frozen=True)
class Rerun:
    """Take trunk's version of `path`, then run `command` at the top of a checkout of the merged tree. Only the
    files that `writes` names (paths and globs) are taken from it. `check` must succeed afterwards; '': none.

    `again`: the content of `path` to run the command on a second time; both runs must give the same bytes.
    `prove`: what the command left in `path` → '' or why it is not to be trusted."""

    path: str
    trunk: bytes
    command: str
    writes: tuple[str, ...]
    rule: str
    said: str
    check: str = ""
    again: bytes | None = None
    prove: Callable[[bytes], str] = lambda _after: ""
    mode: str = "100644"


@dataclass(frozen=True)
class Stopped:
    """Nothing automatic is safe: a person decides."""

    path: str
    rule: str
    why: str


Answer = Resolved | Rerun | Stopped


@dataclass(frozen=True)
class Situation:
    """What else a class may look at. `additive`: [overlap] additive; `generated`, `regenerate`: [conflicts];
    `migration`: whether a path belongs to the migration tool; `answers`: what was answered so far, by path."""

    additive: tuple[str, ...] = ()
    generated: tuple[str, ...] = ()
    regenerate: str = ""
    migration: Callable[[str], bool] = lambda _path: False
    answers: Mapping[str, Answer | None] = field(default_factory=dict)


class Rule(Protocol):
    """One conflict class."""

    name: str

    def claims(self, dispute: Dispute, situation: Situation, /) -> bool:
        """Whether the path is of this class. The first class that claims a path decides about it."""
        ...

    def resolve(self, dispute: Dispute, situation: Situation, /) -> Answer | None:
        """What to do about it, proved as far as values can prove it. None, for what git merged cleanly: git's
        merge stands."""
        ...


class Doubt(Exception):
    """Why a class will not resolve a path; becomes Stopped."""
