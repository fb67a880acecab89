"""Real processes only. Each child carries a marker of its own; `marker` fails a test that leaves one alive."""

import itertools
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agentq import capture, guard, process
from agentq.process import Child, Outcome, Result, shell

_numbers = itertools.count()
PYTHON = [sys.executable, "-I", "-S", "-c"]
# Double fork, new session, no environment left: what a daemon does. Writes its pid to argv[1].
DAEMON = """
import os, sys
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    with open(sys.argv[1] + ".new", "w") as file:
        file.write(str(os.getpid()))
    os.rename(sys.argv[1] + ".new", sys.argv[1])
    os.execve("/bin/sleep", ["sleep", "600"], {} if len(sys.argv) > 2 else os.environ)
os.wait()
while not os.path.exists(sys.argv[1]):
    pass
"""
STUBBORN = "trap '' TERM; echo deaf; while :; do sleep 0.05; done"
SUPERVISOR = """
import os, sys, time
from pathlib import Path
from agentq import process
child = process.spawn(process.shell(sys.argv[1]), cwd=Path(sys.argv[2]), env=dict(os.environ),
                      output=Path(sys.argv[2]) / "out", marker=sys.argv[3])
if len(sys.argv) > 4 and os.fork() == 0:
    Path(sys.argv[2], "fork").write_text(str(os.getpid()))
    time.sleep(600)
child.wait()
"""


def eventually(check: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (seen := check()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.005)
    return seen


@pytest.fixture
def marker() -> Iterator[str]:
    name = f"test.{os.getpid()}.{next(_numbers)}"
    yield name
    left = process.strays(name)
    process.kill_strays(name)
    assert left == []


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def env(**extra: str) -> dict[str, str]:
    return process.clean_env(process.BASE_ENV, extra)


@pytest.fixture
def run(tmp_path: Path, out: Path, marker: str) -> Callable[..., Outcome]:
    def start(command: str | list[str], **options: Any) -> Outcome:
        argv = shell(command) if isinstance(command, str) else command
        options = {"cwd": tmp_path, "env": env(), "timeout": 60, "marker": marker, "output": out, **options}
        return process.run(argv, **options)

    return start


@pytest.fixture
def spawn(tmp_path: Path, out: Path, marker: str) -> Iterator[Callable[..., Child]]:
    children = []

    def start(command: str | list[str], **options: Any) -> Child:
        argv = shell(command) if isinstance(command, str) else command
        options = {"cwd": tmp_path, "env": env(), "marker": marker, "output": out, **options}
        children.append(process.spawn(argv, **options))
        return children[-1]

    yield start
    for child in children:
        child.stop(0)


def says(path: Path, text: str) -> None:
    eventually(lambda: path.exists() and text in path.read_text())


def read_pid(path: Path) -> int:
    says(path, "")
    return int(eventually(path.read_text))


# ---------------------------------------------------------------- how it ended


@pytest.mark.parametrize("code", [0, 1, 3, 77, 127, 255])
def test_exit_status_is_exact(run: Any, code: int) -> None:
    outcome = run(f"exit {code}")
    assert (outcome.kind, outcome.returncode, outcome.leftovers) == ("exited", code, 0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGPIPE, signal.SIGHUP, signal.SIGUSR1])
def test_signal_is_exact(spawn: Any, number: int) -> None:
    result = spawn(f"kill -{int(number)} $$; exit 9").wait(20)
    assert (result.returncode, result.signal, result.leftovers) == (-number, number, 0)


def test_poll_is_none_while_it_runs_and_the_same_result_after(spawn: Any, tmp_path: Path) -> None:
    child = spawn("while [ ! -e go ]; do sleep 0.01; done; exit 4")
    assert child.poll() is None and process.identity(child.pid)
    (tmp_path / "go").touch()
    result = child.wait(20)
    assert isinstance(result, Result) and result.returncode == 4
    assert child.poll() is result and child.wait() is result and child.stop() is result
    assert 0 < result.seconds < 20


def test_missing_program(run: Any) -> None:
    outcome = run(["agentq-no-such-program"])
    assert (outcome.kind, outcome.returncode) == ("missing", 127)
    assert outcome.reason == "agentq-no-such-program: No such file or directory"


