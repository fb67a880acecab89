"""The way out of a sandbox: named places and nothing else, whole data, no process left. With real servers."""
# ruff: noqa: F401, F811 (fixtures are imported by name)

import os
import shlex
import socket
import statistics
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from support.walls import Inside, inside, needs_walls, python, server, workspace

from agentq import relay, sandbox
from agentq.errors import Refused
from agentq.sandbox import Walls

pytestmark = needs_walls


# ---------------------------------------------------------------- network


def _ask(host: str, port: int) -> str:
    return python(
        f"import socket; s = socket.create_connection(({host!r}, {port}), 5); print(s.recv(99).decode(), flush=True)"
    )


def test_no_network_unless_it_is_allowed(inside: Inside) -> None:
    with server(socket.AF_INET, ("127.0.0.1", 0)) as listener:
        ask = _ask("127.0.0.1", listener.getsockname()[1])
        assert "hello" not in inside(ask).stdout
        assert inside(ask, network=True).stdout == "hello\n"
    with server(socket.AF_UNIX, f"\0agentq-{os.getpid()}"):
        ask = python(
            f"import socket; s = socket.socket(socket.AF_UNIX); s.connect('\\0agentq-{os.getpid()}'); print(s.recv(9))"
        )
        assert "hello" not in inside(ask).stdout, "an abstract socket belongs to the network"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_named_place_is_reached_and_no_other(inside: Inside, host: str) -> None:
    with (
        server(socket.AF_INET, ("127.0.0.1", 0)) as given,
        server(socket.AF_INET, ("127.0.0.1", 0), b"other") as other,
    ):
        port, closed = given.getsockname()[1], other.getsockname()[1]
        script = f"{_ask(host, port)}; {_ask(host, port)}; {_ask('127.0.0.1', closed)}"
        assert inside(script, reach=((host, port),)).stdout == "hello\nhello\n"


def test_a_host_is_reached_by_its_name(inside: Inside) -> None:
    """Two hosts may have the same port. What a name stands for is decided outside."""
    name = socket.gethostname()
    address = socket.gethostbyname(name)
    with ExitStack() as stack:
        far = stack.enter_context(server(socket.AF_INET, (address, 0), b"far"))
        port = far.getsockname()[1]
        near = ("127.0.0.2", port)
        stack.enter_context(server(socket.AF_INET, near, b"near"))
        done = inside(f"{_ask(name, port)}; {_ask('127.0.0.2', port)}", reach=((name, port), near))
    assert done.stdout == "far\nnear\n", done.stderr


def test_large_data_and_many_connections_pass_whole(inside: Inside) -> None:
    """Both directions, closed one after the other."""
    size, count = 2_000_000, 40

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)

        def echo(client: socket.socket) -> None:
            with client:
                data = b"".join(iter(lambda: client.recv(65536), b""))
                client.sendall(data)

        def answer() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=echo, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=answer, daemon=True).start()
        port = listener.getsockname()[1]
        code = f"""
import os, socket
ends = [socket.create_connection(("localhost", {port})) for _ in range({count})]
for number, end in enumerate(ends):
    data = os.urandom(1000) if number else os.urandom({size})
    end.sendall(data); end.shutdown(1)
    got = b"".join(iter(lambda: end.recv(65536), b""))
    assert got == data, number
print("whole")
"""
        done = inside(python(code), reach=(("localhost", port),))
    assert done.stdout == "whole\n", done.stderr


def test_a_place_that_does_not_answer_is_told(inside: Inside) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        done = inside(_ask("127.0.0.1", port), reach=(("127.0.0.1", port),))
    assert f"127.0.0.1:{port} cannot be reached" in done.stderr
    assert done.stdout.strip() == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="ports below 1024 are root's")
def test_a_port_below_1024(inside: Inside) -> None:
    for port in range(81, 200):
        with suppress(OSError), server(socket.AF_INET, ("127.0.0.1", port)):
            assert inside(_ask("localhost", port), reach=(("localhost", port),)).stdout == "hello\n"
            return
    pytest.skip("no free port")


@pytest.mark.parametrize(
    "place",
    [("10.0.0.1", 5432), ("::2", 5432), ("db", 0), ("db", 70000), ("", 1), ("a b", 1), ("-x", 1), ("a\nb", 1)],
)
def test_places_that_cannot_be_reached_are_refused(inside: Inside, place: tuple[str, int]) -> None:
    with pytest.raises(Refused):
        inside("true", reach=(place,))


