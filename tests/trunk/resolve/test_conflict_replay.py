"""The replay corpus: every case a real merge, scored like the merge study of ASE'24: correct, stopped or wrong."""

import re
from collections import Counter
from pathlib import Path

import pytest
from corpus_rest import GENERATED, IDENTICAL, MANIFEST, MIGRATION, SAME, STRUCTURAL
from corpus_text import ADDITIVE, IMPORTS, LURES
from replay import Case, Repository

from agentq.trunk.resolve.base import Dispute, Resolved, Situation, Stopped
from agentq.trunk.resolve.table import decide

CASES = [*IDENTICAL, *MANIFEST, *ADDITIVE, *LURES, *IMPORTS, *GENERATED, *MIGRATION, *STRUCTURAL, *SAME]


def test_the_corpus(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    seen: dict[str, Counter[str]] = {}
    wrong, stopped = [], []
    for number, one in enumerate(CASES):
        outcome = repository.replay(one, tmp_path / f"checkout-{number}")
        row = seen.setdefault(one.kind, Counter())
        expected = "must stop" if one.want is None else "automatic"
        row[expected] += 1
        row["stopped rightly" if (one.want is None and outcome.verdict == "correct") else outcome.verdict] += 1
        if one.kind == "structural":
            rules = {answer.rule.partition(" (")[0] for answer in outcome.answers}
            assert rules == {"structural"} or one.name == "two files renamed to one name", (
                f"{one.name}: {outcome.answers}"
            )
        if outcome.verdict == "wrong":
            wrong.append(f"{one.kind}: {one.name}: {outcome.answers}")
        if outcome.verdict == "stopped":
            stopped.append(f"{one.kind}: {one.name}: {outcome.why}")
    report(seen, stopped)
    assert not wrong, "\n".join(wrong)
    total = sum(seen.values(), Counter())
    assert total["correct"] >= 0.8 * total["automatic"], stopped
    assert len(CASES) >= 60 and all(row.total() >= 8 for row in seen.values())


def report(seen: dict[str, Counter[str]], stopped: list[str]) -> None:
    columns = ("automatic", "correct", "stopped", "wrong", "must stop", "stopped rightly")
    print(f"\n{'class':<12}" + "".join(f"{column:>17}" for column in columns))
    for kind, row in [*seen.items(), ("all", sum(seen.values(), Counter()))]:
        print(f"{kind:<12}" + "".join(f"{row[column]:>17}" for column in columns))
    for line in stopped:
        print(f"stopped: {line}")


@pytest.mark.parametrize("one", [*ADDITIVE, *IMPORTS, *MANIFEST], ids=lambda one: f"{one.kind}-{one.name}")
def test_trunk_and_spec_in_the_other_order_say_the_same(one: Case) -> None:
    """Nobody's lines depend on who landed first; only their order does."""
    for path in one.base:
        sides = [str(files.get(path, "")).encode() for files in (one.base, one.trunk, one.spec)]
        [there], [back] = (
            decide([Dispute(path, "content", sides[0], sides[n], sides[m])], Situation(**one.situation))
            for n, m in ((1, 2), (2, 1))
        )
        assert isinstance(there, Stopped) == isinstance(back, Stopped), (there, back)
        if isinstance(there, Resolved) and isinstance(back, Resolved):
            lines = [sorted(re.split(rb"[\s,;\[\]]+", answer.content or b"")) for answer in (there, back)]
            assert lines[0] == lines[1]
