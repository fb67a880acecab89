"""Walls around what an agent starts: bubblewrap where it is present (agents fact, "Sandbox").

Inside, everything is read-only but the workspace, a private /tmp and what is given; credentials, sockets and
other processes are not there; the network is not there either, but for named places (`agentq.relay` carries them).
Invariant: what an agent wrote decides nothing about the walls of its next command. So nothing below the workspace
is followed, and everything in `.git` that names programs or other folders is a mount point, which cannot be
written, renamed or removed.
"""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from agentq import hiding
from agentq.core.text import one_line
from agentq.errors import Refused

Mode = Literal["bwrap", "none"]
Use = Literal["auto", "required", "off"]
How = Literal["hide", "ro", "rw"]

_RELAY = Path(__file__).with_name("relay.py")
_PROBE_LIMIT = 20.0  # s; a probe takes 0.05
_BASE = (
    "--unshare-user", "--unshare-all", "--disable-userns", "--die-with-parent", "--new-session", "--as-pid-1",
    "--cap-drop", "ALL",
)  # fmt: skip
# What bubblewrap takes since 0.8, 0.7 and 0.5, with the number of words after it; walls stand without, too.
_LATER = {"--disable-userns": 0, "--size": 1, "--perms": 1}
# They name a way out, or what only makes sense outside.
_UNSET = (
    "SSH_AUTH_SOCK", "SSH_AGENT_PID", "GPG_AGENT_INFO", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY",
    "XAUTHORITY", "XDG_RUNTIME_DIR", "DOCKER_HOST", "CONTAINER_HOST", "TMUX", "STY",
)  # fmt: skip
# In `.git`: folders that stay writable but cannot be moved away, and what git would obey.
_KEPT = ("", "objects", "objects/info")
_STEERING_FOLDERS = ("hooks", "info", "branches", "remotes")
_STEERING_FILES = {
    "config": "",
    "config.worktree": "",
    "objects/info/alternates": "",
    "objects/info/http-alternates": "",
    "commondir": ".\n",  # where git takes its configuration from; an empty one is an error
}
_ALTERNATES_DEPTH = 5


@dataclass(frozen=True, slots=True)
class Walls:
    """What one command may do.

    workspace: writable, but for `.git/config`, `.git/hooks` and what else there names programs.
    writable: further files and folders it may write; what is not there is left out. readable: what it must still
    see although its surroundings are hidden (/tmp, /run, credentials). hidden: what it must not see beside what
    `agentq.hiding` knows. network: whether it may reach the network; without, only `reach` (host, port) is there,
    for its database branch.
    """

    workspace: Path
    writable: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()
    network: bool = False
    reach: tuple[tuple[str, int], ...] = ()
    hidden: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Sandbox:
    """mode: what there is. program: bwrap's path. why: a reason for `none`. lacks: options this bwrap is too old
    for."""

    mode: Mode
    program: str = ""
    why: str = ""
    lacks: frozenset[str] = frozenset()

    def wrap(self, command: Sequence[str], walls: Walls) -> list[str]:
        """`command` inside the walls; as it is where there are none.

        It is to be started in a folder that is seen inside, with the environment it shall have. Its exit status
        and the signal that ended it come through; a program that is not there gives 127, one that cannot be
        executed 126, walls that could not be made 125. Makes what is missing in the workspace's `.git` of the
        things that it closes. Raises Refused when they cannot be closed, or for an address that cannot be
        reached from inside.
        """
        if self.mode == "none":
            return list(command)
        reach = () if walls.network else tuple(dict.fromkeys(walls.reach))
        for host, port in reach:
            _check_place(host, port)
        low = any(port < 1024 for _, port in reach)
        wall = [self.program, *_BASE, *(("--cap-add", "CAP_NET_BIND_SERVICE") if low else ())]
        # A capability counts only for a network of the same user namespace, and --disable-userns makes a second.
        lacks = {*self.lacks, "--disable-userns"} if low else self.lacks
        wall = _without([*wall, *_mounts(command, walls)], lacks)
        places = [f"{host}:{port}" for host, port in reach]
        relay = [sys.executable, "-I", "-S", str(_RELAY), *places, "--", str(len(wall))]
        return [*relay, *wall, *command]

    @property
    def warning(self) -> str:
        """A sentence for people where there are no walls, '' where there are."""
        if self.mode != "none":
            return ""
        return f"no sandbox: agents can read all your files and reach the network ({self.why})"


