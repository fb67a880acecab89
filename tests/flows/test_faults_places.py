"""Machine settings, workspaces, the mirror and the state directory, broken or gone: no work is lost, nothing outside
is touched, and the next command carries on."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import project as projects
from support.project import Project, run

from agentq.errors import AgentqError, ExternalError


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = projects.build(tmp_path / "p")
    made.add("alpha")
    return made


def workspace(project: Project) -> Path:
    return project.workspaces / "ws" / "alpha"


def saved(project: Project, path: str) -> list[str]:
    """The content of `path` in every salvaged commit that has it."""
    return [
        project.git("show", f"{ref}:{path}")
        for ref in project.salvaged()
        if path in project.git("ls-tree", "-r", "--name-only", ref).splitlines()
    ]


# ---------------------------------------------------------------- .machine


@pytest.mark.parametrize(
    ("text", "rc", "words"),
    [
        ("instances = 0\n", 2, ".machine:1: instances"),
        ('instances = "many"\n', 2, ".machine:1: instances"),
        ("instances = [\n", 2, ".machine"),
        ("instances = 1e400\n", 2, ".machine"),
        ('workspaces = "/proc/nowhere"\n', 1, "workspaces cannot be made in /proc/nowhere"),
        ('workspaces = "{checkout}/ws"\n', 2, "inside the checkout"),
        ('workspaces = "{root}/way-in/ws"\n', 2, "inside the checkout"),
        ('workspaces = "{root}/a-file/ws"\n', 1, "workspaces cannot be made"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_before_a_claim(
    project: Project, text: str, rc: int, words: str
) -> None:
    (project.root / "way-in").symlink_to(project.checkout)
    (project.root / "a-file").write_text("")
    (project.checkout / ".machine").write_text(text.format(checkout=project.checkout, root=project.root))
    done = project.agentq("run", "alpha", "--yes", rc=rc)
    assert done.stderr.startswith("error: ") and words in done.stderr and "bug" not in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 2 and "\nhint: " in done.stderr
    assert project.entry("alpha")["array"] == "ready" and not (project.checkout / "ws").exists()


def test_no_machine_file_and_one_that_promises_more_than_the_host_has(project: Project) -> None:
    (project.checkout / ".machine").unlink()
    project.agentq("run", "alpha", "--yes")
    assert project.landings() == ["alpha"]
    assert (Path.home() / ".local/state/agentq").is_dir(), "the default place, outside the checkout"
    (project.checkout / ".machine").write_text("ram_gb = 60000\ninstances = 200\nplaywright_workers = 200\n")
    project.add("beta")
    assert "instances" in project.agentq("doctor", rc=None).stdout
    assert run(project, "beta").ended == "landed"


# ---------------------------------------------------------------- a full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small tmpfs cannot be mounted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_loses_no_work_and_no_place(project: Project, small_disk: Path) -> None:
    machine = project.checkout / ".machine"
    machine.write_text(machine.read_text().replace(str(project.root / "workspaces"), str(small_disk)))
    project.write_queue(**project.queue)
    script = (project.scripts / "alpha.test.py").read_text().replace("commit()", "")
    fill = f"""
ballast = os.open({str(small_disk / "ballast")!r}, os.O_WRONLY | os.O_CREAT)
try:
    while True: os.write(ballast, b"x" * 4096)