@pytest.mark.parametrize(("mode", "text"), [(0o600, "#!/bin/sh\n"), (0o700, "\0\0not a program")])
def test_program_that_cannot_be_executed(run: Any, tmp_path: Path, mode: int, text: str) -> None:
    (tmp_path / "tool").write_text(text)
    (tmp_path / "tool").chmod(mode)
    outcome = run([str(tmp_path / "tool")])
    assert (outcome.kind, outcome.returncode) == ("missing", 126)


def test_a_shell_that_reports_127_did_run(run: Any) -> None:
    assert run("agentq-no-such-program").kind == "exited"


def test_program_is_found_on_the_path_of_its_own_environment(run: Any, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tool").write_text("#!/bin/sh\necho found\n")
    (tmp_path / "bin" / "tool").chmod(0o700)
    assert run(["tool"]).kind == "missing"
    assert run(["tool"], env=env(PATH=f"{tmp_path}/bin:/bin")).tail == "found"


def test_missing_folder_is_not_a_missing_program(run: Any, tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError, match="nowhere"):
        run(["true"], cwd=tmp_path / "nowhere")


@pytest.mark.parametrize("command", [[], ["a\0b"]])
def test_unusable_command(run: Any, command: list[str]) -> None:
    with pytest.raises(ValueError, match="NUL"):
        run(command)


def test_a_marker_is_needed(run: Any) -> None:
    with pytest.raises(ValueError, match="marker"):
        run("true", marker="")


def test_output_through_a_link_is_refused(run: Any, tmp_path: Path, out: Path) -> None:
    out.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="out"):
        run("echo x")
    assert not (tmp_path / "elsewhere").exists()


# ---------------------------------------------------------------- what it sees


def test_environment_is_exactly_what_was_given(run: Any, out: Path, marker: str) -> None:
    given = {"PATH": "/usr/bin:/bin", "ODD": "a=b\nc", "EMPTY": ""}
    run(["env", "-0"], env=given)
    seen = dict(pair.split("=", 1) for pair in out.read_text().split("\0") if pair)
    assert seen == {**given, "AGENTQ_RUN": marker}


def test_large_environment(run: Any) -> None:
    assert run('echo "${#BIG}"', env=env(BIG="x" * 100_000)).tail == "100000"


