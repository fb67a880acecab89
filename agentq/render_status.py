"""What `agentq status` shows: a table for each part of the queue, and the machines that share it."""

from collections.abc import Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agentq.core.collisions import Collision
from agentq.core.text import ago, hours, one_line, plural
from agentq.live import console, shorten
from agentq.render import all_specs, folded, grid, offline, paragraph, show_table

SHOWN_ROWS = 20
SHOWN_COMPLETED = 8
_STATUS_STYLE = {
    "testing": "cyan", "tests-written": "cyan", "implementing": "yellow", "implemented": "yellow",
    "verifying": "magenta", "complete": "green", "ready": "",
}  # fmt: skip


def status(found: Any, *, everything: bool) -> None:
    """Three sections: in progress, ready (best first), completed (newest last); what needs a person last."""
    out = console()
    if not found.rows:
        paragraph(out, "The queue is empty: 'agentq add ID --title …' adds a spec.")
    sections = [
        ("in_progress", "In progress", SHOWN_ROWS, _running_table),
        ("ready", "Ready, best first", SHOWN_ROWS, _ready_table),
        ("completed", "Completed, newest last", SHOWN_COMPLETED, _completed_table),
    ]
    for array, title, limit, draw in sections:
        rows = [row for row in found.rows if row.array == array]
        if not rows:
            continue
        shown = rows if everything or len(rows) <= limit else rows[:limit]
        if array == "completed" and len(shown) < len(rows):
            shown = rows[-limit:]
        out.print(Text(f"{title} ({len(rows)})", style="bold"))
        show_table(out, draw(out.width, shown, {one.spec for one in found.live}))
        if len(shown) < len(rows):
            more = "earlier" if array == "completed" else "more"
            out.print(Text(f"… and {len(rows) - len(shown)} {more}: 'agentq status --all'", style="dim"))
        out.print()
    _collisions(out, [one for one in found.collisions if one.alarming])
    if found.machines:
        _machines(out, found.machines)
    _footer(out, found)


def _footer(out: Console, found: Any) -> None:
    left = any(row.array != "completed" for row in found.rows)
    offline(out, found.age)
    if found.paused:
        why = f": {found.paused}" if isinstance(found.paused, str) else ""
        paragraph(out, f"Paused{why}. 'agentq resume' allows new claims.", style="bold yellow")
    elif found.rows and not left:
        paragraph(out, f"Nothing is left to do: {all_specs(len(found.rows))} completed.")
    waiting = [row.id for row in found.rows if row.kind == "attention"]
    if waiting:
        verb = "needs" if len(waiting) == 1 else "need"
        ids = ", ".join(waiting[:5]) + (f" and {len(waiting) - 5} more" if len(waiting) > 5 else "")
        paragraph(out, f"{len(waiting)} {verb} you: {ids}. 'agentq why ID' says what for.", style="bold yellow")
    paragraph(
        out, f"{found.machine}: {len(found.live)} of {plural(found.instances, 'instance')} at work", style="dim"
    )


def _collisions(out: Console, collisions: Sequence[Collision]) -> None:
    """Which specs in progress will conflict when they land. The paths were chosen by agents."""
    if not collisions:
        return
    out.print(Text(f"Will collide ({len(collisions)})", style="bold"))
    for one in collisions[:SHOWN_ROWS]:
        who = f"{one.pair.spec} × {one.beside(one.pair.spec)}"
        paragraph(out, f"{who} in {one.where()}", first="  ", then="    ", style="yellow")
        if one.advice:
            paragraph(out, one.advice, first="    ", then="    ", style="dim")
    if len(collisions) > SHOWN_ROWS:
        out.print(Text(f"… and {len(collisions) - SHOWN_ROWS} more: 'agentq why ID'", style="dim"))
    out.print()


