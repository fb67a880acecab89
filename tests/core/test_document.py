"""Reading agents/queue.json by hand: every mistake gets its line, its column, what is wrong and what to do."""

import pytest

from agentq.core.document import Reader, render
from agentq.core.spec import Queue
from agentq.errors import CycleError, QueueError

A = '{"id": "a", "title": "A"}'
LEASE = '"lease": {"machine": "m", "instance": 1, "epoch": 1, "acquired": "%s", "expires": "2026-01-31T13:00:00Z"}'
RUNNING = '{"id": "r", "title": "R", "status": "testing", ' + LEASE % "2026-01-31T12:00:00Z" + "}"


def ready(*entries: str) -> str:
    return '{"ready": [' + ", ".join(entries) + "]}"


def spec(more: str) -> str:
    return '{"ready": [{"id": "a", "title": "A", ' + more + "}]}"


# text, line, column, what is wrong, hint
MALFORMED = [
    ("", 1, 1, "the file is empty", "an empty queue is {}; 'agentq init' writes one"),
    (" \n\t\n", 3, 1, "the file is empty", "an empty queue is {}; 'agentq init' writes one"),
    ("\ufeff{}", 1, 1, "the file begins with a byte order mark", "save it as UTF-8 without BOM"),
    ("[]", 1, 1, "a queue is an object", 'it begins with {"ready": […]'),
    ("null", 1, 1, "a queue is an object", 'it begins with {"ready": […]'),
    ("hello", 1, 1, "a value is missing here", ""),
    ("{} {}", 1, 4, "text behind the end of the queue", "remove it"),
    ('{"ready": []}\nx', 2, 1, "text behind the end of the queue", "remove it"),
    ("{", 1, 2, "the text ends before it is complete", "a bracket or a quote is not closed"),
    ('{"ready": [' + A, 1, 37, "the text ends before it is complete", "a bracket or a quote is not closed"),
    ('{"ready": [{"id": ', 1, 19, "the text ends before it is complete", "a bracket or a quote is not closed"),
    ('{"ready": [{"id": "a', 1, 19, "this string is not closed", 'a quote (") is missing'),
    ('{"ready": [],}', 1, 13, "a comma before a closing bracket", "remove the comma"),
    ('{"ready": [' + A + " ,\n]}", 1, 38, "a comma before a closing bracket", "remove the comma"),
    (spec('"depends_on": ["b",]'), 1, 56, "a comma before a closing bracket", "remove the comma"),
    (spec('"priority": 1,'), 1, 51, "a comma before a closing bracket", "remove the comma"),
    ('{"ready": [,]}', 1, 12, "a value is missing here", ""),
    ('{"ready" []}', 1, 10, "a colon is missing here", ""),
    ('{"ready": [] "epoch": 1}', 1, 14, "a comma or a closing bracket is missing here", ""),
    ('{"ready": [{"id": "a"\n "title": "A"}]}', 2, 2, "a comma or a closing bracket is missing here", ""),
    ("{ready: []}", 1, 2, "a key in double quotes is missing here", ""),
    ('{"ready": [{id: "a"}]}', 1, 13, "a key in double quotes is missing here", ""),
    ("{'ready': []}", 1, 2, "JSON uses double quotes", "write \"…\" instead of '…'"),
    (ready("{\"id\": 'a'}"), 1, 19, "JSON uses double quotes", "write \"…\" instead of '…'"),
    ('{"ready": [] // todo\n}', 1, 14, "comments are not part of JSON", "put the note into a description"),
    ('{\n  # note\n  "ready": []}', 2, 3, "comments are not part of JSON", "put the note into a description"),
    (spec('/* x */ "priority": 1'), 1, 38, "comments are not part of JSON", "put the note into a description"),
    (spec('"held": True'), 1, 46, "JSON writes true, false and null", "in lower case, without quotes"),
    (
        spec('"estimate_hours": NaN'),
        1,
        56,
        "NaN is not a number that JSON knows",
        "write a number or leave the key out",
    ),
    (
        spec('"description": "NaN", "estimate_hours": -Infinity'),
        1,
        78,
        "-Infinity is not a number that JSON knows",
        "write a number or leave the key out",
    ),
    (
        '{"epoch": Infinity}',
        1,
        11,
        "Infinity is not a number that JSON knows",
        "write a number or leave the key out",
    ),
    (
        spec('"description": "\\" NaN", "estimate_hours": NaN'),
        1,
        81,
        "NaN is not a number that JSON knows",
        "write a number or leave the key out",
    ),
    (spec('"priority": ' + "9" * 4301), 1, 50, "a number with more than 4300 digits", ""),
    (ready('{"id": "a\n"}'), 1, 21, "a line break, tab or control character inside a string", None),
    (ready('{"id": "\\x"}'), 1, 20, "a backslash that begins no JSON escape", "write \\\\ for a backslash"),
    (ready('{"id": "\\u12"}'), 1, 21, "a \\u escape without four hexadecimal digits", ""),
    ('{"ready": [' + "[" * 100_000, 1, 12, "nested too deeply", "entries of a queue are flat objects"),
    (
        '{\n"ready": [\n<<<<<<< ours\n' + A,
        3,
        1,
        "markers of a merge conflict",
        "keep the entries of both sides and remove the markers",
    ),
    ('{"ready": [], "ready": []}', 1, 15, "the key 'ready' stands here a second time", "merge the two"),
    ('{"epoch": 1, "epoch": 1}', 1, 14, "the key 'epoch' stands here a second time", "merge the two"),
    (spec('"id": "b"'), 1, 38, "the key 'id' stands here a second time", "keep one of them"),
    (
        '{"in_progress": [{"id": "r", "title": "R",\n "lease": {"epoch": 1, "x": {"y": 1, "y": 2}}}]}',
        2,
        38,
        "the key 'y' stands here a second time",
        "keep one of them",
    ),
]

