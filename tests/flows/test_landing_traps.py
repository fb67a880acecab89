"""The traps of merging, each as a mutant of agentq on a real repository: the same scenario passes as it is, and the
mutant is refused by a check of agentq's, or seen by the judge that these tests are (landing facts, "Traps")."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import crash_lane
from support import project as projects
from support.crash_lane import services, settled, trunk
from support.project import Project, run

from agentq.core import queue as transitions
from agentq.errors import ExternalError
from agentq.flows import chain, recover
from agentq.flows.run import run_spec
from agentq.trunk import git as door
from agentq.trunk.git import Git
from agentq.trunk.mirror import Change, Merged, Mirror

MODES = pytest.mark.parametrize("shared", [False, True], ids=["file", "shared"])
YES = {"confirm": lambda _spec, _summary: True}
MERGE = chain.Chain._merge


def three(tmp_path: Path, shared: bool = False, config: str = "") -> Project:
    """alpha and beta wait in the lane, gamma is implemented; trunk has moved since."""
    return crash_lane.world(tmp_path, shared=shared, config=config).project


def led(project: Project, made: Any = None) -> Any:
    """gamma's run, which leads the lane."""
    return run_spec(made or services(project), "gamma", **YES)


def line(project: Project, name: str) -> str:
    return project.git("show", "main:shared.txt", cwd=project.hub).splitlines()[crash_lane.LINES[name]]


# ---------------------------------------------------------------- what is merged


def _take_the_agents_side(mirror: Mirror, merged: Merged) -> str:
    sides = [Change(one.path, "M", one.trunk, one.spec, "100644") for one in merged.conflicts]
    return mirror.patch_tree(merged.tree, sides)


def _trunk_changed_alphas_line(project: Project) -> None:
    text = project.git("show", "main:shared.txt", cwd=project.hub).splitlines()
    text[crash_lane.LINES["alpha"]] = "trunk's own"
    project.move_trunk("shared.txt", "\n".join(text) + "\n")


def test_a_stale_line_of_an_agent_does_not_overwrite_trunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 1. alpha's line is trunk's by now: it goes back to its owner, the others land."""
    project = three(tmp_path)
    _trunk_changed_alphas_line(project)
    assert led(project).ended == "landed"
    assert line(project, "alpha") == "trunk's own" and sorted(project.landings()) == ["beta", "gamma"]
    assert "place" not in project.entry("alpha") and "failures" not in project.entry("alpha")
    assert run(project, "alpha").ended == "attention", "its owner asks a person"


def test_the_mutant_theirs_in_the_lanes_merge_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def theirs(self: chain.Chain, entry: Any, onto: str) -> chain.Linked | None:
        mirror = self.session.services.mirror
        merged = mirror.rebase(entry.place.work, onto)
        tree = _take_the_agents_side(mirror, merged)
        commit = mirror.commit_tree(tree, [onto], mirror.message(entry.place.work)[0])
        return chain.Linked(entry, commit, tree)

    project = three(tmp_path)
    _trunk_changed_alphas_line(project)
    before = trunk(project)
    monkeypatch.setattr(chain.Chain, "_merge", theirs)
    with pytest.raises(ExternalError, match="merge identity does not hold for 'alpha'"):
        led(project)
    assert trunk(project) == before
    monkeypatch.undo()
    assert led(project).ended == "landed" and line(project, "alpha") == "trunk's own"


def test_the_mutant_theirs_in_every_merge_is_seen_by_the_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The identity check uses the same merge, so nothing in agentq sees this one: these tests do."""
    rebase = Mirror.rebase

    def theirs(self: Mirror, work: str, onto: str) -> Merged:
        return Merged(_take_the_agents_side(self, rebase(self, work, onto)))

    project = three(tmp_path)
    _trunk_changed_alphas_line(project)
    monkeypatch.setattr(Mirror, "rebase", theirs)
    led(project)
    assert line(project, "alpha") == "line of alpha"


