"""docs/queue.schema.json says what the parser accepts, as far as a schema can."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from agentq.core.document import Reader, render
from agentq.core.spec import Queue, Spec, json_schema
from agentq.errors import QueueError

FILE = Path(__file__).parents[2] / "docs" / "queue.schema.json"
SCHEMA = Draft202012Validator(json_schema())
A = {"id": "a", "title": "A"}
LEASE = {
    "machine": "m",
    "instance": 1,
    "epoch": 1,
    "acquired": "2026-01-31T12:00:00Z",
    "expires": "2026-01-31T13:00:00Z",
}
RUNNING = {"id": "r", "title": "R", "status": "testing", "lease": LEASE}
DONE = {
    "id": "d",
    "title": "D",
    "landed": "a" * 40,
    "epoch": 1,
    "machine": "m",
    "claimed_at": LEASE["acquired"],
    "landed_at": LEASE["expires"],
}


def test_the_published_file_is_the_schema_of_the_models():
    assert FILE.read_text(encoding="utf-8") == json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def test_the_schema_itself_is_valid():
    Draft202012Validator.check_schema(json_schema())


VALID = [
    {},
    {"$schema": "./queue.schema.json", "paused": "lunch", "epoch": 3, "ready": [A]},
    {"ready": [{**A, "held": True, "estimate_hours": 4, "files_modified": ["src/", "*.py"], "tests": "none"}]},
    {"epoch": 1, "in_progress": [RUNNING]},
    {"epoch": 1, "in_progress": [{**RUNNING, "stages": {"test": {"started": LEASE["acquired"], "cost": 0.5}}}]},
    {"epoch": 1, "completed": [{**DONE, "landed": "b" * 64, "tokens": 5}]},
]


@pytest.mark.parametrize("data", VALID)
def test_both_accept(data):
    Reader().parse(json.dumps(data))
    assert list(SCHEMA.iter_errors(data)) == []


INVALID = [
    [],
    {"raedy": []},
    {"ready": {}},
    {"paused": 3},
    {"paused": "x" * 201},
    {"epoch": -1},
    {"epoch": 1.5},
    {"epoch": 2**53},
    {"ready": [3]},
    {"ready": [{"id": "a"}]},
    {"ready": [{"title": "A"}]},
    {"ready": [{**A, "title": ""}]},
    {"ready": [{**A, "title": "x" * 201}]},
    {"ready": [{**A, "id": "-a"}]},
    {"ready": [{**A, "id": "a" * 65}]},
    {"ready": [{**A, "id": "Ä"}]},
    {"ready": [{**A, "depend_on": []}]},
    {"ready": [{**A, "depends_on": "b"}]},
    {"ready": [{**A, "depends_on": ["B!"]}]},
    {"ready": [{**A, "files_modified": [""]}]},
    {"ready": [{**A, "files_modified": ["x" * 513]}]},
    {"ready": [{**A, "files_modified": ["a"] * 1001}]},
    {"ready": [{**A, "estimate_hours": 0}]},
    {"ready": [{**A, "estimate_hours": "4"}]},
    {"ready": [{**A, "estimate_hours": 10_001}]},
    {"ready": [{**A, "priority": 1.5}]},
    {"ready": [{**A, "priority": True}]},
    {"ready": [{**A, "priority": 10**7}]},
    {"ready": [{**A, "tests": "some"}]},
    {"ready": [{**A, "type": "Big Work"}]},
    {"ready": [{**A, "held": 1}]},
    {"ready": [{**A, "context_budget": 0}]},
    {"ready": [RUNNING]},
    {"in_progress": [A]},
    {"epoch": 1, "in_progress": [{**RUNNING, "status": "tested"}]},
    {"epoch": 1, "in_progress": [{**RUNNING, "lease": {**LEASE, "instance": 0}}]},
    {"epoch": 1, "in_progress": [{**RUNNING, "lease": {**LEASE, "acquired": 5}}]},
    {"epoch": 1, "in_progress": [{**RUNNING, "stages": {"deploy": {"started": LEASE["acquired"]}}}]},
    {"epoch": 1, "in_progress": [{**RUNNING, "stages": {"test": {"started": LEASE["acquired"], "tokens": -1}}}]},
    {"epoch": 1, "completed": [{**DONE, "landed": "abc"}]},
    {"epoch": 1, "completed": [{**DONE, "epoch": 0}]},
]


@pytest.mark.parametrize("data", INVALID, ids=lambda data: json.dumps(data)[:70])
def test_both_refuse(data):
    with pytest.raises(QueueError):
        Reader().parse(json.dumps(data))
    assert list(SCHEMA.iter_errors(data)) != []


specs = st.builds(
    Spec,
    id=st.from_regex(r"[a-z0-9][a-z0-9-]{0,8}", fullmatch=True),
    title=st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=50),
    description=st.none() | st.text('ab \n\t"\\é', max_size=40),
    estimate_hours=st.none() | st.floats(0.1, 100),
    priority=st.integers(-5, 5),
    held=st.booleans() | st.just("later"),
    files_modified=st.lists(st.sampled_from(["a/", "b.py", "*.ts", "[id]/x"]), max_size=3).map(tuple),
    tests=st.sampled_from(["required", "none"]),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(specs, max_size=4, unique_by=lambda spec: spec.id))
def test_what_is_written_validates_and_reads_back(ready):
    made = Queue(ready=tuple(ready))
    text = render(None, made)
    assert Reader().parse(text).queue == made
    assert list(SCHEMA.iter_errors(json.loads(text))) == []