def test_stdin_is_empty_and_no_descriptor_is_inherited(run: Any, tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    ours, (typed, terminal) = os.dup(0), os.pipe()
    os.write(terminal, b"typed by a person\n")
    os.close(terminal)
    try:
        os.set_inheritable(fd, True)
        os.dup2(typed, 0)
        outcome = run([*PYTHON, "import os, sys; print(repr(sys.stdin.read()), os.listdir('/proc/self/fd'))"])
    finally:
        os.dup2(ours, 0)
        for each in (fd, ours, typed):
            os.close(each)
    assert outcome.tail == "'' ['0', '1', '2', '3']"  # 3: the listing itself


def test_own_session_in_the_given_folder(run: Any, tmp_path: Path) -> None:
    code = "import os; print(os.getsid(0) == os.getpid(), os.getcwd())"
    assert run([*PYTHON, code]).tail == f"True {tmp_path.resolve()}"


def test_no_signal_is_ignored_or_blocked(run: Any) -> None:
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        outcome = run(["grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status"])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
    # 32 and 33 belong to the C library: no program can set them, so what this process was given stays.
    settable = ~(3 << 31)
    masks = outcome.tail.split()
    assert masks[::2] == ["SigBlk:", "SigIgn:"]
    assert [int(mask, 16) & settable for mask in masks[1::2]] == [0, 0]


def test_output_is_appended_and_private(run: Any, out: Path) -> None:
    run("echo one")
    outcome = run("echo two; echo three >&2")
    assert out.read_text() == "one\ntwo\nthree\n"
    assert outcome.tail == "two\nthree"
    assert out.stat().st_mode & 0o777 == 0o600


def test_secrets_are_hidden_as_they_arrive(out: Path, tmp_path: Path) -> None:
    secret = "correct-horse-battery"
    half, rest = secret[:7], secret[7:]
    script = f"printf '{half}'; sleep 0.3; printf '%s end\n' '{rest}'; echo '{secret}' >&2; exit 3"
    seen: list[bytes] = []
    ended = process.run(
        shell(script), cwd=tmp_path, env=process.clean_env(process.BASE_ENV, {}), output=out, marker="hides",
        timeout=20, secrets=[secret], tick=lambda: seen.append(out.read_bytes() if out.exists() else b""),
    )  # fmt: skip
    assert (ended.kind, ended.returncode) == ("exited", 3)
    assert out.read_text() == "*** end\n***\n"
    assert ended.tail == "*** end\n***"
    assert not any(half.encode() in one for one in seen)
    assert out.stat().st_mode & 0o777 == 0o600


def test_a_thousand_quick_lines(run: Any, out: Path) -> None:
    outcome = run("i=0; while [ $i -lt 1000 ]; do echo line $i; i=$((i+1)); done")
    assert out.read_text().splitlines() == [f"line {i}" for i in range(1000)]
    assert outcome.tail.splitlines()[-1] == "line 999" and len(outcome.tail.splitlines()) == 20


def test_no_descriptor_and_no_zombie_is_left_here(run: Any) -> None:
    run("true")
    before = sorted(os.listdir("/proc/self/fd"))
    for command in ("true", "kill -9 $$", "sleep 600 &"):
        run(command)
    run(["agentq-no-such-program"])
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert guard.children(os.getpid()) == []


def test_side_by_side(tmp_path: Path, marker: str) -> None:
    def one(number: int) -> Outcome:
        return process.run(
            shell(f"echo {number}; sleep 600 & exit {number}"),
            cwd=tmp_path, env=env(), output=tmp_path / str(number), marker=f"{marker}.{number}", timeout=60,
        )  # fmt: skip

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(one, range(16)))
    assert [(each.returncode, each.tail, each.leftovers) for each in outcomes] == [
        (n, str(n), 1) for n in range(16)
    ]
    assert process.strays(f"{marker}.", prefix=True) == []


# ---------------------------------------------------------------- limits


def test_time_out(run: Any) -> None:
    begin = time.monotonic()
    outcome = run("echo before; sleep 600", timeout=0.3)
    assert (outcome.kind, outcome.returncode, outcome.tail) == ("timeout", -signal.SIGTERM, "before")
    assert outcome.reason == "not done after 0.3 s" and 0.3 <= time.monotonic() - begin < 5


def test_silence(run: Any) -> None:
    outcome = run("echo last words; sleep 600", silence=0.4)
    assert (outcome.kind, outcome.tail, outcome.reason) == ("silent", "last words", "no output for 0.4 s")


def test_output_breaks_the_silence(run: Any) -> None:
    outcome = run("for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.2; done", silence=1.2)
    assert outcome.kind == "exited" and outcome.seconds > 1.2


def test_output_limit_counts_this_run_only(run: Any, out: Path) -> None:
    out.write_bytes(b"x\n" * 100_000)
    assert run("echo little; sleep 0.2", max_output=50_000).kind == "exited"
    outcome = run("while :; do echo much more of it; done", max_output=50_000)
    assert (outcome.kind, outcome.reason) == ("output-limit", "more than 50000 bytes of output")


def test_stop_gives_the_reason_cleaned(run: Any, out: Path) -> None:
    outcome = run("echo up; sleep 600", stop=lambda: "paus\x1b[31med" if out.stat().st_size else None)
    assert (outcome.kind, outcome.reason, outcome.tail) == ("stopped", "paused", "up")


def test_tick_is_called_and_what_it_raises_ends_the_run(run: Any, marker: str) -> None:
    calls = itertools.count(1)

    def tick() -> None:
        if next(calls) == 3:
            raise KeyError("from tick")

    with pytest.raises(KeyError, match="from tick"):
        run("sleep 600 & sleep 600", tick=tick)
    assert process.strays(marker) == []


# ---------------------------------------------------------------- nothing is left


