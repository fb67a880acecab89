"""What is asked once more before a landing: whether it carries a secret, in its files or in its message."""

from pathlib import Path

from support import project as projects

KEY = "AKIA" + "Q3EGRIS4XY5NZ7PD"


def test_a_secret_in_the_words_of_a_spec_does_not_land(tmp_path: Path) -> None:
    """No stage sees it: the message of a landing is made from the spec, by verify."""
    project = projects.build(tmp_path / "p")
    project.add("alpha", tests="none", description=f"Use the key {KEY} for it.")
    report = projects.run(project, "alpha")
    assert report.ended == "attention" and report.stage == "verify"
    assert "the change carries a secret: AWS access key" in report.problem and KEY not in report.problem
    assert project.landings() == []


def test_the_same_without_it_lands(tmp_path: Path) -> None:
    project = projects.build(tmp_path / "p")
    project.add("alpha", tests="none", description="Use the key from the environment.")
    assert projects.run(project, "alpha").ended == "landed"
