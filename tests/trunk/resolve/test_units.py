"""The parts of the classes: chunks as git makes them, unions, keys, outlines; properties by hypothesis."""

import ast
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentq.trunk.resolve import diff3, keyed, proof, tomledit
from agentq.trunk.resolve.base import Answer, Dispute, Doubt, Resolved, Situation, Stopped
from agentq.trunk.resolve.manifest import Manifest
from agentq.trunk.resolve.report import resolved, stopped
from agentq.trunk.resolve.table import RULES, decide

LINES = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "d\n", "e\n"]), max_size=8)


def one(dispute: Dispute, **situation: Any) -> Answer:
    [answer] = decide([dispute], Situation(**situation))
    return answer


def text(path: str, base: str, trunk: str, spec: str, **situation: Any) -> Answer:
    return one(Dispute(path, "content", base.encode(), trunk.encode(), spec.encode()), **situation)


# ---------------------------------------------------------------- chunks


@given(base=LINES, trunk=LINES, spec=LINES)
def test_chunks_are_the_whole_of_each_side(base: list[str], trunk: list[str], spec: list[str]) -> None:
    found = diff3.chunks("".join(base), "".join(trunk), "".join(spec))
    assert [line for chunk in found for line in chunk.base] == base
    assert [line for chunk in found for line in chunk.trunk] == trunk
    assert [line for chunk in found for line in chunk.spec] == spec


def git_merge(folder: Path, *sides: str) -> tuple[int, str]:
    for name, content in zip(("base", "trunk", "spec"), sides, strict=True):
        (folder / name).write_text(content)
    command = ["git", "merge-file", "-p", "--diff3", "-q", "trunk", "base", "spec"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def ours(*sides: str) -> tuple[int, str]:
    """As `git merge-file --diff3` prints it."""
    out, conflicts = "", 0
    for chunk in diff3.chunks(*sides):
        if chunk.conflict:
            conflicts += 1
            parts = ["".join(part) for part in (chunk.trunk, chunk.base, chunk.spec)]
            out += f"<<<<<<< trunk\n{parts[0]}||||||| base\n{parts[1]}=======\n{parts[2]}>>>>>>> spec\n"
        else:
            out += "".join(chunk.clean)
    return conflicts, out


NUMBERS = [f"line {n}\n" for n in range(12)]
EDITS = st.lists(
    st.tuples(st.integers(0, 11), st.sampled_from(["insert", "delete", "change"]), st.sampled_from("xyz")),
    max_size=3,
)


def edited(edits: list[tuple[int, str, str]]) -> str:
    """Distinct lines, so that there is one way to align them."""
    out: dict[int, list[str]] = {n: [line] for n, line in enumerate(NUMBERS)}
    for place, what, name in edits:
        if what == "insert":
            out[place] = [*out[place], f"{name} new {place}\n"]
        else:
            out[place] = [] if what == "delete" else [f"{name} {place}\n"]
    return "".join(line for lines in out.values() for line in lines)


@settings(max_examples=60, deadline=None)
@given(trunk=EDITS, spec=EDITS)
def test_chunks_agree_with_git(
    trunk: list[Any], spec: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    sides = ("".join(NUMBERS), edited(trunk), edited(spec))
    assert ours(*sides) == git_merge(tmp_path_factory.mktemp("m"), *sides)


@pytest.mark.parametrize("content", ["a\x0cb\n", "a\u2028b\nc\n", "a\x85\n"])
def test_lines_end_where_git_ends_them(content: str) -> None:
    assert [
        line for chunk in diff3.chunks(content, content, content) for line in chunk.base
    ] == content.splitlines(True) or "\n" in content
    assert sum(len(chunk.base) for chunk in diff3.chunks(content, content, content)) == content.count("\n")


# ---------------------------------------------------------------- additions

WORDS = st.lists(st.text("abcdefg", min_size=1, max_size=3), max_size=5, unique=True)


@given(before=WORDS, trunk=WORDS, spec=WORDS, after=WORDS)
def test_a_union_loses_no_line_invents_none_and_repeats_none(
    before: list[str], trunk: list[str], spec: list[str], after: list[str]
) -> None:
    base = [*(f"{word}-0\n" for word in before), *(f"{word}-1\n" for word in after)]
    sides = [
        [*(f"{word}-0\n" for word in before), *(f"{word}\n" for word in added), *(f"{word}-1\n" for word in after)]
        for added in (trunk, spec)
    ]
    if sides[0] == sides[1] or base in sides:
        return
    answer = text("list.txt", "".join(base), "".join(sides[0]), "".join(sides[1]), additive=("list.txt",))
    if isinstance(answer, Stopped):
        return
    assert isinstance(answer, Resolved) and answer.content is not None
    lines = answer.content.decode().splitlines(keepends=True)
    assert sorted(lines) == sorted({*sides[0], *sides[1]})
    assert [line for line in lines if line in sides[0]] == sides[0], "trunk's order stays"


def test_the_property_is_not_about_stops_alone() -> None:
    answer = text("list.txt", "a-0\nz-1\n", "a-0\nb\nz-1\n", "a-0\nc\nz-1\n", additive=("list.txt",))
    assert isinstance(answer, Resolved) and answer.content == b"a-0\nb\nc\nz-1\n"


NAMES = st.lists(st.sampled_from(["f", "g", "h", "i", "j"]), min_size=1, max_size=3, unique=True)


@given(trunk=NAMES, spec=NAMES)
def test_functions_of_both_or_a_stop(trunk: list[str], spec: list[str]) -> None:
    base = "def a():\n    return 0\n"
    sides = [
        base + "".join(f"\n\ndef {name}():\n    return {number}\n" for name in names)
        for number, names in ((1, trunk), (2, spec))
    ]
    answer = text("a.py", base, *sides)
    if set(trunk) & set(spec):
        assert isinstance(answer, Stopped)
    else:
        assert isinstance(answer, Resolved) and answer.content is not None
        assert [node.name for node in ast.parse(answer.content).body] == ["a", *trunk, *spec]  # type: ignore[attr-defined]


# ---------------------------------------------------------------- keys

KEYS = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2), max_size=4)


