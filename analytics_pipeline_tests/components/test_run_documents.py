"""The job that takes up run documents, as Dagster shows it, and the sensor that starts it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import fsspec
import pytest

from analytics_pipeline.capabilities.documents.folder import FolderInbox
from analytics_pipeline.capabilities.extraction import CAPABILITIES
from analytics_pipeline.components import run_documents as component
from analytics_pipeline.components.run_documents import TABLES, run_documents
from analytics_pipeline.components.sync_sensor import Memory
from analytics_pipeline.errors import InboxUnusable
from analytics_pipeline.resources import AnalyticsResource
from analytics_pipeline.store import open_store
from analytics_pipeline_tests.capabilities.dropped import (
    BAD,
    count_entries,
    drop,
    drop_many,
    kept,
    reports,
    text,
    waiting,
)
from analytics_pipeline_tests.components.scenario import run_in

JOB = "run_documents_job"


@pytest.fixture
def code() -> dg.Definitions:
    return dg.Definitions.merge(run_documents(), dg.Definitions(resources={"analytics": AnalyticsResource()}))


@pytest.fixture
def inbox(home: Path) -> Path:
    return home / "inbox"


def run(code: dg.Definitions, instance: dg.DagsterInstance, **config: int) -> dg.ExecuteInProcessResult:
    return code.resolve_job_def(JOB).execute_in_process(
        instance=instance,
        run_config={"ops": {"take_up_run_documents": {"config": config}}},
        raise_on_error=False,
    )


def told(result: dg.ExecuteInProcessResult) -> Mapping[str, Any]:
    """The metadata of the op's output."""
    (output,) = [event for event in result.all_node_events if event.is_successful_output]
    return {name: value.value for name, value in output.step_output_data.metadata.items()}


def events(instance: dg.DagsterInstance, table: str) -> list[Mapping[str, Any]]:
    """The metadata of the materialisations of a table, oldest first."""
    found = instance.fetch_materializations(dg.AssetKey(["capabilities", table]), limit=100, ascending=True).records
    told = [record.asset_materialization for record in found if record.asset_materialization]
    return [{name: value.value for name, value in event.metadata.items()} for event in told]


def look(code: dg.Definitions, instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult:
    """One tick."""
    [sensor] = code.sensors or ()
    assert isinstance(sensor, dg.SensorDefinition)
    resources = {"analytics": AnalyticsResource()}
    with dg.build_sensor_context(instance=instance, cursor=cursor, resources=resources) as context:
        result = sensor(context)
    assert isinstance(result, dg.SensorResult)
    return result


def asks(result: dg.SensorResult) -> bool:
    return bool(result.run_requests)


def asked_before(requests: int, ago: timedelta) -> str:
    return Memory(requests, (datetime.now(UTC) - ago).timestamp()).cursor()


def test_the_tables_in_the_asset_graph_are_those_of_the_capabilities(code: dg.Definitions) -> None:
    keys = {key.to_user_string() for key in code.resolve_asset_graph().materializable_asset_keys}

    assert set(TABLES) == {*CAPABILITIES, "runs"}
    assert keys == {f"capabilities/{table}" for table in TABLES}


def test_materializing_a_table_shows_its_rows_or_says_what_fills_it(
    inbox: Path, code: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    """Dagster's own answer to an asset that cannot be materialized is a stack trace."""
    drop(inbox, "one.json", text("dataeval_bias", "uid-0"))
    assert run(code, instance).success

    full, empty = (
        code.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey(["capabilities", table])], raise_on_error=False
        )
        for table in ("dataeval_bias", "dataeval_cleaning")
    )

    assert full.success
    assert events(instance, "dataeval_bias")[-1] == {"dagster/row_count": 1}
    assert not empty.success
    [failed] = [event.step_failure_data.error for event in empty.all_events if event.is_step_failure]
    assert failed is not None
    assert "The table dataeval_cleaning has no rows" in failed.message
    assert f"Put run documents into {inbox} and run run_documents_job" in failed.message
    assert failed.cause is None


