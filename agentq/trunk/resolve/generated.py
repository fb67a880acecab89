"""A generated file that is committed: generate it anew from the merged sources.

Once beginning with trunk's version, once with the spec's. Both must give the same bytes: so it is deterministic,
and does not just leave what it finds.
"""

from agentq.core.paths import matches_any
from agentq.trunk.resolve.base import Answer, Dispute, Rerun, Situation, Stopped


class Generated:
    name = "generated"

    def claims(self, dispute: Dispute, situation: Situation) -> bool:
        return dispute.kind in ("content", "add/add", "binary", "both") and matches_any(
            situation.generated, dispute.path
        )

    def resolve(self, dispute: Dispute, situation: Situation) -> Answer:
        if not situation.regenerate:
            return Stopped(dispute.path, self.name, "[conflicts] regenerate does not say how it is generated")
        if dispute.trunk is None or dispute.spec is None:
            return Stopped(dispute.path, self.name, "one side deleted or moved it")
        return Rerun(
            dispute.path, dispute.trunk, situation.regenerate, situation.generated, self.name, "generated anew",
            again=dispute.spec,
        )  # fmt: skip
