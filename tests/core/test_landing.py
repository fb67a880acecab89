"""What the lane decides: a table, and whole lanes played with random bad specs, flakes and orders of events."""

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentq.core import landing
from agentq.core.landing import Eject, Freeze, Land, Link, Seen, View, Wait, batch_size, decide

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from bench import lane as bench  # noqa: E402

GREEN, RED, TWICE = Seen(passed=1), Seen(failed=1, first_failed=5), Seen(failed=2, first_failed=5)
TRUNK_RED = Seen(failed=2, first_failed=6)
FAILS_NOW = GREEN.heard("failed", 7).heard("failed", 8)
FLAKED = GREEN.heard("failed", 2).heard("passed", 3)
STUCK = Seen(broken=3)


def tree(number: int) -> str:
    """The tree of the first `number` specs on trunk; `-number` those of them without the first."""
    return f"t{number}"


def view(count: int, seen: Mapping[str, Seen], without: bool = False, **more: object) -> View:
    chain = tuple(Link(f"s{n}", tree(n)) for n in range(1, count + 1))
    others = tuple(Link(f"s{n}", tree(-n)) for n in range(2, count + 1)) if without else ()
    return View(tree(0), chain, {tree(0): GREEN, **seen}, without=others, **more)  # type: ignore[arg-type]


TABLE = [
    # specs, results, what else, the trees to test or the decision
    ("nothing waits", view(0, {}), Wait()),
    ("nothing waits on a red trunk", view(0, {"t0": TRUNK_RED}), Wait()),
    ("the top of the batch", view(8, {}, rate=0.97), ["t8"]),
    ("as many as the rate allows", view(8, {}, rate=0.9), ["t6"]),
    ("as many as there are", view(3, {}, rate=0.97), ["t3"]),
    ("as many as one run may land", view(8, {}, rate=0.97, most=4), ["t4"]),
    ("the next batch is worth it", view(20, {}, rate=0.97, slots=3), ["t8", "t16"]),
    ("and the one after it", view(30, {}, rate=0.99, slots=3), ["t8", "t16", "t24"]),
    ("no further than the lane", view(10, {}, rate=0.99, slots=3), ["t8", "t10"]),
    ("no further than the slots", view(30, {}, rate=0.99, slots=2), ["t8", "t16"]),
    ("the next batch is not worth it", view(20, {}, rate=0.9, slots=4), ["t6"]),
    ("what runs is kept though the lane grew", view(5, {}, running=frozenset({"t3"})), ["t3"]),
    ("and the next stands on it", view(9, {}, rate=0.97, slots=2, running=frozenset({"t3"})), ["t3", "t9"]),
    ("what runs is kept though fewer would do", view(8, {}, rate=0.8, running=frozenset({"t6"})), ["t6"]),
    ("green", view(4, {"t4": GREEN}), Land(4)),
    ("a green part", view(4, {"t2": GREEN}), Land(2)),
    ("the longest green part", view(4, {"t1": GREEN, "t3": GREEN}), Land(3)),
    ("later green covers earlier red", view(4, {"t2": TWICE, "t3": GREEN}), Land(3)),
    ("a flake is green", view(4, {"t4": RED.heard("passed", 6)}), Land(4)),
    ("a green part of a red trunk", view(2, {"t0": TRUNK_RED, "t1": GREEN}), Land(1)),
    ("red: halve at once", view(8, {"t8": RED}), ["t4"]),
    ("halve what is left", view(8, {"t8": RED, "t4": RED}), ["t2"]),
    ("halve an odd number", view(8, {"t7": RED}), ["t3"]),
    ("two suspects", view(8, {"t2": RED}), ["t1"]),
    ("the first red one counts", view(30, {"t16": RED, "t8": RED}, slots=4), ["t4"]),
    ("nobody but the first is ejected", view(8, {"t3": TWICE}, last_pass=6), ["t1"]),
    ("one suspect: once more", view(8, {"t1": RED}), ["t1"]),
    ("once more, and on without it", view(8, {"t1": RED}, True, slots=2), ["t1", "t-7"]),
    ("without it, red as well", view(8, {"t1": RED, "t-7": RED}, True, slots=2), ["t1", "t-4"]),
    ("confirmed", view(8, {"t1": TWICE}, last_pass=6), Eject("s1", "t1")),
    ("nothing passed since", view(8, {"t1": TWICE}, last_pass=4), ["t0"]),
    ("nothing passed since, but the next may", view(8, {"t1": TWICE}, True, last_pass=4), ["t-7"]),
    ("the next is green already", view(3, {"t1": TWICE, "t-3": GREEN}, True, last_pass=4), ["t0"]),
    ("two culprits, nothing passed", view(3, {"t1": TWICE, "t-2": TWICE}, True, last_pass=4), ["t0"]),
    ("trunk passed, but fails by now", view(3, {"t1": TWICE, "t0": FAILS_NOW}, last_pass=4), Freeze("red")),
    ("trunk passed, and failed once", view(3, {"t1": TWICE, "t0": GREEN.heard("failed", 7)}, last_pass=4), ["t0"]),
    ("trunk flaked long ago", view(3, {"t1": TWICE, "t0": FLAKED.heard("failed", 7)}, last_pass=4), ["t0"]),
    ("trunk flaked, all is well", view(3, {"t1": TWICE, "t0": FLAKED}, last_pass=6), Eject("s1", "t1")),
    ("trunk is not known", view(8, {"t0": Seen(), "t8": RED}), ["t0"]),
    ("trunk is not known, two slots", view(8, {"t0": Seen(), "t8": RED}, slots=2), ["t0", "t4"]),
    ("a pass elsewhere says nothing of trunk", view(8, {"t0": Seen(), "t1": TWICE}, last_pass=6), ["t0"]),
    ("trunk failed once", view(8, {"t0": Seen(failed=1, first_failed=6), "t8": RED}), ["t0"]),
    ("trunk is red", view(8, {"t0": TRUNK_RED, "t8": RED}), Freeze("red")),
    ("trunk is red, the culprit too", view(8, {"t0": TRUNK_RED, "t1": TWICE}, last_pass=9), Freeze("red")),
    ("no verdict: again", view(4, {"t4": Seen(broken=2)}), ["t4"]),
    ("no verdict three times", view(4, {"t4": STUCK}), Freeze("broken")),
    ("no verdict on trunk", view(4, {"t4": RED, "t0": STUCK}), Freeze("broken")),
    ("no verdict once more", view(4, {"t1": Seen(failed=1, broken=3, first_failed=1)}), Freeze("broken")),
    ("no verdict on a guess", view(20, {"t16": STUCK}, rate=0.97, slots=3), ["t8"]),
    ("each alone", view(8, {}, rate=0.97, most=1, slots=4), ["t1", "t2", "t3", "t4"]),
    ("each alone, one slot", view(8, {}, rate=0.97, most=1), ["t1"]),
    ("each alone covers nothing", view(8, {"t2": GREEN}, rate=0.97, most=1, slots=2), ["t1", "t3"]),
    ("each alone, a flake", view(8, {"t2": RED.heard("passed", 6)}, most=1, slots=2), ["t1", "t3"]),
    ("each alone lands in a row", view(8, {"t1": GREEN, "t2": GREEN, "t4": GREEN}, most=1), Land(2)),
    ("each alone, all", view(2, {"t1": GREEN, "t2": GREEN}, most=1), Land(2)),
    ("each alone, one red", view(8, {"t4": RED, "t2": GREEN}, most=1, slots=4), ["t1", "t3"]),
    ("each alone, the first red", view(8, {"t1": RED, "t2": GREEN}, most=1, slots=4), ["t1"]),
    ("each alone, confirmed", view(8, {"t1": TWICE, "t2": GREEN}, most=1, last_pass=7), Eject("s1", "t1")),
]


