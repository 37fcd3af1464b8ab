"""Verification of a whole home: the published store, the append-only tables in it, objects, status files.

Belongs here: what a home consists of, and whether its parts agree with each other. Does not: reading any one part
(`store.verify`, `store.append.verify`, `objects.verify`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb

from analytics_pipeline.capabilities import ParquetBackend
from analytics_pipeline.errors import AnalyticsError, AppendedFileUnreadable, StoreNotFound
from analytics_pipeline.experiments.database import DATABASE
from analytics_pipeline.experiments.tables import tables_at
from analytics_pipeline.objects.local import LocalBase
from analytics_pipeline.objects.verify import verify_objects
from analytics_pipeline.settings import Home
from analytics_pipeline.store import unopened_store
from analytics_pipeline.store.append.derived import read_derived
from analytics_pipeline.store.append.layout import AppendLayout
from analytics_pipeline.store.append.tables import AppendTables
from analytics_pipeline.store.append.verify import verify_tables
from analytics_pipeline.store.schema import identifier, literal
from analytics_pipeline.store.verify import Damage, Verified, verify_store

_VIEWS = "`python -m analytics_pipeline.experiments build` writes it again."


def verify_home(home: Home) -> Verified:
    """Read every file of a home and compare it with what was written; damaged data files are set aside.

    Raises:
        StoreNotFound: there is neither a store nor an object.
        StoreReadDenied: this user may not read a file.
    """
    if not home.store.is_dir() and not home.objects.is_dir():
        raise StoreNotFound(str(home.store))
    # First, for what is found of the others renews the catalog.
    found = verify_store(unopened_store(home.store)) if (home.store / "manifest").is_dir() else Verified()
    backend = ParquetBackend(home.capabilities)
    for tables in (backend.tables, tables_at(home.experiments)):
        found = found.plus(_verified_tables(tables))
    found = found.plus(
        Verified([*_disagreeing_runs(backend), *_damaged_views(home.experiments), *_damaged_status(home)])
    )
    if home.objects.is_dir():
        found = found.plus(verify_objects(LocalBase(home.objects)))
    return found


def forget(home: Home, table: str) -> Sequence[str]:
    """Go on without the rows of a table's lost files; gives the names of these.

    Args:
        home: that holds the table.
        table: of capability runs; or of training runs, with `experiments.` before it.

    Raises:
        StoreError: see `AppendTables.forget`.
    """
    schema, _, name = table.rpartition(".")
    if schema == home.experiments.name:
        return tables_at(home.experiments).forget(name)
    return ParquetBackend(home.capabilities).tables.forget(name)


def _verified_tables(tables: AppendTables) -> Verified:
    try:
        return verify_tables(tables)
    except AppendedFileUnreadable as error:
        return Verified(
            [Damage(Path(error.path), str(error), "Restore or remove the file.", Path(error.path).parent.name)]
        )


def _disagreeing_runs(backend: ParquetBackend) -> Iterator[Damage]:
    """Runs that `runs` lists and whose results are in no table: a file went while nobody looked, with the index."""
    try:
        tables = backend.list_tables()
        if "runs" not in tables:
            return
        listed = backend.query_sql("SELECT DISTINCT capability_table, run_uid FROM runs").rows()
        for table in sorted({table for table, _ in listed}):
            wanted = {uid for name, uid in listed if name == table}
            asked = f"SELECT DISTINCT run_uid FROM {identifier(table)}"
            found = {uid for (uid,) in backend.query_sql(asked).rows()} if table in tables else set()
            for uid in sorted(wanted - found):
                remedy = "Write the run again."
                yield Damage(backend.path / table, f"has no row of run {uid}, which `runs` lists", remedy, table)
    except AnalyticsError:
        return  # a lost file of these tables is named already


def _damaged_views(root: Path) -> Iterator[Damage]:
    if not root.is_dir():
        return
    views = AppendLayout(root).views
    try:
        read_derived(views)
    except (OSError, ValueError) as error:
        yield Damage(views, f"cannot be read ({error})", _VIEWS)
    database = root / DATABASE
    if not views.exists():
        yield Damage(views, "is missing", _VIEWS)
    if not database.exists():
        yield Damage(database, "is missing", _VIEWS)
    else:
        try:
            with duckdb.connect() as connection:
                connection.execute(f"ATTACH {literal(str(database))} AS views (READ_ONLY)")
                connection.execute("SELECT sql FROM duckdb_views() WHERE database_name = 'views'").fetchall()
        except duckdb.Error as error:
            yield Damage(database, f"cannot be read ({str(error).splitlines()[0]})", _VIEWS)


def _damaged_status(home: Home) -> Iterator[Damage]:
    for path in sorted((home.path / "status").glob("*.json")):
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            yield Damage(path, f"cannot be read ({error})", "The next refresh of its dataset writes it again.")
