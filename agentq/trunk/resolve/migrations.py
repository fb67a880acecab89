"""A file of the migration tool: trunk's version, or its absence. The flow then makes the spec's anew on top."""

from agentq.trunk.resolve.base import Answer, Dispute, Resolved, Situation


class Migrations:
    name = "migration"

    def claims(self, dispute: Dispute, situation: Situation) -> bool:
        plain = dispute.kind in ("content", "add/add", "modify/delete", "both")
        return plain and situation.migration(dispute.path)

    def resolve(self, dispute: Dispute, _situation: Situation) -> Answer:
        said = "trunk's version; the spec's migration is made anew on top of it"
        if dispute.trunk is None:
            said = "gone, as on trunk; the spec's migration is made anew"
        return Resolved(dispute.path, dispute.trunk, self.name, said)
