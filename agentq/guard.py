"""Runs one command for a supervisor and leaves none of its processes behind, whoever dies first.

Started by `agentq.process` as `python -I -S guard.py CONTROL STATUS`, two inherited descriptors; 0 is the
null device, 1 and 2 the output file. On Linux it is the subreaper of the command: orphans become its
children, so "no child left" (ECHILD) is the kernel's word that the whole tree is gone. Elsewhere it kills
one process group.

    CONTROL  ten digits (length), the request, then lines `stop SECONDS`; its end: the supervisor is gone
             request, joined by NUL: supervisor pid, tree|group, cwd, argument count, arguments…, NAME=VALUE…
    STATUS   {"pid": 7} or {"errno": 2, "at": "cwd"|"exec"} once, then at the end
             {"status": the command's wait status, "leftovers": number killed beside it, "seconds": its life}

Imports are few on purpose: each start of an agent or a check pays for them.
"""
# ruff: noqa: PTH110, PTH112, PTH123, PTH208, SIM105

from __future__ import annotations

import os
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable

    Prctl = Callable[[int, int], int]
else:
    try:
        # The public module adds only enums to this one, and 5 ms to every start.
        import _signal as signal
    except ImportError:
        import signal

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
SETTLE = 0.1  # s a command's helpers may take to notice its end before they count as leftovers
GRACE = 0.5  # s from SIGTERM to SIGKILL for leftovers
ORPHAN_GRACE = 2.0  # s from SIGTERM to SIGKILL when the supervisor is gone
KERNEL_LISTS_CHILDREN = os.path.exists("/proc/thread-self/children")  # CONFIG_PROC_CHILDREN


class Request:
    """What to run: the fields of the docstring above, parsed. Raises ValueError when malformed."""

    def __init__(self, body: bytes) -> None:
        supervisor, mode, self.cwd, count, *rest = body.split(b"\0")
        self.supervisor, self.tree = int(supervisor), mode == b"tree"
        self.command = rest[: int(count)]
        self.env: dict[bytes, bytes] = {}
        for pair in rest[int(count) :]:
            name, _, value = pair.partition(b"=")
            self.env[name] = value


def read_exactly(fd: int, count: int) -> bytes:
    """`count` bytes, or fewer when the other end closed."""
    data = b""
    while len(data) < count and (more := os.read(fd, count - len(data))):
        data += more
    return data


def receive(control: int) -> Request | None:
    """The request, or None when the supervisor went before it was complete."""
    head = read_exactly(control, 10)
    body = read_exactly(control, int(head)) if len(head) == 10 else b""
    if not body or len(body) < int(head):
        return None
    return Request(body)


def subreaper() -> Prctl | None:
    """prctl(2) after this process became the subreaper, or None where that is not to be had."""
    if not sys.platform.startswith("linux") or not os.path.isdir("/proc/self/task"):
        return None
    import ctypes

    call = ctypes.CDLL(None).prctl

    def prctl(option: int, value: int) -> int:
        return int(call(option, *(ctypes.c_ulong(word) for word in (value, 0, 0, 0))))

    return prctl if prctl(PR_SET_CHILD_SUBREAPER, 1) == 0 else None


