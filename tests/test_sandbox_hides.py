"""Walls: what is not there inside, for root and for others, and what a host has to have."""
# ruff: noqa: F401, F811 (fixtures are imported by name)

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.walls import Inside, inside, needs_walls, python, server, workspace

from agentq import hiding, relay, sandbox
from agentq.errors import Refused
from agentq.sandbox import Walls

pytestmark = needs_walls


# ---------------------------------------------------------------- what is hidden


LOGINS = (
    ".ssh/id_ed25519", ".aws/credentials", ".config/gh/hosts.yml", ".netrc", ".git-credentials", ".docker/config.json",
     ".kube/config", ".npmrc", ".pypirc", ".config/gcloud/x", ".azure/x", ".claude/.credentials.json", ".claude.json",
     ".codex/auth.json", ".gemini/oauth_creds.json", ".local/share/opencode/auth.json", ".bash_history",
     ".zsh_history", ".mozilla/x", ".gnupg/x", ".pgpass", ".config/git/credentials", ".cargo/credentials.toml", ".env",
)  # fmt: skip


def test_logins_are_not_there(inside: Inside) -> None:
    home = Path(os.environ["HOME"])
    files = [home / name for name in LOGINS]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("s3cret")
    (home / "plain").write_text("plain")
    env = {"NAMES": " ".join(LOGINS)}
    done = inside("cd; cat plain $NAMES; grep -r s3cret .", env, readable=(home,))
    assert done.stdout == "plain"
    given = inside("cd; cat $NAMES", env, readable=(home, *files))
    assert given.stdout == "s3cret" * len(LOGINS)
    state = inside("cd; for name in $NAMES; do echo new >> $name || exit 1; done", env, writable=tuple(files))
    assert state.returncode == 0
    assert {file.read_text() for file in files} == {"s3cretnew\n"}


def test_a_writable_home_still_hides_logins(inside: Inside) -> None:
    home = Path(os.environ["HOME"])
    (home / ".ssh").mkdir()
    (home / ".ssh" / "id").write_text("s3cret")
    done = inside("touch ~/ok; cat ~/.ssh/id; touch ~/.ssh/authorized_keys; mv ~/.ssh ~/s", writable=(home,))
    assert done.stdout == ""
    assert (home / "ok").exists()
    assert [path.name for path in (home / ".ssh").iterdir()] == ["id"]


def test_what_the_caller_hides(inside: Inside, tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "kept").mkdir(parents=True)
    (state / "kept" / "password").write_text("s3cret")
    (state / "prompt.md").write_text("prompt")
    script = f"cat {state}/prompt.md {state}/kept/password"
    assert inside(script, readable=(state,)).stdout == "prompts3cret"
    assert inside(script, readable=(state,), hidden=(state / "kept",)).stdout == "prompt"
    assert inside(script, readable=(state / "prompt.md",)).stdout == "prompt"


def test_what_a_persons_checkout_holds_beside_its_commits(inside: Inside, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    names = (".env", ".env.local", "apps/.env", "server.key", ".git/agentq/kept.json")
    for name in (*names, ".env.example", "app.py", ".git/agentq/mirror.git/HEAD"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("s3cret" if name in names else "plain\n")
    found = hiding.of_checkout(checkout)
    assert {str(path.relative_to(checkout)) for path in found} == {*names[:-1], ".git/agentq"}
    done = inside(
        f"cd {checkout}; cat {' '.join(names)} .env.example app.py .git/agentq/mirror.git/HEAD",
        readable=(checkout, checkout / ".git" / "agentq" / "mirror.git"), hidden=found,
    )  # fmt: skip
    assert done.stdout == "plain\nplain\nplain\n"


def test_a_socket_is_reached_only_where_it_is_given(inside: Inside, tmp_path: Path) -> None:
    """A read-only mount does not keep a socket closed: folders of sockets are hidden."""
    folder = tmp_path / "sockets"
    folder.mkdir()
    ask = python(
        f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(folder / 's')!r}); print(s.recv(9).decode())"
    )
    with server(socket.AF_UNIX, str(folder / "s")):
        assert "hello" not in inside(ask).stdout
        assert inside(ask, readable=(folder,)).stdout == "hello\n"
        done = inside(ask, {"SSH_AUTH_SOCK": "x"}, readable=(folder,))
        assert done.stdout == "hello\n"
        os.environ["SSH_AUTH_SOCK"] = str(folder / "s")
        assert "hello" not in inside(ask, readable=(folder,)).stdout, "the agent's socket is not there"
        assert inside("echo ${SSH_AUTH_SOCK-none}").stdout == "none\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sees into what is closed to it inside")
def test_another_persons_closed_folder_is_in_nobodys_way(inside: Inside, tmp_path: Path) -> None:
    """Root has no privileges inside: what it cannot pass through there cannot be hidden, and is out of reach."""
    home = tmp_path / "bob"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "id").write_text("s3cret")
    home.chmod(0o700)
    os.chown(home, 65534, 65534)
    done = inside(f"echo works; cat {home}/.ssh/id", hidden=(home / ".ssh",), readable=(home, home / ".ssh"))
    assert done.stdout == "works\n"


