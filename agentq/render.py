"""What people see of results: tables and paragraphs that fit the terminal. With render_status.py and live.py the
only module that imports rich.

Text from specs and agents is cleaned when it comes in and never read as markup (reliability fact 23). Without
a terminal, and with NO_COLOR, nothing but text is printed.
"""

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agentq.core.schedule import Candidate
from agentq.core.text import ago, clean, hours, one_line, plural
from agentq.live import console, ended_line, event_line, shorten, wrap

SHOWN_WAITING = 10
REASON_LINES = 3
ALTERNATIVES = 2


def show_table(out: Console, table: Table) -> None:
    """The table; where nobody sees the spaces at the ends of its lines, without them."""
    if out.is_terminal:
        out.print(table)
        return
    with out.capture() as captured:
        out.print(table)
    for line in captured.get().splitlines():
        out.print(Text(line.rstrip()), soft_wrap=True)


def paragraph(out: Console, words: str, *, first: str = "", then: str = "", style: str = "") -> None:
    """`words` folded at the terminal's width: `first` before the first line, `then` before the others."""
    room = max(out.width - max(len(first), len(then)), 20)
    lines = wrap(words, room) or [""]
    for number, line in enumerate(lines):
        out.print(Text((then if number else first) + line, style=style), soft_wrap=True)


def offline(out: Console, age: float) -> None:
    """Say so when the shared queue could not be reached; `age`: seconds since it was, 0 for now."""
    if age:
        paragraph(out, f"Offline: the shared queue as it was {ago(age)}.", style="bold yellow")


