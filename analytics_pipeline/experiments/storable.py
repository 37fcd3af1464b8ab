"""Objects that a run may have among its fields, as this package knows them without importing `objects`.

Belongs here: what such an object can do. Does not: storing it (`objects`), the rows that name it (`log`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Storable(Protocol):
    """What lies outside the tables: `objects.DataStore`, which this package does not import."""

    @classmethod
    def store_for_run(
        cls, stores: Sequence[Any], run: tuple[str, str | None, str], log_urls: Callable[[Sequence[str]], None]
    ) -> None:
        """Store them in place of what the run had before; between writing and removing, log their URLs."""
        ...
