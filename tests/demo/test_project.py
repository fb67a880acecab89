import random
import sqlite3
import sys
from contextlib import closing
from itertools import combinations
from pathlib import Path

import pytest

from agentq import config
from agentq.core import graph
from agentq.demo import project
from agentq.errors import UserError

ROOT = Path(project.__file__).parent


def order_of(specs, choose):
    """A topological order; `choose` picks among what is eligible."""
    order = []
    while len(order) < len(specs):
        order.append(
            choose([one for one in specs if one not in order and set(specs[one].depends_on) <= set(order)])
        )
    return order


def rows(path):
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT title, body, created FROM notes").fetchall()


def test_build_leaves_a_clean_checkout_of_a_pushed_commit(shared):
    demo = shared.demo
    assert demo.checkout == demo.folder / "notes" and demo.hub == demo.folder / "hub.git"
    assert shared.git("status", "--porcelain", cwd=demo.checkout) == ""
    assert shared.git("rev-parse", "main") == shared.git("rev-parse", "HEAD", cwd=demo.checkout)
    assert shared.git("rev-parse", "--is-bare-repository") == "true"
    assert shared.git("rev-parse", "--abbrev-ref", "@{upstream}", cwd=demo.checkout) == "origin/main"
    assert (demo.checkout / ".gitignore").is_file()
    assert not list(demo.folder.rglob("*.txt"))
    assert "data/dev.db" not in shared.git("ls-files", cwd=demo.checkout).splitlines()


def test_the_dev_database_holds_200_rows_to_find(shared):
    notes = rows(shared.demo.checkout / "data" / "dev.db")
    assert len(notes) == 210
    assert len({title for title, _, _ in notes}) == 210
    assert any("100 %" in body for _, body, _ in notes)
    titles = {title for title, _, _ in notes}
    links = [body.split("[[")[1].split("]]")[0] for _, body, _ in notes if "[[" in body]
    assert len(links) > 50 and set(links) <= titles


def test_only_an_empty_folder_will_do(tmp_path):
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(UserError):
        project.build(tmp_path)
    with pytest.raises(UserError):
        project.build(tmp_path / "mine")
    assert [one.name for one in tmp_path.iterdir()] == ["mine"]


def test_personal_git_settings_have_no_say(tmp_path, monkeypatch):
    (tmp_path / ".gitconfig").write_text("[commit]\n\tgpgSign = true\n[init]\n\tdefaultBranch = other\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GIT_CONFIG_GLOBAL", raising=False)
    demo = project.build(tmp_path / "demo")
    assert (demo.hub / "HEAD").read_text().strip() == "ref: refs/heads/main"


def test_the_base_suite_is_green_with_and_without_a_branch(shared, tmp_path):
    dev = shared.demo.checkout / "data" / "dev.db"
    before = rows(dev)
    url = shared.branch(tmp_path / "branch.db")
    for one in (url, ""):
        shared.verified(shared.demo.checkout, one)
        assert shared.tests(shared.demo.checkout, one).returncode == 0
    assert len(rows(tmp_path / "branch.db")) > len(before)
    assert rows(dev) == before


def test_the_runner_tells_red_from_nothing_to_run(bench):
    (bench.demo.checkout / "tests" / "test_red.py").write_text("import nothing_of_this_name\n")
    assert bench.tests(bench.demo.checkout, "", "tests/test_red.py").returncode == 1
    assert bench.tests(bench.demo.checkout, "", "tests/support.py").returncode == 5
    assert bench.tests(bench.demo.checkout, "", "tests/test_notes.py README.md").returncode == 0


def test_the_service_answers_over_http(shared, tmp_path):
    url = shared.branch(tmp_path / "branch.db")
    script = (
        "import json, sys, threading, urllib.request\n"
        "from wsgiref.simple_server import WSGIRequestHandler, make_server\n"
        "from notes.app import App\n"
        "WSGIRequestHandler.log_message = lambda *_: None\n"
        "server = make_server('127.0.0.1', 0, App(sys.argv[1]))\n"
        "threading.Thread(target=server.handle_request).start()\n"
        "print(len(json.load(urllib.request.urlopen(f'http://127.0.0.1:{server.server_port}/notes'))['notes']))\n"
        "server.server_close()\n"
    )
    done = shared.run(["python3", "-c", script, url], shared.demo.checkout)
    assert (done.stdout, done.stderr) == ("210\n", "")
    listed = shared.run(["python3", "-m", "notes", "list"], shared.demo.checkout, DATABASE_URL=url)
    assert len(listed.stdout.splitlines()) == 210


def test_the_queue_has_twelve_specs_with_a_diamond(shared):
    specs = shared.specs
    assert shared.demo.specs == list(specs) and len(specs) == 12
    assert specs["digest"].depends_on == ("tag-counts", "tag-filter")
    assert specs["tag-counts"].depends_on == specs["tag-filter"].depends_on == ("tags",)
    assert [one.id for one in specs.values() if one.tests == "none"] == ["api-docs"]
    assert graph.find_cycle({one.id: one.depends_on for one in specs.values()}) == []
    files = {file.stem for file in (shared.demo.checkout / "agents" / "specs").iterdir()}
    assert files == {one.id for one in specs.values() if one.description is None}


