"""Conflicts of two specs, from verification and from the lane: resolved by their class with the rule on record, or
stopped with everything a person needs."""

from pathlib import Path
from typing import Any

import pytest
from support import project as projects
from support.project import Project, run

CONFIG = """
[overlap]
additive = ["router.py", "notes.md", "shared.txt", "package.json"]
[conflicts]
generated = ["made.txt"]
regenerate = "cat router.py | wc -l > made.txt"
"""
ROUTER = "from a import b\n\nROUTES = [\n    'base',\n]\n"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = projects.build(tmp_path / "p", config=CONFIG)
    (made.checkout / "router.py").write_text(ROUTER)
    (made.checkout / "made.txt").write_text("5\n")
    made.git("add", "-A")
    made.git("commit", "-qm", "a router")
    made.git("push", "-q", "origin", "main")
    return made


def change(project: Project, spec_id: str, path: str, old: str, new: str, more: str = "", **fields: Any) -> None:
    project.add(spec_id, tests="none", files_modified=[path], **fields)
    project.script(
        spec_id, "implement",
        f"path = Path({path!r}); text = path.read_text(); assert {old!r} in text\n"
        f"path.write_text(text.replace({old!r}, {new!r}, 1))\n{more}\ncommit()\n",
    )  # fmt: skip


def both(project: Project, *names: str) -> list[Any]:
    """Implement all, then land one after the other."""
    for name in names:
        assert run(project, name, last="implement").ended == "stopped"
    return [run(project, name) for name in names]


def trunk(project: Project, path: str) -> str:
    return project.git("show", f"main:{path}", cwd=project.hub)


def test_two_registrations_at_one_place_both_land_and_the_rule_is_on_record(project: Project) -> None:
    change(project, "a", "router.py", "    'base',\n", "    'base',\n    'a',\n")
    change(project, "b", "router.py", "    'base',\n", "    'base',\n    'b',\n")
    assert [report.ended for report in both(project, "a", "b")] == ["landed", "landed"]
    assert (
        trunk(project, "router.py") == ROUTER.replace("    'base',\n", "    'base',\n    'a',\n    'b',\n").strip()
    )
    message = project.git("log", "-1", "--format=%B", "main", cwd=project.hub)
    assert "Agentq-Resolved: additive: router.py" in message
    assert "Agentq-Spec: b" in message
    shown = project.agentq("show", "b").stdout
    assert "additive: router.py" in shown


def test_a_generated_file_is_made_anew_from_what_was_merged(project: Project) -> None:
    more = "import subprocess; subprocess.run('cat router.py | wc -l > made.txt', shell=True, check=True)"
    for name in ("a", "b"):
        change(project, name, "router.py", "    'base',\n", f"    'base',\n    '{name}',\n", more)
        queue = project.queue
        queue["ready"][-1]["files_modified"].append("made.txt")
        project.write_queue(**queue)
    config = project.checkout / "agents" / "config.toml"
    config.write_text(config.read_text().replace('"shared.txt"', '"shared.txt", "made.txt"'))
    assert [report.ended for report in both(project, "a", "b")] == ["landed", "landed"]
    assert trunk(project, "made.txt") == "7"


def test_the_same_lines_stop_with_versions_reasons_both_specs_and_an_order(project: Project) -> None:
    change(project, "a", "shared.txt", "line 3\n", "line three\n", description="Say it in words.")
    change(project, "b", "shared.txt", "line 3\n", "LINE 3\n", description="Say it loudly.")
    first, second = both(project, "a", "b")
    assert (first.ended, second.ended) == ("landed", "attention")
    assert "shared.txt" in second.problem and "changed on trunk by a" in second.problem
    (folder,) = (project.state / "runs" / "b").glob("*/conflict")
    assert "line three" in (folder / "trunk" / "shared.txt").read_text()
    assert "LINE 3" in (folder / "spec" / "shared.txt").read_text()
    assert "line 3" in (folder / "base" / "shared.txt").read_text()
    told = (folder / "README.txt").read_text()
    assert "same lines" in told and "Order: a, then b" in told
    assert "Say it in words." in (folder / "specs" / "a.md").read_text()
    assert "Say it loudly." in (folder / "specs" / "b.md").read_text()


def test_a_setting_given_two_values_stops(project: Project) -> None:
    change(project, "a", "router.py", "ROUTES", "LIMIT = 1\n\nROUTES")
    change(project, "b", "router.py", "ROUTES", "LIMIT = 2\n\nROUTES")
    first, second = both(project, "a", "b")
    assert (first.ended, second.ended) == ("landed", "attention")
    assert "LIMIT = 1" in trunk(project, "router.py") and "LIMIT = 2" not in trunk(project, "router.py")


def test_a_regenerate_command_that_gives_two_results_stops(project: Project) -> None:
    config = project.checkout / "agents" / "config.toml"
    config.write_text(config.read_text().replace("cat router.py | wc -l > made.txt", "date +%N > made.txt"))
    project.git("commit", "-qam", "an unsteady generator")
    project.git("push", "-q", "origin", "main")
    change(project, "a", "made.txt", "5\n", "6\n")
    change(project, "b", "made.txt", "5\n", "7\n")
    queue = project.queue
    config.write_text(config.read_text().replace('"shared.txt"', '"shared.txt", "made.txt"'))
    project.write_queue(**queue)
    first, second = both(project, "a", "b")
    assert (first.ended, second.ended) == ("landed", "attention")
    (folder,) = (project.state / "runs" / "b").glob("*/conflict")
    assert "two contents" in (folder / "README.txt").read_text()
