"""Run a child: clean environment, time-out, whole-tree kill, output to a file.

Invariant: when a run is over, however it ended, none of its processes is left. `agentq.guard` stands between
this process and the command and sees to it, also when this process is killed. If the guard itself is killed,
the command dies with it (PR_SET_PDEATHSIG) and the rest is found by AGENTQ_RUN in its environment; to be
missed takes a killed guard and a process that replaced its environment.
"""

import errno
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Literal

from agentq import capture
from agentq.core.text import clean
from agentq.errors import ExternalError

LINUX = sys.platform.startswith("linux")
MARKER = "AGENTQ_RUN"
BASE_ENV = (
    *("PATH", "HOME", "LANG", "LC_*", "TERM", "TMPDIR", "USER", "LOGNAME", "SHELL", "TZ", "VIRTUAL_ENV"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
)
MAX_OUTPUT = 256 * 1024 * 1024
_GUARD = Path(__file__).with_name("guard.py")
_START_LIMIT = 60.0  # s for the guard to answer; it takes 0.02 on an idle machine
_KILL_LIMIT = 10.0  # s for the kernel to end killed processes; only one stuck in the kernel takes longer

Env = Mapping[str, str]
Kind = Literal["exited", "timeout", "silent", "stopped", "output-limit", "missing"]


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended.

    returncode: exit status, -N when signal N ended it, None when the guard was killed before it could tell.
    signal: N or 0. seconds: the command's life, without the clean-up after it.
    leftovers: processes killed beside it: what it left behind, or what SIGTERM did not end.
    """

    returncode: int | None
    signal: int
    leftovers: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a `run`. `reason` says why unless it exited; `tail`: its last lines, safe to show.

    returncode: as in Result; 127 and 126 (kind missing) for a program that is not there or not executable.
    """

    kind: Kind
    returncode: int | None
    seconds: float
    leftovers: int
    tail: str
    reason: str = ""


class NotStarted(OSError):
    """The program is not there (returncode 127) or cannot be executed (126)."""

    @property
    def returncode(self) -> int:
        return 127 if self.errno in (errno.ENOENT, errno.ENOTDIR) else 126


class Child:
    """A running command and its tree. From `spawn`; end with `stop` (also: leave the `with` block)."""

    def __init__(self, guard: "subprocess.Popen[bytes]", control: int, status: int, marker: str) -> None:
        self.marker = marker
        self.pid = 0
        self._guard, self._control, self._status = guard, control, status
        self._begin = time.monotonic()
        self._buffer = b""
        self._result: Result | None = None

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def poll(self) -> Result | None:
        """The result if the command and its clean-up are over."""
        return self.wait(0)

    def wait(self, timeout: float | None = None) -> Result | None:
        """The result, or None when `timeout` seconds passed."""
        if self._result is None and (line := self._line(timeout)) is not None:
            self._result = self._end(line)
        return self._result

    def stop(self, grace: float = 5.0) -> Result:
        """SIGTERM to the tree, SIGKILL after `grace` seconds to what is left. Returns when none is."""
        if self._result is None:
            with suppress(BrokenPipeError):
                os.write(self._control, b"stop %f\n" % grace)
        result = self.wait(grace + _KILL_LIMIT)
        if result is None:
            self._guard.kill()
            result = self.wait()
            assert result is not None
        return result

    def _line(self, timeout: float | None) -> bytes | None:
        """The guard's next line, b"" when it is gone, None when `timeout` seconds passed."""
        deadline = float("inf") if timeout is None else time.monotonic() + timeout
        poller = select.poll()
        poller.register(self._status, select.POLLIN)
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            # A process forked from this one may hold the pipe open after the guard's death.
            gone = self._guard.poll() is not None
            if poller.poll(max(0, min(left, 0 if gone else 1.0)) * 1000):
                data = os.read(self._status, 4096)
                if not data:
                    return b""
                self._buffer += data
            elif gone:
                return b""
            elif left <= 0:
                return None
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _end(self, line: bytes) -> Result:
        if not line:
            self._guard.kill()
        self._guard.wait()
        os.close(self._control)
        os.close(self._status)
        if not line:
            return Result(None, 0, kill_strays(self.marker), time.monotonic() - self._begin)
        report = json.loads(line)
        code = os.waitstatus_to_exitcode(report["status"])
        return Result(code, max(0, -code), report["leftovers"], report["seconds"])

    def _started(self, request: bytes, program: str) -> None:
        """Hand the guard its request and take the command's pid. Raises as `spawn` does."""
        with suppress(BrokenPipeError):
            data = memoryview(b"%010d" % len(request) + request)
            while data:
                data = data[os.write(self._control, data) :]
        line = self._line(_START_LIMIT)
        if line:
            self._begin = time.monotonic()
            report = json.loads(line)
            if "pid" in report:
                self.pid = report["pid"]
                return
        self._guard.kill()
        self._end(b"")
        if not line:
            raise ExternalError("the guard process did not start", f"try: {sys.executable} -I -S {_GUARD}")
        error = os.strerror(report["errno"])
        if report["at"] == "cwd":
            raise OSError(report["errno"], error, "working directory")
        raise NotStarted(report["errno"], error, program)


def spawn(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Env,
    output: Path,
    marker: str,
    tree: bool = LINUX,
    sink: int = -1,
    error_sink: int = -1,
) -> Child:
    """Start `command` in its own session with `env` and AGENTQ_RUN=marker, appending to `output` (0600), or to the
    descriptor `sink` if there is one; stderr goes there too unless it has an `error_sink`.

    marker: unique among the children alive at the same time. tree=False: kill by process group only.
    Raises NotStarted, OSError for `cwd` or `output`, ValueError for NULs, ExternalError without a guard.
    """
    fields = [str(os.getpid()), "tree" if tree else "group", str(cwd.absolute()), str(len(command)), *command]
    fields += [f"{name}={value}" for name, value in {**env, MARKER: marker}.items()]
    if not command or not marker or any("\0" in field for field in fields):
        raise ValueError("a command and a marker, without NUL characters, are needed")
    if not cwd.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(cwd))
    fds = [os.dup(sink) if sink >= 0 else capture.append(output)]
    try:
        fds += [os.dup(error_sink if error_sink >= 0 else fds[0])]
        fds += [*os.pipe(), *os.pipe()]
        out, err, control, to_guard, from_guard, status = fds
        # Not the command's environment: the guard must not be found as one of the run's processes.
        own = {"AGENTQ_GUARD": marker, **clean_env(("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"), {})}
        guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_GUARD), str(control), str(status)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            pass_fds=(control, status),
            start_new_session=True,
            cwd="/",
            env=own,
        )
        fds = [out, err, control, status]
    finally:
        for fd in fds:
            os.close(fd)
    child = Child(guard, to_guard, from_guard, marker)
    child._started(b"\0".join(os.fsencode(field) for field in fields), command[0])
    return child


