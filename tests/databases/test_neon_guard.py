"""Nothing is handed out or destroyed that is not a branch agentq made of dev."""

import re
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from contracts.databases import HOUR, NOW, everyone, nobody
from support.neon import DEV, FakeBranch
from support.neon_document import neon_document  # noqa: F401
from support.neon_world import Clock, NeonWorld, neon_fixture, provider  # noqa: F401

from agentq.databases import neon_guard
from agentq.databases.neon_calls import Remote
from agentq.databases.neon_store import Record
from agentq.errors import DatabaseError

NAME = "agentq_b0123456789ab_01234567_89abcdef"
WAYS = ["acquire", "empty"]


def untouched(neon: NeonWorld) -> bool:
    """Whether nothing but reading was asked for of dev."""
    return DEV in neon.server.branches and not [
        line for line in neon.server.log if line[0] != "GET" and DEV in line[1]
    ]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("fault", "where", "says"),
    [
        ("main", "GET /.*/connection_uri", "leads to another branch"),
        ("database", "GET /.*/connection_uri", "names another database"),
        ("old password", "POST /.*/reset_password", "does not hold the password"),
        ("main", "POST /[^/]+/[^/]+/branches", "not a branch that agentq made"),
    ],
)
def test_what_is_not_the_new_branchs_own_is_refused_and_dev_stays(
    neon: NeonWorld, way: str, fault: str, where: str, says: str
) -> None:
    neon.server.fail(fault, where)
    with pytest.raises(DatabaseError, match=says) as caught:
        getattr(neon.databases, way)("one", HOUR, NOW, "me")
    assert untouched(neon)
    assert neon.leftovers() == []
    assert not any(secret in caught.value.message for secret in neon.server.dev_passwords)
    assert getattr(neon.databases, way)("one", HOUR, NOW, "me").url


def test_a_repeat_is_guarded_too_and_keeps_the_branch(neon: NeonWorld) -> None:
    branch = neon.databases.acquire("one", HOUR, NOW, "me")
    for fault in ("main", "database"):
        neon.server.fail(fault, ".*/connection_uri")
        with pytest.raises(DatabaseError, match="refused"):
            neon.databases.acquire("one", HOUR, NOW, "me")
        neon.server.fail(fault, ".*/connection_uri")
        with pytest.raises(DatabaseError, match="refused"):
            neon.databases.branches()
    assert untouched(neon)
    assert neon.databases.acquire("one", HOUR, NOW, "me") == branch


def test_devs_own_url_is_guarded_too(neon: NeonWorld) -> None:
    neon.server.fail("host", ".*/connection_uri")
    with pytest.raises(DatabaseError, match="leads to another branch"):
        neon.databases.dev()
    assert neon.databases.dev() == {"DATABASE_URL": neon.server.dev_url()}


@pytest.mark.parametrize("way", [*WAYS, "warm"])
def test_a_branchs_url_opens_that_branch_and_never_dev(neon: NeonWorld, way: str) -> None:
    if way == "warm":
        assert neon.databases.warm(1) == 1
    branch = getattr(neon.databases, "empty" if way == "empty" else "acquire")("one", HOUR, NOW, "me")
    assert branch.warm == (way == "warm")
    neon.server.open(branch.url)
    dev = neon.server.dev
    stolen = branch.url.replace(str(urlsplit(branch.url).hostname), dev.host)
    stolen = re.sub(r"/[^/]*\?", "/neondb?", stolen)
    with pytest.raises(PermissionError):
        neon.server.open(stolen)
    assert not any(secret in branch.url + str(branch.env) for secret in neon.server.dev_passwords)
    with pytest.raises(PermissionError):  # and what opens dev does not open the branch
        neon.server.open(neon.server.dev_url().replace(dev.host, str(urlsplit(branch.url).hostname)))


def remote(**changes: object) -> Remote:
    usual = {"id": "br-new", "name": NAME, "parent": DEV, "default": False, "expires": True, "marks": ""}
    return Remote(**(usual | changes))  # type: ignore[arg-type]


STRANGERS = [
    remote(default=True),
    remote(id=DEV),
    remote(parent="br-other"),
    remote(parent=""),
    remote(name="main"),
    remote(name=f"{NAME}x"),
    remote(name="agentq_b0123456789ab_01234567"),
]


@pytest.mark.parametrize("stranger", STRANGERS)
def test_only_our_branches_of_dev_may_be_destroyed_or_shown(stranger: Remote) -> None:
    record = Record(NAME, "me", "g", NOW, NOW, DEV)
    neon_guard.doomed(remote(), DEV, "main")
    neon_guard.ours(remote(), record, "main")
    with pytest.raises(DatabaseError, match="not a branch that agentq made"):
        neon_guard.doomed(stranger, DEV, "main")
    with pytest.raises(DatabaseError, match="not a branch that agentq made"):
        neon_guard.ours(stranger, record, "main")


@pytest.mark.parametrize("setting", ["br-new", NAME])
def test_what_the_settings_call_dev_is_never_destroyed(setting: str) -> None:
    with pytest.raises(DatabaseError, match="not a branch"):
        neon_guard.doomed(remote(), DEV, setting)
    with pytest.raises(DatabaseError):
        neon_guard.doomed(remote(parent=""), "", "main")


def test_a_branch_that_took_our_name_stands_and_keeps_no_other_from_the_reaper(neon: NeonWorld) -> None:
    one, two, three = (neon.databases.acquire(name, HOUR, NOW, "me") for name in ("one", "two", "three"))
    [changed] = [b for b in neon.server.branches.values() if b.name == two.name]
    changed.parent = "br-somebody"
    with pytest.raises(DatabaseError, match="refused"):
        neon.databases.reap(NOW, nobody)
    assert neon.server.left() == [two.name]
    with pytest.raises(DatabaseError, match="refused"):
        neon.databases.release(two.id)
    changed.parent = DEV
    assert neon.databases.reap(NOW, everyone) == [two.id]  # it was released, so it is not given out again
    assert neon.leftovers() == []
    assert {one.id, two.id, three.id} == set(neon.server.made)


def test_what_people_made_is_left_alone(neon: NeonWorld) -> None:
    folder = neon.server.folder / "people"
    for n, name in enumerate(("preview", "agentq", "agentq_b0123456789ab", NAME)):
        (folder / str(n)).mkdir(parents=True)
        neon.server.branches[f"br-p{n}"] = FakeBranch(
            f"br-p{n}", name, DEV, folder / str(n), dict(neon.server.dev.passwords), f"ep-p{n}", []
        )
    people = neon.server.left()
    neon.databases.warm(1)
    neon.databases.acquire("one", HOUR, NOW, "me")
    neon.databases.release(NAME)
    neon.databases.reap(NOW + timedelta(days=400), nobody)
    neon.databases.warm(0)
    assert neon.server.left() == people


def test_two_hosts_leave_each_other_alone(neon: NeonWorld) -> None:
    other = provider(neon.server.url, neon.store.with_name("other"), Clock())
    mine = neon.databases.acquire("one", HOUR, NOW, "me")
    theirs = other.acquire("one", HOUR, NOW, "they")
    assert mine.id != theirs.id
    neon.databases.release(theirs.id)
    assert neon.databases.reap(NOW + 2 * HOUR, nobody) == [mine.id]
    assert neon.databases.branches() == []
    assert other.branches() == [theirs]
    assert other.reap(NOW, nobody) == [theirs.id]
    assert neon.server.left() == []
