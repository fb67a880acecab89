"""Tests may not be removed, skipped or weakened against trunk, nor may the settings that run them: asked of the
test stage, of the implement stage, and once more of the tree that lands.

A person may allow it, file by file: `tests_may_shrink` of the spec. Declaring a file in `files_modified` is no
such word, since most specs declare the test file they add to.
"""

import shlex
from collections.abc import Sequence

from agentq.core.honesty import judge
from agentq.core.honesty.compare import Version, Weakening
from agentq.core.honesty.config import is_settings
from agentq.core.honesty.files import is_golden, is_other, reader_of
from agentq.core.honesty.shape import MAX_BYTES
from agentq.core.lifecycle import Stage
from agentq.core.paths import matches_any
from agentq.core.text import plural
from agentq.errors import GitError
from agentq.flows.outcome import Failed
from agentq.flows.session import Session, shown
from agentq.trunk.mirror import Change

# Nobody's but a person's; only a spec that names it may change it.
PROTECTED = ("agents/queue.json", "agents/config.toml", ".machine")
# What tells agents or other machines what to do: at no stage without being declared.
CI = (
    "agents/", ".github/workflows/", ".github/actions/", ".gitlab-ci.yml", ".circleci/", ".ci/",
    "azure-pipelines.yml", "Jenkinsfile", ".travis.yml", ".drone.yml", ".buildkite/", "bitbucket-pipelines.yml",
)  # fmt: skip
# What steers tests without being named by a command: only a spec that declares it may change it with its code.
STEERING = (
    "**/conftest.py", "**/sitecustomize.py", "**/usercustomize.py", "pytest.ini", "tox.ini", "noxfile.py",
    "setup.cfg", "pyproject.toml", "package.json", "Makefile", "jest.config.*", "vitest.config.*",
    ".pre-commit-config.yaml",
)  # fmt: skip

MAX_TOTAL = 32_000_000  # bytes of old and new files together
SHOWN = 5
_TOO_LONG = bytes(MAX_BYTES + 1)


def check(session: Session, before: str, after: str, stage: Stage) -> Failed | tuple[str, ...]:
    """Compare the tests of two trees; Failed with what is weaker, or notes about what the spec allows and about
    what is no more than worth showing. Raises GitError when git cannot say."""
    found = review(session, before, after)
    allowed = session.entry.tests_may_shrink
    stops = [one for one in found if one.stops and not matches_any(allowed, one.path)]
    granted = [one for one in found if one.stops and matches_any(allowed, one.path)]
    if found:
        _write(session, stage, found)
    if stops:
        return _failed(session, stops)
    notes = [f"TESTS ARE WEAKER, as tests_may_shrink allows: {one}" for one in granted]
    notes += [f"look at {one}" for one in found if not one.stops]
    return tuple(notes[: 2 * SHOWN])


def final(session: Session, trunk: str, tree: str) -> Failed | tuple[str, ...]:
    """Both questions about the tree that lands. Raises GitError when git cannot say."""
    mirror = session.services.mirror
    work = session.work.get("test")
    tests = [one.path for one in mirror.changes(work.base, work.commit)] if work else []
    changes = mirror.changes(trunk, tree)
    return out_of_bounds(session, changes, tests, "verify") or check(session, trunk, tree, "verify")


def out_of_bounds(
    session: Session, changes: Sequence[Change], locked: Sequence[str], stage: Stage
) -> Failed | None:
    """Stop on files nobody may change: the queue, CI, verification itself. `locked`: the test stage's."""
    declared = session.entry.files_modified
    for change in changes:
        named = change.path in declared if change.path in PROTECTED else matches_any(declared, change.path)
        if matches_any((*PROTECTED, *CI), change.path) and not named:
            return _undeclared(f"the agent changed {shown([change.path])}")
    foreign = [one for one in changes if one.path not in locked and not matches_any(declared, one.path)]
    why = _steering(session, foreign, stage)
    return _undeclared(f"{why}, which it did not declare") if why else None


def _undeclared(problem: str) -> Failed:
    return Failed(problem, "declare it in files_modified if that is wanted", attention=problem)


