"""Which specs may not run side by side (mission row T4)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentq.core.overlap import Occupancy, clashes, is_additive

TABLE = [
    # a, b, additive, what clashes
    (["src/a.py"], ["src/a.py"], [], ["src/a.py"]),  # both modify the same file
    (["src/a.py"], ["src/b.py"], [], []),  # both add new files: additive
    (["src/new/one.py"], ["src/new/two.py"], [], []),
    (["src/"], ["src/a.py"], [], ["src/a.py"]),
    (["src/a.py"], ["src/"], [], ["src/a.py"]),
    (["src/**"], ["src/*.py"], [], ["src/** ∩ src/*.py"]),
    (["src/**"], ["src/**"], [], ["src/**"]),
    (["a/*.py"], ["a/*.ts"], [], []),
    (["a/*"], ["b/*"], [], []),
    (["app/[id]/page.tsx"], ["app/[id]/page.tsx"], [], ["app/[id]/page.tsx"]),
    (["uv.lock", "a.py"], ["uv.lock", "a.py"], ["uv.lock"], ["a.py"]),
    (["docs/x.md"], ["docs/x.md"], ["docs/**"], []),
    (["docs/"], ["docs/x.md"], ["docs/**"], []),
    (["docs/**"], ["docs/x.md"], ["docs/*"], []),  # they meet only where nothing blocks
    (["docs/**"], ["docs/**"], ["docs/*"], ["docs/**"]),  # docs/a/b is not covered
    (["**"], ["docs/**"], ["docs/**"], []),
    (["a", "b"], ["b", "a"], [], ["a", "b"]),
    (["a", "a"], ["a"], [], ["a"]),
    ([], ["a"], [], []),
]


@pytest.mark.parametrize(("a", "b", "additive", "expected"), TABLE)
def test_what_clashes(a, b, additive, expected):
    assert clashes(a, b, additive) == expected
    assert bool(clashes(b, a, additive)) == bool(expected)


@pytest.mark.parametrize(
    ("path", "pattern", "expected"),
    [
        ("docs/a.md", "docs/**", True),
        ("docs/", "docs/**", True),
        ("docs/**", "docs/*", False),
        ("uv.lock", "uv.lock", True),
        ("uv.lock", "*.lock", True),
        ("*", "?", False),
    ],
)
def test_is_additive(path, pattern, expected):
    assert is_additive(path, [pattern]) is expected


DECLARED = ["a.py", "b.py", "src/a.py", "src/", "src/*.py", "**/a.py", "*", "docs/", "docs/x.md", "**", "s?c/a.py"]
files = st.lists(st.sampled_from(DECLARED), max_size=4)
boards = st.lists(files, max_size=5)
additives = st.lists(st.sampled_from(["docs/**", "a.py", "src/*"]), max_size=2, unique=True)


@settings(max_examples=300, deadline=None)
@given(boards, files, additives)
def test_occupancy_agrees_with_clashes(board, mine, additive):
    busy = Occupancy(additive)
    for index, paths in enumerate(board):
        busy.add(f"s{index}", paths)
    expected = {f"s{index}": set(clashes(mine, paths, additive)) for index, paths in enumerate(board)}
    found = busy.clashes(mine)
    assert {spec: set(paths) for spec, paths in found.items()} == {
        spec: paths for spec, paths in expected.items() if paths
    }
    assert busy.free_of(mine) == (not found)
    for paths in found.values():
        assert len(paths) == len(set(paths))


@settings(max_examples=150, deadline=None)
@given(boards, additives)
def test_count_leaves_the_spec_itself_out(board, additive):
    everyone, others = Occupancy(additive), Occupancy(additive)
    for index, paths in enumerate(board):
        everyone.add(f"s{index}", paths)
        if index:
            others.add(f"s{index}", paths)
    if board:
        assert everyone.count("s0", board[0]) == others.count("s0", board[0])
        assert (others.count("s0", board[0]) == 0) == others.free_of(board[0])


def test_count_is_the_same_for_many_holders_and_repeated_paths():
    """Above and below any threshold, and when a person lists a path twice."""
    for size in (1, 63, 64, 65, 200):
        busy = Occupancy()
        for index in range(size):
            busy.add(f"s{index}", ["x.py", "x.py"])
        assert busy.count("s0", ["x.py", "x.py"]) == size - 1
        assert busy.clashes(["x.py"]) == {f"s{index}": ["x.py"] for index in range(size)}
