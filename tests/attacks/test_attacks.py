"""Attacks, each tried for real, and the table of what became of them (docs/security.md).

python -m pytest -n 0 -s tests/attacks        prints the table
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from attacks import landing, others, tools
from attacks.arena import Arena, arena
from attacks.landing import Landing
from attacks.others import Tried
from attacks.tools import Tool
from support.project import run

from agentq import sandbox

WALLS = sandbox.find("auto").mode != "none"
needs_walls = pytest.mark.skipif(not WALLS, reason=sandbox.find("auto").why or "no sandbox")


@dataclass(frozen=True)
class Row:
    """An attack that was tried. control: what it did without the layer; proof: what it could not do."""

    name: str
    layer: str
    control: str
    proof: str
    contained: bool


ROWS: dict[str, Row] = {}


@pytest.fixture(scope="module")
def kept() -> Iterator[tuple[ExitStack, list[Arena]]]:
    with ExitStack() as stack:
        yield stack, []


@pytest.fixture
def standing(kept: tuple[ExitStack, list[Arena]], tmp_path_factory: pytest.TempPathFactory) -> Arena:
    """One arena for all that are contained: nothing in it changes, but for the workspace."""
    stack, made = kept
    if not made:
        made.append(stack.enter_context(arena(tmp_path_factory.mktemp("arena"))))
    made[0].clear()
    return made[0]


@needs_walls
@pytest.mark.parametrize("attack", tools.TOOLS, ids=lambda attack: attack.name)
def test_a_tool(attack: Tool, tmp_path: Path, standing: Arena) -> None:
    seconds = tools.SECONDS.get(attack.name, 20)
    control = "not tried"
    if attack.control:
        with arena(tmp_path / "control") as made:
            control = _damage(made, attack, walls=False, seconds=seconds)[0]
        assert control, "without walls it must succeed, or it is no attack"
    damage, said = _damage(standing, attack, walls=True, seconds=seconds)
    ROWS[attack.name] = Row(attack.name, attack.layer, control, damage or said, not damage)
    assert not damage


def _damage(made: Arena, attack: Tool, *, walls: bool, seconds: float) -> tuple[str, str]:
    """(what it achieved, what it said last)"""
    before = made.state()
    run = made.tool(attack.script, walls=walls, seconds=seconds)
    lines = [line for line in run.output.splitlines() if line.strip()]
    return "; ".join(made.damage(before, run)), lines[-1] if lines else "nothing came of it"


def _landing(attack: Landing) -> Any:
    return pytest.param(attack, id=attack.name)


@needs_walls
@pytest.mark.parametrize("attack", [_landing(attack) for attack in (landing.HONEST, *landing.LANDINGS)])
def test_a_landing(attack: Landing, tmp_path: Path) -> None:
    project, outside = landing.build(tmp_path)
    landing.prepare(project, outside, attack)
    trunk = project.git("rev-parse", "main", cwd=project.hub)
    report = run(project, "alpha")
    harm = attack.harm(project, outside)
    landed = project.git("rev-parse", "main", cwd=project.hub) != trunk
    if report.ended not in attack.ends or landed != (report.ended == "landed"):
        harm = harm or f"ended as {report.ended}: {report.problem}"
    said = report.problem or "; ".join(report.notes) or report.ended
    if attack.layer:
        ROWS[attack.name] = Row(attack.name, attack.layer, "an honest agent lands", harm or said, not harm)
    assert not harm


@pytest.mark.parametrize(
    ("name", "layer", "attack"), others.OTHERS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_is_written_and_shown(name: str, layer: str, attack: Callable[[Path], Tried], tmp_path: Path) -> None:
    control, harm, said = attack(tmp_path)
    assert control, "without the layer it must succeed, or it is no attack"
    ROWS[name] = Row(name, layer, control, harm or said, not harm)
    assert not harm


def test_the_page_names_them_all() -> None:
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
    named = [(one.name, one.layer) for one in tools.TOOLS] + [(name, layer) for name, layer, _ in others.OTHERS]
    named += [(one.name, one.layer) for one in landing.LANDINGS]
    assert [name for name, layer in named if f"| {name} | {layer} |" not in page] == []
    assert len(named) == len({name for name, _ in named}) >= 25


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    """What this process tried, from the results themselves."""
    with capsys.disabled():
        print(f"\n\n{'attack':<44} {'contained by':<26} {'without it':<40} proof")
        for row in ROWS.values():
            mark = "" if row.contained else "NOT CONTAINED "
            print(f"{row.name:<44} {row.layer:<26} {row.control[:39]:<40} {mark}{row.proof[:90]}")
        contained = sum(row.contained for row in ROWS.values())
        print(f"{contained} of {len(ROWS)} attacks contained")
    assert all(row.contained for row in ROWS.values())