INVALID = [
    ('{"raedy": []}', 1, 2, "unknown key 'raedy'", "did you mean 'ready'?"),
    (
        '{"zzz": 1}',
        1,
        2,
        "unknown key 'zzz'",
        "known: $schema, paused, epoch, drained, lane, ready, in_progress, completed",
    ),
    ('{"ready": {}}', 1, 11, "'ready' is an array", 'write "ready": []'),
    ('{"ready": "a"}', 1, 11, "'ready' is an array", 'write "ready": []'),
    ('{"paused": 3}', 1, 12, "paused: should be true, false or a text that says why", ""),
    ('{"paused": "' + "x" * 201 + '"}', 1, 12, "paused: should have at most 200 characters", ""),
    ('{"epoch": -1}', 1, 11, "epoch: should be greater than or equal to 0", ""),
    ('{"epoch": 1.5}', 1, 11, "epoch: should be a valid integer", ""),
    ('{"epoch": 1e300}', 1, 11, "epoch: should be a valid integer", ""),
    ('{"epoch": ' + "9" * 4000 + "}", 1, 11, "epoch: should be less than or equal to 9007199254740991", ""),
    (ready("3"), 1, 12, "ready[?]: should be an object with id and title", ""),
    (ready(A, "[]"), 1, 39, "ready[?]: should be an object with id and title", ""),
    (ready('{"title": "A"}'), 1, 12, "ready[?]: 'id' is missing", "id and title are required"),
    (ready('{"id": "a"}'), 1, 12, "ready[a]: 'title' is missing", "id and title are required"),
    (ready('{"id": "-a", "title": "A"}'), 1, 19, "ready[-a]: not an id", "ids match [a-z0-9][a-z0-9-]{0,63}"),
    (ready('{"id": "A b", "title": "A"}'), 1, 19, "ready[A b]: not an id", "ids match [a-z0-9][a-z0-9-]{0,63}"),
    (ready('{"id": "a\\n", "title": "A"}'), 1, 19, "ready[a\n]: not an id", "ids match [a-z0-9][a-z0-9-]{0,63}"),
    (ready('{"id": 7, "title": "A"}'), 1, 19, "ready[7]: id: should be a valid string", ""),
    (ready('{"id": "a", "title": "A\\u001b[2J"}'), 1, 33, "ready[a]: title: holds control characters", ""),
    (ready('{"id": "a", "title": "A\\u202eB"}'), 1, 33, "ready[a]: title: holds control characters", ""),
    (ready('{"id": "a", "title": "\\ud800"}'), 1, 33, "ready[a]: title: holds half of a surrogate pair", ""),
    (ready('{"id": "a", "title": ""}'), 1, 33, "ready[a]: title: should have at least 1 character", ""),
    (spec('"depend_on": []'), 1, 38, "ready[a]: unknown key 'depend_on'", "did you mean 'depends_on'?"),
    (spec('"held": 1'), 1, 46, "ready[a]: held: should be true, false or a text that says why", ""),
    (spec('"priority": "1"'), 1, 50, "ready[a]: priority: should be a valid integer", ""),
    (spec('"priority": true'), 1, 50, "ready[a]: priority: should be a valid integer", ""),
    (spec('"priority": 1000001'), 1, 50, "ready[a]: priority: should be less than or equal to 1000000", ""),
    (spec('"estimate_hours": "4"'), 1, 56, "ready[a]: estimate_hours: should be a valid number", ""),
    (spec('"estimate_hours": 0'), 1, 56, "ready[a]: estimate_hours: should be greater than 0", ""),
    (spec('"estimate_hours": 1e999'), 1, 56, "ready[a]: estimate_hours: should be a finite number", ""),
    (
        spec('"files_modified": ["ok.py", "/etc/passwd"]'),
        1,
        66,
        "ready[a]: files_modified.1: a path is relative to the repository and does not begin with"
        " '/', '~', ':' or '-'",
        "",
    ),
    (
        spec('"files_modified": ["../up"]'),
        1,
        57,
        "ready[a]: files_modified.0: a path stays inside the repository: no '.', '..' or empty segments",
        "",
    ),
    (spec('"files_modified": "x"'), 1, 56, "ready[a]: files_modified: should be a valid tuple", ""),
    (spec('"tests": "some"'), 1, 47, "ready[a]: tests: should match pattern '^(required|none)$'", ""),
    (
        '{"in_progress": [{"id": "r", "title": "R", "status": "testing"}]}',
        1,
        18,
        "in_progress[r]: 'lease' is missing",
        "",
    ),
    (
        '{"epoch": 1, "in_progress": [' + RUNNING.replace('"testing"', '"tested"') + "]}",
        1,
        66,
        "in_progress[r]: status: should be 'testing', 'tests-written', 'implementing', 'implemented'"
        " or 'verifying'",
        "",
    ),
    (
        '{"epoch": 1, "in_progress": [\n' + RUNNING.replace('"instance"', '"inst"') + "]}",
        2,
        74,
        "in_progress[r]: unknown key 'inst'",
        "did you mean 'instance'?",
    ),
    (
        '{"epoch": 1, "in_progress": [\n' + RUNNING.replace("2026-01-31T12:00:00Z", "2026-01-31T12:00:00") + "]}",
        2,
        113,
        "in_progress[r]: lease.acquired: a time needs its zone, for example 2026-01-31T12:00:00Z",
        "",
    ),
    (
        '{"epoch": 1, "in_progress": [\n' + RUNNING.replace("2026-01-31T12:00:00Z", "1769860800") + "]}",
        2,
        113,
        "in_progress[r]: lease.acquired: a time is a text like 2026-01-31T12:00:00Z",
        "",
    ),
    (
        '{"in_progress": [' + RUNNING + "]}",
        1,
        115,
        "'r' has an epoch that was not handed out, or twice",
        "leases are written by agentq alone",
    ),
    (
        ready(A, A),
        1,
        46,
        "'a' is in ready and again in ready",
        "an id stands in one place; remove one entry",
    ),
    (
        '{"epoch": 1, "in_progress": [' + RUNNING + '],\n "ready": [' + A.replace('"a"', '"r"') + "]}",
        1,
        37,
        "'r' is in ready and again in in_progress",
        "an id stands in one place; remove one entry",
    ),
    (spec('"depends_on": ["a"]'), 1, 53, "'a' depends on itself", "remove it"),
    (
        '{"ready": [' + A + ',\n {"id": "auth", "title": "B", "depends_on": ["a", "ath"]}]}',
        2,
        51,
        "'auth' depends on 'ath', which is not in the queue",
        "did you mean 'auth'?",
    ),
    (
        spec('"depends_on": ["nobody"]'),
        1,
        53,
        "'a' depends on 'nobody', which is not in the queue",
        "add that spec first, or remove the dependency",
    ),
]


