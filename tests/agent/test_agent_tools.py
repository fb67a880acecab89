"""The agent's tools: what they do, and that they stay where they are."""

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from agentq import process
from agentq.agent import confine, search, shell, tools
from agentq.agent.confine import Denied, Files
from agentq.agent.memory import Memory
from agentq.agent.shell import Shell
from agentq.agent.tools import MAX_LINES, MAX_RESULT, SPECS, Done, Tools, shorten

Call = Callable[..., Done]


@pytest.fixture
def ws(tmp_path: Path) -> Path:
    folder = tmp_path / "ws"
    (folder / ".git" / "hooks").mkdir(parents=True)
    (folder / ".git" / "config").write_text("[core]\n")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text("the secret\n")
    return folder


def made(
    ws: Path, hide: Callable[[str], str] = str, wrap: Any = list, more: Sequence[Path] = (), **given: Any
) -> Tools:
    limits = {"seconds": 30.0, "left": lambda: 60.0, "alive": lambda: None, **given}
    runs = Shell(ws, dict(os.environ), ws.parent / "scratch", wrap=wrap, **limits)
    return Tools(Files(ws, more), runs, Memory("s", "implement"), hide)


@pytest.fixture
def call(ws: Path) -> Call:
    one = made(ws)
    return lambda name, **given: one.call(name, given)


# ---------------------------------------------------------------- staying inside


OUTSIDE = [
    "../outside/secret.txt", "/etc/passwd", "a/../../outside/secret.txt", "link/secret.txt", "direct", "chain", ".git/../../outside/x",
    "~/../../etc/passwd/../../etc/shadow", "..", "/", "/proc/self/environ", "//etc/passwd",
]  # fmt: skip


@pytest.fixture
def links(ws: Path) -> Path:
    (ws / "a").mkdir()
    (ws / "link").symlink_to(ws.parent / "outside")
    (ws / "direct").symlink_to(ws.parent / "outside" / "secret.txt")
    (ws / "chain").symlink_to("direct")
    return ws


@pytest.mark.parametrize("path", OUTSIDE)
def test_nothing_outside_is_read_written_or_searched(links: Path, call: Call, path: str) -> None:
    before = sorted(str(each) for each in links.parent.rglob("*"))
    found = [
        call("read", file_path=path), call("write", file_path=path, content="x"),
        call("edit", file_path=path, old_string="the", new_string="no"), call("grep", pattern="secret", path=path),
        call("glob", pattern="**/*", path=path),
    ]  # fmt: skip
    if path == "~/../../etc/passwd/../../etc/shadow":
        assert all(done.error for done in found[:3])
    else:
        assert all(done.denied and done.error for done in found), found
    assert "the secret" not in str(found)
    assert sorted(str(each) for each in links.parent.rglob("*")) == before
    assert (links.parent / "outside" / "secret.txt").read_text() == "the secret\n"


def test_links_that_stay_inside_are_followed(ws: Path, call: Call) -> None:
    (ws / "real.md").write_text("one\n")
    (ws / "alias.md").symlink_to("real.md")
    assert call("edit", file_path="alias.md", old_string="one", new_string="two").text == "replaced 1 in real.md"
    assert (ws / "alias.md").is_symlink() and (ws / "real.md").read_text() == "two\n"
    assert "two" in call("read", file_path=str(ws / "alias.md")).text


def test_a_link_put_in_the_way_after_the_check_leads_nowhere(ws: Path) -> None:
    files = Files(ws)
    (ws / "d").mkdir()
    (ws / "d" / "f").write_text("inside")
    folder, file = files.find("d/f"), files.find("e/f")
    (ws / "d").rename(ws / "was")
    (ws / "d").symlink_to(ws.parent / "outside")
    (ws / "e").symlink_to(ws.parent / "outside")
    for path in (folder, file):
        with pytest.raises(OSError), files.opened(path):
            pass
        with pytest.raises(OSError):
            files.write(path, b"x")
        with pytest.raises(OSError), files.folder(path.parent):
            pass
    assert [path.name for path in (ws.parent / "outside").iterdir()] == ["secret.txt"]