def grid(*columns: tuple[str, int]) -> Table:
    """A table of these (name, width)s, two spaces apart; width 0 leaves a column out."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", collapse_padding=True)
    for name, width in columns:
        if width:
            table.add_column(name, width=width, no_wrap=True, overflow="ellipsis")
    return table


def folded(words: str, width: int, style: str = "") -> Text:
    """At most REASON_LINES lines; the last one says with '…' that there is more."""
    lines = wrap(words, width)
    if len(lines) > REASON_LINES:
        lines = [*lines[: REASON_LINES - 1], shorten(" ".join(lines[REASON_LINES - 1 :]), width)]
    return Text("\n".join(lines), style=style)


# ---------------------------------------------------------------- next


def advice(
    situation: Any, found: Any, batch: Sequence[Candidate] | None = None, count: int = 1, stage: str = ""
) -> None:
    """The recommendation in plain words, with two alternatives; or why there is none. `batch`: what can start
    together when `count` were asked for; `stage`: only specs at this stage were looked at."""
    out = console()
    offline(out, situation.age)
    if found.pick is None:
        for line in _nothing(situation, found, stage):
            paragraph(out, line)
        return
    words = situation.in_words()
    if batch is not None:
        _batch(out, batch, words, count)
        return
    pick = found.pick
    out.print(Text.assemble(("Next: ", "bold"), (pick.id, "bold green")), soft_wrap=True)
    paragraph(out, pick.title, first="      ", then="      ")
    for line in words(pick):
        paragraph(out, line, first="  · ", then="    ")
    others = found.ranked[1 : 1 + ALTERNATIVES]
    if others:
        width = max(len(one.id) for one in others)
        out.print(Text("Or:", style="dim"))
        for one in others:
            head = f"  {one.id:<{width}}  "
            out.print(Text(shorten(head + one_line(one.title), out.width), style="dim"), soft_wrap=True)
            indent = " " * len(head) if len(head) < 30 else "      "
            paragraph(out, "; ".join(words(one)[:2]), first=indent, then=indent, style="dim")


def _batch(out: Console, batch: Sequence[Candidate], words: Callable[[Candidate], list[str]], count: int) -> None:
    asked = f" (of {count} asked for)" if len(batch) < count else ""
    together = "This one can start" if len(batch) == 1 else f"These {len(batch)} can run together"
    paragraph(out, f"{together}{asked}:", style="bold")
    for one in batch:
        line = Text.assemble("  ", (one.id, "bold"), f"  {one_line(one.title)}")
        line.truncate(out.width, overflow="ellipsis")
        out.print(line, soft_wrap=True)
        paragraph(out, "; ".join(words(one)), first="      ", then="      ", style="dim")


def _nothing(situation: Any, found: Any, stage: str) -> list[str]:
    board = situation.board
    left = len(board.ready) + len(board.in_progress)
    if not left:
        if not board.completed:
            return ["The queue is empty: 'agentq add ID --title …' adds a spec."]
        return [f"Nothing is left to do: {all_specs(len(board.completed))} completed."]
    if found.blocked is not None:
        would = f"; {plural(len(found.ranked), 'spec')} would be eligible" if found.ranked else ""
        hints = {
            "paused": "'agentq resume' allows new claims.",
            "drained": "'agentq machine drain --undo' ends that.",
        }
        hint = hints.get(found.blocked.kind, "")
        return [f"Nothing may start: {found.blocked.text}{would}.", *([hint] if hint else [])]
    if stage and (other := situation.advice().pick):
        return [f"No spec that may run is at its {stage} stage. 'agentq next' recommends '{other.id}'."]
    counts: dict[str, int] = {}
    for reason in found.held.values():
        counts[reason.kind] = counts.get(reason.kind, 0) + 1
    parts = ", ".join(
        f"{count} {_KINDS.get(kind, kind)}" for kind, count in sorted(counts.items(), key=lambda item: -item[1])
    )
    lines = [f"Nothing is eligible: {parts}."]
    examples = sorted(found.held.items(), key=lambda item: _URGENCY.get(item[1].kind, 1))
    lines += [f"For example {spec}: {reason.text}." for spec, reason in examples[:1]]
    return [*lines, "'agentq status' shows all."]


_KINDS = {
    "dependency": "waiting for others", "files": "waiting for files in use", "held": "held",
    "attention": "needing you", "running": "running now", "elsewhere": "on other machines", "paused": "paused",
}  # fmt: skip
_URGENCY = {"attention": 0, "dependency": 2}


def all_specs(count: int) -> str:
    return "the one spec is" if count == 1 else f"all {count} specs are"


def candidate(situation: Any, one: Candidate) -> None:
    """Everything that speaks for one candidate."""
    out = console()
    for line in [*situation.in_words()(one), f"number {one.position + 1} in order of arrival"]:
        paragraph(out, line, first="  · ", then="    ")


# ---------------------------------------------------------------- one spec


_FIELDS = (
    "type", "attention", "problem", "failures", "depends_on", "files_modified", "estimate_hours",
    "context_budget", "priority", "held", "tests", "base", "landed", "landed_at", "description", "spec",
)  # fmt: skip


def details(found: dict[str, Any]) -> None:
    """Everything `show` knows: a line a field, folded beside its name; then the newest events."""
    out = console()
    entry = found["entry"]
    out.print(Text.assemble((found["id"], "bold"), f"  {one_line(entry['title'])}"))
    rows = [("status", entry.get("status") or {"completed": "complete"}.get(found["array"], "ready"))]
    if found["reason"]:
        rows.append(("reason", found["reason"]["text"]))
    for key in _FIELDS:
        if key in entry and (key != "attention" or not found["reason"]):
            value = entry[key]
            said = ", ".join(value) if isinstance(value, list) else str(value)
            rows.append((key.replace("_", " "), hours(value) if key == "estimate_hours" else said))
    if found["unblocks"]:
        rows.append(("unblocks", ", ".join(found["unblocks"])))
    if "lease" in entry:
        lease = entry["lease"]
        until = lease["expires"][:16].replace("T", " ")
        rows.append(("lease", f"{lease['machine']}, #{lease['instance']}, epoch {lease['epoch']}, until {until}"))
    for stage, record in entry.get("stages", {}).items():
        tries = plural(record.get("attempts", 0), "attempt")
        rows.append((stage, f"{record.get('seconds', 0.0):.1f} s, {tries}"))
    rows += [("resolved", line) for line in found["resolved"]]
    rows += [("collides", one["text"]) for one in found["collisions"]]
    rows += [("workspace", found["workspace"])] if found["workspace"] else []
    rows += [("last log", found["logs"][-1])] if found["logs"] else []
    width = max(len(name) for name, _ in rows)
    for name, words in rows:
        lines = (str(words) or " ").splitlines()
        for number, line in enumerate(lines):
            head = name if number == 0 else ""
            if name in ("workspace", "last log"):  # a path stays in one piece, to be copied
                out.print(Text(f"{head:<{width}}  {clean(line)}"), soft_wrap=True)
            else:
                paragraph(out, line, first=f"{head:<{width}}  ", then=" " * (width + 2))
    _events(out, found["events"])


def _events(out: Console, events: Sequence[dict[str, Any]]) -> None:
    shown = [(event, line) for event in events if (line := event_line(event["event"], event))][-15:]
    if shown:
        out.print()
    for event, line in shown:
        paragraph(out, line, first=f"{event.get('at', '')[11:19]}  ", then=" " * 10, style="dim")


def why(found: dict[str, Any]) -> None:
    """The answer first, then what speaks for it or where it hangs in the end."""
    out = console()
    paragraph(out, f"{found['id']}: {found['answer']}", then="  ", style="bold")
    for line in found["rationale"]:
        paragraph(out, line, first="  · ", then="    ")
    for one in found.get("collisions", []):
        paragraph(out, one["text"], first="  · ", then="    ", style="" if one["resolves_itself"] else "yellow")
    if found.get("hint"):
        paragraph(out, f"hint: {found['hint']}")
    chain = found.get("chain", [])
    roots = [one for one in chain if not one["reason"] or one["reason"]["kind"] != "dependency"]
    through = [one["id"] for one in chain if one not in roots]
    if roots:
        via = f"Through {', '.join(through[:3])}{' …' if len(through) > 3 else ''}" if through else "In the end"
        paragraph(out, f"{via} it waits for:")
    for one in roots[:SHOWN_WAITING]:
        paragraph(out, f"{one['id']}: {one['text']}", first="  · ", then="    ")
    if len(roots) > SHOWN_WAITING:
        out.print(Text(f"    … and {len(roots) - SHOWN_WAITING} more", style="dim"))
    if "unblocks" in found and not found["rationale"]:
        done = f"When it is done, it unlocks {found['unblocks']}; {hours(found['critical_hours'])} of work hang on"
        paragraph(out, f"{done} it." if found["unblocks"] else "Nothing else waits for it.", style="dim")


def landed(entries: Sequence[Any]) -> None:
    """What landed: seconds per stage, attempts, commit."""
    out = console()
    ident = min(max([4, *(len(entry.id) for entry in entries)]), 24)
    title = max(min(out.width - ident - 42, 40), 10)
    table = grid(("SPEC", ident), ("TITLE", title), ("TEST", 8), ("IMPLEMENT", 9), ("VERIFY", 8), ("COMMIT", 7))
    for entry in entries:
        cells = []
        for stage in ("test", "implement", "verify"):
            record = entry.stages.get(stage)
            tries = f" ×{record.attempts}" if record and record.attempts > 1 else ""
            cells.append(Text(f"{record.seconds:.1f} s{tries}" if record and record.attempts else "–"))
        table.add_row(Text(entry.id), Text(shorten(one_line(entry.title), title)), *cells, Text(entry.landed[:7]))
    show_table(out, table)


# ---------------------------------------------------------------- how it ended


def report(found: Any) -> None:
    """How one run ended, and what to do next."""
    out = console()
    for note in found.notes:
        paragraph(out, f"note: {note}", then="      ", style="dim")
    if found.ended == "landed":
        out.print(Text.assemble(("landed ", "bold green"), f"{found.spec} as {found.landed[:10]}"))
    elif found.ended == "stopped":
        out.print(Text.assemble(("proved ", "bold green"), f"{found.spec}: its {found.stage} stage is done"))
        out.print(Text(f"next: 'agentq run {found.spec}'", style="dim"))
    else:
        word = {"attention": "needs you"}.get(found.ended, found.ended)
        paragraph(out, f"{word}: {found.spec} in {found.stage}: {found.problem}", then="  ", style="bold red")
        if found.hint:
            paragraph(out, f"hint: {found.hint}", then="      ")


def work_report(found: Any, completed: int) -> None:
    """The end of `work`: how each spec ended, and why others did not start. `completed`: in the whole queue."""
    out = console()
    landings = [one for one in found.ended if one.get("ended") == "landed"]
    if found.ended:
        paragraph(out, f"{len(landings)} landed, {len(found.ended) - len(landings)} did not", style="bold")
    for one in found.ended:
        if one.get("ended") != "landed":
            paragraph(out, f"{one['spec']}: {ended_line(one)}", first="  ", then="    ", style="yellow")
            hint = one.get("hint") or one.get("error", {}).get("hint")
            if hint:
                paragraph(out, f"hint: {hint}", first="    ", then="    ", style="dim")
    if found.interrupted:
        paragraph(out, "stopped on request; 'agentq work' goes on")
        return
    if found.blocked is not None:
        paragraph(out, f"Nothing more may start: {found.blocked.text}.")
    elif not found.waiting and not any(one.get("ended") != "landed" for one in found.ended):
        done = f": {all_specs(completed)} completed." if completed else ": the queue is empty."
        paragraph(out, f"Nothing is left to do{done}")
    elif not found.ended:
        paragraph(out, "Nothing could start:")
    waiting = list(found.waiting.items()) if found.blocked is None else []
    for spec, reason in waiting[:SHOWN_WAITING]:
        paragraph(out, f"{spec} waits: {reason.text}", first="  ", then="    ", style="dim")
    if len(waiting) > SHOWN_WAITING:
        out.print(Text(f"  … and {len(waiting) - SHOWN_WAITING} more: 'agentq status'", style="dim"))
