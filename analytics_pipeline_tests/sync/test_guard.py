"""The guard: no sync empties a table, or reads another source, unless a person has allowed it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from analytics_pipeline.errors import AllowanceUnknown, RemovalRefused, SourceChanged
from analytics_pipeline.store import Store
from analytics_pipeline.sync.checks import Check
from analytics_pipeline.sync.engine import Selection, SyncJob
from analytics_pipeline.sync.guard import SMALL_TABLE, Allowance, allowances_of
from analytics_pipeline.sync.outcome import SyncOutcome
from analytics_pipeline.sync.spec import Half
from analytics_pipeline.sync.status import State, read_status
from analytics_pipeline_tests.sync.postgres_reading import execute
from analytics_pipeline_tests.sync.scenario import NOW, content, fill, job_of, published, spec_of

GUARDED = {"max_removed": None}
COUNTS = "SELECT (SELECT count(*) FROM demo_dataset), (SELECT count(*) FROM demo_results)"
LARGE = SMALL_TABLE + 100
MANY = f"INSERT INTO records SELECT g, '2024-01-02', 'many' FROM generate_series(10, {LARGE + 5}) g"
EMPTY = ("TRUNCATE records, scores",)
ROLE = "reader_of_the_guard"
HIDDEN = ("ALTER TABLE records ENABLE ROW LEVEL SECURITY", "ALTER TABLE scores ENABLE ROW LEVEL SECURITY")


def allowing(job: SyncJob, *allowed: Allowance) -> SyncJob:
    return replace(job, allowed=frozenset(allowed))


def as_user(url: str, user: str) -> str:
    return make_conninfo("", **{**conninfo_to_dict(url), "user": user})


@pytest.fixture
def url(postgres_url: str) -> str:
    fill(postgres_url)
    return postgres_url


@pytest.fixture
def job(url: str, store: Store) -> SyncJob:
    """A job whose dataset is published."""
    job = job_of(store, url, spec_of(**GUARDED))
    job.refresh(now=NOW)
    return job


@pytest.fixture
def reader(url: str) -> Iterator[str]:
    """The source as a role sees it that owns nothing."""
    execute(url, f"CREATE ROLE {ROLE} LOGIN", f"GRANT SELECT ON records, scores TO {ROLE}")
    yield as_user(url, ROLE)
    execute(url, f"DROP OWNED BY {ROLE}", f"DROP ROLE {ROLE}")


def restricted(outcome: SyncOutcome) -> Any:
    return next(check for check in outcome.checks if check.name is Check.NO_ROW_SECURITY)


def test_a_truncated_source_stops_the_sync(job: SyncJob, url: str, store: Store) -> None:
    """The store lost everything, and the run was a success."""
    before = content(store)
    execute(url, *EMPTY)
    with pytest.raises(RemovalRefused, match=r"4 of 4 rows of demo_dataset .* 5 of 5 rows of demo_results"):
        job.refresh(now=NOW)
    with pytest.raises(RemovalRefused):
        job.audit(now=NOW)
    with pytest.raises(RemovalRefused):
        job.replace(Selection(), now=NOW)
    assert content(store) == before
    status = read_status(store, job.spec)
    assert (status.state, "analytics_pipeline/allow=removal" in str(status.message)) == (State.ERROR, True)


def test_a_removal_that_is_allowed_once_happens_once(job: SyncJob, url: str, store: Store) -> None:
    """A source may really have lost its rows."""
    execute(url, *EMPTY)
    lines: list[str] = []
    allowing(replace(job, log=lines.append), Allowance.REMOVAL).refresh(now=NOW)
    assert published(store, COUNTS) == [(0, 0)]
    assert [line for line in lines if "as allowed for this run" in line]
    job.refresh(now=NOW)
    execute(url, MANY)
    job.refresh(now=NOW)
    execute(url, *EMPTY)
    with pytest.raises(RemovalRefused):
        job.refresh(now=NOW)


@pytest.mark.parametrize(("kept", "refused"), [(LARGE // 2 - 1, True), (LARGE // 2, False)])
def test_more_than_half_of_a_large_table_stops_the_sync(url: str, store: Store, kept: int, refused: bool) -> None:  # noqa: FBT001
    """Half of it may be a day's work; more is a mistake more often than not."""
    execute(url, MANY)
    job = job_of(store, url, spec_of(**GUARDED))
    job.refresh(now=NOW)
    execute(url, f"DELETE FROM records WHERE id > (SELECT id FROM records ORDER BY id LIMIT 1 OFFSET {kept - 1})")
    if refused:
        with pytest.raises(RemovalRefused, match=f"{LARGE - kept:,} of {LARGE:,} rows"):
            job.refresh(now=NOW)
    else:
        job.refresh(now=NOW)
        assert published(store, COUNTS)[0][0] == kept


