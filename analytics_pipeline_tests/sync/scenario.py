"""Sources, specs and questions that the tests of whole syncs share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from pydantic import SecretStr

from analytics_pipeline.store import Store
from analytics_pipeline.sync.engine import SyncJob
from analytics_pipeline.sync.postgres.readers import Tier
from analytics_pipeline.sync.spec import SplitSyncSpec
from analytics_pipeline_tests.sync.postgres_reading import execute

NOW = datetime(2024, 1, 10, 12, tzinfo=UTC)
"""The last window of the tests' daily datasets is 2024-01-10."""

PAIR = (
    "CREATE TABLE records (id bigint, created_at timestamptz, model text)",
    "CREATE TABLE scores (id bigint, created_at timestamptz, metric text, score float8)",
)
RECORDS = (
    "INSERT INTO records VALUES (1, '2024-01-01 00:00+00', 'a'), (2, '2024-01-01 23:59:59.999999+00', 'b'), "
    "(3, '2024-01-05 12:00+00', 'c'), (4, NULL, 'd')"
)
SCORES = (
    "INSERT INTO scores VALUES (1, '2024-01-02 00:00+00', 'm', 0.5), (1, '2024-01-02 00:00+00', 'n', 0.25), "
    "(2, '2024-01-02 00:00+00', 'm', 1), (3, '2024-01-05 12:00+00', 'm', NULL), (4, '2024-01-09 00:00+00', 'm', 0)"
)


def fill(url: str) -> None:
    """Four records and their five scores."""
    execute(url, *PAIR, RECORDS, SCORES)


def spec_of(**changes: Any) -> SplitSyncSpec:
    """A daily dataset over `records` and `scores`; a change of None takes a key away."""
    values: dict[str, Any] = {
        "name": "demo",
        "url": "DEMO_DB_URL",
        "dataset_query": "SELECT * FROM records",
        "results_query": "SELECT * FROM scores",
        "normalize": "monitoring",
        "incremental_column": "created_at",
        "start": "2024-01-01",
        "query_timeout": 60,
        "max_removed": 1,  # tests empty tables on purpose; those of the guard take this away
    } | changes
    return SplitSyncSpec(**{key: value for key, value in values.items() if value is not None})


ROW_VERSIONS: Mapping[str, Any] = {
    "fingerprint": "xmin",
    "source_table": {"dataset": "records", "results": "scores"},
}
UNPARTITIONED: Mapping[str, Any] = {"incremental_column": None, "start": None}


def job_of(
    store: Store,
    url: str,
    spec: SplitSyncSpec | None = None,
    *,
    tier: Tier | None = None,
    stall_timeout: float = 60.0,
    log: Callable[[str], None] = lambda _: None,
    pauses: Sequence[float] = (),
) -> SyncJob:
    """A sync of a dataset; of the one in `spec_of` where none is given."""
    return SyncJob(spec or spec_of(), SecretStr(url), store, log, tier, stall_timeout, pauses)


def asked_of(url: str, query: str) -> Sequence[tuple[Any, ...]]:
    """What Postgres answers."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT set_config('TimeZone', 'UTC', false), set_config('DateStyle', 'ISO', false)")
        return connection.execute(query.encode()).fetchall()


def published(store: Store, query: str) -> Sequence[tuple[Any, ...]]:
    """What the store answers."""
    return store.query(query).rows()


def leavings(store: Store) -> set[str]:
    """What a finished sync may not leave: stages, drafts, data files that no version lists."""
    manifest = store.manifest()
    listed = {file.path for file in manifest.live_files} | {item.path for item in manifest.retired}
    on_disk = {str(path.relative_to(store.root)) for path in store.layout.tables.rglob("*") if path.is_file()}
    return (on_disk - listed) | {str(path.relative_to(store.root)) for path in store.layout.staging.rglob("*")}


def content(store: Store) -> Mapping[str, str]:
    """Every manifest and data file with a digest of its bytes: what a failed sync may not change."""
    return {
        str(path.relative_to(store.root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in (store.layout.manifests, store.layout.tables)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def sessions(url: str) -> int:
    """Sessions of our own on the server, besides the one that asks."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'analytics_pipeline%' "
        "AND datname = current_database()"
    )
    return int(asked_of(url, query)[0][0])


def file_of(store: Store, *parts: str) -> Path:
    """A path inside the store's folder."""
    return store.root.joinpath(*parts)


RECORDS_OF_STORE = "SELECT dataset_id, timestamp, model_name FROM demo_dataset ORDER BY ALL"


RECORDS_OF_SOURCE = "SELECT id, created_at, model FROM records ORDER BY id, created_at, model"


def keys(partitions: object) -> list[str]:
    assert isinstance(partitions, dict)
    return list(partitions)
