"""Agents that behave badly: what they leave is saved, never followed, never run and never shown raw."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import project as projects
from support.project import Project, run


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = projects.build(tmp_path / "p")
    made.add("alpha")
    return made


DO = 'Path("alpha.txt").write_text("alpha\\n")\n'


def implement(project: Project, text: str, commit: str = "commit()\n") -> None:
    project.script("alpha", "implement", "import os, shutil, subprocess, sys, time\n" + DO + text + "\n" + commit)


def declare(project: Project, *paths: str) -> None:
    queue = project.queue
    queue["ready"][0]["files_modified"] = list(paths)
    project.write_queue(**queue)


def on_trunk(project: Project) -> dict[str, str]:
    """path → mode of everything on trunk; paths as git quotes them."""
    lines = project.git("ls-tree", "-r", "main", cwd=project.hub).splitlines()
    return {line.split("\t", 1)[1]: line.split(" ")[0] for line in lines}


def test_a_daemon_it_leaves_is_ended(project: Project) -> None:
    implement(
        project,
        """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.environ.clear(); time.sleep(600)
    os._exit(0)
subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 600"], start_new_session=True)
""",
    )
    started = time.monotonic()
    assert run(project, "alpha").ended == "landed" and project.strays("alpha") == []
    assert time.monotonic() - started < 30


def test_signals_to_its_parents_do_not_lose_the_work(project: Project) -> None:
    """Its parent is agentq's guard: it takes SIGTERM for the end of the run, and the work is kept."""
    begun = project.root / "begun"
    implement(
        project,
        f"""
import signal
if not os.path.exists({str(begun)!r}):
    open({str(begun)!r}, "w").close()
    os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)
assert Path("alpha.txt").exists()
""",
    )
    assert run(project, "alpha").ended == "landed" and project.strays("alpha") == []


def test_a_dirty_tree_is_kept_for_the_next_attempt(project: Project) -> None:
    note = project.root / "attempts"
    implement(
        project,
        f"""
with open({str(note)!r}, "a") as file: file.write("x")
if len(open({str(note)!r}).read()) == 1: subprocess.run(["git", "commit", "--allow-empty", "-qm", "x"]); sys.exit(0)
assert open("left.txt").read() == "left"
""".replace("subprocess", 'open("left.txt", "w").write("left"); subprocess', 1),
    )
    report = run(project, "alpha")
    assert report.ended == "landed" and "left.txt" in on_trunk(project)


STRANGE = r"""
names = ["-rf", "--help", "a\nb.txt", "quote'\".txt", "tab\t.txt", "back\\slash", " space ", "$(touch ran)", "`touch ran`",
         "*", "[x]", ":(top)", "!neg", "#c", "~", "n" * 255, "\u202egnp.exe", "esc\x1b[31m", "c1\u009b", "[/foo] [bold]"]
raw = [name.encode() for name in names] + [b"latin\xe9", b"\xff\xfe", b"deep/" + b"d" * 200 + b"/" + b"e" * 200]
for name in raw:
    path = os.path.join(FOLDER, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, "wb").write(b"x")
"""


def test_file_names_that_no_tool_likes(project: Project) -> None:
    project.script("alpha", "test", "import os\n" + (project.scripts / "alpha.test.py").read_text().replace(
        "commit()", STRANGE.replace("FOLDER", 'b"checks/names"') + "commit()\n"))  # fmt: skip
    implement(project, STRANGE.replace("FOLDER", 'b"more"') + "shutil.rmtree('checks/names')\n")
    done = project.agentq("run", "alpha", "--yes")
    assert project.landings() == ["alpha"]
    landed = subprocess.run(
        ["git", "ls-tree", "-r", "-z", "--name-only", "main"], cwd=project.hub, capture_output=True, check=True
    ).stdout.split(b"\0")
    assert {b"checks/names/-rf", b"more/a\nb.txt", b"more/latin\xe9", b"checks/names/\xff\xfe"} <= set(landed)
    assert not any(path.name == "ran" for path in project.root.rglob("ran"))
    shown = done.stdout + done.stderr
    for command in (
        ("show", "alpha"),
        ("status",),
        ("logs", "alpha"),
        ("diff", "alpha"),
        ("diff", "alpha", "--stat"),
    ):
        shown += project.agentq(*command).stdout
    assert not {"\x1b", "\x9b", "\u202e"} & set(shown)
    assert "put 23 locked test files back: checks/names/" in " ".join(done.stdout.split())