def test_a_small_table_may_shrink(job: SyncJob, url: str, store: Store) -> None:
    """In a table of ten rows, half of them go with one correction."""
    execute(url, "DELETE FROM records WHERE id > 1", "DELETE FROM scores WHERE id > 1")
    job.refresh(now=NOW)
    assert published(store, COUNTS) == [(1, 2)]


@pytest.mark.parametrize(("max_removed", "refused"), [(0, True), (0.2, True), (0.25, False), (1, False)])
def test_the_spec_says_how_much_may_go(url: str, store: Store, max_removed: float, refused: bool) -> None:  # noqa: FBT001
    """A queue is emptied each night; an archive never shrinks."""
    job = job_of(store, url, spec_of(max_removed=max_removed))
    job.refresh(now=NOW)
    execute(url, "DELETE FROM records WHERE id = 1" if max_removed < 1 else "DELETE FROM records")
    if refused:
        with pytest.raises(RemovalRefused, match="1 of 4 rows of demo_dataset"):
            job.refresh(now=NOW)
    else:
        job.refresh(now=NOW)


def test_a_rebuild_may_shrink_a_table_but_not_empty_it(url: str, store: Store) -> None:
    """A person asks for it after changing a query; a wrong database is a mistake all the same."""
    execute(url, MANY)
    job_of(store, url, spec_of(**GUARDED)).refresh(now=NOW)
    narrow = job_of(store, url, spec_of(**GUARDED, dataset_query="SELECT * FROM records WHERE id < 10"))
    with pytest.raises(RemovalRefused):
        narrow.refresh(now=NOW)
    narrow.rebuild(now=NOW)
    assert published(store, COUNTS)[0][0] == 4
    execute(url, *EMPTY)
    with pytest.raises(RemovalRefused):
        narrow.rebuild(now=NOW)


def test_a_share_that_the_spec_gives_holds_for_every_verb(url: str, store: Store) -> None:
    """Who wrote that an archive never shrinks meant a rebuild from a restored copy, too."""
    job = job_of(store, url, spec_of(max_removed=0))
    job.refresh(now=NOW)
    execute(url, "DELETE FROM records WHERE id = 1")
    for verb in (job.refresh, job.audit, job.rebuild, partial(job.replace, Selection())):
        with pytest.raises(RemovalRefused, match="1 of 4 rows of demo_dataset"):
            verb(now=NOW)


def test_rows_that_only_move_are_not_removed(url: str, store: Store) -> None:
    """A correction of all times empties every former partition, and loses nothing."""
    execute(url, MANY)
    job = job_of(store, url, spec_of(**GUARDED))
    job.refresh(now=NOW)
    execute(url, "UPDATE records SET created_at = '2024-01-07'")
    job.refresh(now=NOW)
    assert published(store, "SELECT count(*) FROM demo_dataset WHERE timestamp = '2024-01-07'") == [(LARGE,)]


def test_what_the_limit_of_rows_leaves_out_is_not_counted(url: str, store: Store) -> None:
    """The spec asks for it."""
    execute(url, MANY)
    job_of(store, url, spec_of(**GUARDED)).refresh(now=NOW)
    job_of(store, url, spec_of(**GUARDED, max_sync_rows=3)).refresh(now=NOW)
    assert published(store, COUNTS)[0][0] < LARGE // 2


def test_one_partition_counts_against_the_whole_table(job: SyncJob, url: str, store: Store) -> None:
    """A person who replaces one day sees what becomes of it."""
    execute(url, "DELETE FROM records WHERE id IN (1, 2)")
    job.replace(Selection(frozenset({Half.DATASET}), frozenset({"2024-01-01"})), now=NOW)
    assert published(store, COUNTS)[0][0] == 2


def test_another_database_stops_the_sync_until_it_is_adopted(
    job: SyncJob, url: str, postgres_server: str, store: Store
) -> None:
    """The variable pointed at an empty database of the same schema."""
    other = f"{conninfo_to_dict(url)['dbname']}_copy"
    execute(postgres_server, f'CREATE DATABASE "{other}" TEMPLATE "{conninfo_to_dict(url)["dbname"]}"')
    try:
        moved = job_of(store, make_conninfo("", **{**conninfo_to_dict(url), "dbname": other}))
        for _ in range(2):
            with pytest.raises(SourceChanged, match=f"the last sync read database .*now database '{other}'"):
                moved.refresh(now=NOW)
        allowing(moved, Allowance.OTHER_SOURCE).refresh(now=NOW)
        moved.refresh(now=NOW)
        with pytest.raises(SourceChanged):
            job.refresh(now=NOW)
    finally:
        execute(postgres_server, f'DROP DATABASE "{other}" WITH (FORCE)')


