"""The classes of conflicts, in the order in which they are asked (landing facts, "Resolution table")."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from agentq.core.paths import matches_any
from agentq.trunk.resolve import lockfile
from agentq.trunk.resolve.base import Answer, Dispute, Rule, Situation, Stopped
from agentq.trunk.resolve.generated import Generated
from agentq.trunk.resolve.hunks import Hunks
from agentq.trunk.resolve.identical import Identical
from agentq.trunk.resolve.lockfile import LockFile
from agentq.trunk.resolve.manifest import JSON, TOML, Manifest
from agentq.trunk.resolve.migrations import Migrations
from agentq.trunk.resolve.same_lines import SameLines
from agentq.trunk.resolve.structural import Structural

# The first class that claims a path decides about it. Manifests are decided before the lock files made from them.
RULES: tuple[Rule, ...] = (
    Migrations(),
    Identical(),
    LockFile(),
    Generated(),
    Structural(),
    Manifest(),
    Hunks(),
    SameLines(),
)
LAST = (LockFile, Generated)  # what they need is decided by the other classes


def suspects(trunk: AbstractSet[str], spec: AbstractSet[str], situation: Situation) -> list[str]:
    """Of the paths that each side changed, those to ask about although git merged them; some may not exist."""
    both = {
        path
        for path in trunk & spec
        if path.rsplit("/", 1)[-1] in TOML | JSON
        or matches_any(situation.generated, path)
        or situation.migration(path)
    }
    return sorted(both | lockfile.touched_by_both(trunk, spec))


def decide(disputes: Sequence[Dispute], situation: Situation) -> list[Answer]:
    """One answer for each conflict, and for what git merged wrongly, in the order in which they are to be done."""
    claimed = [(dispute, _rule(dispute, situation)) for dispute in disputes]
    claimed.sort(key=lambda one: isinstance(one[1], LAST) + isinstance(one[1], Generated))
    answers: dict[str, Answer | None] = {}
    for dispute, rule in claimed:
        answer = rule.resolve(dispute, replace(situation, answers=dict(answers)))
        answers[dispute.path] = (
            answer if answer is None or isinstance(answer, Stopped) else replace(answer, mode=dispute.mode)
        )
    return [answer for answer in answers.values() if answer is not None]


def _rule(dispute: Dispute, situation: Situation) -> Rule:
    return next(rule for rule in RULES if rule.claims(dispute, situation))
