"""Sandboxed SQL as data frames: over whatever was prepared, in this process or, for somebody untrusted, in another one.

Belongs here: the session that owners of tables make, the data frame that comes out. Does not: what may be asked
(`query_check`), the sandbox itself (`sandbox`), its other process (`untrusted`), what is prepared (`reader`, `append`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl
import pyarrow as pa

from analytics_pipeline.arrow_frames import data_frame
from analytics_pipeline.errors import QueryFailed
from analytics_pipeline.store.sandbox import (
    DEFAULT_MEMORY,
    MAX_RESULT_BYTES,
    Parameter,
    Parameters,
    Prepare,
    Sandbox,
    SandboxInstance,
)
from analytics_pipeline.store.untrusted import query_in_child

__all__ = ["DEFAULT_MEMORY", "DEFAULT_TIMEOUT", "MAX_RESULT_BYTES", "Parameter", "Parameters", "SealedSql"]

DEFAULT_TIMEOUT = 60.0


class SealedSql:
    """A sandbox of this process; queries of somebody untrusted run in a process of their own, over the same.

    Args:
        prepare: gives the statements that make what can be queried; see `Prepare`.
        root: of everything that it may open; no message shows it.
        files: paths that the session can open.
        folders: below which it can open every file.
        database: attached by `prepare`, whose tables go by their plain names; None for the instance's own.
        per_query: a statement that runs before each query, for what does not outlive a cursor.
        memory_limit: for all queries of the session together, as DuckDB spells it.
        stays_open: whether the other process keeps what it opened for the next query.
    """

    def __init__(
        self,
        prepare: Prepare,
        *,
        root: str,
        files: Sequence[str] = (),
        folders: Sequence[str] = (),
        database: str | None = None,
        per_query: str | None = None,
        memory_limit: str = DEFAULT_MEMORY,
        stays_open: bool = True,
    ) -> None:
        sandbox = Sandbox(
            root=root,
            statements=(),
            files=tuple(files),
            folders=tuple(folders),
            database=database,
            per_query=per_query,
            memory_limit=memory_limit,
            stays_open=stays_open,
        )
        self._instance = SandboxInstance(sandbox, prepare)
        self._sandbox = replace(sandbox, statements=self._instance.statements)

    def close(self) -> None:
        """Close the instance; running queries of other threads fail."""
        self._instance.close()

    def query(
        self,
        sql: str,
        params: Parameters = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        max_rows: int | None = None,
        untrusted: bool = False,
    ) -> pl.DataFrame:
        """The rows of one SELECT. Of columns with one name, the later ones are called `<name>_1` and so on.

        Args:
            sql: DuckDB's dialect.
            params: for `?` (a sequence) or `$name` (a mapping).
            timeout: seconds after which it is interrupted.
            max_rows: more than these are refused; None for as many as fit `MAX_RESULT_BYTES`.
            untrusted: whether it runs in another process, which is killed where it exceeds its time or memory.

        Raises:
            QueryRefused: it is anything else than one SELECT over what was prepared.
            QueryFailed: DuckDB could not run it.
            QueryTimedOut: it ran longer than `timeout` seconds.
            ResultTooLarge: its rows take more than `MAX_RESULT_BYTES`, or those of an untrusted query 64 MiB.
            TooManyRows: it has more than `max_rows`.
            QueryOutOfMemory, QueryCrashed: an untrusted query exceeded the memory of its process, or ended it.
        """
        if untrusted:
            return _data_frame(query_in_child(self._sandbox, sql, params, timeout, max_rows))
        return _data_frame(self._instance.query(sql, params, timeout, max_rows))


def _data_frame(table: pa.Table) -> pl.DataFrame:
    names: list[str] = []
    taken = set(table.column_names)
    for name in table.column_names:
        number, unique = 0, name
        while unique in names or (number and unique in taken):
            number += 1
            unique = f"{name}_{number}"
        names.append(unique)
    table = table.rename_columns(names)
    for field in table.schema:
        if unfit := _unfit_type(field.type):
            raise QueryFailed(f"Column {field.name} holds {unfit}, which a data frame cannot: cast it to VARCHAR.")
    try:
        return data_frame(table)
    except (pl.exceptions.PolarsError, pa.ArrowException, TypeError, ValueError) as error:
        raise QueryFailed(f"The rows do not fit a data frame: {error}") from error


def _unfit_type(type_: pa.DataType) -> str | None:
    if pa.types.is_interval(type_) or pa.types.is_union(type_):
        return str(type_)
    inner = (_unfit_type(type_.field(index).type) for index in range(type_.num_fields))
    return next((unfit for unfit in inner if unfit), None)
