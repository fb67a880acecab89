"""A graph of boxes as SVG: readable on its own, no references to anything outside the file."""

import html
import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from agentq.core.layered import arrange
from agentq.core.text import clean


class Style(NamedTuple):
    """Colours of a box; `words` are for the legend, `dash` for its border."""

    fill: str
    border: str
    ink: str
    words: str
    dash: str = ""


STYLES: dict[str, Style] = {
    "complete": Style("#eceff3", "#b6bfca", "#6b7684", "complete"),
    "running": Style("#dbeafe", "#2563eb", "#12284b", "in progress"),
    "attention": Style("#fef0c7", "#d97706", "#4a2a04", "needs you"),
    "ready": Style("#d9f7e4", "#16914a", "#0c3b20", "ready"),
    "waiting": Style("#ffffff", "#93a1b3", "#2b3643", "waits"),
    "held": Style("#efe9fc", "#8b6fd1", "#35235f", "held", "5 3"),
}
CRITICAL = "#d4264a"

BOX, HEIGHT = 196.0, 46.0  # size of a box, in pixels
_ACROSS, _DOWN = 64.0, 16.0  # space between columns and between rows
_MARGIN, _HEAD = 24.0, 78.0
_FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"
_NOT_XML = re.compile(r"[\ufffe\uffff]")


@dataclass(frozen=True)
class Box:
    """One spec: `took` stands at the right, `words` and the whole title in its tooltip."""

    id: str
    title: str
    took: str
    words: str
    style: Style
    critical: bool = False


def draw(
    boxes: Sequence[Box], edges: Sequence[tuple[str, str]], critical: Collection[tuple[str, str]], heading: str
) -> str:
    """A complete SVG document. Boxes without an edge stand below the others."""
    linked = {end for edge in edges for end in edge}
    nodes = [node for node in boxes if node.id in linked]
    alone = [node for node in boxes if node.id not in linked]
    number = {node.id: index for index, node in enumerate(nodes)}
    layout = arrange(len(nodes), [(number[before], number[behind]) for before, behind in edges])
    places = {
        node.id: (_x(column), _HEAD + row * (HEIGHT + _DOWN))
        for node, column, row in zip(nodes, layout.column, layout.row, strict=True)
    }
    wide = max([max(layout.column, default=-1) + 1, min(len(alone), 4), 3])
    below = max((y + HEIGHT for _, y in places.values()), default=_HEAD - 30)
    for index, node in enumerate(alone):
        places[node.id] = (_x(index % wide), below + 44 + index // wide * (HEIGHT + _DOWN))
    width = _x(wide - 1) + BOX + _MARGIN
    height = max((y + HEIGHT for _, y in places.values()), default=_HEAD) + _MARGIN
    paths = []
    for edge in sorted(edges, key=lambda one: one in critical):
        rows = layout.routes[number[edge[0]], number[edge[1]]]
        between = [_HEAD + row * (HEIGHT + _DOWN) + HEIGHT / 2 for row in rows]
        paths.append(_edge(places[edge[0]], between, places[edge[1]], edge in critical))
    if alone and nodes:
        paths.append(f'<text x="{_MARGIN:g}" y="{below + 34:g}" font-size="11" fill="#5b6774">on their own</text>')
    drawn = [_box(node, *places[node.id]) for node in boxes]
    return "\n".join([*_frame(width, height, heading), *_legend(boxes), *paths, *drawn, "</svg>"]) + "\n"


def _x(column: int) -> float:
    return _MARGIN + column * (BOX + _ACROSS)


def _frame(width: float, height: float, heading: str) -> list[str]:
    markers = (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7.2" refY="4" markerWidth="{size}" markerHeight="{size}" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0,0.6 L7.6,4 L0,7.4 z" fill="{colour}"/></marker>'
        for name, size, colour in (("arrow", 8, "#8a97a8"), ("critical", 10, CRITICAL))
    )
    heading = _escape(heading)
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" font-family="{_FONT}" role="img" aria-label="{heading}">',
        f"<defs>{''.join(markers)}</defs>",
        f'<rect width="{width:g}" height="{height:g}" rx="10" fill="#fbfcfd"/>',
        f'<text x="{_MARGIN:g}" y="30" font-size="15" font-weight="600" fill="#1d2733">{heading}</text>',
    ]


