"""The ledger: against a model that adds up lists, and rule by rule."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from money_world import World, want

from agentq.core.budget import TYPE_TOKENS, Budgets, Denied, nano
from agentq.core.models import FIVE_HOURS, Bucket
from agentq.core.usage import Price, Usage
from agentq.errors import ConfigError
from agentq.models.ledger import Ledger, Reservation, Want

PRICE = Price(input=4, output=20)
DOLLAR = Usage(output=50_000)  # at PRICE


def reserved(world: World, spec: str = "014", dollars: float = 0.0, **more: object) -> Reservation:
    made = world.ledger.reserve(want(spec, dollars, **more))
    assert isinstance(made, Reservation), made
    return made


def denied(world: World, spec: str = "014", dollars: float = 0.0, **more: object) -> Denied:
    made = world.ledger.reserve(want(spec, dollars, **more))
    assert isinstance(made, Denied), made
    return made


def spend(world: World, made: Reservation, dollars: float, **more: object) -> object:
    return world.ledger.charge(made, Usage(), PRICE, dollars=dollars, **more)  # type: ignore[arg-type]


def test_each_request_is_entered_with_its_tokens_and_price(tmp_path: Path) -> None:
    world = World(tmp_path)
    made = reserved(world)
    usage = Usage(input=1000, output=2000, cache_read=30_000, cache_write=400)
    world.ledger.charge(made, usage, PRICE, model="opus", request="msg_1")
    world.ledger.charge(made, DOLLAR, Price(1, 10), model="haiku", request="msg_2")
    cost = (1000 * 4 + 30_000 * 0.4 + 400 * 5 + 2000 * 20) / 1e6
    by_model = {one.name: one for one in world.ledger.sums("model")}
    assert by_model["opus"].usage == usage and by_model["opus"].dollars == pytest.approx(cost, abs=1e-9)
    assert by_model["haiku"].dollars == 0.5 and by_model["haiku"].requests == 1
    assert [one.name for one in world.ledger.sums("day")] == ["2026-03-02"]
    assert [one.name for one in world.ledger.sums("spec", "repo")] == ["014"]
    assert world.ledger.sums("spec", "another") == [] and world.ledger.total("repo", "x").requests == 0
    total = world.ledger.settle(made)
    assert total == world.ledger.settle(made) == world.ledger.total("repo", "014") and total.requests == 2


def test_the_same_request_counts_once(tmp_path: Path) -> None:
    world = World(tmp_path, Bucket("a", requests_day=10))
    made = reserved(world)
    for _ in range(3):
        left = world.ledger.charge(made, DOLLAR, PRICE, request="msg_1")
    assert world.ledger.total("repo", "014").dollars == 1
    assert [line.in_use for line in world.ledger.lines("repo")] == [1] and left.tokens == float("inf")


def test_every_budget_holds_and_is_named(tmp_path: Path) -> None:
    world = World(
        tmp_path, Bucket("a", dollars_month=5, tokens_5h=1_000_000), Bucket("b", requests_day=3),
        budgets=Budgets(spec_dollars=2, day_dollars=4, type_tokens={}),
    )  # fmt: skip
    one = reserved(world, "014", 1.5)
    assert denied(world, "014", 0.6).line.scope == "spec"
    reserved(world, "015", 2.0)
    short = denied(world, "016", 0.6)
    assert short.line.scope == "day" and short.line.allocated == nano(3.5) and short.frees is None, "work holds it"
    world.ledger.settle(one)
    assert spend(world, reserved(world, "017", 1.9), 1.9).stop is not None  # type: ignore[attr-defined]
    short = denied(world, "018", 0.2)
    assert short.line.scope == "day" and short.reason.startswith("day: $1.90 of $4.00 used, $2.00 held")
    assert denied(world, "019", bucket="b", requests=4).line.unit == "requests"
    made = reserved(world, "020", tokens=2_000_000)
    assert denied(world, "021", tokens=1).line.title == "bucket a 5 h"
    world.ledger.settle(made)


def test_a_limit_of_nothing_denies_even_a_wish_for_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, budgets=Budgets(spec_dollars=1, type_tokens={}))
    made = reserved(world)
    spend(world, made, 1.0)
    assert denied(world).line.available == 0


def test_denied_says_when(tmp_path: Path) -> None:
    buckets = (Bucket("a", dollars_month=5), Bucket("d", requests_day=1, day_zone="America/Los_Angeles"),
               Bucket("w", tokens_5h=50_000))  # fmt: skip
    world = World(tmp_path, *buckets, budgets=Budgets(day_dollars=10, type_tokens={}))
    spend(world, reserved(world), 5)
    assert denied(world).frees == datetime(2026, 4, 1, tzinfo=UTC)
    spend(world, reserved(world, bucket="d"), 0)
    assert denied(world, bucket="d").frees == datetime(2026, 3, 3, 8, tzinfo=UTC)
    spend(world, reserved(world, bucket="d2"), 5)
    assert denied(world, bucket="w").frees == datetime(2026, 3, 3, tzinfo=UTC), "the day of the repository"
    world.clock.go(86_400)
    world.ledger.charge(reserved(world, bucket="w"), Usage(30_000), PRICE, dollars=0)
    first = world.clock.wall
    world.clock.go(3600)
    world.ledger.charge(reserved(world, bucket="w"), Usage(20_000), PRICE, dollars=0)
    five_hours = timedelta(seconds=FIVE_HOURS)
    assert denied(world, bucket="w", tokens=30_000).frees == first + five_hours
    assert denied(world, bucket="w", tokens=30_001).frees == first + five_hours + timedelta(hours=1)


def test_a_run_stops_at_the_tokens_of_its_type(tmp_path: Path) -> None:
    world = World(tmp_path, budgets=Budgets())
    for name, tokens in TYPE_TOKENS.items():
        made = reserved(world, type=name)
        assert made.tokens == tokens
        left = world.ledger.charge(made, Usage(tokens - 1, 0, 10**6, 10**6), PRICE)
        assert left.stop is None and left.tokens == 1, "what the cache holds does not count"
        left = world.ledger.charge(made, Usage(0, 1), PRICE)
        assert left.stop is not None and left.stop.line.scope == "run" and left.tokens == 0
    assert reserved(world, type="scan", tokens=500).tokens == 500
    assert reserved(world, type="scan", tokens=50_000).tokens == 8000
    assert reserved(world, type="other").tokens == 0
    lines = {line.name: line for line in world.ledger.lines("repo") if line.scope == "type"}
    assert (lines["scan"].total, lines["scan"].in_use, lines["scan"].allocated) == (16_500, 8000, 8500)
    assert lines["scan"].limit == "3 running, 8,000 each"


def test_a_run_goes_on_beyond_what_it_reserved_until_nothing_is_left(tmp_path: Path) -> None:
    world = World(tmp_path, budgets=Budgets(spec_dollars=3, type_tokens={}))
    made = reserved(world, dollars=1)
    lefts = [spend(world, made, 0.5) for _ in range(6)]
    assert [left.dollars for left in lefts] == [2.5, 2, 1.5, 1, 0.5, 0]  # type: ignore[attr-defined]
    assert [left.stop is None for left in lefts] == [True] * 5 + [False]  # type: ignore[attr-defined]


def test_what_others_hold_is_not_taken(tmp_path: Path) -> None:
    world = World(tmp_path, budgets=Budgets(day_dollars=3, type_tokens={}))
    mine, other = reserved(world, dollars=1), reserved(world, "015", dollars=1)
    left = [spend(world, mine, 0.5) for _ in range(4)]
    assert [one.stop is None for one in left] == [True, True, True, False]  # type: ignore[attr-defined]
    assert spend(world, other, 0.5).stop is None  # type: ignore[attr-defined]
    world.ledger.settle(other)
    assert spend(world, mine, 0.1).dollars == pytest.approx(0.4)  # type: ignore[attr-defined]


def test_a_run_stops_before_a_request_that_would_not_fit(tmp_path: Path) -> None:
    world = World(tmp_path, budgets=Budgets(spec_dollars=1, type_tokens={}))
    made = reserved(world, dollars=0.1)
    assert spend(world, made, 0.6).stop is not None, "another one as dear would pass the limit"  # type: ignore[attr-defined]
    world.ledger.settle(made)
    known = reserved(world, "015", step=0.3)
    assert spend(world, known, 0.1).stop is None  # type: ignore[attr-defined]
    assert spend(world, known, 0.65).stop is not None  # type: ignore[attr-defined]


def test_the_dead_hold_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, budgets=Budgets(day_dollars=3, type_tokens={}))
    lost = reserved(world, "015", 2.5, owner="dies")
    spend(world, lost, 0.5)
    assert denied(world, dollars=1).line.allocated == nano(2.0)
    world.dead.add("dies")
    made = reserved(world, dollars=2.5)
    world.ledger.settle(made)
    mine, other = reserved(world, dollars=1), reserved(world, "016", 1.5, owner="dies too")
    world.dead.add("dies too")
    assert spend(world, mine, 1).stop is None, "a charge sees it too"  # type: ignore[attr-defined]
    assert world.ledger.release_dead() == 0
    assert spend(world, other, 0.2).dollars == pytest.approx(0.3), "what it used counts"  # type: ignore[attr-defined]
    assert world.ledger.total("repo", "016").dollars == pytest.approx(0.2)


def test_repositories_have_budgets_of_their_own_and_share_the_buckets(tmp_path: Path) -> None:
    world = World(tmp_path, Bucket("a", dollars_month=3), budgets=Budgets(day_dollars=2, type_tokens={}))
    spend(world, reserved(world), 2)
    elsewhere = Ledger(world.book, world.budgets, {"a": Bucket("a", dollars_month=3)}, world.alive)
    other = Want("other", "014", "scan", "test", "a", "tier", "me", dollars=2)
    answer = elsewhere.reserve(other)
    assert isinstance(answer, Denied) and answer.line.title == "bucket a month"
    assert isinstance(
        elsewhere.reserve(Want("other", "014", "scan", "test", "a", "t", "me", dollars=1)), Reservation
    )


def test_a_zone_that_is_none_is_an_error_of_the_settings(tmp_path: Path) -> None:
    world = World(tmp_path, Bucket("a", requests_day=5, day_zone="Mars/Olympus"))
    with pytest.raises(ConfigError, match="Mars/Olympus"):
        world.ledger.reserve(want())


def test_a_clock_that_is_set_frees_no_day_early_and_holds_none_for_ever(tmp_path: Path) -> None:
    world = World(tmp_path, budgets=Budgets(day_dollars=1, type_tokens={}))
    spend(world, reserved(world), 1)
    for seconds in (-3600, -11 * 3600, -5 * 86_400):
        world.clock.set(seconds)
        assert denied(world).line.scope == "day"
    world.clock.go(36 * 3600)
    spend(world, reserved(world), 1)
    assert denied(world).line.scope == "day"
    for days in (400, -400):  # a wrong year, and back
        world.clock.set(days * 86_400)
        assert denied(world).line.scope == "day"
        world.clock.go(24 * 3600)
        spend(world, reserved(world), 1)


def test_a_restart_and_a_clock_set_back_do_not_empty_a_window(tmp_path: Path) -> None:
    world = World(tmp_path, Bucket("a", tokens_5h=1000))
    world.ledger.charge(reserved(world), Usage(1000), PRICE)
    world.clock.go(3600)
    assert denied(world).frees == world.clock.wall + timedelta(hours=4)
    world.restart(-86_400)
    assert timedelta(hours=3.9) < denied(world).frees - world.clock.wall <= timedelta(hours=5)  # type: ignore[operator]
    world.clock.go(5 * 3600)
    reserved(world)


# ---------------------------------------------------------------- against a model

SPECS, BUCKETS, OWNERS = ("s1", "s2"), ("a", "b"), ("p", "q")
CENTS = st.integers(0, 60)
OPS = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.sampled_from(SPECS), st.sampled_from(BUCKETS), st.sampled_from(OWNERS), CENTS),
        st.tuples(st.just("charge"), st.integers(0, 9), CENTS, st.integers(0, 400), st.integers(0, 30)),
        st.tuples(st.just("settle"), st.integers(0, 9)),
        st.tuples(st.just("die"), st.sampled_from(OWNERS)),
        st.tuples(st.just("go"), st.sampled_from([600, 3600, 5 * 3600, 86_400])),
    ),
    max_size=40,
)  # fmt: skip
SPEC, DAY, MONTH, TOKENS = 200, 300, 400, 1000  # cents, and tokens in five hours


class Model:
    """The same with lists: charges as they were, reservations as they are."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 2, 12, tzinfo=UTC)
        self.charges: list[tuple[datetime, str, str, int, int]] = []  # when, spec, bucket, cents, tokens
        self.open: dict[int, dict[str, object]] = {}

    def free(self, spec: str, bucket: str) -> int:
        """Cents that are neither used nor held, in the tightest of the budgets."""

        def left(total: int, used: int, **where: str) -> int:
            held = sum(int(one["hold"]) for one in self.open.values()  # type: ignore[call-overload]
                       if all(one[key] == value for key, value in where.items()))  # fmt: skip
            return max(0, total - used - held)

        day = [c for at, _, _, c, _ in self.charges if at.date() == self.now.date()]
        month = [c for at, _, b, c, _ in self.charges if b == bucket and at.month == self.now.month]
        mine = [c for _, s, _, c, _ in self.charges if s == spec]
        return min(left(SPEC, sum(mine), spec=spec), left(DAY, sum(day)), left(MONTH, sum(month), bucket=bucket))

    def tokens(self, bucket: str) -> int:
        since = self.now - timedelta(hours=5)
        return sum(t for at, _, b, _, t in self.charges if b == bucket and at > since)


