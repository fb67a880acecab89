"""Two sides of a change, test by test: which test is which, what is gone, what demands less.

Two rules keep refactorings free. What moved is not gone: an assertion that stands elsewhere in the change counts
as kept. What is at least as strong is not weaker: assertions are compared by how much they demand, not by their
words.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from agentq.core.honesty.difference import common, deeds, difference, is_less, rank_beside, similar, words
from agentq.core.honesty.shape import NOTHING, PARTLY, Case, Check, Unreadable, checks_of
from agentq.core.text import clean, plural

SAME_TEST = 0.6  # share of words that two tests have in common which are one test under two names
MOVED = 0.5  # share of a removed test's lines that stand elsewhere
REPLACED = 0.8  # share of a removed test's words that new tests say, too
MOST_PAIRS = 40_000
TIGHT = 1.5e-6  # a tolerance up to this is that of floating point
_STABLE = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|\b\d[\w.]*\b")


@dataclass(frozen=True)
class Version:
    """One path of a change. None: the file is not there on that side; `link`: it is no regular file now."""

    path: str
    old: bytes | None
    new: bytes | None
    link: bool = False


@dataclass(frozen=True)
class Weakening:
    """`kind`: removed, skipped, weakened, unreadable or settings; `stops`: a person has to allow it, else it is
    only worth showing. `line`: in the new file, or in the old one where `gone`."""

    path: str
    line: int
    kind: str
    text: str
    stops: bool = True
    gone: bool = False

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else self.path
        was = " as it was" if self.gone and self.line else ""
        return clean(f"{place}{was}: {self.text}").replace("\n", "\\n")  # agents choose these names


@dataclass
class Side:
    """The tests of one side of a change: (path, name) → test."""

    cases: dict[tuple[str, str], Case] = field(default_factory=dict)
    helpers: dict[str, Case] = field(default_factory=dict)
    switches: dict[str, dict[str, int]] = field(default_factory=dict)
    unread: dict[str, Unreadable] = field(default_factory=dict)

    def checks(self, key: tuple[str, str]) -> list[Check]:
        found = checks_of(self.cases[key], self.helpers)
        return [replace(one, rank=NOTHING) if one.custom and self._hollow(one) else one for one in found]

    def _hollow(self, check: Check) -> bool:
        """Whether a function of the project's own is here to be read, and checks nothing."""
        helper = self.helpers.get(check.text.partition("(")[0].rsplit(".", 1)[-1])
        return helper is not None and not any(one.rank for one in checks_of(helper, self.helpers))

    def running(self) -> list[Case]:
        """The tests that run, and the helpers that any of them reaches."""
        found = [case for case in self.cases.values() if case.collected and not case.skips]
        waiting, seen = [name for case in found for name in case.calls], set()
        while waiting:
            name = waiting.pop()
            if name in self.helpers and name not in seen:
                seen.add(name)
                found.append(self.helpers[name])
                waiting += self.helpers[name].calls
        return found