def _ids(rows: list[tuple]) -> list[str]:
    return [f"{index}-{row[3][:40]}" for index, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("text", "line", "column", "why", "hint"), [*MALFORMED, *INVALID], ids=_ids([*MALFORMED, *INVALID])
)
def test_a_mistake_is_named_with_its_place(text, line, column, why, hint):
    with pytest.raises(QueueError) as caught:
        Reader().parse(text)
    error = caught.value
    assert (error.message, error.line, error.column) == (why, line, column)
    assert hint is None or error.hint == hint


def test_a_cycle_is_shown_as_a_path():
    text = (
        '{"ready": [\n {"id": "x", "title": "X", "depends_on": ["c"]},\n'
        ' {"id": "a", "title": "A", "depends_on": ["b"]},\n'
        ' {"id": "b", "title": "B", "depends_on": ["c"]},\n {"id": "c", "title": "C", "depends_on": ["a"]}]}'
    )
    with pytest.raises(CycleError) as caught:
        Reader().parse(text)
    error = caught.value
    assert error.cycle[0] == error.cycle[-1] and sorted(error.cycle[1:]) == ["a", "b", "c"]
    assert error.message == "dependency cycle: " + " → ".join(error.cycle)
    line = {"a": 3, "b": 4, "c": 5}[error.cycle[0]]
    assert (error.line, error.column, error.hint) == (line, 42, "remove one of these depends_on entries")


