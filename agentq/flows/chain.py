"""The specs of the lane on top of each other: one commit each, made by merge, without a checkout."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from agentq.config import POLICY_FILE
from agentq.core.paths import matches_any
from agentq.core.spec import InProgress
from agentq.errors import ExternalError
from agentq.flows.session import Session

DEPTH = 64  # specs of one chain; a batch has at most 8


def published(spec_id: str, what: str = "verify") -> str:
    """Where a spec's work lies on the remote of a shared queue."""
    return f"refs/agentq/wip/{spec_id}/{what}"


@dataclass(frozen=True)
class Linked:
    """A spec in the chain: its commit stands on the one before, `tree` is what trunk would be."""

    entry: InProgress
    commit: str
    tree: str


@dataclass
class Chain:
    """Remembers what it merged: the same spec on the same commit is the same link."""

    session: Session
    known: dict[tuple[str, str], tuple[str, str] | None] = field(default_factory=dict)

    def build(self, trunk: str, waiting: Sequence[InProgress]) -> tuple[list[Linked], list[InProgress]]:
        """The longest chain of `waiting` on `trunk` that merges, and the specs that do not fit trunk itself: they
        conflict with it, add nothing to it, or their work cannot be had. A spec that may change how trunk verifies
        is the last of its chain: what comes after is tested by its rules."""
        chain: list[Linked] = []
        unfit: list[InProgress] = []
        onto = trunk
        for entry in waiting[:DEPTH]:
            made = self._link(entry, onto)
            if made is None:
                if onto == trunk or self._link(entry, trunk) is None:
                    unfit.append(entry)
                break
            chain.append(Linked(entry, *made))
            onto = made[0]
            if matches_any(entry.files_modified, POLICY_FILE):
                break
        return chain, unfit

    def _link(self, entry: InProgress, onto: str) -> tuple[str, str] | None:
        assert entry.place is not None
        key = (onto, entry.place.work)
        if key not in self.known:
            self.known[key] = self._merge(entry, onto)
        return self.known[key]

    def _merge(self, entry: InProgress, onto: str) -> tuple[str, str] | None:
        """(commit, tree) of the spec on `onto`; None if it does not fit there."""
        mirror, place = self.session.services.mirror, entry.place
        assert place is not None
        shared = self.session.services.store.shared
        if not (mirror.obtain(place.work, published(entry.id)) if shared else mirror.has(place.work)):
            self.session.say("note", text=f"the work of {entry.id} is not there; it goes back to its owner")
            return None
        if place.base == onto:
            return place.work, place.tree
        merged = mirror.rebase(place.work, onto)
        if merged.conflicts or merged.tree == mirror.tree(onto):
            return None
        message, author = mirror.message(place.work)
        env = {**self.session.services.identity, **author}
        return mirror.commit_tree(merged.tree, [onto], message, env), merged.tree

    def assert_identity(self, trunk: str, batch: Sequence[Linked]) -> None:
        """Each commit of the batch stands on the one before it and holds its merge with the spec's work, nothing
        else: a green test would not see another spec's work reverted (landing fact 8). Raises ExternalError."""
        mirror = self.session.services.mirror
        onto = trunk
        for one in batch:
            assert one.entry.place is not None
            parent, tree = mirror.git("log", "-1", "--format=%P %T", one.commit).text.split(" ")
            # Work that was proved on `onto` itself is its own merge.
            own = one.commit == one.entry.place.work
            merged = tree if own else mirror.rebase(one.entry.place.work, onto).tree
            if (parent, tree, one.tree) != (onto, merged, merged):
                raise ExternalError(
                    f"merge identity does not hold for '{one.entry.id}'", "nothing was pushed; this is a bug"
                )
            onto = one.commit
