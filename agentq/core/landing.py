"""The lane's decision: what to test, land, eject or freeze next, from what the tests have said so far.

Pure, and made anew at every step from results by tree, so a crash or a change of leader at any moment only
repeats the question. Rules from the landing facts, "The lane"; the constants are from `python bench/lane.py`.

A failure of a batch starts a bisect at once. The rerun waits until the suspect is first in the chain: then it is a
rerun of trunk and the suspect alone, and seldom a run more than the bisect needs.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

MOST = 8
HALF = 0.5
# A run on top of specs that are not proved yet is worth it if it is that likely that all of them pass.
WORTH = 0.75
# Runs of one tree without a verdict before nobody believes in the next.
TRIES = 3

Verdict = Literal["passed", "failed", "broken"]
Wanted = list[tuple[str, str]]  # (tree, why), most wanted first


@dataclass(frozen=True)
class Link:
    """A spec in the chain; `tree` holds trunk, the specs before it and its own work."""

    spec: str
    tree: str


@dataclass(frozen=True)
class Seen:
    """What the runs of one tree said. `passed` and `failed`: runs since the other last happened, so one of them is
    0. `broken`: runs that ended without a verdict (no database, no set-up). `first_failed`: position of the first
    of `failed` among all runs of this leader; 0 for none."""

    passed: int = 0
    failed: int = 0
    broken: int = 0
    first_failed: int = 0

    def heard(self, verdict: Verdict, position: int) -> "Seen":
        """After one more run, at `position`: what it said before says nothing about now."""
        if verdict == "passed":
            return Seen(self.passed + 1, broken=self.broken)
        if verdict == "failed":
            return Seen(0, self.failed + 1, self.broken, self.first_failed or position)
        return replace(self, broken=self.broken + 1)


NOTHING = Seen()


@dataclass(frozen=True)
class View:
    """`trunk`: its tree; `chain`: the lane on top of it, first in first, as far as it merges; `seen`: results by
    tree; `last_pass`: position of the last run that passed; `rate`: how likely one spec passes; `most`: specs one
    test run may land; `slots`: tests at once. Both optional, and only to save runs: `without`, the chain that
    there would be without its first spec; `running`, the trees that are being tested."""

    trunk: str
    chain: tuple[Link, ...]
    seen: Mapping[str, Seen]
    last_pass: int = 0
    rate: float = 0.9
    most: int = MOST
    slots: int = 1
    without: tuple[Link, ...] = ()
    running: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Test:
    """Run the tests of these trees, most wanted first; at most as many as there are slots. A tree that is being
    tested already is not started again."""

    trees: tuple[str, ...]
    why: tuple[str, ...]


@dataclass(frozen=True)
class Land:
    """The first `count` specs of the chain become trunk."""

    count: int


@dataclass(frozen=True)
class Eject:
    """The first spec of the chain fails on top of a trunk that passes: back to its owner."""

    spec: str
    tree: str


@dataclass(frozen=True)
class Freeze:
    """Nothing may land: trunk's own tests fail ('red'), or tests cannot be run here ('broken')."""

    cause: str


@dataclass(frozen=True)
class Wait:
    """Nothing is in the lane."""


Decision = Test | Land | Eject | Freeze | Wait


def batch_size(rate: float, most: int) -> int:
    """The largest batch that is green at least every second time, at most `most`."""
    if rate >= 1:
        return most
    return max(1, min(most, int(math.log(HALF) / math.log(rate))))


def decide(view: View) -> Decision:
    """What to do next: the first rule that holds. Nobody is ejected but the first of the chain, after two failures
    of its tree, on a trunk that is known to be green, and when something passed since the first of them: so it is
    neither a flake, nor trunk, nor the host."""
    if not view.chain:
        return Wait()
    if green := _green(view):
        return Land(green)
    bad = _bad(view)
    if bad is None:
        return _test(view, _batches(view))
    suspect, trunk = _said(view, view.chain[bad]), view.seen.get(view.trunk, NOTHING)
    if trunk.passed and view.last_pass > suspect.first_failed:
        if bad == 0 and suspect.failed >= 2:
            return Eject(view.chain[0].spec, view.chain[0].tree)
    elif trunk.failed >= 2:
        return Freeze("red")
    wanted = _hunt(view, bad)
    if not trunk.passed or not wanted:
        wanted = [(view.trunk, "trunk itself: is it green?"), *wanted]
    return _test(view, wanted)


def _said(view: View, link: Link) -> Seen:
    return view.seen.get(link.tree, NOTHING)


def _green(view: View) -> int:
    """How many may land: a later green covers what is before it, unless each tree is to be tested alone."""
    passed = [_said(view, link).passed > 0 for link in view.chain]
    if view.most == 1:
        return [*passed, False].index(False)
    return max((count for count, one in enumerate(passed, 1) if one), default=0)


def _bad(view: View) -> int | None:
    """The first of the chain whose tree failed. What passed since is green: it failed by chance."""
    return next((at for at, link in enumerate(view.chain) if _said(view, link).failed), None)


def _batches(view: View) -> Wanted:
    """The top of the first batch, and of those behind it while all before them are likely to pass."""
    size = batch_size(view.rate, view.most)
    wanted: Wanted = []
    below = 0
    while below < len(view.chain) and (not below or view.rate**below >= WORTH):
        top = _top(view, below, size)
        if not _said(view, view.chain[top - 1]).passed:
            wanted.append((view.chain[top - 1].tree, _together(below + 1, top)))
        below = top
    return wanted


def _top(view: View, below: int, size: int) -> int:
    """Where the batch above `below` ends: where one that is being tested ends, though the lane or the rate changed
    since; else it is full, or the lane is at its end."""
    end = len(view.chain)
    reach = range(min(below + view.most, end), below, -1)
    return next((at for at in reach if view.chain[at - 1].tree in view.running), min(below + size, end))


def _together(first: int, last: int) -> str:
    return f"number {first} of the lane" if first == last else f"{first} to {last} of the lane together"


def _hunt(view: View, bad: int) -> Wanted:
    """The way to the culprit when the first `bad` + 1 fail together. Empty when it is found and confirmed, and
    nothing is known of what the lane would do without it."""
    if bad:
        cuts = range(1, bad + 1) if view.most == 1 else ((bad + 1) // 2,)
        return [
            (view.chain[cut - 1].tree, f"the first {cut} of {bad + 1} that fail together")
            for cut in cuts
            if not _said(view, view.chain[cut - 1]).passed
        ]
    first = view.chain[0]
    again = [] if _said(view, first).failed >= 2 else [(first.tree, "it failed once: again, alone on trunk")]
    return again + _next(replace(view, chain=view.without, without=()))


def _next(view: View) -> Wanted:
    """What is wanted once the culprit is gone. A pass among it shows as well that tests can pass here."""
    if _green(view):
        return []
    bad = _bad(view)
    return _batches(view) if bad is None else _hunt(view, bad)


def _test(view: View, wanted: Wanted) -> Test | Freeze:
    """As many as there are slots. Runs without a verdict blame nobody, but they end the trying."""
    tried = [view.seen.get(tree, NOTHING).broken >= TRIES for tree, _ in wanted]
    if tried[0]:
        return Freeze("broken")
    chosen = [one for one, enough in zip(wanted, tried, strict=True) if not enough][: view.slots]
    return Test(tuple(tree for tree, _ in chosen), tuple(why for _, why in chosen))
