"""A spec from ready to landed, on real repositories with real processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import project as projects
from support.project import Project, run

from agentq.errors import DriverError, Refused, UserError


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return projects.build(tmp_path / "p")


def test_lands_as_one_commit_with_trailers(project: Project) -> None:
    project.add("alpha")
    head = project.git("rev-parse", "HEAD")
    report = run(project, "alpha")
    assert report.ended == "landed"
    assert project.git("rev-parse", "main", cwd=project.hub) == report.landed
    assert project.git("rev-list", "--count", "main", cwd=project.hub) == "2"
    body = project.git("log", "-1", "--format=%B", "main", cwd=project.hub)
    assert body.startswith("Write alpha\n") and "Agentq-Spec: alpha\nAgentq-Epoch: 1" in body
    entry = project.entry("alpha")
    assert entry["array"] == "completed" and entry["landed"] == report.landed and entry["epoch"] == 1
    assert set(entry["stages"]) == {"test", "implement", "verify"}
    # the person's checkout is never touched
    assert project.git("rev-parse", "HEAD") == head
    assert project.git("status", "--porcelain") == ""
    assert "alpha.txt" in project.trunk_files() and not (project.checkout / "alpha.txt").exists()


def test_stages_one_by_one_hours_apart(project: Project) -> None:
    project.add("alpha")
    assert run(project, "alpha", last="test").ended == "stopped"
    assert project.entry("alpha")["status"] == "tests-written"
    assert run(project, "alpha", last="implement").ended == "stopped"
    assert project.entry("alpha")["status"] == "implemented"
    with pytest.raises(Refused, match="past its test stage"):
        run(project, "alpha", last="test")
    assert run(project, "alpha").ended == "landed"


def test_a_no_pushes_nothing_and_keeps_its_place(project: Project) -> None:
    project.add("alpha")
    asked: list[str] = []
    report = run(project, "alpha", confirm=lambda _spec, summary: asked.append(summary))
    assert report.ended == "declined" and "alpha.txt" in asked[0]
    assert project.landings() == [] and project.entry("alpha")["status"] == "verifying"
    assert run(project, "alpha").ended == "landed"


def test_tests_that_pass_at_once_need_a_person(project: Project) -> None:
    project.add("alpha")
    project.script("alpha", "test", 'Path("checks/alpha.py").write_text("assert True\\n"); commit()')
    report = run(project, "alpha")
    assert report.ended == "attention" and "pass before anything is implemented" in report.problem
    with pytest.raises(Refused, match="needs you"):
        run(project, "alpha")


def test_a_spec_without_tests_skips_the_test_stage(project: Project) -> None:
    project.add("alpha", tests="none")
    project.script("alpha", "test", "raise SystemExit('must not run')")
    assert run(project, "alpha").ended == "landed"


def test_tests_that_do_not_run_are_not_red(project: Project) -> None:
    project.add("alpha")
    project.script("alpha", "test", 'Path("checks/alpha.py").write_text("raise SystemExit(5)"); commit()')
    report = run(project, "alpha")
    assert report.ended == "attention" and "did not run" in report.problem
    assert project.entry("alpha")["failures"] == 2


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("pass", "committed nothing"),
        ('Path("alpha.txt").write_text("alpha\\n")', "left 1 uncommitted file: alpha.txt"),
        ("raise SystemExit(3)", "failed (exit status 3)"),
        ('Path("alpha.txt").write_text("wrong"); commit()', "failed: AssertionError (exit status 1)"),
        ('Path("checks/other.py").write_text("x=1"); Path("checks/alpha.py").unlink(); commit()', "failed"),
        ('import shutil; Path("alpha.txt").write_text("alpha\\n"); shutil.rmtree(".git")', "no readable commit"),
    ],
)
def test_an_attempt_that_proves_nothing_fails(project: Project, script: str, problem: str) -> None:
    project.add("alpha")
    project.script("alpha", "implement", script)
    report = run(project, "alpha")
    assert report.ended == "attention" and problem in report.problem, report
    entry = project.entry("alpha")
    assert entry["status"] == "implementing" and entry["failures"] == 2 and problem in entry["problem"]
    assert project.landings() == []


def test_work_without_a_commit_lands_when_agentq_commits(tmp_path: Path) -> None:
    project = projects.build(tmp_path / "p", config="")
    config = project.checkout / "agents" / "config.toml"
    config.write_text(config.read_text().replace("[agent]\n", '[agent]\ncommit = "auto"\n'))
    project.add("alpha")
    project.script("alpha", "implement", 'Path("alpha.txt").write_text("alpha\\n")')
    assert run(project, "alpha").ended == "landed"


def test_a_second_attempt_goes_on_from_the_first_and_knows_why_it_failed(project: Project) -> None:
    project.add("alpha")
    project.script(
        "alpha", "implement", """
