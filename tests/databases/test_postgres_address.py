"""dev's URL, those of branches, and what a refused connection means."""

import psycopg
import pytest

from agentq.databases.postgres_address import Names, locate
from agentq.databases.postgres_failure import answered, failed, refused
from agentq.errors import DatabaseError


@pytest.mark.parametrize(
    ("url", "branch"),
    [
        ("postgres://h/dev", "postgres://u:p@h/b"),
        ("postgresql://me:pw@h:5433/dev", "postgresql://u:p@h:5433/b"),
        ("postgresql+psycopg://me@h/dev?sslmode=require", "postgresql+psycopg://u:p@h/b?sslmode=require"),
        ("postgresql:///dev?host=/tmp/x&port=5", "postgresql://u:p@/b?host=/tmp/x&port=5"),
        ("postgresql://h/dev?schema=public&user=me&password=pw", "postgresql://u:p@h/b?schema=public"),
        (
            "postgresql://a:1,b:2/dev?target_session_attrs=any",
            "postgresql://u:p@a:1,b:2/b?target_session_attrs=any",
        ),
        ("postgresql://[::1]:5/dev", "postgresql://u:p@[::1]:5/b"),
        ("postgresql+asyncpg://me:p%40w@h/d%25v?ssl=true", "postgresql+asyncpg://u:p@h/b?ssl=true"),
    ],
)
def test_a_branchs_url_has_the_form_of_devs(url: str, branch: str) -> None:
    address = locate(url)
    assert address.at("b", "u", "p") == branch
    assert address.name in ("dev", "d%v")
    assert "pw" not in repr(address)


@pytest.mark.parametrize(
    "url", ["", "dev", "mysql://h/dev", "postgresql://h", "postgresql:dev",
            "postgresql://me:hu%zzsh@h/dev"]
)  # fmt: skip
def test_what_names_no_database_is_refused(url: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        locate(url)
    assert "hu" not in caught.value.message


@pytest.mark.parametrize("url", [
    "postgresql://me:hu@sh@h/dev", "postgres://me:12/hush@h/dev", "postgresql://me:pw@h/hush@dev",
    "postgresql://me@example.com:hush@h/dev",
])  # fmt: skip
def test_a_password_that_is_not_encoded_is_not_shown(url: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        locate(url)
    assert "@ is %40" in caught.value.hint
    assert "hush" not in str(caught.value) + caught.value.hint
    assert "sh@" not in str(caught.value)


@pytest.mark.parametrize("key", [
    "sslpassword", "sslkey", "sslcert", "scram_client_key", "scram_server_key", "oauth_client_secret", "passfile",
    "service", "user", "password", "krbsrvname", "sslidentity", "sslkeylogfile", "token",
])  # fmt: skip
def test_what_proves_who_we_are_does_not_go_along(key: str) -> None:
    branch = locate(f"postgresql://me:pw@h/dev?sslmode=require&{key}=OURS&schema=x").at("b", "u", "p")
    assert branch == "postgresql://u:p@h/b?sslmode=require&schema=x"


@pytest.mark.parametrize(("options", "goes"), [("-c%20search_path=a", True), ("-c%20role=admin", False)])
def test_options_go_along_unless_they_make_somebody_else_of_us(options: str, goes: bool) -> None:
    branch = locate(f"postgresql://me@h/dev?options={options}&connect_timeout=3").at("b", "u", "p")
    assert ("options" in branch) == goes
    assert "connect_timeout=3" in branch


PLACE = 'connection failed: connection to server at "127.0.0.1", port 5432 failed: '


@pytest.mark.parametrize(
    ("said", "spoke", "final", "hint"),
    [
        ("FATAL:  sorry, too many clients already", True, False, "max_connections"),
        ('FATAL:  too many connections for role "app"', True, False, "max_connections"),
        (
            "FATAL:  remaining connection slots are reserved for roles with SUPERUSER",
            True,
            False,
            "max_connections",
        ),
        ("FATAL:  tut mir leid, schon zu viele Verbindungen", True, False, ""),
        ("ВАЖНО:  извините, уже слишком много клиентов", True, False, ""),
        ("FATAL:  the database system is starting up", True, False, ""),
        ('FATAL:  password authentication failed for user "app"', True, True, "URL"),
        ('FATAL:  database "x" does not exist', True, True, "URL"),
        ("Connection refused\n\tIs the server running on that host?", False, False, "running"),
        ("timeout expired", False, False, "running"),
    ],
)
def test_a_refusal_is_final_only_if_it_is_known_to_be(said: str, spoke: bool, final: bool, hint: str) -> None:
    error = psycopg.OperationalError(PLACE + said)
    assert (answered(error), refused(error)) == (spoke, final)
    told = failed("looking", error)
    assert told.retryable == (not final)
    assert hint in told.hint
    assert bool(hint) == bool(told.hint)


def test_names_are_short_and_plain() -> None:
    names = Names.of("Ärger; DROP DATABASE")
    name = names.name("b" + "0" * 12, names.new())
    assert len(name) <= 51
    assert name.replace("_", "").isalnum()
    assert name.islower()
    assert names.parse(name) == ("b" + "0" * 12, name[-8:])
    for other in ("postgres", name + "x", "x" + name, Names.of("dev").name("w", "0" * 8), names.group):
        assert names.parse(other) is None
