"""The door to Neon: what is sent again, when, and what never leaves it."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from support.accounts import python
from support.neon import DEV, KEY, PROJECT
from support.neon_document import neon_document  # noqa: F401
from support.neon_world import Clock, NeonWorld, neon_fixture  # noqa: F401

from agentq.databases.neon_api import PATIENCE, RATE, NeonApi, Pacer
from agentq.errors import ConfigError, DatabaseError, ExitCode


def door(neon: NeonWorld, clock: Clock, key: str = KEY, random: float = 0.5) -> NeonApi:
    return NeonApi(neon.server.url, PROJECT, "NEON_API_KEY", {"NEON_API_KEY": key}, clock.timing(random))


@pytest.mark.parametrize("status", [423, 429, 503])
@pytest.mark.parametrize(
    ("method", "body"), [("GET", None), ("POST", {"database": {"name": "n", "owner_name": "neondb_owner"}})]
)
def test_not_now_is_asked_again_whatever_the_method(neon: NeonWorld, status: int, method: str, body: dict) -> None:
    neon.server.fail(str(status), ".*", 3)
    reply = door(neon, Clock()).send(method, f"/branches/{DEV}/databases", None, body, twice=False)
    assert reply.status in (200, 201)
    assert [answer for *_, answer in neon.server.log] == [status] * 3 + [reply.status]


@pytest.mark.parametrize("status", [423, 429, 503])
def test_patience_ends(neon: NeonWorld, status: int) -> None:
    neon.server.fail(str(status), ".*", 10_000)
    clock = Clock()
    with pytest.raises(DatabaseError, match=str(status)) as caught:
        door(neon, clock).send("GET", "")
    assert caught.value.retryable
    assert PATIENCE - 10 <= sum(clock.slept) <= PATIENCE + 10
    assert len(neon.server.log) < 100


def test_429_waits_as_long_as_it_says_and_with_jitter(neon: NeonWorld) -> None:
    pauses = []
    for chance in (0.0, 0.9):
        neon.server.fail("429", ".*")
        clock = Clock()
        door(neon, clock, random=chance).send("GET", "")
        pauses.append(sum(clock.slept))
    assert 2 < pauses[0] < pauses[1] < 4  # the fake says 2 s


@pytest.mark.parametrize("header", ["3", "date", "nonsense", "-1", ""])
def test_retry_after_is_seconds_or_a_date(neon: NeonWorld, header: str) -> None:
    asked = format_datetime(datetime.now(UTC) + timedelta(seconds=4), True) if header == "date" else header
    neon.server.retry_after = asked
    neon.server.fail("429", ".*")
    clock = Clock()
    door(neon, clock).send("GET", "")
    assert (2 < sum(clock.slept) < 5) if header in ("3", "date") else (sum(clock.slept) < 1)


@pytest.mark.parametrize("kind", ["lost", "dropped", "500"])
def test_a_lost_answer_is_asked_for_again_where_that_does_no_harm(neon: NeonWorld, kind: str) -> None:
    neon.server.fail(kind, ".*", 2)
    assert door(neon, Clock()).send("GET", "/branches/count").body == {"count": 1}
    neon.server.fail(kind, ".*", 2)
    body = {"database": {"name": "n", "owner_name": "neondb_owner"}}
    with pytest.raises(DatabaseError):
        door(neon, Clock()).send("POST", f"/branches/{DEV}/databases", None, body, twice=False)
    assert len(neon.server.log) == 4


def test_a_server_that_is_away_is_given_up(neon: NeonWorld) -> None:
    neon.server.fail("dropped", ".*", 1000)
    with pytest.raises(DatabaseError, match="lost") as caught:
        door(neon, Clock()).send("GET", "")
    assert caught.value.retryable
    clock = Clock()
    away = NeonApi("http://127.0.0.1:9/api/v2", PROJECT, "K", {"K": KEY}, clock.timing())
    with pytest.raises(DatabaseError, match="cannot be reached") as caught:
        away.send("POST", "/branches", twice=False)
    assert caught.value.retryable
    assert clock.slept  # nothing was sent, so even this was tried again


def test_a_refusal_is_told_once_and_without_secrets(neon: NeonWorld) -> None:
    with pytest.raises(DatabaseError, match="404") as caught:
        door(neon, Clock()).send("GET", "/branches/br-none")
    assert not caught.value.retryable
    assert len(neon.server.log) == 1
    neon.server.fail("503", ".*", 10_000)
    with pytest.raises(DatabaseError, match="injected 503") as caught:
        door(neon, Clock()).send("GET", "")
    assert KEY not in caught.value.message
    assert ":pw@" not in caught.value.message


def test_what_is_not_json_is_an_error_and_no_empty_answer(neon: NeonWorld) -> None:
    for kind in ("html", "list"):
        neon.server.fail(kind, ".*")
        with pytest.raises(DatabaseError, match="not JSON"):
            door(neon, Clock()).send("GET", "")
    neon.server.fail("other shape", ".*")
    with pytest.raises(DatabaseError, match="Neon's answer lacks"):
        neon.databases.head()
    neon.server.violations.clear()  # they were asked for


def test_the_key_is_in_the_header_and_nowhere_else(neon: NeonWorld) -> None:
    api = door(neon, Clock())
    api.send("GET", "")
    [seen] = neon.server.headers_seen
    assert seen.endswith(f"Bearer {KEY}")
    assert seen.count(KEY) == 1
    assert KEY not in repr(api) + repr(neon.databases)


@pytest.mark.parametrize("key", ["", "  ", "two\nlines", "schlüssel"])
def test_a_missing_or_broken_key_is_said_by_its_variable(neon: NeonWorld, key: str) -> None:
    with pytest.raises(ConfigError, match="NEON_API_KEY") as caught:
        door(neon, Clock(), key).send("GET", "")
    assert caught.value.exit_code == ExitCode.USAGE
    assert caught.value.hint
    assert neon.server.log == []
    assert not key.strip() or key not in caught.value.message


def test_a_wrong_key_is_refused_with_a_hint(neon: NeonWorld) -> None:
    with pytest.raises(DatabaseError, match="401") as caught:
        door(neon, Clock(), "napi_wrong").send("GET", "")
    assert "key" in caught.value.hint
    assert len(neon.server.log) == 1


def test_without_httpx_the_extra_is_named() -> None:
    code = """
sys.modules["httpx"] = None
from pathlib import Path
from agentq.core.sections import Neon
from agentq.databases.neon import NeonDatabases
databases = NeonDatabases(Neon(project="p"), Path("/nonexistent"), "DATABASE_URL", {"NEON_API_KEY": "k"})
[finding] = databases.doctor()
print(finding.ok, finding.hint)
"""
    done = subprocess.run(python(code), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False install it: pip install 'agentq-trunk[neon]'"


def test_httpx_is_imported_on_first_use() -> None:
    code = "import agentq.databases.neon; print('httpx' in sys.modules)"
    done = subprocess.run(python(code), capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert sys.executable


def test_no_more_requests_a_minute_than_neon_lets_pass() -> None:
    clock = Clock()
    pacer, sent = Pacer(clock.timing()), []
    for _ in range(3 * RATE):
        pacer.wait()
        sent.append(clock.now)
        clock.now += 0.01  # a request takes this long
    assert all(later - earlier >= 60 for earlier, later in zip(sent, sent[RATE:], strict=False))
    assert sent[RATE - 1] - sent[0] < 60  # the first minute's are not held back
