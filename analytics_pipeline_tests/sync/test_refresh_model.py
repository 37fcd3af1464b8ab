"""Whatever happens in a source, in whatever order: a refresh that reports success has made the store equal to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from analytics_pipeline.store import Store, create_store, open_store
from analytics_pipeline.sync.engine import Selection, SyncJob
from analytics_pipeline.sync.postgres.readers import Tier
from analytics_pipeline.sync.spec import Half, SplitSyncSpec
from analytics_pipeline.sync.windows import REST
from analytics_pipeline_tests.sync.scenario import job_of, spec_of

MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Variant:
    """One kind of incremental column under one grain; `happened` in the queries is that column."""

    grain: str
    sql_type: str
    start: str
    now: datetime
    timezone: str | None = None
    epoch: str | None = None

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone or "UTC")

    @property
    def is_local(self) -> bool:
        return self.sql_type in {"date", "timestamp"}

    def literal(self, local: datetime | str | None) -> str:
        """A moment in the spec's zone as a value of the column."""
        if local is None:
            return f"NULL::{self.sql_type}"
        if isinstance(local, str):
            return "NULL::bigint" if self.epoch else f"'{local}'::{self.sql_type}"
        if self.is_local:
            return f"timestamp '{local}'::{self.sql_type}"
        moment = f"timestamp '{local}' AT TIME ZONE '{self.zone.key}'"
        if self.epoch is None:
            return moment
        return f"floor(extract(epoch FROM {moment}) * {self.units})::{self.sql_type}"

    @property
    def units(self) -> int:
        return {"s": 1, "ms": 1_000, "us": 1_000_000}[self.epoch or "us"]

    @property
    def in_postgres(self) -> str:
        """Microseconds since 1970; the store has NULL for infinities."""
        if self.epoch:
            return f"happened::bigint * {1_000_000 // self.units}"
        return "CASE WHEN isfinite(happened) THEN (extract(epoch FROM happened) * 1000000)::bigint END"

    @property
    def in_store(self) -> str:
        return f"happened::bigint * {1_000_000 // self.units}" if self.epoch else "epoch_us(happened)"


VARIANTS = (
    Variant("hourly", "timestamptz", "2024-01-09", datetime(2024, 1, 10, 3, 30, tzinfo=UTC)),
    Variant("hourly", "bigint", "2024-01-09", datetime(2024, 1, 10, 3, tzinfo=UTC), epoch="us"),
    Variant("daily", "timestamptz", "2024-03-28", datetime(2024, 4, 2, 12, tzinfo=UTC), "Europe/Berlin"),
    Variant("daily", "timestamp", "2024-11-01", datetime(2024, 11, 5, 12, tzinfo=UTC), "America/New_York"),
    Variant("daily", "date", "2024-02-27", datetime(2024, 3, 3, tzinfo=UTC)),
    Variant("daily", "bigint", "2023-12-30", datetime(2024, 1, 3, tzinfo=UTC), epoch="ms"),
    Variant("weekly", "timestamptz", "2024-03-18", datetime(2024, 4, 9, tzinfo=UTC), "Asia/Kolkata"),
    Variant("weekly", "integer", "2024-01-01", datetime(2024, 1, 30, tzinfo=UTC), "America/Havana", "s"),
    Variant("monthly", "timestamp", "2023-12-01", datetime(2024, 4, 1, tzinfo=UTC), "UTC"),
    Variant("monthly", "timestamptz", "2023-12-01", datetime(2024, 4, 1, tzinfo=UTC), "Pacific/Apia"),
)
TABLES = {Half.DATASET: "records", Half.RESULTS: "scores"}
halves = st.sampled_from(list(Half))
some_halves = st.sets(halves, min_size=1).map(frozenset)
few = st.integers(1, 4)


