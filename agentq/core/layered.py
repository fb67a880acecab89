"""Where the boxes of a layered graph stand: columns left to right, few crossings, short edges.

The classic steps (Sugiyama, Tagawa, Toda 1981): rank by longest path, stand-ins where an edge crosses a column,
barycenter sweeps for the order in a column, then places as near as possible to the neighbours. The last is
isotonic regression (pool adjacent violators): the closest places that keep the order and the distances.
"""

from bisect import bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from agentq.core.graph import topological

_SWEEPS = 12
_Edges = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Layout:
    """`column[i]` and `row[i]` of node i; `routes[edge]`: the rows at which it crosses the columns between.
    A row is a number of box heights, gap included; columns and rows begin at 0."""

    column: tuple[int, ...]
    row: tuple[float, ...]
    routes: Mapping[tuple[int, int], tuple[float, ...]]


def arrange(count: int, edges: _Edges) -> Layout:
    """Places for nodes 0…count-1 of an acyclic graph; edges lead from left to right."""
    ranks = _ranks(count, edges)
    columns, links, chains = _with_stand_ins(edges, ranks)
    neighbours = _neighbours(len(ranks), links)
    columns = _ordered(columns, neighbours)
    rows = _rows(columns, neighbours, count)
    routes = {edge: tuple(rows[stand_in] for stand_in in chain) for edge, chain in chains.items()}
    return Layout(tuple(ranks[:count]), tuple(rows[:count]), routes)


def _ranks(count: int, edges: _Edges) -> list[int]:
    """Longest path from the left; what has nothing before it moves right, next to its first dependent."""
    needs: list[list[int]] = [[] for _ in range(count)]
    for begin, end in edges:
        needs[end].append(begin)
    order, dependents = topological(needs)
    ranks = [0] * count
    for node in order:
        ranks[node] = max((ranks[need] + 1 for need in needs[node]), default=0)
    for node in reversed(order):
        if dependents[node] and not needs[node]:
            ranks[node] = min(ranks[dependent] for dependent in dependents[node]) - 1
    return ranks


def _with_stand_ins(
    edges: _Edges, ranks: list[int]
) -> tuple[list[list[int]], list[tuple[int, int]], dict[tuple[int, int], list[int]]]:
    """(nodes of each column, edges between neighbouring columns, stand-ins of each edge). Extends `ranks`."""
    links: list[tuple[int, int]] = []
    chains: dict[tuple[int, int], list[int]] = {}
    for begin, end in edges:
        chain: list[int] = []
        for rank in range(ranks[begin] + 1, ranks[end]):
            chain.append(len(ranks))
            ranks.append(rank)
        chains[begin, end] = chain
        links += zip([begin, *chain], [*chain, end], strict=True)
    columns: list[list[int]] = [[] for _ in range(max(ranks, default=-1) + 1)]
    for node, rank in enumerate(ranks):
        columns[rank].append(node)
    return columns, links, chains


def _neighbours(count: int, links: _Edges) -> tuple[list[list[int]], list[list[int]]]:
    left: list[list[int]] = [[] for _ in range(count)]
    right: list[list[int]] = [[] for _ in range(count)]
    for begin, end in links:
        right[begin].append(end)
        left[end].append(begin)
    return left, right


def _ordered(columns: list[list[int]], neighbours: tuple[list[list[int]], list[list[int]]]) -> list[list[int]]:
    """The order in each column with the fewest crossings that the sweeps came by."""
    best, fewest = columns, _crossings(columns, neighbours[1])
    for sweep in range(_SWEEPS):
        towards = neighbours[sweep % 2]
        columns = [list(column) for column in columns]
        for column in columns if sweep % 2 == 0 else reversed(columns):
            place = {node: index for other in columns for index, node in enumerate(other)}
            column.sort(key=lambda node: _mean([place[near] for near in towards[node]], place[node]))
        crossings = _crossings(columns, neighbours[1])
        if crossings < fewest:
            best, fewest = columns, crossings
    return best


def _crossings(columns: Sequence[Sequence[int]], right: list[list[int]]) -> int:
    total = 0
    for column, following in pairwise(columns):
        place = {node: index for index, node in enumerate(following)}
        seen: list[int] = []
        for node in column:
            ends = sorted(place[near] for near in right[node])
            total += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return total


def _rows(
    columns: list[list[int]], neighbours: tuple[list[list[int]], list[list[int]]], count: int
) -> list[float]:
    """Rows near the neighbours' mean, in order, a box apart; an edge passing by needs less room."""
    size = [1.0 if node < count else 0.45 for node in range(len(neighbours[0]))]
    rows = [0.0] * len(size)
    for column in columns:
        for node, row in zip(column, _spread([0.0] * len(column), [size[n] for n in column]), strict=True):
            rows[node] = row
    for sweep in range(2 * _SWEEPS):
        for column in columns if sweep % 2 == 0 else reversed(columns):
            wanted = [
                _mean([rows[near] for side in neighbours for near in side[node]], rows[node]) for node in column
            ]
            for node, row in zip(column, _spread(wanted, [size[n] for n in column]), strict=True):
                rows[node] = row
    top = min(rows, default=0.0)
    return [row - top for row in rows]


def _spread(wanted: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """The rows nearest to `wanted` (least squares) that keep the order and (size + size) / 2 between two."""
    offsets = [0.0]
    for before, behind in pairwise(sizes):
        offsets.append(offsets[-1] + (before + behind) / 2)
    pools: list[tuple[float, int]] = []  # (mean, how many)
    for row, offset in zip(wanted, offsets, strict=False):
        mean, many = row - offset, 1
        while pools and pools[-1][0] > mean:
            other, more = pools.pop()
            mean, many = (mean * many + other * more) / (many + more), many + more
        pools.append((mean, many))
    places = [mean for mean, many in pools for _ in range(many)]
    return [place + offset for place, offset in zip(places, offsets, strict=False)]


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