@MODES
def test_the_mutant_stale_squash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool) -> None:
    """Trap 8. The agent's old tree on top of the new trunk: it reverts what landed meanwhile, and is green."""

    def stale(self: chain.Chain, entry: Any, onto: str) -> chain.Linked | None:
        if (made := MERGE(self, entry, onto)) is None or made.commit == entry.place.work:
            return made
        mirror, place = self.session.services.mirror, entry.place
        commit = mirror.commit_tree(place.tree, [onto], mirror.message(place.work)[0])
        return chain.Linked(entry, commit, place.tree)

    project = three(tmp_path, shared)
    before = trunk(project)
    monkeypatch.setattr(chain.Chain, "_merge", stale)
    with pytest.raises(ExternalError, match="merge identity does not hold"):
        led(project)
    assert trunk(project) == before and project.landings() == [] and project.queue.get("completed", []) == []
    monkeypatch.undo()
    assert led(project).ended == "landed"
    recover.recover(services(project))
    settled(project)


def test_the_mutant_without_the_identity_check_reverts_and_stays_green(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why the check is there: with both gone, every test passes and other people's work is undone."""
    project = three(tmp_path)

    def stale(self: chain.Chain, entry: Any, onto: str) -> chain.Linked | None:
        mirror, place = self.session.services.mirror, entry.place
        commit = mirror.commit_tree(place.tree, [onto], mirror.message(place.work)[0])
        return chain.Linked(entry, commit, place.tree)

    monkeypatch.setattr(chain.Chain, "_merge", stale)
    monkeypatch.setattr(chain.Chain, "assert_identity", lambda *_: None)
    assert led(project).ended == "landed"
    assert "alpha.txt" not in project.trunk_files()


def test_a_place_that_lies_about_its_tree_is_refused(tmp_path: Path) -> None:
    """The queue is a file: whatever it says of a tree, what lands is the tree of the commit."""
    project = three(tmp_path)
    before, made = trunk(project), services(project)
    entry = next(one for one in made.store.read().queue.in_progress if one.id == "alpha")
    mirror = made.mirror
    on_top = mirror.rebase(entry.place.work, mirror.fetch().commit).tree
    work = mirror.commit_tree(on_top, [before], "x\n\nAgentq-Spec: alpha\nAgentq-Epoch: 1\n")
    place = entry.place.model_copy(update={"work": work, "base": before, "tree": mirror.tree(before)})
    made.store.update(lambda queue: transitions.changed_entry(queue, entry, {"place": place}))
    with pytest.raises(ExternalError, match="merge identity does not hold for 'alpha'"):
        led(project)
    assert trunk(project) == before


def _conflict(root: Path) -> tuple[Path, str, str]:
    """A repository with rerere on, in which one agent resolved a conflict badly; another one has the same."""
    repo = root / "repo"

    def git(*args: str, check: bool = True) -> str:
        done = subprocess.run(["git", *args], cwd=repo, capture_output=True, text=True, check=check)
        return done.stdout.strip()

    repo.mkdir(parents=True)
    git("init", "-q", "-b", "main")
    git("config", "rerere.enabled", "true")
    git("config", "rerere.autoupdate", "true")
    for branch, text in (("main", "1\nbase\n3\n"), ("agent", "1\nagent\n3\n"), ("main", "1\ntrunk\n3\n")):
        if branch == "agent" or text != "1\nbase\n3\n":
            git("checkout", "-q", *(["-b"] if branch == "agent" else []), branch)
        (repo / "a.txt").write_text(text)
        git("add", "-A")
        git("commit", "-qm", branch)
    git("branch", "other", "agent")
    git("checkout", "-q", "agent")
    git("rebase", "-q", "main", check=False)
    (repo / "a.txt").write_text("1\nBAD\n3\n")
    git("add", "-A")
    git("-c", "core.editor=true", "rebase", "--continue")
    git("checkout", "-q", "other")
    return repo, git("rev-parse", "other"), git("rev-parse", "main")


def test_one_agents_resolution_is_not_anothers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 6: rerere is shared by all who share a repository."""
    repo, work, onto = _conflict(tmp_path)
    assert Git(repo).ask("rebase", "main").rc
    assert "<<<<<<<" in (repo / "a.txt").read_text() and Git(repo)("ls-files", "-u").text
    Git(repo)("rebase", "--abort")
    mirror = Mirror(repo / ".git", "", "main", {}, 10)
    assert mirror.rebase(work, onto).conflicts, "a merge of trees has no rerere"
    monkeypatch.setattr(door, "_CONFIG", tuple(one for one in door._CONFIG if not one.startswith("rerere")))
    assert Git(repo).ask("rebase", "main").rc
    assert (repo / "a.txt").read_text() == "1\nBAD\n3\n" and not Git(repo)("ls-files", "-u").text
    assert mirror.rebase(work, onto).conflicts


# ---------------------------------------------------------------- .gitattributes of trunk


def _merged(root: Path, attributes: dict[str, str], name: str, *texts: str) -> tuple[Merged, str]:
    """Base, trunk's and the spec's version of a file, merged by a mirror that fetched this trunk."""
    project = projects.build(root / "p")
    files = {**attributes, name: texts[0]}
    for path, text in files.items():
        project.move_trunk(path, text)
    made = services(project)
    base = made.mirror.fetch()

    def commit(text: str) -> str:
        blob = made.mirror.git.ask("hash-object", "-w", "--stdin", stdin=text.encode()).text
        return str(
            made.mirror.commit_tree(
                made.mirror.patch_tree(base.tree, [Change(name, "M", "", blob, "100644")]), [base.commit], "x"
            )
        )

    merged = made.mirror.rebase(commit(texts[2]), commit(texts[1]))
    return merged, (made.mirror.show(merged.tree, name) or b"").decode()


LONG = "a\nb\nc\nd\ne\nf\ng\n"
BOTH_ENDS = (LONG, LONG.replace("a\n", "A\n"), LONG.replace("g\n", "G\n"))


def test_lock_files_of_trunk_are_never_merged_by_lines(tmp_path: Path) -> None:
    """Traps 2 and 7: two bumps far from each other merge cleanly into nonsense, unless trunk says `-merge`."""
    merged, text = _merged(tmp_path / "with", {".gitattributes": "*.lock -merge\n"}, "uv.lock", *BOTH_ENDS)
    assert [one.path for one in merged.conflicts] == ["uv.lock"]
    merged, text = _merged(tmp_path / "without", {}, "uv.lock", *BOTH_ENDS)
    assert not merged.conflicts and text == LONG.replace("a\n", "A\n").replace("g\n", "G\n")


def test_a_gitattributes_further_down_counts_too(tmp_path: Path) -> None:
    merged, _ = _merged(tmp_path, {"web/.gitattributes": "*.lock -merge\n"}, "web/x.lock", *BOTH_ENDS)
    assert merged.conflicts


@pytest.mark.parametrize(
    "texts",
    [
        ("1\n2\n3\n", "1\n3\n", "1\n2 changed\n3\n"),
        ("x = 1\n", "x = 2\n", "x = 3\n"),
        ('[\n"a"\n]\n', '[\n"a",\n"b"\n]\n', '[\n"a",\n"c"\n]\n'),
    ],
    ids=["deleted line", "one setting", "JSON"],
)
@pytest.mark.parametrize("rule", ["*.txt merge=union\n", "[attr]both merge=union\n*.txt both\n"])
def test_union_does_not_answer_what_a_person_must(tmp_path: Path, texts: tuple[str, ...], rule: str) -> None:
    """Trap 4: it never stops. It resurrects what trunk deleted, keeps both values, breaks JSON."""
    merged, text = _merged(tmp_path, {".gitattributes": rule}, "a.txt", *texts)
    assert [one.path for one in merged.conflicts] == ["a.txt"], text
