"""The picture in docs/architecture.md, drawn from the imports of the package: `python docs/architecture_picture.py`.

Rows are the layers of the import contract in pyproject.toml. An arrow from A to B means that A imports B; where A also
reaches B through a third package, the arrow is left out.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import grimp

REPOSITORY = Path(__file__).resolve().parents[1]
PICTURE = REPOSITORY / "docs" / "images" / "architecture.svg"
PACKAGE = "analytics_pipeline"
EVERYWHERE = frozenset({"settings", "errors", "waiting", "forks", "boundary", "arrow_frames", "missing_values"})
"""Imported by almost everything: their arrows would hide the others."""

WIDTH, BOX_WIDTH, BOX_HEIGHT, ROW_HEIGHT, MARGIN = 900, 128, 34, 88, 24

COLUMNS = {"demo": 0.6, "definitions": 0.4, "api": 0.82, "defs": 0.4, "components": 0.4, "sample": 0.2, "sync": 0.6}
"""Where the boxes of short rows stand, so that arrows pass between the boxes of the long ones; else a row is even."""

ARROWHEAD = (
    '<defs><marker id="to" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
    '<path d="M0 0L8 4L0 8z" fill="#64748b"/></marker></defs>'
)

Edges = frozenset[tuple[str, str]]


def layers() -> Sequence[Sequence[str]]:
    """The packages of each layer, topmost first, as the import contract lists them."""
    config = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    contract = next(each for each in config["tool"]["importlinter"]["contracts"] if each["type"] == "layers")
    return [[name.strip().removeprefix(f"{PACKAGE}.") for name in line.split("|")] for line in contract["layers"]]


def imports() -> Edges:
    """Pairs of packages of which the first imports the second; commands (`__main__`) stand above all of them."""
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    pairs = (
        (_package(module), _package(imported))
        for module in graph.modules
        if not module.endswith(".__main__")
        for imported in graph.find_modules_directly_imported_by(module)
    )
    return frozenset((a, b) for a, b in pairs if a and b and a != b and b not in EVERYWHERE)


def _package(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def reduced(edges: Edges) -> Edges:
    """The edges that no path of two or more others replaces."""
    return frozenset((a, b) for a, b in edges if not any(_reaches(c, b, edges) for x, c in edges if x == a and c != b))


def _reaches(start: str, end: str, edges: Edges) -> bool:
    return start == end or any(_reaches(b, end, edges) for a, b in edges if a == start)


def svg(rows: Sequence[Sequence[str]], edges: Edges) -> str:
    """The picture.

    Args:
        rows: of packages, topmost first.
        edges: the imports between them.
    """
    places = _places(rows)
    height = MARGIN * 2 + BOX_HEIGHT + ROW_HEIGHT * (len(rows) - 1)
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">',
        ARROWHEAD,
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        *(_arrow(places[a], places[b]) for a, b in sorted(edges) if a in places and b in places),
        *(_box(name, place) for name, place in places.items()),
        "</svg>",
    ]
    return "\n".join(drawn) + "\n"


def _places(rows: Sequence[Sequence[str]]) -> Mapping[str, tuple[float, float]]:
    """The middle of the upper edge of each package's box."""
    return {
        name: (WIDTH * COLUMNS.get(name, (2 * column + 1) / (2 * len(row))), MARGIN + ROW_HEIGHT * number)
        for number, row in enumerate(rows)
        for column, name in enumerate(row)
    }


def _box(name: str, place: tuple[float, float]) -> str:
    x, y = place
    fill = "#f1f5f9" if name in EVERYWHERE else "#e0f2fe"
    return (
        f'<rect x="{x - BOX_WIDTH / 2:g}" y="{y:g}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6" fill="{fill}" '
        f'stroke="#0369a1"/><text x="{x:g}" y="{y + 22:g}" font-size="13" text-anchor="middle">{escape(name)}</text>'
    )


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    (x1, y1), (x2, y2) = (start[0], start[1] + BOX_HEIGHT), end
    if y2 <= y1:  # within a layer
        y1, y2 = start[1] + BOX_HEIGHT / 2, end[1] + BOX_HEIGHT / 2
    bend = (y2 - y1) / 2
    return (
        f'<path d="M{x1:g} {y1:g}C{x1:g} {y1 + bend:g} {x2:g} {y2 - bend:g} {x2:g} {y2:g}" '
        'fill="none" stroke="#94a3b8" marker-end="url(#to)"/>'
    )


def main() -> None:
    """Write the picture."""
    PICTURE.write_text(svg(layers(), reduced(imports())), encoding="utf-8")


if __name__ == "__main__":
    main()