def test_ten_thousand_files_and_a_huge_one(project: Project) -> None:
    implement(
        project,
        """
for n in range(10_000):
    if n % 100 == 0: os.makedirs(f"many/{n // 100}")
    open(f"many/{n // 100}/{n}.txt", "w").write(str(n))
with open("huge.bin", "wb") as file: file.write(os.urandom(1 << 10) * 51_200)
""",
    )
    started = time.monotonic()
    assert run(project, "alpha").ended == "landed"
    assert len(project.trunk_files()) > 10_000 and time.monotonic() - started < 60
    assert project.git("cat-file", "-s", "main:huge.bin", cwd=project.hub) == str(50 << 20)


def test_links_to_the_outside_are_never_written_through(project: Project) -> None:
    """In the place of a locked test, of its folder, and of files that are cleaned away."""
    outside = project.root / "outside"
    outside.mkdir()
    for name in ("alpha.py", "base.py", "old.py", "precious.txt"):
        (outside / name).write_text("precious")
    (project.checkout / "checks" / "old.py").write_text("assert True\n")
    project.git("add", "-A")
    project.git("commit", "-qm", "old")
    project.git("push", "-q", "origin", "HEAD:main")
    queue_file = project.checkout / "agents" / "queue.json"
    project.script("alpha", "test", (project.scripts / "alpha.test.py").read_text().replace(
        "commit()", "Path('checks/old.py').unlink(); commit()"))  # fmt: skip
    declare(project, "checks/*.py", "*")
    implement(
        project,
        f"""
os.symlink("/etc/passwd", "passwd"); os.symlink({str(queue_file)!r}, "queue.json")
os.symlink({str(outside)!r}, "folder"); os.symlink("loop", "loop")
shutil.rmtree("checks"); os.symlink({str(outside)!r}, "checks")
""",
    )
    passwd = Path("/etc/passwd").read_bytes()
    report = run(project, "alpha")
    assert sorted((path.name, path.read_text()) for path in outside.iterdir()) == [
        (name, "precious") for name in ("alpha.py", "base.py", "old.py", "precious.txt")
    ]
    assert Path("/etc/passwd").read_bytes() == passwd and project.entry("alpha")
    assert report.ended == "landed", report
    modes = on_trunk(project)
    assert modes["passwd"] == "120000" and modes["checks/alpha.py"] == "100644" and "checks/old.py" not in modes
    assert project.git("show", "main:passwd", cwd=project.hub) == "/etc/passwd"


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("shutil.rmtree(os.getcwd()); sys.exit(0)", "attention"),
        ("w = os.getcwd(); shutil.rmtree(w); os.symlink(OUT, w); sys.exit(0)", "attention"),
        ("w = os.getcwd(); shutil.rmtree(w); open(w, 'w').close(); sys.exit(0)", "attention"),
        ("shutil.rmtree('.git'); sys.exit(0)", "attention"),
        ("shutil.rmtree('.git'); os.symlink(OUT + '/.git', '.git')", "attention"),
        ("shutil.rmtree('.git'); open('.git', 'w').write('gitdir: ' + OUT + '/.git'); sys.exit(0)", "attention"),
    ],
)
def test_a_workspace_it_destroys_or_replaces(project: Project, text: str, ends: str) -> None:
    outside = project.root / "outside"
    project.git("clone", "-q", str(project.hub), str(outside))
    head = project.git("rev-parse", "HEAD", cwd=outside)
    implement(project, f"OUT = {str(outside)!r}\n{text}")
    report = run(project, "alpha")
    assert report.ended == ends and report.hint and "bug" not in report.problem
    assert (outside / "shared.txt").is_file() and (outside / ".git" / "HEAD").is_file()
    if "OUT + '/.git', '.git')" not in text:
        assert project.git("rev-parse", "HEAD", cwd=outside) == head
    implement(project, "")
    project.agentq("retry", "alpha", "--yes")
    assert project.landings() == ["alpha"]


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("subprocess.run('git checkout -q --orphan other && git add -A && git commit -qm x', shell=True)", "landed"),
        ("subprocess.run('git add -A && git commit -q --amend -m x', shell=True)", "landed"),
        ("subprocess.run('git checkout -q --detach && git add -A && git commit -qm x', shell=True)", "landed"),
        ("subprocess.run('git add -A && git commit -qm x && git checkout -q --orphan unborn', shell=True)", "attention"),
        ("subprocess.run('git checkout -qb b && git add -A && git commit -qm x && git checkout -q work', shell=True)",
         "attention"),
        ("subprocess.run('git add -A && git commit -qm x && git tag -f work && git update-ref -d refs/heads/work', "
         "shell=True)", "attention"),
    ],
)  # fmt: skip
def test_history_it_rewrites_does_not_matter_but_files_do(project: Project, text: str, ends: str) -> None:
    implement(project, text, commit="")
    report = run(project, "alpha")
    assert report.ended == ends, report
    if ends == "landed":
        assert project.git("rev-list", "--count", "main", cwd=project.hub) == "2"
        assert project.git("log", "-1", "--format=%s", "main", cwd=project.hub) == "Write alpha"
    else:
        assert "\n" not in report.problem
        implement(project, "")
        project.agentq("retry", "alpha", "--yes")
    assert project.landings() == ["alpha"] and "checks/base.py" in on_trunk(project)