def exchange(one: Path, other: Path) -> bool:
    """Two names change places, at once."""
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return ctypes.CDLL(None).renameat2(here, bytes(one), here, bytes(other), swap) == 0


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "renameat2"), reason="names cannot be exchanged here")
def test_a_race_with_links_is_never_won(ws: Path, call: Call) -> None:
    """A directory changes into a link and back, as fast as it can, while tools read and write below it."""
    inside, outside, link = ws / "d", ws.parent / "outside", ws / "link"
    inside.mkdir()
    (inside / "secret.txt").write_text("harmless\n")
    link.symlink_to(outside)
    if not exchange(inside, link) or not exchange(inside, link):
        pytest.skip("names cannot be exchanged here")
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            exchange(inside, link)

    thread = threading.Thread(target=swap)
    thread.start()
    reads = rounds = 0
    try:
        end = time.monotonic() + 20
        while time.monotonic() < end and (rounds < 300 or not reads):
            rounds += 1
            read = call("read", file_path="d/secret.txt")
            found = call("grep", pattern="secret|harmless", path="d")
            call("write", file_path="d/new.txt", content="mine")
            assert "the secret" not in read.text + found.text
            reads += not read.error
    finally:
        over.set()
        thread.join()
    assert reads and [path.name for path in outside.iterdir()] == ["secret.txt"]


@pytest.mark.parametrize(
    "path", [".git/config", ".git/hooks/pre-commit", ".GIT/config", ".git", "sub/.git/config", ".git/x/y"]
)
def test_what_belongs_to_git_is_not_written(ws: Path, call: Call, path: str) -> None:
    done = call("write", file_path=path, content="[core]\nfsmonitor = evil\n")
    assert done.denied and (ws / ".git" / "config").read_text() == "[core]\n"
    assert list((ws / ".git" / "hooks").iterdir()) == [] and not (ws / "sub").exists()
    assert call("read", file_path=".git/config").text.endswith("[core]")


def test_a_hard_link_to_a_file_outside_keeps_what_it_has(ws: Path, call: Call) -> None:
    os.link(ws.parent / "outside" / "secret.txt", ws / "hard.txt")
    call("write", file_path="hard.txt", content="mine")
    assert (ws / "hard.txt").read_text() == "mine"
    assert (ws.parent / "outside" / "secret.txt").read_text() == "the secret\n"


def test_what_is_no_file_keeps_nobody_waiting(ws: Path, call: Call) -> None:
    os.mkfifo(ws / "pipe")
    (ws / "zero").symlink_to("/dev/zero")
    assert call("read", file_path="pipe").denied and call("write", file_path="pipe", content="x").denied
    assert call("read", file_path="zero").denied
    assert call("grep", pattern="x").text == "no line matches"
    assert "Is a directory" in call("read", file_path=".").text or call("read", file_path=".").error
    assert call("write", file_path=".", content="x").denied


def test_other_writable_folders(tmp_path: Path, ws: Path) -> None:
    one = made(ws, more=[tmp_path / "outside"])
    assert "the secret" in one.call("read", {"file_path": "../outside/secret.txt"}).text
    assert not one.call("write", {"file_path": str(tmp_path / "outside/new"), "content": "x"}).error
    assert one.call("read", {"file_path": "../scratch"}).denied


# ---------------------------------------------------------------- read, write, edit


