"""Lines and the live view without a terminal: widths, heights, words."""

import io

import pytest
from rich.cells import cell_len

from agentq.live import Lines, WorkView, clock, console, ended_line, event_line, shorten


def _view(agents: int, columns: int, rows: int) -> WorkView:
    out = console(io.StringIO())
    out.size = (columns, rows)  # type: ignore[assignment]
    view = WorkView([f"a-spec-with-a-long-name-{n:02d}" for n in range(20)], out=out)
    for spec in view.ids[:agents]:
        view.event("started", {"spec": spec})
        view.event("stage-started", {"spec": spec, "stage": "implement", "attempt": 2})
        view.event("command", {"spec": spec, "command": "python -m pytest -q 語語 " * 9, "log": "/no/such"})
        view.event("stage-failed", {"spec": spec, "stage": "implement", "problem": "FAILED (failures=2) " * 9})
    return view


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("rows", [5, 24, 50])
@pytest.mark.parametrize("agents", [0, 1, 4, 16])
def test_the_live_view_is_never_larger_than_the_terminal(agents: int, columns: int, rows: int) -> None:
    lines = _view(agents, columns, rows).draw().plain.split("\n")
    assert len(lines) <= rows and max(map(cell_len, lines)) <= columns
    assert lines[0].startswith("SPEC") and f"{agents} at work" in lines[-1]
    shown = sum(line.startswith("a-spec") for line in lines)
    hidden = [line for line in lines if line.startswith("… and")]
    assert shown == agents or hidden == [f"… and {agents - shown} more"]


def test_columns_stay_where_they_are() -> None:
    view = _view(2, 80, 24)
    before = view.draw().plain.split("\n")[0]
    view.event("pushing", {"spec": view.ids[0], "commit": "a" * 40})
    view.event("ended", {"spec": view.ids[1], "ended": "attention", "problem": "two answers"})
    lines = view.draw().plain.split("\n")
    assert lines[0] == before and "landing ×2" in lines[1]
    assert any(line.endswith("needs you: two answers") for line in lines)
    assert "1 at work, 0 landed, 1 failed, 18 to go" in lines[-1]
    view.event("stopping", {"requests": 1, "running": 1})
    assert view.draw().plain.endswith("Stopping when this spec is done; Ctrl-C again ends them, work is saved")


def test_lines_fold_below_their_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    file = io.StringIO()
    lines = Lines(file, named=6)
    lines.event("stage-failed", {"spec": "a", "stage": "test", "problem": "word " * 30})
    lines.event("command", {"spec": "a", "command": "python " * 30})
    lines.event("landed", {"spec": "a", "commit": "a" * 40})
    shown = file.getvalue().splitlines()
    assert max(map(len, shown)) <= 60 and file.getvalue().count("word") == 30
    assert shown[0].startswith("  0:00  a       test: failed: word") and shown[1].startswith(" " * 16 + "word")
    assert shown[-1].endswith("…") and "landed" not in file.getvalue()


def test_events_in_words() -> None:
    assert event_line("stage-started", {"stage": "test", "attempt": 1}) == "test: started"
    assert event_line("stage-started", {}) == "" == event_line("something new", {"x": 1})
    assert event_line("note", {"text": "\x1b[31mred\x1b[0m\u202e and\nmore"}) == "red and more"
    assert (
        ended_line({"ended": "landed", "landed": "b" * 40, "seconds": 3.21}) == "landed as bbbbbbbbbb after 3.2 s"
    )
    assert ended_line({"exit": -9}) == "stopped: exit status -9"
    assert ended_line({"error": {"message": "busy"}}) == "stopped: busy"


def test_clock_and_cut() -> None:
    assert [clock(s) for s in (0, 7.9, 65, 3599, 3900)] == ["0:00", "0:07", "1:05", "59:59", "1h05"]
    assert shorten("abcdef", 6) == "abcdef" and shorten("abcdef", 5) == "abcd…"
    assert cell_len(shorten("語語語語", 5)) <= 5
