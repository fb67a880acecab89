"""The same change on both sides."""

from agentq.trunk.resolve.base import Answer, Dispute, Resolved, Situation


class Identical:
    name = "identical"

    def claims(self, dispute: Dispute, _situation: Situation) -> bool:
        same = dispute.trunk is not None and dispute.trunk == dispute.spec and dispute.modes[1] == dispute.modes[2]
        # A rename or a folder in the way is about more than this path.
        return same and dispute.kind in ("content", "add/add", "binary")

    def resolve(self, dispute: Dispute, _situation: Situation) -> Answer:
        return Resolved(dispute.path, dispute.trunk, self.name, "both sides made the same change")