def test_another_role_stops_the_sync(job: SyncJob, reader: str, store: Store) -> None:
    """It may see other rows."""
    with pytest.raises(SourceChanged, match=ROLE):
        job_of(store, reader).refresh(now=NOW)
    allowing(job_of(store, reader), Allowance.OTHER_SOURCE).refresh(now=NOW)
    assert job.store is store


def test_a_home_without_a_record_of_its_source_adopts_it(job: SyncJob, reader: str, store: Store) -> None:
    """As every home of a former release."""
    file = store.root.parent / "status" / "demo.json"
    status = json.loads(file.read_text())
    del status["source"]
    file.write_text(json.dumps(status))
    job_of(store, reader).refresh(now=NOW)
    assert ROLE in str(read_status(store, job.spec).source)


def test_row_security_without_a_policy_removes_nothing_and_is_named(reader: str, url: str, store: Store) -> None:
    """Every row left the mirror, and every check passed."""
    job = job_of(store, reader, spec_of(**GUARDED))
    job.refresh(now=NOW)
    before = content(store)
    execute(url, *HIDDEN)
    with pytest.raises(RemovalRefused, match=r"applies to this role in public.records, public.scores"):
        job.refresh(now=NOW)
    assert content(store) == before


def test_row_security_is_a_warning_of_each_sync(reader: str, url: str, store: Store) -> None:
    """A policy may hide a part of the rows from the first sync on."""
    execute(url, *HIDDEN[:1], "CREATE POLICY part ON records FOR SELECT USING (id < 3)")
    lines: list[str] = []
    job = job_of(store, reader, log=lines.append)
    check = restricted(job.refresh(now=NOW))
    assert (check.passed, check.severity, "public.records" in check.description) == (False, "warn", True)
    assert [line for line in lines if "row-level security applies to 'reader_of_the_guard' in public.records" in line]
    assert not next(check for check in job.check(now=NOW) if check.name is Check.NO_ROW_SECURITY).passed
    execute(url, f"ALTER ROLE {ROLE} BYPASSRLS")
    assert restricted(job.audit(now=NOW)).passed


def test_row_security_for_the_owner_of_a_view_is_found(reader: str, url: str, store: Store) -> None:
    """A view reads with the rights of its owner, who may be subject to policies where the reader is not."""
    owner = f"{ROLE}_owner"
    execute(
        url,
        f"CREATE ROLE {owner}",
        f"GRANT SELECT ON records TO {owner}",
        "CREATE VIEW shown AS SELECT * FROM records",
        f"ALTER VIEW shown OWNER TO {owner}",
        f"GRANT SELECT ON shown TO {ROLE}",
        *HIDDEN[:1],
        "CREATE POLICY part ON records FOR SELECT USING (id < 3)",
    )
    try:
        job = job_of(store, reader, spec_of(dataset_query="SELECT * FROM shown"))
        execute(url, f"REVOKE SELECT ON records FROM {ROLE}")
        assert not restricted(job.refresh(now=NOW)).passed
        execute(url, f"ALTER ROLE {owner} BYPASSRLS")
        assert restricted(job.audit(now=NOW)).passed
    finally:
        execute(url, f"DROP OWNED BY {owner} CASCADE", f"DROP ROLE {owner}")


def test_forced_row_security_applies_to_the_owner(reader: str, url: str, store: Store) -> None:
    """Owners are exempt, unless the table says otherwise."""
    execute(url, f"ALTER TABLE records OWNER TO {ROLE}", *HIDDEN[:1])
    job = job_of(store, reader)
    assert restricted(job.refresh(now=NOW)).passed
    execute(url, "ALTER TABLE records FORCE ROW LEVEL SECURITY", "CREATE POLICY all_rows ON records USING (true)")
    assert not restricted(job.audit(now=NOW)).passed
    execute(url, "ALTER TABLE records OWNER TO CURRENT_USER")


@pytest.mark.parametrize("text", ["yes", "removal,all"])
def test_a_word_that_allows_nothing_is_refused(text: str) -> None:
    """Otherwise a run that was meant to remove stops after an hour of reading."""
    with pytest.raises(AllowanceUnknown, match="removal or other_source"):
        allowances_of(text)
    assert allowances_of("removal, other_source") == frozenset(Allowance)
