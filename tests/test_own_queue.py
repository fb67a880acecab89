"""This project's own queue and settings are read by the same code as everybody's."""

import json
from pathlib import Path

import jsonschema

from agentq import config
from agentq.core.board import of_queue
from agentq.core.document import Reader
from agentq.core.schedule import Host, recommend
from agentq.core.spec import json_schema
from agentq.flows.brief import read_spec_file, spec_path

ROOT = Path(__file__).parents[1]


def test_the_queue_is_valid_and_something_is_eligible() -> None:
    text = (ROOT / "agents" / "queue.json").read_text()
    queue = Reader().parse(text).queue
    jsonschema.Draft202012Validator(json_schema()).validate(json.loads(text))
    assert (ROOT / "agents" / str(queue.schema_)).resolve() == ROOT / "docs" / "queue.schema.json"
    assert recommend(of_queue(queue), Host("any", 4)).pick is not None or not queue.ready
    for spec in queue.ready:
        path = spec_path(ROOT, spec)
        assert spec.description or (path and read_spec_file(path, ROOT).text.strip()), f"{spec.id} says nothing"


def test_the_settings_load(tmp_path: Path) -> None:
    loaded = config.load(ROOT, {})
    assert loaded.commands.verify == ("make check",)


def test_the_example_of_a_machine_file_loads(tmp_path: Path) -> None:
    (tmp_path / ".machine").write_text((ROOT / ".machine.example").read_text())
    assert config.load(tmp_path, {}).machine.instances >= 1
