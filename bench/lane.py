"""The landing lane in virtual time: the real `decide` and the real lane transitions, tests of 6 minutes that pass
or fail by the dice of a seed. All specs wait from the start; the lane learns their pass rate by itself.

`python bench/lane.py` prints a table; `section()` gives the rows of the report. Serial, the yardstick: one spec
and one test run at a time, each tested on trunk before it lands, a failure run again once before it is ejected.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from statistics import median
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT)]

from agentq.core import landing, lane  # noqa: E402
from agentq.core.spec import InProgress, Lease, Place, Queue  # noqa: E402
from bench import report  # noqa: E402

MINUTES = 6
AHEAD = 5 * landing.MOST
START = datetime(2026, 1, 1, tzinfo=UTC)
SHA = "0" * 40
PLACE = Place(number=1, work=SHA, base=SHA, tree=SHA)


class Setting(NamedTuple):
    """`rate`: how many specs are good; `flake`: how many runs fail by chance; `most` and `slots` as in View."""

    rate: float
    flake: float = 0.0
    slots: int = 1
    most: int = landing.MOST
    specs: int = 200


class Played(NamedTuple):
    """What one play cost. `false`: good specs that were ejected."""

    landed: int
    runs: int
    hours: float
    false: int

    @property
    def good(self) -> int:
        return self.landed + self.false  # a bad one never lands: flakes only fail

    @property
    def per_landing(self) -> float:
        return self.runs / max(self.landed, 1)

    @property
    def an_hour(self) -> float:
        return self.landed / self.hours


@dataclass
class Play:
    """One lane under one seed. `bad`: the specs whose work breaks the tests; `trunk`: its tree; `broken`: the
    trees that hold a bad spec; `running`: tree → the minute it ends."""

    setting: Setting
    dice: Random
    queue: Queue
    leader: int
    bad: frozenset[str]
    trunk: str = "t"
    names: dict[tuple[str, str], str] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    seen: dict[str, landing.Seen] = field(default_factory=dict)
    running: dict[str, float] = field(default_factory=dict)
    minutes: float = 0.0
    runs: int = 0
    ended: int = 0
    last_pass: int = 0

    def to_the_end(self) -> Played:
        while not isinstance(decision := landing.decide(view := self._view()), landing.Wait):
            self._act(decision, view)
        false = sum(entry.id not in self.bad for entry in self.queue.in_progress)
        return Played(len(self.queue.completed), self.runs, self.minutes / 60, false)

    def _view(self) -> landing.View:
        chain = self._chain(lane.waiting(self.queue))
        first = self.seen.get(chain[0].tree, landing.NOTHING) if chain else landing.NOTHING
        without = self._chain(lane.waiting(self.queue)[1:]) if first.failed else ()
        rate, (_, _, slots, most, _) = lane.pass_rate(self.queue.lane), self.setting
        running = frozenset(self.running)
        return landing.View(
            self.trunk, chain, self.seen, self.last_pass, rate, most, slots, without=without, running=running
        )

    def _chain(self, waiting: Sequence[InProgress]) -> tuple[landing.Link, ...]:
        """A tree is known by its content: the same specs in the same order on the same trunk."""
        chain, tree = [], self.trunk
        for entry in waiting[:AHEAD]:
            bad = tree in self.broken or entry.id in self.bad
            tree = self.names.setdefault((tree, entry.id), f"tree {len(self.names)}")
            self.broken |= {tree} if bad else set()
            chain.append(landing.Link(entry.id, tree))
        return tuple(chain)

    def _act(self, decision: landing.Decision, view: landing.View) -> None:
        if isinstance(decision, landing.Test):
            self._test(decision)
        elif isinstance(decision, landing.Land):
            epochs = {entry.id: entry.lease.epoch for entry in self.queue.in_progress}
            links = view.chain[: decision.count]
            landings = [lane.Landing(link.spec, epochs[link.spec], SHA) for link in links]
            self.queue = lane.land(self.queue, self.leader, landings, START)
            self.trunk = links[-1].tree
        elif isinstance(decision, landing.Eject):
            epoch = next(entry.lease.epoch for entry in self.queue.in_progress if entry.id == decision.spec)
            self.queue = lane.eject(self.queue, self.leader, decision.spec, epoch, "its tests fail", 1)
        else:
            raise AssertionError(f"{decision} in a play whose trunk is never red")

    def _test(self, decision: landing.Test) -> None:
        """Start what is wanted and not running, then let the next run end. What nobody wants now is stopped."""
        self.running = {tree: end for tree, end in self.running.items() if tree in decision.trees}
        for tree in decision.trees:
            if tree not in self.running and len(self.running) < self.setting.slots:
                self.running[tree] = self.minutes + MINUTES
                self.runs += 1
        tree = min(self.running, key=lambda one: self.running[one])
        self.minutes = self.running.pop(tree)
        self.ended += 1
        failed = tree in self.broken or self.dice.random() < self.setting.flake
        before = self.seen.get(tree, landing.NOTHING)
        self.seen[tree] = before.heard("failed" if failed else "passed", self.ended)
        self.last_pass = self.last_pass if failed else self.ended


def play(setting: Setting, seed: int) -> Played:
    dice = Random(seed)
    names = _names(setting)
    bad = _bad(setting, names, dice)
    queue = lane.lead(_waiting(names), "bench", START)
    return Play(setting, dice, queue, queue.epoch, bad).to_the_end()


def serial(setting: Setting, seed: int) -> Played:
    """The yardstick, played with the same dice."""
    dice = Random(seed)
    names = _names(setting)
    bad = _bad(setting, names, dice)
    landed = runs = false = 0
    for name in names:
        for _ in range(2):
            runs += 1
            if passed := name not in bad and dice.random() >= setting.flake:
                break
        landed += passed
        false += not passed and name not in bad
    return Played(landed, runs, runs * MINUTES / 60, false)


def _names(setting: Setting) -> list[str]:
    return [f"s{number}" for number in range(1, setting.specs + 1)]


def _bad(setting: Setting, names: Sequence[str], dice: Random) -> frozenset[str]:
    """Exactly the share, in places of chance: the luck of a seed is in the order alone."""
    return frozenset(dice.sample(names, round((1 - setting.rate) * len(names))))


def _waiting(names: Sequence[str]) -> Queue:
    """All of `names` proved and in the lane."""
    entries = []
    for epoch, name in enumerate(names, 1):
        lease = Lease(machine="bench", instance=1, epoch=epoch, acquired=START, expires=START)
        entries.append(InProgress(id=name, title=name, status="verifying", lease=lease))
    queue = Queue(epoch=len(names), in_progress=tuple(entries))
    for entry in entries:
        queue = lane.enter(queue, entry.id, entry.lease.epoch, PLACE)
    return queue


# ---------------------------------------------------------------- what is shown

SEEDS = 25
SLOTS = 4
FLAKE = 0.02


class Summary(NamedTuple):
    """Each over the same seeds: the lane, and serial."""

    lane: list[Played]
    serial: list[Played]

    @property
    def times_serial(self) -> float:
        return median(a.an_hour / b.an_hour for a, b in zip(self.lane, self.serial, strict=True))

    def details(self) -> tuple[str, ...]:
        shown = []
        for name, plays in (("lane", self.lane), ("serial", self.serial)):
            cost = [one.per_landing for one in plays]
            an_hour = median(one.an_hour for one in plays)
            false, good = sum(one.false for one in plays), sum(one.good for one in plays)
            shown.append(
                f"{name}: {median(cost):.2f} runs a landing ({min(cost):.2f} to {max(cost):.2f}), {an_hour:.1f}"
                f" landings an hour; {false} of {good} good specs ejected"
            )
        return tuple(shown)

    def raw(self) -> dict[str, list[float]]:
        both = (("lane", self.lane), ("serial", self.serial))
        return {
            f"{name}_{what}": [float(getattr(one, what)) for one in plays]
            for name, plays in both
            for what in ("per_landing", "an_hour", "false")
        }


def summary(setting: Setting, seeds: int = SEEDS) -> Summary:
    return Summary(
        [play(setting, seed) for seed in range(seeds)], [serial(setting, seed) for seed in range(seeds)]
    )


def section(_folder: Path, specs: int = 200, seeds: int = SEEDS) -> list[report.Row]:
    """For the report. A row is a median over the seeds; all rows have the same slots and batch."""
    high, low = (summary(Setting(rate, 0.0, SLOTS, specs=specs), seeds) for rate in (0.97, 0.90))
    faster = 1 / high.times_serial
    rows = [
        _row("test runs a landing, 97 of 100 good", high, 0.35),
        _row("test runs a landing, 90 of 100 good", low, 0.7),
        report.Row("hours of the lane ÷ serial, 97 of 100", faster, 0.25, raw=high.raw()),
    ]
    for rate in (0.97, 0.90):
        flaky = summary(Setting(rate, FLAKE, SLOTS, specs=specs), seeds)
        rows.append(_row(f"the same, {rate * 100:.0f} good, {FLAKE:.0%} of runs flake", flaky, None))
    return rows


def _row(name: str, found: Summary, target: float | None) -> report.Row:
    reached = median(one.per_landing for one in found.lane)
    return report.Row(name, reached, target, details=found.details(), raw=found.raw())


def main() -> None:
    print("good  flakes slots batch   runs a landing   an hour  × serial   good ones ejected: lane, serial")
    for rate in (0.99, 0.97, 0.90, 0.80, 0.69):
        for flake, slots, most in ((0, 1, 8), (0, 4, 8), (0.02, 4, 8), (0, 4, 1)):
            found = summary(Setting(rate, flake, slots, most), 20)
            cost = median(one.per_landing for one in found.lane)
            an_hour = median(one.an_hour for one in found.lane)
            false = [sum(one.false for one in plays) for plays in found]
            print(
                f"{rate:.2f}  {flake:>5.0%} {slots:>5} {most:>5} {cost:>16.3f} {an_hour:>9.1f}"
                f" {found.times_serial:>9.2f} {false[0]:>20} of {sum(one.good for one in found.lane)}, {false[1]}",
                flush=True,
            )


if __name__ == "__main__":
    main()