def test_read_shows_lines_from_an_offset(ws: Path, call: Call) -> None:
    (ws / "f").write_text("".join(f"line {i}\n" for i in range(1, 5001)))
    whole = call("read", file_path="f").text
    assert (
        whole.splitlines()[0] == "     1\tline 1" and whole.splitlines()[-2] == f"  {MAX_LINES}\tline {MAX_LINES}"
    )
    assert whole.endswith(f"(goes on; read on with offset {MAX_LINES + 1})")
    assert call("read", file_path="f", offset=4999).text == "  4999\tline 4999\n  5000\tline 5000"
    assert (
        call("read", file_path="f", offset=3, limit=1).text == "     3\tline 3\n(goes on; read on with offset 4)"
    )
    assert call("read", file_path="f", offset=9000).text == "(the file has 5000 lines)"
    (ws / "empty").write_text("")
    assert call("read", file_path="empty").text == "(the file is empty)"
    assert call("read", file_path="nowhere/x").text == "nowhere/x: No such file or directory"


def test_read_of_binary_odd_and_huge_files_is_bounded(
    ws: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ws / "bin").write_bytes(b"\x7fELF\0\0")
    assert call("read", file_path="bin").text == "bin is a binary file"
    (ws / "latin").write_bytes(b"caf\xe9\r\nx")
    assert call("read", file_path="latin").text == "     1\tcaf�\n     2\tx"
    with (ws / "one-line").open("wb") as file:
        file.write(b"y" * 3_000_000 + b"\nlast\n")
    found = call("read", file_path="one-line").text
    assert len(found) < 3000 and found.endswith("     2\tlast")
    with (ws / "huge").open("wb") as file:
        file.truncate(1 << 40)
    begin = time.monotonic()
    assert call("read", file_path="huge", offset=5).error
    assert "too large to edit" in call("edit", file_path="huge", old_string="a", new_string="b").text
    assert call("grep", pattern="a", path="huge").text == "no line matches"
    assert time.monotonic() - begin < 45
    monkeypatch.setattr(tools, "MAX_READ", 1000)
    (ws / "f").write_text("z\n" * 1000)
    assert "use bash" in call("read", file_path="f", offset=900).text
    (ws / "wide").write_text(("w" * 1900 + "\n") * 100)
    monkeypatch.undo()
    assert len(call("read", file_path="wide").text) < MAX_RESULT + 100


def test_write_replaces_a_whole_file_and_keeps_its_mode(ws: Path, call: Call) -> None:
    (ws / "run.sh").write_text("old")
    (ws / "run.sh").chmod(0o777)
    assert call("write", file_path="run.sh", content="ünï\n").text == "wrote 6 bytes to run.sh"
    assert (ws / "run.sh").read_text() == "ünï\n" and (ws / "run.sh").stat().st_mode & 0o777 == 0o777
    call("write", file_path="deep/er/f", content="")
    assert (ws / "deep/er/f").stat().st_mode & 0o777 == 0o666 & ~umask()
    assert sorted(path.name for path in ws.iterdir()) == [".git", "deep", "run.sh"]
    assert "surrogate" in call("write", file_path="f", content="\ud800").text and not (ws / "f").exists()
    assert call("write", file_path="run.sh/x", content="").error


def umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


def test_edit_needs_exactly_one_match(ws: Path, call: Call) -> None:
    (ws / "f").write_text("a = 1\nb = 1\n")
    assert "2 times" in call("edit", file_path="f", old_string="= 1", new_string="= 2").text
    assert "not in the file" in call("edit", file_path="f", old_string="c = 1", new_string="").text
    assert call("edit", file_path="f", old_string="", new_string="x").error
    assert call("edit", file_path="f", old_string="a", new_string="a").error
    assert (ws / "f").read_text() == "a = 1\nb = 1\n"
    assert call("edit", file_path="f", old_string="b = 1\n", new_string="").text == "replaced 1 in f"
    assert (
        call("edit", file_path="f", old_string="1", new_string=r"\1", replace_all=True).text == "replaced 1 in f"
    )
    assert (ws / "f").read_text() == "a = \\1\n"


def test_edit_keeps_every_other_byte(ws: Path, call: Call) -> None:
    (ws / "f").write_bytes("\ufeffone\r\ntwo\r\nthree".encode())
    assert not call("edit", file_path="f", old_string="one\ntwo", new_string="1\n2").error
    assert (ws / "f").read_bytes() == "\ufeff1\r\n2\r\nthree".encode()
    (ws / "g").write_bytes(b"caf\xe9 one")
    assert "not UTF-8" in call("edit", file_path="g", old_string="one", new_string="two").text


