"""What lock files pin, and when a re-locked one is not to be trusted."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay import Case, Repository

from agentq.trunk.resolve import locks
from agentq.trunk.resolve.base import Dispute, Doubt, Rerun, Situation, Stopped
from agentq.trunk.resolve.lockfile import LockFile, beside
from agentq.trunk.resolve.table import decide, suspects

UV = 'version = 1\n\n[[package]]\nname = "a"\nversion = "1.0"\nsource = { registry = "x" }\n\n[[package]]\nname = "p"\nsource = { editable = "." }\n'
NPM_1 = json.dumps(
    {"lockfileVersion": 1, "dependencies": {"a": {"version": "1.0", "dependencies": {"b": {"version": "2.0"}}}}}
)
NPM_3 = json.dumps(
    {
        "lockfileVersion": 3,
        "packages": {
            "": {},
            "node_modules/a": {"version": "1.0"},
            "node_modules/a/node_modules/@x/b": {"version": "2.0"},
        },
    }
)
PNPM_9 = "lockfileVersion: '9.0'\n\nimporters:\n\n  .:\n    dependencies:\n      a: 1\n\npackages:\n\n  '@x/b@2.0.0':\n    resolution: {}\n\n  a@1.0.0:\n    resolution: {}\n\nsnapshots:\n\n  a@1.0.0(c@1):\n    x: 1\n"
PNPM_6 = "lockfileVersion: '6.0'\n\npackages:\n\n  /@x/b@2.0.0(a@1.0.0):\n    dev: false\n\n  /a@1.0.0:\n    dev: false\n"
PNPM_5 = "lockfileVersion: 5.4\n\npackages:\n\n  /@x/b/2.0.0:\n    dev: false\n\n  /a/1.0.0:\n    dev: false\n"
YARN_1 = '# yarn lockfile v1\n\n\n"@x/b@^2.0", "@x/b@^2.0.0":\n  version "2.0.0"\n  resolved "x"\n\na@^1:\n  version "1.0.0"\n  dependencies:\n    version "9"\n'
YARN_4 = '__metadata:\n  version: 8\n\n"@x/b@npm:^2.0":\n  version: 2.0.0\n  resolution: "x"\n\n"a@npm:^1, a@npm:^1.0":\n  version: 1.0.0\n'
BOTH = {("@x/b", "2.0.0"), ("a", "1.0.0")}


@pytest.mark.parametrize(
    ("name", "content", "want"),
    [
        ("uv.lock", UV, {("a", "1.0"), ("p", "")}),
        ("poetry.lock", UV, {("a", "1.0"), ("p", "")}),
        ("Cargo.lock", UV.replace("\n", "\r\n"), {("a", "1.0"), ("p", "")}),
        ("package-lock.json", NPM_1, {("a", "1.0"), ("b", "2.0")}),
        ("package-lock.json", NPM_3, {("a", "1.0"), ("@x/b", "2.0")}),
        ("pnpm-lock.yaml", PNPM_9, BOTH), ("pnpm-lock.yaml", PNPM_6, BOTH), ("pnpm-lock.yaml", PNPM_5, BOTH),
        ("yarn.lock", YARN_1, BOTH), ("yarn.lock", YARN_4, BOTH),
    ],
)  # fmt: skip
def test_pins(name: str, content: str, want: set[tuple[str, str]]) -> None:
    assert locks.pins(name, content.encode()) == want


@pytest.mark.parametrize("name", sorted(locks._READERS))
@pytest.mark.parametrize("content", [b"\xff", b"{", b"[", b"<<<<<<< x\n", b"[1, 2]", b"just text\n"])
def test_what_cannot_be_read_is_not_taken_for_empty(name: str, content: bytes) -> None:
    with pytest.raises(Doubt):
        locks.pins(name, content)


def pins(text: str) -> locks.Pins:
    """`a1 b2` → packages a and b."""
    return frozenset((word[0], word[1:]) for word in text.split())


@pytest.mark.parametrize(
    ("base", "trunk", "spec", "after", "why"),
    [
        ("a1", "a1 b1", "a1 c1", "a1 b1 c1", ""),
        ("a1 z1", "a1 b1 z1", "a1 c1 z1", "a1 b1 c1 z2", "z 2 is a version that neither"),
        ("a1 z1", "a1 b1 z1", "a1 c1 z1", "a1 b1 c1 n1 z1", "n 1 is a version that neither"),
        ("a1", "a1 b1", "a2", "a1 b1", "a 2, which the spec brought, is lost"),  # a bump by the lock file alone
        ("a1", "a2", "a3", "a2", "a 3, which the spec brought, is lost"),
        ("a1", "a2", "a1 b1", "a1 b1", "a 2, which trunk brought, is lost"),
        ("a1", "a1 b1", "a1 c1", "a1 b1", "c 1, which the spec brought, is lost"),
        ("a1 x1 y1 z1", "a1 x1 z1", "a1 y1 z1", "a1", ""),  # what both needed is needed no more
        ("a1 c1", "a1", "a1 c1 d1", "a1 c1 d1", ""),  # what trunk dropped is needed by the spec
        ("a1 c1", "a1", "a2 c1", "a2", ""),
        ("a1", "b1", "a2", "b1", ""),  # trunk dropped what the spec had bumped
        ("a1 a2", "a1 a2 b1", "a1 a2 c1", "a2 b1 c1", "a 1 changes, and neither"),
        ("f1 a1", "f1 f2 a1", "f1 f3 a1", "f1 f2 f3 a1", ""),
    ],
)
def test_drift(base: str, trunk: str, spec: str, after: str, why: str) -> None:
    found = locks.drift(pins(base), pins(trunk), pins(spec), pins(after), locked=True)
    assert found.startswith(why) if why else not found


def test_a_package_nobody_had_locked_may_be_new_where_a_side_forgot_its_lock_file() -> None:
    assert not locks.drift(pins("a1"), pins("a1 b1"), pins("a1"), pins("a1 b1 n1"), locked=False)
    assert locks.drift(pins("a1"), pins("a1 b1"), pins("a1"), pins("a2 b1 n1"), locked=False)


some = st.frozensets(st.tuples(st.sampled_from("abcd"), st.sampled_from("12")))


@given(base=some, trunk=some, spec=some, after=some)
def test_what_is_trusted_has_no_version_of_its_own_and_loses_none_that_is_new(
    base: locks.Pins, trunk: locks.Pins, spec: locks.Pins, after: locks.Pins
) -> None:
    if locks.drift(base, trunk, spec, after, locked=True):
        return
    assert after <= base | trunk | spec
    there = {name for name, _ in after}
    for name, version in (trunk - base) | (spec - base):
        assert (name, version) in after or (name not in there and name in {one for one, _ in base})


@given(base=some, trunk=some)
def test_a_merge_with_nothing_is_trusted(base: locks.Pins, trunk: locks.Pins) -> None:
    assert not locks.drift(base, trunk, base, trunk, locked=True) and not locks.drift(
        base, base, trunk, trunk, locked=True
    )


# ---------------------------------------------------------------- when it is asked


def test_two_bumps_merge_cleanly_into_nonsense_and_are_asked_about(tmp_path: object) -> None:
    """Landing fact, trap 2."""
    from pathlib import Path

    names = "abcdefghij"
    lock = "version = 1\n" + "".join(
        f'\n[[package]]\nname = "{name}"\nversion = "1"\ndependencies = [\n  {{ name = "z" }},\n]\n'
        for name in names
    )
    files = {"uv.lock": lock, "pyproject.toml": "[project]\nname = 'p'\n"}
    trunk = {**files, "uv.lock": lock.replace('"a"\nversion = "1"', '"a"\nversion = "2"')}
    spec = {**files, "uv.lock": lock.replace('"j"\nversion = "1"', '"j"\nversion = "2"')}
    merged, asked, situation = Repository(Path(str(tmp_path))).asked(Case("", "", files, trunk, spec))
    assert not merged.conflicts, "git sees nothing"
    assert [(one.path, one.kind) for one in asked] == [("uv.lock", "both")]
    [answer] = decide(asked, situation)
    assert isinstance(answer, Rerun) and answer.trunk == trunk["uv.lock"].encode()
    # uv would keep trunk's j: the spec's bump must not be lost in silence.
    assert "j 2, which the spec brought, is lost" in answer.prove(trunk["uv.lock"].encode())


@pytest.mark.parametrize(
    ("trunk", "spec", "want"),
    [
        ({"pyproject.toml"}, {"uv.lock"}, ["uv.lock"]),
        ({"pyproject.toml"}, {"pyproject.toml"}, ["poetry.lock", "pyproject.toml", "uv.lock"]),
        ({"packages/a/package.json"}, {"package-lock.json"}, ["package-lock.json"]),
        (
            {"package.json"},
            {"package.json", "yarn.lock"},
            ["npm-shrinkwrap.json", "package-lock.json", "package.json", "pnpm-lock.yaml", "yarn.lock"],
        ),
        ({"gen/a"}, {"gen/a"}, ["gen/a"]),
        ({"package.json"}, {"packages/a/package-lock.json"}, []),
        ({"uv.lock"}, {"a.py"}, []),
        ({"x/Cargo.toml"}, {"y/Cargo.toml"}, ["Cargo.lock"]),
    ],
)
def test_suspects(trunk: set[str], spec: set[str], want: list[str]) -> None:
    assert suspects(trunk, spec, Situation(generated=("gen/**",))) == want


def test_a_lock_file_below_does_not_belong_to_a_manifest_above() -> None:
    assert "web/yarn.lock" not in beside("package.json") and "yarn.lock" in beside("web/app/package.json")


def test_versions_of_the_tools() -> None:
    def command(name: str, content: str) -> str:
        answer = LockFile().resolve(
            Dispute(name, "content", b"", content.encode(), content.encode() + b"\n"), Situation()
        )
        assert isinstance(answer, Rerun)
        return answer.command

    assert "--mode=update-lockfile" in command("yarn.lock", YARN_4)
    assert "--modules-folder" in command("yarn.lock", YARN_1)
    assert (
        command("poetry.lock", "# This file is automatically @generated by Poetry 1.8.3 and\n" + UV)
        == "poetry lock --no-update"
    )
    assert (
        command("poetry.lock", "# This file is automatically @generated by Poetry 2.1.1 and\n" + UV)
        == "poetry lock"
    )
    assert command("a b/uv.lock", UV) == "cd 'a b' && uv lock"


def test_a_lock_file_that_cannot_be_read_stops() -> None:
    answer = LockFile().resolve(Dispute("uv.lock", "content", b"", b"x = ", b"y = "), Situation())
    assert isinstance(answer, Stopped) and "cannot be read" in answer.why
