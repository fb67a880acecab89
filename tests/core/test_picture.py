"""Pictures of the graph: what they show, that they are well-formed, that titles cannot break out of them."""

import re
from itertools import combinations, pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentq.core import layered, picture
from agentq.core.board import Board, Node
from agentq.core.picture import GanttRow, Picture, PictureNode, gantt_text
from agentq.core.spec import Spec

SVG = "{http://www.w3.org/2000/svg}"
EVIL = '"]; <script>alert(1)</script> & \\" \x1b[31m\u202e end #quot; \ufffe'


def node(spec_id: str, *needs: str, title: str = "", hours: float = 4.0, **more) -> Node:
    return Node(spec_id, title or f"Title {spec_id}", needs, (), hours, **more)


BOARD = Board(
    (
        node("b", "a"),
        node("c", "a", hours=6.0),
        node("d", "b", "c", "a"),
        node("e", held=True),
        node("f", "base"),
    ),
    (node("a", "base", status="implementing", machine="m"), node("g", status="verifying", attention="?")),
    frozenset({"base", "old"}),
)
DONE = {"old": "The oldest", "base": Spec(id="base", title="The base", depends_on=("old",))}


def test_the_picture_of_a_board():
    made = picture.of_board(BOARD, DONE)
    assert [(one.id, one.status, one.critical) for one in made.nodes] == [
        ("old", "complete", False),
        ("base", "complete", False),
        ("a", "implementing", True),
        ("g", "attention", False),
        ("b", "waiting", False),
        ("c", "waiting", True),
        ("d", "waiting", True),
        ("e", "held", False),
        ("f", "ready", False),
    ]
    assert set(made.edges) == {
        ("old", "base"),
        ("base", "a"),
        ("base", "f"),
        ("a", "b"),
        ("a", "c"),
        ("b", "d"),
        ("c", "d"),
    }
    assert made.critical_edges() == {("a", "c"), ("c", "d")}
    assert made.heading() == "7 specs to do, 30 h of work; critical path 14 h"
    assert [one.id for one in picture.of_board(BOARD).nodes] == ["a", "g", "b", "c", "d", "e", "f"]


def test_text_shows_steps_marks_and_what_comes_before():
    drawn = picture.text(picture.of_board(BOARD, DONE))
    assert "step 1\n   old   complete              The oldest" in drawn
    assert " * c     waiting          6 h  Title c\n     after a\n" in drawn
    assert "step 5\n * d     waiting          4 h  Title d\n     after b, c\n" in drawn


names = st.text("abcdefgh-", min_size=1, max_size=64)


@st.composite
def pictures(draw):
    ids = draw(st.lists(names, max_size=9, unique=True))
    nodes = tuple(
        PictureNode(
            one,
            draw(st.text(max_size=30) | st.just(EVIL)),
            draw(st.sampled_from(["ready", "waiting", "testing", "complete", "held", "attention"])),
            draw(st.sampled_from([0.5, 4.0, 120.0])),
            draw(st.booleans()),
        )
        for one in ids
    )
    edges = tuple(pair for pair in combinations(ids, 2) if draw(st.integers(0, 3)) == 0)
    return Picture(nodes, edges)


@settings(max_examples=100, deadline=None)
@given(pictures(), st.sampled_from([40, 80, 120]))
def test_text_fits_and_shows_every_spec(made, width):
    lines = picture.text(made, width).splitlines()
    assert all(len(line) <= width for line in lines)
    assert sum(line[:3] in ("   ", " * ") and line[3:4] != " " for line in lines) == len(made.nodes)
    assert sum(line.startswith("     after ") for line in lines) == len({end for _, end in made.edges})


