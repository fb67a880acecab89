"""The specs of the lane on top of each other: one commit each, made by merge, without a checkout."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from agentq.config import POLICY_FILE
from agentq.core.paths import matches_any
from agentq.core.spec import InProgress
from agentq.errors import ExternalError, Stale
from agentq.flows import merging
from agentq.flows.merging import Placed, Plan
from agentq.flows.migrate import Canonical, canonical
from agentq.flows.outcome import Failed, Interrupted
from agentq.flows.session import Session, with_resolved


def published(spec_id: str, what: str = "verify") -> str:
    """Where a spec's work lies on the remote of a shared queue."""
    return f"refs/agentq/wip/{spec_id}/{what}"


@dataclass(frozen=True)
class Linked:
    """A spec in the chain: its commit stands on the one before, `tree` is what trunk would be. `made`: the paths
    whose content a command gave: no merge gives them again."""

    entry: InProgress
    commit: str
    tree: str
    made: frozenset[str] = frozenset()


@dataclass
class Chain:
    """Remembers what it merged: the same spec on the same commit is the same link."""

    session: Session
    known: dict[tuple[str, str], Linked | None] = field(default_factory=dict)

    def build(self, trunk: str, waiting: Sequence[InProgress], most: int) -> tuple[list[Linked], list[InProgress]]:
        """The longest chain of `waiting` on `trunk` that merges, of at most `most` specs since a link may need
        commands; and the specs that do not fit trunk itself: they conflict with it, add nothing to it, or their
        work cannot be had. A spec that may change how trunk verifies is the last of its chain: what comes after is
        tested by its rules."""
        chain: list[Linked] = []
        unfit: list[InProgress] = []
        onto = trunk
        for entry in waiting[:most]:
            made = self._link(entry, onto)
            if made is None:
                if onto == trunk or self._link(entry, trunk) is None:
                    unfit.append(entry)
                break
            chain.append(replace(made, entry=entry))
            onto = made.commit
            if matches_any(entry.files_modified, POLICY_FILE):
                break
        return chain, unfit

    def _link(self, entry: InProgress, onto: str) -> Linked | None:
        assert entry.place is not None
        key = (onto, entry.place.work)
        if key not in self.known:
            self.known[key] = self._merge(entry, onto)
        return self.known[key]

    def _merge(self, entry: InProgress, onto: str) -> Linked | None:
        """The spec on `onto`; None if it does not fit there."""
        mirror, place = self.session.services.mirror, entry.place
        assert place is not None
        shared = self.session.services.store.shared
        if not (mirror.obtain(place.work, published(entry.id)) if shared else mirror.has(place.work)):
            self.session.say("note", text=f"the work of {entry.id} is not there; it goes back to its owner")
            return None
        if place.base == onto:
            return Linked(entry, place.work, place.tree)
        placed = self._placed(entry, place.work, onto)
        if placed is None or placed.tree == mirror.tree(onto):
            return None
        message, author = mirror.message(place.work, onto)
        message = with_resolved(message, placed.resolved)
        env = {**self.session.services.identity, **author}
        return Linked(entry, mirror.commit_tree(placed.tree, [onto], message, env), placed.tree, placed.made)

    def _placed(self, entry: InProgress, work: str, onto: str) -> Placed | None:
        """The work on `onto`, with its migration made anew if others landed before it; None if it does not fit:
        then its owner verifies it again and hears why. Raises Stale when this process is to stop."""
        checkout = self.session.services.workspaces.proof_path("chain")
        placed = merging.place(self.session, entry, work, onto, checkout)
        if isinstance(placed, Placed) and placed.stale:
            made = canonical(self.session, entry, onto, placed.tree, checkout)
            if isinstance(made, Canonical):
                return replace(placed, tree=made.tree, made=placed.made | set(made.written))
            placed = made
        if isinstance(placed, Interrupted):
            raise Stale("stopped while the chain was built")
        if isinstance(placed, Failed):
            self.session.say("note", text=f"{entry.id} goes back to its owner: {placed.problem}")
        return placed if isinstance(placed, Placed) else None

    def assert_identity(self, trunk: str, batch: Sequence[Linked]) -> None:
        """Each commit of the batch stands on the one before it and holds its merge with the spec's work, nothing
        else but what a command was asked to make: a green test would not see another spec's work reverted (landing
        fact 8). Raises ExternalError."""
        mirror = self.session.services.mirror
        onto = trunk
        for one in batch:
            assert one.entry.place is not None
            parent, tree = mirror.git("log", "-1", "--format=%P %T", one.commit).text.split(" ")
            # Work that was proved on `onto` itself is its own merge.
            own = one.commit == one.entry.place.work
            if (parent, tree) != (onto, one.tree) or not (own or self._holds(one, onto)):
                raise ExternalError(
                    f"merge identity does not hold for '{one.entry.id}'", "nothing was pushed; this is a bug"
                )
            onto = one.commit

    def _holds(self, one: Linked, onto: str) -> bool:
        """Whether the tree is the merge, made once more, but for what commands gave."""
        assert one.entry.place is not None
        planned = merging.plan(self.session, one.entry, one.entry.place.work, onto)
        if not isinstance(planned, Plan) or planned.stopped:
            return False
        mirror = self.session.services.mirror
        return planned.tree == one.tree or all(
            change.path in one.made for change in mirror.changes(planned.tree, one.tree)
        )