def _steering(session: Session, foreign: Sequence[Change], stage: Stage) -> str:
    """An undeclared change that could make the proof worth less: a deletion, a file that the verifying commands
    name or, where code is written, one that steers them. '' if there is none. What verify itself makes
    (migrations) may be deleted by it."""
    commands = session.rules.commands
    named = {word.removeprefix("./") for line in (*commands.verify, commands.test) for word in _words(line)}
    for change in foreign:
        steers = stage != "test" and matches_any(STEERING, change.path)
        if change.status == "D" and (steers or stage != "verify"):
            return f"deleted {shown([change.path])}"
        if steers or (change.path in named and change.old):
            return f"changed {shown([change.path])}, which steers verification"
    return ""


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return command.split()


# ---------------------------------------------------------------- tests


def review(session: Session, before: str, after: str) -> list[Weakening]:
    mirror, commands = session.services.mirror, session.rules.commands
    verify = (*commands.verify, commands.test)
    globs = commands.test_files
    changes = [one for one in mirror.changes(before, after) if _matters(one.path, globs, verify)]
    versions, left = _versions(session, changes)
    found = judge.review(versions, globs, verify)
    if left:
        text = f"the change is too large to compare its tests: {plural(len(left), 'file')} left, {shown(left, 3)}"
        found.insert(0, Weakening(left[0], 0, "unreadable", text))
    return found


def _matters(path: str, globs: Sequence[str], commands: Sequence[str]) -> bool:
    if reader_of(path) is not None or is_settings(path, commands):
        return True
    return is_golden(path) or is_other(path, globs)


def _versions(session: Session, changes: Sequence[Change]) -> tuple[list[Version], list[str]]:
    """Both sides of each path, those that were there first; and the paths that were not read for their size."""
    ordered = sorted(changes, key=lambda one: (not one.old, one.path))
    names = list(dict.fromkeys(sha for one in ordered for sha in (one.old, one.new) if sha))
    git = session.services.mirror.git
    sizes = {}
    for name, known in zip(names, git.sizes(names), strict=True):
        if known is not None and known[1] == "blob":
            sizes[name] = known[2]
    chosen, left, total = [], [], 0
    for one in ordered:
        total += sum(min(sizes.get(sha, 0), MAX_BYTES) for sha in (one.old, one.new) if sha)
        if total <= MAX_TOTAL:
            chosen.append(one)
        elif one.old:
            left.append(one.path)
    wanted = list(dict.fromkeys(
        sha for one in chosen for sha in (one.old, one.new) if sizes.get(sha, MAX_BYTES + 1) <= MAX_BYTES
    ))  # fmt: skip
    data: dict[str, bytes] = {}
    for sha, item in zip(wanted, git.objects(wanted), strict=True):
        if item is None:
            raise GitError(["cat-file"], 0, f"object {sha[:12]} is missing")
        data[sha] = item[1]
    return [_version(one, data) for one in chosen], left


def _version(change: Change, data: dict[str, bytes]) -> Version:
    old, new = (data.get(sha, _TOO_LONG) if sha else None for sha in (change.old, change.new))
    return Version(change.path, old, new, link=bool(change.new) and not change.mode.startswith("100"))


def _write(session: Session, stage: str, found: Sequence[Weakening]) -> None:
    """All of it, for people, beside the logs of the run."""
    lines = [f"{'stops' if one.stops else 'note'}: {one.kind}: {one}" for one in found]
    place = session.evidence.folder / f"{stage}-tests-compared.txt"
    place.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="replace")
    session.say("tests-compared", stage=stage, stops=sum(one.stops for one in found), file=str(place))


def _failed(session: Session, stops: Sequence[Weakening]) -> Failed:
    more = f"; and {len(stops) - SHOWN} more" if len(stops) > SHOWN else ""
    problem = f"tests are weaker than on trunk: {'; '.join(str(one) for one in stops[:SHOWN])}{more}"
    paths = list(dict.fromkeys(one.path for one in stops))
    hint = (
        f"'agentq retry {session.id}' lets the agent put them back; if that is wanted, allow it: "
        f"'agentq edit {session.id} --tests-may-shrink {shown(paths, 1)}', then retry"
    )
    return Failed(problem, hint, attention=problem)
