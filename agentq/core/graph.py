"""The dependency graph: cycles as a path, how many specs each one frees, the critical path.

The hot figures are plain Python over integer indices: importing networkx costs more than ranking 10,000
specs (a bitset over the topological order takes 24 ms there, `networkx.descendants` 10 s; facts/users).
networkx does what is asked rarely: naming a cycle, layers and the transitive reduction for a picture.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_BLOCK = 8192  # columns of the reachability bitset handled at once: bounds memory to n × 1 KB


def topological(dependencies: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """(every node behind its dependencies, dependents of each node). A cycle shortens the first."""
    dependents: list[list[int]] = [[] for _ in dependencies]
    missing = [0] * len(dependencies)
    for node, needs in enumerate(dependencies):
        missing[node] = len(needs)
        for need in needs:
            dependents[need].append(node)
    order = [node for node, count in enumerate(missing) if not count]
    for node in order:
        for dependent in dependents[node]:
            missing[dependent] -= 1
            if not missing[dependent]:
                order.append(dependent)
    return order, dependents


def downstream_hours(order: list[int], dependents: list[list[int]], hours: Sequence[float]) -> list[float]:
    """Hours of the longest chain that begins with each node, its own included."""
    longest = list(hours)
    for node in reversed(order):
        behind = dependents[node]
        if behind:
            longest[node] += max(longest[dependent] for dependent in behind)
    return longest


def descendants_count(order: list[int], dependents: list[list[int]], block: int = _BLOCK) -> list[int]:
    """How many nodes each one transitively frees. `block`: columns handled at once."""
    counts = [0] * len(dependents)
    linked = [node for node in order if dependents[node]]
    reached = {node for parent in linked for node in dependents[parent]}
    columns = [node for node in order if node in reached]
    for start in range(0, len(columns), block):
        bit = {node: 1 << offset for offset, node in enumerate(columns[start : start + block])}
        reach: dict[int, int] = {}
        for node in reversed(linked):
            mask = 0
            for dependent in dependents[node]:
                mask |= reach.get(dependent, 0) | bit.get(dependent, 0)
            if mask:
                reach[node] = mask
                counts[node] += mask.bit_count()
    return counts


def indices(ids: Sequence[str], depends_on: Iterable[Sequence[str]]) -> list[list[int]]:
    """Dependencies as positions; ids outside `ids` (completed ones) are left out, repeats dropped."""
    position = {spec_id: index for index, spec_id in enumerate(ids)}
    return [
        list(dict.fromkeys(position[need] for need in needs if need in position)) if needs else []
        for needs in depends_on
    ]


def find_cycle(depends_on: Mapping[str, Sequence[str]]) -> list[str]:
    """A cycle as ids along "depends on", the first repeated at the end; empty if there is none."""
    ids = list(depends_on)
    edges = indices(ids, depends_on.values())
    order, _ = topological(edges)
    if len(order) == len(ids):
        return []
    import networkx

    inside = set(range(len(ids))) - set(order)
    graph = networkx.DiGraph((node, need) for node in sorted(inside) for need in edges[node] if need in inside)
    cycle = [ids[node] for node, _ in networkx.find_cycle(graph)]
    return [*cycle, cycle[0]]


@dataclass(frozen=True)
class Shape:
    """What a picture needs: nodes by layer (0: depends on nothing left), edges without the implied ones,
    and the ids of one critical path."""

    layers: tuple[tuple[str, ...], ...]
    edges: tuple[tuple[str, str], ...]
    critical: tuple[str, ...]


def shape(depends_on: Mapping[str, Sequence[str]], hours: Mapping[str, float]) -> Shape:
    """Layers, reduced edges (dependency, dependent) and critical path of an acyclic graph."""
    import networkx

    graph = networkx.DiGraph()
    graph.add_nodes_from(depends_on)
    graph.add_edges_from(
        (need, node) for node, needs in depends_on.items() for need in needs if need in depends_on
    )
    layers = tuple(tuple(layer) for layer in networkx.topological_generations(graph))
    reduced = networkx.transitive_reduction(graph)
    place = {node: index for index, node in enumerate(depends_on)}
    edges = tuple(sorted(reduced.edges, key=lambda edge: (place[edge[0]], place[edge[1]])))
    return Shape(layers, edges, critical_path(depends_on, hours))


def critical_path(depends_on: Mapping[str, Sequence[str]], hours: Mapping[str, float]) -> tuple[str, ...]:
    """Ids of one longest chain, first to last."""
    ids = list(depends_on)
    order, dependents = topological(indices(ids, depends_on.values()))
    longest = downstream_hours(order, dependents, [hours[spec_id] for spec_id in ids])
    path: list[str] = []
    choices = list(range(len(ids)))
    while choices:
        best = max(choices, key=lambda node: (longest[node], -node))
        path.append(ids[best])
        choices = dependents[best]
    return tuple(path)