@given(base=KEYS, trunk=KEYS, spec=KEYS)
def test_keys_merge_like_values_or_stop(base: dict[str, int], trunk: dict[str, int], spec: dict[str, int]) -> None:
    clash = any(base.get(k) != trunk.get(k) != spec.get(k) != base.get(k) for k in {*base, *trunk, *spec})
    try:
        found = keyed.merge(base, trunk, spec)
    except Doubt:
        assert clash
        return
    assert not clash
    for key in {*base, *trunk, *spec}:
        changed = spec if trunk.get(key) == base.get(key) else trunk
        assert found.get(key) == changed.get(key)


def toml(keys: dict[str, int], dependencies: dict[str, int]) -> str:
    listed = "".join(f'  "{name}>={version}",\n' for name, version in sorted(dependencies.items()))
    pairs = "".join(f"{key} = {value}\n" for key, value in keys.items())
    return f"[project]\nname = 'p'  # me\ndependencies = [\n{listed}]\n\n[tool.x]\nz = 0\n{pairs}"


@given(st.tuples(KEYS, KEYS), st.tuples(KEYS, KEYS), st.tuples(KEYS, KEYS))
def test_a_manifest_is_the_merge_of_its_keys_or_stops(base: Any, trunk: Any, spec: Any) -> None:
    sides = [toml(*one) for one in (base, trunk, spec)]
    if len(set(sides)) < 3:
        return
    answer = text("pyproject.toml", *sides)
    if isinstance(answer, Resolved):
        import tomllib

        data = [tomllib.loads(side) for side in sides]
        assert answer.content is not None
        assert keyed.equal(tomllib.loads(answer.content.decode()), keyed.merge(*data))
        assert b"name = 'p'  # me" in answer.content


@pytest.mark.parametrize(("one", "other"), [(1, True), (1, 1.0), ("1", 1), ({"a": 1}, {"a": True}), ([1], [1, 2])])
def test_values_that_are_not_the_same(one: Any, other: Any) -> None:
    assert not keyed.same(one, other) and keyed.same(one, one)


@pytest.mark.parametrize(
    ("listed", "after", "want"),
    [
        ('["a", "b"]', ["a"], '["a"]'),
        ('["a", "b"]', ["b"], '["b"]'),
        ("[]", ["a"], '["a"]'),
        ('[\n  "a",  # why\n  "b"\n]', ["a", "b", "c"], '[\n  "a",  # why\n  "b",\n  "c",\n]'),
        ('[\n  "a",\n  "b>=1",\n]', ["a", "b>=2"], '[\n  "a",\n  "b>=2",\n]'),
        ('["a[x]>=1,<2"]', ["a[x]>=1,<2", "b"], '["a[x]>=1,<2", "b"]'),
    ],
)
def test_a_list_is_edited_in_place(listed: str, after: list[str], want: str) -> None:
    import tomllib

    before = f"[project]\ndependencies = {listed}  # end\nx = 1\n"
    data = tomllib.loads(before)
    merged = {"project": {**data["project"], "dependencies": after}}
    assert tomledit.edited(before, data, merged, before) == f"[project]\ndependencies = {want}  # end\nx = 1\n"


def test_a_comment_of_the_spec_is_not_lost() -> None:
    base = '[project]\nname = "p"\ndependencies = ["a"]\n'
    trunk = base.replace('"a"', '"a", "t"')
    spec = base.replace("dependencies", "# pinned, see the wiki\ndependencies").replace('"a"', '"a", "s"')
    answer = text("pyproject.toml", base, trunk, spec)
    assert isinstance(answer, Stopped) and "comment" in answer.why


