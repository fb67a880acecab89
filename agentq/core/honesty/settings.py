"""Two sides of settings: what of a change lowers the bar. A rule that moves to another file is no rule removed."""

from collections.abc import Iterable, Sequence

from agentq.core.honesty.compare import Version, Weakening
from agentq.core.honesty.config import Rule, rules_of
from agentq.core.text import clean

# Where a new file may take the place of the settings in force.
_TOP = ("pytest.ini", ".pytest.ini", "tox.ini", "setup.cfg", "pyproject.toml")
_Sides = tuple[Version, list[Rule], list[Rule] | None]


def weaker_settings(versions: Sequence[Version], commands: Sequence[str]) -> Iterable[Weakening]:
    """What a change of settings files switches off. `commands`: those that verify; files they name count, too."""
    sides: list[_Sides] = []
    have: set[tuple[str, str]] = set()
    for one in versions:
        if one.old is None and one.path not in _TOP:
            have |= {_key(rule) for rule in rules_of(one.path, one.new or b"", commands) or ()}
            continue
        before = rules_of(one.path, one.old or b"", commands)
        if before is not None:
            after = None if one.link else rules_of(one.path, one.new or b"", commands)
            sides.append((one, before, after))
    had = {_key(rule) for _, before, _ in sides for rule in before}
    have |= {_key(rule) for _, _, after in sides for rule in after or ()}
    for one, before, after in sides:
        if after is None:
            yield Weakening(one.path, 0, "settings", "it cannot be read any more")
        else:
            yield from _compared(one, before, after, had, have)


def _key(rule: Rule) -> tuple[str, str]:
    """A rule whichever file it stands in: `[mypy] strict` is `[tool.mypy] strict`."""
    name = rule.name.removeprefix("tool.").replace(":", ".").lower()
    return name, "" if name.startswith("runs of ") else rule.text.lower()


def _compared(
    one: Version, before: list[Rule], after: list[Rule], had: set[tuple[str, str]], have: set[tuple[str, str]]
) -> Iterable[Weakening]:
    known, names = {rule.name: rule for rule in before}, {rule.name for rule in after}
    sections = {rule.name.rpartition(".")[0] for rule in before}
    for rule in after:
        if (_key(rule) not in had or rule.level is not None) and (text := _lowered(rule, known.get(rule.name))):
            # Whoever begins to use a tool says where: nothing was looked at before.
            elsewhere = "pytest" not in rule.name and rule.name.rpartition(".")[0] not in sections
            begins = rule.narrows and (one.old is None or elsewhere)
            stops = not rule.notes and not begins
            yield Weakening(one.path, rule.line, "settings", clean(text), stops=stops)
    for rule in before:
        if rule.needed and rule.name not in names and _key(rule) not in have:
            yield Weakening(one.path, rule.line, "settings", f"removed: {clean(rule.said)}", gone=True)


def _lowered(rule: Rule, before: Rule | None) -> str:
    """How a rule that is new or changed lowers the bar; '' if it does not."""
    if rule.level is not None and before is not None and before.level is not None:
        return f"{rule.name} lowered from {before.level:g} to {rule.level:g}" if rule.level < before.level else ""
    if rule.narrows:
        gone = [part for part in before.narrows if part not in rule.narrows] if before else []
        return f"only these count now: {rule.said}" if before is None or gone else ""
    if rule.loosens:
        return rule.said
    return f"changed: {before.said}" if before is not None and before.needed else ""
