"""What is about a path and not about lines. Always for a person."""

from agentq.trunk.resolve.base import Answer, Dispute, Situation, Stopped

WHY = {
    "modify/delete": "one side changed it, the other one deleted it",
    "rename": "it was renamed, and the other side renamed or deleted it too, or added to its folder",
    "file/directory": "one side has a file where the other one has a folder",
    "mode": "the sides differ in what kind of file it is",
    "submodule": "it is a submodule",
    "symlink": "it is a symbolic link",
    "binary": "it is binary, or .gitattributes says not to merge it",
    "other": "git cannot merge it, or it is too large to look at",
}


class Structural:
    name = "structural"

    def claims(self, dispute: Dispute, _situation: Situation) -> bool:
        return dispute.kind in WHY

    def resolve(self, dispute: Dispute, _situation: Situation) -> Answer:
        return Stopped(dispute.path, f"{self.name} ({dispute.kind})", WHY[dispute.kind])