def find(use: Use) -> Sandbox:
    """What this host has; it is tried once for each process. Raises Refused for `required` where there is
    nothing."""
    if use == "off":
        return Sandbox("none", why='[sandbox] use = "off"')
    found = _probe()
    if use == "required" and found.mode == "none":
        raise Refused(f"there is no sandbox: {found.why}", _hint(found.why))
    return found


@cache
def _probe() -> Sandbox:
    """A sandbox in which a command really ran."""
    if not sys.platform.startswith("linux"):
        return Sandbox("none", why="bubblewrap is for Linux")
    program = shutil.which("bwrap")
    if program is None:
        return Sandbox("none", why="bubblewrap is not installed")
    why = ""
    for count in range(len(_LATER) + 1):
        sandbox = Sandbox("bwrap", program, lacks=frozenset(list(_LATER)[:count]))
        try:
            done = subprocess.run(
                sandbox.wrap(["/bin/sh", "-c", "exit 42"], Walls(Path("/tmp"))),
                stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBE_LIMIT, check=False, cwd="/",
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            return Sandbox("none", why=f"bubblewrap does not start: {one_line(str(error), 200)}")
        if done.returncode == 42:
            return sandbox
        why = why or one_line(done.stderr.decode(errors="replace"), 200) or f"exit status {done.returncode}"
    return Sandbox("none", why=f"bubblewrap does not work here: {why}")


def _hint(why: str) -> str:
    if "not installed" in why:
        return 'install it (Debian, Ubuntu, Fedora, Arch: package bubblewrap), or set [sandbox] use = "auto"'
    if "Linux" in why:
        return 'run agents in a Linux virtual machine, or set [sandbox] use = "auto"'
    return (
        "user namespaces have to be allowed: sysctl kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), "
        'kernel.unprivileged_userns_clone=1 (Debian); or set [sandbox] use = "auto"'
    )


def _check_place(host: str, port: int) -> None:
    """Raises Refused for what the relay cannot stand for: another host's address has no route inside."""
    digits = host.replace(".", "").isdigit()
    local = host == "::1" or (digits and host.startswith("127."))
    if not host or not 0 < port < 65536 or any(c.isspace() or c in "\0#" for c in host) or host.startswith("-"):
        raise Refused(f"'{one_line(host, 80)}:{port}' is no place to reach", "a host name and a port are needed")
    if (digits or ":" in host) and not local:
        hint = "use a host name (an entry in /etc/hosts will do), or set [sandbox] network = true"
        raise Refused(f"{host}:{port} cannot be reached from inside the sandbox: it is an address", hint)


# ---------------------------------------------------------------- mounts


def _mounts(command: Sequence[str], walls: Walls) -> list[str]:
    """The file system as bwrap's options: first the whole, read-only, then what differs, from the root down."""
    tmpfs = ["--size", str(hiding.TEMPORARY_SIZE), "--tmpfs"]
    options = ["--ro-bind", "/", "/", "--dev", "/dev", *tmpfs, "/dev/shm", "--proc", "/proc"]
    if walls.network:
        options.append("--share-net")
    for path in hiding.temporary():
        options += [*tmpfs, str(path)]
    closed: list[str] = []
    for path, how in _plan(command, walls):
        if how == "hide":
            options += _hide(path)
            closed += [str(path)] if path.is_dir() else []
        else:
            options += ["--bind" if how == "rw" else "--ro-bind", str(path), str(path)]
    # In /proc, files of the kernel belong to root: inside, root may write them without any capability.
    for name in ("/dev", "/proc", *closed):
        options += ["--remount-ro", name]
    for name in _UNSET:
        options += ["--unsetenv", name]
    return [*options, "--setenv", "TMPDIR", "/tmp"]


def _hide(path: Path) -> list[str]:
    """An empty folder, or an empty file, in its place."""
    if path.is_dir():
        return ["--perms", "0755", "--size", "65536", "--tmpfs", str(path)]
    return ["--dev-bind", "/dev/null", str(path)]


def _without(options: Sequence[str], lacks: Collection[str]) -> list[str]:
    """`options` but for those that are lacking, and their words."""
    kept: list[str] = []
    words = iter(options)
    for word in words:
        if word not in lacks:
            kept.append(word)
        elif _LATER[word]:
            next(words)
    return kept


def _plan(command: Sequence[str], walls: Walls) -> list[tuple[Path, How]]:
    """What differs, outer folders first; for the same path, what is given counts more than what is hidden."""
    workspace = walls.workspace.resolve()
    hidden = set(_there((*hiding.places(), *walls.hidden)))
    plan: dict[Path, How] = dict.fromkeys(hidden, "hide")
    seen = [*_runtime(command), *_borrowed(workspace), *hiding.kept(walls.network), *walls.readable]
    roots = {*hiding.temporary(), *hidden}
    for path in _there(seen):
        if roots.intersection((path, *path.parents)):
            plan[path] = "ro"
    plan |= dict.fromkeys(_there(walls.writable), "rw")
    plan[workspace] = "rw"
    plan |= _git(workspace / ".git")
    plan.pop(Path("/"), None)
    return sorted(plan.items(), key=lambda item: (len(item[0].parts), item[0]))


def _there(paths: Iterable[Path]) -> Iterator[Path]:
    """Those that exist, without links in their names, and can be reached. Root gives up its right to look into
    other people's folders when it enters a sandbox: what is there is neither hidden nor shown."""
    there = (Path(os.path.realpath(path)) for path in paths if os.path.exists(path))  # noqa: PTH110
    return (path for path in there if os.geteuid() or all(map(_open, path.parents)))


@cache
def _groups() -> frozenset[int]:
    return frozenset((os.getegid(), *os.getgroups()))


def _open(folder: Path) -> bool:
    """Whether root may pass through `folder` without its privileges."""
    state = folder.stat()
    if state.st_uid == 0:
        return bool(state.st_mode & stat.S_IXUSR)
    return bool(state.st_mode & (stat.S_IXGRP if state.st_gid in _groups() else stat.S_IXOTH))


def _runtime(command: Sequence[str]) -> Iterator[Path]:
    """agentq, its relay among it, and the program itself: they must be seen wherever they are installed."""
    yield from (_RELAY.parent, Path(sys.executable), Path(sys.prefix), Path(sys.base_prefix))
    program = shutil.which(command[0]) if command else None
    if program:
        yield from (Path(program).absolute(), Path(program).resolve())


def _git(git: Path) -> dict[Path, How]:
    """What is closed in a repository. Raises Refused for links in the place of what is closed."""
    if git.is_symlink():
        raise _linked(git)
    if not git.is_dir():
        return {git: "ro"} if git.exists() else {}
    plan: dict[Path, How] = {}
    for name in (*_KEPT, *_STEERING_FOLDERS):
        folder = git / name
        if folder.is_symlink():
            raise _linked(folder)
        folder.mkdir(exist_ok=True)
        plan[folder] = "rw" if name in _KEPT else "ro"
    for name, content in _STEERING_FILES.items():
        file = git / name
        if file.is_symlink():
            raise _linked(file)
        if not file.exists():
            file.write_text(content)
        plan[file] = "ro"
    return plan


def _linked(path: Path) -> Refused:
    return Refused(f"{path} is a symbolic link: it cannot be protected", "remove it")


def _borrowed(workspace: Path) -> list[Path]:
    """The object folders a repository borrows from. Only what is one: a repository that the agent made itself may
    name any folder."""
    found: list[Path] = []
    waiting = [workspace / ".git" / "objects"]
    for _ in range(_ALTERNATES_DEPTH):
        names = [(folder, line) for folder in waiting for line in _lines(folder / "info" / "alternates")]
        waiting = [(folder / line).resolve() for folder, line in names if line and not line.startswith("#")]
        waiting = [path for path in waiting if path.name == "objects" and (path / "pack").is_dir()]
        found += waiting
    return found


def _lines(file: Path) -> list[str]:
    try:
        return os.fsdecode(file.read_bytes()[:65536]).splitlines() if not file.is_symlink() else []
    except OSError:
        return []
