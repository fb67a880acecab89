"""What is Neon's own about branches: ends, operations, lost answers, and hosts that share a project."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from contracts.databases import HOUR, NOW, everyone, nobody
from support.neon import DEV, PROJECT, FakeBranch
from support.neon_document import neon_document  # noqa: F401
from support.neon_world import Clock, NeonWorld, neon_fixture, provider  # noqa: F401

from agentq.databases.base import EMPTY
from agentq.databases.neon_store import NeonStore
from agentq.errors import DatabaseError

DAY = timedelta(days=1)
CREATE = "POST /projects/[^/]+/branches"
WAYS = ["acquire", "empty"]


def posts(neon: NeonWorld) -> int:
    return len([1 for method, path, _ in neon.server.log if (method, path) == ("POST", "/branches")])


def end(neon: NeonWorld, name: str) -> datetime:
    return next(datetime.fromisoformat(b.expires_at) for b in neon.server.branches.values() if b.name == name)


# ---------------------------------------------------------------- what is asked for


def test_the_requests_that_make_a_branch(neon: NeonWorld) -> None:
    branch = neon.databases.acquire("one", HOUR, NOW, "me")
    seen = [line.rsplit(" Bearer", 1)[0].split(" ", 1) for line in neon.server.headers_seen]
    [body] = [json.loads(body) for path, body in seen if '"parent_id"' in body]
    assert body == {
        "branch": {"parent_id": DEV, "name": branch.name, "expires_at": "2026-01-04T03:04:05Z"},
        "endpoints": [{"type": "read_write"}],
    }
    [uri] = [path for path, _ in seen if "/connection_uri" in path]
    made = next(b.id for b in neon.server.branches.values() if b.name == branch.name)
    assert uri.endswith(f"?branch_id={made}&database_name=neondb&role_name=neondb_owner&pooled=false")


def test_names_hold_nothing_of_the_command(neon: NeonWorld) -> None:
    branch = neon.databases.acquire("Ünïcode'; DROP", HOUR, NOW, "me")
    assert branch.name.startswith("agentq_b")
    assert "drop" not in branch.name.lower()


@pytest.mark.parametrize("database", ["", "neondb"])
@pytest.mark.parametrize("role", ["", "neondb_owner"])
def test_the_only_database_and_role_need_no_setting(neon: NeonWorld, database: str, role: str) -> None:
    databases = provider(neon.server.url, neon.store, database=database, role=role)
    assert neon.count(databases.acquire("one", HOUR, NOW, "me").url) == 0


def test_of_several_one_must_be_named(neon: NeonWorld) -> None:
    neon.server.dev.passwords["rep/orter"] = "dev-other"
    neon.server.dev.databases.append("more")
    (neon.server.dev.folder / "more").touch()
    with pytest.raises(DatabaseError, match="2 databases") as caught:
        neon.databases.acquire("one", HOUR, NOW, "me")
    assert "more, neondb" in caught.value.hint
    with pytest.raises(DatabaseError, match="2 roles"):
        provider(neon.server.url, neon.store, database="more").acquire("one", HOUR, NOW, "me")
    assert neon.leftovers() == []
    chosen = provider(neon.server.url, neon.store, database="more", role="rep/orter")
    assert neon.tables(chosen.acquire("one", HOUR, NOW, "me").url) == []


def test_dev_is_found_by_name_or_id_and_exactly(neon: NeonWorld) -> None:
    people = neon.server.folder / "people"
    people.mkdir()
    for n in range(150):  # more than a page
        neon.server.branches[f"br-p{n}"] = FakeBranch(f"br-p{n}", f"main-{n}", DEV, people, {}, f"ep-p{n}", [])
    neon.server.branches[DEV] = neon.server.branches.pop(DEV)  # the last
    for parent in ("main", DEV):
        databases = provider(neon.server.url, neon.store, parent=parent)
        assert neon.sound(databases.acquire(parent, HOUR, NOW, "me").url)
    with pytest.raises(DatabaseError, match="no branch 'mai'"):
        provider(neon.server.url, neon.store, parent="mai").head()


# ---------------------------------------------------------------- ends


@pytest.mark.parametrize(
    ("ttl", "hours", "after"),
    [(HOUR, 48, 2 * DAY), (3 * DAY, 48, 3 * DAY), (90 * DAY, 48, 30 * DAY - HOUR), (HOUR, 720, 30 * DAY - HOUR)],
)
@pytest.mark.parametrize("way", WAYS)
def test_neon_ends_a_branch_that_nobody_does(
    neon: NeonWorld, way: str, ttl: timedelta, hours: float, after: timedelta
) -> None:
    databases = provider(neon.server.url, neon.store, expire_hours=hours)
    branch = getattr(databases, way)("one", ttl, NOW, "me")
    assert end(neon, branch.name) == NOW + after
    assert branch.expires_at == NOW + min(ttl, 30 * DAY - HOUR)
    neon.server.pass_time(after + DAY)
    assert neon.server.left() == []
    later = NOW + after + DAY
    again = getattr(databases, way)("one", HOUR, later, "me")
    assert again.id != branch.id
    assert databases.branches() == [again]
    assert databases.reap(later, everyone) == []
    assert databases.reap(later, nobody) == [again.id]
    assert neon.leftovers() == []


def test_a_longer_life_moves_neons_end_and_a_fraction_of_a_second_counts(neon: NeonWorld) -> None:
    branch = neon.databases.acquire("one", HOUR, NOW, "me")
    neon.databases.acquire("one", DAY, NOW, "me")
    assert end(neon, branch.name) == NOW + 2 * DAY
    later = NOW + DAY / 2 + timedelta(milliseconds=1)
    again = neon.databases.acquire("one", 5 * DAY, later, "me")
    assert (again.id, again.expires_at) == (branch.id, later + 5 * DAY)
    assert again.expires_at <= end(neon, branch.name) < again.expires_at + timedelta(seconds=1)


def test_a_branch_somebody_deleted_is_made_anew(neon: NeonWorld) -> None:
    one = neon.databases.acquire("one", HOUR, NOW, "me")
    neon.server.pass_time(3 * DAY)
    assert neon.databases.branches() == []
    neon.server.now = NOW
    assert neon.databases.acquire("one", HOUR, NOW, "me").id != one.id
    assert len(neon.server.left()) == 1


def test_no_branch_of_one_that_expires(neon: NeonWorld) -> None:
    neon.server.dev.expires_at = (NOW + DAY).isoformat()
    with pytest.raises(DatabaseError, match="'main' expires"):
        neon.databases.acquire("one", HOUR, NOW, "me")
    assert posts(neon) == 0
    assert [f.ok for f in neon.databases.doctor()].count(False) == 1


# ---------------------------------------------------------------- operations


@pytest.mark.parametrize("kind", ["slow", "failed"])
@pytest.mark.parametrize("where", [CREATE, "POST .*/reset_password", "POST .*/databases"])
def test_a_slow_or_failed_operation_is_waited_for(neon: NeonWorld, kind: str, where: str) -> None:
    neon.server.fail(kind, where)
    assert neon.tables(neon.databases.empty("one", HOUR, NOW, "me").url) == []
    assert posts(neon) == 1
    pauses = neon.clock.slept[:5]
    if where == CREATE:
        assert pauses == [0.1, 0.2, 0.4, 0.8, 1.0]


def test_an_operation_that_never_ends_has_a_deadline(neon: NeonWorld) -> None:
    neon.server.fail("never", CREATE)
    with pytest.raises(DatabaseError, match=r"create_branch took more than 180 s") as caught:
        neon.databases.acquire("one", HOUR, NOW, "me")
    assert caught.value.retryable
    polls = [1 for _, path, _ in neon.server.log if path.startswith("/operations/")]
    assert 180 <= len(polls) <= 190  # about one look a second
    neon.server.operations.clear()
    assert neon.databases.reap(NOW, nobody) == neon.server.made
    assert neon.leftovers() == []


def test_a_cancelled_operation_is_an_end(neon: NeonWorld) -> None:
    neon.server.fail("cancelled", CREATE)
    with pytest.raises(DatabaseError, match="cancelled create_branch"):
        neon.databases.acquire("one", HOUR, NOW, "me")
    assert neon.leftovers() == []


# ---------------------------------------------------------------- lost answers


@pytest.mark.parametrize("fault", ["lost", "dropped"])
@pytest.mark.parametrize("way", WAYS)
def test_a_branch_whose_answer_was_lost_is_adopted(neon: NeonWorld, way: str, fault: str) -> None:
    neon.server.fail(fault, CREATE)
    branch = getattr(neon.databases, way)("one", HOUR, NOW, "me")
    assert neon.server.made == neon.server.left() == [branch.name]
    assert posts(neon) == (1 if fault == "lost" else 2)
    assert isinstance(neon.tables(branch.url), list)


def test_a_branch_the_search_does_not_show_yet_is_adopted_after_409(neon: NeonWorld) -> None:
    neon.server.fail("lost", CREATE)
    neon.server.fail("blind", "GET /projects/[^/]+/branches", after=2)
    branch = neon.databases.acquire("one", HOUR, NOW, "me")
    assert [status for method, path, status in neon.server.log if (method, path) == ("POST", "/branches")][
        -1
    ] == 409
    assert neon.server.made == neon.server.left() == [branch.name]
    assert neon.sound(branch.url)


def test_an_adopted_branch_is_waited_for(neon: NeonWorld) -> None:
    neon.server.ticks = 9
    neon.server.fail("lost", CREATE)
    neon.databases.acquire("one", HOUR, NOW, "me")
    assert 423 not in [status for *_, status in neon.server.log]  # the next change met no operation


def test_a_conflict_with_nothing_is_an_error(neon: NeonWorld) -> None:
    neon.server.fail("409", CREATE)
    with pytest.raises(DatabaseError, match="conflicts"):
        neon.databases.acquire("one", HOUR, NOW, "me")
    assert neon.leftovers() == []


@pytest.mark.parametrize("where", ["POST .*/databases", "POST .*/reset_password", "GET .*/connection_uri"])
def test_other_answers_may_be_lost_too(neon: NeonWorld, where: str) -> None:
    neon.server.fail("lost", where)
    branch = neon.databases.empty("one", HOUR, NOW, "me")
    assert neon.tables(branch.url) == []
    assert neon.databases.empty("one", HOUR, NOW, "me") == branch
    assert len(neon.server.made) == 1


def test_a_delete_whose_answer_was_lost_meets_204_and_is_done(neon: NeonWorld) -> None:
    branch = neon.databases.acquire("one", HOUR, NOW, "me")
    neon.server.fail("lost", "DELETE .*")
    neon.databases.release(branch.id)
    assert [status for method, _, status in neon.server.log if method == "DELETE" and status != 423] == [0, 204]
    assert neon.leftovers() == []


def test_a_release_that_fails_is_finished_by_the_reaper(neon: NeonWorld) -> None:
    branch = neon.databases.acquire("one", HOUR, NOW, "me")
    neon.server.fail("503", "DELETE .*", 10_000)
    with pytest.raises(DatabaseError, match="503") as caught:
        neon.databases.release(branch.id)
    assert caught.value.retryable
    assert neon.databases.branches() == []
    neon.server.faults.clear()
    assert neon.databases.acquire("one", HOUR, NOW, "me").id != branch.id
    assert len(neon.server.left()) == 1
    neon.server.fail("503", "DELETE .*", 10_000)
    with pytest.raises(DatabaseError):
        neon.databases.reap(NOW, nobody)
    neon.server.faults.clear()
    assert len(neon.databases.reap(NOW, nobody)) == 1
    assert neon.leftovers() == []


def test_a_release_does_not_wait_for_others_branches_to_be_made(neon: NeonWorld) -> None:
    branch = neon.databases.acquire("one", HOUR, NOW, "me")
    with NeonStore(neon.store / "neon" / PROJECT).changes():
        provider(neon.server.url, neon.store, patience=0.1).release(branch.id)
    assert neon.server.left() == [branch.name]
    assert neon.databases.branches() == []
    assert neon.databases.reap(NOW, everyone) == [branch.id]
    assert neon.leftovers() == []


# ---------------------------------------------------------------- several hosts, lost stores


def test_on_one_host_parallel_changes_never_meet(neon: NeonWorld) -> None:
    with ThreadPoolExecutor(5) as pool:
        jobs = [pool.submit(neon.databases.acquire, str(n), HOUR, NOW, "me") for n in range(5)]
    assert len({job.result().url for job in jobs}) == 5
    assert 423 not in [status for *_, status in neon.server.log]


def test_five_hosts_at_once_meet_423_and_get_five_branches(neon: NeonWorld) -> None:
    usual, neon.server.ticks = neon.server.ticks, 60  # the first operation lasts until every host waits for it
    everyone_waits = threading.Barrier(5, lambda: setattr(neon.server, "ticks", usual), timeout=60)
    clocks = [Clock(everyone_waits) for _ in range(5)]
    hosts = [provider(neon.server.url, neon.store.with_name(f"host{n}"), clock) for n, clock in enumerate(clocks)]
    with ThreadPoolExecutor(5) as pool:
        branches = list(pool.map(lambda host: host.acquire("one", HOUR, NOW, "me"), hosts))
    assert len({branch.url for branch in branches}) == 5
    assert len(neon.server.made) == 5
    assert 423 in [status for *_, status in neon.server.log]
    for host, branch in zip(hosts, branches, strict=True):
        assert host.branches() == [branch]
        host.release(branch.id)
    assert neon.server.left() == []


@pytest.mark.parametrize("damage", ["removed", "torn", "other"])
def test_a_branch_whose_record_is_gone_is_found_by_its_name(neon: NeonWorld, damage: str) -> None:
    branch = neon.databases.acquire("one", HOUR, NOW, "me")
    [record] = neon.store.rglob("agentq_b*.json")
    record.unlink() if damage == "removed" else record.write_text('{"name":' if damage == "torn" else "[]")
    assert neon.databases.branches() == []
    assert neon.databases.reap(NOW, everyone) == [branch.id]
    assert neon.leftovers() == []


def test_what_a_killed_writer_left_is_swept(neon: NeonWorld) -> None:
    branch = neon.databases.acquire("one", HOUR, NOW, "me")
    [record] = neon.store.rglob("agentq_b*.json")
    record.with_name(f".{record.name}.tmp").write_text("{")
    assert neon.databases.reap(NOW, everyone) == []
    assert neon.leftovers() == [branch.name, record.name]


def test_a_host_that_made_nothing_asks_nothing(neon: NeonWorld) -> None:
    assert neon.databases.reap(NOW, nobody) == []
    assert neon.databases.branches() == []
    neon.databases.release("agentq_b0123456789ab_01234567_89abcdef")
    assert neon.server.log == []


def test_a_damaged_id_is_an_error(neon: NeonWorld) -> None:
    branch = neon.databases.acquire("one", HOUR, NOW, "me")
    [mark] = neon.store.rglob("id")
    mark.write_text("")
    with pytest.raises(DatabaseError, match="damaged"):
        neon.databases.reap(NOW, nobody)
    with pytest.raises(DatabaseError, match="damaged"):
        neon.databases.release(branch.id)
    assert neon.server.left() == [branch.name]


# ---------------------------------------------------------------- dev moves


def test_while_devs_compute_runs_every_look_is_another_head(neon: NeonWorld) -> None:
    assert neon.databases.warm(2) == 2
    neon.server.dev.active = True
    assert len({neon.databases.head() for _ in range(3)}) == 3
    one, two = (neon.databases.acquire(name, HOUR, NOW, "me") for name in ("one", "two"))
    assert one.generation != two.generation
    assert not one.warm
    assert neon.databases.warm(2) == 0
    assert neon.server.left() == sorted([one.name, two.name])
    assert neon.databases.empty("one", HOUR, NOW, "me").generation == EMPTY


@pytest.mark.parametrize(("since", "pending", "exact"), [(5, "", True), (5, "active", False), (-1, "", False)])
def test_a_head_is_exact_only_where_neon_says_since_when_dev_rests(
    neon: NeonWorld, since: int, pending: str, exact: bool
) -> None:
    neon.server.dev.suspended_at, neon.server.dev.pending = since, pending
    assert (neon.databases.head() == neon.databases.head()) == exact
    assert neon.databases.warm(1) == int(exact)


def test_a_branch_made_while_dev_woke_up_is_of_no_generation_of_before(neon: NeonWorld) -> None:
    before = neon.databases.seal()

    def wake(count: int) -> None:
        if neon.server.made and not neon.server.dev.suspended_at:
            neon.add(neon.url)

    neon.server.watch = wake
    branch = neon.databases.acquire("one", HOUR, NOW, "me")
    neon.server.watch = lambda count: None
    assert neon.count(neon.url) == 1
    assert branch.generation not in (before.id, neon.databases.seal().id)


def test_a_ready_one_that_is_gone_is_no_harm(neon: NeonWorld) -> None:
    assert neon.databases.warm(2) == 2
    first = min(neon.server.branches.values(), key=lambda b: (b.id == DEV, b.name))
    del neon.server.branches[first.id]
    assert neon.databases.acquire("one", HOUR, NOW, "me").warm
    neon.server.branches = {DEV: neon.server.dev}
    assert neon.databases.warm(1) == 1
    assert len(neon.server.left()) == 1


def test_a_claimed_one_gets_the_end_of_its_command(neon: NeonWorld) -> None:
    assert neon.databases.warm(1) == 1
    branch = neon.databases.acquire("one", 5 * DAY, NOW, "me")
    assert branch.warm
    assert end(neon, branch.name) == NOW + 5 * DAY
    neon.server.fail("lost", "PATCH .*")
    neon.databases.warm(1)
    assert neon.databases.acquire("two", HOUR, NOW, "me").warm
    assert len(neon.databases.reap(NOW, nobody)) == 2
    assert neon.leftovers() == []