first = "Previous attempt failed" not in Path(prompt).read_text()
if first:
    Path("notes.txt").write_text("kept"); Path("alpha.txt").write_text("wrong"); commit()
else:
    assert Path("notes.txt").read_text() == "kept"
    Path("notes.txt").unlink(); Path("alpha.txt").write_text("alpha\\n"); commit()
""",
    )  # fmt: skip
    assert run(project, "alpha").ended == "landed"
    assert project.entry("alpha")["stages"]["implement"]["attempts"] == 2
    assert "notes.txt" not in project.trunk_files()


def test_retry_goes_on_from_the_stage(project: Project) -> None:
    project.add("alpha")
    project.script("alpha", "implement", "pass")
    assert run(project, "alpha").ended == "attention"
    project.script("alpha", "implement", 'Path("alpha.txt").write_text("alpha\\n"); commit()')
    project.script("alpha", "test", "raise SystemExit('must not run again')")
    done = project.agentq("retry", "alpha", "--yes")
    assert "landed" in done.stdout


def test_weakened_tests_are_put_back(project: Project) -> None:
    project.add("alpha")
    project.script(
        "alpha",
        "implement",
        'Path("checks/alpha.py").write_text("assert True\\n"); Path("x.txt").write_text(""); commit()',
    )
    report = run(project, "alpha")
    assert report.ended == "attention" and "exit status 1" in report.problem
    project.script(
        "alpha", "implement",
        'Path("checks/alpha.py").unlink(); Path("alpha.txt").write_text("alpha\\n"); commit()',
    )  # fmt: skip
    project.agentq("retry", "alpha", "--yes")
    landed = project.git("show", "main:checks/alpha.py", cwd=project.hub)
    assert "alpha.txt" in landed


def test_undeclared_files_are_recorded_and_shown(project: Project) -> None:
    project.add("alpha")
    project.script(
        "alpha",
        "implement",
        'Path("alpha.txt").write_text("alpha\\n"); Path("extra.txt").write_text(""); commit()',
    )
    report = run(project, "alpha")
    assert report.ended == "landed" and any("extra.txt" in note for note in report.notes)


def test_an_undeclared_file_of_a_running_spec_stops(project: Project) -> None:
    project.add("alpha")
    project.add("beta", files_modified=["beta.txt", "extra.txt"])
    assert run(project, "beta", last="test").ended == "stopped"
    project.script(
        "alpha",
        "implement",
        'Path("alpha.txt").write_text("alpha\\n"); Path("extra.txt").write_text(""); commit()',
    )
    report = run(project, "alpha")
    assert report.ended == "attention" and "beta is changing" in report.problem
    assert project.entry("alpha")["failures"] == 1


@pytest.mark.parametrize("path", ["agents/queue.json", "agents/config.toml", ".machine"])
def test_the_queue_and_its_rules_are_out_of_bounds(project: Project, path: str) -> None:
    project.add("alpha")
    project.script(
        "alpha", "implement",
        f'Path("alpha.txt").write_text("alpha\\n"); Path("{path}").write_text("x"); '
        'import subprocess; subprocess.run(["git", "add", "-f", "."]); commit()',
    )  # fmt: skip
    report = run(project, "alpha")
    if path == "agents/config.toml":
        assert report.ended == "attention" and path in report.problem
    else:  # ignored by the project: it never becomes part of the tree
        assert report.ended in ("attention", "landed")
    assert path == "agents/config.toml" or path not in project.trunk_files()


def test_verification_comes_from_trunk(project: Project) -> None:
    project.add("alpha", files_modified=["alpha.txt", "agents/config.toml"])
    project.script(
        "alpha", "implement", """