def _machines(out: Console, machines: Sequence[Any]) -> None:
    """The machines that share the queue. What a heartbeat says was written by another host."""
    out.print(Text(f"Machines ({len(machines)})", style="bold"))
    name = min(max(7, *(cell_len(one.name) for one in machines)), 20, max(out.width // 4, 10))
    room = max(out.width - name - 2 - 6 - 2 - 14 - 2, 16)
    table = grid(("MACHINE", name), ("AGENTS", 6), ("LAST HEARTBEAT", 14), ("RUNS", room))
    for one in machines:
        busy = f"{len(one.runs)} of {one.caps['instances']:g}" if "instances" in one.caps else ""
        heard = "never" if one.silent is None else ago(one.silent)
        table.add_row(
            Text(shorten(one.name, name)), Text(busy), Text(heard), folded(_doing(one), room, _style(one))
        )
    show_table(out, table)
    out.print()


def _doing(one: Any) -> str:
    runs = [f"{spec} ({run.stage})" if run.stage else spec for spec, run in one.runs.items()]
    words = [
        "dead: its specs become ready again" if one.dead else "",
        "drained" if one.drained else "",
        "leads the lane" if one.lane else "",
        ", ".join(runs) or ("" if one.dead else "at rest"),
        "this machine" if one.here else "",
    ]
    return "; ".join(filter(None, words))


def _style(one: Any) -> str:
    return "yellow" if one.dead else "dim" if not one.runs else ""


def _widths(width: int, rows: Sequence[Any], fixed: int) -> tuple[int, int, int]:
    """Columns for id, title and reason, beside `fixed` columns of others. The reason gets the most; a title
    that would be a stump is left out."""
    ident = min(max(cell_len(row.id) for row in rows), max(width // 3, 10))
    room = width - ident - 2 - fixed
    longest = max(cell_len(one_line(row.title)) for row in rows)
    title = min(longest, max(room * 2 // 5, room - 48), room - 34, 50)
    if title < min(longest, 12):
        title = 0
    return max(ident, 2), title and max(title, 5), max(room - (title + 2 if title else 0), 16)


def _cells(row: Any, title: int, *others: Text) -> list[Text]:
    return [Text(row.id), *([Text(shorten(one_line(row.title), title))] if title else []), *others]


def _running_table(width: int, rows: Sequence[Any], live: set[str]) -> Table:
    took = 15 if width >= 100 else 8  # the estimate too where there is room
    ident, title, room = _widths(width, rows, 13 + 2 + took + 2 + 2)
    table = grid(("ID", ident), ("TITLE", title), ("STATUS", 13), ("TIME", took), ("REASON", room - 2))
    for row in rows:
        reason = row.text or ("working on it" if row.id in live else "")
        style = "yellow" if row.kind == "attention" else ""
        stage = Text(row.status, style=_STATUS_STYLE[row.status])
        spent = Text(_time(row.elapsed_hours, row.estimate_hours if took > 8 else None))
        table.add_row(*_cells(row, title, stage, spent, folded(reason, room - 2, style)))
    return table


def _ready_table(width: int, rows: Sequence[Any], _live: set[str]) -> Table:
    ident, title, room = _widths(width, rows, 6 + 2 + 2)
    table = grid(("ID", ident), ("TITLE", title), ("EST.", 6), ("REASON", room - 2))
    for row in rows:
        estimate = hours(row.estimate_hours) if row.estimate_hours else ""
        style = "bold green" if row.kind == "next" else ""
        # Every row would repeat the name of the first.
        words = row.text.partition(" behind ")[0] if row.kind == "behind" else row.text
        table.add_row(*_cells(row, title, Text(estimate), folded(words, room - 2, style)))
    return table


def _completed_table(width: int, rows: Sequence[Any], _live: set[str]) -> Table:
    ident, title, _ = _widths(width, rows, 15 + 2 + 12 + 2 + 16)
    table = grid(("ID", ident), ("TITLE", title), ("TIME", 15), ("COMMIT", 12), ("LANDED (UTC)", 16))
    for row in rows:
        cells = [Text(_time(row.elapsed_hours, row.estimate_hours)), Text(row.landed[:10])]
        table.add_row(*_cells(row, title, *cells, Text(row.landed_at[:16].replace("T", " "))))
    return table


def _time(elapsed: float, estimate: float | None) -> str:
    """'2.1 of 4 h', '12 s', '3 min of 4 h', '5 days'. Hours in."""
    spent = f"{elapsed * 3600:.0f} s" if elapsed < 1 / 60 else hours(elapsed)
    if elapsed >= 48:
        return f"{elapsed / 24:.0f} days"
    if not estimate:
        return spent
    expected = hours(estimate)
    return f"{spent.removesuffix(' h') if expected.endswith(' h') else spent} of {expected}"