@settings(max_examples=80, deadline=None)
@given(pictures())
def test_svg_is_well_formed_and_complete(made):
    root = ElementTree.fromstring(picture.svg(made))
    groups = root.findall(f"{SVG}g")
    shown = [str(group.findtext(f"{SVG}title")).split(" · ")[0] for group in groups]
    assert shown == [one.id for one in made.nodes]
    arrows = [path for path in root.findall(f"{SVG}path") if "C" in path.attrib["d"]]
    assert len(arrows) == len(made.edges)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        *("svg", "defs", "marker", "path", "rect", "text", "g", "title")
    }
    boxes = [
        [float(group.find(f"{SVG}rect").attrib[key]) for key in ("x", "y", "width", "height")] for group in groups
    ]
    for (x, y, wide, high), (x2, y2, _, _) in combinations(boxes, 2):
        assert abs(x - x2) >= wide or abs(y - y2) >= high  # no two boxes overlap
    for x, y, wide, high in boxes:
        assert x >= 0 and y >= 60
        assert x + wide <= float(root.attrib["width"]) and y + high <= float(root.attrib["height"])


def test_svg_refers_to_nothing_outside_and_marks_the_critical_path():
    drawn = picture.svg(picture.of_board(BOARD, DONE))
    assert re.findall(r"https?://[^\"]+", drawn) == ["http://www.w3.org/2000/svg"]
    assert "href" not in drawn and "<script" not in drawn and "<style" not in drawn
    root = ElementTree.fromstring(drawn)
    thick = [path for path in root.findall(f"{SVG}path") if path.attrib.get("marker-end") == "url(#critical)"]
    assert len(thick) == 2 + 1  # two edges and the legend
    legend = [text.text for text in root.findall(f"{SVG}text")]
    assert legend[1:] == [
        "complete",
        "in progress",
        "needs you",
        "ready",
        "waits",
        "held",
        "critical path",
        "on their own",
    ]


def test_titles_cannot_break_out():
    made = Picture((PictureNode("a", EVIL, "ready", 1.0), PictureNode("b", "B", "waiting", 1.0)), (("a", "b"),))
    assert "<script" not in picture.svg(made)
    dotted = picture.dot(made).splitlines()[4]
    assert dotted.startswith('  "a" [label="a\\n\\"]; <script>alert(1)</script> & \\\\\\" ')
    assert len(re.findall(r'(?<!\\)(?:\\\\)*"', dotted)) % 2 == 0
    flow = picture.mermaid(made).splitlines()[1]
    label = flow.removeprefix('  n0["a<br/>').removesuffix('"]:::ready')
    assert re.fullmatch(r"[\w .,\-/#;]*", label) and "#60;script#62;" in label
    assert "\x1b" not in picture.text(made) and "\u202e" not in picture.text(made)


def test_dot_and_mermaid_hold_every_node_and_edge():
    made = picture.of_board(BOARD, DONE)
    drawn = picture.dot(made)
    assert drawn.startswith("digraph agentq {\n") and drawn.endswith("}\n")
    assert [f'  "{a}" -> "{b}"' in drawn for a, b in made.edges] == [True] * len(made.edges)
    assert '  "a" -> "c" [color="#d4264a", penwidth=2];' in drawn
    flow = picture.mermaid(made)
    assert flow.startswith('flowchart LR\n  n0["old<br/>The oldest"]:::complete\n')
    assert flow.count(" --> ") == len(made.edges)
    links = [line for line in flow.splitlines() if " --> " in line]
    marked = re.search(r"linkStyle ([\d,]+) ", flow)
    assert marked is not None
    assert [links[int(index)] for index in marked[1].split(",")] == ["  n2 --> n5", "  n5 --> n6"]


def test_an_empty_queue_draws():
    empty = Picture(())
    assert picture.text(empty) == "0 specs to do, 0 min of work; critical path 0 min (*)\n"
    ElementTree.fromstring(picture.svg(empty))
    assert picture.dot(empty).endswith("}\n") and picture.mermaid(empty) == "flowchart LR\n"
    assert gantt_text([]).endswith("waits\n")