def run(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Env,
    output: Path,
    marker: str,
    timeout: float,
    silence: float = 0,
    max_output: int = MAX_OUTPUT,
    stop: Callable[[], str | None] = lambda: None,
    tick: Callable[[], None] = lambda: None,
    grace: float = 5.0,
    secrets: Sequence[str] = (),
    errors: Path | None = None,
) -> Outcome:
    """Run `command` to its end and leave none of its processes; blocks.

    timeout, silence (no new output; 0: unlimited), grace (SIGTERM to SIGKILL): seconds. max_output: bytes.
    stop, tick: called about every 0.1 s; a reason from `stop` ends the run. What they raise ends it too.
    secrets: texts that are hidden in `output` as they arrive. errors: a file of its own for stderr.
    Raises as `spawn`, except NotStarted, which is the kind "missing".
    """
    files = [output] if errors is None else [output, errors]
    size = before = _sizes(files)
    start = capture.size(output)
    begin = heard = time.monotonic()
    kind: Kind = "exited"
    pause, reason = 0.01, ""
    with ExitStack() as stack:
        sink = stack.enter_context(capture.sink(output, secrets))
        error_sink = stack.enter_context(_error_sink(errors, secrets)) if errors else -1
        try:
            child = spawn(
                command, cwd=cwd, env=env, output=output, marker=marker, sink=sink, error_sink=error_sink
            )
            stack.enter_context(child)
        except NotStarted as error:
            why = clean(f"{error.filename}: {error.strerror}")
            return Outcome("missing", error.returncode, 0.0, 0, "", why)
        while kind == "exited" and child.wait(pause) is None:
            tick()
            now = time.monotonic()
            pause = max(0.0, min(pause * 1.5, 0.1, begin + timeout - now))
            if (new := _sizes(files)) != size:
                size, heard = new, now
            if reason := stop() or "":
                kind = "stopped"
            elif size - before > max_output:
                kind, reason = "output-limit", f"more than {max_output} bytes of output"
            elif now - begin >= timeout:
                kind, reason = "timeout", f"not done after {timeout:g} s"
            elif silence and now - heard >= silence:
                kind, reason = "silent", f"no output for {silence:g} s"
        result = child.stop(grace)
    last = capture.tail(output, start=start)
    return Outcome(kind, result.returncode, result.seconds, result.leftovers, last, clean(reason))


