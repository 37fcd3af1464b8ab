"""Views over append-only tables: the SQL behind a query of one moment, and behind the published catalog.

Belongs here: that SQL. Does not: which files there are (`index`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from analytics_pipeline.store.append.index import TableFiles
from analytics_pipeline.store.append.layout import AppendLayout
from analytics_pipeline.store.schema import Column, Columns, failing_sql, file_literal, identifier, literal

_REGULAR = "?????????????_????????.parquet"
"""Names that carry a stamp."""

SCHEMAS = ("capabilities", "experiments")
"""Folders of a store that hold append-only tables, and the schemas of their views."""

_NAMED = 3


def moment_sql(files: TableFiles, layout: AppendLayout, table: str) -> str:
    """The SELECT of a table as it was when its files were listed: no file that came later, none that is half a call."""
    if files.lost:
        return failing_sql(files.columns, loss_of(files, layout, table))
    paths = [layout.compacted / name for name in files.copies] + [layout.folder(table) / name for name in files.tail]
    return listed_sql(files.columns, paths) if paths else _nothing_sql(files.columns)


def published_sql(files: TableFiles, layout: AppendLayout, table: str) -> str:
    """The SELECT of a table that sees every later file, too, without a word from the one who adds it.

    Files of usual names up to `through`, and those of other names, are listed; the rest is found when it is asked.
    What is known of the rest by now is named, too, without being read: if it goes later, all readers get an error.
    """
    if files.lost:
        return failing_sql(files.columns, loss_of(files, layout, table))
    folder, through = layout.folder(table), files.through
    late = [name for name in files.tail if not is_regular(name) or (through is not None and stamp_of(name) <= through)]
    listed = [layout.compacted / name for name in files.copies] + [folder / name for name in late]
    path = _name_beside(files.columns)
    scanned = _scan(files.columns, _pattern(folder, _REGULAR), f", filename = {literal(path)}")
    fresh = f"SELECT {_names(files.columns)} FROM {scanned}"
    if through is not None:
        fresh += f" WHERE {identifier(path)} > {literal(str(folder / f'{through:013d}~'))}"
    selects = [listed_sql(files.columns, listed)] if listed else []
    if any(is_regular(name) for name in files.tail) or through is not None:
        selects.append(fresh)
        known = [folder / name for name in files.tail if name not in late]
        if known:
            selects.append(f"{listed_sql(files.columns, known)} WHERE false")
    return "\nUNION ALL\n".join(selects) or _nothing_sql(files.columns)


def loss_of(files: TableFiles, layout: AppendLayout, table: str) -> str:
    """What is lost of a table, and the ways out, in words."""
    named = ", ".join(str(layout.folder(table) / name) for name in files.lost[:_NAMED])
    more = f" and {len(files.lost) - _NAMED} more" if len(files.lost) > _NAMED else ""
    return f"{table} has lost {named}{more}, or the bytes of it. {ways_out(layout, table)}"


def ways_out(layout: AppendLayout, table: str) -> str:
    """What brings the rows of a table's lost files back, or says that they may be gone."""
    name = table if layout.root.name == SCHEMAS[0] else f"{layout.root.name}.{table}"
    return (
        f"Write its runs again, or put it back from a backup; `python -m analytics_pipeline.store forget {name}` "
        f"goes on without its rows."
    )


def with_columns(files: TableFiles, declared: Columns) -> TableFiles:
    """A table with all columns that it is to have in any case, first; those it has keep their types."""
    types = dict(files.columns)
    first = [Column(name, types.get(name, type_)) for name, type_ in declared]
    names = {name for name, _ in declared}
    return replace(files, columns=(*first, *(column for column in files.columns if column.name not in names)))


def every_file_sql(layout: AppendLayout, table: str) -> str:
    """The SELECT of a table of which nothing is known but its files: right, and slow where they are many."""
    pattern = _pattern(layout.folder(table), "*.parquet")
    return f"SELECT * FROM read_parquet({pattern}, union_by_name = true, hive_partitioning = false)"


def is_regular(name: str) -> bool:
    """Whether a file's name carries a stamp."""
    return len(name) == len(_REGULAR) and name[:13].isdecimal() and name[13] == "_"


def stamp_of(name: str) -> int:
    """Milliseconds since 1970 of a regular name."""
    return int(name[:13])


def listed_sql(columns: Columns, paths: Sequence[Path]) -> str:
    """The SELECT of some files, one after the other, with all columns of their table."""
    listed = ", ".join(file_literal(path) for path in paths)
    return f"SELECT {_names(columns)} FROM {_scan(columns, f'[{listed}]')}"


def _pattern(folder: Path, names: str) -> str:
    return f"{file_literal(folder)[:-1]}/{names}'"


def _name_beside(columns: Columns) -> str:
    """A name that no column has."""
    taken, name = {column.name.lower() for column in columns}, "|file"
    while name in taken:
        name += "|"
    return name


def _scan(columns: Columns, files: str, options: str = "") -> str:
    """Files with any of a table's columns. The schema is given, or DuckDB would open every file to ask for it."""
    fields = ", ".join(
        f"{literal(name)}: {{name: {literal(name)}, type: {literal(type_)}, default_value: NULL}}"
        for name, type_ in columns
    )
    # A folder named `city=Oslo` above the root would overwrite the column `city`, if DuckDB were to guess.
    return f"read_parquet({files}, schema = MAP {{{fields}}}, hive_partitioning = false{options})"


def _names(columns: Columns) -> str:
    return ", ".join(identifier(column.name) for column in columns)


def _nothing_sql(columns: Columns) -> str:
    nothing = ", ".join(f"NULL::{type_} AS {identifier(name)}" for name, type_ in columns)
    return f"SELECT {nothing} WHERE false"
