"""Steps: a rebuild that fails or dies is taken up by the next one, as far as it is still equal to the source."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from analytics_pipeline.errors import IncompatibleColumn
from analytics_pipeline.store import Store, open_store
from analytics_pipeline.sync.engine import SyncJob
from analytics_pipeline.sync.windows import REST
from analytics_pipeline_tests.sync.postgres_reading import execute
from analytics_pipeline_tests.sync.processes import start
from analytics_pipeline_tests.sync.scenario import (
    NOW,
    PAIR,
    ROW_VERSIONS,
    UNPARTITIONED,
    asked_of,
    job_of,
    leavings,
    published,
    spec_of,
)

NINE_DAYS = "timestamptz '2024-01-01 12:00+00' + (g % 9) * interval '1 day'"
ROWS = (
    f"INSERT INTO records SELECT g, {NINE_DAYS}, 'm' FROM generate_series(1, 900) g",
    f"INSERT INTO scores SELECT g, {NINE_DAYS}, 'x', 0.5 FROM generate_series(1, 900) g",
    "INSERT INTO scores VALUES (7, NULL, 'rest', 1)",
    "ANALYZE",
)
STEP = 350  # of 900 rows: three steps a half, of four, four and two days
RECORDS = "SELECT dataset_id, model_name FROM demo_dataset ORDER BY ALL"


def fill_days(url: str) -> None:
    execute(url, *PAIR, *ROWS)


def in_steps(store: Store, url: str, log: Callable[[str], None] = lambda _: None, **changes: Any) -> SyncJob:
    return replace(job_of(store, url, spec_of(**changes), log=log), rows_per_step=STEP)


def rebuild_until(root: Path, url: str, told: Path, step: int, changes: dict[str, Any]) -> None:
    """A rebuild that dies when it begins a step of its results, told by its own log."""

    def log(line: str) -> None:
        told.write_text(f"{told.read_text() if told.exists() else ''}{line}\n")
        if f"demo_results: step {step} of 3" in line:
            os.kill(os.getpid(), signal.SIGKILL)

    in_steps(open_store(root), url, log, **changes).rebuild(now=NOW)


def killed_rebuild(store: Store, url: str, folder: Path, step: int, **changes: Any) -> None:
    process = start(rebuild_until, store.root, url, folder / "told", step, changes)
    process.join()
    assert process.exitcode == -signal.SIGKILL


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def is_of_results(path: Path) -> bool:
    return "metric" in pq.read_schema(path).names


@pytest.mark.parametrize("changes", [{}, ROW_VERSIONS], ids=["checksum", "xmin"])
@pytest.mark.parametrize("step", [2, 3])
def test_a_killed_rebuild_is_resumed_and_commits_once(
    postgres_url: str, store: Store, tmp_path: Path, step: int, changes: dict[str, Any]
) -> None:
    """A rebuild of hours must not begin anew because a machine was restarted."""
    fill_days(postgres_url)
    killed_rebuild(store, postgres_url, tmp_path, step, **changes)
    assert store.manifest().version == 0
    told: list[str] = []
    job = in_steps(store, postgres_url, told.append, **changes)
    outcome = job.rebuild(now=NOW)
    assert any(f"demo_results: {4 * (step - 1)} partitions" in line and "were read before" in line for line in told)
    assert outcome.manifest.version == 1
    assert published(store, RECORDS) == asked_of(postgres_url, "SELECT id, model FROM records ORDER BY id, model")
    assert published(store, "SELECT count(*) FROM demo_results") == [(901,)]
    assert leavings(store) == set()
    assert not job.refresh(now=NOW).halves


def test_what_changed_meanwhile_is_read_again(postgres_url: str, store: Store, tmp_path: Path) -> None:
    """A resume that believes its old stage would publish a mix of two times."""
    fill_days(postgres_url)
    killed_rebuild(store, postgres_url, tmp_path, 3)
    execute(postgres_url, "UPDATE scores SET score = 0.75 WHERE id % 9 = 1", "DELETE FROM scores WHERE id % 9 = 2")
    told: list[str] = []
    in_steps(store, postgres_url, told.append).rebuild(now=NOW)
    assert any("demo_results: 6 partitions" in line and "were read before" in line for line in told)
    assert published(store, "SELECT score, count(*) FROM demo_results GROUP BY 1 ORDER BY 1") == asked_of(
        postgres_url, "SELECT score, count(*) FROM scores GROUP BY 1 ORDER BY 1"
    )


@pytest.mark.parametrize("harm", [Path.unlink, cut], ids=["lost", "cut"])
def test_what_a_disk_lost_meanwhile_is_read_again(
    postgres_url: str, store: Store, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    """A power cut takes files that the note still names: the rebuild would fail at its commit, each time anew."""
    fill_days(postgres_url)
    killed_rebuild(store, postgres_url, tmp_path, 3)
    day = "2024-01-03"
    (file,) = (path for path in store.layout.staging.rglob(f"{day}-*.parquet") if is_of_results(path))
    harm(file)
    told: list[str] = []
    in_steps(store, postgres_url, told.append).rebuild(now=NOW)
    assert any("demo_results: 7 partitions" in line and "were read before" in line for line in told)
    assert published(store, "SELECT count(*) FROM demo_results") == [(901,)]
    assert leavings(store) == set()


def test_a_stage_of_other_rules_is_not_used(postgres_url: str, store: Store, tmp_path: Path) -> None:
    """Partitions of another query have other columns."""
    fill_days(postgres_url)
    killed_rebuild(store, postgres_url, tmp_path, 3)
    told: list[str] = []
    query = "SELECT id, created_at, metric, score * 2 AS score FROM scores"
    in_steps(store, postgres_url, told.append, results_query=query).rebuild(now=NOW)
    assert not [line for line in told if "demo_results" in line and "were read before" in line]
    assert published(store, "SELECT DISTINCT score FROM demo_results ORDER BY 1") == [(1.0,), (2.0,)]


def test_a_sweep_leaves_what_can_be_resumed(postgres_url: str, store: Store, tmp_path: Path) -> None:
    """Otherwise every refresh of another dataset would take it."""
    fill_days(postgres_url)
    killed_rebuild(store, postgres_url, tmp_path, 3)
    before = leavings(store)
    store.sweep()
    assert leavings(store) == before != set()


def test_readers_see_the_old_tables_until_the_new_ones_are_whole(
    postgres_url: str, store: Store, tmp_path: Path
) -> None:
    """A rebuild in steps is one commit."""
    fill_days(postgres_url)
    in_steps(store, postgres_url).refresh(now=NOW)
    version = store.manifest().version
    execute(postgres_url, "UPDATE records SET model = 'new'")
    killed_rebuild(store, postgres_url, tmp_path, 3)
    assert published(store, "SELECT DISTINCT model_name FROM demo_dataset") == [("m",)]
    in_steps(store, postgres_url).rebuild(now=NOW)
    assert (store.manifest().version, published(store, "SELECT DISTINCT model_name FROM demo_dataset")) == (
        version + 1,
        [("new",)],
    )


def test_a_large_first_sync_is_read_in_steps_and_resumed(postgres_url: str, store: Store) -> None:
    """Whoever mirrors a year of data does not begin anew after an error in its last hour."""
    fill_days(postgres_url)
    execute(postgres_url, "INSERT INTO scores VALUES (1, '2024-01-09', 'bad', 'infinity')")
    query = (
        "SELECT id, created_at, metric, (1 / CASE WHEN metric = 'bad' THEN 0 ELSE 1 END)::float8 AS score FROM scores"
    )
    told: list[str] = []
    with pytest.raises(Exception, match="division by zero"):
        in_steps(store, postgres_url, told.append, results_query=query).refresh(now=NOW)
    execute(postgres_url, "DELETE FROM scores WHERE metric = 'bad'")
    in_steps(store, postgres_url, told.append, results_query=query).refresh(now=NOW)
    assert any("demo_dataset" in line and "were read before" in line for line in told)
    assert published(store, "SELECT count(*) FROM demo_results") == [(901,)]
    assert leavings(store) == set()


def test_a_small_first_sync_leaves_nothing_when_it_fails(postgres_url: str, store: Store) -> None:
    """Where a piece is all there is, there is nothing to resume."""
    fill_days(postgres_url)
    query = "SELECT id, created_at, metric, 1 / (id - 900) AS score FROM scores"
    with pytest.raises(Exception, match="division by zero"):
        job_of(store, postgres_url, spec_of(results_query=query)).refresh(now=NOW)
    assert leavings(store) == set()


def test_a_rebuild_takes_over_what_a_refused_refresh_had_read(postgres_url: str, store: Store) -> None:
    """The error tells people to run the rebuild: it should not read hours of data twice."""
    fill_days(postgres_url)
    in_steps(store, postgres_url).refresh(now=NOW)
    execute(postgres_url, "ALTER TABLE scores ALTER COLUMN score TYPE text")
    with pytest.raises(IncompatibleColumn):
        in_steps(store, postgres_url).refresh(now=NOW)
    told: list[str] = []
    in_steps(store, postgres_url, told.append).rebuild(now=NOW)
    assert any("demo_results: 10 partitions" in line and "were read before" in line for line in told)
    assert published(store, "SELECT DISTINCT score FROM demo_results ORDER BY 1") == [("0.5",), ("1",)]


def test_an_unpartitioned_dataset_is_rebuilt_whole(postgres_url: str, store: Store) -> None:
    """There is one piece."""
    fill_days(postgres_url)
    in_steps(store, postgres_url, **UNPARTITIONED).rebuild(now=NOW)
    assert published(store, "SELECT count(*) FROM demo_results") == [(901,)]
    assert leavings(store) == set()


def test_the_rest_is_read_in_every_resume(postgres_url: str, store: Store, tmp_path: Path) -> None:
    """It has no window of its own."""
    fill_days(postgres_url)
    killed_rebuild(store, postgres_url, tmp_path, 3)
    in_steps(store, postgres_url).rebuild(now=NOW)
    assert store.manifest().tables["demo_results"].partitions[REST].rows == 1
