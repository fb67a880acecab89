"""Revisions as a graph: clashes, and handwritten revisions behind trunk's."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentq.migrations.base import Files, Impossible
from agentq.migrations.tools import tool

ALEMBIC = tool("alembic")
HOME = "migrations/versions/"
BODY = b'\n\ndef upgrade() -> None:\n    op.execute("SELECT 1")  # \xc3\xbc\n'


def revision(id: str, down: "str | tuple[str, ...] | None", more: str = "") -> bytes:
    parents = ", ".join(down) if isinstance(down, tuple) else down or ""
    return (
        f'"""about {id}\n\nRevision ID: {id}\nRevises: {parents}\n"""\n\nrevision: str = "{id}"\ndown_revision = {down!r}\n{more}'.encode()
        + BODY
    )


def files(graph: "Mapping[str, str | tuple[str, ...] | None]") -> dict[str, bytes]:
    return {f"{HOME}{id}_x.py": revision(id, down) for id, down in graph.items()}


CHAIN = {"a": None, "b": "a"}


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, tuple[str, ...]]:
    """Each revision follows some of those before it."""
    ids = [f"r{number}" for number in range(draw(st.integers(1, 7)))]
    return {
        id: tuple(draw(st.lists(st.sampled_from(ids[:place]), unique=True, max_size=2)) if place else ())
        for place, id in enumerate(ids)
    }


@given(graphs())
def test_no_clash_where_there_is_exactly_one_head(graph: dict[str, tuple[str, ...]]) -> None:
    heads = graph.keys() - {parent for down in graph.values() for parent in down}
    clash = ALEMBIC.clash(files({id: down or None for id, down in graph.items()}))
    assert (clash == "") == (len(heads) == 1)


@settings(max_examples=60)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_what_is_rebased_has_one_head_and_its_body(base: int, trunk: int, own: int, windows: bool) -> None:
    def chain(prefix: str, count: int, after: "str | None") -> dict[str, bytes]:
        made = {}
        for number in range(count):
            made[f"{HOME}{prefix}{number}_x.py"] = revision(f"{prefix}{number}", after)
            after = f"{prefix}{number}"
        return made

    begun = chain("b", base, None)
    ours = chain("o", own, f"b{base - 1}")
    if windows:
        ours = {path: b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n") for path, data in ours.items()}
    landed = {**begun, **chain("t", trunk, f"b{base - 1}")}
    moved = ALEMBIC.rebase(landed, {**begun, **ours}, begun)
    assert not isinstance(moved, Impossible) and ALEMBIC.clash({**landed, **moved}) == ""
    assert moved.keys() == ours.keys()
    root = f"{HOME}o0_x.py"
    for path in ours:
        old = f"b{base - 1}" if path == root else "nothing"
        new = f"t{trunk - 1}"
        expected = ours[path].replace(f"Revises: {old}".encode(), f"Revises: {new}".encode())
        assert moved[path] == expected.replace(f"'{old}'".encode(), f"'{new}'".encode())


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        ({"a": None, "b": "a", "c": "a"}, "2 heads: b"),
        ({"a": None, "b": "gone"}, "follows revision gone"),
        ({"a": "b", "b": "a", "c": None}, "circle"),
        ({"a": "b", "b": "a", "c": "a"}, "circle"),
        ({"a": None, "b": None}, "2 heads"),
    ],
)
def test_a_clash_says_why(graph: "dict[str, str | None]", words: str) -> None:
    assert words in ALEMBIC.clash(files(graph))


@pytest.mark.parametrize(
    "text",
    [
        b"<<<<<<< ours\nrevision = 'b'\n",
        b"revision = 'b'\ndown_revision = head()\n",
        b"down_revision = 'a'\n",
        b"revision = 'b'\n",
        b"# -*- coding: latin-1 -*-\nrevision = 'b'\ndown_revision = 'a'\n",
        b"revision = 'b'\ndown_revision = 3\n",
        b"\xff",
        b"\0",
        b"(" * 100_000,
    ],
)
def test_what_cannot_be_read_is_a_clash(text: bytes) -> None:
    broken = {**files({"a": None}), f"{HOME}b.py": text}
    assert f"{HOME}b.py" in ALEMBIC.clash(broken)
    assert isinstance(ALEMBIC.rebase(broken, {**broken, **files({"c": "a"})}, broken), Impossible)
    assert isinstance(ALEMBIC.written(0, "", files({"a": None}), broken), Impossible)


def test_dependencies_are_looked_up() -> None:
    labelled = {**files({"a": None}), f"{HOME}b.py": revision("b", "a", 'branch_labels = ("core",)\n')}
    for wanted, there in (("a", True), ("core", True), ("core@head", True), ("gone", False), ("gone@head", False)):
        found = ALEMBIC.clash({**labelled, f"{HOME}c.py": revision("c", "b", f"depends_on = '{wanted}'\n")})
        assert (found == "") == there


def test_two_files_of_one_id() -> None:
    clash = ALEMBIC.clash({**files({"a": None}), f"{HOME}z.py": revision("a", None)})
    assert "are both revision a" in clash


def test_files_beside_the_revisions() -> None:
    assert ALEMBIC.clash({**files(CHAIN), f"{HOME}__init__.py": b""}) == ""
    assert [ALEMBIC.owns(HOME + name) for name in ("a.py", "README", "old/a.py")] == [True, False, False]


def test_a_landed_revision_is_never_re_pointed() -> None:
    base = files(CHAIN)
    two = files({**CHAIN, "c": "a"})
    own = {**two, f"{HOME}d_x.py": revision("d", "b")}
    refused = ALEMBIC.rebase(two, own, two)
    assert isinstance(refused, Impossible) and "2 heads" in refused.why and "empty revision" in refused.hint
    merge = {f"{HOME}m_x.py": revision("m", ("b", "c"))}
    assert ALEMBIC.rebase(two, {**two, **merge}, two) == merge
    for changed in ({**base, f"{HOME}b_x.py": revision("b", None)}, files({"a": None})):
        refused = ALEMBIC.rebase(base, changed, base)
        assert isinstance(refused, Impossible) and "b_x.py, which has landed" in refused.why


def test_what_already_landed_is_not_added_again() -> None:
    landed = files({**CHAIN, "c": "b"})
    assert ALEMBIC.rebase(landed, landed, files(CHAIN)) == {}


def test_what_cannot_be_moved() -> None:
    trunk = files({**CHAIN, "t": "b"})
    same = {**files(CHAIN), f"{HOME}other.py": revision("t", "b")}
    assert "revision t of its own" in _why(trunk, same)
    assert "own migrations: 2 heads" in _why(trunk, files({**CHAIN, "c": "b", "d": "b"}))
    fork = files({**CHAIN, "c": "a"})
    merged = {**fork, **files({"m": ("b", "c")})}
    refused = ALEMBIC.rebase({**fork, **files({"n": ("b", "c")})}, merged, fork)
    assert isinstance(refused, Impossible) and "merges revisions that have landed" in refused.why


def _why(trunk: Files, ours: Files) -> str:
    refused = ALEMBIC.rebase(trunk, ours, files(CHAIN))
    assert isinstance(refused, Impossible)
    return refused.why


def test_a_file_of_the_same_name_gets_another() -> None:
    base = files({"a": None})
    trunk = {**base, f"{HOME}next.py": revision("t", "a")}
    ours = {**base, f"{HOME}next.py": revision("o", "a")}
    moved = ALEMBIC.rebase(trunk, ours, base)
    assert not isinstance(moved, Impossible) and list(moved) == [f"{HOME}next_o.py"]


def test_the_first_revision_of_two() -> None:
    moved = ALEMBIC.rebase(files({"t": None}), files({"o": None}), {})
    assert not isinstance(moved, Impossible)
    assert b'down_revision = "t"\n' in moved[f"{HOME}o_x.py"] and b"Revises: t\n" in moved[f"{HOME}o_x.py"]


def test_only_new_revisions_that_do_something_count() -> None:
    base = files(CHAIN)
    empty = revision("c", "b").replace(BODY, b'\n\ndef upgrade() -> None:\n    """Nothing."""\n    pass\n')
    assert ALEMBIC.written(0, "", base, {**base, f"{HOME}c.py": empty}) == {}
    new = {f"{HOME}d.py": revision("d", "b")}
    assert ALEMBIC.written(0, "", base, {**base, **new}) == new
    assert isinstance(ALEMBIC.written(1, "", base, {**base, **new}), Impossible)
    changed = ALEMBIC.written(0, "", base, {**base, f"{HOME}b_x.py": revision("b", "a", "x = 1\n")})
    assert isinstance(changed, Impossible)
    merge = {f"{HOME}m.py": empty.replace(b"'b'", b"('a', 'b')")}
    assert ALEMBIC.written(0, "", base, {**base, **merge}) == merge


def test_a_file_of_one_line_with_a_byte_order_mark() -> None:
    line = b"\xef\xbb\xbfrevision = 'o'; down_revision = 'b'"
    moved = ALEMBIC.rebase(files({**CHAIN, "t": "b"}), {**files(CHAIN), f"{HOME}o.py": line}, files(CHAIN))
    assert moved == {f"{HOME}o.py": line.replace(b"'b'", b"'t'")}
