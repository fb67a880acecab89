"""What is left: both sides changed the same lines. Always for a person."""

from agentq.trunk.resolve.base import Answer, Dispute, Situation, Stopped


class SameLines:
    name = "same lines"

    def claims(self, _dispute: Dispute, _situation: Situation) -> bool:
        return True

    def resolve(self, dispute: Dispute, _situation: Situation) -> Answer | None:
        return (
            None
            if dispute.kind == "both"
            else Stopped(dispute.path, self.name, "both sides changed the same lines")
        )
