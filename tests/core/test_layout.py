"""Writing back what a person wrote by hand: only what changed is written anew."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentq.core import queue
from agentq.core.document import Reader, render
from agentq.core.spec import Queue, Spec

IDS = ["a", "b", "c", "d"]
space = st.sampled_from(["", " ", "\n", "\n  ", "\n\t\t", " \n\n    "])


@st.composite
def written_value(draw, value):
    """JSON of `value` as a person may write it: free spacing and order of keys."""
    if isinstance(value, dict):
        keys = draw(st.permutations(list(value)))
        members = [
            f'{draw(space)}"{key}"{draw(space)}:{draw(space)}{draw(written_value(value[key]))}{draw(space)}'
            for key in keys
        ]
        return "{" + (",".join(members) or draw(space)) + "}"
    if isinstance(value, list):
        items = [f"{draw(space)}{draw(written_value(item))}{draw(space)}" for item in value]
        return "[" + (",".join(items) or draw(space)) + "]"
    return json.dumps(value, ensure_ascii=draw(st.booleans()))


def entry(spec_id: str, draw) -> dict:
    more = {
        "description": "two\nlines, 'quotes', [brackets] and é",
        "estimate_hours": 4,
        "files_modified": [f"src/{spec_id}.py", "docs/"],
        "held": False,
        "priority": 0,
    }
    chosen = draw(st.lists(st.sampled_from(sorted(more)), unique=True, max_size=3))
    return {"id": spec_id, "title": f"Title {spec_id}", **{key: more[key] for key in chosen}}


@st.composite
def files(draw):
    """A hand-written queue file with entries in `ready` and `completed`."""
    ready = [entry(spec_id, draw) for spec_id in IDS[: draw(st.integers(0, 4))]]
    done = {"landed": "a" * 40, "epoch": 1, "machine": "m"}
    times = {"claimed_at": "2026-01-31T12:00:00+01:00", "landed_at": "2026-01-31T15:30:00.25Z"}
    data = {
        "ready": ready,
        "completed": [{"id": "z", "title": "Z", **done, **times}],
        "epoch": 1,
        "paused": draw(st.sampled_from([False, "lunch"])),
        "$schema": "./queue.schema.json",
    }
    left_out = draw(st.lists(st.sampled_from(["completed", "paused", "$schema"]), unique=True))
    text = draw(written_value({key: value for key, value in data.items() if key not in left_out}))
    return draw(space) + text + draw(space)


@settings(max_examples=100, deadline=None)
@given(files())
def test_an_unchanged_queue_is_written_as_it_was(text):
    document = Reader().parse(text)
    assert render(document, document.queue) == text
    assert render(document, Queue.model_validate(document.queue.model_dump(by_alias=True))) == text


@settings(max_examples=120, deadline=None)
@given(files(), st.data())
def test_changing_one_entry_leaves_every_other_character(text, data):
    before = Reader().parse(text)
    if not before.queue.ready:
        return
    chosen = data.draw(st.sampled_from(before.queue.ready))
    changes = data.draw(
        st.sampled_from([{"title": "New"}, {"priority": 7}, {"held": "wait"}, {"depends_on": ["z"]}])
    )
    if "depends_on" in changes and not before.queue.completed:
        return
    changed = queue.edit(before.queue, chosen.id, changes)
    written = render(before, changed)
    after = Reader().parse(written)
    assert after.queue == changed
    index = before.queue.ready.index(chosen)
    begin = before.offsets["ready"][index]
    end = begin + len(before.raw["ready"][index])
    assert written.startswith(text[:begin]) and written.endswith(text[end:])
    old, new = json.loads(text[begin:end]), json.loads(after.raw["ready"][index])
    assert [key for key in new if key in old] == [key for key in old if key in new]
    assert {key: value for key, value in new.items() if key not in changes} == {
        key: value for key, value in old.items() if key not in changes
    }


@settings(max_examples=120, deadline=None)
@given(files(), st.data())
def test_moving_entries_leaves_the_others_and_untouched_arrays(text, data):
    before = Reader().parse(text)
    act = data.draw(st.sampled_from(["add", "remove", "pause"]))
    if act == "add":
        changed = queue.add(before.queue, Spec(id="new", title="New"))
    elif act == "remove" and before.queue.ready:
        changed = queue.remove(before.queue, data.draw(st.sampled_from(before.queue.ready)).id)
    else:
        changed = queue.pause(before.queue, "enough")
    written = render(before, changed)
    after = Reader().parse(written)
    assert after.queue == changed
    assert after.arrays_text.get("completed") == before.arrays_text.get("completed")
    if act == "pause":
        assert after.arrays_text["ready"] == before.arrays_text["ready"]
    pieces = dict(zip([spec.id for spec in before.queue.ready], before.raw["ready"], strict=True))
    for spec, piece in zip(after.queue.ready, after.raw["ready"], strict=True):
        assert piece == pieces.get(spec.id, piece)
    assert render(after, changed) == written


BY_HAND = """{
    "paused" : false,
    "ready":[
        {"id": "a", "title": "A", "estimate_hours": 4},

        { "title": "B",
          "id": "b", "depends_on":["a"] }
    ],   "completed": []
}"""


def test_one_line_stays_one_line():
    document = Reader().parse(BY_HAND)
    written = render(document, queue.edit(document.queue, "a", {"title": "AA", "priority": 3}))
    assert written == BY_HAND.replace(
        '"title": "A", "estimate_hours": 4', '"title": "AA", "estimate_hours": 4, "priority": 3'
    )


def test_a_new_key_stands_like_its_neighbours():
    document = Reader().parse('{\n    "ready": [],\n    "completed": []\n}\n')
    written = render(document, queue.pause(document.queue, "lunch"))
    assert written == '{\n    "ready": [],\n    "completed": [],\n    "paused": "lunch"\n}\n'
    assert render(Reader().parse('{"ready": []}'), queue.pause(Queue(), "x")) == '{"ready": [], "paused": "x"}'


def test_a_new_file_is_complete_and_plain():
    spec = Spec(id="a", title="A", estimate_hours=4.0, files_modified=("src/a.py",), depends_on=())
    assert render(None, Queue(ready=(spec,))) == (
        '{\n  "ready": [\n    {\n      "id": "a",\n      "title": "A",\n      "files_modified": ["src/a.py"],\n'
        '      "estimate_hours": 4\n    }\n  ],\n  "in_progress": [],\n  "completed": []\n}\n'
    )


def test_long_lists_take_a_line_an_item():
    spec = Spec(id="a", title="A", files_modified=tuple(f"src/package/module_{n}.py" for n in range(5)))
    text = render(None, Queue(ready=(spec,)))
    assert '"files_modified": [\n        "src/package/module_0.py",\n' in text
    assert Reader().parse(text).queue.ready == (spec,)


@pytest.mark.parametrize("title", ['[ "a", "b" ]', "x [ ", '", "', "\\", "{}", "é✓"])
def test_odd_titles_survive(title):
    made = Queue(ready=(Spec(id="a", title=title, files_modified=("a [ ", "b]", '",')),))
    assert Reader().parse(render(None, made)).queue == made
