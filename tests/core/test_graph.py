"""The dependency graph against networkx."""

import itertools

import networkx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentq.core import graph


@st.composite
def dags(draw):
    """Dependencies of nodes 0…n-1 in a shuffled order, and hours."""
    size = draw(st.integers(0, 14))
    names = draw(st.permutations(range(size)))
    edges = [
        [names[need] for need in draw(st.lists(st.integers(0, max(node - 1, 0)), max_size=4))] if node else []
        for node in range(size)
    ]
    dependencies: list[list[int]] = [[] for _ in range(size)]
    for node, needs in enumerate(edges):
        dependencies[names[node]] = list(dict.fromkeys(needs))
    return dependencies, draw(st.lists(st.integers(1, 9).map(float), min_size=size, max_size=size))


def as_networkx(dependencies) -> networkx.DiGraph:
    made = networkx.DiGraph()
    made.add_nodes_from(range(len(dependencies)))
    made.add_edges_from((need, node) for node, needs in enumerate(dependencies) for need in needs)
    return made


@settings(max_examples=200, deadline=None)
@given(dags(), st.sampled_from([1, 2, 3, 8192]))
def test_figures_agree_with_networkx(dag, block):
    dependencies, hours = dag
    made = as_networkx(dependencies)
    order, dependents = graph.topological(dependencies)
    place = {node: index for index, node in enumerate(order)}
    assert sorted(order) == list(range(len(dependencies)))
    assert all(place[need] < place[node] for node, needs in enumerate(dependencies) for need in needs)
    counts = graph.descendants_count(order, dependents, block)
    assert counts == [len(networkx.descendants(made, node)) for node in range(len(dependencies))]
    longest = graph.downstream_hours(order, dependents, hours)
    for node in range(len(dependencies)):
        inside = made.subgraph({node} | networkx.descendants(made, node)).copy()
        networkx.set_edge_attributes(inside, {edge: hours[edge[1]] for edge in inside.edges}, "weight")
        assert longest[node] == hours[node] + networkx.dag_longest_path_length(inside)


@settings(max_examples=100, deadline=None)
@given(dags())
def test_shape_is_the_transitive_reduction_and_one_longest_chain(dag):
    dependencies, hours = dag
    depends_on = {f"n{node}": [f"n{need}" for need in needs] for node, needs in enumerate(dependencies)}
    shape = graph.shape(depends_on, {f"n{node}": hour for node, hour in enumerate(hours)})
    reduced = networkx.transitive_reduction(as_networkx(dependencies))
    assert {(f"n{a}", f"n{b}") for a, b in reduced.edges} == set(shape.edges)
    layer = {node: index for index, nodes in enumerate(shape.layers) for node in nodes}
    assert all(layer[a] < layer[b] for a, b in shape.edges) and len(layer) == len(dependencies)
    assert all(a in depends_on[b] for a, b in zip(shape.critical, shape.critical[1:], strict=False))
    order, dependents = graph.topological(dependencies)
    best = max(graph.downstream_hours(order, dependents, hours), default=0.0)
    assert sum(hours[int(node[1:])] for node in shape.critical) == best


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.integers(0, 7), max_size=3), min_size=8, max_size=8))
def test_a_reported_cycle_is_one(dependencies):
    depends_on = {f"n{node}": [f"n{need}" for need in needs] for node, needs in enumerate(dependencies)}
    cycle = graph.find_cycle(depends_on)
    made = as_networkx(dependencies)
    assert bool(cycle) == (not networkx.is_directed_acyclic_graph(made))
    if cycle:
        assert cycle[0] == cycle[-1] and len(set(cycle)) == len(cycle) - 1
        assert all(b in depends_on[a] for a, b in itertools.pairwise(cycle))
        assert graph.find_cycle(depends_on) == cycle


def test_what_is_not_in_the_graph_is_left_out():
    assert graph.indices(["a", "b"], [["gone", "b", "b"], []]) == [[1], []]
    assert graph.find_cycle({"a": ["gone"]}) == []
    assert graph.shape({"a": ["gone"]}, {"a": 1.0}).layers == (("a",),)


def test_a_cycle_shortens_the_order():
    order, _ = graph.topological([[1], [0], []])
    assert order == [2]


@pytest.mark.parametrize("size", [4095, 4096, 4097])
def test_a_long_chain_across_a_block(size):
    order, dependents = graph.topological([[node - 1] if node else [] for node in range(size)])
    assert graph.descendants_count(order, dependents, 4096) == list(range(size - 1, -1, -1))


def test_the_critical_path_takes_the_longer_branch():
    depends_on = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}
    assert graph.critical_path(depends_on, {"a": 1, "b": 2, "c": 3, "d": 1}) == ("a", "c", "d")
    assert graph.critical_path(depends_on, {"a": 1, "b": 2, "c": 2, "d": 1}) == ("a", "b", "d")
    assert graph.critical_path({}, {}) == ()