config = Path("agents/config.toml"); text = config.read_text()
config.write_text("\\n".join('verify = ["true"]' if l.startswith("verify") else l for l in text.splitlines()))
Path("alpha.txt").write_text("wrong"); commit()
""",
    )  # fmt: skip
    report = run(project, "alpha")
    assert report.ended == "attention" and "AssertionError" in report.problem


def test_an_ignored_file_makes_nothing_green(project: Project) -> None:
    project.add("alpha")
    project.script(
        "alpha",
        "test",
        """
Path("checks/alpha.py").write_text('assert open("ignored/a.txt").read() == "x"')
commit()
""",
    )
    project.script(
        "alpha",
        "implement",
        """
Path("ignored").mkdir(exist_ok=True); Path("ignored/a.txt").write_text("x"); Path("alpha.txt").write_text("")
commit()
""",
    )
    report = run(project, "alpha")
    assert report.ended == "attention" and report.stage == "verify" and "ignored/a.txt" in report.problem
    assert project.landings() == []


def test_work_is_rebased_on_a_trunk_that_moved(project: Project) -> None:
    project.add("alpha")
    run(project, "alpha", last="test")
    project.move_trunk("other.txt", "1")
    run(project, "alpha", last="implement")
    project.move_trunk("other.txt", "2")
    assert run(project, "alpha").ended == "landed"
    assert project.git("show", "main:other.txt", cwd=project.hub) == "2"
    assert project.git("rev-list", "--count", "main", cwd=project.hub) == "4"


def test_the_same_lines_stop_and_show_three_versions(project: Project) -> None:
    project.add("alpha", files_modified=["alpha.txt", "shared.txt"])
    project.script(
        "alpha",
        "implement",
        """
text = Path("shared.txt").read_text()
Path("shared.txt").write_text(text.replace("line 7\\n", "alpha's 7\\n")); Path("alpha.txt").write_text("alpha\\n")
commit()
""",
    )
    run(project, "alpha", last="implement")
    lines = "".join(f"line {i}\n" if i != 7 else "trunk's 7\n" for i in range(30))
    project.move_trunk("shared.txt", lines)
    report = run(project, "alpha")
    assert report.ended == "attention" and "shared.txt" in report.problem
    folder = next(project.state.glob("runs/alpha/*/conflict"))
    assert "line 7" in (folder / "base" / "shared.txt").read_text()
    assert "trunk's 7" in (folder / "trunk" / "shared.txt").read_text()
    assert "alpha's 7" in (folder / "spec" / "shared.txt").read_text()
    assert project.git("show", "main:shared.txt", cwd=project.hub) == lines.rstrip("\n")


def test_trunk_moving_during_the_proof_means_proving_again(project: Project) -> None:
    project.add("alpha")
    run(project, "alpha", last="implement")
    moves = iter(["1", "2"])

    def confirm(_spec: str, _summary: str) -> bool:
        project.move_trunk("other.txt", next(moves))
        return True

    assert run(project, "alpha", confirm=confirm).ended == "landed"
    events = [
        json.loads(line)["event"]
        for path in sorted(project.state.glob("runs/alpha/*/events.ndjson"))
        for line in path.read_text().splitlines()
    ]
    assert events.count("proved") == 2 and "lane-testing" in events
    assert {"alpha.txt", "other.txt"} <= set(project.trunk_files())


def test_a_tree_that_passed_is_not_tested_twice(project: Project) -> None:
    project.add("alpha")
    run(project, "alpha", confirm=lambda _s, _d: False)
    made = projects.services(project)
    from agentq.flows.run import run_spec

    assert run_spec(made, "alpha", confirm=lambda _s, _d: True).ended == "landed"
    assert "already-proved" in [event for event, _ in made.seen]


def test_a_red_trunk_test_stops_at_verify(project: Project) -> None:
    project.add("alpha", files_modified=["alpha.txt", "checks/"])
    run(project, "alpha", last="implement")
    project.move_trunk("checks/zeta.py", "import os\nassert not os.path.exists('alpha.txt'), 'no alpha here'\n")
    report = run(project, "alpha")
    assert report.ended == "attention" and report.stage == "verify" and "no alpha here" in report.problem
    project.script(
        "alpha",
        "implement",
        """
