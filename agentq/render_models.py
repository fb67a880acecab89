"""What people see of models and money: limits, costs, breakers, routes."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.text import Text

from agentq.core.text import ago, dollars, hours, plural
from agentq.live import console
from agentq.render import grid, paragraph, show_table

BAR = 8


def budget(lines: Sequence[Any], windows: Mapping[str, Sequence[Any]], asleep: Sequence[Any]) -> None:
    out = console()
    limits = [line for line in lines if line.scope != "type"]
    if not limits:
        paragraph(out, "No limit is set: [budget] and [bucket.NAME] in agents/config.toml set some.")
    else:
        table = grid(("LIMIT", 32), ("TOTAL", 10), ("USED", 10), ("HELD", 9), ("FREE", 10))
        _right(table)
        for line in limits:
            amounts = (line.total, line.in_use, line.allocated, line.available)
            unit = "" if line.unit == "dollars" else f" ({line.unit})"
            table.add_row(line.title + unit, *(Text(line.said(n), justify="right") for n in amounts))
        show_table(out, table)
    for line in lines:
        if line.scope == "type":
            paragraph(out, f"{line.name}: {line.limit} ({line.unit} of one run)")
    for name, found in windows.items():
        for window in found:
            until = f", resets {_when(datetime.fromtimestamp(window.resets_at, UTC))}" if window.resets_at else ""
            paragraph(out, f"{name}: {window.name.replace('_', '-')} window {_bar(window.utilization)} "
                           f"{window.utilization:.0%} used{until}")  # fmt: skip
    _asleep(out, asleep)


def cost(by: str, sums: Sequence[Any]) -> None:
    out = console()
    if not sums:
        paragraph(out, "No agent has told what it used yet.")
        return
    most = max((one.dollars for one in sums), default=0.0)
    table = grid((by.upper(), 18), ("CALLS", 6), ("INPUT", 9), ("OUTPUT", 8), ("CACHED", 10), ("COST", 8))
    _right(table)
    table.add_column("", width=BAR, no_wrap=True)
    for one in (*sorted(sums, key=lambda one: (-one.dollars, one.name)), *_total(sums)):
        usage = one.usage
        numbers = [f"{one.requests:,}", f"{usage.input:,}", f"{usage.output:,}",
                   f"{usage.cache_read + usage.cache_write:,}", dollars(one.dollars)]  # fmt: skip
        bar = "█" * round(BAR * one.dollars / most) if most and one in sums else ""
        table.add_row(one.name or "-", *(Text(text, justify="right") for text in numbers), bar)
    show_table(out, table)


def _total(sums: Sequence[Any]) -> list[Any]:
    """One row more, of all of them, if there are several."""
    if len(sums) < 2:
        return []
    usage = sums[0].usage
    for one in sums[1:]:
        usage = usage + one.usage
    return [type(sums[0])("together", usage, sum(one.dollars for one in sums), sum(one.requests for one in sums))]


def breakers(tiers: Sequence[str], shown: Mapping[str, Any], asleep: Sequence[Any]) -> None:
    out = console()
    if not tiers:
        paragraph(out, "No tier was used yet.")
    else:
        now = datetime.now(UTC)
        table = grid(("TIER", 20), ("STATE", 9), ("FAILED", 6), ("SINCE", 10), ("", 25))
        for name in tiers:
            one = shown.get(name)
            if one is None:
                table.add_row(name, "closed", Text("0", justify="right"), "", "")
                continue
            since = ago((now - one.since).total_seconds()) if one.since else ""
            what = (
                "a probe is under way"
                if one.probing
                else f"probe {_when(one.next_probe)}"
                if one.next_probe
                else ""
            )
            style = {"open": "bold red", "half-open": "yellow"}.get(one.state, "")
            cause = f"{one.cause}, {what}" if one.cause and what else one.cause or what
            table.add_row(
                name, Text(one.state, style=style), Text(str(one.failures), justify="right"), since, cause
            )
        show_table(out, table)
    _asleep(out, asleep)


def _asleep(out: Any, asleep: Sequence[Any]) -> None:
    for one in asleep:
        until = f"until {_when(one.until)}" if one.until else "until somebody runs 'agentq breakers reset'"
        paragraph(out, f"{one.reason}, {until}", then="  ", style="bold yellow")


def route(found: Any, models: Any) -> None:
    out = console()
    who = {"one": "one expert", "parallel": f"{len(found.experts)} experts in parallel", "safe": "the safe choice"}
    out.print(Text.assemble(
        (f"{found.type}, {found.kind}", "bold"),
        f"  complexity {found.complexity} of 10, {found.confidence:.0%} sure, {who[found.strategy]}",
    ), soft_wrap=True)  # fmt: skip
    for name in found.tiers:
        tier = models.tiers[name]
        price = f"${tier.price.input:g} / ${tier.price.output:g} per million" if tier.price.known else "no price"
        first = "first " if name == found.tier else "then  "
        paragraph(out, f"{name}: {tier.model} in {tier.bucket}, {price}", first=first, then="      ")
    if not found.tiers:
        paragraph(out, "the agent's own model: no tiers are set")
    for reason in found.reasons:
        paragraph(out, reason, first="- ", then="  ", style="dim")


def _right(table: Any) -> None:
    """All columns but the first hold numbers."""
    for column in table.columns[1:]:
        column.justify = "right"


def _bar(share: float) -> str:
    full = round(BAR * min(max(share, 0.0), 1.0))
    return "█" * full + "░" * (BAR - full)


def _when(moment: datetime) -> str:
    """In how long; the moment itself where that is far away."""
    seconds = (moment - datetime.now(UTC)).total_seconds()
    if seconds <= 0:
        return "now"
    if seconds < 3600:
        return f"in {plural(max(1, round(seconds / 60)), 'minute')}"
    return f"in {hours(seconds / 3600)}" if seconds < 86400 else f"{moment:%Y-%m-%d %H:%M} UTC"
