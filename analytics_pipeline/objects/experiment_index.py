"""The index of an experiment: which runs it has, their fields, and the URLs of its objects.

Belongs here: its format, and the order of writes that keeps one version whole. Does not: what a run is (`experiment`).

It is a container like any object, at `{id}/index`, and is replaced by one rename (or one upload). Fields are held as
`{"value": …}`, or `{"url": …}` for a DataStore.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from analytics_pipeline.errors import (
    ExperimentCopied,
    ObjectNotFound,
    ObjectRefused,
    ObjectsError,
    ObjectUnsupported,
)
from analytics_pipeline.objects.base import Base
from analytics_pipeline.objects.container import Encoded, JsonValue, read_container
from analytics_pipeline.objects.datastore import DataStore
from analytics_pipeline.objects.mapping import AttributeMapping
from analytics_pipeline.objects.names import INDEX, new_object_name, object_path
from analytics_pipeline.objects.serialization import decode, encode, encode_by
from analytics_pipeline.objects.tree import TreeEncoder, named

_VERSION = 1
_TRIES = 5
_FIELDS = ({"value"}, {"url"})


@dataclass(frozen=True)
class Row:
    """A run as it is stored."""

    id_run: str
    fields: AttributeMapping


@dataclass(frozen=True)
class Prepared:
    """An experiment that can be stored: all of it was encoded.

    Args:
        objects: by the path that each one will have.
        index: that names them.
    """

    objects: dict[str, Encoded]
    index: Encoded


def prepare(rows: Sequence[Row], id_experiment: str, base: Base) -> Prepared:
    """Encode all objects, and the index that will name them.

    Raises:
        ObjectUnsupported: names the path of what cannot be stored.
    """
    objects: dict[str, Encoded] = {}

    def url_of(store: DataStore) -> str:
        path = f"{id_experiment}/{new_object_name()}"
        objects[path] = encode(dict(store))
        return f"{base.url}{path}"

    def field(value: object, encoder: TreeEncoder) -> JsonValue:
        return {"url": url_of(value)} if isinstance(value, DataStore) else {"value": encoder.encode(value)}

    def fields(at: int, row: Row, encoder: TreeEncoder) -> JsonValue:
        found: dict[str, JsonValue] = {}
        for name, value in row.fields.items():
            try:
                found[name] = field(value, encoder)
            except ObjectUnsupported as error:
                raise error.within(f"runs[{at}].fields.{name}") from None
        return named(found)

    def runs(encoder: TreeEncoder) -> JsonValue:
        return [{"id_run": row.id_run, "fields": fields(at, row, encoder)} for at, row in enumerate(rows)]

    return Prepared(objects, encode_by(lambda encoder: {"version": _VERSION, "runs": runs(encoder)}, url_of))


def write(prepared: Prepared, id_experiment: str, base: Base) -> None:
    """Write the objects, then switch the index to them. Where that fails, the objects are removed again.

    Raises:
        ObjectUnwritable: the former index, and what it names, is unchanged.
    """
    try:
        for path, encoded in prepared.objects.items():
            base.write(path, encoded)
        base.write(f"{id_experiment}/{INDEX}", prepared.index)
    except Exception:
        with suppress(ObjectsError, OSError):  # what is left over is the sweeper's; the first failure is told
            _withdraw(prepared, id_experiment, base)
        raise


def _withdraw(prepared: Prepared, id_experiment: str, base: Base) -> None:
    """Remove new objects that the index does not name: the disk may refuse after the rename, too."""
    switched = set(read_urls(id_experiment, base) or ())
    for path in set(prepared.objects) - switched:
        base.remove(path)


def read(id_experiment: str, base: Base) -> Sequence[Row] | None:
    """The runs with all their fields; None where the experiment is not stored.

    Raises:
        ObjectDamaged, ObjectRefused, ObjectNotFound: the index, or an object that it names, cannot be loaded.
        ExperimentCopied: an object that it names is not below the experiment.
    """
    for _ in range(_TRIES):
        index = _read(id_experiment, base)
        if index is None:
            return None
        try:
            for url, store in index.nested:
                store.update(DataStore.from_url(url, base))
            return [_row(run, base) for run in index.runs]
        except ObjectNotFound as error:  # it was replaced in the meantime, or it is really gone
            gone = error
            newer = _read(id_experiment, base)
            if newer is not None and newer.urls == index.urls:
                break
    raise gone


def read_urls(id_experiment: str, base: Base) -> Sequence[str] | None:
    """The paths of the objects that the index names; None where there is no index.

    Raises:
        ObjectDamaged, ObjectRefused: the index cannot be read.
        ExperimentCopied: an object that it names is not below the experiment.
    """
    index = _read(id_experiment, base)
    return None if index is None else [object_path(url, base.url) for url in index.urls]


def remove(id_experiment: str, base: Base) -> None:
    """Remove the index: from now on the experiment is not stored, and its objects are nobody's."""
    base.remove(f"{id_experiment}/{INDEX}")


@dataclass(frozen=True)
class _Index:
    """An index as it was read.

    Args:
        runs: with their fields; a DataStore in a container is there, and empty.
        nested: these, with their URLs.
    """

    runs: Sequence[Any]
    nested: Sequence[tuple[str, DataStore]]

    @property
    def urls(self) -> Sequence[str]:
        """Of all objects."""
        fields = (field for run in self.runs for field in run["fields"].values())
        return [*(field["url"] for field in fields if "url" in field), *(url for url, _ in self.nested)]


def _read(id_experiment: str, base: Base) -> _Index | None:
    where = f"The index of experiment {id_experiment}"
    try:
        with base.opened(f"{id_experiment}/{INDEX}") as (source, size):
            contents = read_container(source, size, where)
    except ObjectNotFound:
        return None
    nested: list[tuple[str, DataStore]] = []

    def store_at(url: str) -> DataStore:
        nested.append((url, DataStore()))
        return nested[-1][1]

    index = decode(contents, where, store_at)
    if not isinstance(index, dict) or index.get("version") != _VERSION or not _are_runs(index.get("runs")):
        raise ObjectRefused(where, "is of another kind")
    found = _Index(index["runs"], nested)
    for url in found.urls:
        if object_path(url, base.url).rpartition("/")[0] != id_experiment:
            raise ExperimentCopied(id_experiment, url)
    return found


def _are_runs(runs: Any) -> bool:
    return isinstance(runs, list) and all(
        isinstance(run, dict)
        and isinstance(run.get("id_run"), str)
        and isinstance(run.get("fields"), dict)
        and all(isinstance(field, dict) and field.keys() in _FIELDS for field in run["fields"].values())
        for run in runs
    )


def _row(run: Any, base: Base) -> Row:
    fields = AttributeMapping()
    for name, field in run["fields"].items():
        fields[name] = DataStore.from_url(field["url"], base) if "url" in field else field["value"]
    return Row(run["id_run"], fields)