def test_one_run_takes_up_everything_and_tells_what_became_of_it(
    inbox: Path, code: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    good, bad = drop_many(inbox, 150)
    drop(inbox, "known.json", text("dataeval_bias", "uid-0"))

    result = run(code, instance)

    assert result.success
    shown = told(result)
    assert (shown["stored_runs"], shown["known_runs"], shown["rejected"]) == (len(good), 1, len(bad))
    assert shown["tables"] == ", ".join(sorted(TABLES))
    assert shown["reports"] == str(inbox / "rejected")
    assert "| run-00037.json | (document): is not JSON" in shown["reasons"]
    assert (len(kept(inbox)), waiting(inbox)) == (len(good) + 1, [])


def test_each_table_gets_one_event_a_run(inbox: Path, code: dg.Definitions, instance: dg.DagsterInstance) -> None:
    """A run over 10,000 documents must not write 10,000 events: each takes Dagster 15 ms."""
    drop_many(inbox, 60)
    run(code, instance)
    drop(inbox, "later.json", text("maite_evaluation", "later"))
    run(code, instance)

    counts = Counter({table: len(events(instance, table)) for table in TABLES})
    assert counts == Counter(dict.fromkeys(TABLES, 1)) + Counter(["maite_evaluation", "runs"])
    assert events(instance, "maite_evaluation")[-1] == {"new_rows": 6, "new_runs": 1}


def test_the_rows_are_in_the_published_catalog(
    home: Path, inbox: Path, code: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    drop(inbox, "a.json", text())

    run(code, instance)

    rows = open_store(home / "store").query("SELECT run_uid, dataset_id FROM capabilities.dataeval_bias")
    assert rows.rows() == [("a1", "cifar10")]


def test_a_run_over_bad_documents_alone_succeeds_and_touches_no_table(
    inbox: Path, code: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    for number, (content, _, _) in enumerate(BAD.values()):
        drop(inbox, f"{number}.json", content)

    result = run(code, instance)

    assert result.success
    assert (told(result)["rejected"], told(result)["tables"]) == (len(BAD), "none")
    assert not any(events(instance, table) for table in TABLES)


def test_names_and_problems_cannot_break_the_table_of_reasons(
    inbox: Path, code: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    drop(inbox, "a|b\n.json", text(provenance={"x|y": 1}))

    lines = told(run(code, instance))["reasons"].splitlines()
    assert len(lines) == 3
    assert lines[2].startswith(r'| a\|b .json | provenance["x\|y"]: is no field')


def test_an_empty_inbox_is_no_failure(home: Path, code: dg.Definitions, instance: dg.DagsterInstance) -> None:
    assert told(run(code, instance))["stored_runs"] == 0


def test_size_and_number_are_limited_by_configuration(
    inbox: Path, code: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    drop(inbox, "large.json", b" " * (1 << 20) + text())
    for number in range(5):
        drop(inbox, f"{number}.json", text(run_uid=str(number)))

    run(code, instance, largest_mb=1, at_most=4)
    run(code, instance, largest_mb=1, at_most=4)

    assert len(kept(inbox)) == 5
    ((path, _),) = reports(inbox)
    assert path.name == "large.json"


def test_a_store_that_fails_fails_the_run_in_one_sentence_and_loses_nothing(
    home: Path, inbox: Path, code: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    drop(inbox, "before.json", text(run_uid="before"))
    run(code, instance)
    torn = home / "store" / "capabilities" / "runs" / "1_aaaaaaaa.parquet"
    torn.write_bytes(b"torn")
    drop(inbox, "good.json", text())

    result = run(code, instance)

    assert not result.success
    [failure] = [event for event in result.all_node_events if event.is_step_failure]
    assert str(torn) in str(failure.step_failure_data.user_failure_data.description)  # type: ignore[union-attr]
    assert waiting(inbox) == ["good.json"]
    torn.unlink()
    assert told(run(code, instance))["stored_runs"] == 1


def test_what_was_stored_before_a_failure_is_told(
    home: Path, inbox: Path, code: dg.Definitions, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(inbox, "a.json", text(run_uid="a"))
    drop(inbox, "stuck.json", text(run_uid="stuck"))
    rename = Path.rename

    def refusing(path: Path, target: Path) -> Path:
        if path == inbox / "stuck.json":
            raise PermissionError(1, "Operation not permitted")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refusing)

    assert not run(code, instance).success
    assert events(instance, "dataeval_bias") == [{"new_rows": 2, "new_runs": 2}]


def test_the_sensor_is_on_without_a_click_and_asks_once_a_document_waits(
    home: Path, inbox: Path, code: dg.Definitions, lasting: dg.DagsterInstance
) -> None:
    [sensor] = code.sensors or ()
    assert isinstance(sensor, dg.SensorDefinition)
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    assert sensor.minimum_interval_seconds == 30

    assert not asks(look(code, lasting))
    assert not home.exists(), "a tick makes nothing"
    drop(inbox, "run.json.part", text())
    assert not asks(look(code, lasting))
    drop(inbox, "run.json", text())
    assert asks(look(code, lasting))


@pytest.mark.parametrize("status", ["NOT_STARTED", "STARTING", "STARTED"])
def test_there_are_never_two_runs(inbox: Path, code: dg.Definitions, lasting: dg.DagsterInstance, status: str) -> None:
    drop(inbox, "run.json", text())
    at_it = run_in(lasting, code.resolve_job_def(JOB), status)

    for cursor in (None, asked_before(1, timedelta(hours=2)), asked_before(20, timedelta(days=1))):
        result = look(code, lasting, cursor)
        assert not asks(result)
        assert at_it.run_id in str(result.skip_reason)


def test_what_a_killed_run_left_on_the_way_is_taken_up(
    inbox: Path, code: dg.Definitions, lasting: dg.DagsterInstance
) -> None:
    drop(inbox, "run.json", text())
    run(code, lasting)
    (path,) = (inbox / "stored").glob("*/*.json")
    path.rename(inbox / ".moving" / "run.json")

    assert asks(look(code, lasting))
    assert told(run(code, lasting))["known_runs"] == 1
    assert not asks(look(code, lasting))


@pytest.mark.parametrize(("requests", "minutes"), [(1, 1), (7, 60)])
def test_after_failures_it_asks_again_with_growing_pauses(
    inbox: Path, code: dg.Definitions, lasting: dg.DagsterInstance, requests: int, minutes: int
) -> None:
    drop(inbox, "run.json", text())
    too_soon = asked_before(requests, timedelta(minutes=minutes) - timedelta(seconds=20))
    in_time = asked_before(requests, timedelta(minutes=minutes) + timedelta(seconds=1))

    assert not asks(look(code, lasting, too_soon))
    again = look(code, lasting, in_time)
    assert asks(again)
    assert Memory.of(again.cursor).requests == requests + 1


def test_pauses_begin_at_the_end_of_a_failed_run(
    inbox: Path, code: dg.Definitions, lasting: dg.DagsterInstance
) -> None:
    drop(inbox, "run.json", text())
    run_in(lasting, code.resolve_job_def(JOB), "FAILURE")

    assert not asks(look(code, lasting, asked_before(1, timedelta(hours=2))))


def test_after_a_run_that_succeeded_new_documents_wait_for_no_pause(
    inbox: Path, code: dg.Definitions, lasting: dg.DagsterInstance
) -> None:
    """Documents that come in one after the other must not look like failures."""
    cursor = None
    for number in range(3):
        drop(inbox, f"{number}.json", text(run_uid=str(number)))
        result = look(code, lasting, cursor)
        assert asks(result)
        cursor = result.cursor
        assert run(code, lasting).success


def test_an_empty_inbox_ends_the_pauses(home: Path, code: dg.Definitions, lasting: dg.DagsterInstance) -> None:
    result = look(code, lasting, asked_before(5, timedelta(minutes=1)))

    assert Memory.of(result.cursor) == Memory()


def test_a_cursor_of_another_version_is_no_trouble(
    inbox: Path, code: dg.Definitions, lasting: dg.DagsterInstance
) -> None:
    drop(inbox, "run.json", text())

    for cursor in ("", "no json", "[]", '{"unknown": 1}'):
        assert asks(look(code, lasting, cursor))


@pytest.mark.parametrize("count", [1, 400])
def test_a_tick_costs_the_same_however_many_documents_and_runs_there_are(
    inbox: Path,
    code: dg.Definitions,
    lasting: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
) -> None:
    """Ticks of all sensors share one process: a slow one makes the others time out."""
    job = code.resolve_job_def(JOB)
    for number in range(count):
        drop(inbox, f"{number}.json", b"{}")
    for _ in range(min(count, 5)):
        run_in(lasting, job, "SUCCESS")
    work: Counter[str] = Counter()
    count_entries(monkeypatch, work)
    for name in ("get_run_ids", "get_run_records"):
        count_rows(monkeypatch, name, work)

    assert asks(look(code, lasting))

    assert work == {"listed": 1, "get_run_ids": 1, "get_run_records": 1, "rows": 1}


def count_rows(monkeypatch: pytest.MonkeyPatch, name: str, work: Counter[str]) -> None:
    """Calls of a query of Dagster's storage, and the rows that it gives."""
    query = getattr(dg.DagsterInstance, name)

    def counted(instance: dg.DagsterInstance, *arguments: Any, **options: Any) -> Any:
        rows = query(instance, *arguments, **options)
        work[name] += 1
        work["rows"] += len(rows)
        return rows

    monkeypatch.setattr(dg.DagsterInstance, name, counted)


def test_the_inbox_may_be_elsewhere(
    tmp_path: Path, home: Path, code: dg.Definitions, lasting: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANALYTICS_INBOX", str(tmp_path / "share"))
    drop(tmp_path / "share", "run.json", text())

    assert asks(look(code, lasting))
    assert told(run(code, lasting))["reports"] == str(tmp_path / "share" / "rejected")
    assert kept(tmp_path / "share") == ["run.json"]
    assert not (home / "inbox").exists()


def test_the_inbox_may_be_in_an_object_store(
    home: Path, code: dg.Definitions, lasting: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANALYTICS_INBOX", "memory://arrivals")
    fsspec.filesystem("memory").pipe_file("/arrivals/run.json", text())

    assert asks(look(code, lasting))
    assert told(run(code, lasting))["stored_runs"] == 1
    assert not asks(look(code, lasting))


@pytest.mark.parametrize("place", ["s3:/typo", "s3:bucket/arrivals", "s3://key:hidden@bucket/arrivals"])
def test_a_slip_of_the_pen_in_the_inbox_makes_no_folder_of_that_name(
    tmp_path: Path,
    home: Path,
    code: dg.Definitions,
    lasting: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANALYTICS_INBOX", place)
    with pytest.raises(InboxUnusable, match="ANALYTICS_INBOX") as raised:
        look(code, lasting)
    assert "hidden" not in str(raised.value)
    assert not (tmp_path / "s3:").exists()


def test_an_object_store_that_gives_no_answer_does_not_hold_up_the_tick(
    home: Path, code: dg.Definitions, lasting: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster gives a tick 60 seconds, clients of object stores try for minutes. Failures before it stay known."""
    monkeypatch.setattr(component, "_LOOK_SECONDS", 0.1)
    released = threading.Event()
    monkeypatch.setattr(FolderInbox, "has_document", lambda _: released.wait(30))
    cursor = asked_before(3, timedelta(minutes=1))

    result = look(code, lasting, cursor)

    released.set()
    assert not asks(result)
    assert "gives no answer" in str(result.skip_reason)
    assert Memory.of(result.cursor).requests == 3


def test_an_inbox_that_cannot_be_listed_is_told(home: Path, code: dg.Definitions, lasting: dg.DagsterInstance) -> None:
    home.mkdir()
    (home / "inbox").write_text("a file")

    result = look(code, lasting)

    assert "inbox cannot be listed: NotADirectoryError" in str(result.skip_reason)