def test_postgres_by_port_and_by_socket(inside: Inside) -> None:
    from urllib.parse import urlsplit

    from support.postgres import shared

    server = shared()
    port = urlsplit(server.admin).port or 5432
    code = f"import psycopg; print(psycopg.connect({server.admin!r}, connect_timeout=5).execute('select 42').fetchone())"
    ask = f"{sys.executable} -c {shlex.quote(code)} 2>&1"
    assert "(42,)" not in inside(ask).stdout
    assert inside(ask, reach=(("127.0.0.1", port),)).stdout == "(42,)\n"
    folder = str(server.run("SHOW unix_socket_directories")[0][0]).split(",")[0]
    Path(folder).chmod(0o755)
    code = code.replace("127.0.0.1", "").replace(f":{port}/postgres", f"/postgres?host={folder}&port={port}")
    ask = f"{sys.executable} -c {shlex.quote(code)} 2>&1"
    assert "(42,)" not in inside(ask).stdout
    socket_file = Path(folder) / f".s.PGSQL.{port}"
    assert inside(ask, readable=(socket_file,)).stdout == "(42,)\n"


def test_what_it_costs(inside: Inside, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Paired with the bare command, in turn."""
    found, walls = sandbox.find("required"), Walls(workspace)
    plan, bare, wrapped, reached = [], [], [], []
    for _ in range(9):
        begin = time.perf_counter()
        command = found.wrap(["/bin/true"], walls)
        plan.append(time.perf_counter() - begin)
        more = found.wrap(["/bin/true"], Walls(workspace, reach=(("127.0.0.1", 5432),)))
        for times, line in ((bare, ["/bin/true"]), (wrapped, command), (reached, more)):
            begin = time.perf_counter()
            subprocess.run(line, cwd=workspace, check=True)
            times.append(time.perf_counter() - begin)
    names = ("wrap()", "bare", "inside", "inside, with a port")
    with capsys.disabled():
        print()
        for name, times in zip(names, (plan, bare, wrapped, reached), strict=True):
            print(f"sandbox: {name}: median {statistics.median(times) * 1000:.1f} ms")
    assert statistics.median(wrapped) < 2


# ---------------------------------------------------------------- its parts


def test_each_host_has_an_address_of_its_own() -> None:
    reach = [("db", 5432), ("localhost", 1), ("cache", 5432), ("db", 6432), ("127.0.0.9", 2), ("::1", 3)]
    places = relay.addresses(reach)
    assert places == ["127.77.0.1", "127.0.0.1", "127.77.0.2", "127.77.0.1", "127.0.0.9", "127.0.0.1"]
    many = relay.addresses([(f"host{number}", 1) for number in range(600)])
    assert len(set(many)) == 600


def test_names_inside(inside: Inside) -> None:
    text = inside("cat /etc/hosts", reach=(("db.example.com", 5432), ("localhost", 5433))).stdout
    assert "127.77.0.1 db.example.com\n" in text
    assert text.count("localhost") == 2
    assert "db.example.com" not in inside("cat /etc/hosts").stdout


def test_more_connections_than_it_carries_are_closed_and_the_rest_work(inside: Inside) -> None:
    """A tool that opens thousands takes only its own away."""
    with server(socket.AF_INET, ("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        code = f"""
import socket
held = [socket.create_connection(("127.0.0.1", {port}), 20) for _ in range({relay.CONNECTIONS + 40})]
got = [end.recv(9) for end in held]
print(got.count(b"hello") >= {relay.CONNECTIONS}, set(got) == {{b"hello", b""}})
del held
print(socket.create_connection(("127.0.0.1", {port}), 20).recv(9))
"""
        done = inside(python(code), reach=(("127.0.0.1", port),))
    assert done.stdout == "True True\nb'hello'\n", done.stderr


def test_a_place_that_is_closed_while_it_is_used(inside: Inside) -> None:
    """The other side goes away: the tool sees the end, and nothing hangs."""
    with server(socket.AF_INET, ("127.0.0.1", 0), b"x" * 100_000) as listener:
        port = listener.getsockname()[1]
        code = f"""
import socket
for _ in range(20):
    end = socket.create_connection(("127.0.0.1", {port}), 20)
    end.recv(10)
    end.close()
end = socket.create_connection(("127.0.0.1", {port}), 20)
print(sum(len(data) for data in iter(lambda: end.recv(65536), b"")))
"""
        done = inside(python(code), reach=(("127.0.0.1", port),))
    assert done.stdout == "100000\n", done.stderr


def test_what_was_sent_last_arrives_and_nothing_is_waited_for(inside: Inside) -> None:
    """A tool sends and ends at once; the other side may keep its ends open."""
    count = 40
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        listener.settimeout(20)
        port = listener.getsockname()[1]
        code = f"""
import os, socket
ends = [socket.create_connection(("127.0.0.1", {port})) for _ in range({count})]
for end in ends: end.send(b"a" * 9000)
os._exit(3)
"""
        begin = time.monotonic()
        assert inside(python(code), reach=(("127.0.0.1", port),)).returncode == 3
        print(f"ended after {time.monotonic() - begin:.2f} s")
        for _ in range(count):
            client, _ = listener.accept()
            with client:
                client.settimeout(20)
                assert sum(map(len, iter(lambda client=client: client.recv(65536), b""))) == 9000
