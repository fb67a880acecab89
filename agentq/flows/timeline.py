"""When each spec was worked on, from the events its runs left: rows for a picture of time."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from agentq.core.picture import GanttRow
from agentq.store.runs import Runs

_BEGINS, _ENDS = "stage-started", ("stage-proved", "stage-failed", "landed")


def timeline(runs: Runs, spec_ids: Iterable[str]) -> list[GanttRow]:
    """A row a spec, in order of their beginning; seconds since the first one began."""
    found = []
    for spec_id in spec_ids:
        events = runs.events(spec_id)
        marks = _marks(events)
        if marks:
            instance = next((event["instance"] for event in events if event["event"] == "evidence"), "")
            found.append((spec_id, f"#{instance}", marks))
    if not found:
        return []
    zero = min(marks[0][1] for _, _, marks in found)
    found.sort(key=lambda item: item[2][0][1])
    return [
        GanttRow(
            spec_id,
            lane,
            marks[0][1] - zero,
            marks[-1][2] - zero,
            tuple((stage, begin - zero, end - zero) for stage, begin, end in marks),
        )
        for spec_id, lane, marks in found
    ]


def _marks(events: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    """(stage, begin, end) of every attempt that ended; seconds of the epoch."""
    marks = []
    stage, begun = "", 0.0
    for event in events:
        at = datetime.fromisoformat(event["at"]).timestamp()
        if event["event"] == _BEGINS:
            stage, begun = event["stage"], at
        elif event["event"] in _ENDS and stage:
            marks.append((stage, begun, at))
            stage = ""
    return marks