def test_stop_is_graceful_first(spawn: Any, out: Path) -> None:
    child = spawn("trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.01; done")
    says(out, "up")
    result = child.stop(10)
    assert (result.returncode, result.signal, result.leftovers) == (5, 0, 0)
    assert out.read_text().startswith("up\n") and out.read_text().endswith("bye\n")


def test_stop_then_kills_what_ignores_it(spawn: Any, out: Path) -> None:
    child = spawn(STUBBORN)
    says(out, "deaf")
    begin = time.monotonic()
    result = child.stop(0.2)
    assert result.signal == signal.SIGKILL and 0.2 <= time.monotonic() - begin < 5


def test_stop_continues_what_was_suspended(spawn: Any, out: Path) -> None:
    child = spawn("trap 'exit 6' TERM; echo up; kill -STOP $$; while :; do sleep 0.01; done")
    says(out, "up")
    eventually(lambda: guard.stat(child.pid)[0] == "T")
    assert child.stop(10).returncode == 6


@pytest.mark.parametrize("how", ["ends", "is stopped"])
def test_a_daemon_without_the_marker_dies_with_the_command(spawn: Any, tmp_path: Path, how: str) -> None:
    pid_file = tmp_path / "daemon"
    stay = "" if how == "ends" else "\nimport time; time.sleep(600)"
    child = spawn([*PYTHON, DAEMON + stay, str(pid_file), "clean"])
    daemon = process.identity(read_pid(pid_file))
    result = child.wait(20) if how == "ends" else child.stop(5)
    assert daemon and not process.alive(daemon)
    assert result.leftovers == (1 if how == "ends" else 0)  # sleep obeys SIGTERM


def test_leftovers_are_counted_zombies_and_quick_helpers_are_not(run: Any) -> None:
    assert run("sleep 600 & setsid sleep 600 & (sleep 600 &) ; true & exit 0").leftovers == 3
    assert run("sleep 0.02 & exit 0").leftovers == 0
    code = "import os, time\nif os.fork() == 0: os._exit(0)\nprint('up', flush=True)\ntime.sleep(600)"
    outcome = run(f"{shlex.join([*PYTHON, code])} & while [ ! -s out ]; do :; done")
    assert outcome.leftovers == 1


def test_a_leftover_that_ignores_sigterm(run: Any, tmp_path: Path) -> None:
    outcome = run(f'setsid sh -c "{STUBBORN}" & while [ ! -s out ]; do :; done; exit 3')
    assert (outcome.kind, outcome.returncode) == ("exited", 3)
    assert outcome.leftovers >= 1 and outcome.seconds < 5


def test_fork_storm(spawn: Any, out: Path, marker: str) -> None:
    child = spawn("i=0; while [ $i -lt 150 ]; do (trap '' TERM; setsid sleep 600) & i=$((i+1)); done; wait")
    eventually(lambda: len(process.strays(marker)) > 40)
    result = child.stop(0)
    assert process.strays(marker) == [] and result.leftovers > 10


def test_a_process_that_keeps_moving_on(spawn: Any, out: Path, marker: str) -> None:
    # Each generation forks the next in a new session and exits: no list of processes is ever current.
    code = """
import os
for generation in range(5000):
    if os.fork():
        os._exit(0)
    os.setsid()
    if generation == 50:
        os.write(1, b"on the way\\n")
os.write(1, b"escaped\\n")
"""
    child = spawn([*PYTHON, f"import os\nif os.fork():\n    os.wait(); import time; time.sleep(600)\n{code}"])
    says(out, "on the way")
    child.stop(0)
    assert out.read_text() == "on the way\n"


def test_orphans_are_collected_while_the_command_runs(spawn: Any, tmp_path: Path, out: Path) -> None:
    child = spawn("for i in 1 2 3 4 5; do (true &) ; done; echo up; while [ ! -e go ]; do sleep 0.01; done")
    says(out, "up")
    keeper = guard.stat(child.pid)[1]
    eventually(lambda: guard.children(keeper) == [child.pid])
    (tmp_path / "go").touch()
    assert child.wait(20).leftovers == 0


