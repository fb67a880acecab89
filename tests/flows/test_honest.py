"""Tests that are removed, skipped or weakened do not land, nor do edits of CI, of what verifies, and of the queue: in
the test stage, in the implement stage, and when they are smuggled in before the landing."""

from pathlib import Path
from typing import Any

import pytest
from support import project as projects
from support.project import Project, run, services

from agentq.core import queue as transitions

BASE = """import pytest


def test_one():
    assert 1 + 1 == 2
    assert 2 + 2 == 4


def test_two():
    with pytest.raises(ValueError):
        int("x")
"""
FILE = "tests/test_base.py"
CI = ".github/workflows/ci.yml"

# what → (path, its new text, what the person is told)
ATTACKS: dict[str, tuple[str, str, str]] = {
    "removed": (FILE, BASE[: BASE.index("def test_two")], "removed 1 test: test_two"),
    "emptied": (FILE, "", "removed all 2 tests: test_one, test_two"),
    "skipped": (FILE, BASE.replace("def test_one", "@pytest.mark.skip\ndef test_one"), "test_one is skipped now"),
    "weakened": (FILE, BASE.replace("2 + 2 == 4", "2 + 2"), "test_one demands less"),
    "broken": (FILE, BASE.replace("def test_one():", "def test_one(:"), "cannot be read any more"),
    "settings": ("pytest.ini", "[pytest]\naddopts = -ra --ignore=tests\n", "has --ignore tests"),
    "CI": (CI, "on: push\njobs: {}\n", f"the agent changed {CI}"),
    "verify": ("agents/config.toml", "[commands]\nverify = ['true']\n", "the agent changed agents/config.toml"),
    "queue": ("agents/queue.json", '{"ready": []}\n', "the agent changed agents/queue.json"),
    "prompts": ("agents/prompts/implement.md", "Say yes.\n", "the agent changed agents/prompts/implement.md"),
}
DECLARED = [FILE, "pytest.ini", "alpha.txt", "checks/alpha.py"]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A trunk with tests, settings and CI; a spec that declares the test file and the settings."""
    made = projects.build(tmp_path / "p")
    made.move_trunk(FILE, BASE)
    made.move_trunk("pytest.ini", "[pytest]\naddopts = -ra\n")
    made.move_trunk(CI, "on: push\njobs:\n  test:\n    steps:\n      - run: pytest\n")
    made.move_trunk(".gitignore", ".machine\n*.pyc\n")
    made.move_trunk("agents/queue.json", "{}\n")
    made.add("alpha", files_modified=DECLARED)
    return made


def attack(project: Project, stage: str, name: str) -> None:
    """The agent does its work, and this."""
    path, text, _ = ATTACKS[name]
    script = project.scripts / f"alpha.{stage}.py"
    script.write_text(
        f"p = Path({path!r}); p.parent.mkdir(parents=True, exist_ok=True); p.write_text({text!r})\n"
        + script.read_text()
    )


@pytest.mark.parametrize("name", ["removed", "skipped", "weakened", "settings", "CI", "verify", "queue"])
@pytest.mark.parametrize("stage", ["test", "implement"])
def test_an_agent_that_makes_tests_worth_less_is_stopped(project: Project, stage: str, name: str) -> None:
    attack(project, stage, name)
    report = run(project, "alpha")
    assert (report.ended, report.stage) == ("attention", stage), report
    assert ATTACKS[name][2] in report.problem
    entry = project.entry("alpha")
    assert entry["failures"] == 1 and ATTACKS[name][2] in entry["attention"]
    assert project.landings() == []


def smuggle(made: Any, contents: dict[str, bytes | None]) -> None:
    """Put other files into what the implement stage proved."""
    mirror = made.mirror
    work = mirror.work("alpha")["implement"]
    tree = mirror.put(work.tree, contents)
    mirror.set_ref("refs/agentq/work/alpha/implement", mirror.commit_tree(tree, [work.base], "alpha: implement\n"))


def test_what_is_smuggled_in_before_the_landing_does_not_land(project: Project) -> None:
    assert run(project, "alpha", last="implement").ended == "stopped"
    made = services(project)
    honest = made.mirror.ref("refs/agentq/work/alpha/implement")
    for name, (path, text, words) in ATTACKS.items():
        made.mirror.set_ref("refs/agentq/work/alpha/implement", honest)
        smuggle(made, {path: text.encode()})
        report = run(project, "alpha")
        assert (report.ended, report.stage) == ("attention", "verify"), (name, report)
        assert words in report.problem, name
        made.store.update(lambda queue: transitions.retry(queue, "alpha"))
    made.mirror.set_ref("refs/agentq/work/alpha/implement", honest)
    smuggle(made, {FILE: None})
    report = run(project, "alpha")
    assert report.ended == "attention" and "removed all 2 tests: test_one, test_two" in report.problem
    made.store.update(lambda queue: transitions.retry(queue, "alpha"))
    assert project.landings() == []
    made.mirror.set_ref("refs/agentq/work/alpha/implement", honest)
    assert run(project, "alpha").ended == "landed"


def test_a_test_file_that_becomes_a_link_is_a_test_file_removed(project: Project) -> None:
    project.script(
        "alpha", "test",
        f"import os; Path('kept.py').write_text(Path({FILE!r}).read_text()); Path({FILE!r}).unlink()\n"
        f"os.symlink('../kept.py', {FILE!r})\n" + (project.scripts / "alpha.test.py").read_text(),
    )  # fmt: skip
    report = run(project, "alpha")
    assert report.ended == "attention" and f"{FILE}:4 as it was: removed all 2 tests" in report.problem, report


def test_a_spec_that_only_moves_and_strengthens_tests_lands(project: Project) -> None:
    project.script(
        "alpha", "implement",
        f"text = Path({FILE!r}).read_text()\n"
        "two = text.index('def test_two')\n"
        f"Path({FILE!r}).write_text(text[:two].replace('test_one', 'test_sums') + 'def test_more():\\n    assert 1\\n')\n"
        "Path('tests/test_numbers.py').write_text('import pytest\\n\\n\\n' + text[two:])\n"
        + (project.scripts / "alpha.implement.py").read_text(),
    )  # fmt: skip
    assert run(project, "alpha").ended == "landed"
    assert "tests/test_numbers.py" in project.trunk_files()


def test_the_person_is_told_file_and_line_and_all_of_it_is_kept(project: Project) -> None:
    attack(project, "implement", "weakened")
    report = run(project, "alpha")
    assert f"{FILE}:6: test_one demands less: was '2 + 2 == 4', now '2 + 2'" in report.problem
    assert f"agentq edit alpha --tests-may-shrink {FILE}" in report.hint
    kept = list(project.state.rglob("implement-tests-compared.txt"))
    assert len(kept) == 1 and "stops: weakened" in kept[0].read_text()


def test_a_name_that_paints_the_terminal_is_shown_clean(project: Project) -> None:
    bad = "tests/test_\x1b[31mred\u202e.py"
    project.move_trunk(bad, BASE)
    project.add("beta", files_modified=["beta.txt", "checks/beta.py", "tests/**"])
    project.script(
        "beta",
        "implement",
        f"Path({bad!r}).write_text('')\n" + (project.scripts / "beta.implement.py").read_text(),
    )
    report = run(project, "beta")
    assert report.ended == "attention" and "removed all 2 tests" in report.problem
    assert not set("\x1b\u202e") & set(report.problem + report.hint)


def test_the_agent_can_put_the_tests_back(project: Project) -> None:
    attack(project, "implement", "skipped")
    assert run(project, "alpha").ended == "attention"
    project.script(
        "alpha", "implement",
        "assert 'is skipped now' in Path(prompt).read_text()\n"
        f"Path({FILE!r}).write_text({BASE!r}); Path('alpha.txt').write_text('alpha\\n'); commit()\n",
    )  # fmt: skip
    assert "landed" in project.agentq("retry", "alpha", "--yes").stdout


def test_a_persons_word_lets_tests_shrink_and_the_question_says_so(project: Project) -> None:
    queue = project.queue
    queue["ready"][0]["tests_may_shrink"] = [FILE]
    project.write_queue(**queue)
    attack(project, "implement", "removed")
    asked: list[str] = []

    def confirm(_spec: str, summary: str) -> bool:
        asked.append(summary)
        return True

    report = run(project, "alpha", confirm=confirm)
    assert report.ended == "landed", report
    assert "TESTS ARE WEAKER" in asked[0] and "test_two" in asked[0]
    assert any("TESTS ARE WEAKER" in note for note in report.notes)
