"""Repositories and remotes in every unhappy state: one clear line and a hint, the documented exit code, nothing
lost, and the next command carries on."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import project as projects
from support.project import Project, run

from agentq.errors import ExternalError


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = projects.build(tmp_path / "p")
    made.add("alpha")
    return made


def told(done: "subprocess.CompletedProcess[str]", *words: str) -> None:
    """One error line, one hint, no traceback, nothing that is a bug."""
    lines = done.stderr.splitlines()
    assert len(lines) == 2 and lines[0].startswith("error: ") and lines[1].startswith("hint: "), done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def agentq_in(folder: Path, *args: str, rc: int) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, "-m", "agentq", *args], cwd=folder, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == rc, done.stdout + done.stderr
    return done


def picture(root: Path) -> dict[str, tuple[int, bytes]]:
    """Every file of a checkout with mode and content, HEAD, refs and index included; without agentq's own."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        own = name.startswith((".git/agentq", ".git/objects", ".git/refs/agentq")) or name == "agents/queue.json"
        if not own and path.is_file():
            found[name] = (path.lstat().st_mode, path.read_bytes())
    return found


# ---------------------------------------------------------------- repositories


def test_no_repository_and_a_bare_one(project: Project, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    told(agentq_in(tmp_path / "plain", "run", "alpha", rc=2), "not inside a git repository", "git init")
    told(agentq_in(project.hub, "next", rc=2), "is a bare repository", "checkout")
    assert agentq_in(tmp_path / "plain", "next", "--json", rc=2).stdout.count('"agentq/error/v1"') == 1


def test_no_remote_then_one(project: Project) -> None:
    project.git("remote", "remove", "origin")
    told(project.agentq("run", "alpha", "--yes", rc=2), "no remote 'origin'", "git remote add origin")
    assert project.entry("alpha")["array"] == "ready"
    project.git("remote", "add", "origin", str(project.hub))
    assert run(project, "alpha").ended == "landed"


def test_a_remote_without_the_trunk_then_with_it(project: Project) -> None:
    """Also an empty repository: its remote has no branch yet."""
    project.git("branch", "-m", "main", "other", cwd=project.hub)
    told(project.agentq("run", "alpha", "--yes", rc=1), "couldn't find remote ref", "push a branch 'main'")
    assert project.entry("alpha").get("failures", 0) == 0, "the spec is not to blame"
    project.git("branch", "-m", "other", "main", cwd=project.hub)
    assert run(project, "alpha").ended == "landed"


def test_an_empty_repository(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path / "r")], check=True)
    told(agentq_in(tmp_path / "r", "next", rc=8), "queue.json is missing", "agentq init")


@pytest.mark.parametrize("stage", ["test", "implement", "verify", "push"])
def test_a_remote_that_goes_away_and_comes_back(project: Project, stage: str) -> None:
    away = project.hub.with_name("away.git")
    gone = {"test": None, "implement": "test", "verify": "implement"}

    def leave(*_: object) -> bool:
        project.hub.rename(away)
        return True

    if stage == "push":
        with pytest.raises(ExternalError) as caught:
            run(project, "alpha", confirm=leave)
    else:
        if gone[stage]:
            run(project, "alpha", last=gone[stage])
        leave()
        with pytest.raises(ExternalError) as caught:
            run(project, "alpha")
    assert (
        "does not appear to be a git repository" in caught.value.message and "nothing is lost" in caught.value.hint
    )
    assert project.entry("alpha").get("failures", 0) == 0
    away.rename(project.hub)
    assert run(project, "alpha").ended == "landed" and project.landings() == ["alpha"]
    assert not list((project.state / "intents").glob("*"))


def test_a_password_in_the_address_is_not_shown(project: Project) -> None:
    project.git("remote", "set-url", "origin", "http://me:hunter2@127.0.0.1:9/x.git")
    done = project.agentq("run", "alpha", "--yes", rc=1)
    told(done, "127.0.0.1:9/x.git")
    assert "hunter2" not in done.stdout + done.stderr


def test_trunk_of_another_name_in_a_linked_worktree_and_a_subfolder(tmp_path: Path) -> None:
    project = projects.build(tmp_path / "p", config='[trunk]\nbranch = "develop/next"\n')
    project.git("branch", "-m", "main", "develop/next", cwd=project.hub)
    tree = tmp_path / "linked"
    project.git("worktree", "add", "-q", "--detach", str(tree))
    shutil.copy(project.checkout / ".machine", tree)
    project.add("alpha")
    agentq_in(tree / "checks", "run", "alpha", "--yes", rc=0)
    assert project.entry("alpha")["array"] == "completed", "the queue and the state are shared by all checkouts"
    assert (project.state / "runs" / "alpha").is_dir()
    assert project.git("log", "-1", "--format=%s", "develop/next", cwd=project.hub) == "Write alpha"
    assert project.git("branch", "--list", "main", cwd=project.hub) == ""
    assert project.git("status", "--porcelain", cwd=tree) == ""


# ---------------------------------------------------------------- the person's checkout