def _sizes(files: Sequence[Path]) -> int:
    return sum(capture.size(file) for file in files)


@contextmanager
def _error_sink(errors: Path, secrets: Sequence[str]) -> Iterator[int]:
    """A descriptor for stderr that writes to `errors`, without `secrets`."""
    with capture.sink(errors, secrets) as sink:
        if sink >= 0:
            yield sink
            return
        own = capture.append(errors)
        try:
            yield own
        finally:
            os.close(own)


def shell(command: str) -> list[str]:
    return ["/bin/sh", "-c", command]


def clean_env(allow: Iterable[str], extra: Mapping[str, str]) -> dict[str, str]:
    """This process's variables whose names match `allow` (globs), never GIT_*; then `extra` as it is."""
    names = {name for glob in allow for name in os.environ if fnmatchcase(name, glob)}
    return {name: os.environ[name] for name in names if not name.startswith("GIT_")} | dict(extra)


@cache
def boot() -> str:
    """A word for this run of the host: another one after each restart."""
    if LINUX:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    import psutil

    return str(int(psutil.boot_time()))


def _stat(pid: int) -> list[str]:
    """proc(5) stat from field 3 (state) on; [] when `pid` is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].decode().split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def identity(pid: int) -> str | None:
    """A word for this very process: pid, start time, boot. None when it is dead (zombies are).

    Compared on one host and in one pid namespace only.
    """
    if LINUX:
        fields = _stat(pid)
        return f"{pid}/{fields[19]}/{boot()}" if fields and fields[0] not in "ZX" else None
    import psutil

    try:
        process = psutil.Process(pid)
        dead = process.status() == psutil.STATUS_ZOMBIE
        return None if dead else f"{pid}/{process.create_time()}"
    except psutil.NoSuchProcess:
        return None


def alive(process: str) -> bool:
    """Whether the process that `identity` named still runs."""
    pid = process.partition("/")[0]
    return pid.isascii() and pid.isdigit() and identity(int(pid)) == process


def stopped(pid: int) -> bool:
    """Whether a process is suspended (Ctrl-Z, SIGSTOP, a debugger): it lives and does nothing."""
    if LINUX:
        return _stat(pid)[:1] in (["T"], ["t"])
    import psutil

    try:
        return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except psutil.NoSuchProcess:
        return False


def _pids() -> list[int]:
    if LINUX:
        return [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()]
    import psutil

    return list(psutil.pids())


def _marked(pid: int, marker: str, prefix: bool) -> bool:
    """Whether the environment `pid` was started with says AGENTQ_RUN=marker. No when it cannot be read."""
    wanted = os.fsencode(f"{MARKER}={marker}")
    if LINUX:
        try:
            pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False
        return any(pair.startswith(wanted) if prefix else pair == wanted for pair in pairs)
    import psutil

    try:
        value = psutil.Process(pid).environ().get(MARKER, "")
    except psutil.Error:
        return False
    return bool(value) and (value.startswith(marker) if prefix else value == marker)


def strays(marker: str, *, prefix: bool = False) -> list[int]:
    """Living processes started under `marker` (prefix: any that begins so), without this one's line."""
    line, pid = {os.getpid()}, os.getppid()
    while pid:
        line.add(pid)
        pid = int(_stat(pid)[1]) if LINUX else 0
    return [pid for pid in _pids() if pid not in line and _marked(pid, marker, prefix)]


def kill_strays(marker: str, *, prefix: bool = False) -> int:
    """SIGKILL to strays until none is left, at most 10 s. How many processes it took."""
    killed: set[int] = set()
    deadline, pause = time.monotonic() + _KILL_LIMIT, 0.001
    while (found := strays(marker, prefix=prefix)) and time.monotonic() < deadline:
        killed.update(pid for pid in found if _kill(pid, marker, prefix))
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
    return len(killed)


def _kill(pid: int, marker: str, prefix: bool) -> bool:
    """SIGKILL. False when `pid` is gone, or another process by now."""
    fd = -1
    try:
        if not LINUX:
            os.kill(pid, signal.SIGKILL)
            return True
        fd = os.pidfd_open(pid)
        # The descriptor names one process for good, so what is asked now holds for the kill.
        if ours := _marked(pid, marker, prefix):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        return ours
    except OSError:
        return False
    finally:
        if fd >= 0:
            os.close(fd)