except OSError: pass
"""
    project.script("alpha", "test", "import os\n" + script + fill)
    before = project.queue
    with pytest.raises(AgentqError) as caught:  # the files are there, and nothing more fits
        report = run(project, "alpha")
        raise ExternalError(report.problem, report.hint)
    assert "No space left" in caught.value.message and "free some disk space" in caught.value.hint
    entry = project.entry("alpha")
    assert entry["status"] == "testing" and not project.landings() and before["ready"]
    (kept,) = small_disk.glob("**/ws/alpha/checks/alpha.py")
    assert "alpha.txt" in kept.read_text()
    done = project.agentq("run", "alpha", "--yes", rc=None)
    assert "No space left" in done.stderr and "bug" not in done.stderr, done.stdout + done.stderr
    (small_disk / "ballast").unlink()
    project.script("alpha", "test", 'assert Path("checks/alpha.py").exists(), "kept"; commit()')
    command = "retry" if project.entry("alpha").get("attention") else "run"
    project.agentq(command, "alpha", "--yes")
    assert project.landings() == ["alpha"] and "checks/alpha.py" in project.trunk_files()


# ---------------------------------------------------------------- workspaces


@pytest.mark.parametrize("last", ["test", "implement"])
def test_a_workspace_deleted_by_hand_is_made_again(project: Project, last: str) -> None:
    run(project, "alpha", last=last)
    shutil.rmtree(workspace(project))
    assert run(project, "alpha").ended == "landed"
    assert project.git("show", "main:alpha.txt", cwd=project.hub) == "alpha"


def test_a_file_where_the_workspace_was_is_set_aside(project: Project) -> None:
    run(project, "alpha", last="test")
    shutil.rmtree(workspace(project))
    workspace(project).write_text("somebody's notes")
    assert run(project, "alpha").ended == "landed"
    assert (project.workspaces / "ws" / "alpha.set-aside").read_text() == "somebody's notes"


def outside(project: Project) -> tuple[Path, dict[str, bytes]]:
    """A person's own repository, with files git would remove."""
    folder = project.root / "outside"
    folder.mkdir()
    project.git("init", "-q", str(folder))
    (folder / "precious.txt").write_text("precious")
    (folder / "checks").mkdir()
    (folder / "checks" / "alpha.py").write_text("not yours")
    (folder / "checks" / "base.py").write_text("not yours either")
    return folder, {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("moment", ["run", "recover", "release"])
@pytest.mark.parametrize("level", ["ws/alpha", "ws"])
def test_a_link_in_place_of_a_workspace_is_never_followed(project: Project, moment: str, level: str) -> None:
    folder, before = outside(project)
    run(project, "alpha", last="test")
    shutil.rmtree(project.workspaces / level)
    target = folder
    if level == "ws":
        target = folder.with_name("parent")
        target.mkdir()
        folder.rename(target / "alpha")
        before = {name.replace("/outside/", "/parent/alpha/"): data for name, data in before.items()}
    (project.workspaces / level).symlink_to(target)
    if moment == "run":
        assert run(project, "alpha").ended == "landed"
    elif moment == "release":
        project.agentq("release", "alpha", "--yes")
    else:
        project.write_queue(ready=[{"id": "other", "title": "Other"}], in_progress=[], completed=[])
        project.agentq("recover")
    after = {str(p): p.read_bytes() for p in target.rglob("*") if p.is_file()}
    assert after == before
    assert saved(project, "precious.txt") == []


def test_links_among_idle_workspaces_and_proofs_are_never_followed(project: Project) -> None:
    folder, before = outside(project)
    for place in ("idle/old-1", "verify/1"):
        (project.workspaces / place).parent.mkdir(parents=True, exist_ok=True)
        (project.workspaces / place).symlink_to(folder)
    assert run(project, "alpha").ended == "landed"
    assert {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


# ---------------------------------------------------------------- the mirror


def test_a_mirror_deleted_after_the_test_stage_needs_a_person_and_loses_no_file(project: Project) -> None:
    run(project, "alpha", last="test")
    shutil.rmtree(project.workspaces / "mirror.git")
    done = project.agentq("run", "alpha", "--yes", rc=6)
    said = " ".join(done.stdout.split())
    assert "what the test stage proved is not on this machine any more" in said
    assert "agentq release alpha" in said
    assert len(saved(project, "checks/alpha.py")) == 1, "only the workspace still had the tests"
    project.agentq("release", "alpha", "--yes")
    assert run(project, "alpha").ended == "landed"


def test_a_mirror_deleted_after_the_implement_stage(project: Project) -> None:
    run(project, "alpha", last="implement")
    shutil.rmtree(project.workspaces / "mirror.git")
    report = run(project, "alpha")
    assert report.ended == "attention" and "release" in report.hint
    project.agentq("release", "alpha", "--yes")
    assert saved(project, "alpha.txt") == ["alpha"]
    assert run(project, "alpha").ended == "landed"


def test_a_mirror_deleted_with_unfinished_work_in_the_workspace(project: Project) -> None:
    project.script("alpha", "test", 'Path("half.txt").write_text("half"); raise SystemExit(1)')
    assert run(project, "alpha").ended == "attention"
    shutil.rmtree(project.workspaces / "mirror.git")
    project.add("alpha2")
    project.script("alpha", "test", (project.scripts / "alpha2.test.py").read_text().replace("alpha2", "alpha"))
    project.agentq("retry", "alpha", "--yes")
    assert project.landings() == ["alpha"] and saved(project, "half.txt") == ["half"]


def test_recovery_after_the_mirror_is_gone_saves_before_it_removes(project: Project) -> None:
    run(project, "alpha", last="implement")
    shutil.rmtree(project.workspaces / "mirror.git")
    project.write_queue(ready=[], in_progress=[], completed=[])
    away = project.hub.rename(project.hub.with_name("away.git"))
    project.agentq("recover")
    assert (workspace(project) / "alpha.txt").exists(), "not saved, so not removed"
    away.rename(project.hub)
    project.agentq("recover")
    assert not workspace(project).exists() and saved(project, "alpha.txt") == ["alpha"]


# ---------------------------------------------------------------- the state directory


@pytest.mark.parametrize("last", ["test", "implement"])
def test_a_state_directory_deleted_between_stages(project: Project, last: str) -> None:
    run(project, "alpha", last=last)
    shutil.rmtree(project.state)
    assert "alpha" in project.agentq("status").stdout
    project.agentq("run", "alpha", "--yes")
    assert project.landings() == ["alpha"] and project.entry("alpha")["array"] == "completed"


def test_torn_records_stop_nothing(project: Project) -> None:
    run(project, "alpha", last="implement")
    for number, text in enumerate(["", "{", "[1]", '{"spec": "alpha"}', "null", '"x"', "\0\0\0"]):
        for folder in ("live", "intents"):
            path = project.state / folder / f"torn{number}.json"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    (project.state / "live" / "alpha.json").write_bytes(b'{"spec": "alp')
    (project.state / "intents" / "alpha.json").write_bytes(b"\xff")
    index = project.workspaces / "index"
    (index / "ws-alpha.start").write_bytes(b"\xff\xfe not a commit")
    (index / "ws-alpha.setup").write_bytes(b"\xff")
    for command in (("status",), ("show", "alpha"), ("next", "--json"), ("doctor",), ("recover",)):
        done = project.agentq(*command, rc=None)
        assert done.returncode in (0, 3) or command == ("doctor",), done.stderr
        assert "bug" not in done.stderr, done.stderr
    project.agentq("run", "alpha", "--yes")
    assert project.landings() == ["alpha"] and not (project.state / "intents" / "alpha.json").exists()


def test_a_torn_note_of_an_attempt_still_saves_its_files(project: Project) -> None:
    run(project, "alpha", last="test")
    (workspace(project) / "half.txt").write_text("half")
    (project.workspaces / "index" / "ws-alpha.start").write_text("0123456789 implement")
    project.script("alpha", "implement", 'assert Path("half.txt").read_text() == "half"\n'
                   'Path("half.txt").unlink(); Path("alpha.txt").write_text("alpha\\n"); commit()')  # fmt: skip
    assert run(project, "alpha").ended == "landed"


@pytest.mark.parametrize("torn", ["", '{"tree"', '{"tree": "another"}'])
def test_a_torn_proof_proves_nothing(project: Project, torn: str) -> None:
    count = project.root / "proofs-run"
    config = project.checkout / "agents" / "config.toml"
    config.write_text(config.read_text().replace("verify = [", f'verify = ["echo ran >> {count}", '))
    project.git("commit", "-qam", "count")
    project.git("push", "-q", "origin", "HEAD:main")
    run(project, "alpha", confirm=lambda *_: False)
    before = count.read_text().count("ran")
    (proof,) = (project.state / "proofs").iterdir()
    assert json.loads(proof.read_text())["spec"] == "alpha"
    proof.write_text(torn)
    assert run(project, "alpha").ended == "landed"
    assert count.read_text().count("ran") == before + 1