def test_the_path_inside_the_queue_is_given():
    for text, path in [
        (spec('"files_modified": ["a", "../b"]'), "ready/0/files_modified/1"),
        (ready(A, '{"id": "b", "title": "B", "depends_on": ["c"]}'), "ready/1/depends_on/0"),
        (ready(A, '{"id": "b"}'), "ready/1"),
    ]:
        with pytest.raises(QueueError) as caught:
            Reader().parse(text)
        assert caught.value.path == path


def test_a_truncated_file_is_never_read_as_a_queue():
    whole = render(None, Reader().parse('{"epoch": 1, "in_progress": [' + RUNNING + "], " + ready(A)[1:]).queue)
    for size in range(len(whole.rstrip())):
        with pytest.raises(QueueError) as caught:
            Reader().parse(whole[:size])
        assert caught.value.line >= 1 and caught.value.column >= 1


def test_duplicates_deep_down_end_with_a_place():
    deep = 400
    text = spec('"x": ' + '{"k": ' * deep + '{"y": 1, "y": 2}' + "}" * deep)
    with pytest.raises(QueueError, match="stands here a second time") as caught:
        Reader().parse(text)
    assert caught.value.column == text.rindex('"y"') + 1


def test_empty_queues_read_and_are_written_as_they_were():
    for text in ("{}", " {\n} \n", '{"ready": [ ]}'):
        document = Reader().parse(text)
        assert document.queue == Queue()
        assert render(document, Queue()) == text
