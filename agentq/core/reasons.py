"""Why a spec is not chosen, as data; `text` says it in plain words and commands only print it."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from agentq.core.text import plural


@dataclass(frozen=True)
class Reason:
    kind: ClassVar[str] = "reason"

    @property
    def text(self) -> str:
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "text": self.text, **asdict(self)}


@dataclass(frozen=True)
class Dependency(Reason):
    """Waits for specs that are not completed."""

    kind: ClassVar[str] = "dependency"
    waits_for: tuple[str, ...]

    @property
    def text(self) -> str:
        return "waits for " + _some(self.waits_for)


@dataclass(frozen=True)
class Files(Reason):
    """Destructively overlaps with a spec in progress."""

    kind: ClassVar[str] = "files"
    with_spec: str
    paths: tuple[str, ...]

    @property
    def text(self) -> str:
        return f"{self.with_spec} is changing {_some(self.paths)}"


@dataclass(frozen=True)
class Held(Reason):
    kind: ClassVar[str] = "held"
    why: str = ""

    @property
    def text(self) -> str:
        return f"held: {self.why}" if self.why else "held"


@dataclass(frozen=True)
class NoModel(Reason):
    """No model may be asked, or nothing may be spent: that is about the host, not about a spec."""

    kind: ClassVar[str] = "no-model"
    why: str

    @property
    def text(self) -> str:
        return self.why


@dataclass(frozen=True)
class Attention(Reason):
    kind: ClassVar[str] = "attention"
    question: str

    @property
    def text(self) -> str:
        return f"needs you: {self.question}"


@dataclass(frozen=True)
class Drained(Reason):
    kind: ClassVar[str] = "drained"
    machine: str

    @property
    def text(self) -> str:
        return f"{self.machine} is drained"


@dataclass(frozen=True)
class MachineFull(Reason):
    kind: ClassVar[str] = "machine-full"
    running: int
    instances: int

    @property
    def text(self) -> str:
        return f"this machine runs {self.running} of {plural(self.instances, 'instance')}"


@dataclass(frozen=True)
class Memory(Reason):
    """Sizes in GB."""

    kind: ClassVar[str] = "memory"
    free_gb: float
    needed_gb: float

    @property
    def text(self) -> str:
        return f"{self.free_gb:.1f} GB of memory free, an agent needs {self.needed_gb:.1f}"


@dataclass(frozen=True)
class Paused(Reason):
    kind: ClassVar[str] = "paused"
    why: str = ""

    @property
    def text(self) -> str:
        return f"the queue is paused: {self.why}" if self.why else "the queue is paused"


@dataclass(frozen=True)
class Elsewhere(Reason):
    """In progress on another machine; its stages stay there (mission row T7)."""

    kind: ClassVar[str] = "elsewhere"
    machine: str

    @property
    def text(self) -> str:
        return f"in progress on {self.machine}"


@dataclass(frozen=True)
class Live(Reason):
    """An agentq process is working on it right now."""

    kind: ClassVar[str] = "running"
    status: str

    @property
    def text(self) -> str:
        return f"{self.status} right now"


@dataclass(frozen=True)
class Behind(Reason):
    """Eligible, but others go first."""

    kind: ClassVar[str] = "behind"
    position: int
    first: str

    @property
    def text(self) -> str:
        return f"eligible, number {self.position} in line behind {self.first}"


def _some(items: tuple[str, ...], limit: int = 3) -> str:
    shown = ", ".join(items[:limit])
    return f"{shown} and {len(items) - limit} more" if len(items) > limit else shown
