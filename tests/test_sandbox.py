"""Walls: how a command inside ends, what it can write, what it cannot. With the real bubblewrap."""
# ruff: noqa: F401, F811 (fixtures are imported by name)

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.walls import Inside, git, inside, needs_walls, workspace

from agentq import process, sandbox
from agentq.errors import Refused
from agentq.sandbox import Walls

pytestmark = needs_walls


# ---------------------------------------------------------------- how it ends


def test_the_exit_status_comes_through(inside: Inside) -> None:
    codes = (0, 1, 7, 125, 127, 143, 255)
    assert [inside(f"exit {code}").returncode for code in codes] == list(codes)


def test_the_signal_that_ended_it_comes_through(inside: Inside) -> None:
    for name in ("TERM", "KILL", "INT", "SEGV", "PIPE"):
        assert inside(f"kill -{name} $$; sleep 5").returncode == -int(signal.Signals[f"SIG{name}"])


@pytest.mark.parametrize(("name", "code"), [("no-such-program", 127), ("./there", 126), ("./file/x", 127)])
def test_a_program_that_cannot_be_started(workspace: Path, name: str, code: int) -> None:
    (workspace / "there").write_text("x")
    command = sandbox.find("required").wrap([name], Walls(workspace))
    done = subprocess.run(command, cwd=workspace, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code
    assert name in done.stderr


def test_walls_that_cannot_be_made_are_told_apart(workspace: Path) -> None:
    command = sandbox.find("required").wrap(["true"], Walls(workspace))
    command[command.index("--proc")] = "--no-such-option"
    done = subprocess.run(command, cwd=workspace, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 125
    assert "bwrap" in done.stderr


def test_output_arrives_as_it_is_written(inside: Inside) -> None:
    done = inside("echo out; echo err >&2; seq 20000 | tail -1")
    assert (done.stdout, done.stderr) == ("out\n20000\n", "err\n")


def test_a_signal_is_passed_on(workspace: Path) -> None:
    script = "trap 'echo saved; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    command = sandbox.find("required").wrap(["/bin/bash", "-c", script], Walls(workspace))
    with subprocess.Popen(command, cwd=workspace, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout
            assert child.stdout.readline() == "ready\n"
            child.terminate()
            assert child.communicate(timeout=20)[0] == "saved\n"
        finally:
            child.kill()
    assert child.returncode == 3


def test_stopping_a_run_lets_it_save_once_and_leaves_nothing(workspace: Path, tmp_path: Path) -> None:
    script = """
import os, signal, sys, time
heard = []
signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
os.spawnlp(os.P_NOWAIT, "setsid", "setsid", "-f", "sleep", "300")
print("ready", flush=True)
while not heard: time.sleep(0.01)
time.sleep(0.5)
print("saved", len(heard), flush=True)
sys.exit(3)
"""
    log = tmp_path / "log"
    marker = f"sandbox-{os.getpid()}-{time.monotonic_ns()}"
    command = sandbox.find("required").wrap([sys.executable, "-I", "-c", script], Walls(workspace))
    with process.spawn(command, cwd=workspace, env=dict(os.environ), output=log, marker=marker) as child:
        _until(lambda: log.exists() and "ready" in log.read_text())
        result = child.stop(grace=5)
    assert result.returncode == 3
    assert log.read_text() == "ready\nsaved 1\n", "it is told once"
    assert process.strays(marker) == []


@pytest.mark.parametrize("deaf", [False, True])
def test_killing_who_started_it_leaves_nothing(workspace: Path, tmp_path: Path, deaf: bool) -> None:
    """Also one that ignores SIGTERM, with processes in sessions of their own."""
    trap = "trap : TERM;" if deaf else ""
    script = f"{trap} setsid -f sleep 300; (setsid sleep 300 &) ; echo ready; while :; do sleep 0.1; done"
    log, marker = tmp_path / "log", f"sandbox-{os.getpid()}-{time.monotonic_ns()}"
    command = sandbox.find("required").wrap(["/bin/bash", "-c", script], Walls(workspace))
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom agentq import process\n"
        f"child = process.spawn({command!r}, cwd=Path({str(workspace)!r}), env={dict(os.environ)!r},"
        f" output=Path({str(log)!r}), marker={marker!r})\ntime.sleep(300)\n"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", code])
    try:
        _until(lambda: log.exists() and "ready" in log.read_text())
        assert len(process.strays(marker)) > 4
    finally:
        supervisor.kill()
        supervisor.wait()
    _until(lambda: process.strays(marker) == [])


def test_the_death_of_any_link_of_the_chain_leaves_nothing(workspace: Path, tmp_path: Path) -> None:
    for victim in range(3):  # the relay, bwrap, process 1
        log, marker = tmp_path / f"log{victim}", f"sandbox-{os.getpid()}-{time.monotonic_ns()}"
        command = sandbox.find("required").wrap(["/bin/bash", "-c", "echo ready; sleep 300"], Walls(workspace))
        with process.spawn(command, cwd=workspace, env=dict(os.environ), output=log, marker=marker) as child:
            _until(lambda log=log: log.exists() and "ready" in log.read_text())
            pid = child.pid
            for _ in range(victim):
                pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
            os.kill(pid, signal.SIGKILL)
            result = child.wait(20)
            assert result is not None
            assert result.returncode == -signal.SIGKILL
        assert process.strays(marker) == []


def _until(true: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


# ---------------------------------------------------------------- files


def test_what_may_be_written(inside: Inside, workspace: Path, tmp_path: Path) -> None:
    extra = tmp_path / "extra"
    extra.mkdir()
    done = inside(f"echo a > new && echo b > {extra}/b && echo c > /tmp/c && cat /tmp/c", writable=(extra,))
    assert (done.returncode, done.stdout) == (0, "c\n"), done.stderr
    assert (workspace / "new").read_text() == "a\n"
    assert (extra / "b").read_text() == "b\n"
    assert not Path("/tmp/c").exists()


@pytest.mark.parametrize(
    "place",
    ["/etc/agentq-attack", "/usr/agentq-attack", "../other/x", "/var/agentq-attack", "/root/agentq-attack",
     "/dev/agentq-attack", "/proc/sys/kernel/domainname", "/proc/self/comm", "/sys/agentq-attack", "/run/agentq-attack/../../etc/a"],
)  # fmt: skip
def test_what_may_not_be_written(inside: Inside, workspace: Path, place: str) -> None:
    other = workspace.parent / "other"
    other.mkdir()
    done = inside(f"cp file {place}", readable=(other,))
    assert done.returncode != 0
    assert list(other.iterdir()) == []


def test_a_name_that_leads_out_is_no_way_out(inside: Inside, workspace: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_text("precious")
    (workspace / "link").symlink_to(outside)
    script = "echo x > link/f; echo x > /proc/self/root/etc/agentq-attack; ln /etc/hostname hard; rm -rf link/f; :"
    inside(script, readable=(outside,))
    assert (outside / "f").read_text() == "precious"
    assert not Path("/etc/agentq-attack").exists()
    assert not (workspace / "hard").exists()


def test_no_descriptor_from_outside_is_inside(workspace: Path) -> None:
    folder = os.open("/", os.O_RDONLY)
    os.set_inheritable(folder, True)
    try:
        command = sandbox.find("required").wrap(["/bin/ls", "/proc/self/fd"], Walls(workspace))
        done = subprocess.run(
            command, cwd=workspace, capture_output=True, text=True, timeout=60, check=True, close_fds=False
        )
    finally:
        os.close(folder)
    assert done.stdout.split() == ["0", "1", "2", "3"]


def test_no_privilege_and_no_other_process(inside: Inside) -> None:
    done = inside(
        "grep CapEff /proc/self/status; ls /proc | grep -c '^[0-9]'; cat /proc/1/environ | tr '\\0' '\\n' | grep -c PATH;"
        f"unshare -U true 2>/dev/null && echo nested; mount -t tmpfs x /mnt 2>/dev/null && echo mounted;"
        f"ls /proc/{os.getpid()} 2>/dev/null && echo parent; umount -l ~ 2>/dev/null && echo unmounted; :"
    )
    lines = done.stdout.splitlines()
    assert lines[0].split()[1].strip("0") == ""
    assert int(lines[1]) < 8
    assert lines[3:] == []


# ---------------------------------------------------------------- git

STEERING = [
    ".git/config", ".git/config.worktree", ".git/hooks/pre-commit", ".git/info/attributes", ".git/info/exclude",
    ".git/objects/info/alternates", ".git/commondir", ".git/remotes/origin", ".git/branches/x",
]  # fmt: skip


@pytest.mark.parametrize("name", STEERING)
def test_what_steers_git_cannot_be_written(inside: Inside, workspace: Path, name: str) -> None:
    file = workspace / name
    before = file.read_bytes() if file.exists() else None
    script = f"""
        echo evil >> {name}
        rm -f {name}
        echo evil > x; mv -f x {name}
        mv {Path(name).parent} gone 2>&1
        mv .git gone 2>&1
        mv .git/objects/info .git/objects/i2; mv .git/objects .git/o2
        mkdir -p {Path(name).parent}; echo evil > {name}
        ln -sf /etc {name}
    """
    inside(script)
    after = file.read_bytes() if file.exists() else None
    assert after == before or (before is None and after in (b"", b".\n"))
    assert (workspace / ".git").is_dir()


def test_git_works_inside_and_afterwards(inside: Inside, workspace: Path) -> None:
    before = (workspace / ".git" / "config").read_bytes()
    done = inside(
        "set -e; git status --porcelain; echo more >> file; git add -A; git commit -qm more; git branch side;"
        "git checkout -q side; git stash list; git reset -q --hard HEAD~1; git checkout -q work; git gc -q; git log --oneline | wc -l"
    )
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
    assert inside("git config core.hooksPath /tmp").returncode != 0
    assert (workspace / ".git" / "config").read_bytes() == before
    assert git(workspace, "log", "--format=%s") == "more\nbase"
    assert git(workspace, "status", "--porcelain") == ""
    assert git(workspace, "fsck", "--no-dangling") == ""


def test_borrowed_objects_are_read_and_not_written(inside: Inside, workspace: Path, tmp_path: Path) -> None:
    objects = tmp_path / "mirror.git" / "objects"
    assert (
        inside(f"git cat-file -p HEAD && ! touch {objects}/x && ! ls {tmp_path}/mirror.git/refs").returncode == 0
    )
    assert not (objects / "x").exists()


def test_an_agents_own_repository_shows_it_nothing(inside: Inside, workspace: Path, tmp_path: Path) -> None:
    """What it writes into alternates must not open what is hidden: /tmp is, and so is a login."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("key")
    import shutil

    shutil.rmtree(workspace / ".git")
    inside(f"mkdir -p .git/objects/info; echo {secret} > .git/objects/info/alternates")
    assert "key" not in inside(f"ls {secret}; cat {secret}/key").stdout


@pytest.mark.parametrize("name", [".git", ".git/hooks", ".git/config", ".git/objects", ".git/info"])
def test_a_link_in_git_is_refused(inside: Inside, workspace: Path, tmp_path: Path, name: str) -> None:
    (workspace / name).rename(tmp_path / "moved")
    (workspace / name).symlink_to(tmp_path / "moved")
    with pytest.raises(Refused, match="symbolic link"):
        inside("true")


def test_a_git_that_is_a_file_or_a_link_to_one(inside: Inside, workspace: Path, tmp_path: Path) -> None:
    """A worktree's, which names the folder that git obeys; or whatever an agent put there."""
    (workspace / ".git").rename(tmp_path / "moved")
    (workspace / ".git").write_text(f"gitdir: {tmp_path}/moved\n")
    inside("echo gitdir: /tmp > .git; rm -f .git; mv .git x; echo gitdir: /tmp > y; mv -f y .git")
    assert (workspace / ".git").read_text() == f"gitdir: {tmp_path}/moved\n"
    (workspace / ".git").unlink()
    for target in (tmp_path / "moved" / "config", tmp_path / "nothing"):
        (workspace / ".git").symlink_to(target)
        with pytest.raises(Refused, match="symbolic link"):
            inside("true")
        (workspace / ".git").unlink()