# ---------------------------------------------------------------- layout


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 12), st.data())
def test_columns_follow_edges_and_boxes_keep_their_distance(count, data):
    pairs = list(combinations(range(count), 2))
    edges = data.draw(st.lists(st.sampled_from(pairs), unique=True, max_size=18)) if pairs else []
    made = layered.arrange(count, edges)
    assert made == layered.arrange(count, edges)
    for begin, end in edges:
        assert made.column[begin] < made.column[end]
        assert len(made.routes[begin, end]) == made.column[end] - made.column[begin] - 1
    for column in set(made.column):
        rows = sorted(row for row, place in zip(made.row, made.column, strict=True) if place == column)
        assert all(below - above >= 0.999 for above, below in pairwise(rows))


def test_the_sweeps_untangle_what_can_be():
    """Three parallel chains given in a twisted order have no crossing left."""
    edges = [(0, 5), (1, 4), (2, 3), (3, 8), (4, 7), (5, 6)]
    made = layered.arrange(9, edges)
    middle = {begin: made.row[end] for begin, end in edges}
    assert sorted(range(3), key=made.row.__getitem__) == sorted(range(3), key=middle.__getitem__)
    assert sorted(range(3, 6), key=made.row.__getitem__) == sorted(range(3, 6), key=middle.__getitem__)


def test_a_source_stands_next_to_what_needs_it():
    made = layered.arrange(4, [(0, 1), (1, 2), (3, 2)])
    assert made.column == (0, 1, 2, 1)


# ---------------------------------------------------------------- Gantt

ROWS = [
    GanttRow("auth", "m1·1", 0, 60, (("test", 0, 15), ("implement", 15, 45), ("verify", 50, 60))),
    GanttRow("a-very-long-name-of-a-spec", "m1·2", 30, 120, (("test", 30, 60), ("other", 60, 61))),
]


def test_bars_stand_at_their_times():
    lines = gantt_text(ROWS, 80).splitlines()
    assert (
        lines[0]
        == "auth                  m1·1  "
        + "░" * 6
        + "█" * 10
        + "  ".replace("  ", "··")
        + "▒" * 4
        + " " * 22
        + "    1:00"
    )
    assert lines[1].startswith("a-very-long-name-of…  m1·2  " + " " * 11 + "░" * 11 + "▪" + "·")
    assert lines[1].endswith("    1:30")
    assert lines[-1] == "░ test   █ implement   ▒ verify   · waits"


def test_the_axis_names_its_ticks():
    axis, below = gantt_text(ROWS, 80).splitlines()[2:4]
    begin = axis.index("├")
    assert [below[begin:].split()[i] for i in range(3)] == ["0:00", "0:30", "1:00"]
    assert all(below[index] in "01" for index, tick in enumerate(axis) if tick in "├┬")
    long = gantt_text([GanttRow("x", "", 0, 36_000)], 80)
    assert "2h00" in long and "10h00" in long.splitlines()[0]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.builds(
            lambda label, lane, start, took, marks: GanttRow(
                label, lane, start, start + took, tuple((stage, start + a, start + b) for stage, a, b in marks)
            ),
            st.text(max_size=40),
            st.text(max_size=15),
            st.floats(0, 1e5),
            st.floats(0, 1e5),
            st.lists(
                st.tuples(st.sampled_from(["test", "verify", "odd"]), st.floats(0, 9), st.floats(0, 9)), max_size=3
            ),
        ),
        max_size=5,
    ),
    st.sampled_from([60, 80, 100]),
)
def test_a_gantt_fits_the_terminal(rows, width):
    lines = gantt_text(rows, width).split("\n")
    assert all(len(line) <= width for line in lines)
    assert len(lines) == len(rows) + 5


@pytest.mark.parametrize("bar", ["░", "█", "▒"])
def test_even_a_moment_is_seen(bar):
    stage = {value: key for key, value in picture.BARS.items()}[bar]
    assert bar in gantt_text([GanttRow("x", "l", 0, 100, ((stage, 100, 100),))], 80).splitlines()[0]
