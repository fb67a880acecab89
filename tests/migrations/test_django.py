"""Migrations of several apps as a graph: clashes, and handwritten ones behind trunk's."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentq.migrations.base import Files, Impossible
from agentq.migrations.tools import tool

DJANGO = tool("django")
OPERATIONS = '    operations = [migrations.RunSQL("SELECT 1", "")]  # 0002_own, ü\n'
Names = Sequence[tuple[str, str]]


def migration(depends: Names, more: str = "") -> bytes:
    links = ", ".join(f"('{app}', '{name}')" for app, name in depends)
    return f"from django.db import migrations\n\n\nclass Migration(migrations.Migration):\n    dependencies = [{links}]\n{more}{OPERATIONS}".encode()


def app(label: str, *rows: "tuple[str, Names] | tuple[str, Names, str]") -> dict[str, bytes]:
    return {f"src/{label}/migrations/{row[0]}.py": migration(*row[1:]) for row in rows}


def follow(label: str, names: Sequence[str], after: str = "") -> dict[str, bytes]:
    made = {}
    for name in names:
        made.update(app(label, (name, [(label, after)] if after else [])))
        after = name
    return made


BASE = {**follow("shop", ["0001_initial"]), **follow("users", ["0001_initial", "0002_base"])}


@st.composite
def graphs(draw: st.DrawFn) -> dict[int, list[int]]:
    count = draw(st.integers(1, 7))
    return {
        place: draw(st.lists(st.sampled_from(range(place)), unique=True, max_size=2)) if place else []
        for place in range(count)
    }


@given(graphs())
def test_no_clash_where_each_app_has_one_leaf(graph: dict[int, list[int]]) -> None:
    rows = [(f"{place:04d}_x", [("shop", f"{one:04d}_x") for one in down]) for place, down in graph.items()]
    leaves = graph.keys() - {one for down in graph.values() for one in down}
    assert (DJANGO.clash({**BASE, **app("other", ("0001_a", []))}) == "") is True
    assert (DJANGO.clash(app("shop", *rows)) == "") == (len(leaves) == 1)


@settings(max_examples=60)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
def test_what_is_rebased_has_one_leaf_and_its_body(base: int, trunk: int, own: int) -> None:
    begun = follow("shop", [f"{place:04d}_b" for place in range(1, base + 1)])
    last = f"{base:04d}_b"
    landed = {**begun, **follow("shop", [f"{base + place:04d}_t" for place in range(1, trunk + 1)], last)}
    ours = {**begun, **follow("shop", [f"{base + place:04d}_own" for place in range(1, own + 1)], last)}
    moved = DJANGO.rebase(landed, ours, begun)
    assert not isinstance(moved, Impossible)
    # The file is made anew from its description: so nothing else in it was changed.
    expected = [f"{base + trunk + place:04d}_own" for place in range(1, own + 1)]
    assert dict(moved) == follow("shop", expected, f"{base + trunk:04d}_t")
    assert DJANGO.clash({**landed, **moved}) == ""


def test_links_between_apps() -> None:
    trunk = {
        **BASE,
        **follow("users", ["0003_trunk"], "0002_base"),
        **follow("shop", ["0002_trunk"], "0001_initial"),
    }
    before = "    run_before = [('shop', '{}')]\n"
    own = {
        **app("users", ("0003_own", [("auth", "__first__"), ("shop", "0001_initial"), ("users", "0002_base")])),
        **app("shop", ("0002_own", [("shop", "0001_initial"), ("users", "0003_own"), ("users", "0002_base")])),
        **app("users", ("0004_own", [("users", "0003_own")], before.format("0002_own"))),
    }
    moved = DJANGO.rebase(trunk, {**BASE, **own}, BASE)
    assert moved == {
        **app("users", ("0004_own", [("auth", "__first__"), ("shop", "0001_initial"), ("users", "0003_trunk")])),
        **app("shop", ("0003_own", [("shop", "0002_trunk"), ("users", "0004_own"), ("users", "0002_base")])),
        **app("users", ("0005_own", [("users", "0004_own")], before.format("0003_own"))),
    }


def test_migrations_that_already_stand_well_stay() -> None:
    own = follow("shop", ["0002_own"], "0001_initial")
    trunk = {**BASE, **follow("users", ["0003_trunk"], "0002_base")}
    assert DJANGO.rebase(trunk, {**BASE, **own}, BASE) == own
    fresh = app("new", ("0001_initial", [("users", "0002_base")]))
    assert DJANGO.rebase(trunk, {**BASE, **fresh}, BASE) == fresh


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({**BASE, **follow("shop", ["0002_a"], "0001_initial"), **follow("shop", ["0002_b"], "0001_initial")}, "2 leaf nodes in src/shop/migrations: 0002_a, 0002_b"),
        ({**BASE, **app("shop", ("0002_a", [("shop", "0001_gone")]))}, "depends on shop.0001_gone"),
        ({**BASE, **app("shop", ("0002_a", [("shop", "0001_initial"), ("users", "0009_gone")]))}, "users.0009_gone"),
        (app("shop", ("0001_a", [("shop", "0002_b")]), ("0002_b", [("shop", "0001_a")])), "circle"),
        ({**BASE, "src/shop/migrations/0002_x.py": b"<<<<<<< ours\n"}, "0002_x.py cannot be read"),
        ({**BASE, "src/shop/migrations/0002_x.py": b"pass\n"}, "no class Migration"),
        ({**BASE, "src/shop/migrations/0002_x.py": b"class Migration:\n    dependencies = [x] + y\n"}, "written out"),
        ({**BASE, "src/shop/migrations/0002_x.py": b"class Migration:\n    dependencies = [x]\n"}, "other than"),
    ],
)  # fmt: skip
def test_a_clash_says_why(files: Files, words: str) -> None:
    assert words in DJANGO.clash(files)
    assert isinstance(DJANGO.rebase(BASE, files, BASE), Impossible)


def test_what_is_no_clash() -> None:
    swappable = migration([]).replace(b"[]", b"[migrations.swappable_dependency(settings.AUTH_USER_MODEL)]", 1)
    assert DJANGO.clash({"a/migrations/0001_x.py": swappable}) == ""
    merged = {**follow("shop", ["0001_initial", "0002_a"]), **follow("shop", ["0002_b"], "0001_initial")}
    assert DJANGO.clash({**merged, **app("shop", ("0003_merge", [("shop", "0002_a"), ("shop", "0002_b")]))}) == ""
    squash = app("shop", ("0001_squashed", [], "    replaces = [('shop', '0001_initial'), ('shop', '0002_a')]\n"))
    whole = {**follow("shop", ["0001_initial", "0002_a"]), **follow("shop", ["0003_b"], "0002_a"), **squash}
    assert DJANGO.clash(whole) == ""
    assert DJANGO.clash({**follow("shop", ["0003_b"], "0002_a"), **squash}) == ""


def test_an_app_whose_label_is_not_its_folder() -> None:
    named = {
        path.replace("src/", "src/apps/b_"): data for path, data in follow("shop", ["0001_a", "0002_b"]).items()
    }
    assert DJANGO.clash(named) == ""
    assert "leaf nodes" in DJANGO.clash(
        {**named, "src/apps/b_shop/migrations/0002_c.py": migration([("shop", "0001_a")])}
    )


def test_what_cannot_be_moved() -> None:
    trunk = {**BASE, **follow("shop", ["0002_trunk"], "0001_initial")}
    squash = app("shop", ("0001_squashed", [], "    replaces = [('shop', '0001_initial')]\n"))
    refused = DJANGO.rebase(trunk, {**BASE, **squash}, BASE)
    assert isinstance(refused, Impossible) and "replaces migrations that have landed" in refused.why
    refused = DJANGO.rebase(follow("new", ["0001_initial"]), app("new", ("0001_own", [])), {})
    assert isinstance(refused, Impossible) and "begins its app" in refused.why
    two = {**trunk, **follow("shop", ["0002_other"], "0001_initial")}
    refused = DJANGO.rebase(two, {**BASE, **follow("shop", ["0002_own"], "0001_initial")}, BASE)
    assert isinstance(refused, Impossible) and "on trunk: 2 leaf nodes" in refused.why
    unnumbered = follow("shop", ["fill"], "0001_initial")
    refused = DJANGO.rebase(
        {**BASE, **unnumbered},
        {**BASE, **app("shop", ("fill", [("shop", "0001_initial"), ("users", "0002_base")]))},
        BASE,
    )
    assert isinstance(refused, Impossible) and "trunk has another" in refused.why


def test_which_files_are_its_own() -> None:
    names = (
        "0001_initial.py",
        "fill.py",
        "__init__.py",
        "test_fill.py",
        "conftest.py",
        "notes.md",
        "sub/0001_x.py",
    )
    assert [DJANGO.owns(f"a/migrations/{name}") for name in names] == [True, True, *[False] * 5]
    assert not DJANGO.owns("a/0001_initial.py")
    assert not DJANGO.owns("tests/migrations/helpers.py")


def test_quotes_and_lines_are_kept() -> None:
    own = (
        migration([("shop", "0001_initial")]).replace(b"'0001_initial'", b'"0001_initial"').replace(b"\n", b"\r\n")
    )
    path = "src/shop/migrations/0002_own.py"
    trunk = {**BASE, **follow("shop", ["0002_trunk"], "0001_initial")}
    moved = DJANGO.rebase(trunk, {**BASE, path: own}, BASE)
    assert moved == {path.replace("0002", "0003"): own.replace(b'"0001_initial"', b'"0002_trunk"')}
