"""Whether a change leaves the tests, and the settings that run them, as strong as they were.

A file that cannot be read is said to be so, never taken for fine. Nothing is run; time grows with the size of the
change, and a file has at most MAX_BYTES.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from agentq.core.honesty.compare import Comparison, Side, Version, Weakening
from agentq.core.honesty.files import is_golden, is_other, is_run, is_test, reader_of
from agentq.core.honesty.plain import read_plain
from agentq.core.honesty.settings import weaker_settings
from agentq.core.honesty.shape import MAX_BYTES, Shape, Unreadable
from agentq.core.text import clean


def review(versions: Sequence[Version], globs: Sequence[str], commands: Sequence[str] = ()) -> list[Weakening]:
    """What a change takes from the tests and their settings, worst first. `globs`: the project's test files;
    `commands`: those that verify."""
    tests = [one for one in versions if _is_test(one, globs)]
    old, new = _side(tests, "old", globs), _side(tests, "new", globs)
    plain = [path for path, error in old.unread.items() if not error.long]
    if plain:  # by lines then, on both sides
        plain += [one.path for one in tests if one.old is None and one.path in new.unread]
        old, new = _side(tests, "old", globs, plain), _side(tests, "new", globs, plain)
    text = "not of its language as this Python knows it; compared by its lines alone"
    found = [Weakening(path, 0, "unread", text, stops=False) for path in plain]
    found += [*_unreadable(tests, old, new), *Comparison(old, new).found()]
    for one in versions:
        if one.old is not None:
            found += _other(one, globs)
    found += weaker_settings(versions, commands)
    return sorted(set(found), key=lambda one: (not one.stops, one.path, one.line, one.text))


def _is_test(one: Version, globs: Sequence[str]) -> bool:
    return any(data is not None and is_test(one.path, data, globs) for data in (one.old, one.new))


def _side(versions: Iterable[Version], which: str, globs: Sequence[str], plain: Sequence[str] = ()) -> Side:
    side = Side()
    for one in versions:
        data = one.old if which == "old" else None if one.link else one.new
        if data is None:
            continue
        try:
            shape = read(one.path, data, plain=one.path in plain)
        except Unreadable as error:
            side.unread[one.path] = error
            continue
        runs = is_run(one.path, globs)
        side.helpers |= shape.helpers
        side.switches[one.path] = shape.switches
        for case in shape.cases.values():
            side.cases[one.path, case.name] = case if runs else replace(case, collected=False)
    return side


def read(path: str, data: bytes, *, plain: bool = False) -> Shape:
    """The tests of a file; an empty shape where nobody knows its language. `plain`: by its lines alone. Raises
    Unreadable."""
    reader = reader_of(path)
    if reader is None:
        return Shape()
    if len(data) > MAX_BYTES:
        raise Unreadable(f"longer than {MAX_BYTES} bytes", long=True)
    if plain:
        return read_plain(data.decode("utf-8", "replace"))
    try:
        return reader(data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n"))
    except UnicodeDecodeError:
        raise Unreadable("not UTF-8") from None
    except RecursionError:
        raise Unreadable("its brackets are too deep") from None


def _unreadable(tests: Iterable[Version], old: Side, new: Side) -> Iterable[Weakening]:
    for one in tests:
        error = new.unread.get(one.path)
        if error is None:
            if one.path in old.unread and one.new is None:
                yield Weakening(one.path, 0, "removed", "removed; nobody can say which tests it held")
            continue
        broke = one.old is not None and one.path not in old.unread
        text = (
            f"it cannot be read{' any more' if broke else ''}, so nobody can say what it tests: {clean(error.why)}"
        )
        yield Weakening(one.path, error.line, "unreadable", text, stops=broke or (one.old is not None))


def _other(one: Version, globs: Sequence[str]) -> Iterable[Weakening]:
    """Test files that no reader here knows, and files with what tests expect."""
    if is_other(one.path, globs):
        if one.new is None or one.link or not one.new.strip():
            yield Weakening(one.path, 0, "removed", "removed a test file")
        else:
            yield Weakening(one.path, 0, "unread", "nothing here reads tests of this kind", stops=False)
    elif is_golden(one.path) and one.new is not None:
        yield Weakening(one.path, 0, "expected", "what is expected was written anew", stops=False)