def test_process_group_where_there_is_no_subreaper(spawn: Any, tmp_path: Path) -> None:
    child = spawn("sleep 600 & echo $! > pid; exit 8", tree=False)
    result = child.wait(20)
    assert (result.returncode, result.leftovers) == (8, 1)
    assert not process.identity(int((tmp_path / "pid").read_text()))
    child = spawn(f"({STUBBORN}) & while [ ! -s out ]; do :; done; {STUBBORN}", tree=False)
    eventually(lambda: (tmp_path / "out").read_text().count("deaf") == 2)
    assert child.stop(0.1).signal == signal.SIGKILL


# ---------------------------------------------------------------- who dies first


def supervise(tmp_path: Path, marker: str, command: str, *more: str) -> "subprocess.Popen[bytes]":
    argv = [sys.executable, "-c", SUPERVISOR, command, str(tmp_path), marker, *more]
    return subprocess.Popen(argv, cwd=Path(process.__file__).parent.parent, env=env())


def tree_of(tmp_path: Path, *, clean: str = "") -> str:
    (tmp_path / "daemon.py").write_text(DAEMON)
    return (
        f"{sys.executable} -I -S daemon.py daemon {clean}; setsid sleep 600 & echo $! > session; "
        f"echo $$ > command; {STUBBORN}"
    )


def identities(tmp_path: Path) -> dict[str, str]:
    names = ("daemon", "session", "command")
    says(tmp_path / "out", "deaf")
    return {name: process.identity(read_pid(tmp_path / name)) or name for name in names}


@pytest.mark.parametrize("forked", [False, True])
def test_supervisor_killed(tmp_path: Path, marker: str, forked: bool) -> None:
    supervisor = supervise(tmp_path, marker, tree_of(tmp_path, clean="clean"), *["fork"] * forked)
    seen = identities(tmp_path)
    keeper = process.identity(guard.stat(int(seen["command"].split("/")[0]))[1])
    fork = read_pid(tmp_path / "fork") if forked else 0
    assert all(process.alive(each) for each in seen.values())
    supervisor.kill()
    supervisor.wait()
    eventually(lambda: not any(process.alive(each) for each in seen.values()))
    eventually(lambda: not process.alive(keeper or ""))
    assert process.strays(marker) == []
    if fork:
        os.kill(fork, signal.SIGKILL)


def test_guard_killed(spawn: Any, tmp_path: Path, marker: str) -> None:
    child = spawn(tree_of(tmp_path))
    seen = identities(tmp_path)
    os.kill(guard.stat(child.pid)[1], signal.SIGKILL)
    result = child.wait(20)
    assert (result.returncode, result.signal) == (None, 0) and result.leftovers >= 2
    assert not any(process.alive(each) for each in seen.values())


def test_guard_and_supervisor_killed(tmp_path: Path, marker: str) -> None:
    supervisor = supervise(tmp_path, marker, tree_of(tmp_path))
    seen = identities(tmp_path)
    keeper = guard.stat(int(seen["command"].split("/")[0]))[1]
    os.kill(keeper, signal.SIGSTOP)  # so that it cannot act on the supervisor's death
    supervisor.kill()
    supervisor.wait()
    os.kill(keeper, signal.SIGKILL)
    eventually(lambda: not process.alive(seen["command"]))  # PR_SET_PDEATHSIG
    assert process.alive(seen["daemon"]) and process.alive(seen["session"])
    found = process.strays(marker)
    assert {int(seen[name].split("/")[0]) for name in ("daemon", "session")} <= set(found)
    assert set(process.strays(marker[:-1], prefix=True)) & set(found)
    assert process.strays(marker[:-1]) == process.strays(marker + "0") == []
    assert process.kill_strays(marker) >= 2
    assert not any(process.alive(each) for each in seen.values()) and process.strays(marker) == []


def test_guard_ends_the_tree_when_it_is_asked_to_end(spawn: Any, tmp_path: Path) -> None:
    child = spawn("sleep 600 & sleep 600")
    os.kill(guard.stat(child.pid)[1], signal.SIGTERM)
    assert child.wait(20).signal == signal.SIGTERM


