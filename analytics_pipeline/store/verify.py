"""Verification: what is damaged or lost of a store, by name, and what heals it.

Belongs here: the manifests, the data files and the catalog of a published store. Does not: append-only tables
(`append.verify`), objects, or a whole home (`housekeeping.verify`).

A damaged data file is set aside, so that no query reads it from then on. Nothing else is changed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import duckdb

from analytics_pipeline.errors import ManifestUnreadable
from analytics_pipeline.store.catalog import build_catalog
from analytics_pipeline.store.layout import Layout
from analytics_pipeline.store.manifest import Manifest
from analytics_pipeline.store.manifest_file import read_manifest
from analytics_pipeline.store.schema import identifier, literal
from analytics_pipeline.store.store import Store

_CATALOG_HEALS = "The next open of the store builds it again, or `python -m analytics_pipeline.store catalog`."


@dataclass(frozen=True)
class Damage:
    """One thing that does not hold what was written.

    Args:
        path: of the file.
        problem: what is wrong with it.
        remedy: what heals it.
        table: it belongs to; None where it belongs to none.
        partitions: of the table that are concerned.
    """

    path: Path
    problem: str
    remedy: str
    table: str | None = None
    partitions: tuple[str, ...] = ()

    def __str__(self) -> str:
        of_table = f" ({self.table}{': ' if self.partitions else ''}{', '.join(self.partitions)})" if self.table else ""
        return f"{self.path}{of_table}: {self.problem}. {self.remedy}"


@dataclass(frozen=True)
class Verified:
    """What was read and what it showed.

    Args:
        damages: everything that is damaged.
        files: number of files that were compared with a digest.
        unproven: number of files with no recorded digest.
    """

    damages: Sequence[Damage] = ()
    files: int = 0
    unproven: int = 0

    def plus(self, other: Verified) -> Verified:
        """Both together."""
        damages = [*self.damages, *other.damages]
        return Verified(damages, self.files + other.files, self.unproven + other.unproven)


def verify_store(store: Store) -> Verified:
    """Read every file of a published store and compare it with what was written.

    Raises:
        StoreReadDenied: this user may not read a file.
    """
    damages = list(_damaged_manifests(store.layout))
    try:
        manifest = store.manifest()
    except ManifestUnreadable as error:
        known = {damage.path for damage in damages}
        lost = store.layout.manifest_of(max(store.layout.newest_version(), store.layout.published_version()))
        if lost not in known:
            damages.append(Damage(lost, str(error), "The next refresh goes back to the version before it."))
        return Verified(damages)
    found = store.set_aside_damage(manifest.tables, _unsaid)
    damages += _damaged_files(store, manifest, found.damaged)
    damages += _damaged_catalog(store.layout, manifest)
    return Verified(damages, len(found.files) - len(found.unproven), len(found.unproven))


def _unsaid(_line: str) -> None:
    """Damage is returned, not logged."""


def _damaged_manifests(layout: Layout) -> Iterator[Damage]:
    newest = layout.newest_version()
    for path in sorted(layout.manifests.glob("*.parquet")):
        if not path.stem.isdecimal():
            continue
        try:
            read_manifest(path)
        except (ManifestUnreadable, FileNotFoundError) as error:
            remedy = "It is of an earlier version, which nobody reads: remove it."
            if int(path.stem) == newest:
                remedy = "The next refresh goes back to the version before and reads again what has changed since."
            yield Damage(path, f"is damaged ({error.__cause__ or error})", remedy)


def _damaged_files(store: Store, manifest: Manifest, damaged: Mapping[str, str]) -> Iterator[Damage]:
    for table in manifest.tables.values():
        for file in table.files:
            if file.path in damaged:
                keys = [part.key for part in table.partitions.values() if any(f.path == file.path for f in part.files)]
                remedy = "The next refresh of its dataset reads these partitions again."
                yield Damage(store.root / file.path, damaged[file.path], remedy, table.name, tuple(keys))


def _damaged_catalog(layout: Layout, manifest: Manifest) -> Iterator[Damage]:
    if not manifest.version:
        return
    if not layout.catalog.is_symlink():
        yield Damage(layout.catalog, "is missing", _CATALOG_HEALS)
        return
    if not layout.catalog.exists():
        yield Damage(layout.catalog, f"links to {layout.catalog.readlink()}, which is missing", _CATALOG_HEALS)
        return
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "catalog.duckdb"
        build_catalog(manifest, layout, fresh)
        wanted = _content(fresh)
    try:
        found = _content(layout.catalog.resolve())
    except duckdb.Error as error:
        yield Damage(layout.catalog.resolve(), f"cannot be read ({str(error).splitlines()[0]})", _CATALOG_HEALS)
        return
    if found != wanted:
        yield Damage(layout.catalog.resolve(), "does not show what the manifest lists", _CATALOG_HEALS)


def _content(catalog: Path) -> Mapping[str, object]:
    """The views over the mirrored tables and the rows of the catalog's own tables."""
    with closing(duckdb.connect()) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"ATTACH {literal(str(catalog))} AS store (READ_ONLY)")
        views = "SELECT view_name, sql FROM duckdb_views() WHERE database_name = 'store' AND schema_name = 'main'"
        content: dict[str, object] = dict(connection.execute(views).fetchall())
        tables = "SELECT table_name FROM duckdb_tables() WHERE database_name = 'store' AND schema_name = 'main'"
        for (name,) in connection.execute(tables).fetchall():
            rows = connection.execute(f"SELECT * FROM store.{identifier(name)} ORDER BY ALL").fetchall()
            content[name] = rows
        return content
