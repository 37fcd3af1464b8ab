"""Object stores: one object a run and table, created once, and a mirror of them on the local disk to be read.

Belongs here: names of objects, their creation, the mirror. Does not: what is in them (`parquet`), their protocols
(fsspec: s3fs, gcsfs, adlfs).

An object store has no lock and no transaction over several objects. What replaces them:

- An object of a payload table is named after its run. It is created only where none is, by the store itself: of any
  number of writers of a run one wins. A store without such a condition lets the last one win; there is one either way.
- The rows of `runs` are created before the payload. A writer that dies between leaves rows of `runs` for a run without
  results: no query over results counts it, and the next write of the run adds them.
- A write of several runs is as many small writes: after a crash some are there, and the same write adds the others.
- Two writers that first use a table at once with different types of a column may both succeed; readers then refuse
  the objects of one of them by name. Afterwards a changed type is refused before anything is written.

Objects never change. So each is fetched once, into a folder that is read like any other.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from analytics_pipeline.capabilities.backends.files import Stored
from analytics_pipeline.capabilities.identity import CapabilityIdentity
from analytics_pipeline.capabilities.records import MATERIALIZATIONS, RUNS
from analytics_pipeline.capabilities.secrets import without_secrets
from analytics_pipeline.errors import AnalyticsError, ObjectStoreFailed, StoreConfigInvalid
from analytics_pipeline.forks import renew_in_child
from analytics_pipeline.store.append.parquet import new_columns, without_empty_types
from analytics_pipeline.store.append.tables import COMPACT_AFTER, AppendTables
from analytics_pipeline.store.schema import TABLE_NAME, columns_of
from analytics_pipeline.waiting import at_once

_ENDING = ".parquet"
_AT_ONCE = 8
_IN_ONE_FETCH = 256
_GROUPS = {RUNS: ("run_uid", "run_event_id"), MATERIALIZATIONS: ("materialization_id",)}
"""Rows of the store's own tables that share an object; elsewhere those of a run do."""


def _turn(table: str) -> int:
    """Whose objects are made first: rows of `runs`, the results of these runs, what holds them. Listed in reverse."""
    return {RUNS: 0, MATERIALIZATIONS: 2}.get(table, 1)


MakeTables = Callable[[Path], AppendTables]


