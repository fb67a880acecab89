"""What is said and kept of branches at Neon: no secret, and what a person can use."""

import logging
from pathlib import Path

import pytest
from contracts.databases import HOUR, NOW
from support.neon import KEY
from support.neon_document import neon_document  # noqa: F401
from support.neon_world import NeonWorld, neon_fixture, provider  # noqa: F401

from agentq.errors import DatabaseError

WAYS = ["acquire", "empty"]


def test_secrets_are_in_no_log_message_repr_or_file(neon: NeonWorld, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []
    neon.databases.warm(1)
    branches = [neon.databases.acquire(n, HOUR, NOW, "me") for n in ("one", "two")]
    branches.append(neon.databases.empty("one", HOUR, NOW, "me"))
    shown += [repr(branches), repr(neon.databases), str(vars(neon.databases)), repr(neon.databases.doctor())]
    for kind in ("main", "old password", "database", "503", "lost", "cancelled"):
        neon.server.fail(kind, ".*(uri|reset_password)", 10_000)
        for way in WAYS:
            with pytest.raises(DatabaseError) as caught:
                getattr(neon.databases, way)(f"{kind}{len(shown)}", HOUR, NOW, "me")
            shown += [repr(caught.value), caught.value.message, caught.value.hint]
        neon.server.faults.clear()
        neon.server.operations.clear()
    shown += [record.getMessage() for record in caplog.records]
    shown += [path.read_text(errors="replace") for path in neon.store.rglob("*") if path.is_file()]
    passwords = [p.replace("/", "%2F") for b in neon.server.branches.values() for p in b.passwords.values()]
    passwords += [p for b in neon.server.branches.values() for p in b.passwords.values()]
    text = "\n".join(shown)
    assert "connection_uri" in text  # the log was looked at
    assert [secret for secret in (KEY, *passwords) if secret in text] == []
    for line in neon.server.headers_seen:
        assert not any(secret in line for secret in passwords)
        assert line.count(KEY) == 1


def test_what_is_kept_is_for_its_owner_alone(neon: NeonWorld) -> None:
    neon.databases.acquire("one", HOUR, NOW, "me")
    top = neon.store / "neon"
    assert {oct(path.stat().st_mode & 0o077) for path in top.rglob("*.json")} == {"0o0"}
    assert [p for p in top.rglob("*") if p.is_dir() and p.stat().st_mode & 0o077] == []


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"project": ""}, "no Neon project"),
        ({"project": "unknown"}, "404"),
        ({"parent": "nowhere"}, "no branch 'nowhere'"),
        ({"key_env": "NOTHING"}, "NOTHING"),
        ({"api": "http://127.0.0.1:9"}, "cannot be reached"),
        ({"role": "unknown"}, "404"),
    ],
)
def test_the_doctor_names_what_is_wrong(neon: NeonWorld, setting: dict[str, str], says: str) -> None:
    bad = [f for f in provider(neon.server.url, neon.store, **setting).doctor() if not f.ok]
    assert len(bad) == 1
    assert says in bad[0].text
    assert bad[0].hint


def test_the_doctor_knows_limits_and_states(neon: NeonWorld) -> None:
    assert "suspended" in " ".join(f.text for f in neon.databases.doctor())
    neon.server.dev.active = True
    neon.server.stores_passwords = False
    neon.server.branches_limit = 1
    said = neon.databases.doctor()
    assert [f.text for f in said if not f.ok] == [
        "Neon project shiny-wind-028834: PostgreSQL 17, the key works, but it stores no passwords",
        "it has 1 branches of at most 1",
    ]
    assert "its compute runs" in " ".join(f.text for f in said)
    assert [method for method, *_ in neon.server.log if method != "GET"] == []


def test_a_store_that_cannot_be_written_is_an_error_before_anything_is_made(neon: NeonWorld) -> None:
    Path(neon.store).write_text("a file")
    with pytest.raises(DatabaseError, match="cannot be used"):
        neon.databases.acquire("one", HOUR, NOW, "me")
    assert neon.server.made == []