@pytest.mark.parametrize(("seen", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_what_is_decided(seen: View, expected: object) -> None:
    decided = decide(seen)
    if isinstance(decided, landing.Test):
        assert list(decided.trees) == expected
        assert len(decided.why) == len(decided.trees) and all(decided.why)
    else:
        assert decided == expected


@given(st.floats(0.01, 1), st.integers(1, 8))
def test_batch_size(rate: float, most: int) -> None:
    size = batch_size(rate, most)
    assert 1 <= size <= most
    assert size == 1 or rate**size >= 0.5 - 1e-9
    assert size == most or rate ** (size + 1) < 0.5 + 1e-9


# ---------------------------------------------------------------- whole lanes


class World(NamedTuple):
    """`bad`: the specs whose work breaks the tests; `flaky`: runs, by their number, that fail by chance; `red`:
    trunk's own tests fail; `told`: the leader knows trunk's tree, and the chain without the first."""

    specs: int
    bad: frozenset[int]
    flaky: frozenset[int]
    red: bool
    told: bool
    most: int
    slots: int
    rate: float


worlds = st.builds(
    World,
    specs=st.integers(1, 12),
    bad=st.frozensets(st.integers(1, 12), max_size=5),
    flaky=st.frozensets(st.integers(1, 40), max_size=3),
    red=st.booleans(),
    told=st.booleans(),
    most=st.integers(1, 8),
    slots=st.integers(1, 4),
    rate=st.floats(0.2, 0.99),
)


class Played(NamedTuple):
    landed: list[int]
    ejected: list[int]
    frozen: str
    runs: int
    failed: dict[str, int]


def play(world: World, dice: Random) -> Played:
    """A lane from its first decision to its end; any run that is wanted may be the next to end."""
    lane, trunk = list(range(1, world.specs + 1)), "trunk"
    landed: list[int] = []
    ejected: list[int] = []
    seen = {trunk: Seen(passed=1)} if world.told and not world.red else {}
    runs = last_pass = 0
    failed: dict[str, int] = {}
    while runs < 1000:
        chain, others = chained(trunk, lane), chained(trunk, lane[1:]) if world.told else ()
        most, slots = world.most, world.slots
        match decide(View(trunk, chain, seen, last_pass, world.rate, most, slots, others)):
            case landing.Test(trees):
                assert 1 <= len(trees) <= slots and len(set(trees)) == len(trees)
                runs += 1
                chosen = dice.choice(trees)
                before = seen.get(chosen, Seen())
                holds = set(map(int, chosen.split(" ")[1:]))
                fails = world.red or holds & world.bad or runs in world.flaky
                seen[chosen] = before.heard("failed" if fails else "passed", runs)
                last_pass = last_pass if fails else runs
            case Land(count):
                one = [link.tree for link in chain[:count]]
                assert all(seen[tree].passed for tree in (one if most == 1 else one[-1:]))
                trunk, landed, lane = one[-1], landed + lane[:count], lane[count:]
            case Eject(spec, ejected_tree):
                assert spec == str(lane[0]) and seen[ejected_tree].failed >= 2 and seen[trunk].passed
                assert last_pass > seen[ejected_tree].first_failed
                failed[spec] = runs
                ejected.append(lane.pop(0))
            case Freeze(cause):
                return Played(landed, ejected, cause, runs, failed)
            case Wait():
                return Played(landed, ejected, "", runs, failed)
    raise AssertionError("it never ends")


def chained(trunk: str, lane: list[int]) -> tuple[Link, ...]:
    return tuple(Link(str(one), " ".join([trunk, *map(str, lane[: at + 1])])) for at, one in enumerate(lane))


@settings(max_examples=400, deadline=None)
@given(worlds, st.randoms(use_true_random=False))
def test_every_lane_comes_to_its_end(world: World, dice: Random) -> None:
    """Without flakes the good ones land in their order, the bad ones are ejected; on a red trunk nobody is."""
    played = play(world._replace(flaky=frozenset()), dice)
    everyone = range(1, world.specs + 1)
    if world.red:
        assert (played.frozen, played.landed, played.ejected) == ("red", [], [])
        return
    assert played.frozen == ""
    assert played.landed == [one for one in everyone if one not in world.bad]
    assert played.ejected == [one for one in everyone if one in world.bad]


@settings(max_examples=400, deadline=None)
@given(worlds, st.randoms(use_true_random=False))
def test_one_flake_ejects_nobody(world: World, dice: Random) -> None:
    flaky = frozenset(sorted(world.flaky)[:1])
    played = play(world._replace(flaky=flaky, red=False), dice)
    assert played.frozen == ""
    assert played.landed == [one for one in range(1, world.specs + 1) if one not in world.bad]


@settings(max_examples=200, deadline=None)
@given(worlds, st.randoms(use_true_random=False))
def test_flakes_stop_no_lane(world: World, dice: Random) -> None:
    """Three flakes may cost a good spec its place, or freeze the lane; nothing bad lands and nobody is lost."""
    played = play(world._replace(red=False), dice)
    assert not world.bad.intersection(played.landed) and played.landed == sorted(played.landed)
    assert played.frozen == "red" or len(played.landed) + len(played.ejected) == world.specs


@pytest.mark.parametrize(("specs", "bad"), [(8, 0), (8, 1), (8, 4), (8, 8), (64, 17)])
def test_what_one_culprit_costs(specs: int, bad: int) -> None:
    """One run a batch; a culprit: halving, once more, and the batch it was in again."""
    world = World(specs, frozenset({bad} - {0}), frozenset(), False, True, 8, 1, 0.97)
    most = math.ceil(specs / 8) + (3 + 1 + 1 + 1 if bad else 0)
    assert play(world, Random(1)).runs <= most


# ---------------------------------------------------------------- the simulation of the bench


def test_the_bench_meets_its_targets(tmp_path: Path) -> None:
    rows = bench.section(tmp_path, seeds=5)
    assert [row.met for row in rows] == [True, True, True, None, None]
    for row in rows:
        assert math.isfinite(row.reached) and row.reached > 0 and row.raw


def test_the_bench_plays_the_same_again() -> None:
    setting = bench.Setting(0.9, 0.02, 4, specs=60)
    assert bench.play(setting, 3) == bench.play(setting, 3)
    assert bench.serial(setting, 3) == bench.serial(setting, 3)


@pytest.mark.parametrize("most", [1, 8])
def test_in_the_bench_the_good_ones_land(most: int) -> None:
    played = bench.play(bench.Setting(0.8, 0.0, 4, most, specs=50), 1)
    assert (played.landed, played.false) == (40, 0)


def test_serial_is_what_the_facts_say() -> None:
    played = bench.serial(bench.Setting(0.97), 1)
    assert played.per_landing == pytest.approx(1.06, abs=0.01) and played.an_hour == pytest.approx(9.4, abs=0.1)
