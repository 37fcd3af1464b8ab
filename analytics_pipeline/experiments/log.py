"""Logging: what a training script calls.

Belongs here: the five calls, each of which appends one small file to each table it touches. Does not: what the rows
look like (`rows`), writing many metrics at once (`buffer`), reading (`queries`).

Any number of processes may log at once. A call that returned is on the disk; one that was killed has logged nothing,
or all. Nothing is ever rewritten: what is logged again counts instead of what was logged before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from analytics_pipeline.errors.experiments import LoggedValueRefused
from analytics_pipeline.experiments.rows import (
    Row,
    check_mapping,
    checked_int,
    checked_name,
    checked_text,
    clock,
    config_columns,
    json_text,
    jsonable,
    metric_rows,
    path_text,
    scalars_of,
)
from analytics_pipeline.experiments.storable import Storable
from analytics_pipeline.experiments.writing import append_rows, lakehouse


def log_run(
    run_id: str,
    config: Mapping[str, object],
    status: str = "running",
    *,
    experiment_id: str | None = None,
    fields: Mapping[str, object] | None = None,
    root: str | Path | None = None,
) -> None:
    """Log that a run has a status, and more about it. What was logged last is what counts.

    Args:
        run_id: of the run.
        config: hyper-parameters; with none, those that were logged before stay.
        status: such as running, done, failed.
        experiment_id: that the run belongs to; None leaves it as it was.
        fields: more about the run that JSON can say; None leaves them as they were. Of a `DataStore` the contents are
            stored, and the URL is kept. Objects that were stored with an earlier row of the run are removed when new
            ones are.
        root: of the lakehouse; that of this home by default.

    Raises:
        LoggedValueRefused, ConfigKeyRefused, ObjectUnsupported: a value or name cannot be stored.
        StoreError, ObjectUnwritable: see `AppendTables.append`, `DataStore.store_for_run`.
    """
    columns = config_columns(config)
    checked_name("run_id", run_id)
    checked_name("status", status)
    if fields is not None:
        _check_fields(fields)
    if experiment_id is not None:
        checked_name("experiment_id", experiment_id)

    def log(urls: Sequence[str]) -> None:
        moment = clock.take(1)
        row: Row = {
            "run_id": run_id,
            "status": status,
            "logged_at": moment,
            "experiment_id": experiment_id,
            "fields": None if fields is None else _fields_text(fields, urls),
        }
        tables = {"configs": [_config_row(run_id, columns, moment)]} if columns else {}
        append_rows(root, {**tables, "runs": [row | scalars_of(config, columns)]})

    stores = _stores_in(fields)
    if stores:
        stores[0].store_for_run(stores, (str(lakehouse(root)), experiment_id, run_id), log)
    else:
        log(())


def log_metrics(run_id: str, epoch: int, metrics: Mapping[str, float], *, root: str | Path | None = None) -> None:
    """Log values of one epoch. The value that was logged last for a run, epoch and metric is the one that counts.

    A file is written at each call: a loop that logs every few milliseconds is better off with a `MetricsBuffer`.

    Args:
        run_id: of the run.
        epoch: or step.
        metrics: values by name; NaN is kept.
        root: of the lakehouse; that of this home by default.

    Raises:
        LoggedValueRefused: a value is no number, or a name is empty.
        StoreError: see `AppendTables.append`.
    """
    append_rows(root, {"metrics": metric_rows(run_id, epoch, metrics)})


def log_config(run_id: str, config: Mapping[str, object], *, root: str | Path | None = None) -> None:
    """Log the whole config of a run, in place of what was logged before.

    Raises:
        LoggedValueRefused, ConfigKeyRefused: a value or name cannot be stored.
        StoreError: see `AppendTables.append`.
    """
    row = _config_row(checked_name("run_id", run_id), config_columns(config), clock.take(1))
    append_rows(root, {"configs": [row]})


def log_dataset(
    dataset_id: str, name: str, num_samples: int, path: str | Path, *, root: str | Path | None = None
) -> None:
    """Log a dataset. The row that was logged last for a dataset is the one that counts.

    Raises:
        LoggedValueRefused: a value cannot be stored.
        StoreError: see `AppendTables.append`.
    """
    row: Row = {
        "dataset_id": checked_name("dataset_id", dataset_id),
        "name": checked_text("name", name),
        "num_samples": checked_int("num_samples", num_samples, 0),
        "path": checked_text("path", path_text(path)),
        "logged_at": clock.take(1),
    }
    append_rows(root, {"datasets": [row]})


def log_artifact(
    run_id: str, path: str | Path, artifact_type: str, size: int, *, root: str | Path | None = None
) -> None:
    """Log a file that a run made. The row that was logged last for a run and path is the one that counts.

    Args:
        run_id: of the run.
        path: or URL of the file.
        artifact_type: such as model or plot.
        size: in bytes.
        root: of the lakehouse; that of this home by default.

    Raises:
        LoggedValueRefused: a value cannot be stored.
        StoreError: see `AppendTables.append`.
    """
    row: Row = {
        "run_id": checked_name("run_id", run_id),
        "path": checked_name("path", path_text(path)),
        "type": checked_text("artifact_type", artifact_type),
        "size": checked_int("size", size, 0),
        "logged_at": clock.take(1),
    }
    append_rows(root, {"artifacts": [row]})


def _check_fields(fields: Mapping[str, object]) -> None:
    check_mapping("fields", fields)
    if isinstance(fields, Storable):
        raise LoggedValueRefused("fields", type(fields).__name__, "a mapping that has it under a name")


def _stores_in(fields: Mapping[str, object] | None) -> Sequence[Storable]:
    """All of them, in the order in which JSON meets them; all else is known to be sound then."""
    found: list[Storable] = []

    def noted(value: object) -> object:
        if not isinstance(value, Storable):
            return jsonable(value)
        found.append(value)
        return None

    json_text("fields", fields, noted)
    return found


def _fields_text(fields: Mapping[str, object], urls: Sequence[str]) -> str:
    told = iter(urls)
    return json_text("fields", fields, lambda value: next(told) if isinstance(value, Storable) else jsonable(value))


def _config_row(run_id: str, columns: Row, moment: int) -> Row:
    return {"run_id": run_id, "logged_at": moment, **columns}
