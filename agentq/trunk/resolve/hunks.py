"""Text, conflict by conflict: import blocks, then pure additions; whatever else is the same lines, and stops."""

from collections.abc import Sequence

from agentq.core.paths import matches_any
from agentq.trunk.resolve import additive, diff3, imports, proof
from agentq.trunk.resolve.base import Answer, Dispute, Doubt, Resolved, Situation, Stopped
from agentq.trunk.resolve.diff3 import Chunk

SAME = "same lines"
_SAID = {"imports": "the imports of both", "additive": "what both added, trunk's first"}


class Hunks:
    """Stops with the rule that could not do it."""

    name = "imports, additive"

    def claims(self, dispute: Dispute, _situation: Situation) -> bool:
        return dispute.kind in ("content", "add/add")

    def resolve(self, dispute: Dispute, situation: Situation) -> Answer:
        declared = matches_any(situation.additive, dispute.path)
        try:
            if dispute.path.lower().endswith((".json", ".jsonc", ".json5", ".ipynb")):
                raise Doubt("JSON is not merged by lines")
            if dispute.base is None and not declared and not additive.IGNORES.search(dispute.path):
                raise Doubt("both sides added it, and not the same")
            texts = diff3.texts(dispute)
            chunks = diff3.chunks(texts.base, texts.trunk, texts.spec)
            seen = sum(line.startswith(b"<<<<<<< ") for line in (dispute.merged or b"").split(b"\n"))
            if dispute.merged is not None and seen != sum(chunk.conflict for chunk in chunks):
                raise Doubt("which lines changed can be told in more than one way")
            result, used = _merged(dispute.path, chunks, declared)
            if not used:
                raise Doubt("both sides changed the same lines")
            proof.prove(dispute.path, texts.base, texts.trunk, texts.spec, result)
        except Doubt as doubt:
            return Stopped(dispute.path, "additive" if declared else SAME, str(doubt))
        content = texts.encode(result)
        if proof.markers(content):
            return Stopped(dispute.path, SAME, "it holds conflict markers of its own")
        said = " and ".join(_SAID[rule] for rule in used)
        return Resolved(dispute.path, content, " + ".join(used), f"kept {said}", format="imports" in used)


def _merged(path: str, chunks: Sequence[Chunk], declared: bool) -> tuple[str, list[str]]:
    """The text, and the classes that were needed. Raises Doubt."""
    lines: list[str] = []
    used: list[str] = []
    places: list[int] = []
    before: list[str] = []
    for chunk in chunks:
        if not chunk.conflict:
            lines += chunk.clean
        elif (block := imports.union(path, chunk)) is not None:
            used.append("imports")
            lines += block
        else:
            kept = additive.union(path, chunk, declared)
            if problem := additive.comma_problem(path, before, chunk):
                raise Doubt(problem)
            names_only = not declared and additive.entries(chunk)
            places += [len(lines) + n for n, line in enumerate(kept) if names_only and line.strip()]
            used.append("imports" if names_only else "additive")
            lines += kept
        before += chunk.trunk
    text = "".join(lines)
    if not all(additive.order_free_place(path, text, place) for place in places):
        raise Doubt("both sides added to a list whose order may matter")
    return text, list(dict.fromkeys(used))
