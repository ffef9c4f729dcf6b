"""A wait-for graph as a picture: self-contained SVG, the same for the same graph.

From left to right: who waits, for what, who is to signal that, and what that one waits for.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from html import escape
from typing import Final

from .waitgraph import Edge, Kind, Node, Relation, State, WaitGraph

#: The most columns and rows that are drawn, and the width in pixels that takes columns away; the rest is counted.
COLUMNS: Final = 9
ROWS: Final = 14
WIDTH: Final = 1600

# Everything is in pixels.
_MARGIN: Final = 24
_GAP: Final = 46
_ROW: Final = 66
_BOX: Final = 42
_WIDEST: Final = 200
_NARROWEST: Final = 84
#: An upper estimate of the width of a letter of the two lines: no font can be relied upon.
_LETTER: Final = (7.6, 6.6)
_LETTERS: Final = (24, 28)

_STYLES: Final[dict[str, tuple[str, str, str]]] = {
    # What is drawn: colour of the area, of the edge, text of the legend.
    "thread": ("#dbe7fb", "#3b6bb5", "thread"),
    State.REACHED: ("#d9f2dc", "#3d8b4a", "reached"),
    State.UNREACHED: ("#ffe3cf", "#c9691e", "not reached"),
    State.FAILED: ("#fbd5d5", "#b93232", "failed"),
    State.UNKNOWN: ("#ececec", "#808080", "not known"),
    State.WAITING: ("#fff6cf", "#b09114", "submission, waits"),
    State.READY: ("#e4f4f4", "#338787", "submission, nothing left to wait for"),
    State.IN_PROGRESS: ("#eadffb", "#7548b8", "submission, call not returned"),
    State.CLOSED: ("#f3e0ea", "#9c3d6f", "latch, closed"),
    "submission unknown": ("#f4f1e4", "#8a8263", "submission, may wait"),
    "more": ("#ffffff", "#a0a0a0", ""),
}
_DASHED: Final = (Relation.SIGNALED_BY,)
_RING: Final = "#c62828"
_TEXT: Final = "#1c1c1c"


@dataclass(slots=True)
class _Box:
    """A node, or the count of what is left out, with its place."""

    lines: tuple[str, str]
    style: str
    column: int
    title: str = ""
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0


def svg(graph: WaitGraph) -> str:
    """Return the picture of a graph as the text of an SVG file, at most :data:`WIDTH` pixels wide."""
    for columns in range(COLUMNS, 0, -1):
        picture = _Picture(graph, columns)
        if picture.width <= WIDTH:
            break
    return picture.text()


def _style(node: Node) -> str:
    if node.kind is Kind.THREAD:
        return "thread"
    if node.kind is Kind.SUBMISSION and node.state is State.UNKNOWN:
        return "submission unknown"
    return node.state


def _lines(node: Node) -> tuple[str, str]:
    seconds = "" if node.seconds is None else f"{node.seconds:.1f} s"
    if node.kind is Kind.THREAD:
        doing = {State.EXPIRED: f"waited {seconds}", State.WAITING: f"waits, {seconds}"}
        return node.label, doing.get(node.state, node.detail)
    if node.kind is Kind.SUBMISSION:
        return node.label, f"{node.detail}, queue {node.queue}"
    return node.label, node.detail


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1] + "…"


class _Picture:
    """Lays out the boxes in columns, and draws."""

    def __init__(self, graph: WaitGraph, columns: int) -> None:
        self._graph = graph
        self._limit = columns
        self._out: dict[str, list[Edge]] = {}
        for edge in graph.edges:
            self._out.setdefault(edge.source, []).append(edge)
        rings = [[*ring, ring[0]] for ring in graph.rings()]
        self._in_rings = {pair for ring in rings for pair in itertools.pairwise(ring)}
        self._boxes: dict[str, _Box] = {}
        self._edges: list[tuple[str, str, str]] = []  # source, target, kind of line
        self._place(self._columns())
        self._arrange()

    def _columns(self) -> dict[str, int]:
        """Return the column of each node: one to the right of the first that leads to it, threads at the left."""
        column: dict[str, int] = {}
        layer = [node.key for node in self._graph.nodes if node.kind is Kind.THREAD]
        layer = layer or [node.key for node in self._graph.nodes[:1]]
        while layer:
            for key in layer:
                column[key] = column.get(key, 0)
            following: dict[str, int] = {}
            for key in layer:
                for edge in self._out.get(key, ()):
                    if edge.target not in column:
                        following.setdefault(edge.target, column[key] + 1)
            column.update(following)
            layer = list(following)
        return column

    def _place(self, columns: dict[str, int]) -> None:
        """Make the boxes: of each column the first rows, of the columns the first; the rest becomes counts."""
        nodes = {node.key: node for node in self._graph.nodes}
        rows: dict[int, list[str]] = {}
        for key, column in columns.items():
            rows.setdefault(column, []).append(key)
        shown: set[str] = set()
        for column, keys in sorted(rows.items()):
            if column >= self._limit:
                break
            # What nobody shown leads to has no place: its own source was left out.
            led_to = {edge.target for key in shown for edge in self._out.get(key, ())}
            reachable = [key for key in keys if column == 0 or key in led_to]
            keep = reachable if len(reachable) <= ROWS else reachable[: ROWS - 1]
            for key in keep:
                node = nodes[key]
                title = f"{node.label}: {node.detail}" if node.detail else node.label
                self._boxes[key] = _Box(_lines(node), _style(node), column, f"{title} ({node.state})")
            shown.update(keep)
            if len(keep) < len(reachable):
                hidden = len(reachable) - len(keep)
                self._boxes[f"more {column}"] = _Box((f"… {hidden} more", ""), "more", column)
                sources = [k for k in shown if any(e.target in reachable[ROWS - 1 :] for e in self._out.get(k, ()))]
                self._edges += [(key, f"more {column}", "more") for key in sorted(sources)]
        self._count_beyond(columns, shown, nodes)
        for edge in self._graph.edges:
            if edge.source in shown and edge.target in shown:
                ring = (edge.source, edge.target) in self._in_rings
                self._edges.append((edge.source, edge.target, "ring" if ring else edge.relation))

    def _count_beyond(self, columns: dict[str, int], shown: set[str], nodes: dict[str, Node]) -> None:
        """Put a count behind each box of the last column, and behind each that the graph itself has more of."""
        for key in list(shown):
            hidden: set[str] = set()
            following = [edge.target for edge in self._out.get(key, ()) if columns[edge.target] >= self._limit]
            while following:
                target = following.pop()
                if target not in shown and target not in hidden:
                    hidden.add(target)
                    following += [edge.target for edge in self._out.get(target, ())]
            more = nodes[key].more + sum(nodes[target].more for target in hidden)
            if hidden or more:
                least = " at least" if more else ""
                text = f"…{least} {len(hidden) + more} more"
                self._boxes[f"beyond {key}"] = _Box((text, ""), "more", columns[key] + 1)
                self._edges.append((key, f"beyond {key}", "more"))

    def _arrange(self) -> None:
        """Give each box its place: rows in the order of what leads there, columns as wide as their texts."""
        by_column: dict[int, list[str]] = {}
        for key, box in self._boxes.items():
            box.lines = (_cut(box.lines[0], _LETTERS[0]), _cut(box.lines[1], _LETTERS[1]))
            by_column.setdefault(box.column, []).append(key)
        x = float(_MARGIN)
        for column in sorted(by_column):
            keys = by_column[column]
            if column:
                keys.sort(key=lambda key: (key.startswith("more "), self._middle(key)))
            width = max(
                len(line) * letter for key in keys for line, letter in zip(self._boxes[key].lines, _LETTER, strict=True)
            )
            width = min(max(width + 16, _NARROWEST), _WIDEST)
            lowest = float(_MARGIN)
            for key in keys:
                box = self._boxes[key]
                box.x, box.width = x, width
                box.y = max(lowest, self._middle(key) if column else lowest)
                lowest = box.y + _ROW
            x += width + _GAP
        self.width = x - _GAP + _MARGIN
        self._height = max((box.y for box in self._boxes.values()), default=0.0) + _BOX + _MARGIN

    def _middle(self, key: str) -> float:
        """Return the height of the topmost box, further left, that leads to this one."""
        column = self._boxes[key].column
        sources = [self._boxes[source] for source, target, _ in self._edges if target == key]
        return min((box.y for box in sources if box.column < column), default=float(_MARGIN))

    # --- drawing

    def text(self) -> str:
        """Return the whole file."""
        legend, legend_height, legend_width = self._legend()
        width, height = round(max(self.width, legend_width)), round(self._height + legend_height)
        ways = {self._boxes[target].column - self._boxes[source].column for source, target, _ in self._edges}
        if any(way == 0 or way < -1 for way in ways):
            height += 34  # for the lines that go back below everything
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        )
        parts = [
            f'{head} font-family="sans-serif" role="img">',
            "<title>Who waits for whom</title>",
            "<defs>",
            *(_marker(name, colour) for name, colour in (("line", "#555555"), ("ring", _RING), ("more", "#a0a0a0"))),
            "</defs>",
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
            *(self._edge(*edge) for edge in self._edges),
            *(self._box(box) for box in self._boxes.values()),
            f'<g transform="translate(0 {height - legend_height})">',
            *legend,
            "</g>",
            "</svg>",
        ]
        return "\n".join(parts) + "\n"

    def _edge(self, source: str, target: str, kind: str) -> str:
        start, end = self._boxes[source], self._boxes[target]
        colour = {"ring": _RING, "more": "#a0a0a0"}.get(kind, "#555555")
        marker = kind if kind in ("ring", "more") else "line"
        dash = ' stroke-dasharray="5 3"' if self._is_dashed(source, target) else ""
        x1, y1 = start.x + start.width, start.y + _BOX / 2
        x2, y2 = end.x - 2, end.y + _BOX / 2
        if end.column == start.column - 1:
            x1, y1 = start.x, start.y + _BOX * 0.8
            x2, y2 = end.x + end.width + 2, end.y + _BOX * 0.8
            path = f"M{x1:.0f} {y1:.0f}C{x1 - 24:.0f} {y1:.0f} {x2 + 24:.0f} {y2:.0f} {x2:.0f} {y2:.0f}"
        elif end.column > start.column:
            bend = max(18.0, (x2 - x1) / 2)
            path = f"M{x1:.0f} {y1:.0f}C{x1 + bend:.0f} {y1:.0f} {x2 - bend:.0f} {y2:.0f} {x2:.0f} {y2:.0f}"
        else:
            # Back, below everything: down and up in the gaps between the columns.
            low, down, up = self._height + 4, x1 + 16, end.x - 18
            y2 += _BOX / 4
            path = (
                f"M{x1:.0f} {y1:.0f}Q{down:.0f} {y1:.0f} {down:.0f} {y1 + 14:.0f}V{low - 14:.0f}"
                f"Q{down:.0f} {low:.0f} {down - 14:.0f} {low:.0f}H{up + 14:.0f}"
                f"Q{up:.0f} {low:.0f} {up:.0f} {low - 14:.0f}"
                f"V{y2 + 10:.0f}Q{up:.0f} {y2:.0f} {up + 10:.0f} {y2:.0f}H{x2:.0f}"
            )
        width = 2 if kind == "ring" else 1.3
        return (
            f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}"{dash} marker-end="url(#{marker})"/>'
        )

    def _is_dashed(self, source: str, target: str) -> bool:
        return any(e.target == target and e.relation in _DASHED for e in self._out.get(source, ()))

    def _box(self, box: _Box) -> str:
        fill, stroke, _ = _STYLES[box.style]
        dash = ' stroke-dasharray="3 3"' if box.style == "more" else ""
        centre = box.x + box.width / 2
        first, second = box.lines
        texts = [(first, box.y + (18 if second else 26), 13, ' font-weight="600"')]
        if second:
            texts.append((second, box.y + 33, 11, ""))
        drawn = "".join(
            f'<text x="{centre:.0f}" y="{y:.0f}" font-size="{size}" text-anchor="middle" fill="{_TEXT}"{weight}'
            f"{_squeeze(text, size, box.width)}>{_safe(text)}</text>"
            for text, y, size, weight in texts
        )
        title = f"<title>{_safe(box.title)}</title>" if box.title else ""
        return (
            f'<g>{title}<rect x="{box.x:.0f}" y="{box.y:.0f}" width="{box.width:.0f}" height="{_BOX}" rx="6" '
            f'fill="{fill}" stroke="{stroke}"{dash}/>{drawn}</g>'
        )

    def _legend(self) -> tuple[list[str], float, float]:
        """Return what explains the colours that are used, with its height and width."""
        used = [style for style in _STYLES if any(box.style == style for box in self._boxes.values())]
        entries = [(_STYLES[style][:2], _STYLES[style][2]) for style in used if _STYLES[style][2]]
        parts: list[str] = []
        widest = max(self.width, 560.0)
        x, y = float(_MARGIN), 14.0
        for (fill, stroke), text in entries:
            need = 20 + len(text) * 6.4 + 20
            if x + need > widest and x > _MARGIN:
                x, y = float(_MARGIN), y + 20
            parts.append(f'<rect x="{x:.0f}" y="{y - 10:.0f}" width="13" height="13" fill="{fill}" stroke="{stroke}"/>')
            parts.append(f'<text x="{x + 19:.0f}" y="{y + 1:.0f}" font-size="11" fill="{_TEXT}">{_safe(text)}</text>')
            x += need
        solid = [r for r in Relation if r not in _DASHED and any(edge.relation is r for edge in self._graph.edges)]
        lines = f"solid: {', '.join(solid)} · dashed: {_DASHED[0]}" + (" · red: ring" if self._in_rings else "")
        parts.append(f'<text x="{_MARGIN}" y="{y + 22:.0f}" font-size="11" fill="{_TEXT}">{_safe(lines)}</text>')
        return parts, y + 36, widest if entries else 0.0


def _squeeze(text: str, size: int, width: float) -> str:
    """Return an attribute that fits a text into its box in whatever font, if it might be too long."""
    return (
        f' textLength="{width - 14:.0f}" lengthAdjust="spacingAndGlyphs"'
        if len(text) * size * 0.56 > width - 14
        else ""
    )


def _marker(name: str, colour: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L8 4L0 8z" fill="{colour}"/></marker>'
    )


def _safe(text: str) -> str:
    """Return a text that may stand in XML: escaped, and without the characters that XML does not know."""
    return escape(
        "".join(
            sign if sign >= " " and sign not in "\ufffe\uffff" and not "\ud800" <= sign <= "\udfff" else "�"
            for sign in text
        )
    )
