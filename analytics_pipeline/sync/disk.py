"""Disk: what the operating system, Parquet and DuckDB say when the store cannot be written, as one `StoreError`.

Belongs here: telling a full disk from other failures. Does not: failures of the source (`postgres.failures`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from analytics_pipeline.boundary import is_full
from analytics_pipeline.errors import StoreDiskFull, StoreError, StoreWriteFailed


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """Raise what goes wrong with the store's files inside as a `StoreError`.

    Raises:
        StoreDiskFull: no space, or no more of the user's quota.
        StoreWriteFailed: anything else, in the system's own words.
    """
    try:
        yield
    except (OSError, pa.ArrowException, duckdb.IOException) as error:
        raise _told(root, error) from error


def _told(root: Path, error: Exception) -> StoreError:
    text = str(error)
    if is_full(error):
        return StoreDiskFull(str(root), text)
    return StoreWriteFailed(str(root), text)
