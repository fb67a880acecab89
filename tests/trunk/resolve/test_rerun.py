"""Commands in a checkout: what is taken from it, what stops."""

import subprocess
from pathlib import Path

import pytest

from agentq.trunk.resolve.base import Rerun, Resolved, Stopped
from agentq.trunk.resolve.rerun import carry_out, format_imports


def run(folder: Path) -> object:
    return lambda command: subprocess.run(["/bin/sh", "-c", command], cwd=folder, check=False).returncode


def made(folder: Path, command: str, **more: object) -> list[Resolved | Stopped]:
    (folder / "out.txt").write_text("merged")
    rerun = Rerun("out.txt", b"trunk", command, ("out.txt",), "generated", "x", **more)  # type: ignore[arg-type]
    return carry_out([rerun], folder, run(folder))  # type: ignore[arg-type]


def why(answers: list[Resolved | Stopped]) -> str:
    [answer] = answers
    assert isinstance(answer, Stopped)
    return answer.why


def test_it_begins_with_trunks_version_and_takes_what_the_command_left(folder: Path) -> None:
    assert made(folder, "printf +more >> out.txt; touch other.txt") == [
        Resolved("out.txt", b"trunk+more", "generated", "x")
    ]


@pytest.mark.parametrize(
    ("command", "more", "said"),
    [
        ("exit 3", {}, "exit status 3"),
        ("rm out.txt", {}, "left no out.txt"),
        ("true", {"check": "exit 4"}, "check 'exit 4' failed with exit status 4"),
        ("true", {"check": "printf x >> out.txt"}, "the check changed"),
        ("true", {"prove": lambda after: f"saw {after.decode()}"}, "saw trunk"),
        ("printf '<<<<<<< a\\n' > out.txt", {}, "conflict markers"),
        ("true", {"again": b"spec"}, "twice gives out.txt two contents"),
        ("printf x >> n; cp n out.txt", {"again": b"spec"}, "twice gives out.txt two contents"),
        ("ln -sf /etc/hostname out.txt", {}, "cannot be read"),
        ("rm out.txt; mkfifo out.txt", {}, "no regular file"),
        ("rm out.txt; mkdir out.txt", {}, "no regular file"),
    ],
)
def test_what_stops(folder: Path, command: str, more: dict[str, object], said: str) -> None:
    assert said in why(made(folder, command, **more))


def test_nothing_is_read_or_written_behind_a_symbolic_link(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "out.txt").write_text("secret")
    (folder / "gen").symlink_to(outside)
    rerun = Rerun("gen/out.txt", b"trunk", "true", ("gen/**",), "generated", "x")
    assert "symbolic link" in why(carry_out([rerun], folder, run(folder)))  # type: ignore[arg-type]
    assert (outside / "out.txt").read_text() == "secret"


def test_one_command_runs_once_for_all_its_paths_and_deletions_count(folder: Path) -> None:
    for name in ("a.gen", "b.gen", "old.gen", "a.txt"):
        (folder / name).write_text("x")
    command = "printf r >> runs; for n in a b; do printf new > $n.gen; done; rm -f old.gen"
    reruns = [Rerun(f"{name}.gen", b"trunk", command, ("*.gen",), "generated", "x") for name in ("a", "b")]
    done = carry_out(reruns, folder, run(folder))  # type: ignore[arg-type]
    assert {one.path: one.content for one in done if isinstance(one, Resolved)} == {
        "a.gen": b"new",
        "b.gen": b"new",
        "old.gen": None,
    }
    assert (folder / "runs").read_text() == "r"


def test_formatting_imports(folder: Path) -> None:
    def formatted(command: str) -> list[Resolved | Stopped]:
        (folder / "a b.py").write_text("import sys\nimport os\n")
        answers = [Resolved("a b.py", b"", "imports", "x", format=True), Resolved("c.py", b"", "additive", "x")]
        return format_imports(answers, command, folder, run(folder))  # type: ignore[arg-type]

    assert formatted("") == [] and formatted("true {files}") == []
    [answer] = formatted("sort -o {files} {files}")
    assert isinstance(answer, Resolved) and answer.content == b"import os\nimport sys\n"
    assert "changed what a b.py says" in why(formatted("sed -i 1d {files}"))
    assert "exit status 1" in why(formatted("false"))