@pytest.mark.parametrize("commits", [True, False])
def test_a_repository_inside_its_workspace_is_kept_as_files(project: Project, commits: bool) -> None:
    """git would take it for a submodule and drop its files."""
    more = "&& git add -A && git commit -qm inner" if commits else ""
    implement(
        project,
        f"""
if not os.path.exists("nested"):
    os.makedirs("nested/deep/.hidden"); open("nested/a.txt", "w").write("a")
    open("nested/deep/.hidden/b\\n.txt", "w").write("b"); os.symlink("/etc", "nested/link")
    subprocess.run("git init -q . {more}", shell=True, cwd="nested", check=True)
    subprocess.run("git add alpha.txt && git commit -qm x", shell=True); sys.exit(0)
assert not os.path.exists("nested/.git") and open("nested/a.txt").read() == "a"
""",
    )
    report = run(project, "alpha")
    assert report.ended == "landed", report
    modes = on_trunk(project)
    assert (
        modes["nested/a.txt"] == "100644" and modes["nested/link"] == "120000" and "160000" not in modes.values()
    )
    assert modes['"nested/deep/.hidden/b\\n.txt"'] == "100644"


def test_attributes_and_modes(project: Project) -> None:
    (project.checkout / "tool.sh").write_text("#!/bin/sh\n")
    (project.checkout / "Case.txt").write_text("case")
    (project.checkout / "gone.txt").write_text("gone")
    project.git("add", "-A")
    project.git("commit", "-qm", "more")
    project.git("push", "-q", "origin", "HEAD:main")
    ran = project.root / "ran"
    declare(project, "alpha.txt", "*.txt", "*.sh", "checks/alpha.py")
    implement(
        project,
        f"""
open(".gitattributes", "w").write("*.bin filter=evil diff=evil merge=evil\\n*.lfs filter=lfs diff=lfs merge=lfs -text\\n")
for key, value in (("filter.evil.clean", "touch {ran}; cat"), ("filter.evil.smudge", "touch {ran}; cat"),
                   ("filter.evil.required", "true"), ("diff.evil.command", "touch {ran}"), ("diff.evil.textconv", "touch {ran}")):
    subprocess.run(["git", "config", key, value], check=True)
open("a.bin", "w").write("binary"); open("b.lfs", "w").write("large")
os.chmod("tool.sh", 0o755); os.rename("Case.txt", "case.txt"); os.unlink("gone.txt")
os.unlink("shared.txt"); os.symlink("case.txt", "shared.txt")
""",
        commit=f"commit(); os.path.exists({str(ran)!r}) and os.unlink({str(ran)!r})",
    )
    assert run(project, "alpha").ended == "landed" and not ran.exists()
    modes = on_trunk(project)
    assert modes["tool.sh"] == "100755" and modes["shared.txt"] == "120000"
    assert "case.txt" in modes and "Case.txt" not in modes and "gone.txt" not in modes
    assert project.git("show", "main:b.lfs", cwd=project.hub) == "large"