def test_a_dirty_checkout_in_the_middle_of_a_rebase_is_never_touched(project: Project) -> None:
    """Detached HEAD, a rebase that stopped, staged, unstaged and untracked changes, an index lock of a dead
    process, and GIT_DIR of another repository in the environment."""
    project.git("checkout", "-q", "-b", "mine")
    (project.checkout / "shared.txt").write_text("mine\n")
    project.git("commit", "-qam", "mine")
    project.git("checkout", "-q", "-b", "other", "main")
    (project.checkout / "shared.txt").write_text("other\n")
    project.git("commit", "-qam", "other")
    rebase = subprocess.run(["git", "rebase", "mine"], cwd=project.checkout, capture_output=True, check=False)
    assert rebase.returncode == 1 and (project.checkout / ".git" / "rebase-merge").is_dir()
    (project.checkout / "staged.txt").write_text("staged")
    project.git("add", "staged.txt")
    (project.checkout / "staged.txt").write_text("staged, then changed")
    (project.checkout / "un tracked\n.txt").write_text("untracked")
    (project.checkout / "run_all.py").chmod(0o755)
    (project.checkout / ".git" / "index.lock").write_bytes(b"")
    elsewhere = project.root / "elsewhere"
    project.git("init", "-q", str(elsewhere))
    before = picture(project.checkout)
    env = projects.environment(
        GIT_DIR=str(elsewhere / ".git"), GIT_WORK_TREE=str(elsewhere), GIT_INDEX_FILE=str(elsewhere / "index")
    )
    project.agentq("run", "alpha", "--yes", env=env)
    assert project.landings() == ["alpha"]
    assert picture(project.checkout) == before
    assert sorted(path.name for path in elsewhere.iterdir()) == [".git"]
    (project.checkout / ".git" / "index.lock").unlink()
    project.git("rebase", "--abort")
    assert project.git("log", "-1", "--format=%s") == "other"


def test_the_persons_own_git_settings_neither_break_nor_run(project: Project) -> None:
    hooks, ran = project.root / "hooks", project.root / "ran"
    hooks.mkdir()
    names = ("pre-commit", "commit-msg", "post-commit", "pre-push", "reference-transaction", "post-checkout")
    for name in names:
        (hooks / name).write_text(f"#!/bin/sh\necho {name} $PWD >> {ran}\nexit 1\n")
        (hooks / name).chmod(0o755)
        shutil.copy(hooks / name, project.checkout / ".git" / "hooks" / name)
    (Path.home() / ".gitconfig").write_text(f"""
[core]
    hooksPath = {hooks}
    autocrlf = true
    excludesFile = {project.root / "ignore"}
    attributesFile = {project.root / "attributes"}
    editor = false
[commit]
    gpgsign = true
[gpg]
    program = /bin/false
[filter "lfs"]
    clean = sed s/^/pointer/
    smudge = false
    required = true
[user]
    name = Ada
    email = ada@example.invalid
[alias]
    st = !touch {ran}
    commit = !touch {ran}
[push]
    default = nothing
[merge]
    ff = only
[diff]
    external = false
[status]
    showUntrackedFiles = no
""")
    (project.root / "ignore").write_text("alpha.txt\n")
    (project.root / "attributes").write_text("* filter=lfs text\n")
    project.script(
        "alpha", "implement", 'Path("alpha.txt").write_text("alpha\\n")\n'
        'Path("crlf.txt").write_bytes(b"one\\r\\ntwo\\n"); commit()',
    )  # fmt: skip
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    done = project.agentq("run", "alpha", "--yes", env=env)
    assert not ran.exists(), ran.read_text()
    assert project.landings() == ["alpha"], done.stdout
    raw = subprocess.run(
        ["git", "cat-file", "blob", "main:crlf.txt"], cwd=project.hub, capture_output=True, check=True
    )
    assert raw.stdout == b"one\r\ntwo\n"
    assert project.git("log", "-1", "--format=%an", "main", cwd=project.hub) == "Ada"


# ---------------------------------------------------------------- pushes


def hook(project: Project, text: str) -> Path:
    path = project.hub / "hooks" / "pre-receive"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


def test_what_the_remote_says_about_a_refused_push_is_shown_safely(project: Project) -> None:
    refusing = hook(
        project, "printf 'fetch first, no pushes on \\033[31mFriday\\302\\233\\n[/foo] [bold]x\\n' >&2; exit 1\n"
    )
    done = project.agentq("run", "alpha", "--yes", rc=6)
    shown = project.agentq("status").stdout + project.agentq("show", "alpha").stdout
    entry = project.entry("alpha")
    assert "no pushes on Friday" in entry["attention"] and "[/foo] [bold]x" in entry["attention"]
    for text in (done.stdout, shown, str(entry)):
        assert "\x1b" not in text and "\x9b" not in text
    assert "Friday" in done.stdout and "[/foo]" in shown and project.landings() == []
    refusing.unlink()
    project.agentq("retry", "alpha", "--yes")
    assert project.landings() == ["alpha"]


def test_a_trunk_that_moves_before_every_push_is_given_up_after_five(project: Project) -> None:
    moving = hook(
        project,
        """
unset GIT_QUARANTINE_PATH GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES
blob=$(date +%N | git hash-object -w --stdin)
tree=$( (git ls-tree main; printf '100644 blob %s\\tneighbour.txt\\n' $blob) | sort -s -u -k4 | git mktree)
git update-ref refs/heads/main $(git commit-tree -p main -m neighbour $tree)
""",
    )
    report = run(project, "alpha")
    assert report.ended == "attention" and "moved during each of 5 tries" in report.problem
    assert project.git("rev-list", "--count", "main", cwd=project.hub) == "6"
    assert project.landings() == [] and project.entry("alpha")["status"] == "verifying"
    moving.unlink()
    project.agentq("retry", "alpha", "--yes")
    assert project.landings() == ["alpha"] and project.git("show", "main:alpha.txt", cwd=project.hub) == "alpha"
    assert "neighbour.txt" in project.trunk_files()