assert "no alpha here" in Path(prompt).read_text()
Path("checks/zeta.py").unlink(); Path("alpha.txt").write_text("alpha\\n"); commit()
""",
    )
    done = project.agentq("retry", "alpha", "--from", "implement", "--yes")
    assert "landed" in done.stdout


def test_every_stage_has_its_own_database_branch(tmp_path: Path) -> None:
    import sqlite3

    project = projects.build(
        tmp_path / "p", config='[database]\nprovider = "sqlite"\nurl = "sqlite:///ignored/dev.db"\n'
    )
    (project.checkout / "ignored").mkdir()
    with sqlite3.connect(project.checkout / "ignored" / "dev.db") as dev:
        dev.execute("create table t (x)")
        dev.execute("insert into t values (1)")
    dev.close()
    project.add("alpha")
    for stage in ("test", "implement"):
        before = (project.scripts / f"alpha.{stage}.py").read_text()
        project.script("alpha", stage, f"""
import os, sqlite3
url = os.environ["DATABASE_URL"]; db = sqlite3.connect(url.removeprefix("sqlite:///"))
assert db.execute("select count(*) from t").fetchone() == (1,), "a fresh branch"
db.execute("insert into t values (2)"); db.commit(); db.close()
open({str(project.root / "urls")!r}, "a").write(url + "\\n")
""" + before)  # fmt: skip
    assert run(project, "alpha").ended == "landed"
    urls = (project.root / "urls").read_text().split()
    assert len(set(urls)) == 2 and not any("dev.db" in url for url in urls)
    assert not any(Path(url.removeprefix("sqlite:///")).exists() for url in urls), "released after the stage"
    queue = (project.checkout / "agents" / "queue.json").read_text()
    assert not any(url in queue for url in urls)


def test_a_proof_is_not_of_a_dev_that_moved_meanwhile(tmp_path: Path) -> None:
    import sqlite3

    project = projects.build(
        tmp_path / "p", config='[database]\nprovider = "sqlite"\nurl = "sqlite:///ignored/dev.db"\n'
    )
    (project.checkout / "ignored").mkdir()
    path = project.checkout / "ignored" / "dev.db"
    with sqlite3.connect(path) as dev:
        dev.execute("create table t (x)")
    dev.close()
    project.move_trunk(
        "checks/moves.py",
        f"import sqlite3\ndb = sqlite3.connect({str(path)!r})\ndb.execute('insert into t values (1)')\ndb.commit()\n",
    )
    project.add("alpha")
    run(project, "alpha", confirm=lambda _s, _d: False)
    again = run(project, "alpha")
    assert again.ended == "landed"
    events = [event["event"] for event in projects.services(project).runs.events("alpha")]
    assert "already-proved" not in events and events.count("proved") == 2


def test_the_agents_environment_is_an_allow_list(project: Project) -> None:
    os.environ["SECRET_TOKEN"] = "s3cret"
    os.environ["GIT_DIR"] = "/nonexistent"
    project.add("alpha")
    project.script("alpha", "test", f"""
import json, os
open({str(project.root / "env.json")!r}, "w").write(json.dumps(dict(os.environ)))
""" + (project.scripts / "alpha.test.py").read_text())  # fmt: skip
    del os.environ["GIT_DIR"]
    run(project, "alpha", last="test")
    seen = json.loads((project.root / "env.json").read_text())
    assert "SECRET_TOKEN" not in seen
    assert seen["AGENTQ_SPEC"] == "alpha" and seen["AGENTQ_STAGE"] == "test" and seen["AGENTQ_RUN"]
    assert {"AGENTQ_TEST_WORKERS", "PLAYWRIGHT_WORKERS"} <= set(seen)


def test_hooks_and_settings_of_an_agent_have_no_effect(project: Project) -> None:
    marker = project.root / "hook-ran"
    project.add("alpha")
    project.script("alpha", "test", (project.scripts / "alpha.test.py").read_text() + f"""
