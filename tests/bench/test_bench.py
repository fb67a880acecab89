"""Every section of the bench on tiny sizes: the rows are there and sane. Nothing here judges a time."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from agentq.core import board, schedule  # noqa: E402
from agentq.core.document import Reader  # noqa: E402
from bench import __main__ as command  # noqa: E402
from bench import databases, landing, makespan, recommend, report, start, store  # noqa: E402


def check(rows: list[report.Row], count: int) -> None:
    assert len(rows) == count
    for row in rows:
        assert math.isfinite(row.reached) and row.reached > 0
        assert row.raw and all(values and min(values) >= 0 for values in row.raw.values())
        text = report.shown(report.Result("name", "title", (row,), 1.0))
        assert row.name in text and max(map(len, text.splitlines())) <= report.WIDTH


def test_next(tmp_path: Path) -> None:
    rows = recommend.section(tmp_path, sizes=((150, 5, 1, 1e9),))
    check(rows, 1)
    assert rows[0].met and {len(values) for values in rows[0].raw.values()} == {1}
    assert (tmp_path / "150-5" / ".git" / "agentq" / "queue.valid").is_file(), "the edited bytes were validated"


@pytest.mark.parametrize("count", [100, 150, 1000])
def test_the_queues_are_valid_and_have_work(count: int) -> None:
    queue = Reader().parse(json.dumps(recommend.queue(count))).queue
    assert len(queue.ready) + len(queue.in_progress) + len(queue.completed) == count
    assert queue.completed and queue.in_progress
    assert all(2 <= len(spec.files_modified) <= 4 for spec in queue.ready)
    assert sum("*" in path for spec in queue.ready for path in spec.files_modified) > 0
    advice = schedule.recommend(board.of_queue(queue), schedule.Host("host", 4))
    assert advice.pick and advice.pick.unblocks > 0
    assert {reason.kind for reason in advice.held.values()} >= {"dependency", "elsewhere"}
    assert recommend.queue(count) == recommend.queue(count)


def test_makespan(tmp_path: Path) -> None:
    rows = makespan.section(tmp_path, names=("click",), agents=(2,), seconds=0.01)
    check(rows, 2)
    assert rows[0].target == makespan.TARGET and rows[0].reached >= 1


def test_start(tmp_path: Path) -> None:
    cold, reused = rows = start.section(tmp_path, files=12, rounds=1)
    check(rows, 2)
    for row in (cold, reused):
        assert row.raw["claimed"] < row.raw["agent_started"] < row.raw["first_act"]


def test_landing(tmp_path: Path) -> None:
    rows = landing.section(tmp_path, sizes=((0, 2, 1e9),))
    check(rows, 1)
    assert len(rows[0].raw["landing"]) == len(rows[0].raw["push"]) == 2


def test_store(tmp_path: Path) -> None:
    rows = store.section(tmp_path, specs=20, processes=(1, 3), seconds=0.3)
    check(rows, 2)
    assert len(rows[1].raw["updates"]) == 3
    Reader().parse((tmp_path / "agents" / "queue.json").read_text())


def test_an_update_that_fails_ends_the_measurement(tmp_path: Path) -> None:
    (tmp_path / "queue.json").write_text('{"ready": []}')
    with pytest.raises(subprocess.CalledProcessError) as caught:
        store.contend(tmp_path / "queue.json", tmp_path / "state", 2, 0.1)
    assert "an update failed" in caught.value.stderr


def test_databases(tmp_path: Path) -> None:
    rows = databases.section(tmp_path, megabytes=0.2, pairs=2)
    check(rows, 3)
    assert not list((tmp_path / "store" / "branches").iterdir())


def test_the_command_reports_whatever_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fine(folder: Path) -> list[report.Row]:
        assert folder.is_dir()
        return [report.Row("a", 1.02, 1.5, raw={"x": [1.02]}), report.Row("b", 9.0, 8.0, raw={"x": [9.0]})]

    def broken(_folder: Path) -> list[report.Row]:
        raise RuntimeError("no such tool")

    monkeypatch.setattr(command, "SECTIONS", {"fine": ("works", fine), "broken": ("does not", broken)})
    target = tmp_path / "raw.json"
    assert command.main(["--json", str(target)]) == 0
    said = capsys.readouterr()
    assert "1.02 of at most 1.5" in said.out and "MISSED" in said.out
    assert "could not run: RuntimeError: no such tool" in said.out
    assert "1 of 2 targets met; missed: b; could not run: broken" in said.out
    assert "bench: fine" in said.err and "bench: broken" in said.err
    document = json.loads(target.read_text())
    assert document["schema"] == "agentq/bench/v1" and set(document["machine"]) >= {"cores", "python", "git"}
    assert [row["met"] for row in document["sections"][0]["rows"]] == [True, False]
    assert command.main(["--only", "fine"]) == 0
    assert "broken" not in capsys.readouterr().out


def test_makespan_runs_as_a_script() -> None:
    code = "import runpy, sys; sys.argv[0] = sys.argv[1]; runpy.run_path(sys.argv[1], run_name='imported')"
    subprocess.run([sys.executable, "-c", code, str(ROOT / "bench" / "makespan.py")], check=True, cwd="/")
