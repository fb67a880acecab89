"""Pictures of a queue: its dependency graph for a terminal, Graphviz, Mermaid and SVG (drawn by core/vector.py),
and bars on a time axis for a terminal.

Pure: a Picture goes in, text comes out. Titles come from people and agents, so each format escapes them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agentq.core import graph, vector
from agentq.core.board import Board, Node
from agentq.core.spec import Spec
from agentq.core.text import clean, hours, plural
from agentq.core.vector import CRITICAL, STYLES


@dataclass(frozen=True)
class PictureNode:
    """One spec. `status`: a status of the queue, or 'waiting', 'held', 'attention'; `hours`: its estimate."""

    id: str
    title: str
    status: str
    hours: float
    critical: bool = False

    @property
    def style(self) -> str:
        """The key of STYLES; every stage in progress looks the same."""
        return self.status if self.status in STYLES else "running"


@dataclass(frozen=True)
class Picture:
    """Nodes in the order of the queue; edges (dependency, dependent) without those that others imply."""

    nodes: tuple[PictureNode, ...]
    edges: tuple[tuple[str, str], ...] = ()

    def critical_edges(self) -> frozenset[tuple[str, str]]:
        on_path = {node.id for node in self.nodes if node.critical}
        return frozenset(edge for edge in self.edges if edge[0] in on_path and edge[1] in on_path)

    def heading(self) -> str:
        left = [node for node in self.nodes if node.style != "complete"]
        path = sum(node.hours for node in left if node.critical)
        return (
            f"{plural(len(left), 'spec')} to do, {hours(sum(node.hours for node in left))} of work;"
            f" critical path {hours(path)}"
        )


def of_board(board: Board, completed: Mapping[str, Spec | str] | None = None) -> Picture:
    """The picture of what is left to do. `completed` (id → entry, or only its title) is drawn too, as done."""
    done = {spec_id: entry for spec_id, entry in (completed or {}).items() if spec_id in board.completed}
    nodes = [*board.in_progress, *board.ready]
    left = {node.id: node.depends_on for node in nodes}
    before = {spec_id: () if isinstance(entry, str) else entry.depends_on for spec_id, entry in done.items()}
    everything: dict[str, Sequence[str]] = {**before, **left}
    critical = set(graph.critical_path(left, {node.id: node.hours for node in nodes}))
    return Picture(
        (
            *(
                PictureNode(spec_id, entry if isinstance(entry, str) else entry.title, "complete", 0.0)
                for spec_id, entry in done.items()
            ),
            *(
                PictureNode(node.id, node.title, _status(node, board), node.hours, node.id in critical)
                for node in nodes
            ),
        ),
        graph.shape(everything, dict.fromkeys(everything, 0.0)).edges,
    )


def _status(node: Node, board: Board) -> str:
    if node.attention:
        return "attention"
    if node.held:
        return "held"
    if node.status == "ready" and any(need not in board.completed for need in node.depends_on):
        return "waiting"
    return node.status


# ---------------------------------------------------------------- a terminal


def text(picture: Picture, width: int = 80) -> str:
    """Layers as a list: `*` marks the critical path, every spec says what it comes after."""
    needs: dict[str, list[str]] = {node.id: [] for node in picture.nodes}
    for before, behind in picture.edges:
        needs[behind].append(before)
    id_width = min(max((len(node.id) for node in picture.nodes), default=0), max(width // 3, 8))
    status_width = max((len(node.status) for node in picture.nodes), default=0)
    lines = [cut(picture.heading() + " (*)", width)]
    for number, layer in enumerate(layers(picture), start=1):
        lines += ["", f"step {number}"]
        for node in layer:
            mark = "*" if node.critical else " "
            took = "" if node.style == "complete" else hours(node.hours)
            head = f" {mark} {cut(node.id, id_width):<{id_width}}  {node.status:<{status_width}}  {took:>6}  "
            lines.append(cut(head + _line(node.title), width).rstrip())
            if needs[node.id]:
                lines.append(" " * 5 + after(needs[node.id], width - 5))
    return "\n".join(lines) + "\n"


def layers(picture: Picture) -> list[list[PictureNode]]:
    """Nodes by the length of the longest chain before them, in the order of the queue."""
    place = {node.id: index for index, node in enumerate(picture.nodes)}
    needs: list[list[int]] = [[] for _ in picture.nodes]
    for before, behind in picture.edges:
        needs[place[behind]].append(place[before])
    rank = [0] * len(needs)
    for node in graph.topological(needs)[0]:
        rank[node] = max((rank[need] + 1 for need in needs[node]), default=0)
    found: list[list[PictureNode]] = [[] for _ in range(max(rank, default=-1) + 1)]
    for index, node_ in enumerate(picture.nodes):
        found[rank[index]].append(node_)
    return found


def after(ids: Sequence[str], width: int) -> str:
    """'after a, b and 3 more', as many as fit."""
    for shown in range(len(ids), 0, -1):
        rest = f" and {len(ids) - shown} more" if shown < len(ids) else ""
        line = f"after {', '.join(ids[:shown])}{rest}"
        if len(line) <= width:
            return line
    return cut(f"after {plural(len(ids), 'spec')}", width)


def _line(words: str) -> str:
    return " ".join(clean(words).split())


def cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: max(width - 1, 0)] + "…"


# ---------------------------------------------------------------- SVG, Graphviz and Mermaid


def svg(picture: Picture) -> str:
    """A complete SVG document that refers to nothing outside itself."""
    boxes = []
    for node in picture.nodes:
        took = "done" if node.style == "complete" else hours(node.hours)
        words = node.status if node.style == "running" else STYLES[node.style].words
        boxes.append(vector.Box(node.id, node.title, took, words, STYLES[node.style], node.critical))
    return vector.draw(boxes, picture.edges, picture.critical_edges(), picture.heading())


def dot(picture: Picture) -> str:
    """A Graphviz digraph."""
    lines = [
        "digraph agentq {",
        "  rankdir=LR;",
        '  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11];',
        '  edge [color="#93a1b3"];',
    ]
    for node in picture.nodes:
        style = STYLES[node.style]
        line = CRITICAL if node.critical else style.border
        title = _dot_text(_line(node.title))
        lines.append(
            f'  "{_dot_text(node.id)}" [label="{_dot_text(node.id)}\\n{title}", fillcolor="{style.fill}", '
            f'color="{line}", fontcolor="{style.ink}", penwidth={2 if node.critical else 1}];'
        )
    critical = picture.critical_edges()
    for edge in picture.edges:
        more = f' [color="{CRITICAL}", penwidth=2]' if edge in critical else ""
        lines.append(f'  "{_dot_text(edge[0])}" -> "{_dot_text(edge[1])}"{more};')
    return "\n".join([*lines, "}"]) + "\n"


def _dot_text(word: str) -> str:
    return word.replace("\\", "\\\\").replace('"', '\\"')


def mermaid(picture: Picture) -> str:
    """A Mermaid flowchart. Nodes are numbered: an id such as 'end' is a word of its language."""
    lines = ["flowchart LR"]
    number = {node.id: f"n{index}" for index, node in enumerate(picture.nodes)}
    for node in picture.nodes:
        title = _mermaid_text(_line(node.title))
        lines.append(f'  {number[node.id]}["{_mermaid_text(node.id)}<br/>{title}"]:::{node.style}')
    lines += [f"  {number[before]} --> {number[behind]}" for before, behind in picture.edges]
    for style in dict.fromkeys(node.style for node in picture.nodes):
        look = STYLES[style]
        lines.append(f"  classDef {style} fill:{look.fill},stroke:{look.border},color:{look.ink}")
    path = [number[node.id] for node in picture.nodes if node.critical]
    if path:
        lines.append(f"  classDef critical stroke:{CRITICAL},stroke-width:3px")
        lines.append(f"  class {','.join(path)} critical")
    critical = picture.critical_edges()
    links = [str(index) for index, edge in enumerate(picture.edges) if edge in critical]
    if links:
        lines.append(f"  linkStyle {','.join(links)} stroke:{CRITICAL},stroke-width:3px")
    return "\n".join(lines) + "\n"


def _mermaid_text(word: str) -> str:
    """Entities of Mermaid: every character that is not plain, so that no mark-up is left in it."""
    return "".join(c if c.isalnum() or c in " .,-_/" else f"#{ord(c)};" for c in word)


# ---------------------------------------------------------------- time


@dataclass(frozen=True)
class GanttRow:
    """One spec on a time axis. `lane`: who worked on it; `start`, `end`: seconds since the beginning;
    `marks`: (stage, begin, end) of what was done in between."""

    label: str
    lane: str
    start: float
    end: float
    marks: tuple[tuple[str, float, float], ...] = ()


BARS = {"test": "░", "implement": "█", "verify": "▒"}
_WAITS = "·"
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)


def gantt_text(rows: Sequence[GanttRow], width: int = 80) -> str:
    """Bars for a terminal of `width` columns: a line a row, a legend, a time axis in minutes and seconds
    or hours and minutes."""
    label = min(max((len(_line(row.label)) for row in rows), default=0), max(width // 4, 6))
    lane = min(max((len(_line(row.lane)) for row in rows), default=0), 12)
    room = max(width - label - lane - 12, 10)
    last = max([1.0, *(row.end for row in rows)])
    scale = room / last
    lines = []
    for row in rows:
        name, who = cut(_line(row.label), label), cut(_line(row.lane), lane)
        lines.append(
            f"{name:<{label}}  {who:<{lane}}  {_bar(row, scale, room)}  {_clock(row.end - row.start, last):>6}"
        )
    ticks, below = _axis(last, scale, room)
    margin = " " * (label + lane + 4)
    lines += [(margin + ticks).rstrip(), (margin + below).rstrip()]
    known = [f"{bar} {stage}" for stage, bar in BARS.items()]
    return "\n".join([*lines, "", "   ".join([*known, f"{_WAITS} waits"])]) + "\n"


def _bar(row: GanttRow, scale: float, room: int) -> str:
    cells = [" "] * room
    for begin, end, bar in [
        (row.start, row.end, _WAITS),
        *((begin, end, BARS.get(stage, "▪")) for stage, begin, end in row.marks),
    ]:
        first = min(max(round(begin * scale), 0), room - 1)
        for place in range(first, min(max(round(end * scale), first + 1), room)):
            cells[place] = bar
    return "".join(cells)


def _axis(last: float, scale: float, room: int) -> tuple[str, str]:
    """(the line with ticks, the line with their times)."""
    step = next((step for step in _STEPS if step * scale >= 10), max(last, 1.0))
    ticks, below = ["─"] * room, ""
    for index in range(int(last / step) + 1):
        place = round(index * step * scale)
        name = _clock(index * step, last)
        if place < room and (place + len(name) <= room + 8):
            ticks[place] = "┬" if index else "├"
            below = below.ljust(place) + name
    return "".join(ticks), below


def _clock(seconds: float, longest: float) -> str:
    """'4:05' (minutes and seconds), or '1h05' where the whole axis is longer than an hour."""
    whole = round(seconds)
    if longest >= 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}"
    return f"{whole // 60}:{whole % 60:02d}"
