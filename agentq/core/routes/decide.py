"""Which worker, which model, how many at once: the decision about a text (mission rows P5, P11, N6).

Three layers are asked in turn: keyword rules, a classifier, a model. The first that is sure decides. Invariants: a
kind or tier that is used only when somebody names it (`Models.explicit`) is never chosen by a text; and a decision
says why, in sentences that hold nothing of the text but words of the rules.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from agentq.core.models import Models
from agentq.core.routes import keywords
from agentq.core.routes.guess import KINDS, MANY, ONE, Guess, best
from agentq.core.routes.opinion import Opinion
from agentq.core.routes.size import Hints, complexity
from agentq.core.routes.tiers import Chain, chain, explicit_chain, merged
from agentq.core.text import did_you_mean
from agentq.errors import UserError

SAFE_TYPE = "implementation"  # of the worker types the one with the widest limits (row P6)

Layer = Literal["caller", "keywords", "classifier", "model"]
Strategy = Literal["one", "parallel", "safe"]
Classify = Callable[[keywords.Reading], Guess]
Consult = Callable[[str], Opinion | str]  # a text as its answer: why there is no opinion


@dataclass(frozen=True, slots=True)
class Expert:
    """One who works on it. tier: '' for the agent's own model. share: how likely this is the right one, 0 to 1."""

    type: str
    kind: str
    tier: str
    share: float


@dataclass(frozen=True, slots=True)
class Routed:
    """The decision. tiers: the chain of tiers, the first to try first; () for the agent's own model. strategy:
    `one` expert; `parallel`: all of `experts`, two or three; `safe`: nobody is sure, so the strongest tier of all
    kinds that it may be goes first. reasons: sentences for people."""

    type: str
    kind: str
    tiers: tuple[str, ...]
    complexity: int
    confidence: float
    strategy: Strategy
    experts: tuple[Expert, ...]
    layer: Layer
    reasons: tuple[str, ...]

    @property
    def tier(self) -> str:
        return self.tiers[0] if self.tiers else ""

    def to_json(self) -> dict[str, Any]:
        document = {**asdict(self), "tier": self.tier, "confidence": round(self.confidence, 3)}
        document["experts"] = [{**asdict(one), "share": round(one.share, 3)} for one in self.experts]
        return document


def decide(
    text: str,
    *,
    models: Models,
    classify: Classify,
    type: str | None = None,
    kind: str | None = None,
    hints: Hints = Hints(),
    consult: Consult | None = None,
) -> Routed:
    """Route a text: a spec's title and description. What is given as `type` and `kind` stands.

    classify: the second layer. consult: the third; it is asked only if both others are unsure. UserError: a kind
    that there is not, or an explicit one without tiers.
    """
    _check_kind(kind, models)
    reading = keywords.read(text)
    view = _look(reading, keywords.guess(reading), models, "keywords", type, kind)
    second = classify(reading)
    if view.confidence <= ONE:
        view = _look(reading, second, models, "classifier", type, kind)
    if view.confidence <= MANY:
        view = _third(text, view, models, consult)
    size, why = complexity(view.complexity or second.complexity, hints, view.kind)
    return _route(view, models, size, (*_given(type, kind), *view.reasons, *why))


# ---------------------------------------------------------------- the layers


@dataclass(frozen=True, slots=True)
class _View:
    """What the layers asked so far make of it. types, kinds: label → share; of what is given, 1. complexity: 0
    where nothing is said. safe: nobody was sure."""

    layer: Layer
    types: Mapping[str, float]
    kinds: Mapping[str, float]
    complexity: float
    confidence: float
    reasons: tuple[str, ...] = ()
    safe: bool = False

    @property
    def type(self) -> str:
        return best(self.types)

    @property
    def kind(self) -> str:
        return best(self.kinds)


def _look(
    reading: keywords.Reading, guess: Guess, models: Models, layer: Layer, type: str | None, kind: str | None
) -> _View:
    """What one of the first two layers says, with what is given put in its place."""
    types = {type: 1.0} if type else guess.types
    kinds = {kind: 1.0} if kind else _by_text(guess.kinds, models)
    view = _View(layer, types, kinds, guess.complexity, max(types.values()) * max(kinds.values()))
    if type and kind:
        return replace(view, layer="caller")
    what = view.kind if type else view.type if kind else f"{view.type}, {view.kind}"
    why = "the rest reads like" if type or kind else "it reads like"
    if layer == "keywords":
        why = f"the words {_phrases(reading, view)} say"
    return replace(view, reasons=(f"{why} {what} ({view.confidence:.0%} sure)",))


def _by_text(kinds: Mapping[str, float], models: Models) -> Mapping[str, float]:
    """The kinds that a text may route to, with their shares of what is left."""
    left = {kind: share for kind, share in kinds.items() if kind not in models.explicit}
    total = sum(left.values())
    if not total:
        raise UserError("every kind of work is used only by name", "shorten `explicit` in agents/config.toml")
    return kinds if len(left) == len(kinds) else {kind: share / total for kind, share in left.items()}