class ObjectFiles:
    """The objects below a prefix, `{uri}/{table}/{name}.parquet`.

    Safe to share between threads. A forked child has a connection of its own, and a mirror of its own unless that is
    kept.

    Args:
        uri: `s3://`, `gs://`, `az://`, or any other that fsspec knows; see `checked_root`.
        storage_options: for fsspec; never shown.
        tables: makes the tables over a folder, here the mirror.
        cache: keeps the mirror for later processes; by default it goes with this object.

    Raises:
        StoreConfigInvalid: fsspec does not know the URI's protocol, lacks the package for it, or does not take the
            options.
    """

    def __init__(
        self, uri: str, storage_options: Mapping[str, Any], tables: MakeTables, cache: Path | None = None
    ) -> None:
        self._uri = uri.rstrip("/")
        self._options = storage_options
        self._tables, self._cache = tables, cache
        self._identity = CapabilityIdentity()
        self._open()
        renew_in_child(self, ObjectFiles._open)

    def _open(self) -> None:
        self._guard = threading.Lock()
        self._fs, self._root = self._file_system()
        self._mirror = self._tables(self._mirror_folder())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._uri!r})"

    def _file_system(self) -> tuple[Any, str]:
        try:
            import fsspec  # noqa: PLC0415 - an extra: `analytics_pipeline[objects]`

            file_system, root = fsspec.core.url_to_fs(self._uri, **self._options)
        except (ImportError, TypeError, ValueError) as error:
            reason = f"{self._uri} cannot be opened: {self._told(error)}"
            raise StoreConfigInvalid(f"{reason} (pip install analytics_pipeline[objects], gcsfs, or adlfs)") from None
        return file_system, root.rstrip("/")

    def _mirror_folder(self) -> Path:
        if self._cache is not None:
            return self._cache / hashlib.sha256(self._uri.encode()).hexdigest()[:16]
        folder = Path(tempfile.mkdtemp(prefix="capabilities-"))
        weakref.finalize(self, _remove_of, os.getpid(), folder)
        return folder

    @property
    def uri(self) -> str:
        """The prefix."""
        return self._uri

    def uri_of(self, path: Path) -> str:
        """The object that a file of the mirror was fetched from."""
        return f"{self._uri}/{path.parent.name}/{path.name}"

    def append(self, batches: Mapping[str, pa.Table]) -> Iterator[Stored]:
        """Create the objects of runs that are not there yet.

        Raises:
            ColumnTypeChanged, NameRefused, UnsupportedColumnType: a column does not fit its table; nothing is written.
            AppendedFileUnreadable: an object is damaged; nothing is written.
            ObjectStoreFailed: it refused or did not answer; some runs may be stored, the same write adds the others.
        """
        mirror = self.current()
        typed = {table: without_empty_types(rows) for table, rows in batches.items()}
        for table, rows in typed.items():
            new_columns(table, mirror.columns(table), columns_of(rows.schema))
        fresh = {table: mirror.unknown(table, rows) for table, rows in typed.items()}
        for table in sorted(fresh, key=_turn):
            created = [stored for stored in self._create_all(table, fresh[table]) if stored is not None]
            yield from created or [Stored(table, None, fresh[table].slice(0, 0))]

    def _create_all(self, table: str, rows: pa.Table) -> Sequence[Stored | None]:
        tasks = [partial(self._create, table, part) for part in _parts(table, rows)]
        return at_once(tasks, _AT_ONCE, "object store")

    def _create(self, table: str, rows: pa.Table) -> Stored | None:
        """An object of some rows; None if somebody else has made it meanwhile."""
        name, data = self._name(table, rows), pa.BufferOutputStream()
        pq.write_table(rows, data, compression="zstd")
        with self._named_failures():
            try:
                self._fs.pipe_file(f"{self._root}/{table}/{name}", data.getvalue().to_pybytes(), mode="create")
            except FileExistsError:
                return None
        return Stored(table, f"{self._uri}/{table}/{name}", rows)

    def _name(self, table: str, rows: pa.Table) -> str:
        """Of a payload table after the run; else after all that the rows are known by."""
        keys = [row[0] for row in self._identity.of(table, rows) if row]
        return hashlib.sha256("\n".join(sorted(set(keys))).encode()).hexdigest()[:32] + _ENDING

    def current(self) -> AppendTables:
        """The mirror, with all objects that are there now."""
        with self._guard:
            listed = self._listed()
            layout = self._mirror.layout
            layout.create()
            missing = []
            for table in {*listed, *layout.table_folders()}:
                layout.folder(table).mkdir(exist_ok=True)
                present = set(layout.parquet_files(table))
                missing += [(table, name) for name in sorted(listed.get(table, set()) - present)]
                removed = present - listed.get(table, set())
                for name in removed:
                    (layout.folder(table) / name).unlink(missing_ok=True)
                if removed:  # the bucket decides what there is; its mirror misses nothing
                    self._mirror.forget(table)
            missing.sort(key=lambda one: _turn(one[0]))
            for begin in range(0, len(missing), _IN_ONE_FETCH):
                self._fetch(missing[begin : begin + _IN_ONE_FETCH])
            if missing and any(len(files.tail) >= COMPACT_AFTER for files in self._mirror.snapshot().values()):
                self._mirror.compact()
        return self._mirror

    def _listed(self) -> Mapping[str, set[str]]:
        """Names of objects by table. What is made first is listed last: no run is seen without its rows in `runs`."""
        with self._named_failures():
            self._fs.invalidate_cache()
            tables = [name for name in self._names(self._root, "directory") if TABLE_NAME.fullmatch(name)]
            return {table: self._objects(table) for table in sorted(tables, key=_turn, reverse=True)}

    def _objects(self, table: str) -> set[str]:
        names = self._names(f"{self._root}/{table}", "file")
        return {name for name in names if name.endswith(_ENDING) and not name.startswith(".")}

    def _names(self, path: str, kind: str) -> Sequence[str]:
        try:
            found = self._fs.ls(path, detail=True)
        except FileNotFoundError:
            return []
        return [one["name"].rstrip("/").rpartition("/")[2] for one in found if one["type"] == kind]

    def _fetch(self, missing: Sequence[tuple[str, str]]) -> None:
        places = {f"{self._root}/{table}/{name}": (table, name) for table, name in missing}
        with self._named_failures():
            contents = self._fs.cat(list(places), on_error="return")
        for path, content in contents.items():
            table, name = places[path]
            if isinstance(content, FileNotFoundError):
                continue  # removed since it was listed
            if isinstance(content, Exception):
                raise ObjectStoreFailed(self._uri, self._told(content)) from None
            folder = self._mirror.layout.folder(table)
            part = folder / f".{uuid.uuid4().hex}.part"
            part.write_bytes(content)
            part.replace(folder / name)

    @contextmanager
    def _named_failures(self) -> Iterator[None]:
        try:
            yield
        except AnalyticsError:
            raise
        except Exception as error:  # noqa: BLE001 - each protocol has errors of its own, some of them plain ones
            raise ObjectStoreFailed(self._uri, self._told(error)) from None

    def _told(self, error: Exception) -> str:
        return without_secrets(f"{type(error).__name__}: {error}", self._options)


def _remove_of(process: int, folder: Path) -> None:
    if os.getpid() == process:  # a fork ends its finalizers, too
        shutil.rmtree(folder, ignore_errors=True)


def _parts(table: str, rows: pa.Table) -> Iterator[pa.Table]:
    """The rows of each object."""
    names = [name for name in _GROUPS.get(table, ("run_uid",)) if name in rows.column_names]
    places: dict[tuple[Any, ...], list[int]] = {}
    for place, key in enumerate(zip(*(rows.column(name).to_pylist() for name in names), strict=True)):
        places.setdefault(key, []).append(place)
    for chosen in places.values():
        yield rows.take(pa.array(chosen, pa.int64()))