class Comparison:
    """One comparison of two sides."""

    def __init__(self, old: Side, new: Side) -> None:
        self.old, self.new = old, new
        self.pairs: dict[tuple[str, str], tuple[str, str]] = {}
        self.out: list[Weakening] = []
        self._pair()
        self.gone = self._counted(old) - self._counted(new)
        self.rows = self._rows(old) - self._rows(new)
        self.grown = self._rows(new) - self._rows(old)
        self.lines = {line for case in new.running() for line in case.lines}

    def found(self) -> list[Weakening]:
        for key, twin in self.pairs.items():
            self._compare(key, twin)
        lost = [key for key in self.old.cases if key not in self.pairs and not self._moved(key)]
        lost = self._not_replaced(lost)
        self._removed([key for key in lost if self.old.cases[key].collected])
        self._switched()
        return self.out

    def _say(self, key: tuple[str, str], case: Case, kind: str, text: str, *, stops: bool = True) -> None:
        self.out.append(Weakening(key[0], case.line, kind, f"{_name(case)} {clean(text)}", stops))

    # ------------------------------------------------------------ which test is which

    def _pair(self) -> None:
        old, new = self.old.cases, self.new.cases
        self.pairs = {key: key for key in old if key in new}
        for same in (lambda case: case.short, lambda case: case.lines):
            self._pair_by(same)
        self._pair_alike()

    def _left(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        taken = set(self.pairs.values())
        return (
            [key for key in self.old.cases if key not in self.pairs],
            [key for key in self.new.cases if key not in taken],
        )

    def _pair_by(self, same: Callable[[Case], object]) -> None:
        left, free = self._left()
        known: dict[object, list[tuple[str, str]]] = defaultdict(list)
        for key in free:
            if what := same(self.new.cases[key]):
                known[what].append(key)
        for key in left:
            choices = known.get(same(self.old.cases[key])) or []
            if choices:
                best = max(choices, key=lambda other: (other[0] == key[0], self._alike(key, other)))
                choices.remove(best)
                self.pairs[key] = best

    def _pair_alike(self) -> None:
        """Renamed and changed: the most similar ones first."""
        left, free = self._left()
        if len(left) * len(free) > MOST_PAIRS:
            free = [other for other in free if other[0] in {path for path, _ in left}]
        if len(left) * len(free) > MOST_PAIRS:
            return
        scored = [(self._alike(a, b), a[0] == b[0], a, b) for a in left for b in free]
        taken = set()
        for score, _, key, twin in sorted(scored, key=lambda one: one[:2], reverse=True):
            if score >= SAME_TEST and key not in self.pairs and twin not in taken:
                self.pairs[key] = twin
                taken.add(twin)

    def _alike(self, key: tuple[str, str], other: tuple[str, str]) -> float:
        """The share of words that two tests have in common, each as often as it stands there; or that of what they
        do without their assertions, if it is less: many tests check alike."""
        a, b = self.old.cases[key].lines, self.new.cases[other].lines
        done = common(words(deeds(a)), words(deeds(b))) if deeds(a) else 1.0
        return min(common(words(a), words(b)), done)

    # ------------------------------------------------------------ what is gone

    @staticmethod
    def _counted(side: Side) -> Counter[str]:
        """How often each assertion stands on a side, where it counts."""
        found: Counter[str] = Counter()
        for case in side.running():
            found.update(check.text for check in case.checks if check.rank)
        return found

    @staticmethod
    def _rows(side: Side) -> Counter[str]:
        return Counter(row for case in side.cases.values() if case.collected for row in case.values or ())

    def _moved(self, key: tuple[str, str]) -> bool:
        """Whether what a test said and checked stands elsewhere: split, merged into another, made a row."""
        case = self.old.cases[key]
        checks = [check for check in case.checks if check.rank]
        if not case.lines:
            return True
        done = deeds(case.lines) or case.lines
        kept = sum(line in self.lines for line in done) / len(done)
        if checks and kept >= MOVED and not any(self.gone[check.text] for check in checks):
            return True
        return self._became_a_row(case)

    def _became_a_row(self, case: Case) -> bool:
        """Whether a test that runs with rows says the same but for the values, and has a row more for it."""
        wanted = {_STABLE.sub("_", line) for line in case.lines}
        for other in self.new.cases.values():
            rows = other.values or ()
            fresh = [row for row in rows if self.grown[row] > 0]
            if len(rows) < 2 or not fresh or not other.checks:
                continue
            alike = sum(similar(line, other.lines) for line in wanted)
            if alike >= 0.6 * len(wanted):
                self.grown[fresh[0]] -= 1
                return True
        return False

    def _not_replaced(self, lost: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Those of the removed tests that no new ones stand for: by the same words, with as many assertions."""
        taken = set(self.pairs.values())
        fresh = [
            key for key, case in self.new.cases.items() if key not in taken and case.collected and not case.skips
        ]
        said = {word for key in fresh for word in words(self.new.cases[key].lines)}
        room = sum(self._weight(key) for key in fresh)
        left = []
        for key in lost:
            case = self.old.cases[key]
            its = set(words(case.lines))
            needed = sum(check.rank >= PARTLY for check in self.old.checks(key))
            if 0 < needed <= room and len(its & said) >= REPLACED * len(its):
                room -= needed
                self._say(key, case, "replaced", "was replaced by other tests", stops=False)
            else:
                left.append(key)
        return left

    def _weight(self, key: tuple[str, str]) -> int:
        rows = max(1, len(self.new.cases[key].values or ()))
        return rows * sum(check.weight for check in self.new.checks(key) if check.rank >= PARTLY)

    def _removed(self, lost: Sequence[tuple[str, str]]) -> None:
        by_path: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for key in lost:
            by_path[key[0]].append(key)
        for path, keys in by_path.items():
            cases = [self.old.cases[key] for key in keys]
            names = ", ".join(_name(case) for case in cases[:3])
            more = f" and {len(cases) - 3} more" if len(cases) > 3 else ""
            left = any(other == path for other, _ in self.new.cases)
            text = f"removed {'' if left else 'all '}{plural(len(cases), 'test')}: {names}{more}"
            self.out.append(Weakening(path, cases[0].line, "removed", text, gone=True))

    # ------------------------------------------------------------ what is weaker

    def _compare(self, key: tuple[str, str], twin: tuple[str, str]) -> None:
        old, new = self.old.cases[key], self.new.cases[twin]
        if old.collected and not new.collected:
            self._say(twin, new, "removed", "is not found by the test runner any more")
            return
        self._skipped(twin, old, new)
        self._fewer_rows(twin, old, new)
        before, after = self.old.checks(key), self.new.checks(twin)
        self._weaker(twin, new, before, after)
        if new.mocks > old.mocks:
            self._say(twin, new, "mocked", "replaces more by stand-ins than before", stops=False)
        if new.waits > old.waits > 0:
            self._say(twin, new, "waits", f"waits longer: {old.waits:g} → {new.waits:g}", stops=False)

    def _skipped(self, twin: tuple[str, str], old: Case, new: Case) -> None:
        fresh = Counter(new.skips) - Counter(old.skips)
        if not fresh:
            return
        first = next(iter(fresh))
        again = {_kind(one) for one in old.skips}
        always = re.search(r"\(\s*(True|1)\b", first)
        if len(new.skips) > len(old.skips) or always or _kind(first) not in again:
            self._say(twin, new, "skipped", f"is skipped now: {first}")
        else:
            self._say(twin, new, "skipped", f"is skipped on another condition: {first}", stops=False)

    def _fewer_rows(self, twin: tuple[str, str], old: Case, new: Case) -> None:
        if not old.values:
            return
        if new.values is None:
            self._say(twin, new, "rows", "runs with rows that cannot be counted any more", stops=False)
            return
        gone = [row for row in old.values if row not in new.values and self.rows[row] > 0]
        fewer = len(old.values) - len(new.values)
        if fewer > 0 and gone:
            self._say(
                twin,
                new,
                "weakened",
                f"lost {min(fewer, len(gone))} of its {len(old.values)} rows: {_cut(gone[0])}",
            )
        marked = sum("skip" in row or "xfail" in row for row in new.values)
        if marked > sum("skip" in row or "xfail" in row for row in old.values):
            self._say(twin, new, "skipped", "skips rows it ran before")

    def _weaker(self, twin: tuple[str, str], case: Case, before: list[Check], after: list[Check]) -> None:
        missing, added = difference(before, after)
        missing = self._looser(twin, case, missing, added)
        # What went elsewhere in the change is not missing here.
        missing = [check for check in missing if check.rank == NOTHING or self.gone[check.text] > 0]
        real = [check for check in missing if check.rank]
        self._dropped(twin, case, real, added, len(before), 3 if case.values is None else len(case.values))
        settled = [check for check in before if check.rank]
        if settled and any(not check.conditional for check in settled):
            left = [check for check in after if check.rank]
            if left and all(check.conditional for check in left):
                self._say(twin, case, "weakened", "checks only on a condition now")

    def _looser(self, twin: tuple[str, str], case: Case, missing: list[Check], added: list[Check]) -> list[Check]:
        """Say which checks are the same but for a tolerance, take them out of `added`; returns the others."""
        left = []
        for check in missing:
            same = next((one for one in added if check.core and one.core == check.core and one.rank), None)
            if same is None or (same.slack <= check.slack and same.rank < check.rank):
                left.append(check)
                continue
            added.remove(same)
            if same.slack > check.slack * 1.0001:
                tight = same.slack <= TIGHT
                self._say(twin, case, "weakened", f"is looser: {_was(check, same)}", stops=not tight)
            elif same.rank < check.rank - 1:
                self._say(twin, case, "weakened", f"demands less: {_was(check, same)}")
        return left

    def _dropped(
        self, twin: tuple[str, str], case: Case, missing: list[Check], added: list[Check], total: int, rows: int
    ) -> None:
        subjects = {check.subject for check in missing if check.subject}
        strong = sorted(missing, key=lambda one: -one.rank)
        room: list[Check] = []
        for check in sorted(added, key=lambda one: -rank_beside(one, subjects)):
            if check.rank:
                room += [check] * min(check.weight * max(1, rows), len(strong) + 1)
        room.sort(key=lambda one: -rank_beside(one, subjects))
        for check, other in zip(strong, room, strict=False):
            self.gone[check.text] -= 1
            if is_less(check, other, subjects):
                self._say(twin, replace(case, line=other.line), "weakened", f"demands less: {_was(check, other)}")
                return
        if len(strong) > len(room):
            always = next((one for one in added if not one.rank), None)
            lost = strong[len(room) :]
            for check in lost:
                self.gone[check.text] -= 1
            if always is not None:
                self._say(twin, case, "weakened", f"checks nothing there any more: {_was(lost[0], always)}")
            else:
                text = f"lost {len(lost)} of its {plural(total, 'assertion')}: {_cut(lost[0].text)}"
                self._say(twin, case, "weakened", text)

    # ------------------------------------------------------------ what leaves tests out

    def _switched(self) -> None:
        seen = {text for switches in self.old.switches.values() for text in switches}
        for path, switches in self.new.switches.items():
            fresh = path not in self.old.switches
            for text, line in switches.items():
                # A new file may skip itself; what reaches beyond it may not.
                if text not in seen and not (fresh and "the whole file" in text):
                    self.out.append(Weakening(path, line, "skipped", clean(text)))


def _kind(skip: str) -> str:
    """What keeps a test from running, without why: `unittest.skip("x")` → skip."""
    return skip.partition("(")[0].rsplit(".", 1)[-1]


def _was(before: Check, after: Check) -> str:
    return f"was {_cut(before.text)!r}, now {_cut(after.text)!r}"


def _cut(text: str) -> str:
    flat = " ".join(clean(text).split())
    return flat if len(flat) <= 90 else f"{flat[:89]}…"


def _name(case: Case) -> str:
    return _cut(case.name)
