"""What a file of tests says: its tests, what each one checks, what leaves some of them out.

Readers of languages make a `Shape` from text; `core/honesty.py` compares two of them.
"""

from dataclasses import dataclass, field

MAX_BYTES = 1_000_000  # of one file: longer ones are not read, and that is said
MAX_CHECKS = 2000  # of one test, helpers included
MAX_DEPTH = 4  # of helpers that call helpers
NOTHING, HARDLY, WEAK, PARTLY, NEARLY, EXACT = range(6)  # how much a check demands


class Unreadable(Exception):
    """The text is not of its language. `line`: where that shows, 0 where nobody can say; `long`: it was not even
    looked at."""

    def __init__(self, why: str, line: int = 0, *, long: bool = False) -> None:
        super().__init__(why)
        self.why, self.line, self.long = why, line, long


@dataclass(frozen=True)
class Check:
    """One assertion. `text`: in a normal form; `rank`: from NOTHING (always true) to EXACT; `core` and `slack`:
    without and with what makes it looser (a tolerance, a missing message), greater is looser; `subject`: what is
    looked at; `negated`: it demands that this be false or empty; `weight`: how many checks it may stand for;
    `custom`: a function of the project's own, by its name, which may demand anything."""

    text: str
    rank: int
    line: int
    core: str = ""
    slack: float = 0.0
    subject: str = ""
    negated: bool = False
    conditional: bool = False
    weight: int = 1
    custom: bool = False


@dataclass(frozen=True)
class Case:
    """One test. `name`: with its classes or groups, joined by ' > '; `lines`: its statements in a normal form;
    `skips`: what keeps it from running; `values`: the rows it runs with, None where they cannot be counted."""

    name: str
    line: int
    lines: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    skips: tuple[str, ...] = ()
    values: tuple[str, ...] | None = ()
    calls: tuple[str, ...] = ()
    mocks: int = 0
    waits: float = 0.0
    collected: bool = True

    @property
    def short(self) -> str:
        return self.name.rsplit(" > ", 1)[-1]


@dataclass
class Shape:
    """`helpers`: functions that check something for tests; `switches`: what leaves tests out for the whole file or
    more, with its line."""

    cases: dict[str, Case] = field(default_factory=dict)
    helpers: dict[str, Case] = field(default_factory=dict)
    switches: dict[str, int] = field(default_factory=dict)

    def add(self, case: Case) -> None:
        """A test; a second one of a name takes the place of the first, as it does when it runs."""
        self.cases[case.name] = case

    def add_numbered(self, case: Case) -> None:
        """A test where two of a name both run."""
        name, number = case.name, 2
        while name in self.cases:
            name = f"{case.name} #{number}"
            number += 1
        self.cases[name] = case


def checks_of(case: Case, helpers: dict[str, Case]) -> list[Check]:
    """The checks of a test and of the helpers it calls, as often as it calls them."""
    found = list(case.checks)
    waiting = [(name, 1) for name in case.calls]
    while waiting and len(found) < MAX_CHECKS:
        name, depth = waiting.pop()
        helper = helpers.get(name)
        if helper is None:
            continue
        found += helper.checks
        if depth < MAX_DEPTH:
            waiting += [(inner, depth + 1) for inner in helper.calls if inner != name]
    return found[:MAX_CHECKS]