def children(pid: int) -> list[int]:
    """Direct children, zombies included; [] when `pid` is gone."""
    if not KERNEL_LISTS_CHILDREN:
        return scan(pid)
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                found += [int(word) for word in file.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def scan(pid: int) -> list[int]:
    """Direct children by reading every process's stat (slower, on any Linux)."""
    numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [number for number in numbers if stat(number)[1] == pid]


def stat(pid: int) -> tuple[str, int]:
    """State letter and parent; ('X', 0) when `pid` is gone (proc(5))."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state, parent = file.read().rpartition(b")")[2].split()[:2]
        return state.decode(), int(parent)
    except (OSError, ValueError):
        return "X", 0


def descendants(pid: int) -> list[int]:
    """All below `pid`, parents first, without zombies."""
    found: dict[int, None] = {}
    queue = [pid]
    for parent in queue:
        below = [child for child in children(parent) if child not in found]
        found.update(dict.fromkeys(below))
        queue += below
    return [each for each in found if stat(each)[0] not in "ZX"]


def send(pid: int, number: int) -> bool:
    """Whether the signal was sent; a negative `pid` names a group."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def become(request: Request, parent: int, prctl: Prctl | None, failed: int) -> None:
    """In the forked child: turn into the command, or write the reason to `failed`. Never returns."""
    at = "cwd"
    try:
        os.setsid()
        if prctl:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            # The signal is only sent for a death after this call.
            if os.getppid() != parent:
                os._exit(1)
        for number in range(1, signal.NSIG):
            # What is ignored stays ignored over exec: Python ignores SIGPIPE, nohup SIGHUP.
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                try:
                    signal.signal(number, signal.SIG_DFL)
                except (OSError, ValueError):
                    continue
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.chdir(request.cwd)
        at = "exec"
        os.execvpe(request.command[0], request.command, request.env)
    except OSError as error:
        os.write(failed, f'{{"errno": {error.errno}, "at": "{at}"}}\n'.encode())
    finally:
        os._exit(127)


class Guard:
    """One command's life. `kill_at`: when SIGKILL is due (monotonic s), None while nobody wants an end."""

    def __init__(self, control: int, request: Request) -> None:
        self.request = request
        self.prctl = subreaper() if request.tree else None
        self.pid = 0
        self.status: int | None = None
        self.seconds = 0.0
        self.kill_at: float | None = None
        self.killed: set[int] = set()
        self.control = control
        self.poll = select.poll()
        self.supervisor = self._open_supervisor()
        self._wake, waker = os.pipe()
        for fd in (self._wake, waker):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        for fd in (self._wake, control, self.supervisor):
            if fd >= 0:
                self.poll.register(fd, select.POLLIN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self.stop_within(ORPHAN_GRACE))

    def _open_supervisor(self) -> int:
        # A child the supervisor forked keeps CONTROL open after its death; this descriptor still tells.
        try:
            return os.pidfd_open(self.request.supervisor)
        except (AttributeError, OSError):
            return -1

    def start(self) -> bytes:
        """Fork and exec. The line for STATUS; `pid` stays 0 when the command could not be started."""
        failed, write_end = os.pipe()
        parent, begin = os.getpid(), time.monotonic()
        pid = os.fork()
        if pid == 0:
            become(self.request, parent, self.prctl, write_end)
        os.close(write_end)
        failure = os.read(failed, 200)
        os.close(failed)
        if failure:
            os.waitpid(pid, 0)
            return failure
        self.pid, self.begin = pid, begin
        return f'{{"pid": {pid}}}\n'.encode()

    def stop_within(self, seconds: float) -> None:
        self.kill_at = min(self.kill_at or float("inf"), time.monotonic() + seconds)

    def wait(self, seconds: float | None) -> None:
        """Until something happened, at most `seconds`."""
        for fd, _ in self.poll.poll(None if seconds is None else max(0, int(seconds * 1000) + 1)):
            data = os.read(fd, 4096) if fd != self.supervisor else b""
            if fd != self._wake:
                self._heard(fd, data)

    def _heard(self, fd: int, data: bytes) -> None:
        if not data:
            self.poll.unregister(fd)
            self.stop_within(ORPHAN_GRACE)
        for line in data.splitlines():
            self.stop_within(float(line.split()[1]))

    def empty(self) -> bool:
        """Collect what ended. Whether nothing is left."""
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                if pid == self.pid:
                    self.status, self.seconds = status, time.monotonic() - self.begin
                elif os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
                    self.killed.add(pid)
            return False
        except ChildProcessError:
            return bool(self.prctl) or not send(-self.pid, 0)

    def until_empty(self, deadline: float) -> bool:
        """Whether all ended before the deadline. An earlier `kill_at` counts."""
        while not self.empty():
            left = min(deadline, self.kill_at or deadline) - time.monotonic()
            if left <= 0:
                return False
            # Only a group's members end without a signal to this process.
            self.wait(left if self.prctl else min(left, 0.02))
        return True

    def terminate(self) -> list[int]:
        """SIGTERM to all. The processes that were alive."""
        alive = descendants(os.getpid()) if self.prctl else [-self.pid]
        for pid in alive:
            send(pid, signal.SIGTERM)
            send(pid, signal.SIGCONT)
        return alive

    def kill(self) -> None:
        """SIGKILL until nothing is left."""
        own, pause = os.getpgrp(), 0.001
        # A group lasts until init collects its zombies, and some never do.
        end = float("inf") if self.prctl else time.monotonic() + GRACE
        while not self.empty() and (self.status is None or time.monotonic() < end):
            # Only direct children, and their groups: unreaped, so their numbers cannot have passed to others.
            # Deeper ones come up when their parents die. A group dies in one step, which no fork outruns.
            for pid in children(os.getpid()) if self.prctl else [self.pid]:
                try:
                    group = os.getpgid(pid) if self.prctl else pid
                except ProcessLookupError:
                    continue
                if group != own:
                    send(-group, signal.SIGKILL)
                if self.prctl:
                    send(pid, signal.SIGKILL)
            self.wait(pause)
            pause = min(pause * 2, 0.05)

    def finish(self) -> bytes:
        """Follow the command to its end, then end the rest. The last line for STATUS."""
        while not self.empty() and self.status is None and self.kill_at is None:
            self.wait(None)
        by_itself = self.status is not None
        self.killed.clear()
        if not self.until_empty(time.monotonic() + SETTLE if by_itself else 0):
            alive = self.terminate()
            if by_itself:
                self.stop_within(GRACE)
                self.killed.update(alive)
            self.until_empty(self.kill_at or 0)
            self.kill()
        report = f'"status": {self.status}, "leftovers": {len(self.killed)}, "seconds": {self.seconds:.6f}'
        return f"{{{report}}}\n".encode()


def tell(status: int, line: bytes) -> None:
    try:
        os.write(status, line)
    except BrokenPipeError:
        pass  # the supervisor is gone; the work is the same


def main(arguments: list[str]) -> int:
    control, status = int(arguments[0]), int(arguments[1])
    for fd in (control, status):
        os.set_inheritable(fd, False)
    request = receive(control)
    if request is None:
        return 1
    guard = Guard(control, request)
    tell(status, guard.start())
    if guard.pid:
        tell(status, guard.finish())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