# ---------------------------------------------------------------- proof and table


@pytest.mark.parametrize("line", ["<<<<<<< x", "||||||| x", ">>>>>>> x", "<<<<<<<", ">>>>>>>\r"])
def test_markers(line: str) -> None:
    assert proof.markers(f"a\n{line}\nb\n".encode())
    assert not proof.markers(b"a\n=======\n<<<<<<<<< b\n x <<<<<<< y\n")


def test_a_file_with_markers_of_its_own_stops() -> None:
    base = "<<<<<<< a\n"
    answer = text("list.txt", base, base + "b\n", base + "c\n", additive=("list.txt",))
    assert isinstance(answer, Stopped) and "markers" in answer.why


def test_the_table_has_a_rule_for_everything_and_one_answer_a_path() -> None:
    assert RULES[-1].claims(Dispute("?", "other", None, None, None), Situation())
    kinds = (
        "content",
        "add/add",
        "modify/delete",
        "rename",
        "file/directory",
        "mode",
        "submodule",
        "symlink",
        "binary",
        "other",
    )
    for kind in kinds:
        [answer] = decide([Dispute("a.bin", kind, b"a", b"b", b"c")], Situation())  # type: ignore[list-item]
        assert isinstance(answer, Stopped), kind


def test_lock_files_come_after_their_manifests_and_generated_files_last() -> None:
    package = [b'{\n  "a": %d\n}\n' % n for n in (1, 1, 2)]
    lock = [b'{"packages": {}, "n": %d}' % n for n in (1, 2, 3)]
    asked = [
        Dispute("gen.txt", "content", b"1", b"2", b"3"), Dispute("package-lock.json", "content", *lock),
        Dispute("package.json", "both", *package, merged=package[2]), Dispute("a.txt", "content", b"1", b"2", b"3"),
    ]  # fmt: skip
    answers = decide(asked, Situation(generated=("gen.txt",), regenerate="make"))
    assert [one.path for one in answers] == ["a.txt", "package-lock.json", "gen.txt"]


def test_the_mode_of_the_side_that_changed_it() -> None:
    modes = ("100644", "100644", "100755")
    dispute = Dispute("l.txt", "content", b"a\n", b"a\nb\n", b"a\nc\n", modes)
    answer = one(dispute, additive=("l.txt",))
    assert isinstance(answer, Resolved) and answer.mode == "100755"
    assert Dispute("x", "content", b"", b"", b"", ("100644", "100755", "100644")).mode == "100755"


def test_text_for_people() -> None:
    answers = [
        Stopped("a\x1b[31m.py", "same lines", "both sides changed the same lines"),
        Stopped("uv.lock", "lock file", "x"),
        Resolved("b.py", b"", "imports", "kept the imports of both"),
    ]
    lines = stopped(answers, {"uv.lock": ["beta", "alpha"]}, "gamma")
    assert len(lines) == 2 and "\x1b" not in lines[0] and "same lines" in lines[0]
    assert lines[1].endswith("Order: alpha, then beta, then gamma")
    assert resolved(answers) == ["b.py (imports): kept the imports of both"]


def test_a_manifest_that_is_not_text_stops() -> None:
    answer = Manifest().resolve(Dispute("package.json", "content", b"{}", b"\xff", b"{}"), Situation())
    assert isinstance(answer, Stopped)


def test_one_name_from_two_modules_is_told_by_its_name() -> None:
    answer = text("a.py", "import os\n", "import os\nfrom a import x\n", "import os\nfrom b import x\n")
    assert isinstance(answer, Stopped) and answer.why == "'x' would come from two places"


def test_a_lock_file_waits_for_its_manifest() -> None:
    package = [b'{\n  "a": %d\n}\n' % n for n in (1, 2, 3)]
    lock = [b'{"packages": {}, "n": %d}' % n for n in (1, 2, 3)]
    asked = [Dispute("web/package-lock.json", "both", *lock), Dispute("web/app/package.json", "content", *package)]
    answers = {one.path: one for one in decide(asked, Situation())}
    told = answers["web/package-lock.json"]
    assert isinstance(told, Stopped) and "the conflict in web/app/package.json" in told.why


def test_where_git_sees_other_conflicts_it_stops() -> None:
    base, trunk, spec = (f"import os\n{more}".encode() for more in ("", "import a\n", "import b\n"))
    for markers, resolves in ((b"<<<<<<< x\n", True), (b"", False), (b"<<<<<<< x\n<<<<<<< x\n", False)):
        answer = one(Dispute("a.py", "content", base, trunk, spec, merged=markers))
        assert isinstance(answer, Resolved) == resolves, answer