# ---------------------------------------------------------------- glob and grep


@pytest.fixture
def tree(ws: Path) -> Path:
    for number, name in enumerate(
        ["a.py", "src/b.py", "src/deep/c.ts", "node_modules/m/d.py", ".git/e.py", ".hidden/f.py"]
    ):
        path = ws / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"x\ndef f{number}(): TODO\n")
        os.utime(path, (1000 + number, 1000 + number))
    return ws


def test_glob_finds_newest_first(tree: Path, call: Call) -> None:
    def names(**given: Any) -> list[str]:
        return call("glob", **given).text.splitlines()

    assert names(pattern="**/*.py") == names(pattern="*.py") == [".hidden/f.py", "src/b.py", "a.py"]
    assert names(pattern="src/**") == ["src/deep/c.ts", "src/b.py"]
    assert names(pattern="*.{py,ts}", path="src") == ["src/deep/c.ts", "src/b.py"]
    assert names(pattern="node_modules/**/*.py") == ["node_modules/m/d.py"]
    assert names(pattern="*.rs") == ["no file matches"]
    for bad in ("/etc/*", "../*", "x" * 2000):
        assert call("glob", pattern=bad).error


def test_grep_finds_lines(tree: Path, call: Call) -> None:
    assert call("grep", pattern=r"def f\d\(").text.splitlines() == [
        "a.py:2: def f0(): TODO", ".hidden/f.py:2: def f5(): TODO", "src/b.py:2: def f1(): TODO",
        "src/deep/c.ts:2: def f2(): TODO",
    ]  # fmt: skip
    assert call("grep", pattern="TODO", path="src", glob="*.ts").text == "src/deep/c.ts:2: def f2(): TODO"
    assert call("grep", pattern="TODO", path="src/b.py").text == "src/b.py:2: def f1(): TODO"
    assert call("grep", pattern="(").error and call("grep", pattern="a" * 2000).error
    assert call("grep", pattern="x", path="nowhere").error