def test_strays_are_never_the_caller_or_its_ancestors(run: Any, marker: str) -> None:
    code = (
        "import os, sys; from agentq import process; m = os.environ['AGENTQ_RUN']; "
        "print(process.strays(m) == [int(sys.argv[1])], process.kill_strays(m), process.strays(m))"
    )
    root = Path(process.__file__).parent.parent
    inner = shlex.quote(f'"{sys.executable}" -c "{code}" $0; true')
    outcome = run(f"sleep 600 & sh -c {inner} $!; echo still here", cwd=root)
    assert outcome.tail == "True 1 []\nstill here"


def test_both_ways_to_list_children_agree(spawn: Any, out: Path) -> None:
    child = spawn("sleep 600 & sleep 600 & (sleep 600; true) & echo up; wait")
    says(out, "up")
    eventually(lambda: len(guard.descendants(child.pid)) == 4)
    assert sorted(guard.children(child.pid)) == sorted(guard.scan(child.pid))
    assert len(guard.children(child.pid)) == 3


# ---------------------------------------------------------------- small things


def test_identity_of_the_living_the_dead_and_the_undead() -> None:
    me = process.identity(os.getpid())
    assert me and process.alive(me)
    pid, start, boot = me.split("/")
    assert not process.alive(f"{pid}/{int(start) + 1}/{boot}")  # the number was given to another process
    assert not process.alive(f"{pid}/{start}/another-boot")
    assert not any(process.alive(word) for word in ("", "nonsense", "/", "٣/1/1"))
    child = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE)
    other = process.identity(child.pid)
    assert other and process.alive(other) and int(other.split("/")[1]) > int(start)
    child.stdin.close()  # type: ignore[union-attr]
    eventually(lambda: guard.stat(child.pid)[0] == "Z")
    assert process.identity(child.pid) is None and not process.alive(other)
    child.wait()
    assert process.identity(child.pid) is None


def test_a_stopped_process_lives_and_does_nothing(spawn: Any, out: Path) -> None:
    child = spawn("echo up; kill -STOP $$; echo on; sleep 600")
    eventually(lambda: process.stopped(child.pid))
    assert process.identity(child.pid)
    os.kill(child.pid, signal.SIGCONT)
    says(out, "on")
    assert not process.stopped(child.pid)
    child.stop()
    assert not process.stopped(child.pid) and not process.stopped(os.getpid())


def test_clean_env(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LC_TIME", "GIT_DIR", "AGENTQ_RUN", "SECRET_TOKEN", "MY_TOOL_A"):
        monkeypatch.setenv(name, "x")
    kept = process.clean_env((*process.BASE_ENV, "MY_TOOL_*", "GIT_DIR"), {"DATABASE_URL": "d"})
    assert kept["LC_TIME"] == kept["MY_TOOL_A"] == "x" and kept["DATABASE_URL"] == "d"
    assert not {"GIT_DIR", "AGENTQ_RUN", "SECRET_TOKEN"} & set(kept)
    assert "GIT_DIR" not in process.clean_env(("*",), {}) and "SECRET_TOKEN" in process.clean_env(("*",), {})


def test_tail_is_safe_to_show(run: Any) -> None:
    outcome = run(r"printf '\033[31mred\033[0m \033]0;title\007end\r\n10%%\r20%%\n\302\233bad\342\200\256\377\n'")
    assert outcome.tail == "red end\n10%\n20%\nbad\ufffd"


def test_tail_is_bounded_and_begins_with_a_whole_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert capture.tail(log) == ""
    log.write_text("".join(f"line {i:04}\n" for i in range(1000)))
    assert capture.tail(log, lines=2) == "line 0998\nline 0999"
    assert capture.tail(log, lines=100, max_bytes=25) == "line 0998\nline 0999"
    assert capture.tail(log, lines=100, max_bytes=20) == "line 0998\nline 0999"
    assert capture.tail(log, start=9980) == "line 0998\nline 0999"
    log.write_text("x" * 5000)
    assert capture.tail(log, max_bytes=100) == "x" * 101