def _phrases(reading: keywords.Reading, view: _View, limit: int = 3) -> str:
    """The phrases that speak for the best type and kind, the weightiest first, quoted."""
    weights: dict[str, float] = {}
    for hit in reading.hits:
        weight = sum(max(0.0, hit.rule.votes.get(label, 0.0)) for label in (view.type, view.kind))
        weights[hit.phrase] = weights.get(hit.phrase, 0.0) + weight
    found = sorted((phrase for phrase in weights if weights[phrase]), key=lambda phrase: -weights[phrase])
    return ", ".join(f"“{phrase}”" for phrase in found[:limit])


def _third(text: str, view: _View, models: Models, consult: Consult | None) -> _View:
    """Ask a model. If there is none, or it is not sure either, what the classifier says, made safe."""
    answer = consult(text) if consult else "there is no model to ask"
    if isinstance(answer, Opinion) and answer.kind in models.explicit:
        answer = f"the model that was asked named {answer.kind}, which only a person may name"
    if isinstance(answer, Opinion) and answer.confidence > MANY:
        return _agreed(view, answer)
    if isinstance(answer, Opinion):
        answer = f"the model that was asked is not sure either ({answer.confidence:.0%})"
    reasons = [*view.reasons, f"{answer}: the safe choice is made"]
    types = view.types
    if max(types.values()) <= MANY:
        types = {SAFE_TYPE: 1.0}
        reasons.append(f"the type is not clear: {SAFE_TYPE} has the widest limits")
    return replace(view, types=types, reasons=tuple(reasons), safe=True)


def _agreed(view: _View, answer: Opinion) -> _View:
    """The model's opinion on top, what the classifier held likely below. What is given stands."""
    types = view.types if len(view.types) == 1 else _above(view.types, answer.type, answer.confidence)
    kinds = view.kinds if len(view.kinds) == 1 else _above(view.kinds, answer.kind, answer.confidence)
    why = f"a model was asked and says {best(types)}, {best(kinds)} ({answer.confidence:.0%} sure)"
    return _View("model", types, kinds, answer.complexity, answer.confidence, (*view.reasons, why))


def _above(of: Mapping[str, float], label: str, share: float) -> dict[str, float]:
    """`label` with its share; the others keep their proportions and get the rest."""
    others = {other: value for other, value in of.items() if other != label}
    total = sum(others.values()) or 1.0
    return {label: share, **{other: (1 - share) * value / total for other, value in others.items()}}


def _given(type: str | None, kind: str | None) -> list[str]:
    said = [f"its type is given: {type}"] if type else []
    return [*said, f"{kind} is asked for by name"] if kind else said


def _check_kind(kind: str | None, models: Models) -> None:
    known = dict.fromkeys((*KINDS, *models.routes, *models.explicit))
    if kind and kind not in known:
        hint = did_you_mean(kind, known) or f"one of {', '.join(known)}"
        raise UserError(f"there is no kind of work '{kind}'", hint)


# ---------------------------------------------------------------- tiers and experts


def _route(view: _View, models: Models, size: int, reasons: Sequence[str]) -> Routed:
    kinds = _likely(view.kinds) if view.safe else [view.kind]
    tiers, why = merged(models, kinds, size) if len(kinds) > 1 else _tiers(models, view.kind, size)
    experts = _experts(view, models, size, tiers)
    strategy: Strategy = "safe" if view.safe else "parallel" if len(experts) > 1 else "one"
    if strategy == "parallel":
        names = [f"{one.type}, {one.kind}" + (f" on {one.tier}" if one.tier else "") for one in experts]
        why = [*why, f"not over {ONE:.0%} sure: in parallel {'; '.join(names)}"]
    return Routed(
        view.type, view.kind, tiers, size, view.confidence, strategy, experts, view.layer, (*reasons, *why)
    )


def _tiers(models: Models, kind: str, size: int) -> Chain:
    return explicit_chain(models, kind) if kind in models.explicit else chain(models, kind, size)


def _likely(of: Mapping[str, float]) -> list[str]:
    """The likeliest labels, the likeliest first: until they are over ONE together, at most three."""
    found: list[str] = []
    for label in sorted(of, key=lambda label: -of[label]):
        if found and (sum(of[one] for one in found) > ONE or len(found) == 3):
            break
        found.append(label)
    return found


def _experts(view: _View, models: Models, size: int, tiers: tuple[str, ...]) -> tuple[Expert, ...]:
    """One; or two or three that differ in type or tier, so that none does what another does."""
    found = [Expert(view.type, view.kind, tiers[0] if tiers else "", view.confidence)]
    if view.safe or view.confidence > ONE:
        return tuple(found)
    pairs = {(worker, kind): p * q for worker, p in view.types.items() for kind, q in view.kinds.items()}
    del pairs[view.type, view.kind]
    for (worker, kind), share in sorted(pairs.items(), key=lambda item: -item[1]):
        if len(found) == 3 or (len(found) == 2 and found[0].share + found[1].share > ONE):
            break
        taken = {one.tier for one in found if one.type == worker}
        free = next((tier for tier in _tiers(models, kind, size)[0] or ("",) if tier not in taken), None)
        if free is not None:
            found.append(Expert(worker, kind, free, share))
    return tuple(found)