def _legend(boxes: Sequence[Box]) -> list[str]:
    present = {box.style for box in boxes}
    x, out = _MARGIN, []
    for style in STYLES.values():
        fill, border, _, words, dash = style
        if style in present:
            out.append(
                f'<rect x="{x:g}" y="43" width="18" height="12" rx="3.5" fill="{fill}" '
                f'stroke="{border}"{_dash(dash)}/>'
                f'<text x="{x + 24:g}" y="53" font-size="11" fill="#3f4b59">{words}</text>'
            )
            x += 24 + _width(words, 11) + 18
    if any(box.critical for box in boxes):
        out.append(
            f'<path d="M{x:g},49 h22" stroke="{CRITICAL}" stroke-width="2.4" marker-end="url(#critical)"/>'
            f'<text x="{x + 30:g}" y="53" font-size="11" fill="#3f4b59">critical path</text>'
        )
    return out


def _dash(dash: str) -> str:
    return f' stroke-dasharray="{dash}"' if dash else ""


def _box(box: Box, x: float, y: float) -> str:
    fill, border, ink, _, dash = box.style
    line = CRITICAL if box.critical else border
    room = BOX - 20 - _width(box.took, 10.5) - 8
    title = " ".join(clean(box.title).split())
    tip = f"{box.id} · {box.words} · {box.took}\n{title}"
    return (
        f'<g><title>{_escape(tip)}</title><rect x="{x:g}" y="{y:g}" width="{BOX:g}" height="{HEIGHT:g}" rx="8" '
        f'fill="{fill}" stroke="{line}" stroke-width="{2.2 if box.critical else 1.2}"{_dash(dash)}/>'
        f'<text x="{x + 10:g}" y="{y + 19:g}" font-size="12.5" font-weight="600" fill="{ink}">'
        f"{_escape(_fit(box.id, room, 12.5 * 1.08))}</text>"
        f'<text x="{x + BOX - 10:g}" y="{y + 19:g}" font-size="10.5" text-anchor="end" fill="{ink}" '
        f'opacity="0.8">{box.took}</text>'
        f'<text x="{x + 10:g}" y="{y + 36:g}" font-size="11" fill="{ink}" opacity="0.86">'
        f"{_escape(_fit(title, BOX - 20, 11))}</text></g>"
    )


def _edge(begin: tuple[float, float], between: Sequence[float], end: tuple[float, float], critical: bool) -> str:
    """A line that bends between columns and runs level through them."""
    x, y = begin[0] + BOX, begin[1] + HEIGHT / 2
    path = f"M{x:g},{y:.4g}"
    for row in [*between, end[1] + HEIGHT / 2]:
        path += f" C{x + _ACROSS / 2:g},{y:.5g} {x + _ACROSS / 2:g},{row:.5g} {x + _ACROSS:g},{row:.5g}"
        x, y = x + _ACROSS + BOX, row
        path += f" H{x:g}"
    path = path.rpartition(" H")[0]
    colour, width, arrow = (CRITICAL, 2.4, "critical") if critical else ("#a9b4c1", 1.3, "arrow")
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}" marker-end="url(#{arrow})"/>'


def _width(words: str, size: float) -> float:
    """About how many pixels `words` take; characters of East Asia are twice as wide."""
    return (
        sum(
            1.0 if unicodedata.east_asian_width(c) in "WF" else 0.34 if c in "ijl.,:;|!'() " else 0.62
            for c in words
        )
        * size
    )


def _fit(words: str, room: float, size: float) -> str:
    if _width(words, size) <= room:
        return words
    while words and _width(words + "…", size) > room:
        words = words[:-1]
    return words.rstrip() + "…"


def _escape(words: str) -> str:
    return html.escape(_NOT_XML.sub("", clean(words)))
