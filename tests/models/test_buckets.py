"""Buckets: who may send now, against a count of every window; sleep, windows, servers."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from money_world import BEGIN, World, want

from agentq.core.models import Bucket
from agentq.core.pace import Window
from agentq.core.usage import Price, Usage
from agentq.models.buckets import Asleep, Go, Wait
from agentq.models.ledger import Reservation
from agentq.models.seats import LOST, Seat

PRICE = Price(4, 20)


def seat(world: World, bucket: str = "a", owner: str = "me", tokens: int = 0) -> Seat:
    answer = world.buckets.admit(bucket, owner, tokens)
    assert isinstance(answer, Go), answer
    return answer.seat


def wait(world: World, bucket: str = "a", tokens: int = 0) -> float:
    answer = world.buckets.admit(bucket, "me", tokens)
    assert isinstance(answer, Wait), answer
    return answer.seconds


def asleep(world: World, bucket: str = "a") -> Asleep:
    answer = world.buckets.admit(bucket, "me")
    assert isinstance(answer, Asleep), answer
    return answer


def done(world: World, bucket: str = "a", tokens: int = 0) -> None:
    """A request, admitted and answered at once."""
    world.buckets.leave(seat(world, bucket, tokens=tokens))


def test_a_minute_slides(tmp_path: Path) -> None:
    world = World(tmp_path, Bucket("a", requests_minute=2))
    done(world)
    world.clock.go(20)
    done(world)
    assert wait(world) == pytest.approx(40)
    world.clock.go(40)
    done(world)
    assert wait(world) == pytest.approx(20)


def test_a_request_counts_until_a_minute_after_the_server_is_known_to_have_it(tmp_path: Path) -> None:
    world = World(tmp_path, Bucket("a", requests_minute=2))
    slow, lost = seat(world), seat(world)
    world.clock.go(100)
    assert wait(world) == 1, "nobody knows when they arrive"
    world.buckets.arrived(slow)
    world.buckets.leave(lost, "network", sent=False)
    next_one = seat(world)
    assert wait(world) == pytest.approx(60)
    world.buckets.leave(next_one)
    world.clock.go(59)
    assert wait(world) == pytest.approx(1)
    world.clock.go(1)
    world.buckets.leave(slow)
    done(world)
    done(world)
    assert wait(world) == pytest.approx(60), "leaving a request that had arrived counts nothing more"


def test_a_request_that_nobody_speaks_of_again_holds_nothing_for_ever(tmp_path: Path) -> None:
    world = World(tmp_path, Bucket("a", requests_minute=1))
    seat(world)
    world.clock.go(LOST + 1)
    assert wait(world) == pytest.approx(60)
    world.clock.go(60)
    seat(world)


def test_tokens_of_a_minute_count_what_is_expected_and_then_what_was(tmp_path: Path) -> None:
    world = World(tmp_path, Bucket("a", tokens_minute=1000))
    made = world.ledger.reserve(want())
    assert isinstance(made, Reservation)
    one = seat(world, tokens=700)
    assert wait(world, tokens=400) == 1
    other = seat(world, tokens=300)
    world.buckets.leave(other)
    world.ledger.charge(made, Usage(100, 100, 50_000), PRICE, seat=one)
    world.buckets.leave(one)
    seat(world, tokens=800)
    world.clock.go(61)
    assert wait(world, tokens=5000) == 1, "one larger than the limit goes alone"


def test_a_request_larger_than_the_limit_goes_alone(tmp_path: Path) -> None:
    world = World(tmp_path, Bucket("a", tokens_minute=1000))
    alone = seat(world, tokens=5000)
    assert wait(world, tokens=1) == 1
    world.buckets.leave(alone)
    seat(world, tokens=5000)


def test_who_waits_first_goes_first_unless_it_does_not_come_back(tmp_path: Path) -> None:
    world = World(tmp_path, Bucket("a", requests_minute=1))

    def ask(who: str) -> Go | Wait | Asleep:
        return world.buckets.admit("a", "me", who=who)

    done(world)
    world.clock.go(59.5)
    first = ask("first")
    assert isinstance(first, Wait) and isinstance(ask("second"), Wait)
    world.clock.go(first.seconds)
    assert isinstance(ask("second"), Wait) and isinstance(ask("newcomer"), Wait), "there is room for one"
    go = ask("first")
    assert isinstance(go, Go)
    world.buckets.leave(go.seat)
    assert isinstance(ask("first"), Wait), "at the end of the line"
    world.clock.go(61)
    assert isinstance(ask("late"), Go), "nobody came back in time"


def test_a_newcomer_may_take_what_those_before_it_leave(tmp_path: Path) -> None:
    world = World(tmp_path, Bucket("a", requests_minute=3))
    filler = [seat(world) for _ in range(3)]
    assert isinstance(world.buckets.admit("a", "me", who="first"), Wait)
    for one in filler:
        world.buckets.leave(one, sent=False)
    assert isinstance(world.buckets.admit("a", "me", who="other"), Go)
    assert isinstance(world.buckets.admit("a", "me", who="another"), Go)
    assert isinstance(world.buckets.admit("a", "me", who="one more"), Wait), "the third place is the first's"
    assert isinstance(world.buckets.admit("a", "me", who="first"), Go)


def test_a_charge_counts_its_request_once(tmp_path: Path) -> None:
    world = World(tmp_path, Bucket("a", requests_minute=100, requests_day=1000))
    made = world.ledger.reserve(want())
    assert isinstance(made, Reservation)

    def counted() -> int:
        return next(line.in_use for line in world.ledger.lines("repo") if line.unit == "requests")

    one = seat(world)
    world.ledger.charge(made, Usage(1), PRICE, seat=one)
    world.buckets.leave(one)
    assert counted() == 1, "one request, one seat"
    run = seat(world)
    world.buckets.arrived(run)
    for _ in range(3):
        world.ledger.charge(made, Usage(1), PRICE, seat=run)
    world.buckets.leave(run)
    assert counted() == 4, "a run of three requests in one seat"
    world.ledger.charge(made, Usage(1), PRICE)
    assert counted() == 5, "without a seat"
    assert world.ledger.settle(made).requests == 5


ACTS = st.lists(
    st.tuples(st.sampled_from(["admit", "admit", "arrived", "leave", "unsent", "go"]), st.integers(0, 40)),
    max_size=60,
)


@given(ACTS)
@settings(max_examples=120, deadline=None)
def test_no_window_of_a_server_ever_holds_more_than_the_limit(
    tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[str, int]]
) -> None:
    """Wherever between admission and arrival's notice a server counts it: both extremes of every request are tried
    against every window, and a request is refused only if the limit could be passed."""
    limit, world = 3, World(tmp_path_factory.mktemp("bucket"), Bucket("a", requests_minute=3))
    open_seats: dict[int, Seat] = {}
    life: dict[int, tuple[float, float]] = {}  # admitted, known to have arrived
    line: dict[str, float] = {}  # who waits, in their order, until when
    with world.book:
        for kind, amount in acts:
            now = world.clock.mono
            if kind == "go":
                world.clock.go(amount / 4)
            elif kind == "admit":
                who = f"w{amount % 8}"
                line = {one: due for one, due in line.items() if one == who or due >= now - 1}
                before = list(line).index(who) if who in line else len(line)
                counted = sum(known > now - 60 for _, known in life.values())
                answer = world.buckets.admit("a", who)
                assert isinstance(answer, Go) == (counted + before < limit)
                if isinstance(answer, Go):
                    line.pop(who, None)
                    open_seats[answer.seat.id] = answer.seat
                    life[answer.seat.id] = (now, float("inf"))
                else:
                    assert isinstance(answer, Wait)
                    line[who] = now + answer.seconds
            elif open_seats:
                number = sorted(open_seats)[amount % len(open_seats)]
                if kind == "arrived":
                    world.buckets.arrived(open_seats[number])
                    life[number] = (life[number][0], min(life[number][1], now))
                elif kind == "leave":
                    world.buckets.leave(open_seats.pop(number))
                    life[number] = (life[number][0], min(life[number][1], now))
                elif kind == "unsent" and life[number][1] == float("inf"):
                    world.buckets.leave(open_seats.pop(number), "network", sent=False)
                    del life[number]
    for pick in (0, 1):
        arrivals = sorted(min(one[pick], world.clock.mono) for one in life.values())
        for end in arrivals:
            assert sum(end - 60 < at <= end for at in arrivals) <= limit


def test_the_day_is_the_providers(tmp_path: Path) -> None:
    """10,000 a day that begin at midnight in California, over the night in which clocks change."""
    world = World(tmp_path, Bucket("g", requests_day=2, day_zone="America/Los_Angeles"))
    world.clock.set((datetime(2026, 3, 8, 7, 59, 50, tzinfo=UTC) - BEGIN).total_seconds())
    done(world, "g")
    done(world, "g")
    assert asleep(world, "g").until == datetime(2026, 3, 8, 8, tzinfo=UTC)
    world.clock.go(10)
    done(world, "g")
    done(world, "g")
    assert asleep(world, "g").until == datetime(2026, 3, 9, 7, tzinfo=UTC), "a day of 23 hours"
    world.clock.set(-3600)
    assert asleep(world, "g").until == datetime(2026, 3, 9, 6, tzinfo=UTC), "yesterday does not come again"
    world.clock.go(23 * 3600)
    done(world, "g")


def test_own_windows_of_tokens_and_dollars_put_to_sleep(tmp_path: Path) -> None:
    world = World(tmp_path, Bucket("a", tokens_5h=1000), Bucket("m", dollars_month=1), Bucket("w", tokens_7d=500))
    for bucket in "amw":
        made = world.ledger.reserve(want(bucket=bucket))
        assert isinstance(made, Reservation)
        world.ledger.charge(made, Usage(1000), PRICE, dollars=1)
        world.ledger.settle(made)
    assert asleep(world).until == BEGIN + timedelta(hours=5) and "5 h" in asleep(world).reason
    assert asleep(world, "m").until == datetime(2026, 4, 1, tzinfo=UTC)
    assert asleep(world, "w").until == BEGIN + timedelta(days=7)
    world.clock.go(5 * 3600)
    done(world)


def test_what_is_under_way_is_waited_for_and_not_slept_for(tmp_path: Path) -> None:
    world = World(tmp_path, Bucket("a", requests_day=1, tokens_5h=1000))
    one = seat(world, tokens=800)
    assert wait(world) == 1
    world.buckets.leave(one, sent=False)
    done(world)
    assert asleep(world).until == datetime(2026, 3, 3, tzinfo=UTC)


# ---------------------------------------------------------------- sleep


@pytest.mark.parametrize("cause", ["auth", "billing"])
def test_a_refused_key_sleeps_until_a_person_wakes_it(tmp_path: Path, cause: str) -> None:
    world = World(tmp_path)
    world.buckets.leave(seat(world), cause)
    world.clock.go(1e8)
    assert asleep(world).until is None and cause in asleep(world).reason
    assert [one.bucket for one in world.buckets.sleeping()] == ["a"]
    seat(world, "b")
    assert world.buckets.wake("a") and not world.buckets.wake("a")
    seat(world)


def test_a_usage_limit_sleeps_until_its_reset_and_wakes_by_itself(tmp_path: Path) -> None:
    world = World(tmp_path)
    reset = BEGIN + timedelta(hours=3)
    world.buckets.leave(seat(world), "usage-limit", resets_at=reset.timestamp())
    assert asleep(world).until == reset
    world.buckets.sleep("a", BEGIN + timedelta(hours=1), "shorter")
    assert asleep(world).until == reset, "the longer one holds"
    world.clock.go(3 * 3600)
    seat(world)
    world.buckets.leave(seat(world), "usage-limit", resets_at=BEGIN.timestamp())
    assert asleep(world).until == world.clock.wall + timedelta(minutes=1), "a reset in the past"
    world.clock.go(60)
    world.buckets.leave(seat(world), "usage-limit")
    assert asleep(world).until == world.clock.wall + timedelta(hours=1), "unknown: an hour"


@pytest.mark.parametrize("seconds", [-86_400, -3600, 60])
def test_a_clock_that_is_set_neither_ends_a_sleep_early_nor_prolongs_it(tmp_path: Path, seconds: float) -> None:
    world = World(tmp_path)
    world.buckets.sleep("a", BEGIN + timedelta(hours=2), "limit")
    world.clock.set(seconds)
    world.clock.go(3600)
    asleep(world)
    world.clock.go(3600)
    seat(world)


def test_a_clock_that_was_behind_by_a_year_ends_the_sleep_when_it_is_right(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.buckets.sleep("a", BEGIN + timedelta(days=365), "limit")
    world.clock.set(365 * 86_400)
    seat(world)


# ---------------------------------------------------------------- windows


def test_what_a_provider_told_is_there_for_all_and_ends_with_its_reset(tmp_path: Path) -> None:
    world = World(tmp_path, Bucket("a", tokens_7d=100_000))
    reset = (BEGIN + timedelta(hours=2)).timestamp()
    world.buckets.note_windows("a", [Window("five_hour", 0.9, reset, "allowed"), Window("seven_day", 0.3)])
    world.buckets.note_windows("a", [Window("five_hour", 0.8, reset, "allowed_warning")])
    assert world.buckets.windows("a")[0] == Window("five_hour", 0.8, reset, "allowed_warning")
    assert world.buckets.decide("a").kind == "pace"
    world.clock.set(-7200)
    world.clock.go(7200)
    assert world.buckets.windows("a")[0] == Window("five_hour", 0.0)
    assert world.buckets.decide("a").kind == "normal"
    world.clock.go(8 * 86_400)
    assert [one.utilization for one in world.buckets.windows("a")] == [0, 0], "old words without a reset end too"


def test_a_key_without_windows_has_those_of_the_ledger(tmp_path: Path) -> None:
    world = World(tmp_path, Bucket("a", tokens_5h=1000, tokens_7d=1000))
    made = world.ledger.reserve(want())
    assert isinstance(made, Reservation)
    assert [one.utilization for one in world.buckets.windows("a")] == [0, 0]
    world.ledger.charge(made, Usage(500, 0, 90_000), PRICE)
    five, seven = world.buckets.windows("a")
    assert five == Window("five_hour", 0.5, (BEGIN + timedelta(hours=5)).timestamp())
    assert seven.name == "seven_day" and world.buckets.decide("a").kind == "overflow"
    world.ledger.charge(made, Usage(300), PRICE)
    assert world.buckets.decide("a").kind == "pace"


def test_starts_of_all_processes_keep_their_distance(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert world.buckets.turn("a", 100) == 0
    world.clock.go(30)
    assert world.buckets.turn("a", 100) == pytest.approx(70)
    assert world.buckets.turn("b", 100) == 0
    world.clock.set(-86_400)
    world.clock.go(70)
    assert world.buckets.turn("a", 100) == 0 and world.buckets.turn("a", 100) == 100


# ---------------------------------------------------------------- servers

TWO = Bucket("s", servers=("http://one", "http://two"))
THREE = Bucket("s", servers=("http://one", "http://two", "http://three"))


def test_the_least_busy_server_is_taken_in_turn(tmp_path: Path) -> None:
    world = World(tmp_path, THREE)
    seats = []
    for _ in range(6):
        seats.append(seat(world, "s"))
        world.clock.go(1)
    assert [one.server[7:] for one in seats] == ["one", "two", "three"] * 2
    assert world.buckets.loads("s") == {"http://one": 2, "http://two": 2, "http://three": 2}
    world.buckets.leave(seats[1])
    assert seat(world, "s").server == "http://two"


def test_a_sick_server_is_left_out_for_longer_and_longer(tmp_path: Path) -> None:
    world = World(tmp_path, TWO)
    one = seat(world, "s")
    world.buckets.leave(one, "overloaded")
    assert {seat(world, "s").server for _ in range(4)} == {"http://two"}
    world.clock.go(31)
    back = seat(world, "s")
    assert back.server == "http://one", "less busy"
    world.buckets.leave(back, "network")
    world.clock.go(31)
    assert seat(world, "s").server == "http://two", "twice as long"
    world.clock.go(30)
    back = seat(world, "s")
    assert back.server == "http://one"
    world.buckets.leave(back)
    assert seat(world, "s").server == "http://one"


def test_what_is_not_the_servers_fault_does_not_make_it_sick(tmp_path: Path) -> None:
    world = World(tmp_path, TWO)
    for cause in ("request", "context", "turns", "budget", "quality", "rate-limit"):
        world.buckets.leave(seat(world, "s"), cause)
    assert {seat(world, "s").server for _ in range(2)} == set(TWO.servers)


def test_where_all_are_sick_the_first_to_recover_is_taken(tmp_path: Path) -> None:
    world = World(tmp_path, TWO)
    for _ in range(2):
        world.buckets.leave(seat(world, "s"), "network")
        world.clock.go(1)
    assert seat(world, "s").server == "http://one"


def test_what_the_dead_expected_is_free_as_soon_as_it_is_in_the_way(tmp_path: Path) -> None:
    world = World(tmp_path, Bucket("a", tokens_minute=1000))
    seat(world, tokens=900, owner="dies")
    assert wait(world, tokens=500)
    world.dead.add("dies")
    seat(world, tokens=500)


def test_seats_of_the_dead_are_free_and_their_requests_count(tmp_path: Path) -> None:
    world = World(tmp_path, Bucket("s", servers=TWO.servers, requests_minute=2))
    seat(world, "s", "dies")
    seat(world, "s", "dies")
    world.dead.add("dies")
    world.clock.go(10)
    assert world.buckets.loads("s") == {}
    assert wait(world, "s") == pytest.approx(60), "nobody knows whether they were sent"
    world.clock.go(60)
    seat(world, "s")