def test_searches_are_bounded(ws: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    (ws / "many").write_text("hit\n" * 5000)
    found = call("grep", pattern="hit").text.splitlines()
    assert len(found) == search.MAX_FOUND + 1 and "more than 200" in found[-1]
    for number in range(300):
        (ws / f"f{number}").write_text("")
    assert len(call("glob", pattern="f*").text.splitlines()) == search.MAX_FOUND + 1
    monkeypatch.setattr(search, "SECONDS", 0.3)
    (ws / "evil").write_text("a" * 40 + "!\n")
    begin = time.monotonic()
    assert "not complete" in call("grep", pattern="(a+)+$", path="evil").text
    assert time.monotonic() - begin < 45 and signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    monkeypatch.setattr(search, "MAX_ENTRIES", 10)
    assert "not complete" in call("glob", pattern="f*").text


# ---------------------------------------------------------------- bash


def test_bash_runs_in_the_workspace_each_time_anew(ws: Path, call: Call) -> None:
    assert call("bash", command="pwd; cd /; X=1; echo err >&2").text == f"{ws}\nerr"
    assert call("bash", command="pwd; echo [$X]").text == f"{ws}\n[]"
    done = call("bash", command="exit 4")
    assert (done.text, done.error) == ("(exit status 4)", True)
    assert call("bash", command="true").text == "(no output)"
    assert "no NUL" in call("bash", command="a\0b").text and call("bash", command="x" * 200_000).error
    assert not (ws.parent / "scratch").exists()


def test_bash_has_a_time_out_and_leaves_nothing(ws: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(process.MARKER, f"tools-{os.getpid()}")
    begin = time.monotonic()
    done = call("bash", command="trap '' TERM; echo before; sleep 600 & sleep 600", timeout=1)
    assert done.text == "before\n(not done after 1 s)" and done.error and time.monotonic() - begin < 45
    done = call("bash", command="setsid sleep 600 & disown; echo served")
    assert done.text.startswith("served\n(ended what it left running") and done.error
    assert process.strays(f"tools-{os.getpid()}") == []


def test_the_agents_own_time_is_a_commands_too(ws: Path) -> None:
    begin = time.monotonic()
    one = made(ws, left=lambda: 0.3)
    assert "not done after 0.3 s" in one.call("bash", {"command": "sleep 600", "timeout": 500}).text
    assert time.monotonic() - begin < 45


def test_a_flood_of_output_is_cut_and_ended(ws: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    text = call("bash", command="echo first; seq 1 200000; echo last").text
    assert len(text) < MAX_RESULT + 200 and text.startswith("first\n1\n") and text.endswith("\nlast")
    assert "left out" in text
    monkeypatch.setattr(shell, "MAX_OUTPUT", 1_000_000)
    done = call("bash", command="while :; do echo flood; done")
    assert done.error and done.text.endswith("(more than 1000000 bytes of output)")


def test_bash_goes_through_the_walls_and_signs_of_life_are_given(
    ws: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "_QUIET", 0.05)
    signs: list[int] = []
    one = made(ws, wrap=lambda command: ["env", "WALLED=yes", *command], alive=lambda: signs.append(1))
    assert one.call("bash", {"command": "echo $WALLED; sleep 0.4; echo x; sleep 0.4"}).text == "yes\nx"
    assert 1 <= len(signs) <= 3, "silence is not life"


def test_what_is_secret_is_hidden_in_every_result(ws: Path) -> None:
    (ws / "f").write_text("key=hunter2-hunter2\n")
    one = made(ws, hide=lambda text: text.replace("hunter2-hunter2", "***"), secrets=["hunter2-hunter2"])
    for name, given in {
        "read": {"file_path": "f"}, "grep": {"pattern": "key"}, "bash": {"command": "cat f"},
    }.items():  # fmt: skip
        assert "***" in one.call(name, given).text and "hunter2" not in one.call(name, given).text


# ---------------------------------------------------------------- calls that make no sense


@pytest.mark.parametrize(
    ("name", "given", "why"),
    [
        ("shell", {}, "there is no tool 'shell'"),
        ("read", {}, "file_path is missing"),
        ("read", {"file_path": None}, "file_path is missing"),
        ("read", {"file_path": ["a"]}, "file_path is not a string"),
        ("read", {"file_path": "f", "offset": "3"}, "offset is not a integer"),
        ("read", {"file_path": "f", "offset": True}, "offset is not a integer"),
        ("read", {"file_path": "f", "offset": 0}, "offset is below 1"),
        ("read", {"file_path": "a\0b"}, "no NUL"),
        ("read", {"file_path": "x" * 5000}, "File name too long"),
        ("edit", {"file_path": "f", "old_string": "a"}, "new_string is missing"),
        ("bash", {"command": 5}, "command is not a string"),
    ],
)
def test_calls_that_make_no_sense_are_errors_for_the_model(
    call: Call, name: str, given: dict[str, Any], why: str
) -> None:
    done = call(name, **given)
    assert done.error and why in done.text


def test_every_tool_is_offered_with_a_schema_and_null_is_nothing(ws: Path, call: Call) -> None:
    assert [spec["name"] for spec in SPECS] == ["bash", "read", "write", "edit", "glob", "grep"]
    assert not call("glob", pattern="*", path=None).error
    assert not call("bash", command="true", description="says what it does").error
    assert shorten("abc" * 10, 9) == "abc\n[… 21 characters left out …]\nabcabc"


def test_a_denied_path_names_itself(ws: Path) -> None:
    with pytest.raises(Denied, match="outside the workspace"):
        Files(ws).find("../outside")
    assert confine.Files(ws).find("a/./b//c") == ws / "a/b/c"