def test_only_the_intended_pair_clashes(shared):
    found = {pair: shared.clashes(*pair) for pair in combinations(shared.specs, 2)}
    assert {pair: paths for pair, paths in found.items() if paths} == {("paging", "trash"): ["notes/storage.py"]}
    adding = [one for one in shared.specs.values() if "notes/router.py" in one.files_modified]
    assert len(adding) == 10


def test_the_settings_are_valid(shared):
    text = (shared.demo.checkout / "agents" / "config.toml").read_text()
    settings = config.policy(text, "agents/config.toml")
    assert settings.overlap.additive == ("notes/router.py",)
    assert (settings.database.provider, settings.database.url) == ("sqlite", "sqlite:///data/dev.db")
    assert settings.database.push == "python3 -m notes.migrate push"
    assert (settings.migrations.tool, settings.migrations.apply_to_dev) == ("command", "*")
    assert settings.agent.command[0] == sys.executable
    assert Path(settings.agent.command[2]).samefile(ROOT / "replay.py")


def test_every_spec_goes_from_red_to_green_and_only_changes_what_it_declares(bench, tmp_path):
    """One after the other, as agentq does it: a new workspace for each, a new branch for every stage."""
    failed_first = []
    order = order_of(bench.specs, lambda eligible: eligible[-1])
    for spec in order:
        workspace = bench.workspace(tmp_path / spec, "origin/main")
        files = f"tests/test_{spec.replace('-', '_')}.py"
        if bench.specs[spec].tests == "required":
            url = bench.branch(tmp_path / f"{spec}-test.db")
            assert bench.replay(workspace, spec, "test", url=url).returncode == 0
            assert bench.git("diff", "--name-only", "origin/main", "HEAD", cwd=workspace) == files
            assert bench.tests(workspace, url, files).returncode == 1
        url = bench.branch(tmp_path / f"{spec}-implement.db")
        assert bench.replay(workspace, spec, "implement", url=url).returncode == 0
        if bench.specs[spec].tests == "required" and bench.tests(workspace, url, files).returncode:
            failed_first.append(spec)
            prompt = f"# {spec}\n\nPrevious attempt failed: 2 of 5 tests\n"
            assert bench.replay(workspace, spec, "implement", prompt=prompt, url=url).returncode == 0
            assert bench.tests(workspace, url, files).returncode == 0
        changed = bench.git("diff", "--name-only", "origin/main", "HEAD", cwd=workspace).splitlines()
        assert set(changed) == set(bench.specs[spec].files_modified)
        assert bench.git("status", "--porcelain", cwd=workspace) == ""
        bench.git("push", "-q", "origin", "HEAD:main", cwd=workspace)
    assert failed_first == ["search"]
    bench.verified(workspace, bench.branch(tmp_path / "verify.db"))


@pytest.mark.parametrize("seed", range(6))
def test_all_land_without_a_conflict_in_any_order(prepared, tmp_path, seed):
    """Each one worked on from the oldest trunk possible; every merge has to be clean, the end green."""
    order = order_of(prepared.bench.specs, random.Random(seed).choice)
    trunk = prepared.landed(order)
    workspace = prepared.bench.workspace(tmp_path / "end", trunk)
    prepared.bench.verified(workspace, prepared.bench.branch(tmp_path / "end.db"))
    routes = prepared.bench.git("show", f"{trunk}:notes/router.py").count('"notes.handlers.')
    assert routes == 4 + 17


def test_the_orders_above_have_the_pair_both_ways(prepared):
    orders = [order_of(prepared.bench.specs, random.Random(seed).choice) for seed in range(6)]
    assert {order.index("paging") < order.index("trash") for order in orders} == {True, False}
    assert len({tuple(order) for order in orders}) == 6


def test_agents_side_by_side_are_rebased_by_git(bench, tmp_path):
    """Waves of all that is eligible, from one trunk, landed in reverse by `git rebase`."""
    landed = []
    while len(landed) < len(bench.specs):
        wave = []
        for spec in bench.specs.values():
            free = spec.id not in landed and set(spec.depends_on) <= set(landed)
            if free and not any(bench.clashes(spec.id, other) for other in wave):
                wave.append(spec.id)
        spaces = {spec: bench.workspace(tmp_path / spec, "origin/main") for spec in wave}
        for spec, workspace in spaces.items():
            bench.played(workspace, spec)
        for workspace in reversed(spaces.values()):
            bench.git("fetch", "-q", "origin", cwd=workspace)
            bench.git("rebase", "-q", "origin/main", cwd=workspace)
            bench.git("push", "-q", "origin", "HEAD:main", cwd=workspace)
        landed += wave
    bench.verified(workspace, bench.branch(tmp_path / "end.db"))
    documented = (workspace / "docs" / "api.md").read_text()
    script = "from notes.router import ROUTES\nfor method, path, _ in ROUTES: print(method, path)"
    for route in bench.run(["python3", "-c", script], workspace).stdout.splitlines():
        assert f"`{route}`" in documented


def test_the_pair_would_conflict_if_it_ran_at_once(prepared):
    (base, paging), (other, trash) = prepared.result("paging"), prepared.result("trash")
    assert base == other
    rc, said = prepared.bench.tree(paging, base, trash)
    assert rc == 1 and "notes/storage.py" in said


def test_no_data_file_looks_like_a_source_of_agentq():
    names = [file.name for file in (ROOT / "data").rglob("*") if file.is_file()]
    assert names and all(name.endswith((".txt", ".toml")) for name in names)
