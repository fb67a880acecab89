"""Starts one command inside bubblewrap and is its way out: exit status, signals, and the few ports it may reach.

Started by path as `python -I -S relay.py [HOST:PORT…] -- N BWRAP… COMMAND…`, where N counts the words of BWRAP.
It runs twice. The outer half starts BWRAP, which starts the inner half as process 1 of the sandbox, which starts
COMMAND. When COMMAND ends, process 1 ends, and the kernel kills whatever else is in the sandbox.

    status   pipe from the inner half: the raw wait status of COMMAND, in digits; or `errno N` if it did not start
    signals  pipe to the inner half: one byte for each signal that COMMAND shall get
    doors    socket from the inner half: its listening sockets, one for each HOST:PORT, made in the network
             namespace of the sandbox. The outer half accepts on them and connects to that HOST:PORT, nothing else.

SIGTERM, SIGINT and SIGHUP are passed on to COMMAND, unless the guard sent them: it sends them to the whole tree.
Imports are few on purpose: each start of a tool pays for them.
"""
# ruff: noqa: PTH100, SIM105

from __future__ import annotations

import _thread
import os
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    import socket
else:
    try:
        # The public module adds only enums to this one, and 5 ms to every start.
        import _signal as signal
    except ImportError:
        import signal

PASSED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
CONNECTIONS = 256  # at the same time
CONNECT_LIMIT = 30.0  # s
DRAIN = 2.0  # s after the end of COMMAND in which what it sent last still gets to its place
PROCESSES = 4096  # of one sandbox at a time, threads counted; no such limit for root
NO_WALLS = 125  # exit status when the sandbox could not be made; bwrap has said why on stderr
MARKER = "AGENTQ_RUN"
HOSTS = "/etc/hosts"


# ---------------------------------------------------------------- outside


def outer(arguments: list[str]) -> int:
    """Run it; returns the exit status, or ends by the signal that ended COMMAND."""
    split = arguments.index("--")
    count = int(arguments[split + 1])
    reach = [place(text) for text in arguments[:split]]
    bwrap, command = arguments[split + 2 : split + 2 + count], arguments[split + 2 + count :]
    status, status_end = os.pipe()
    signals_end, signals = os.pipe()
    doors, doors_end = pair() if reach else (None, None)
    keep = [status_end, signals_end, *([doors_end.fileno()] if doors_end else [])]
    if reach:
        keep.append(hosts := hosts_file(reach))
        bwrap += ["--ro-bind-data", str(hosts), os.path.realpath(HOSTS)]
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED)
    ports = ",".join(f"{at}:{port}" for at, (_, port) in zip(addresses(reach), reach, strict=True))
    numbers = [str(status_end), str(signals_end), str(doors_end.fileno()) if doors_end else "-1", ports]
    inside = [sys.executable, "-I", "-S", os.path.abspath(__file__), "--inside", *numbers, *command]
    pid = start([*bwrap, "--", *inside], keep)
    for fd in keep:
        if not doors_end or fd != doors_end.fileno():
            os.close(fd)
    _thread.start_new_thread(pass_signals, (signals,))
    traffic = Traffic()
    if doors and doors_end:
        doors_end.close()
        _thread.start_new_thread(serve, (doors, reach, traffic))
    said = read_all(status)
    _, ended = os.waitpid(pid, 0)
    if reach:
        traffic.drain()
    return finish(said.decode(), ended, command)


