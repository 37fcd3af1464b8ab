"""The static page of a lakehouse: one file that draws its data with a library that it carries itself.

Belongs here: putting the page together. Does not: which data (`exports`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources

_PARTS = {"style": "page.css", "script": "page.js"}


def page(data: Mapping[str, object]) -> str:
    """The page as HTML.

    Args:
        data: strict JSON; see `page.js` for what it holds.
    """
    here = resources.files(__package__)
    html = here.joinpath("page.html").read_text(encoding="utf-8")
    library = resources.files("analytics_pipeline").joinpath("static", "chart.umd.min.js").read_text(encoding="utf-8")
    parts = {name: here.joinpath(file).read_text(encoding="utf-8") for name, file in _PARTS.items()}
    # The data go in last, or a run that is called like a place of the page would become one.
    for name, content in ({"library": library} | parts | {"data": _inline(data)}).items():
        before, _, after = html.partition(f"/*{{{name}}}*/")
        html = before + content + after
    return html


def _inline(data: Mapping[str, object]) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
