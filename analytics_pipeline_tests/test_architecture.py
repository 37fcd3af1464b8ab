"""docs/architecture.md: its picture follows from the imports, its table names every package."""

from __future__ import annotations

import re
import runpy

from analytics_pipeline_tests.workplace import REPOSITORY

SCRIPT = runpy.run_path(str(REPOSITORY / "docs" / "architecture_picture.py"))


def test_the_picture_is_what_the_imports_give_today() -> None:
    drawn = SCRIPT["svg"](SCRIPT["layers"](), SCRIPT["reduced"](SCRIPT["imports"]()))

    assert SCRIPT["PICTURE"].read_text() == drawn, "draw it again: python docs/architecture_picture.py"


def test_an_arrow_that_a_path_of_others_replaces_is_left_out() -> None:
    edges = frozenset({("a", "b"), ("b", "c"), ("a", "c"), ("a", "d")})

    assert SCRIPT["reduced"](edges) == {("a", "b"), ("b", "c"), ("a", "d")}


def test_the_table_names_every_package() -> None:
    page = (REPOSITORY / "docs" / "architecture.md").read_text()
    table = page[page.index("| package |") : page.index("## A row's way")]
    named = {name.split("/")[0] for name in re.findall(r"`([a-z_/]+)`", table)}

    packages = {name for layer in SCRIPT["layers"]() for name in layer} - {"demo"}
    assert packages - named == set()
