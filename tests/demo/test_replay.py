import time
from contextlib import closing
from sqlite3 import connect

import pytest

from agentq.demo import project, replay


def test_it_says_first_that_it_is_a_replay(shared, tmp_path):
    workspace = shared.workspace(tmp_path / "ws", "origin/main")
    done = shared.replay(workspace, "tags", "test", url=shared.branch(tmp_path / "b.db"))
    lines = done.stdout.splitlines()
    assert "replay of prepared changes, not a model" in lines[0]
    assert "spec tags, stage test" in lines[1]
    assert lines[2] == "database branch b.db: 210 notes, 211 with a scratch note of mine"
    assert "reading notes/router.py (65 lines)" in lines
    assert lines[-2] == "writing tests/test_tags.py"
    assert lines[-1].startswith("committed ") and lines[-1].endswith(" tags: tests")
    with closing(connect(tmp_path / "b.db")) as db:
        title = "scratch note of tags, test, run 7"
        assert db.execute("SELECT count(*) FROM notes WHERE title = ?", (title,)).fetchone() == (1,)


def test_it_commits_as_itself_whatever_the_environment_says(shared, tmp_path):
    workspace = shared.workspace(tmp_path / "ws", "origin/main")
    shared.replay(workspace, "tags", "test")
    who = shared.git("log", "-1", "--format=%an <%ae> %cn <%ce>", cwd=workspace)
    assert who == "Replay Agent <replay@example.invalid> Replay Agent <replay@example.invalid>"


def test_a_second_run_finds_everything_in_place(shared, tmp_path):
    workspace = shared.workspace(tmp_path / "ws", "origin/main")
    first = shared.played(workspace, "paging")
    assert shared.played(workspace, "paging") == first
    assert "nothing to commit" in shared.replay(workspace, "paging", "implement").stdout


def test_the_first_attempt_at_search_is_wrong_and_the_second_right(shared, tmp_path):
    workspace = shared.workspace(tmp_path / "ws", "origin/main")
    url = shared.branch(tmp_path / "b.db")
    shared.replay(workspace, "search", "test")
    shared.replay(
        workspace,
        "search",
        "implement",
        prompt="Mind this: Previous attempt failed: no, not at a line's start",
    )
    red = shared.tests(workspace, url, "tests/test_search.py")
    assert red.returncode == 1
    assert "test_a_percent_sign_means_itself" in red.stderr and "test_an_underscore_means_itself" in red.stderr
    assert "Ran 5 tests" in red.stderr and "failures=2" in red.stderr
    again = shared.replay(
        workspace, "search", "implement", prompt="Search.\nPrevious attempt failed: 2 tests are red\n"
    )
    assert again.stdout.splitlines()[1] == "spec search, stage implement; the last attempt failed: 2 tests are red"
    assert shared.tests(workspace, url, "tests/test_search.py").returncode == 0


def test_a_missing_anchor_stops_it_before_it_commits(shared, tmp_path):
    workspace = shared.workspace(tmp_path / "ws", "origin/main")
    head = shared.git("rev-parse", "HEAD", cwd=workspace)
    router = workspace / "notes" / "router.py"
    router.write_text(router.read_text().replace("    # tags\n", ""))
    done = shared.replay(workspace, "tags", "implement")
    assert done.returncode == 1
    assert "notes/router.py: the line '# tags' stands there 0 times, not once" in done.stderr
    assert shared.git("rev-parse", "HEAD", cwd=workspace) == head


def test_a_changed_text_stops_it(shared, tmp_path):
    workspace = shared.workspace(tmp_path / "ws", "origin/main")
    storage = workspace / "notes" / "storage.py"
    storage.write_text(storage.read_text().replace("Newest first.", "The newest first."))
    done = shared.replay(workspace, "paging", "implement")
    assert done.returncode == 1 and "stands there 0 times" in done.stderr


@pytest.mark.parametrize(
    ("spec", "stage", "rc", "word"),
    [
        ("tags", "verify", 2, "AGENTQ_STAGE"),
        ("tags", "", 2, "AGENTQ_STAGE"),
        ("nothing", "test", 1, "'nothing'"),
        ("../changes/tags", "test", 1, "no changes are prepared"),
        ("api-docs", "test", 1, "'test' of 'api-docs'"),
    ],
)
def test_what_it_has_no_change_for(shared, spec, stage, rc, word):
    done = shared.replay(shared.demo.checkout, spec, stage)
    assert done.returncode == rc and word in done.stderr


def test_a_branch_that_is_not_there_is_not_made(shared, tmp_path):
    done = shared.replay(shared.demo.checkout, "tags", "test", url=f"sqlite:///{tmp_path}/none.db")
    assert done.returncode == 1 and "DATABASE_URL" in done.stderr
    assert not (tmp_path / "none.db").exists()


def test_pauses_follow_the_estimate(bench, tmp_path):
    lengths = {spec: replay.load(project.DATA, spec, "implement", retry=True) for spec in bench.specs}
    assert {spec: change.hours for spec, change in lengths.items()} == {
        spec.id: spec.estimate_hours for spec in bench.specs.values()
    }
    config = bench.demo.checkout / "agents" / "config.toml"
    config.write_text(config.read_text().replace('"--pace", "0"', '"--pace", "1"'))
    began = time.monotonic()
    assert bench.replay(bench.workspace(tmp_path / "ws", "origin/main"), "export", "test").returncode == 0
    assert time.monotonic() - began >= replay.SHORTEST