import subprocess
for name in ("post-checkout", "pre-commit", "reference-transaction", "post-index-change"):
    hook = Path(".git/hooks") / name; hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\\necho {{}} >> {marker}".format(name)); hook.chmod(0o755)
Path(".git/info").mkdir(exist_ok=True); Path(".git/info/attributes").write_text("* filter=evil\\n")
for key in ("filter.evil.clean", "filter.evil.smudge", "core.fsmonitor", "core.sshCommand", "uploadpack.packObjectsHook"):
    subprocess.run(["git", "config", key, "touch {marker}"], check=True)
Path(".git/index.lock").write_text("left by a dead process")
Path(".git/rebase-merge").mkdir()
""")  # fmt: skip
    assert run(project, "alpha", last="test").ended == "stopped"
    assert not marker.exists(), marker.read_text()
    assert run(project, "alpha").ended == "landed"
    assert not marker.exists(), marker.read_text()


def test_a_missing_agent_is_an_error_not_an_attempt(project: Project) -> None:
    project.add("alpha")
    with pytest.raises(DriverError, match="cannot be started"):
        run(project, "alpha", **{"agent.command": ("no-such-agent-here",)})
    assert project.entry("alpha").get("failures", 0) == 0
    assert run(project, "alpha").ended == "landed"


def test_a_silent_agent_is_stopped_with_all_it_started(project: Project) -> None:
    project.add("alpha")
    project.script(
        "alpha",
        "test",
        """
import subprocess, time
subprocess.Popen(["setsid", "sleep", "300"]); Path("half.txt").write_text("unfinished"); time.sleep(300)
""",
    )
    report = run(project, "alpha", **{"agent.timeout_minutes": 0.02, "agent.timeouts": {}, "agent.attempts": 1})
    assert report.ended == "attention" and "ran out of time" in report.problem

    assert project.strays("alpha") == []
    made = projects.services(project)
    wip = made.mirror.ref("refs/agentq/wip/alpha")
    assert made.mirror.show(wip, "half.txt") == b"unfinished", "unfinished work is kept"


def test_commands_before_a_rebase_and_set_up_on_changed_locks(tmp_path: Path) -> None:
    log = tmp_path / "log"
    config = """
[commands.extra]
"""
    project = projects.build(tmp_path / "p")
    path = project.checkout / "agents" / "config.toml"
    path.write_text(
        path.read_text().replace(
            "[commands]\n",
            f'[commands]\nsetup = "echo setup >> {log}"\nbefore_rebase = ["echo daemon-stop >> {log}"]\n',
        )
    )
    (project.checkout / "uv.lock").write_text("1")
    project.git("add", "-A")
    project.git("commit", "-qm", "lock")
    project.git("push", "-q", "origin", "main")
    project.add("alpha")
    run(project, "alpha", last="test")
    assert log.read_text().split() == ["setup"]
    run(project, "alpha", last="implement")
    assert log.read_text().split() == ["setup", "daemon-stop"], "no second set-up: the lock file is the same"
    project.move_trunk("uv.lock", "2")
    project.script("alpha", "implement", "pass")
    assert run(project, "alpha").ended == "landed"
    assert config and log.read_text().split().count("setup") == 2, "once more, in the clean checkout"


def test_nothing_to_prove_with_is_refused_before_the_claim(project: Project) -> None:
    project.add("alpha")
    with pytest.raises(UserError, match="verify is empty"):
        run(project, "alpha", **{"commands.verify": ()})
    with pytest.raises(UserError, match="test is empty"):
        run(project, "alpha", **{"commands.test": ""})
    assert project.entry("alpha")["array"] == "ready"


def test_two_processes_cannot_work_on_one_spec(project: Project) -> None:
    project.add("alpha")
    made = projects.services(project)
    with made.runs.working_on("alpha"):
        done = subprocess.run(
            [sys.executable, "-m", "agentq", "run", "alpha", "--yes"], cwd=project.checkout, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1 and "busy" in done.stderr
    assert project.entry("alpha")["array"] == "ready"
