"""Breakers: a table of the rules, and any order of events against the plain words of the rules."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentq.core import breaker
from agentq.core.breaker import COUNTS, SLEEPS, Breaker, Pass, Rules
from agentq.drivers.base import Cause

RULES = Rules(failures=2, cooldown=10, longest=35, probe=5)
NEUTRAL = ["request", "context", "turns", "budget", "auth", "billing", "usage-limit"]


def always(_who: str) -> bool:
    return True


def enter(one: Breaker, now: float, who: str = "me", alive: object = None) -> tuple[Breaker, Pass | None]:
    return breaker.enter(one, who, now, RULES, alive or always)  # type: ignore[arg-type]


def passed(one: Breaker, now: float) -> tuple[Breaker, Pass]:
    after, given = enter(one, now)
    assert given is not None
    return after, given


def fail(one: Breaker, now: float, cause: str = "network", retry_after: float = 0) -> Breaker:
    one, given = passed(one, now)
    return breaker.leave(one, given, cause, now, RULES, retry_after)


def opened(now: float = 0) -> Breaker:
    return fail(fail(Breaker(), now), now)


def test_every_cause_of_a_driver_has_one_meaning() -> None:
    causes = set(Cause.__args__)  # type: ignore[attr-defined]
    assert COUNTS - {"quality"} <= causes and causes >= SLEEPS and not COUNTS & SLEEPS
    assert causes - COUNTS - SLEEPS == {"", "request", "context", "turns", "budget"}


@pytest.mark.parametrize("cause", sorted(COUNTS))
def test_two_consecutive_failures_open_it(cause: str) -> None:
    one = fail(Breaker(), 1, cause)
    assert (one.state, one.failures) == ("closed", 1)
    two = fail(one, 2, cause)
    assert (two.state, two.failures, two.since, two.next_at, two.cause) == ("open", 2, 2, 12, cause)
    assert enter(two, 11.9)[1] is None


@pytest.mark.parametrize("cause", NEUTRAL)
def test_what_is_not_the_tiers_fault_counts_for_nothing(cause: str) -> None:
    one = fail(Breaker(), 1)
    assert fail(one, 2, cause) == one, "neither a failure nor a success"
    assert fail(Breaker(), 1, cause) == Breaker()


def test_an_answer_in_between_starts_the_count_anew() -> None:
    one = fail(fail(fail(Breaker(), 1), 2, ""), 3)
    assert (one.state, one.failures) == ("closed", 1)


def test_one_probe_then_closed_or_open_for_twice_as_long() -> None:
    one, probe = passed(opened(), 10)
    assert probe.probe and one.state == "half-open"
    assert enter(one, 10)[1] is None, "a second probe"
    assert breaker.leave(one, probe, "", 11, RULES) == Breaker(since=11, turn=one.turn + 1)
    again = breaker.leave(one, probe, "overloaded", 11, RULES)
    assert (again.state, again.next_at) == ("open", 31)
    one, probe = passed(again, 31)
    assert breaker.leave(one, probe, "overloaded", 31, RULES).next_at == 31 + RULES.longest


def test_a_probe_that_tells_nothing_makes_room_for_the_next() -> None:
    one, probe = passed(opened(), 10)
    free = breaker.leave(one, probe, "request", 11, RULES)
    assert free.state == "half-open"
    one, other = passed(free, 11)
    assert other.probe and breaker.leave(one, other, "", 12, RULES).state == "closed"


def test_a_prober_that_died_or_takes_too_long_is_replaced_and_not_heard() -> None:
    one, probe = passed(opened(), 10)
    assert enter(one, 14.9)[1] is None
    late, second = passed(one, 15)
    assert second.probe and breaker.leave(late, probe, "", 16, RULES) == late
    dead, third = enter(one, 10.1, "other", lambda who: who == "other")
    assert third is not None and third.probe and dead.prober == "other"


def test_answers_from_before_the_last_change_are_not_heard() -> None:
    closed = Breaker()
    closed, early = passed(closed, 0)
    one = fail(fail(closed, 1), 1)
    assert breaker.leave(one, early, "", 2, RULES) == one, "a late success does not close it"
    assert breaker.leave(one, early, "network", 2, RULES) == one, "a late failure does not prolong it"
    one, probe = passed(one, 11)
    one = breaker.leave(one, probe, "", 12, RULES)
    assert breaker.leave(one, early, "network", 13, RULES).failures == 0


def test_a_server_that_says_when_is_waited_for_within_bounds() -> None:
    assert fail(fail(Breaker(), 0), 0, "rate-limit", 20).next_at == 20
    assert fail(fail(Breaker(), 0), 0, "rate-limit", 1e9).next_at == RULES.longest
    assert fail(fail(Breaker(), 0), 0, "rate-limit", 3).next_at == RULES.cooldown


@dataclass
class Plain:
    """The rules in plain words: a list of what happened, and what follows from it."""

    state: str = "closed"
    streak: int = 0
    probes_failed: int = 0
    shut_until: float = 0
    probing: set[int] = field(default_factory=set)  # passes of the probe that counts
    valid: set[int] = field(default_factory=set)  # passes that are heard


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["enter", "enter", "leave", "wait", "die"]),
        st.sampled_from(["", "", "network", "rate-limit", "quality", "request", "auth"]),
        st.integers(0, 30),
    ),
    max_size=60,
)


@given(EVENTS)
@settings(max_examples=400, deadline=None)
def test_any_order_of_events_follows_the_plain_rules(events: list[tuple[str, str, int]]) -> None:
    one, plain, now = Breaker(), Plain(), 0.0
    passes: dict[int, Pass] = {}
    dead: set[str] = set()
    number = 0
    for kind, cause, amount in events:
        if kind == "wait":
            now += amount
        elif kind == "die":
            dead.add(one.prober or "nobody")
        elif kind == "enter":
            number += 1
            probe_lost = any(f"w{n}" in dead for n in plain.probing)
            free = plain.state == "closed" or now >= plain.shut_until or probe_lost
            one, given_pass = breaker.enter(one, f"w{number}", now, RULES, lambda who: who not in dead)
            assert (given_pass is not None) == free
            if given_pass is not None:
                passes[number] = given_pass
                assert given_pass.probe == (plain.state != "closed")
                if plain.state != "closed":
                    plain.state, plain.probing, plain.valid = "half-open", {number}, {number}
                    plain.shut_until = now + RULES.probe
                else:
                    plain.valid.add(number)
        elif passes:
            chosen = sorted(passes)[amount % len(passes)]
            one = breaker.leave(one, passes.pop(chosen), cause, now, RULES)
            if chosen in plain.valid:
                plain.valid.discard(chosen)
                _told(plain, cause, now)
        assert one.state == plain.state
        if one.state == "closed":
            assert one.failures == plain.streak < RULES.failures
        else:
            assert one.next_at == plain.shut_until


def _told(plain: Plain, cause: str, now: float) -> None:
    if plain.state == "closed":
        plain.streak = 0 if not cause else plain.streak + (cause in COUNTS)
        if plain.streak >= RULES.failures:
            plain.state, plain.valid, plain.probes_failed = "open", set(), 0
            plain.shut_until = now + RULES.cooldown
    elif not cause:
        plain.state, plain.streak, plain.valid, plain.probing = "closed", 0, set(), set()
    elif cause in COUNTS:
        plain.probes_failed += 1
        plain.state, plain.valid, plain.probing = "open", set(), set()
        plain.shut_until = now + min(RULES.cooldown * 2**plain.probes_failed, RULES.longest)
    else:
        plain.shut_until, plain.probing = now, set()
