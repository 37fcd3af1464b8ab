"""Records, runs and backends that the tests of the capability store share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import polars as pl

from analytics_pipeline.capabilities import AnalyticsStore, BaseRecord, DuckDBBackend, ParquetBackend, Record
from analytics_pipeline.capabilities.backends.protocol import CustomBackend

UIDS = "SELECT run_uid FROM example ORDER BY ALL"


class ExampleRecord(BaseRecord, table_name="example"):
    """The record of the published examples."""

    dataset_id: str
    score: float
    sample_count: int
    notes: str | None = None


class WiderRecord(BaseRecord, table_name="example"):
    """Its next version, with a field more."""

    dataset_id: str
    score: float
    sample_count: int
    notes: str | None = None
    augmented: bool | None = None


class OtherRecord(BaseRecord, table_name="other"):
    """A record of another table."""

    dataset_id: str


def example(uid: str, dataset: str = "cifar10", score: float = 0.5, **values: object) -> ExampleRecord:
    """A record of a run."""
    return ExampleRecord(run_uid=uid, dataset_id=dataset, score=score, **{"sample_count": 1, **values})


@dataclass(frozen=True)
class Run:
    """A capability run of somebody's own class."""

    run_uid: str
    records: Sequence[Record]
    datasets: Sequence[str] = ("cifar10",)
    models: Sequence[str] = ("resnet50",)
    metrics: Sequence[str] = ("accuracy",)
    capability_id: str = "example.Capability"
    calls: list[str] = field(default_factory=list, compare=False)

    @property
    def dataset_metadata(self) -> Sequence[Mapping[str, str]]:
        """Ids of the datasets."""
        return [{"id": name} for name in self.datasets]

    @property
    def model_metadata(self) -> Sequence[Mapping[str, str]]:
        """Ids of the models."""
        return [{"id": name} for name in self.models]

    @property
    def metric_metadata(self) -> Sequence[Mapping[str, str]]:
        """Ids of the metrics."""
        return [{"id": name} for name in self.metrics]

    def extract(self) -> Sequence[Record]:
        """The records."""
        return self.records


def run(uid: str, rows: int = 1, **values: object) -> Run:
    """A run with some rows of the example table."""
    return Run(uid, [example(uid, **values) for _ in range(rows)])  # type: ignore[arg-type]


class NotebookBackend:
    """A custom backend as in the published examples: four methods, no base class, a DuckDB connection."""

    def __init__(self) -> None:
        self.connection = duckdb.connect()

    def write(self, records: Sequence[Record]) -> None:
        """Group by table, create the table if needed, insert."""
        for table in dict.fromkeys(record.table_name for record in records):
            rows = pl.DataFrame(
                [record.model_dump(mode="python") for record in records if record.table_name == table],
                infer_schema_length=None,
            )
            if table in self.list_tables():
                known = self.query_sql(f"SELECT DISTINCT run_uid FROM {table}")["run_uid"]
                rows = rows.filter(~pl.col("run_uid").is_in(known.to_list()))
            self.connection.register("incoming", rows)
            self.connection.execute(f"CREATE TABLE IF NOT EXISTS {table} AS SELECT * FROM incoming LIMIT 0")
            self.connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming")
            self.connection.unregister("incoming")

    def list_tables(self) -> list[str]:
        """Names of the tables."""
        rows = self.connection.execute("SELECT table_name FROM duckdb_tables() ORDER BY 1").fetchall()
        return [name for (name,) in rows]

    def describe_table(self, table_name: str) -> dict[str, str]:
        """Columns of a table."""
        return {name: str(dtype) for name, dtype in self.query_sql(f"SELECT * FROM {table_name}").schema.items()}

    def query_sql(self, sql: str) -> pl.DataFrame:
        """The rows of a query."""
        return pl.DataFrame(self.connection.sql(sql).to_arrow_table())


Make = Callable[[], CustomBackend]
"""A new object for the same place each time."""

BACKENDS: Mapping[str, Callable[[Path], CustomBackend]] = {
    "parquet": lambda folder: ParquetBackend(folder / "capabilities"),
    "compacted": lambda folder: ParquetBackend(folder / "capabilities", compact_after=2),
    "objects": lambda folder: ParquetBackend(f"memory:/{folder}/capabilities"),
    "duckdb": lambda folder: DuckDBBackend(folder / "capabilities.duckdb"),
}
"""The backends that keep the contract: each makes one in a folder of the test's own."""

SHARED = tuple(kind for kind in BACKENDS if kind != "objects")
"""Those that several processes share: each has a `memory://` of its own. See `test_object_store_s3` for real ones."""


def uids(store: AnalyticsStore | CustomBackend) -> list[str]:
    """The run of each row in the example table."""
    return [] if "example" not in store.list_tables() else store.query_sql(UIDS)["run_uid"].to_list()


def files_below(root: Path) -> set[str]:
    """The Parquet files that any reader of the folder finds."""
    return {str(path.relative_to(root)) for path in root.rglob("*.parquet")}
