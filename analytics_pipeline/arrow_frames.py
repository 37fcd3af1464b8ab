"""Arrow tables as data frames of Polars, also in a forked child.

Belongs here: this conversion. Does not: which table (`store`, `experiments`, `objects`).
"""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from analytics_pipeline.forks import is_forked


def data_frame(table: pa.Table) -> pl.DataFrame:
    """The rows of a table, whose columns have different names.

    Raises:
        PolarsError, ArrowException, TypeError, ValueError, PanicException: Polars cannot hold them.
    """
    if not is_forked():
        return pl.DataFrame(table)
    # By column: for a whole table Polars waits for its threads, which did not come along.
    return pl.DataFrame([pl.Series(name, table.column(name)) for name in table.column_names])
