"""The `.gitattributes` of a whole tree as one file, against git's own answers where the files lie in their folders."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agentq.core.attributes import compiled

FOLDERS = ["", "a/", "a/b/", "a[1]/", "sp ace/", 'q"uo\\te/', "st*r/"]
NAMES = ["x.lock", "y.txt", "aboth", "#x", "x y", "a[1]", "b"]
PATHS = [folder + name for folder in [*FOLDERS, "a/b/c/", "a1/"] for name in NAMES if folder + name != "a/b"]
PATTERNS = [
    "*", "*.lock", "x.lock", "/x.lock", "b/x.lock", "**/x.lock", "b/**", "c/*", "x*", "[xy].*", "c/",
    '"x y"', '"\\"x"', "#x", "\\#x", "!x.lock", "a[[]1]", " x.lock", "m/x",
]  # fmt: skip
ASSIGNED = ["one", "-one", "!one", "one=1", "one=2", "two one=3", "both", "-merge", "merge=union", ""]

lines = st.builds(
    lambda pattern, given: f"{pattern} {given}", st.sampled_from(PATTERNS), st.sampled_from(ASSIGNED)
)
macros = st.sampled_from(["[attr]both one two=4", "[attr]two one"])
texts = st.lists(st.one_of(lines, macros), max_size=5).map(lambda some: "\n".join([*some, ""]))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    top = tmp_path_factory.mktemp("attributes")
    for name, *bare in ("tree",), ("bare", "--bare"):
        subprocess.run(["git", "init", "-q", *bare, str(top / name)], check=True)
    yield top


def _answers(where: Path, *config: str) -> bytes:
    asked = b"".join(path.encode() + b"\0" for path in PATHS)
    command = ["git", *config, "check-attr", "-z", "--stdin", "one", "two", "both", "merge"]
    return subprocess.run(command, cwd=where, input=asked, capture_output=True, check=True).stdout


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(FOLDERS), texts, max_size=4))
@example({"": "*.lock -merge\n", "a/": "*.lock merge\n", "a/b/": "/x.lock -merge"})
@example({"a/": "[attr]both one\n* both\n"})
@example({'q"uo\\te/': '"x y" one', "st*r/": "*.lock one", "a[1]/": "b one"})
def test_it_means_what_the_files_mean_where_they_are(place: Path, files: dict[str, str]) -> None:
    tree = place / "tree"
    for folder in FOLDERS:
        shutil.rmtree(tree / folder.rstrip("/")) if folder and (tree / folder).exists() else None
    (tree / ".gitattributes").unlink(missing_ok=True)
    for folder, text in files.items():
        (tree / folder).mkdir(parents=True, exist_ok=True)
        (tree / folder / ".gitattributes").write_text(text)
    one = place / "one"
    one.write_bytes(compiled({folder + ".gitattributes": text.encode() for folder, text in files.items()}))
    expected = _answers(tree).replace(b"\0merge\0union\0", b"\0merge\0set\0")
    assert _answers(place / "bare", "-c", f"core.attributesFile={one}") == expected


def test_nothing_is_an_empty_file() -> None:
    assert compiled({}) == b""
