"""Changes: they change what they say, in both halves, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import psycopg
import pytest

from analytics_pipeline.sample import changes, data, evaluation, human_signals, monitoring
from analytics_pipeline.sample.data import Changed, Half, Source

SOURCES = [monitoring.SOURCE, human_signals.SOURCE, evaluation.SOURCE]
TIMES = {"conversations": "opened_at", "feedback": "noted_at"}


@pytest.fixture(params=SOURCES, ids=lambda source: source.name)
def source(request: pytest.FixtureRequest) -> Source:
    assert isinstance(request.param, Source)
    return request.param


@pytest.fixture
def connection(postgres_url: str, source: Source) -> Iterator[psycopg.Connection]:
    """To a database filled with a little of the source."""
    with psycopg.connect(postgres_url) as connection:
        data.fill(connection, source, 0.1, datetime.now(UTC))
        yield connection


def rows_of(connection: psycopg.Connection, half: Half) -> dict[str, tuple[datetime, str]]:
    """Time and content of each row by its physical key: what a mirror compares."""
    time = TIMES.get(half.table, "created_at")
    unique = {"metric_results": "id", "metrics": "metric_id", "feedback": "conversation_id || metric_name"}
    query = f"SELECT ({unique.get(half.table, half.key)})::text, {time}, t::text FROM {half.table} t"
    return {key: (at, content) for key, at, content in connection.execute(query.encode())}


def snapshot(connection: psycopg.Connection, source: Source) -> list[dict[str, tuple[datetime, str]]]:
    return [rows_of(connection, half) for half in (source.dataset, source.results)]


def test_added_rows_are_of_today_and_not_of_the_future(connection: psycopg.Connection, source: Source) -> None:
    before = snapshot(connection, source)

    changed = changes.add_rows(connection, source, 7)

    for old, new, count in zip(before, snapshot(connection, source), changed, strict=True):
        added = [at for key, (at, _) in new.items() if key not in old]
        assert len(added) == count
        assert {key: new[key] for key in old} == old
        assert {at.astimezone(UTC).date() for at in added} == {datetime.now(UTC).date()}
        assert max(added) <= datetime.now(UTC)
    assert changed.dataset_rows == 7
    assert changed.results_rows >= 7


def test_late_rows_are_of_earlier_days(connection: psycopg.Connection, source: Source) -> None:
    before = snapshot(connection, source)

    changed = changes.add_late_rows(connection, source, 7)

    for old, new, count in zip(before, snapshot(connection, source), changed, strict=True):
        added = [at for key, (at, _) in new.items() if key not in old]
        assert len(added) == count
        assert max(added).astimezone(UTC).date() < datetime.now(UTC).date()
    assert changed.dataset_rows == 7


def test_updates_change_content_and_leave_times_alone(connection: psycopg.Connection, source: Source) -> None:
    """Such a row is what no watermark ever notices."""
    before = snapshot(connection, source)

    changed = changes.update_rows(connection, source, 7)

    for old, new, count in zip(before, snapshot(connection, source), changed, strict=True):
        assert {key: at for key, (at, _) in new.items()} == {key: at for key, (at, _) in old.items()}
        different = [key for key in old if new[key] != old[key]]
        assert len(different) == count
    assert changed.dataset_rows == 7


def test_deletes_take_the_results_along(connection: psycopg.Connection, source: Source) -> None:
    before = snapshot(connection, source)

    changed = changes.delete_rows(connection, source, 7)

    for old, new, count in zip(before, snapshot(connection, source), changed, strict=True):
        assert len(old) - len(new) == count
        assert new.items() <= old.items()
    assert changed.dataset_rows == 7


@pytest.mark.parametrize("change", [changes.add_rows, changes.add_late_rows, changes.update_rows, changes.delete_rows])
def test_the_same_seed_does_the_same_and_a_second_call_something_else(
    connection: psycopg.Connection,
    source: Source,
    change: Callable[[psycopg.Connection, Source, int, int], Changed],
) -> None:
    def touched(*seeds: int) -> set[str]:
        before = rows_of(connection, source.dataset)
        start = connection.execute("SELECT last_value, is_called FROM sample.change_number").fetchone()
        connection.commit()
        with connection.transaction(force_rollback=True):
            for seed in seeds:
                change(connection, source, 3, seed)
            after = rows_of(connection, source.dataset)
        assert start is not None
        connection.execute("SELECT setval('sample.change_number', %s, %s)", start)
        return {
            key for key in before.keys() | after.keys() if before.get(key, ("", ""))[1] != after.get(key, ("", ""))[1]
        }

    assert touched(5) == touched(5)
    assert touched(5) != touched(6)
    assert len(touched(5, 5)) > 3


def test_a_change_that_fails_changes_nothing(connection: psycopg.Connection, source: Source) -> None:
    connection.execute(f"ALTER TABLE {source.dataset.table} ADD CHECK (false) NOT VALID".encode())
    connection.commit()
    before = snapshot(connection, source)

    with pytest.raises(psycopg.errors.CheckViolation):
        changes.update_rows(connection, source, 3)
    connection.rollback()

    assert snapshot(connection, source) == before
