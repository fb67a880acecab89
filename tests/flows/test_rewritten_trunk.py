"""A person takes a commit back from trunk while specs stand on it: it does not come back with them."""

from pathlib import Path

import pytest
from support import project as projects
from support.project import Project, run
from test_collide import Bench

from agentq.core.collisions import FILE
from agentq.flows import collide
from agentq.flows.services import Evidence
from agentq.flows.session import Session
from agentq.store import files
from agentq.store.runs import Live


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return projects.build(tmp_path / "p", config='commit = "auto"\n')


def rewrite(project: Project, base: str) -> None:
    other = project.root / "other"
    project.git("reset", "-q", "--hard", base, cwd=other)
    (other / "instead.txt").write_text("instead\n")
    project.git("add", "-A", cwd=other)
    project.git("commit", "-qm", "instead", cwd=other)
    project.git("push", "-qf", "origin", "HEAD:main", cwd=other)


def taken_back(project: Project) -> str:
    base = project.git("rev-parse", "main", cwd=project.hub)
    project.move_trunk("secret.txt", "password\n")
    return base


@pytest.mark.parametrize("last", ["test", "implement"])
def test_a_landing_does_not_bring_back_what_trunk_dropped(project: Project, last: str) -> None:
    base = taken_back(project)
    project.add("a")
    assert run(project, "a", last=last).ended == "stopped"
    rewrite(project, base)
    report = run(project, "a")
    assert report.ended == "landed", report
    assert {"a.txt", "checks/a.py", "instead.txt"} <= set(project.trunk_files())
    assert "secret.txt" not in project.trunk_files()
    assert project.git("show", "--format=", "--name-only", "main", cwd=project.hub).split() == [
        "a.txt",
        "checks/a.py",
    ]
    assert project.git("log", "--format=%h", "main", "--", "secret.txt", cwd=project.hub) == ""


def test_unfinished_work_does_not_bring_it_back(project: Project) -> None:
    base = taken_back(project)
    project.add("a", tests="none")
    project.script("a", "implement", 'Path("half.txt").write_text("half\\n"); raise SystemExit(3)')
    assert run(project, "a", last="implement").ended == "attention"
    rewrite(project, base)
    project.agentq("retry", "a")
    project.script("a", "implement", """
assert Path("half.txt").read_text() == "half\\n" and not Path("secret.txt").exists()
Path("half.txt").unlink(); Path("a.txt").write_text("a\\n"); commit()
""")  # fmt: skip
    report = run(project, "a")
    assert report.ended == "landed", report
    assert "secret.txt" not in project.trunk_files()


def test_what_was_taken_back_is_no_collision(project: Project) -> None:
    base = project.git("rev-parse", "main", cwd=project.hub)
    text = (project.checkout / "shared.txt").read_text()
    project.move_trunk("shared.txt", "password\n" + text)
    bench = Bench(project)
    bench.begin("a", "b")
    bench.head("a", a_txt="a", shared_txt="password\n" + text.replace("line 29", "mine"))
    bench.edit("a", base=bench.trunk)
    project.git("fetch", "-q", cwd=project.root / "other")
    project.git("reset", "-q", "--hard", base, cwd=project.root / "other")
    (project.root / "other" / "shared.txt").write_text("another\n" + text)
    project.git("commit", "-qam", "instead", cwd=project.root / "other")
    project.git("push", "-qf", "origin", "HEAD:main", cwd=project.root / "other")
    bench.trunk = bench.mirror.fetch().commit
    bench.head("b", b_txt="b")
    bench.edit("b", base=bench.trunk)
    assert bench.refresh("a") == [] and bench.seen() == []
    bench.head("b", shared_txt="another\n" + text.replace("line 29", "other"))
    assert bench.refresh("a") == [("a", "b")], "what the two specs do is"


def test_what_git_cannot_merge_is_unknown_and_said_once(project: Project) -> None:
    bench = Bench(project)
    bench.begin("a", "b", "c")
    bench.head("a", x_txt="a")
    broken = bench.head("b", x_txt="b")
    bench.head("c", y_txt="c")
    sha = bench.mirror.tree(broken)
    tree = bench.mirror.path / "objects" / sha[:2] / sha[2:]
    kept = tree.rename(tree.with_name("kept"))
    assert bench.refresh("b") == [("a", "b")], "one note, not one for each pair"
    stored = {(one["spec"], one["other"]): one["merged"] for one in files.read_json(project.state / FILE)["pairs"]}
    assert [who for who, merged in stored.items() if not merged] == [("a", "b"), ("b", "c")]
    assert bench.refresh("b") == [] and bench.seen() == []
    kept.rename(tree)
    assert bench.refresh("b") == [("a", "b")], "it was asked again"
    assert bench.seen() == [("a", "b", ["x.txt"])]


def test_a_note_says_what_is_not_known(project: Project, tmp_path: Path) -> None:
    bench = Bench(project)
    bench.begin("a", "b")
    bench.head("a", x_txt="a")
    broken = bench.head("b", x_txt="b")
    sha = bench.mirror.tree(broken)
    (bench.mirror.path / "objects" / sha[:2] / sha[2:]).unlink()
    entry = bench.services.store.read().queue.in_progress[0]
    live = Live("a", "run", "marker", "", 1, entry.lease.epoch, 1, "implement", "")
    for _ in range(2):
        collide.after_stage(Session(bench.services, entry, live, Evidence(tmp_path)))
    said = [data.get("text") for event, data in bench.services.seen if event in ("note", "collision")]
    assert said == ["whether it collides with b is not known: git cannot merge them"]


def test_the_files_of_the_migration_tool_are_no_alarm(tmp_path: Path) -> None:
    """Without [migrations] files they are the tool's usual ones, as where they land."""
    config = '[database]\nprovider = "sqlite"\nurl = "sqlite:///dev.db"\n[migrations]\ntool = "alembic"\n'
    bench = Bench(projects.build(tmp_path / "p", config=config))
    bench.begin("a", "b")
    bench.head("a", migrations__versions__one_py="a")
    bench.head("b", migrations__versions__one_py="b")
    assert bench.refresh("a") == []
    bench.head("a", migrations__versions__one_py="a", models_py="a")
    bench.head("b", migrations__versions__one_py="b", models_py="b")
    assert bench.refresh("a") == [("a", "b")]
    rules = collide.mechanical(bench.services.config)
    assert [rules.migration(path) for path in ("migrations/versions/x.py", "models.py")] == [True, False]