def place(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def pair() -> tuple[socket.socket, socket.socket]:
    import socket

    return socket.socketpair()


def hosts_file(reach: list[tuple[str, int]]) -> int:
    """A descriptor of what /etc/hosts says inside: the names that are reached are this host, and localhost."""
    own = ["127.0.0.1 localhost", "::1 localhost", f"127.0.0.1 {os.uname().nodename}"]
    named = zip(addresses(reach), reach, strict=True)
    lines = dict.fromkeys([*own, *(f"{at} {host}" for at, (host, _) in named if not loopback(host))])
    source, end = os.pipe()
    # A pipe takes 64 KiB without a reader.
    os.write(end, ("\n".join(lines) + "\n").encode()[:65536])
    os.close(end)
    return source


def loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def addresses(reach: list[tuple[str, int]]) -> list[str]:
    """Where each place is inside: one loopback address for each host, so that two may have the same port."""
    others = list(dict.fromkeys(host for host, _ in reach if not loopback(host)))
    own = [host if host.startswith("127.") else "127.0.0.1" for host, _ in reach]
    return [
        f"127.77.{others.index(host) // 250}.{others.index(host) % 250 + 1}" if host in others else at
        for (host, _), at in zip(reach, own, strict=True)
    ]


def start(command: list[str], keep: list[int]) -> int:
    """The pid of `command`, started with the descriptors `keep`."""
    pid = os.fork()
    if pid:
        return pid
    try:
        for fd in keep:
            os.set_inheritable(fd, True)
        os.execv(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(NO_WALLS)


def pass_signals(signals: int) -> None:
    """Hand on what arrives, but for what the guard sends to everything it started."""
    while True:
        info = signal.sigwaitinfo(PASSED)
        if info.si_pid != os.getppid() or MARKER not in os.environ:
            try:
                os.write(signals, bytes([info.si_signo]))
            except OSError:
                return


def read_all(fd: int) -> bytes:
    data = b""
    while more := os.read(fd, 100):
        data += more
    return data


def finish(said: str, ended: int, command: list[str]) -> int:
    """The exit status for what the inner half said; ended: how bwrap did."""
    if said.startswith("errno "):
        number = int(said.split()[1])
        os.write(2, f"{command[0]}: {os.strerror(number)}\n".encode("utf-8", "surrogateescape"))
        return 127 if number in (2, 20) else 126
    if not said and os.WIFEXITED(ended):
        code = os.WEXITSTATUS(ended)
        if code > 128:  # process 1 was killed
            die(code - 128)
        return NO_WALLS
    status = int(said) if said else ended
    if os.WIFSIGNALED(status):
        die(os.WTERMSIG(status))
    return os.WEXITSTATUS(status)


def die(number: int) -> None:
    """End by signal `number`, as the command did; without a second core dump."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)


# ---------------------------------------------------------------- the ports


class Traffic:
    """Connections as they come and go. sending: those whose COMMAND's side may still have something to say."""

    def __init__(self) -> None:
        self.open: set[object] = set()
        self.sending: set[object] = set()
        self.waiting = select.poll()

    def drain(self) -> None:
        """Wait until nothing is on its way out, twice in a row: one may be between the door and its place."""
        end, calm = time.monotonic() + DRAIN, 0
        while calm < 2 and time.monotonic() < end:
            calm = 0 if self.sending or self.waiting.poll(0) else calm + 1
            time.sleep(0.002)


def serve(doors: socket.socket, reach: list[tuple[str, int]], traffic: Traffic) -> None:
    """Connect whoever comes to one of the inner listeners with the place it stands for."""
    import socket

    doorways: dict[int, tuple[socket.socket, tuple[str, int]]] = {}
    for address in reach:
        _, fds, _, _ = socket.recv_fds(doors, 1, 2)
        for fd in fds:
            doorways[fd] = (socket.socket(fileno=fd), address)
            traffic.waiting.register(fd, select.POLLIN)
        if not fds:
            return
    poll = select.poll()
    for fd in doorways:
        poll.register(fd, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            listener, address = doorways[fd]
            try:
                client, _ = listener.accept()
            except OSError:
                continue
            if len(traffic.open) >= CONNECTIONS:
                client.close()
                continue
            traffic.open.add(client)
            traffic.sending.add(client)
            _thread.start_new_thread(connect, (client, address, traffic))


def connect(client: socket.socket, address: tuple[str, int], traffic: Traffic) -> None:
    """Join `client` with `address` until both directions are closed."""
    import socket

    try:
        with client, socket.create_connection(address, CONNECT_LIMIT) as server:
            server.settimeout(None)
            done = _thread.allocate_lock()
            done.acquire()
            _thread.start_new_thread(answer, (server, client, done))
            carry(client, server)
            traffic.sending.discard(client)
            done.acquire()
    except OSError as error:
        os.write(2, f"agentq: {address[0]}:{address[1]} cannot be reached: {error}\n".encode())
    finally:
        traffic.sending.discard(client)
        traffic.open.discard(client)


def answer(server: socket.socket, client: socket.socket, done: _thread.LockType) -> None:
    carry(server, client)
    done.release()


def carry(source: socket.socket, target: socket.socket) -> None:
    """Copy one direction to its end."""
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        close(source)
    close(target)


def close(end: socket.socket) -> None:
    try:
        end.shutdown(1)
    except OSError:
        pass


# ---------------------------------------------------------------- inside


def inner(arguments: list[str]) -> int:
    """Process 1 of the sandbox: start COMMAND, collect orphans, report how COMMAND ended."""
    status, signals, doors = (int(text) for text in arguments[:3])
    command = arguments[4:]
    if doors >= 0:
        open_doors(doors, [place(text) for text in arguments[3].split(",")])
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    failed, failed_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        become(command, failed_end)
    os.close(failed_end)
    if error := os.read(failed, 100):
        os.write(status, error)
        return 0
    poll = select.poll()
    poll.register(wake, select.POLLIN)
    poll.register(signals, select.POLLIN)
    while True:
        ended = reap(pid)
        if ended is not None:
            os.write(status, str(ended).encode())
            return 0
        for fd, _ in poll.poll():
            data = os.read(fd, 100)
            if fd == signals:
                for number in data:
                    send(pid, number)
                if not data:
                    poll.unregister(signals)


def open_doors(doors: int, places: list[tuple[str, int]]) -> None:
    """Listen at each of `places`, for the own host on ::1 too, and give the sockets away."""
    import socket

    with socket.socket(fileno=doors) as way:
        for address, port in places:
            listeners = [listen(socket.AF_INET, address, port)]
            if address == "127.0.0.1":
                try:
                    listeners.append(listen(socket.AF_INET6, "::1", port))
                except OSError:
                    pass  # a host without IPv6
            socket.send_fds(way, [b"."], [listener.fileno() for listener in listeners])


def listen(family: int, address: str, port: int) -> socket.socket:
    import socket

    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(128)
    return listener


def become(command: list[str], failed: int) -> None:
    """In the forked child: turn into the command, or write the reason to `failed`. Never returns."""
    try:
        os.setsid()
        os.dup2(failed, 3, inheritable=False)
        failed = 3
        # A descriptor from outside would be a way out.
        os.closerange(4, 65536)
        for number in range(1, signal.NSIG):
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                try:
                    signal.signal(number, signal.SIG_DFL)
                except (OSError, ValueError):
                    continue
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        limit_processes()
        os.execvp(command[0], command)
    except OSError as error:
        os.write(failed, f"errno {error.errno}".encode())
    finally:
        os._exit(127)


def limit_processes() -> None:
    """Bound what a fork bomb can do. Since Linux 5.14 the count is that of the sandbox's own user namespace;
    before, it was that of all the person's processes."""
    import resource

    release = [int(word) for word in os.uname().release.split("-")[0].split(".")[:2] if word.isdigit()]
    if release >= [5, 14]:
        hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        most = PROCESSES if hard == resource.RLIM_INFINITY else min(hard, PROCESSES)
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))


def reap(pid: int) -> int | None:
    """Collect what ended. The wait status of `pid` if it did."""
    found = None
    try:
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == pid:
                found = ended[1]
    except ChildProcessError:
        pass
    return found


def send(pid: int, number: int) -> None:
    """The signal to the command's process group, as a terminal does."""
    try:
        os.killpg(pid, number)
    except OSError:
        pass


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--inside"]:
        return inner(arguments[1:])
    return outer(arguments)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    # Threads may still hold connections of the sandbox: nothing in them is worth waiting for.
    os._exit(code)