class SourceAndStore(RuleBasedStateMachine):
    """A source that people write to, and the store that follows it."""

    url: str
    folder: Iterator[Path]

    @initialize(
        variant=st.sampled_from(VARIANTS),
        tier=st.sampled_from([None, Tier.CURSOR]),
        column=st.sampled_from([None, "id", "happened"]),
        join=st.sampled_from(["inner", "left"]),
    )
    def begin(self, variant: Variant, tier: Tier | None, column: str | None, join: str) -> None:
        self.variant, self.now, self.next_id = variant, variant.now, 1
        self.spec: SplitSyncSpec = spec_of(
            dataset_query="SELECT id, happened, note AS label FROM records",
            results_query="SELECT id, happened, score FROM scores",
            incremental_column="happened",
            start=variant.start,
            partitions=variant.grain,
            timezone=variant.timezone,
            epoch=variant.epoch,
            partition_column=column,
            join=join,
        )
        self.connection = psycopg.connect(self.url, autocommit=True)
        self.store: Store = create_store(next(self.folder))
        self.job: SyncJob = job_of(self.store, self.url, self.spec, tier=tier)
        kind = variant.sql_type
        self.execute(
            "DROP TABLE IF EXISTS records, scores",
            f"CREATE TABLE records (id int, happened {kind}, note text)",
            f"CREATE TABLE scores (id int, happened {kind}, score float8)",
        )
        self.execute("INSERT INTO records SELECT g, NULL, '' FROM generate_series(-3, 0) AS g")

    def teardown(self) -> None:
        if hasattr(self, "job"):
            try:
                self.refresh()
            finally:
                self.store.close()
                self.connection.close()

    def execute(self, *statements: str) -> None:
        for statement in statements:
            self.connection.execute(statement.encode())

    def moments(self) -> Sequence[datetime | str | None]:
        """Where rows can get lost: the edges of windows, outside of all, nowhere."""
        edges = [edge for window in self.windows() for edge in (window.local, window.local_end)]
        around = [edge + shift for edge in (*edges[:4], *edges[-6:]) for shift in (-MICROSECOND, timedelta(0))]
        return [*around, None, edges[0] - timedelta(days=400), edges[-1] + timedelta(days=400), "infinity", "-infinity"]

    def windows(self) -> Sequence[Any]:
        return self.spec.windows(self.now)

    def some_moment(self, data: st.DataObject) -> str:
        return self.variant.literal(data.draw(st.sampled_from(self.moments())))

    @rule(half=halves, data=st.data(), count=few)
    def insert(self, half: Half, data: st.DataObject, count: int) -> None:
        """New rows, late rows, rows of equal time; some belong to a record, some to none."""
        for _ in range(count):
            at, value = self.some_moment(data), "'new'" if half is Half.DATASET else "0.5"
            self.execute(f"INSERT INTO {TABLES[half]} VALUES ({self.next_id}, {at}, {value})")
            self.next_id += half is Half.RESULTS

    @rule(half=halves, every=few)
    def double(self, half: Half, every: int) -> None:
        self.execute(f"INSERT INTO {TABLES[half]} SELECT * FROM {TABLES[half]} WHERE id % {every} = 0 LIMIT 20")

    @rule(half=halves, every=few, number=st.integers(0, 9))
    def update(self, half: Half, every: int, number: int) -> None:
        value = f"note = nullif('{number}', '0')" if half is Half.DATASET else f"score = nullif({number}, 0)"
        self.execute(f"UPDATE {TABLES[half]} SET {value} WHERE id % {every} = 0")

    @rule(half=halves, every=few, data=st.data())
    def move(self, half: Half, every: int, data: st.DataObject) -> None:
        """An update of the incremental column: between windows, and in and out of the rest."""
        self.execute(f"UPDATE {TABLES[half]} SET happened = {self.some_moment(data)} WHERE id % {every} = 0")

    @rule(half=halves, every=few)
    def delete(self, half: Half, every: int) -> None:
        self.execute(f"DELETE FROM {TABLES[half]} WHERE id % {every} = 1")

    @rule(tables=st.sampled_from(["records", "scores", "records, scores"]))
    def truncate(self, tables: str) -> None:
        self.execute(f"TRUNCATE {tables}")

    @rule()
    def time_passes(self) -> None:
        """A new window opens: rows of the future become rows of it."""
        self.now = self.windows()[-1].upper

    @rule()
    def refresh(self) -> None:
        first = self.job.refresh(now=self.now)
        for half in Half:
            assert self.stored(half) == self.in_source(half)
        self.check_view()
        assert all(table.rows == len(self.stored(half)) for half, table in self.published().items())
        again = self.job.refresh(now=self.now)
        assert (again.halves, again.manifest.version) == ({}, first.manifest.version)

    @rule()
    def refresh_by_a_clock_that_is_behind(self) -> None:
        """Another machine's clock: what is published stays in its windows."""
        earlier = self.windows()
        self.job.refresh(now=earlier[max(0, len(earlier) - 2)].lower)
        for half in Half:
            assert self.stored(half) == self.in_source(half)

    @rule(chosen=some_halves, data=st.data())
    def replace_some(self, chosen: frozenset[Half], data: st.DataObject) -> None:
        keys = [window.key for window in self.windows()] + [REST]
        wanted = data.draw(st.sets(st.sampled_from(keys[:3] + keys[-4:]), min_size=1).map(frozenset))
        outcome = self.job.replace(Selection(chosen, wanted), now=self.now)
        for half in chosen:
            assert set(outcome.halves[half].partitions) - {REST} == wanted - {REST}
            for window in self.windows():
                if window.key in wanted:
                    assert self.stored(half, window) == self.in_source(half, window)

    @rule(chosen=some_halves)
    def replace_all(self, chosen: frozenset[Half]) -> None:
        self.job.replace(Selection(chosen), now=self.now)
        for half in chosen:
            assert self.stored(half) == self.in_source(half)

    @rule()
    def sweep(self) -> None:
        swept = open_store(self.store.root, grace=timedelta(0)).sweep()
        assert swept.orphans == ()

    def published(self) -> dict[Half, Any]:
        return {half: self.store.manifest().tables[self.spec.table(half)] for half in Half}

    def in_source(self, half: Half, window: Any = None) -> Sequence[tuple[Any, ...]]:
        return self.ordered(self.connection.execute(self.query(TABLES[half], self.variant.in_postgres, half, window)))

    def stored(self, half: Half, window: Any = None) -> Sequence[tuple[Any, ...]]:
        query = self.query(self.spec.table(half), self.variant.in_store, half, window, "dataset_id")
        return self.ordered(self.store.query(query).rows())

    def query(self, table: str, at: str, half: Half, window: Any, key: str = "id") -> Any:
        value = {Half.DATASET: "note", Half.RESULTS: "score"}[half]
        if half is Half.DATASET and key != "id":
            value = "label"
        where = ""
        if window is not None:
            bounds = (window.local, window.local_end) if self.variant.is_local else (window.lower, window.upper)
            low, high = (microseconds(each) for each in bounds)
            where = f" WHERE {at} >= {low} AND {at} < {high}"
        query = f"SELECT {key}, {at}, {value} FROM {table}{where}"
        return query if key != "id" else query.encode()

    @staticmethod
    def ordered(rows: Any) -> Sequence[tuple[Any, ...]]:
        return sorted((tuple(row) for row in rows), key=repr)

    def check_view(self) -> None:
        """One row a result, whatever doubled records there are."""
        found = self.store.query(f"SELECT count(*) FROM {self.spec.view}").item()
        condition = " WHERE id IN (SELECT id FROM records)" if self.spec.join == "inner" else ""
        (expected,) = self.connection.execute(f"SELECT count(*) FROM scores{condition}".encode()).fetchone() or (0,)
        assert found == expected


def microseconds(moment: datetime) -> int:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // MICROSECOND


def run(url: str, folder: Path, examples: int, steps: int, phases: Sequence[Phase]) -> None:
    numbered = (folder / f"store-{number}" for number in range(10**6))
    machine = type("Machine", (SourceAndStore,), {"url": url, "folder": numbered})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=Phase.shrink not in phases,
            database=None,
            phases=phases,
        ),
    )


def test_after_a_refresh_the_store_equals_the_source(postgres_url: str, tmp_path: Path) -> None:
    """Otherwise some history of inserts, late rows, moves and deletes leaves rows missing, stale or doubled."""
    run(postgres_url, tmp_path, examples=25, steps=10, phases=[Phase.generate])  # shrinking takes minutes


@pytest.mark.slow
def test_after_a_refresh_the_store_equals_the_source_at_length(postgres_url: str, tmp_path: Path) -> None:
    """As above, with histories that the build has no time for."""
    run(postgres_url, tmp_path, examples=200, steps=30, phases=[Phase.generate, Phase.shrink])
