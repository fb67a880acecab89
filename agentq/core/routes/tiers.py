"""The chain of tiers for a kind of work: what is tried first, what after it (mission rows N6, P11)."""

from collections.abc import Sequence

from agentq.core.models import Models
from agentq.core.routes.guess import SMALL
from agentq.core.usage import Usage
from agentq.errors import UserError

# What a request of an agent's is like: most of it is in the cache. It makes prices comparable.
TYPICAL = Usage(input=2_000, output=1_000, cache_read=30_000, cache_write=2_000)
# Whose chain is taken for a kind without one.
SAFE_KINDS = ("structured", "judgment", "planning", "research", "bulk")

Chain = tuple[tuple[str, ...], list[str]]  # names of tiers, the first to try first; sentences that say why


def chain(models: Models, kind: str, complexity: int) -> Chain:
    """Under a complexity of 4 the cheapest tier first, else the strongest; of equals the one that the route names
    first. Nothing that is used only by name. ((), why): the agent's own model."""
    tiers = _route(models, kind)
    why = []
    if not tiers:
        instead = next((other for other in SAFE_KINDS if _route(models, other)), "")
        if not instead:
            return (), ["no tiers are set for it: the agent's own model"]
        why = [f"there is no route for {kind}: it takes that of {instead}"]
        tiers = _route(models, instead)
    if complexity < SMALL:
        found = sorted(tiers, key=lambda name: models.tiers[name].price.of(TYPICAL))
        return tuple(found), [*why, f"complexity {complexity} of 10: the cheapest tier first, {found[0]}"]
    found = sorted(tiers, key=lambda name: -models.tiers[name].strength)
    return tuple(found), [*why, f"complexity {complexity} of 10: the strongest tier first, {found[0]}"]


def merged(models: Models, kinds: Sequence[str], complexity: int) -> Chain:
    """The tiers of several kinds, the strongest first: for work of which it is not known which kind it is."""
    names = dict.fromkeys(name for kind in kinds for name in chain(models, kind, complexity)[0])
    if not names:
        return chain(models, kinds[0], complexity)
    found = sorted(names, key=lambda name: -models.tiers[name].strength)
    return tuple(found), [f"it may be {' or '.join(kinds)}: the strongest of their tiers first, {found[0]}"]


def explicit_chain(models: Models, kind: str) -> Chain:
    """The tiers of a kind that somebody asked for by name, the strongest first. UserError: it has none; nothing
    else is taken instead."""
    tiers = [name for name in models.routes.get(kind, ()) if name in models.tiers]
    if not tiers:
        raise UserError(f"no tiers are set for {kind}", f'name them in agents/config.toml: [route] {kind} = ["…"]')
    found = sorted(tiers, key=lambda name: -models.tiers[name].strength)
    return tuple(found), [f"the strongest tier first, {found[0]}"]


def _route(models: Models, kind: str) -> list[str]:
    if kind in models.explicit:
        return []
    return [name for name in models.routes.get(kind, ()) if name in models.tiers and name not in models.explicit]