@given(OPS)
@settings(max_examples=120, deadline=None)
def test_any_order_of_events_gives_what_lists_give(
    tmp_path_factory: pytest.TempPathFactory, ops: list[tuple[object, ...]]
) -> None:
    buckets = [Bucket(name, dollars_month=MONTH / 100, tokens_5h=TOKENS) for name in BUCKETS]
    budgets = Budgets(spec_dollars=SPEC / 100, day_dollars=DAY / 100, type_tokens={})
    world, model = World(tmp_path_factory.mktemp("ledger"), *buckets, budgets=budgets), Model()
    made: dict[int, Reservation] = {}
    generation = 0
    with world.book:
        for op in ops:
            if op[0] == "reserve":
                _, spec, bucket, owner, cents = op
                word = f"{owner}{generation}"
                answer = world.ledger.reserve(want(spec, cents / 100, bucket=bucket, owner=word))  # type: ignore[arg-type,operator]
                fits = model.free(spec, bucket) >= max(cents, 1) and model.tokens(bucket) < TOKENS  # type: ignore[arg-type,type-var]
                assert isinstance(answer, Reservation) == fits
                if isinstance(answer, Reservation):
                    made[answer.id] = answer
                    model.open[answer.id] = {
                        "spec": spec,
                        "bucket": bucket,
                        "owner": word,
                        "hold": cents,
                        "step": 0,
                    }
            elif op[0] == "charge" and made:
                chosen = made[sorted(made)[op[1] % len(made)]]  # type: ignore[operator]
                _charge(world, model, chosen, int(op[2]), int(op[3]), int(op[4]))  # type: ignore[call-overload]
            elif op[0] == "settle" and made:
                chosen = made[sorted(made)[op[1] % len(made)]]  # type: ignore[operator]
                world.ledger.settle(chosen)
                model.open.pop(chosen.id, None)
            elif op[0] == "die":
                word = f"{op[1]}{generation}"
                world.dead.add(word)
                generation += 1
                model.open = {key: one for key, one in model.open.items() if one["owner"] != word}
                world.ledger.release_dead()
            elif op[0] == "go":
                world.clock.go(op[1])  # type: ignore[arg-type]
                model.now = world.clock.wall
        spent = sum(cents for *_, cents, _ in model.charges)
        assert round(sum(one.dollars for one in world.ledger.sums("spec")) * 100) == spent
        day = next(line for line in world.ledger.lines("repo") if line.scope == "day")
        assert day.in_use == nano(
            sum(c for at, _, _, c, _ in model.charges if at.date() == model.now.date()) / 100
        )
        assert day.allocated == nano(sum(int(one["hold"]) for one in model.open.values()) / 100)  # type: ignore[call-overload]


def _charge(world: World, model: Model, chosen: Reservation, cents: int, tokens: int, cached: int) -> None:
    spec, bucket = chosen.want.spec, chosen.want.bucket
    left = world.ledger.charge(chosen, Usage(tokens, 0, cached), PRICE, dollars=cents / 100)
    model.charges.append((model.now, spec, bucket, cents, tokens))
    one = model.open.get(chosen.id, {"hold": 0, "step": 0})
    one["step"] = max(int(one["step"]), cents)  # type: ignore[call-overload]
    one["hold"] = max(0, int(one["hold"]) - cents)  # type: ignore[call-overload]
    free = model.free(spec, bucket)
    assert round(left.dollars * 100) == one["hold"] + free  # type: ignore[operator]
    need = int(one["step"]) if chosen.id in model.open else 0  # type: ignore[call-overload]
    room = one["hold"] + free >= max(need, 1) and model.tokens(bucket) < TOKENS  # type: ignore[operator]
    assert (left.stop is None) == room
    if one["hold"] < need <= one["hold"] + free:  # type: ignore[operator]
        one["hold"] = need