def test_run_is_empty(inside: Inside) -> None:
    assert set(inside("ls /run").stdout.split()) <= {
        "current-system",
        "booted-system",
        "wrappers",
        "opengl-driver",
    }


# ---------------------------------------------------------------- what a host has


@pytest.fixture
def other_host(tmp_path: Path) -> Iterator[Path]:
    """A folder that is the whole PATH; what was found on this host is forgotten."""
    programs = tmp_path / "bin"
    programs.mkdir()
    os.environ["PATH"] = str(programs)
    sandbox._probe.cache_clear()
    yield programs
    sandbox._probe.cache_clear()


def test_a_host_without_it(other_host: Path, tmp_path: Path) -> None:
    found = sandbox.find("auto")
    assert found.mode == "none"
    assert found.wrap(["a", "b"], Walls(tmp_path)) == ["a", "b"]
    assert "not installed" in found.warning
    with pytest.raises(Refused, match="not installed") as refused:
        sandbox.find("required")
    assert "package bubblewrap" in refused.value.hint


def test_a_host_where_it_does_not_work(other_host: Path) -> None:
    fake = other_host / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    fake.chmod(0o755)
    with pytest.raises(Refused, match="uid map: Permission denied") as refused:
        sandbox.find("required")
    assert "user namespaces" in refused.value.hint


@pytest.mark.parametrize(
    ("unknown", "version"),
    [
        (("--disable-userns",), "0.7"),
        (("--disable-userns", "--size"), "0.6"),
        (("--disable-userns", "--size", "--perms"), "0.4"),
    ],
)
def test_a_host_with_an_older_one(
    inside: Inside, other_host: Path, unknown: tuple[str, ...], version: str
) -> None:
    """Debian 11 has 0.4, Ubuntu 22.04 has 0.6: the walls stand without what those do not know."""
    fake, words = other_host / "bwrap", "|".join(unknown)
    refuse = f'for a; do case "$a" in {words}) echo "bwrap: Unknown option $a" >&2; exit 1;; esac; done'
    fake.write_text(f'#!/bin/sh\n{refuse}\nexec /usr/bin/bwrap "$@"\n')
    fake.chmod(0o755)
    found = sandbox.find("required")
    assert (found.mode, found.lacks) == ("bwrap", frozenset(unknown))
    home = Path(os.environ["HOME"])
    (home / ".ssh").mkdir()
    (home / ".ssh" / "id").write_text("s3cret")
    done = inside("/bin/cat ~/.ssh/id; echo x > /etc/agentq-attack; echo end", readable=(home,))
    assert done.stdout == "end\n"


def test_switched_off(tmp_path: Path) -> None:
    found = sandbox.find("off")
    assert (found.mode, found.wrap(["a"], Walls(tmp_path))) == ("none", ["a"])
    assert "off" in found.warning
    assert sandbox.find("auto").warning == ""


PLAIN = """
import os, subprocess, sys
from pathlib import Path
from agentq import hiding, relay, sandbox
home = Path(os.environ["HOME"])
found = sandbox.find("required")
print(subprocess.run(
    found.wrap(["/bin/bash", "-c", sys.argv[1]], sandbox.Walls(home / "ws", readable=(home,))),
    cwd=home / "ws", capture_output=True, text=True).stdout)
"""


@pytest.fixture
def plain() -> Iterator[Callable[[str], str]]:
    """Runs a shell script inside the walls of a plain user, with the system's own Python: this one's may be in a
    folder that is closed to others."""
    python, home = "/usr/bin/python3", Path(tempfile.mkdtemp(prefix="agentq-plain-"))
    (home / ".ssh").mkdir()
    (home / ".ssh" / "id").write_text("s3cret")
    (home / "ws").mkdir()
    for path in (home, *home.rglob("*")):
        os.chown(path, 65534, 65534)
    env = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(Path(sandbox.__file__).parents[1])}
    become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", python, "-c"]

    def run(script: str) -> str:
        done = subprocess.run(
            [*become, PLAIN, script], env=env, capture_output=True, text=True, check=False, cwd="/", timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        if (
            os.geteuid()
            or subprocess.run([*become, "import agentq.sandbox"], env=env, check=False, cwd="/").returncode
        ):
            pytest.skip("no other user can be had who can import agentq")
        yield run
    finally:
        shutil.rmtree(home)


def test_a_plain_user_has_the_same_walls(plain: Callable[[str], str]) -> None:
    script = "cat ~/plain ~/.ssh/id; touch ok && ls; touch ../no 2>/dev/null || echo closed; id -u"
    assert plain(script).split() == ["ok", "closed", "65534"]


def test_a_plain_users_processes_are_counted_inside_alone(plain: Callable[[str], str]) -> None:
    """A fork bomb ends at a number, and the person's own processes outside do not count."""
    assert plain("ulimit -u").split() == [str(relay.PROCESSES)]
    bomb = (
        "import os, time\nfor count in range(999):\n"
        "    try:\n        if os.fork() == 0: time.sleep(60)\n    except OSError:\n        break\nprint(count)"
    )
    assert 20 < int(plain(f"ulimit -u 40; /usr/bin/python3 -c '{bomb}'")) < 40
