"""A working folder for examples and trials, with a base for objects in it.

Belongs here: that. Does not: anything that a pipeline needs.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from analytics_pipeline.objects.base import using_base


@contextlib.contextmanager
def tmpdir_ctx() -> Iterator[str]:
    """Work in a temporary folder, whose `objects` is the base in charge; it goes when the `with` block ends."""
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        using_base(Path(folder) / "objects"),
    ):
        yield folder