def test_content_that_cannot_be_saved_is_said_and_stays(project: Project) -> None:
    implement(
        project,
        """
open(".gitattributes", "w").write("bad.txt working-tree-encoding=UTF-16\\n"); open("bad.txt", "w").write("odd")
subprocess.run("git add alpha.txt && git commit -qm x", shell=True); sys.exit(0)
""",
    )
    report = run(project, "alpha")
    workspace = project.workspaces / "ws" / "alpha"
    assert report.ended == "attention" and "cannot be saved" in report.problem and str(workspace) in report.hint
    assert (workspace / "bad.txt").read_text() == "odd"
    (workspace / ".gitattributes").unlink()
    implement(project, 'assert open("bad.txt").read() == "odd"')
    project.agentq("retry", "alpha", "--yes")
    assert project.landings() == ["alpha"] and "bad.txt" in on_trunk(project)


def test_a_locked_test_replaced_by_a_folder_is_put_back(project: Project) -> None:
    implement(
        project,
        'os.unlink("checks/alpha.py"); os.mkdir("checks/alpha.py"); open("checks/alpha.py/x", "w").close()',
    )
    report = run(project, "alpha")
    assert report.ended == "landed", report
    assert on_trunk(project)["checks/alpha.py"] == "100644"


def test_what_it_prints_moves_no_cursor(project: Project) -> None:
    noise = r"""
out = os.fdopen(1, "wb", closefd=False)
out.write(b"\x1b[2J\x1b]0;owned\x07\x9b31m\xc2\x9b31m \xe2\x80\xaetxt.exe [/foo] [bold]x[/] \x00\xff\xfe\r\n")
out.write(b"y" * 3_000_000 + b"\n"); out.flush()
for _ in range(300): out.write(b"z" * 9999 + b"\n")
out.write(b"last \x1b[31mred\x1b[0m [/foo] \xff\x00\xc2\x9b\n"); out.flush()
"""
    implement(project, noise, commit="sys.exit(3)")
    done = project.agentq("work", rc=6)
    shown = done.stdout + done.stderr
    for command in (("status",), ("show", "alpha"), ("logs", "alpha"), ("why", "alpha")):
        shown += project.agentq(*command).stdout
    assert not {"\x1b", "\x9b", "\u202e", "\0"} & set(shown) and "[/foo]" in shown and "last red" in shown
    assert "\\u001b" not in project.agentq("show", "alpha", "--json").stdout
    implement(project, "")
    project.agentq("retry", "alpha", "--yes")
    assert project.landings() == ["alpha"]


def test_one_that_never_stops_printing_is_stopped(project: Project) -> None:
    implement(project, "while True: os.write(1, b'y' * 65536)")
    made = projects.services(project)
    made.driver.max_output = 4_000_000
    from agentq.flows.run import run_spec

    report = run_spec(made, "alpha", confirm=lambda *_: True)
    assert report.ended == "attention" and "printed too much" in report.problem and project.strays("alpha") == []
    assert made.mirror.show(made.mirror.ref("refs/agentq/wip/alpha"), "alpha.txt") == b"alpha\n"
    logs = sum(path.stat().st_size for path in project.state.glob("runs/alpha/*/*.log"))
    assert logs < 2_000_000_000 and "yyy" in project.agentq("logs", "alpha", "-n", "1").stdout


@pytest.mark.skipif(os.getuid() == 0 and not shutil.which("setpriv"), reason="root passes every permission")
def test_a_workspace_made_read_only_or_unreadable(project: Project) -> None:
    caps = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.getuid() == 0 else []
    project.add("beta")
    project.script("alpha", "test", "import os, sys\n" + (project.scripts / "alpha.test.py").read_text().replace(
        "commit()", 'os.makedirs("d/e", exist_ok=True); open("d/e/f", "w").close(); commit()\n'
        'os.system("chmod 000 d/e/f d/e; chmod -R a-w .")\n'
        'if not os.access("d/e/f", os.F_OK): sys.exit(0)\nsys.exit(9)'))  # fmt: skip
    implement(project, "", commit='commit(); os.system("chmod -R a-rwx .")')
    for spec in ("alpha", "beta"):  # beta takes over the workspace that alpha's agent locked
        done = subprocess.run(
            [*caps, sys.executable, "-m", "agentq", "run", spec, "--yes"], cwd=project.checkout, text=True,
            capture_output=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    assert project.landings() == ["alpha", "beta"] and on_trunk(project)["d/e/f"] == "100644"
